/*
 * cross_entropy_cpu.c - losses of rows of logits (n, V), the divergence of two
 * sets of them, and its gradient at a temperature.
 *
 * A row is read three times (max, sum of exp, gradient); with V = 49152 it is
 * 192 KiB and stays in the second-level cache. Where the gradient takes the
 * logits' place, they become exp on the way. exp runs in float; its sum in
 * float lanes over SUM_BLOCK elements at most and in double beyond, so that the
 * relative error of the sum stays that of exp. The divergence cancels (terms of
 * order 1, results of order 1e-4), so it runs in double.
 */
#include "kernels/cpu.h"

#define SUM_BLOCK 1024

typedef struct {
    double *nll;
    void *d;
    const float *x, *q; /* q: divergence only */
    float *in_place;    /* the logits, where their gradient takes their place, so that exp may stand there meanwhile */
    const int32_t *targets;
    uint8_t *same;
    double scale;
    size_t first, n, V, rows; /* rows from first to n */
} job;

NR_INLINE float row_max(const float *x, size_t V)
{
    vf s[4] = {vset(-INFINITY), vset(-INFINITY), vset(-INFINITY), vset(-INFINITY)};
    float best = -INFINITY;
    size_t i = 0;
    for (; i + 4 * VW <= V; i += 4 * VW)
        for (size_t k = 0; k < 4; k++) s[k] = vmax(s[k], vload(x + i + k * VW));
    for (; i < V; i++) best = x[i] > best ? x[i] : best;
    float most = vsum_max(vmax(vmax(s[0], s[1]), vmax(s[2], s[3])));
    return most > best ? most : best;
}

/* next: lies as x does and is asked for meanwhile; NULL: nothing follows. kept (V) or NULL: where each exp goes; may be x. */
NR_INLINE double sum_exp(const float *x, float max, size_t V, const float *next, float *kept)
{
    double sum = 0;
    for (size_t at = 0; at < V; at += SUM_BLOCK) {
        size_t count = NR_MIN(V - at, (size_t)SUM_BLOCK), i = 0;
        const float *p = x + at;
        vf s[4] = {{0}};
        for (; i + 4 * VW <= count; i += 4 * VW)
            for (size_t k = 0; k < 4; k++) {
                if (next) __builtin_prefetch(next + at + i + k * VW, 0, 2);
                vf e = vexp(vload(p + i + k * VW) - max);
                if (kept) vstore(kept + at + i + k * VW, e);
                s[k] += e;
            }
        sum += (double)vsum((s[0] + s[1]) + (s[2] + s[3]));
        for (size_t k = i; k < count; k++) sum += (double)expf(p[k] - max);
        for (size_t m; kept && i < count; i += m) {
            m = NR_MIN(count - i, (size_t)VW);
            rstore_n(kept + at, i, vexp(rload_n(p, i, m) - max), m);
        }
    }
    return sum;
}

NR_INLINE void loss_row(const job *j, size_t r, bool bf16)
{
    size_t V = j->V;
    const float *x = j->x + r * V;
    void *d = j->d ? act_at_mut(j->d, r * V, bf16) : NULL;
    j->nll[r] = 0;
    if (j->targets[r] < 0) {
        if (d) memset(d, 0, V * (bf16 ? sizeof(uint16_t) : sizeof(float)));
        return;
    }
    size_t target = (size_t)j->targets[r];
    float max = row_max(x, V);
    double at_target = (double)x[target]; /* d may lie where x does */
    const float *next = r + 1 < j->n ? x + V : NULL;
    float *kept = j->in_place ? j->in_place + r * V : NULL;
    double sum = kept ? sum_exp(x, max, V, next, kept) : sum_exp(x, max, V, next, NULL);
    j->nll[r] = log(sum) + ((double)max - at_target);
    if (!d) return;
    float scale = (float)j->scale, factor = (float)(j->scale / sum);
    if (kept) NR_EACH(V, astore_n(d, i, rload_n(kept, i, m) * factor, m, bf16););
    else NR_EACH(V, astore_n(d, i, vexp(rload_n(x, i, m) - max) * factor, m, bf16););
    /* p - 1 from the true p, before it is rounded to act. */
    float p = (float)(exp(at_target - (double)max) / sum - 1) * scale;
    astore_n(d, target, vset(p), 1, bf16);
}

NR_INLINE void loss_rows(const job *j, size_t task, bool bf16)
{
    size_t begin = j->first + task * j->rows, end = NR_MIN(begin + j->rows, j->n);
    for (size_t r = begin; r < end; r++) loss_row(j, r, bf16);
}

/* Gradients in the logits' own place take half of it: those of rows [r, 2 r) overwrite logits [r / 2, r), which are done. */
static void in_waves(job *j, size_t n, void (*task)(void *context, size_t i), bool in_place)
{
    j->rows = rows_of_task(j->V);
    for (j->first = 0; j->first < n; j->first = j->n) {
        j->n = in_place ? NR_MIN(NR_MAX(2 * j->first, (size_t)1), n) : n;
        nr_parallel(tasks_of(j->n - j->first, j->rows), task, j);
    }
}

#define LOSS(type, bf16)                                                                                               \
    static void loss_rows_##type(void *context, size_t task) { loss_rows(context, task, bf16); }                       \
    void NR_CPU(cross_entropy, type)(double *nll, void *d_logits, const void *logits, const int32_t *targets,          \
                                     double scale, size_t n, size_t V)                                                 \
    {                                                                                                                  \
        job j = {.nll = nll, .d = d_logits, .x = logits, .targets = targets, .scale = scale, .n = n, .V = V};          \
        if (d_logits == logits) j.in_place = d_logits;                                                                 \
        in_waves(&j, n, loss_rows_##type, bf16 && d_logits == logits);                                                 \
    }
NR_CPU_BOTH(LOSS)

/* ---- divergence ---- */

NR_INLINE size_t first_equal(const float *x, float value, size_t V)
{
    size_t i = 0;
    while (i < V && x[i] != value) i++;
    return i;
}

/* Of t x; max is that of x. */
NR_INLINE double sum_exp_double(const float *x, float max, double t, size_t V)
{
    vd s = {0};
    double sum = 0;
    size_t i = 0;
    for (; i + VW <= V; i += VW) {
        vf v = vload(x + i);
        s += vexp_d((vwiden_low(v) - (double)max) * t) + vexp_d((vwiden_high(v) - (double)max) * t);
    }
    for (; i < V; i++) sum += exp(((double)x[i] - (double)max) * t);
    return sum + vsum_d(s);
}

/* sum p_i (log p_i - log q_i) with log p_i = t p_i' - lp, log q_i = t q_i' - lq. */
NR_INLINE double divergence_sum(const float *p, const float *q, double lp, double lq, double t, size_t V)
{
    vd s = {0};
    double sum = 0;
    size_t i = 0;
    for (; i + VW <= V; i += VW) {
        vf pf = vload(p + i), qf = vload(q + i);
        vd a = vwiden_low(pf) * t - lp, b = vwiden_low(qf) * t - lq;
        s += vexp_d(a) * (a - b);
        a = vwiden_high(pf) * t - lp;
        b = vwiden_high(qf) * t - lq;
        s += vexp_d(a) * (a - b);
    }
    for (; i < V; i++) {
        double a = (double)p[i] * t - lp, b = (double)q[i] * t - lq;
        sum += exp(a) * (a - b);
    }
    return sum + vsum_d(s);
}

static void divergence_rows(void *context, size_t task)
{
    const job *j = context;
    size_t V = j->V, begin = task * j->rows, end = NR_MIN(begin + j->rows, j->n);
    for (size_t r = begin; r < end; r++) {
        const float *p = j->x + r * V, *q = j->q + r * V;
        float max_p = row_max(p, V), max_q = row_max(q, V);
        double lp = (double)max_p + log(sum_exp_double(p, max_p, 1, V));
        double lq = (double)max_q + log(sum_exp_double(q, max_q, 1, V));
        j->nll[r] = divergence_sum(p, q, lp, lq, 1, V);
        j->same[r] = first_equal(p, max_p, V) == first_equal(q, max_q, V);
    }
}

void NR_CPU(divergence, f32)(double *kl, uint8_t *same, const void *p, const void *q, size_t n, size_t V)
{
    job j = {.nll = kl, .same = same, .x = p, .q = q, .n = n, .V = V, .rows = rows_of_task(V)};
    nr_parallel(tasks_of(n, j.rows), divergence_rows, &j);
}

/* ---- distillation: the divergence at a temperature, and its gradient ---- */

typedef struct {
    double *kl;
    void *d;
    const float *p, *q;
    const uint8_t *use;
    double t, scale;
    size_t n, V, rows;
} distil_job;

NR_INLINE void distil_row(const distil_job *j, size_t r, bool bf16)
{
    size_t V = j->V;
    const float *p = j->p + r * V, *q = j->q + r * V;
    float max_p = row_max(p, V), max_q = row_max(q, V);
    double sum_p = sum_exp_double(p, max_p, j->t, V), sum_q = sum_exp_double(q, max_q, j->t, V);
    j->kl[r] = divergence_sum(p, q, (double)max_p * j->t + log(sum_p), (double)max_q * j->t + log(sum_q), j->t, V);
    if (!j->d) return;
    void *d = act_at_mut(j->d, r * V, bf16);
    float t = (float)j->t, to_p = (float)(j->scale / sum_p), to_q = (float)(j->scale / sum_q);
    NR_EACH(V, {
        vf a = vexp((rload_n(p, i, m) - max_p) * t) * to_p, b = vexp((rload_n(q, i, m) - max_q) * t) * to_q;
        astore_n(d, i, aload_n(d, i, m, bf16) + (b - a), m, bf16);
    });
}

NR_INLINE void distil_rows(const distil_job *j, size_t task, bool bf16)
{
    size_t begin = task * j->rows, end = NR_MIN(begin + j->rows, j->n);
    for (size_t r = begin; r < end; r++) {
        j->kl[r] = 0;
        if (j->use[r]) distil_row(j, r, bf16);
    }
}

#define DISTIL(type, bf16)                                                                                             \
    static void distil_rows_##type(void *context, size_t task) { distil_rows(context, task, bf16); }                   \
    void NR_CPU(distil, type)(double *kl, void *d_q, const void *p, const void *q, const uint8_t *use,                 \
                              double temperature, double scale, size_t n, size_t V)                                    \
    {                                                                                                                  \
        distil_job j = {kl, d_q, p, q, use, 1 / temperature, scale, n, V, rows_of_task(V)};                            \
        nr_parallel(tasks_of(n, j.rows), distil_rows_##type, &j);                                                      \
    }
NR_CPU_BOTH(DISTIL)
