/*
 * llama_pro.c - LLaMA-Pro: block expansion. After every (L / k)-th layer
 * stands a trained copy of it whose attention-output and FFN-down matrices
 * start at zero, so that the deeper model starts as the same function.
 *
 *   walk: layers 0 .. L/k - 1, copy 0, layers L/k .. 2 L/k - 1, copy 1, ...
 */
#include <stdlib.h>

#include "model/extension.h"

static size_t group(const nr_extension *e) /* backbone layers before a copy */
{
    return e->model->config->L / e->width;
}

static size_t depth(const nr_extension *e)
{
    return e->model->config->L + e->width;
}

static bool layer_at(const nr_extension *e, size_t d, size_t *layer)
{
    size_t g = group(e) + 1;
    bool own = d % g == g - 1;
    *layer = own ? d / g : d - d / g;
    return !own;
}

/* k: the largest divisor of L within the budget, at least 1. */
static nr_status count_for(const nr_extension *e, size_t *k, nr_error *err)
{
    const nr_config *c = e->model->config;
    double layer = ((double)nr_model_weight_count(c) - (double)(c->tied ? 1 : 2) * (double)(c->V * c->C) - (double)c->C) / (double)c->L;
    if (e->settings.width) {
        *k = e->settings.width;
        if (c->L % *k != 0)
            return nr_fail(err, NR_E_USAGE, "--width: expected a divisor of the model's %zu layers for llama-pro, found %zu", c->L, *k);
        return NR_OK;
    }
    *k = 1;
    for (size_t d = 1; d <= c->L; d++)
        if (c->L % d == 0 && (double)d * layer <= nr_extension_budget(e) * 1.0001) *k = d;
    return NR_OK;
}

static nr_status tensor(const nr_extension *e, const nr_tensor **t, nr_error *err, size_t layer, const char *rest)
{
    char name[160];
    snprintf(name, sizeof name, "model.layers.%zu.%s", layer, rest);
    *t = nr_model_file_find(e->model->file, name);
    return *t ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: tensor %s is missing", e->model->file->path, name);
}

static nr_status declare_vector(nr_extension *e, size_t block, size_t from, size_t size, const char *rest, nr_error *err)
{
    const nr_tensor *t;
    NR_TRY(tensor(e, &t, err, from, rest));
    nr_param *p = nr_extension_declare(e, 1, size, true, false, "blocks.%zu.%s", block, rest);
    if (!p) return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
    p->copy = t;
    return NR_OK;
}

static nr_status declare_matrix(nr_extension *e, size_t block, size_t from, nr_site s, nr_error *err)
{
    const nr_config *c = e->model->config;
    const nr_tensor *t;
    char rest[64];
    size_t out, in;
    bool bias = nr_site_bias(c, s), zero = s == NR_O || s == NR_DOWN;
    nr_site_shape(c, s, &out, &in);
    snprintf(rest, sizeof rest, "%s.weight", nr_site_tensors[s]);
    NR_TRY(tensor(e, &t, err, from, rest));
    nr_param *p = nr_extension_declare(e, out, in, false, true, "blocks.%zu.%s", block, rest);
    if (!p) return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
    if (!zero) p->copy = t;
    if (!bias) return NR_OK;
    p->bias = (int)e->param_count;
    snprintf(rest, sizeof rest, "%s.bias", nr_site_tensors[s]);
    NR_TRY(declare_vector(e, block, from, out, rest, err));
    if (zero) e->params[e->param_count - 1].copy = NULL;
    return NR_OK;
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    NR_TRY(count_for(e, &e->width, err));
    for (size_t block = 0; block < e->width; block++) {
        size_t from = (block + 1) * group(e) - 1;
        NR_TRY(declare_vector(e, block, from, c->C, "input_layernorm.weight", err));
        NR_TRY(declare_vector(e, block, from, c->C, "post_attention_layernorm.weight", err));
        for (nr_site s = 0; s < NR_SITES; s++) NR_TRY(declare_matrix(e, block, from, s, err));
    }
    return NR_OK;
}

static nr_status bind(nr_extension *e, nr_error *err)
{
    if (!e->own) NR_TRY(nr_alloc(&e->own, e->width, sizeof *e->own, "own layers", err));
    e->own_count = e->width;
    const nr_param *p = e->params;
    for (size_t block = 0; block < e->width; block++) {
        nr_layer *layer = &e->own[block];
        layer->norm1 = nr_param_value(e, p);
        layer->d_norm1 = nr_param_grad(e, p++);
        layer->norm2 = nr_param_value(e, p);
        layer->d_norm2 = nr_param_grad(e, p++);
        for (nr_site s = 0; s < NR_SITES; s++) {
            const nr_param *matrix = p++;
            layer->site[s] = matrix->linear;
            layer->d_site[s] = nr_param_grad(e, matrix);
            if (matrix->bias >= 0) layer->d_bias[s] = nr_param_grad(e, p++);
        }
    }
    return NR_OK;
}

const nr_method nr_method_llama_pro = {
    .name = "llama-pro",
    .summary = "block expansion: trained copies of layers between the frozen ones",
    .math = "L layers and k copies, o = down = 0 at first",
    .source = "arXiv 2401.02415",
    .starts_as_backbone = true,
    .learning_rate = 5e-4,
    .declare = declare,
    .bind = bind,
    .depth = depth,
    .layer_at = layer_at,
    .stock = true,
};
