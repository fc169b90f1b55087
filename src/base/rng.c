/*
 * rng.c - Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011). The seed is the key; the 128-bit counter is
 * (index, purpose). No state: a number depends on its place only, so a resumed
 * run and any number of threads draw the same ones.
 *
 * Integers and uniforms are the same bits everywhere. Normals go through the C
 * library's log and cos, whose last bit may differ between its versions.
 */
#include <math.h>

#include "base/base.h"

#define ROUNDS 10
#define TWO_TO_MINUS_53 0x1p-53

typedef struct {
    uint32_t word[4];
} block;

static block philox(uint64_t key, uint64_t low, uint64_t high)
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

/* Box-Muller; the radius takes (0, 1], so that its logarithm is finite. */
double nr_rng_normal(uint64_t seed, uint64_t purpose, uint64_t index)
{
    block b = philox(seed, index, purpose);
    double u = (double)((pair(&b, 0) >> 11) + 1) * TWO_TO_MINUS_53;
    double v = (double)(pair(&b, 2) >> 11) * TWO_TO_MINUS_53;
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}
