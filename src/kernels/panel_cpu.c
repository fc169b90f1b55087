/*
 * panel_cpu.c - rows times one panel; see panel.h. Compiled for AVX-512 BF16 and
 * for AVX-512 VNNI: the same tiles around another dot product.
 *
 * A tile is ROWS x 4 vectors of sums: 24 of 32 registers, 4 for the panel, one
 * for x. A step takes 10 loads for 24 dot products, so that the arithmetic
 * decides. The panel comes from the second cache once a tile.
 *
 * Of two neighbouring tiles the later one comes first. Rows of y one pitch after
 * another teach the processor to fetch the rows that follow the last one, which
 * are another thread's or another buffer's, and who writes them next pays for the
 * copy: 28 ns a line where the two cores lie on different dies.
 */
#include "kernels/panel.h"
#include "kernels/cpu.h"

#define ROWS 6
#define VECTORS (NR_PANEL / VW)
#define STEP_BYTES (4 * NR_PANEL)
#define EVERY 2 /* steps between two pairs of lines asked for: many at once would stand in the panel's way */

#if defined(__AVX512BF16__)
#define PER_STEP 2
typedef __m512 sums;
NR_INLINE sums no_sum(void) { return _mm512_setzero_ps(); }
NR_INLINE sums dot(sums s, __m512i x, __m512i w) { return _mm512_dpbf16_ps(s, (__m512bh)x, (__m512bh)w); }
#else
#define PER_STEP 4
typedef vi sums; /* not __m512i: gcc 12 would copy every sum at every step */
NR_INLINE sums no_sum(void) { return (sums){0}; }
NR_INLINE sums dot(sums s, __m512i x, __m512i w) { return (sums)_mm512_dpbusd_epi32((__m512i)s, x, w); }
#endif

#define X_SIZE (4 / PER_STEP) /* bytes of an element of x */

/* Vector `at` of y, of which mask says the columns that exist. */
NR_INLINE vf get(const nr_panel *p, size_t at, __mmask16 mask, bool bf16)
{
    if (!bf16) return (vf)_mm512_maskz_loadu_ps(mask, (const float *)p->y + at);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)p->y + at)), 16);
}

NR_INLINE void put(const nr_panel *p, size_t at, vf v, __mmask16 mask, bool bf16)
{
    if (bf16) _mm256_mask_storeu_epi16((uint16_t *)p->y + at, mask, (__m256i)vround_bf16(v));
    else _mm512_mask_storeu_ps((float *)p->y + at, mask, (__m512)v);
}

/* What the sums of some columns of a row stand for. */
NR_INLINE vf value(const nr_panel *p, size_t row, size_t col, sums s, __mmask16 mask)
{
#if defined(__AVX512BF16__)
    vf v = (vf)s;
    if (p->begin) v += (vf)_mm512_maskz_loadu_ps(mask, p->begin + row * p->begin_pitch + col);
#else
    __m512i exact = _mm512_sub_epi32((__m512i)s, _mm512_maskz_loadu_epi32(mask, p->offset + col));
    vf v = (vf)_mm512_cvtepi32_ps(exact) * ((vf)_mm512_maskz_loadu_ps(mask, p->col_scale + col) * p->row_scale[row]);
#endif
    return p->bias ? v + (vf)_mm512_maskz_loadu_ps(mask, p->bias + col) : v;
}

/* The sums of a tile (rows, vectors) become y; full: all columns of the vectors exist. p is a copy, so that the compiler
 * knows that no store changes it. */
NR_INLINE void put_tile(nr_panel p, size_t row, size_t rows, size_t vectors, sums s[ROWS][VECTORS], bool bf16, bool full)
{
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) {
            size_t col = j * VW, at = (row + r) * p.y_pitch + col;
            __mmask16 mask = (__mmask16)(full || p.cols - col >= VW ? 0xffff : (1u << (p.cols - col)) - 1);
            vf v = value(&p, row + r, col, s[r][j], mask);
            put(&p, at, p.accumulate ? v + get(&p, at, mask, bf16) : v, mask, bf16);
        }
}

/* The next 4 bytes of a row of x in every lane; fewer at the row's end. */
NR_INLINE __m512i spread(const char *x, size_t bytes)
{
    int32_t v = 0;
    memcpy(&v, x, bytes);
    return _mm512_set1_epi32(v);
}

/* PER_STEP elements of every row, or what a row has left. */
NR_INLINE void step(sums s[ROWS][VECTORS], const char *x, size_t pitch, const char *panel, size_t bytes, size_t rows, size_t vectors)
{
    __m512i w[VECTORS];
#pragma GCC unroll 4
    for (size_t j = 0; j < vectors; j++) w[j] = _mm512_loadu_si512(panel + j * sizeof *w);
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
        __m512i v = spread(x + r * pitch, bytes);
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) s[r][j] = dot(s[r][j], v, w[j]);
    }
}

/* The first `pairs` of what comes next are this tile's, the rest is left. */
NR_INLINE nr_ahead share_of(nr_ahead *left, size_t pairs)
{
    nr_ahead share = {left->at, NR_MIN(pairs, left->pairs), left->pitch};
    if (share.pairs) left->at = (const char *)left->at + share.pairs * left->pitch;
    left->pairs -= share.pairs;
    return share;
}

/* Rows from `row` on of y, while its lines and a share of what comes next are asked for. */
NR_INLINE void tile(const nr_panel *p, size_t row, const nr_ahead next[2], size_t rows, size_t vectors)
{
    sums s[ROWS][VECTORS];
    const char *x = (const char *)p->x + row * p->pitch, *panel = p->panel;
    size_t pitch = p->pitch, apart = p->step, steps = p->depth / PER_STEP, rest = p->depth % PER_STEP * X_SIZE, i = 0;
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) s[r][j] = no_sum();

#define STEP(bytes) step(s, x + apart * i, pitch, panel + STEP_BYTES * i, bytes, rows, vectors)
#define STEPS _Pragma("GCC unroll 2") for (size_t k = 0; k < EVERY; k++, i++) STEP(4)
    /* A row of y is a pair of lines, or two. */
    size_t two = p->to == NR_F32, y_pitch = p->y_pitch * (two ? sizeof(float) : sizeof(uint16_t));
    const char *at = (const char *)p->y + row * y_pitch;
    for (size_t pair = 0, n = NR_MIN(rows << two, steps / EVERY); pair < n; pair++) {
        __builtin_prefetch(at, 1, 3);
        __builtin_prefetch(at + 64, 1, 3);
        at += two & ~pair ? NR_FETCH : y_pitch - two * NR_FETCH;
        STEPS;
    }
    for (const nr_ahead *ahead = next; ahead < next + 2; ahead++) {
        at = ahead->at;
        for (size_t pair = 0, n = NR_MIN(ahead->pairs, (steps - i) / EVERY); pair < n; pair++, at += ahead->pitch) {
            __builtin_prefetch(at, 0, 2);
            __builtin_prefetch(at + 64, 0, 2);
            STEPS;
        }
    }
    for (; i < steps; i++) STEP(4);
    if (rest) STEP(rest);
    bool bf16 = p->to == NR_BF16, full = p->cols == vectors * VW;
    if (bf16 && full) put_tile(*p, row, rows, vectors, s, true, true);
    else if (bf16) put_tile(*p, row, rows, vectors, s, true, false);
    else if (full) put_tile(*p, row, rows, vectors, s, false, true);
    else put_tile(*p, row, rows, vectors, s, false, false);
}

typedef void tile_function(const nr_panel *p, size_t row, const nr_ahead next[2]);

#define TILE(rows, vectors)                                                                                            \
    static void tile_##rows##_##vectors(const nr_panel *p, size_t row, const nr_ahead next[2])                         \
    {                                                                                                                  \
        tile(p, row, next, rows, vectors);                                                                             \
    }
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)

#define NAMES(rows) {tile_##rows##_1, tile_##rows##_2, tile_##rows##_3, tile_##rows##_4}
static tile_function *const tiles[ROWS][VECTORS] = {NAMES(1), NAMES(2), NAMES(3), NAMES(4), NAMES(5), NAMES(6)};

nr_panel_product NR_CPU(panel, product);
void NR_CPU(panel, product)(const nr_panel *p)
{
    size_t count = (p->rows + ROWS - 1) / ROWS, vectors = (p->cols + VW - 1) / VW;
    if (count == 0) return;
    nr_ahead panel = p->next_panel, further = p->next_rows;
    size_t of_panel = (panel.pairs + count - 1) / count, of_rows = (further.pairs + count - 1) / count;
    size_t least = p->rows / count, more = p->rows % count; /* rows of a tile; tiles that have one more */
    for (size_t i = 0; i < count; i++) {
        size_t t = (i ^ 1) < count ? i ^ 1 : i, row = t * least + NR_MIN(t, more);
        const nr_ahead next[2] = {share_of(&panel, of_panel), share_of(&further, of_rows)};
        tiles[least + (t < more) - 1][vectors - 1](p, row, next);
    }
}

#if defined(__AVX512BF16__)
/* Rows follow one another far apart, so that they are asked for AHEAD rows early. */
#define AHEAD 32
nr_panel_pairs NR_CPU(panel, pairs);
void NR_CPU(panel, pairs)(uint16_t *pairs, size_t width, const uint16_t *x, size_t pitch, size_t rows, size_t cols)
{
    for (size_t row = 0; row < rows; row += 2)
        for (size_t col = 0; col < width; col += 32) {
            const uint16_t *a = x + row * pitch + col, *b = a + pitch;
            size_t n = col < cols ? NR_MIN((size_t)32, cols - col) : 0;
            __mmask32 mask = n == 32 ? 0xffffffff : (1u << n) - 1;
            if (row + AHEAD + 1 < rows) {
                __builtin_prefetch(a + AHEAD * pitch, 0, 3);
                __builtin_prefetch(b + AHEAD * pitch, 0, 3);
            }
            __m512i upper = _mm512_maskz_loadu_epi16(mask, a), lower = _mm512_maskz_loadu_epi16(row + 1 < rows ? mask : 0, b);
            uint16_t *to = pairs + (row / 2 * width + col) * 2;
            _mm512_storeu_si512(to, vpairs(upper, lower, false));
            _mm512_storeu_si512(to + 2 * VW, vpairs(upper, lower, true));
        }
}

/* ---- packings: past the caches, as a line is next read when all the others are written ---- */

/* 32 elements of a row in bf16, zeros for those beyond n. */
NR_INLINE __m512i rounded(const float *w, size_t n)
{
    __mmask32 mask = n < 2 * VW ? (1u << n) - 1 : 0xffffffff;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(mask >> VW), w + VW), _mm512_maskz_loadu_ps((__mmask16)mask, w));
}

nr_panel_pack NR_CPU(panel, pack_down);
void NR_CPU(panel, pack_down)(uint16_t *panel, const float *w, size_t pitch, size_t depth, size_t cols)
{
    for (size_t d = 0; d < depth; d += 2)
        for (size_t col = 0; col < cols; col += 2 * VW) {
            const float *row = w + d * pitch + col;
            __m512i upper = rounded(row, cols - col), lower = d + 1 < depth ? rounded(row + pitch, cols - col) : _mm512_setzero_si512();
            uint16_t *to = panel + (d / 2 * NR_PANEL + col) * 2;
            vstore_past(to, vpairs(upper, lower, false));
            vstore_past(to + 2 * VW, vpairs(upper, lower, true));
        }
    _mm_sfence();
}

nr_panel_pack NR_CPU(panel, pack_across);
void NR_CPU(panel, pack_across)(uint16_t *panel, const float *w, size_t pitch, size_t depth, size_t cols)
{
    for (size_t col = 0; col < cols; col += VW)
        for (size_t d = 0; d < depth; d += 2 * VW) {
            size_t pairs = NR_MIN((depth - d + 1) / 2, (size_t)VW);
            __m512i x[VW];
            for (size_t i = 0; i < VW; i++) x[i] = col + i < cols ? rounded(w + (col + i) * pitch + d, depth - d) : _mm512_setzero_si512();
            vcolumns(x);
            for (size_t i = 0; i < pairs; i++) vstore_past(panel + ((d / 2 + i) * NR_PANEL + col) * 2, x[i]);
        }
    _mm_sfence();
}
#endif
