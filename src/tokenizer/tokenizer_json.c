/*
 * tokenizer_json.c - tokenizer.json of the `tokenizers` package: byte-level
 * BPE. Every part that changes ids is either done exactly or refused by name.
 *
 * Taken: model BPE (unk_token, ignore_merges); normalizer NFC; pre_tokenizer
 * ByteLevel, Digits, Split with a known regular expression, or a Sequence of
 * them that ends with ByteLevel; post_processor ByteLevel, or a
 * TemplateProcessing that puts one token before the text (kept as add_bos);
 * decoder ByteLevel; added tokens with all their flags.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

typedef struct {
    nr_vocabulary v;
    const char *where;
    nr_error *err;
} reader;

static nr_status refuse(const reader *r, const char *field, const char *want, const char *found)
{
    return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: %s: expected %s, found %.100s", r->where, field, want, found);
}

static nr_bytes bytes_of(const json_t *string)
{
    return (nr_bytes){(const unsigned char *)json_string_value(string), json_string_length(string)};
}

static const char *type_of(const json_t *o)
{
    const char *type = json_string_value(json_object_get(o, "type"));
    return type ? type : "something without a type";
}

static bool is_set(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return v && !json_is_null(v);
}

/* Fields that must be absent, null, false, 0 or "". */
static nr_status refuse_set(const reader *r, const json_t *o, const char *part, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(o, keys[i]);
        if (!v || json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0)) continue;
        if (json_is_string(v) && json_string_length(v) == 0) continue;
        return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: %s%s: expected none, found one", r->where, part, keys[i]);
    }
    return NR_OK;
}

/* ---- normalizer, pre_tokenizer, post_processor, decoder ---- */

static nr_status read_normalizer(reader *r, const json_t *n)
{
    if (!n || json_is_null(n)) return NR_OK;
    const char *type = type_of(n);
    if (!strcmp(type, "NFC")) {
        r->v.nfc = true;
        return NR_OK;
    }
    if (strcmp(type, "Sequence")) return refuse(r, "normalizer", "NFC or none", type);
    size_t i;
    const json_t *part;
    json_array_foreach(json_object_get(n, "normalizers"), i, part) {
        if (strcmp(type_of(part), "NFC")) return refuse(r, "normalizer", "NFC or none", type_of(part));
        r->v.nfc = true;
    }
    return NR_OK;
}

static nr_status add_split(reader *r, nr_split s)
{
    if (nr_pretokenizer_add(&r->v.split, s)) return NR_OK;
    return nr_fail(r->err, NR_E_UNSUPPORTED, "%s: pre_tokenizer: expected at most %d splits", r->where, NR_SPLIT_STEPS);
}

static nr_status read_split(reader *r, const json_t *p)
{
    const char *regex = json_string_value(json_object_get(json_object_get(p, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    bool invert = json_is_true(json_object_get(p, "invert"));
    nr_split s;
    if (!regex) return refuse(r, "pre_tokenizer: Split", "a Regex pattern", "another one");
    if (!nr_split_from_regex(&s, regex)) return refuse(r, "pre_tokenizer: Split", "the pattern of gpt2, llama3 or qwen2", regex);
    /* The known patterns match every symbol, so to keep what matches or to cut around it is the same. */
    if (behavior && !strcmp(behavior, "Isolated")) return add_split(r, s);
    if (behavior && !strcmp(behavior, "Removed") && invert) return add_split(r, s);
    return refuse(r, "pre_tokenizer: Split: behavior", "Isolated, or Removed and inverted", behavior ? behavior : "none");
}

/* *byte_level: set when the step maps to the byte alphabet, which must come last. */
static nr_status read_step(reader *r, const json_t *p, bool *byte_level)
{
    const char *type = type_of(p);
    if (*byte_level) return refuse(r, "pre_tokenizer", "nothing after ByteLevel", type);
    if (!strcmp(type, "Digits"))
        return add_split(r, json_is_true(json_object_get(p, "individual_digits")) ? NR_SPLIT_DIGIT : NR_SPLIT_DIGITS);
    if (!strcmp(type, "Split")) return read_split(r, p);
    if (strcmp(type, "ByteLevel")) return refuse(r, "pre_tokenizer", "ByteLevel, Digits or Split", type);
    bool prefix = true, use_regex = true;
    NR_TRY(nr_json_bool(p, "add_prefix_space", false, &prefix, r->where, r->err));
    NR_TRY(nr_json_bool(p, "use_regex", false, &use_regex, r->where, r->err));
    if (prefix) return refuse(r, "pre_tokenizer: ByteLevel: add_prefix_space", "false", "true");
    *byte_level = true;
    return use_regex ? add_split(r, NR_SPLIT_GPT2) : NR_OK;
}

static nr_status read_pre_tokenizer(reader *r, const json_t *p)
{
    bool byte_level = false;
    if (!p || json_is_null(p)) return refuse(r, "pre_tokenizer", "ByteLevel", "none");
    if (strcmp(type_of(p), "Sequence")) {
        NR_TRY(read_step(r, p, &byte_level));
    } else {
        size_t i;
        const json_t *step;
        json_array_foreach(json_object_get(p, "pretokenizers"), i, step) NR_TRY(read_step(r, step, &byte_level));
    }
    return byte_level ? NR_OK : refuse(r, "pre_tokenizer", "ByteLevel", "none");
}

/* A template of one special token and then the text; without the token it is none. */
static nr_status read_template(reader *r, const json_t *p)
{
    const json_t *single = json_object_get(p, "single"), *item;
    size_t i, texts = 0;
    json_array_foreach(single, i, item) {
        const char *id = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (json_object_get(item, "Sequence")) {
            texts++;
            continue;
        }
        const json_t *ids = json_object_get(json_object_get(json_object_get(p, "special_tokens"), id ? id : ""), "ids");
        if (!id || texts || r->v.add_bos || json_array_size(ids) != 1 || !json_is_integer(json_array_get(ids, 0)))
            return refuse(r, "post_processor: TemplateProcessing", "one special token, then the text", id ? id : "another item");
        json_int_t bos = json_integer_value(json_array_get(ids, 0));
        if (bos < 0 || bos >= NR_TOKENS_MAX) return refuse(r, "post_processor: TemplateProcessing", "the id of a token", id);
        r->v.add_bos = true;
        r->v.bos = (int32_t)bos;
    }
    return texts == 1 ? NR_OK : refuse(r, "post_processor: TemplateProcessing", "one text", "another number of them");
}

static nr_status read_post_processor(reader *r, const json_t *p)
{
    if (!p || json_is_null(p)) return NR_OK;
    const char *type = type_of(p);
    if (!strcmp(type, "ByteLevel")) return NR_OK; /* moves offsets, not ids */
    if (!strcmp(type, "TemplateProcessing")) return read_template(r, p);
    if (strcmp(type, "Sequence")) return refuse(r, "post_processor", "ByteLevel or TemplateProcessing", type);
    size_t i;
    const json_t *part;
    json_array_foreach(json_object_get(p, "processors"), i, part) {
        type = type_of(part);
        if (!strcmp(type, "ByteLevel")) continue;
        if (strcmp(type, "TemplateProcessing")) return refuse(r, "post_processor", "ByteLevel or TemplateProcessing", type);
        NR_TRY(read_template(r, part));
    }
    return NR_OK;
}

static nr_status read_decoder(reader *r, const json_t *d)
{
    if (d && !strcmp(type_of(d), "Sequence")) {
        const json_t *parts = json_object_get(d, "decoders");
        d = json_array_size(parts) == 1 ? json_array_get(parts, 0) : NULL;
    }
    if (d && !strcmp(type_of(d), "ByteLevel")) return NR_OK;
    return refuse(r, "decoder", "ByteLevel", d ? type_of(d) : "another one");
}

/* ---- model and added tokens ---- */

static nr_status read_id(const reader *r, const json_t *v, const char *text, int32_t *id)
{
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (n < 0 || n >= NR_TOKENS_MAX)
        return nr_fail(r->err, NR_E_FORMAT, "%s: token '%.60s': expected an id from 0 to %d, found %s%lld", r->where, text,
                       NR_TOKENS_MAX - 1, json_is_integer(v) ? "" : "no number, ", (long long)n);
    *id = (int32_t)n;
    return NR_OK;
}

static nr_status read_vocab(reader *r, const json_t *vocab)
{
    nr_vocabulary *v = &r->v;
    const char *key;
    json_t *value;
    size_t i;
    int32_t id = 0;
    if (!json_is_object(vocab)) return nr_fail(r->err, NR_E_FORMAT, "%s: model: vocab: expected an object", r->where);
    json_object_foreach((json_t *)vocab, key, value) {
        NR_TRY(read_id(r, value, key, &id));
        v->size = NR_MAX(v->size, (size_t)id + 1);
    }
    for (i = 0; i < v->added_count; i++) v->size = NR_MAX(v->size, (size_t)v->added[i].id + 1);
    NR_TRY(nr_alloc(&v->texts, v->size + 1, sizeof *v->texts, "vocabulary", r->err));
    json_object_foreach((json_t *)vocab, key, value) {
        NR_TRY(read_id(r, value, key, &id));
        if (v->texts[id].data)
            return nr_fail(r->err, NR_E_FORMAT, "%s: model: vocab: id %d stands there twice, for '%.60s' and '%.60s'", r->where, id,
                           (const char *)v->texts[id].data, key);
        v->texts[id] = (nr_bytes){(const unsigned char *)key, strlen(key)};
    }
    return NR_OK;
}

static nr_status read_merge(const reader *r, size_t i, const json_t *m, nr_bytes pair[2])
{
    if (json_is_string(m)) {
        const char *text = json_string_value(m), *space = strchr(text, ' ');
        if (space && space > text && space[1] && !strchr(space + 1, ' ')) {
            pair[0] = (nr_bytes){(const unsigned char *)text, (size_t)(space - text)};
            pair[1] = (nr_bytes){(const unsigned char *)space + 1, strlen(space + 1)};
            return NR_OK;
        }
    } else if (json_array_size(m) == 2 && json_is_string(json_array_get(m, 0)) && json_is_string(json_array_get(m, 1))) {
        pair[0] = bytes_of(json_array_get(m, 0));
        pair[1] = bytes_of(json_array_get(m, 1));
        return NR_OK;
    }
    return nr_fail(r->err, NR_E_FORMAT, "%s: model: merges: %zu: expected \"a b\" or [\"a\", \"b\"]", r->where, i);
}

static nr_status read_model(reader *r, const json_t *model)
{
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"};
    nr_vocabulary *v = &r->v;
    const json_t *unknown = json_object_get(model, "unk_token"), *merges = json_object_get(model, "merges"), *m;
    const char *type = json_string_value(json_object_get(model, "type"));
    bool fuse = false;
    if (type ? strcmp(type, "BPE") != 0 : !merges) return refuse(r, "model", "BPE", type_of(model));
    NR_TRY(refuse_set(r, model, "model: ", off, NR_COUNT(off)));
    NR_TRY(nr_json_bool(model, "ignore_merges", false, &v->ignore_merges, r->where, r->err));
    NR_TRY(nr_json_bool(model, "fuse_unk", false, &fuse, r->where, r->err));
    if (json_is_string(unknown)) v->unknown = bytes_of(unknown);
    if (fuse && v->unknown.data) return refuse(r, "model: fuse_unk", "false", "true");
    NR_TRY(read_vocab(r, json_object_get(model, "vocab")));
    if (!json_is_array(merges)) return nr_fail(r->err, NR_E_FORMAT, "%s: model: merges: expected a list", r->where);
    v->merge_count = json_array_size(merges);
    NR_TRY(nr_alloc(&v->merges, v->merge_count + 1, sizeof *v->merges, "merges", r->err));
    size_t i;
    json_array_foreach(merges, i, m) NR_TRY(read_merge(r, i, m, v->merges[i]));
    return NR_OK;
}

static nr_status read_added(reader *r, const json_t *list)
{
    size_t i;
    const json_t *item;
    r->v.added_count = json_array_size(list);
    NR_TRY(nr_alloc(&r->v.added, r->v.added_count + 1, sizeof *r->v.added, "added tokens", r->err));
    json_array_foreach(list, i, item) {
        nr_added *a = &r->v.added[i];
        const char *text;
        NR_TRY(nr_json_string(item, "content", true, &text, r->where, r->err));
        a->text = (nr_bytes){(const unsigned char *)text, strlen(text)};
        NR_TRY(read_id(r, json_object_get(item, "id"), text, &a->id));
        a->normalized = true;
        NR_TRY(nr_json_bool(item, "special", false, &a->special, r->where, r->err));
        if (a->special) a->normalized = false;
        NR_TRY(nr_json_bool(item, "lstrip", false, &a->lstrip, r->where, r->err));
        NR_TRY(nr_json_bool(item, "rstrip", false, &a->rstrip, r->where, r->err));
        NR_TRY(nr_json_bool(item, "single_word", false, &a->single_word, r->where, r->err));
        NR_TRY(nr_json_bool(item, "normalized", false, &a->normalized, r->where, r->err));
    }
    return NR_OK;
}

static nr_status read_all(reader *r, const json_t *j)
{
    static const char *const off[] = {"truncation", "padding"};
    const json_t *added = json_object_get(j, "added_tokens");
    if (!json_is_object(json_object_get(j, "model")))
        return nr_fail(r->err, NR_E_FORMAT, "%s: expected an object with \"model\", as in tokenizer.json", r->where);
    NR_TRY(refuse_set(r, j, "", off, NR_COUNT(off)));
    if (is_set(j, "added_tokens") && !json_is_array(added))
        return nr_fail(r->err, NR_E_FORMAT, "%s: added_tokens: expected a list", r->where);
    NR_TRY(read_added(r, added));
    NR_TRY(read_model(r, json_object_get(j, "model")));
    NR_TRY(read_normalizer(r, json_object_get(j, "normalizer")));
    NR_TRY(read_pre_tokenizer(r, json_object_get(j, "pre_tokenizer")));
    NR_TRY(read_post_processor(r, json_object_get(j, "post_processor")));
    NR_TRY(read_decoder(r, json_object_get(j, "decoder")));
    if (r->v.bos >= 0 && (size_t)r->v.bos >= r->v.size) return refuse(r, "post_processor", "an id of the vocabulary", "another");
    return NR_OK;
}

nr_status nr_tokenizer_from_json(nr_tokenizer **out, const json_t *j, const char *where, nr_error *err)
{
    *out = NULL;
    reader r = {.v = {.where = where, .bos = -1, .eos = -1}, .where = where, .err = err};
    nr_status st = read_all(&r, j);
    if (st == NR_OK) st = nr_tokenizer_build(out, &r.v, err);
    nr_vocabulary_free(&r.v);
    return st;
}
