/* exp of simd.h against libm in double, over its whole range, and its ends; bf16 by all 65536 values. */
#include "op_check.h"

#include "kernels/simd.h"

/* Distance in units in the last place of the expected value. */
static double ulps(double got, double want)
{
    float f = (float)want;
    return fabs(got - want) / (double)(nextafterf(f, INFINITY) - f);
}

static void test_exp(void **state)
{
    double most = 0;
    (void)state;
    for (double x = -87.3; x < 88.72; x += 1.37e-4) {
        float f = (float)x;
        most = fmax(most, ulps((double)vexp(vset(f))[0], exp((double)f)));
    }
    if (most > 1.5) fail_msg("exp is off by %.3g units", most);
}

static void test_exp_ends(void **state)
{
    (void)state;
    assert_true(vexp(vset(0))[0] == 1);
    assert_true(vexp(vset(-INFINITY))[0] == 0);
    assert_true(vexp(vset(-1e30f))[0] == 0);
    assert_true(isinf(vexp(vset(INFINITY))[0]));
    assert_true(isinf(vexp(vset(88.73f))[0]));
    assert_true(isnan(vexp(vset(NAN))[0]));
    float denormal = vexp(vset(-95))[0];
    assert_float_equal(denormal / expf(-95), 1, 1e-3);
}

static void test_exp_double(void **state)
{
    double most = 0;
    (void)state;
    for (double x = -700; x <= 0; x += 1.3e-3) most = fmax(most, fabs(vexp_d(x - (vd){0})[0] / exp(x) - 1));
    if (most > 4e-16) fail_msg("exp in double is off by %.3g", most);
    assert_true(vexp_d(-800 - (vd){0})[0] == 0);
    assert_true(vexp_d(-INFINITY - (vd){0})[0] == 0);
    assert_true(vexp_d((vd){0})[0] == 1);
}

/* Widening and rounding back is the identity, NaN payloads apart. */
static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h[VW];
        float f[VW], want = nr_bf16_to_f32((uint16_t)i);
        for (size_t k = 0; k < VW; k++) h[k] = (uint16_t)i;
        vf v = aload(h, 0, true);
        vstore(f, v);
        assert_memory_equal(&f[VW - 1], &want, sizeof want);
        astore(h, 0, v, true);
        if (isnan(want)) assert_true(isnan(nr_bf16_to_f32(h[0])));
        else assert_int_equal(h[0], i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exp), cmocka_unit_test(test_exp_ends),
                                       cmocka_unit_test(test_exp_double), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
