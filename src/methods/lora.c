/*
 * lora.c - LoRA: beside chosen matrices a product of two thin ones.
 *
 *   y = W x + (s / R) B A x      A: (R, in) kaiming-uniform   B: (out, R) zero
 *
 * Names are PEFT's, so that the tensors mean the same there.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/extension.h"

enum { A_T, A_DT = A_T + NR_SITES }; /* t = (s / R) A x a site, saved; dt scratch */

static size_t rows_r(const nr_extension *e, const nr_config *c, size_t n)
{
    return (void)c, n * e->width;
}

static const nr_activation activations[] = {
    {"q_t", true, NR_ACT, false, rows_r},  {"k_t", true, NR_ACT, false, rows_r},    {"v_t", true, NR_ACT, false, rows_r},
    {"o_t", true, NR_ACT, false, rows_r},  {"gate_t", true, NR_ACT, false, rows_r}, {"up_t", true, NR_ACT, false, rows_r},
    {"down_t", true, NR_ACT, false, rows_r}, {"dt", false, NR_ACT, false, rows_r},
};

typedef struct {
    bool on[NR_SITES];
    size_t order[NR_SITES], count; /* place of a site among the targets */
    double scale;                  /* s / R */
} lora;

static nr_status parse_targets(nr_extension *e, lora *t, nr_error *err)
{
    const char *s = e->settings.lora_targets.s;
    while (*s) {
        size_t length = strcspn(s, ",");
        nr_site site = 0;
        while (site < NR_SITES && (strlen(nr_site_names[site]) != length || strncmp(s, nr_site_names[site], length) != 0)) site++;
        if (site == NR_SITES)
            return nr_fail(err, NR_E_USAGE, "--lora-targets: expected some of q,k,v,o,gate,up,down, found \"%.*s\"", (int)length, s);
        t->on[site] = true;
        s += length + (s[length] == ',');
    }
    for (nr_site site = 0; site < NR_SITES; site++)
        if (t->on[site]) t->order[site] = t->count++;
    return t->count ? NR_OK : nr_fail(err, NR_E_USAGE, "--lora-targets: expected some of q,k,v,o,gate,up,down, found none");
}

static size_t rank_for(const nr_extension *e, const lora *t)
{
    size_t cost = 0; /* weights of a layer at R = 1 */
    if (e->settings.width) return e->settings.width;
    for (nr_site s = 0; s < NR_SITES; s++) {
        size_t out, in;
        nr_site_shape(e->model->config, s, &out, &in);
        if (t->on[s]) cost += out + in;
    }
    double r = floor(nr_extension_budget(e) / (double)(e->layer_count * cost));
    return r < 1 ? 1 : (size_t)r;
}

static nr_status declare_site(nr_extension *e, size_t l, nr_site s, nr_error *err)
{
    size_t out, in;
    nr_site_shape(e->model->config, s, &out, &in);
    const char *name = nr_site_tensors[s];
    nr_param *a = nr_extension_declare(e, e->width, in, false, true, "base_model.model.model.layers.%zu.%s.lora_A.weight", l, name);
    if (a) a->init_uniform = 1 / sqrt((double)in);
    if (!a || !nr_extension_declare(e, out, e->width, false, true, "base_model.model.model.layers.%zu.%s.lora_B.weight", l, name))
        return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
    return NR_OK;
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    lora *t;
    NR_TRY(nr_alloc(&t, 1, sizeof *t, "LoRA settings", err));
    e->state = t;
    NR_TRY(parse_targets(e, t, err));
    e->width = rank_for(e, t);
    double s = e->settings.lora_scale > 0 ? e->settings.lora_scale : 2 * (double)e->width;
    t->scale = s / (double)e->width;
    for (size_t l = 0; l < e->model->config->L; l++)
        for (nr_site site = 0; site < NR_SITES; site++)
            if (e->layer_on[l] && t->on[site]) NR_TRY(declare_site(e, l, site, err));
    return NR_OK;
}

static bool has_site(const nr_extension *e, nr_site s)
{
    return ((const lora *)e->state)->on[s];
}

/* A of this site; B follows it. */
static const nr_param *param(const nr_hook *h, nr_site s)
{
    const lora *t = h->e->state;
    return &h->e->params[2 * (nr_extension_rank(h->e, h->layer) * t->count + t->order[s])];
}

static nr_status site(nr_hook *h, nr_site s, void *y, nr_slot slot, const void *x, nr_error *err)
{
    const nr_param *a = param(h, s), *b = a + 1;
    void *t = h->saved[A_T + s];
    NR_TRY(h->ops->linear(a->linear, t, NR_ACT, x, h->n, false, err));
    h->ops->scale(t, ((const lora *)h->e->state)->scale, h->n * h->e->width);
    return h->ops->linear(b->linear, y, slot, t, h->n, true, err);
}

static nr_status site_back(nr_hook *h, nr_site s, void *dx, nr_slot slot, const void *dy, const void *x, nr_error *err)
{
    const nr_param *a = param(h, s), *b = a + 1;
    void *t = h->saved[A_T + s], *dt = h->scratch[A_DT], *da = nr_param_grad(h->e, a), *db = nr_param_grad(h->e, b);
    /* y += B t */
    if (db) NR_TRY(h->ops->linear_back_weight(b->linear, db, NULL, dy, t, h->n, err));
    NR_TRY(h->ops->linear_back_input(b->linear, dt, NR_ACT, dy, h->n, false, err));
    /* t = (s / R) A x */
    h->ops->scale(dt, ((const lora *)h->e->state)->scale, h->n * h->e->width);
    if (da) NR_TRY(h->ops->linear_back_weight(a->linear, da, NULL, dt, x, h->n, err));
    return h->ops->linear_back_input(a->linear, dx, slot, dt, h->n, true, err);
}

static void close_state(nr_extension *e)
{
    free(e->state);
}

const nr_method nr_method_lora = {
    .name = "lora",
    .summary = "LoRA: low-rank products beside chosen matrices",
    .math = "y = W x + (s/R) B A x",
    .source = "arXiv 2106.09685",
    .learning_rate = 1e-3,
    .declare = declare,
    .activations = activations,
    .activation_count = NR_COUNT(activations),
    .has_site = has_site,
    .site = site,
    .site_back = site_back,
    .close = close_state,
};
