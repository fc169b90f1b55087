/*
 * linear_panel.c - matrix products by own kernels: fp32 on every processor, bf16
 * where it has the dot product.
 *
 * Owns the packings of one matrix, panel after panel (panel.h), and its bias. No
 * call allocates but packing from a tensor, which expands its pieces.
 */
#include "kernels/linear.h"
#include "kernels/panel.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PIECE NR_PANEL /* rows of the matrix packed at once: whole panels of any width */
#define GROUP_MOST 8

/* The matrix as B (depth, cols) of one product. */
typedef struct {
    char *data; /* NULL: not packed for it */
    size_t depth, cols, panel_bytes;
} packing;

typedef struct {
    nr_linear head;
    const nr_panel_kernels *kernels;
    packing forward, back_input;
    float *bias; /* (out) or NULL */
} matrix;

bool nr_linear_panel_has_bf16(void) { return nr_panel_kernels_of(NR_BF16) != NULL; }

/* ---- making and freeing ---- */

static size_t packing_bytes(const nr_panel_kernels *k, size_t depth, size_t cols) { return nr_panel_count(k, cols) * nr_panel_bytes(k, depth); }

static nr_status make_packing(const matrix *m, packing *p, size_t depth, size_t cols, nr_error *err)
{
    *p = (packing){NULL, depth, cols, nr_panel_bytes(m->kernels, depth)};
    return nr_alloc(&p->data, packing_bytes(m->kernels, depth, cols), 1, "a packed matrix", err);
}

void nr_linear_panel_free(nr_linear *w)
{
    matrix *m = (matrix *)w;
    free(m->forward.data);
    free(m->back_input.data);
    free(m->bias);
    free(m);
}

nr_status nr_linear_panel_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses, nr_error *err)
{
    return nr_linear_panel_new_with(w, nr_panel_kernels_of(ops->act), ops, out, in, bias, uses, err);
}

nr_status nr_linear_panel_new_with(nr_linear **w, const nr_panel_kernels *kernels, const nr_ops *ops, size_t out, size_t in, bool bias,
                                   unsigned uses, nr_error *err)
{
    nr_status st = NR_OK;
    matrix *m = NULL;
    *w = NULL;
    NR_TRY(nr_linear_check_shape(out, in, err));
    if (!kernels)
        return nr_fail(err, NR_E_UNSUPPORTED, "matrix product: expected a type that this processor multiplies, found %s", nr_dtypes[ops->act].name);
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "a matrix", err));
    m->head = (nr_linear){ops, out, in, uses, bias, &nr_linear_panel_kind};
    m->kernels = kernels;
    if (uses & NR_PACK_FORWARD) NR_GO(make_packing(m, &m->forward, in, out, err));
    if (uses & NR_PACK_BACKWARD_INPUT) NR_GO(make_packing(m, &m->back_input, out, in, err));
    if (bias) NR_GO(nr_alloc(&m->bias, out, sizeof *m->bias, "a bias", err));
done:
    if (st == NR_OK) *w = &m->head;
    else nr_linear_panel_free(&m->head);
    return st;
}

size_t nr_linear_panel_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses)
{
    const nr_panel_kernels *k = nr_panel_kernels_of(ops->act);
    return (uses & NR_PACK_FORWARD ? packing_bytes(k, in, out) : 0) + (uses & NR_PACK_BACKWARD_INPUT ? packing_bytes(k, out, in) : 0);
}

nr_status nr_linear_panel_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    (void)w, (void)n, (void)weight_gradient, (void)err;
    return NR_OK;
}

/* ---- packing ---- */

typedef struct {
    matrix *m;
    const float *weight;     /* (out, in), or */
    const nr_tensor *tensor; /* expanded piece by piece */
    atomic_bool out_of_memory;
} pack_job;

/* Where element (depth, col), the first of a panel, lies. */
static char *place(const matrix *m, const packing *p, size_t depth, size_t col)
{
    return p->data + col / m->kernels->width * p->panel_bytes + depth * m->kernels->width * m->kernels->size;
}

/* Rows [row, row + n) of the matrix; row is a multiple of PIECE. */
static void pack_rows(const matrix *m, const float *from, size_t row, size_t n)
{
    const nr_panel_kernels *k = m->kernels;
    size_t in = m->head.in;
    for (size_t r = 0; r < n && m->forward.data; r += k->width)
        k->pack_across(place(m, &m->forward, 0, row + r), from + r * in, in, in, NR_MIN(n - r, k->width));
    for (size_t col = 0; col < in && m->back_input.data; col += k->width)
        k->pack_down(place(m, &m->back_input, row, col), from + col, in, n, NR_MIN(in - col, k->width));
}

static void pack_piece(void *context, size_t i)
{
    pack_job *job = context;
    size_t in = job->m->head.in, row = i * PIECE, n = NR_MIN((size_t)PIECE, job->m->head.out - row);
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
    return nr_fail(err, NR_E_MEMORY, "packing a matrix (%zu, %zu): expected memory for %d rows, found none", job->m->head.out, job->m->head.in, PIECE);
}

nr_status nr_linear_panel_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    pack_job job = {.m = (matrix *)w, .weight = weight};
    NR_TRY(nr_linear_check_bias(w, bias != NULL, err));
    if (bias) memcpy(job.m->bias, bias, w->out * sizeof *job.m->bias);
    return pack(&job, err);
}

nr_status nr_linear_panel_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    pack_job job = {.m = (matrix *)w, .tensor = weight};
    NR_TRY(nr_linear_check_tensors(w, weight, bias, err));
    if (bias) nr_tensor_read(job.m->bias, bias, 0, 1);
    return pack(&job, err);
}

/* ---- products ---- */

nr_status nr_linear_panel_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    const matrix *m = (const matrix *)w;
    const nr_panels to = {m->forward.data, w->out, y, nr_slot_type(w->ops, slot), accumulate, m->bias};
    if (!to.data) return nr_linear_not_packed(w, "forward", err);
    nr_panels_multiply(m->kernels, &to, 1, x, n, w->in);
    return NR_OK;
}

nr_status nr_linear_panel_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err)
{
    const matrix *m = (const matrix *)w;
    const nr_panels to = {m->back_input.data, w->in, dx, nr_slot_type(w->ops, slot), accumulate, NULL};
    if (!to.data) return nr_linear_not_packed(w, "backward", err);
    nr_panels_multiply(m->kernels, &to, 1, dy, n, w->out);
    return NR_OK;
}

/* Matrices of this kind and the same table read x once. */
static nr_status group(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err)
{
    nr_panels to[GROUP_MOST];
    for (size_t i = 0; i < count; i++) {
        const matrix *m = (const matrix *)list[i].w;
        size_t k = i % GROUP_MOST;
        if (!m->forward.data) return nr_linear_not_packed(list[i].w, "forward", err);
        to[k] = (nr_panels){m->forward.data, m->head.out, list[i].y, m->head.ops->act, false, m->bias};
        if (k + 1 == GROUP_MOST || i + 1 == count) nr_panels_multiply(m->kernels, to, k + 1, x, n, m->head.in);
    }
    return NR_OK;
}

nr_status nr_linear_panel_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err)
{
    (void)err;
    if (n == 0) return NR_OK;
    nr_panels_weight(((const matrix *)w)->kernels, dw, dy, x, n, w->out, w->in);
    if (dbias) nr_linear_add_columns(dbias, dy, w->ops->act, n, w->out);
    return NR_OK;
}

const nr_linear_kind nr_linear_panel_kind = {
    nr_linear_panel_free,    nr_linear_panel_pack,       nr_linear_panel_pack_tensor, nr_linear_panel_prepare,
    nr_linear_panel_forward, nr_linear_panel_back_input, nr_linear_panel_back_weight, NULL, group, NULL,
};
