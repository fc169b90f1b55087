/*
 * fuzz_tasks.c - a definition, and rows read and filled by it: the input up to the first NUL is the definition, what
 * follows the rows. What is refused is one line.
 */
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_line(const nr_error *err)
{
    if (!*err->message || strchr(err->message, '\n')) abort();
}

static void read_rows(const nr_task *t, const char *text, size_t n, bool csv)
{
    nr_error err = {0};
    json_t *rows = json_array(), *headers = json_array(), *out;
    bool headless;
    for (size_t i = 0; i < json_array_size(t->layouts); i++)
        json_array_append(headers, json_object_get(json_array_get(t->layouts, i), "columns"));
    if (nr_task_rows_parse(rows, &headless, text, n, csv, headers, "rows", &err) != NR_OK) one_line(&err);
    for (size_t i = 0; i < json_array_size(rows) && i < 8; i++) {
        const char *const templates[] = {t->query, t->option, t->description};
        for (size_t k = 0; k < NR_COUNT(templates); k++) {
            if (!templates[k]) continue;
            if (nr_task_template_render(&out, templates[k], json_array_get(rows, i), "rows", &err) != NR_OK) one_line(&err);
            else if (!json_is_string(out) && !json_is_array(out)) abort();
            json_decref(out);
        }
    }
    json_decref(rows);
    json_decref(headers);
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
        for (int csv = 0; csv < 2 && end; csv++) read_rows(&t, (const char *)end + 1, size - n - 1, csv);
        nr_task_free(&t);
    }
    json_decref(j);
    return 0;
}
