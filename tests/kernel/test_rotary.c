/* Rotary positions on every table of this machine against the reference; forward then inverse gives x back. */
#include "op_check.h"

typedef struct {
    size_t n, H, K, D;
    bool inverse;
    const int32_t *pos;
} sizes;

#define POSITIONS 300

static void run(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->rotary(out[0], s->K ? out[1] : NULL, in[0], s->pos, s->n, s->H, s->K, s->D, s->inverse);
}

static void test_rotary(void **state)
{
    static const size_t list[][4] = {{0, 3, 1, 8},   {1, 1, 0, 2},    {3, 2, 1, 6},   {5, 3, 3, 34},
                                     {17, 3, 1, 64}, {257, 9, 3, 64}, {11, 1, 1, 256}};
    int32_t pos[POSITIONS];
    (void)state;
    for (size_t i = 0; i < POSITIONS; i++) pos[i] = (int32_t)(i * 37 % POSITIONS);
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (int inverse = 0; inverse < 2; inverse++) {
            sizes s = {list[i][0], list[i][1], list[i][2], list[i][3], inverse, pos};
            op_case c = {"rotary",
                         &s,
                         {{AS_REAL, POSITIONS * s.D, 1, 0, 0}},
                         {{AS_ACT, s.n * s.H * s.D, 1, 1, 0}, {AS_ACT, s.n * s.K * s.D, 1, 1, 0}},
                         run};
            check_op(&c);
        }
}

static void test_inverse(void **state)
{
    const nr_ops *ops = nr_ops_cpu_isa("baseline", NR_COMPUTE_FP32);
    float table[4] = {cosf(0.7f), cosf(0.1f), sinf(0.7f), sinf(0.1f)}, x[4] = {1, 2, 3, 4};
    int32_t pos = 0;
    (void)state;
    ops->rotary(x, NULL, table, &pos, 1, 1, 0, 4, false);
    /* pairs are (x0, x2) and (x1, x3): the first half against the second */
    assert_float_equal(x[0], cosf(0.7f) - 3 * sinf(0.7f), 1e-6);
    assert_float_equal(x[3], 4 * cosf(0.1f) + 2 * sinf(0.1f), 1e-6);
    ops->rotary(x, NULL, table, &pos, 1, 1, 0, 4, true);
    for (int i = 0; i < 4; i++) assert_float_equal(x[i], (float)(i + 1), 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rotary), cmocka_unit_test(test_inverse)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
