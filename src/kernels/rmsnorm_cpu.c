/*
 * rmsnorm_cpu.c - RMSNorm by rows; see rmsnorm_ref.inc for the formulas.
 *
 * The sum of squares runs in 4 vectors of float lanes. dw is summed in blocks
 * of NR_ROW_BLOCK rows, which are added in order.
 */
#include "kernels/cpu.h"

typedef struct {
    void *y, *x_act, *dx_act;
    float *rstd, *dx, *partial; /* partial: (blocks, C) or NULL */
    const void *x;
    const float *w, *dy;
    size_t n, C;
    double eps;
} job;

/* sum of x^2 over C channels; with dy of x dy w. */
NR_INLINE float dot(const void *x, const float *dy, const float *w, size_t C, bool x_bf16)
{
    vf s[4] = {{0}};
    size_t c = 0;
    for (; c + 4 * VW <= C; c += 4 * VW)
        for (size_t k = 0; k < 4; k++) {
            vf v = aload(x, c + k * VW, x_bf16);
            s[k] += dy ? vload(dy + c + k * VW) * vload(w + c + k * VW) * v : v * v;
        }
    for (; c < C; c += VW) {
        vf v = aload_n(x, c, C - c, x_bf16);
        s[0] += dy ? rload_n(dy, c, C - c) * rload_n(w, c, C - c) * v : v * v;
    }
    return vsum((s[0] + s[1]) + (s[2] + s[3]));
}

NR_INLINE void norm_rows(const job *j, size_t task, bool bf16, bool x_bf16)
{
    size_t C = j->C, begin = task * NR_ROW_BLOCK, end = NR_MIN(begin + NR_ROW_BLOCK, j->n);
    for (size_t r = begin; r < end; r++) {
        const void *x = act_at(j->x, r * C, x_bf16);
        float s = (float)(1 / sqrt((double)dot(x, NULL, NULL, C, x_bf16) / (double)C + j->eps));
        void *y = act_at_mut(j->y, r * C, bf16), *x_act = j->x_act ? act_at_mut(j->x_act, r * C, bf16) : NULL;
        j->rstd[r] = s;
        size_t c = 0;
#if defined(__AVX512BF16__)
        for (; bf16 && c + 2 * VW <= C; c += 2 * VW) {
            vf a = aload(x, c, x_bf16), b = aload(x, c + VW, x_bf16);
            if (x_act) vstore_past((uint16_t *)x_act + c, vround_line(a, b)); /* read in the backward pass only */
            _mm512_storeu_si512((uint16_t *)y + c, vround_line(a * s * vload(j->w + c), b * s * vload(j->w + c + VW)));
        }
#endif
        NR_EACH(C - c, {
            vf xi = aload_n(x, c + i, m, x_bf16);
            if (x_act) astore_n(x_act, c + i, xi, m, bf16);
            astore_n(y, c + i, xi * s * rload_n(j->w, c + i, m), m, bf16);
        });
    }
#if defined(__AVX512BF16__)
    if (j->x_act) _mm_sfence();
#endif
}

NR_INLINE void back_rows(const job *j, size_t task, bool bf16, bool x_bf16)
{
    size_t C = j->C, begin = task * NR_ROW_BLOCK, end = NR_MIN(begin + NR_ROW_BLOCK, j->n);
    float *dw = j->partial ? j->partial + task * C : NULL;
    if (dw) memset(dw, 0, C * sizeof *dw);
    for (size_t r = begin; r < end; r++) {
        const void *x = act_at(j->x, r * C, x_bf16);
        const float *dy = j->dy + r * C;
        void *dx_act = j->dx_act ? act_at_mut(j->dx_act, r * C, bf16) : NULL;
        float *dx = j->dx + r * C, s = j->rstd[r], k = s * s * dot(x, dy, j->w, C, x_bf16) / (float)C;
        NR_EACH(C, {
            vf xi = aload_n(x, i, m, x_bf16), d = rload_n(dy, i, m);
            vf sum = rload_n(dx, i, m) + s * (d * rload_n(j->w, i, m) - xi * k);
            rstore_n(dx, i, sum, m);
            if (dx_act) astore_n(dx_act, i, sum, m, bf16);
            if (dw) rstore_n(dw, i, rload_n(dw, i, m) + d * xi * s, m);
        });
    }
}

/* For x in either type. */
#define NORM(type, bf16)                                                                                               \
    static void norm_rows_##type(void *context, size_t task) { norm_rows(context, task, bf16, false); }                \
    static void norm_act_rows_##type(void *context, size_t task) { norm_rows(context, task, bf16, bf16); }             \
    static void back_rows_##type(void *context, size_t task) { back_rows(context, task, bf16, false); }                \
    static void back_act_rows_##type(void *context, size_t task) { back_rows(context, task, bf16, bf16); }             \
    void NR_CPU(rmsnorm, type)(void *y, void *x_act, void *rstd, const void *x, nr_slot slot, const void *w, size_t n, \
                               size_t C, double eps)                                                                   \
    {                                                                                                                  \
        job j = {.y = y, .x_act = x_act, .rstd = rstd, .x = x, .w = w, .n = n, .C = C, .eps = eps};                    \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), slot == NR_ACT ? norm_act_rows_##type : norm_rows_##type, &j);          \
    }                                                                                                                  \
    void NR_CPU(rmsnorm_back, type)(void *dx, void *dx_act, void *dw, const void *dy, const void *x, nr_slot slot,     \
                                    const void *w, const void *rstd, size_t n, size_t C, void *scratch)                \
    {                                                                                                                  \
        job j = {.dx = dx, .dx_act = dx_act, .dy = dy, .x = x, .w = w, .n = n, .C = C, .partial = dw ? scratch : NULL}; \
        j.rstd = (float *)(uintptr_t)rstd; /* only read here */                                                        \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), slot == NR_ACT ? back_act_rows_##type : back_rows_##type, &j);          \
        if (dw) add_blocks(dw, scratch, tasks_of(n, NR_ROW_BLOCK), C, C);                                              \
    }
NR_CPU_BOTH(NORM)
