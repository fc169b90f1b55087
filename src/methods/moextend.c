/*
 * moextend.c - MoExtend on a dense backbone: the FFN is the only expert there
 * is, a copy of it becomes the new one, and the router of two has one trained
 * row (fusion.h with a single expert).
 *
 *   y = (1 - p) FFN(x) + p E(x)      (1 - p, p) = softmax([0, w . x]), so p = sigmoid(w . x)
 *
 * E starts as the FFN and w at 0: the model starts as the backbone, bit for bit.
 * An expert has the FFN's size, so the budget decides how many layers get one:
 * those that --layers names or, with "all", the last ones, at most half of them.
 * Its authors take the layers whose usage of the new expert shifts most; a short
 * run over all layers and the mean gate of each on old and new text show them.
 */
#include <string.h>

#include "methods/fusion.h"

/* With --layers all: the last layers that the budget holds. --width counts them. */
static void choose_layers(nr_extension *e, const nr_fusion *f)
{
    const nr_config *c = e->model->config;
    size_t most = (c->L + 1) / 2, count = e->settings.width;
    if (strcmp(e->settings.layers.s, "all") != 0) return;
    if (count == 0) count = NR_MIN(most, (size_t)(nr_extension_budget(e) / (double)nr_fusion_cost(c, f)));
    count = NR_MIN(NR_MAX(count, (size_t)1), c->L);
    for (size_t l = 0; l < c->L - count; l++) e->layer_on[l] = false;
    e->layer_count = count;
}

static nr_status copied(nr_extension *e, size_t number, size_t layer, nr_site s, nr_error *err)
{
    char name[160];
    if (nr_site_bias(e->model->config, s))
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: expected an FFN without biases for moextend, found mlp_bias", e->model->file->path);
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, nr_site_tensors[s]);
    e->params[number].copy = nr_model_file_find(e->model->file, name);
    return e->params[number].copy ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: tensor %s is missing", e->model->file->path, name);
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    nr_fusion *f;
    size_t first;
    NR_TRY(nr_alloc(&f, 1, sizeof *f, "settings of the fusion", err));
    e->state = f;
    *f = (nr_fusion){.experts = 1, .width = c->F, .gate = true};
    choose_layers(e, f);
    e->width = e->layer_count;
    for (size_t l = 0; l < c->L; l++) {
        if (!e->layer_on[l]) continue;
        NR_TRY(nr_fusion_declare(e, l, &first, err));
        for (int k = 0; k < 3; k++) NR_TRY(copied(e, first + (size_t)k, l, (nr_site)(NR_GATE + k), err));
    }
    return NR_OK;
}

const nr_method nr_method_moextend = {
    .name = "moextend",
    .summary = "MoExtend, dense form: a copy of the FFN as a second expert",
    .math = "y = (1-p) FFN(x) + p E(x), p = sigmoid(w.x), E = FFN at first",
    .source = "arXiv 2408.03511",
    .starts_as_backbone = true,
    .learning_rate = 5e-4,
    .declare = declare,
    NR_FUSION_HOOKS,
};
