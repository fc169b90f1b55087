/*
 * linear.c - what the versions of the matrix product share: the way from a
 * table to a matrix's own kind, checks of what is packed, and the gradient of a bias. The gradient adds rows in blocks of
 * NR_ROW_BLOCK, so that long sums keep their precision and their order.
 */
#include <string.h>

#include "kernels/linear.h"

#define COLUMNS 64 /* columns of one task */

/* ---- to the matrix's kind ---- */

void nr_linear_free(nr_linear *w)
{
    if (w) w->kind->free(w);
}

nr_status nr_linear_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    return w->kind->pack(w, weight, bias, err);
}

nr_status nr_linear_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    return w->kind->pack_tensor(w, weight, bias, err);
}

nr_status nr_linear_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err)
{
    return w->kind->prepare(w, n, weight_gradient, err);
}

nr_status nr_linear_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    return w->kind->forward(w, y, slot, x, n, accumulate, err);
}

nr_status nr_linear_forward_group(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err)
{
    const nr_linear_kind *kind = count > 1 ? list[0].w->kind : NULL;
    bool together = kind && kind->group;
    for (size_t i = 1; together && i < count; i++) together = list[i].w->kind == kind;
    if (together) return kind->group(list, count, x, n, err);
    for (size_t i = 0; i < count; i++) NR_TRY(nr_linear_forward(list[i].w, list[i].y, NR_ACT, x, n, false, err));
    return NR_OK;
}

nr_status nr_linear_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err)
{
    return w->kind->back_input(w, dx, slot, dy, n, accumulate, err);
}

nr_status nr_linear_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err)
{
    return w->kind->back_weight(w, dw, dbias, dy, x, n, err);
}

double nr_linear_read_bytes(const nr_linear *w, size_t n, bool back)
{
    return w->kind->read_bytes ? w->kind->read_bytes(w, n, back) : (double)(w->out * w->in) * (double)w->ops->act_size;
}

size_t nr_linear_weights(const nr_linear *w, const void **at)
{
    return w->kind->weights ? w->kind->weights(w, at) : 0;
}

/* ---- checks ---- */

nr_status nr_linear_check_shape(size_t out, size_t in, nr_error *err)
{
    if (out > 0 && in > 0) return NR_OK;
    return nr_fail(err, NR_E_USAGE, "matrix product: expected a matrix with rows and columns, found (%zu, %zu)", out, in);
}

nr_status nr_linear_check_bias(const nr_linear *w, bool given, nr_error *err)
{
    if (given == w->has_bias) return NR_OK;
    return nr_fail(err, NR_E_USAGE, "matrix (%zu, %zu): expected %s bias, found %s", w->out, w->in,
                   w->has_bias ? "a" : "no", given ? "one" : "none");
}

nr_status nr_linear_check_tensors(const nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    size_t rows = nr_tensor_rows(weight), cols = nr_tensor_cols(weight);
    if (rows != w->out || cols != w->in)
        return nr_fail(err, NR_E_MISMATCH, "tensor %s: expected shape (%zu, %zu), found (%zu, %zu)", weight->name, w->out,
                       w->in, rows, cols);
    NR_TRY(nr_linear_check_bias(w, bias != NULL, err));
    if (bias && (nr_tensor_rows(bias) != 1 || nr_tensor_cols(bias) != w->out))
        return nr_fail(err, NR_E_MISMATCH, "tensor %s: expected shape (%zu), found (%zu, %zu)", bias->name, w->out,
                       nr_tensor_rows(bias), nr_tensor_cols(bias));
    return NR_OK;
}

nr_status nr_linear_not_packed(const nr_linear *w, const char *what, nr_error *err)
{
    return nr_fail(err, NR_E_USAGE, "matrix (%zu, %zu): expected to be packed for the %s product, found uses %u", w->out,
                   w->in, what, w->uses);
}

/* ---- column sums ---- */

typedef struct {
    float *sum;
    const void *x;
    nr_dtype type;
    size_t n, C;
} columns_job;

static float element(const columns_job *job, size_t i)
{
    if (job->type == NR_F32) return ((const float *)job->x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)job->x)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void add_columns(void *context, size_t i)
{
    const columns_job *job = context;
    size_t begin = i * COLUMNS, width = NR_MIN(COLUMNS, job->C - begin);
    for (size_t row = 0; row < job->n; row += NR_ROW_BLOCK) {
        float block[COLUMNS] = {0};
        size_t end = NR_MIN(row + NR_ROW_BLOCK, job->n);
        for (size_t r = row; r < end; r++)
            for (size_t c = 0; c < width; c++) block[c] += element(job, r * job->C + begin + c);
        for (size_t c = 0; c < width; c++) job->sum[begin + c] += block[c];
    }
}

void nr_linear_add_columns(float *sum, const void *x, nr_dtype type, size_t n, size_t C)
{
    columns_job job = {sum, x, type, n, C};
    nr_parallel((C + COLUMNS - 1) / COLUMNS, add_columns, &job);
}
