/*
 * linear_int8.c - frozen matrices as int8, packed by oneDNN; see linear_int8.h.
 *
 * Owns the int8 packings, the scales and, where only the forward product is
 * int8, an ordinary matrix for the other. Refuses gradients of its weights:
 * they are frozen.
 *
 * A task takes some rows of x, rounds them on its stack and multiplies them
 * with one panel (panel.h) after another, also those of several matrices with
 * the same x. u = 128 + x / s is unsigned as the instructions want it; what the 128
 * adds to a column's sum is known from the weights and taken off.
 */
#include "kernels/linear_int8.h"

#include "kernels/dnnl_tiles.h"
#include "kernels/panel.h"

#include <stdlib.h>
#include <string.h>

#define TASK_ROWS 32
#define TASKS_LEAST 16
#define ROUNDED_BYTES 131072 /* rows of x on the stack */
#define GROUP_MOST 8         /* matrices of one call */

/* One product: which packing, and what turns its sums into y. */
typedef struct {
    nr_packing *packing;
    float *scale;     /* (cols) */
    int32_t *offset;  /* (cols) 128 times the sum of a column's int8 */
} side;

typedef struct {
    nr_dnnl_matrix base;
    side forward, back_input;
    nr_linear *back;  /* the backward product in act, or NULL */
} matrix;

/* ---- packing ---- */

typedef struct {
    matrix *m;
    const nr_tensor *tensor;
    float *largest;                   /* (pieces, in) of |w| */
    nr_pack_plan plan;
    _Atomic int failed;
} pack_job;

static size_t piece_rows(const pack_job *job, size_t i) { return nr_cut_part(&job->plan.pieces, i); }

/* Rows of a piece as floats; NULL: out of memory. The caller frees. */
static float *expand(const pack_job *job, size_t i)
{
    size_t n = piece_rows(job, i), in = job->m->base.head.in;
    float *rows = aligned_alloc(64, nr_round_up(n * in * sizeof *rows, 64));
    if (rows) nr_tensor_read(rows, job->tensor, i * job->plan.pieces.size, n);
    return rows;
}

static float magnitude(float x) { return x < 0 ? -x : x; }

static void find_largest(void *context, size_t i)
{
    pack_job *job = context;
    size_t in = job->m->base.head.in, n = piece_rows(job, i);
    float *rows = expand(job, i), *largest = job->largest + i * in;
    if (!rows) {
        atomic_store(&job->failed, (int)dnnl_out_of_memory);
        return;
    }
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < in; c++) largest[c] = NR_MAX(largest[c], magnitude(rows[r * in + c]));
    free(rows);
}

/* q (n, in) = rounded rows; scale of a row or of a column. Sums go to offset. */
static void round_piece(int8_t *q, const float *rows, size_t n, size_t in, const float *scale, bool by_row, int32_t *offset)
{
    for (size_t r = 0; r < n; r++) {
        int32_t sum = 0;
        for (size_t c = 0; c < in; c++) {
            float s = scale[by_row ? r : c], v = s > 0 ? rows[r * in + c] / s : 0;
            int32_t rounded = (int32_t)(v + (v < 0 ? -0.5f : 0.5f));
            q[r * in + c] = (int8_t)rounded;
            sum += rounded;
            if (!by_row && rounded) __atomic_fetch_add(&offset[c], 128 * rounded, __ATOMIC_RELAXED);
        }
        if (by_row) offset[r] = 128 * sum;
    }
}

static dnnl_status_t pack_forward(pack_job *job, size_t i, const float *rows, int8_t *q)
{
    matrix *m = job->m;
    size_t in = m->base.head.in, n = piece_rows(job, i), row = i * job->plan.pieces.size;
    for (size_t r = 0; r < n; r++) {
        float largest = 0;
        for (size_t c = 0; c < in; c++) largest = NR_MAX(largest, magnitude(rows[r * in + c]));
        m->forward.scale[row + r] = largest / 127;
    }
    round_piece(q, rows, n, in, m->forward.scale + row, true, m->forward.offset + row);
    return nr_primitive_run(job->plan.forward[i + 1 == job->plan.pieces.count], &m->base, q, NULL, nr_packing_at(&m->base.forward, 0, row), NULL);
}

static dnnl_status_t pack_back_input(pack_job *job, size_t i, const float *rows, int8_t *q)
{
    matrix *m = job->m;
    round_piece(q, rows, piece_rows(job, i), m->base.head.in, m->back_input.scale, false, m->back_input.offset);
    return nr_primitive_run(job->plan.back_input[i + 1 == job->plan.pieces.count], &m->base, q, NULL,
                            nr_packing_at(&m->base.back_input, i * job->plan.pieces.size, 0), NULL);
}

static void pack_piece(void *context, size_t i)
{
    pack_job *job = context;
    float *rows = expand(job, i);
    int8_t *q = aligned_alloc(64, nr_round_up(piece_rows(job, i) * job->m->base.head.in, 64));
    dnnl_status_t s = rows && q ? dnnl_success : dnnl_out_of_memory;
    if (s == dnnl_success && job->m->forward.packing) s = pack_forward(job, i, rows, q);
    if (s == dnnl_success && job->m->back_input.packing) s = pack_back_input(job, i, rows, q);
    free(rows);
    free(q);
    if (s != dnnl_success) atomic_store(&job->failed, (int)s);
}

/* The scale of every column, before any of its rows is rounded. */
static dnnl_status_t find_scales(pack_job *job)
{
    size_t in = job->m->base.head.in, count = job->plan.pieces.count;
    if (nr_alloc(&job->largest, count * in, sizeof *job->largest, "scales", NULL) != NR_OK) return dnnl_out_of_memory;
    nr_parallel(count, find_largest, job);
    for (size_t c = 0; c < in; c++) {
        float largest = 0;
        for (size_t i = 0; i < count; i++) largest = NR_MAX(largest, job->largest[i * in + c]);
        job->m->back_input.scale[c] = largest / 127;
    }
    free(job->largest);
    return (dnnl_status_t)atomic_load(&job->failed);
}

static nr_status pack(matrix *m, const nr_tensor *weight, nr_error *err)
{
    pack_job job = {.m = m, .tensor = weight};
    dnnl_status_t s = nr_pack_plan_make(&job.plan, &m->base);
    if (s == dnnl_success && m->back_input.packing) s = find_scales(&job);
    if (s == dnnl_success) {
        nr_parallel(job.plan.pieces.count, pack_piece, &job);
        s = (dnnl_status_t)atomic_load(&job.failed);
    }
    return s == dnnl_success ? NR_OK : nr_dnnl_refuse(&m->base, s, "packing", m->base.head.out, err);
}

/* ---- products ---- */

typedef struct {
    const nr_ops *ops;
    const nr_panel_kernels *kernels;
    const nr_panels *list;
    const side *const *sides;  /* of the matrices of the list */
    const char *x;
    size_t n, depth, panel_bytes, panels;
    size_t parts, groups; /* a task takes one part of the rows and one group of panels */
} product_job;

static void product_task(void *context, size_t i)
{
    const product_job *job = context;
    _Alignas(64) uint8_t x[ROUNDED_BYTES];
    float scale[TASK_ROWS];
    size_t part = i / job->groups, group = i % job->groups, depth = job->depth;
    size_t row = part * job->n / job->parts, rows = (part + 1) * job->n / job->parts - row;
    size_t begin = group * job->panels / job->groups, end = (group + 1) * job->panels / job->groups;
    job->ops->int8_rows(x, scale, job->x + row * depth * job->ops->act_size, rows, depth);
    for (size_t k = begin; k < end; k++) {
        size_t panel = k;
        const nr_panels *to = nr_panels_find(job->kernels, job->list, &panel);
        const side *s = job->sides[to - job->list];
        const char *data = to->data + panel * job->panel_bytes;
        size_t col = panel * NR_PANEL;
        const nr_panel p = {.x = x, .pitch = depth, .panel = data, .rows = rows, .cols = NR_MIN((size_t)NR_PANEL, to->cols - col),
                            .depth = depth,
                            .next_panel = {data + job->panel_bytes, panel + 1 < nr_panel_count(job->kernels, to->cols) ? job->panel_bytes / NR_FETCH : 0, NR_FETCH},
                            .y = (char *)to->y + (row * to->cols + col) * nr_dtype_size(to->to), .to = to->to, .y_pitch = to->cols,
                            .accumulate = to->accumulate, .bias = to->bias ? to->bias + col : NULL, .row_scale = scale,
                            .col_scale = s->scale + col, .offset = s->offset + col};
        job->kernels->product(&p);
    }
}

/* The products of x (n, depth) act with some matrices: a task rounds its rows once for all of them. */
static void product(const nr_ops *ops, const nr_panels *list, const side *const *sides, size_t count, const void *x, size_t n)
{
    const nr_packing *b = sides[0]->packing;
    product_job job = {.ops = ops, .kernels = nr_panel_int8(), .list = list, .sides = sides, .x = x, .n = n, .depth = b->depth,
                       .panel_bytes = nr_packing_panel_bytes(b)};
    size_t rows = NR_MIN((size_t)TASK_ROWS, NR_MAX((size_t)1, ROUNDED_BYTES / b->depth));
    for (size_t i = 0; i < count; i++) job.panels += nr_panel_count(job.kernels, list[i].cols);
    if (n == 0) return;
    job.parts = (n + rows - 1) / rows;
    job.groups = NR_MIN(job.panels, (TASKS_LEAST + job.parts - 1) / job.parts);
    nr_parallel(job.parts * job.groups, product_task, &job);
}

static void product_of_one(const matrix *m, bool back, void *y, nr_slot slot, const void *x, size_t n, bool accumulate)
{
    const nr_ops *ops = m->base.head.ops;
    const side *s = back ? &m->back_input : &m->forward;
    const nr_panels to = {s->packing->data, s->packing->cols, y, nr_slot_type(ops, slot), accumulate,
                          back ? NULL : m->base.bias};
    product(ops, &to, &s, 1, x, n);
}

/* ---- the kind ---- */

static void int8_free(nr_linear *w)
{
    matrix *m = (matrix *)w;
    nr_linear_free(m->back);
    nr_dnnl_end(&m->base);
    free(m->forward.scale);
    free(m->forward.offset);
    free(m->back_input.scale);
    free(m->back_input.offset);
    free(m);
}

static nr_status never_packed(const nr_linear *w, nr_error *err)
{
    return nr_fail(err, NR_E_USAGE, "matrix (%zu, %zu): expected no more weights, as it is frozen in int8, found some", w->out, w->in);
}

static nr_status int8_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    (void)weight, (void)bias;
    return never_packed(w, err);
}

static nr_status int8_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    (void)weight, (void)bias;
    return never_packed(w, err);
}

static nr_status int8_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    const matrix *m = (const matrix *)w;
    (void)weight_gradient; /* there are none; int8 products allocate nothing */
    return m->back ? nr_linear_prepare(m->back, n, false, err) : NR_OK;
}

static nr_status int8_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    const matrix *m = (const matrix *)w;
    if (!m->forward.packing) return nr_linear_not_packed(w, "forward", err);
    product_of_one(m, false, y, slot, x, n, accumulate);
    return NR_OK;
}

static nr_status int8_group(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err)
{
    const nr_ops *ops = list->w->ops;
    nr_panels panels[GROUP_MOST];
    const side *sides[GROUP_MOST];
    for (size_t i = 0; i < count; i++) {
        const matrix *m = (const matrix *)list[i].w;
        if (!m->forward.packing) return nr_linear_not_packed(list[i].w, "forward", err);
        size_t k = i % GROUP_MOST;
        sides[k] = &m->forward;
        panels[k] = (nr_panels){m->base.forward.data, m->base.forward.cols, list[i].y, ops->act, false, m->base.bias};
        if (k + 1 == GROUP_MOST || i + 1 == count) product(ops, panels, sides, k + 1, x, n);
    }
    return NR_OK;
}

static nr_status int8_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err)
{
    const matrix *m = (const matrix *)w;
    if (m->back) return nr_linear_back_input(m->back, dx, slot, dy, n, accumulate, err);
    if (!m->back_input.packing) return nr_linear_not_packed(w, "backward", err);
    product_of_one(m, true, dx, slot, dy, n, accumulate);
    return NR_OK;
}

static nr_status int8_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err)
{
    (void)dw, (void)dbias, (void)dy, (void)x, (void)n;
    return nr_fail(err, NR_E_USAGE, "matrix (%zu, %zu): expected weights that can be trained, found a matrix frozen in int8", w->out, w->in);
}

static double read_bytes(const nr_linear *w, size_t n, bool back)
{
    const matrix *m = (const matrix *)w;
    return back && m->back ? nr_linear_read_bytes(m->back, n, true) : (double)(w->out * w->in);
}

static const nr_linear_kind int8_kind = {int8_free,    int8_pack,       int8_pack_tensor, int8_prepare,
                                         int8_forward, int8_back_input, int8_back_weight, read_bytes,      int8_group, NULL};

static nr_status make_side(matrix *m, side *s, nr_packing *p, size_t depth, size_t cols, nr_error *err)
{
    NR_TRY(nr_packing_make(&m->base, p, depth, cols, dnnl_s8, err));
    s->packing = p;
    NR_TRY(nr_alloc(&s->scale, cols, sizeof *s->scale, "scales", err));
    return nr_alloc(&s->offset, cols, sizeof *s->offset, "scales", err);
}

nr_status nr_linear_int8_can(const nr_ops *ops, nr_error *err)
{
    dnnl_engine_t engine = NULL;
    nr_packing p;
    bool can = ops->linear_new == nr_linear_cpu_new && nr_panel_int8() && nr_dnnl_engine(&engine) == dnnl_success &&
               nr_packing_choose(&p, engine, 64, 64, dnnl_s8) == dnnl_success && nr_packing_has_panels(&p);
    if (engine) dnnl_engine_destroy(engine);
    if (can) return NR_OK;
    return nr_fail(err, NR_E_UNSUPPORTED, "--frozen-products int8: expected a processor with avx512-vnni, found %s", nr_cpu_name());
}

nr_status nr_linear_int8_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, const nr_tensor *weight, const nr_tensor *bias, unsigned uses,
                             bool back_int8, nr_error *err)
{
    nr_status st = NR_OK;
    matrix *m = NULL;
    bool back = uses & NR_PACK_BACKWARD_INPUT;
    *w = NULL;
    NR_TRY(nr_linear_int8_can(ops, err));
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "a matrix", err));
    m->base.head = (nr_linear){ops, out, in, uses, bias != NULL, &int8_kind};
    dnnl_status_t s = nr_dnnl_start(&m->base);
    if (s != dnnl_success) NR_GO(nr_dnnl_refuse(&m->base, s, "start", 0, err));
    NR_GO(nr_linear_check_tensors(&m->base.head, weight, bias, err));
    if (uses & NR_PACK_FORWARD) NR_GO(make_side(m, &m->forward, &m->base.forward, in, out, err));
    if (back && back_int8) NR_GO(make_side(m, &m->back_input, &m->base.back_input, out, in, err));
    if (bias) {
        NR_GO(nr_alloc(&m->base.bias, out, sizeof *m->base.bias, "a bias", err));
        nr_tensor_read(m->base.bias, bias, 0, 1);
    }
    NR_GO(pack(m, weight, err));
    if (back && !back_int8) {
        NR_GO(ops->linear_new(&m->back, ops, out, in, false, NR_PACK_BACKWARD_INPUT, err));
        NR_GO(nr_linear_pack_tensor(m->back, weight, NULL, err));
    }
done:
    if (st == NR_OK) *w = &m->base.head;
    else int8_free(&m->base.head);
    return st;
}

size_t nr_linear_int8_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses, bool back_int8)
{
    size_t bytes = 0, packed = nr_round_up(out, 64) * nr_round_up(in, 64);
    if (uses & NR_PACK_FORWARD) bytes += packed + 8 * out;
    if (uses & NR_PACK_BACKWARD_INPUT) bytes += back_int8 ? packed + 8 * in : ops->linear_bytes(ops, out, in, NR_PACK_BACKWARD_INPUT);
    return bytes;
}
