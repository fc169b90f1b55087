/*
 * thinned.c - gates of tokens of a whole file, in bounded memory: every step-th
 * token is kept. Which ones is decided by the token's number alone, never by
 * the order in which batches bring them.
 */
#include <stdlib.h>

#include "eval/eval.h"

nr_status nr_thinned_new(nr_thinned *s, size_t L, size_t cap, nr_error *err)
{
    size_t cells;
    *s = (nr_thinned){.L = L, .cap = cap, .step = 1};
    if (nr_mul_overflows(L, cap, &cells)) return nr_fail(err, NR_E_MEMORY, "gates kept: too many layers, %zu", L);
    return nr_alloc(&s->values, cells, sizeof *s->values, "gates kept", err);
}

void nr_thinned_free(nr_thinned *s)
{
    free(s->values);
    *s = (nr_thinned){0};
}

static size_t kept(size_t tokens, size_t step) { return (tokens + step - 1) / step; }

size_t nr_thinned_count(const nr_thinned *s) { return kept(s->seen, s->step); }

void nr_thinned_reserve(nr_thinned *s, size_t count)
{
    while (kept(s->seen + count, s->step) > s->cap) {
        size_t half = kept(s->seen, s->step * 2);
        for (size_t l = 0; l < s->L; l++)
            for (size_t i = 0; i < half; i++) s->values[l * s->cap + i] = s->values[l * s->cap + 2 * i];
        s->step *= 2;
    }
}

void nr_thinned_put(nr_thinned *s, size_t layer, size_t token, float value)
{
    if (token % s->step == 0) s->values[layer * s->cap + token / s->step] = value;
}
