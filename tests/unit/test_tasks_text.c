/*
 * test_tasks_text.c - what stands before a model's work on tasks: filters and
 * templates, Python's draws, rows of JSONL and CSV, definitions, decisions.
 */
#include "../testing.h"

#include <math.h>

#include "tasks/tasks.h"

static void ok(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

/* ---- filters ---- */

static void filters(void **state)
{
    (void)state;
    /* what Python 3.11 says of the same */
    static const char *const cases[][3] = {
        {"strip", " \t\xC2\xA0 a b \xE3\x80\x80\n", "a b"},
        {"lstrip", "  a ", "a "},
        {"rstrip", "  a\x1F", "  a"},
        {"capitalize", "hELLO World", "Hello world"},
        {"capitalize", "\xC3\x89LISE va \xC3\x80 L'\xC5\x92UVRE", "\xC3\x89lise va \xC3\xA0 l'\xC5\x93uvre"}, /* É, À, Œ */
        {"capitalize", "\xC5\x93uf", "\xC5\x92uf"},
        {"capitalize", "\xC7\x86" "A", "\xC7\x85" "a"}, /* a letter with a title case of its own */
        {"capitalize", "", ""},
        {"spaces", "high_school_us_history", "high school us history"},
        {"wikihow", " How to [title] Go   on [step] now [open ", "How to. Go  on now [open"},
        {"wikihow-olmes", "Stop. [title] Go [title] on", "Stop. Go. on"},
        {"wikihow", "a [x\ny] b", "a [x\ny] b"},
        {"letter", " B. a bank. Or so", "B"},
        {"letter", "C", "C"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_buffer b = {0};
        nr_text_filter f = nr_text_filter_find(cases[i][0], strlen(cases[i][0]));
        assert_non_null(f);
        f(&b, cases[i][1], strlen(cases[i][1]));
        assert_string_equal(b.data ? b.data : "", cases[i][2]);
        nr_buffer_free(&b);
    }
    assert_null(nr_text_filter_find("stri", 4));
    assert_int_equal(nr_text_characters("\xC3\x89" "a\xF0\x9F\x98\x80", 7), 3);
    assert_int_equal(nr_text_blank_tail("a \n", 3), 2);
    assert_int_equal(nr_text_blank_tail(" ", 1), 1);
}

/* ---- templates ---- */

static json_t *values(void)
{
    return json_pack("{s:s, s:i, s:{s:[s,s]}, s:n, s:[s,i], s:s, s:s}", "q", " Why? ", "n", 7, "choices", "text", "a ", " b", "none", "l", "x", 3, "options",
                     "\nA. one \nB. two\nB. again\nC.  three. A. ", "alone", "A. one\nC. two");
}

static void fills(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"Question: {{q}}\nAnswer:", "\"Question:  Why? \\nAnswer:\""}, {"{{ q | strip }}!", "\"Why?!\""},
        {"{{n}}", "\"7\""},          {"{{choices.text}}", "[\"a \", \" b\"]"},
        {"{{choices.text|strip}}", "[\"a\", \"b\"]"}, {"{{choices.text[1] | strip}}.", "\"b.\""},
        {"{{l}}", "[\"x\", \"3\"]"}, {"{{none?}}|{{gone?}}", "\"|\""},
        {"no place {x}", "\"no place {x}\""}, {"{{q|strip|capitalize}}", "\"Why?\""}, {"", "\"\""},
        {"{{options|lettered}}", "[\"one\", \"two\\nB. again\", \"three. A.\"]"}, {"{{options?| lettered |capitalize}}", "[\"One\", \"Two\\nb. again\", \"Three. a.\"]"},
    };
    json_t *v = values();
    nr_error err = {0};
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        json_t *out;
        ok(nr_task_template_check(cases[i][0], "t", &err), &err);
        ok(nr_task_template_render(&out, cases[i][0], v, "t", &err), &err);
        char *text = json_dumps(out, JSON_ENCODE_ANY);
        assert_string_equal(text, cases[i][1]);
        free(text);
        json_decref(out);
    }
    json_decref(v);
}

static void refuses_templates(void **state)
{
    (void)state;
    static const char *const unreadable[][2] = {
        {"{{q", "expected \"}}\" behind it"}, {"{{}}", "expected a name"},     {"{{q|nope}}", "expected a filter (strip"},
        {"{{q[x]}}", "expected .key or"},     {"{{q.}}", "expected .key or"},  {"{{q r}}", "expected a name, steps"},
        {"{{q|strip|}}", "expected a filter"}, {"{{q|strip|lettered}}", "or lettered before them"},
        {"x{{options|lettered}}", "expected it to be all of its template"}, {"{{options|lettered}} ", "all of its template"},
    };
    static const char *const unfillable[][2] = {
        {"{{gone}}", "t: \"{{gone}}\": expected such a value, found none (there are: q, n, choices, none, l, options, alone)"},
        {"{{none}}", "found none"},          {"x{{l}}", "expected text or a whole number"},
        {"{{choices}}", "expected text"},    {"{{l[9]}}", "found none"},
        {"{{q|lettered}}", "expected lines"}, {"{{alone|lettered}}", "expected lines"}, {"{{l|lettered}}", "expected lines"},
        {"{{alone|lettered}}.", "all of its template"},
    };
    json_t *v = values(), *out;
    nr_error err;
    for (size_t i = 0; i < NR_COUNT(unreadable); i++) {
        assert_int_equal(nr_task_template_check(unreadable[i][0], "t", &err), NR_E_FORMAT);
        if (!strstr(err.message, unreadable[i][1])) fail_msg("%s: %s", unreadable[i][0], err.message);
    }
    for (size_t i = 0; i < NR_COUNT(unfillable); i++) {
        assert_int_equal(nr_task_template_render(&out, unfillable[i][0], v, "t", &err), NR_E_FORMAT);
        assert_null(out);
        if (!strstr(err.message, unfillable[i][1])) fail_msg("%s: %s", unfillable[i][0], err.message);
    }
    json_decref(v);
}

/* ---- draws ---- */

static void draws_like_python(void **state)
{
    (void)state;
    nr_twister r;
    nr_error err = {0};
    size_t out[12];
    /* random.Random(seed).sample(range(n), k), twice each, of Python 3.11 */
    nr_twister_seed(&r, 1234);
    static const size_t want_1234_10042_6_0[] = {7220, 1914, 122, 1485, 9539, 572};
    ok(nr_twister_sample(&r, 10042, 6, out, &err), &err);
    assert_memory_equal(out, want_1234_10042_6_0, sizeof want_1234_10042_6_0);
    static const size_t want_1234_10042_6_1[] = {1375, 1612, 5810, 3879, 285, 504};
    ok(nr_twister_sample(&r, 10042, 6, out, &err), &err);
    assert_memory_equal(out, want_1234_10042_6_1, sizeof want_1234_10042_6_1);
    nr_twister_seed(&r, 1234);
    static const size_t want_1234_30_12_0[] = {24, 14, 3, 0, 2, 18, 1, 21, 25, 27, 11, 7};
    ok(nr_twister_sample(&r, 30, 12, out, &err), &err);
    assert_memory_equal(out, want_1234_30_12_0, sizeof want_1234_30_12_0);
    static const size_t want_1234_30_12_1[] = {0, 29, 25, 28, 11, 20, 19, 15, 23, 14, 4, 2};
    ok(nr_twister_sample(&r, 30, 12, out, &err), &err);
    assert_memory_equal(out, want_1234_30_12_1, sizeof want_1234_30_12_1);
    nr_twister_seed(&r, 1234);
    static const size_t want_1234_21_5_0[] = {14, 3, 0, 2, 1};
    ok(nr_twister_sample(&r, 21, 5, out, &err), &err);
    assert_memory_equal(out, want_1234_21_5_0, sizeof want_1234_21_5_0);
    static const size_t want_1234_21_5_1[] = {2, 3, 11, 7, 0};
    ok(nr_twister_sample(&r, 21, 5, out, &err), &err);
    assert_memory_equal(out, want_1234_21_5_1, sizeof want_1234_21_5_1);
    nr_twister_seed(&r, 0);
    static const size_t want_0_2000_5_0[] = {1729, 788, 1552, 1823, 861};
    ok(nr_twister_sample(&r, 2000, 5, out, &err), &err);
    assert_memory_equal(out, want_0_2000_5_0, sizeof want_0_2000_5_0);
    static const size_t want_0_2000_5_1[] = {82, 530, 1977, 1047, 995};
    ok(nr_twister_sample(&r, 2000, 5, out, &err), &err);
    assert_memory_equal(out, want_0_2000_5_1, sizeof want_0_2000_5_1);
    nr_twister_seed(&r, 1234);
    static const size_t want_1234_9_3_0[] = {7, 1, 0};
    ok(nr_twister_sample(&r, 9, 3, out, &err), &err);
    assert_memory_equal(out, want_1234_9_3_0, sizeof want_1234_9_3_0);
    static const size_t want_1234_9_3_1[] = {1, 0, 5};
    ok(nr_twister_sample(&r, 9, 3, out, &err), &err);
    assert_memory_equal(out, want_1234_9_3_1, sizeof want_1234_9_3_1);
    assert_int_equal(nr_twister_sample(&r, 3, 4, out, &err), NR_E_USAGE);
}

/* ---- rows ---- */

static json_t *parse(const char *text, bool csv, bool *headless, nr_status want, const char *says)
{
    json_t *rows = json_array(), *headers = json_pack("[[s,s]]", "a", "b");
    nr_error err = {0};
    nr_status st = nr_task_rows_parse(rows, headless, text, strlen(text), csv, headers, "file", &err);
    json_decref(headers);
    if (st != want) fail_msg("status %d: %s", st, err.message);
    if (says && !strstr(err.message, says)) fail_msg("\"%s\" doesn't say \"%s\"", err.message, says);
    return rows;
}

static void reads(const char *text, bool csv, bool headless, const char *want)
{
    bool found;
    json_t *rows = parse(text, csv, &found, NR_OK, NULL);
    char *dump = json_dumps(rows, JSON_COMPACT);
    assert_string_equal(dump, want);
    assert_int_equal(found, headless);
    free(dump);
    json_decref(rows);
}

static void reads_rows(void **state)
{
    (void)state;
    bool headless;
    reads("{\"a\":1}\n\n {\"a\":2}", false, false, "[{\"a\":1},{\"a\":2}]");
    reads(" [{\"a\":1},{\"a\":2}]", false, false, "[{\"a\":1},{\"a\":2}]");
    reads("b,a,c\r\n1,2,3\r\n", true, false, "[{\"b\":\"1\",\"a\":\"2\",\"c\":\"3\"}]");
    reads("\xEF\xBB\xBF" "a,b\n\"x, \"\"y\"\"\n z\",\n", true, false, "[{\"a\":\"x, \\\"y\\\"\\n z\",\"b\":\"\"}]");
    reads("x,b\n1,2", true, true, "[[\"x\",\"b\"],[\"1\",\"2\"]]");
    reads("", true, true, "[]");
    json_decref(parse("{\"a\":1}\n[2]\n", false, &headless, NR_E_FORMAT, "file line 2: expected a JSON object"));
    json_decref(parse("{\"a\":1}\n{\"a\"\n", false, &headless, NR_E_FORMAT, "file line 2: not JSON"));
    json_decref(parse("[1]", false, &headless, NR_E_FORMAT, "file: row 1: expected a JSON object"));
    json_decref(parse("a,b\n1\n", true, &headless, NR_E_FORMAT, "file line 2: expected 2 cells, as in the header, found 1"));
    json_decref(parse("a,b\n1,\"2\n\n", true, &headless, NR_E_FORMAT, "file line 2: expected a quote to end"));
    json_decref(parse("a,b\n1,\"2\"x\n", true, &headless, NR_E_FORMAT, "file line 2: expected a comma"));
    json_decref(parse("a,b\n1,\xFF\n", true, &headless, NR_E_FORMAT, "file line 2: expected UTF-8"));
}

/* A folder of CSV files without headers, as MMLU was published: their names are the subjects. */
static void reads_folders(void **state)
{
    (void)state;
    char folder[256], path[512];
    nr_error err = {0};
    nr_task t;
    nr_items items;
    const char *folders[] = {testing_folder(folder)}, *definitions[] = {NRES_FIXTURES "/../../tasks"};
    static const char algebra[] = "\"1, or 2?\",w,x,y,z,C\n", anatomy[] = "Where?,1,2,3,4,A\nWhen?,5,6,7,8,D\n";
    snprintf(path, sizeof path, "%s/mmlu/test", folder);
    ok(nr_make_folders(path, &err), &err);
    snprintf(path, sizeof path, "%s/mmlu/test/abstract_algebra_test.csv", folder);
    ok(nr_write_file(path, algebra, sizeof algebra - 1, &err), &err);
    snprintf(path, sizeof path, "%s/mmlu/test/anatomy_test.csv", folder);
    ok(nr_write_file(path, anatomy, sizeof anatomy - 1, &err), &err);
    ok(nr_task_open(&t, "mmlu", "harness", definitions, 1, &err), &err);
    ok(nr_items_make(&items, &t, folders, 1, 0, 0, NULL, &err), &err);
    assert_int_equal(items.count, 3);
    assert_int_equal(items.items[0].answer, 2);
    assert_int_equal(items.items[2].group, 1);
    assert_string_equal(json_string_value(json_array_get(items.groups, 0)), "abstract_algebra");
    assert_string_equal(items.items[0].context, "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
                                                "1, or 2?\nA. w\nB. x\nC. y\nD. z\nAnswer:");
    assert_string_equal(items.items[0].continuations[2], " C");
    nr_items_free(&items);
    nr_task_free(&t);
    nr_remove_folder(folder, NULL);
}

/* ---- definitions ---- */

static void refuses_definition(const char *text, const char *says)
{
    json_t *j;
    nr_error err = {0};
    nr_task t;
    ok(nr_json_parse(&j, text, strlen(text), "d.json", &err), &err);
    if (nr_task_read(&t, j, "t", "f", "d.json", &err) == NR_OK) fail_msg("expected a refusal: %s", says);
    if (!strstr(err.message, says)) fail_msg("\"%s\" doesn't say \"%s\"", err.message, says);
    json_decref(j);
}

#define HEAD "{\"names\": {\"t\": [\"t\"]}, \"splits\": {\"questions\": [\"test\"]}, \"layouts\": [{\"columns\": [\"q\"], " \
             "\"fields\": {\"question\": \"{{q}}\", \"choices\": \"{{c}}\", \"answer\": \"0\"}}], \"formats\": {\"f\": "

static void refuses_definitions(void **state)
{
    (void)state;
    json_t *j;
    nr_error err = {0};
    nr_task t;
    static const char good[] = HEAD "{\"like\": \"g\", \"shots\": 3}, \"g\": {\"query\": \"{{question}}\", \"metrics\": [\"acc_norm\", \"acc\"]}}}";
    ok(nr_json_parse(&j, good, sizeof good - 1, "d.json", &err), &err);
    ok(nr_task_read(&t, j, "t", "f", "d.json", &err), &err);
    assert_int_equal(t.shots, 3);
    assert_int_equal(t.primary, NR_D_acc_norm);
    assert_true(t.decides[NR_D_acc] && t.decides[NR_D_acc_norm] && !t.decides[NR_D_acc_uncond]);
    assert_string_equal(t.query, "{{question}}");
    nr_task_free(&t);
    json_decref(j);
    refuses_definition("[]", "d.json: expected an object");
    refuses_definition("{\"name\": 1}", "unknown key \"name\"");
    refuses_definition("{\"names\": {\"t/../x\": [\"a\"]}}", "expected letters, digits, _, - and .");
    refuses_definition(HEAD "{\"query\": \"{{x\", \"metrics\": [\"acc\"]}}}", "format \"f\": \"query\": \"{{x\": expected \"}}\"");
    refuses_definition(HEAD "{\"query\": \"x\", \"metrics\": [\"best\"]}}}", "\"metrics\": expected acc, acc_norm");
    refuses_definition(HEAD "{\"query\": \"x\", \"metrics\": [\"acc_uncond\"]}}}", "acc_uncond: expected \"unconditional\"");
    refuses_definition(HEAD "{\"query\": \"x\", \"metric\": [\"acc\"]}}}", "unknown key \"metric\"");
    refuses_definition(HEAD "{\"like\": \"f\", \"metrics\": [\"acc\"]}}}", "\"like\": expected a format that is like no other");
    refuses_definition(HEAD "{\"query\": \"x\", \"score\": \"both\", \"metrics\": [\"acc\"]}}}", "\"score\": expected \"text\" or \"label\"");
}

/* Every definition that comes with the program, in each of its formats. */
static void reads_own_definitions(void **state)
{
    (void)state;
    const char *folders[] = {NRES_FIXTURES "/../../tasks"};
    json_t *list;
    const json_t *task, *format;
    nr_error err = {0};
    size_t i, k, read = 0;
    ok(nr_task_catalogue(&list, folders, 1, &err), &err);
    assert_true(json_array_size(list) >= 30);
    json_array_foreach(list, i, task) {
        json_array_foreach(json_object_get(task, "formats"), k, format) {
            nr_task t;
            ok(nr_task_open(&t, json_string_value(json_object_get(task, "task")), json_string_value(format), folders, 1, &err), &err);
            read += t.about != NULL;
            nr_task_free(&t);
        }
        assert_true(k >= 4);
    }
    assert_true(read >= 120);
    json_decref(list);
}

/* ---- decisions ---- */

static void decides(void **state)
{
    (void)state;
    nr_choice_score c[3] = {{-4, NAN, -3, 4, 4, 1, 1, false}, {-6, NAN, -9, 12, 14, 3, 1, false}, {-4, NAN, -3, 2, 2, 2, 1, false}};
    assert_int_equal(nr_decide(NR_D_acc, c, 3), 0); /* the first of equals */
    assert_int_equal(nr_decide(NR_D_acc_norm, c, 3), 1);
    assert_int_equal(nr_decide(NR_D_acc_bytes, c, 3), 1);
    assert_int_equal(nr_decide(NR_D_acc_per_token, c, 3), 1);
    assert_int_equal(nr_decide(NR_D_acc_uncond, c, 3), 1);
    assert_int_equal(nr_decide(NR_D_acc_mutual_info, c, 3), 3); /* can't be said */
    /* the blank tips the scales: -4 / 4 > -6 / 5.9, but -4 / 5 < -6 / 8 */
    nr_choice_score d[2] = {{-4, NAN, NAN, 4, 4, 1, 1, false}, {-5.2, NAN, NAN, 5, 5, 1, 1, false}};
    assert_int_equal(nr_decide(NR_D_acc_norm, d, 2), 0);
    assert_int_equal(nr_decide(NR_D_acc_per_char, d, 2), 0);
    d[0].blank = 0;
    d[1].blank = 1;
    assert_int_equal(nr_decide(NR_D_acc_per_char, d, 2), 1);
    nr_mean m = {0};
    assert_true(isnan(nr_mean_value(&m)));
    for (int i = 0; i < 4; i++) nr_mean_add(&m, i == 0);
    assert_true(fabs(nr_mean_value(&m) - 0.25) < 1e-15);
    assert_true(fabs(nr_mean_stderr(&m) - 0.25) < 1e-15); /* sqrt(0.75 / 3 / 4) */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters),           cmocka_unit_test(fills),         cmocka_unit_test(refuses_templates),
        cmocka_unit_test(draws_like_python), cmocka_unit_test(reads_rows),    cmocka_unit_test(reads_folders),
        cmocka_unit_test(refuses_definitions), cmocka_unit_test(reads_own_definitions), cmocka_unit_test(decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
