/*
 * linear_quant.c - matrices that stay in their file's quantised blocks; see
 * linear_quant.h for the two ways a product takes.
 *
 * Owns a copy of the bias and the tiles; the blocks belong to the mapped file,
 * the shared packings to the pool. Refuses gradients of its weights: they are
 * frozen.
 *
 * Tiles are laid when rows are first expected or come. They have the order of the
 * matrix's rows, whatever the file's is.
 *
 * Products with tiles are cut into runs of them. Every element is one sum in one
 * thread: equal bits on any number of threads, and for any number of rows.
 */
#include "kernels/linear_quant.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDED_BYTES 65536  /* on the stack: rows of x as int8 */
#define ROUNDED_ROWS 32      /* of them at once, at most */
#define ROUND_TASK 4         /* of them in a task */
#define TASKS 16             /* about, of small matrices */
#define TASK_BYTES 98304     /* of tiles in a task, at most */
#define TASK_ROWS 256        /* of the matrix, at most */

/* An ordinary matrix that all of one shape and use expand into. */
typedef struct shared {
    size_t out, in;
    bool bias;
    unsigned use;
    pthread_mutex_t lock;    /* of what follows */
    nr_linear *packed;       /* NULL until needed */
    const nr_linear *holds;  /* whose weights lie there */
    struct shared *next;
} shared;

struct nr_linear_pool {
    const nr_ops *ops;
    pthread_mutex_t lock; /* of the list */
    shared *first;
};

typedef struct {
    nr_linear head;
    const nr_quant_kernels *kernels;
    const nr_tensor *weight, *bias_tensor;
    float *bias;                   /* (out) or NULL */
    shared *forward, *back_input;  /* as its uses ask */
    pthread_mutex_t lock;          /* who lays the tiles */
    unsigned char *_Atomic tiles;  /* NULL until needed */
} matrix;

/* ---- the pool ---- */

nr_status nr_linear_pool_new(nr_linear_pool **out, const nr_ops *ops, nr_error *err)
{
    NR_TRY(nr_alloc(out, 1, sizeof **out, "shared matrices", err));
    (*out)->ops = ops;
    pthread_mutex_init(&(*out)->lock, NULL);
    return NR_OK;
}

void nr_linear_pool_free(nr_linear_pool *pool)
{
    if (!pool) return;
    for (shared *s = pool->first, *next; s; s = next) {
        next = s->next;
        nr_linear_free(s->packed);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static nr_status find_or_make(shared **out, nr_linear_pool *pool, const nr_linear *w, unsigned use, nr_error *err)
{
    bool bias = w->has_bias && use == NR_PACK_FORWARD;
    for (shared *s = pool->first; s; s = s->next)
        if (s->out == w->out && s->in == w->in && s->bias == bias && s->use == use) {
            *out = s;
            return NR_OK;
        }
    shared *s;
    NR_TRY(nr_alloc(&s, 1, sizeof *s, "a shared matrix", err));
    s->out = w->out;
    s->in = w->in;
    s->bias = bias;
    s->use = use;
    pthread_mutex_init(&s->lock, NULL);
    s->next = pool->first;
    *out = pool->first = s;
    return NR_OK;
}

/* The shared matrix of w's shape; of several threads that ask, one makes it. */
static nr_status pool_get(shared **out, nr_linear_pool *pool, const nr_linear *w, unsigned use, nr_error *err)
{
    pthread_mutex_lock(&pool->lock);
    nr_status st = find_or_make(out, pool, w, use, err);
    pthread_mutex_unlock(&pool->lock);
    return st;
}

static nr_status make_packed(shared *s, const nr_ops *ops, nr_error *err)
{
    return s->packed ? NR_OK : ops->linear_new(&s->packed, ops, s->out, s->in, s->bias, s->use, err);
}

/* s holds the weights of m. */
static nr_status expand(shared *s, const matrix *m, nr_error *err)
{
    NR_TRY(make_packed(s, m->head.ops, err));
    if (s->holds == &m->head) return NR_OK;
    s->holds = NULL;
    NR_TRY(nr_linear_pack_tensor(s->packed, m->weight, s->bias ? m->bias_tensor : NULL, err));
    s->holds = &m->head;
    return NR_OK;
}

/* ---- making and freeing ---- */

bool nr_linear_quant_can(const nr_ops *ops, const nr_tensor *weight)
{
    bool cpu = ops->linear_new == nr_linear_cpu_new; /* the references keep weights as they are */
    return cpu && weight->ndim == 2 && nr_quant_has(weight->type) && nr_int8_row_bytes(nr_tensor_cols(weight)) <= ROUNDED_BYTES;
}

static void forget(shared *s, const nr_linear *w)
{
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    if (s->holds == w) s->holds = NULL; /* another matrix may come to lie at this address */
    pthread_mutex_unlock(&s->lock);
}

static void quant_free(nr_linear *w)
{
    matrix *m = (matrix *)w;
    forget(m->forward, w);
    forget(m->back_input, w);
    free(m->bias);
    free(atomic_load(&m->tiles));
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static nr_status never_packed(nr_linear *w, nr_error *err)
{
    return nr_fail(err, NR_E_USAGE, "matrix (%zu, %zu): expected no more weights, as it stays in its %s blocks, found some", w->out, w->in,
                   nr_dtypes[((matrix *)w)->weight->type].name);
}

static nr_status quant_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    (void)weight, (void)bias;
    return never_packed(w, err);
}

static nr_status quant_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    (void)weight, (void)bias;
    return never_packed(w, err);
}

/* ---- tiles ---- */

typedef struct {
    const matrix *m;
    unsigned char *to;
    const size_t *from; /* (out) the file's row that is a row of the matrix */
} tiling;

static size_t tile_bytes(const matrix *m) { return nr_quant_tile_bytes(m->weight->type, m->kernels->lanes, m->head.in); }

static size_t tiles_of(const matrix *m) { return (m->head.out + m->kernels->lanes - 1) / m->kernels->lanes; }

static void tile_task(void *context, size_t i)
{
    const tiling *t = context;
    const nr_tensor *w = t->m->weight;
    const unsigned char *rows[NR_QUANT_LANES] = {NULL};
    size_t lanes = t->m->kernels->lanes, first = i * lanes, bytes = nr_tensor_row_bytes(w);
    for (size_t k = 0; k < lanes && first + k < t->m->head.out; k++) rows[k] = w->data + t->from[first + k] * bytes;
    nr_quant_tile(t->to + i * tile_bytes(t->m), rows, w->type, lanes, t->m->head.in);
}

static nr_status lay_tiles(matrix *m, nr_error *err)
{
    nr_status st;
    unsigned char *tiles = NULL;
    size_t out = m->head.out, *from = NULL;
    NR_GO(nr_alloc(&from, out, sizeof *from, "a matrix's rows", err));
    NR_GO(nr_alloc(&tiles, tiles_of(m), tile_bytes(m), "a matrix's tiles", err));
    for (size_t o = 0; o < out; o++) from[nr_tensor_row_at(m->weight, o)] = o;
    nr_parallel(tiles_of(m), tile_task, &(tiling){m, tiles, from});
    atomic_store(&m->tiles, tiles);
done:
    free(from);
    return st;
}

/* Of several threads that ask, one lays them. */
static nr_status have_tiles(matrix *m, nr_error *err)
{
    if (atomic_load(&m->tiles)) return NR_OK;
    pthread_mutex_lock(&m->lock);
    nr_status st = atomic_load(&m->tiles) ? NR_OK : lay_tiles(m, err);
    pthread_mutex_unlock(&m->lock);
    return st;
}

/* ---- products with tiles ---- */

#define PARTS 4 /* matrices of a group at once */

typedef struct {
    const matrix *m;
    const unsigned char *tiles;
    char *y;           /* (n, out) */
    size_t first_task; /* of the job's */
    size_t cut;        /* tiles in a task */
} tile_part;

typedef struct {
    tile_part part[PARTS];
    size_t parts;
    const nr_int8_rows *x;
    nr_dtype to;
    size_t n;
    bool accumulate;
} tile_job;

static void product_task(void *context, size_t task)
{
    const tile_job *job = context;
    const tile_part *p = job->part;
    while (p + 1 < job->part + job->parts && task >= p[1].first_task) p++;
    const matrix *m = p->m;
    size_t lanes = m->kernels->lanes, tile = (task - p->first_task) * p->cut, count = NR_MIN(p->cut, tiles_of(m) - tile);
    size_t first = tile * lanes, rows = NR_MIN(count * lanes, m->head.out - first);
    float sums[ROUNDED_ROWS * TASK_ROWS];
    m->kernels->dot(sums, p->tiles + tile * tile_bytes(m), m->weight->type, count, job->x, job->n);
    for (size_t r = 0; r < job->n; r++) {
        float *v = sums + r * count * lanes;
        for (size_t o = 0; m->bias && o < rows; o++) v[o] += m->bias[first + o];
        m->kernels->put(p->y + (r * m->head.out + first) * nr_dtype_size(job->to), job->to, job->accumulate, v, rows);
    }
}

/* Tiles in a task, of `all` of the job: enough for any number of threads. A thread takes neighbours one after another, so that
 * memory is read in long stretches. */
static size_t cut_of(const matrix *m, size_t all)
{
    size_t most = NR_MIN(TASK_BYTES / tile_bytes(m), TASK_ROWS / m->kernels->lanes);
    return NR_MAX(NR_MIN(most, all / TASKS), (size_t)1);
}

typedef struct {
    const nr_quant_kernels *kernels;
    nr_int8_rows to;
    const char *x;
    nr_dtype act;
    size_t n, cols;
} rounding;

static void round_task(void *context, size_t i)
{
    const rounding *job = context;
    size_t row = i * ROUND_TASK, n = NR_MIN(job->n - row, (size_t)ROUND_TASK), at = row * job->to.blocks;
    nr_int8_rows to = {job->to.blocks, job->to.q + at * NR_INT8_BLOCK, job->to.d + at, job->to.sum + at, job->to.total + 2 * at};
    job->kernels->round(&to, job->x + row * job->cols * nr_dtype_size(job->act), job->act, n, job->cols);
}

/* Products of up to PARTS matrices, which have their tiles, with the same x. */
static void tile_products(const nr_product *list, size_t count, nr_dtype to, const void *x, size_t n, bool accumulate)
{
    _Alignas(64) char memory[ROUNDED_BYTES];
    const nr_linear *w = list[0].w;
    const nr_quant_kernels *kernels = ((const matrix *)w)->kernels;
    size_t most = NR_MIN(ROUNDED_BYTES / nr_int8_row_bytes(w->in), (size_t)ROUNDED_ROWS);
    for (size_t done = 0, rows; done < n; done += rows) {
        rows = NR_MIN(n - done, most);
        nr_int8_rows rounded = nr_int8_rows_in(memory, rows, w->in);
        rounding round = {kernels, rounded, (const char *)x + done * w->in * w->ops->act_size, w->ops->act, rows, w->in};
        nr_parallel((rows + ROUND_TASK - 1) / ROUND_TASK, round_task, &round);
        tile_job job = {.parts = count, .x = &rounded, .to = to, .n = rows, .accumulate = accumulate};
        size_t tasks = 0, all = 0;
        for (size_t i = 0; i < count; i++) all += tiles_of((const matrix *)list[i].w);
        for (size_t i = 0; i < count; i++) {
            const matrix *m = (const matrix *)list[i].w;
            char *y = (char *)list[i].y + done * m->head.out * nr_dtype_size(to);
            job.part[i] = (tile_part){m, atomic_load(&m->tiles), y, tasks, cut_of(m, all)};
            tasks += (tiles_of(m) + job.part[i].cut - 1) / job.part[i].cut;
        }
        nr_parallel(tasks, product_task, &job);
    }
}

/* ---- products ---- */

static bool in_tiles(const matrix *m) { return m->kernels && !m->back_input; }

static nr_status quant_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    matrix *m = (matrix *)w;
    nr_status st = NR_OK;
    (void)weight_gradient; /* there are none */
    if (n == 0) return NR_OK;
    if (in_tiles(m)) return have_tiles(m, err);
    for (int back = 0; back < 2 && st == NR_OK; back++) {
        shared *s = back ? m->back_input : m->forward;
        if (!s) continue;
        pthread_mutex_lock(&s->lock);
        st = make_packed(s, w->ops, err);
        if (st == NR_OK) st = nr_linear_prepare(s->packed, n, false, err);
        pthread_mutex_unlock(&s->lock);
    }
    return st;
}

static nr_status quant_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    matrix *m = (matrix *)w;
    if (!m->forward) return nr_linear_not_packed(w, "forward", err);
    if (in_tiles(m)) {
        const nr_product one = {w, y};
        NR_TRY(have_tiles(m, err));
        tile_products(&one, 1, nr_slot_type(w->ops, slot), x, n, accumulate);
        return NR_OK;
    }
    pthread_mutex_lock(&m->forward->lock);
    nr_status st = expand(m->forward, m, err);
    if (st == NR_OK) st = nr_linear_forward(m->forward->packed, y, slot, x, n, accumulate, err);
    pthread_mutex_unlock(&m->forward->lock);
    return st;
}

/* Rows are rounded once for all matrices, and the tasks of all are handed out together. */
static nr_status quant_group(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err)
{
    const matrix *first = (const matrix *)list[0].w;
    bool together = true;
    for (size_t i = 0; i < count; i++) {
        matrix *m = (matrix *)list[i].w;
        together = together && m->forward && in_tiles(m) && m->kernels == first->kernels && m->head.in == first->head.in;
        if (together) NR_TRY(have_tiles(m, err));
    }
    for (size_t i = 0; i < count; i += PARTS) {
        size_t parts = NR_MIN(count - i, (size_t)PARTS);
        if (together) tile_products(list + i, parts, first->head.ops->act, x, n, false);
        for (size_t k = i; !together && k < i + parts; k++) NR_TRY(quant_forward(list[k].w, list[k].y, NR_ACT, x, n, false, err));
    }
    return NR_OK;
}

static nr_status quant_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate,
                                  nr_error *err)
{
    matrix *m = (matrix *)w;
    if (!m->back_input) return nr_linear_not_packed(w, "backward", err);
    pthread_mutex_lock(&m->back_input->lock);
    nr_status st = expand(m->back_input, m, err);
    if (st == NR_OK) st = nr_linear_back_input(m->back_input->packed, dx, slot, dy, n, accumulate, err);
    pthread_mutex_unlock(&m->back_input->lock);
    return st;
}

static nr_status quant_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n,
                                   nr_error *err)
{
    (void)dw, (void)dbias, (void)dy, (void)x, (void)n;
    return nr_fail(err, NR_E_USAGE, "matrix (%zu, %zu): expected weights that can be trained, found a frozen matrix in %s",
                   w->out, w->in, nr_dtypes[((matrix *)w)->weight->type].name);
}

/* The blocks; where they are expanded also the packing, written and read. */
static double read_bytes(const nr_linear *w, size_t n, bool back)
{
    const matrix *m = (const matrix *)w;
    (void)n; /* tiles stay in a near cache for all rows */
    double packed = (double)(w->out * w->in) * (double)w->ops->act_size;
    return (double)m->weight->size + (!back && in_tiles(m) ? 0 : 2 * packed);
}

static size_t tile_weights(const nr_linear *w, const void **at)
{
    const matrix *m = (const matrix *)w;
    *at = in_tiles(m) ? atomic_load(&m->tiles) : NULL;
    return *at ? tiles_of(m) * tile_bytes(m) : 0;
}

static const nr_linear_kind quant_kind = {quant_free,    quant_pack,       quant_pack_tensor, quant_prepare,
                                          quant_forward, quant_back_input, quant_back_weight, read_bytes,    quant_group,      tile_weights};

nr_status nr_linear_quant_new_on(nr_linear **w, nr_linear_pool *pool, const nr_quant_kernels *kernels, size_t out, size_t in,
                                 const nr_tensor *weight, const nr_tensor *bias, unsigned uses, nr_error *err)
{
    nr_status st = NR_OK;
    matrix *m = NULL;
    *w = NULL;
    if (kernels && !nr_linear_quant_can(pool->ops, weight))
        return nr_fail(err, NR_E_UNSUPPORTED, "tensor %s: expected a matrix that can stay in its blocks, found %s on %s",
                       weight->name, nr_dtypes[weight->type].name, pool->ops->name);
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "a matrix", err));
    m->head = (nr_linear){pool->ops, out, in, uses, bias != NULL, &quant_kind};
    m->kernels = kernels;
    m->weight = weight;
    m->bias_tensor = bias;
    pthread_mutex_init(&m->lock, NULL);
    NR_GO(nr_linear_check_tensors(&m->head, weight, bias, err));
    if (bias) {
        NR_GO(nr_alloc(&m->bias, out, sizeof *m->bias, "a bias", err));
        nr_tensor_read(m->bias, bias, 0, 1);
    }
    if (uses & NR_PACK_FORWARD) NR_GO(pool_get(&m->forward, pool, &m->head, NR_PACK_FORWARD, err));
    if (uses & NR_PACK_BACKWARD_INPUT) NR_GO(pool_get(&m->back_input, pool, &m->head, NR_PACK_BACKWARD_INPUT, err));
done:
    if (st == NR_OK) *w = &m->head;
    else quant_free(&m->head);
    return st;
}

nr_status nr_linear_quant_new(nr_linear **w, nr_linear_pool *pool, size_t out, size_t in, const nr_tensor *weight,
                              const nr_tensor *bias, unsigned uses, nr_error *err)
{
    return nr_linear_quant_new_on(w, pool, nr_quant_best(), out, in, weight, bias, uses, err);
}
