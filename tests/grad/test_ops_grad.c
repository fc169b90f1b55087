/*
 * test_ops_grad.c - every backward operation, in double, against central
 * differences of its forward one.
 *
 * The loss is sum c y with random c, so dy = c. With a step of 1e-5 the
 * differences are good to about 1e-10 of the largest gradient; 1e-8 is asked.
 * No point is an identity: all weights, gates and products are far from 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

#define STEP      1e-5
#define TOLERANCE 1e-8

typedef double (*loss_function)(void *context);

static uint64_t stream;

static void fill(double *x, size_t n, double scale)
{
    stream++;
    for (size_t i = 0; i < n; i++) x[i] = scale * nr_rng_normal(3, NR_RNG_TEST, stream << 32 | i);
}

/* As fill, with every element at least 0.1 from 0, where |x| and relu bend. */
static void fill_away(double *x, size_t n, double scale)
{
    fill(x, n, scale);
    for (size_t i = 0; i < n; i++) x[i] += x[i] < 0 ? -0.1 : 0.1;
}

static double weighted(const double *c, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += c[i] * y[i];
    return sum;
}

static void check(const char *what, loss_function loss, void *context, double *x, const double *gradient, size_t n)
{
    double most = 1;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs(gradient[i]));
    for (size_t i = 0; i < n; i++) {
        double keep = x[i];
        x[i] = keep + STEP;
        double up = loss(context);
        x[i] = keep - STEP;
        double down = loss(context);
        x[i] = keep;
        double slope = (up - down) / (2 * STEP);
        if (!(fabs(slope - gradient[i]) <= TOLERANCE * most))
            fail_msg("%s, element %zu: gradient %.12g, differences give %.12g", what, i, gradient[i], slope);
    }
}

/* ---- rmsnorm ---- */

enum { NORM_N = 67, NORM_C = 5 }; /* two blocks of rows */

typedef struct {
    double x[NORM_N * NORM_C], w[NORM_C], c[NORM_N * NORM_C], y[NORM_N * NORM_C], rstd[NORM_N];
} norm;

static double norm_loss(void *context)
{
    norm *s = context;
    nr_ops_reference(true)->rmsnorm(s->y, NULL, s->rstd, s->x, NR_REAL, s->w, NORM_N, NORM_C, 1e-3);
    return weighted(s->c, s->y, NORM_N * NORM_C);
}

static void test_rmsnorm(void **state)
{
    static norm s;
    double dx[NORM_N * NORM_C], dw[NORM_C], before[NORM_N * NORM_C], scratch[2 * NORM_C];
    (void)state;
    fill(s.x, NORM_N * NORM_C, 2);
    fill(s.w, NORM_C, 1);
    fill(s.c, NORM_N * NORM_C, 1);
    fill(before, NORM_N * NORM_C, 1);
    memcpy(dx, before, sizeof dx);
    for (size_t i = 0; i < NORM_C; i++) dw[i] = before[i];
    norm_loss(&s);
    nr_ops_reference(true)->rmsnorm_back(dx, NULL, dw, s.c, s.x, NR_REAL, s.w, s.rstd, NORM_N, NORM_C, scratch);
    for (size_t i = 0; i < NORM_N * NORM_C; i++) dx[i] -= before[i]; /* it accumulates */
    for (size_t i = 0; i < NORM_C; i++) dw[i] -= before[i];
    check("rmsnorm dx", norm_loss, &s, s.x, dx, NORM_N * NORM_C);
    check("rmsnorm dw", norm_loss, &s, s.w, dw, NORM_C);
}

/* ---- rotary ---- */

enum { ROT_N = 3, ROT_H = 2, ROT_D = 6, ROT_ALL = ROT_N * ROT_H * ROT_D };

typedef struct {
    double x[ROT_ALL], y[ROT_ALL], c[ROT_ALL], table[4 * ROT_D];
    int32_t pos[ROT_N];
} rotation;

static double rotary_loss(void *context)
{
    rotation *s = context;
    memcpy(s->y, s->x, sizeof s->y);
    nr_ops_reference(true)->rotary(s->y, NULL, s->table, s->pos, ROT_N, ROT_H, 0, ROT_D, false);
    return weighted(s->c, s->y, ROT_ALL);
}

static void test_rotary(void **state)
{
    static rotation s = {.pos = {2, 0, 3}};
    double dx[ROT_ALL];
    (void)state;
    for (size_t p = 0; p < 4; p++)
        for (size_t i = 0; i < ROT_D / 2; i++) {
            double angle = (double)p / pow(10, (double)i);
            s.table[p * ROT_D + i] = cos(angle);
            s.table[p * ROT_D + ROT_D / 2 + i] = sin(angle);
        }
    fill(s.x, ROT_ALL, 1);
    fill(s.c, ROT_ALL, 1);
    memcpy(dx, s.c, sizeof dx);
    nr_ops_reference(true)->rotary(dx, NULL, s.table, s.pos, ROT_N, ROT_H, 0, ROT_D, true);
    check("rotary dx", rotary_loss, &s, s.x, dx, ROT_ALL);
}

/* ---- attention ---- */

enum {
    AT_B = 2,
    AT_T = 9,
    AT_H = 4,
    AT_K = 2,
    AT_D = 3,
    AT_Q = AT_B * AT_T * AT_H * AT_D,
    AT_P = 3, /* shared keys, at most */
    AT_KV = AT_B * (AT_P + AT_T) * AT_K * AT_D
};

typedef struct {
    double q[AT_Q], k[AT_KV], v[AT_KV], o[AT_Q], c[AT_Q], lse[AT_B * AT_H * AT_T];
    nr_attention a;
    void *scratch;
} attend;

static double attention_loss(void *context)
{
    attend *s = context;
    nr_ops_reference(true)->attention(s->o, s->lse, s->q, s->k, s->v, &s->a, s->scratch);
    return weighted(s->c, s->o, AT_Q);
}

static void check_attention(const int32_t *first, size_t shared)
{
    size_t kv = AT_B * (shared + AT_T) * AT_K * AT_D;
    static attend s;
    static double dq[AT_Q], dk[AT_KV], dv[AT_KV];
    const nr_ops *ops = nr_ops_reference(true);
    s.a = (nr_attention){AT_B, AT_T, AT_H, AT_K, AT_D, shared, AT_K * AT_D, AT_D, (shared + AT_T) * AT_K * AT_D, 0.6f, first, shared};
    s.scratch = malloc(ops->attention_scratch(&s.a, true));
    assert_non_null(s.scratch);
    fill(s.q, AT_Q, 1.5);
    fill(s.k, AT_KV, 1.5);
    fill(s.v, AT_KV, 1);
    fill(s.c, AT_Q, 1);
    attention_loss(&s);
    ops->attention_back(dq, dk, dv, s.c, s.o, s.q, s.k, s.v, s.lse, &s.a, s.scratch);
    check("attention dq", attention_loss, &s, s.q, dq, AT_Q);
    check("attention dk", attention_loss, &s, s.k, dk, kv);
    check("attention dv", attention_loss, &s, s.v, dv, kv);
    free(s.scratch);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(NULL, 0);
    check_attention(NULL, AT_P);
}

static void test_attention_first(void **state)
{
    int32_t first[AT_B * AT_T];
    (void)state;
    for (int32_t t = 0; t < AT_T; t++) {
        first[t] = t < 4 ? 0 : 4;
        first[AT_T + t] = t - t % 2;
    }
    check_attention(first, 0);
    check_attention(first, AT_P);
}

/* ---- glu ---- */

enum { GLU_ALL = 3 * 7 };

typedef struct {
    double g[GLU_ALL], u[GLU_ALL], h[GLU_ALL], c[GLU_ALL];
    nr_act act;
} gated;

static double glu_loss(void *context)
{
    gated *s = context;
    nr_ops_reference(true)->glu(s->h, s->g, s->u, s->act, 3, 7);
    return weighted(s->c, s->h, GLU_ALL);
}

static void test_glu(void **state)
{
    static gated s;
    double dg[GLU_ALL], du[GLU_ALL];
    (void)state;
    for (int act = 0; act < 2; act++) {
        s.act = act ? NR_ACT_GELU_TANH : NR_ACT_SILU;
        fill(s.g, GLU_ALL, 2);
        fill(s.u, GLU_ALL, 1);
        fill(s.c, GLU_ALL, 1);
        nr_ops_reference(true)->glu_back(dg, du, NULL, s.c, s.g, s.u, s.act, 3, 7);
        check("glu dg", glu_loss, &s, s.g, dg, GLU_ALL);
        check("glu du", glu_loss, &s, s.u, du, GLU_ALL);
    }
}

/* ---- cross-entropy ---- */

enum { CE_N = 4, CE_V = 11 };

typedef struct {
    double x[CE_N * CE_V];
    int32_t targets[CE_N];
} entropy;

static double entropy_loss(void *context)
{
    entropy *s = context;
    double nll[CE_N], sum = 0;
    nr_ops_reference(true)->cross_entropy(nll, NULL, s->x, s->targets, 1, CE_N, CE_V);
    for (size_t i = 0; i < CE_N; i++) sum += nll[i];
    return 0.3 * sum;
}

static void test_cross_entropy(void **state)
{
    static entropy s = {.targets = {3, -1, 0, 10}};
    double d[CE_N * CE_V], nll[CE_N];
    (void)state;
    fill(s.x, CE_N * CE_V, 2);
    nr_ops_reference(true)->cross_entropy(nll, d, s.x, s.targets, 0.3, CE_N, CE_V);
    check("cross-entropy", entropy_loss, &s, s.x, d, CE_N * CE_V);
}

/* ---- gate: y = x + g(w xn + bias) a, with the local losses ---- */

enum { GATE_N = 66, GATE_C = 5, GATE_ALL = GATE_N * GATE_C };

typedef struct {
    double xn[GATE_ALL], w[GATE_C], bias, a[GATE_ALL], y[GATE_ALL], c[GATE_ALL], g[GATE_N], z[GATE_N];
    double l1[GATE_N], ce[GATE_N];
    uint8_t is_new[GATE_N];
    nr_gate kind;
    bool l1_on, l1_on_a, ce_on, lm_on; /* lm_on: the sum with c is part of the loss */
} block;

static double block_loss(void *context)
{
    block *s = context;
    const nr_ops *ops = nr_ops_reference(true);
    double abs_sum[GATE_N], sum = 0;
    memset(s->y, 0, sizeof s->y);
    ops->gate(s->g, s->z, s->xn, s->w, &s->bias, s->kind, GATE_N, GATE_C);
    ops->gate_add(s->y, abs_sum, s->g, s->a, s->l1_on_a, GATE_N, GATE_C);
    if (s->lm_on) sum += weighted(s->c, s->y, GATE_ALL);
    for (size_t r = 0; r < GATE_N; r++) {
        if (s->l1_on) sum += s->l1[r] * abs_sum[r];
        /* -log sigmoid(z) for new, -log(1 - sigmoid(z)) for old */
        if (s->ce_on) sum += s->ce[r] * log1p(exp(s->is_new[r] ? -s->z[r] : s->z[r]));
    }
    return sum;
}

static void block_fill(block *s)
{
    fill_away(s->xn, GATE_ALL, 1);
    fill_away(s->w, GATE_C, 0.5);
    fill_away(&s->bias, 1, 0.3);
    fill_away(s->a, GATE_ALL, 1);
    fill(s->c, GATE_ALL, 1);
    for (size_t r = 0; r < GATE_N; r++) {
        s->l1[r] = r % 3 ? 0.2 + 0.01 * (double)r : 0;
        s->ce[r] = 0.4;
        s->is_new[r] = r % 3 == 0;
        /* relu bends at z = 0: no row may stand within a few steps of it */
        double z = s->bias + weighted(s->xn + r * GATE_C, s->w, GATE_C);
        if (fabs(z) < 0.05) s->xn[r * GATE_C] += 0.2 / s->w[0];
    }
}

static void check_block(const char *name, block s, bool through_a)
{
    const nr_ops *ops = nr_ops_reference(true);
    nr_gate_loss loss = {s.kind, s.l1_on ? s.l1 : NULL, s.l1_on_a, s.ce_on ? s.ce : NULL, s.is_new, s.lm_on};
    double da[GATE_ALL], dz[GATE_N], dxn[GATE_ALL] = {0}, dw[GATE_C] = {0}, dbias = 0, scratch[2 * (GATE_C + 1)];
    block_loss(&s);
    ops->gate_back(da, dz, s.c, s.a, s.g, s.z, &loss, GATE_N, GATE_C);
    ops->gate_back_input(dxn, dw, &dbias, dz, s.xn, s.w, GATE_N, GATE_C, scratch);
    check(name, block_loss, &s, s.xn, dxn, GATE_ALL);
    check(name, block_loss, &s, s.w, dw, GATE_C);
    check(name, block_loss, &s, &s.bias, &dbias, 1);
    if (through_a) check(name, block_loss, &s, s.a, da, GATE_ALL);
}

static void test_gate(void **state)
{
    static const char *const names[] = {"elu", "relu", "sigmoid", "none"};
    static block s;
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        block_fill(&s);
        s.kind = (nr_gate)kind;
        s.lm_on = true;
        s.l1_on = s.l1_on_a = s.ce_on = false;
        check_block(names[kind], s, true);
        s.l1_on = true;
        check_block(names[kind], s, true);
        s.l1_on_a = true;
        check_block(names[kind], s, true);
        s.l1_on_a = false;
        s.ce_on = kind == NR_GATE_SIGMOID;
        check_block(names[kind], s, true);
        /* The language model's gradient cut off from the gate: w sees the local
         * losses alone, while da keeps both. */
        s.lm_on = false;
        check_block(names[kind], s, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rmsnorm),   cmocka_unit_test(test_rotary),
                                       cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_first),
                                       cmocka_unit_test(test_glu),       cmocka_unit_test(test_cross_entropy),
                                       cmocka_unit_test(test_gate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
