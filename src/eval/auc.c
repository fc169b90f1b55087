/*
 * auc.c - how well a gate tells two kinds of text apart: the area under the
 * curve of hits against false alarms, exact, by sorting.
 *
 * Gates of every token in every layer would be large, so nr_thinned keeps
 * every step-th token. Which ones is decided by the token's number alone,
 * never by the order in which batches bring them.
 */
#include <math.h>
#include <stdlib.h>

#include "eval/eval.h"

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static bool has_nan(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(v[i])) return true;
    return false;
}

double nr_auc(float *a, size_t a_count, float *b, size_t b_count)
{
    if (a_count == 0 || b_count == 0 || has_nan(a, a_count) || has_nan(b, b_count)) return NAN;
    qsort(a, a_count, sizeof *a, ascending);
    qsort(b, b_count, sizeof *b, ascending);
    double above = 0; /* pairs with b > a, and half of those with b = a */
    size_t below = 0, through = 0;
    for (size_t i = 0; i < b_count; i++) {
        while (below < a_count && a[below] < b[i]) below++;
        if (through < below) through = below;
        while (through < a_count && a[through] <= b[i]) through++;
        above += (double)below + 0.5 * (double)(through - below);
    }
    return above / ((double)a_count * (double)b_count);
}

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
