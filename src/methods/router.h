/*
 * router.h - what mixtures of experts share: a softmax over experts for every
 * token, and experts' outputs weighted with it. E experts, each w numbers wide;
 * a token's experts lie one after another, so that n tokens are n E rows of w.
 */
#ifndef NR_ROUTER_H
#define NR_ROUTER_H

#include "model/extension.h"

/* p (n, E) real: logits become probabilities, in place. */
void nr_router_softmax(const nr_ops *ops, void *p, size_t n, size_t E);
/* dp (n, E) real: from the gradient at the probabilities p to that at the logits, in place. */
void nr_router_softmax_back(const nr_ops *ops, void *dp, const void *p, size_t n, size_t E);
/* u (n E, w) act = p t; t act; sum (n E, w) real is scratch. */
void nr_router_mix(const nr_ops *ops, void *u, void *sum, const void *p, const void *t, size_t n, size_t E, size_t w);
/* dt (n E, w) act = p du and dp (n E) real = sum over w of du t; du real. */
void nr_router_mix_back(const nr_ops *ops, void *dt, void *dp, const void *du, const void *p, const void *t, size_t n, size_t E,
                        size_t w);

#endif
