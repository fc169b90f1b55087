/*
 * linear_dnnl.c - matrix products through oneDNN (C API, 2.6).
 *
 * Owns the packings of one matrix, its bias and the primitives for the row
 * counts seen so far. Refuses element types that the machine has no product
 * for.
 *
 * How a product is cut. oneDNN may divide a product among threads along the
 * summed dimension or at places where its kernels sum in another order, so its
 * bits can depend on the number of threads. Here every primitive is made for
 * one thread; a product is cut into tiles by its shape alone and the tiles are
 * spread over threads by nr_parallel. Equal bits on any number of threads
 * follow from that, on every instruction set.
 *
 * A tile writes rows that are densely packed, because oneDNN has fast kernels
 * only for those: tiles narrower than the matrix go through a block on the
 * stack. Weights are stored in the layout that oneDNN picks for PACK_ROWS rows;
 * it blocks columns outermost, so that any run of column blocks is a packed
 * matrix itself.
 *
 * Primitives hold no weights. oneDNN keeps the code of equal ones once, so that
 * the hundredth matrix of a shape costs microseconds (measured: 3 us each).
 */
#include "kernels/linear.h"

#include <dnnl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PACK_ROWS 1024     /* the layout is chosen for this many rows */
#define PIECE 192          /* rows of the matrix packed at once; a multiple of every block */
#define TILE_ROWS 64
#define TILE_COLS 256
#define TILE_WEIGHTS 147456 /* weights of a tile: about a quarter of a core's L2 cache */
#define TILES_LEAST 8      /* smaller products are cut finer, for balance */
#define WIDE_ROWS (TILES_LEAST * TILE_ROWS) /* from so many rows on, and up to */
#define WIDE_WEIGHTS (1u << 20) /* so many weights, a tile is as wide as the matrix */
#define STACK_SCRATCH 65536

typedef enum { FORWARD, BACK_INPUT, BACK_WEIGHT, PACK_FORWARD, PACK_BACK_INPUT } plan_kind;

/* One primitive: a product C (rows, cols) = A (rows, depth) B (depth, cols), or
 * a reorder of one piece of the matrix. Immutable once it is in the list. */
typedef struct plan {
    plan_kind kind;
    size_t rows, cols, depth;
    nr_dtype to; /* element type of C */
    bool accumulate;
    dnnl_memory_desc_t a, b, c, bias;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    const dnnl_memory_desc_t *scratch;
    size_t scratch_size;
    struct plan *next;
} plan;

/* The matrix as B (depth, cols) of one product. */
typedef struct {
    dnnl_memory_desc_t desc;
    char *data;
    size_t depth, cols;
    size_t depth_block, cols_block; /* elements of the inner blocks, 1: plain */
} packing;

typedef struct {
    nr_linear head;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    packing forward, back_input;
    float *bias; /* (out) or NULL */
    _Atomic(plan *) plans;
} matrix;

/* `count` parts of `size`, the last one shorter. */
typedef struct {
    size_t count, size, last;
} cut;

const char *nr_matrix_library(void)
{
#define TEXT(x) #x
#define VERSION(a, b, c) "oneDNN " TEXT(a) "." TEXT(b) "." TEXT(c)
    return VERSION(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH);
}

/* ---- small helpers ---- */

static dnnl_data_type_t dnnl_type(nr_dtype t) { return t == NR_BF16 ? dnnl_bf16 : dnnl_f32; }

static nr_status refuse(const matrix *m, dnnl_status_t s, const char *what, size_t n, nr_error *err)
{
    nr_status st = s == dnnl_out_of_memory ? NR_E_MEMORY : NR_E_UNSUPPORTED;
    const char *why = s == dnnl_out_of_memory ? "not enough memory"
                      : s == dnnl_unimplemented ? "not available on this machine"
                                                : "an internal error";
    return nr_fail(err, st, "matrix product: %s of %zu rows with a %s matrix (%zu, %zu): %s (status %d of %s)", what, n,
                   nr_dtypes[m->head.ops->act].name, m->head.out, m->head.in, why, (int)s, nr_matrix_library());
}

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

static cut cut_evenly(size_t total, size_t most, size_t unit)
{
    size_t parts = (total + most - 1) / most;
    cut c = {0};
    c.size = NR_MIN(total, round_up((total + parts - 1) / parts, unit));
    c.count = (total + c.size - 1) / c.size;
    c.last = total - (c.count - 1) * c.size;
    return c;
}

static size_t part_size(const cut *c, size_t i) { return i + 1 == c->count ? c->last : c->size; }

static dnnl_status_t desc_strided(dnnl_memory_desc_t *d, size_t rows, size_t cols, nr_dtype t, size_t row_stride,
                                  size_t col_stride)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_dims_t strides = {(dnnl_dim_t)row_stride, (dnnl_dim_t)col_stride};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, dnnl_type(t), strides);
}

/* ---- plans ---- */

static void plan_free(plan *p)
{
    if (!p) return;
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    free(p);
}

/* Part of a packing as a matrix of its own that starts at its first element. */
static dnnl_status_t desc_part(dnnl_memory_desc_t *d, const packing *from, size_t depth, size_t depth_at, size_t cols,
                               size_t cols_at)
{
    dnnl_dims_t dims = {(dnnl_dim_t)depth, (dnnl_dim_t)cols};
    dnnl_dims_t at = {(dnnl_dim_t)depth_at, (dnnl_dim_t)cols_at};
    dnnl_status_t s = dnnl_memory_desc_init_submemory(d, &from->desc, dims, at);
    d->offset0 = 0;
    return s;
}

static dnnl_status_t make_attributes(dnnl_primitive_attr_t *attr, bool accumulate)
{
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && accumulate) {
        dnnl_post_ops_t after = NULL;
        s = dnnl_post_ops_create(&after);
        if (s == dnnl_success) s = dnnl_post_ops_append_sum(after, 1.0f);
        if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*attr, after);
        if (after) dnnl_post_ops_destroy(after);
    }
    return s;
}

static dnnl_status_t make_product(plan *p, const matrix *m, bool bias)
{
    dnnl_matmul_desc_t product;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = make_attributes(&attr, p->accumulate);
    if (s == dnnl_success) s = dnnl_matmul_desc_init(&product, &p->a, &p->b, bias ? &p->bias : NULL, &p->c);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(&p->desc, &product, attr, m->engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

static dnnl_status_t make_reorder(plan *p, const matrix *m)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = make_attributes(&attr, false);
    if (s == dnnl_success) s = dnnl_reorder_primitive_desc_create(&p->desc, &p->a, m->engine, &p->c, m->engine, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

/* The three matrices of a plan. rows, cols and depth are the tile's. */
static dnnl_status_t describe(plan *p, const matrix *m)
{
    const nr_linear *w = &m->head;
    nr_dtype act = w->ops->act;
    dnnl_status_t s = dnnl_success;
    if (p->kind == FORWARD || p->kind == BACK_INPUT) {
        const packing *from = p->kind == FORWARD ? &m->forward : &m->back_input;
        s = desc_strided(&p->a, p->rows, p->depth, act, p->depth, 1);
        /* The last tile ends where the matrix ends: any other width is whole blocks. */
        size_t at = p->cols % from->cols_block ? from->cols - p->cols : 0;
        if (s == dnnl_success) s = desc_part(&p->b, from, p->depth, 0, p->cols, at);
        if (s == dnnl_success) s = desc_strided(&p->c, p->rows, p->cols, p->to, p->cols, 1);
        if (s == dnnl_success) s = desc_strided(&p->bias, 1, p->cols, NR_F32, p->cols, 1);
    } else if (p->kind == BACK_WEIGHT) {
        s = desc_strided(&p->a, p->rows, p->depth, act, 1, w->out);
        if (s == dnnl_success) s = desc_strided(&p->b, p->depth, p->cols, act, w->in, 1);
        if (s == dnnl_success) s = desc_strided(&p->c, p->rows, p->cols, p->to, w->in, 1);
    } else if (p->kind == PACK_FORWARD) {
        size_t at = p->cols % m->forward.cols_block ? w->out - p->cols : 0;
        s = desc_strided(&p->a, w->in, p->cols, NR_F32, 1, w->in);
        if (s == dnnl_success) s = desc_part(&p->c, &m->forward, w->in, 0, p->cols, at);
    } else {
        size_t at = p->depth % m->back_input.depth_block ? w->out - p->depth : 0;
        s = desc_strided(&p->a, p->depth, w->in, NR_F32, w->in, 1);
        if (s == dnnl_success) s = desc_part(&p->c, &m->back_input, p->depth, at, w->in, 0);
    }
    return s;
}

static dnnl_status_t plan_make(plan *p, const matrix *m)
{
    dnnl_status_t s = describe(p, m);
    if (s != dnnl_success) return s;
    size_t threads = nr_threads_get();
    nr_threads_set(1); /* the primitive is made for one thread */
    if (p->kind == PACK_FORWARD || p->kind == PACK_BACK_INPUT)
        s = make_reorder(p, m);
    else
        s = make_product(p, m, p->kind == FORWARD && m->bias);
    if (s == dnnl_success) s = dnnl_primitive_create(&p->primitive, p->desc);
    nr_threads_set(threads);
    if (s != dnnl_success) return s;
    p->scratch = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    p->scratch_size = dnnl_memory_desc_get_size(p->scratch);
    return s;
}

static bool plan_equal(const plan *a, const plan *b)
{
    return a->kind == b->kind && a->rows == b->rows && a->cols == b->cols && a->depth == b->depth && a->to == b->to &&
           a->accumulate == b->accumulate;
}

/* The plan like `want`, made when there is none. Safe on several threads: the
 * list only grows, at its head; a plan made twice is only waste. */
static dnnl_status_t plan_get(plan **out, matrix *m, const plan *want)
{
    for (plan *p = atomic_load_explicit(&m->plans, memory_order_acquire); p; p = p->next)
        if (plan_equal(p, want)) {
            *out = p;
            return dnnl_success;
        }
    plan *p = calloc(1, sizeof *p);
    if (!p) return dnnl_out_of_memory;
    *p = *want;
    dnnl_status_t s = plan_make(p, m);
    if (s != dnnl_success) {
        plan_free(p);
        return s;
    }
    p->next = atomic_load_explicit(&m->plans, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&m->plans, &p->next, p, memory_order_release, memory_order_relaxed)) {
    }
    *out = p;
    return dnnl_success;
}

/* ---- running one plan ---- */

typedef struct {
    dnnl_exec_arg_t list[5];
    int count;
} arguments;

static dnnl_status_t argument_add(arguments *args, const matrix *m, int which, const dnnl_memory_desc_t *desc,
                                  const void *data)
{
    dnnl_memory_t memory = NULL;
    dnnl_status_t s = dnnl_memory_create(&memory, desc, m->engine, (void *)(uintptr_t)data);
    if (s == dnnl_success) args->list[args->count++] = (dnnl_exec_arg_t){which, memory};
    return s;
}

/* Runs p in the calling thread alone. The handles made here are small (0.1 us
 * each); oneDNN makes an argument list of its own at every execution anyway. */
static dnnl_status_t plan_run(const plan *p, const matrix *m, const void *a, const void *b, void *c, const float *bias)
{
    _Alignas(64) char stack[STACK_SCRATCH];
    void *heap = NULL, *scratch = stack;
    bool reorder = p->kind == PACK_FORWARD || p->kind == PACK_BACK_INPUT;
    arguments args = {.count = 0};
    dnnl_status_t s = argument_add(&args, m, DNNL_ARG_SRC, &p->a, a);
    if (s == dnnl_success) s = argument_add(&args, m, DNNL_ARG_DST, &p->c, c);
    if (s == dnnl_success && !reorder) s = argument_add(&args, m, DNNL_ARG_WEIGHTS, &p->b, b);
    if (s == dnnl_success && bias) s = argument_add(&args, m, DNNL_ARG_BIAS, &p->bias, bias);
    if (s == dnnl_success && p->scratch_size > sizeof stack) {
        scratch = heap = aligned_alloc(64, round_up(p->scratch_size, 64));
        if (!heap) s = dnnl_out_of_memory;
    }
    if (s == dnnl_success) s = argument_add(&args, m, DNNL_ARG_SCRATCHPAD, p->scratch, scratch);
    if (s == dnnl_success) {
        size_t threads = nr_threads_get();
        if (threads != 1) nr_threads_set(1); /* kernels that look at run time see one thread */
        s = dnnl_primitive_execute(p->primitive, m->stream, args.count, args.list);
        if (threads != 1) nr_threads_set(threads);
    }
    for (int i = 0; i < args.count; i++) dnnl_memory_destroy(args.list[i].memory);
    free(heap);
    return s;
}

/* ---- making and freeing ---- */

static dnnl_status_t choose_layout(packing *p, dnnl_engine_t engine, size_t depth, size_t cols, nr_dtype type)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t product;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_dims_t dims = {(dnnl_dim_t)depth, (dnnl_dim_t)cols};
    dnnl_status_t s = desc_strided(&a, PACK_ROWS, depth, type, depth, 1);
    if (s == dnnl_success) s = dnnl_memory_desc_init_by_tag(&b, 2, dims, dnnl_type(type), dnnl_format_tag_any);
    if (s == dnnl_success) s = desc_strided(&c, PACK_ROWS, cols, NR_F32, cols, 1);
    if (s == dnnl_success) s = dnnl_matmul_desc_init(&product, &a, &b, NULL, &c);
    size_t threads = nr_threads_get();
    nr_threads_set(1);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(&desc, &product, NULL, engine, NULL);
    nr_threads_set(threads);
    if (s != dnnl_success) return s;
    p->desc = *dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(desc);
    p->depth = depth;
    p->cols = cols;
    p->depth_block = p->cols_block = 1;
    if (p->desc.format_kind != dnnl_blocked) return dnnl_unimplemented;
    const dnnl_blocking_desc_t *inner = &p->desc.format_desc.blocking;
    /* Plain rows (AVX2): an odd number of cache lines apart, so that a column
     * of them doesn't fall on few sets of the cache. Measured for 3072 columns:
     * 77 to 137 GFLOP/s. */
    if (inner->inner_nblks == 0) s = desc_strided(&p->desc, depth, cols, type, round_up(cols, 16) | 16, 1);
    for (int i = 0; i < inner->inner_nblks; i++)
        *(inner->inner_idxs[i] == 0 ? &p->depth_block : &p->cols_block) *= (size_t)inner->inner_blks[i];
    return PIECE % p->depth_block || PIECE % p->cols_block ? dnnl_unimplemented : s;
}

bool nr_linear_cpu_has_bf16(void)
{
    dnnl_engine_t engine = NULL;
    packing p;
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return false;
    dnnl_status_t s = choose_layout(&p, engine, 64, 64, NR_BF16);
    dnnl_engine_destroy(engine);
    return s == dnnl_success;
}

static nr_status make_packing(matrix *m, packing *p, size_t depth, size_t cols, nr_error *err)
{
    dnnl_status_t s = choose_layout(p, m->engine, depth, cols, m->head.ops->act);
    if (s != dnnl_success) return refuse(m, s, "product", (size_t)PACK_ROWS, err);
    return nr_alloc(&p->data, dnnl_memory_desc_get_size(&p->desc), 1, "a packed matrix", err);
}

nr_status nr_linear_cpu_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses,
                            nr_error *err)
{
    nr_status st = NR_OK;
    matrix *m = NULL;
    *w = NULL;
    if (out == 0 || in == 0)
        return nr_fail(err, NR_E_USAGE, "matrix product: expected a matrix with rows and columns, found (%zu, %zu)", out, in);
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "a matrix", err));
    m->head = (nr_linear){ops, out, in, uses, bias, &nr_linear_cpu_kind};
    dnnl_status_t s = dnnl_engine_create(&m->engine, dnnl_cpu, 0);
    if (s == dnnl_success) s = dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags);
    if (s != dnnl_success) NR_GO(refuse(m, s, "start", 0, err));
    if (uses & NR_PACK_FORWARD) NR_GO(make_packing(m, &m->forward, in, out, err));
    if (uses & NR_PACK_BACKWARD_INPUT) NR_GO(make_packing(m, &m->back_input, out, in, err));
    if (bias) NR_GO(nr_alloc(&m->bias, out, sizeof *m->bias, "a bias", err));
done:
    if (st == NR_OK)
        *w = &m->head;
    else
        nr_linear_cpu_free(&m->head);
    return st;
}

void nr_linear_cpu_free(nr_linear *w)
{
    matrix *m = (matrix *)w;
    if (!m) return;
    for (plan *p = atomic_load(&m->plans), *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    if (m->stream) dnnl_stream_destroy(m->stream);
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->forward.data);
    free(m->back_input.data);
    free(m->bias);
    free(m);
}

size_t nr_linear_cpu_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses)
{
    dnnl_engine_t engine = NULL;
    size_t bytes = 0;
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return 0;
    for (unsigned use = NR_PACK_FORWARD; use <= NR_PACK_BACKWARD_INPUT; use <<= 1) {
        packing p;
        bool back = use == NR_PACK_BACKWARD_INPUT;
        if ((uses & use) && choose_layout(&p, engine, back ? out : in, back ? in : out, ops->act) == dnnl_success)
            bytes += round_up(dnnl_memory_desc_get_size(&p.desc), 64);
    }
    dnnl_engine_destroy(engine);
    return bytes;
}

/* ---- packing ---- */

typedef struct {
    matrix *m;
    const float *weight;     /* (out, in), or */
    const nr_tensor *tensor; /* expanded piece by piece */
    plan *forward[2], *back_input[2]; /* for PIECE rows and for the last ones */
    cut pieces;
    _Atomic int failed;      /* a dnnl_status_t */
} pack_job;

static char *part_at(const packing *p, size_t depth, size_t col)
{
    const dnnl_dim_t *stride = p->desc.format_desc.blocking.strides;
    size_t offset = depth / p->depth_block * (size_t)stride[0] + col / p->cols_block * (size_t)stride[1];
    return p->data + offset * dnnl_data_type_size(p->desc.data_type);
}

static void pack_piece(void *context, size_t i)
{
    pack_job *job = context;
    matrix *m = job->m;
    size_t in = m->head.in, row = i * job->pieces.size, n = part_size(&job->pieces, i);
    bool last = i + 1 == job->pieces.count;
    const float *from = job->weight ? job->weight + row * in : NULL;
    float *expanded = NULL;
    dnnl_status_t s = dnnl_success;
    if (!from) {
        from = expanded = aligned_alloc(64, round_up(n * in * sizeof *from, 64));
        if (!expanded) s = dnnl_out_of_memory;
        else nr_tensor_read(expanded, job->tensor, row, n);
    }
    if (s == dnnl_success && job->forward[last])
        s = plan_run(job->forward[last], m, from, NULL, part_at(&m->forward, 0, row), NULL);
    if (s == dnnl_success && job->back_input[last])
        s = plan_run(job->back_input[last], m, from, NULL, part_at(&m->back_input, row, 0), NULL);
    free(expanded);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

static nr_status pack(matrix *m, pack_job *job, nr_error *err)
{
    size_t out = m->head.out, in = m->head.in;
    job->m = m;
    job->pieces = (cut){(out + PIECE - 1) / PIECE, PIECE, out - (out - 1) / PIECE * PIECE};
    dnnl_status_t s = dnnl_success;
    for (int last = 0; last < 2 && s == dnnl_success; last++) {
        size_t n = last ? job->pieces.last : job->pieces.size;
        if (!last && job->pieces.count == 1) continue;
        plan forward = {.kind = PACK_FORWARD, .cols = n, .depth = in};
        plan back_input = {.kind = PACK_BACK_INPUT, .depth = n, .cols = in};
        if (m->forward.data) s = plan_get(&job->forward[last], m, &forward);
        if (s == dnnl_success && m->back_input.data) s = plan_get(&job->back_input[last], m, &back_input);
    }
    if (s == dnnl_success) {
        nr_parallel(job->pieces.count, pack_piece, job);
        s = (dnnl_status_t)atomic_load(&job->failed);
    }
    return s == dnnl_success ? NR_OK : refuse(m, s, "packing", out, err);
}

nr_status nr_linear_cpu_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    matrix *m = (matrix *)w;
    pack_job job = {.weight = weight};
    NR_TRY(nr_linear_check_bias(w, bias != NULL, err));
    if (m->bias) memcpy(m->bias, bias, w->out * sizeof *m->bias);
    return pack(m, &job, err);
}

nr_status nr_linear_cpu_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    matrix *m = (matrix *)w;
    pack_job job = {.tensor = weight};
    NR_TRY(nr_linear_check_tensors(w, weight, bias, err));
    if (m->bias) nr_tensor_read(m->bias, bias, 0, 1);
    return pack(m, &job, err);
}

/* ---- forward and backward to the input ---- */

typedef struct {
    matrix *m;
    const packing *b;
    plan *plans[2][2]; /* [last rows][last columns] */
    cut rows, cols;
    const char *x;
    char *y;
    size_t x_size, y_size; /* bytes of an element */
    bool accumulate;
    const float *bias;
    _Atomic int failed;
} product_job;

/* The cut of n rows: a function of the shape. */
static void cut_product(product_job *job, size_t n)
{
    const packing *b = job->b;
    size_t unit = b->cols_block == 1 ? 64 : b->cols_block;
    size_t cols = TILE_WEIGHTS / b->depth / unit * unit;
    cols = NR_MAX(unit, NR_MIN(cols, TILE_COLS / unit * unit));
    job->rows = cut_evenly(n, TILE_ROWS, 8);
    if (n >= WIDE_ROWS && b->cols * b->depth <= WIDE_WEIGHTS) cols = b->cols; /* 5 % faster in bf16: no block to copy */
    for (;;) {
        job->cols = cut_evenly(b->cols, cols, unit);
        if (cols <= unit || job->rows.count * job->cols.count >= TILES_LEAST) break;
        cols -= unit;
    }
}

static void product_tile(void *context, size_t i)
{
    product_job *job = context;
    _Alignas(64) char block[TILE_ROWS * TILE_COLS * sizeof(float)];
    size_t row_part = i % job->rows.count, col_part = i / job->rows.count;
    size_t rows = part_size(&job->rows, row_part), cols = part_size(&job->cols, col_part);
    size_t row = row_part * job->rows.size, col = col_part * job->cols.size;
    size_t pitch = job->b->cols * job->y_size, width = cols * job->y_size;
    char *y = job->y + row * pitch + col * job->y_size;
    char *to = rows == 1 || cols == job->b->cols ? y : block;
    if (to == block && job->accumulate)
        for (size_t r = 0; r < rows; r++) memcpy(block + r * width, y + r * pitch, width);
    const plan *p = job->plans[row_part + 1 == job->rows.count][col_part + 1 == job->cols.count];
    dnnl_status_t s = plan_run(p, job->m, job->x + row * job->b->depth * job->x_size, part_at(job->b, 0, col), to,
                               job->bias ? job->bias + col : NULL);
    if (to == block)
        for (size_t r = 0; r < rows; r++) memcpy(y + r * pitch, block + r * width, width);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

static dnnl_status_t plan_product(product_job *job, plan_kind kind, nr_dtype to, size_t n)
{
    cut_product(job, n);
    dnnl_status_t s = dnnl_success;
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 2 && s == dnnl_success; c++) {
            if ((!r && job->rows.count == 1) || (!c && job->cols.count == 1)) continue;
            plan want = {.kind = kind, .to = to, .accumulate = job->accumulate, .depth = job->b->depth,
                         .rows = r ? job->rows.last : job->rows.size, .cols = c ? job->cols.last : job->cols.size};
            s = plan_get(&job->plans[r][c], job->m, &want);
        }
    return s;
}

static nr_status product(nr_linear *w, plan_kind kind, void *y, nr_slot slot, const void *x, size_t n, bool accumulate,
                         nr_error *err)
{
    matrix *m = (matrix *)w;
    nr_dtype to = slot == NR_ACT ? w->ops->act : w->ops->real;
    product_job job = {.m = m, .b = kind == FORWARD ? &m->forward : &m->back_input, .x = x, .y = y,
                       .x_size = w->ops->act_size, .y_size = nr_dtype_size(to), .accumulate = accumulate,
                       .bias = kind == FORWARD ? m->bias : NULL};
    const char *what = kind == FORWARD ? "forward" : "backward";
    if (!job.b->data) return nr_linear_not_packed(w, what, err);
    if (n == 0) return NR_OK;
    dnnl_status_t s = plan_product(&job, kind, to, n);
    if (s == dnnl_success) {
        nr_parallel(job.rows.count * job.cols.count, product_tile, &job);
        s = (dnnl_status_t)atomic_load(&job.failed);
    }
    return s == dnnl_success ? NR_OK : refuse(m, s, what, n, err);
}

nr_status nr_linear_cpu_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    return product(w, FORWARD, y, slot, x, n, accumulate, err);
}

nr_status nr_linear_cpu_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate,
                                   nr_error *err)
{
    return product(w, BACK_INPUT, dx, slot, dy, n, accumulate, err);
}

/* ---- backward to the weight ---- */

typedef struct {
    matrix *m;
    plan *plans[2][2]; /* [last rows][last columns] */
    cut rows, cols;    /* of dw (out, in) */
    const char *dy, *x;
    float *dw;
    _Atomic int failed;
} weight_job;

/* dw is cut in both dimensions, never along n: each element is one sum in one
 * thread. At least two tiles where there are two columns or rows: a tile that
 * isn't the whole matrix goes to a kernel that needs no large scratch. */
static void cut_weight(weight_job *job)
{
    const nr_linear *w = &job->m->head;
    size_t most = 128;
    job->cols = cut_evenly(w->in, 192, 16);
    if (job->cols.count == 1 && w->in > 1) job->cols = cut_evenly(w->in, (w->in + 1) / 2, 1);
    for (;; most /= 2) {
        job->rows = cut_evenly(w->out, most, 8);
        if (job->rows.count * job->cols.count >= 6 || most <= 32) break;
    }
}

static dnnl_status_t plan_weight(weight_job *job, size_t n)
{
    cut_weight(job);
    dnnl_status_t s = dnnl_success;
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 2 && s == dnnl_success; c++) {
            if ((!r && job->rows.count == 1) || (!c && job->cols.count == 1)) continue;
            plan want = {.kind = BACK_WEIGHT, .to = NR_F32, .accumulate = true, .depth = n,
                         .rows = r ? job->rows.last : job->rows.size, .cols = c ? job->cols.last : job->cols.size};
            s = plan_get(&job->plans[r][c], job->m, &want);
        }
    return s;
}

static void weight_tile(void *context, size_t i)
{
    weight_job *job = context;
    const nr_linear *w = &job->m->head;
    size_t r = i / job->cols.count, c = i % job->cols.count;
    size_t row = r * job->rows.size, col = c * job->cols.size;
    const plan *p = job->plans[r + 1 == job->rows.count][c + 1 == job->cols.count];
    dnnl_status_t s = plan_run(p, job->m, job->dy + row * w->ops->act_size, job->x + col * w->ops->act_size,
                               job->dw + row * w->in + col, NULL);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

nr_status nr_linear_cpu_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n,
                                    nr_error *err)
{
    matrix *m = (matrix *)w;
    weight_job job = {.m = m, .dy = dy, .x = x, .dw = dw};
    if (n == 0) return NR_OK;
    dnnl_status_t s = plan_weight(&job, n);
    if (s == dnnl_success) {
        nr_parallel(job.rows.count * job.cols.count, weight_tile, &job);
        s = (dnnl_status_t)atomic_load(&job.failed);
    }
    if (s != dnnl_success) return refuse(m, s, "weight gradient", n, err);
    if (dbias) nr_linear_add_columns(dbias, dy, w->ops->act, n, w->out);
    return NR_OK;
}

/* ---- in advance ---- */

nr_status nr_linear_cpu_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    matrix *m = (matrix *)w;
    dnnl_status_t s = dnnl_success;
    if (n == 0) return NR_OK;
    for (int variant = 0; variant < 8 && s == dnnl_success; variant++) {
        bool back = variant & 1, accumulate = variant & 2, act = variant & 4;
        product_job job = {.m = m, .b = back ? &m->back_input : &m->forward, .accumulate = accumulate};
        if (!job.b->data || (act && w->ops->act == w->ops->real)) continue;
        s = plan_product(&job, back ? BACK_INPUT : FORWARD, act ? w->ops->act : w->ops->real, n);
    }
    if (s == dnnl_success && weight_gradient) {
        weight_job job = {.m = m};
        s = plan_weight(&job, n);
    }
    return s == dnnl_success ? NR_OK : refuse(m, s, "preparation", n, err);
}

NR_LINEAR_DEFINE_KIND(cpu);
