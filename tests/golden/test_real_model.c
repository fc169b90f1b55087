/*
 * test_real_model.c - SmolLM2-135M-Instruct itself: bits per byte against
 * lm-evaluation-harness, greedy text and logits against transformers
 * (gen_eval.py real, gen_generate.py greedy, gen_logits.py), all in fp32.
 *
 * The model is $NRES_TEST_MODEL, or the one that the quickstart keeps in the
 * cache folder; without it the test is skipped (77). Texts that aren't part of
 * the project are looked for in $NRES_TEST_TEXTS; their hash is in the fixture.
 */
#include "../testing.h"

#include <math.h>

#include "eval/eval.h"
#include "infer/infer.h"

static nr_model *model;
static nr_tokenizer *tokenizer;

static void ok(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

static json_t *fixture(const char *name)
{
    char path[512];
    nr_error err;
    json_t *j;
    snprintf(path, sizeof path, NRES_FIXTURES "/%s", name);
    ok(nr_json_load(&j, path, &err), &err);
    return j;
}

static double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static bool find_text(char path[512], const char *name)
{
    const char *folder = getenv("NRES_TEST_TEXTS");
    snprintf(path, 512, NRES_FIXTURES "/eval/%s", name);
    if (nr_path_exists(path)) return true;
    if (folder) snprintf(path, 512, "%s/%s", folder, name);
    return folder && nr_path_exists(path);
}

static void one_case(const json_t *c, const char *path)
{
    char *text;
    nr_error err;
    nr_files files = {&path, 1};
    nr_eval_options opt = {.context = (size_t)number(c, "context")};
    json_t *j;
    ok(nr_evaluate(&text, model, tokenizer, NULL, &files, &opt, NULL, &err), &err);
    ok(nr_json_parse(&j, text, strlen(text), "result", &err), &err);
    const json_t *file = json_array_get(json_object_get(j, "files"), 0), *backbone = json_object_get(file, "backbone");
    printf("%s, context %zu: %.7f bits/byte, the harness %.7f\n", path, opt.context, number(backbone, "bits_per_byte"),
           number(c, "bits_per_byte"));
    assert_int_equal(number(j, "prefix_token"), number(c, "prefix_token"));
    assert_int_equal(number(file, "documents"), number(c, "documents"));
    assert_int_equal(number(file, "tokens"), number(c, "tokens"));
    assert_int_equal(number(file, "bytes"), number(c, "bytes"));
    /* Its log softmax sums 49152 terms in float: about 3e-6. */
    assert_true(fabs(number(backbone, "bits_per_byte") - number(c, "bits_per_byte")) < 2e-5);
    assert_true(fabs(number(backbone, "bits_per_byte_stderr") - number(c, "bits_per_byte_stderr")) < 2e-5);
    json_decref(j);
    free(text);
}

static void equals_the_harness(void **state)
{
    (void)state;
    json_t *j = fixture("eval/real.json");
    const json_t *c;
    size_t i, run = 0;
    json_array_foreach(json_object_get(j, "cases"), i, c) {
        char path[512];
        if (!find_text(path, json_string_value(json_object_get(c, "file")))) continue;
        one_case(c, path);
        run++;
    }
    assert_true(run >= 2);
    json_decref(j);
}

static void continues(const json_t *c)
{
    nr_session *s;
    nr_error err;
    nr_sampling greedy = {0};
    const char *prompt = json_string_value(json_object_get(c, "prompt"));
    const json_t *prompt_ids = json_object_get(c, "prompt_ids"), *want = json_object_get(c, "ids");
    int32_t ids[128];
    size_t n;
    ok(nr_tokenizer_encode(tokenizer, prompt, strlen(prompt), false, ids, 128, &n, &err), &err);
    assert_int_equal(n, json_array_size(prompt_ids));
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[i], json_integer_value(json_array_get(prompt_ids, i)));
    ok(nr_session_new(&s, model, NULL, 128, &err), &err);
    ok(nr_session_eval(s, ids, n, &err), &err);
    for (size_t i = 0; i < json_array_size(want); i++) {
        int32_t id = nr_session_sample(s, &greedy);
        assert_int_equal(id, json_integer_value(json_array_get(want, i)));
        ok(nr_session_eval(s, &id, 1, &err), &err);
    }
    nr_session_close(s);
}

static void greedy_text_is_the_same(void **state)
{
    (void)state;
    json_t *j = fixture("generate/greedy.json");
    const json_t *c, *cases = json_object_get(j, "cases");
    size_t i;
    assert_true(json_array_size(cases) >= 6);
    json_array_foreach(cases, i, c) continues(c);
    json_decref(j);
}

/* |ours - theirs| / |theirs| over the kept entries: 1e-5 is float rounding through 30 layers. */
static void logits_are_the_same(void **state)
{
    (void)state;
    enum { T = 67, EVERY = 16 };
    nr_safetensors *file;
    nr_pass *p;
    nr_error err;
    int32_t ids[T];
    nr_pass_options opt = {.B = 1, .T = T};
    ok(nr_safetensors_open(&file, NRES_FIXTURES "/eval/logits.safetensors", &err), &err);
    const nr_tensor *want_ids = nr_safetensors_find(file, "ids"), *rows = nr_safetensors_find(file, "rows"),
                    *want = nr_safetensors_find(file, "logits");
    assert_int_equal(want_ids->shape[0], T);
    for (size_t i = 0; i < T; i++) {
        float id;
        nr_dequantise(&id, want_ids->data + 4 * i, NR_F32, 1);
        ids[i] = (int32_t)id;
    }
    ok(nr_pass_new(&p, model, NULL, 0, &opt, &err), &err);
    nr_batch b = {.B = 1, .T = T, .ids = ids};
    ok(nr_pass_forward(p, &b, &err), &err);
    for (size_t r = 0; r < rows->shape[0]; r++) {
        float row, theirs[49152 / EVERY];
        const float *ours;
        double off = 0, size = 0;
        nr_dequantise(&row, rows->data + 4 * r, NR_F32, 1);
        nr_tensor_read(theirs, want, r, 1);
        ok(nr_pass_logits(p, (const void **)&ours, (size_t)row, 1, &err), &err);
        for (size_t k = 0; k < NR_COUNT(theirs); k++) {
            double d = (double)ours[k * EVERY] - (double)theirs[k];
            off += d * d;
            size += (double)theirs[k] * (double)theirs[k];
        }
        printf("logits of row %.0f: error %.1e\n", (double)row, sqrt(off / size));
        assert_true(sqrt(off / size) <= 1e-5);
    }
    nr_pass_free(p);
    nr_safetensors_close(file);
}

static void model_path(char path[512])
{
    const char *given = getenv("NRES_TEST_MODEL"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    static const char name[] = "nres/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (given) snprintf(path, 512, "%s", given);
    else if (cache && *cache) snprintf(path, 512, "%s/%s", cache, name);
    else snprintf(path, 512, "%s/.cache/%s", home ? home : "", name);
}

int main(void)
{
    char path[512];
    nr_error err;
    nr_model_options opt = {.compute = NR_COMPUTE_FP32, .use = NR_USE_FORWARD, .frozen = NR_FROZEN_PACKED};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_harness),
        cmocka_unit_test(greedy_text_is_the_same),
        cmocka_unit_test(logits_are_the_same),
    };
    model_path(path);
    if (!nr_path_exists(path)) {
        printf("skipped: no model at %s\n", path);
        return 77;
    }
    if (nr_model_open(&model, path, &opt, &err) != NR_OK || nr_tokenizer_open(&tokenizer, path, NULL, &err) != NR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_tokenizer_close(tokenizer);
    nr_model_close(model);
    return failed;
}
