/*
 * router.c - softmax over experts and weighted experts. The weight of an expert
 * is to its w numbers what a gate is to an adapter's C: the gate's operations
 * do the work.
 */
#include <math.h>
#include <string.h>

#include "methods/router.h"

void nr_router_softmax(const nr_ops *ops, void *p, size_t n, size_t E)
{
    for (size_t row = 0; row < n * E; row += E) {
        double most = nr_real_get(ops, p, row), sum = 0;
        for (size_t i = 1; i < E; i++) most = fmax(most, nr_real_get(ops, p, row + i));
        for (size_t i = 0; i < E; i++) sum += exp(nr_real_get(ops, p, row + i) - most);
        for (size_t i = 0; i < E; i++) nr_real_set(ops, p, row + i, exp(nr_real_get(ops, p, row + i) - most) / sum);
    }
}

void nr_router_softmax_back(const nr_ops *ops, void *dp, const void *p, size_t n, size_t E)
{
    for (size_t row = 0; row < n * E; row += E) {
        double mean = 0;
        for (size_t i = 0; i < E; i++) mean += nr_real_get(ops, p, row + i) * nr_real_get(ops, dp, row + i);
        for (size_t i = 0; i < E; i++) nr_real_set(ops, dp, row + i, nr_real_get(ops, p, row + i) * (nr_real_get(ops, dp, row + i) - mean));
    }
}

void nr_router_mix(const nr_ops *ops, void *u, void *sum, const void *p, const void *t, size_t n, size_t E, size_t w)
{
    memset(sum, 0, n * E * w * ops->real_size);
    ops->gate_add(sum, NULL, p, t, false, n * E, w);
    ops->to_act(u, sum, n * E * w);
}

/* A relu gate at z = p > 0 has slope 1: its gradient is the sum. Where p is 0 the softmax passes nothing on. */
void nr_router_mix_back(const nr_ops *ops, void *dt, void *dp, const void *du, const void *p, const void *t, size_t n, size_t E, size_t w)
{
    const nr_gate_loss plain = {.gate = NR_GATE_RELU, .lm_to_gate = true};
    ops->gate_back(dt, dp, du, t, p, p, &plain, n * E, w);
}
