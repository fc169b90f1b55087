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

#include "methods/lora.h"

enum { A_T, A_DT = A_T + NR_SITES }; /* t = (s / R) A x a site, saved; dt scratch */

static size_t rows_r(const nr_extension *e, const nr_config *c, size_t n)
{
    return (void)c, n * e->width;
}

/* Only the targets' t take memory. */
#define SITE_ROWS(word, site)                                                         \
    static size_t word##_rows(const nr_extension *e, const nr_config *c, size_t n)    \
    {                                                                                 \
        return ((const nr_lora *)e->state)->on[site] ? rows_r(e, c, n) : 0;              \
    }
SITE_ROWS(q, NR_Q)
SITE_ROWS(k, NR_K)
SITE_ROWS(v, NR_V)
SITE_ROWS(o, NR_O)
SITE_ROWS(gate, NR_GATE)
SITE_ROWS(up, NR_UP)
SITE_ROWS(down, NR_DOWN)

#define SITE_T(word, site) [A_T + site] = {.name = #word "_t", .saved = true, .slot = NR_ACT, .size = word##_rows}
static const nr_activation activations[] = {
    SITE_T(q, NR_Q), SITE_T(k, NR_K), SITE_T(v, NR_V), SITE_T(o, NR_O), SITE_T(gate, NR_GATE), SITE_T(up, NR_UP), SITE_T(down, NR_DOWN),
    [A_DT] = {.name = "dt", .slot = NR_ACT, .size = rows_r},
};

nr_status nr_lora_parse(const nr_extension *e, nr_lora *t, nr_error *err)
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

double nr_lora_scale(const nr_settings *s, size_t rank)
{
    return s->lora_scale > 0 ? s->lora_scale / (double)rank : 2;
}

size_t nr_lora_cost(const nr_extension *e, const nr_lora *t)
{
    size_t cost = 0;
    for (nr_site s = 0; s < NR_SITES; s++) {
        size_t out, in;
        nr_site_shape(e->model->config, s, &out, &in);
        if (t->on[s]) cost += out + in;
    }
    return cost;
}

static size_t rank_for(const nr_extension *e, const nr_lora *t)
{
    if (e->settings.width) return e->settings.width;
    double r = floor(nr_extension_budget(e) / (double)(e->layer_count * nr_lora_cost(e, t)));
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
    nr_lora *t;
    NR_TRY(nr_alloc(&t, 1, sizeof *t, "LoRA settings", err));
    e->state = t;
    NR_TRY(nr_lora_parse(e, t, err));
    e->width = rank_for(e, t);
    t->scale = nr_lora_scale(&e->settings, e->width);
    for (size_t l = 0; l < e->model->config->L; l++)
        for (nr_site site = 0; site < NR_SITES; site++)
            if (e->layer_on[l] && t->on[site]) NR_TRY(declare_site(e, l, site, err));
    return NR_OK;
}

static bool has_site(const nr_extension *e, nr_site s)
{
    return ((const nr_lora *)e->state)->on[s];
}

/* A of this site; B follows it. */
static const nr_param *param(const nr_hook *h, nr_site s)
{
    const nr_lora *t = h->e->state;
    return &h->e->params[2 * (nr_extension_rank(h->e, h->layer) * t->count + t->order[s])];
}

static nr_status site(nr_hook *h, nr_site s, void *y, nr_slot slot, const void *x, nr_error *err)
{
    const nr_param *a = param(h, s), *b = a + 1;
    void *t = h->saved[A_T + s];
    NR_TRY(h->ops->linear(a->linear, t, NR_ACT, x, h->n, false, err));
    h->ops->scale(t, ((const nr_lora *)h->e->state)->scale, h->n * h->e->width);
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
    h->ops->scale(dt, ((const nr_lora *)h->e->state)->scale, h->n * h->e->width);
    if (da) NR_TRY(h->ops->linear_back_weight(a->linear, da, NULL, dt, x, h->n, err));
    return h->ops->linear_back_input(a->linear, dx, slot, dt, h->n, true, err);
}

/* w += (s / R) B A */
typedef struct {
    const nr_extension *e;
    const nr_param *a, *b;
    double scale;
    float *w;
    size_t row;
} fold_job;

static inline double real_at(const void *p, bool wide, size_t i)
{
    return wide ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

enum { FOLDED = 256 }; /* columns at a time */

static void fold_row(void *context, size_t i)
{
    const fold_job *job = context;
    const void *a = nr_param_value(job->e, job->a), *b = nr_param_value(job->e, job->b);
    size_t in = job->a->shape[1], R = job->a->shape[0];
    bool wide = job->e->model->ops->real == NR_F64;
    for (size_t begin = 0; begin < in; begin += FOLDED) {
        double sum[FOLDED] = {0};
        size_t n = NR_MIN(in - begin, (size_t)FOLDED);
        for (size_t r = 0; r < R; r++) {
            double by = real_at(b, wide, (job->row + i) * R + r);
            for (size_t k = 0; k < n; k++) sum[k] += by * real_at(a, wide, r * in + begin + k);
        }
        float *w = job->w + i * in + begin;
        for (size_t k = 0; k < n; k++) w[k] = (float)((double)w[k] + job->scale * sum[k]);
    }
}

static void fold(const nr_extension *e, size_t layer, nr_site s, float *w, size_t row, size_t n)
{
    const nr_lora *t = e->state;
    if (!t->on[s]) return;
    const nr_param *a = &e->params[2 * (nr_extension_rank(e, layer) * t->count + t->order[s])];
    fold_job job = {e, a, a + 1, t->scale, w, row};
    nr_parallel(n, fold_row, &job);
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
    .starts_as_backbone = true,
    .learning_rate = 1e-3,
    .declare = declare,
    .activations = activations,
    .activation_count = NR_COUNT(activations),
    .has_site = has_site,
    .site = site,
    .site_back = site_back,
    .close = close_state,
    .stock = true,
    .fold = fold,
};
