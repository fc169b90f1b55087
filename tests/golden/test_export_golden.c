/*
 * test_export_golden.c - models that were exported, opened again: the GGUF file
 * of gen_export.py with the logits that transformers gives its weights, and every
 * method, whose export is what the extended model computes or is refused.
 * (compare_export.py puts transformers itself on the exported folders.)
 */
#include "../tiny.h"

#include "tokenizer/tokenizer.h"

#define GGUF NRES_FIXTURES "/export/tiny.gguf"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/nres-export-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : 1;
}

static const char *in_folder(const char *name)
{
    static char paths[4][128];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static nr_model *open_model(const char *path, nr_use use, const nr_ops *ops)
{
    nr_model *m;
    nr_error err;
    nr_model_options opt = {.use = use, .threads = 2, .frozen = NR_FROZEN_PACKED};
    tiny_ok(nr_model_open_on(&m, path, &opt, ops, &err), &err);
    return m;
}

static void export_as(const char *from, const char *to, nr_export_type type, size_t shard)
{
    nr_error err;
    nr_export_options opt = {.type = type, .shard_bytes = shard};
    nr_model *m = open_model(from, NR_USE_WEIGHTS, nr_ops_reference(false));
    tiny_ok(nr_model_export(m, NULL, to, &opt, NULL, &err), &err);
    nr_model_close(m);
}

/* Logits of one text, (n, V) doubles. */
static double *logits_of(const nr_model *m, nr_extension *e, const int32_t *ids, size_t n)
{
    nr_pass *p;
    nr_error err;
    nr_extension *stack[NR_STACK_MAX];
    size_t count = nr_extension_stack(e, stack), V = m->config->V;
    nr_pass_options opt = {.B = 1, .T = n, .head_rows = n};
    nr_batch b = {.B = 1, .T = n, .ids = ids};
    const void *logits;
    double *out = malloc(n * V * sizeof *out);
    assert_non_null(out);
    tiny_ok(nr_pass_new(&p, m, stack, count, &opt, &err), &err);
    tiny_ok(nr_pass_forward(p, &b, &err), &err);
    tiny_ok(nr_pass_logits(p, &logits, 0, n, &err), &err);
    for (size_t i = 0; i < n * V; i++) out[i] = nr_real_get(m->ops, logits, i);
    nr_pass_free(p);
    return out;
}

/* |a - b| / |b| */
static double off_by(const double *a, const double *b, size_t n)
{
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += (a[i] - b[i]) * (a[i] - b[i]);
        all += b[i] * b[i];
    }
    return sqrt(d / all);
}

static double at(const nr_tensor *t, size_t i)
{
    float v;
    memcpy(&v, t->data + i * sizeof v, sizeof v);
    return (double)v;
}

/* How far a model's logits are from those of transformers. */
static double off_golden(const char *path)
{
    nr_safetensors *golden;
    nr_error err;
    tiny_ok(nr_safetensors_open(&golden, NRES_FIXTURES "/export/golden.safetensors", &err), &err);
    const nr_tensor *ids = nr_safetensors_find(golden, "ids"), *want = nr_safetensors_find(golden, "logits");
    size_t n = ids->shape[0], rows = want->shape[0], V = want->shape[1];
    nr_model *m = open_model(path, NR_USE_FORWARD, nr_ops_reference(false));
    int32_t *text = calloc(n, sizeof *text);
    double *expected = calloc(rows * V, sizeof *expected);
    assert_non_null(text);
    assert_non_null(expected);
    assert_int_equal(V, m->config->V);
    for (size_t i = 0; i < n; i++) text[i] = (int32_t)at(ids, i);
    double *all = logits_of(m, NULL, text, n);
    for (size_t r = 0; r < rows; r++) memcpy(all + r * V, all + r * 7 * V, V * sizeof *all); /* every seventh row */
    for (size_t i = 0; i < rows * V; i++) expected[i] = at(want, i);
    double off = off_by(all, expected, rows * V);
    free(all);
    free(text);
    free(expected);
    nr_model_close(m);
    nr_safetensors_close(golden);
    return off;
}

static void equals_transformers(void **state)
{
    (void)state;
    static const struct {
        nr_export_type type;
        const char *name;
        double tolerance; /* three layers of rounded weights */
    } types[] = {{NR_EXPORT_FP32, "fp32", 1e-5}, {NR_EXPORT_FP16, "fp16", 5e-3}, {NR_EXPORT_BF16, "bf16", 5e-2}};
    double own = off_golden(GGUF);
    print_message("  the GGUF file itself: %.1e\n", own);
    assert_true(own < 1e-5);
    for (size_t i = 0; i < NR_COUNT(types); i++) {
        export_as(GGUF, in_folder(types[i].name), types[i].type, 0);
        double off = off_golden(in_folder(types[i].name));
        print_message("  as %s: %.1e\n", types[i].name, off);
        assert_true(off < types[i].tolerance);
        if (i > 0) assert_true(off > 1e-5);
    }
}

/* ---- what stands beside the weights ---- */

static json_t *load(const char *name)
{
    json_t *j;
    nr_error err;
    tiny_ok(nr_json_load(&j, in_folder(name), &err), &err);
    return j;
}

static void ids_are(const nr_tokenizer *t, const char *text, const json_t *ids)
{
    int32_t found[256];
    size_t count;
    nr_error err;
    tiny_ok(nr_tokenizer_encode(t, text, strlen(text), true, found, NR_COUNT(found), &count, &err), &err);
    assert_int_equal(count, json_array_size(ids));
    for (size_t i = 0; i < count; i++) assert_int_equal(found[i], json_integer_value(json_array_get(ids, i)));
}

static void config_and_tokenizer(void **state)
{
    (void)state;
    nr_tokenizer *from, *to;
    nr_error err;
    json_t *texts, *config, *settings, *generation;
    export_as(GGUF, in_folder("model"), NR_EXPORT_FP32, 0);
    config = load("model/config.json");
    assert_string_equal(json_string_value(json_array_get(json_object_get(config, "architectures"), 0)), "LlamaForCausalLM");
    assert_string_equal(json_string_value(json_object_get(config, "torch_dtype")), "float32");
    assert_true(json_real_value(json_object_get(config, "rms_norm_eps")) == 1e-5);
    const json_t *rope = json_object_get(config, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(rope, "rope_type")), "llama3");
    assert_true(json_number_value(json_object_get(rope, "factor")) == 8);
    assert_int_equal(json_integer_value(json_object_get(rope, "original_max_position_embeddings")), 64);
    settings = load("model/tokenizer_config.json");
    assert_string_equal(json_string_value(json_object_get(settings, "eos_token")), "<|im_end|>");
    assert_non_null(strstr(json_string_value(json_object_get(settings, "chat_template")), "<|im_start|>"));
    generation = load("model/generation_config.json");
    assert_int_equal(json_integer_value(json_object_get(generation, "eos_token_id")), 2);
    tiny_ok(nr_json_load(&texts, NRES_FIXTURES "/export/texts.json", &err), &err);
    tiny_ok(nr_tokenizer_open(&from, GGUF, NULL, &err), &err);
    tiny_ok(nr_tokenizer_open(&to, in_folder("model"), NULL, &err), &err);
    assert_int_equal(nr_tokenizer_bos(to), nr_tokenizer_bos(from));
    assert_int_equal(nr_tokenizer_eos(to), nr_tokenizer_eos(from));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *row = json_array_get(texts, i);
        ids_are(from, json_string_value(json_object_get(row, "text")), json_object_get(row, "ids"));
        ids_are(to, json_string_value(json_object_get(row, "text")), json_object_get(row, "ids"));
    }
    nr_tokenizer_close(from);
    nr_tokenizer_close(to);
    json_decref(texts);
    json_decref(config);
    json_decref(settings);
    json_decref(generation);
}

/* Divisors that no llama3 scaling makes can't be said in config.json. */
static void refuses_divisors(void **state)
{
    (void)state;
    json_t *j;
    nr_error err;
    const float odd[4] = {1, 3, 1, 8};
    nr_config c = {.architecture = "llama", .L = 1, .C = 8, .F = 8, .H = 1, .K = 1, .D = 8, .V = 8, .max_context = 64, .norm_eps = 1e-5,
                   .bos = -1, .eos = -1, .pad = -1};
    c.rope.theta = 10000;
    c.rope.divisors = odd;
    assert_int_equal(nr_config_to_json(&j, &c, "x.gguf", &err), NR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "x.gguf: tensor rope_freqs.weight: expected the divisors of a llama3 scaling"));
}

/* The same weights in several files, none above the size. */
static void shards(void **state)
{
    (void)state;
    char a[65], b[65];
    nr_error err;
    export_as(GGUF, in_folder("one"), NR_EXPORT_FP32, 0);
    export_as(GGUF, in_folder("many"), NR_EXPORT_FP32, 20000);
    assert_true(nr_path_exists(in_folder("one/model.safetensors")));
    assert_false(nr_path_exists(in_folder("many/model.safetensors")));
    json_t *index = load("many/model.safetensors.index.json"), *config = load("one/config.json");
    nr_model *one = open_model(in_folder("one"), NR_USE_SHAPES, nr_ops_reference(false));
    nr_model *many = open_model(in_folder("many"), NR_USE_SHAPES, nr_ops_reference(false));
    assert_int_equal(json_object_size(json_object_get(index, "weight_map")), one->file->count);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")),
                     4 * nr_model_weight_count(one->config));
    assert_true(many->file->map_count > 3);
    for (size_t i = 0; i < many->file->map_count; i++) /* the embedding alone is larger */
        assert_true(many->file->maps[i].size < 20000 + 4096 || many->file->maps[i].size < 4 * 512 * 32 + 4096);
    tiny_ok(nr_model_fingerprint(one, a, &err), &err);
    tiny_ok(nr_model_fingerprint(many, b, &err), &err);
    assert_string_equal(a, b);
    nr_model_close(one);
    nr_model_close(many);
    json_decref(index);
    json_decref(config);
}

/* ---- methods ---- */

static nr_extension *shaken(const nr_model *m, const char *method, const char *const *more)
{
    nr_settings s;
    nr_extension *e;
    nr_error err;
    nr_settings_default(&s);
    s.extra = 40;
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    for (size_t i = 0; more && more[i]; i += 2) tiny_ok(nr_settings_set(&s, more[i], more[i + 1], &err), &err);
    tiny_ok(nr_extension_new(&e, m, &s, &err), &err);
    tiny_shake(e, 0.05);
    return e;
}

/* Exported and opened, it computes what the stack does. */
static void same_logits(nr_extension *e, const char *name, size_t layers)
{
    static const int32_t ids[9] = {3, 17, 39, 0, 8, 8, 21, 30, 11};
    nr_error err;
    nr_export_options opt = {.type = NR_EXPORT_FP32};
    const nr_model *m = e->model;
    double *want = logits_of(m, e, ids, NR_COUNT(ids)), *plain = logits_of(m, NULL, ids, NR_COUNT(ids));
    tiny_ok(nr_model_export(m, e, in_folder(name), &opt, NULL, &err), &err);
    nr_model *back = open_model(in_folder(name), NR_USE_FORWARD, m->ops);
    assert_int_equal(back->config->L, layers);
    double *found = logits_of(back, NULL, ids, NR_COUNT(ids));
    size_t n = NR_COUNT(ids) * m->config->V;
    double off = off_by(found, want, n), changed = off_by(plain, want, n);
    print_message("  %s: %.1e, against the backbone %.1e\n", name, off, changed);
    assert_true(off < 1e-5);
    assert_true(changed > 1e-2);
    nr_model_close(back);
    free(want);
    free(plain);
    free(found);
}

static void every_method(const char *config)
{
    tiny t;
    tiny_open_as(&t, nr_ops_reference(false), NR_USE_FORWARD, config);
    for (size_t i = 0; i < nr_method_count; i++) {
        const char *name = nr_methods[i]->name;
        if (t.model->config->mlp_bias && strcmp(name, "moextend") == 0) continue; /* it takes no biases */
        nr_extension *e = shaken(t.model, name, NULL);
        nr_error err;
        nr_export_options opt = {.type = NR_EXPORT_FP32};
        if (nr_methods[i]->stock) {
            same_logits(e, name, t.model->config->L + (nr_methods[i]->depth ? e->width : 0));
        } else {
            assert_int_equal(nr_model_export(t.model, e, in_folder(name), &opt, NULL, &err), NR_E_UNSUPPORTED);
            assert_non_null(strstr(err.message, name));
            assert_non_null(strstr(err.message, "finetune"));
            assert_false(nr_path_exists(in_folder(name)));
        }
        nr_extension_close(e);
    }
    tiny_close(&t);
}

static void methods(void **state)
{
    (void)state;
    every_method(tiny_config());
}

static void methods_with_biases(void **state)
{
    (void)state;
    every_method(tiny_biased_config());
}

/* All three kinds at once, each acting where it would without the others. */
static void stacked(void **state)
{
    (void)state;
    static const char *const some[] = {"train_weights", "layers.*.mlp.*", "layers", "1-2", NULL};
    static const char *const targets[] = {"lora_targets", "q,o,up,down", "layers", "0,2", NULL};
    tiny t;
    nr_error err;
    tiny_open(&t, nr_ops_reference(false), NR_USE_FORWARD);
    nr_extension *a = shaken(t.model, "finetune", some), *b = shaken(t.model, "llama-pro", NULL), *c = shaken(t.model, "lora", targets);
    nr_extension *neutral = shaken(t.model, "neutral", NULL), *second = shaken(t.model, "ewc", NULL);
    nr_export_options opt = {.type = NR_EXPORT_FP32};
    tiny_ok(nr_extension_stand_on(b, a, &err), &err);
    tiny_ok(nr_extension_stand_on(c, b, &err), &err);
    same_logits(c, "stacked", t.model->config->L + b->width);
    /* One that is switched off is not there. */
    nr_extension_switch(b, false);
    same_logits(c, "without", t.model->config->L);
    nr_extension_switch(b, true);
    tiny_ok(nr_extension_stand_on(neutral, c, &err), &err);
    assert_int_equal(nr_model_export(t.model, neutral, in_folder("refused"), &opt, NULL, &err), NR_E_UNSUPPORTED);
    tiny_ok(nr_extension_stand_on(second, a, &err), &err);
    assert_int_equal(nr_model_export(t.model, second, in_folder("refused"), &opt, NULL, &err), NR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "only one of them may replace"));
    assert_false(nr_path_exists(in_folder("refused")));
    nr_extension_close(a);
    nr_extension_close(b);
    nr_extension_close(c);
    nr_extension_close(neutral);
    nr_extension_close(second);
    tiny_close(&t);
}

/* Numbers that the type can't hold. */
static void refuses_numbers(void **state)
{
    (void)state;
    tiny t;
    nr_error err;
    nr_export_options half = {.type = NR_EXPORT_FP16}, full = {.type = NR_EXPORT_FP32};
    tiny_open(&t, nr_ops_reference(false), NR_USE_WEIGHTS);
    nr_extension *e = shaken(t.model, "finetune", NULL);
    const nr_param *p = &e->params[e->param_count / 2];
    nr_real_set(t.model->ops, nr_param_value(e, p), 3, 1e5);
    assert_int_equal(nr_model_export(t.model, e, in_folder("half"), &half, NULL, &err), NR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, p->name));
    assert_non_null(strstr(err.message, "F16 can hold, found 100000"));
    assert_false(nr_path_exists(in_folder("half")));
    nr_real_set(t.model->ops, nr_param_value(e, p), 3, NAN);
    assert_int_equal(nr_model_export(t.model, e, in_folder("full"), &full, NULL, &err), NR_E_UNSUPPORTED);
    nr_extension_close(e);
    tiny_close(&t);
}

static void refuses_what_is_there(void **state)
{
    (void)state;
    nr_error err;
    nr_export_options opt = {.type = NR_EXPORT_FP32};
    nr_model *m = open_model(GGUF, NR_USE_WEIGHTS, nr_ops_reference(false));
    tiny_ok(nr_make_folders(in_folder("there"), &err), &err);
    assert_int_equal(nr_model_export(m, NULL, in_folder("there/"), &opt, NULL, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "found one that is there"));
    tiny_ok(nr_model_export(m, NULL, in_folder("fresh/"), &opt, NULL, &err), &err);
    assert_true(nr_path_exists(in_folder("fresh/config.json")));
    nr_model_close(m);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(equals_transformers), TEST(config_and_tokenizer), TEST(refuses_divisors), TEST(shards),
                                       TEST(methods), TEST(methods_with_biases), TEST(stacked), TEST(refuses_numbers),
                                       TEST(refuses_what_is_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
