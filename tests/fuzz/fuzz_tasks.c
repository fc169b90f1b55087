/*
 * fuzz_tasks.c - a definition, and rows read and filled by it: the input up to the first NUL is the definition, what
 * follows the rows, as JSONL and as CSV, up to the questions that would be asked. What is refused is one line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"
#include "tasks/tasks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_line(const nr_error *err)
{
    if (!*err->message || strchr(err->message, '\n')) abort();
}

static void fill(const nr_task *t, const json_t *row)
{
    const char *const templates[] = {t->query, t->option, t->description};
    nr_error err = {0};
    json_t *out;
    for (size_t k = 0; k < NR_COUNT(templates); k++) {
        if (!templates[k]) continue;
        if (nr_task_template_render(&out, templates[k], row, "rows", &err) != NR_OK) one_line(&err);
        else if (!json_is_string(out) && !json_is_array(out)) abort();
        json_decref(out);
    }
}

static void read_rows(const nr_task *t, const char *text, size_t n, bool csv)
{
    nr_error err = {0};
    json_t *rows = json_array(), *headers = json_array();
    bool headless;
    for (size_t i = 0; i < json_array_size(t->layouts); i++)
        json_array_append(headers, json_object_get(json_array_get(t->layouts, i), "columns"));
    if (nr_task_rows_parse(rows, &headless, text, n, csv, headers, "rows", &err) != NR_OK) one_line(&err);
    for (size_t i = 0; i < json_array_size(rows) && i < 8; i++) fill(t, json_array_get(rows, i));
    json_decref(rows);
    json_decref(headers);
}

static char folder[] = "/tmp/fuzz-tasks-XXXXXX";

static void remove_folder(void)
{
    nr_error ignored;
    nr_remove_folder(folder, &ignored);
}

/* The rows as the files t_test and t_train of a folder: a name of the text in memory. */
static void link_rows(const char *path, const char *ending)
{
    static const char *const splits[] = {"test", "train"};
    static bool made;
    char name[64];
    if (!made && (!mkdtemp(folder) || atexit(remove_folder) != 0)) abort();
    made = true;
    for (size_t i = 0; i < NR_COUNT(splits); i++) {
        snprintf(name, sizeof name, "%s/t_%s.jsonl", folder, splits[i]);
        unlink(name);
        snprintf(name, sizeof name, "%s/t_%s.csv", folder, splits[i]);
        unlink(name);
        snprintf(name, sizeof name, "%s/t_%s.%s", folder, splits[i], ending);
        if (symlink(path, name) != 0) abort();
    }
}

static void ask(const nr_task *t, const uint8_t *text, size_t n, bool csv)
{
    const char *folders[] = {folder};
    nr_items items = {0};
    nr_error err = {0};
    link_rows(memory_file(text, n), csv ? "csv" : "jsonl");
    if (nr_items_make(&items, t, folders, 1, NR_MIN(t->shots, (size_t)8), 4, NULL, &err) != NR_OK) one_line(&err);
    for (size_t i = 0; i < items.count; i++)
        if (items.items[i].answer >= items.items[i].choices || items.items[i].choices < 2) abort();
    nr_items_free(&items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    size_t n = end ? (size_t)(end - data) : size;
    json_t *j;
    nr_error err = {0};
    nr_task t;
    if (nr_json_parse(&j, (const char *)data, n, "definition", &err) != NR_OK) return 0;
    if (nr_task_read(&t, j, "t", "f", "definition", &err) != NR_OK) {
        one_line(&err);
    } else {
        for (int csv = 0; csv < 2 && end; csv++) {
            read_rows(&t, (const char *)end + 1, size - n - 1, csv);
            ask(&t, end + 1, size - n - 1, csv);
        }
        nr_task_free(&t);
    }
    json_decref(j);
    return 0;
}
