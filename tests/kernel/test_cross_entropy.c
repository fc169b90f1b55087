/* Cross-entropy and divergence of logits, on every table of this machine against the reference. */
#include "op_check.h"

typedef struct {
    size_t n, V;
    const int32_t *targets;
    double scale;
    bool gradient;
} sizes;

static void run_loss(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->cross_entropy((double *)out[0], s->gradient ? out[1] : NULL, in[0], s->targets, s->scale, s->n, s->V);
}

static void run_divergence(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->divergence((double *)out[0], (uint8_t *)out[1], in[0], in[1], s->n, s->V);
}

static const size_t list[][2] = {{0, 7},    {1, 1},    {1, 2},     {3, 17},   {5, 127},
                                 {67, 512}, {2, 1025}, {5, 49152}, {2, 49157}};

static void test_cross_entropy(void **state)
{
    int32_t targets[67];
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (int gradient = 0; gradient < 2; gradient++) {
            sizes s = {list[i][0], list[i][1], targets, 0.37, gradient};
            for (size_t r = 0; r < s.n; r++) targets[r] = r % 4 == 2 ? -1 : (int32_t)(r * 7919 % s.V);
            op_case c = {"cross_entropy",
                         &s,
                         {{AS_REAL, s.n * s.V, 3, 0, 0}},
                         {{AS_DOUBLE, s.n, 0, 1, 0}, {AS_ACT, gradient ? s.n * s.V : 0, 0, 1, 0}},
                         run_loss};
            check_op(&c);
        }
}

/* In the logits' own place the gradients are the same bits, and lie densely. */
static void in_place(const nr_ops *ops, size_t n, size_t V)
{
    float *logits = calloc(2 * n * V + 1, sizeof *logits), *other = logits + n * V;
    void *gradient = calloc(n * V + 1, ops->act_size);
    double *nll = calloc(2 * n + 1, sizeof *nll);
    int32_t targets[67];
    for (size_t i = 0; i < n * V; i++) logits[i] = other[i] = (float)(3 * nr_rng_normal(5, NR_RNG_TEST, i));
    for (size_t r = 0; r < n; r++) targets[r] = r % 4 == 2 ? -1 : (int32_t)(r * 7919 % V);
    ops->cross_entropy(nll, gradient, logits, targets, 0.37, n, V);
    ops->cross_entropy(nll + n, other, other, targets, 0.37, n, V);
    assert_memory_equal(nll, nll + n, n * sizeof *nll);
    assert_memory_equal(gradient, other, n * V * ops->act_size);
    free(logits), free(gradient), free(nll);
}

static void test_in_place(void **state)
{
    static const nr_compute computes[] = {NR_COMPUTE_FP32, NR_COMPUTE_BF16};
    static const char *const sets[] = {"baseline", "avx2", "avx512", "avx512-bf16"};
    (void)state;
    for (size_t k = 0; k < NR_COUNT(sets); k++)
        for (size_t c = 0; c < NR_COUNT(computes); c++) {
            const nr_ops *ops = nr_ops_cpu_isa(sets[k], computes[c]);
            for (size_t i = 0; ops && i < NR_COUNT(list); i++) in_place(ops, list[i][0], list[i][1]);
        }
    for (size_t i = 0; i < NR_COUNT(list); i++) in_place(nr_ops_reference(false), list[i][0], list[i][1]);
}

static void test_divergence(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++) {
        sizes s = {.n = list[i][0], .V = list[i][1]};
        op_case c = {"divergence",
                     &s,
                     {{AS_REAL, s.n * s.V, 3, 0, 0}, {AS_REAL, s.n * s.V, 3, 0, 0}},
                     {{AS_DOUBLE, s.n, 0, 1, 0}, {AS_BYTES, s.n, 0, 1, 0}},
                     run_divergence};
        check_op(&c);
    }
}

typedef struct {
    size_t n, V;
    const uint8_t *use;
    double temperature;
    bool gradient;
} distil_sizes;

static void run_distil(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const distil_sizes *s = arg;
    ops->distil((double *)out[0], s->gradient ? out[1] : NULL, in[0], in[1], s->use, s->temperature, 3, s->n, s->V);
}

/* Gradients are added to what stands there; rows that aren't used keep it. */
static void test_distil(void **state)
{
    static const double temperatures[] = {1, 2, 0.7};
    uint8_t use[67];
    (void)state;
    for (size_t r = 0; r < NR_COUNT(use); r++) use[r] = r % 3 != 2;
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (size_t k = 0; k < 6; k++) {
            distil_sizes s = {list[i][0], list[i][1], use, temperatures[k % 3], k < 3};
            op_case c = {"distil",
                         &s,
                         {{AS_REAL, s.n * s.V, 3, 0, 0}, {AS_REAL, s.n * s.V, 3, 0, 0}},
                         {{AS_DOUBLE, s.n, 0, 1, 0}, {AS_ACT, s.gradient ? s.n * s.V : 0, 0.5, 1, 0}},
                         run_distil};
            check_op(&c);
        }
}

/* Two close distributions: KL of 1e-4 and less to six digits, and 0 of equal ones. */
static void test_close(void **state)
{
    enum { V = 49152 };
    const nr_ops *ops, *wide = nr_ops_reference(true);
    const char *isa;
    float *p = malloc(V * sizeof *p), *q = malloc(V * sizeof *q);
    double *wide_p = malloc(V * sizeof *wide_p), *wide_q = malloc(V * sizeof *wide_q);
    (void)state;
    for (double spread = 0.03; spread > 1e-4; spread /= 10) {
        for (size_t i = 0; i < V; i++) {
            wide_p[i] = (double)(p[i] = (float)(3 * nr_rng_normal(1, NR_RNG_TEST, i)));
            wide_q[i] = (double)(q[i] = p[i] + (float)(spread * nr_rng_normal(2, NR_RNG_TEST, i)));
        }
        double want, kl;
        uint8_t same;
        wide->divergence(&want, &same, wide_p, wide_q, 1, V);
        assert_in_range((int)(want / spread / spread * 1000), 400, 600); /* half the variance */
        for (size_t t = 0; table_at(t, &isa, &ops); t++) {
            if (!ops) continue;
            ops->divergence(&kl, &same, p, q, 1, V);
            assert_true(fabs(kl - want) <= 1e-6 * want);
            ops->divergence(&kl, &same, p, p, 1, V);
            assert_true(fabs(kl) < 1e-14);
            assert_int_equal(same, 1);
        }
    }
    free(p);
    free(q);
    free(wide_p);
    free(wide_q);
}

/* nll within 1e-6 of double, also where one logit rules and where all are equal. */
static void test_precision(void **state)
{
    enum { V = 49152 };
    const nr_ops *ops, *wide = nr_ops_reference(true);
    const char *isa;
    float *x = malloc(V * sizeof *x);
    double *w = malloc(V * sizeof *w);
    (void)state;
    for (int shape = 0; shape < 3; shape++) {
        for (size_t i = 0; i < V; i++)
            w[i] = (double)(x[i] = shape == 0 ? 1.5f : shape == 1 ? (float)(i % 977) * 0.01f : -80);
        if (shape == 2) w[77] = (double)(x[77] = 4);
        double want, nll;
        int32_t target = 76;
        wide->cross_entropy(&want, NULL, w, &target, 1, 1, V);
        for (size_t t = 0; table_at(t, &isa, &ops); t++) {
            if (!ops) continue;
            ops->cross_entropy(&nll, NULL, x, &target, 1, 1, V);
            assert_true(fabs(nll - want) <= 1e-6 * want);
        }
    }
    free(x);
    free(w);
}

/* same compares the first of the largest logits. */
static void test_argmax(void **state)
{
    const nr_ops *ops;
    const char *isa;
    (void)state;
    float p[40] = {0}, q[40] = {0};
    p[38] = q[38] = 2;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops) continue;
        double kl;
        uint8_t same = 9;
        ops->divergence(&kl, &same, p, q, 1, 40);
        assert_int_equal(same, 1);
        q[3] = 2; /* equal to the later one: the first counts */
        ops->divergence(&kl, &same, p, q, 1, 40);
        assert_int_equal(same, 0);
        q[3] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cross_entropy), cmocka_unit_test(test_in_place), cmocka_unit_test(test_divergence), cmocka_unit_test(test_distil),
                                       cmocka_unit_test(test_close), cmocka_unit_test(test_precision),
                                       cmocka_unit_test(test_argmax)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
