/*
 * test_tasks.c - task scores: against lm-evaluation-harness on made-up questions
 * (gen_tasks.py), with sharing against without, on the reference backend bit for
 * bit; with an extension; what is refused.
 */
#include "../testing.h"
#include "../tiny.h"

#include "tasks/tasks.h"

#define DATA NRES_FIXTURES "/tasks"

typedef struct {
    char folder[128];
    nr_model *model;
    nr_tokenizer *tokenizer;
    nr_extension *e;
} fixture;

static json_t *golden;
static const char *const data[] = {DATA}, *const definitions[] = {NRES_FIXTURES "/tasks/definitions", NRES_FIXTURES "/../../tasks"};

/* The random backbone that the golden figures are of. */
static void open_fixture(fixture *f, const nr_ops *ops, const char *method)
{
    nr_error err = {0};
    nr_settings s;
    char path[160], model[160];
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = nr_threads_get()};
    if (!golden) tiny_ok(nr_json_load(&golden, DATA "/golden.json", &err), &err);
    if (!ops) tiny_ok(nr_ops_cpu(&ops, NR_COMPUTE_FP32, &err), &err);
    snprintf(f->folder, sizeof f->folder, "/tmp/nres-tasks-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(path, sizeof path, "%s/config.json", f->folder);
    snprintf(model, sizeof model, "%s/model", f->folder);
    tiny_ok(nr_json_save(json_object_get(golden, "config"), path, &err), &err);
    tiny_ok(nr_model_init(path, NRES_FIXTURES "/tiny/tokenizer.json", model, (uint64_t)json_integer_value(json_object_get(golden, "seed")), &err), &err);
    tiny_ok(nr_model_open_on(&f->model, model, &opt, ops, &err), &err);
    tiny_ok(nr_tokenizer_open(&f->tokenizer, model, NULL, &err), &err);
    f->e = NULL;
    if (!method) return;
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    s.width = 2;
    tiny_ok(nr_extension_new(&f->e, f->model, &s, &err), &err);
}

static void close_fixture(fixture *f)
{
    nr_extension_close(f->e);
    nr_tokenizer_close(f->tokenizer);
    nr_model_close(f->model);
    nr_remove_folder(f->folder, NULL);
}

static nr_task_options options(const char *const *task)
{
    return (nr_task_options){.tasks = task, .task_count = 1, .definitions = definitions, .definition_count = NR_COUNT(definitions),
                             .data = data, .data_count = 1};
}

static json_t *score(const fixture *f, const nr_task_options *opt)
{
    char *text;
    nr_error err = {0};
    json_t *j;
    tiny_ok(nr_score_tasks(&text, f->model, f->tokenizer, f->e, opt, NULL, &err), &err);
    tiny_ok(nr_json_parse(&j, text, strlen(text), "result", &err), &err);
    free(text);
    return j;
}

static const json_t *task_of(const json_t *j) { return json_array_get(json_object_get(j, "tasks"), 0); }

/* Rows of the only samples file in a folder. */
static json_t *samples_of(const char *folder)
{
    char command[512];
    nr_error err = {0};
    nr_task_rows r;
    snprintf(command, sizeof command, "ls %s | grep '^samples_.*jsonl$' | head -n 1", folder);
    FILE *p = popen(command, "r");
    char name[256] = "";
    assert_non_null(p);
    assert_non_null(fgets(name, sizeof name, p));
    pclose(p);
    name[strcspn(name, "\n")] = '\0';
    snprintf(command, sizeof command, "%s/%s", folder, name);
    tiny_ok(nr_task_rows_read(&r, command, NULL, &err), &err);
    json_t *rows = json_incref(r.rows);
    nr_task_rows_free(&r);
    return rows;
}

static json_t *run_samples(const fixture *f, nr_task_options opt, json_t **result)
{
    char out[192], folder[224];
    snprintf(out, sizeof out, "%s/out", f->folder);
    snprintf(folder, sizeof folder, "%s/%s", out, f->e ? "extended" : "backbone");
    nr_remove_folder(out, NULL);
    opt.output = out;
    *result = score(f, &opt);
    return samples_of(folder);
}

/* ---- against lm-evaluation-harness ---- */

static void compare_sums(const char *task, const json_t *rows, const json_t *sums, const json_t *greedy)
{
    size_t i, k;
    const json_t *row, *sum;
    if (json_array_size(rows) != json_array_size(sums)) fail_msg("%s: %zu samples", task, json_array_size(rows));
    json_array_foreach(rows, i, row) {
        const json_t *pairs = json_object_get(row, "filtered_resps"), *want = json_array_get(sums, i);
        json_array_foreach(pairs, k, sum) {
            double x = strtod(json_string_value(json_array_get(sum, 0)), NULL), y = json_number_value(json_array_get(want, k));
            bool best = strcmp(json_string_value(json_array_get(sum, 1)), "True") == 0;
            if (!(fabs(x - y) <= 1e-4 * fabs(y))) fail_msg("%s: sample %zu choice %zu: expected %.9g, found %.9g", task, i, k, y, x);
            if (best != (json_integer_value(json_array_get(json_array_get(greedy, i), k)) == 1)) fail_msg("%s: sample %zu: greedy", task, i);
        }
    }
}

static void compare_figures(const char *task, const json_t *ours, const json_t *want)
{
    const char *key;
    const json_t *v;
    json_t *o = (json_t *)(uintptr_t)want;
    size_t seen = 0;
    json_object_foreach(o, key, v) {
        const json_t *mine = json_object_get(ours, key);
        if (!json_is_number(v)) continue;
        if (!json_is_number(mine) || !(fabs(json_number_value(mine) - json_number_value(v)) < 1e-9))
            fail_msg("%s: %s: expected %.9g, found %.9g", task, key, json_number_value(v), json_number_value(mine));
        seen++;
    }
    assert_true(seen >= 1);
}

static void equals_the_harness(void **state)
{
    (void)state;
    fixture f;
    size_t i;
    const json_t *c;
    open_fixture(&f, NULL, NULL);
    assert_true(json_array_size(json_object_get(golden, "cases")) >= 12);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        const char *task = json_string_value(json_object_get(c, "task"));
        size_t shots = (size_t)json_integer_value(json_object_get(c, "shots"));
        nr_task_options opt = options(&task);
        opt.shots = &shots;
        json_t *result, *rows = run_samples(&f, opt, &result);
        compare_sums(task, rows, json_object_get(c, "sums"), json_object_get(c, "greedy"));
        compare_figures(task, json_object_get(task_of(result), "backbone"), json_object_get(c, "figures"));
        size_t g;
        const json_t *group;
        json_array_foreach(json_object_get(task_of(result), "groups"), g, group)
            compare_figures(task, json_object_get(group, "backbone"),
                            json_object_get(json_object_get(c, "groups"), json_string_value(json_object_get(group, "group"))));
        json_decref(rows);
        json_decref(result);
    }
    close_fixture(&f);
}

/* ---- OLMES's normalisations ---- */

/* Of a question's choices the largest sum per character of what is scored, blank and all, or above that behind "Answer:". */
static int by_hand(const json_t *row, bool uncond)
{
    char key[32];
    int best = 0;
    double most = -INFINITY;
    for (int k = 0; k < (int)json_array_size(json_object_get(row, "choices")); k++) {
        const json_t *c = json_array_get(json_object_get(row, "choices"), (size_t)k);
        snprintf(key, sizeof key, "gen_args_%d", k);
        const char *text = json_string_value(json_object_get(json_object_get(json_object_get(row, "arguments"), key), "arg_1"));
        double sum = json_number_value(json_object_get(c, "sum_logits")), characters = 0;
        for (const char *p = text; *p; p++) characters += (*p & 0xC0) != 0x80;
        double v = uncond ? sum - json_number_value(json_object_get(c, "sum_logits_uncond")) : sum / characters;
        if (v > most) most = v, best = k;
    }
    return best;
}

static void normalises_as_olmes(void **state)
{
    (void)state;
    fixture f;
    static const char *const tasks[] = {"commonsense_qa:olmes-cloze", "m_mmlu_fr:olmes-cloze", "arc_challenge:olmes-cloze"};
    size_t i, differ = 0;
    const json_t *row;
    open_fixture(&f, NULL, NULL);
    for (size_t k = 0; k < NR_COUNT(tasks); k++) {
        nr_task_options opt = options(&tasks[k]);
        json_t *result, *rows = run_samples(&f, opt, &result);
        bool uncond = strcmp(json_string_value(json_object_get(task_of(result), "primary")), "acc_uncond") == 0;
        double right = 0;
        assert_int_equal(uncond, k != 1);
        json_array_foreach(rows, i, row) {
            const json_t *taken = json_object_get(row, "decisions");
            int best = by_hand(row, uncond);
            assert_int_equal(json_integer_value(json_object_get(taken, uncond ? "acc_uncond" : "acc_per_char")), best);
            differ += json_integer_value(json_object_get(taken, "acc")) != best;
            right += atoi(json_string_value(json_object_get(row, "target"))) == best;
        }
        double acc = json_number_value(json_object_get(json_object_get(task_of(result), "backbone"), uncond ? "acc_uncond" : "acc_per_char"));
        assert_true(fabs(acc - right / (double)i) < 1e-12);
        json_decref(rows);
        json_decref(result);
    }
    assert_true(differ > 0); /* else nothing is told apart */
    close_fixture(&f);
}

/* ---- sharing ---- */

/* Of all responses the texts, which hold 17 digits: equal texts are equal bits. */
static char *responses(const json_t *rows)
{
    size_t i;
    const json_t *row;
    json_t *all = json_array();
    json_array_foreach(rows, i, row) json_array_append(all, json_object_get(row, "resps"));
    char *text = json_dumps(all, 0);
    json_decref(all);
    return text;
}

static void sharing_changes_nothing(const char *method, const nr_ops *ops)
{
    static const char *const tasks[] = {"arc_challenge:olmes-cloze", "mmlu", "hellaswag"};
    fixture f;
    open_fixture(&f, ops, method);
    if (f.e) tiny_shake(f.e, 0.1);
    for (size_t i = method ? 2 : 0; i < NR_COUNT(tasks); i++) { /* the reference takes its time */
        nr_task_options opt = options(&tasks[i]);
        json_t *a, *b;
        opt.batch_tokens = 97; /* passes cut stretches anywhere */
        opt.limit = 2;
        json_t *rows = run_samples(&f, opt, &a);
        char *shared = responses(rows);
        opt.separate = true;
        opt.batch_tokens = 512;
        json_decref(rows);
        rows = run_samples(&f, opt, &b);
        char *separate = responses(rows);
        assert_string_equal(shared, separate);
        assert_true(json_integer_value(json_object_get(task_of(a), "computed_tokens")) * 2 <
                    json_integer_value(json_object_get(task_of(b), "computed_tokens")));
        assert_int_equal(json_integer_value(json_object_get(task_of(b), "computed_tokens")),
                         json_integer_value(json_object_get(task_of(b), "tokens")));
        free(shared);
        free(separate);
        json_decref(rows);
        json_decref(a);
        json_decref(b);
    }
    close_fixture(&f);
}

static void shares_on_the_reference(void **state) { (void)state, sharing_changes_nothing(NULL, nr_ops_reference(false)); }
static void shares_with_neutral(void **state) { (void)state, sharing_changes_nothing("neutral", nr_ops_reference(false)); }
static void shares_with_lora(void **state) { (void)state, sharing_changes_nothing("lora", nr_ops_reference(false)); }
static void shares_with_llama_pro(void **state) { (void)state, sharing_changes_nothing("llama-pro", nr_ops_reference(false)); }
static void shares_with_prefix(void **state) { (void)state, sharing_changes_nothing("prefix", nr_ops_reference(false)); }

/* ---- an extension ---- */

static void compares_models(void **state)
{
    (void)state;
    fixture f;
    static const char *const task = "hellaswag";
    open_fixture(&f, NULL, "neutral");
    nr_task_options opt = options(&task);
    json_t *fresh = score(&f, &opt);
    const json_t *t = task_of(fresh);
    assert_true(json_equal(json_object_get(t, "backbone"), json_object_get(t, "extended")));
    assert_true(json_number_value(json_object_get(json_object_get(t, "difference"), "acc")) == 0);
    tiny_shake(f.e, 0.3);
    json_t *result, *rows = run_samples(&f, opt, &result);
    t = task_of(result);
    double a = json_number_value(json_object_get(json_object_get(t, "backbone"), "acc"));
    double b = json_number_value(json_object_get(json_object_get(t, "extended"), "acc"));
    assert_true(fabs(json_number_value(json_object_get(json_object_get(t, "difference"), "acc")) - (b - a)) < 1e-12);
    assert_true(json_equal(json_object_get(task_of(fresh), "backbone"), json_object_get(t, "backbone")));
    json_decref(rows);
    json_decref(result);
    json_decref(fresh);
    close_fixture(&f);
}

/* ---- examples by their ids ---- */

static void shows_named_examples(void **state)
{
    (void)state;
    nr_error err = {0};
    nr_task t;
    nr_items items;
    tiny_ok(nr_task_open(&t, "arc_mutual:named", "harness", definitions, 1, &err), &err);
    tiny_ok(nr_items_make(&items, &t, data, 1, t.shots, 1, NULL, &err), &err);
    assert_string_equal(items.shots_from, "ids");
    assert_int_equal(items.count, 1);
    const char *five = strstr(items.items[0].context, "day 62"), *one = strstr(items.items[0].context, "day 61");
    assert_true(five && one && five < one);
    assert_true(strncmp(items.items[0].continuations[0], " ", 1) == 0);
    nr_items_free(&items);
    nr_task_free(&t);
}

/* ---- what is refused ---- */

static void refused(const fixture *f, const char *task, nr_task_options opt, nr_status want, const char *says)
{
    char *text = (char *)1;
    nr_error err = {0};
    opt.tasks = &task;
    assert_int_equal(nr_score_tasks(&text, f->model, f->tokenizer, NULL, &opt, NULL, &err), want);
    assert_null(text);
    if (!strstr(err.message, says)) fail_msg("\"%s\" doesn't say \"%s\"", err.message, says);
}

static bool stop_now(void *user) { return user != NULL; }

static void refuses(void **state)
{
    (void)state;
    fixture f;
    nr_error err = {0};
    char path[192];
    static const char *const none[] = {"/nonexistent"};
    const char *task = "piqa", *own[] = {f.folder};
    open_fixture(&f, NULL, NULL);
    nr_task_options opt = options(&task);
    size_t many = 40;
    refused(&f, "no_such_task", opt, NR_E_USAGE, "unknown task \"no_such_task\"; there are: arc_mutual, arc_challenge");
    refused(&f, "piqa:own", opt, NR_E_USAGE, "expected a format of it (harness, olmes-cloze, olmes-choice, paper), found \"own\"");
    opt.shots = &many;
    refused(&f, "piqa", opt, NR_E_FORMAT, "piqa_train.jsonl: expected 40 rows at least for the examples, found 4");
    refused(&f, "m_mmlu_fr", opt, NR_E_FORMAT, "expected 40 rows at least for the examples, found 6");
    opt = options(&task);
    opt.data = none;
    refused(&f, "piqa", opt, NR_E_IO, "expected a file of questions in /nonexistent, such as piqa_validation.jsonl");
    opt = options(&task);
    opt.context = 513;
    refused(&f, "piqa", opt, NR_E_USAGE, "context: expected 2 to 512 tokens (the model's), found 513");
    opt.context = 2;
    refused(&f, "piqa", opt, NR_E_FORMAT, "expected a choice of 1 to 2 tokens");
    opt = options(&task);
    opt.data = own;
    snprintf(path, sizeof path, "%s/piqa_validation.jsonl", f.folder);
    tiny_ok(nr_write_file(path, "{\"goal\": 1}\n", 12, &err), &err);
    refused(&f, "piqa", opt, NR_E_FORMAT, "row 1: expected the columns goal,sol1,sol2,label or question,options,answer, found goal");
    static const char row[] = "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 2}\n";
    tiny_ok(nr_write_file(path, row, sizeof row - 1, &err), &err);
    refused(&f, "piqa", opt, NR_E_FORMAT, "row 1: expected an answer that is one of its 2 choices, found \"2\"");
    nr_listener stop = {.user = &f, .stop = stop_now};
    char *text;
    opt = options(&task);
    assert_int_equal(nr_score_tasks(&text, f.model, f.tokenizer, NULL, &opt, &stop, &err), NR_E_INTERRUPTED);
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
        cmocka_unit_test(normalises_as_olmes),
        cmocka_unit_test(equals_the_harness),
        cmocka_unit_test(shares_on_the_reference),
        cmocka_unit_test(shares_with_neutral),
        cmocka_unit_test(shares_with_lora),
        cmocka_unit_test(shares_with_llama_pro),
        cmocka_unit_test(shares_with_prefix),
        cmocka_unit_test(compares_models),
        cmocka_unit_test(shows_named_examples),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
