/*
 * prefix.c - prefix tuning: P learned keys and values a layer that stand before
 * every row and that all its tokens see.
 *
 *   attention of query t over { (k_j, v_j): j < P, learned, unrotated } and the tokens up to t
 *
 * The tokens' positions begin at P, as PEFT has them. The learned numbers are
 * used as they are, without a network that makes them.
 */
#include "model/extension.h"

/* P: as many as the budget of 2 P K D weights a layer holds, and at most a quarter of the model's context. */
static size_t positions_for(const nr_extension *e)
{
    const nr_config *c = e->model->config;
    if (e->settings.width) return e->settings.width;
    double p = nr_extension_budget(e) / (double)(e->layer_count * 2 * c->K * c->D) + 0.5, most = (double)(c->max_context / 4);
    p = NR_MIN(p, most);
    return p < 1 ? 1 : (size_t)p;
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    e->width = positions_for(e);
    for (size_t l = 0; l < c->L; l++)
        for (int v = 0; e->layer_on[l] && v < 2; v++) {
            nr_param *p = nr_extension_declare(e, e->width, c->K * c->D, false, false, "layers.%zu.prefix_%s", l, v ? "v" : "k");
            if (!p) return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
            p->init_variance = e->settings.init_scale;
        }
    return NR_OK;
}

static size_t prefix(const nr_extension *e)
{
    return e->width;
}

static void prefix_of(const nr_hook *h, const void **k, const void **v, void **dk, void **dv)
{
    const nr_param *p = &h->e->params[2 * nr_extension_rank(h->e, h->layer)];
    *k = nr_param_value(h->e, &p[0]);
    *v = nr_param_value(h->e, &p[1]);
    *dk = nr_param_grad(h->e, &p[0]);
    *dv = nr_param_grad(h->e, &p[1]);
}

const nr_method nr_method_prefix = {
    .name = "prefix",
    .summary = "prefix tuning: learned keys and values before every row",
    .math = "attention over P learned (k, v) and the tokens, whose positions begin at P",
    .source = "arXiv 2101.00190",
    .learning_rate = 1e-2,
    .declare = declare,
    .prefix = prefix,
    .prefix_of = prefix_of,
};
