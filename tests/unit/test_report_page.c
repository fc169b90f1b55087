/* What a report reads, the final table and the page, with honest and hostile files. */
#include <math.h>

#include "report/report.h"
#include "testing.h"

static char folder[256];

static void write_text(const char *name, const char *text)
{
    char *path = nr_path_join(folder, name);
    nr_error err;
    assert_int_equal(nr_write_file(path, text, strlen(text), &err), NR_OK);
    free(path);
}

static int set_up(void **state)
{
    (void)state;
    testing_folder(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    nr_error err;
    return nr_remove_folder(folder, &err) == NR_OK ? 0 : -1;
}

static nr_status load(nr_report_data *d, const char *eval, const char *gates, const char *samples, nr_error *err)
{
    char *tasks = nr_path_join(folder, "tasks.json");
    char *paths[4] = {eval ? nr_path_join(folder, eval) : NULL, gates ? nr_path_join(folder, gates) : NULL,
                      samples ? nr_path_join(folder, samples) : NULL,
                      tasks && nr_path_exists(tasks) ? tasks : NULL};
    nr_report_files f = {folder, paths[0], NULL, paths[1], paths[2], paths[3]};
    nr_status st = nr_report_load(d, &f, err);
    for (size_t i = 0; i < 3; i++) free(paths[i]);
    free(tasks);
    return st;
}

#define STEP(n, loss) "{\"kind\": \"step\", \"step\": " #n ", \"lm_loss_new\": " #loss ", \"lm_loss_old\": null, \"tokens\": 2048, \"seconds\": 4, \"tokens_per_second\": 512}\n"
#define EVAL(n, bits)                                                                                                          \
    "{\"kind\": \"eval\", \"step\": " #n ", \"old\": {\"bits_per_byte\": 1.0, \"backbone_bits_per_byte\": 1.1, \"kl\": 0.02}, " \
    "\"new\": {\"bits_per_byte\": " #bits ", \"backbone_bits_per_byte\": 1.6}, "                                               \
    "\"layers\": [{\"layer\": 0, \"gate_auc\": 0.9, \"gate_auc_abs\": 0.9, \"old\": {\"mean_abs_gate\": 0.1, \"norm_ratio\": 0.2}, "                  \
    "\"new\": {\"mean_abs_gate\": 0.3, \"norm_ratio\": 0.4}}]}\n"

#define FILE_JSON(path, domain, before, after)                                                                                      \
    "{\"path\": \"" path "\", \"domain\": \"" domain "\", \"documents\": 3, \"tokens\": 100, \"bytes\": 300, "                      \
    "\"backbone\": {\"bits_per_byte\": " #before "}, \"extended\": {\"bits_per_byte\": " #after "}, "                               \
    "\"difference\": {\"bits_per_byte_stderr\": 0.01}, \"kl\": 0.0123, \"top1_agreement\": 0.9876, \"layers\": []}"

static void later_lines_win(void **state)
{
    (void)state;
    nr_report_data d;
    nr_error err;
    write_text("metrics.jsonl", EVAL(0, 1.6) STEP(1, 3.0) STEP(2, 2.9) STEP(3, 2.8) EVAL(3, 1.5) "\n" STEP(2, 2.0) STEP(3, 1.9) "{\"kind\": \"eval\", \"st");
    assert_int_equal(load(&d, NULL, NULL, NULL, &err), NR_OK);
    assert_int_equal(json_array_size(d.steps), 3);
    assert_true(nr_report_number(json_array_get(d.steps, 1), "lm_loss_new") == 2.0);
    assert_int_equal(json_array_size(d.evals), 2);
    assert_int_equal(d.bad_lines, 1);
    assert_true(isnan(nr_report_number(json_array_get(d.steps, 0), "lm_loss_old")));
    assert_true(isnan(nr_report_number(json_array_get(d.steps, 0), "a.b.c")));
    assert_null(nr_report_string(json_array_get(d.steps, 0), "step"));
    nr_report_free(&d);
}

static void what_is_missing_or_broken(void **state)
{
    (void)state;
    nr_report_data d;
    nr_error err;
    assert_int_equal(load(&d, NULL, NULL, NULL, &err), NR_E_IO);
    write_text("metrics.jsonl", "\n");
    assert_int_equal(load(&d, NULL, NULL, NULL, &err), NR_E_FORMAT);
    write_text("metrics.jsonl", STEP(1, 3.0));
    assert_int_equal(load(&d, "absent.json", NULL, NULL, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "absent.json"));
    write_text("list.json", "[]");
    assert_int_equal(load(&d, "list.json", NULL, NULL, &err), NR_E_FORMAT);
    write_text("config.json", "{");
    assert_int_equal(load(&d, NULL, NULL, NULL, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "config.json"));
}

static void the_table(void **state)
{
    (void)state;
    nr_report_data d;
    nr_error err;
    nr_buffer b = {0};
    write_text("metrics.jsonl", STEP(7, 3.0));
    write_text("usage.json", "{\"memory_peak\": 1610612736}");
    write_text("extension_config.json", "{\"method\": \"neutral\", \"weights\": 26974080, \"share_of_all_weights\": 0.2005, \"share_of_non_embedding_weights\": 0.254}");
    write_text("eval.json", "{\"files\": [" FILE_JSON("/a/b/en-pubmed.test.jsonl", "old", 1.1, 1.05) "," FILE_JSON("a-very-long-name-indeed.txt", "new", 1.6, 1.2) "]}");
    assert_int_equal(load(&d, "eval.json", NULL, NULL, &err), NR_OK);
    nr_report_table(&b, &d, NR_TABLE_TEXT);
    static const char *const lines[] = {"bits per byte      en-pubmed a-very-long-", "backbone              1.1000       1.6000", "neutral res.          1.0500       1.2000",
                                        "extension off         1.1000       1.6000", "difference           -0.0500      -0.4000", "KL, nats/token        0.0123       0.0123",
                                        "same choice, %         98.76        98.76", "26,974,080: 20.05 % of all, 25.40 %", "7 steps, 2,048 tokens, 512 tokens/s", "1.50 GiB"};
    for (size_t i = 0; i < NR_COUNT(lines); i++) assert_non_null(strstr(b.data, lines[i]));
    for (const char *p = b.data; *p;) {
        size_t n = strcspn(p, "\n");
        assert_true(n <= 80);
        p += n + (p[n] == '\n');
    }
    json_t *r = nr_report_results(&d);
    assert_true(nr_report_number(json_array_get(json_object_get(r, "sets"), 1), "extended") == 1.2);
    assert_true(fabs(nr_report_number(json_array_get(json_object_get(r, "sets"), 0), "difference") + 0.05) < 1e-12);
    json_decref(r);
    b.size = 0;
    nr_report_table(&b, &d, NR_TABLE_MARKDOWN);
    assert_non_null(strstr(b.data, "| bits per byte | en-pubmed | a-very-long-name-indeed |\n|---|---:|---:|\n"));
    nr_buffer_free(&b);
    nr_report_free(&d);
}

static void without_an_evaluation(void **state)
{
    (void)state;
    nr_report_data d;
    nr_error err;
    nr_buffer b = {0};
    write_text("metrics.jsonl", EVAL(0, 1.6) STEP(1, 3.0) STEP(2, 2.0) EVAL(2, 1.2));
    assert_int_equal(load(&d, NULL, NULL, NULL, &err), NR_OK);
    nr_buffer_text(&b, "");
    nr_report_table(&b, &d, NR_TABLE_TEXT);
    assert_string_equal(b.data, "");
    assert_null(nr_report_results(&d));
    nr_report_page(&b, &d);
    assert_non_null(strstr(b.data, "<b>-25.0 %</b>")); /* 1.6 to 1.2 on validation */
    assert_non_null(strstr(b.data, "aria-labelledby=\"gates-t gates-d\""));
    assert_non_null(strstr(b.data, "aria-labelledby=\"detector-t detector-d\""));
    nr_buffer_free(&b);
    nr_report_free(&d);
}

#define EVIL "</script><script>alert(1)</script>"

static void hostile_strings_stay_text(void **state)
{
    (void)state;
    nr_report_data d;
    nr_error err;
    nr_buffer b = {0};
    write_text("metrics.jsonl", STEP(1, 3.0) EVAL(1, 1e999) EVAL(2, 1.2));
    write_text("config.json", "{\"command\": \"" EVIL "\", \"settings\": {\"" EVIL "\": \"" EVIL "\", \"x\": [\"" EVIL "\"]}}");
    write_text("extension_config.json", "{\"method\": \"" EVIL "\", \"weights\": \"" EVIL "\", \"backbone\": {\"name\": \"" EVIL "\"}}");
    write_text("eval.json", "{\"files\": [" FILE_JSON("/x" EVIL "\\n|`.txt", "" EVIL "", 1.1, 1.05) ", 3, {}], \"gate_auc\": [null, {\"auc\": \"x\"}]}");
    write_text("gates.json", "{\"texts\": [{\"tokens\": [{\"text\": \"" EVIL "\", \"gates\": [0.5, null, \"x\"]}, {\"text\": \"" EVIL "\"}, 7]}, 8]}");
    write_text("samples.json", "{\"samples\": [{\"before\": {\"prompt\": \"" EVIL "\", \"text\": \"\\u0007\\u001b[31m " EVIL "\"}, \"after\": {\"text\": \"" EVIL "\"}}]}");
    write_text("tasks.json", "{\"tasks\": [{\"task\": \"" EVIL "|\\u0007\", \"format\": \"" EVIL "\", \"primary\": \"" EVIL "\"}, 7, "
                             "{\"items\": 1e300, \"chance\": -1e300, \"backbone\": {\"acc\": 1e300, \"acc_stderr\": null}}]}");
    assert_int_equal(load(&d, "eval.json", "gates.json", "samples.json", &err), NR_OK);
    nr_report_page(&b, &d);
    assert_null(strstr(b.data, "<script>alert"));
    size_t escaped = 0, scripts = 0;
    for (const char *p = b.data; (p = strstr(p, "&lt;script&gt;alert(1)")); p++) escaped++;
    for (const char *p = b.data; (p = strstr(p, "<script")); p++) scripts++;
    assert_true(escaped >= 8);
    assert_int_equal(scripts, 1);
    assert_null(strstr(b.data, "http:")); /* nothing is fetched */
    assert_null(strstr(b.data, "https:"));
    b.size = 0;
    nr_report_table(&b, &d, NR_TABLE_TEXT);
    nr_report_samples(&b, &d);
    nr_report_task_table(&b, &d, NR_TABLE_TEXT);
    for (size_t i = 0; i < b.size; i++) assert_true((unsigned char)b.data[i] >= 0x20 || b.data[i] == '\n');
    b.size = 0;
    nr_report_table(&b, &d, NR_TABLE_MARKDOWN);
    nr_report_task_table(&b, &d, NR_TABLE_MARKDOWN);
    assert_null(strstr(b.data, "<script>"));
    nr_buffer_free(&b);
    nr_report_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(later_lines_win, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_or_broken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_an_evaluation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_strings_stay_text, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
