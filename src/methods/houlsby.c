/*
 * houlsby.c - serial bottleneck adapters: one after the output of attention and
 * one after that of the FFN, each before it joins the residual.
 *
 *   h <- h + U act(D h + b1) + b2      D: (M, C) normal, sigma 0.01, cut at 2 sigma   U: (C, M) zero
 *
 * act is the backbone's own. The norms stay frozen, like the whole backbone.
 */
#include <string.h>

#include "model/extension.h"

enum { DOWN, DOWN_BIAS, UP, UP_BIAS, PARAMS };
/* Saved ones come twice, for attention and for the FFN. */
enum { A_IN, A_Z = A_IN + 2, A_H = A_Z + 2, A_ONES, A_DH, A_SPARE, A_DA };

static size_t rows_m(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, n * e->width; }
static size_t rows_c(const nr_extension *e, const nr_config *c, size_t n) { return (void)e, n * c->C; }

static const nr_activation activations[] = {
    [A_IN] = {.name = "attention_out", .saved = true, .slot = NR_ACT, .size = rows_c},
    [A_IN + 1] = {.name = "ffn_out", .saved = true, .slot = NR_ACT, .size = rows_c},
    [A_Z] = {.name = "attention_z", .saved = true, .slot = NR_ACT, .size = rows_m},
    [A_Z + 1] = {.name = "ffn_z", .saved = true, .slot = NR_ACT, .size = rows_m},
    [A_H] = {.name = "h", .slot = NR_ACT, .size = rows_m},
    [A_ONES] = {.name = "ones", .slot = NR_ACT, .size = rows_m},
    [A_DH] = {.name = "dh", .slot = NR_ACT, .size = rows_m},
    [A_SPARE] = {.name = "unused", .slot = NR_ACT, .size = rows_m},
    [A_DA] = {.name = "da", .slot = NR_ACT, .size = rows_c},
};

/* M: the nearest multiple of 8 that meets the budget of 2 (2 M C + M + C) weights a layer. */
static size_t width_for(const nr_extension *e)
{
    double C = (double)e->model->config->C, layer = nr_extension_budget(e) / (double)e->layer_count;
    if (e->settings.width) return e->settings.width;
    double m = (layer / 2 - C) / (2 * C + 1);
    return m < 8 ? 8 : (size_t)(m / 8 + 0.5) * 8;
}

static nr_status declare_adapter(nr_extension *e, size_t l, const char *where, nr_error *err)
{
    size_t C = e->model->config->C, M = e->width;
    nr_param *p = nr_extension_declare(e, M, C, false, true, "layers.%zu.%s.down", l, where);
    if (!p) goto memory;
    p->init_variance = 1e-4;
    p->init_truncated = true;
    p->bias = (int)e->param_count;
    if (!nr_extension_declare(e, 1, M, true, false, "layers.%zu.%s.down_bias", l, where)) goto memory;
    p = nr_extension_declare(e, C, M, false, true, "layers.%zu.%s.up", l, where);
    if (!p) goto memory;
    p->bias = (int)e->param_count;
    if (!nr_extension_declare(e, 1, C, true, false, "layers.%zu.%s.up_bias", l, where)) goto memory;
    return NR_OK;
memory:
    return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    e->width = width_for(e);
    for (size_t l = 0; l < e->model->config->L; l++) {
        if (!e->layer_on[l]) continue;
        NR_TRY(declare_adapter(e, l, "attention", err));
        NR_TRY(declare_adapter(e, l, "ffn", err));
    }
    return NR_OK;
}

static bool has_block(const nr_extension *e, nr_place place)
{
    return (void)e, place == NR_AFTER_ATTENTION || place == NR_AFTER_FFN;
}

static size_t half(const nr_hook *h) /* 0 attention, 1 FFN */
{
    return h->place == NR_AFTER_FFN;
}

static const nr_param *params(const nr_hook *h)
{
    return &h->e->params[PARAMS * (2 * nr_extension_rank(h->e, h->layer) + half(h))];
}

/* hidden = act(z) as act(z) * 1. */
static void activate(nr_hook *h)
{
    size_t n = h->n * h->e->width;
    char *ones = h->scratch[A_ONES];
    const double one = 1;
    void *real = h->scratch[A_H]; /* one number, until it is overwritten */
    nr_real_set(h->ops, real, 0, one);
    h->ops->to_act(ones, real, 1);
    for (size_t i = 1; i < n; i *= 2) memcpy(ones + i * h->ops->act_size, ones, NR_MIN(i, n - i) * h->ops->act_size);
    h->ops->glu(h->scratch[A_H], h->saved[A_Z + half(h)], ones, h->config->act, h->n, h->e->width);
}

static nr_status after(nr_hook *h, void *y, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *p = params(h);
    void *in = h->saved[A_IN + half(h)];
    (void)xn;
    ops->to_act(in, y, h->n * h->config->C);
    NR_TRY(ops->linear(p[DOWN].linear, h->saved[A_Z + half(h)], NR_ACT, in, h->n, false, err));
    activate(h);
    return ops->linear(p[UP].linear, y, NR_REAL, h->scratch[A_H], h->n, true, err);
}

static nr_status after_back(nr_hook *h, void *dxn, void *dy, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *p = params(h);
    size_t n = h->n;
    void *da = h->scratch[A_DA], *dz = h->scratch[A_DH];
    (void)dxn;
    (void)xn;
    ops->to_act(da, dy, n * h->config->C);
    /* y += U hidden + b2 */
    activate(h);
    if (h->e->grads)
        NR_TRY(ops->linear_back_weight(p[UP].linear, nr_param_grad(h->e, &p[UP]), nr_param_grad(h->e, &p[UP_BIAS]), da, h->scratch[A_H], n, err));
    NR_TRY(ops->linear_back_input(p[UP].linear, dz, NR_ACT, da, n, false, err));
    /* hidden = act(z) */
    ops->glu_back(dz, h->scratch[A_SPARE], NULL, dz, h->saved[A_Z + half(h)], h->scratch[A_ONES], h->config->act, n, h->e->width);
    /* z = D h + b1 */
    if (h->e->grads)
        NR_TRY(ops->linear_back_weight(p[DOWN].linear, nr_param_grad(h->e, &p[DOWN]), nr_param_grad(h->e, &p[DOWN_BIAS]), dz,
                                       h->saved[A_IN + half(h)], n, err));
    return ops->linear_back_input(p[DOWN].linear, dy, NR_REAL, dz, n, true, err);
}

const nr_method nr_method_houlsby = {
    .name = "houlsby",
    .summary = "serial bottleneck adapters after attention and after the FFN",
    .math = "h <- h + U act(D h + b1) + b2, before the residual, twice a layer",
    .source = "arXiv 1902.00751",
    .starts_as_backbone = true,
    .learning_rate = 1e-3,
    .declare = declare,
    .activations = activations,
    .activation_count = NR_COUNT(activations),
    .has_block = has_block,
    .after = after,
    .after_back = after_back,
};
