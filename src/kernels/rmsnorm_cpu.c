/*
 * rmsnorm_cpu.c - RMSNorm by rows; see rmsnorm_ref.inc for the formulas.
 *
 * The sum of squares runs in 4 vectors of float lanes. dw is summed in blocks
 * of NR_ROW_BLOCK rows, which are added in order.
 */
#include "kernels/cpu.h"

typedef struct {
    void *y;
    float *rstd, *dx, *partial; /* partial: (blocks, C) or NULL */
    const float *x, *w, *dy;
    size_t n, C;
    double eps;
} job;

/* sum of a b over C channels, b = a w where w isn't NULL. */
NR_INLINE float dot(const float *a, const float *b, const float *w, size_t C)
{
    vf s[4] = {{0}};
    size_t c = 0;
    for (; c + 4 * VW <= C; c += 4 * VW)
        for (size_t k = 0; k < 4; k++) {
            vf v = vload(a + c + k * VW);
            if (w) v *= vload(w + c + k * VW);
            s[k] += v * vload(b + c + k * VW);
        }
    for (; c < C; c += VW) {
        vf v = rload_n(a, c, C - c);
        if (w) v *= rload_n(w, c, C - c);
        s[0] += v * rload_n(b, c, C - c);
    }
    return vsum((s[0] + s[1]) + (s[2] + s[3]));
}

NR_INLINE void norm_rows(const job *j, size_t task, bool bf16)
{
    size_t C = j->C, begin = task * NR_ROW_BLOCK, end = NR_MIN(begin + NR_ROW_BLOCK, j->n);
    for (size_t r = begin; r < end; r++) {
        const float *x = j->x + r * C;
        float s = (float)(1 / sqrt((double)dot(x, x, NULL, C) / (double)C + j->eps));
        void *y = act_at_mut(j->y, r * C, bf16);
        j->rstd[r] = s;
        NR_EACH(C, astore_n(y, i, rload_n(x, i, m) * s * rload_n(j->w, i, m), m, bf16););
    }
}

#define NORM(type, bf16)                                                                                               \
    static void norm_rows_##type(void *context, size_t task) { norm_rows(context, task, bf16); }                       \
    void NR_CPU(rmsnorm, type)(void *y, void *rstd, const void *x, const void *w, size_t n, size_t C, double eps)      \
    {                                                                                                                  \
        job j = {.y = y, .rstd = rstd, .x = x, .w = w, .n = n, .C = C, .eps = eps};                                    \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), norm_rows_##type, &j);                                                  \
    }
NR_CPU_BOTH(NORM)

static void back_rows(void *context, size_t task)
{
    const job *j = context;
    size_t C = j->C, begin = task * NR_ROW_BLOCK, end = NR_MIN(begin + NR_ROW_BLOCK, j->n);
    float *dw = j->partial ? j->partial + task * C : NULL;
    if (dw) memset(dw, 0, C * sizeof *dw);
    for (size_t r = begin; r < end; r++) {
        const float *x = j->x + r * C, *dy = j->dy + r * C;
        float *dx = j->dx + r * C, s = j->rstd[r], k = s * s * dot(dy, x, j->w, C) / (float)C;
        NR_EACH(C, {
            vf xi = rload_n(x, i, m), d = rload_n(dy, i, m);
            rstore_n(dx, i, rload_n(dx, i, m) + s * (d * rload_n(j->w, i, m) - xi * k), m);
            if (dw) rstore_n(dw, i, rload_n(dw, i, m) + d * xi * s, m);
        });
    }
}

void NR_CPU(rmsnorm_back, f32)(void *dx, void *dw, const void *dy, const void *x, const void *w, const void *rstd,
                               size_t n, size_t C, void *scratch)
{
    job j = {.dx = dx, .dy = dy, .x = x, .w = w, .n = n, .C = C, .partial = dw ? scratch : NULL};
    j.rstd = (float *)(uintptr_t)rstd; /* only read here */
    nr_parallel(tasks_of(n, NR_ROW_BLOCK), back_rows, &j);
    if (dw) add_blocks(dw, scratch, tasks_of(n, NR_ROW_BLOCK), C, C);
}
