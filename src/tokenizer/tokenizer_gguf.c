/*
 * tokenizer_gguf.c - the tokenizer in a GGUF file's metadata: model "gpt2"
 * (byte-level BPE), with the pre-tokenisers nres knows. Token types: control
 * ones are special, user-defined ones are found in any text, unused and
 * unknown ones can only be decoded.
 *
 * "default" is what converters wrote before they told pre-tokenisers apart;
 * it is taken as GPT-2's pattern.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

static const struct {
    const char *name;
    nr_split split;
    bool nfc, ignore_merges, add_bos;
} known[] = {
    {"gpt-2", NR_SPLIT_GPT2, false, false, false},
    {"default", NR_SPLIT_GPT2, false, false, false},
    {"smollm", NR_SPLIT_DIGIT_GPT2, false, false, false},
    {"llama-bpe", NR_SPLIT_LLAMA3, false, true, true},
    {"llama3", NR_SPLIT_LLAMA3, false, true, true},
    {"llama-v3", NR_SPLIT_LLAMA3, false, true, true},
    {"qwen2", NR_SPLIT_QWEN2, true, false, false},
};

typedef struct {
    nr_vocabulary v;
    const nr_gguf *g;
    const char *where;
    nr_error *err;
} reader;

static bool span_is(nr_span s, const char *text)
{
    return s.size == strlen(text) && !memcmp(s.data, text, s.size);
}

static nr_bytes bytes_of(nr_span s)
{
    return (nr_bytes){(const unsigned char *)s.data, s.size};
}

static nr_status find_array(const reader *r, const nr_gguf_value **v, const char *key, nr_gguf_kind item, bool required)
{
    *v = nr_gguf_find(r->g, key);
    if (!*v && !required) return NR_OK;
    if (!*v || (*v)->kind != NR_GGUF_ARRAY || (*v)->item != item)
        return nr_fail(r->err, NR_E_FORMAT, "%s: %s: expected a list of %s, found %s", r->where, key,
                       item == NR_GGUF_STRING ? "strings" : "whole numbers", *v ? "something else" : "nothing");
    return NR_OK;
}

static nr_status read_kind(reader *r)
{
    nr_span model, pre = {"default", 7};
    bool prefix = false;
    NR_TRY(nr_gguf_string(r->g, "tokenizer.ggml.model", true, &model, r->err));
    if (!span_is(model, "gpt2"))
        return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: tokenizer.ggml.model: expected gpt2 (byte-level BPE), found %.*s", r->where,
                       (int)NR_MIN(model.size, 60u), model.data);
    NR_TRY(nr_gguf_string(r->g, "tokenizer.ggml.pre", false, &pre, r->err));
    NR_TRY(nr_gguf_bool(r->g, "tokenizer.ggml.add_space_prefix", false, &prefix, r->err));
    if (prefix)
        return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: tokenizer.ggml.add_space_prefix: expected false, found true", r->where);
    for (size_t i = 0; i < NR_COUNT(known); i++) {
        if (!span_is(pre, known[i].name)) continue;
        r->v.nfc = known[i].nfc;
        r->v.ignore_merges = known[i].ignore_merges;
        r->v.add_bos = known[i].add_bos;
        nr_pretokenizer_add(&r->v.split, known[i].split);
        return nr_gguf_bool(r->g, "tokenizer.ggml.add_bos_token", false, &r->v.add_bos, r->err);
    }
    return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: tokenizer.ggml.pre: expected gpt-2, smollm, llama-bpe or qwen2, found %.*s",
                   r->where, (int)NR_MIN(pre.size, 60u), pre.data);
}

static nr_status read_tokens(reader *r)
{
    enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
    nr_vocabulary *v = &r->v;
    const nr_gguf_value *tokens, *types;
    NR_TRY(find_array(r, &tokens, "tokenizer.ggml.tokens", NR_GGUF_STRING, true));
    NR_TRY(find_array(r, &types, "tokenizer.ggml.token_type", NR_GGUF_I32, false));
    if (types && types->count != tokens->count)
        return nr_fail(r->err, NR_E_FORMAT, "%s: tokenizer.ggml.token_type: expected %zu entries, one a token, found %zu", r->where,
                       tokens->count, types->count);
    v->size = tokens->count;
    NR_TRY(nr_alloc(&v->texts, v->size + 1, sizeof *v->texts, "vocabulary", r->err));
    NR_TRY(nr_alloc(&v->added, v->size + 1, sizeof *v->added, "added tokens", r->err));
    for (size_t i = 0; i < v->size; i++) {
        int32_t type = NORMAL;
        if (types) memcpy(&type, types->data + 4 * i, 4);
        if (type < NORMAL || type > BYTE)
            return nr_fail(r->err, NR_E_FORMAT, "%s: tokenizer.ggml.token_type: token %zu: expected 1 to 6, found %d", r->where, i, type);
        nr_bytes text = bytes_of(tokens->strings[i]);
        if (type == CONTROL || type == USER_DEFINED)
            v->added[v->added_count++] = (nr_added){.text = text, .id = (int32_t)i, .special = type == CONTROL};
        else
            v->texts[i] = text;
    }
    return NR_OK;
}

static nr_status read_merges(reader *r)
{
    nr_vocabulary *v = &r->v;
    const nr_gguf_value *merges;
    NR_TRY(find_array(r, &merges, "tokenizer.ggml.merges", NR_GGUF_STRING, true));
    v->merge_count = merges->count;
    NR_TRY(nr_alloc(&v->merges, v->merge_count + 1, sizeof *v->merges, "merges", r->err));
    for (size_t i = 0; i < v->merge_count; i++) {
        nr_span m = merges->strings[i];
        const char *space = m.size ? memchr(m.data, ' ', m.size) : NULL, *end = m.data + m.size;
        if (!space || space == m.data || space + 1 == end || memchr(space + 1, ' ', (size_t)(end - space - 1)))
            return nr_fail(r->err, NR_E_FORMAT, "%s: tokenizer.ggml.merges: %zu: expected \"a b\", found '%.*s'", r->where, i,
                           (int)NR_MIN(m.size, 60u), m.data);
        v->merges[i][0] = (nr_bytes){(const unsigned char *)m.data, (size_t)(space - m.data)};
        v->merges[i][1] = (nr_bytes){(const unsigned char *)space + 1, (size_t)(end - space - 1)};
    }
    return NR_OK;
}

static nr_status read_special(const reader *r, const char *key, int32_t *id)
{
    size_t v = SIZE_MAX;
    NR_TRY(nr_gguf_size(r->g, key, false, &v, r->err));
    if (v == SIZE_MAX) return NR_OK;
    if (v >= r->v.size)
        return nr_fail(r->err, NR_E_FORMAT, "%s: %s: expected an id below %zu, found %zu", r->where, key, r->v.size, v);
    *id = (int32_t)v;
    return NR_OK;
}

static nr_status read_all(reader *r)
{
    NR_TRY(read_kind(r));
    NR_TRY(read_tokens(r));
    NR_TRY(read_merges(r));
    NR_TRY(read_special(r, "tokenizer.ggml.bos_token_id", &r->v.bos));
    NR_TRY(read_special(r, "tokenizer.ggml.eos_token_id", &r->v.eos));
    if (r->v.bos < 0) r->v.add_bos = false;
    return NR_OK;
}

nr_status nr_vocabulary_from_gguf(nr_vocabulary *v, const nr_gguf *g, nr_error *err)
{
    const char *where = nr_gguf_path(g);
    reader r = {.v = {.where = where, .bos = -1, .eos = -1}, .g = g, .where = where, .err = err};
    nr_status st = read_all(&r);
    *v = r.v;
    if (st != NR_OK) nr_vocabulary_free(v);
    return st;
}

void nr_vocabulary_free(nr_vocabulary *v)
{
    free(v->texts);
    free(v->merges);
    free(v->added);
    *v = (nr_vocabulary){0};
}

nr_status nr_tokenizer_from_gguf(nr_tokenizer **out, const nr_gguf *g, nr_error *err)
{
    nr_vocabulary v;
    *out = NULL;
    NR_TRY(nr_vocabulary_from_gguf(&v, g, err));
    nr_status st = nr_tokenizer_build(out, &v, err);
    nr_vocabulary_free(&v);
    return st;
}
