/*
 * test_ops_golden.c - the operations and their gradients against PyTorch's in
 * double (fixtures/ops/ops.txt, made by gen_ops.py): ref-fp64 to 1e-10, every
 * table in float that this machine runs to 2e-6 of the largest value.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

/* ---- the fixture ---- */

typedef struct {
    char name[64];
    size_t n;
    double *v;
} golden;

static golden goldens[256];
static size_t golden_count;

static int load(void **state)
{
    FILE *f = fopen(NRES_FIXTURES "/ops/ops.txt", "r");
    (void)state;
    if (!f) return 1;
    golden *g = goldens;
    while (golden_count < NR_COUNT(goldens) && fscanf(f, "%63s %zu", g->name, &g->n) == 2) {
        g->v = malloc(g->n * sizeof *g->v);
        for (size_t i = 0; i < g->n; i++)
            if (!g->v || fscanf(f, "%lf", &g->v[i]) != 1) return 1;
        golden_count++;
        g++;
    }
    fclose(f);
    return golden_count == 0;
}

static int unload(void **state)
{
    (void)state;
    for (size_t i = 0; i < golden_count; i++) free(goldens[i].v);
    return 0;
}

static const golden *find(const char *prefix, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    for (size_t i = 0; i < golden_count; i++)
        if (!strcmp(goldens[i].name, full)) return &goldens[i];
    fail_msg("%s is not in the fixture", full);
    return NULL;
}

/* ---- tables of float and of double, one text for both ---- */

static const nr_ops *ops; /* the table under test: real = act */
static void *taken[64];
static size_t taken_count;

static void *room(size_t n)
{
    assert_true(taken_count < NR_COUNT(taken));
    void *p = calloc(n + 1, ops->real_size);
    assert_non_null(p);
    return taken[taken_count++] = p;
}

static double get(const void *p, size_t i)
{
    return ops->real == NR_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static void put(void *p, size_t i, double v)
{
    if (ops->real == NR_F64) ((double *)p)[i] = v;
    else ((float *)p)[i] = (float)v;
}

static void *take(const char *prefix, const char *name)
{
    const golden *g = find(prefix, name);
    void *p = room(g->n);
    for (size_t i = 0; i < g->n; i++) put(p, i, g->v[i]);
    return p;
}

static void expect(const char *prefix, const char *name, const void *p)
{
    const golden *g = find(prefix, name);
    double most = 1e-3, tolerance = ops->real == NR_F64 ? 1e-10 : 2e-6;
    for (size_t i = 0; i < g->n; i++) most = fmax(most, fabs(g->v[i]));
    for (size_t i = 0; i < g->n; i++)
        if (!(fabs(get(p, i) - g->v[i]) <= tolerance * most))
            fail_msg("%s.%s, %s, element %zu: %.12g, PyTorch has %.12g", prefix, name, ops->name, i, get(p, i),
                     g->v[i]);
}

static void expect_double(const char *prefix, const char *name, const double *p)
{
    const golden *g = find(prefix, name);
    for (size_t i = 0; i < g->n; i++)
        if (!(fabs(p[i] - g->v[i]) <= (ops->real == NR_F64 ? 1e-10 : 2e-6) * (1 + fabs(g->v[i]))))
            fail_msg("%s.%s, %s, element %zu: %.12g, PyTorch has %.12g", prefix, name, ops->name, i, p[i], g->v[i]);
}

static void on_every_table(void (*test)(void))
{
    static const char *const isa[] = {"baseline", "avx2", "avx512", "avx512-bf16"};
    for (size_t i = 0; i < NR_COUNT(isa) + 2; i++) {
        ops = i < NR_COUNT(isa) ? nr_ops_cpu_isa(isa[i], NR_COMPUTE_FP32) : nr_ops_reference(i == NR_COUNT(isa));
        if (!ops) continue;
        test();
        while (taken_count > 0) free(taken[--taken_count]);
    }
}

/* ---- the operations ---- */

static void attention(void)
{
    enum { B = 2, T = 17, H = 4, K = 2, D = 6 };
    const char *p = "attention";
    nr_attention a = {B, T, H, K, D, 0, K * D, D, T * K * D, 1 / sqrtf(D), NULL, 0};
    void *q = take(p, "q"), *k = take(p, "k"), *v = take(p, "v"), *o = room(B * T * H * D), *lse = room(B * H * T);
    void *dq = room(B * T * H * D), *dk = room(B * T * K * D), *dv = room(B * T * K * D);
    void *scratch = room(ops->attention_scratch(&a, true) / ops->real_size);
    /* The scale is a float: what it lacks of 1 / sqrt(D) goes into q, and comes out of dq. */
    double rest = 1 / sqrt((double)D) / (double)a.scale;
    for (size_t i = 0; i < B * T * H * D; i++) put(q, i, get(q, i) * rest);
    ops->attention(o, lse, q, k, v, &a, scratch);
    expect(p, "o", o);
    ops->attention_back(dq, dk, dv, take(p, "d_o"), o, q, k, v, lse, &a, scratch);
    for (size_t i = 0; i < B * T * H * D; i++) put(dq, i, get(dq, i) * rest);
    expect(p, "dq", dq);
    expect(p, "dk", dk);
    expect(p, "dv", dv);
}

static void rmsnorm(void)
{
    enum { N = 7, C = 33 };
    const char *p = "rmsnorm";
    void *x = take(p, "x"), *w = take(p, "w"), *y = room(N * C), *rstd = room(N), *dx = room(N * C), *dw = room(C);
    ops->rmsnorm(y, NULL, rstd, x, NR_REAL, w, N, C, 1e-5);
    expect(p, "y", y);
    ops->rmsnorm_back(dx, NULL, dw, take(p, "dy"), x, NR_REAL, w, rstd, N, C, room(C));
    expect(p, "dx", dx);
    expect(p, "dw", dw);
}

static void rotary(void)
{
    static const int32_t pos[] = {0, 4, 1, 7, 2};
    void *x = take("rotary", "x");
    ops->rotary(x, NULL, take("rotary", "table"), pos, 5, 3, 0, 12, false);
    expect("rotary", "y", x);
}

static void glu_of(const char *p, nr_act act)
{
    void *g = take(p, "g"), *u = take(p, "u"), *h = room(6 * 13), *again = room(6 * 13), *dg = room(6 * 13), *du = room(6 * 13);
    ops->glu(h, g, u, act, 6, 13);
    expect(p, "h", h);
    ops->glu_back(dg, du, again, take(p, "dh"), g, u, act, 6, 13);
    expect(p, "h", again);
    expect(p, "dg", dg);
    expect(p, "du", du);
}

static void glu(void)
{
    glu_of("silu", NR_ACT_SILU);
    glu_of("gelu", NR_ACT_GELU_TANH);
}

static void losses(void)
{
    enum { N = 6, V = 41 };
    const golden *t = find("cross_entropy", "targets"), *same = find("divergence", "same");
    void *x = take("cross_entropy", "x"), *d = room(N * V);
    int32_t targets[N];
    uint8_t equal[N];
    double nll[N];
    for (size_t i = 0; i < N; i++) targets[i] = (int32_t)t->v[i];
    ops->cross_entropy(nll, d, x, targets, 0.25, N, V);
    expect_double("cross_entropy", "nll", nll);
    expect("cross_entropy", "dx", d);
    ops->divergence(nll, equal, x, take("divergence", "q"), N, V);
    expect_double("divergence", "kl", nll);
    for (size_t i = 0; i < N; i++) assert_int_equal(equal[i], (int)same->v[i]);
}

static void adamw(void)
{
    enum { N = 29 };
    void *w = take("adamw", "p"), *m = room(N), *v = room(N);
    for (size_t t = 0; t < 3; t++) {
        const char *const step[] = {"g0", "g1", "g2"};
        ops->adamw(w, take("adamw", step[t]), m, v, 1, 1e-2, 0.9, 0.95, 1e-8, 0.1, t + 1, N);
    }
    expect("adamw", "after", w);
    expect("adamw", "m", m);
    expect("adamw", "v", v);
}

static void gate_of(const char *p, nr_gate kind, bool on_a)
{
    enum { N = 9, C = 14 };
    uint8_t is_new[N];
    void *xn = take(p, "xn"), *w = take(p, "w"), *b = take(p, "b"), *a = take(p, "a"), *ce = room(N);
    void *g = room(N), *z = room(N), *da = room(N * C), *dz = room(N), *dxn = room(N * C), *dw = room(C), *db = room(1);
    for (size_t i = 0; i < N; i++) {
        is_new[i] = find(p, "new")->v[i] != 0;
        put(ce, i, 0.5);
    }
    nr_gate_loss loss = {kind, take(p, "l1"), on_a, kind == NR_GATE_SIGMOID ? ce : NULL, is_new, true};
    ops->gate(g, z, xn, w, b, kind, N, C);
    expect(p, "g", g);
    ops->gate_back(da, dz, take(p, "dy"), a, g, z, &loss, N, C);
    expect(p, "da", da);
    ops->gate_back_input(dxn, dw, db, dz, xn, w, N, C, room(C + 1));
    expect(p, "dxn", dxn);
    expect(p, "dw", dw);
    expect(p, "db", db);
}

static void gate(void)
{
    static const char *const names[][2] = {
        {"elu.ga", "elu.a"}, {"relu.ga", "relu.a"}, {"sigmoid.ga", "sigmoid.a"}, {"none.ga", "none.a"}};
    for (int kind = 0; kind < 4; kind++)
        for (int on_a = 0; on_a < 2; on_a++) {
            gate_of(names[kind][on_a], (nr_gate)kind, on_a);
            while (taken_count > 0) free(taken[--taken_count]);
        }
}

#define TEST(name)                                                                                                     \
    static void test_##name(void **state)                                                                              \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        on_every_table(name);                                                                                          \
    }
TEST(attention)
TEST(rmsnorm)
TEST(rotary)
TEST(glu)
TEST(losses)
TEST(adamw)
TEST(gate)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_rmsnorm),
                                       cmocka_unit_test(test_rotary),    cmocka_unit_test(test_glu),
                                       cmocka_unit_test(test_losses),    cmocka_unit_test(test_adamw),
                                       cmocka_unit_test(test_gate)};
    return cmocka_run_group_tests(tests, load, unload);
}
