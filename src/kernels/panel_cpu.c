/*
 * panel_cpu.c - rows times one panel; see panel.h. Compiled for AVX-512 BF16, for
 * AVX-512 VNNI and, for floats, once per instruction set: the same tiles around another dot product.
 *
 * A tile is ROWS x VECTORS vectors of sums: 24 of 32 registers, 4 for the panel, one
 * for x; of 16 registers 12, 2 and one. A step takes 10 loads for 24 dot products or 8 for 12, so that the arithmetic
 * decides. The panel comes from the second cache once a tile.
 *
 * Of two neighbouring tiles the later one comes first. Rows of y one pitch after
 * another teach the processor to fetch the rows that follow the last one, which
 * are another thread's or another buffer's, and who writes them next pays for the
 * copy: 28 ns a line where the two cores lie on different dies.
 */
#include "kernels/panel.h"
#include "kernels/cpu.h"

#define ROWS NR_TILE
#define VECTORS (VW == 16 ? 4 : 2)
#define WIDTH (VECTORS * VW)
#define STEP_BYTES (4 * WIDTH)
#define EVERY (VW == 16 ? 2 : 8) /* steps between two pairs of lines asked for: many at once would stand in the panel's way */

/* The sums are vectors of the compiler's own: gcc 12 would copy a __m512i at every step. */
#if defined(__AVX512BF16__)
#define PER_STEP 2
typedef vf sums;
NR_INLINE sums dot(sums s, vi x, vi w) { return (vf)_mm512_dpbf16_ps((__m512)s, (__m512bh)x, (__m512bh)w); }
#elif defined(__AVX512VNNI__)
#define PER_STEP 4
typedef vi sums;
NR_INLINE sums dot(sums s, vi x, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)s, (__m512i)x, (__m512i)w); }
#else
#define PER_STEP 1
typedef vf sums;
NR_INLINE sums dot(sums s, vi x, vi w) { return vfma((vf)x, (vf)w, s); }
#endif

#define X_SIZE (4 / PER_STEP) /* bytes of an element of x */

/* The sums of a row from column col on become y; n of those columns exist. */
NR_INLINE void put(const nr_panel *p, size_t row, size_t col, sums s, size_t n, bool bf16)
{
#if defined(__AVX512VNNI__)
    vi exact = s - (vi)_mm512_maskz_loadu_epi32(vmask(n), p->offset + col);
    vf v = __builtin_convertvector(exact, vf) * (rload_n(p->col_scale, col, n) * p->row_scale[row]);
#else
    vf v = s;
    if (p->begin) v += rload_n(p->begin, row * p->begin_pitch + col, n);
#endif
    if (p->bias) v += rload_n(p->bias, col, n);
    if (p->accumulate) v += aload_n(p->y, row * p->y_pitch + col, n, bf16);
    astore_n(p->y, row * p->y_pitch + col, v, n, bf16);
}

/* A tile (rows, vectors) all of whose columns exist. p is a copy, so that the compiler knows that no store changes it. */
NR_INLINE void put_full(nr_panel p, size_t row, size_t rows, size_t vectors, sums s[ROWS][VECTORS], bool bf16)
{
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) put(&p, row + r, j * VW, s[r][j], VW, bf16);
}

static void put_rows(const nr_panel *p, size_t row, size_t rows, sums s[ROWS][VECTORS])
{
    for (size_t r = 0; r < rows; r++)
        for (size_t col = 0; col < p->cols; col += VW) put(p, row + r, col, s[r][col / VW], NR_MIN(p->cols - col, (size_t)VW), p->to == NR_BF16);
}

/* The others. The sums are copied into memory, or they would lie there all the time. */
NR_INLINE void put_ragged(const nr_panel *p, size_t row, size_t rows, size_t vectors, sums s[ROWS][VECTORS])
{
    sums copy[ROWS][VECTORS];
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) copy[r][j] = s[r][j];
    put_rows(p, row, rows, copy);
}

/* The next 4 bytes of a row of x in every lane; fewer at the row's end. */
NR_INLINE vi spread(const char *x, size_t bytes)
{
    int32_t v = 0;
    memcpy(&v, x, bytes);
    return v - (vi){0};
}

/* PER_STEP elements of every row, or what a row has left. */
NR_INLINE void step(sums s[ROWS][VECTORS], const char *x, size_t pitch, const char *panel, size_t bytes, size_t rows, size_t vectors)
{
    vi w[VECTORS];
#pragma GCC unroll 4
    for (size_t j = 0; j < vectors; j++) memcpy(&w[j], panel + j * sizeof *w, sizeof *w);
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
        vi v = spread(x + r * pitch, bytes);
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

/* Rows from `row` on of y, while its lines and a share of what comes next are asked for. In tiles x has a known pitch, which
 * leaves registers for the rest. */
NR_INLINE void tile(const nr_panel *p, size_t row, const nr_ahead next[2], size_t rows, size_t vectors, bool tiled)
{
    sums s[ROWS][VECTORS];
    size_t pitch = tiled ? 4 : p->pitch, apart = tiled ? 4 * ROWS : 4, steps = p->depth / PER_STEP, rest = p->depth % PER_STEP * X_SIZE;
    const char *x = (const char *)p->x + row * (tiled ? 4 * steps : pitch), *panel = p->panel;
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) s[r][j] = (sums){0};

#define STEP(bytes) (step(s, x, pitch, panel, bytes, rows, vectors), x += apart, panel += STEP_BYTES)
#define STEPS _Pragma("GCC unroll 8") for (size_t k = 0; k < EVERY; k++) STEP(4);
    /* A row of y is a line, a pair of them, or two. */
    size_t y_size = nr_dtype_size(p->to), y_pitch = p->y_pitch * y_size, two = WIDTH * y_size > NR_FETCH, left = steps / EVERY;
    const char *at = (const char *)p->y + row * y_pitch;
    for (size_t pair = 0, n = NR_MIN(rows << two, left); pair < n; pair++, left--) {
        __builtin_prefetch(at, 1, 3);
        if (VW == 16) __builtin_prefetch(at + 64, 1, 3);
        at += two & ~pair ? NR_FETCH : y_pitch - two * NR_FETCH;
        STEPS
    }
    for (size_t i = 0; i < 3; i++) {
        const nr_ahead ahead = i < 2 ? next[i] : (nr_ahead){NULL, left, 0};
        at = ahead.at;
        for (size_t pair = 0, n = NR_MIN(ahead.pairs, left); pair < n; pair++, at += ahead.pitch, left--) {
            if (i < 2) {
                __builtin_prefetch(at, 0, 2);
                __builtin_prefetch(at + 64, 0, 2);
            }
            STEPS
        }
    }
    for (size_t i = 0; i < steps % EVERY; i++) STEP(4);
    if (rest) STEP(rest);
    bool bf16 = PER_STEP > 1 && p->to == NR_BF16; /* products of floats are floats */
    if (p->cols < vectors * VW) put_ragged(p, row, rows, vectors, s);
    else if (bf16) put_full(*p, row, rows, vectors, s, true);
    else put_full(*p, row, rows, vectors, s, false);
}

typedef void tile_function(const nr_panel *p, size_t row, const nr_ahead next[2]);

#define TILE(rows, vectors)                                                                                            \
    static void tile_##rows##_##vectors(const nr_panel *p, size_t row, const nr_ahead next[2])                         \
    {                                                                                                                  \
        if (p->pitch) tile(p, row, next, rows, vectors, false);                                                        \
        else tile(p, row, next, rows, vectors, true);                                                                  \
    }
#if VW == 16
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
#define NAMES(rows) {tile_##rows##_1, tile_##rows##_2, tile_##rows##_3, tile_##rows##_4}
#else
#define TILES(rows) TILE(rows, 1) TILE(rows, 2)
#define NAMES(rows) {tile_##rows##_1, tile_##rows##_2}
#endif
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)

static tile_function *const tiles[ROWS][VECTORS] = {NAMES(1), NAMES(2), NAMES(3), NAMES(4), NAMES(5), NAMES(6)};

/* The row at which tile t of count begins: rows are shared out evenly, unless they lie in tiles. */
static size_t tile_begin(const nr_panel *p, size_t t, size_t count)
{
    return p->pitch ? t * (p->rows / count) + NR_MIN(t, p->rows % count) : NR_MIN(t * ROWS, p->rows);
}

static void product(const nr_panel *p)
{
    size_t count = (p->rows + ROWS - 1) / ROWS, vectors = (p->cols + VW - 1) / VW;
    if (count == 0) return;
    nr_ahead panel = p->next_panel, further = p->next_rows;
    size_t of_panel = (panel.pairs + count - 1) / count, of_rows = (further.pairs + count - 1) / count;
    for (size_t i = 0; i < count; i++) {
        size_t t = (i ^ 1) < count ? i ^ 1 : i, row = tile_begin(p, t, count), rows = tile_begin(p, t + 1, count) - row;
        const nr_ahead next[2] = {share_of(&panel, of_panel), share_of(&further, of_rows)};
        tiles[rows - 1][vectors - 1](p, row, next);
    }
}

/* ---- packing: rows follow one another far apart, so that they are asked for AHEAD rows early; few, as many of them may
 * fall on one set of the first cache ---- */

#define AHEAD 8

#if defined(__AVX512BF16__)
static void turn(void *panel, const void *from, size_t pitch, size_t n, size_t cols)
{
    for (size_t row = 0; row < n; row += 2)
        for (size_t col = 0; col < WIDTH; col += 32) {
            const uint16_t *a = (const uint16_t *)from + row * pitch + col, *b = a + pitch;
            size_t some = col < cols ? NR_MIN((size_t)32, cols - col) : 0;
            __mmask32 mask = some == 32 ? 0xffffffff : (1u << some) - 1;
            if (row + AHEAD + 1 < n) {
                __builtin_prefetch(a + AHEAD * pitch, 0, 2);
                __builtin_prefetch(b + AHEAD * pitch, 0, 2);
            }
            __m512i upper = _mm512_maskz_loadu_epi16(mask, a), lower = _mm512_maskz_loadu_epi16(row + 1 < n ? mask : 0, b);
            uint16_t *to = (uint16_t *)panel + (row / 2 * WIDTH + col) * 2;
            _mm512_storeu_si512(to, vpairs(upper, lower, false));
            _mm512_storeu_si512(to + 2 * VW, vpairs(upper, lower, true));
        }
}

static void turn_to_tiles(void *to, const void *from, size_t pitch, size_t n, size_t cols)
{
    size_t half = (n + 1) / 2;
    for (size_t some = 0; some < n; some += AHEAD)
        for (size_t col = 0; col < cols; col += ROWS) {
            __mmask8 mask = (__mmask8)((1u << NR_MIN((size_t)ROWS, cols - col)) - 1);
            for (size_t row = some; row < NR_MIN(some + AHEAD, n); row += 2) {
                const uint16_t *a = (const uint16_t *)from + row * pitch + col, *b = a + pitch;
                if (row + AHEAD + 1 < n && col % 32 < ROWS) {
                    __builtin_prefetch(a + AHEAD * pitch, 0, 2);
                    __builtin_prefetch(b + AHEAD * pitch, 0, 2);
                }
                __m128i upper = _mm_maskz_loadu_epi16(mask, a), lower = _mm_maskz_loadu_epi16(row + 1 < n ? mask : 0, b);
                __m256i pairs = _mm256_set_m128i(_mm_unpackhi_epi16(upper, lower), _mm_unpacklo_epi16(upper, lower));
                _mm256_mask_storeu_epi32((uint16_t *)to + (col * half + row / 2 * ROWS) * 2, (1 << ROWS) - 1, pairs);
            }
        }
}

/* Panels go past the caches, as a line is next read when all the others are written. */

/* 32 elements of a row in bf16, zeros for those beyond n. */
NR_INLINE __m512i rounded(const float *w, size_t n)
{
    __mmask32 mask = n < 2 * VW ? (1u << n) - 1 : 0xffffffff;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(mask >> VW), w + VW), _mm512_maskz_loadu_ps((__mmask16)mask, w));
}

static void pack_down(void *panel, const float *w, size_t pitch, size_t depth, size_t cols)
{
    for (size_t d = 0; d < depth; d += 2)
        for (size_t col = 0; col < cols; col += 2 * VW) {
            const float *row = w + d * pitch + col;
            __m512i upper = rounded(row, cols - col), lower = d + 1 < depth ? rounded(row + pitch, cols - col) : _mm512_setzero_si512();
            uint16_t *to = (uint16_t *)panel + (d / 2 * WIDTH + col) * 2;
            vstore_past(to, vpairs(upper, lower, false));
            vstore_past(to + 2 * VW, vpairs(upper, lower, true));
        }
    _mm_sfence();
}

static void pack_across(void *panel, const float *w, size_t pitch, size_t depth, size_t cols)
{
    for (size_t col = 0; col < cols; col += VW)
        for (size_t d = 0; d < depth; d += 2 * VW) {
            size_t pairs = NR_MIN((depth - d + 1) / 2, (size_t)VW);
            __m512i x[VW];
            for (size_t i = 0; i < VW; i++) x[i] = col + i < cols ? rounded(w + (col + i) * pitch + d, depth - d) : _mm512_setzero_si512();
            vcolumns(x);
            for (size_t i = 0; i < pairs; i++) vstore_past((uint16_t *)panel + ((d / 2 + i) * WIDTH + col) * 2, x[i]);
        }
    _mm_sfence();
}
#elif !defined(__AVX512VNNI__)
static void turn(void *panel, const void *from, size_t pitch, size_t n, size_t cols)
{
    for (size_t row = 0; row < n; row++)
        for (size_t col = 0; col < WIDTH; col += VW) {
            const float *x = (const float *)from + row * pitch + col;
            if (row + AHEAD < n && col % 16 == 0) __builtin_prefetch(x + AHEAD * pitch, 0, 2);
            vstore((float *)panel + row * WIDTH + col, rload_n(x, 0, cols - NR_MIN(col, cols)));
        }
}

static void turn_to_tiles(void *to, const void *from, size_t pitch, size_t n, size_t cols)
{
    for (size_t some = 0; some < n; some += AHEAD)
        for (size_t col = 0; col < cols; col += ROWS)
            for (size_t row = some; row < NR_MIN(some + AHEAD, n); row++) {
                const float *x = (const float *)from + row * pitch + col;
                float *tile_row = (float *)to + col * n + row * ROWS;
                if (row + AHEAD < n && col % 16 < ROWS) __builtin_prefetch(x + AHEAD * pitch, 0, 2);
                if (col + ROWS <= cols) memcpy(tile_row, x, ROWS * sizeof *x);
                else memcpy(tile_row, x, (cols - col) * sizeof *x);
            }
}

static void pack_down(void *panel, const float *w, size_t pitch, size_t depth, size_t cols) { turn(panel, w, pitch, depth, cols); }

static void pack_across(void *panel, const float *w, size_t pitch, size_t depth, size_t cols)
{
    for (size_t col = 0; col < WIDTH; col += VW)
        for (size_t d = 0; d < depth; d += VW) {
            size_t n = NR_MIN(depth - d, (size_t)VW);
            vany x[VW];
            for (size_t i = 0; i < VW; i++) x[i] = (vany)(col + i < cols ? rload_n(w, (col + i) * pitch + d, n) : vzero());
            vcolumns(x);
            for (size_t i = 0; i < n; i++) vstore((float *)panel + (d + i) * WIDTH + col, (vf)x[i]);
        }
}
#endif

extern const nr_panel_kernels NR_CPU(panel, kernels);
#if defined(__AVX512VNNI__)
const nr_panel_kernels NR_CPU(panel, kernels) = {WIDTH, PER_STEP, X_SIZE, product, NULL, NULL, NULL, NULL};
#else
const nr_panel_kernels NR_CPU(panel, kernels) = {WIDTH, PER_STEP, X_SIZE, product, turn, turn_to_tiles, pack_down, pack_across};
#endif
