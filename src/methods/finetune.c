/*
 * finetune.c - training of the backbone's own weights, and two ways to hold
 * them near where they began.
 *
 *   finetune   every weight that --train-weights names, layers' weights only in
 *              the layers of --layers
 *   ewc        + lambda / 2 sum_j F_j (theta_j - theta0_j)^2        (train/fisher.c)
 *   lwf        + alpha T^2 KL(softmax(z0 / T) || softmax(z / T))    (model/loss.c)
 *
 * A weight that trains is a copy of the backbone's tensor and has its name, so
 * extension.safetensors reads as (part of) a model file. A matrix trains with its
 * bias. A tied head is the embedding: both gradients add up in one tensor.
 *
 * --extra and --width mean nothing here: the number of weights is the model's.
 */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "model/extension.h"

/* ---- the backbone's weights, in the order of the walk ---- */

typedef enum { EMBEDDING, NORM1, NORM2, SITE, FINAL_NORM, HEAD } place;

typedef struct {
    place place;
    size_t layer, rows, cols; /* rows 1: a vector */
    nr_site site;
    char name[96];            /* without ".weight" */
} weight;

enum { OF_LAYER = 2 + NR_SITES };

static size_t count_weights(const nr_config *c)
{
    return 2 + c->L * OF_LAYER + !c->tied;
}

static void describe_layer(weight *w, const nr_config *c, size_t k)
{
    const char *name = k == 0 ? "input_layernorm" : "post_attention_layernorm";
    w->place = k == 0 ? NORM1 : k == 1 ? NORM2 : SITE;
    if (w->place == SITE) {
        w->site = (nr_site)(k - 2);
        name = nr_site_tensors[w->site];
        nr_site_shape(c, w->site, &w->rows, &w->cols);
    }
    snprintf(w->name, sizeof w->name, "model.layers.%zu.%s", w->layer, name);
}

static weight weight_at(const nr_config *c, size_t i)
{
    weight w = {.rows = 1, .cols = c->C};
    if (i == 0 || i == 2 + c->L * OF_LAYER) {
        w.place = i == 0 ? EMBEDDING : HEAD;
        w.rows = c->V;
        snprintf(w.name, sizeof w.name, i == 0 ? "model.embed_tokens" : "lm_head");
    } else if (i == 1 + c->L * OF_LAYER) {
        w.place = FINAL_NORM;
        snprintf(w.name, sizeof w.name, "model.norm");
    } else {
        w.layer = (i - 1) / OF_LAYER;
        describe_layer(&w, c, (i - 1) % OF_LAYER);
    }
    return w;
}

static bool of_layer(const weight *w) { return w->place >= NORM1 && w->place <= SITE; }
static bool is_head(const nr_config *c, const weight *w) { return w->place == HEAD || (w->place == EMBEDDING && c->tied); }

/* ---- which of them train ---- */

/* Pattern s (length) against a name, each without "model." and ".weight". */
static bool matches(const char *s, size_t length, const char *name)
{
    char pattern[sizeof(nr_text)];
    snprintf(pattern, sizeof pattern, "%.*s", (int)length, s);
    char *end = strstr(pattern, ".weight");
    if (end && !end[strlen(".weight")]) *end = '\0';
    const char *from = strncmp(pattern, "model.", 6) == 0 ? pattern + 6 : pattern;
    return strcmp(from, "all") == 0 || fnmatch(from, strncmp(name, "model.", 6) == 0 ? name + 6 : name, 0) == 0;
}

static bool trains(const nr_extension *e, const weight *w)
{
    if (of_layer(w) && !e->layer_on[w->layer]) return false;
    for (const char *s = e->settings.train_weights.s; *s;) {
        size_t length = strcspn(s, ",");
        if (matches(s, length, w->name)) return true;
        s += length + (s[length] == ',');
    }
    return false;
}

/* Every pattern must name something. */
static nr_status check_patterns(const nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    for (const char *s = e->settings.train_weights.s; *s;) {
        size_t length = strcspn(s, ","), i = 0, count = count_weights(c);
        for (; i < count; i++) {
            weight w = weight_at(c, i);
            if (length > 0 && matches(s, length, w.name)) break;
        }
        if (i == count)
            return nr_fail(err, NR_E_USAGE,
                           "--train-weights: expected all, or patterns of the model's weights such as layers.*.mlp.*,norm, found "
                           "\"%.*s\", which names none", (int)length, s);
        s += length + (s[length] == ',');
    }
    return NR_OK;
}

/* ---- declaring ---- */

static nr_status declare_tensor(nr_extension *e, const weight *w, bool bias, nr_error *err)
{
    const nr_config *c = e->model->config;
    const char *end = bias ? "bias" : "weight";
    bool vector = bias || w->rows == 1, linear = !vector && (w->place == SITE || is_head(c, w));
    size_t size = bias ? w->rows : w->cols;
    nr_param *p = nr_extension_declare(e, vector ? 1 : w->rows, size, vector, linear, "%s.%s", w->name, end);
    if (!p) return nr_fail(err, NR_E_MEMORY, "not enough memory for the list of weights");
    p->copy = nr_model_file_find(e->model->file, p->name);
    return p->copy ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: tensor %s is missing", e->model->file->path, p->name);
}

static nr_status declare_weight(nr_extension *e, const weight *w, nr_error *err)
{
    NR_TRY(declare_tensor(e, w, false, err));
    if (w->place != SITE || !nr_site_bias(e->model->config, w->site)) return NR_OK;
    e->params[e->param_count - 1].bias = (int)e->param_count;
    return declare_tensor(e, w, true, err);
}

static nr_status declare(nr_extension *e, nr_error *err)
{
    const nr_config *c = e->model->config;
    nr_tensor *table; /* the embedding as it trains */
    NR_TRY(check_patterns(e, err));
    NR_TRY(nr_alloc(&table, 1, sizeof *table, "the embedding's table", err));
    e->state = table;
    e->replaces = true;
    e->lowest = c->L;
    for (size_t i = 0; i < count_weights(c); i++) {
        weight w = weight_at(c, i);
        if (!trains(e, &w)) continue;
        NR_TRY(declare_weight(e, &w, err));
        if (w.place == EMBEDDING) e->lowest = 0;
        if (of_layer(&w)) e->lowest = NR_MIN(e->lowest, w.layer);
    }
    if (e->param_count == 0)
        return nr_fail(err, NR_E_USAGE, "--train-weights %s: no weight is left to train in the layers %s", e->settings.train_weights.s,
                       e->settings.layers.s);
    return NR_OK;
}

/* ---- in the place of the backbone's ---- */

static void bind_embedding(nr_extension *e, const nr_param *p)
{
    nr_tensor *table = e->state;
    *table = (nr_tensor){.name = e->params[p->number].name, .type = e->model->ops->real, .ndim = 2, .shape = {p->shape[0], p->shape[1]},
                         .data = nr_param_value(e, p), .size = p->shape[0] * p->shape[1] * e->model->ops->real_size};
    bool in_blocks = e->block_data && p->linear;
    e->ends.embedding = in_blocks ? &e->blocks[p->number] : table;
    e->ends.d_embedding = nr_param_grad(e, p);
}

/* Returns the parameter behind those of this weight. */
static const nr_param *bind_weight(nr_extension *e, const weight *w, const nr_param *p)
{
    nr_layer *layer = &e->in_place[w->layer];
    const void *value = nr_param_value(e, p);
    void *grad = nr_param_grad(e, p);
    switch (w->place) {
    case EMBEDDING: bind_embedding(e, p); break;
    case NORM1: layer->norm1 = value, layer->d_norm1 = grad; break;
    case NORM2: layer->norm2 = value, layer->d_norm2 = grad; break;
    case SITE: layer->site[w->site] = p->linear, layer->d_site[w->site] = grad; break;
    case FINAL_NORM: e->ends.final_norm = value, e->ends.d_final_norm = grad; break;
    case HEAD: break;
    }
    if (is_head(e->model->config, w)) e->ends.head = p->linear, e->ends.d_head = grad;
    if (p->bias >= 0) layer->d_bias[w->site] = nr_param_grad(e, ++p);
    return p + 1;
}

static nr_status bind(nr_extension *e, nr_error *err)
{
    const nr_model *m = e->model;
    const nr_param *p = e->params;
    if (!e->in_place) NR_TRY(nr_alloc(&e->in_place, m->config->L, sizeof *e->in_place, "layers", err));
    memcpy(e->in_place, m->layers, m->config->L * sizeof *e->in_place);
    e->ends = (nr_ends){.embedding = m->embedding, .final_norm = m->final_norm, .head = m->head};
    for (size_t i = 0; i < count_weights(m->config); i++) {
        weight w = weight_at(m->config, i);
        if (trains(e, &w)) p = bind_weight(e, &w, p);
    }
    return NR_OK;
}

static void close_state(nr_extension *e)
{
    free(e->state);
}

/* ---- the three methods ---- */

#define SHARED .declare = declare, .bind = bind, .close = close_state, .stock = true

const nr_method nr_method_finetune = {
    .name = "finetune",
    .summary = "finetuning: the backbone's own weights train",
    .math = "theta <- theta - AdamW(dL/dtheta)",
    .source = "the usual baseline",
    .starts_as_backbone = true,
    .learning_rate = 1e-4,
    SHARED,
};

const nr_method nr_method_ewc = {
    .name = "ewc",
    .summary = "elastic weight consolidation: finetuning, each weight held by what it means for old text",
    .math = "L + lambda/2 sum F (theta - theta0)^2, F = mean squared gradient on old text",
    .source = "arXiv 1612.00796",
    .learning_rate = 1e-4,
    .anchored = true,
    SHARED,
};

const nr_method nr_method_lwf = {
    .name = "lwf",
    .summary = "learning without forgetting: finetuning, held near the backbone's predictions",
    .math = "L + alpha T^2 KL(softmax(z0/T) || softmax(z/T))",
    .source = "arXiv 1606.09282",
    .learning_rate = 1e-4,
    .lwf_alpha = 1,
    SHARED,
};
