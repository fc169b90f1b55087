/*
 * test_session.c - a session against a pass over all tokens at once, in any
 * cut; rewinding, the end of the context, logits that aren't numbers.
 */
#include "../tiny.h"

#include "infer/infer.h"

enum { TOKENS = 600 }; /* more than one piece of a prompt */

typedef struct {
    char folder[128];
    nr_model *model;
    nr_extension *e;
} fixture;

static nr_model *open_model(char folder[128], const nr_ops *ops)
{
    nr_model *m;
    nr_error err = {0};
    char path[160];
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = nr_threads_get()};
    char *shape = nr_strdup(tiny_config()), *at = strstr(shape, "\"max_position_embeddings\": 64");
    assert_non_null(at);
    memcpy(at, "\"max_position_embeddings\":640", 29);
    snprintf(folder, 128, "/tmp/nres-session-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/config.json", folder);
    tiny_ok(nr_write_file(path, shape, strlen(shape), &err), &err);
    free(shape);
    char model[160];
    snprintf(model, sizeof model, "%s/model", folder);
    tiny_ok(nr_model_init(path, NULL, model, 11, &err), &err);
    tiny_ok(nr_model_open_on(&m, model, &opt, ops, &err), &err);
    return m;
}

static void open_fixture(fixture *f, const nr_ops *ops, const char *method)
{
    nr_settings s;
    nr_error err = {0};
    f->e = NULL;
    f->model = open_model(f->folder, ops);
    if (!method) return;
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    s.width = strcmp(method, "llama-pro") == 0 || strcmp(method, "moextend") == 0 ? 2 : 8;
    tiny_ok(nr_extension_new(&f->e, f->model, &s, &err), &err);
    tiny_shake(f->e, 0.2);
}

static void close_fixture(fixture *f)
{
    nr_extension_close(f->e);
    nr_model_close(f->model);
    nr_remove_folder(f->folder, NULL);
}

static const nr_ops *fp32(void)
{
    const nr_ops *ops;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    return ops;
}

static void fill(int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(nr_rng_u64(21, NR_RNG_TEST, i) % 40);
}

static nr_session *session(fixture *f, size_t context)
{
    nr_session *s;
    nr_error err = {0};
    tiny_ok(nr_session_new(&s, f->model, f->e, context, &err), &err);
    return s;
}

static void eval(nr_session *s, const int32_t *ids, size_t n)
{
    nr_error err = {0};
    tiny_ok(nr_session_eval(s, ids, n, &err), &err);
}

static double distance(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* Logits after the last token, from one pass without a cache. */
static void at_once(fixture *f, const int32_t *ids, size_t n, float *out)
{
    nr_pass *p;
    nr_error err = {0};
    const void *logits;
    nr_pass_options opt = {.B = 1, .T = n};
    nr_batch b = {.B = 1, .T = n, .ids = ids};
    tiny_ok(nr_pass_new(&p, f->model, &f->e, f->e ? 1 : 0, &opt, &err), &err);
    tiny_ok(nr_pass_forward(p, &b, &err), &err);
    tiny_ok(nr_pass_logits(p, &logits, n - 1, 1, &err), &err);
    for (size_t i = 0; i < 40; i++) out[i] = (float)nr_real_get(f->model->ops, logits, i);
    nr_pass_free(p);
}

static void any_cut_is_the_same(void **state)
{
    (void)state;
    const size_t cuts[][3] = {{TOKENS, 0, 0}, {7, 590, 3}, {599, 1, 0}, {512, 88, 0}, {1, 1, 598}};
    int32_t ids[TOKENS];
    fill(ids, TOKENS);
    for (size_t m = 0; m <= nr_method_count; m++) { /* each method, and none */
        fixture f;
        float whole[40];
        open_fixture(&f, fp32(), m < nr_method_count ? nr_methods[m]->name : NULL);
        at_once(&f, ids, TOKENS, whole);
        for (size_t c = 0; c < NR_COUNT(cuts); c++) {
            nr_session *s = session(&f, 0);
            size_t at = 0;
            for (size_t k = 0; k < 3; at += cuts[c][k++]) eval(s, ids + at, cuts[c][k]);
            assert_int_equal(nr_session_position(s), TOKENS);
            assert_true(distance(nr_session_logits(s), whole, 40) < 1e-4);
            nr_session_close(s);
        }
        close_fixture(&f);
    }
}

static void rewound_is_never_seen(void **state)
{
    (void)state;
    fixture f;
    int32_t ids[TOKENS], other[20];
    float want[40];
    nr_sampling greedy = {0};
    fill(ids, TOKENS);
    for (size_t i = 0; i < 20; i++) other[i] = (int32_t)(39 - i);
    open_fixture(&f, fp32(), "neutral");
    nr_session *s = session(&f, 320), *fresh = session(&f, 320);
    eval(fresh, ids, 100);
    eval(fresh, ids + 100, 30);
    memcpy(want, nr_session_logits(fresh), sizeof want);
    eval(s, ids, 100);
    eval(s, other, 20);
    assert_true(distance(nr_session_logits(s), want, 40) > 1e-3);
    nr_session_rewind(s, 100);
    assert_int_equal(nr_session_position(s), 100);
    assert_null(nr_session_logits(s));
    assert_int_equal(nr_session_sample(s, &greedy), -1);
    eval(s, ids + 100, 30);
    assert_memory_equal(nr_session_logits(s), want, sizeof want);
    nr_session_rewind(s, 500); /* nothing to forget */
    assert_non_null(nr_session_logits(s));
    nr_session_close(s);
    nr_session_close(fresh);
    close_fixture(&f);
}

static void full_context_is_an_error(void **state)
{
    (void)state;
    fixture f;
    nr_error err = {0};
    int32_t ids[TOKENS], bad = 40;
    nr_session *s, *none;
    fill(ids, TOKENS);
    open_fixture(&f, fp32(), NULL);
    s = session(&f, 10);
    assert_int_equal(nr_session_eval(s, ids, 11, &err), NR_E_USAGE);
    assert_int_equal(nr_session_position(s), 0);
    eval(s, ids, 10);
    assert_int_equal(nr_session_eval(s, ids, 1, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "context: 10 tokens are full"));
    assert_int_equal(nr_session_position(s), 10);
    assert_non_null(nr_session_logits(s)); /* an error before any work keeps what there was */
    nr_session_rewind(s, 3);
    assert_int_equal(nr_session_eval(s, &bad, 1, &err), NR_E_FORMAT);
    assert_int_equal(nr_session_position(s), 3);
    nr_session_close(s);
    assert_int_equal(nr_session_new(&none, f.model, NULL, 641, &err), NR_E_USAGE);
    assert_null(none);
    close_fixture(&f);
}

static void nan_is_an_error(void **state)
{
    (void)state;
    fixture f;
    nr_error err = {0};
    int32_t ids[3] = {1, 2, 3};
    nr_sampling greedy = {0};
    open_fixture(&f, fp32(), "neutral");
    nr_real_set(f.model->ops, f.e->values, f.e->weights / 2, NAN);
    tiny_ok(nr_extension_repack(f.e, &err), &err);
    nr_session *s = session(&f, 8);
    assert_int_equal(nr_session_eval(s, ids, 3, &err), NR_E_NOT_FINITE);
    assert_non_null(strstr(err.message, "logits after token 3"));
    assert_int_equal(nr_session_sample(s, &greedy), -1);
    nr_session_close(s);
    close_fixture(&f);
}

static void generate(fixture *f, const nr_sampling *how, int32_t *out, size_t n)
{
    int32_t start[4] = {3, 1, 4, 1};
    nr_session *s = session(f, 64);
    eval(s, start, 4);
    for (size_t i = 0; i < n; i++) {
        out[i] = nr_session_sample(s, how);
        assert_int_equal(nr_session_sample(s, how), out[i]); /* drawing changes nothing */
        eval(s, &out[i], 1);
    }
    nr_session_close(s);
}

static void seed_decides(void **state)
{
    (void)state;
    fixture f;
    int32_t a[40], b[40], c[40];
    nr_sampling how = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 5};
    open_fixture(&f, fp32(), "neutral");
    generate(&f, &how, a, 40);
    nr_threads_set(3);
    generate(&f, &how, b, 40);
    nr_threads_set(0);
    assert_memory_equal(a, b, sizeof a);
    how.seed = 6;
    generate(&f, &how, c, 40);
    assert_memory_not_equal(a, c, sizeof a);
    close_fixture(&f);
}

/* With a penalty that no logit can overcome, no token comes back inside the window. */
static void penalty_looks_back_at_its_window(void **state)
{
    (void)state;
    fixture f;
    int32_t ids[30];
    nr_sampling how = {.temperature = 0, .repetition_penalty = 1e12, .repetition_window = 8};
    bool again = false;
    open_fixture(&f, fp32(), "neutral");
    generate(&f, &how, ids, 30);
    for (size_t i = 0; i < 30; i++)
        for (size_t k = 0; k < i; k++) {
            if (ids[k] != ids[i]) continue;
            assert_true(i - k > 8);
            again = true;
        }
    assert_true(again);
    close_fixture(&f);
}

static void off_is_the_backbone(void **state)
{
    (void)state;
    fixture f;
    int32_t ids[TOKENS];
    fill(ids, TOKENS);
    open_fixture(&f, fp32(), "neutral");
    nr_extension *e = f.e;
    nr_session *with = session(&f, 0);
    f.e = NULL;
    nr_session *without = session(&f, 0);
    f.e = e;
    eval(with, ids, 50);
    eval(without, ids, 50);
    assert_memory_not_equal(nr_session_logits(with), nr_session_logits(without), 40 * sizeof(float));
    nr_extension_switch(e, false);
    nr_session_rewind(with, 0);
    eval(with, ids, 50);
    assert_memory_equal(nr_session_logits(with), nr_session_logits(without), 40 * sizeof(float));
    nr_session_close(with);
    nr_session_close(without);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_is_the_same),
        cmocka_unit_test(rewound_is_never_seen),
        cmocka_unit_test(full_context_is_an_error),
        cmocka_unit_test(nan_is_an_error),
        cmocka_unit_test(seed_decides),
        cmocka_unit_test(penalty_looks_back_at_its_window),
        cmocka_unit_test(off_is_the_backbone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
