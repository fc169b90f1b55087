/*
 * model_describe.c - a model on disk as JSON for people and programs, and its
 * fingerprint.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

static size_t elements(const nr_tensor *t) { return nr_tensor_rows(t) * nr_tensor_cols(t); }

/* A text that may not be UTF-8 (a path): what isn't ASCII then comes as '?'. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    if (j) return j;
    char *copy = nr_strdup(s);
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
    j = copy ? json_string(copy) : NULL;
    free(copy);
    return j;
}

/* A tied head may be written out beside the embedding: it counts once. */
static bool counts(const nr_model_file *f, const nr_tensor *t)
{
    return !f->config.tied || strcmp(t->name, "lm_head.weight") != 0;
}

static json_t *number(size_t n) { return json_integer((json_int_t)n); }

static json_t *weights(const nr_model_file *f)
{
    size_t all = 0, embedding = (f->config.tied ? 1 : 2) * f->config.V * f->config.C;
    for (size_t i = 0; i < f->count; i++)
        if (counts(f, &f->tensors[i])) all += elements(&f->tensors[i]);
    return json_pack("{s:o, s:o, s:o}", "all", number(all), "embedding", number(embedding), "non_embedding", number(all - embedding));
}

/* {type: {tensors, weights, bytes}} */
static json_t *types(const nr_model_file *f)
{
    json_t *o = json_object();
    for (int k = 0; k < NR_DTYPE_COUNT; k++) {
        size_t tensors = 0, n = 0, bytes = 0;
        for (size_t i = 0; i < f->count; i++) {
            if ((int)f->tensors[i].type != k) continue;
            tensors++;
            n += elements(&f->tensors[i]);
            bytes += f->tensors[i].size;
        }
        if (tensors)
            json_object_set_new(o, nr_dtypes[k].name, json_pack("{s:o, s:o, s:o}", "tensors", number(tensors), "weights", number(n),
                                                                "bytes", number(bytes)));
    }
    return o;
}

static json_t *files(const nr_model_file *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->map_count; i++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "path", text(f->maps[i].path), "bytes", number(f->maps[i].size)));
    return list;
}

static json_t *rope(const nr_config *c)
{
    static const char *const names[] = {"default", "linear", "llama3"};
    json_t *o = json_pack("{s:s, s:f}", "type", c->rope.divisors ? "divisors" : names[c->rope.kind], "theta", c->rope.theta);
    if (c->rope.kind != NR_ROPE_DEFAULT) json_object_set_new(o, "factor", json_real(c->rope.factor));
    if (c->rope.kind == NR_ROPE_LLAMA3) {
        json_object_set_new(o, "low_freq_factor", json_real(c->rope.low_freq_factor));
        json_object_set_new(o, "high_freq_factor", json_real(c->rope.high_freq_factor));
        json_object_set_new(o, "original_context", number(c->rope.original_context));
    }
    return o;
}

static json_t *special_ids(const nr_config *c)
{
    json_t *eos = json_array();
    if (c->eos >= 0) json_array_append_new(eos, json_integer(c->eos));
    for (size_t i = 0; i < NR_COUNT(c->more_eos) && c->more_eos[i] >= 0; i++) json_array_append_new(eos, json_integer(c->more_eos[i]));
    return json_pack("{s:o, s:o, s:o, s:b}", "bos", c->bos < 0 ? json_null() : json_integer(c->bos), "eos", eos, "pad",
                     c->pad < 0 ? json_null() : json_integer(c->pad), "add_bos", c->add_bos);
}

static json_t *span_text(const nr_gguf *g, const char *key)
{
    nr_span s = {0};
    nr_error err;
    if (nr_gguf_string(g, key, false, &s, &err) != NR_OK || !s.data) return json_null();
    json_t *text = json_stringn(s.data, s.size);
    return text ? text : json_null(); /* not UTF-8 */
}

/* GGUF: the tokenizer inside. A folder: the files beside the weights. */
static json_t *tokenizer(const nr_model_file *f)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    if (f->is_gguf) {
        const nr_gguf_value *tokens = nr_gguf_find(f->gguf, "tokenizer.ggml.tokens");
        if (!tokens) return json_null();
        return json_pack("{s:o, s:o, s:o}", "kind", span_text(f->gguf, "tokenizer.ggml.model"), "pre",
                         span_text(f->gguf, "tokenizer.ggml.pre"), "tokens", number(tokens->count));
    }
    json_t *found = json_null();
    for (size_t i = 0; i < NR_COUNT(names) && json_is_null(found); i++) {
        char *path = nr_path_join(f->path, names[i]);
        if (path && nr_path_exists(path)) found = json_pack("{s:s}", "kind", names[i]);
        free(path);
    }
    return found;
}

static json_t *tensor_list(const nr_model_file *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->count; i++) {
        const nr_tensor *t = &f->tensors[i];
        json_t *shape = json_array();
        for (unsigned k = 0; k < t->ndim; k++) json_array_append_new(shape, number(t->shape[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o}", "name", t->name, "type", nr_dtypes[t->type].name, "shape",
                                              shape, "bytes", number(t->size)));
    }
    return list;
}

json_t *nr_model_file_describe(const nr_model_file *f, bool with_tensors)
{
    const nr_config *c = &f->config;
    json_t *j = json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:s}", "architecture", c->architecture,
                          "path", text(f->path), "format", f->is_gguf ? "gguf" : "safetensors", "layers", number(c->L), "width",
                          number(c->C), "ffn_width", number(c->F), "heads", number(c->H), "kv_heads", number(c->K), "head_size",
                          number(c->D), "vocabulary", number(c->V), "context", number(c->max_context), "files", files(f),
                          "norm_epsilon", c->norm_eps, "activation", c->act == NR_ACT_SILU ? "silu" : "gelu_pytorch_tanh");
    json_t *rest = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b}", "name", text(c->name), "weights",
                             weights(f), "types", types(f), "rope", rope(c), "special_ids", special_ids(c), "tokenizer",
                             tokenizer(f), "tied", c->tied, "attention_bias", c->attention_bias, "mlp_bias", c->mlp_bias,
                             "chat_template", c->chat_template != NULL);
    if (j && rest && with_tensors) json_object_set_new(rest, "tensors", tensor_list(f));
    if (!j || !rest || json_object_update(j, rest) != 0) {
        json_decref(j);
        j = NULL;
    }
    json_decref(rest);
    return j;
}

/* ---- fingerprint ---- */

static void add_number(nr_sha256 *h, uint64_t n)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(n >> (8 * i));
    nr_sha256_add(h, bytes, sizeof bytes);
}

nr_status nr_model_file_fingerprint(const nr_model_file *f, char hex[65], nr_error *err)
{
    nr_sha256 *h = nr_sha256_new();
    if (!h) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for its fingerprint", f->path);
    for (size_t i = 0; i < f->count; i++) {
        const nr_tensor *t = &f->tensors[i];
        if (!counts(f, t)) continue;
        nr_sha256_add(h, t->name, strlen(t->name) + 1);
        nr_sha256_add(h, nr_dtypes[t->type].name, strlen(nr_dtypes[t->type].name) + 1);
        add_number(h, t->ndim);
        for (unsigned k = 0; k < t->ndim; k++) add_number(h, t->shape[k]);
        nr_sha256_add(h, t->data, t->size);
    }
    nr_sha256_hex(h, hex);
    return hex[0] ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: its fingerprint can't be computed", f->path);
}
