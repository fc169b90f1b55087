/*
 * quant_quads.h - AVX-512: integer products with blocks of 32 (Q4_0, Q4_1,
 * Q8_0), four rows of w at a time, each in quads of four blocks; included by
 * quant_dot_cpu.c.
 *
 * Every weight's byte is loaded once or twice and goes straight to its place:
 * one permutation of 16-bit words brings the four blocks' scales (and minima)
 * to lanes, one more the weights of two blocks into a vector. What is left of a row
 * behind whole quads is a quad with masks: missing blocks count as zeros.
 *
 * High nibbles stay where they are, and their sums are 16 times too large:
 * exactly, so that a factor at the end makes up for it. Signed bytes are taken
 * with 128 added, and the sums begin at -128 times the sum of q. Both need sums
 * of 32 bits (VNNI); without them nibbles are shifted and signs moved to q.
 */
#ifndef NR_QUANT_QUADS_H
#define NR_QUANT_QUADS_H

enum { W_ROWS = 4, QUAD = 4, AHEAD = 8192 /* bytes that are on their way: memory's latency at its rate */ };

/* The body for o = 0 .. 3 with o constant: a row of w each. */
#define EACH_W(...)             \
    do {                        \
        WITH(o, 0, __VA_ARGS__) \
        WITH(o, 1, __VA_ARGS__) \
        WITH(o, 2, __VA_ARGS__) \
        WITH(o, 3, __VA_ARGS__) \
    } while (0)

/* Four blocks of a row of x. */
typedef struct {
    __m512i q[2];   /* two blocks each */
    __m512i from[2]; /* where the sums of signed bytes begin */
    __m256 d_sum;   /* d, sum of each block */
} x_quad;

/* Four blocks of a row of w. */
typedef struct {
    __m512i v[2]; /* as q; nibbles where they stand */
    __m128i head; /* of each block: scale, minimum; without minima the scale twice */
} w_quad;

typedef struct {
    __m512 sum;     /* a d w q */
    __m256 minimum; /* odd lanes: b d sum q */
} row_sum;

#if defined(__AVX512VNNI__)
#define HIGH_NIBBLES 0.0625f
INLINE __m512i quad_dot(__m512i from, __m512i w, __m512i q) { return _mm512_dpbusd_epi32(from, w, q); }
INLINE __m512i quad_nibbles(__m512i from, __m512i w, __m512i q) { return quad_dot(from, w, q); }
INLINE __m512i quad_signed(__m512i from, __m512i w, __m512i q)
{
    return quad_dot(from, _mm512_xor_si512(w, _mm512_set1_epi8(-128)), q);
}
INLINE __m512i quad_from(__m512i q)
{
    return _mm512_sub_epi32(_mm512_setzero_si512(), quad_dot(_mm512_setzero_si512(), _mm512_set1_epi8(-128), q));
}
#else
#define HIGH_NIBBLES 1.0f
INLINE __m512i quad_dot(__m512i w, __m512i q)
{
    return _mm512_madd_epi16(_mm512_maddubs_epi16(w, q), _mm512_set1_epi16(1));
}
INLINE __m512i quad_nibbles(__m512i from, __m512i w, __m512i q)
{
    (void)from;
    const __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    return quad_dot(_mm512_srlv_epi32(w, shift), q);
}
INLINE __m512i quad_signed(__m512i from, __m512i w, __m512i q)
{
    (void)from;
    return quad_dot(_mm512_abs_epi8(w), _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(w), _mm512_setzero_si512(), q));
}
INLINE __m512i quad_from(__m512i q) { return q; /* not asked for */ }
#endif

INLINE x_quad x_quad_at(const nr_int8_rows *x, size_t at, size_t left, bool from)
{
    x_quad v;
    const int8_t *q = x->q + at * NR_INT8_BLOCK;
    const float *d_sum = x->d_sum + 2 * at;
    if (left >= QUAD) {
        v.q[0] = _mm512_loadu_si512(q);
        v.q[1] = _mm512_loadu_si512(q + 64);
        v.d_sum = _mm256_loadu_ps(d_sum);
    } else {
        uint32_t fours = (1u << 8 * left) - 1; /* eight a block */
        v.q[0] = _mm512_maskz_loadu_epi32((__mmask16)fours, q);
        v.q[1] = _mm512_maskz_loadu_epi32((__mmask16)(fours >> 16), q + 64);
        v.d_sum = _mm256_maskz_loadu_ps((__mmask8)((1u << 2 * left) - 1), d_sum);
    }
    for (size_t k = 0; k < 2; k++) v.from[k] = from ? quad_from(v.q[k]) : _mm512_setzero_si512();
    return v;
}

/* n of 32 words at w, the others 0. */
INLINE __m512i words_at(const uint8_t *w, uint64_t mask) { return _mm512_maskz_loadu_epi16((__mmask32)mask, w); }

/* Blocks of 18 or 20 bytes: two loads hold all of the quad, the second from `step` bytes on. */
INLINE w_quad nibbles_quad(const uint8_t *w, bool minima, size_t left)
{
    const __m512i mask = _mm512_setr_epi32(0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, -0x0f0f0f10, -0x0f0f0f10,
                                           -0x0f0f0f10, -0x0f0f0f10, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f,
                                           -0x0f0f0f10, -0x0f0f0f10, -0x0f0f0f10, -0x0f0f0f10);
    /* eight words from a on, twice, and eight from b on, twice */
#define PAIR_AT(a, b)                                                                                                   \
    _mm512_add_epi16(_mm512_setr_epi32(0x10000, 0x30002, 0x50004, 0x70006, 0x10000, 0x30002, 0x50004, 0x70006, 0x10000, \
                                       0x30002, 0x50004, 0x70006, 0x10000, 0x30002, 0x50004, 0x70006),                  \
                     _mm512_inserti64x4(_mm512_set1_epi16(a), _mm256_set1_epi16(b), 1))
    const __m512i first = minima ? PAIR_AT(2, 12) : PAIR_AT(1, 10);
    const __m512i second = minima ? PAIR_AT(14, 24) : PAIR_AT(15, 24);
#undef PAIR_AT
    const __m512i heads = _mm512_castsi128_si512(minima ? _mm_setr_epi16(0, 1, 10, 11, 20, 21, 30, 31) :
                                                          _mm_setr_epi16(0, 0, 9, 9, 18, 18, 27, 27));
    size_t words = minima ? 10 : 9, step = 4 * words - 32;
    __m512i a, b;
    if (left >= QUAD) {
        a = _mm512_loadu_si512(w);
        b = _mm512_loadu_si512(w + 2 * step);
    } else {
        uint64_t there = ((uint64_t)1 << words * left) - 1;
        a = words_at(w, there);
        b = words_at(w + 2 * step, there >> step);
    }
    return (w_quad){{_mm512_and_si512(_mm512_permutexvar_epi16(first, a), mask),
                     _mm512_and_si512(_mm512_permutexvar_epi16(second, b), mask)},
                    _mm512_castsi512_si128(_mm512_permutexvar_epi16(heads, a))};
}

INLINE __m512i two_blocks(const uint8_t *w, size_t bytes, size_t left)
{
    __m256i none = _mm256_setzero_si256();
    __m256i a = left > 0 ? (__m256i)load32(w) : none, b = left > 1 ? (__m256i)load32(w + bytes) : none;
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/* Blocks of 34 bytes. */
INLINE w_quad bytes_quad(const uint8_t *w, size_t left)
{
    const __m512i heads = _mm512_castsi128_si512(_mm_setr_epi16(0, 0, 17, 17, 32, 32, 49, 49));
    __m512i a, b;
    if (left >= QUAD) {
        a = _mm512_loadu_si512(w);
        b = _mm512_loadu_si512(w + 68);
    } else {
        uint64_t there = ((uint64_t)1 << 17 * left) - 1;
        a = words_at(w, there);
        b = words_at(w + 68, there >> 34);
    }
    return (w_quad){{two_blocks(w + 2, 34, left), two_blocks(w + 70, 34, left < 2 ? 0 : left - 2)},
                    _mm512_castsi512_si128(_mm512_permutex2var_epi16(a, heads, b))};
}

INLINE void add_quad(row_sum *s, const uint8_t *w, nr_dtype type, const x_quad *x, size_t left)
{
    const __m512i spread[2] = {_mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2),
                               _mm512_setr_epi32(4, 4, 4, 4, 4, 4, 4, 4, 6, 6, 6, 6, 6, 6, 6, 6)};
    w_quad v = type == NR_Q8_0 ? bytes_quad(w, left) : nibbles_quad(w, type == NR_Q4_1, left);
    __m256 d = _mm256_mul_ps(_mm256_cvtph_ps(v.head), x->d_sum);
    if (type != NR_Q8_0) s->minimum = _mm256_add_ps(s->minimum, d);
    for (size_t k = 0; k < 2; k++) {
        __m512i products = type == NR_Q8_0 ? quad_signed(x->from[k], v.v[k], x->q[k]) : quad_nibbles(x->from[k], v.v[k], x->q[k]);
        s->sum = _mm512_fmadd_ps(_mm512_permutexvar_ps(spread[k], _mm512_castps256_ps512(d)), _mm512_cvtepi32_ps(products), s->sum);
    }
}

/* All of a row's sum in the lanes of one vector. */
INLINE __m512 lanes_of(const row_sum *s, nr_dtype type)
{
    const float h = HIGH_NIBBLES;
    if (type == NR_Q8_0) return s->sum;
    __m512 each = _mm512_setr_ps(1, 1, 1, 1, h, h, h, h, 1, 1, 1, 1, h, h, h, h);
    __m512 minimum = _mm512_maskz_mul_ps(0xaa, _mm512_castps256_ps512(s->minimum), _mm512_set1_ps(type == NR_Q4_0 ? -8 : 1));
    return _mm512_fmadd_ps(s->sum, each, minimum);
}

/* The sums over the lanes of four vectors. */
INLINE __m128 lanes_added(__m512 a, __m512 b, __m512 c, __m512 d)
{
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); /* a b a b in every 128 bits */
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512 all = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high)); /* a b c d */
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* y (count) = the products of `count` rows of w, at most four, with a row of x. Fewer: the first stands in for the others. */
INLINE void quad_rows(float *y, const uint8_t *w, size_t bytes, nr_dtype type, size_t count, const nr_int8_rows *x, size_t row)
{
    const size_t block = type == NR_Q8_0 ? 34 : type == NR_Q4_1 ? 20 : 18, at = row * x->blocks;
    const uint8_t *from[W_ROWS];
    row_sum s[W_ROWS];
    size_t g = 0;
    EACH_W({
        from[o] = o < count ? w + o * bytes : w;
        s[o] = (row_sum){_mm512_setzero_ps(), _mm256_setzero_ps()};
    });
    for (; g + QUAD <= x->blocks; g += QUAD) {
        x_quad v = x_quad_at(x, at + g, QUAD, type == NR_Q8_0);
        for (size_t line = 0; line < QUAD * block * W_ROWS; line += 64)
            _mm_prefetch(w + g * block * W_ROWS + AHEAD + line, _MM_HINT_T0);
        EACH_W({ add_quad(&s[o], from[o] + g * block, type, &v, QUAD); });
    }
    if (g < x->blocks) {
        size_t left = x->blocks - g;
        x_quad v = x_quad_at(x, at + g, left, type == NR_Q8_0);
        EACH_W({ add_quad(&s[o], from[o] + g * block, type, &v, left); });
    }
    __m128 four = lanes_added(lanes_of(&s[0], type), lanes_of(&s[1], type), lanes_of(&s[2], type), lanes_of(&s[3], type));
    if (count == W_ROWS) _mm_storeu_ps(y, four);
    else _mm_mask_storeu_ps(y, (__mmask8)((1u << count) - 1), four);
}

#endif
