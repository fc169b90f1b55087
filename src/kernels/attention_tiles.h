/*
 * attention_tiles.h - what the attention kernels share: a small matrix product
 * on tiles, and the packing of keys and values into them.
 *
 * Tiles hold KEYS keys or QUERIES queries. Everything in them is float, bf16 is
 * converted on the way in. DP is D rounded up to whole vectors; the channels
 * beyond D are zero. Keys are packed once a call, for all query heads that
 * share them: memory is linear in the number of keys.
 *
 * Where the processor multiplies pairs of bf16, bf16 tiles hold such pairs, two
 * neighbours along the summed dimension to an element of 32 bits; sums stay
 * float. A pair tile lies where the float tile would and is half as deep.
 */
#ifndef NR_ATTENTION_TILES_H
#define NR_ATTENTION_TILES_H

#include "kernels/cpu.h"

#include <stdatomic.h>

enum {
    KEYS = 64,
    QUERIES = 32,
    ROWS = 4,                /* rows of the product's register block; KEYS and QUERIES are multiples */
    COLS = VW == 16 ? 4 : 2, /* its vectors: 16 or 8 accumulators */
    LANES = 64               /* working sets: at most so many tasks run at once; bits of a uint64_t */
};

#if defined(__AVX512BF16__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

/* A task takes the lowest working set that is free, which lies in a near cache,
 * and gives it back. */
NR_INLINE size_t take_lane(_Atomic uint64_t *taken)
{
    uint64_t now = atomic_load_explicit(taken, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(taken, &now, now | (now + 1), memory_order_acquire, memory_order_relaxed)) {}
    return (size_t)__builtin_ctzll(~now);
}
NR_INLINE void give_lane(_Atomic uint64_t *taken, size_t lane)
{
    atomic_fetch_and_explicit(taken, ~((uint64_t)1 << lane), memory_order_release);
}

NR_INLINE size_t padded(size_t D) { return (D + VW - 1) / VW * VW; }
/* Columns of a tile to multiply for the first n: whole register blocks where half of one would leave too few sums on their way. */
NR_INLINE size_t block_cols(size_t n) { return VW == 16 ? padded(n) : (n + COLS * VW - 1) / (COLS * VW) * (COLS * VW); }

/* s + x t of floats, or of pairs: s + x_0 t_0 + x_1 t_1. */
NR_INLINE vf multiply_add(vf s, vf x, vf t, bool pairs)
{
#if HAS_PAIRS
    if (pairs) return (vf)_mm512_dpbf16_ps((__m512)s, (__m512bh)x, (__m512bh)t);
#endif
    (void)pairs;
    return vfma(x, t, s);
}

/* An element, whatever its bits mean, in all lanes. */
NR_INLINE vf broadcast(const float *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return (vf)(bits - (vi){0});
}

/* ROWS rows and nv vectors of c [+]= a b; a element (r, k) at r ra + k ka. */
NR_INLINE void product_block(size_t nv, float *c, size_t ldc, const float *a, size_t ra, size_t ka, const float *b,
                             size_t ldb, size_t depth, bool accumulate, bool pairs)
{
    vf s[ROWS][COLS];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t v = 0; v < nv; v++) s[r][v] = accumulate ? vload(c + r * ldc + v * VW) : vzero();
    for (size_t k = 0; k < depth; k++) {
        vf t[COLS];
        for (size_t v = 0; v < nv; v++) t[v] = vload(b + k * ldb + v * VW);
        for (size_t r = 0; r < ROWS; r++) {
            vf x = broadcast(a + r * ra + k * ka);
            for (size_t v = 0; v < nv; v++) s[r][v] = multiply_add(s[r][v], x, t[v], pairs);
        }
    }
    for (size_t r = 0; r < ROWS; r++)
        for (size_t v = 0; v < nv; v++) vstore(c + r * ldc + v * VW, s[r][v]);
}

/* c (rows, cols) [+]= a (rows, depth) b (depth, cols). cols is a multiple of
 * VW; rows is rounded up to a multiple of ROWS, which c and a must hold. pairs:
 * a and b hold pairs, and depth counts them. */
NR_INLINE void product(float *c, size_t ldc, const float *a, size_t ra, size_t ka, const float *b, size_t ldb,
                       size_t rows, size_t cols, size_t depth, bool accumulate, bool pairs)
{
    for (size_t j = 0; j < cols; j += COLS * VW)
        for (size_t r = 0; r < rows; r += ROWS) {
            float *to = c + r * ldc + j;
            const float *x = a + r * ra, *y = b + j;
            switch (NR_MIN((cols - j) / VW, (size_t)COLS)) {
            case 1:
                product_block(1, to, ldc, x, ra, ka, y, ldb, depth, accumulate, pairs);
                break;
            case 2:
                product_block(2, to, ldc, x, ra, ka, y, ldb, depth, accumulate, pairs);
                break;
#if VW == 16
            case 3:
                product_block(3, to, ldc, x, ra, ka, y, ldb, depth, accumulate, pairs);
                break;
#endif
            default:
                product_block(COLS, to, ldc, x, ra, ka, y, ldb, depth, accumulate, pairs);
            }
        }
}

/* to (rows, DP) = src rows `stride` apart, times s; rows [rows, all) are zero. */
NR_INLINE void pack_rows(float *to, const void *src, size_t stride, size_t rows, size_t all, size_t D, float s,
                         bool bf16)
{
    size_t DP = padded(D);
    for (size_t r = 0; r < rows; r++) NR_EACH(D, vstore(to + r * DP + i, aload_n(src, r * stride + i, m, bf16) * s););
    memset(to + rows * DP, 0, (all - rows) * DP * sizeof *to);
}

/* to (D, KEYS) = src rows transposed; columns beyond `rows` are zero. */
NR_INLINE void pack_columns(float *to, const void *src, size_t stride, size_t rows, size_t D, bool bf16)
{
    for (size_t r = 0; r < KEYS; r += VW)
        NR_EACH(D, {
            vany x[VW];
            for (size_t c = 0; c < VW; c++) x[c] = (vany)(r + c < rows ? aload_n(src, (r + c) * stride + i, m, bf16) : vzero());
            vcolumns(x);
            for (size_t d = 0; d < (size_t)m; d++) vstore(to + (i + d) * KEYS + r, (vf)x[d]);
        });
}

/* Keys [begin, end) and [0, shared) of a tile at k0 that the query at `position` sees. */
NR_INLINE size_t visible_end(size_t position, size_t k0, size_t cols)
{
    return NR_MIN(position + 1 - NR_MIN(position + 1, k0), cols);
}
NR_INLINE size_t visible_begin(size_t first, size_t k0, size_t cols) { return NR_MIN(first - NR_MIN(first, k0), cols); }
NR_INLINE size_t visible_shared(const nr_attention *a, size_t k0, size_t cols) { return visible_begin(a->shared, k0, cols); }

/* n rows of D elements, which have left the nearer caches, are asked for. */
NR_INLINE void fetch_rows(const void *p, size_t at, size_t stride, size_t n, size_t D, bool bf16)
{
    for (size_t r = 0; r < n; r++)
        for (size_t d = 0; d < D; d += bf16 ? 32 : 16) __builtin_prefetch(act_at(p, at + r * stride + d, bf16));
}

#define LN_2 0.693147181f

#if HAS_PAIRS
/* ---- pairs of bf16: as the float tiles, from bf16 in memory as it lies ---- */

enum { ELEMENTS = 2 * VW }; /* bf16 of a vector */

/* Elements [at, at + ELEMENTS) of a row of D; zeros beyond it, or where there is no row. */
NR_INLINE __m512i load_row(const uint16_t *row, size_t at, size_t D, bool exists)
{
    uint64_t mask = exists ? ((uint64_t)1 << NR_MIN(D - at, (size_t)ELEMENTS)) - 1 : 0;
    return _mm512_maskz_loadu_epi16((__mmask32)mask, row + at);
}

/* The part of v that a row padded to DP has room for. */
NR_INLINE void store_row(float *row, size_t at, size_t DP, __m512i v)
{
    if (DP - at >= ELEMENTS) _mm512_storeu_si512((uint16_t *)(void *)row + at, v);
    else _mm256_storeu_si256((__m256i *)(void *)((uint16_t *)(void *)row + at), _mm512_castsi512_si256(v));
}

/* Elements of a and b beside each other, ELEMENTS pairs. */
NR_INLINE void store_pairs(float *row, size_t at, size_t DP, __m512i a, __m512i b)
{
    _mm512_storeu_si512(row + at, vpairs(a, b, false));
    if (DP - at >= ELEMENTS) _mm512_storeu_si512(row + at + VW, vpairs(a, b, true));
}

/* Of src rows: along (all, DP / 2 pairs along D) or NULL, pairs (all / 2 pairs of
 * rows, DP) or NULL; what lies beyond `rows` and D is zero. */
NR_INLINE void pair_rows(float *along, float *pairs, const uint16_t *src, size_t stride, size_t rows, size_t all, size_t D)
{
    size_t DP = padded(D);
    for (size_t r = 0; r < all; r += 2)
        for (size_t d = 0; d < D; d += ELEMENTS) {
            const uint16_t *row = src + r * stride;
            __m512i a = load_row(row, d, D, r < rows), b = load_row(row + stride, d, D, r + 1 < rows);
            if (along) store_row(along + r * DP / 2, d, DP, a);
            if (along) store_row(along + (r + 1) * DP / 2, d, DP, b);
            if (pairs) store_pairs(pairs + r / 2 * DP, d, DP, a, b);
        }
}

/* to (D / 2 pairs along D, VW of KEYS) = src rows transposed; columns beyond `rows` are zero. */
NR_INLINE void pair_some_columns(float *to, const uint16_t *src, size_t stride, size_t rows, size_t D)
{
    for (size_t d = 0; d < D; d += ELEMENTS) {
        size_t columns = NR_MIN((D - d + 1) / 2, (size_t)VW);
        __m512i x[VW];
        for (size_t i = 0; i < VW; i++) x[i] = load_row(src + i * stride, d, D, i < rows);
        vcolumns(x);
        for (size_t i = 0; i < columns; i++) _mm512_storeu_si512(to + (d / 2 + i) * KEYS, x[i]);
    }
}

NR_INLINE void pair_columns(float *to, const uint16_t *src, size_t stride, size_t rows, size_t D)
{
    for (size_t r = 0; r < KEYS; r += VW) pair_some_columns(to + r, src + r * stride, stride, rows - NR_MIN(r, rows), D);
}

/* A bit for each of a tile's keys: [0, shared) and [begin, end), none beyond KEYS. */
NR_INLINE uint64_t first_bits(size_t n) { return n < KEYS ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0; }
NR_INLINE uint64_t seen_bits(size_t shared, size_t begin, size_t end)
{
    return (first_bits(end) & ~first_bits(begin)) | first_bits(shared);
}

/* Rounded to bf16: a in the lower half, b in the upper. */
NR_INLINE __m512i round_both(vf a, vf b) { return (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a); }

/* The halves of v beside each other: pairs. */
NR_INLINE __m512i beside(__m512i v)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                           18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, v);
}
#endif

#endif
