/*
 * build.c - checks a vocabulary and makes the tables that encoding needs.
 *
 * Refuses, by name: a merge whose parts or result aren't in the vocabulary, a
 * token twice, an added token whose id another token has, a vocabulary without
 * any byte. A vocabulary that lacks some bytes is taken as it is (SmolLM2's
 * has no token for 21 bytes: rare controls and bytes that UTF-8 never holds).
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

/* The byte that a symbol of the byte-level alphabet stands for, -1: not in it.
 * Printable Latin-1 stands for itself; the others were put, in order, at U+0100 and up. */
static int byte_of(uint32_t cp)
{
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 255 && cp != 173)) return (int)cp;
    if (cp < 256) return -1;
    cp -= 256;
    if (cp <= 32) return (int)cp;
    if (cp <= 32 + 34) return (int)(cp - 33 + 127);
    return cp == 67 ? 173 : -1;
}

/* Bytes of a token into out (as many as it has at most); false: not all in the alphabet. */
static bool decode_text(nr_bytes text, unsigned char *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t cp;
        i += nr_utf8_next(text.data + i, text.size - i, &cp);
        int b = byte_of(cp);
        if (b < 0) return false;
        out[(*n)++] = (unsigned char)b;
    }
    return true;
}

typedef struct {
    const nr_vocabulary *v;
    nr_tokenizer *t;
    nr_words names;       /* texts as the file has them */
    unsigned char *plain; /* (size) decodes through the alphabet */
    char *joined;         /* room for two texts */
    nr_error *err;
} builder;

/* Texts printed in errors are cut to this. */
static int shown(nr_bytes t)
{
    return (int)NR_MIN(t.size, 60u);
}

static nr_status decode_all(builder *b)
{
    const nr_vocabulary *v = b->v;
    nr_tokenizer *t = b->t;
    size_t total = 1, longest = 0;
    for (size_t i = 0; i < v->size; i++) {
        total += v->texts[i].size;
        longest = NR_MAX(longest, v->texts[i].size);
    }
    for (size_t i = 0; i < v->added_count; i++) total += v->added[i].text.size;
    NR_TRY(nr_alloc(&t->blob, total, 1, "token texts", b->err));
    NR_TRY(nr_alloc(&b->joined, 2 * longest + 1, 1, "token texts", b->err));
    unsigned char *p = (unsigned char *)t->blob;
    for (size_t i = 0; i < v->size; i++) {
        nr_bytes text = v->texts[i];
        size_t n;
        if (!text.data) continue;
        b->plain[i] = decode_text(text, p, &n);
        if (!b->plain[i]) memcpy(p, text.data, n = text.size);
        t->bytes[i] = (nr_bytes){p, n};
        p += n;
    }
    for (size_t i = 0; i < v->added_count; i++) {
        nr_added *a = &t->added[i];
        *a = v->added[i];
        memcpy(p, a->text.data, a->text.size);
        a->text.data = p;
        /* its text is itself, not the alphabet's: a piece may only be it where both agree */
        nr_bytes was = t->bytes[a->id];
        b->plain[a->id] = b->plain[a->id] && was.size == a->text.size && !memcmp(was.data, p, was.size);
        t->bytes[a->id] = a->text;
        t->is_special[a->id] = a->special;
        p += a->text.size;
    }
    return NR_OK;
}

static nr_status name_all(builder *b)
{
    const nr_vocabulary *v = b->v;
    NR_TRY(nr_words_new(&b->names, v->texts, v->size, b->err));
    for (size_t i = 0; i < v->size; i++) {
        if (!v->texts[i].data) continue;
        int32_t there = nr_words_add(&b->names, (int32_t)i);
        if (there >= 0)
            return nr_fail(b->err, NR_E_FORMAT, "%s: vocabulary: token '%.*s' has two ids, %d and %zu", v->where,
                           shown(v->texts[i]), (const char *)v->texts[i].data, there, i);
    }
    return NR_OK;
}

static int32_t id_of(const builder *b, nr_bytes text)
{
    if (text.size == 0) return -1;
    return nr_words_find(&b->names, nr_word_key_of(text.data, text.size, text.size), text.data, text.size);
}

static nr_status check_added(builder *b)
{
    const nr_vocabulary *v = b->v;
    for (size_t i = 0; i < v->added_count; i++) {
        const nr_added *a = &v->added[i];
        const char *text = (const char *)a->text.data;
        if (a->text.size == 0) return nr_fail(b->err, NR_E_FORMAT, "%s: added token %d has no text", v->where, a->id);
        if (a->id < 0 || (size_t)a->id >= v->size)
            return nr_fail(b->err, NR_E_FORMAT, "%s: added token '%.*s': expected an id below %zu, found %d", v->where,
                           shown(a->text), text, v->size, a->id);
        int32_t there = id_of(b, a->text);
        nr_bytes taken = v->texts[a->id];
        if ((there >= 0 && there != a->id) || (there < 0 && taken.data))
            return nr_fail(b->err, NR_E_FORMAT, "%s: added token '%.*s' has id %d, but the vocabulary differs", v->where,
                           shown(a->text), text, a->id);
    }
    return NR_OK;
}

static nr_status set_bytes(builder *b)
{
    size_t found = 0;
    for (uint32_t cp = 33; cp < 256 + 68; cp++) {
        int byte = byte_of(cp);
        char text[4];
        if (byte < 0) continue;
        nr_bytes name = {(unsigned char *)text, nr_utf8_put(text, cp)};
        b->t->bpe.byte_ids[byte] = id_of(b, name);
        found += b->t->bpe.byte_ids[byte] >= 0;
    }
    if (found == 0)
        return nr_fail(b->err, NR_E_UNSUPPORTED, "%s: vocabulary: expected tokens of the byte-level alphabet, found none", b->v->where);
    if (b->v->unknown.data) {
        b->t->bpe.unknown = id_of(b, b->v->unknown);
        for (size_t i = 0; b->t->bpe.unknown < 0 && i < b->v->added_count; i++) {
            nr_bytes a = b->v->added[i].text;
            if (a.size == b->v->unknown.size && !memcmp(a.data, b->v->unknown.data, a.size))
                b->t->bpe.unknown = b->v->added[i].id;
        }
        if (b->t->bpe.unknown < 0)
            return nr_fail(b->err, NR_E_FORMAT, "%s: unk_token '%.*s' is not in the vocabulary", b->v->where,
                           shown(b->v->unknown), (const char *)b->v->unknown.data);
    }
    return NR_OK;
}

static nr_status add_merges(builder *b)
{
    const nr_vocabulary *v = b->v;
    if (v->merge_count >= UINT32_MAX) return nr_fail(b->err, NR_E_FORMAT, "%s: %zu merges are too many", v->where, v->merge_count);
    for (size_t i = 0; i < v->merge_count; i++) {
        nr_bytes l = v->merges[i][0], r = v->merges[i][1];
        nr_pair pair = {.a = id_of(b, l), .b = id_of(b, r), .rank = (uint32_t)i, .id = -1};
        if (pair.a >= 0 && pair.b >= 0) {
            memcpy(b->joined, l.data, l.size);
            memcpy(b->joined + l.size, r.data, r.size);
            pair.id = id_of(b, (nr_bytes){(unsigned char *)b->joined, l.size + r.size});
        }
        if (pair.id < 0)
            return nr_fail(b->err, NR_E_FORMAT, "%s: merge %zu, '%.*s' + '%.*s': %s is not in the vocabulary", v->where, i,
                           shown(l), (const char *)l.data, shown(r), (const char *)r.data,
                           pair.a < 0 ? "the first" : pair.b < 0 ? "the second" : "the result");
        nr_bpe_add(&b->t->bpe, pair);
    }
    return NR_OK;
}

/* Pieces that are one token need no merging: with ignore_merges every token,
 * else those that their own bytes merge to. */
static nr_status add_words(builder *b)
{
    nr_tokenizer *t = b->t;
    nr_bpe_scratch scratch = {0};
    nr_status st = NR_OK;
    int32_t *ids = NULL;
    size_t longest = 0;
    for (size_t i = 0; i < t->size; i++) longest = NR_MAX(longest, t->bytes[i].size);
    NR_GO(nr_words_new(&t->words, t->bytes, t->size, b->err));
    NR_GO(nr_alloc(&ids, longest + 1, sizeof *ids, "ids of a token", b->err));
    for (size_t i = 0; i < t->size; i++) {
        size_t n = 0;
        if (!b->plain[i] || t->bytes[i].size == 0) continue;
        if (!b->v->ignore_merges) NR_GO(nr_bpe_encode(&t->bpe, t->bytes[i].data, t->bytes[i].size, ids, &n, &scratch, b->err));
        if (b->v->ignore_merges || (n == 1 && ids[0] == (int32_t)i)) nr_words_add(&t->words, (int32_t)i);
    }
done:
    free(ids);
    free(scratch.data);
    return st;
}

static nr_status set_added(builder *b)
{
    nr_tokenizer *t = b->t;
    t->added_count = b->v->added_count;
    t->only_special = true;
    nr_added_sort(t->added, t->added_count);
    size_t raw = 0;
    for (size_t i = 0; i < t->added_count; i++) {
        const nr_added *a = &t->added[i];
        t->only_special = t->only_special && a->special;
        if (i && a->text.size == a[-1].text.size && !memcmp(a->text.data, a[-1].text.data, a->text.size))
            return nr_fail(b->err, NR_E_FORMAT, "%s: added token '%.*s' stands there twice", b->v->where, shown(a->text),
                           (const char *)a->text.data);
        if (a->normalized && t->nfc && !nr_nfc_unchanged(t->classes, (const char *)a->text.data, a->text.size))
            return nr_fail(b->err, NR_E_UNSUPPORTED, "%s: added token '%.*s' changes under its own normalizer", b->v->where,
                           shown(a->text), (const char *)a->text.data);
        raw += !a->normalized;
    }
    /* the raw ones first, both parts still in the order of their texts */
    nr_added *parted;
    NR_TRY(nr_alloc(&parted, t->added_count + 1, sizeof *parted, "added tokens", b->err));
    for (size_t i = 0, r = 0, m = raw; i < t->added_count; i++) parted[t->added[i].normalized ? m++ : r++] = t->added[i];
    free(t->added);
    t->added = parted;
    nr_matcher_init(&t->raw, t->added, raw);
    nr_matcher_init(&t->normalized, t->added + raw, t->added_count - raw);
    return NR_OK;
}

static void hash_bytes(nr_sha256 *h, nr_bytes b)
{
    uint64_t n = b.data ? b.size : UINT64_MAX;
    nr_sha256_add(h, &n, sizeof n);
    if (b.data) nr_sha256_add(h, b.data, b.size);
}

static nr_status fingerprint(builder *b)
{
    const nr_vocabulary *v = b->v;
    nr_tokenizer *t = b->t;
    nr_sha256 *h = nr_sha256_new();
    if (!h) return nr_fail(b->err, NR_E_MEMORY, "%s: hashing the vocabulary: out of memory", v->where);
    char head[256];
    int n = snprintf(head, sizeof head, "nres tokenizer 1, nfc %d, ignore_merges %d, unknown %d, tokens %zu, merges %zu, added %zu\n",
                     v->nfc, v->ignore_merges, t->bpe.unknown, v->size, v->merge_count, v->added_count);
    nr_sha256_add(h, head, (size_t)n + 1);
    for (size_t i = 0; i < t->split.count; i++) nr_sha256_add(h, nr_split_name(t->split.steps[i]), strlen(nr_split_name(t->split.steps[i])) + 1);
    for (size_t i = 0; i < v->size; i++) hash_bytes(h, v->texts[i]);
    for (size_t i = 0; i < v->merge_count; i++) {
        hash_bytes(h, v->merges[i][0]);
        hash_bytes(h, v->merges[i][1]);
    }
    for (size_t i = 0; i < t->added_count; i++) {
        const nr_added *a = &t->added[i];
        int32_t flags[] = {a->id, a->special, a->lstrip, a->rstrip, a->single_word, a->normalized};
        nr_sha256_add(h, flags, sizeof flags);
        hash_bytes(h, a->text);
    }
    nr_sha256_hex(h, t->fingerprint);
    return NR_OK;
}

static nr_status build(builder *b)
{
    const nr_vocabulary *v = b->v;
    nr_tokenizer *t = b->t;
    if (v->size == 0 || v->size > NR_TOKENS_MAX)
        return nr_fail(b->err, NR_E_FORMAT, "%s: vocabulary: expected 1 to %d tokens, found %zu", v->where, NR_TOKENS_MAX, v->size);
    NR_TRY(nr_alloc(&t->classes, NR_CODE_POINTS + 1, 1, "character classes", b->err));
    nr_unicode_classes(t->classes);
    NR_TRY(nr_alloc(&t->bytes, v->size, sizeof *t->bytes, "tokens", b->err));
    NR_TRY(nr_alloc(&t->is_special, v->size, 1, "tokens", b->err));
    NR_TRY(nr_alloc(&b->plain, v->size, 1, "tokens", b->err));
    NR_TRY(nr_alloc(&t->added, v->added_count + 1, sizeof *t->added, "added tokens", b->err));
    NR_TRY(name_all(b));
    NR_TRY(check_added(b));
    NR_TRY(decode_all(b));
    NR_TRY(nr_bpe_new(&t->bpe, v->merge_count, b->err));
    NR_TRY(set_bytes(b));
    NR_TRY(add_merges(b));
    NR_TRY(add_words(b));
    NR_TRY(set_added(b));
    return fingerprint(b);
}

nr_status nr_tokenizer_build(nr_tokenizer **out, const nr_vocabulary *v, nr_error *err)
{
    *out = NULL;
    builder b = {.v = v, .err = err};
    NR_TRY(nr_alloc(&b.t, 1, sizeof *b.t, "tokenizer", err));
    b.t->size = v->size;
    b.t->split = v->split;
    b.t->nfc = v->nfc;
    b.t->add_bos = v->add_bos;
    b.t->bos = v->bos;
    b.t->eos = v->eos;
    nr_status st = build(&b);
    nr_words_free(&b.names);
    free(b.plain);
    free(b.joined);
    if (st != NR_OK) nr_tokenizer_close(b.t);
    else *out = b.t;
    return st;
}
