/*
 * glu_cpu.c - h = act(g) u over n F elements, as one flat array; see
 * glu_ref.inc for the activations as g sigmoid(s).
 *
 * In bf16 two vectors at a time, where the processor rounds to it; the rest of a
 * block, and float, go one by one.
 */
#include "kernels/cpu.h"

typedef struct {
    void *h, *dg, *du;
    const void *dh, *g, *u;
    size_t n;
    nr_act act;
} job;

#define GELU_SCALE 1.5957691216057308f /* 2 sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

/* 1 / (1 + e) with e = e^-x; for bf16 to what that can show. */
NR_INLINE vf sigmoid(vf x, vf *e, bool bf16)
{
#if defined(__AVX512BF16__)
    if (bf16) {
        *e = vexp2_masked(vmin(vset(126.0f), x * -LOG2_E), 0xffff); /* finite, so that its reciprocal is no denormal */
        return (vf)_mm512_rcp14_ps((__m512)(1.0f + *e)); /* to 2^-14 */
    }
#endif
    (void)bf16;
    *e = vexp(-x);
    return 1.0f / (1.0f + *e);
}

NR_INLINE vf argument(vf g, bool gelu) { return gelu ? GELU_SCALE * (g + GELU_CUBIC * (g * g * g)) : g; }

NR_INLINE vf value(vf g, vf u, bool bf16, bool gelu)
{
    vf e, sigma = sigmoid(argument(g, gelu), &e, bf16);
    return g * sigma * u;
}

NR_INLINE void forward_block(const job *j, size_t task, bool bf16, bool gelu)
{
    size_t at = task * NR_CPU_BLOCK, end = NR_MIN(j->n, at + NR_CPU_BLOCK);
#if defined(__AVX512BF16__)
    for (; bf16 && at + 2 * VW <= end; at += 2 * VW) {
        vf g[2], u[2], h[2];
        vload_both(g, (const uint16_t *)j->g + at);
        vload_both(u, (const uint16_t *)j->u + at);
        for (size_t k = 0; k < 2; k++) h[k] = value(g[k], u[k], bf16, gelu);
        vstore_both((uint16_t *)j->h + at, h);
    }
#endif
    NR_EACH(end - at, {
        vf g = aload_n(j->g, at + i, m, bf16), u = aload_n(j->u, at + i, m, bf16);
        astore_n(j->h, at + i, value(g, u, bf16, gelu), m, bf16);
    });
}

NR_INLINE void gradients(vf *dg, vf *du, vf *h, vf d, vf g, vf u, bool bf16, bool gelu)
{
    vf e, sigma = sigmoid(argument(g, gelu), &e, bf16);
    /* 1 - sigma = e / (1 + e), which overflows to infinity / infinity where sigma is 0 */
    vf rest = vmin(e * sigma, vset(1.0f));
    vf ds = gelu ? GELU_SCALE * (1.0f + 3 * GELU_CUBIC * (g * g)) : vset(1.0f);
    vf slope = sigma + g * sigma * (rest * ds);
    *dg = d * u * slope;
    *du = d * (g * sigma);
    *h = g * sigma * u;
}

/* Results may lie where g, u and dh do: all of an element is computed before any is stored. */
NR_INLINE void backward_block(const job *j, size_t task, bool bf16, bool gelu)
{
    size_t at = task * NR_CPU_BLOCK, end = NR_MIN(j->n, at + NR_CPU_BLOCK);
#if defined(__AVX512BF16__)
    for (; bf16 && at + 2 * VW <= end; at += 2 * VW) {
        vf d[2], g[2], u[2], dg[2], du[2], h[2];
        vload_both(d, (const uint16_t *)j->dh + at);
        vload_both(g, (const uint16_t *)j->g + at);
        vload_both(u, (const uint16_t *)j->u + at);
        for (size_t k = 0; k < 2; k++) gradients(&dg[k], &du[k], &h[k], d[k], g[k], u[k], bf16, gelu);
        vstore_both((uint16_t *)j->dg + at, dg);
        vstore_both((uint16_t *)j->du + at, du);
        if (j->h) vstore_both((uint16_t *)j->h + at, h);
    }
#endif
    NR_EACH(end - at, {
        vf d = aload_n(j->dh, at + i, m, bf16), g = aload_n(j->g, at + i, m, bf16), u = aload_n(j->u, at + i, m, bf16), dg, du, h;
        gradients(&dg, &du, &h, d, g, u, bf16, gelu);
        astore_n(j->dg, at + i, dg, m, bf16);
        astore_n(j->du, at + i, du, m, bf16);
        if (j->h) astore_n(j->h, at + i, h, m, bf16);
    });
}

#define GLU(type, bf16)                                                                                                \
    static void forward_##type(void *context, size_t task)                                                             \
    {                                                                                                                  \
        const job *j = context;                                                                                        \
        if (j->act == NR_ACT_GELU_TANH) forward_block(j, task, bf16, true);                                            \
        else forward_block(j, task, bf16, false);                                                                      \
    }                                                                                                                  \
    static void backward_##type(void *context, size_t task)                                                            \
    {                                                                                                                  \
        const job *j = context;                                                                                        \
        if (j->act == NR_ACT_GELU_TANH) backward_block(j, task, bf16, true);                                           \
        else backward_block(j, task, bf16, false);                                                                     \
    }                                                                                                                  \
    void NR_CPU(glu, type)(void *h, const void *g, const void *u, nr_act act, size_t n, size_t F)                      \
    {                                                                                                                  \
        job j = {.h = h, .g = g, .u = u, .n = n * F, .act = act};                                                      \
        nr_parallel(tasks_of(j.n, NR_CPU_BLOCK), forward_##type, &j);                                                  \
    }                                                                                                                  \
    void NR_CPU(glu_back, type)(void *dg, void *du, void *h, const void *dh, const void *g, const void *u, nr_act act, \
                                size_t n, size_t F)                                                                    \
    {                                                                                                                  \
        job j = {.h = h, .dg = dg, .du = du, .dh = dh, .g = g, .u = u, .n = n * F, .act = act};                        \
        nr_parallel(tasks_of(j.n, NR_CPU_BLOCK), backward_##type, &j);                                                 \
    }
NR_CPU_BOTH(GLU)
