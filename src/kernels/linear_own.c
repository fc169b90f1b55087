/*
 * linear_own.c - matrix products without a matrix library, for builds and
 * processors that have none. fp32 only; bf16 is refused.
 *
 * Owns the packings of one matrix and its bias. A packing holds panels of
 * PANEL columns, (panel, depth, PANEL), filled up with zeros. A kernel makes
 * ROWS rows of one panel in registers; every element is one sum in the order of
 * its index, so that neither threads nor the number of rows change its bits.
 */
#include "kernels/linear_int8.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PANEL 8
#define ROWS 4
#define TASK_ROWS 32   /* rows of one task */
#define TASK_PANELS 16 /* panels of one task: their weights stay in the cache over its rows */
#define PIECE 64       /* rows of the matrix packed at once: whole panels */
#define TILE_OUT 32    /* a task's part of the weight's gradient, in its L1 cache */
#define TILE_IN 64

typedef float vec __attribute__((vector_size(16)));

typedef struct {
    float *data;
    size_t depth, cols, panels;
} packing;

typedef struct {
    nr_linear head;
    packing forward, back_input;
    float *bias; /* (out), filled up to whole panels, or NULL */
} matrix;

const char *nr_matrix_library(void) { return "own loops"; }

bool nr_linear_cpu_has_bf16(void) { return false; }

/* ---- making and freeing ---- */

static nr_status make_packing(packing *p, size_t depth, size_t cols, nr_error *err)
{
    p->depth = depth;
    p->cols = cols;
    p->panels = (cols + PANEL - 1) / PANEL;
    return nr_alloc(&p->data, p->panels * PANEL, depth * sizeof *p->data, "a packed matrix", err);
}

nr_status nr_linear_cpu_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses,
                            nr_error *err)
{
    nr_status st = NR_OK;
    matrix *m = NULL;
    *w = NULL;
    if (ops->act != NR_F32)
        return nr_fail(err, NR_E_UNSUPPORTED, "matrix product: expected type F32, found %s; this build has no matrix library",
                       nr_dtypes[ops->act].name);
    if (out == 0 || in == 0)
        return nr_fail(err, NR_E_USAGE, "matrix product: expected a matrix with rows and columns, found (%zu, %zu)", out, in);
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "a matrix", err));
    m->head = (nr_linear){ops, out, in, uses, bias, &nr_linear_cpu_kind};
    if (uses & NR_PACK_FORWARD) NR_GO(make_packing(&m->forward, in, out, err));
    if (uses & NR_PACK_BACKWARD_INPUT) NR_GO(make_packing(&m->back_input, out, in, err));
    if (bias) NR_GO(nr_alloc(&m->bias, out + PANEL, sizeof *m->bias, "a bias", err));
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
    free(m->forward.data);
    free(m->back_input.data);
    free(m->bias);
    free(m);
}

size_t nr_linear_cpu_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses)
{
    size_t bytes = 0;
    (void)ops;
    if (uses & NR_PACK_FORWARD) bytes += (out + PANEL - 1) / PANEL * PANEL * in * sizeof(float);
    if (uses & NR_PACK_BACKWARD_INPUT) bytes += (in + PANEL - 1) / PANEL * PANEL * out * sizeof(float);
    return bytes;
}

nr_status nr_linear_cpu_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    (void)w, (void)n, (void)weight_gradient, (void)err;
    return NR_OK; /* no call allocates */
}

/* ---- packing ---- */

typedef struct {
    matrix *m;
    const float *weight;     /* (out, in), or */
    const nr_tensor *tensor; /* expanded piece by piece */
    atomic_bool out_of_memory;
} pack_job;

/* Rows [row, row + n) of the matrix; row is a multiple of PANEL. */
static void pack_rows(matrix *m, const float *from, size_t row, size_t n)
{
    size_t in = m->head.in, out = m->head.out;
    for (size_t r = 0; r < n && m->forward.data; r++) {
        float *to = m->forward.data + (row + r) / PANEL * in * PANEL + (row + r) % PANEL;
        for (size_t i = 0; i < in; i++) to[i * PANEL] = from[r * in + i];
    }
    for (size_t r = 0; r < n && m->back_input.data; r++)
        for (size_t p = 0; p < m->back_input.panels; p++) {
            float *to = m->back_input.data + (p * out + row + r) * PANEL;
            memcpy(to, from + r * in + p * PANEL, NR_MIN(PANEL, in - p * PANEL) * sizeof *to);
        }
}

static void pack_piece(void *context, size_t i)
{
    pack_job *job = context;
    size_t in = job->m->head.in, row = i * PIECE, n = NR_MIN(PIECE, job->m->head.out - row);
    if (job->weight) {
        pack_rows(job->m, job->weight + row * in, row, n);
        return;
    }
    float *expanded = malloc(n * in * sizeof *expanded);
    if (!expanded) {
        atomic_store(&job->out_of_memory, true);
        return;
    }
    nr_tensor_read(expanded, job->tensor, row, n);
    pack_rows(job->m, expanded, row, n);
    free(expanded);
}

static nr_status pack(pack_job *job, nr_error *err)
{
    nr_parallel((job->m->head.out + PIECE - 1) / PIECE, pack_piece, job);
    if (!atomic_load(&job->out_of_memory)) return NR_OK;
    return nr_fail(err, NR_E_MEMORY, "packing a matrix (%zu, %zu): expected memory for %d rows, found none", job->m->head.out,
                   job->m->head.in, PIECE);
}

nr_status nr_linear_cpu_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    pack_job job = {.m = (matrix *)w, .weight = weight};
    NR_TRY(nr_linear_check_bias(w, bias != NULL, err));
    if (bias) memcpy(job.m->bias, bias, w->out * sizeof *job.m->bias);
    return pack(&job, err);
}

nr_status nr_linear_cpu_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    pack_job job = {.m = (matrix *)w, .tensor = weight};
    NR_TRY(nr_linear_check_tensors(w, weight, bias, err));
    if (bias) nr_tensor_read(job.m->bias, bias, 0, 1);
    return pack(&job, err);
}

/* ---- forward and backward to the input ---- */

typedef struct {
    const packing *b;
    const float *x, *bias;
    float *y;
    size_t n, row_parts;
    bool accumulate;
} product_job;

/* sum (ROWS, PANEL) = the products of ROWS rows with one panel. */
static void panel_sums(float sum[ROWS][PANEL], const float *const x[ROWS], const float *panel, size_t depth)
{
    vec low[ROWS] = {{0}}, high[ROWS] = {{0}};
    for (size_t k = 0; k < depth; k++) {
        vec a, b;
        memcpy(&a, panel + k * PANEL, sizeof a);
        memcpy(&b, panel + k * PANEL + PANEL / 2, sizeof b);
        for (size_t r = 0; r < ROWS; r++) {
            vec s = {x[r][k], x[r][k], x[r][k], x[r][k]};
            low[r] += s * a;
            high[r] += s * b;
        }
    }
    for (size_t r = 0; r < ROWS; r++) {
        memcpy(sum[r], &low[r], sizeof low[r]);
        memcpy(sum[r] + PANEL / 2, &high[r], sizeof high[r]);
    }
}

static void product_block(const product_job *job, size_t row, size_t rows, size_t p)
{
    const packing *b = job->b;
    size_t col = p * PANEL, cols = NR_MIN(PANEL, b->cols - col);
    float sum[ROWS][PANEL];
    const float *x[ROWS];
    for (size_t r = 0; r < ROWS; r++) x[r] = job->x + (row + NR_MIN(r, rows - 1)) * b->depth;
    panel_sums(sum, x, b->data + p * b->depth * PANEL, b->depth);
    for (size_t r = 0; r < rows; r++) {
        float *y = job->y + (row + r) * b->cols + col;
        for (size_t c = 0; c < cols; c++) {
            float v = sum[r][c] + (job->bias ? job->bias[col + c] : 0.0f);
            y[c] = job->accumulate ? y[c] + v : v;
        }
    }
}

static void product_task(void *context, size_t i)
{
    const product_job *job = context;
    size_t begin = i % job->row_parts * TASK_ROWS, end = NR_MIN(begin + TASK_ROWS, job->n);
    size_t first = i / job->row_parts * TASK_PANELS, last = NR_MIN(first + TASK_PANELS, job->b->panels);
    for (size_t row = begin; row < end; row += ROWS)
        for (size_t p = first; p < last; p++) product_block(job, row, NR_MIN(ROWS, end - row), p);
}

static void product(product_job *job)
{
    job->row_parts = (job->n + TASK_ROWS - 1) / TASK_ROWS;
    nr_parallel(job->row_parts * ((job->b->panels + TASK_PANELS - 1) / TASK_PANELS), product_task, job);
}

nr_status nr_linear_cpu_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    matrix *m = (matrix *)w;
    (void)slot; /* act = real */
    if (!m->forward.data) return nr_linear_not_packed(w, "forward", err);
    product_job job = {.b = &m->forward, .x = x, .bias = m->bias, .y = y, .n = n, .accumulate = accumulate};
    product(&job);
    return NR_OK;
}

nr_status nr_linear_cpu_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate,
                                   nr_error *err)
{
    matrix *m = (matrix *)w;
    (void)slot;
    if (!m->back_input.data) return nr_linear_not_packed(w, "backward", err);
    product_job job = {.b = &m->back_input, .x = dy, .y = dx, .n = n, .accumulate = accumulate};
    product(&job);
    return NR_OK;
}

/* ---- backward to the weight ---- */

typedef struct {
    const float *dy, *x;
    float *dw;
    size_t n, out, in, in_parts;
} weight_job;

/* sum (outs, TILE_IN) += four rows of dy and x. */
static void add_four_rows(float sum[TILE_OUT][TILE_IN], const weight_job *job, size_t row, size_t o, size_t outs, size_t i,
                          size_t ins)
{
    const float *x = job->x + row * job->in + i, *dy = job->dy + row * job->out + o;
    size_t in = job->in, out = job->out;
    for (size_t a = 0; a < outs; a++) {
        float s0 = dy[a], s1 = dy[out + a], s2 = dy[2 * out + a], s3 = dy[3 * out + a];
        for (size_t b = 0; b < ins; b++)
            sum[a][b] = (((sum[a][b] + s0 * x[b]) + s1 * x[in + b]) + s2 * x[2 * in + b]) + s3 * x[3 * in + b];
    }
}

static void weight_task(void *context, size_t task)
{
    const weight_job *job = context;
    size_t o = task / job->in_parts * TILE_OUT, i = task % job->in_parts * TILE_IN;
    size_t outs = NR_MIN(TILE_OUT, job->out - o), ins = NR_MIN(TILE_IN, job->in - i), row = 0;
    float sum[TILE_OUT][TILE_IN] = {{0}};
    for (; row + 4 <= job->n; row += 4) add_four_rows(sum, job, row, o, outs, i, ins);
    for (; row < job->n; row++)
        for (size_t a = 0; a < outs; a++)
            for (size_t b = 0; b < ins; b++) sum[a][b] += job->dy[row * job->out + o + a] * job->x[row * job->in + i + b];
    for (size_t a = 0; a < outs; a++)
        for (size_t b = 0; b < ins; b++) job->dw[(o + a) * job->in + i + b] += sum[a][b];
}

nr_status nr_linear_cpu_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n,
                                    nr_error *err)
{
    (void)err;
    weight_job job = {dy, x, dw, n, w->out, w->in, (w->in + TILE_IN - 1) / TILE_IN};
    nr_parallel((w->out + TILE_OUT - 1) / TILE_OUT * job.in_parts, weight_task, &job);
    if (dbias) nr_linear_add_columns(dbias, dy, NR_F32, n, w->out);
    return NR_OK;
}

NR_LINEAR_DEFINE_KIND(cpu);

/* ---- int8 ---- */

nr_status nr_linear_int8_can(const nr_ops *ops, nr_error *err)
{
    return nr_fail(err, NR_E_UNSUPPORTED, "--frozen-products int8: expected a program built with oneDNN, found %s on %s",
                   nr_matrix_library(), ops->name);
}

nr_status nr_linear_int8_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, const nr_tensor *weight, const nr_tensor *bias,
                             unsigned uses, bool back_int8, nr_error *err)
{
    (void)out, (void)in, (void)weight, (void)bias, (void)uses, (void)back_int8;
    *w = NULL;
    return nr_linear_int8_can(ops, err);
}

size_t nr_linear_int8_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses, bool back_int8)
{
    (void)back_int8;
    return ops->linear_bytes(ops, out, in, uses);
}
