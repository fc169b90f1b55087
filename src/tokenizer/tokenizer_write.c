/*
 * tokenizer_write.c - a GGUF file's vocabulary as tokenizer.json and
 * tokenizer_config.json, so that the `tokenizers` package gives the same ids.
 *
 * Refused: what the tokenizer itself refuses, and token texts that JSON can't
 * hold (not UTF-8).
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

static json_t *text(nr_bytes b) { return json_stringn((const char *)b.data, b.size); }

/* ---- the parts ---- */

/* The last step of all: into the alphabet of bytes. */
static json_t *byte_level(bool use_regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", false, "trim_offsets", true, "use_regex", use_regex);
}

static json_t *digits(bool each)
{
    return json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", each);
}

static json_t *split(nr_split s)
{
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", nr_split_regex(s), "behavior", "Isolated",
                     "invert", false);
}

/* ByteLevel's own regular expression is GPT-2's. */
static json_t *pre_tokenizer(const nr_pretokenizer *p)
{
    json_t *steps = json_array();
    bool bad = !steps, regex = false;
    for (size_t i = 0; i < p->count; i++) {
        nr_split s = p->steps[i];
        regex = i + 1 == p->count && (s == NR_SPLIT_GPT2 || s == NR_SPLIT_DIGIT_GPT2);
        if (s == NR_SPLIT_DIGIT || s == NR_SPLIT_DIGITS || s == NR_SPLIT_DIGIT_GPT2)
            bad = json_array_append_new(steps, digits(s != NR_SPLIT_DIGITS)) != 0 || bad;
        else if (!regex)
            bad = json_array_append_new(steps, split(s)) != 0 || bad;
    }
    bad = json_array_append_new(steps, byte_level(regex)) != 0 || bad;
    json_t *j = bad ? NULL : json_pack("{s:s, s:O}", "type", "Sequence", "pretokenizers", steps);
    json_decref(steps);
    return j;
}

static json_t *post_processor(const nr_vocabulary *v, const json_t *bos)
{
    if (!v->add_bos) return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", true, "trim_offsets", false,
                                      "use_regex", true);
    const char *name = json_string_value(bos);
    return json_pack("{s:s, s:[{s:{s:O, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:O, s:i}}, {s:{s:s, s:i}}, {s:{s:O, s:i}}, {s:{s:s, s:i}}],"
                     " s:{s:{s:O, s:[i], s:[O]}}}", "type", "TemplateProcessing",
                     "single", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A", "type_id", 0,
                     "pair", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A", "type_id", 0,
                     "SpecialToken", "id", bos, "type_id", 1, "Sequence", "id", "B", "type_id", 1,
                     "special_tokens", name, "id", bos, "ids", (int)v->bos, "tokens", bos);
}

static json_t *added_tokens(const nr_vocabulary *v)
{
    json_t *list = json_array();
    bool bad = !list;
    for (size_t i = 0; i < v->added_count; i++) {
        const nr_added *a = &v->added[i];
        bad = json_array_append_new(list, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id, "content", text(a->text),
                                                    "single_word", a->single_word, "lstrip", a->lstrip, "rstrip", a->rstrip,
                                                    "normalized", a->normalized, "special", a->special)) != 0 || bad;
    }
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

/* Added tokens too: the package gives those that aren't there other ids. */
static json_t *vocabulary(const nr_vocabulary *v)
{
    json_t *o = json_object();
    bool bad = !o;
    for (size_t i = 0; i < v->size && !bad; i++)
        if (v->texts[i].data) bad = json_object_setn_new(o, (const char *)v->texts[i].data, v->texts[i].size, json_integer((json_int_t)i)) != 0;
    for (size_t i = 0; i < v->added_count && !bad; i++)
        bad = json_object_setn_new(o, (const char *)v->added[i].text.data, v->added[i].text.size, json_integer(v->added[i].id)) != 0;
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

static json_t *merges(const nr_vocabulary *v)
{
    json_t *list = json_array();
    bool bad = !list;
    for (size_t i = 0; i < v->merge_count && !bad; i++)
        bad = json_array_append_new(list, json_pack("[o, o]", text(v->merges[i][0]), text(v->merges[i][1]))) != 0;
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

static json_t *model(const nr_vocabulary *v)
{
    return json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", false, "byte_fallback", false, "ignore_merges",
                     v->ignore_merges, "vocab", vocabulary(v), "merges", merges(v));
}

/* ---- the two files ---- */

static json_t *name_of(const nr_vocabulary *v, int32_t id)
{
    for (size_t i = 0; i < v->added_count; i++)
        if (v->added[i].id == id) return text(v->added[i].text);
    return id >= 0 && (size_t)id < v->size && v->texts[id].data ? text(v->texts[id]) : json_null();
}

static json_t *tokenizer_of(const nr_vocabulary *v)
{
    json_t *bos = name_of(v, v->bos), *normalizer = v->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
    json_t *decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", true, "trim_offsets", true, "use_regex", true);
    json_t *j = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens",
                          added_tokens(v), "normalizer", normalizer, "pre_tokenizer", pre_tokenizer(&v->split), "post_processor",
                          post_processor(v, bos), "decoder", decoder, "model", model(v));
    json_decref(bos);
    return j;
}

static json_t *settings_of(const nr_vocabulary *v, const nr_config *c)
{
    json_t *j = json_pack("{s:s, s:o, s:o, s:o, s:I, s:b, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", name_of(v, v->bos),
                          "eos_token", name_of(v, v->eos), "pad_token", name_of(v, c->pad), "model_max_length", (json_int_t)c->max_context,
                          "clean_up_tokenization_spaces", false, "add_bos_token", v->add_bos);
    if (!j || !c->chat_template || json_object_set_new(j, "chat_template", json_string(c->chat_template)) == 0) return j;
    json_decref(j);
    return NULL;
}

static bool is_utf8(nr_bytes b)
{
    json_t *j = b.data ? text(b) : json_null();
    json_decref(j);
    return j != NULL;
}

static nr_status check_texts(const nr_vocabulary *v, nr_error *err)
{
    size_t i = 0, k = 0;
    while (i < v->size && is_utf8(v->texts[i])) i++;
    while (k < v->added_count && is_utf8(v->added[k].text)) k++;
    if (i == v->size && k == v->added_count) return NR_OK;
    return nr_fail(err, NR_E_UNSUPPORTED, "%s: token %zu: expected UTF-8, which tokenizer.json can hold, found other bytes", v->where,
                   i < v->size ? i : (size_t)v->added[k].id);
}

nr_status nr_tokenizer_gguf_to_json(json_t **tokenizer, json_t **settings, const nr_gguf *g, const nr_config *c, nr_error *err)
{
    nr_vocabulary v;
    nr_tokenizer *t = NULL;
    *tokenizer = *settings = NULL;
    NR_TRY(nr_vocabulary_from_gguf(&v, g, err));
    nr_status st = nr_tokenizer_build(&t, &v, err); /* its checks */
    nr_tokenizer_close(t);
    if (st == NR_OK) st = check_texts(&v, err);
    if (st == NR_OK) {
        *tokenizer = tokenizer_of(&v);
        *settings = settings_of(&v, c);
        if (!*tokenizer || !*settings) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for tokenizer.json", v.where);
    }
    if (st != NR_OK) {
        json_decref(*tokenizer);
        json_decref(*settings);
        *tokenizer = *settings = NULL;
    }
    nr_vocabulary_free(&v);
    return st;
}
