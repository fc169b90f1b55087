/*
 * extension_run.c - what may be done to an extension that is only run: its
 * matrices as Q8_0 blocks, and rows that leave out their adapter.
 *
 * Quantising makes the blocks of the weights in memory and gives the matrices'
 * weights back; what stays of `values` are the vectors. Refuses one that is
 * being trained, weights that aren't finite, and backends without integer
 * products.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/extension.h"

nr_status nr_extension_set_gate_threshold(nr_extension *e, double threshold, nr_error *err)
{
    if (!isfinite(threshold) || threshold < 0)
        return nr_fail(err, NR_E_USAGE, "gate threshold: expected 0 or more, found %g", threshold);
    if (!e->method->gated || e->settings.gate == NR_GATE_NONE)
        return nr_fail(err, NR_E_USAGE, "gate threshold: expected an extension with gates, found method %s%s", e->method->name,
                       e->method->gated ? " without them" : "");
    e->gate_threshold = threshold;
    return NR_OK;
}

/* ---- Q8_0 ---- */

typedef struct {
    const float *values; /* (rows, cols) */
    nr_tensor *blocks;
    size_t cols;
    unsigned char *to;
} row_job;

static void quantise_row(void *context, size_t row)
{
    const row_job *job = context;
    nr_quantise_q8_0(job->to + row * nr_tensor_row_bytes(job->blocks), job->values + row * job->cols, job->cols);
}

/* Sizes of both: bytes of blocks, elements of what isn't a matrix. */
static void describe_blocks(nr_extension *e, size_t *bytes, size_t *kept)
{
    *bytes = *kept = 0;
    for (size_t i = 0; i < e->param_count; i++) {
        const nr_param *p = &e->params[i];
        nr_tensor *t = &e->blocks[i];
        *t = (nr_tensor){.name = e->params[i].name, .type = NR_F32, .ndim = p->linear ? 2 : 1};
        t->shape[0] = p->linear ? p->shape[0] : p->shape[0] * p->shape[1];
        if (p->linear) {
            size_t block = nr_dtypes[NR_Q8_0].block;
            t->type = NR_Q8_0;
            t->shape[1] = p->shape[1];
            t->stored_cols = (p->shape[1] + block - 1) / block * block;
            t->size = p->shape[0] * nr_tensor_row_bytes(t);
            *bytes += t->size;
        } else {
            t->size = t->shape[0] * sizeof(float);
            *kept += t->shape[0];
        }
    }
}

/* Fills the blocks and moves the vectors to the front of fresh values. */
static void move_weights(nr_extension *e, float *values)
{
    unsigned char *to = e->block_data;
    size_t kept = 0;
    for (size_t i = 0; i < e->param_count; i++) {
        nr_param *p = &e->params[i];
        nr_tensor *t = &e->blocks[i];
        const float *from = nr_param_value(e, p);
        if (p->linear) {
            row_job job = {from, t, p->shape[1], to};
            nr_parallel(p->shape[0], quantise_row, &job);
            t->data = to;
            to += t->size;
            p->offset = 0; /* gone */
        } else {
            memcpy(values + kept, from, t->size);
            t->data = (const unsigned char *)(values + kept);
            p->offset = kept;
            kept += t->shape[0];
        }
    }
    free(e->values);
    e->values = values;
}

static nr_status make_linears(nr_extension *e, nr_error *err)
{
    for (size_t i = 0; i < e->param_count; i++) {
        nr_param *p = &e->params[i];
        if (!p->linear) continue;
        e->model->ops->linear_free(p->linear);
        p->linear = NULL;
        NR_TRY(nr_linear_quant_new(&p->linear, e->pool, p->shape[0], p->shape[1], &e->blocks[i],
                                   p->bias < 0 ? NULL : &e->blocks[p->bias], NR_PACK_FORWARD, err));
    }
    return e->method->bind ? e->method->bind(e, err) : NR_OK;
}

static nr_status check(const nr_extension *e, nr_error *err)
{
    const nr_ops *ops = e->model->ops;
    if (e->grads || !e->values)
        return nr_fail(err, NR_E_USAGE, "extension: expected one that is loaded to be run, found one %s",
                       e->grads ? "in training" : "without weights");
    const nr_tensor probe = {.type = NR_Q8_0, .ndim = 2, .shape = {1, nr_dtypes[NR_Q8_0].block}};
    if (!nr_linear_quant_can(ops, &probe))
        return nr_fail(err, NR_E_UNSUPPORTED, "extension: expected a backend with products of blocks, found %s", ops->name);
    for (size_t i = 0; i < e->param_count; i++)
        for (size_t k = 0; k < e->params[i].shape[0] * e->params[i].shape[1]; k++) {
            double v = nr_real_get(ops, nr_param_value(e, &e->params[i]), k);
            if (!isfinite(v))
                return nr_fail(err, NR_E_NOT_FINITE, "extension: tensor %s: expected finite weights, found %g", e->params[i].name, v);
        }
    return NR_OK;
}

nr_status nr_extension_quantise(nr_extension *e, nr_error *err)
{
    size_t bytes, kept;
    float *values;
    if (e->block_data) return NR_OK;
    NR_TRY(check(e, err));
    if (!e->blocks) NR_TRY(nr_alloc(&e->blocks, e->param_count, sizeof *e->blocks, "blocks of the extension", err));
    if (!e->pool) NR_TRY(nr_linear_pool_new(&e->pool, e->model->ops, err));
    describe_blocks(e, &bytes, &kept);
    NR_TRY(nr_alloc(&values, kept + 1, sizeof *values, "vectors of the extension", err));
    nr_status st = nr_alloc(&e->block_data, bytes + 1, 1, "blocks of the extension", err);
    if (st != NR_OK) {
        free(values);
        return st;
    }
    move_weights(e, values);
    return make_linears(e, err);
}
