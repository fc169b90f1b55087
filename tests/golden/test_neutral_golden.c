/*
 * test_neutral_golden.c - losses and every gradient of neutral residues
 * against PyTorch (gen_neutral.py), run here in double on the references and
 * in float on the machine's own kernels.
 */
#include "../tiny.h"

static nr_safetensors *golden;

static const nr_tensor *need(const char *fmt, const char *a, const char *b)
{
    char name[160];
    snprintf(name, sizeof name, fmt, a, b);
    const nr_tensor *t = nr_safetensors_find(golden, name);
    if (!t) fail_msg("fixture has no %s", name);
    return t;
}

static double at(const nr_tensor *t, size_t i)
{
    double v;
    memcpy(&v, t->data + i * sizeof v, sizeof v);
    return v;
}

/* Adds |a - b|^2 and |b|^2 of a tensor to off[0] and off[1]; returns its own |a - b| / |b|. */
static double distance(const nr_extension *e, const nr_param *p, const nr_tensor *t, double off[2])
{
    double here[2] = {0, 0};
    for (size_t i = 0; i < p->shape[0] * p->shape[1]; i++) {
        double d = nr_real_get(e->model->ops, nr_param_grad(e, p), i) - at(t, i);
        here[0] += d * d;
        here[1] += at(t, i) * at(t, i);
    }
    off[0] += here[0];
    off[1] += here[1];
    return sqrt(here[0] / (here[1] + 1e-300));
}

/* each: the tolerance holds for every tensor; else for all of them as one. */
static void run(const nr_ops *ops, const char *name, const char *const *settings, double tolerance, bool each)
{
    nr_model *m;
    nr_extension *e;
    nr_pass *p;
    nr_error err = {0};
    nr_settings s;
    tiny_batch b;
    nr_losses sum = {0};
    nr_model_options opt = {.use = NR_USE_TRAIN, .threads = 2};
    tiny_ok(nr_model_open_on(&m, NRES_FIXTURES "/neutral", &opt, ops, &err), &err);
    nr_settings_default(&s);
    for (size_t i = 0; settings[i]; i += 2) tiny_ok(nr_settings_set(&s, settings[i], settings[i + 1], &err), &err);
    tiny_ok(nr_extension_new(&e, m, &s, &err), &err);
    tiny_ok(nr_extension_train(e, &err), &err);
    for (size_t k = 0; k < e->param_count; k++) {
        const nr_tensor *t = need("%s.value.%s", name, e->params[k].name);
        for (size_t i = 0; i < e->params[k].shape[0] * e->params[k].shape[1]; i++)
            nr_real_set(ops, e->values, e->params[k].offset + i, at(t, i));
    }
    tiny_ok(nr_extension_repack(e, &err), &err);
    tiny_fill(&b);
    for (size_t i = 0; i < TINY_N; i++) {
        b.ids[i] = (int32_t)at(need("%s.ids%s", name, ""), i);
        b.targets[i] = (int32_t)at(need("%s.targets%s", name, ""), i);
    }
    nr_pass_options options = {.B = TINY_B, .T = TINY_T, .train = true};
    tiny_ok(nr_pass_new(&p, m, &e, 1, &options, &err), &err);
    tiny_ok(nr_pass_forward(p, &b.batch, &err), &err);
    tiny_ok(nr_pass_loss(p, &b.batch, true, &sum, NULL, &err), &err);
    const nr_tensor *losses = need("%s.losses%s", name, "");
    assert_true(fabs(sum.nll / (TINY_N - 1) - at(losses, 0)) < tolerance * at(losses, 0));
    assert_true(fabs(sum.local[0] - at(losses, 1)) <= tolerance * at(losses, 1));
    assert_true(fabs(sum.local[1] - at(losses, 2)) <= tolerance * at(losses, 2));
    double worst = 0, all[2] = {0, 0};
    for (size_t k = 0; k < e->param_count; k++) {
        double off = distance(e, &e->params[k], need("%s.grad.%s", name, e->params[k].name), all);
        if (each && off > tolerance) fail_msg("%s, %s: gradient of %s is off by %.2e", ops->name, name, e->params[k].name, off);
        worst = fmax(worst, off);
    }
    double whole = sqrt(all[0] / all[1]);
    print_message("  %s %s: whole gradient %.1e, worst tensor %.1e\n", ops->name, name, whole, worst);
    assert_true(whole < tolerance);
    nr_pass_free(p);
    nr_extension_close(e);
    nr_model_close(m);
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
    for (size_t i = 0; i < NR_COUNT(cases); i++) run(nr_ops_reference(true), cases[i][0], cases[i] + 1, 2e-6, true);
}

static void in_float(void **state)
{
    (void)state;
    const nr_ops *ops;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    for (size_t i = 0; i < NR_COUNT(cases); i++) run(ops, cases[i][0], cases[i] + 1, 2e-5, true);
}

/* 8 bits of mantissa in every product's inputs, through three layers of large random weights: a single
 * number (a gate's bias) may cancel to nothing, the whole gradient doesn't. */
static void in_bf16(void **state)
{
    (void)state;
    const nr_ops *ops;
    if (nr_ops_cpu(&ops, NR_COMPUTE_BF16, NULL) != NR_OK) skip();
    for (size_t i = 0; i < NR_COUNT(cases); i++) run(ops, cases[i][0], cases[i] + 1, 5e-2, false);
}

int main(void)
{
    nr_error err = {0};
    if (nr_safetensors_open(&golden, NRES_FIXTURES "/neutral/golden.safetensors", &err) != NR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_double), cmocka_unit_test(in_float), cmocka_unit_test(in_bf16)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_safetensors_close(golden);
    return failed;
}
