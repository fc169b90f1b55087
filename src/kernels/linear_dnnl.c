/*
 * linear_dnnl.c - matrix products through oneDNN (C API, 2.6): bf16 where the
 * library has better instructions than the own kernels of linear_panel.c (AMX).
 *
 * Owns the packings of one matrix, its bias and the primitives for the row
 * counts seen so far. Refuses element types that the machine has no product
 * for.
 *
 * A tile writes rows that are densely packed, because oneDNN has fast kernels
 * only for those: tiles narrower than the matrix go through a block on the
 * stack. How tiles and threads go together: dnnl_tiles.h.
 */
#include "kernels/dnnl_tiles.h"

#include <stdlib.h>
#include <string.h>

#define TILE_ROWS 64
#define TILE_COLS 256
#define TILE_WEIGHTS 147456 /* weights of a tile: about a quarter of a core's L2 cache */
#define TILES_LEAST 8      /* smaller products are cut finer, for balance */
#define DEEP_ROWS 96       /* of a tile whose weights don't fit: more rows, because each tile reads them from far */
#define WIDE_ROWS (TILES_LEAST * TILE_ROWS) /* from so many rows on, and up to */
#define WIDE_WEIGHTS (1u << 20) /* so many weights, a tile is as wide as the matrix */

const char *nr_matrix_library(void)
{
#define TEXT(x) #x
#define VERSION(a, b, c) "oneDNN " TEXT(a) "." TEXT(b) "." TEXT(c)
    return VERSION(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH);
}

/* ---- making and freeing ---- */

/* A library that packs bf16 as the own kernels do has the same instructions, no better ones. */
bool nr_linear_dnnl_adds_bf16(void)
{
    dnnl_engine_t engine = NULL;
    nr_packing p;
    if (nr_dnnl_engine(&engine) != dnnl_success) return false;
    dnnl_status_t s = nr_packing_choose(&p, engine, 64, 64, dnnl_bf16);
    dnnl_engine_destroy(engine);
    return s == dnnl_success && !nr_packing_has_panels(&p);
}

nr_status nr_linear_dnnl_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses,
                            nr_error *err)
{
    nr_status st = NR_OK;
    nr_dnnl_matrix *m = NULL;
    *w = NULL;
    NR_TRY(nr_linear_check_shape(out, in, err));
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "a matrix", err));
    m->head = (nr_linear){ops, out, in, uses, bias, &nr_linear_dnnl_kind};
    dnnl_status_t s = nr_dnnl_start(m);
    if (s != dnnl_success) NR_GO(nr_dnnl_refuse(m, s, "start", 0, err));
    if (uses & NR_PACK_FORWARD) NR_GO(nr_packing_make(m, &m->forward, in, out, nr_dnnl_type(ops->act), err));
    if (uses & NR_PACK_BACKWARD_INPUT) NR_GO(nr_packing_make(m, &m->back_input, out, in, nr_dnnl_type(ops->act), err));
    if (bias) NR_GO(nr_alloc(&m->bias, out, sizeof *m->bias, "a bias", err));
done:
    if (st == NR_OK)
        *w = &m->head;
    else
        nr_linear_dnnl_free(&m->head);
    return st;
}

void nr_linear_dnnl_free(nr_linear *w)
{
    nr_dnnl_matrix *m = (nr_dnnl_matrix *)w;
    if (!m) return;
    nr_dnnl_end(m);
    free(m);
}

size_t nr_linear_dnnl_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses)
{
    dnnl_engine_t engine = NULL;
    size_t bytes = 0;
    if (nr_dnnl_engine(&engine) != dnnl_success) return 0;
    for (unsigned use = NR_PACK_FORWARD; use <= NR_PACK_BACKWARD_INPUT; use <<= 1) {
        nr_packing p;
        bool back = use == NR_PACK_BACKWARD_INPUT;
        if ((uses & use) && nr_packing_choose(&p, engine, back ? out : in, back ? in : out, nr_dnnl_type(ops->act)) == dnnl_success)
            bytes += nr_round_up(dnnl_memory_desc_get_size(&p.desc), 64);
    }
    dnnl_engine_destroy(engine);
    return bytes;
}

/* ---- packing ---- */

typedef struct {
    nr_dnnl_matrix *m;
    const float *weight;     /* (out, in), or */
    const nr_tensor *tensor; /* expanded piece by piece */
    nr_pack_plan plan;
    _Atomic int failed;      /* a dnnl_status_t */
} pack_job;

static void pack_piece(void *context, size_t i)
{
    pack_job *job = context;
    nr_dnnl_matrix *m = job->m;
    size_t in = m->head.in, row = i * job->plan.pieces.size, n = nr_cut_part(&job->plan.pieces, i);
    bool last = i + 1 == job->plan.pieces.count;
    const float *from = job->weight ? job->weight + row * in : NULL;
    float *expanded = NULL;
    dnnl_status_t s = dnnl_success;
    if (!from) {
        from = expanded = aligned_alloc(64, nr_round_up(n * in * sizeof *from, 64));
        if (!expanded) s = dnnl_out_of_memory;
        else nr_tensor_read(expanded, job->tensor, row, n);
    }
    if (s == dnnl_success && job->plan.forward[last])
        s = nr_primitive_run(job->plan.forward[last], m, from, NULL, nr_packing_at(&m->forward, 0, row), NULL);
    if (s == dnnl_success && job->plan.back_input[last])
        s = nr_primitive_run(job->plan.back_input[last], m, from, NULL, nr_packing_at(&m->back_input, row, 0), NULL);
    free(expanded);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

static nr_status pack(nr_dnnl_matrix *m, pack_job *job, nr_error *err)
{
    job->m = m;
    dnnl_status_t s = nr_pack_plan_make(&job->plan, m);
    if (s == dnnl_success) {
        nr_parallel(job->plan.pieces.count, pack_piece, job);
        s = (dnnl_status_t)atomic_load(&job->failed);
    }
    return s == dnnl_success ? NR_OK : nr_dnnl_refuse(m, s, "packing", m->head.out, err);
}

nr_status nr_linear_dnnl_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    nr_dnnl_matrix *m = (nr_dnnl_matrix *)w;
    pack_job job = {.weight = weight};
    NR_TRY(nr_linear_check_bias(w, bias != NULL, err));
    if (m->bias) memcpy(m->bias, bias, w->out * sizeof *m->bias);
    return pack(m, &job, err);
}

nr_status nr_linear_dnnl_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    nr_dnnl_matrix *m = (nr_dnnl_matrix *)w;
    pack_job job = {.tensor = weight};
    NR_TRY(nr_linear_check_tensors(w, weight, bias, err));
    if (m->bias) nr_tensor_read(m->bias, bias, 0, 1);
    return pack(m, &job, err);
}

/* ---- forward and backward to the input ---- */

typedef struct {
    nr_dnnl_matrix *m;
    const nr_packing *b;
    nr_primitive *plans[2][2]; /* [last rows][last columns] */
    nr_cut rows, cols;
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
    const nr_packing *b = job->b;
    size_t unit = b->cols_block == 1 ? 64 : b->cols_block;
    size_t cols = TILE_WEIGHTS / b->depth / unit * unit;
    cols = NR_MAX(unit, NR_MIN(cols, TILE_COLS / unit * unit));
    job->rows = nr_cut_evenly(n, b->depth * unit > 8 * TILE_WEIGHTS ? DEEP_ROWS : TILE_ROWS, 8);
    if (n >= WIDE_ROWS && b->cols * b->depth <= WIDE_WEIGHTS) cols = b->cols; /* 5 % faster in bf16: no block to copy */
    for (;;) {
        job->cols = nr_cut_evenly(b->cols, cols, unit);
        if (cols <= unit || job->rows.count * job->cols.count >= TILES_LEAST) break;
        cols -= unit;
    }
}

static void product_tile(void *context, size_t i)
{
    product_job *job = context;
    _Alignas(64) char block[DEEP_ROWS * TILE_COLS * sizeof(float)];
    size_t row_part = i % job->rows.count, col_part = i / job->rows.count;
    size_t rows = nr_cut_part(&job->rows, row_part), cols = nr_cut_part(&job->cols, col_part);
    size_t row = row_part * job->rows.size, col = col_part * job->cols.size;
    size_t pitch = job->b->cols * job->y_size, width = cols * job->y_size;
    char *y = job->y + row * pitch + col * job->y_size;
    char *to = rows == 1 || cols == job->b->cols ? y : block;
    if (to == block && job->accumulate)
        for (size_t r = 0; r < rows; r++) memcpy(block + r * width, y + r * pitch, width);
    const nr_primitive *p = job->plans[row_part + 1 == job->rows.count][col_part + 1 == job->cols.count];
    dnnl_status_t s = nr_primitive_run(p, job->m, job->x + row * job->b->depth * job->x_size, nr_packing_at(job->b, 0, col), to,
                               job->bias ? job->bias + col : NULL);
    if (to == block)
        for (size_t r = 0; r < rows; r++) memcpy(y + r * pitch, block + r * width, width);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

static dnnl_status_t plan_product(product_job *job, nr_primitive_kind kind, nr_dtype to, size_t n)
{
    cut_product(job, n);
    dnnl_status_t s = dnnl_success;
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 2 && s == dnnl_success; c++) {
            if ((!r && job->rows.count == 1) || (!c && job->cols.count == 1)) continue;
            nr_primitive want = {.kind = kind, .to = to, .accumulate = job->accumulate, .depth = job->b->depth,
                         .rows = r ? job->rows.last : job->rows.size, .cols = c ? job->cols.last : job->cols.size};
            s = nr_primitive_get(&job->plans[r][c], job->m, &want);
        }
    return s;
}

static nr_status product(nr_linear *w, nr_primitive_kind kind, void *y, nr_slot slot, const void *x, size_t n, bool accumulate,
                         nr_error *err)
{
    nr_dnnl_matrix *m = (nr_dnnl_matrix *)w;
    nr_dtype to = nr_slot_type(w->ops, slot);
    product_job job = {.m = m, .b = kind == NR_PRIMITIVE_FORWARD ? &m->forward : &m->back_input, .x = x, .y = y,
                       .x_size = w->ops->act_size, .y_size = nr_dtype_size(to), .accumulate = accumulate,
                       .bias = kind == NR_PRIMITIVE_FORWARD ? m->bias : NULL};
    const char *what = kind == NR_PRIMITIVE_FORWARD ? "forward" : "backward";
    if (!job.b->data) return nr_linear_not_packed(w, what, err);
    if (n == 0) return NR_OK;
    dnnl_status_t s = plan_product(&job, kind, to, n);
    if (s == dnnl_success) {
        nr_parallel(job.rows.count * job.cols.count, product_tile, &job);
        s = (dnnl_status_t)atomic_load(&job.failed);
    }
    return s == dnnl_success ? NR_OK : nr_dnnl_refuse(m, s, what, n, err);
}

nr_status nr_linear_dnnl_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    return product(w, NR_PRIMITIVE_FORWARD, y, slot, x, n, accumulate, err);
}

nr_status nr_linear_dnnl_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate,
                                   nr_error *err)
{
    return product(w, NR_PRIMITIVE_BACK_INPUT, dx, slot, dy, n, accumulate, err);
}

/* ---- backward to the weight ---- */

typedef struct {
    nr_dnnl_matrix *m;
    nr_primitive *plans[2][2]; /* [last rows][last columns] */
    nr_cut rows, cols;    /* of dw (out, in) */
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
    job->cols = nr_cut_evenly(w->in, 192, 16);
    if (job->cols.count == 1 && w->in > 1) job->cols = nr_cut_evenly(w->in, (w->in + 1) / 2, 1);
    for (;; most /= 2) {
        job->rows = nr_cut_evenly(w->out, most, 8);
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
            nr_primitive want = {.kind = NR_PRIMITIVE_BACK_WEIGHT, .to = NR_F32, .accumulate = true, .depth = n,
                         .rows = r ? job->rows.last : job->rows.size, .cols = c ? job->cols.last : job->cols.size};
            s = nr_primitive_get(&job->plans[r][c], job->m, &want);
        }
    return s;
}

static void weight_tile(void *context, size_t i)
{
    weight_job *job = context;
    const nr_linear *w = &job->m->head;
    size_t r = i / job->cols.count, c = i % job->cols.count;
    size_t row = r * job->rows.size, col = c * job->cols.size;
    const nr_primitive *p = job->plans[r + 1 == job->rows.count][c + 1 == job->cols.count];
    dnnl_status_t s = nr_primitive_run(p, job->m, job->dy + row * w->ops->act_size, job->x + col * w->ops->act_size,
                               job->dw + row * w->in + col, NULL);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

nr_status nr_linear_dnnl_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n,
                                    nr_error *err)
{
    nr_dnnl_matrix *m = (nr_dnnl_matrix *)w;
    weight_job job = {.m = m, .dy = dy, .x = x, .dw = dw};
    if (n == 0) return NR_OK;
    dnnl_status_t s = plan_weight(&job, n);
    if (s == dnnl_success) {
        nr_parallel(job.rows.count * job.cols.count, weight_tile, &job);
        s = (dnnl_status_t)atomic_load(&job.failed);
    }
    if (s != dnnl_success) return nr_dnnl_refuse(m, s, "weight gradient", n, err);
    if (dbias) nr_linear_add_columns(dbias, dy, w->ops->act, n, w->out);
    return NR_OK;
}

/* ---- in advance ---- */

nr_status nr_linear_dnnl_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    nr_dnnl_matrix *m = (nr_dnnl_matrix *)w;
    dnnl_status_t s = dnnl_success;
    if (n == 0) return NR_OK;
    for (int variant = 0; variant < 8 && s == dnnl_success; variant++) {
        bool back = variant & 1, accumulate = variant & 2, act = variant & 4;
        product_job job = {.m = m, .b = back ? &m->back_input : &m->forward, .accumulate = accumulate};
        if (!job.b->data || (act && w->ops->act == w->ops->real)) continue;
        s = plan_product(&job, back ? NR_PRIMITIVE_BACK_INPUT : NR_PRIMITIVE_FORWARD, act ? w->ops->act : w->ops->real, n);
    }
    if (s == dnnl_success && weight_gradient) {
        weight_job job = {.m = m};
        s = plan_weight(&job, n);
    }
    return s == dnnl_success ? NR_OK : nr_dnnl_refuse(m, s, "preparation", n, err);
}

NR_LINEAR_DEFINE_KIND(dnnl);
