/* test_config_gguf.c - GGUF metadata as a config: what is read, and what is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/formats_internal.h"

/* One key of a file: kind 'u' a whole number, 'f' a float, 'b' a bool, 's' a string, 't' a list of n strings. */
typedef struct {
    const char *key;
    char kind;
    double number;
    const char *text;
} entry;

static const entry base[] = {
    {"general.architecture", 's', 0, "llama"}, {"llama.block_count", 'u', 2, NULL}, {"llama.context_length", 'u', 64, NULL},
    {"llama.embedding_length", 'u', 16, NULL}, {"llama.feed_forward_length", 'u', 24, NULL},
    {"llama.attention.head_count", 'u', 4, NULL}, {"llama.attention.layer_norm_rms_epsilon", 'f', 1e-5, NULL},
};

static void u32(nr_buffer *b, uint32_t v) { nr_buffer_add(b, &v, sizeof v); }
static void u64(nr_buffer *b, uint64_t v) { nr_buffer_add(b, &v, sizeof v); }
static void text(nr_buffer *b, const char *s)
{
    u64(b, strlen(s));
    nr_buffer_add(b, s, strlen(s));
}

static void put(nr_buffer *b, const entry *e)
{
    float f = (float)e->number;
    text(b, e->key);
    switch (e->kind) {
    case 'u': u32(b, NR_GGUF_U32), u32(b, (uint32_t)e->number); break;
    case 'f': u32(b, NR_GGUF_F32), nr_buffer_add(b, &f, sizeof f); break;
    case 'b': u32(b, NR_GGUF_BOOL), nr_buffer_add(b, e->number != 0 ? "\1" : "\0", 1); break;
    case 's': u32(b, NR_GGUF_STRING), text(b, e->text); break;
    default:
        u32(b, NR_GGUF_ARRAY), u32(b, NR_GGUF_STRING), u64(b, (uint64_t)e->number);
        for (int i = 0; i < (int)e->number; i++) text(b, "t");
    }
}

/* The base with `more` over it (an entry of kind '-' removes a key), and an embedding of 5 x 16. */
static nr_status read_with(nr_config *c, const entry *more, size_t count, nr_error *err)
{
    nr_buffer b = {0}, keys = {0};
    nr_gguf *g;
    char path[] = "bytes";
    size_t n = 0;
    bool interleaved = false;
    for (size_t i = 0; i < NR_COUNT(base); i++) {
        bool over = false;
        for (size_t k = 0; k < count; k++) over = over || strcmp(more[k].key, base[i].key) == 0;
        if (!over) put(&keys, &base[i]), n++;
    }
    for (size_t k = 0; k < count; k++)
        if (more[k].kind != '-') put(&keys, &more[k]), n++;
    nr_buffer_add(&b, "GGUF", 4), u32(&b, 3), u64(&b, 1), u64(&b, n), nr_buffer_add(&b, keys.data, keys.size);
    text(&b, "token_embd.weight"), u32(&b, 2), u64(&b, 16), u64(&b, 5), u32(&b, 0), u64(&b, 0);
    while (b.size % 32) nr_buffer_add(&b, "", 1);
    for (size_t i = 0; i < 5 * 16; i++) u32(&b, 0);
    nr_map m = {(unsigned char *)b.data, b.size, path, 0};
    if (nr_gguf_open(&g, &m, err) != NR_OK) fail_msg("%s", err->message);
    nr_status st = nr_config_from_gguf(c, g, &interleaved, err);
    assert_true(st != NR_OK || interleaved);
    nr_gguf_close(g);
    nr_buffer_free(&b);
    nr_buffer_free(&keys);
    return st;
}

static nr_config good(const entry *more, size_t count)
{
    nr_config c;
    nr_error err = {0};
    if (read_with(&c, more, count, &err) != NR_OK) fail_msg("%s", err.message);
    return c;
}

static void reads_a_llama(void **state)
{
    (void)state;
    nr_config c = good(NULL, 0);
    assert_true(c.L == 2 && c.C == 16 && c.F == 24 && c.H == 4 && c.K == 4 && c.D == 4 && c.V == 5 && c.max_context == 64);
    assert_true(c.tied && !c.attention_bias && !c.mlp_bias && c.act == NR_ACT_SILU && c.norm_eps == (double)1e-5f);
    assert_true(c.rope.theta == 10000 && c.rope.kind == NR_ROPE_DEFAULT && !c.rope.divisors);
    assert_true(c.bos == -1 && c.eos == -1 && c.pad == -1 && c.more_eos[0] == -1 && !c.add_bos && !c.chat_template);
}

static void reads_more(void **state)
{
    (void)state;
    static const entry shape[] = {{"llama.attention.head_count_kv", 'u', 2, NULL}, {"llama.attention.key_length", 'u', 8, NULL},
        {"llama.attention.value_length", 'u', 8, NULL}, {"llama.rope.dimension_count", 'u', 8, NULL}, {"llama.rope.freq_base", 'f', 5e5, NULL},
        {"llama.vocab_size", 'u', 5, NULL}, {"llama.expert_count", 'u', 0, NULL}, {"llama.tensor_data_layout", 's', 0, "Meta AI original pth"},
        {"general.name", 's', 0, "a name"}, {"general.anything", 's', 0, "else"}};
    nr_config c = good(shape, NR_COUNT(shape));
    assert_true(c.K == 2 && c.D == 8 && c.rope.theta == 5e5);
    assert_string_equal(c.name, "a name");
    static const entry linear[] = {{"llama.rope.scaling.type", 's', 0, "linear"}, {"llama.rope.scaling.factor", 'f', 4, NULL}};
    c = good(linear, 2);
    assert_true(c.rope.kind == NR_ROPE_LINEAR && c.rope.factor == 4);
    static const entry old[] = {{"llama.rope.scale_linear", 'f', 2, NULL}};
    c = good(old, 1);
    assert_true(c.rope.kind == NR_ROPE_LINEAR && c.rope.factor == 2);
    static const entry none[] = {{"llama.rope.scaling.type", 's', 0, "none"}, {"llama.rope.scaling.factor", 'f', 4, NULL}};
    assert_true(good(none, 2).rope.kind == NR_ROPE_DEFAULT);
    static const entry ids[] = {{"tokenizer.ggml.bos_token_id", 'u', 1, NULL}, {"tokenizer.ggml.eos_token_id", 'u', 2, NULL},
        {"tokenizer.ggml.eot_token_id", 'u', 3, NULL}, {"tokenizer.ggml.eom_token_id", 'u', 2, NULL}, {"tokenizer.ggml.padding_token_id", 'u', 4294967295.0, NULL},
        {"tokenizer.ggml.pre", 's', 0, "llama-bpe"}, {"tokenizer.ggml.tokens", 't', 5, NULL}, {"tokenizer.chat_template", 's', 0, "chat"}};
    c = good(ids, NR_COUNT(ids));
    assert_true(c.bos == 1 && c.eos == 2 && c.more_eos[0] == 3 && c.more_eos[1] == -1 && c.pad == -1);
    assert_true(c.add_bos); /* as the Llama 3 pre-tokenizer has it */
    assert_string_equal(c.chat_template, "chat");
    free(c.chat_template);
    static const entry without[] = {{"tokenizer.ggml.bos_token_id", 'u', 1, NULL}, {"tokenizer.ggml.pre", 's', 0, "llama-bpe"}, {"tokenizer.ggml.add_bos_token", 'b', 0, NULL}};
    assert_false(good(without, 3).add_bos);
}

static void refuses_by_name(void **state)
{
    (void)state;
    static const struct {
        entry e;
        nr_status status;
        const char *says;
    } cases[] = {
        {{"general.architecture", 's', 0, "gemma3"}, NR_E_UNSUPPORTED, "general.architecture: expected llama, found gemma3"},
        {{"general.architecture", '-', 0, NULL}, NR_E_FORMAT, "general.architecture: expected a string, found nothing"},
        {{"llama.block_count", '-', 0, NULL}, NR_E_FORMAT, "llama.block_count: expected a whole number, 0 or more, found nothing"},
        {{"llama.block_count", 'u', 0, NULL}, NR_E_FORMAT, "number of layers: expected 1 to 10000, found 0"},
        {{"llama.feed_forward_length", 't', 2, NULL}, NR_E_FORMAT, "llama.feed_forward_length: expected a whole number, 0 or more, found array"},
        {{"llama.attention.head_count", 'u', 0, NULL}, NR_E_FORMAT, "llama.attention.head_count: expected a divisor of the width 16, found 0"},
        {{"llama.attention.head_count", 'u', 3, NULL}, NR_E_FORMAT, "expected a divisor of the width 16, found 3"},
        {{"llama.attention.value_length", 'u', 8, NULL}, NR_E_FORMAT, "llama.attention.value_length: expected 4, found 8"},
        {{"llama.rope.dimension_count", 'u', 2, NULL}, NR_E_FORMAT, "llama.rope.dimension_count: expected 4, found 2"},
        {{"llama.vocab_size", 'u', 6, NULL}, NR_E_FORMAT, "llama.vocab_size: expected 5, found 6"},
        {{"tokenizer.ggml.tokens", 't', 6, NULL}, NR_E_FORMAT, "tokenizer.ggml.tokens: expected at most the embedding's 5 rows, found 6"},
        {{"llama.rope.scaling.type", 's', 0, "yarn"}, NR_E_UNSUPPORTED, "llama.rope.scaling.type: expected none or linear, found yarn"},
        {{"llama.expert_count", 'u', 8, NULL}, NR_E_UNSUPPORTED, "metadata: expected keys that nres knows, found llama.expert_count"},
        {{"llama.attention.sliding_window", 'u', 4096, NULL}, NR_E_UNSUPPORTED, "found llama.attention.sliding_window"},
        {{"llama.residual_scale", 'f', 0.2, NULL}, NR_E_UNSUPPORTED, "found llama.residual_scale"},
        {{"llama.attention.causal", 'b', 0, NULL}, NR_E_UNSUPPORTED, "llama.attention.causal: expected true, found false"},
        {{"llama.tensor_data_layout", 's', 0, "reference"}, NR_E_UNSUPPORTED, "llama.tensor_data_layout: expected \"Meta AI original pth\" or nothing, found reference"},
        {{"split.count", 'u', 2, NULL}, NR_E_UNSUPPORTED, "split.count: expected one file, found 2 parts"},
        {{"tokenizer.ggml.eos_token_id", 'u', 5, NULL}, NR_E_FORMAT, "special token id: expected below the vocabulary's 5, found 5"},
        {{"llama.attention.layer_norm_rms_epsilon", 'f', 0, NULL}, NR_E_FORMAT, "norm epsilon: expected a number above 0, found 0"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_config c;
        nr_error err = {0};
        nr_status st = read_with(&c, &cases[i].e, 1, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].says) || strncmp(err.message, "bytes: ", 7) != 0)
            fail_msg("%s: expected %d and \"%s\", found %d and \"%s\"", cases[i].e.key, cases[i].status, cases[i].says, st, err.message);
        free(c.chat_template);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_llama), cmocka_unit_test(reads_more), cmocka_unit_test(refuses_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
