/*
 * simd.h - the vectors of the *_cpu.c files, which are compiled once per
 * instruction set: width, loads and stores of float and bf16, exp.
 *
 * Vectors are the compilers' own (gcc 12, clang 14); intrinsics stand only
 * where those have no operator. bf16 is converted by integer shifts on every
 * instruction set, so that conversions have the same bits everywhere and
 * denormals survive; what kernels compute is rounded by the processor where it
 * can (AVX-512 BF16), which differs in that denormals become 0. Sums differ between instruction sets in their last bits:
 * lanes are as many as the vector has, and only some sets have vfma.
 */
#ifndef NR_SIMD_H
#define NR_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX2__)
#define VW 8
#else
#define VW 4
#endif

#define NR_INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
typedef uint16_t vh __attribute__((vector_size(VW * 2)));
typedef float vf_half __attribute__((vector_size(VW * 2)));
typedef double vd __attribute__((vector_size(VW * 4))); /* VW / 2 lanes */
typedef int64_t vl __attribute__((vector_size(VW * 4)));

NR_INLINE vf vset(float x) { return x - (vf){0}; }
NR_INLINE vf vzero(void) { return (vf){0}; }
NR_INLINE vf vbits(vi x) { return (vf)x; }
NR_INLINE vi vselect_i(vi mask, vi a, vi b) { return (a & mask) | (b & ~mask); }
NR_INLINE vf vselect(vi mask, vf a, vf b) { return (vf)vselect_i(mask, (vi)a, (vi)b); }

/* The second operand where either is NaN. */
NR_INLINE vf vmax(vf a, vf b)
{
#if VW == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VW == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vselect(a > b, a, b);
#endif
}

NR_INLINE vf vmin(vf a, vf b)
{
#if VW == 16
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif VW == 8
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return vselect(a < b, a, b);
#endif
}

/* a b + c, in one rounding where the instruction set has it. Written out,
 * because the compiler must not choose where to fuse. */
NR_INLINE vf vfma(vf a, vf b, vf c)
{
#if VW == 16
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif VW == 8 && defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* 0, 1, 2, ... */
NR_INLINE vi vindex(void)
{
    vi v;
    for (int32_t i = 0; i < VW; i++) v[i] = i;
    return v;
}

NR_INLINE vf vabs(vf a) { return (vf)((vi)a & 0x7fffffff); }
/* -1, 0 or 1. */
NR_INLINE vf vsign(vf a)
{
    vf one = (vf)(((vi)a & INT32_MIN) | (vi)vset(1.0f));
    return (vf)((vi)one & (a != vzero()));
}

/* ---- loads and stores; _n: only the first n < VW elements, 0 beyond ---- */

NR_INLINE vf vload(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

NR_INLINE void vstore(float *p, vf v) { memcpy(p, &v, sizeof v); }

#if VW == 16
NR_INLINE __mmask16 vmask(size_t n) { return (__mmask16)(n < VW ? (1u << n) - 1 : 0xffff); }
#elif VW == 8
NR_INLINE __m256i vmask(size_t n) { return (__m256i)(vindex() < (int32_t)(n < VW ? n : VW)); }
#endif

NR_INLINE vf vload_n(const float *p, size_t n)
{
#if VW == 16
    return (vf)_mm512_maskz_loadu_ps(vmask(n), p);
#elif VW == 8
    return (vf)_mm256_maskload_ps(p, vmask(n));
#else
    vf v = {0};
    for (size_t i = 0; i < n && i < VW; i++) v[i] = p[i];
    return v;
#endif
}

NR_INLINE void vstore_n(float *p, vf v, size_t n)
{
#if VW == 16
    _mm512_mask_storeu_ps(p, vmask(n), (__m512)v);
#elif VW == 8
    _mm256_maskstore_ps(p, vmask(n), (__m256)v);
#else
    for (size_t i = 0; i < n && i < VW; i++) p[i] = v[i];
#endif
}

NR_INLINE vf vfrom_bf16(vh h)
{
#if VW == 16
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16); /* gcc 12 would widen two halves */
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

/* Round to nearest even; NaN stays NaN. */
NR_INLINE vh vto_bf16(vf v)
{
    vu u = (vu)v, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, nan = (u >> 16) | 0x40;
    return __builtin_convertvector((vu)vselect_i(v != v, (vi)nan, (vi)rounded), vh);
}

NR_INLINE vh vround_bf16(vf v)
{
#if defined(__AVX512BF16__)
    return (vh)_mm512_cvtneps_pbh((__m512)v);
#else
    return vto_bf16(v);
#endif
}

/* Element i of an act buffer on, as float; bf16 is known at compile time. */
NR_INLINE vf aload(const void *p, size_t i, bool bf16)
{
    if (!bf16) return vload((const float *)p + i);
    vh h;
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return vfrom_bf16(h);
}

NR_INLINE void astore(void *p, size_t i, vf v, bool bf16)
{
    if (bf16) {
        vh h = vround_bf16(v);
        memcpy((uint16_t *)p + i, &h, sizeof h);
    } else vstore((float *)p + i, v);
}

NR_INLINE vf aload_n(const void *p, size_t i, size_t n, bool bf16)
{
    if (n >= VW) return aload(p, i, bf16);
    if (!bf16) return vload_n((const float *)p + i, n);
    vh h = {0};
#if VW == 16
    h = (vh)_mm256_maskz_loadu_epi16(vmask(n), (const uint16_t *)p + i);
#else
    for (size_t j = 0; j < n && j < VW; j++) h[j] = ((const uint16_t *)p)[i + j];
#endif
    return vfrom_bf16(h);
}

NR_INLINE void astore_n(void *p, size_t i, vf v, size_t n, bool bf16)
{
    if (n >= VW) astore(p, i, v, bf16);
    else if (bf16) {
        vh h = vround_bf16(v);
#if VW == 16
        _mm256_mask_storeu_epi16((uint16_t *)p + i, vmask(n), (__m256i)h);
#else
        for (size_t j = 0; j < n && j < VW; j++) ((uint16_t *)p)[i + j] = h[j];
#endif
    } else vstore_n((float *)p + i, v, n);
}

#if VW == 16
/* A line past the caches, where it is a whole one. _mm_sfence comes before others may read it. */
NR_INLINE void vstore_past(uint16_t *p, __m512i x)
{
    if ((uintptr_t)p % 64 == 0) _mm512_stream_si512((void *)p, x);
    else _mm512_storeu_si512(p, x);
}
#endif

#if defined(__AVX512BF16__)
/* Two vectors, one behind the other, rounded to a cache line. */
NR_INLINE __m512i vround_line(vf a, vf b) { return (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a); }

/* 2 VW elements of bf16 as two vectors, the even ones and the odd ones: an instruction each. For functions of single
 * elements, which don't mind who stands beside whom. */
NR_INLINE void vload_both(vf both[2], const uint16_t *p)
{
    __m512i x = _mm512_loadu_si512(p);
    both[0] = (vf)_mm512_slli_epi32(x, 16);
    both[1] = (vf)_mm512_and_si512(x, _mm512_set1_epi32((int32_t)0xffff0000));
}

NR_INLINE void vstore_both(uint16_t *p, const vf both[2])
{
    const __m512i in_turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                             18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(in_turn, vround_line(both[0], both[1])));
}
#endif

/* Real buffers are float. */
NR_INLINE vf rload_n(const void *p, size_t i, size_t n) { return aload_n(p, i, n, false); }
NR_INLINE void rstore_n(void *p, size_t i, vf v, size_t n) { astore_n(p, i, v, n, false); }

/* The loop over n elements: the body sees i and m, VW in the main part and less
 * in the tail, which is the same text once more. */
#define NR_EACH(n, ...)                                                                                                \
    do {                                                                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + VW <= (n); i += VW) {                                                                               \
            enum { m = VW };                                                                                           \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
        if (i < (n)) {                                                                                                 \
            const size_t m = (n)-i;                                                                                    \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/* ---- reductions: by halves, always in this order ---- */

NR_INLINE float vsum(vf v)
{
#if VW == 16
    vf_half a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
    vf_half b = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    typedef float quarter __attribute__((vector_size(16)));
    a += b;
    quarter s = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
#elif VW == 8
    typedef float quarter __attribute__((vector_size(16)));
    quarter s = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
    vf s = v;
#endif
    return (s[0] + s[2]) + (s[1] + s[3]);
}

NR_INLINE float vsum_max(vf v)
{
#if VW == 16
    v = vmax(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = vmax(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
#elif VW == 8
    v = vmax(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
#endif
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}

NR_INLINE vd vwiden_low(vf v)
{
#if VW == 16
    return __builtin_convertvector(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), vd);
#elif VW == 8
    return __builtin_convertvector(__builtin_shufflevector(v, v, 0, 1, 2, 3), vd);
#else
    return (vd){v[0], v[1]};
#endif
}

NR_INLINE vd vwiden_high(vf v)
{
#if VW == 16
    return __builtin_convertvector(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), vd);
#elif VW == 8
    return __builtin_convertvector(__builtin_shufflevector(v, v, 4, 5, 6, 7), vd);
#else
    return (vd){v[2], v[3]};
#endif
}

NR_INLINE double vsum_d(vd v)
{
    double sum = 0;
    for (size_t i = 0; i < VW / 2; i++) sum += v[i];
    return sum;
}

/* ---- exp ---- */

/* e^x within 1.5 units in the last place; 0 below -104, infinity above 88.73,
 * NaN for NaN. x = n ln 2 + r with |r| <= ln 2 / 2 and e^r = 1 + r + r^2 P(r),
 * P of degree 4 fitted to the relative error on that interval (1.0e-8). */
NR_INLINE vf vexp(vf x)
{
    const vf magic = vset(12582912.0f); /* 1.5 2^23: adding it rounds to an integer */
    x = vmax(vset(-104.0f), vmin(vset(89.0f), x));
    vf shifted = vfma(x, vset(1.44269504f), magic), n = shifted - magic;
    vf r = vfma(n, vset(-0.693359375f), x); /* ln 2 in two parts: the first has 10 bits, so n times it is exact */
    r = vfma(n, vset(2.12194440e-4f), r);
    vf p = vfma(r, vset(1.39337103e-3f), vset(8.36320501e-3f));
    p = vfma(p, r, vset(4.1666463e-2f));
    p = vfma(p, r, vset(1.66665763e-1f));
    p = vfma(p, r, vset(0.5f));
    p = vfma(p, r * r, r);
    p = p + 1.0f;
#if VW == 16
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    vi e = (vi)shifted - (vi)magic, half = e >> 1; /* 2^n in two factors: n reaches -150 and 128 */
    return p * (vf)((half + 127) << 23) * (vf)((e - half + 127) << 23);
#endif
}

#define LOG2_E 1.44269504f

#if VW < 16
/* VW rows of VW elements of 32 bits become columns: rows half of them apart are shuffled together, once for each bit of their index. */
NR_INLINE void vcolumns(vi x[VW])
{
    for (size_t step = 1; step < VW; step *= 2) {
        vi t[VW];
        for (size_t i = 0; i < VW / 2; i++) {
#if VW == 8
            t[2 * i] = __builtin_shufflevector(x[i], x[i + VW / 2], 0, 8, 1, 9, 2, 10, 3, 11);
            t[2 * i + 1] = __builtin_shufflevector(x[i], x[i + VW / 2], 4, 12, 5, 13, 6, 14, 7, 15);
#else
            t[2 * i] = __builtin_shufflevector(x[i], x[i + VW / 2], 0, 4, 1, 5);
            t[2 * i + 1] = __builtin_shufflevector(x[i], x[i + VW / 2], 2, 6, 3, 7);
#endif
        }
        memcpy(x, t, sizeof t);
    }
}
typedef vi vany;
#else
typedef __m512i vany;
#endif

#if VW == 16
/* 16 rows of 16 elements of 32 bits become columns. */
NR_INLINE void vcolumns(__m512i x[VW])
{
    __m512i t[VW];
    for (size_t i = 0; i < VW; i += 2) {
        t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (size_t i = 0; i < VW; i += 4) /* x[i + c]: columns c, 4 + c, 8 + c, 12 + c of rows i to i + 3 */
        for (size_t c = 0; c < 4; c += 2) {
            x[i + c] = _mm512_unpacklo_epi64(t[i + c / 2], t[i + 2 + c / 2]);
            x[i + c + 1] = _mm512_unpackhi_epi64(t[i + c / 2], t[i + 2 + c / 2]);
        }
    for (size_t c = 0; c < 4; c++) {
        __m512i even = _mm512_shuffle_i32x4(x[c], x[4 + c], 0x88), odd = _mm512_shuffle_i32x4(x[c], x[4 + c], 0xdd);
        __m512i even_low = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0x88), odd_low = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(even, even_low, 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(odd, odd_low, 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(even, even_low, 0xdd);
        t[12 + c] = _mm512_shuffle_i32x4(odd, odd_low, 0xdd);
    }
    for (size_t i = 0; i < VW; i++) x[i] = t[i];
}

/* Elements of 16 bits of a and b beside each other: the first 16 pairs, or the last. */
NR_INLINE __m512i vpairs(__m512i a, __m512i b, bool last)
{
    const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3,
                                           34, 2, 33, 1, 32, 0);
    return _mm512_permutex2var_epi16(a, last ? _mm512_add_epi16(first, _mm512_set1_epi16(VW)) : first, b);
}

/* 2^x where a bit of mask is set, 0 elsewhere, to 2.8e-6 of itself: what becomes
 * bf16 needs no more. 1 + r P(r) on |r| <= 1 / 2, P of degree 3. x is finite. */
NR_INLINE vf vexp2_masked(vf x, __mmask16 mask)
{
    vf n = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
    vf p = vfma(r, vset(9.58285e-3f), vset(5.590642e-2f));
    p = vfma(p, r, vset(2.4024099e-1f));
    p = vfma(p, r, vset(6.9312419e-1f));
    p = vfma(p, r, vset(1.0f));
    return (vf)_mm512_maskz_scalef_ps(mask, (__m512)p, (__m512)n);
}
#endif

/* e^x in double for x <= 0; 0 below -708. Taylor to r^12: 3e-16 at |r| = ln 2 / 2. */
NR_INLINE vd vexp_d(vd x)
{
    const double shift = 6755399441055744.0; /* 1.5 2^52 */
    vl small = x < -708.0;
    x = (vd)((vl)x & ~small);
    vd shifted = x * 1.4426950408889634 + shift, n = shifted - shift;
    vd r = x - n * 0.693147180369123816490; /* 33 bits */
    r = r - n * 1.90821492927058770002e-10;
    vd p = r * (1 / 479001600.0) + 1 / 39916800.0;
    p = p * r + 1 / 3628800.0;
    p = p * r + 1 / 362880.0;
    p = p * r + 1 / 40320.0;
    p = p * r + 1 / 5040.0;
    p = p * r + 1 / 720.0;
    p = p * r + 1 / 120.0;
    p = p * r + 1 / 24.0;
    p = p * r + 1 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r;
    p = p + 1.0;
    vl e = (vl)shifted - (vl)(shift - (vd){0});
    return (vd)((vl)(p * (vd)((e + 1023) << 52)) & ~small);
}

NR_INLINE vf vsigmoid(vf s) { return 1.0f / (1.0f + vexp(-s)); }

#endif
