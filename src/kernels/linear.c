/*
 * linear.c - what the versions of the matrix product share: checks of what is
 * packed, and the gradient of a bias. The gradient adds rows in blocks of
 * NR_ROW_BLOCK, so that long sums keep their precision and their order.
 */
#include <string.h>

#include "kernels/linear.h"

#define COLUMNS 64 /* columns of one task */

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
