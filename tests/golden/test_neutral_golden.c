/*
 * test_neutral_golden.c - losses and every gradient of neutral residues
 * against PyTorch (gen_neutral.py), run here in double on the references and
 * in float on the machine's own kernels.
 */
#include "golden.h"

static void golden_losses(const char *name, const nr_losses *sum, double tolerance)
{
    const nr_tensor *losses = need("%s.losses%s", name, "");
    assert_true(near(sum->nll / (TINY_N - 1), at(losses, 0), tolerance));
    assert_true(near(sum->local[0], at(losses, 1), tolerance));
    assert_true(near(sum->local[1], at(losses, 2), tolerance));
}

static const char *const cases[][13] = {
    {"elu", "width", "8", "gate", "elu", "alpha", "3"},
    {"elu_sum_bias", "width", "5", "gate", "elu", "gate_bias", "true", "alpha", "0.5", "l1_reduction", "sum"},
    {"relu", "width", "8", "gate", "relu", "alpha", "10", "l1_target", "a"},
    {"sigmoid", "width", "8", "gate", "sigmoid", "alpha", "2", "ce", "true", "beta", "0.7"},
    {"none", "width", "8", "gate", "none", "alpha", "1"},
};

/* transformers computes norms, rotary tables and softmax in float32 even for a
 * float64 model: 1e-6 is their rounding, not ours. */
static void in_double(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(cases); i++) golden_run(nr_ops_reference(true), cases[i][0], cases[i] + 1, 2e-6, true);
}

static void in_float(void **state)
{
    (void)state;
    const nr_ops *ops;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    for (size_t i = 0; i < NR_COUNT(cases); i++) golden_run(ops, cases[i][0], cases[i] + 1, 2e-5, true);
}

/* 8 bits of mantissa in every product's inputs, through three layers of large random weights: a single
 * number (a gate's bias) may cancel to nothing, the whole gradient doesn't. */
static void in_bf16(void **state)
{
    (void)state;
    const nr_ops *ops;
    if (nr_ops_cpu(&ops, NR_COMPUTE_BF16, NULL) != NR_OK) skip();
    for (size_t i = 0; i < NR_COUNT(cases); i++) golden_run(ops, cases[i][0], cases[i] + 1, 5e-2, false);
}

int main(void)
{
    if (golden_open(NRES_FIXTURES "/neutral/golden.safetensors") != 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_double), cmocka_unit_test(in_float), cmocka_unit_test(in_bf16)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_safetensors_close(golden);
    return failed;
}
