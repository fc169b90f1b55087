/* Conversions, sums, norms and AdamW, on every table of this machine against the reference. */
#include "op_check.h"

static void run_vector(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    size_t n = *(const size_t *)arg;
    ops->to_act(out[0], in[0], n);
    ops->to_real(out[1], in[1], n);
    ops->scale(out[2], 0.3, n);
    ops->add(out[3], in[0], -0.7, n);
}

static void run_norm(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const size_t *s = arg;
    ops->row_norm((double *)out[0], in[0], s[0], s[1]);
    *(double *)out[1] = ops->sum_squares(in[0], s[0] * s[1]);
}

/* {elements, step}; the first step's moments are written before they are read */
static void run_adamw(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    size_t n = ((const size_t *)arg)[0], t = ((const size_t *)arg)[1];
    void *v = out[2]; /* second moments are positive: squares of the input */
    for (size_t i = 0; i < n; i++) {
        double x = element(ops, AS_REAL, in[1], i);
        set_element(ops, AS_REAL, v, i, x * x);
    }
    ops->adamw(out[0], in[0], out[1], v, 0.5, 1e-2, 0.9, 0.95, 1e-8, 0.1, t, n);
}

static const size_t lengths[] = {0, 1, 3, 16, 31, 4097, 16384, 16411, 257 * 576};

static void test_flat(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(lengths); i++) {
        size_t n = lengths[i];
        op_case c = {"to_act, to_real, scale, add",
                     &n,
                     {{AS_REAL, n, 1, 0, 0}, {AS_ACT, n, 1, 0, 0}},
                     {{AS_ACT, n, 0, 1, 0}, {AS_REAL, n, 0, 1, 0}, {AS_ACT, n, 1, 1, 0}, {AS_REAL, n, 1, 1, 0}},
                     run_vector};
        check_op(&c);
    }
}

static void test_norms(void **state)
{
    static const size_t list[][2] = {{1, 1}, {3, 5}, {257, 576}, {2, 30011}, {2300, 576}};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++) {
        op_case c = {"row_norm, sum_squares",
                     list[i],
                     {{AS_REAL, list[i][0] * list[i][1], 1, 0, 0}},
                     {{AS_DOUBLE, list[i][0], 0, 1, 0}, {AS_DOUBLE, 1, 0, 1, 0}},
                     run_norm};
        check_op(&c);
    }
}

static void test_adamw(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * NR_COUNT(lengths); i++) {
        size_t n = lengths[i / 2], arg[] = {n, i % 2 ? 1 : 3};
        op_case c = {"adamw",
                     arg,
                     {{AS_REAL, n, 1, 0, 0}, {AS_REAL, n, 1, 0, 0}},
                     {{AS_REAL, n, 1, 1, 0}, {AS_REAL, n, 1, 1, 0}, {AS_REAL, n, 0, 1, 0}},
                     run_adamw};
        check_op(&c);
    }
}

/* bf16 rounds to nearest even, keeps denormals, infinities and NaN, as tensor/ does. */
static void test_bf16_bits(void **state)
{
    static const uint32_t bits[] = {0,          0x80000000, 0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001,
                                    0x3f807fff, 0x00000001, 0x00018000, 0x807fffff, 0x7f7fffff, 0x7f800000,
                                    0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff};
    enum { n = NR_COUNT(bits) };
    const nr_ops *ops;
    const char *isa;
    (void)state;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops || ops->act != NR_BF16) continue;
        float x[n], back[n];
        uint16_t h[n];
        memcpy(x, bits, sizeof x);
        ops->to_act(h, x, n);
        for (size_t i = 0; i < n; i++)
            if (isnan(x[i])) assert_true((h[i] & 0x7f80) == 0x7f80 && (h[i] & 0x7f));
            else assert_int_equal(h[i], nr_f32_to_bf16(x[i]));
        ops->to_real(back, h, n);
        for (size_t i = 0; i < n; i++) {
            uint32_t wide;
            memcpy(&wide, &back[i], sizeof wide);
            assert_int_equal(wide, (uint32_t)h[i] << 16);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flat), cmocka_unit_test(test_norms),
                                       cmocka_unit_test(test_adamw), cmocka_unit_test(test_bf16_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
