/* Singular values against matrices whose values are known, and the effective rank. */
#include <math.h>

#include "compare/compare.h"
#include "testing.h"

/* Rotates columns p and q of a (rows, cols) by an angle: singular values stay. */
static void rotate_columns(float *a, size_t rows, size_t cols, size_t p, size_t q, double angle)
{
    for (size_t i = 0; i < rows; i++) {
        double x = (double)a[i * cols + p], y = (double)a[i * cols + q];
        a[i * cols + p] = (float)(cos(angle) * x - sin(angle) * y);
        a[i * cols + q] = (float)(sin(angle) * x + cos(angle) * y);
    }
}

static void rotate_rows(float *a, size_t cols, size_t p, size_t q, double angle)
{
    for (size_t j = 0; j < cols; j++) {
        double x = (double)a[p * cols + j], y = (double)a[q * cols + j];
        a[p * cols + j] = (float)(cos(angle) * x - sin(angle) * y);
        a[q * cols + j] = (float)(sin(angle) * x + cos(angle) * y);
    }
}

static void known(size_t rows, size_t cols)
{
    size_t n = NR_MIN(rows, cols);
    float *a = calloc(rows * cols, sizeof *a);
    double *values = calloc(n, sizeof *values);
    for (size_t i = 0; i < n; i++) a[i * cols + i] = (float)(n - i) * (i % 2 ? -1 : 1);
    for (size_t k = 0; k < 400 && cols > 1; k++) {
        size_t p = nr_rng_u64(1, NR_RNG_TEST, k) % cols, q = (p + 1 + nr_rng_u64(2, NR_RNG_TEST, k) % (cols - 1)) % cols;
        rotate_columns(a, rows, cols, p, q, 7 * nr_rng_uniform(3, NR_RNG_TEST, k));
    }
    for (size_t k = 0; k < 400 && rows > 1; k++) {
        size_t p = nr_rng_u64(4, NR_RNG_TEST, k) % rows, q = (p + 1 + nr_rng_u64(5, NR_RNG_TEST, k) % (rows - 1)) % rows;
        rotate_rows(a, cols, p, q, 7 * nr_rng_uniform(6, NR_RNG_TEST, k));
    }
    assert_int_equal(nr_spectrum(values, a, rows, cols, NULL), NR_OK);
    for (size_t i = 0; i < n; i++)
        if (fabs(values[i] - (double)(n - i)) > 1e-4 * (double)n) fail_msg("%zu x %zu: value %zu: expected %zu, found %g", rows, cols, i, n - i, values[i]);
    free(a);
    free(values);
}

static void rotated_diagonals(void **state)
{
    (void)state;
    known(1, 1);
    known(1, 7);
    known(7, 1);
    known(2, 2);
    known(13, 13);
    known(31, 17);
    known(17, 40);
}

static void degenerate(void **state)
{
    (void)state;
    float zero[12] = {0}, one[12], equal[9] = {2, 0, 0, 0, 2, 0, 0, 0, 2};
    double values[3];
    for (size_t i = 0; i < 12; i++) one[i] = 1;
    assert_int_equal(nr_spectrum(values, zero, 3, 4, NULL), NR_OK);
    assert_true(values[0] == 0 && values[2] == 0);
    assert_int_equal(nr_spectrum(values, one, 3, 4, NULL), NR_OK);
    assert_true(fabs(values[0] - sqrt(12)) < 1e-6 && values[1] < 1e-5);
    assert_int_equal(nr_spectrum(values, equal, 3, 3, NULL), NR_OK);
    for (size_t i = 0; i < 3; i++) assert_true(fabs(values[i] - 2) < 1e-6);
}

static void ranks(void **state)
{
    (void)state;
    const double equal[] = {3, 3, 3, 3}, single[] = {5, 0, 0}, halves[] = {2, 2, 0}, nothing[] = {0, 0};
    assert_true(fabs(nr_effective_rank(equal, 4) - 4) < 1e-12);
    assert_true(fabs(nr_effective_rank(single, 3) - 1) < 1e-12);
    assert_true(fabs(nr_effective_rank(halves, 3) - 2) < 1e-12);
    assert_true(isnan(nr_effective_rank(nothing, 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rotated_diagonals), cmocka_unit_test(degenerate), cmocka_unit_test(ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
