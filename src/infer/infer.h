/*
 * infer.h - the inside of generation: how a token is drawn from logits, and
 * how text is held back while it may be the start of a stop string. Pure
 * functions of plain arrays; the session (session.c) stands in nres.h.
 */
#ifndef NR_INFER_H
#define NR_INFER_H

#include "model/extension.h"

/* ---- sampling.c ---- */

/* p (V) = probabilities of the next token after penalty, temperature, top-k,
 * top-p and min-p, in this order. order (V) is scratch. history: the tokens
 * that the repetition penalty looks at. Temperature 0: all on the best one. */
void nr_sampling_distribution(double *p, int32_t *order, const float *logits, size_t V, const int32_t *history,
                              size_t count, const nr_sampling *how);
/* The first token with the largest of V finite logits, V at least 1. */
int32_t nr_sampling_best(const float *logits, size_t V);
/* The token at u in [0, 1) of the cumulated probabilities. */
int32_t nr_sampling_draw(const double *p, size_t V, double u);

/* ---- stops.c ---- */

typedef struct {
    const char *const *stops; /* not empty strings */
    size_t count;
    nr_buffer held;           /* a suffix that may grow into a stop string */
    bool found;
} nr_stops;
/* Adds bytes; out gets those that no stop string can claim any more. Once a
 * stop string is complete, found is set and it and all after it are dropped. */
void nr_stops_add(nr_stops *s, const char *bytes, size_t n, nr_buffer *out);
/* Nothing follows: out gets what was held back. */
void nr_stops_end(nr_stops *s, nr_buffer *out);
void nr_stops_free(nr_stops *s);

#endif
