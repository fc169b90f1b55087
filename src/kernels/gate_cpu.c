/*
 * gate_cpu.c - the block's gate, the gated sum and the local losses' gradients,
 * by rows; see gate_ref.inc for the formulas.
 *
 * One scalar a row goes through libm in double; the channels run in vectors.
 * dw and dbias are summed in blocks of NR_ROW_BLOCK rows, added in order.
 */
#include "kernels/cpu.h"

typedef struct {
    float *g, *z, *x, *dz, *partial; /* partial (blocks, C + 1) */
    double *abs_sum;
    void *da;
    const void *xn, *a;
    const float *w, *bias, *dy;
    const nr_gate_loss *loss;
    nr_gate kind;
    bool on_a;
    size_t n, C;
} job;

static double gate_value(double z, nr_gate kind)
{
    switch (kind) {
    case NR_GATE_ELU:
        return z > 0 ? z : expm1(z);
    case NR_GATE_RELU:
        return z > 0 ? z : 0;
    case NR_GATE_SIGMOID:
        return 1 / (1 + exp(-z));
    case NR_GATE_NONE:
        break;
    }
    return 1;
}

static double gate_slope(double z, nr_gate kind)
{
    switch (kind) {
    case NR_GATE_ELU:
        return z > 0 ? 1 : exp(z);
    case NR_GATE_RELU:
        return z > 0;
    case NR_GATE_SIGMOID:
        return 1 / (1 + exp(-z)) * (1 / (1 + exp(z)));
    case NR_GATE_NONE:
        break;
    }
    return 0;
}

NR_INLINE size_t row_end(const job *j, size_t task) { return NR_MIN((task + 1) * NR_ROW_BLOCK, j->n); }

NR_INLINE void gate_rows(const job *j, size_t task, bool bf16)
{
    size_t C = j->C;
    for (size_t r = task * NR_ROW_BLOCK; r < row_end(j, task); r++) {
        vf s = {0};
        if (j->w) NR_EACH(C, s += aload_n(j->xn, r * C + i, m, bf16) * rload_n(j->w, i, m););
        double z = (double)vsum(s) + (j->bias ? (double)*j->bias : 0);
        j->z[r] = (float)z;
        j->g[r] = (float)gate_value(z, j->kind);
    }
}

NR_INLINE void add_rows(const job *j, size_t task, bool bf16)
{
    size_t C = j->C;
    for (size_t r = task * NR_ROW_BLOCK; r < row_end(j, task); r++) {
        float *x = j->x + r * C, g = j->g[r];
        vf s = {0};
        NR_EACH(C, {
            vf a = aload_n(j->a, r * C + i, m, bf16);
            rstore_n(x, i, rload_n(x, i, m) + g * a, m);
            s += vabs(a);
        });
        if (j->abs_sum) j->abs_sum[r] = (double)vsum(s) * (j->on_a ? 1 : fabs((double)g));
    }
}

NR_INLINE void back_rows(const job *j, size_t task, bool bf16)
{
    const nr_gate_loss *loss = j->loss;
    const float *l1 = loss->l1_coef, *ce = loss->ce_coef;
    size_t C = j->C;
    for (size_t r = task * NR_ROW_BLOCK; r < row_end(j, task); r++) {
        float g = j->g[r], coef = l1 ? l1[r] : 0;
        float on_a = loss->l1_on_a ? coef : coef * fabsf(g);
        float on_g = loss->l1_on_a ? 0 : coef * (float)((g > 0) - (g < 0));
        const float *dy = j->dy + r * C;
        vf dot = {0}, sum = {0};
        NR_EACH(C, {
            vf a = aload_n(j->a, r * C + i, m, bf16), d = rload_n(dy, i, m);
            astore_n(j->da, r * C + i, g * d + on_a * vsign(a), m, bf16);
            dot += d * a;
            sum += vabs(a);
        });
        double z = j->z[r], d = loss->lm_to_gate ? (double)vsum(dot) : 0;
        d = gate_slope(z, loss->gate) * (d + (double)on_g * (double)vsum(sum));
        if (ce && loss->gate != NR_GATE_NONE) d += (double)ce[r] * (1 / (1 + exp(-z)) - (loss->is_new[r] != 0));
        j->dz[r] = (float)d;
    }
}

NR_INLINE void input_rows(const job *j, size_t task, bool bf16)
{
    size_t C = j->C;
    float *dw = j->partial + task * (C + 1);
    memset(dw, 0, (C + 1) * sizeof *dw);
    for (size_t r = task * NR_ROW_BLOCK; r < row_end(j, task); r++) {
        float *dx = j->x ? j->x + r * C : NULL, d = j->dz[r];
        dw[C] += d;
        if (d == 0) continue; /* relu gates are mostly shut */
        NR_EACH(C, {
            if (dx) rstore_n(dx, i, rload_n(dx, i, m) + d * rload_n(j->w, i, m), m);
            rstore_n(dw, i, rload_n(dw, i, m) + d * aload_n(j->xn, r * C + i, m, bf16), m);
        });
    }
}

#define GATE(type, bf16)                                                                                               \
    static void gate_rows_##type(void *context, size_t task) { gate_rows(context, task, bf16); }                       \
    static void add_rows_##type(void *context, size_t task) { add_rows(context, task, bf16); }                         \
    static void back_rows_##type(void *context, size_t task) { back_rows(context, task, bf16); }                       \
    static void input_rows_##type(void *context, size_t task) { input_rows(context, task, bf16); }                     \
    void NR_CPU(gate, type)(void *g, void *z, const void *xn, const void *w, const void *bias, nr_gate kind, size_t n, \
                            size_t C)                                                                                  \
    {                                                                                                                  \
        job j = {.g = g, .z = z, .xn = xn, .w = w, .bias = bias, .kind = kind, .n = n, .C = C};                        \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), gate_rows_##type, &j);                                                  \
    }                                                                                                                  \
    void NR_CPU(gate_add, type)(void *x, double *abs_sum, const void *g, const void *a, bool on_a, size_t n, size_t C) \
    {                                                                                                                  \
        job j = {.x = x, .abs_sum = abs_sum, .g = (float *)(uintptr_t)g, .a = a, .on_a = on_a, .n = n, .C = C};        \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), add_rows_##type, &j);                                                   \
    }                                                                                                                  \
    void NR_CPU(gate_back, type)(void *da, void *dz, const void *dy, const void *a, const void *g, const void *z,      \
                                 const nr_gate_loss *loss, size_t n, size_t C)                                         \
    {                                                                                                                  \
        job j = {.da = da, .dz = dz, .dy = dy, .a = a, .loss = loss, .n = n, .C = C};                                  \
        j.g = (float *)(uintptr_t)g; /* g and z are only read here */                                                  \
        j.z = (float *)(uintptr_t)z;                                                                                   \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), back_rows_##type, &j);                                                  \
    }                                                                                                                  \
    void NR_CPU(gate_back_input, type)(void *dxn, void *dw, void *dbias, const void *dz, const void *xn,               \
                                       const void *w, size_t n, size_t C, void *scratch)                               \
    {                                                                                                                  \
        job j = {.x = dxn, .dz = (float *)(uintptr_t)dz, .xn = xn, .w = w, .n = n, .C = C, .partial = scratch};        \
        nr_parallel(tasks_of(n, NR_ROW_BLOCK), input_rows_##type, &j);                                                 \
        if (dw) add_blocks(dw, scratch, tasks_of(n, NR_ROW_BLOCK), C + 1, C);                                          \
        if (dbias) add_blocks(dbias, (float *)scratch + C, tasks_of(n, NR_ROW_BLOCK), C + 1, 1);                       \
    }
NR_CPU_BOTH(GATE)
