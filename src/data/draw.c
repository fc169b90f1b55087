/*
 * draw.c - which rows make a step: a function of the seed and the step alone,
 * so that a resumed run draws what an uninterrupted one does.
 *
 * Rows of all steps are numbered on: row r = step * batch + i.
 *   stratified  row r is old where round(p (r + 1)) > round(p r): the error is
 *               carried, so 100 steps of 8 rows at p = 0.1 hold 80 old rows
 *   bernoulli   row r is old with probability p
 * Within a domain every epoch is a fresh permutation of its rows: a Feistel
 * network over the next power of four, walked on until it lands inside.
 */
#include <math.h>

#include "data/data.h"

/* round(p r), halves up. */
static uint64_t old_before(double p, uint64_t r) { return (uint64_t)floor(p * (double)r + 0.5); }

static bool is_old(const nr_settings *s, uint64_t r)
{
    if (s->draw == 0) return old_before(s->old_share, r + 1) > old_before(s->old_share, r);
    return nr_rng_uniform(s->seed, NR_RNG_DOMAIN, r) < s->old_share;
}

void nr_draw_step(const nr_settings *s, uint64_t step, nr_draw_count *count, nr_drawn *rows)
{
    nr_draw_count own = {0}, *n = count ? count : &own;
    uint64_t first = step * s->batch_size;
    if (n->rows > first) *n = own;
    if (s->draw == 0) *n = (nr_draw_count){first, old_before(s->old_share, first)};
    for (; n->rows < first; n->rows++) n->old += is_old(s, n->rows);
    for (size_t i = 0; i < s->batch_size; i++, n->rows++) {
        bool old = is_old(s, n->rows);
        rows[i] = (nr_drawn){!old, old ? n->old : n->rows - n->old};
        n->old += old;
    }
}

#define ROUNDS 6

size_t nr_draw_row(uint64_t seed, bool is_new, uint64_t index, size_t row_count)
{
    if (row_count < 2) return 0;
    uint64_t purpose = is_new ? NR_RNG_NEW_ROWS : NR_RNG_OLD_ROWS;
    uint64_t epoch = index / row_count, x = index % row_count;
    unsigned half = 1; /* bits of each side */
    while (half < 32 && (row_count - 1) >> (2 * half)) half++;
    uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t mixed = left ^ (nr_rng_u64(seed, purpose, epoch << 35 | round << 32 | right) & mask);
            left = right;
            right = mixed;
        }
        x = left << half | right;
    } while (x >= row_count);
    return (size_t)x;
}
