/*
 * attention_heads.c - new capacity placed in attention: H' heads beside the
 * backbone's own, whose output matrix starts at zero.
 *
 *   x_mid = x_in + o(attention(q, k, v)) + W_o attention(rotary(W_q x), rotary(W_k x), W_v x)
 *
 * x is attention's normed input; W_q, W_k, W_v: (H' D, C), each head with keys
 * and values of its own; W_o: (C, H' D).
 */
#include <math.h>
#include <string.h>

#include "model/extension.h"

enum { W_Q, W_K, W_V, W_O, PARAMS };
enum { A_Q, A_K, A_V, A_OUT, A_LSE, A_CACHE_K, A_CACHE_V, A_DY, A_DOUT, A_DQ, A_DK, A_DV, A_ATTENTION };

static size_t rows_d(const nr_extension *e, const nr_config *c, size_t n) { return n * e->width * c->D; }
static size_t rows_h(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, n * e->width; }
static size_t rows_c(const nr_extension *e, const nr_config *c, size_t n) { return (void)e, n * c->C; }

static nr_attention shape(const nr_extension *e, size_t B, size_t T, size_t start, size_t keys)
{
    size_t row = e->width * e->model->config->D;
    return (nr_attention){.B = B, .Tq = T, .H = e->width, .K = e->width, .D = e->model->config->D, .start = start, .k_stride = row,
                          .k_head = e->model->config->D, .k_batch = keys * row, .scale = (float)(1 / sqrt((double)e->model->config->D))};
}

static size_t attention_bytes(const nr_extension *e, const nr_pass_options *opt)
{
    const nr_ops *ops = e->model->ops;
    size_t keys = NR_MAX(opt->cache_context, opt->T);
    nr_attention a = shape(e, opt->B, opt->T, keys - opt->T, keys);
    size_t forward = ops->attention_scratch(&a, false);
    return opt->train ? NR_MAX(forward, ops->attention_scratch(&a, true)) : forward;
}

static const nr_activation activations[] = {
    [A_Q] = {.name = "q", .saved = true, .slot = NR_ACT, .size = rows_d},
    [A_K] = {.name = "k", .saved = true, .slot = NR_ACT, .size = rows_d},
    [A_V] = {.name = "v", .saved = true, .slot = NR_ACT, .size = rows_d},
    [A_OUT] = {.name = "attended", .saved = true, .slot = NR_ACT, .size = rows_d},
    [A_LSE] = {.name = "lse", .saved = true, .slot = NR_REAL, .size = rows_h},
    [A_CACHE_K] = {.name = "cached keys", .cached = true, .slot = NR_ACT, .size = rows_d},
    [A_CACHE_V] = {.name = "cached values", .cached = true, .slot = NR_ACT, .size = rows_d},
    [A_DY] = {.name = "dy", .slot = NR_ACT, .size = rows_c},
    [A_DOUT] = {.name = "dattended", .slot = NR_ACT, .size = rows_d},
    [A_DQ] = {.name = "dq", .slot = NR_ACT, .size = rows_d},
    [A_DK] = {.name = "dk", .slot = NR_ACT, .size = rows_d},
    [A_DV] = {.name = "dv", .slot = NR_ACT, .size = rows_d},
    [A_ATTENTION] = {.name = "attention", .bytes = attention_bytes},
};

/* H': the nearest number that meets the budget of 4 H' D C weights a layer. */
static size_t heads_for(const nr_extension *e)
{
    const nr_config *c = e->model->config;
    if (e->settings.width) return e->settings.width;
    double h = nr_extension_budget(e) / (double)(e->layer_count * 4 * c->D * c->C);
    return h < 1 ? 1 : (size_t)(h + 0.5);
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    static const char *const names[PARAMS] = {"heads_q", "heads_k", "heads_v", "heads_o"};
    const nr_config *c = e->model->config;
    e->width = heads_for(e);
    double variance = nr_extension_variance(e, e->settings.init);
    size_t inner = e->width * c->D;
    for (size_t l = 0; l < c->L; l++)
        for (int k = W_Q; e->layer_on[l] && k < PARAMS; k++) {
            nr_param *p = nr_extension_declare(e, k == W_O ? c->C : inner, k == W_O ? inner : c->C, false, true, "layers.%zu.%s", l, names[k]);
            if (!p) return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
            if (k != W_O) p->init_variance = variance;
        }
    return NR_OK;
}

static bool has_block(const nr_extension *e, nr_place place)
{
    return (void)e, place == NR_BESIDE_ATTENTION;
}

static const nr_param *params(const nr_hook *h)
{
    return &h->e->params[PARAMS * nr_extension_rank(h->e, h->layer)];
}

/* The heads' own KV cache, as the walk keeps the backbone's. */
static void append_cache(const nr_hook *h)
{
    size_t row = h->e->width * h->config->D * h->ops->act_size, T = h->batch->T;
    for (size_t b = 0; b < h->batch->B; b++) {
        size_t to = (b * h->context + h->batch->start) * row, from = b * T * row;
        memcpy((char *)h->saved[A_CACHE_K] + to, (char *)h->saved[A_K] + from, T * row);
        memcpy((char *)h->saved[A_CACHE_V] + to, (char *)h->saved[A_V] + from, T * row);
    }
}

static nr_attention attention_of(const nr_hook *h)
{
    bool cached = h->context > 0;
    nr_attention a = shape(h->e, h->batch->B, h->batch->T, cached ? h->batch->start : 0, cached ? h->context : h->batch->T);
    a.first = h->batch->first;
    return a;
}

static nr_status block(nr_hook *h, void *x, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *p = params(h);
    void *q = h->saved[A_Q], *k = h->saved[A_K], *v = h->saved[A_V];
    size_t heads = h->e->width, D = h->config->D;
    NR_TRY(ops->linear(p[W_Q].linear, q, NR_ACT, xn, h->n, false, err));
    NR_TRY(ops->linear(p[W_K].linear, k, NR_ACT, xn, h->n, false, err));
    NR_TRY(ops->linear(p[W_V].linear, v, NR_ACT, xn, h->n, false, err));
    ops->rotary(q, k, h->rope, h->pos, h->n, heads, heads, D, false);
    if (h->context) {
        append_cache(h);
        k = h->saved[A_CACHE_K];
        v = h->saved[A_CACHE_V];
    }
    nr_attention a = attention_of(h);
    ops->attention(h->saved[A_OUT], h->saved[A_LSE], q, k, v, &a, h->scratch[A_ATTENTION]);
    return ops->linear(p[W_O].linear, x, NR_REAL, h->saved[A_OUT], h->n, true, err);
}

/* The gradient of one of the matrices and of its input. */
static nr_status matrix_back(nr_hook *h, const nr_param *p, void *dx, nr_slot slot, const void *dy, const void *x, nr_error *err)
{
    void *dw = nr_param_grad(h->e, p);
    if (dw) NR_TRY(h->ops->linear_back_weight(p->linear, dw, NULL, dy, x, h->n, err));
    return h->ops->linear_back_input(p->linear, dx, slot, dy, h->n, slot == NR_REAL, err);
}

static nr_status block_back(nr_hook *h, void *dxn, const void *dy, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *p = params(h);
    size_t heads = h->e->width, D = h->config->D;
    void *dq = h->scratch[A_DQ], *dk = h->scratch[A_DK], *dv = h->scratch[A_DV];
    /* x += W_o attended */
    ops->to_act(h->scratch[A_DY], dy, h->n * h->config->C);
    NR_TRY(matrix_back(h, &p[W_O], h->scratch[A_DOUT], NR_ACT, h->scratch[A_DY], h->saved[A_OUT], err));
    /* attended = attention(q, k, v) */
    nr_attention a = attention_of(h);
    ops->attention_back(dq, dk, dv, h->scratch[A_DOUT], h->saved[A_OUT], h->saved[A_Q], h->saved[A_K], h->saved[A_V], h->saved[A_LSE], &a,
                        h->scratch[A_ATTENTION]);
    ops->rotary(dq, dk, h->rope, h->pos, h->n, heads, heads, D, true);
    /* q, k, v = W xn */
    NR_TRY(matrix_back(h, &p[W_V], dxn, NR_REAL, dv, xn, err));
    NR_TRY(matrix_back(h, &p[W_K], dxn, NR_REAL, dk, xn, err));
    return matrix_back(h, &p[W_Q], dxn, NR_REAL, dq, xn, err);
}

const nr_method nr_method_attention = {
    .name = "attention",
    .summary = "extra attention heads beside the backbone's own",
    .math = "x + attention(x) + W_o attention(W_q x, W_k x, W_v x), W_o = 0 at first",
    .source = "arXiv 2410.02744, its placement in attention",
    .starts_as_backbone = true,
    .has_init = true,
    .learning_rate = 1e-3,
    .declare = declare,
    .activations = activations,
    .activation_count = NR_COUNT(activations),
    .has_block = has_block,
    .block = block,
    .block_back = block_back,
};
