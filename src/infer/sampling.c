/*
 * sampling.c - from logits to the next token.
 *
 * Order and meaning are those of the transformers library:
 *   repetition penalty  a score of a token seen before is divided by it when
 *                       positive and multiplied when negative, once a token
 *   temperature         scores / temperature
 *   top-k               scores below the k-th largest go (equals of it stay)
 *   top-p               the fewest most probable tokens that reach p together stay
 *   min-p               what is less probable than min_p times the best goes
 * Each of the last two works on what the one before left, as probabilities.
 */
#include <math.h>

#include "infer/infer.h"

/* Whether token a stands before b: larger first, the lower id of equals. */
static bool before(const double *p, int32_t a, int32_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; }

static void sift(int32_t *heap, size_t n, size_t i, const double *p)
{
    for (;;) {
        size_t best = i, left = 2 * i + 1;
        for (size_t k = left; k < left + 2 && k < n; k++)
            if (before(p, heap[k], heap[best])) best = k;
        if (best == i) return;
        int32_t t = heap[i];
        heap[i] = heap[best];
        heap[best] = t;
        i = best;
    }
}

/* A heap instead of a sort: of a large vocabulary only the first few are wanted. */
static void heap_make(int32_t *heap, size_t n, const double *p)
{
    for (size_t i = 0; i < n; i++) heap[i] = (int32_t)i;
    for (size_t i = n / 2; i-- > 0;) sift(heap, n, i, p);
}

static int32_t heap_pop(int32_t *heap, size_t *n, const double *p)
{
    int32_t top = heap[0];
    heap[0] = heap[--*n];
    heap[*n] = top; /* popped ones lie behind the heap */
    sift(heap, *n, 0, p);
    return top;
}

static void normalise(double *p, size_t V)
{
    double sum = 0;
    for (size_t i = 0; i < V; i++) sum += p[i];
    for (size_t i = 0; i < V; i++) p[i] /= sum;
}

static void penalise(double *p, const float *logits, const int32_t *history, size_t count, double penalty)
{
    for (size_t i = 0; i < count; i++) {
        double x = (double)logits[history[i]]; /* from the logits, so that a second sight changes nothing */
        p[history[i]] = x < 0 ? x * penalty : x / penalty;
    }
}

int32_t nr_sampling_best(const float *logits, size_t V)
{
    enum { LANES = 16 };
    float most[LANES], top;
    size_t i = 0;
    for (size_t k = 0; k < LANES; k++) most[k] = logits[0];
    for (; i + LANES <= V; i += LANES)
        for (size_t k = 0; k < LANES; k++) most[k] = logits[i + k] > most[k] ? logits[i + k] : most[k];
    top = most[0];
    for (size_t k = 1; k < LANES; k++) top = most[k] > top ? most[k] : top;
    for (; i < V; i++) top = logits[i] > top ? logits[i] : top;
    for (i = 0; logits[i] != top;) i++; /* finite: it is there */
    return (int32_t)i;
}

static size_t best_of(const double *p, size_t V)
{
    size_t best = 0;
    for (size_t i = 1; i < V; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

static void keep_top_k(double *p, int32_t *order, size_t V, size_t k)
{
    if (k == 0 || k >= V) return;
    size_t n = V;
    double last = 0;
    heap_make(order, V, p);
    while (k-- > 0) last = p[heap_pop(order, &n, p)];
    for (size_t i = 0; i < V; i++)
        if (p[i] < last) p[i] = -INFINITY;
}

static void keep_top_p(double *p, int32_t *order, size_t V, double top_p)
{
    if (top_p >= 1) return;
    size_t n = V;
    double sum = 0;
    heap_make(order, V, p);
    do sum += p[heap_pop(order, &n, p)];
    while (sum < top_p && n > 0);
    for (size_t i = 0; i < n; i++) p[order[i]] = 0;
    normalise(p, V);
}

static void keep_min_p(double *p, size_t V, double min_p)
{
    if (min_p <= 0) return;
    double least = min_p * p[best_of(p, V)];
    for (size_t i = 0; i < V; i++)
        if (p[i] < least) p[i] = 0;
    normalise(p, V);
}

void nr_sampling_distribution(double *p, int32_t *order, const float *logits, size_t V, const int32_t *history,
                              size_t count, const nr_sampling *how)
{
    for (size_t i = 0; i < V; i++) p[i] = (double)logits[i];
    if (how->repetition_penalty > 0 && how->repetition_penalty != 1)
        penalise(p, logits, history, count, how->repetition_penalty);
    size_t best = best_of(p, V);
    double top = p[best];
    if (how->temperature <= 0) {
        for (size_t i = 0; i < V; i++) p[i] = i == best;
        return;
    }
    for (size_t i = 0; i < V; i++) p[i] = (p[i] - top) / how->temperature;
    keep_top_k(p, order, V, how->top_k);
    for (size_t i = 0; i < V; i++) p[i] = p[i] == -INFINITY ? 0 : exp(p[i]);
    normalise(p, V);
    keep_top_p(p, order, V, how->top_p > 0 ? how->top_p : 1);
    keep_min_p(p, V, how->min_p);
}

int32_t nr_sampling_draw(const double *p, size_t V, double u)
{
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < V; i++) {
        if (p[i] <= 0) continue;
        sum += p[i];
        last = i;
        if (u < sum) break;
    }
    return (int32_t)last; /* rounding may leave the sum just below u: the last possible token */
}
