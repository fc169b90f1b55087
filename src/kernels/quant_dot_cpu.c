/*
 * quant_dot_cpu.c - integer products with quantised weights in tiles, see
 * quant.h.
 *
 * One text for all instruction sets over vectors of LANES numbers of four bytes;
 * the product of bytes, the half floats and the fused multiply-add are named by
 * instruction. A lane is a row of w, so nothing is added across lanes, and
 * scales are applied to LANES rows at once. A vector of w is unpacked once for
 * up to ROWS rows of x.
 *
 * Vectors wider than the machine's never cross a call, as everything on them is
 * inlined: the compiler's note about passing them (-Wpsabi) is turned off.
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

#if defined(__AVX512BW__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__AVX512VNNI__)
#define VNNI 1
#else
#define VNNI 0
#endif

typedef uint8_t vu8 __attribute__((vector_size(4 * LANES)));
typedef int8_t vi8 __attribute__((vector_size(4 * LANES)));
typedef uint16_t vu16 __attribute__((vector_size(4 * LANES)));
typedef int32_t vi32 __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu32 __attribute__((vector_size(4 * LANES)));
typedef float vf32 __attribute__((vector_size(4 * LANES)));

/* ---- what instruction sets name differently ---- */

/* sum + the products of the four bytes in each lane. Without VNNI w is at most 127. */
INLINE vi32 dot(vi32 sum, vu8 w, vi8 q)
{
#if defined(__AVX512VNNI__)
    return (vi32)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)q);
#elif defined(__AVX512BW__)
    return sum + (vi32)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)w, (__m512i)q), _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    return sum + (vi32)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)w, (__m256i)q), _mm256_set1_epi16(1));
#elif defined(__SSE2__)
    __m128i even = _mm_set1_epi16(255), a = (__m128i)w, b = (__m128i)q;
    __m128i first = _mm_madd_epi16(_mm_and_si128(a, even), _mm_srai_epi16(_mm_slli_epi16(b, 8), 8));
    return sum + (vi32)first + (vi32)_mm_madd_epi16(_mm_srli_epi16(a, 8), _mm_srai_epi16(b, 8));
#else
    for (size_t i = 0; i < 4 * LANES; i++) sum[i / 4] += w[i] * q[i];
    return sum;
#endif
}

/* The same of signed w: |w| and q with the sign of w; with VNNI of w + 128, which whoever calls makes up for. */
INLINE vi32 dot_signed(vi32 sum, vi8 w, vi8 q)
{
#if defined(__AVX512VNNI__)
    return dot(sum, (vu8)w ^ 128, q);
#elif defined(__AVX512BW__)
    __m512i v = (__m512i)w, turned = _mm512_mask_sub_epi8((__m512i)q, _mm512_movepi8_mask(v), _mm512_setzero_si512(), (__m512i)q);
    return dot(sum, (vu8)_mm512_abs_epi8(v), (vi8)turned);
#else
    vi8 minus = w < 0; /* all bits where negative */
    return dot(sum, (vu8)((w ^ minus) - minus), (q ^ minus) - minus);
#endif
}

INLINE vf32 multiply_add(vf32 a, vf32 b, vf32 c)
{
#if defined(__AVX512F__)
    return (vf32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vf32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* LANES half floats. */
INLINE vf32 halves_at(const uint8_t *p)
{
#if defined(__AVX512F__)
    return (vf32)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
#elif defined(__F16C__)
    return (vf32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
#else
    typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
    halves h;
    memcpy(&h, p, sizeof h);
    vu32 v = __builtin_convertvector(h, vu32), wide = (v & 0x7fff) << 13, special = (vu32)((v & 0x7c00) == 0x7c00);
    vf32 f = (vf32)wide * 0x1p112f; /* the biases' difference, 127 - 15; right for subnormals too */
    wide = ((vu32)f & ~special) | ((0x7f800000 | wide) & special); /* infinity, NaN */
    return (vf32)(wide | (v & 0x8000) << 16);
#endif
}

/* ---- small helpers ---- */

INLINE vu8 load(const void *p)
{
    vu8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE vi32 all_lanes(int32_t x) { return x - (vi32){0}; }
INLINE vf32 all_lanes_f(float x) { return x - (vf32){0}; }
INLINE vf32 to_float(vi32 x) { return __builtin_convertvector(x, vf32); }

INLINE vi8 four_at(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return (vi8)all_lanes(four);
}

/* LANES bytes; gcc 12 would widen them in many steps. */
INLINE vf32 bytes_at(const uint8_t *p, bool is_signed)
{
#if defined(__AVX512F__)
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return to_float((vi32)(is_signed ? _mm512_cvtepi8_epi32(v) : _mm512_cvtepu8_epi32(v)));
#elif defined(__AVX2__)
    __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return to_float((vi32)(is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v)));
#else
    vi32 v;
    for (size_t i = 0; i < LANES; i++) v[i] = is_signed ? (int8_t)p[i] : p[i];
    return to_float(v);
#endif
}

/* Bits of every byte, moved right, or left where `shift` is negative; what comes over from a neighbour is masked off. */
INLINE vu8 bits(vu8 v, int shift, uint8_t mask)
{
    return (vu8)(shift < 0 ? (vu16)v << -shift : (vu16)v >> shift) & mask;
}

/* ---- rounding x ---- */

typedef float f8 __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));

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
    ints first = a > b;
    return (f8)(((ints)a & first) | ((ints)b & ~first));
}

INLINE float largest(f8 v)
{
    v = larger(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
    v = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
    return v[0] > v[1] ? v[0] : v[1];
}

INLINE void put_block(const nr_int8_rows *to, size_t block, float d, int32_t low, int32_t high)
{
    to->d[block] = d;
    to->sum[block] = d * (float)(low + high);
    to->total[2 * block] = low;
    to->total[2 * block + 1] = high;
}

#define LEAST 0x1p-100f /* blocks of nothing larger count as zeros: 127 / x stays finite */

/* Block number `block` of x, elements at .. at + n - 1; n at most 32. */
INLINE void round_block(const nr_int8_rows *to, size_t block, const void *x, size_t at, size_t n, bool bf16)
{
    f8 v[4], most = {0}, none = {0};
    for (size_t k = 0; k < 4; k++) {
        v[k] = act8(x, at + 8 * k, n > 8 * k ? n - 8 * k : 0, bf16);
        most = larger((f8)((ints)v[k] & 0x7fffffff), most);
        none += v[k] * 0; /* NaN where v is no number, and then the block's scale is NaN too */
    }
    float bad = 0;
    for (size_t i = 0; i < 8; i++) bad += none[i];
    float top = largest(most), d = top / 127 + bad, inverse = top > LEAST && bad == 0 ? 127 / top : 0;
    int32_t total[2] = {0, 0};
    int8_t *q = to->q + block * NR_INT8_BLOCK;
    for (size_t k = 0; k < 4; k++) {
        /* 1.5 2^23: adding it rounds to the nearest integer, ties to even. */
        ints r = (ints)(v[k] * inverse + 12582912.0f) - 0x4B400000;
        if (bad != 0) r = (ints){0};
        typedef int8_t i8_8 __attribute__((vector_size(8)));
        i8_8 bytes = __builtin_convertvector(r, i8_8);
        memcpy(q + 8 * k, &bytes, sizeof bytes);
        for (size_t i = 0; i < 8; i++) total[k / 2] += r[i];
    }
    put_block(to, block, d, total[0], total[1]);
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
    float d = bad ? NAN : top / 127, inverse = top > LEAST ? 127 / top : 0;
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
    put_block(to, block, d, low, high);
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

/* ---- a tile of w with nx rows of x ---- */

INLINE bool has_minima(nr_dtype type) { return type == NR_Q4_1 || type == NR_Q4_K || type == NR_Q5_K; }

/* What is taken from the integers of w, as dot has them. */
INLINE int32_t offset_of(nr_dtype type) { return type == NR_Q4_0 ? 8 : type == NR_Q6_K ? 32 : type == NR_Q8_0 && VNNI ? 128 : 0; }

/* High nibbles of four bits may stay where they are: their sums are 16 times too large, exactly. */
INLINE bool stay_high(nr_dtype type) { return VNNI && (type == NR_Q4_0 || type == NR_Q4_1 || type == NR_Q4_K); }

typedef struct {
    vf32 sum[ROWS], minimum[ROWS];
} tile_sums;

/* 32 columns: `scale` of the first 16 and `second` of the others; or of all, and `second` a minimum. `more`: bits beyond four. */
INLINE void group(tile_sums *s, const uint8_t *w, const uint8_t *more, nr_dtype type, vf32 scale, vf32 second,
                  const nr_int8_rows *x, size_t at, size_t nx)
{
    vi32 low[ROWS], high[ROWS];
    for (size_t r = 0; r < nx; r++) {
        const int32_t *total = x->total + 2 * (at + r * x->blocks);
        low[r] = offset_of(type) ? all_lanes(-offset_of(type) * total[0]) : (vi32){0};
        high[r] = offset_of(type) ? all_lanes(-offset_of(type) * (stay_high(type) ? 16 : 1) * total[1]) : (vi32){0};
    }
    for (int j = 0; j < 4; j++) {
        vu8 a = load(w + 4 * LANES * j), b = a;
        if (type == NR_Q8_0) {
            b = load(w + 4 * LANES * (4 + j));
        } else {
            a &= 15;
            b = stay_high(type) ? b & 0xf0 : bits(b, 4, 15);
        }
        if (type == NR_Q5_K) {
            vu8 fifth = load(more);
            a |= bits(fifth, j - 4, 16);
            b |= bits(fifth, j, 16);
        }
        if (type == NR_Q6_K) {
            a |= bits(load(more), 2 * j - 4, 48);
            b |= bits(load(more + 4 * LANES), 2 * j - 4, 48);
        }
        for (size_t r = 0; r < nx; r++) {
            const int8_t *q = x->q + (at + r * x->blocks) * NR_INT8_BLOCK + 4 * j;
            low[r] = type == NR_Q8_0 ? dot_signed(low[r], (vi8)a, four_at(q)) : dot(low[r], a, four_at(q));
            high[r] = type == NR_Q8_0 ? dot_signed(high[r], (vi8)b, four_at(q + 16)) : dot(high[r], b, four_at(q + 16));
        }
    }
    for (size_t r = 0; r < nx; r++) {
        vf32 d = all_lanes_f(x->d[at + r * x->blocks]);
        if (type == NR_Q6_K) {
            s->sum[r] = multiply_add(scale * d, to_float(low[r]), s->sum[r]);
            s->sum[r] = multiply_add(second * d, to_float(high[r]), s->sum[r]);
            continue;
        }
        vi32 both = low[r] + (stay_high(type) ? high[r] >> 4 : high[r]);
        s->sum[r] = multiply_add(scale * d, to_float(both), s->sum[r]);
        if (has_minima(type)) s->minimum[r] = multiply_add(second, all_lanes_f(x->sum[at + r * x->blocks]), s->minimum[r]);
    }
}

/* The groups of 256 columns; returns where the next ones begin. */
INLINE const uint8_t *groups_k(tile_sums *s, const uint8_t *w, nr_dtype type, const nr_int8_rows *x, size_t at, size_t nx)
{
    vf32 d = halves_at(w), least = {0};
    size_t more = type == NR_Q5_K ? 4 * LANES : type == NR_Q6_K ? 8 * LANES : 0;
    w += 2 * LANES;
    if (type != NR_Q6_K) {
        least = -halves_at(w);
        w += 2 * LANES;
    }
    for (size_t g = 0; g < 8; g++, w += 18 * LANES + more) {
        vf32 scale = d * bytes_at(w, type == NR_Q6_K), second = bytes_at(w + LANES, type == NR_Q6_K) * (type == NR_Q6_K ? d : least);
        group(s, w + 2 * LANES, w + 18 * LANES, type, scale, second, x, at + g, nx);
    }
    return w;
}

INLINE const uint8_t *groups_32(tile_sums *s, const uint8_t *w, nr_dtype type, const nr_int8_rows *x, size_t at, size_t nx)
{
    vf32 scale = halves_at(w), minimum = {0};
    w += 2 * LANES;
    if (type == NR_Q4_1) {
        minimum = halves_at(w);
        w += 2 * LANES;
    }
    group(s, w, NULL, type, scale, minimum, x, at, nx);
    return w + (type == NR_Q8_0 ? 32 : 16) * LANES;
}

/* y (nx, LANES), rows `pitch` apart; row: the first of x. */
INLINE void tile(float *y, size_t pitch, const uint8_t *w, nr_dtype type, const nr_int8_rows *x, size_t row, size_t nx)
{
    bool k = nr_dtypes[type].block > NR_INT8_BLOCK;
    tile_sums s;
    for (size_t r = 0; r < nx; r++) s.sum[r] = s.minimum[r] = (vf32){0};
    for (size_t g = 0; g < x->blocks; g += k ? 8 : 1)
        w = k ? groups_k(&s, w, type, x, row * x->blocks + g, nx) : groups_32(&s, w, type, x, row * x->blocks + g, nx);
    for (size_t r = 0; r < nx; r++) {
        vf32 sum = has_minima(type) ? s.sum[r] + s.minimum[r] : s.sum[r];
        memcpy(y + r * pitch, &sum, sizeof sum);
    }
}

INLINE void tiles_of(float *y, const uint8_t *w, nr_dtype type, size_t count, const nr_int8_rows *x, size_t n)
{
    size_t bytes = nr_quant_tile_bytes(type, LANES, x->blocks * NR_INT8_BLOCK), pitch = count * LANES;
    for (size_t t = 0; t < count; t++, w += bytes, y += LANES) {
        size_t r = 0;
        for (; r + ROWS <= n; r += ROWS) tile(y + r * pitch, pitch, w, type, x, r, ROWS);
        for (; r < n; r++) tile(y + r * pitch, pitch, w, type, x, r, 1);
    }
}

static void dot_tiles(float *y, const unsigned char *w, nr_dtype type, size_t count, const nr_int8_rows *x, size_t n)
{
    switch (type) {
    case NR_Q4_0: tiles_of(y, w, NR_Q4_0, count, x, n); return;
    case NR_Q4_1: tiles_of(y, w, NR_Q4_1, count, x, n); return;
    case NR_Q8_0: tiles_of(y, w, NR_Q8_0, count, x, n); return;
    case NR_Q4_K: tiles_of(y, w, NR_Q4_K, count, x, n); return;
    case NR_Q5_K: tiles_of(y, w, NR_Q5_K, count, x, n); return;
    case NR_Q6_K: tiles_of(y, w, NR_Q6_K, count, x, n); return;
    default: return; /* nr_quant_has says no */
    }
}

/* ---- results ---- */

typedef uint16_t vu16_few __attribute__((vector_size(2 * LANES)));

INLINE vu16_few to_bf16(vf32 v)
{
    vu32 raw = (vu32)v, number = (vu32)(v == v), rounded = raw + 0x7FFF + (raw >> 16 & 1);
    return __builtin_convertvector(((rounded & number) | ((raw | 0x400000) & ~number)) >> 16, vu16_few);
}

INLINE vf32 from_bf16(vu16_few h) { return (vf32)(__builtin_convertvector(h, vu32) << 16); }

/* LANES or fewer. */
INLINE void put_few(void *y, nr_dtype to, bool accumulate, const float *v, size_t count)
{
    vf32 sum = {0}, before = {0};
    vu16_few half = {0};
    memcpy(&sum, v, count * sizeof *v);
    if (to == NR_F32) {
        if (accumulate) memcpy(&before, y, count * sizeof *v);
        if (accumulate) sum += before;
        memcpy(y, &sum, count * sizeof *v);
        return;
    }
    if (accumulate) memcpy(&half, y, count * sizeof(uint16_t));
    half = to_bf16(accumulate ? from_bf16(half) + sum : sum);
    memcpy(y, &half, count * sizeof(uint16_t));
}

INLINE void put_all(char *y, nr_dtype to, bool accumulate, const float *v, size_t count)
{
    size_t i = 0, size = to == NR_F32 ? 4 : 2;
    for (; i + LANES <= count; i += LANES) put_few(y + i * size, to, accumulate, v + i, LANES);
    if (i < count) put_few(y + i * size, to, accumulate, v + i, count - i);
}

static void put(void *y, nr_dtype to, bool accumulate, const float *v, size_t count)
{
    if (to == NR_F32 && accumulate) put_all(y, NR_F32, true, v, count);
    else if (to == NR_F32) memcpy(y, v, count * sizeof *v);
    else put_all(y, NR_BF16, accumulate, v, count);
}

extern const nr_quant_kernels JOIN(nr_quant_kernels, NR_ISA);
const nr_quant_kernels JOIN(nr_quant_kernels, NR_ISA) = {.name = TEXT(NR_ISA), .lanes = LANES, .round = round_all, .dot = dot_tiles, .put = put};
