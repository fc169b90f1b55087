/*
 * attention_tiles.h - what the attention kernels share: a small matrix product
 * on tiles, and the packing of keys and values into them.
 *
 * Tiles hold KEYS keys or QUERIES queries. Everything in them is float, bf16 is
 * converted on the way in. DP is D rounded up to whole vectors; the channels
 * beyond D are zero. Keys are packed once a call, for all query heads that
 * share them: memory is linear in the number of keys.
 */
#ifndef NR_ATTENTION_TILES_H
#define NR_ATTENTION_TILES_H

#include "kernels/cpu.h"

enum {
    KEYS = 64,
    QUERIES = 32,
    ROWS = 4,                /* rows of the product's register block; KEYS and QUERIES are multiples */
    COLS = VW == 16 ? 4 : 2, /* its vectors: 16 or 8 accumulators */
    LANES = 64               /* working sets: at most so many tasks run at once */
};

NR_INLINE size_t padded(size_t D) { return (D + VW - 1) / VW * VW; }

/* ROWS rows and nv vectors of c [+]= a b; a element (r, k) at r ra + k ka. */
NR_INLINE void product_block(size_t nv, float *c, size_t ldc, const float *a, size_t ra, size_t ka, const float *b,
                             size_t ldb, size_t depth, bool accumulate)
{
    vf s[ROWS][COLS];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t v = 0; v < nv; v++) s[r][v] = accumulate ? vload(c + r * ldc + v * VW) : vzero();
    for (size_t k = 0; k < depth; k++) {
        vf t[COLS];
        for (size_t v = 0; v < nv; v++) t[v] = vload(b + k * ldb + v * VW);
        for (size_t r = 0; r < ROWS; r++) {
            vf x = vset(a[r * ra + k * ka]);
            for (size_t v = 0; v < nv; v++) s[r][v] = vfma(x, t[v], s[r][v]);
        }
    }
    for (size_t r = 0; r < ROWS; r++)
        for (size_t v = 0; v < nv; v++) vstore(c + r * ldc + v * VW, s[r][v]);
}

/* c (rows, cols) [+]= a (rows, depth) b (depth, cols). cols is a multiple of
 * VW; rows is rounded up to a multiple of ROWS, which c and a must hold. */
NR_INLINE void product(float *c, size_t ldc, const float *a, size_t ra, size_t ka, const float *b, size_t ldb,
                       size_t rows, size_t cols, size_t depth, bool accumulate)
{
    for (size_t j = 0; j < cols; j += COLS * VW)
        for (size_t r = 0; r < rows; r += ROWS) {
            float *to = c + r * ldc + j;
            const float *x = a + r * ra, *y = b + j;
            switch (NR_MIN((cols - j) / VW, (size_t)COLS)) {
            case 1:
                product_block(1, to, ldc, x, ra, ka, y, ldb, depth, accumulate);
                break;
            case 2:
                product_block(2, to, ldc, x, ra, ka, y, ldb, depth, accumulate);
                break;
#if VW == 16
            case 3:
                product_block(3, to, ldc, x, ra, ka, y, ldb, depth, accumulate);
                break;
#endif
            default:
                product_block(COLS, to, ldc, x, ra, ka, y, ldb, depth, accumulate);
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
    if (rows < KEYS) memset(to, 0, D * KEYS * sizeof *to);
    for (size_t r = 0; r < rows; r++)
        NR_EACH(D, {
            float t[VW];
            vstore(t, aload_n(src, r * stride + i, m, bf16));
            for (size_t d = 0; d < (size_t)m; d++) to[(i + d) * KEYS + r] = t[d];
        });
}

/* Keys [begin, end) of a tile at k0 that the query at `position` sees. */
NR_INLINE size_t visible_end(size_t position, size_t k0, size_t cols)
{
    return NR_MIN(position + 1 - NR_MIN(position + 1, k0), cols);
}
NR_INLINE size_t visible_begin(size_t first, size_t k0, size_t cols) { return NR_MIN(first - NR_MIN(first, k0), cols); }

#endif
