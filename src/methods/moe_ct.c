/*
 * moe_ct.c - MoE-CT: at each frozen FFN a small mixture of experts, all active,
 * fused with it (fusion.h).
 *
 *   h = (1 - g) FFN(x) + g sum_i softmax(W_r x)_i E_i(x)      g = 0.5, or sigmoid(w . x)
 *
 * Its authors published no code of the model: the fusion's formula is one of
 * this program's decisions. A constant share doesn't start as the backbone, and
 * isn't meant to.
 */
#include "methods/fusion.h"

/* m: the nearest multiple of 8 that meets the budget. */
static size_t width_for(const nr_extension *e, const nr_fusion *f)
{
    const nr_config *c = e->model->config;
    if (e->settings.width) return e->settings.width;
    nr_fusion none = *f, one = *f;
    none.width = 0;
    one.width = 1;
    double rest = (double)nr_fusion_cost(c, &none), step = (double)nr_fusion_cost(c, &one) - rest;
    double m = (nr_extension_budget(e) / (double)e->layer_count - rest) / step;
    return m < 8 ? 8 : (size_t)(m / 8 + 0.5) * 8;
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    const nr_settings *s = &e->settings;
    nr_fusion *f;
    size_t first;
    NR_TRY(nr_alloc(&f, 1, sizeof *f, "settings of the fusion", err));
    e->state = f;
    *f = (nr_fusion){.experts = s->experts, .gate = s->fusion == 1, .share = s->fusion_share};
    if (f->experts < 2) return nr_fail(err, NR_E_USAGE, "--experts: expected at least 2 for moe-ct, found %zu", f->experts);
    e->width = f->width = width_for(e, f);
    double variance = nr_extension_variance(e, s->init);
    for (size_t l = 0; l < c->L; l++) {
        if (!e->layer_on[l]) continue;
        NR_TRY(nr_fusion_declare(e, l, &first, err));
        e->params[first].init_variance = e->params[first + 1].init_variance = variance; /* w_gate, w_in */
        e->params[first + 3].init_variance = 1 / ((double)c->C * (double)c->L);         /* router: near equal shares */
    }
    return NR_OK;
}

static void settle(nr_settings *s)
{
    if (s->experts == 0) s->experts = 4;
}

const nr_method nr_method_moe_ct = {
    .name = "moe-ct",
    .summary = "MoE-CT: a small mixture of experts fused with each frozen FFN",
    .math = "h = (1-g) FFN(x) + g sum_i softmax(W_r x)_i E_i(x), g = 0.5 or sigmoid(w.x)",
    .source = "arXiv 2407.00875",
    .has_init = true,
    .learning_rate = 1e-3,
    .settle = settle,
    .declare = declare,
    NR_FUSION_HOOKS,
};
