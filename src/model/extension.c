/*
 * extension.c - nr_extension: the trained weights of one method on a backbone.
 *
 * A method declares its parameters; they lie one after another in `values`
 * (and `grads` while training), so that the optimizer, checkpoints and files
 * are loops over one list. Matrices keep packed copies for products, made
 * again by nr_extension_repack after every change of the values.
 */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "model/extension.h"

void *nr_param_value(const nr_extension *e, const nr_param *p)
{
    return (char *)e->values + p->offset * e->model->ops->real_size;
}

void *nr_param_grad(const nr_extension *e, const nr_param *p)
{
    return e->grads ? (char *)e->grads + p->offset * e->model->ops->real_size : NULL;
}

/* The number behind the word `before` in a name such as "model.layers.12.w_in". */
static bool number_in(const char *name, const char *before, size_t *number)
{
    const char *word = strstr(name, before);
    char *end;
    if (!word || (word > name && word[-1] != '.')) return false;
    word += strlen(before);
    if (!isdigit((unsigned char)*word)) return false;
    *number = strtoul(word, &end, 10);
    return *end == '.';
}

size_t nr_param_depth(const nr_extension *e, const nr_param *p)
{
    const nr_method *m = e->method;
    size_t number, depth = m->depth ? m->depth(e) : e->model->config->L;
    bool own = number_in(p->name, "blocks.", &number);
    if (!own && !number_in(p->name, "layers.", &number)) return 0;
    for (size_t d = 0; d < depth; d++) {
        size_t there = d;
        bool backbone = !m->layer_at || m->layer_at(e, d, &there);
        if (backbone != own && there == number) return d;
    }
    return 0;
}

size_t nr_extension_rank(const nr_extension *e, size_t layer)
{
    size_t rank = 0;
    for (size_t l = 0; l < layer; l++) rank += e->layer_on[l];
    return rank;
}

bool nr_extension_replaces(const nr_extension *e, const char *name)
{
    for (size_t i = 0; e->replaces && i < e->param_count; i++)
        if (strcmp(e->params[i].name, name) == 0) return true;
    return false;
}

double nr_extension_budget(const nr_extension *e)
{
    return e->settings.extra / 100 * (double)nr_model_weight_count(e->model->config);
}

double nr_extension_variance(const nr_extension *e, int init)
{
    double C = (double)e->model->config->C;
    return init == NR_INIT_HE ? 2 / C : e->settings.init_scale / (C * (double)e->model->config->L);
}

nr_param *nr_extension_declare(nr_extension *e, size_t rows, size_t cols, bool vector, bool as_linear, const char *fmt, ...)
{
    if ((e->param_count & (e->param_count - 1)) == 0) { /* grows by doubling */
        size_t cap = e->param_count ? 2 * e->param_count : 1;
        nr_param *more = realloc(e->params, cap * sizeof *more);
        if (!more) return NULL;
        e->params = more;
    }
    nr_param *p = &e->params[e->param_count];
    *p = (nr_param){.shape = {rows, cols}, .vector = vector, .decay = !vector, .as_linear = as_linear,
                    .number = e->param_count, .offset = e->weights, .bias = -1};
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->name, sizeof p->name, fmt, args);
    va_end(args);
    e->weights += rows * cols;
    e->param_count++;
    return p;
}

/* ---- which layers ---- */

static nr_status bad_layers(const nr_extension *e, nr_error *err)
{
    return nr_fail(err, NR_E_USAGE, "--layers: expected \"all\" or numbers and ranges below %zu such as 0-3,7, found \"%s\"",
                   e->model->config->L, e->settings.layers.s);
}

static nr_status parse_layers(nr_extension *e, nr_error *err)
{
    const char *s = e->settings.layers.s;
    size_t L = e->model->config->L;
    NR_TRY(nr_alloc(&e->layer_on, L, sizeof *e->layer_on, "layer switches", err));
    if (strcmp(s, "all") == 0) {
        for (size_t l = 0; l < L; l++) e->layer_on[l] = true;
        e->layer_count = L;
        return NR_OK;
    }
    for (;;) {
        char *end;
        if (!isdigit((unsigned char)*s)) return bad_layers(e, err);
        unsigned long from = strtoul(s, &end, 10), to = from;
        if (*end == '-') {
            s = end + 1;
            if (!isdigit((unsigned char)*s)) return bad_layers(e, err);
            to = strtoul(s, &end, 10);
        }
        if (to < from || to >= L) return bad_layers(e, err);
        for (size_t l = from; l <= to; l++) {
            e->layer_count += !e->layer_on[l];
            e->layer_on[l] = true;
        }
        if (!*end) return NR_OK;
        if (*end != ',') return bad_layers(e, err);
        s = end + 1;
    }
}

/* ---- values ---- */

typedef struct {
    nr_extension *e;
    const nr_param *p;
} init_job;

enum { INIT_PIECE = 1 << 14, INIT_DRAWS = 256, LARGE_MATRIX = 1 << 22 };

/* One draw in 22 is beyond 2; drawn again at an index of its own. */
static double normal_within(double v, uint64_t seed, uint64_t index, double most)
{
    for (uint64_t again = 1; fabs(v) > most && again < 16; again++) v = nr_rng_normal(seed, NR_RNG_INIT, again << 60 | index);
    return fabs(v) > most ? 0 : v;
}

static void init_piece(void *context, size_t piece)
{
    const init_job *job = context;
    const nr_param *p = job->p;
    const nr_ops *ops = job->e->model->ops;
    size_t begin = piece * INIT_PIECE, end = NR_MIN(begin + INIT_PIECE, p->shape[0] * p->shape[1]);
    void *value = nr_param_value(job->e, p);
    uint64_t seed = job->e->settings.seed;
    double scale = sqrt(p->init_variance), most = p->init_truncated ? 2 : INFINITY;
    uint64_t first = (uint64_t)p->number << 40;
    if (p->init_uniform > 0) {
        for (size_t i = begin; i < end; i++)
            nr_real_set(ops, value, i, p->init_uniform * (2 * nr_rng_uniform(seed, NR_RNG_INIT, first | i) - 1));
        return;
    }
    for (size_t i = begin, n; scale > 0 && i < end; i += n) {
        double drawn[INIT_DRAWS];
        n = NR_MIN(end - i, (size_t)INIT_DRAWS);
        nr_rng_normals(drawn, seed, NR_RNG_INIT, first | i, n);
        for (size_t k = 0; k < n; k++) nr_real_set(ops, value, i + k, scale * normal_within(drawn[k], seed, first | (i + k), most));
    }
}

static nr_status copy_tensor(nr_extension *e, const nr_param *p, nr_error *err)
{
    float *row;
    NR_TRY(nr_alloc(&row, p->shape[1], sizeof *row, "a row", err));
    for (size_t r = 0; r < p->shape[0]; r++) {
        nr_tensor_read(row, p->copy, r, 1);
        for (size_t i = 0; i < p->shape[1]; i++)
            nr_real_set(e->model->ops, nr_param_value(e, p), r * p->shape[1] + i, (double)row[i]);
    }
    free(row);
    return NR_OK;
}

static nr_status init_values(nr_extension *e, nr_error *err)
{
    for (size_t i = 0; i < e->param_count; i++) {
        init_job job = {e, &e->params[i]};
        if (job.p->copy)
            NR_TRY(copy_tensor(e, job.p, err));
        else
            nr_parallel((job.p->shape[0] * job.p->shape[1] + INIT_PIECE - 1) / INIT_PIECE, init_piece, &job);
    }
    return NR_OK;
}

static nr_status repack(nr_extension *e, size_t i, bool alone, nr_error *err)
{
    const nr_param *p = &e->params[i];
    if (!p->linear || alone != (p->shape[0] * p->shape[1] > LARGE_MATRIX)) return NR_OK;
    const void *bias = p->bias < 0 ? NULL : nr_param_value(e, &e->params[p->bias]);
    return e->model->ops->linear_pack(p->linear, nr_param_value(e, p), bias, err);
}

static nr_status repack_small(void *context, size_t i, nr_error *err) { return repack(context, i, false, err); }

/* A matrix a thread, which spreads better than the few pieces of each; large ones piece by piece. */
nr_status nr_extension_repack(nr_extension *e, nr_error *err)
{
    NR_TRY(nr_parallel_try(e->param_count, repack_small, e, err));
    for (size_t i = 0; i < e->param_count; i++) NR_TRY(repack(e, i, true, err));
    return NR_OK;
}

nr_status nr_extension_train(nr_extension *e, nr_error *err)
{
    if (e->grads) return NR_OK;
    if (e->block_data) return nr_fail(err, NR_E_USAGE, "extension: expected weights that can be trained, found Q8_0 blocks");
    NR_TRY(nr_alloc(&e->grads, e->weights, e->model->ops->real_size, "gradients of the extension", err));
    return e->method->bind ? e->method->bind(e, err) : NR_OK;
}

/* ---- life ---- */

static nr_status make_linear(void *context, size_t i, nr_error *err)
{
    const nr_extension *e = context;
    const nr_model *m = e->model;
    unsigned uses = NR_PACK_FORWARD | (m->use == NR_USE_TRAIN ? NR_PACK_BACKWARD_INPUT : 0);
    nr_param *p = &e->params[i];
    return p->as_linear ? m->ops->linear_new(&p->linear, m->ops, p->shape[0], p->shape[1], p->bias >= 0, uses, err) : NR_OK;
}

/* Everything but the values: declared, laid out, memory taken (not for
 * NR_USE_SHAPES, where only sizes are wanted; for NR_USE_WEIGHTS no packings). */
static nr_status create(nr_extension **out, const nr_model *m, const nr_settings *s, const nr_method *method, nr_error *err)
{
    nr_extension *e;
    nr_status st;
    *out = NULL;
    NR_TRY(nr_alloc(&e, 1, sizeof *e, "extension", err));
    e->model = m;
    e->settings = *s;
    e->on = true;
    e->method = method;
    if (method->settle) method->settle(&e->settings);
    NR_GO(parse_layers(e, err));
    NR_GO(method->declare(e, err));
    if (e->param_count == 0 || e->weights == 0) {
        st = nr_fail(err, NR_E_USAGE, "--extra %g: too small for %s on this model", s->extra, method->name);
        goto done;
    }
    if (m->use != NR_USE_SHAPES) NR_GO(nr_alloc(&e->values, e->weights, m->ops->real_size, "weights of the extension", err));
    if (m->use >= NR_USE_FORWARD) {
        NR_GO(nr_parallel_try(e->param_count, make_linear, e, err));
        if (method->bind) NR_GO(method->bind(e, err));
    }
done:
    if (st != NR_OK) nr_extension_close(e);
    else *out = e;
    return st;
}

nr_status nr_extension_new(nr_extension **out, const nr_model *m, const nr_settings *s, nr_error *err)
{
    const nr_method *method;
    *out = NULL;
    NR_TRY(nr_method_named(&method, s->method.s, err));
    nr_extension *e;
    NR_TRY(create(&e, m, s, method, err));
    nr_status st = NR_OK;
    if (e->values) {
        NR_GO(init_values(e, err));
        NR_GO(nr_extension_repack(e, err));
    }
    *out = e;
    return NR_OK;
done:
    nr_extension_close(e);
    return st;
}

void nr_extension_close(nr_extension *e)
{
    if (!e) return;
    if (e->method && e->method->close) e->method->close(e);
    for (size_t i = 0; i < e->param_count; i++)
        if (e->params[i].linear) e->model->ops->linear_free(e->params[i].linear);
    nr_linear_pool_free(e->pool);
    free(e->blocks);
    free(e->block_data);
    free(e->params);
    free(e->values);
    free(e->grads);
    free(e->layer_on);
    free(e->own);
    free(e->in_place);
    json_decref(e->record);
    free(e);
}

size_t nr_extension_weights(const nr_extension *e)
{
    return e->weights;
}

void nr_extension_switch(nr_extension *e, bool on)
{
    e->on = on;
}

/* ---- files ---- */

static json_t *describe(const nr_extension *e)
{
    const nr_config *c = e->model->config;
    double all = (double)nr_model_weight_count(c), embedding = (double)((c->tied ? 1 : 2) * c->V * c->C);
    json_t *layers = json_array();
    for (size_t l = 0; l < c->L; l++)
        if (e->layer_on[l]) json_array_append_new(layers, json_integer((json_int_t)l));
    return json_pack("{s:i, s:s, s:I, s:I, s:f, s:f, s:o, s:o}", "format_version", 1, "method", e->method->name,
                     "width", (json_int_t)e->width, "weights", (json_int_t)e->weights,
                     "share_of_all_weights", (double)e->weights / all,
                     "share_of_non_embedding_weights", (double)e->weights / (all - embedding),
                     "layers", layers, "settings", nr_settings_to_json(&e->settings, "method"));
}

char *nr_extension_describe(const nr_extension *e)
{
    json_t *j = describe(e);
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(j);
    return text;
}

nr_status nr_extension_write_weights(const nr_extension *e, const char *path, nr_error *err)
{
    const nr_ops *ops = e->model->ops;
    nr_tensor *tensors = NULL;
    float *narrow = NULL;
    nr_status st;
    NR_GO(nr_alloc(&tensors, e->param_count, sizeof *tensors, "tensor list", err));
    if (ops->real == NR_F64) {
        NR_GO(nr_alloc(&narrow, e->weights, sizeof *narrow, "weights as float", err));
        for (size_t i = 0; i < e->weights; i++) narrow[i] = (float)nr_real_get(ops, e->values, i);
    }
    const float *values = narrow ? narrow : e->values;
    for (size_t i = 0; i < e->param_count; i++) {
        nr_param *p = &e->params[i];
        size_t n = p->shape[0] * p->shape[1];
        tensors[i] = (nr_tensor){.name = p->name, .type = NR_F32, .ndim = p->vector ? 1 : 2,
                                 .data = (const unsigned char *)(values + p->offset), .size = n * sizeof(float)};
        tensors[i].shape[0] = p->vector ? n : p->shape[0];
        tensors[i].shape[1] = p->vector ? 0 : p->shape[1];
    }
    st = nr_safetensors_write(path, tensors, e->param_count, NULL, err);
done:
    free(narrow);
    free(tensors);
    return st;
}

nr_status nr_extension_write(const nr_extension *e, const char *folder, const json_t *record, nr_error *err)
{
    char hex[65];
    nr_status st;
    if (e->block_data) return nr_fail(err, NR_E_USAGE, "%s: expected an extension with its weights, found one in Q8_0 blocks", folder);
    NR_TRY(nr_make_folders(folder, err));
    if (e->backbone[0]) memcpy(hex, e->backbone, sizeof hex);
    else NR_TRY(nr_model_fingerprint(e->model, hex, err));
    char *weights = nr_path_join(folder, "extension.safetensors");
    char *config = nr_path_join(folder, "extension_config.json");
    json_t *j = describe(e);
    if (!weights || !config || !j) {
        st = nr_fail(err, NR_E_MEMORY, "%s: not enough memory to save", folder);
        goto done;
    }
    json_object_set_new(j, "backbone", json_pack("{s:s, s:s}", "name", e->model->config->name, "sha256", hex));
    if (record) json_object_set(j, "training", (json_t *)record);
    else if (e->record) json_object_set(j, "training", e->record);
    NR_GO(nr_extension_write_weights(e, weights, err));
    NR_GO(nr_json_save(j, config, err));
done:
    json_decref(j);
    free(weights);
    free(config);
    return st;
}

nr_status nr_extension_save(const nr_extension *e, const char *folder, nr_error *err)
{
    return nr_extension_write(e, folder, NULL, err);
}

/* Values from a file's tensors: every parameter there, of its shape, and nothing else. */
static nr_status read_weights(nr_extension *e, const char *path, nr_error *err)
{
    nr_safetensors *file;
    nr_status st = NR_OK;
    float *piece = NULL;
    NR_TRY(nr_safetensors_open(&file, path, err));
    for (size_t i = 0; i < e->param_count; i++) {
        const nr_param *p = &e->params[i];
        const nr_tensor *t = nr_safetensors_find(file, p->name);
        size_t n = p->shape[0] * p->shape[1];
        if (!t) {
            st = nr_fail(err, NR_E_FORMAT, "%s: tensor %s is missing", path, p->name);
            goto done;
        }
        if (t->size / nr_dtype_size(t->type) != n || (!p->vector && (t->ndim != 2 || t->shape[1] != p->shape[1]))) {
            st = nr_fail(err, NR_E_MISMATCH, "%s: tensor %s: expected shape (%zu, %zu), found %zu values in %u dimensions",
                         path, p->name, p->shape[0], p->shape[1], t->size / nr_dtype_size(t->type), t->ndim);
            goto done;
        }
        free(piece);
        NR_GO(nr_alloc(&piece, n, sizeof *piece, p->name, err));
        nr_dequantise(piece, t->data, t->type, n);
        for (size_t k = 0; k < n; k++) nr_real_set(e->model->ops, nr_param_value(e, p), k, (double)piece[k]);
    }
    if (file->count != e->param_count)
        st = nr_fail(err, NR_E_MISMATCH, "%s: expected %zu tensors, found %zu", path, e->param_count, file->count);
done:
    free(piece);
    nr_safetensors_close(file);
    return st;
}

nr_status nr_extension_from(nr_extension **out, const nr_model *m, const nr_settings *s, const char *weights, nr_error *err)
{
    const nr_method *method;
    nr_extension *e;
    nr_status st = NR_OK;
    *out = NULL;
    NR_TRY(nr_method_named(&method, s->method.s, err));
    NR_TRY(create(&e, m, s, method, err));
    if (e->values) {
        NR_GO(read_weights(e, weights, err));
        NR_GO(nr_extension_repack(e, err));
    }
    *out = e;
    return NR_OK;
done:
    nr_extension_close(e);
    return st;
}
