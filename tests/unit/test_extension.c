/*
 * test_extension.c - promises of an extension: a fresh one is the backbone bit
 * for bit, so is one switched off; widths from budgets; variances of the init;
 * files that come back the same and refuse what doesn't belong.
 */
#include "../tiny.h"

static const char *const methods[][9] = {
    {"method", "neutral", "width", "8"},
    {"method", "neutral", "width", "8", "gate", "sigmoid", "ce", "true"},
    {"method", "neutral", "width", "8", "placement", "serial"},
    {"method", "lora", "width", "4"},
    {"method", "lora", "width", "3", "lora_targets", "q,k,v,o,gate,up,down"},
    {"method", "llama-pro", "width", "2"},
    {"method", "finetune"},
    {"method", "finetune", "layers", "2", "train_weights", "*.mlp.up_proj,norm"},
    {"method", "adapter", "width", "8"},
    {"method", "adapter", "width", "8", "placement", "serial"},
    {"method", "houlsby", "width", "8"},
    {"method", "attention", "width", "2"},
    {"method", "loramoe", "width", "2", "experts", "4"},
    {"method", "moextend", "width", "2"},
    {"method", "prefix", "width", "3"},
    {"method", "moe-ct", "width", "8", "experts", "2"},
    {"method", "moe-ct", "width", "8", "fusion", "sigmoid"},
};

static nr_extension *fresh(const nr_model *m, const char *const *settings, bool shake)
{
    nr_settings s;
    nr_extension *e;
    nr_error err = {0};
    nr_settings_default(&s);
    for (size_t i = 0; settings[i]; i += 2) tiny_ok(nr_settings_set(&s, settings[i], settings[i + 1], &err), &err);
    tiny_ok(nr_extension_new(&e, m, &s, &err), &err);
    if (shake) tiny_shake(e, 0.2);
    return e;
}

/* Logits of the test batch, (N, V) floats. */
static float *logits(const nr_model *m, nr_extension *e)
{
    nr_pass *p;
    nr_error err = {0};
    tiny_batch b;
    const void *row;
    size_t V = m->config->V;
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T};
    float *all = malloc(TINY_N * V * sizeof *all);
    tiny_fill(&b);
    tiny_ok(nr_pass_new(&p, m, &e, e ? 1 : 0, &opt, &err), &err);
    tiny_ok(nr_pass_forward(p, &b.batch, &err), &err);
    tiny_ok(nr_pass_logits(p, &row, 0, TINY_N, &err), &err);
    memcpy(all, row, TINY_N * V * sizeof *all);
    nr_pass_free(p);
    return all;
}

static void on_every_backend(void (*test)(const nr_model *m, const char *const *settings))
{
    const nr_compute computes[] = {NR_COMPUTE_FP32, NR_COMPUTE_BF16};
    for (size_t k = 0; k < NR_COUNT(computes); k++) {
        const nr_ops *ops;
        tiny t;
        if (nr_ops_cpu(&ops, computes[k], NULL) != NR_OK) continue;
        tiny_open(&t, ops, NR_USE_TRAIN);
        for (size_t i = 0; i < NR_COUNT(methods); i++) test(t.model, methods[i]);
        tiny_close(&t);
    }
}

static void identity(const nr_model *m, const char *const *settings)
{
    size_t bytes = TINY_N * m->config->V * sizeof(float);
    nr_extension *e = fresh(m, settings, false), *other = fresh(m, settings, true);
    float *plain = logits(m, NULL), *with = logits(m, e), *shaken = logits(m, other);
    bool starts_so = e->method->starts_as_backbone;
    if (starts_so && memcmp(plain, with, bytes) != 0) fail_msg("%s: a fresh extension isn't the backbone", settings[1]);
    if (!starts_so) assert_memory_not_equal(plain, with, bytes);
    assert_memory_not_equal(plain, shaken, bytes);
    nr_extension_switch(other, false);
    float *off = logits(m, other);
    assert_memory_equal(plain, off, bytes);
    free(plain), free(with), free(shaken), free(off);
    nr_extension_close(e);
    nr_extension_close(other);
}

static void fresh_is_the_backbone(void **state)
{
    (void)state;
    on_every_backend(identity);
}

static void round_trip(const nr_model *m, const char *const *settings)
{
    nr_error err = {0};
    char folder[] = "/tmp/nres-extension-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/e", folder);
    nr_extension *e = fresh(m, settings, true), *back;
    tiny_ok(nr_extension_save(e, path, &err), &err);
    tiny_ok(nr_extension_load(&back, m, path, false, &err), &err);
    assert_int_equal(e->weights, back->weights);
    assert_memory_equal(e->values, back->values, e->weights * sizeof(float));
    assert_string_equal(e->method->name, back->method->name);
    float *a = logits(m, e), *b = logits(m, back);
    assert_memory_equal(a, b, TINY_N * m->config->V * sizeof(float));
    free(a), free(b);
    nr_extension_close(e);
    nr_extension_close(back);
    nr_remove_folder(folder, NULL);
}

static void comes_back_from_a_folder(void **state)
{
    (void)state;
    on_every_backend(round_trip);
}

static void refuses_another_backbone(void **state)
{
    (void)state;
    nr_error err = {0};
    tiny t, other;
    const nr_ops *ops;
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = 1};
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    tiny_open(&t, ops, NR_USE_FORWARD);
    tiny_open(&other, ops, NR_USE_FORWARD);
    char config[160], folder[160], path[160];
    snprintf(config, sizeof config, "%s/config.json", other.folder);
    snprintf(folder, sizeof folder, "%s/model2", other.folder);
    snprintf(path, sizeof path, "%s/e", t.folder);
    nr_model *second;
    tiny_ok(nr_model_init(config, NULL, folder, 8, &err), &err); /* the same shape from another seed */
    tiny_ok(nr_model_open_on(&second, folder, &opt, ops, &err), &err);
    nr_extension *e = fresh(t.model, methods[0], true), *back;
    tiny_ok(nr_extension_save(e, path, &err), &err);
    assert_int_equal(nr_extension_load(&back, second, path, false, &err), NR_E_MISMATCH);
    assert_non_null(strstr(err.message, "--allow-other-backbone"));
    assert_null(back);
    tiny_ok(nr_extension_load(&back, second, path, true, &err), &err);
    nr_extension_close(back);
    nr_extension_close(e);
    nr_model_close(second);
    tiny_close(&other);
    tiny_close(&t);
}

static void newer_and_broken_files(void **state)
{
    (void)state;
    nr_error err = {0};
    tiny t;
    char path[160], config[200], weights[200];
    const nr_ops *ops;
    nr_extension *back;
    json_t *j;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    tiny_open(&t, ops, NR_USE_FORWARD);
    snprintf(path, sizeof path, "%s/e", t.folder);
    snprintf(config, sizeof config, "%s/extension_config.json", path);
    snprintf(weights, sizeof weights, "%s/extension.safetensors", path);
    assert_int_equal(nr_extension_load(&back, t.model, path, false, &err), NR_E_IO);
    nr_extension *e = fresh(t.model, methods[0], true);
    tiny_ok(nr_extension_save(e, path, &err), &err);
    tiny_ok(nr_json_load(&j, config, &err), &err);
    json_object_set_new(j, "format_version", json_integer(2));
    tiny_ok(nr_json_save(j, config, &err), &err);
    assert_int_equal(nr_extension_load(&back, t.model, path, false, &err), NR_E_UNSUPPORTED);
    json_object_set_new(j, "format_version", json_integer(1));
    json_object_set_new(j, "width", json_integer(16));
    tiny_ok(nr_json_save(j, config, &err), &err);
    assert_int_equal(nr_extension_load(&back, t.model, path, false, &err), NR_E_MISMATCH);
    assert_non_null(strstr(err.message, "w_gate"));
    json_object_set_new(j, "width", json_integer(8));
    tiny_ok(nr_json_save(j, config, &err), &err);
    assert_int_equal(truncate(weights, 1000), 0);
    assert_int_equal(nr_extension_load(&back, t.model, path, false, &err), NR_E_FORMAT);
    json_decref(j);
    nr_extension_close(e);
    tiny_close(&t);
}

static double variance(const nr_extension *e, const char *part)
{
    double sum = 0;
    size_t n = 0;
    for (size_t k = 0; k < e->param_count; k++) {
        const nr_param *p = &e->params[k];
        const char *dot = strrchr(p->name, '.');
        if (strcmp(dot + 1, part) != 0) continue;
        for (size_t i = 0; i < p->shape[0] * p->shape[1]; i++) {
            double v = nr_real_get(e->model->ops, e->values, p->offset + i);
            sum += v * v;
            n++;
        }
    }
    return sum / (double)n;
}

static void variances(void **state)
{
    (void)state;
    const nr_ops *ops = nr_ops_reference(false);
    const char *const low[] = {"width", "512", "init", "low", "init_scale", "3", NULL}, *const he[] = {"width", "512", "gate_init", "zero", NULL};
    tiny t;
    tiny_open(&t, ops, NR_USE_FORWARD); /* C 16, L 4 */
    nr_extension *e = fresh(t.model, low, false);
    assert_true(fabs(variance(e, "w_gate") / (3.0 / 64) - 1) < 0.03); /* 32768 draws: sigma 0.8 % */
    assert_true(fabs(variance(e, "w_in") / (3.0 / 64) - 1) < 0.03);
    assert_true(variance(e, "w_out") == 0);
    nr_extension_close(e);
    e = fresh(t.model, he, false);
    assert_true(fabs(variance(e, "w_in") / (2.0 / 16) - 1) < 0.03);
    assert_true(variance(e, "gate") == 0);
    nr_extension_close(e);
    const char *const vanilla[] = {"method", "adapter", "width", "512", NULL}, *const told[] = {"method", "adapter", "width", "512", "init", "low", NULL};
    e = fresh(t.model, vanilla, false); /* without a gate: he, unless somebody says otherwise */
    assert_true(fabs(variance(e, "w_in") / (2.0 / 16) - 1) < 0.03);
    assert_int_equal(e->settings.init, NR_INIT_HE);
    nr_extension_close(e);
    e = fresh(t.model, told, false);
    assert_true(fabs(variance(e, "w_in") / (1.0 / 64) - 1) < 0.03);
    nr_extension_close(e);
    tiny_close(&t);
}

/* A method says that it has an init, or the setting changes nothing in it. */
static void init_where_it_counts(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, nr_ops_reference(false), NR_USE_FORWARD);
    for (size_t i = 0; i < NR_COUNT(methods); i++) {
        nr_extension *e[2];
        for (int he = 0; he < 2; he++) {
            const char *settings[12] = {"init", he ? "he" : "low"};
            memcpy(settings + 2, methods[i], sizeof methods[i]);
            e[he] = fresh(t.model, settings, false);
        }
        bool differ = memcmp(e[0]->values, e[1]->values, e[0]->weights * t.model->ops->real_size) != 0;
        if (differ != e[0]->method->has_init) fail_msg("%s: has_init is not what its weights show", methods[i][1]);
        for (int he = 0; he < 2; he++) nr_extension_close(e[he]);
    }
    tiny_close(&t);
}

/* SmolLM2-135M's shape at 20 %, from a config alone. */
static void widths_from_budgets(void **state)
{
    (void)state;
    nr_config c = {.L = 30, .C = 576, .F = 1536, .H = 9, .K = 3, .D = 64, .V = 49152, .tied = true};
    nr_model_file file = {.config = c};
    nr_model m = {.config = &c, .file = &file, .use = NR_USE_SHAPES, .ops = nr_ops_reference(false)};
    const char *const neutral[] = {"extra", "20", NULL}, *const lora[] = {"method", "lora", "extra", "20", NULL};
    assert_int_equal(nr_model_weight_count(&c), 134515008);
    nr_extension *e = fresh(&m, neutral, false);
    assert_int_equal(e->width, 520);
    assert_int_equal(nr_extension_weights(e), 30 * (3 * 520 * 576 + 576));
    nr_extension_close(e);
    e = fresh(&m, lora, false);
    assert_int_equal(e->width, 141);
    nr_extension_close(e);
}

static void layers_setting(void **state)
{
    (void)state;
    const char *const bad[] = {"4", "0-4", "2-1", "x", "1,", "-1", ""};
    tiny t;
    nr_settings s;
    nr_extension *e;
    nr_error err = {0};
    tiny_open(&t, nr_ops_reference(false), NR_USE_FORWARD);
    for (size_t i = 0; i < NR_COUNT(bad); i++) {
        nr_settings_default(&s);
        s.width = 8;
        snprintf(s.layers.s, sizeof s.layers.s, "%s", bad[i]);
        assert_int_equal(nr_extension_new(&e, t.model, &s, &err), NR_E_USAGE);
        assert_non_null(strstr(err.message, "--layers"));
    }
    nr_settings_default(&s);
    s.width = 8;
    snprintf(s.layers.s, sizeof s.layers.s, "0,2-3,2");
    tiny_ok(nr_extension_new(&e, t.model, &s, &err), &err);
    assert_int_equal(e->layer_count, 3);
    assert_false(e->layer_on[1]);
    nr_extension_close(e);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_is_the_backbone), cmocka_unit_test(comes_back_from_a_folder),
        cmocka_unit_test(refuses_another_backbone), cmocka_unit_test(newer_and_broken_files),
        cmocka_unit_test(variances), cmocka_unit_test(init_where_it_counts), cmocka_unit_test(widths_from_budgets), cmocka_unit_test(layers_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
