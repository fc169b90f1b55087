/*
 * quant_dot_cpu.c - integer products with quantised blocks, see quant.h.
 *
 * One text for all instruction sets over vectors of 32 bytes (a group of 32
 * weights), which the compiler splits where there are none so wide; only the
 * product of bytes, the half floats and the fused multiply-add are named by
 * instruction. A group of w is unpacked once for up to ROWS rows of x.
 *
 * Vectors wider than the machine's never cross a call, as everything on them is
 * inlined: the compiler's note about passing them (-Wpsabi) is turned off.
 *
 * Two sums take turns from group to group: a float addition takes longer than
 * the rest of a group's work.
 */
#include <math.h>
#include <string.h>

#include "kernels/quant.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define JOIN2(a, b) a##_##b
#define JOIN(a, b)  JOIN2(a, b)
#define TEXT2(a)    #a
#define TEXT(a)     TEXT2(a)
#define ROWS        4 /* rows of x at once */
#define QK_K        256

typedef uint8_t u8 __attribute__((vector_size(32)));
typedef int8_t i8 __attribute__((vector_size(32)));
typedef uint8_t u8_half __attribute__((vector_size(16)));
typedef int32_t i32 __attribute__((vector_size(32)));
typedef float f4 __attribute__((vector_size(16)));
typedef float f8 __attribute__((vector_size(32)));

/* ---- what instruction sets name differently ---- */

/* Products of 32 pairs of bytes in eight partial sums: those of the first 16 in lanes 0..3. w at most 128. */
INLINE i32 dot(u8 w, i8 q)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (i32)_mm256_dpbusd_epi32(_mm256_setzero_si256(), (__m256i)w, (__m256i)q);
#elif defined(__AVX2__)
    return (i32)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)w, (__m256i)q), _mm256_set1_epi16(1));
#elif defined(__SSE2__)
    __m128i zero = _mm_setzero_si128(), a[2], b[2], sum[2];
    memcpy(a, &w, sizeof a);
    memcpy(b, &q, sizeof b);
    for (size_t k = 0; k < 2; k++) {
        __m128i sign = _mm_cmpgt_epi8(zero, b[k]);
        sum[k] = _mm_add_epi32(_mm_madd_epi16(_mm_unpacklo_epi8(a[k], zero), _mm_unpacklo_epi8(b[k], sign)),
                               _mm_madd_epi16(_mm_unpackhi_epi8(a[k], zero), _mm_unpackhi_epi8(b[k], sign)));
    }
    i32 both;
    memcpy(&both, sum, sizeof both);
    return both;
#else
    int32_t sum[8] = {0};
    for (size_t i = 0; i < 32; i++) sum[i / 4] += w[i] * q[i];
    i32 both;
    memcpy(&both, sum, sizeof both);
    return both;
#endif
}

/* The same of signed w: |w| and q with the sign of w. */
INLINE i32 dot_signed(i8 w, i8 q)
{
#if defined(__AVX2__)
    return dot((u8)_mm256_abs_epi8((__m256i)w), (i8)_mm256_sign_epi8((__m256i)q, (__m256i)w));
#else
    i8 minus = w < 0; /* all bits where negative */
    return dot((u8)((w ^ minus) - minus), (q ^ minus) - minus);
#endif
}

INLINE f8 multiply_add(f8 a, f8 b, f8 c)
{
#if defined(__FMA__)
    return (f8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

INLINE float half_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
#if defined(__F16C__)
    return _cvtsh_ss(v);
#else
    uint32_t sign = (uint32_t)(v & 0x8000) << 16, magnitude = (uint32_t)(v & 0x7fff) << 13;
    float f;
    memcpy(&f, &magnitude, sizeof f);
    f *= 0x1p112f; /* the biases' difference, 127 - 15; right for subnormals too */
    memcpy(&magnitude, &f, sizeof f);
    if ((v & 0x7c00) == 0x7c00) magnitude = 0x7f800000 | (uint32_t)(v & 0x3ff) << 13; /* infinity, NaN */
    magnitude |= sign;
    memcpy(&f, &magnitude, sizeof f);
    return f;
#endif
}

/* Lanes 0 and 1: two halfs. */
INLINE f4 halves_at(const uint8_t *p)
{
#if defined(__F16C__)
    int32_t both;
    memcpy(&both, p, sizeof both);
    return (f4)_mm_cvtph_ps(_mm_cvtsi32_si128(both));
#else
    return (f4){half_at(p), half_at(p + 2), 0, 0};
#endif
}

/* ---- small helpers ---- */

INLINE f8 all8(float x) { return x - (f8){0}; }
INLINE f8 to_float(i32 x) { return __builtin_convertvector(x, f8); }

INLINE float add_up(f8 v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

INLINE u8 load32(const uint8_t *p)
{
    u8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE i8 load_q(const int8_t *p)
{
    i8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE f4 load2(const float *p)
{
#if defined(__SSE2__)
    return (f4)_mm_loadl_epi64((const __m128i *)(const void *)p);
#else
    return (f4){p[0], p[1], 0, 0};
#endif
}

INLINE f8 load8(const float *p)
{
    f8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Bits of every byte from `shift` on. */
INLINE u8 bits(u8 v, int shift, uint8_t mask)
{
    typedef uint16_t u16 __attribute__((vector_size(32)));
    return (u8)((u16)v >> shift) & mask; /* what comes over from the next byte is masked off */
}

/* 16 bytes: elements 0..15 low, 16..31 high. */
INLINE u8 nibbles16(const uint8_t *p)
{
    u8_half v;
    memcpy(&v, p, sizeof v);
    typedef uint16_t u16 __attribute__((vector_size(16)));
    u8_half high = (u8_half)((u16)v >> 4);
    return __builtin_shufflevector(v, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                                   23, 24, 25, 26, 27, 28, 29, 30, 31) & 15;
}

/* ---- rounding x ---- */

/* Eight elements of an act buffer from i on; zeros where fewer are left. */
INLINE f8 act8(const void *x, size_t i, size_t left, bool bf16)
{
    typedef uint16_t u16_8 __attribute__((vector_size(16)));
    typedef uint32_t u32 __attribute__((vector_size(32)));
    f8 v = {0};
    u16_8 h = {0};
    size_t n = left < 8 ? left : 8;
    if (!bf16) {
        if (n == 8) memcpy(&v, (const float *)x + i, sizeof v);
        else for (size_t k = 0; k < n; k++) v[k] = ((const float *)x)[i + k];
        return v;
    }
    if (n == 8) memcpy(&h, (const uint16_t *)x + i, sizeof h);
    else for (size_t k = 0; k < n; k++) h[k] = ((const uint16_t *)x)[i + k];
    return (f8)(__builtin_convertvector(h, u32) << 16);
}

INLINE f8 larger(f8 a, f8 b)
{
    i32 first = a > b;
    return (f8)(((i32)a & first) | ((i32)b & ~first));
}

INLINE float largest(f8 v)
{
    v = larger(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
    v = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
    return v[0] > v[1] ? v[0] : v[1];
}

/* Block number `block` of x, elements at .. at + n - 1; n at most 32. */
INLINE void round_block(const nr_int8_rows *to, size_t block, const void *x, size_t at, size_t n, bool bf16)
{
    f8 v[4], most = {0}, none = {0};
    for (size_t k = 0; k < 4; k++) {
        v[k] = act8(x, at + 8 * k, n > 8 * k ? n - 8 * k : 0, bf16);
        most = larger((f8)((i32)v[k] & 0x7fffffff), most);
        none += v[k] * 0; /* NaN where v is no number, and then the block's scale is NaN too */
    }
    float bad = add_up(none), top = largest(most), d = top / 127 + bad, inverse = top > 0 && bad == 0 ? 127 / top : 0;
    i32 sum[2] = {{0}, {0}};
    int8_t *q = to->q + block * NR_INT8_BLOCK;
    for (size_t k = 0; k < 4; k++) {
        /* 1.5 2^23: adding it rounds to the nearest integer, ties to even. */
        i32 r = (i32)(v[k] * inverse + 12582912.0f) - 0x4B400000;
        if (bad != 0) r = (i32){0};
        typedef int8_t i8_8 __attribute__((vector_size(8)));
        i8_8 bytes = __builtin_convertvector(r, i8_8);
        memcpy(q + 8 * k, &bytes, sizeof bytes);
        sum[k / 2] += r;
    }
    float half[2] = {d * add_up(to_float(sum[0])), d * add_up(to_float(sum[1]))};
    to->d[block] = to->d_sum[2 * block] = d;
    memcpy(to->half + 2 * block, half, sizeof half);
    to->sum[block] = to->d_sum[2 * block + 1] = d * add_up(to_float(sum[0] + sum[1]));
}

#if defined(__AVX512F__)

INLINE __m512 act16(const void *x, size_t i, bool bf16)
{
    if (!bf16) return _mm512_loadu_ps((const float *)x + i);
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)x + i));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* A whole block, with the bits of round_block. */
INLINE void round_whole(const nr_int8_rows *to, size_t block, const void *x, size_t at, bool bf16)
{
    enum { NOT_FINITE = 0x99 };
    __m512 v[2] = {act16(x, at, bf16), act16(x, at + 16, bf16)};
    bool bad = _mm512_fpclass_ps_mask(v[0], NOT_FINITE) | _mm512_fpclass_ps_mask(v[1], NOT_FINITE);
    float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])));
    float d = bad ? NAN : top / 127, inverse = top > 0 ? 127 / top : 0;
    __m128i q[2];
    for (size_t k = 0; k < 2; k++) {
        q[k] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v[k], _mm512_set1_ps(inverse))));
        if (bad) q[k] = _mm_setzero_si128();
    }
    __m256i all = _mm256_inserti128_si256(_mm256_castsi128_si256(q[0]), q[1], 1);
    _mm256_storeu_si256((__m256i *)(void *)(to->q + block * NR_INT8_BLOCK), all);
    /* 128 + q is unsigned, and eight such bytes are added at once */
    __m256i sums = _mm256_sad_epu8(_mm256_xor_si256(all, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    int low = (int)(_mm256_extract_epi64(sums, 0) + _mm256_extract_epi64(sums, 1)) - 16 * 128;
    int high = (int)(_mm256_extract_epi64(sums, 2) + _mm256_extract_epi64(sums, 3)) - 16 * 128;
    to->d[block] = to->d_sum[2 * block] = d;
    to->half[2 * block] = d * (float)low;
    to->half[2 * block + 1] = d * (float)high;
    to->sum[block] = to->d_sum[2 * block + 1] = d * (float)(low + high);
}

#else

INLINE void round_whole(const nr_int8_rows *to, size_t block, const void *x, size_t at, bool bf16)
{
    round_block(to, block, x, at, NR_INT8_BLOCK, bf16);
}

#endif

INLINE void round_rows(const nr_int8_rows *to, const void *x, size_t n, size_t cols, bool bf16)
{
    for (size_t r = 0; r < n; r++)
        for (size_t b = 0; b < to->blocks; b++) {
            size_t at = b * NR_INT8_BLOCK, left = cols - at;
            if (left >= NR_INT8_BLOCK) round_whole(to, r * to->blocks + b, x, r * cols + at, bf16);
            else round_block(to, r * to->blocks + b, x, r * cols + at, left, bf16);
        }
}

static void round_all(const nr_int8_rows *to, const void *x, nr_dtype act, size_t n, size_t cols)
{
    if (act == NR_BF16) round_rows(to, x, n, cols, true);
    else round_rows(to, x, n, cols, false);
}

/* ---- one row of w with nx rows of x ---- */

/* The body for r = 0 .. nx - 1 and g = 0 .. 7 with r and g constants, so that
 * sums stay in registers. nx is 1 or ROWS. */
#define EACH_ROW(nx, ...)                                                  \
    do {                                                                   \
        WITH(r, 0, __VA_ARGS__)                                            \
        if ((nx) == ROWS) {                                                \
            WITH(r, 1, __VA_ARGS__)                                        \
            WITH(r, 2, __VA_ARGS__)                                        \
            WITH(r, 3, __VA_ARGS__)                                        \
        }                                                                  \
    } while (0)
#define EACH_GROUP(...)                                                    \
    do {                                                                   \
        WITH(g, 0, __VA_ARGS__)                                            \
        WITH(g, 1, __VA_ARGS__)                                            \
        WITH(g, 2, __VA_ARGS__)                                            \
        WITH(g, 3, __VA_ARGS__)                                            \
        WITH(g, 4, __VA_ARGS__)                                            \
        WITH(g, 5, __VA_ARGS__)                                            \
        WITH(g, 6, __VA_ARGS__)                                            \
        WITH(g, 7, __VA_ARGS__)                                            \
    } while (0)
#define WITH(name, value, ...)     \
    {                              \
        enum { name = value };     \
        __VA_ARGS__                \
    }

typedef struct {
    f8 sum[ROWS][2]; /* a d w q, by lanes; odd and even groups */
    f8 offset[ROWS]; /* b d sum q */
    f4 minimum[ROWS]; /* of the types with blocks of 32: lane 1 */
} sums;

INLINE void add_group(f8 *sum, f8 scale, i32 products) { *sum = multiply_add(scale, to_float(products), *sum); }

/* A block of 32: d, for Q4_1 also a minimum, and w in low and high nibbles or bytes. */
INLINE void group_32(sums *s, const uint8_t *w, nr_dtype type, const nr_int8_rows *x, size_t row, size_t nx, size_t group,
                     size_t turn)
{
    f4 scale = halves_at(w); /* lane 1: the minimum, or without meaning */
    u8 v = type == NR_Q8_0 ? load32(w + 2) : nibbles16(w + (type == NR_Q4_0 ? 2 : 4));
    EACH_ROW(nx, {
        size_t at = (row + r) * x->blocks + group;
        i8 q = load_q(x->q + at * NR_INT8_BLOCK);
        f4 d = scale * load2(x->d_sum + 2 * at);
        add_group(&s->sum[r][turn], all8(d[0]), type == NR_Q8_0 ? dot_signed((i8)v, q) : dot(v, q));
        if (type == NR_Q4_1) s->minimum[r] += d;
        if (type == NR_Q4_0) s->minimum[r] += scale[0] * load2(x->d_sum + 2 * at);
    });
}

/* A row of blocks of 32; leaves what it added in sum. */
INLINE void blocks_32(sums *s, const uint8_t *w, nr_dtype type, const nr_int8_rows *x, size_t row, size_t nx)
{
    size_t bytes = type == NR_Q4_0 ? 18 : type == NR_Q4_1 ? 20 : 34, g = 0;
    for (; g + 2 <= x->blocks; g += 2, w += 2 * bytes) {
        group_32(s, w, type, x, row, nx, g, 0);
        group_32(s, w + bytes, type, x, row, nx, g + 1, 1);
    }
    if (g < x->blocks) group_32(s, w, type, x, row, nx, g, 0);
}

#if defined(__AVX512F__)
#include "kernels/quant_quads.h"
#endif

/* Scales and minima of Q4_K and Q5_K, six bits each in 12 bytes, as eight floats. */
INLINE void scales_mins(f8 *scales, f8 *mins, const uint8_t *p)
{
    typedef uint8_t u8_8 __attribute__((vector_size(8)));
    uint32_t a, b, c;
    memcpy(&a, p, 4);
    memcpy(&b, p + 4, 4);
    memcpy(&c, p + 8, 4);
    uint64_t s = (a & 0x3f3f3f3fu) | (uint64_t)((c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u)) << 32;
    uint64_t m = (b & 0x3f3f3f3fu) | (uint64_t)((c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u)) << 32;
    u8_8 sv, mv;
    memcpy(&sv, &s, sizeof sv);
    memcpy(&mv, &m, sizeof mv);
    *scales = to_float(__builtin_convertvector(sv, i32));
    *mins = to_float(__builtin_convertvector(mv, i32));
}

/* 256 elements of Q4_K or Q5_K: eight groups; 32 bytes hold two of them, low first. */
INLINE void block_45_k(sums *s, const uint8_t *w, bool five, const nr_int8_rows *x, size_t row, size_t nx, size_t group)
{
    f8 scales, mins, scale[ROWS] = {{0}};
    scales_mins(&scales, &mins, w + 4);
    scales *= half_at(w);
    mins *= -half_at(w + 2);
    EACH_ROW(nx, {
        size_t at = (row + r) * x->blocks + group;
        scale[r] = scales * load8(x->d + at);
        s->offset[r] = multiply_add(mins, load8(x->sum + at), s->offset[r]);
    });
    const uint8_t *low = w + (five ? 48 : 16);
    u8 fifth = load32(w + 16);
    EACH_GROUP({
        u8 v = bits(load32(low + g / 2 * 32), g % 2 ? 4 : 0, 15);
        if (five) v |= bits(fifth, g, 1) << 4;
        EACH_ROW(nx, {
            i8 q = load_q(x->q + ((row + r) * x->blocks + group + g) * NR_INT8_BLOCK);
            add_group(&s->sum[r][g % 2], __builtin_shufflevector(scale[r], scale[r], g, g, g, g, g, g, g, g), dot(v, q));
        });
    });
}

/* 256 elements of Q6_K: d s (v - 32), a scale for each 16. */
INLINE void block_6_k(sums *s, const uint8_t *w, const nr_int8_rows *x, size_t row, size_t nx, size_t group)
{
    typedef int8_t i8_8 __attribute__((vector_size(8)));
    i8_8 packed[2];
    memcpy(packed, w + 192, sizeof packed);
    f8 d = all8(half_at(w + 208));
    f8 low = d * to_float(__builtin_convertvector(packed[0], i32)), high = d * to_float(__builtin_convertvector(packed[1], i32));
    EACH_ROW(nx, {
        const float *half = x->half + 2 * ((row + r) * x->blocks + group);
        s->offset[r] = multiply_add(-32 * low, load8(half), s->offset[r]);
        s->offset[r] = multiply_add(-32 * high, load8(half + 8), s->offset[r]);
    });
    EACH_GROUP({
        u8 four = load32(w + g / 4 * 64 + g % 2 * 32), two = load32(w + 128 + g / 4 * 32);
        u8 v = bits(four, g % 4 / 2 ? 4 : 0, 15) | bits(two, g % 4 * 2, 3) << 4;
        enum { first = g % 4 * 2, second = first + 1 };
        f8 from = g < 4 ? low : high;
        f8 both = __builtin_shufflevector(from, from, first, first, first, first, second, second, second, second);
        EACH_ROW(nx, {
            size_t at = (row + r) * x->blocks + group + g;
            add_group(&s->sum[r][g % 2], both * x->d[at], dot(v, load_q(x->q + at * NR_INT8_BLOCK)));
        });
    });
}

INLINE void one_row(float *y, size_t pitch, const uint8_t *w, nr_dtype type, const nr_int8_rows *x, size_t row, size_t nx)
{
    sums s = {0};
    if (type == NR_Q4_0 || type == NR_Q4_1 || type == NR_Q8_0) {
        blocks_32(&s, w, type, x, row, nx);
    } else {
        size_t bytes = type == NR_Q4_K ? 144 : type == NR_Q5_K ? 176 : 210;
        for (size_t g = 0; g < x->blocks; g += QK_K / NR_INT8_BLOCK, w += bytes) {
            if (type == NR_Q6_K) block_6_k(&s, w, x, row, nx, g);
            else block_45_k(&s, w, type == NR_Q5_K, x, row, nx, g);
        }
    }
    EACH_ROW(nx, {
        y[(row + r) * pitch] = add_up(s.sum[r][0] + s.sum[r][1] + s.offset[r]) + (type == NR_Q4_0 ? -8 : 1) * s.minimum[r][1];
    });
}

/* ---- for every type and count ---- */

INLINE void rows_of(float *y, const uint8_t *w, size_t bytes, nr_dtype type, size_t rows, const nr_int8_rows *x, size_t n)
{
#if defined(__AVX512F__)
    if (nr_dtypes[type].block == NR_INT8_BLOCK) {
        for (size_t at = 0; at < NR_MIN(rows * bytes, (size_t)AHEAD); at += 64) _mm_prefetch(w + at, _MM_HINT_T0);
        for (size_t o = 0; o < rows; o += W_ROWS)
            for (size_t r = 0; r < n; r++)
                quad_rows(y + r * rows + o, w + o * bytes, bytes, type, NR_MIN(rows - o, (size_t)W_ROWS), x, r);
        return;
    }
#endif
    for (size_t o = 0; o < rows; o++, w += bytes) {
        size_t r = 0;
        for (; r + ROWS <= n; r += ROWS) one_row(y + o, rows, w, type, x, r, ROWS);
        for (; r < n; r++) one_row(y + o, rows, w, type, x, r, 1);
    }
}

static void dot_rows(float *y, const unsigned char *w, nr_dtype type, size_t rows, const nr_int8_rows *x, size_t n)
{
    size_t bytes = x->blocks * NR_INT8_BLOCK / nr_dtypes[type].block * nr_dtypes[type].bytes;
    switch (type) {
    case NR_Q4_0: rows_of(y, w, bytes, NR_Q4_0, rows, x, n); return;
    case NR_Q4_1: rows_of(y, w, bytes, NR_Q4_1, rows, x, n); return;
    case NR_Q8_0: rows_of(y, w, bytes, NR_Q8_0, rows, x, n); return;
    case NR_Q4_K: rows_of(y, w, bytes, NR_Q4_K, rows, x, n); return;
    case NR_Q5_K: rows_of(y, w, bytes, NR_Q5_K, rows, x, n); return;
    case NR_Q6_K: rows_of(y, w, bytes, NR_Q6_K, rows, x, n); return;
    default: return; /* nr_quant_has says no */
    }
}

extern const nr_quant_kernels JOIN(nr_quant_kernels, NR_ISA);
const nr_quant_kernels JOIN(nr_quant_kernels, NR_ISA) = {.name = TEXT(NR_ISA), .round = round_all, .dot = dot_rows};
