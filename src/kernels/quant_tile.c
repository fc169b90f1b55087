/*
 * quant_tile.c - rows of quantised blocks laid side by side in tiles, see quant.h.
 *
 * Nothing is rounded: integers and scales keep their bits. Four bytes of a row
 * are moved at a time; of the K types nibbles are paired anew, as those types pair
 * columns that are 32 apart.
 */
#include <string.h>

#include "kernels/quant.h"

#define INLINE static inline __attribute__((always_inline)) /* sizes and types are constants then */

INLINE uint32_t word_at(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Bytes of an entry of a tile: of 32 columns, in K types of 256. */
static size_t entry_bytes(nr_dtype type)
{
    switch (type) {
    case NR_Q4_0: return 18;
    case NR_Q4_1: return 20;
    case NR_Q8_0: return 34;
    case NR_Q4_K: return 4 + 8 * 18;
    case NR_Q5_K: return 4 + 8 * 22;
    default: return 2 + 8 * 26; /* Q6_K */
    }
}

/* The last one may be filled up with zeros. */
static size_t blocks_of(nr_dtype type, size_t cols) { return (cols + nr_dtypes[type].block - 1) / nr_dtypes[type].block; }

size_t nr_quant_tile_bytes(nr_dtype type, size_t lanes, size_t cols) { return blocks_of(type, cols) * entry_bytes(type) * lanes; }

/* ---- one row's part ---- */

/* Where the next part of all rows begins, and which row is written. */
typedef struct {
    unsigned char *at;
    size_t lanes, lane;
} place;

INLINE void put(place *p, const void *data, size_t size)
{
    memcpy(p->at + p->lane * size, data, size);
    p->at += p->lanes * size;
}

INLINE void put_word(place *p, uint32_t v) { put(p, &v, sizeof v); }

/* n words, one vector after another. */
INLINE void put_words(place *p, const unsigned char *data, size_t n)
{
    for (size_t i = 0; i < n; i++) put(p, data + 4 * i, 4);
}

/* 32 nibbles, each the bits of 32 bytes from `shift` on: columns j and 16 + j share a byte. */
INLINE void put_nibbles(place *p, const unsigned char *data, int shift)
{
    const uint32_t mask = 0x0f0f0f0f;
    for (size_t i = 0; i < 4; i++)
        put_word(p, (word_at(data + 4 * i) >> shift & mask) | (word_at(data + 16 + 4 * i) >> shift & mask) << 4);
}

/* Scales and minima of Q4_K and Q5_K: six bits each in 12 bytes. */
static void scales_of(unsigned char *scales, unsigned char *minima, const unsigned char *p)
{
    uint32_t a = word_at(p), b = word_at(p + 4), c = word_at(p + 8);
    uint32_t s[2] = {a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030)};
    uint32_t m[2] = {b & 0x3f3f3f3f, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030)};
    memcpy(scales, s, sizeof s);
    memcpy(minima, m, sizeof m);
}

INLINE void entry_45_k(place *p, const unsigned char *w, bool five)
{
    unsigned char scales[8], minima[8];
    const unsigned char *fifth = w + 16, *low = w + (five ? 48 : 16);
    scales_of(scales, minima, w + 4);
    put(p, w, 2);
    put(p, w + 2, 2);
    for (int g = 0; g < 8; g++) {
        put(p, &scales[g], 1);
        put(p, &minima[g], 1);
        put_nibbles(p, low + g / 2 * 32, g % 2 ? 4 : 0);
        uint32_t bits = 0;
        for (int j = 0; five && j < 8; j++) bits |= (word_at(fifth + 4 * j) >> g & 0x01010101) << j;
        if (five) put_word(p, bits);
    }
}

/* Halves of 128 columns: 64 bytes of nibbles and 32 of pairs of bits each. */
INLINE void entry_6_k(place *p, const unsigned char *w)
{
    put(p, w + 208, 2);
    for (int g = 0; g < 8; g++) {
        const unsigned char *two = w + 128 + g / 4 * 32;
        put(p, w + 192 + 2 * g, 1);
        put(p, w + 192 + 2 * g + 1, 1);
        put_nibbles(p, w + g / 4 * 64 + g % 2 * 32, g % 4 / 2 ? 4 : 0);
        for (int half = 0; half < 2; half++) {
            uint32_t bits = 0;
            for (int j = 0; j < 4; j++) bits |= (word_at(two + 16 * half + 4 * j) >> g % 4 * 2 & 0x03030303) << 2 * j;
            put_word(p, bits);
        }
    }
}

INLINE void entry(place *p, const unsigned char *w, nr_dtype type)
{
    switch (type) {
    case NR_Q4_K: entry_45_k(p, w, false); return;
    case NR_Q5_K: entry_45_k(p, w, true); return;
    case NR_Q6_K: entry_6_k(p, w); return;
    default: break;
    }
    put(p, w, 2);
    if (type == NR_Q4_1) put(p, w + 2, 2);
    put_words(p, w + (type == NR_Q4_1 ? 4 : 2), type == NR_Q8_0 ? 8 : 4);
}

INLINE void tile(unsigned char *to, const unsigned char *const *rows, nr_dtype type, size_t lanes, size_t cols)
{
    static const unsigned char zeros[256]; /* a block at most */
    size_t size = entry_bytes(type) * lanes, step = nr_dtypes[type].bytes;
    for (size_t b = 0; b < blocks_of(type, cols); b++)
        for (size_t lane = 0; lane < lanes; lane++) {
            place p = {to + b * size, lanes, lane};
            entry(&p, rows[lane] ? rows[lane] + b * step : zeros, type);
        }
}

void nr_quant_tile(unsigned char *to, const unsigned char *const *rows, nr_dtype type, size_t lanes, size_t cols)
{
    switch (type) {
    case NR_Q4_0: tile(to, rows, NR_Q4_0, lanes, cols); return;
    case NR_Q4_1: tile(to, rows, NR_Q4_1, lanes, cols); return;
    case NR_Q8_0: tile(to, rows, NR_Q8_0, lanes, cols); return;
    case NR_Q4_K: tile(to, rows, NR_Q4_K, lanes, cols); return;
    case NR_Q5_K: tile(to, rows, NR_Q5_K, lanes, cols); return;
    case NR_Q6_K: tile(to, rows, NR_Q6_K, lanes, cols); return;
    default: return; /* nr_quant_has says no */
    }
}
