/*
 * adamw_cpu.c - AdamW over flat arrays; see adamw_ref.inc. Bias corrections are
 * taken in double once, elements in float.
 */
#include "kernels/cpu.h"

typedef struct {
    float *p, *m, *v;
    const float *g;
    float g_scale, lr, decay, beta1, beta2, rest1, rest2, fix1, fix2, eps;
    size_t n;
    bool first;
} job;

NR_INLINE vf vsqrt(vf x)
{
#if VW == 16
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif VW == 8
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vf)_mm_sqrt_ps((__m128)x);
#else
    for (size_t i = 0; i < VW; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

static void update_block(void *context, size_t task)
{
    const job *j = context;
    size_t at = task * NR_CPU_BLOCK, count = NR_MIN(j->n - at, (size_t)NR_CPU_BLOCK);
    float *p = j->p + at, *m1 = j->m + at, *v1 = j->v + at;
    const float *grad = j->g + at;
    if (j->first) { /* not read before it is written: untouched memory would be mapped twice */
        memset(m1, 0, count * sizeof *m1);
        memset(v1, 0, count * sizeof *v1);
    }
    NR_EACH(count, {
        vf g = rload_n(grad, i, m) * j->g_scale, w = rload_n(p, i, m);
        vf a = rload_n(m1, i, m) * j->beta1 + g * j->rest1;
        vf b = rload_n(v1, i, m) * j->beta2 + (g * g) * j->rest2;
        rstore_n(m1, i, a, m);
        rstore_n(v1, i, b, m);
        rstore_n(p, i, w - j->lr * ((a * j->fix1) / (vsqrt(b * j->fix2) + j->eps) + j->decay * w), m);
    });
}

void NR_CPU(adamw, f32)(void *p, const void *g, void *m, void *v, double g_scale, double lr, double beta1, double beta2,
                        double eps, double decay, size_t t, size_t n)
{
    job j = {.p = p, .m = m, .v = v, .g = g, .n = n, .first = t == 1, .g_scale = (float)g_scale, .lr = (float)lr, .eps = (float)eps};
    j.decay = (float)decay;
    j.beta1 = (float)beta1;
    j.beta2 = (float)beta2;
    j.rest1 = (float)(1 - beta1);
    j.rest2 = (float)(1 - beta2);
    j.fix1 = (float)(1 / (1 - pow(beta1, (double)t)));
    j.fix2 = (float)(1 / (1 - pow(beta2, (double)t)));
    nr_parallel(tasks_of(n, NR_CPU_BLOCK), update_block, &j);
}
