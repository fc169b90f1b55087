/*
 * backbone.c - nr_model: a mapped model file, its norms as reals, its matrices
 * packed for products or left in the file's quantised blocks. Immutable once
 * open, but for the packings that it yields to an extension.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/linear_int8.h"
#include "model/extension.h"

static nr_status need(const nr_tensor **t, const nr_model *m, nr_error *err, const char *name)
{
    *t = nr_model_file_find(m->file, name);
    return *t ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: tensor %s is missing", m->file->path, name);
}

static nr_status read_norm(nr_model *m, void *to, const char *name, float *row, nr_error *err)
{
    const nr_tensor *t;
    NR_TRY(need(&t, m, err, name));
    nr_tensor_read(row, t, 0, 1);
    for (size_t i = 0; i < m->config->C; i++) nr_real_set(m->ops, to, i, (double)row[i]);
    return NR_OK;
}

/* int8: a matrix whose products may be of integers. */
static nr_status pack(nr_model *m, nr_linear **out, size_t rows, size_t cols, const char *name, bool bias, bool int8, nr_error *err)
{
    char full[160];
    const nr_tensor *weight, *b = NULL;
    unsigned uses = NR_PACK_FORWARD | (m->use == NR_USE_TRAIN ? NR_PACK_BACKWARD_INPUT : 0);
    snprintf(full, sizeof full, "%s.weight", name);
    NR_TRY(need(&weight, m, err, full));
    if (bias) {
        snprintf(full, sizeof full, "%s.bias", name);
        NR_TRY(need(&b, m, err, full));
    }
    if (m->quantised && nr_linear_quant_can(m->ops, weight))
        return nr_linear_quant_new(out, m->pool, rows, cols, weight, b, uses, err);
    if (int8 && m->products != NR_PRODUCTS_COMPUTE)
        return nr_linear_int8_new(out, m->ops, rows, cols, weight, b, uses, m->products == NR_PRODUCTS_INT8, err);
    NR_TRY(m->ops->linear_new(out, m->ops, rows, cols, bias, uses, err));
    return m->ops->linear_pack_tensor(*out, weight, b, err);
}

static nr_status read_norms(nr_model *m, size_t l, float *row, nr_error *err)
{
    nr_layer *layer = &m->layers[l];
    size_t step = m->config->C * m->ops->real_size;
    char *norms = (char *)m->norms + 2 * l * step;
    char name[128];
    snprintf(name, sizeof name, "model.layers.%zu.input_layernorm.weight", l);
    NR_TRY(read_norm(m, norms, name, row, err));
    snprintf(name, sizeof name, "model.layers.%zu.post_attention_layernorm.weight", l);
    NR_TRY(read_norm(m, norms + step, name, row, err));
    layer->norm1 = norms;
    layer->norm2 = norms + step;
    return NR_OK;
}

/* Matrix i of all layers' in a row. */
static nr_status pack_site(void *context, size_t i, nr_error *err)
{
    nr_model *m = context;
    size_t l = i / NR_SITES, out, in;
    nr_site s = (nr_site)(i % NR_SITES);
    char name[128];
    nr_site_shape(m->config, s, &out, &in);
    snprintf(name, sizeof name, "model.layers.%zu.%s", l, nr_site_tensors[s]);
    return pack(m, &m->layers[l].site[s], out, in, name, nr_site_bias(m->config, s), true, err);
}

static nr_status load(nr_model *m, nr_error *err)
{
    const nr_config *c = m->config;
    float *row = NULL;
    nr_status st;
    size_t step = c->C * m->ops->real_size;
    NR_GO(nr_alloc(&m->fingerprint, 1, sizeof *m->fingerprint, "fingerprint", err));
    pthread_mutex_init(&m->fingerprint->lock, NULL);
    NR_GO(nr_linear_pool_new(&m->pool, m->ops, err));
    NR_GO(nr_alloc(&m->layers, c->L, sizeof *m->layers, "layers", err));
    NR_GO(nr_alloc(&m->norms, 2 * c->L + 1, step, "norms", err));
    NR_GO(nr_alloc(&row, c->C, sizeof *row, "a row", err));
    for (size_t l = 0; l < c->L; l++) NR_GO(read_norms(m, l, row, err));
    char *last = (char *)m->norms + 2 * c->L * step;
    NR_GO(read_norm(m, last, "model.norm.weight", row, err));
    m->final_norm = last;
    NR_GO(need(&m->embedding, m, err, "model.embed_tokens.weight"));
    if (m->use < NR_USE_FORWARD) goto done;
    NR_GO(nr_parallel_try(c->L * NR_SITES, pack_site, m, err));
    NR_GO(pack(m, &m->head, c->V, c->C, c->tied ? "model.embed_tokens" : "lm_head", false, false, err));
done:
    free(row);
    return st;
}

/* A matrix as a view of the file's tensor that expands for each product, by way of the pool. */
static nr_status yield(nr_model *m, nr_linear **w, const char *name, bool bias, nr_error *err)
{
    char full[160];
    const nr_tensor *weight, *b = NULL;
    nr_linear *view;
    snprintf(full, sizeof full, "%s.weight", name);
    NR_TRY(need(&weight, m, err, full));
    snprintf(full, sizeof full, "%s.bias", name);
    if (bias) NR_TRY(need(&b, m, err, full));
    NR_TRY(nr_linear_quant_new_on(&view, m->pool, NULL, (*w)->out, (*w)->in, weight, b, NR_PACK_FORWARD, err));
    m->ops->linear_free(*w);
    *w = view;
    return NR_OK;
}

nr_status nr_model_yield(nr_model *m, const nr_extension *e, nr_error *err)
{
    const nr_config *c = m->config;
    const char *head = c->tied ? "model.embed_tokens" : "lm_head";
    char name[128], full[160];
    for (size_t l = 0; l < c->L; l++)
        for (nr_site s = 0; s < NR_SITES; s++) {
            snprintf(name, sizeof name, "model.layers.%zu.%s", l, nr_site_tensors[s]);
            snprintf(full, sizeof full, "%s.weight", name);
            if (nr_extension_replaces(e, full)) NR_TRY(yield(m, &m->layers[l].site[s], name, nr_site_bias(c, s), err));
        }
    snprintf(full, sizeof full, "%s.weight", head);
    return nr_extension_replaces(e, full) ? yield(m, &m->head, head, false, err) : NR_OK;
}

nr_status nr_model_open_on(nr_model **out, const char *path, const nr_model_options *opt, const nr_ops *ops, nr_error *err)
{
    nr_model *m;
    *out = NULL;
    NR_TRY(nr_alloc(&m, 1, sizeof *m, "model", err));
    m->ops = ops;
    m->use = opt->use;
    m->quantised = opt->frozen == NR_FROZEN_QUANTISED || (opt->frozen == NR_FROZEN_AUTO && opt->use == NR_USE_FORWARD);
    m->products = opt->products;
    nr_threads_set(opt->threads);
    nr_status st = opt->products == NR_PRODUCTS_COMPUTE || opt->use < NR_USE_FORWARD ? NR_OK : nr_linear_int8_can(ops, err);
    if (st == NR_OK && opt->products != NR_PRODUCTS_COMPUTE && m->quantised)
        st = nr_fail(err, NR_E_USAGE, "--frozen-products int8: expected --frozen packed, found quantised");
    if (st == NR_OK) st = nr_model_file_open(&m->file, path, opt->hub_folder, err);
    if (st == NR_OK) {
        m->config = &m->file->config;
        st = load(m, err);
        if (!m->quantised) nr_model_file_forget(m->file);
    }
    if (st != NR_OK) {
        nr_model_close(m);
        return st;
    }
    *out = m;
    return NR_OK;
}

nr_status nr_model_open(nr_model **out, const char *path, const nr_model_options *opt, nr_error *err)
{
    const nr_ops *ops;
    *out = NULL;
    NR_TRY(nr_ops_cpu(&ops, opt->compute, err));
    return nr_model_open_on(out, path, opt, ops, err);
}

void nr_model_close(nr_model *m)
{
    if (!m) return;
    for (size_t l = 0; m->layers && l < m->config->L; l++)
        for (nr_site s = 0; s < NR_SITES; s++)
            if (m->layers[l].site[s]) m->ops->linear_free(m->layers[l].site[s]);
    if (m->head) m->ops->linear_free(m->head);
    nr_linear_pool_free(m->pool);
    if (m->fingerprint) pthread_mutex_destroy(&m->fingerprint->lock);
    free(m->fingerprint);
    free(m->layers);
    free(m->norms);
    nr_model_file_close(m->file);
    free(m);
}

void nr_model_get_info(const nr_model *m, nr_model_info *info)
{
    const nr_config *c = m->config;
    *info = (nr_model_info){
        .layers = c->L, .width = c->C, .ffn_width = c->F, .heads = c->H, .kv_heads = c->K, .head_size = c->D,
        .vocabulary = c->V, .context = c->max_context, .weights = nr_model_weight_count(c),
        .embedding_weights = (c->tied ? 1 : 2) * c->V * c->C, .tied = c->tied,
    };
    snprintf(info->architecture, sizeof info->architecture, "%s", c->architecture);
    snprintf(info->name, sizeof info->name, "%s", c->name);
}
