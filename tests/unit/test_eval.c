/*
 * test_eval.c - scores of files: against transformers (gen_eval.py), against
 * a session that goes token by token, and against themselves under other
 * batches; what is refused.
 */
#include "../testing.h"
#include "../tiny.h"

#include "eval/eval.h"

#define DOCUMENTS NRES_FIXTURES "/eval/documents.jsonl"

typedef struct {
    char folder[128];
    nr_model *model;
    nr_tokenizer *tokenizer;
    nr_extension *e;
} fixture;

static json_t *golden;

static nr_status open_golden(json_t **j)
{
    nr_error err;
    nr_status st = nr_json_load(j, NRES_FIXTURES "/eval/tiny.json", &err);
    if (st != NR_OK) fail_msg("%s", err.message);
    return st;
}

/* The random backbone that the golden figures are of. */
static void open_fixture(fixture *f, const char *method)
{
    nr_error err = {0};
    nr_settings s;
    char path[160], model[160];
    const nr_ops *ops;
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = nr_threads_get()};
    if (!golden) open_golden(&golden);
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(golden, "seed"));
    tiny_ok(nr_ops_cpu(&ops, NR_COMPUTE_FP32, &err), &err);
    snprintf(f->folder, sizeof f->folder, "/tmp/nres-eval-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(path, sizeof path, "%s/config.json", f->folder);
    snprintf(model, sizeof model, "%s/model", f->folder);
    tiny_ok(nr_json_save(json_object_get(golden, "config"), path, &err), &err);
    tiny_ok(nr_model_init(path, NRES_FIXTURES "/tiny/tokenizer.json", model, seed, &err), &err);
    tiny_ok(nr_model_open_on(&f->model, model, &opt, ops, &err), &err);
    tiny_ok(nr_tokenizer_open(&f->tokenizer, model, NULL, &err), &err);
    f->e = NULL;
    if (!method) return;
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    s.width = 8;
    tiny_ok(nr_settings_set(&s, "layers", "1-3", &err), &err);
    tiny_ok(nr_extension_new(&f->e, f->model, &s, &err), &err);
}

static void close_fixture(fixture *f)
{
    nr_extension_close(f->e);
    nr_tokenizer_close(f->tokenizer);
    nr_model_close(f->model);
    nr_remove_folder(f->folder, NULL);
}

static json_t *evaluate(const fixture *f, const char *const *paths, size_t count, const nr_eval_options *opt)
{
    char *text;
    nr_error err = {0};
    nr_files files = {paths, count};
    json_t *j;
    tiny_ok(nr_evaluate(&text, f->model, f->tokenizer, f->e, &files, opt, NULL, &err), &err);
    tiny_ok(nr_json_parse(&j, text, strlen(text), "result", &err), &err);
    free(text);
    return j;
}

static json_t *evaluate_documents(const fixture *f, const nr_eval_options *opt)
{
    const char *path = DOCUMENTS;
    return evaluate(f, &path, 1, opt);
}

static const json_t *file_of(const json_t *j, size_t i) { return json_array_get(json_object_get(j, "files"), i); }

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("no number %s", key);
    return json_number_value(v);
}

static void near(const json_t *o, const char *key, double want, double tolerance)
{
    double v = number(o, key);
    if (!(fabs(v - want) <= tolerance)) fail_msg("%s: expected %.9g +- %g, found %.9g", key, want, tolerance, v);
}

static void equals_transformers(void **state)
{
    (void)state;
    fixture f;
    size_t i;
    const json_t *c;
    static const char *const figures[] = {"bits_per_byte", "bits_per_byte_stderr", "nats_per_token", "nats_per_token_stderr"};
    open_fixture(&f, NULL);
    assert_true(json_array_size(json_object_get(golden, "cases")) >= 4);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        nr_eval_options opt = {.context = (size_t)number(c, "context"), .stride = (size_t)number(c, "stride")};
        json_t *j = evaluate_documents(&f, &opt);
        const json_t *file = file_of(j, 0), *backbone = json_object_get(file, "backbone");
        near(file, "documents", number(c, "documents"), 0);
        near(file, "tokens", number(c, "tokens"), 0);
        near(file, "bytes", number(c, "bytes"), 0);
        for (size_t k = 0; k < NR_COUNT(figures); k++) near(backbone, figures[k], number(c, figures[k]), 1e-5);
        near(backbone, "perplexity", exp(number(c, "nats_per_token")), 1e-2);
        near(backbone, "perplexity_stderr", exp(number(c, "nats_per_token")) * number(c, "nats_per_token_stderr"), 1e-2);
        json_decref(j);
    }
    close_fixture(&f);
}

/* Leaves are equal within the tolerance, and nothing is missing. */
static void same(const json_t *a, const json_t *b, double tolerance)
{
    const char *key;
    const json_t *v;
    size_t i;
    assert_int_equal(json_typeof(a), json_typeof(b));
    if (json_is_object(a)) {
        assert_int_equal(json_object_size(a), json_object_size(b));
        json_object_foreach((json_t *)a, key, v) same(v, json_object_get(b, key), tolerance);
    } else if (json_is_array(a)) {
        assert_int_equal(json_array_size(a), json_array_size(b));
        json_array_foreach(a, i, v) same(v, json_array_get(b, i), tolerance);
    } else if (json_is_number(a)) {
        assert_true(fabs(json_number_value(a) - json_number_value(b)) <= tolerance);
    } else {
        assert_true(json_equal(a, b));
    }
}

static void batches_change_nothing(void **state)
{
    (void)state;
    fixture f;
    static const size_t tokens[] = {1, 100, 3000, 20000};
    nr_eval_options opt = {.context = 96};
    open_fixture(&f, "neutral");
    tiny_shake(f.e, 0.05);
    json_t *first = evaluate_documents(&f, &opt), *again = evaluate_documents(&f, &opt);
    same(first, again, 0);
    json_decref(again);
    nr_threads_set(3);
    again = evaluate_documents(&f, &opt);
    same(first, again, 0);
    nr_threads_set(0);
    json_decref(again);
    for (size_t i = 0; i < NR_COUNT(tokens); i++) {
        opt.batch_tokens = tokens[i];
        again = evaluate_documents(&f, &opt);
        same(first, again, 1e-5);
        json_decref(again);
    }
    json_decref(first);
    close_fixture(&f);
}

static void fresh_extension_is_the_backbone(void **state)
{
    (void)state;
    fixture f;
    nr_eval_options opt = {.context = 128};
    open_fixture(&f, "neutral");
    json_t *j = evaluate_documents(&f, &opt);
    const json_t *file = file_of(j, 0), *difference = json_object_get(file, "difference");
    assert_true(json_equal((json_t *)json_object_get(file, "backbone"), (json_t *)json_object_get(file, "extended")));
    near(difference, "bits_per_byte", 0, 0);
    near(difference, "bits_per_byte_stderr", 0, 0);
    near(difference, "nats_per_token", 0, 0);
    near(file, "kl", 0, 1e-12);
    near(file, "top1_agreement", 1, 0);
    json_decref(j);
    close_fixture(&f);
}

/* ---- a second way to the same figures: sessions, token by token ---- */

typedef struct {
    double nll[2], kl;
    size_t tokens, same;
} figures;

static double log_sum_exp(const float *x, size_t n)
{
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) top = fmax(top, (double)x[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - top);
    return top + log(sum);
}

static size_t best(const float *x, size_t n)
{
    size_t top = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[top]) top = i;
    return top;
}

static void add_token(figures *out, nr_session *const s[2], size_t V, int32_t target)
{
    const float *p = nr_session_logits(s[0]), *q = nr_session_logits(s[1]);
    double lp = log_sum_exp(p, V), lq = log_sum_exp(q, V);
    out->nll[0] += lp - (double)p[target];
    out->nll[1] += lq - (double)q[target];
    for (size_t i = 0; i < V; i++) {
        double a = (double)p[i] - lp, b = (double)q[i] - lq;
        out->kl += exp(a) * (a - b);
    }
    out->same += best(p, V) == best(q, V);
    out->tokens++;
}

static void score_by_sessions(const fixture *f, const char *text, figures *out)
{
    nr_error err = {0};
    nr_session *s[2];
    size_t n, size = strlen(text);
    int32_t *ids = malloc((size + 2) * sizeof *ids);
    tiny_ok(nr_prefix_token(ids, f->model, f->tokenizer, &err), &err);
    assert_int_equal(ids[0], 1);
    tiny_ok(nr_tokenizer_encode(f->tokenizer, text, size, false, ids + 1, size + 1, &n, &err), &err);
    for (int k = 0; k < 2; k++) tiny_ok(nr_session_new(&s[k], f->model, k ? f->e : NULL, 512, &err), &err);
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < 2; k++) tiny_ok(nr_session_eval(s[k], ids + i, 1, &err), &err);
        add_token(out, s, f->model->config->V, ids[i + 1]);
    }
    for (int k = 0; k < 2; k++) nr_session_close(s[k]);
    free(ids);
}

static const char text_file[] = "A first paragraph, short and plain.\nIt has two lines.\n\nUn second paragraphe, plus court.\n\n"
                                "Third: 1, 2, 3, 5, 8, 13.\n";
static const char *const text_documents[] = {"A first paragraph, short and plain.\nIt has two lines.",
                                             "Un second paragraphe, plus court.", "Third: 1, 2, 3, 5, 8, 13."};

static void equals_sessions(const char *method)
{
    fixture f;
    figures want = {0};
    nr_error err = {0};
    char path[192];
    const char *paths[] = {path};
    open_fixture(&f, method);
    tiny_shake(f.e, 0.2);
    snprintf(path, sizeof path, "%s/three.txt", f.folder);
    tiny_ok(nr_write_file(path, text_file, strlen(text_file), &err), &err);
    for (size_t i = 0; i < NR_COUNT(text_documents); i++) score_by_sessions(&f, text_documents[i], &want);
    json_t *j = evaluate(&f, paths, 1, NULL);
    const json_t *file = file_of(j, 0);
    double n = (double)want.tokens;
    near(file, "documents", 3, 0);
    near(file, "tokens", n, 0);
    near(json_object_get(file, "backbone"), "nats_per_token", want.nll[0] / n, 1e-5);
    near(json_object_get(file, "extended"), "nats_per_token", want.nll[1] / n, 1e-5);
    near(json_object_get(file, "difference"), "nats_per_token", (want.nll[1] - want.nll[0]) / n, 1e-5);
    near(file, "kl", want.kl / n, 1e-5);
    near(file, "top1_agreement", (double)want.same / n, 1e-12);
    assert_true(want.kl / n > 1e-4 && want.same < want.tokens); /* the extension does change something */
    json_decref(j);
    close_fixture(&f);
}

static void neutral_equals_sessions(void **state) { (void)state, equals_sessions("neutral"); }
static void lora_equals_sessions(void **state) { (void)state, equals_sessions("lora"); }

/* ---- gates ---- */

/* Gates and norm ratios of one text's scored rows, straight from a pass. */
static void observe(const fixture *f, const char *text, nr_observation *o, size_t *n)
{
    nr_error err = {0};
    nr_pass *p;
    size_t size = strlen(text), L = f->model->config->L;
    int32_t *ids = malloc((size + 2) * sizeof *ids);
    tiny_ok(nr_prefix_token(ids, f->model, f->tokenizer, &err), &err);
    tiny_ok(nr_tokenizer_encode(f->tokenizer, text, size, false, ids + 1, size + 1, n, &err), &err);
    nr_pass_options opt = {.B = 1, .T = *n + 1};
    nr_batch b = {.B = 1, .T = *n + 1, .ids = ids};
    o->gate = calloc(L * (*n + 1), sizeof(double));
    o->ffn_norm = calloc(L * (*n + 1), sizeof(double));
    o->ext_norm = calloc(L * (*n + 1), sizeof(double));
    nr_extension *e = f->e;
    tiny_ok(nr_pass_new(&p, f->model, &e, 1, &opt, &err), &err);
    nr_pass_observe(p, o);
    tiny_ok(nr_pass_forward(p, &b, &err), &err);
    nr_pass_free(p);
    free(ids);
}

static void layer_figures(void **state)
{
    (void)state;
    fixture f;
    nr_error err = {0};
    nr_observation o = {0};
    char path[192], *text;
    const char *paths[] = {path, path}, *one = text_documents[0];
    const int domains[] = {0, 1};
    nr_eval_options opt = {.documents = NR_DOCUMENTS_FILE, .domains = domains};
    size_t n;
    open_fixture(&f, "neutral");
    tiny_shake(f.e, 0.05);
    observe(&f, one, &o, &n);
    snprintf(path, sizeof path, "%s/one.txt", f.folder);
    tiny_ok(nr_write_file(path, one, strlen(one), &err), &err);
    json_t *j = evaluate(&f, paths, 2, &opt), *tokens, *parsed;
    json_t *layers = json_object_get(file_of(j, 0), "layers"), *auc = json_object_get(j, "gate_auc");
    assert_string_equal(json_string_value(json_object_get(file_of(j, 1), "domain")), "new");
    assert_int_equal(json_array_size(layers), 4);
    assert_true(json_is_null(json_object_get(json_array_get(layers, 0), "gate_mean"))); /* not extended */
    near(json_array_get(layers, 0), "ratio", 0, 0);
    for (size_t l = 1; l < 4; l++) {
        double g = 0, size = 0, ratio = 0;
        for (size_t i = l * (n + 1); i < l * (n + 1) + n; i++) { /* the last row predicts nothing */
            g += o.gate[i] / (double)n;
            size += fabs(o.gate[i]) / (double)n;
            ratio += o.ext_norm[i] / o.ffn_norm[i] / (double)n;
        }
        near(json_array_get(layers, l), "gate_mean", g, 1e-5);
        near(json_array_get(layers, l), "gate_abs_mean", size, 1e-5);
        near(json_array_get(layers, l), "ratio", ratio, 1e-5);
        assert_true(ratio > 1e-3 && size > 1e-3);
    }
    /* the same text as old and new can't be told apart */
    assert_int_equal(json_array_size(auc), 3);
    for (size_t i = 0; i < 3; i++) {
        near(json_array_get(auc, i), "layer", (double)i + 1, 0);
        near(json_array_get(auc, i), "auc", 0.5, 1e-12);
        near(json_array_get(auc, i), "auc_abs", 0.5, 1e-12);
        near(json_array_get(auc, i), "old_tokens", (double)n, 0);
    }
    /* by token: row i + 1 of the pass is token i's */
    tiny_ok(nr_token_gates(&text, f.model, f.tokenizer, f.e, &one, 1, &err), &err);
    tiny_ok(nr_json_parse(&parsed, text, strlen(text), "gates", &err), &err);
    tokens = json_object_get(json_array_get(json_object_get(parsed, "texts"), 0), "tokens");
    assert_int_equal(json_array_size(tokens), n);
    nr_buffer joined = {0};
    for (size_t i = 0; i < n; i++) {
        const json_t *t = json_array_get(tokens, i), *gates = json_object_get(t, "gates");
        double mean = 0;
        assert_true(json_is_null(json_array_get(gates, 0)));
        for (size_t l = 1; l < 4; l++) {
            double g = o.gate[l * (n + 1) + i + 1];
            assert_true(fabs(json_number_value(json_array_get(gates, l)) - g) < 1e-6);
            mean += g / 3;
        }
        near(t, "mean", mean, 1e-6);
        nr_buffer_text(&joined, json_string_value(json_object_get(t, "text")));
    }
    assert_string_equal(joined.data, one);
    nr_buffer_free(&joined);
    json_decref(parsed);
    json_decref(j);
    free(text);
    free(o.gate), free(o.ffn_norm), free(o.ext_norm);
    close_fixture(&f);
}

/* ---- what is refused ---- */

static void refused(const fixture *f, const char *path, nr_eval_options opt, nr_status want, const char *says)
{
    char *text = (char *)1;
    nr_error err = {0};
    nr_files files = {&path, 1};
    assert_int_equal(nr_evaluate(&text, f->model, f->tokenizer, f->e, &files, &opt, NULL, &err), want);
    assert_null(text);
    if (!strstr(err.message, says)) fail_msg("\"%s\" doesn't say \"%s\"", err.message, says);
}

static bool stop_now(void *user) { return user != NULL; }

static void refuses(void **state)
{
    (void)state;
    fixture f;
    nr_error err = {0};
    char empty[192], *text;
    const char *path = DOCUMENTS, *long_text;
    open_fixture(&f, "neutral");
    snprintf(empty, sizeof empty, "%s/empty.txt", f.folder);
    tiny_ok(nr_write_file(empty, "\n \n", 3, &err), &err);
    refused(&f, DOCUMENTS, (nr_eval_options){.context = 513}, NR_E_USAGE, "context: expected at most 512 tokens");
    refused(&f, DOCUMENTS, (nr_eval_options){.context = 64, .stride = 65}, NR_E_USAGE, "stride: expected 1 to the context, 64");
    refused(&f, DOCUMENTS, (nr_eval_options){.documents = 3}, NR_E_USAGE, "documents: expected 0 to 2, found 3");
    refused(&f, "/nonexistent/x.txt", (nr_eval_options){0}, NR_E_IO, "/nonexistent/x.txt");
    refused(&f, DOCUMENTS, (nr_eval_options){.text_field = "body"}, NR_E_FORMAT, "body");
    refused(&f, empty, (nr_eval_options){0}, NR_E_FORMAT, "found no document");
    nr_listener stop = {.user = &f, .stop = stop_now};
    nr_files files = {&path, 1};
    assert_int_equal(nr_evaluate(&text, f.model, f.tokenizer, f.e, &files, NULL, &stop, &err), NR_E_INTERRUPTED);
    char *many = calloc(1, 4000);
    memset(many, '7', 3999);
    long_text = many;
    assert_int_equal(nr_token_gates(&text, f.model, f.tokenizer, f.e, &long_text, 1, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "text 1: expected 1 to 511 tokens"));
    assert_int_equal(nr_token_gates(&text, f.model, f.tokenizer, NULL, &long_text, 1, &err), NR_E_UNSUPPORTED);
    free(many);
    nr_real_set(f.model->ops, f.e->values, 0, NAN);
    tiny_ok(nr_extension_repack(f.e, &err), &err);
    refused(&f, DOCUMENTS, (nr_eval_options){0}, NR_E_NOT_FINITE, "documents.jsonl: document 1: expected a finite loss");
    close_fixture(&f);
}

static void takes_the_first_documents(void **state)
{
    (void)state;
    fixture f;
    nr_eval_options opt = {.max_documents = 3};
    open_fixture(&f, NULL);
    json_t *j = evaluate_documents(&f, &opt);
    near(file_of(j, 0), "documents", 3, 0);
    assert_null(json_object_get(file_of(j, 0), "extended"));
    json_decref(j);
    close_fixture(&f);
}

static int finish(void **state)
{
    (void)state;
    json_decref(golden);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_transformers),
        cmocka_unit_test(batches_change_nothing),
        cmocka_unit_test(fresh_extension_is_the_backbone),
        cmocka_unit_test(neutral_equals_sessions),
        cmocka_unit_test(lora_equals_sessions),
        cmocka_unit_test(layer_figures),
        cmocka_unit_test(refuses),
        cmocka_unit_test(takes_the_first_documents),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
