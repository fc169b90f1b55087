/*
 * neutral.c - neutral residues (arXiv 2410.02744): beside each frozen FFN a
 * gated adapter, trained to stay near zero on the old domain.
 *
 *   a(x) = W_out (act(W_gate x) * (W_in x))     W_gate, W_in: (M, C)  W_out: (C, M)
 *   g(x) = gate(w . x [+ b])                    w: (C)
 *   y    = FFN(x) + g(x) a(x)                   x: the FFN's own, normed input
 *
 * With placement serial the adapter stands after the FFN and reads its output f:
 *
 *   y    = f + g(f) a(f)                        f = FFN(x)
 *
 * Local losses, added where they arise:
 *   l1  alpha * mean over layers, old tokens of the whole step and channels of |g a| (or |a|)
 *   ce  beta * binary cross-entropy of sigmoid(w . x) against new = 1, over layers and tokens
 *
 * In inference, rows whose gate is off (|g| at most gate_threshold, 0 by
 * default) leave out their adapter.
 *
 * With gate none and no local loss this is the vanilla adapter (adapter.c).
 */
#include <math.h>
#include <string.h>

#include "methods/neutral.h"

enum { W_GATE, W_IN, W_OUT, GATE_W, GATE_B };
/* Activations, in the order of the table below. */
enum { A_ZG, A_ZI, A_OUT, A_Z, A_G, A_H, A_GATHERED, A_DZ, A_COEF, A_CE, A_BLOCKS, A_SUM, A_OWN_INPUT };

static size_t rows_m(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, n * e->width; }
static size_t rows_c(const nr_extension *e, const nr_config *c, size_t n) { return (void)e, n * c->C; }
static size_t rows_1(const nr_extension *e, const nr_config *c, size_t n) { return (void)e, (void)c, n; }
static size_t serial_c(const nr_extension *e, const nr_config *c, size_t n) { return e->settings.placement ? n * c->C : 0; }
static size_t blocks_c(const nr_extension *e, const nr_config *c, size_t n)
{
    return (void)e, (n / NR_ROW_BLOCK + 1) * (c->C + 1);
}

const nr_activation nr_neutral_activations[NR_NEUTRAL_ACTIVATIONS] = {
    [A_ZG] = {.name = "w_gate_x", .saved = true, .slot = NR_ACT, .size = rows_m},
    [A_ZI] = {.name = "w_in_x", .saved = true, .slot = NR_ACT, .size = rows_m},
    [A_OUT] = {.name = "a", .saved = true, .slot = NR_ACT, .size = rows_c},
    [A_Z] = {.name = "z", .saved = true, .slot = NR_REAL, .size = rows_1},
    [A_G] = {.name = "g", .saved = true, .slot = NR_REAL, .size = rows_1},
    [A_H] = {.name = "h", .slot = NR_ACT, .size = rows_m},
    [A_GATHERED] = {.name = "gathered_x", .slot = NR_ACT, .size = rows_c},
    [A_DZ] = {.name = "dz", .slot = NR_REAL, .size = rows_1},
    [A_COEF] = {.name = "l1_coef", .slot = NR_REAL, .size = rows_1},
    [A_CE] = {.name = "ce_coef", .slot = NR_REAL, .size = rows_1},
    [A_BLOCKS] = {.name = "row_blocks", .slot = NR_REAL, .size = blocks_c},
    [A_SUM] = {.name = "abs_sum", .slot = NR_REAL, .wide = true, .size = rows_1},
    [A_OWN_INPUT] = {.name = "ffn_out", .saved = true, .slot = NR_ACT, .size = serial_c},
};

static size_t per_layer(const nr_extension *e) /* parameters declared for one layer */
{
    return 3 + (e->settings.gate != NR_GATE_NONE) + (e->settings.gate != NR_GATE_NONE && e->settings.gate_bias);
}

/* M: the nearest multiple of 8 that meets the budget of 3 M C + C weights a layer. */
static size_t width_for(const nr_extension *e)
{
    const nr_config *c = e->model->config;
    if (e->settings.width) return e->settings.width;
    double layer = nr_extension_budget(e) / (double)e->layer_count;
    double gate = e->settings.gate == NR_GATE_NONE ? 0 : (double)c->C;
    double m = (layer - gate) / (3 * (double)c->C);
    return m < 8 ? 8 : (size_t)(m / 8 + 0.5) * 8;
}

static nr_status declare_layer(nr_extension *e, size_t l, nr_error *err)
{
    const nr_config *c = e->model->config;
    const nr_settings *s = &e->settings;
    double matrix = nr_extension_variance(e, s->init), gate = s->gate_init == 2 ? 0 : nr_extension_variance(e, s->gate_init);
    nr_param *p;
    for (int k = W_GATE; k <= W_IN; k++) {
        p = nr_extension_declare(e, e->width, c->C, false, true, "layers.%zu.%s", l, k == W_GATE ? "w_gate" : "w_in");
        if (!p) goto memory;
        p->init_variance = matrix;
    }
    if (!nr_extension_declare(e, c->C, e->width, false, true, "layers.%zu.w_out", l)) goto memory;
    if (s->gate == NR_GATE_NONE) return NR_OK;
    p = nr_extension_declare(e, 1, c->C, true, false, "layers.%zu.gate", l);
    if (!p) goto memory;
    p->init_variance = gate;
    if (s->gate_bias && !nr_extension_declare(e, 1, 1, true, false, "layers.%zu.gate_bias", l)) goto memory;
    return NR_OK;
memory:
    return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
}

nr_status nr_neutral_declare(nr_extension *e, nr_error *err)
{
    e->width = width_for(e);
    for (size_t l = 0; l < e->model->config->L; l++)
        if (e->layer_on[l]) NR_TRY(declare_layer(e, l, err));
    return NR_OK;
}

/* Parameter k of the hook's layer; NULL where the settings have none. */
static const nr_param *param(const nr_hook *h, size_t k)
{
    size_t count = per_layer(h->e);
    return k < count ? &h->e->params[nr_extension_rank(h->e, h->layer) * count + k] : NULL;
}

static void *value(const nr_hook *h, size_t k)
{
    const nr_param *p = param(h, k);
    return p ? nr_param_value(h->e, p) : NULL;
}

static void *grad(const nr_hook *h, size_t k)
{
    const nr_param *p = param(h, k);
    return p ? nr_param_grad(h->e, p) : NULL;
}

static bool wants_l1(const nr_hook *h)
{
    return h->e->grads && h->e->settings.l1 && h->batch->step_old_tokens > 0; /* a frozen one has no losses */
}

static bool wants_ce(const nr_hook *h)
{
    return h->e->grads && h->e->settings.ce && h->e->settings.gate == NR_GATE_SIGMOID && h->batch->step_tokens > 0;
}

/* What one |g a| of an old row weighs in the mean, before alpha. */
static double l1_share(const nr_hook *h)
{
    double share = 1 / ((double)h->e->layer_count * (double)h->batch->step_old_tokens);
    return h->e->settings.l1_reduction == 0 ? share / (double)h->config->C : share;
}

static double ce_share(const nr_hook *h)
{
    size_t tokens = h->batch->step_positions ? h->batch->step_positions : h->batch->step_tokens;
    return 1 / ((double)h->e->layer_count * (double)tokens);
}

static void add_losses(nr_hook *h)
{
    const nr_settings *s = &h->e->settings;
    const double *abs_sum = h->scratch[A_SUM];
    double l1 = 0, ce = 0;
    if (wants_l1(h)) {
        for (size_t i = 0; i < h->n; i++)
            if (!h->row_is_new[i]) l1 += abs_sum[i];
        l1 *= l1_share(h);
    }
    if (wants_ce(h)) {
        for (size_t i = 0; i < h->n; i++) { /* -log of the right side's sigmoid, without overflow */
            double z = nr_real_get(h->ops, h->saved[A_Z], i), t = h->row_is_new[i] ? -z : z;
            ce += t > 0 ? t + log1p(exp(-t)) : log1p(exp(t));
        }
        ce *= ce_share(h);
    }
    h->losses->local[0] += l1;
    h->losses->local[1] += ce;
    h->losses->local_weighted += s->alpha * l1 + s->beta * ce;
}

static nr_status adapter(nr_hook *h, void *a, const void *xn, size_t n, nr_error *err)
{
    const nr_ops *ops = h->ops;
    void *zg = h->saved[A_ZG], *zi = h->saved[A_ZI];
    const nr_product both[] = {{param(h, W_GATE)->linear, zg}, {param(h, W_IN)->linear, zi}};
    NR_TRY(ops->linear_group(both, NR_COUNT(both), xn, n, err));
    ops->glu(h->scratch[A_H], zg, zi, h->config->act, n, h->e->width);
    return ops->linear(param(h, W_OUT)->linear, a, NR_ACT, h->scratch[A_H], n, false, err);
}

/* NaN counts as on: it must reach the result. */
static bool row_is_on(const nr_hook *h, size_t row)
{
    return !(fabs(nr_real_get(h->ops, h->saved[A_G], row)) <= h->e->gate_threshold);
}

/* Rows for which the adapter runs when `on` of n are: counts in steps, so that
 * products are prepared for few different ones. */
static size_t rows_run(size_t on, size_t n)
{
    size_t step = n > 512 ? 64 : 8;
    return NR_MIN((on + step - 1) / step * step, n);
}

/* The adapter of the rows that are on, gathered, run as `run` rows and added one by one. */
static nr_status add_rows_on(nr_hook *h, void *x, const void *xn, size_t run, nr_error *err)
{
    const nr_ops *ops = h->ops;
    size_t C = h->config->C, row = C * ops->act_size, on = 0;
    char *gathered = h->scratch[A_GATHERED], *a = h->saved[A_OUT], *g = h->saved[A_G];
    for (size_t i = 0; i < h->n; i++)
        if (row_is_on(h, i)) memcpy(gathered + on++ * row, (const char *)xn + i * row, row);
    memset(gathered + on * row, 0, (run - on) * row);
    NR_TRY(adapter(h, a, gathered, run, err));
    on = 0;
    for (size_t i = 0; i < h->n; i++)
        if (row_is_on(h, i))
            ops->gate_add((char *)x + i * C * ops->real_size, NULL, g + i * ops->real_size, a + on++ * row, false, 1, C);
    return NR_OK;
}

bool nr_neutral_has_block(const nr_extension *e, nr_place place)
{
    return place == (e->settings.placement ? NR_AFTER_FFN : NR_BESIDE_FFN);
}

nr_status nr_neutral_block(nr_hook *h, void *x, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_settings *s = &h->e->settings;
    size_t n = h->n, C = h->config->C, on = 0;
    void *a = h->saved[A_OUT], *z = h->saved[A_Z], *g = h->saved[A_G];
    ops->gate(g, z, xn, value(h, GATE_W), value(h, GATE_B), (nr_gate)s->gate, n, C);
    for (size_t i = 0; h->gate && i < n; i++) h->gate[i] = nr_real_get(ops, g, i);
    for (size_t i = 0; !h->train && i < n; i++) on += row_is_on(h, i);
    if (h->train || rows_run(on, n) == n) {
        NR_TRY(adapter(h, a, xn, n, err));
        ops->gate_add(x, h->losses ? h->scratch[A_SUM] : NULL, g, a, s->l1_target == 1, n, C);
    } else if (on > 0) {
        NR_TRY(add_rows_on(h, x, xn, rows_run(on, n), err));
    }
    if (h->losses) add_losses(h);
    return NR_OK;
}

/* Coefficients of the local losses, row by row. */
static nr_gate_loss local_losses(nr_hook *h)
{
    const nr_settings *s = &h->e->settings;
    nr_gate_loss loss = {.gate = (nr_gate)s->gate, .l1_on_a = s->l1_target == 1, .is_new = h->row_is_new,
                         .lm_to_gate = s->lm_to_gate};
    if (wants_l1(h) && s->alpha > 0) {
        double coef = s->alpha * l1_share(h);
        for (size_t i = 0; i < h->n; i++) nr_real_set(h->ops, h->scratch[A_COEF], i, h->row_is_new[i] ? 0 : coef);
        loss.l1_coef = h->scratch[A_COEF];
    }
    if (wants_ce(h) && s->beta > 0) {
        double coef = s->beta * ce_share(h);
        for (size_t i = 0; i < h->n; i++) nr_real_set(h->ops, h->scratch[A_CE], i, coef);
        loss.ce_coef = h->scratch[A_CE];
    }
    return loss;
}

static nr_status weight_back(nr_hook *h, size_t k, const void *dy, const void *x, nr_error *err)
{
    void *dw = grad(h, k);
    return dw ? h->ops->linear_back_weight(param(h, k)->linear, dw, NULL, dy, x, h->n, err) : NR_OK;
}

/* What was kept makes room for what comes of it, as in the walk: da lies where a did, h where zg and dzi where zi. */
nr_status nr_neutral_block_back(nr_hook *h, void *dxn, const void *dy, const void *xn, nr_error *err)
{
    const nr_ops *ops = h->ops;
    size_t n = h->n, M = h->e->width, C = h->config->C;
    void *hidden = h->saved[A_ZG], *dzi = h->saved[A_ZI], *da = h->saved[A_OUT], *dh = h->scratch[A_H];
    nr_gate_loss loss = local_losses(h);
    /* x += g a */
    ops->gate_back(da, h->scratch[A_DZ], dy, da, h->saved[A_G], h->saved[A_Z], &loss, n, C);
    /* g = gate(w . xn + b) */
    if (loss.gate != NR_GATE_NONE)
        ops->gate_back_input(dxn, grad(h, GATE_W), grad(h, GATE_B), h->scratch[A_DZ], xn, value(h, GATE_W), n, C, h->scratch[A_BLOCKS]);
    /* a = W_out h, h = act(zg) zi: h itself comes again beside the gradients that have it in them */
    NR_TRY(ops->linear_back_input(param(h, W_OUT)->linear, dh, NR_ACT, da, n, false, err));
    ops->glu_back(dh, dzi, hidden, dh, hidden, dzi, h->config->act, n, M);
    NR_TRY(weight_back(h, W_OUT, da, hidden, err));
    /* zg = W_gate xn, zi = W_in xn */
    NR_TRY(weight_back(h, W_GATE, dh, xn, err));
    NR_TRY(weight_back(h, W_IN, dzi, xn, err));
    if (!dxn) return NR_OK;
    NR_TRY(ops->linear_back_input(param(h, W_IN)->linear, dxn, NR_REAL, dzi, n, true, err));
    return ops->linear_back_input(param(h, W_GATE)->linear, dxn, NR_REAL, dh, n, true, err);
}

nr_status nr_neutral_after(nr_hook *h, void *y, const void *xn, nr_error *err)
{
    (void)xn;
    h->ops->to_act(h->saved[A_OWN_INPUT], y, h->n * h->config->C);
    return nr_neutral_block(h, y, h->saved[A_OWN_INPUT], err);
}

/* dy serves as both: it is read before anything is added to it. */
nr_status nr_neutral_after_back(nr_hook *h, void *dxn, void *dy, const void *xn, nr_error *err)
{
    (void)dxn;
    (void)xn;
    return nr_neutral_block_back(h, dy, dy, h->saved[A_OWN_INPUT], err);
}

const nr_method nr_method_neutral = {
    .name = "neutral",
    .summary = "neutral residues: gated adapters beside each FFN, kept near zero on old text",
    .math = "y = FFN(x) + g(w.x) W_out (act(W_gate x) * W_in x)",
    .source = "arXiv 2410.02744",
    .starts_as_backbone = true,
    .gated = true,
    .has_init = true,
    .learning_rate = 5e-3,
    NR_NEUTRAL_HOOKS,
};
