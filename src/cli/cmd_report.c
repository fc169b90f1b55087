/*
 * cmd_report.c - nres report: a run as one page with its drawings, or its final
 * table as text, Markdown and JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "report/report.h"

extern const nr_command nr_command_report;

static const char *output, *eval, *before, *gates, *samples, *tasks, *markdown, *results;
static bool table, json;

static const nr_option options[] = {
    {"eval", 0, 's', "FILE", "what nres eval --json printed for the trained extension", &eval, 0, 0},
    {"before", 0, 's', "FILE", "what nres eval --json printed for the backbone alone", &before, 0, 0},
    {"gates", 0, 's', "FILE", "what nres eval --token-gates wrote", &gates, 0, 0},
    {"samples", 0, 's', "FILE", "continuations: {\"samples\": [{\"before\", \"after\"}]}, each as nres generate --json prints it", &samples, 0, 0},
    {"tasks", 0, 's', "FILE", "what nres eval --tasks --json printed for backbone and extension", &tasks, 0, 0},
    {"output", 'o', 's', "FILE", "page to write; its drawings go into a folder beside it [RUN/report.html]", &output, 0, 0},
    {"table", 0, 'b', NULL, "print the final table instead of writing a page", &table, 0, 0},
    {"markdown", 0, 's', "FILE", "write the final table as Markdown too", &markdown, 0, 0},
    {"results", 0, 's', "FILE", "write the final table as JSON too", &results, 0, 0},
    {"json", 0, 'b', NULL, "print the final table as JSON instead of writing a page", &json, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

static nr_status write_results(const nr_report_data *d, nr_error *err)
{
    json_t *r = nr_report_results(d);
    nr_status st = r ? nr_json_save(r, results, err) : NR_OK;
    json_decref(r);
    return st;
}

static nr_status write_markdown(const nr_report_data *d, nr_error *err)
{
    nr_buffer b = {0};
    nr_buffer_text(&b, "# Results\n\n");
    nr_report_table(&b, d, NR_TABLE_MARKDOWN);
    if (d->tasks) nr_buffer_text(&b, "\n");
    nr_report_task_table(&b, d, NR_TABLE_MARKDOWN);
    nr_status st = b.failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory for the table", markdown) : nr_write_file(markdown, b.data, b.size, err);
    nr_buffer_free(&b);
    return st;
}

static void print_results(const nr_report_data *d)
{
    nr_buffer b = {0};
    json_t *r = nr_report_results(d);
    char *text = r && json ? json_dumps(r, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9)) : NULL;
    nr_report_table(&b, d, NR_TABLE_TEXT);
    if (d->tasks) nr_buffer_text(&b, "\n");
    nr_report_task_table(&b, d, NR_TABLE_TEXT);
    nr_report_samples(&b, d);
    if (json) puts(text ? text : "null");
    else if (b.data) fputs(b.data, stdout);
    free(text);
    json_decref(r);
    nr_buffer_free(&b);
}

/* The page, and the drawings in a folder of its name without the ending. */
static nr_status write_page(const nr_report_data *d, nr_error *err)
{
    char *path = output ? nr_strdup(output) : nr_path_join(d->run, "report.html");
    char *folder = path ? nr_strdup(path) : NULL;
    nr_status st = NR_OK;
    if (!folder) st = nr_fail(err, NR_E_MEMORY, "report: out of memory for a path");
    if (st == NR_OK) {
        char *dot = strrchr(folder, '.'), *slash = strrchr(folder, '/');
        bool ending = dot && dot != folder && (!slash || dot > slash + 1);
        if (ending) *dot = 0;
        st = nr_report_write(d, path, ending ? folder : NULL, err);
        if (st == NR_OK) printf("%s\n", path);
    }
    free(path);
    free(folder);
    return st;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_report_data d;
    nr_error err;
    int code = nr_cli_parse(&nr_command_report, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (words.count != 1) return nr_cli_usage(&nr_command_report, "expected one run's folder, found %zu words", words.count);
    if ((table || json || markdown || results) && !eval) return nr_cli_usage(&nr_command_report, "the final table needs --eval");
    nr_report_files files = {words.items[0], eval, before, gates, samples, tasks};
    if (nr_report_load(&d, &files, &err) != NR_OK) return nr_cli_fail(&err);
    if (d.bad_lines) fprintf(stderr, "nres: %zu lines of the metrics are cut off or no JSON and were left out\n", d.bad_lines);
    nr_status st = NR_OK;
    if (markdown) st = write_markdown(&d, &err);
    if (st == NR_OK && results) st = write_results(&d, &err);
    if (st == NR_OK && (table || json)) print_results(&d);
    else if (st == NR_OK) st = write_page(&d, &err);
    nr_report_free(&d);
    return st == NR_OK ? 0 : nr_cli_fail(&err);
}

const nr_command nr_command_report = {
    .name = "report",
    .summary = "a run as one page: learning, forgetting, gates, results",
    .usage = "nres report RUN [--eval FILE] [--before FILE] [--gates FILE] [--tasks FILE] [-o report.html]",
    .examples = "nres eval -m MODEL -x runs/french --old en.jsonl --new fr.jsonl --json > eval.json\n"
                "nres report runs/french --eval eval.json\n"
                "nres report runs/french --eval eval.json --table",
    .run = run,
    .options = option_list,
};
