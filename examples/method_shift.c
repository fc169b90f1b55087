/*
 * method_shift.c - a whole method, as short as one can be: the start for a new
 * one. It adds one learned vector to the residual beside each FFN.
 *
 *   y = FFN(x) + b      b: (C), zero at first
 *
 * A method of nres itself lies in src/methods/ and has a line in table.c. This
 * one is compiled, registered and proven by tests/unit/test_example_method.c.
 */
#include "model/extension.h"

static nr_status declare(nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    e->width = 1;
    for (size_t l = 0; l < c->L; l++)
        if (e->layer_on[l] && !nr_extension_declare(e, 1, c->C, true, false, "layers.%zu.shift", l))
            return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
    return NR_OK;
}

static const nr_param *shift(const nr_hook *h)
{
    return &h->e->params[nr_extension_rank(h->e, h->layer)];
}

/* Row i of x (n, C) real. */
static void *row(const nr_hook *h, const void *x, size_t i)
{
    return (char *)x + i * h->config->C * h->ops->real_size;
}

static nr_status block(nr_hook *h, void *x, const void *xn, nr_error *err)
{
    (void)xn;
    (void)err;
    for (size_t i = 0; i < h->n; i++) h->ops->add(row(h, x, i), nr_param_value(h->e, shift(h)), 1, h->config->C);
    return NR_OK;
}

/* The gradient at b is the sum of dy over rows; x passes nothing on. */
static nr_status block_back(nr_hook *h, void *dxn, const void *dy, const void *xn, nr_error *err)
{
    void *db = nr_param_grad(h->e, shift(h));
    (void)dxn;
    (void)xn;
    (void)err;
    for (size_t i = 0; db && i < h->n; i++) h->ops->add(db, row(h, dy, i), 1, h->config->C);
    return NR_OK;
}

const nr_method nr_method_shift = {
    .name = "shift",
    .summary = "example: one learned vector beside each FFN",
    .math = "y = FFN(x) + b",
    .source = "CONTRIBUTING.md",
    .learning_rate = 1e-3,
    .declare = declare,
    .block = block,
    .block_back = block_back,
};
