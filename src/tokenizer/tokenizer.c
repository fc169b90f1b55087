/*
 * tokenizer.c - text to ids and back.
 *
 * Encoding: added tokens are found in the text, what lies between them is
 * normalised, added tokens that live behind the normalizer are found, and what
 * is left is cut into pieces and merged. No special token is added around the
 * text: see nr_tokenizer_add_bos.
 *
 * Any bytes may be encoded. Decoding gives the same bytes back, but for what a
 * normalizer changed, the white space that a token with lstrip or rstrip took,
 * and bytes that the vocabulary has no token for (those give no id, or the
 * file's unk_token).
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

void nr_tokenizer_close(nr_tokenizer *t)
{
    if (!t) return;
    nr_words_free(&t->words);
    nr_bpe_free(&t->bpe);
    free(t->classes);
    free(t->blob);
    free(t->bytes);
    free(t->is_special);
    free(t->added);
    free(t);
}

size_t nr_tokenizer_size(const nr_tokenizer *t)
{
    return t->size;
}

int32_t nr_tokenizer_bos(const nr_tokenizer *t)
{
    return t->bos;
}

int32_t nr_tokenizer_eos(const nr_tokenizer *t)
{
    return t->eos;
}

bool nr_tokenizer_add_bos(const nr_tokenizer *t)
{
    return t->add_bos;
}

const char *nr_tokenizer_fingerprint(const nr_tokenizer *t)
{
    return t->fingerprint;
}

const char *nr_tokenizer_token(const nr_tokenizer *t, int32_t id, size_t *size)
{
    bool known = id >= 0 && (size_t)id < t->size && t->bytes[id].data;
    *size = known ? t->bytes[id].size : 0;
    return known ? (const char *)t->bytes[id].data : NULL;
}

int32_t nr_tokenizer_special(const nr_tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < t->added_count; i++) {
        const nr_added *a = &t->added[i];
        if (a->special && a->text.size == n && !memcmp(a->text.data, text, n)) return a->id;
    }
    return -1;
}

/* ---- encoding ---- */

/* Ids of a piece met earlier in this call. Its text is the caller's. */
enum { CACHED_IDS = 11, CACHED_BYTES = 64 };
typedef struct {
    const unsigned char *text; /* NULL: free */
    uint64_t first;
    uint16_t size, count;
    int32_t ids[CACHED_IDS];
} cached;

typedef struct {
    const nr_tokenizer *t;
    bool parse_special;
    int32_t *ids;
    size_t cap, count;
    cached *cache; /* NULL: none */
    size_t cache_mask;
    int32_t *spare; /* ids of a piece that may not fit */
    size_t spare_size;
    nr_bpe_scratch scratch;
    nr_error *err;
} encoder;

/* Below this a cache costs more than it saves. */
enum { CACHE_FROM = 1024, CACHE_SLOTS_MAX = 1 << 14 };

static void cache_new(encoder *e, size_t n)
{
    size_t slots = 16;
    if (n < CACHE_FROM) return;
    while (slots < n / 32 && slots < CACHE_SLOTS_MAX) slots *= 2;
    e->cache = calloc(slots, sizeof *e->cache); /* without it all goes on, slower */
    e->cache_mask = slots - 1;
}

static inline void emit(encoder *e, const int32_t *ids, size_t n)
{
    if (e->count < e->cap) {
        size_t fits = NR_MIN(n, e->cap - e->count);
        for (size_t i = 0; i < fits; i++) e->ids[e->count + i] = ids[i];
    }
    e->count += n;
}

/* Merges a piece of any length. */
static nr_status merge(encoder *e, const unsigned char *p, size_t n, cached *keep)
{
    int32_t few[CACHED_BYTES], *ids = few;
    size_t m;
    bool in_place = n > CACHED_BYTES && e->count < e->cap && e->cap - e->count >= n;
    if (n > CACHED_BYTES) {
        if (in_place) {
            ids = e->ids + e->count;
        } else {
            if (e->spare_size < n) {
                free(e->spare);
                e->spare_size = 0;
                NR_TRY(nr_alloc(&e->spare, n, sizeof *e->spare, "ids of a piece", e->err));
                e->spare_size = n;
            }
            ids = e->spare;
        }
    }
    NR_TRY(nr_bpe_encode(&e->t->bpe, p, n, ids, &m, &e->scratch, e->err));
    if (in_place) e->count += m;
    else emit(e, ids, m);
    if (keep && m <= CACHED_IDS) {
        memcpy(keep->ids, ids, m * sizeof *ids);
        keep->text = p;
        keep->size = (uint16_t)n;
        keep->count = (uint16_t)m;
    }
    return NR_OK;
}

/* One piece; `room` bytes may be read at p. `lasting`: the text outlives the call. */
static inline nr_status encode_piece(encoder *e, const unsigned char *p, size_t n, size_t room, bool lasting)
{
    nr_word_key k = nr_word_key_of(p, n, room);
    int32_t id = nr_words_find(&e->t->words, k, p, n);
    if (id >= 0) {
        if (e->count < e->cap) e->ids[e->count] = id;
        e->count++;
        return NR_OK;
    }
    if (!e->cache || n > CACHED_BYTES || !lasting) return merge(e, p, n, NULL);
    cached *c = &e->cache[(k.hash >> 20) & e->cache_mask];
    if (c->text && c->first == k.first && c->size == n && (n <= 8 || !memcmp(c->text + 8, p + 8, n - 8))) {
        emit(e, c->ids, c->count);
        return NR_OK;
    }
    c->text = NULL;
    c->first = k.first;
    return merge(e, p, n, c);
}

static nr_status encode_plain(encoder *e, const char *text, size_t n, bool lasting)
{
    const nr_tokenizer *t = e->t;
    const unsigned char *p, *end = (const unsigned char *)text + n;
    size_t m;
    if (t->split.count == 1) { /* the usual case, without the walk */
        nr_split how = t->split.steps[0];
        for (p = (const unsigned char *)text; p < end; p += m) {
            m = nr_split_next(how, t->classes, p, end);
            NR_TRY(encode_piece(e, p, m, (size_t)(end - p), lasting));
        }
        return NR_OK;
    }
    nr_pieces w;
    nr_pieces_start(&w, &t->split, t->classes, text, n);
    while (nr_pieces_next(&w, &p, &m)) NR_TRY(encode_piece(e, p, m, (size_t)(end - p), lasting));
    return NR_OK;
}

typedef nr_status span_encoder(encoder *e, const char *text, size_t n, bool lasting);

/* Finds the matcher's tokens; what lies between goes to `between`. */
static nr_status encode_added(encoder *e, const nr_matcher *m, const char *text, size_t n, bool lasting, span_encoder *between)
{
    size_t taken = 0, from = 0, begin, end;
    const nr_added *a;
    if (m->count && (e->parse_special || !e->t->only_special))
        while ((a = nr_matcher_next(m, e->t->classes, text, n, taken, &from, e->parse_special, &begin, &end))) {
            if (begin > taken) NR_TRY(between(e, text + taken, begin - taken, lasting));
            emit(e, &a->id, 1);
            taken = end;
        }
    return n > taken ? between(e, text + taken, n - taken, lasting) : NR_OK;
}

static nr_status encode_normalized(encoder *e, const char *text, size_t n, bool lasting)
{
    return encode_added(e, &e->t->normalized, text, n, lasting, encode_plain);
}

static nr_status encode_span(encoder *e, const char *text, size_t n, bool lasting)
{
    if (!e->t->nfc || nr_nfc_unchanged(e->t->classes, text, n)) return encode_normalized(e, text, n, lasting);
    nr_buffer b = {0};
    nr_status st = nr_nfc(&b, e->t->classes, text, n, e->err);
    if (st == NR_OK && b.size) st = encode_normalized(e, b.data, b.size, false);
    nr_buffer_free(&b);
    return st;
}

nr_status nr_tokenizer_encode(const nr_tokenizer *t, const char *text, size_t n, bool parse_special,
                              int32_t *ids, size_t cap, size_t *count, nr_error *err)
{
    encoder e = {.t = t, .parse_special = parse_special, .ids = ids, .cap = ids ? cap : 0, .err = err};
    *count = 0;
    if (n == 0) return NR_OK;
    cache_new(&e, n);
    nr_status st = encode_added(&e, &t->raw, text, n, true, encode_span);
    free(e.cache);
    free(e.spare);
    free(e.scratch.data);
    if (st == NR_OK) *count = e.count;
    if (st == NR_OK && e.cap && e.count > e.cap)
        return nr_fail(err, NR_E_MISMATCH, "text of %zu bytes: expected at most %zu tokens, found %zu", n, e.cap, e.count);
    return st;
}

nr_status nr_tokenizer_decode(const nr_tokenizer *t, const int32_t *ids, size_t n, bool with_special,
                              char *text, size_t cap, size_t *count, nr_error *err)
{
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= t->size)
            return nr_fail(err, NR_E_FORMAT, "token %zu: expected an id from 0 to %zu, found %d", i, t->size - 1, ids[i]);
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        nr_bytes b = t->bytes[ids[i]];
        if (!b.data || (t->is_special[ids[i]] && !with_special)) continue;
        if (text && size < cap) memcpy(text + size, b.data, NR_MIN(b.size, cap - size));
        size += b.size;
    }
    *count = size;
    return NR_OK;
}
