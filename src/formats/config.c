/*
 * config.c - Hugging Face's config.json as an nr_config.
 *
 * Whatever the file asks for and nres doesn't compute is refused by name:
 * other families, activations and rotary scalings, sliding windows, partial
 * rotary, quantised weights, own model code. A key that nobody here knows is
 * let through only when its name doesn't sound like computation or its value
 * is null or false.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

typedef struct {
    const json_t *j;
    const char *where;
    nr_error *err;
} reader;

static nr_status refuse(const reader *r, const char *key, const char *expected, const json_t *found)
{
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    nr_fail(r->err, NR_E_UNSUPPORTED, "%s: \"%s\": expected %s, found %.120s", r->where, key, expected,
            text ? text : "something else");
    free(text);
    return NR_E_UNSUPPORTED;
}

/* ---- keys ---- */

/* Read below. */
static const char *const read_keys[] = {
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters",
    "tie_word_embeddings", "attention_bias", "mlp_bias", "max_position_embeddings", "bos_token_id", "eos_token_id",
    "pad_token_id", "sliding_window", "partial_rotary_factor", "layer_types",
};

/* They sound like computation, and are none for a forward pass in evaluation mode. */
static const char *const harmless_keys[] = {
    "attention_dropout", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset", "attn_pdrop",
    "embd_pdrop", "resid_pdrop", "hidden_dropout", "attention_probs_dropout_prob", "output_attentions",
    "initializer_range", "max_window_layers", "transformers.js_config", "pretraining_tp",
};

/* Off is the only value that we do. */
static const struct {
    const char *key, *expected;
    double number; /* the one number that means off; NaN: none does */
} off_keys[] = {
    {"quantization_config", "nothing (unquantised weights, or a GGUF file)", NAN},
    {"auto_map", "nothing (no model code of its own)", NAN},
    {"is_encoder_decoder", "false", NAN},
    {"add_cross_attention", "false", NAN},
    {"use_bidirectional_attention", "false", NAN},
    {"use_sliding_window", "false", NAN},
    {"attention_chunk_size", "nothing", NAN},
    {"no_rope_layers", "nothing", NAN},
    {"partial_rotary_factor", "1", 1},
};

/* Parts of names that say: this changes the result. */
static const char *const telling_parts[] = {
    "scal", "multiplier", "softcap", "norm", "window", "rope", "rotary", "expert", "moe", "router", "quant", "alibi",
    "bias", "sparse", "attn", "attention", "residual", "clip", "parallel", "lora", "mamba", "ssm", "conv",
    "layer_type", "position_embedding", "mtp", "per_layer",
};

static bool listed(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, list[i]) == 0) return true;
    return false;
}

static bool is_off(const json_t *v)
{
    return json_is_null(v) || json_is_false(v) || (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0);
}

static nr_status check_key(const reader *r, const char *key, const json_t *v)
{
    for (size_t i = 0; i < NR_COUNT(off_keys); i++) {
        if (strcmp(key, off_keys[i].key) != 0) continue;
        if (is_off(v) || (json_is_number(v) && json_number_value(v) == off_keys[i].number)) return NR_OK;
        return refuse(r, key, off_keys[i].expected, v);
    }
    if (is_off(v) || listed(key, read_keys, NR_COUNT(read_keys)) || listed(key, harmless_keys, NR_COUNT(harmless_keys)))
        return NR_OK;
    for (size_t i = 0; i < NR_COUNT(telling_parts); i++)
        if (strstr(key, telling_parts[i])) return refuse(r, key, "a key that nres knows, or null", v);
    return NR_OK;
}

static nr_status check_keys(const reader *r)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)r->j, key, v) NR_TRY(check_key(r, key, v));
    return NR_OK;
}

/* ---- fields ---- */

static nr_status get_size(const reader *r, const char *key, bool required, size_t *v)
{
    return nr_json_size(r->j, key, required, v, r->where, r->err);
}

static nr_status get_bool(const reader *r, const char *key, bool *v)
{
    return nr_json_bool(r->j, key, false, v, r->where, r->err);
}

static nr_status read_family(const reader *r, nr_config *c, const nr_family **family)
{
    const char *type = NULL;
    char known[256];
    NR_TRY(nr_json_string(r->j, "model_type", true, &type, r->where, r->err));
    *family = nr_family_by_model_type(type);
    if (!*family) {
        nr_fail(r->err, NR_E_UNSUPPORTED, "%s: \"model_type\": expected one of %s, found %.64s", r->where,
                nr_family_list(known, sizeof known, false), type);
        return NR_E_UNSUPPORTED;
    }
    snprintf(c->architecture, sizeof c->architecture, "%s", type);
    return NR_OK;
}

static nr_status read_sizes(const reader *r, nr_config *c, const nr_family *family)
{
    NR_TRY(get_size(r, "num_hidden_layers", true, &c->L));
    NR_TRY(get_size(r, "hidden_size", true, &c->C));
    NR_TRY(get_size(r, "intermediate_size", true, &c->F));
    NR_TRY(get_size(r, "num_attention_heads", true, &c->H));
    NR_TRY(get_size(r, "vocab_size", true, &c->V));
    c->K = c->H;
    NR_TRY(get_size(r, "num_key_value_heads", family->kv_heads_required, &c->K));
    c->D = 0;
    NR_TRY(get_size(r, "head_dim", false, &c->D));
    if (c->D == 0) {
        if (c->H == 0 || c->C % c->H)
            return nr_fail(r->err, NR_E_FORMAT, "%s: \"num_attention_heads\": expected a divisor of hidden_size %zu, found %zu",
                           r->where, c->C, c->H);
        c->D = c->C / c->H;
    }
    c->max_context = family->max_context;
    return get_size(r, "max_position_embeddings", false, &c->max_context);
}

static nr_status read_activation(const reader *r, nr_config *c, const nr_family *family)
{
    static const struct {
        const char *name;
        nr_act act;
    } acts[] = {{"silu", NR_ACT_SILU}, {"swish", NR_ACT_SILU}, {"gelu_pytorch_tanh", NR_ACT_GELU_TANH}};
    const char *name = NULL;
    c->act = family->act;
    NR_TRY(nr_json_string(r->j, "hidden_act", false, &name, r->where, r->err));
    if (!name) return NR_OK;
    for (size_t i = 0; i < NR_COUNT(acts); i++)
        if (strcmp(acts[i].name, name) == 0) {
            c->act = acts[i].act;
            return NR_OK;
        }
    return refuse(r, "hidden_act", "silu or gelu_pytorch_tanh", json_object_get(r->j, "hidden_act"));
}

/* A window as long as the context hides nothing. */
static nr_status read_window(const reader *r, const nr_config *c, const nr_family *family)
{
    const json_t *v = json_object_get(r->j, "sliding_window");
    size_t window = v ? 0 : family->sliding_window;
    if (json_is_false(json_object_get(r->j, "use_sliding_window")) || json_is_null(v)) return NR_OK;
    NR_TRY(get_size(r, "sliding_window", false, &window));
    if (v ? window >= c->max_context : window == 0 || window >= c->max_context) return NR_OK;
    nr_fail(r->err, NR_E_UNSUPPORTED, "%s: \"sliding_window\": expected null, found %s%zu", r->where,
            v ? "" : "nothing, which means ", window);
    return NR_E_UNSUPPORTED;
}

static nr_status read_layer_types(const reader *r)
{
    const json_t *types = json_object_get(r->j, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *t = json_array_get(types, i);
        if (!json_is_string(t) || strcmp(json_string_value(t), "full_attention") != 0)
            return refuse(r, "layer_types", "full_attention everywhere", t);
    }
    return !types || json_is_array(types) || json_is_null(types) ? NR_OK : refuse(r, "layer_types", "a list", types);
}

/* ---- rotary embedding ---- */

static nr_status rope_double(const reader *r, const json_t *o, const char *key, double *v)
{
    return nr_json_double(o, key, true, v, r->where, r->err);
}

static nr_status read_rope_kind(const reader *r, nr_config *c, const json_t *o)
{
    const char *type = NULL;
    NR_TRY(nr_json_string(o, "type", false, &type, r->where, r->err));
    NR_TRY(nr_json_string(o, "rope_type", false, &type, r->where, r->err));
    if (!type || strcmp(type, "default") == 0) return NR_OK;
    if (strcmp(type, "linear") == 0) {
        c->rope.kind = NR_ROPE_LINEAR;
        return rope_double(r, o, "factor", &c->rope.factor);
    }
    if (strcmp(type, "llama3") != 0) {
        nr_fail(r->err, NR_E_UNSUPPORTED, "%s: \"rope_type\": expected default, linear or llama3, found %.64s", r->where, type);
        return NR_E_UNSUPPORTED;
    }
    c->rope.kind = NR_ROPE_LLAMA3;
    NR_TRY(rope_double(r, o, "factor", &c->rope.factor));
    NR_TRY(rope_double(r, o, "low_freq_factor", &c->rope.low_freq_factor));
    NR_TRY(rope_double(r, o, "high_freq_factor", &c->rope.high_freq_factor));
    return nr_json_size(o, "original_max_position_embeddings", true, &c->rope.original_context, r->where, r->err);
}

static nr_status read_rope_object(const reader *r, nr_config *c, const char *key)
{
    static const char *const known[] = {"type", "rope_type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
                                        "original_max_position_embeddings", "partial_rotary_factor"};
    const json_t *o = json_object_get(r->j, key);
    const char *field;
    json_t *v;
    double theta = c->rope.theta, part = 1;
    if (!o || json_is_null(o)) return NR_OK;
    if (!json_is_object(o)) return refuse(r, key, "an object or null", o);
    json_object_foreach((json_t *)(uintptr_t)o, field, v) {
        if (!listed(field, known, NR_COUNT(known)) && !json_is_null(v)) {
            nr_fail(r->err, NR_E_UNSUPPORTED, "%s: \"%s\": expected a rotary scaling without \"%.64s\", found it", r->where, key, field);
            return NR_E_UNSUPPORTED;
        }
    }
    NR_TRY(nr_json_double(o, "partial_rotary_factor", false, &part, r->where, r->err));
    if (part != 1) return refuse(r, "partial_rotary_factor", "1", json_object_get(o, "partial_rotary_factor"));
    NR_TRY(nr_json_double(o, "rope_theta", false, &theta, r->where, r->err));
    const json_t *outer = json_object_get(r->j, "rope_theta");
    if (json_is_number(outer) && json_number_value(outer) != theta)
        return nr_fail(r->err, NR_E_FORMAT, "%s: \"rope_theta\": expected %g as in \"%s\", found %g", r->where, theta, key,
                       json_number_value(outer));
    c->rope.theta = theta;
    return read_rope_kind(r, c, o);
}

static nr_status read_rope(const reader *r, nr_config *c, const nr_family *family)
{
    const json_t *old = json_object_get(r->j, "rope_scaling"), *newer = json_object_get(r->j, "rope_parameters");
    c->rope.theta = family->rope_theta;
    c->rope.factor = 1;
    NR_TRY(nr_json_double(r->j, "rope_theta", false, &c->rope.theta, r->where, r->err));
    if (json_is_object(old) && json_is_object(newer) && !json_equal(old, newer))
        return refuse(r, "rope_scaling", "null, or what \"rope_parameters\" says", old);
    return read_rope_object(r, c, json_is_object(newer) ? "rope_parameters" : "rope_scaling");
}

/* ---- special ids ---- */

static nr_status read_id(const reader *r, const char *key, int32_t *id)
{
    const json_t *v = json_object_get(r->j, key);
    size_t n = SIZE_MAX;
    if (json_is_integer(v) && json_integer_value(v) == -1) return NR_OK; /* older files write "none" so */
    NR_TRY(get_size(r, key, false, &n));
    if (n == SIZE_MAX) return NR_OK;
    if (n > INT32_MAX) return refuse(r, key, "a token id", v);
    *id = (int32_t)n;
    return NR_OK;
}

void nr_config_add_eos(nr_config *c, int32_t id)
{
    size_t i = 0;
    if (c->eos < 0) c->eos = id;
    if (id < 0 || id == c->eos) return;
    while (i + 1 < NR_COUNT(c->more_eos) && c->more_eos[i] >= 0 && c->more_eos[i] != id) i++;
    c->more_eos[i] = id;
}

nr_status nr_config_read_ids(nr_config *c, const json_t *j, const char *where, nr_error *err)
{
    reader r = {j, where, err};
    const json_t *eos = json_object_get(j, "eos_token_id");
    int32_t id = -1;
    if (c->bos < 0) NR_TRY(read_id(&r, "bos_token_id", &c->bos));
    if (c->pad < 0) NR_TRY(read_id(&r, "pad_token_id", &c->pad));
    if (!json_is_array(eos)) {
        NR_TRY(read_id(&r, "eos_token_id", &id));
        nr_config_add_eos(c, id);
        return NR_OK;
    }
    if (json_array_size(eos) > NR_COUNT(c->more_eos)) return refuse(&r, "eos_token_id", "at most 8 ids", eos);
    for (size_t i = 0; i < json_array_size(eos); i++) {
        const json_t *v = json_array_get(eos, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return refuse(&r, "eos_token_id", "token ids", v);
        nr_config_add_eos(c, (int32_t)json_integer_value(v));
    }
    return NR_OK;
}

void nr_config_clear(nr_config *c)
{
    *c = (nr_config){.bos = -1, .eos = -1, .pad = -1, .norm_eps = 1e-6, .rope = {.factor = 1}};
    for (size_t i = 0; i < NR_COUNT(c->more_eos); i++) c->more_eos[i] = -1;
}

nr_status nr_config_from_json(nr_config *c, const json_t *j, const char *where, nr_error *err)
{
    reader r = {j, where, err};
    const nr_family *family;
    nr_config_clear(c);
    NR_TRY(read_family(&r, c, &family));
    NR_TRY(check_keys(&r));
    NR_TRY(read_sizes(&r, c, family));
    NR_TRY(nr_json_double(j, "rms_norm_eps", false, &c->norm_eps, where, err));
    NR_TRY(read_activation(&r, c, family));
    NR_TRY(read_window(&r, c, family));
    NR_TRY(read_layer_types(&r));
    NR_TRY(read_rope(&r, c, family));
    NR_TRY(get_bool(&r, "tie_word_embeddings", &c->tied));
    NR_TRY(get_bool(&r, "attention_bias", &c->attention_bias));
    NR_TRY(get_bool(&r, "mlp_bias", &c->mlp_bias));
    NR_TRY(nr_config_read_ids(c, j, where, err));
    return nr_config_check(c, where, err);
}

/* ---- ranges ---- */

static nr_status in_range(size_t v, size_t max, const char *what, const char *where, nr_error *err)
{
    if (v >= 1 && v <= max) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: %s: expected 1 to %zu, found %zu", where, what, max, v);
}

static nr_status positive(double v, const char *what, const char *where, nr_error *err)
{
    if (isfinite(v) && v > 0) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: %s: expected a number above 0, found %g", where, what, v);
}

static nr_status check_rope(const nr_config *c, const char *where, nr_error *err)
{
    NR_TRY(positive(c->rope.theta, "rotary base", where, err));
    if (c->rope.kind == NR_ROPE_DEFAULT) return NR_OK;
    NR_TRY(positive(c->rope.factor, "rotary factor", where, err));
    if (c->rope.kind == NR_ROPE_LINEAR) return NR_OK;
    NR_TRY(positive(c->rope.low_freq_factor, "low_freq_factor", where, err));
    NR_TRY(in_range(c->rope.original_context, (size_t)1 << 40, "original context", where, err));
    if (isfinite(c->rope.high_freq_factor) && c->rope.high_freq_factor > c->rope.low_freq_factor) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: high_freq_factor: expected above low_freq_factor %g, found %g", where,
                   c->rope.low_freq_factor, c->rope.high_freq_factor);
}

static nr_status check_ids(const nr_config *c, const char *where, nr_error *err)
{
    const int32_t ids[3] = {c->bos, c->eos, c->pad};
    for (size_t i = 0; i < 3 + NR_COUNT(c->more_eos); i++) {
        int32_t id = i < 3 ? ids[i] : c->more_eos[i - 3];
        if (id >= 0 && (size_t)id >= c->V)
            return nr_fail(err, NR_E_FORMAT, "%s: special token id: expected below the vocabulary's %zu, found %d", where, c->V, id);
    }
    return NR_OK;
}

/* The caps keep every product of two sizes, times 8 bytes and L, far from 2^64. */
nr_status nr_config_check(const nr_config *c, const char *where, nr_error *err)
{
    NR_TRY(in_range(c->L, 10000, "number of layers", where, err));
    NR_TRY(in_range(c->C, 1 << 20, "width", where, err));
    NR_TRY(in_range(c->F, 1 << 22, "FFN width", where, err));
    NR_TRY(in_range(c->H, 1 << 14, "number of heads", where, err));
    NR_TRY(in_range(c->K, c->H, "number of key/value heads", where, err));
    NR_TRY(in_range(c->D, 1 << 14, "head size", where, err));
    NR_TRY(in_range(c->V, 1 << 26, "vocabulary", where, err));
    NR_TRY(in_range(c->max_context, (size_t)1 << 40, "context", where, err));
    if (c->H % c->K)
        return nr_fail(err, NR_E_FORMAT, "%s: number of key/value heads: expected a divisor of %zu heads, found %zu", where, c->H, c->K);
    if (c->D % 2) return nr_fail(err, NR_E_FORMAT, "%s: head size: expected an even one, found %zu", where, c->D);
    NR_TRY(positive(c->norm_eps, "norm epsilon", where, err));
    NR_TRY(check_rope(c, where, err));
    return check_ids(c, where, err);
}
