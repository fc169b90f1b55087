/*
 * rng.c - Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011). The seed is the key; the 128-bit counter is
 * (index, purpose). No state: a number depends on its place only, so a resumed
 * run and any number of threads draw the same ones.
 *
 * Every number is the same bits everywhere: normals have a logarithm and a
 * cosine of their own, with the polynomials of fdlibm (Sun Microsystems, 1993),
 * written so that the compiler takes many at a time; they are within 3e-15.
 */
#include <math.h>
#include <string.h>

#include "base/base.h"

#define INLINE static inline __attribute__((always_inline))

#define ROUNDS 10
#define TWO_TO_MINUS_53 0x1p-53

typedef struct {
    uint32_t word[4];
} block;

INLINE block philox(uint64_t key, uint64_t low, uint64_t high)
{
    block c = {{(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high, (uint32_t)(high >> 32)}};
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t a = (uint64_t)0xD2511F53u * c.word[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * c.word[2];
        c = (block){{(uint32_t)(b >> 32) ^ c.word[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ c.word[3] ^ k1,
                     (uint32_t)a}};
        k0 += 0x9E3779B9u; /* the golden ratio and sqrt(3) - 1, as fractions of 2^32 */
        k1 += 0xBB67AE85u;
    }
    return c;
}

static uint64_t pair(const block *b, int i) { return b->word[i] | (uint64_t)b->word[i + 1] << 32; }

uint64_t nr_rng_u64(uint64_t seed, uint64_t purpose, uint64_t index)
{
    block b = philox(seed, index, purpose);
    return pair(&b, 0);
}

double nr_rng_uniform(uint64_t seed, uint64_t purpose, uint64_t index)
{
    return (double)(nr_rng_u64(seed, purpose, index) >> 11) * TWO_TO_MINUS_53;
}

/* ---- normals ---- */

/* An integer below 2^52 as a double, which every instruction set can do. */
INLINE double small_integer(uint64_t i)
{
    uint64_t bits = i | 0x4330000000000000; /* 2^52 + i */
    double d;
    memcpy(&d, &bits, sizeof d);
    return d - 0x1p52;
}

/* The upper 53 bits of a pair of words, over 2^53. */
INLINE double fraction(uint32_t low, uint32_t high)
{
    return (small_integer(high) * 0x1p21 + small_integer(low >> 11)) * TWO_TO_MINUS_53;
}

/* Of x > 0, not subnormal: x = 2^k (1 + f) with 1 + f around 1. */
INLINE double logarithm(double x)
{
    const uint64_t least = 0x3fe6a09e00000000; /* sqrt(1 / 2) */
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t from = bits + (0x3ff0000000000000 - least), rest = (from & 0x000fffffffffffff) + least;
    double k = small_integer(from >> 52) - 1023, f;
    memcpy(&f, &rest, sizeof f);
    f -= 1;
    double s = f / (2 + f), z = s * s, half = 0.5 * f * f;
    double r = z * (6.666666666666735130e-01 + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01 +
               z * (2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 +
               z * 1.479819860511658591e-01))))));
    return k * 6.93147180369123816490e-01 - ((half - (s * (half + r) + k * 1.90821492927058770002e-10)) - f);
}

/* Of 2 pi v, v in [0, 1]: the nearest quarter turn is taken off exactly. */
INLINE double cosine_of_turns(double v)
{
    double quarters = (4 * v + 0x1.8p52) - 0x1.8p52; /* rounded to an integer, 0 to 4 */
    double x = 2 * 3.14159265358979323846 * (v - 0.25 * quarters), z = x * x;
    double c = 1 - 0.5 * z + z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 +
               z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
    double s = x + x * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 +
               z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    double odd = quarters == 1 || quarters == 3 ? s : c;
    return quarters == 1 || quarters == 2 ? -odd : odd;
}

/* Box-Muller; the radius takes (0, 1], so that its logarithm is finite. */
INLINE double normal(uint64_t seed, uint64_t purpose, uint64_t index)
{
    block b = philox(seed, index, purpose);
    double u = fraction(b.word[0], b.word[1]) + TWO_TO_MINUS_53, v = fraction(b.word[2], b.word[3]);
    return sqrt(-2 * logarithm(u)) * cosine_of_turns(v);
}

double nr_rng_normal(uint64_t seed, uint64_t purpose, uint64_t index) { return normal(seed, purpose, index); }

#define NORMALS                                                                                                              \
    (double *restrict to, uint64_t seed, uint64_t purpose, uint64_t index, size_t n)                                         \
    {                                                                                                                        \
        for (size_t i = 0; i < n; i++) to[i] = normal(seed, purpose, index + i);                                             \
    }

static void normals_baseline NORMALS
#if defined(__x86_64__)
#if defined(__clang__) /* knows no such width here */
#define AVX512 "avx512f,avx512dq,avx512vl"
#else
#define AVX512 "avx512f,avx512dq,avx512vl,prefer-vector-width=512"
#endif
__attribute__((target("avx2"))) static void normals_avx2 NORMALS
__attribute__((target(AVX512))) static void normals_avx512 NORMALS
#endif

void nr_rng_normals(double *to, uint64_t seed, uint64_t purpose, uint64_t index, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        normals_avx512(to, seed, purpose, index, n);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        normals_avx2(to, seed, purpose, index, n);
        return;
    }
#endif
    normals_baseline(to, seed, purpose, index, n);
}
