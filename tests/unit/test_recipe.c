/* Recipes: what they expand to, how runs are called, and what is refused, with its line. */
#include "compare/compare.h"
#include "testing.h"

static char folder[256], path[300];

static int setup(void **state)
{
    (void)state;
    testing_folder(folder);
    snprintf(path, sizeof path, "%s/recipe.yaml", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

static const char head[] = "model: m\ntexts:\n  fr: {domain: new, train: fr.txt, test: fr-test.txt}\n"
                           "  en: {domain: old, train: en.txt, test: en-test.txt}\n  man: {domain: old, train: man.txt}\n";

static nr_status load(nr_recipe *r, const char *before, const char *text, const char *const *variables, size_t count, nr_error *err)
{
    nr_buffer b = {0};
    nr_buffer_text(&b, before);
    nr_buffer_text(&b, text);
    assert_int_equal(nr_write_file(path, b.data, b.size, NULL), NR_OK);
    nr_buffer_free(&b);
    return nr_recipe_load(r, path, variables, count, NRES_FIXTURES "/../../tasks", err);
}

static void loads(nr_recipe *r, const char *text)
{
    nr_error err;
    if (load(r, head, text, NULL, 0, &err) != NR_OK) fail_msg("%s", err.message);
}

static void refused_whole(const char *before, const char *text, const char *want)
{
    nr_recipe r;
    nr_error err = {0};
    assert_int_not_equal(load(&r, before, text, NULL, 0, &err), NR_OK);
    if (!strstr(err.message, want)) fail_msg("expected \"%s\" in: %s", want, err.message);
    assert_non_null(strstr(err.message, "recipe.yaml"));
    assert_null(strchr(err.message, '\n'));
}

static void refused(const char *text, const char *want) { refused_whole(head, text, want); }

static void names(const nr_recipe *r, const char *const *want, size_t count)
{
    for (size_t i = 0; i < r->run_count && i < count; i++) assert_string_equal(r->runs[i].name, want[i]);
    assert_int_equal(r->run_count, count);
}

static void grid(void **state)
{
    (void)state;
    nr_recipe r;
    loads(&r, "settings: {steps: 40, seed: [1, 2]}\nrows:\n  - {method: neutral, learning_rate: [0.001, 1e-2]}\n  - {method: lora}\ncontrols: []\n");
    static const char *const want[] = {"neutral,lr=0.001,seed=1", "neutral,lr=0.01,seed=1", "neutral,lr=0.001,seed=2", "neutral,lr=0.01,seed=2",
                                       "lora,seed=1", "lora,seed=2"};
    names(&r, want, NR_COUNT(want));
    assert_string_equal(r.runs[3].group, "neutral,lr=0.01");
    assert_int_equal(r.runs[3].s.seed, 2);
    assert_true(r.runs[3].s.learning_rate == 0.01);
    assert_int_equal(r.runs[3].s.steps, 40);
    for (size_t i = 0; i < r.run_count; i++)
        for (size_t k = 0; k < i; k++) assert_string_not_equal(r.runs[i].identity, r.runs[k].identity);
    nr_recipe_free(&r);
}

/* Two rows of one method are told apart by whatever differs; a row's own value goes before the shared one. */
static void what_differs(void **state)
{
    (void)state;
    nr_recipe r;
    loads(&r, "settings: {alpha: 3}\nrows:\n  - {method: neutral}\n  - {method: neutral, gate: sigmoid, ce: true, alpha: 1}\n"
              "  - {name: plain, method: neutral, gate: none, l1: false}\ncontrols: []\n");
    static const char *const want[] = {"neutral,gate=elu,alpha=3,ce=false", "neutral,gate=sigmoid,alpha=1,ce=true", "plain"};
    names(&r, want, NR_COUNT(want));
    assert_true(r.runs[0].s.alpha == 3 && r.runs[1].s.alpha == 1 && r.runs[2].s.alpha == 3);
    nr_recipe_free(&r);
}

static void controls(void **state)
{
    (void)state;
    nr_recipe r;
    loads(&r, "settings: {seed: [1, 2]}\nrows:\n  - {method: lora, learning_rate: [0.001, 0.01]}\n  - {method: neutral}\n");
    static const char *const want[] = {"lora,lr=0.001,seed=1", "lora,lr=0.01,seed=1", "lora,lr=0.001,seed=2", "lora,lr=0.01,seed=2", "neutral,seed=1",
                                       "neutral,seed=2", "backbone", "old-only,seed=1", "old-only,seed=2", "new-only,seed=1", "new-only,seed=2"};
    names(&r, want, NR_COUNT(want));
    assert_true(r.runs[7].s.old_share == 1 && r.runs[9].s.old_share == 0);
    char method[64];
    nr_setting_get(&r.runs[7].s, nr_setting_find("method"), method, sizeof method);
    assert_string_equal(method, "lora");
    assert_true(r.runs[7].s.learning_rate == 0.001);
    nr_recipe_free(&r);
    /* One that is a row already isn't made twice. */
    loads(&r, "rows:\n  - {method: lora, old_share: 0}\ncontrols: [new-only]\n");
    names(&r, (const char *const[]){"lora"}, 1);
    nr_recipe_free(&r);
}

static void texts(void **state)
{
    (void)state;
    nr_recipe r;
    loads(&r, "rows:\n  - {method: neutral, old: [en, [en, man], man]}\n  - {name: all, method: neutral, alpha: 2}\ncontrols: []\n");
    static const char *const want[] = {"neutral,old=en", "neutral,old=en+man", "neutral,old=man", "all"};
    names(&r, want, NR_COUNT(want));
    static const bool trains[4][3] = {{true, true, false}, {true, true, true}, {true, false, true}, {true, true, true}};
    for (size_t i = 0; i < 4; i++) assert_memory_equal(r.runs[i].trains_on, trains[i], sizeof trains[i]);
    nr_files files[4];
    const char **paths;
    assert_int_equal(nr_measure_files(&r, &r.runs[2], &paths, files, NULL), NR_OK);
    assert_int_equal(files[0].count, 1);
    assert_string_equal(strrchr(files[0].paths[0], '/'), "/man.txt");
    assert_int_equal(files[1].count, 1);
    assert_int_equal(files[2].count, 0);
    free(paths);
    nr_recipe_free(&r);
}

static void variables(void **state)
{
    (void)state;
    static const char *const set[] = {"TEXT=data", "S=7"};
    nr_recipe r;
    nr_error err;
    const char *text = "variables: {S: 3, D: own}\nmodel: ORG/NAME\ntexts:\n  a: {domain: new, train: $TEXT/a.txt, test: \"${D}/b$$.txt\"}\n"
                       "rows:\n  - {method: neutral, seed: $S, old_share: 0}\ncontrols: []\n";
    if (load(&r, "", text, set, 2, &err) != NR_OK) fail_msg("%s", err.message);
    assert_string_equal(r.model, "ORG/NAME");
    assert_string_equal(r.texts[0].train.paths[0], "data/a.txt"); /* as typed on the command line */
    char want[400];
    snprintf(want, sizeof want, "%s/own/b$.txt", folder);
    assert_string_equal(r.texts[0].test, want);
    assert_int_equal(r.runs[0].s.seed, 7);
    nr_recipe_free(&r);
    assert_int_not_equal(load(&r, "", text, set + 1, 1, &err), NR_OK);
    assert_non_null(strstr(err.message, ":4: $TEXT has no value; --set TEXT=VALUE gives it one"));
}

static void identity(void **state)
{
    (void)state;
    static const char row[] = "rows:\n  - {method: neutral%s}\ncontrols: []\n";
    static const char *const more[] = {"", ", threads: 3", ", alpha: 2", ", old: en"};
    char text[200], hash[4][65];
    for (size_t i = 0; i < 4; i++) {
        nr_recipe r;
        snprintf(text, sizeof text, row, more[i]);
        loads(&r, text);
        memcpy(hash[i], r.runs[0].identity, 65);
        nr_recipe_free(&r);
    }
    assert_string_equal(hash[0], hash[1]); /* the number of threads changes no bit */
    assert_string_not_equal(hash[0], hash[2]);
    assert_string_not_equal(hash[0], hash[3]);
}

static void refusals(void **state)
{
    (void)state;
    refused("rows:\n  - {method: neutral, bogus: 1}\n", ":7: \"bogus\": there is no such setting");
    refused("rows:\n  - {method: neutral}\n  - {method: bogus}\n", ":8: method: expected one of those of this build (neutral, lora");
    refused("rows:\n  - method: neutral\n    alpha:\n      - 1\n      - many\n", ":10: --alpha: expected a number");
    refused("rows:\n  - {method: neutral, alpha: []}\n", ":7: alpha: expected a value");
    refused("rows:\n  - {method: neutral, alpha: [[1]]}\n", ":7: alpha: expected a value in the list");
    refused("rows:\n  - {method: neutral, ce: true}\n", ":7: --ce: expected --gate sigmoid");
    refused("rows:\n  - {method: neutral, old: nowhere}\n", ":7: expected the name of an old text");
    refused("rows:\n  - {method: neutral, new: en}\n", ":7: expected the name of a new text");
    refused("rows:\n  - {method: neutral, old: [[]]}\n", ":7: old_share above 0 needs an old text");
    refused("rows:\n  - {method: neutral}\n  - {name: again, method: neutral}\n", ":8: the row repeats a run of line 7");
    refused("rows:\n  - {name: a/b, method: neutral}\n", ":7: name: expected letters");
    refused("rows: []\n", "rows: expected a list of 1");
    refused("rows: 3\n", ":6: rows: expected a list");
    refused("bogus: 1\nrows: [{method: neutral}]\n", ":6: a recipe: expected title|model|stands_on");
    refused("rows: [{method: neutral}]\ncontrols: [none]\n", ":7: controls: expected backbone, old-only or new-only");
    refused("rows: [{method: neutral}]\nevaluation: {weights: first}\n", ":7: weights: expected last or best");
    refused("rows: [{method: neutral}]\nevaluation: {context: -1}\n", ":7: context: expected a whole number");
    refused("rows: [{method: neutral}]\nsettings: {steps: 5, warmup_steps: 6}\n", "--warmup-steps: expected at most");
    refused_whole("", "texts: {a: {domain: new, train: x}}\nrows: [{method: neutral}]\n", "model: is missing");
    refused_whole("", "model: m\ntexts: {a: {domain: middle, train: x}}\n", ":2: a: domain: expected old or new, found middle");
    refused_whole("", "model: m\ntexts: {a: {domain: new, trains: x}}\n", ":2: a: expected domain|train|validation|test, found \"trains\"");
    refused_whole("", "model: m\ntexts: {a: {domain: new}}\n", "expected one with files to train on");
}

static void hostile(void **state)
{
    (void)state;
    refused_whole("", "a: &x 1\n", ":1: a recipe has no anchors");
    refused_whole("", "a: *x\n", "anchor");
    refused_whole("", "a: !!binary x\n", ":1: a recipe has no tags");
    refused_whole("", "a: 1\n---\nb: 1\n", ":2: expected");
    refused_whole("", "model: a\nmodel: b\n", ":2: \"model\" stands there twice");
    refused_whole("", "? [a]\n: b\n", "expected a word as key");
    refused_whole("", "a: \"\\0\"\n", "a zero byte");
    refused_whole("", "a: [1\n", "not YAML");
    refused_whole("", "[[[[[[[[[[[[[[1]]]]]]]]]]]]]]", "nested too deep");
    refused_whole("", "\n", "expected a recipe, found nothing");
    nr_buffer many = {0};
    nr_buffer_text(&many, "rows:\n  - {method: neutral, seed: [1");
    for (int i = 2; i < 2200; i++) nr_buffer_printf(&many, ",%d", i);
    nr_buffer_text(&many, "]}\n");
    refused(many.data, "expected at most 2000 runs");
    for (int i = 0; i < 100000; i++) nr_buffer_text(&many, "# padding of a large file\n");
    refused(many.data, "expected a recipe of at most");
    nr_buffer_free(&many);
}

int main(void)
{
    nr_yaml probe;
    nr_error err;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grid),      cmocka_unit_test(what_differs), cmocka_unit_test(controls), cmocka_unit_test(texts),
        cmocka_unit_test(variables), cmocka_unit_test(identity),     cmocka_unit_test(refusals), cmocka_unit_test(hostile),
    };
    if (nr_yaml_load(&probe, "/dev/null", &err) == NR_E_UNSUPPORTED) return 77; /* a build without libyaml */
    nr_yaml_free(&probe);
    return cmocka_run_group_tests(tests, setup, teardown);
}
