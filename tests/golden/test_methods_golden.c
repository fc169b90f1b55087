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

/* 8 bits of mantissa through three layers of large random weights: the error is that of in_float times some 2^15, so that
 * a serial adapter's gradient is off by 8 % as a whole and the three shaken copies of layers' by 21 %. */
static void in_bf16(void **state)
{
    (void)state;
    const nr_ops *ops;
    if (nr_ops_cpu(&ops, NR_COMPUTE_BF16, NULL) != NR_OK) skip();
    for (size_t i = 0; i < NR_COUNT(cases); i++)
        golden_run(ops, cases[i][0], cases[i] + 1, strcmp(cases[i][0], "llama_pro") == 0 ? 0.3 : 0.15, false);
}

/* PEFT's own folder computes the case's loss, and comes back the same from the folder that is written here. */
static void from_peft(void **state)
{
    (void)state;
    nr_model *m;
    nr_extension *e, *back;
    nr_pass *p;
    nr_error err = {0};
    nr_losses sum = {0};
    tiny_batch b;
    char folder[] = "/tmp/nres-peft-XXXXXX";
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = 2};
    nr_pass_options shape = {.B = TINY_B, .T = TINY_T};
    tiny_ok(nr_model_open_on(&m, NRES_FIXTURES "/neutral", &opt, nr_ops_reference(true), &err), &err);
    tiny_ok(nr_extension_load(&e, m, NRES_FIXTURES "/methods/peft_lora", false, &err), &err);
    assert_int_equal(e->width, 2);
    tiny_fill(&b);
    for (size_t i = 0; i < TINY_N; i++) {
        b.ids[i] = (int32_t)at(need("%s.ids%s", "lora", ""), i);
        b.targets[i] = (int32_t)at(need("%s.targets%s", "lora", ""), i);
    }
    tiny_ok(nr_pass_new(&p, m, &e, 1, &shape, &err), &err);
    tiny_ok(nr_pass_forward(p, &b.batch, &err), &err);
    tiny_ok(nr_pass_loss(p, &b.batch, false, &sum, NULL, &err), &err);
    golden_losses("lora", &sum, 1e-6);
    assert_non_null(mkdtemp(folder));
    tiny_ok(nr_extension_save_peft(e, folder, &err), &err);
    tiny_ok(nr_extension_load(&back, m, folder, false, &err), &err);
    assert_memory_equal(e->values, back->values, e->weights * sizeof(double));
    assert_true(back->settings.lora_scale == e->settings.lora_scale);
    assert_string_equal(back->settings.lora_targets.s, e->settings.lora_targets.s);
    nr_remove_folder(folder, NULL);
    nr_pass_free(p);
    nr_extension_close(e);
    nr_extension_close(back);
    nr_model_close(m);
}

/* What would change the computation is refused by name. */
static void peft_refused(void **state)
{
    static const struct {
        const char *field, *value, *says;
    } cases_refused[] = {
        {"use_dora", "true", "use_dora"},         {"peft_type", "\"IA3\"", "peft_type: expected LORA, found IA3"},
        {"bias", "\"all\"", "bias"},             {"rank_pattern", "{\"x\": 4}", "rank_pattern"},
        {"modules_to_save", "[\"lm_head\"]", "modules_to_save"}, {"target_modules", "\".*proj\"", "target_modules"},
        {"target_modules", "[\"lm_head\"]", "target_modules"},   {"r", "0", "r and lora_alpha"},
        {"use_bdlora", "true", "use_bdlora"},     {"init_lora_weights", "\"pissa\"", "init_lora_weights"},
    };
    (void)state;
    nr_model *m;
    nr_extension *e;
    nr_error err = {0};
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = 1};
    tiny_ok(nr_model_open_on(&m, NRES_FIXTURES "/neutral", &opt, nr_ops_reference(false), &err), &err);
    for (size_t i = 0; i < NR_COUNT(cases_refused); i++) {
        char folder[] = "/tmp/nres-peft-XXXXXX", config[64];
        json_t *j, *value = json_loads(cases_refused[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(mkdtemp(folder));
        snprintf(config, sizeof config, "%s/adapter_config.json", folder);
        tiny_ok(nr_json_load(&j, NRES_FIXTURES "/methods/peft_lora/adapter_config.json", &err), &err);
        json_object_set_new(j, cases_refused[i].field, value);
        tiny_ok(nr_json_save(j, config, &err), &err);
        assert_int_equal(nr_extension_load(&e, m, folder, false, &err), NR_E_UNSUPPORTED);
        if (!strstr(err.message, cases_refused[i].says)) fail_msg("%s: %s", cases_refused[i].field, err.message);
        json_decref(j);
        nr_remove_folder(folder, NULL);
    }
    nr_model_close(m);
}

int main(void)
{
    if (golden_open(NRES_FIXTURES "/methods/golden.safetensors") != 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_double), cmocka_unit_test(in_float), cmocka_unit_test(in_bf16),
                                       cmocka_unit_test(from_peft), cmocka_unit_test(peft_refused)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_safetensors_close(golden);
    return failed;
}
