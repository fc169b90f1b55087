/*
 * fusion.c - experts fused with the frozen FFN (fusion.h). The fusion is
 * computed as f + g (M(x) - f), f = FFN(x): where M is the FFN itself the
 * difference is 0 and h is f, bit for bit.
 */
#include <stdlib.h>
#include <string.h>

#include "methods/fusion.h"
#include "methods/router.h"

enum { W_GATE, W_IN, W_OUT, OTHERS };
/* Saved up to A_Z. */
enum {
    A_ZG, A_ZI, A_P, A_DIFF, A_G, A_Z, A_HIDDEN, A_MIXED, A_DH, A_DZI, A_SUM, A_REAL, A_DA, A_DP, A_DLOGITS, A_DZ, A_BLOCKS
};

static const nr_fusion *fusion(const nr_extension *e) { return e->state; }
static size_t inner(const nr_extension *e) { return fusion(e)->experts * fusion(e)->width; }
static bool routed(const nr_extension *e) { return fusion(e)->experts > 1; }

static size_t rows_m(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, n * inner(e); }
static size_t rows_c(const nr_extension *e, const nr_config *c, size_t n) { return (void)e, n * c->C; }
static size_t rows_1(const nr_extension *e, const nr_config *c, size_t n) { return (void)e, (void)c, n; }
static size_t routed_m(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, routed(e) ? n * inner(e) : 0; }
static size_t routed_e(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, routed(e) ? n * fusion(e)->experts : 0; }
static size_t gated_blocks(const nr_extension *e, const nr_config *c, size_t n)
{
    return fusion(e)->gate ? (n / NR_ROW_BLOCK + 1) * (c->C + 1) : 0;
}

const nr_activation nr_fusion_activations[NR_FUSION_ACTIVATIONS] = {
    [A_ZG] = {.name = "w_gate_x", .saved = true, .slot = NR_ACT, .size = rows_m},
    [A_ZI] = {.name = "w_in_x", .saved = true, .slot = NR_ACT, .size = rows_m},
    [A_P] = {.name = "p", .saved = true, .slot = NR_REAL, .size = routed_e},
    [A_DIFF] = {.name = "difference", .saved = true, .slot = NR_ACT, .size = rows_c},
    [A_G] = {.name = "g", .saved = true, .slot = NR_REAL, .size = rows_1},
    [A_Z] = {.name = "z", .saved = true, .slot = NR_REAL, .size = rows_1},
    [A_HIDDEN] = {.name = "hidden", .slot = NR_ACT, .size = rows_m},
    [A_MIXED] = {.name = "mixed", .slot = NR_ACT, .size = routed_m},
    [A_DH] = {.name = "dh", .slot = NR_ACT, .size = rows_m},
    [A_DZI] = {.name = "dzi", .slot = NR_ACT, .size = rows_m},
    [A_SUM] = {.name = "sum", .slot = NR_REAL, .size = routed_m},
    [A_REAL] = {.name = "experts_out", .slot = NR_REAL, .size = rows_c},
    [A_DA] = {.name = "da", .slot = NR_ACT, .size = rows_c},
    [A_DP] = {.name = "dp", .slot = NR_REAL, .size = routed_e},
    [A_DLOGITS] = {.name = "dlogits", .slot = NR_ACT, .size = routed_e},
    [A_DZ] = {.name = "dz", .slot = NR_REAL, .size = rows_1},
    [A_BLOCKS] = {.name = "row_blocks", .slot = NR_REAL, .size = gated_blocks},
};

size_t nr_fusion_cost(const nr_config *c, const nr_fusion *f)
{
    return 3 * f->experts * f->width * c->C + (f->experts > 1 ? f->experts * c->C : 0) + (f->gate ? c->C : 0);
}

nr_status nr_fusion_declare(nr_extension *e, size_t l, size_t *first, nr_error *err)
{
    size_t C = e->model->config->C, m = inner(e);
    *first = e->param_count;
    if (!nr_extension_declare(e, m, C, false, true, "layers.%zu.w_gate", l)) goto memory;
    if (!nr_extension_declare(e, m, C, false, true, "layers.%zu.w_in", l)) goto memory;
    if (!nr_extension_declare(e, C, m, false, true, "layers.%zu.w_out", l)) goto memory;
    if (routed(e) && !nr_extension_declare(e, fusion(e)->experts, C, false, true, "layers.%zu.router", l)) goto memory;
    if (fusion(e)->gate && !nr_extension_declare(e, 1, C, true, false, "layers.%zu.gate", l)) goto memory;
    return NR_OK;
memory:
    return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
}

bool nr_fusion_has_block(const nr_extension *e, nr_place place)
{
    return (void)e, place == NR_AFTER_FFN;
}

static const nr_param *params(const nr_hook *h)
{
    size_t count = OTHERS + routed(h->e) + fusion(h->e)->gate;
    return &h->e->params[count * nr_extension_rank(h->e, h->layer)];
}

static const nr_param *router(const nr_hook *h) { return params(h) + OTHERS; }
static const nr_param *gate(const nr_hook *h) { return params(h) + OTHERS + routed(h->e); }

/* What goes into W_out: act(zg) zi, of several experts each times its p. */
static const void *hidden(nr_hook *h)
{
    const nr_ops *ops = h->ops;
    size_t E = fusion(h->e)->experts, m = fusion(h->e)->width;
    ops->glu(h->scratch[A_HIDDEN], h->saved[A_ZG], h->saved[A_ZI], h->config->act, h->n, inner(h->e));
    if (!routed(h->e)) return h->scratch[A_HIDDEN];
    nr_router_mix(ops, h->scratch[A_MIXED], h->scratch[A_SUM], h->saved[A_P], h->scratch[A_HIDDEN], h->n, E, m);
    return h->scratch[A_MIXED];
}

static void shares(nr_hook *h, const void *xn)
{
    void *g = h->saved[A_G], *z = h->saved[A_Z];
    if (fusion(h->e)->gate) {
        h->ops->gate(g, z, xn, nr_param_value(h->e, gate(h)), NULL, NR_GATE_SIGMOID, h->n, h->config->C);
        for (size_t i = 0; h->gate && i < h->n; i++) h->gate[i] = nr_real_get(h->ops, g, i);
    } else {
        for (size_t i = 0; i < h->n; i++) nr_real_set(h->ops, g, i, fusion(h->e)->share);
    }
}

nr_status nr_fusion_after(nr_hook *h, void *y, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *w = params(h);
    void *out = h->scratch[A_REAL];
    size_t elements = h->n * h->config->C;
    NR_TRY(ops->linear(w[W_GATE].linear, h->saved[A_ZG], NR_ACT, xn, h->n, false, err));
    NR_TRY(ops->linear(w[W_IN].linear, h->saved[A_ZI], NR_ACT, xn, h->n, false, err));
    if (routed(h->e)) {
        NR_TRY(ops->linear(router(h)->linear, h->saved[A_P], NR_REAL, xn, h->n, false, err));
        nr_router_softmax(ops, h->saved[A_P], h->n, fusion(h->e)->experts);
    }
    NR_TRY(ops->linear(w[W_OUT].linear, out, NR_REAL, hidden(h), h->n, false, err));
    ops->add(out, y, -1, elements);
    ops->to_act(h->saved[A_DIFF], out, elements);
    shares(h, xn);
    ops->gate_add(y, NULL, h->saved[A_G], h->saved[A_DIFF], false, h->n, h->config->C);
    return NR_OK;
}

static nr_status weight_back(nr_hook *h, const nr_param *p, const void *dy, const void *x, nr_error *err)
{
    void *dw = nr_param_grad(h->e, p);
    return dw ? h->ops->linear_back_weight(p->linear, dw, NULL, dy, x, h->n, err) : NR_OK;
}

/* dxn += the gradient by way of the experts; da that at their sum. */
static nr_status experts_back(nr_hook *h, void *dxn, const void *da, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *w = params(h);
    size_t n = h->n, E = fusion(h->e)->experts, m = fusion(h->e)->width;
    void *dh = h->scratch[A_DH], *dzi = h->scratch[A_DZI], *dp = h->scratch[A_DP], *sum = h->scratch[A_SUM];
    /* M = W_out mixed */
    NR_TRY(weight_back(h, &w[W_OUT], da, hidden(h), err));
    if (routed(h->e)) {
        NR_TRY(ops->linear_back_input(w[W_OUT].linear, sum, NR_REAL, da, n, false, err));
        /* mixed = p hidden */
        nr_router_mix_back(ops, dh, dp, sum, h->saved[A_P], h->scratch[A_HIDDEN], n, E, m);
        /* p = softmax(W_r xn) */
        nr_router_softmax_back(ops, dp, h->saved[A_P], n, E);
        ops->to_act(h->scratch[A_DLOGITS], dp, n * E);
        NR_TRY(weight_back(h, router(h), h->scratch[A_DLOGITS], xn, err));
        NR_TRY(ops->linear_back_input(router(h)->linear, dxn, NR_REAL, h->scratch[A_DLOGITS], n, true, err));
    } else {
        NR_TRY(ops->linear_back_input(w[W_OUT].linear, dh, NR_ACT, da, n, false, err));
    }
    /* hidden = act(zg) zi */
    ops->glu_back(dh, dzi, NULL, dh, h->saved[A_ZG], h->saved[A_ZI], h->config->act, n, inner(h->e));
    /* zg, zi = W xn */
    NR_TRY(weight_back(h, &w[W_GATE], dh, xn, err));
    NR_TRY(weight_back(h, &w[W_IN], dzi, xn, err));
    NR_TRY(ops->linear_back_input(w[W_IN].linear, dxn, NR_REAL, dzi, n, true, err));
    return ops->linear_back_input(w[W_GATE].linear, dxn, NR_REAL, dh, n, true, err);
}

nr_status nr_fusion_after_back(nr_hook *h, void *dxn, void *dy, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    size_t n = h->n, C = h->config->C;
    bool has_gate = fusion(h->e)->gate;
    const nr_gate_loss plain = {.gate = has_gate ? NR_GATE_SIGMOID : NR_GATE_NONE, .lm_to_gate = true};
    /* h = y + g (M - y) */
    ops->gate_back(h->scratch[A_DA], h->scratch[A_DZ], dy, h->saved[A_DIFF], h->saved[A_G], h->saved[A_Z], &plain, n, C);
    ops->to_real(h->scratch[A_REAL], h->scratch[A_DA], n * C);
    ops->add(dy, h->scratch[A_REAL], -1, n * C);
    /* g = sigmoid(w . xn) */
    if (has_gate)
        ops->gate_back_input(dxn, nr_param_grad(h->e, gate(h)), NULL, h->scratch[A_DZ], xn, nr_param_value(h->e, gate(h)), n, C,
                             h->scratch[A_BLOCKS]);
    return experts_back(h, dxn, h->scratch[A_DA], xn, err);
}

void nr_fusion_close(nr_extension *e)
{
    free(e->state);
}
