/* test_auc.c - the area under the curve against all pairs, and which tokens' gates are kept. */
#include "../testing.h"

#include <math.h>

#include "eval/eval.h"
#include "train/train.h"

static double all_pairs(const float *a, size_t n, const float *b, size_t m)
{
    double above = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) above += b[j] > a[i] ? 1 : b[j] == a[i] ? 0.5 : 0;
    return above / ((double)n * (double)m);
}

static void counts_pairs(void **state)
{
    (void)state;
    float a[97], b[61], copy_a[97], copy_b[61];
    for (uint64_t seed = 0; seed < 40; seed++) {
        double grid = seed % 4 == 0 ? 1e6 : 1 + (double)(seed % 7); /* coarse grids make many ties */
        size_t n = 1 + nr_rng_u64(seed, NR_RNG_TEST, 1000) % 97, m = 1 + nr_rng_u64(seed, NR_RNG_TEST, 1001) % 61;
        for (size_t i = 0; i < n; i++) a[i] = (float)(round(grid * nr_rng_normal(seed, NR_RNG_TEST, i)) / grid);
        for (size_t i = 0; i < m; i++) b[i] = (float)(round(grid * (0.4 + nr_rng_normal(seed, NR_RNG_TEST, 500 + i))) / grid);
        memcpy(copy_a, a, sizeof a);
        memcpy(copy_b, b, sizeof b);
        assert_true(fabs(nr_domain_auc(a, n, b, m) - all_pairs(copy_a, n, copy_b, m)) < 1e-12);
    }
}

static void knows_the_ends(void **state)
{
    (void)state;
    float low[] = {-1, 0, 1}, high[] = {2, 3}, same[] = {5, 5, 5}, equal[] = {5, 5}, bad[] = {1, NAN};
    assert_true(nr_domain_auc(low, 3, high, 2) == 1);
    assert_true(nr_domain_auc(high, 2, low, 3) == 0);
    assert_true(nr_domain_auc(same, 3, equal, 2) == 0.5);
    assert_true(isnan(nr_domain_auc(low, 3, bad, 2)));
    float near_zero[] = {-0.1f, 0.2f, 0}, below[] = {-0.9f, -0.5f}; /* opens downwards */
    assert_true(nr_domain_auc(near_zero, 3, below, 2) == 0);
    assert_true(nr_domain_auc_abs(near_zero, 3, below, 2) == 1);
    assert_true(isnan(nr_domain_auc(low, 0, high, 2)));
    assert_true(isnan(nr_domain_auc(low, 3, high, 0)));
}

/* Whatever groups the tokens come in, and in whatever order inside them, the
 * same are kept: those whose number the step divides. */
static void keeps_by_number(void **state)
{
    (void)state;
    const size_t groups[][4] = {{100, 0, 0, 0}, {1, 60, 39, 0}, {33, 33, 33, 1}, {16, 16, 16, 52}};
    for (size_t g = 0; g < NR_COUNT(groups); g++) {
        nr_thinned s;
        assert_int_equal(nr_thinned_new(&s, 2, 16, NULL), NR_OK);
        for (size_t k = 0; k < 4; k++) {
            nr_thinned_reserve(&s, groups[g][k]);
            for (size_t i = groups[g][k]; i-- > 0;)
                for (size_t l = 0; l < 2; l++) nr_thinned_put(&s, l, s.seen + i, (float)((s.seen + i) * 10 + l));
            s.seen += groups[g][k];
        }
        assert_int_equal(s.step, 8);
        assert_int_equal(nr_thinned_count(&s), 13);
        for (size_t l = 0; l < 2; l++)
            for (size_t i = 0; i < 13; i++) assert_true(s.values[l * 16 + i] == (float)(i * 80 + l));
        nr_thinned_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_pairs),
        cmocka_unit_test(knows_the_ends),
        cmocka_unit_test(keeps_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
