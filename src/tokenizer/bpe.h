/*
 * bpe.h - byte-pair merges and the two hash tables they stand on.
 *
 * A piece's bytes become ids, then the adjacent pair of the lowest rank is
 * merged, leftmost first, until no pair is known.
 */
#ifndef NR_BPE_H
#define NR_BPE_H

#include "base/base.h"

/* ---- words.c: byte strings to ids ---- */

typedef struct {
    const unsigned char *data;
    size_t size;
} nr_bytes;

/* `first`: the first eight bytes, padded with zeros. Length 0 marks a free slot. */
typedef struct {
    uint64_t first;
    uint32_t size;
    int32_t id;
} nr_word_slot;

/* Strings are the caller's: texts[id], alive as long as the table. Empty ones aren't stored. */
typedef struct {
    nr_word_slot *slots;
    size_t mask;
    const nr_bytes *texts;
} nr_words;

nr_status nr_words_new(nr_words *w, const nr_bytes *texts, size_t count, nr_error *err);
void nr_words_free(nr_words *w);
/* Adds texts[id]. Returns the id that already has this text, else -1. */
int32_t nr_words_add(nr_words *w, int32_t id);

/* A string about to be looked up. `room` bytes may be read at p, room >= n > 0. */
typedef struct {
    uint64_t first, hash;
} nr_word_key;

static inline uint64_t nr_load8(const unsigned char *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}

static inline uint64_t nr_mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9E3779B97F4A7C15u;
    return a ^ a >> 29;
}

static inline nr_word_key nr_word_key_of(const unsigned char *p, size_t n, size_t room)
{
    nr_word_key k = {0, n};
    if (n >= 8) k.first = nr_load8(p);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    else if (room >= 8) k.first = nr_load8(p) & ~(UINT64_MAX << 8 * n);
#endif
    else __builtin_memcpy(&k.first, p, n);
    (void)room;
    for (size_t i = 8; i + 8 < n; i += 8) k.hash = nr_mix(k.hash, nr_load8(p + i));
    if (n > 8) k.hash = nr_mix(k.hash, nr_load8(p + n - 8));
    k.hash = nr_mix(k.hash, k.first);
    k.hash ^= k.hash >> 17;
    return k;
}

static inline int32_t nr_words_find(const nr_words *w, nr_word_key k, const unsigned char *p, size_t n)
{
    for (size_t i = k.hash & w->mask;; i = (i + 1) & w->mask) {
        const nr_word_slot *s = &w->slots[i];
        if (s->size == 0) return -1;
        if (s->first == k.first && s->size == n &&
            (n <= 8 || __builtin_memcmp(w->texts[s->id].data + 8, p + 8, n - 8) == 0))
            return s->id;
    }
}

/* ---- bpe.c ---- */

typedef struct {
    int32_t a, b;    /* a < 0: free */
    uint32_t rank;
    int32_t id;      /* what the two become */
} nr_pair;

typedef struct {
    nr_pair *pairs; /* open addressing */
    size_t mask;
    int32_t byte_ids[256]; /* -1: the vocabulary has none */
    int32_t unknown;       /* stands for such a byte; -1: it is dropped */
} nr_bpe;

nr_status nr_bpe_new(nr_bpe *b, size_t merges, nr_error *err);
void nr_bpe_free(nr_bpe *b);
/* Of two merges of one pair the later one counts. */
void nr_bpe_add(nr_bpe *b, nr_pair pair);

/* Memory of one thread's calls, zeroed at first; grows to the longest piece. */
typedef struct {
    void *data;
    size_t size;
} nr_bpe_scratch;

/* Ids of a piece of n bytes into ids, with room for n; their number through *count. */
nr_status nr_bpe_encode(const nr_bpe *b, const unsigned char *p, size_t n, int32_t *ids, size_t *count,
                        nr_bpe_scratch *scratch, nr_error *err);

#endif
