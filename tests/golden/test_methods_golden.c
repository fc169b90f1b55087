/*
 * test_methods_golden.c - losses and every gradient of the other methods
 * against PyTorch (gen_methods.py; LoRA and prefix tuning are PEFT's), in double
 * on the references and in float and bf16 on the machine's own kernels.
 */
#include "golden.h"

static void golden_losses(const char *name, const nr_losses *sum, double tolerance)
{
    const nr_tensor *losses = need("%s.losses%s", name, "");
    assert_true(near(sum->nll / (TINY_N - 1), at(losses, 0), tolerance));
    assert_true(near(sum->local[2], at(losses, 1), tolerance));
}

static const char *const cases[][12] = {
    {"adapter", "method", "adapter", "width", "5"},
    {"adapter_serial", "method", "adapter", "width", "5", "placement", "serial"},
    {"houlsby", "method", "houlsby", "width", "4"},
    {"attention", "method", "attention", "width", "2"},
    {"prefix", "method", "prefix", "width", "3"},
    {"lora", "method", "lora", "width", "2", "lora_targets", "q,k,v,o,gate,up,down"},
    {"llama_pro", "method", "llama-pro", "width", "3"},
    {"loramoe", "method", "loramoe", "width", "2", "experts", "4", "balance", "0.7", "balance_delta", "0.3"},
    {"moe_ct", "method", "moe-ct", "width", "4", "experts", "3"},
    {"moe_ct_sigmoid", "method", "moe-ct", "width", "4", "experts", "2", "fusion", "sigmoid"},
    {"moextend", "method", "moextend", "layers", "0-2"},
};

/* transformers computes norms, rotary tables and softmax in float32 even for a float64 model: 6e-6 is their rounding, where
 * the gradient of one of LoRA's q nearly cancels. */
static void in_double(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(cases); i++) golden_run(nr_ops_reference(true), cases[i][0], cases[i] + 1, 2e-5, true);
}

static void in_float(void **state)
{
    (void)state;
    const nr_ops *ops;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    for (size_t i = 0; i < NR_COUNT(cases); i++) golden_run(ops, cases[i][0], cases[i] + 1, 5e-5, true);
}

/* 8 bits of mantissa through three layers of large random weights: a serial adapter's are off by 8 % as a whole. */
static void in_bf16(void **state)
{
    (void)state;
    const nr_ops *ops;
    if (nr_ops_cpu(&ops, NR_COMPUTE_BF16, NULL) != NR_OK) skip();
    for (size_t i = 0; i < NR_COUNT(cases); i++) golden_run(ops, cases[i][0], cases[i] + 1, 0.15, false);
}

int main(void)
{
    if (golden_open(NRES_FIXTURES "/methods/golden.safetensors") != 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_double), cmocka_unit_test(in_float), cmocka_unit_test(in_bf16)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_safetensors_close(golden);
    return failed;
}
