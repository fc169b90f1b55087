/*
 * shots.c - the draws of Python's random module: MT19937 seeded by an integer,
 * and sample() of a range. lm-evaluation-harness and OLMES draw their examples
 * and subsets with it, so equal draws are part of equal figures.
 */
#include <math.h>
#include <stdlib.h>

#include "tasks/tasks.h"

enum { N = 624, M = 397 };

/* init_by_array of one word. */
void nr_twister_seed(nr_twister *r, uint32_t seed)
{
    uint32_t *s = r->state;
    size_t i = 1, k;
    s[0] = 19650218u;
    for (k = 1; k < N; k++) s[k] = 1812433253u * (s[k - 1] ^ (s[k - 1] >> 30)) + (uint32_t)k;
    for (k = 0; k < N; k++) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + seed;
        if (++i == N) s[0] = s[N - 1], i = 1;
    }
    for (k = 0; k < N - 1; k++) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i == N) s[0] = s[N - 1], i = 1;
    }
    s[0] = 0x80000000u;
    r->at = N;
}

uint32_t nr_twister_next(nr_twister *r)
{
    uint32_t *s = r->state, y;
    for (size_t k = 0; r->at == N && k < N; k++) {
        y = (s[k] & 0x80000000u) | (s[(k + 1) % N] & 0x7fffffffu);
        s[k] = s[(k + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    if (r->at == N) r->at = 0;
    y = s[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* A number below n, 0 < n < 2^32. */
static size_t below(nr_twister *r, size_t n)
{
    unsigned bits = 0;
    uint32_t v;
    while (bits < 32 && n >> bits) bits++;
    do v = nr_twister_next(r) >> (32 - bits);
    while (v >= n);
    return v;
}

/* What is taken is swapped out of a pool of all indices. */
static nr_status from_pool(nr_twister *r, size_t n, size_t k, size_t *out, nr_error *err)
{
    size_t *pool;
    NR_TRY(nr_alloc(&pool, n, sizeof *pool, "a draw", err));
    for (size_t i = 0; i < n; i++) pool[i] = i;
    for (size_t i = 0; i < k; i++) {
        size_t j = below(r, n - i);
        out[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
    free(pool);
    return NR_OK;
}

/* Few of many: what was taken before is drawn again. */
static nr_status from_range(nr_twister *r, size_t n, size_t k, size_t *out, nr_error *err)
{
    uint8_t *taken;
    NR_TRY(nr_alloc(&taken, n, 1, "a draw", err));
    for (size_t i = 0; i < k; i++) {
        do out[i] = below(r, n);
        while (taken[out[i]]);
        taken[out[i]] = 1;
    }
    free(taken);
    return NR_OK;
}

nr_status nr_twister_sample(nr_twister *r, size_t n, size_t k, size_t *out, nr_error *err)
{
    size_t small = 21;
    if (k > n || n > UINT32_MAX) return nr_fail(err, NR_E_USAGE, "expected at most %zu rows to draw, found %zu", n, k);
    if (k > 5) small += (size_t)pow(4, ceil(log((double)k * 3) / log(4)));
    return n <= small ? from_pool(r, n, k, out, err) : from_range(r, n, k, out, err);
}
