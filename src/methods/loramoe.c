/*
 * loramoe.c - LoRAMoE: beside chosen matrices E low-rank experts, mixed by a
 * router token by token.
 *
 *   y = W x + (s / R) sum_i p_i B_i A_i x      p = softmax(W_r x)
 *   A_i: (R, in) kaiming-uniform   B_i: (out, R) zero   W_r: (E, in) kaiming-uniform
 *
 * The experts' A_i lie stacked as one (E R, in), their B_i side by side as one
 * (out, E R): two products serve all.
 *
 * Localized balance loss. The first half of the experts is for old text, the
 * second for new. For a row b of a layer's matrix, over its tokens,
 *
 *   Q_i = sum of p_i      Z_i = S_i Q_i      S_i = 1 + delta where the expert's half is the row's domain, else 1 - delta
 *   loss = balance * mean over rows of the step, matrices and layers of Var_i(Z) / (Mean_i(Z)^2 + 1e-10)
 *
 * Var divides by E - 1. It is taken row by row, so that cutting the step into
 * micro-batches changes nothing.
 */
#include <math.h>
#include <stdlib.h>

#include "methods/lora.h"
#include "methods/router.h"

enum { ROUTER, LORA_A, LORA_B, PARAMS };
enum { MOST = 64 }; /* experts, as the setting allows */
/* Saved a site: t = (s / R) A x of all experts, and p. */
enum { A_T, A_P = A_T + NR_SITES, A_U = A_P + NR_SITES, A_DT, A_SUM, A_DP, A_DZ, ACTIVATIONS };

typedef struct {
    nr_lora lora; /* first: shared with lora.c's reading of targets */
    size_t experts;
} loramoe;

static size_t experts(const nr_extension *e) { return ((const loramoe *)e->state)->experts; }
static size_t rows_er(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, n * experts(e) * e->width; }
static size_t rows_e(const nr_extension *e, const nr_config *c, size_t n) { return (void)c, n * experts(e); }

/* Only the targets' buffers take memory. */
#define SITE_ROWS(word, site)                                                                                           \
    static size_t word##_t(const nr_extension *e, const nr_config *c, size_t n)                                         \
    {                                                                                                                   \
        return ((const loramoe *)e->state)->lora.on[site] ? rows_er(e, c, n) : 0;                                       \
    }                                                                                                                   \
    static size_t word##_p(const nr_extension *e, const nr_config *c, size_t n)                                         \
    {                                                                                                                   \
        return ((const loramoe *)e->state)->lora.on[site] ? rows_e(e, c, n) : 0;                                        \
    }
SITE_ROWS(q, NR_Q)
SITE_ROWS(k, NR_K)
SITE_ROWS(v, NR_V)
SITE_ROWS(o, NR_O)
SITE_ROWS(gate, NR_GATE)
SITE_ROWS(up, NR_UP)
SITE_ROWS(down, NR_DOWN)

#define SITE(word, site)                                                                          \
    [A_T + site] = {.name = #word "_t", .saved = true, .slot = NR_ACT, .size = word##_t},         \
    [A_P + site] = {.name = #word "_p", .saved = true, .slot = NR_REAL, .size = word##_p}
static const nr_activation activations[ACTIVATIONS] = {
    SITE(q, NR_Q),
    SITE(k, NR_K),
    SITE(v, NR_V),
    SITE(o, NR_O),
    SITE(gate, NR_GATE),
    SITE(up, NR_UP),
    SITE(down, NR_DOWN),
    [A_U] = {.name = "u", .slot = NR_ACT, .size = rows_er},
    [A_DT] = {.name = "dt", .slot = NR_ACT, .size = rows_er},
    [A_SUM] = {.name = "sum", .slot = NR_REAL, .size = rows_er},
    [A_DP] = {.name = "dp", .slot = NR_REAL, .size = rows_e},
    [A_DZ] = {.name = "dz", .slot = NR_ACT, .size = rows_e},
};

/* R: the nearest rank that meets the budget with the experts alone; the routers come on top. */
static size_t rank_for(const nr_extension *e, const loramoe *t)
{
    if (e->settings.width) return e->settings.width;
    double r = nr_extension_budget(e) / (double)(e->layer_count * t->experts * nr_lora_cost(e, &t->lora));
    return r < 1 ? 1 : (size_t)(r + 0.5);
}

static nr_status declare_site(nr_extension *e, size_t l, nr_site s, nr_error *err)
{
    static const char *const names[PARAMS] = {"router", "lora_a", "lora_b"};
    size_t out, in, E = experts(e), stacked = E * e->width;
    nr_site_shape(e->model->config, s, &out, &in);
    const size_t shapes[PARAMS][2] = {{E, in}, {stacked, in}, {out, stacked}};
    for (int k = 0; k < PARAMS; k++) {
        nr_param *p = nr_extension_declare(e, shapes[k][0], shapes[k][1], false, true, "layers.%zu.%s.%s", l, nr_site_tensors[s], names[k]);
        if (!p) return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
        if (k != LORA_B) p->init_uniform = 1 / sqrt((double)in);
    }
    return NR_OK;
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    loramoe *t;
    NR_TRY(nr_alloc(&t, 1, sizeof *t, "LoRAMoE settings", err));
    e->state = t;
    NR_TRY(nr_lora_parse(e, &t->lora, err));
    t->experts = e->settings.experts;
    if (t->experts < 2) return nr_fail(err, NR_E_USAGE, "--experts: expected at least 2 for loramoe, found %zu", t->experts);
    e->width = rank_for(e, t);
    t->lora.scale = nr_lora_scale(&e->settings, e->width);
    for (size_t l = 0; l < e->model->config->L; l++)
        for (nr_site site = 0; site < NR_SITES; site++)
            if (e->layer_on[l] && t->lora.on[site]) NR_TRY(declare_site(e, l, site, err));
    return NR_OK;
}

static bool has_site(const nr_extension *e, nr_site s)
{
    return ((const loramoe *)e->state)->lora.on[s];
}

static const nr_param *params(const nr_hook *h, nr_site s)
{
    const nr_lora *t = &((const loramoe *)h->e->state)->lora;
    return &h->e->params[PARAMS * (nr_extension_rank(h->e, h->layer) * t->count + t->order[s])];
}

/* ---- the balance loss ---- */

/* What one row of one matrix weighs in the mean. */
static double share(const nr_hook *h)
{
    size_t tokens = h->batch->step_positions ? h->batch->step_positions : h->batch->step_tokens;
    double rows = (double)tokens / (double)h->batch->T;
    return 1 / (rows * (double)(h->e->layer_count * ((const loramoe *)h->e->state)->lora.count));
}

static bool wants_balance(const nr_hook *h)
{
    return h->e->grads && h->e->settings.balance > 0 && h->batch->step_tokens > 0; /* a frozen one has no losses */
}

/* Row b: its loss, and d loss / d p_i, the same for all its tokens, in slope (E). */
static double balance_of_row(const nr_hook *h, const void *p, size_t b, double *slope)
{
    size_t E = experts(h->e), T = h->batch->T;
    bool is_new = h->row_is_new[b * T];
    double z[MOST] = {0}, S[MOST], mean = 0, variance = 0, delta = h->e->settings.balance_delta;
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < E; i++) z[i] += nr_real_get(h->ops, p, (b * T + t) * E + i);
    for (size_t i = 0; i < E; i++) {
        S[i] = (i >= E / 2) == is_new ? 1 + delta : 1 - delta;
        z[i] *= S[i];
        mean += z[i] / (double)E;
    }
    for (size_t i = 0; i < E; i++) variance += (z[i] - mean) * (z[i] - mean) / (double)(E - 1);
    double below = mean * mean + 1e-10;
    for (size_t i = 0; i < E; i++)
        slope[i] = S[i] * (2 * (z[i] - mean) / ((double)(E - 1) * below) - variance * 2 * mean / ((double)E * below * below));
    return variance / below;
}

static void add_loss(nr_hook *h, const void *p)
{
    double slope[MOST], sum = 0;
    for (size_t b = 0; b < h->batch->B; b++) sum += balance_of_row(h, p, b, slope);
    sum *= share(h);
    h->losses->local[2] += sum;
    h->losses->local_weighted += h->e->settings.balance * sum;
}

static void add_slopes(nr_hook *h, void *dp, const void *p)
{
    size_t E = experts(h->e), T = h->batch->T;
    double slope[MOST], weight = h->e->settings.balance * share(h);
    for (size_t b = 0; b < h->batch->B; b++) {
        balance_of_row(h, p, b, slope);
        for (size_t i = b * T * E; i < (b + 1) * T * E; i++) nr_real_set(h->ops, dp, i, nr_real_get(h->ops, dp, i) + weight * slope[i % E]);
    }
}

/* ---- beside a matrix ---- */

static nr_status site(nr_hook *h, nr_site s, void *y, nr_slot slot, const void *x, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *w = params(h, s);
    void *t = h->saved[A_T + s], *p = h->saved[A_P + s], *u = h->scratch[A_U];
    size_t E = experts(h->e), R = h->e->width;
    NR_TRY(ops->linear(w[ROUTER].linear, p, NR_REAL, x, h->n, false, err));
    nr_router_softmax(ops, p, h->n, E);
    NR_TRY(ops->linear(w[LORA_A].linear, t, NR_ACT, x, h->n, false, err));
    ops->scale(t, ((const loramoe *)h->e->state)->lora.scale, h->n * E * R);
    nr_router_mix(ops, u, h->scratch[A_SUM], p, t, h->n, E, R);
    if (h->losses && wants_balance(h)) add_loss(h, p);
    return ops->linear(w[LORA_B].linear, y, slot, u, h->n, true, err);
}

static nr_status matrix_back(nr_hook *h, const nr_param *p, const void *dy, const void *x, nr_error *err)
{
    void *dw = nr_param_grad(h->e, p);
    return dw ? h->ops->linear_back_weight(p->linear, dw, NULL, dy, x, h->n, err) : NR_OK;
}

static nr_status site_back(nr_hook *h, nr_site s, void *dx, nr_slot slot, const void *dy, const void *x, nr_error *err)
{
    const nr_ops *ops = h->ops;
    const nr_param *w = params(h, s);
    void *t = h->saved[A_T + s], *p = h->saved[A_P + s], *u = h->scratch[A_U], *dt = h->scratch[A_DT], *sum = h->scratch[A_SUM];
    void *dp = h->scratch[A_DP], *dz = h->scratch[A_DZ];
    size_t E = experts(h->e), R = h->e->width;
    /* y += B u */
    nr_router_mix(ops, u, sum, p, t, h->n, E, R);
    NR_TRY(matrix_back(h, &w[LORA_B], dy, u, err));
    NR_TRY(ops->linear_back_input(w[LORA_B].linear, sum, NR_REAL, dy, h->n, false, err));
    /* u = p t */
    nr_router_mix_back(ops, dt, dp, sum, p, t, h->n, E, R);
    if (wants_balance(h)) add_slopes(h, dp, p);
    /* p = softmax(W_r x) */
    nr_router_softmax_back(ops, dp, p, h->n, E);
    ops->to_act(dz, dp, h->n * E);
    NR_TRY(matrix_back(h, &w[ROUTER], dz, x, err));
    NR_TRY(ops->linear_back_input(w[ROUTER].linear, dx, slot, dz, h->n, true, err));
    /* t = (s / R) A x */
    ops->scale(dt, ((const loramoe *)h->e->state)->lora.scale, h->n * E * R);
    NR_TRY(matrix_back(h, &w[LORA_A], dt, x, err));
    return ops->linear_back_input(w[LORA_A].linear, dx, slot, dt, h->n, true, err);
}

static void settle(nr_settings *s)
{
    if (s->experts == 0) s->experts = 8;
}

static void close_state(nr_extension *e)
{
    free(e->state);
}

const nr_method nr_method_loramoe = {
    .name = "loramoe",
    .summary = "LoRAMoE: low-rank experts beside chosen matrices, mixed by a router",
    .math = "y = W x + (s/R) sum_i softmax(W_r x)_i B_i A_i x, with a localized balance loss",
    .source = "arXiv 2312.09979",
    .starts_as_backbone = true,
    .learning_rate = 1e-3,
    .settle = settle,
    .declare = declare,
    .activations = activations,
    .activation_count = NR_COUNT(activations),
    .has_site = has_site,
    .site = site,
    .site_back = site_back,
    .close = close_state,
};
