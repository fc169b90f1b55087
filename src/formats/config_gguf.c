/*
 * config_gguf.c - GGUF metadata as an nr_config.
 *
 * Every key under the architecture's own prefix is either read here, known to
 * change nothing, or zero or false; any other is refused by name.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

typedef struct {
    const nr_gguf *g;
    const nr_family *family;
    nr_error *err;
} reader;

/* Keys under the prefix that are read, or (the last ones) say nothing about the result. */
static const char *const known_keys[] = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "attention.causal", "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    "rope.scale_linear", "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout",
};

/* "llama." + key; the buffer is large enough for every key above. */
static const char *full(char buf[96], const reader *r, const char *key)
{
    snprintf(buf, 96, "%s.%s", r->family->architecture, key);
    return buf;
}

static nr_status get_size(const reader *r, const char *key, bool required, size_t *v)
{
    char name[96];
    return nr_gguf_size(r->g, full(name, r, key), required, v, r->err);
}

static nr_status get_double(const reader *r, const char *key, bool required, double *v)
{
    char name[96];
    return nr_gguf_double(r->g, full(name, r, key), required, v, r->err);
}

static bool is_span(nr_span s, const char *text) { return s.size == strlen(text) && memcmp(s.data, text, s.size) == 0; }

static nr_status unsupported(const reader *r, const char *key, const char *expected, nr_span found)
{
    nr_fail(r->err, NR_E_UNSUPPORTED, "%s: %s: expected %s, found %.*s", nr_gguf_path(r->g), key, expected,
            (int)NR_MIN(found.size, 64), found.data);
    return NR_E_UNSUPPORTED;
}

/* ---- keys ---- */

static bool is_off(const nr_gguf_value *v)
{
    int64_t n;
    float f;
    if (v->kind == NR_GGUF_BOOL) return v->data[0] == 0;
    if (v->kind == NR_GGUF_F32) {
        memcpy(&f, v->data, sizeof f);
        return f == 0;
    }
    return v->kind != NR_GGUF_ARRAY && nr_gguf_integer(v, 0, &n) && n == 0;
}

static nr_status check_keys(const reader *r)
{
    size_t prefix = strlen(r->family->architecture);
    for (size_t i = 0; i < nr_gguf_value_count(r->g); i++) {
        const nr_gguf_value *v = nr_gguf_value_at(r->g, i);
        bool known = v->key.size <= prefix || v->key.data[prefix] != '.' ||
                     memcmp(v->key.data, r->family->architecture, prefix) != 0 || is_off(v);
        for (size_t k = 0; !known && k < NR_COUNT(known_keys); k++)
            known = is_span((nr_span){v->key.data + prefix + 1, v->key.size - prefix - 1}, known_keys[k]);
        if (!known) return unsupported(r, "metadata", "keys that nres knows", v->key);
    }
    return NR_OK;
}

static nr_status read_family(reader *r, nr_config *c)
{
    nr_span a;
    size_t parts = 1;
    char known[256];
    NR_TRY(nr_gguf_string(r->g, "general.architecture", true, &a, r->err));
    r->family = nr_family_by_architecture(a);
    if (!r->family) return unsupported(r, "general.architecture", nr_family_list(known, sizeof known, true), a);
    snprintf(c->architecture, sizeof c->architecture, "%s", r->family->architecture);
    NR_TRY(nr_gguf_size(r->g, "split.count", false, &parts, r->err));
    if (parts > 1)
        return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: split.count: expected one file, found %zu parts", nr_gguf_path(r->g), parts);
    return NR_OK;
}

/* ---- shapes ---- */

static const nr_tensor *find_tensor(const nr_gguf *g, const char *name)
{
    for (size_t i = 0; i < nr_gguf_tensor_count(g); i++)
        if (strcmp(nr_gguf_tensor(g, i)->name, name) == 0) return nr_gguf_tensor(g, i);
    return NULL;
}

static nr_status same(const reader *r, const char *key, size_t expected, size_t found)
{
    if (expected == found) return NR_OK;
    return nr_fail(r->err, NR_E_FORMAT, "%s: %s.%s: expected %zu, found %zu", nr_gguf_path(r->g), r->family->architecture, key,
                   expected, found);
}

static nr_status read_vocabulary(const reader *r, nr_config *c)
{
    const nr_tensor *e = find_tensor(r->g, "token_embd.weight");
    const nr_gguf_value *tokens = nr_gguf_find(r->g, "tokenizer.ggml.tokens");
    if (!e) return nr_fail(r->err, NR_E_FORMAT, "%s: tensor token_embd.weight: expected it, found nothing", nr_gguf_path(r->g));
    c->V = nr_tensor_rows(e);
    size_t said = c->V;
    NR_TRY(get_size(r, "vocab_size", false, &said));
    NR_TRY(same(r, "vocab_size", c->V, said));
    if (tokens && tokens->count > c->V)
        return nr_fail(r->err, NR_E_FORMAT, "%s: tokenizer.ggml.tokens: expected at most the embedding's %zu rows, found %zu",
                       nr_gguf_path(r->g), c->V, tokens->count);
    return NR_OK;
}

static nr_status read_sizes(const reader *r, nr_config *c)
{
    NR_TRY(get_size(r, "block_count", true, &c->L));
    NR_TRY(get_size(r, "embedding_length", true, &c->C));
    NR_TRY(get_size(r, "feed_forward_length", true, &c->F));
    NR_TRY(get_size(r, "attention.head_count", true, &c->H));
    NR_TRY(get_size(r, "context_length", true, &c->max_context));
    NR_TRY(get_double(r, "attention.layer_norm_rms_epsilon", true, &c->norm_eps));
    c->K = c->H;
    NR_TRY(get_size(r, "attention.head_count_kv", false, &c->K));
    NR_TRY(get_size(r, "attention.key_length", false, &c->D));
    if (c->D == 0 && (c->H == 0 || c->C % c->H))
        return nr_fail(r->err, NR_E_FORMAT, "%s: %s.attention.head_count: expected a divisor of the width %zu, found %zu",
                       nr_gguf_path(r->g), r->family->architecture, c->C, c->H);
    if (c->D == 0) c->D = c->C / c->H;
    size_t value = c->D, rotary = c->D;
    NR_TRY(get_size(r, "attention.value_length", false, &value));
    NR_TRY(same(r, "attention.value_length", c->D, value));
    NR_TRY(get_size(r, "rope.dimension_count", false, &rotary));
    NR_TRY(same(r, "rope.dimension_count", c->D, rotary));
    return read_vocabulary(r, c);
}

static nr_status read_layout(const reader *r)
{
    nr_span layout = {0};
    bool causal = true;
    char name[96];
    NR_TRY(nr_gguf_bool(r->g, full(name, r, "attention.causal"), false, &causal, r->err));
    if (!causal) return unsupported(r, name, "true", (nr_span){"false", 5});
    NR_TRY(nr_gguf_string(r->g, full(name, r, "tensor_data_layout"), false, &layout, r->err));
    if (layout.data && !is_span(layout, "Meta AI original pth"))
        return unsupported(r, name, "\"Meta AI original pth\" or nothing", layout);
    return NR_OK;
}

/* ---- rotary embedding ---- */

/* rope_freqs.weight: the frequency of each pair is divided by these (D/2). */
static nr_status read_divisors(const reader *r, nr_config *c)
{
    const nr_tensor *t = find_tensor(r->g, "rope_freqs.weight");
    if (!t) return NR_OK;
    if (t->type != NR_F32 || t->ndim != 1 || t->shape[0] != c->D / 2)
        return nr_fail(r->err, NR_E_FORMAT, "%s: tensor rope_freqs.weight: expected %zu numbers in F32, found %zu in %s",
                       nr_gguf_path(r->g), c->D / 2, nr_tensor_cols(t), nr_dtypes[t->type].name);
    /* GGUF aligns data to 8 bytes at least, and a map begins on a page. */
    c->rope.divisors = (const float *)(const void *)t->data;
    for (size_t i = 0; i < c->D / 2; i++)
        if (!isfinite(c->rope.divisors[i]) || c->rope.divisors[i] <= 0)
            return nr_fail(r->err, NR_E_FORMAT, "%s: tensor rope_freqs.weight: expected numbers above 0, found %g",
                           nr_gguf_path(r->g), (double)c->rope.divisors[i]);
    return NR_OK;
}

static nr_status read_rope(const reader *r, nr_config *c)
{
    char name[96];
    nr_span type = {0};
    double factor = 0, old = 0;
    c->rope.theta = r->family->rope_theta;
    NR_TRY(get_double(r, "rope.freq_base", false, &c->rope.theta));
    NR_TRY(get_double(r, "rope.scaling.factor", false, &factor));
    NR_TRY(get_double(r, "rope.scale_linear", false, &old));
    NR_TRY(nr_gguf_string(r->g, full(name, r, "rope.scaling.type"), false, &type, r->err));
    if (type.data && !is_span(type, "none") && !is_span(type, "linear")) return unsupported(r, name, "none or linear", type);
    /* The older key needs no type beside it. */
    if (factor == 0) factor = old;
    bool linear = type.data ? is_span(type, "linear") : old != 0;
    if (linear && factor != 0 && factor != 1) {
        c->rope.kind = NR_ROPE_LINEAR;
        c->rope.factor = factor;
    }
    return read_divisors(r, c);
}

/* ---- tokenizer ---- */

static nr_status read_id(const reader *r, const char *key, int32_t *id)
{
    size_t n = SIZE_MAX;
    NR_TRY(nr_gguf_size(r->g, key, false, &n, r->err));
    if (n == SIZE_MAX || n == UINT32_MAX) return NR_OK; /* the second is how -1 comes in a u32 */
    if (n > INT32_MAX)
        return nr_fail(r->err, NR_E_FORMAT, "%s: %s: expected a token id, found %zu", nr_gguf_path(r->g), key, n);
    *id = (int32_t)n;
    return NR_OK;
}

static nr_status read_ids(const reader *r, nr_config *c)
{
    static const char *const further[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    NR_TRY(read_id(r, "tokenizer.ggml.bos_token_id", &c->bos));
    NR_TRY(read_id(r, "tokenizer.ggml.padding_token_id", &c->pad));
    for (size_t i = 0; i < NR_COUNT(further); i++) {
        int32_t id = -1;
        NR_TRY(read_id(r, further[i], &id));
        nr_config_add_eos(c, id);
    }
    return NR_OK;
}

/* Files without add_bos_token: the Llama 3 pre-tokenizers and SentencePiece begin with bos. */
static nr_status read_add_bos(const reader *r, nr_config *c)
{
    static const char *const with_bos[] = {"llama3", "llama-v3", "llama-bpe"};
    nr_span model = {0}, pre = {0};
    NR_TRY(nr_gguf_string(r->g, "tokenizer.ggml.model", false, &model, r->err));
    NR_TRY(nr_gguf_string(r->g, "tokenizer.ggml.pre", false, &pre, r->err));
    c->add_bos = model.data && is_span(model, "llama");
    for (size_t i = 0; i < NR_COUNT(with_bos) && pre.data; i++) c->add_bos = c->add_bos || is_span(pre, with_bos[i]);
    NR_TRY(nr_gguf_bool(r->g, "tokenizer.ggml.add_bos_token", false, &c->add_bos, r->err));
    c->add_bos = c->add_bos && c->bos >= 0;
    return NR_OK;
}

static nr_status read_texts(const reader *r, nr_config *c)
{
    nr_span chat = {0}, name = {0};
    NR_TRY(nr_gguf_string(r->g, "general.name", false, &name, r->err));
    snprintf(c->name, sizeof c->name, "%.*s", (int)NR_MIN(name.size, sizeof c->name), name.data ? name.data : "");
    NR_TRY(nr_gguf_string(r->g, "tokenizer.chat_template", false, &chat, r->err));
    if (!chat.data) return NR_OK;
    NR_TRY(nr_alloc(&c->chat_template, chat.size + 1, 1, "chat template", r->err));
    memcpy(c->chat_template, chat.data, chat.size);
    return NR_OK;
}

nr_status nr_config_from_gguf(nr_config *c, const nr_gguf *g, bool *interleaved, nr_error *err)
{
    reader r = {g, NULL, err};
    nr_config_clear(c);
    NR_TRY(read_family(&r, c));
    NR_TRY(check_keys(&r));
    NR_TRY(read_sizes(&r, c));
    NR_TRY(read_layout(&r));
    c->act = r.family->act;
    c->tied = !find_tensor(g, "output.weight");
    c->attention_bias = find_tensor(g, "blk.0.attn_q.bias") != NULL;
    c->mlp_bias = find_tensor(g, "blk.0.ffn_gate.bias") != NULL;
    NR_TRY(read_ids(&r, c));
    NR_TRY(read_add_bos(&r, c));
    NR_TRY(read_texts(&r, c));
    NR_TRY(read_rope(&r, c));
    *interleaved = r.family->interleaved;
    return nr_config_check(c, nr_gguf_path(g), err);
}
