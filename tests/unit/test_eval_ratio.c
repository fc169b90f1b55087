/* test_eval_ratio.c - sums against the documents themselves, and against how the ratio really scatters. */
#include "../testing.h"

#include <math.h>

#include "eval/eval.h"

static void equals_the_definition(void **state)
{
    (void)state;
    double y[50], x[50], sum_y = 0, sum_x = 0, squares = 0;
    nr_ratio r = {0};
    for (size_t i = 0; i < 50; i++) {
        x[i] = 100 + 3000 * nr_rng_uniform(1, NR_RNG_TEST, i);
        y[i] = x[i] * (0.9 + 0.1 * nr_rng_normal(2, NR_RNG_TEST, i));
        sum_x += x[i];
        sum_y += y[i];
        nr_ratio_add(&r, y[i], x[i]);
    }
    for (size_t i = 0; i < 50; i++) squares += pow(y[i] - sum_y / sum_x * x[i], 2);
    assert_true(fabs(nr_ratio_value(&r) - sum_y / sum_x) < 1e-14);
    assert_true(fabs(nr_ratio_stderr(&r) / (sqrt(50.0 / 49 * squares) / sum_x) - 1) < 1e-9);
}

/* 4000 times 60 documents: the spread of the ratio is what the standard error says. */
static void predicts_the_spread(void **state)
{
    (void)state;
    double mean = 0, square = 0, error = 0;
    size_t trials = 4000, n = 60;
    for (size_t k = 0; k < trials; k++) {
        nr_ratio r = {0};
        for (size_t i = 0; i < n; i++) {
            double x = 50 + 900 * nr_rng_uniform(k, NR_RNG_TEST, i);
            nr_ratio_add(&r, x * (1 + 0.2 * nr_rng_normal(k, NR_RNG_TEST, 1000 + i)), x);
        }
        double v = nr_ratio_value(&r);
        mean += v / (double)trials;
        square += v * v / (double)trials;
        error += nr_ratio_stderr(&r) / (double)trials;
    }
    double spread = sqrt(square - mean * mean);
    assert_true(fabs(error / spread - 1) < 0.05);
}

static void edges(void **state)
{
    (void)state;
    nr_ratio r = {0}, zero = {0}, same = {0};
    assert_true(isnan(nr_ratio_value(&r)) && isnan(nr_ratio_stderr(&r)));
    nr_ratio_add(&r, 3, 4);
    assert_true(nr_ratio_value(&r) == 0.75 && isnan(nr_ratio_stderr(&r)));
    for (size_t i = 1; i < 9; i++) {
        nr_ratio_add(&zero, 0, (double)i); /* a model against itself */
        nr_ratio_add(&same, 2.0 * (double)i, (double)i);
    }
    assert_true(nr_ratio_value(&zero) == 0 && nr_ratio_stderr(&zero) == 0);
    assert_true(nr_ratio_value(&same) == 2 && nr_ratio_stderr(&same) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_definition),
        cmocka_unit_test(predicts_the_spread),
        cmocka_unit_test(edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
