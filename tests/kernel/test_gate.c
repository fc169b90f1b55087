/* The gate, its sum and its gradients with all local losses, on every table of this machine against the reference. */
#include "op_check.h"

typedef struct {
    size_t n, C;
    nr_gate kind;
    bool bias, on_a, l1, ce, lm_to_gate;
    const uint8_t *is_new;
} sizes;

static void run_gate(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->gate(out[0], out[1], in[0], in[1], s->bias ? in[2] : NULL, s->kind, s->n, s->C);
}

static void run_add(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->gate_add(out[0], (double *)out[1], in[0], in[1], s->on_a, s->n, s->C);
}

static void run_back(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    nr_gate_loss loss = {s->kind, s->l1 ? in[4] : NULL, s->on_a, s->ce ? in[5] : NULL, s->is_new, s->lm_to_gate};
    ops->gate_back(out[0], out[1], in[0], in[1], in[2], in[3], &loss, s->n, s->C);
}

/* da in the place of a. */
static void run_back_in_place(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    run_back(ops, arg, (void *const[]){in[0], out[0], in[2], in[3], in[4], in[5]}, out);
}

static void run_back_input(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    guarded scratch = guarded_new((s->n + NR_ROW_BLOCK - 1) / NR_ROW_BLOCK * (s->C + 1) * ops->real_size);
    ops->gate_back_input(out[0], out[1], s->bias ? out[2] : NULL, in[0], in[1], in[2], s->n, s->C, scratch.data);
    guarded_free(&scratch, "scratch");
}

/* Where nothing wants the gradient of the input. */
static void run_back_weight(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    run_back_input(ops, arg, in, (void *const[]){NULL, out[0], out[1]});
}

static void check_sizes(sizes s)
{
    size_t n = s.n, C = s.C, all = n * C;
    double z = 0.3 * sqrt((double)C), rows = sqrt((double)n); /* sums of random terms */
    op_case gate = {"gate",
                    &s,
                    {{AS_ACT, all, 1, 0, 0}, {AS_REAL, C, 0.3, 0, 0}, {AS_REAL, 1, 1, 0, 0}},
                    {{AS_REAL, n, 0, C, z}, {AS_REAL, n, 0, C, z}},
                    run_gate};
    check_op(&gate);
    op_case add = {"gate_add",
                   &s,
                   {{AS_REAL, n, 1, 0, 0}, {AS_ACT, all, 1, 0, 0}},
                   {{AS_REAL, all, 2, 1, 0}, {AS_DOUBLE, n, 0, C, 0}},
                   run_add};
    check_op(&add);
    op_case back = {"gate_back",
                    &s,
                    {{AS_REAL, all, 1, 0, 0},
                     {AS_ACT, all, 1, 0, 0},
                     {AS_REAL, n, 1, 0, 0},
                     {AS_REAL, n, 1, 0, 0},
                     {AS_REAL, n, 0.7, 0, 0},
                     {AS_REAL, n, 3, 0, 0}},
                    {{AS_ACT, all, 0, 1, 0}, {AS_REAL, n, 0, C, sqrt((double)C)}},
                    run_back};
    check_op(&back);
    back.name = "gate_back in place";
    back.run = run_back_in_place;
    back.out[0].scale = 1;
    check_op(&back);
    op_case input = {"gate_back_input",
                     &s,
                     {{AS_REAL, n, 1, 0, 0}, {AS_ACT, all, 1, 0, 0}, {AS_REAL, C, 1, 0, 0}},
                     {{AS_REAL, all, 2, 1, 0}, {AS_REAL, C, 1, n, rows}, {AS_REAL, 1, 1, n, rows}},
                     run_back_input};
    check_op(&input);
    op_case weight = input;
    weight.name = "gate_back_input without input";
    weight.run = run_back_weight;
    memmove(weight.out, weight.out + 1, 3 * sizeof *weight.out);
    check_op(&weight);
}

static void test_gate(void **state)
{
    static const size_t list[][2] = {{0, 5}, {1, 1}, {1, 576}, {3, 19}, {65, 37}, {130, 96}};
    uint8_t is_new[257];
    (void)state;
    for (size_t i = 0; i < sizeof is_new; i++) is_new[i] = i % 3 == 0;
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (int kind = 0; kind < 4; kind++) {
            sizes s = {list[i][0], list[i][1], (nr_gate)kind, kind % 2, false, true, kind == NR_GATE_SIGMOID,
                       true,       is_new};
            check_sizes(s);
            s.on_a = true;
            s.lm_to_gate = false;
            check_sizes(s);
        }
    sizes real = {257, 576, NR_GATE_ELU, false, false, true, false, true, is_new};
    check_sizes(real);
    real.l1 = false;
    check_sizes(real);
}

/* Values by hand: gates, sign(0) = 0, and each local term alone. */
static void test_by_hand(void **state)
{
    const nr_ops *ops;
    const char *isa;
    (void)state;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops || ops->act != NR_F32) continue;
        float x[3] = {-1, 0, 2}, w = 1, g[3], z[3];
        ops->gate(g, z, x, &w, NULL, NR_GATE_ELU, 3, 1);
        assert_float_equal(g[0], expm1(-1), 1e-7);
        assert_float_equal(g[1], 0, 0);
        assert_float_equal(g[2], 2, 0);
        ops->gate(g, z, x, &w, NULL, NR_GATE_RELU, 3, 1);
        assert_float_equal(g[0], 0, 0);
        assert_float_equal(g[2], 2, 0);
        ops->gate(g, z, x, &w, NULL, NR_GATE_SIGMOID, 3, 1);
        assert_float_equal(g[1], 0.5, 0);
        ops->gate(g, z, x, &w, NULL, NR_GATE_NONE, 3, 1);
        assert_float_equal(g[0], 1, 0);

        float dy[3] = {0}, a[3] = {-3, 0, 4}, da[3], dz, gate = -0.5f, at = -0.7f, coef = 2;
        nr_gate_loss l1 = {NR_GATE_ELU, &coef, false, NULL, NULL, true};
        ops->gate_back(da, &dz, dy, a, &gate, &at, &l1, 1, 3);
        assert_float_equal(da[0], -1, 1e-7); /* coef |g| sign(a) */
        assert_float_equal(da[1], 0, 0);
        assert_float_equal(da[2], 1, 1e-7);
        assert_float_equal(dz, exp(-0.7) * -2 * 7, 1e-5); /* gate' coef sign(g) sum |a| */
        l1.l1_on_a = true;
        ops->gate_back(da, &dz, dy, a, &gate, &at, &l1, 1, 3);
        assert_float_equal(da[0], -2, 0);
        assert_float_equal(dz, 0, 0);
        uint8_t is_new = 1;
        nr_gate_loss ce = {NR_GATE_SIGMOID, NULL, false, &coef, &is_new, false};
        dy[0] = 5; /* the language model's term is switched off */
        ops->gate_back(da, &dz, dy, a, &gate, &at, &ce, 1, 3);
        assert_float_equal(dz, 2 * (1 / (1 + exp(0.7)) - 1), 1e-6);
        nr_gate_loss none = {NR_GATE_NONE, NULL, false, NULL, NULL, true};
        ops->gate_back(da, &dz, dy, a, &gate, &at, &none, 1, 3);
        assert_float_equal(dz, 0, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gate), cmocka_unit_test(test_by_hand)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
