/* Gated linear units, SiLU and GELU by tanh, on every table of this machine against the reference. */
#include "op_check.h"

typedef struct {
    size_t n, F;
    nr_act act;
} sizes;

static void run_forward(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->glu(out[0], in[0], in[1], s->act, s->n, s->F);
}

static void run_backward(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->glu_back(out[0], out[1], out[2], in[0], in[1], in[2], s->act, s->n, s->F);
}

/* dg in the place of dh. */
static void run_aliased(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->glu_back(out[0], out[1], NULL, out[0], in[1], in[2], s->act, s->n, s->F);
}

/* h where g was, du where u was as well. */
static void run_all_aliased(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    (void)in;
    ops->glu_back(out[0], out[2], out[1], out[0], out[1], out[2], s->act, s->n, s->F);
}

static void test_glu(void **state)
{
    static const size_t list[][2] = {{0, 4}, {1, 1}, {1, 1536}, {3, 7}, {5, 67}, {257, 1536}};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (int act = 0; act < 2; act++) {
            sizes s = {list[i][0], list[i][1], act ? NR_ACT_GELU_TANH : NR_ACT_SILU};
            size_t all = s.n * s.F;
            op_case forward = {
                "glu", &s, {{AS_ACT, all, 3, 0, 0}, {AS_ACT, all, 1, 0, 0}}, {{AS_ACT, all, 0, 1, 0}}, run_forward};
            check_op(&forward);
            op_case backward = {"glu_back",
                                &s,
                                {{AS_ACT, all, 1, 0, 0}, {AS_ACT, all, 3, 0, 0}, {AS_ACT, all, 1, 0, 0}},
                                {{AS_ACT, all, 0, 1, 0}, {AS_ACT, all, 0, 1, 0}, {AS_ACT, all, 0, 1, 0}},
                                run_backward};
            check_op(&backward);
            backward.name = "glu_back in place";
            backward.run = run_aliased;
            backward.out[0].scale = 1;
            backward.out[2] = (operand){0};
            check_op(&backward);
            op_case all_in_place = {"glu_back, all in place",
                                    &s,
                                    {{AS_ACT, 0, 0, 0, 0}},
                                    {{AS_ACT, all, 1, 1, 0}, {AS_ACT, all, 3, 1, 0}, {AS_ACT, all, 1, 1, 0}},
                                    run_all_aliased};
            check_op(&all_in_place);
        }
}

/* Where exp over- and underflows the results stay finite and right. */
static void test_extremes(void **state)
{
    static const float g[] = {-1e4f, -200, -104, -90, -88, 0, 88, 90, 104, 200, 1e4f, 1e-40f};
    enum { n = NR_COUNT(g) };
    const nr_ops *ops, *ref = nr_ops_reference(false);
    const char *isa;
    (void)state;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops || ops->act != NR_F32) continue;
        for (int act = 0; act < 2; act++) {
            float u[n], h[n], dg[n], du[n], want[n], want_dg[n], want_du[n];
            for (size_t i = 0; i < n; i++) u[i] = 1;
            ops->glu(h, g, u, (nr_act)act, 1, n);
            ref->glu(want, g, u, (nr_act)act, 1, n);
            ops->glu_back(dg, du, NULL, u, g, u, (nr_act)act, 1, n);
            ref->glu_back(want_dg, want_du, NULL, u, g, u, (nr_act)act, 1, n);
            for (size_t i = 0; i < n; i++) {
                assert_float_equal(h[i], want[i], 1e-6f * fabsf(want[i]) + 1e-36f);
                assert_float_equal(dg[i], want_dg[i], 1e-6f * fabsf(want_dg[i]) + 1e-36f);
                assert_float_equal(du[i], want_du[i], 1e-6f * fabsf(want_du[i]) + 1e-36f);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_glu), cmocka_unit_test(test_extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
