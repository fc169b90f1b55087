/*
 * report_tasks.c - the table of task scores: a line a task with how many
 * questions it rests on, what guessing would get, and how many the backbone
 * and the extended model answer, with standard errors; the difference is
 * paired, question by question.
 */
#include <math.h>
#include <string.h>

#include "report/report.h"

enum { NAME = 21, ITEMS = 6, GUESS = 8, FIGURE = 15 }; /* characters: 21 + 6 + 8 + 3 * 15 = 80 columns */

static void set(json_t *o, const char *key, double v) { json_object_set_new(o, key, isfinite(v) ? json_real(v) : json_null()); }

/* The figure that decides, of one model. */
static void set_figure(json_t *to, const char *model, const json_t *task, const char *metric)
{
    char path[128], key[64];
    snprintf(path, sizeof path, "%.20s.%.40s", model, metric);
    set(to, model, nr_report_number(task, path));
    snprintf(path, sizeof path, "%.20s.%.40s_stderr", model, metric);
    snprintf(key, sizeof key, "%.20s_stderr", model);
    set(to, key, nr_report_number(task, path));
}

static json_t *task_json(const json_t *task)
{
    static const char *const texts[] = {"task", "format", "about"};
    const char *metric = nr_report_string(task, "primary");
    json_t *o = json_object();
    for (size_t i = 0; i < NR_COUNT(texts); i++)
        if (nr_report_string(task, texts[i])) json_object_set(o, texts[i], json_object_get(task, texts[i]));
    json_object_set_new(o, "decided_by", json_string(metric ? metric : "acc"));
    set(o, "shots", nr_report_number(task, "shots"));
    set(o, "items", nr_report_number(task, "items"));
    set(o, "chance", nr_report_number(task, "chance"));
    set_figure(o, "backbone", task, metric ? metric : "acc");
    set_figure(o, "extended", task, metric ? metric : "acc");
    set_figure(o, "difference", task, metric ? metric : "acc");
    return o;
}

json_t *nr_report_tasks(const nr_report_data *d)
{
    const json_t *tasks = json_object_get(d->tasks, "tasks"), *task;
    size_t i;
    if (json_array_size(tasks) == 0) return NULL;
    json_t *list = json_array();
    json_array_foreach(tasks, i, task) json_array_append_new(list, task_json(task));
    return list;
}

/* ---- three forms of one table ---- */

/* A name out of a file is escaped where the form has a syntax, and cut to its column in text. */
static void first_cell(nr_buffer *b, nr_table_form form, const char *text, bool head)
{
    nr_buffer safe = {0};
    char cut[NAME] = "";
    switch (form) {
    case NR_TABLE_TEXT:
        snprintf(cut, sizeof cut, "%s", text);
        for (char *p = cut; *p; p++)
            if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7F) *p = '?';
        nr_buffer_printf(b, "%-*s", NAME, cut);
        break;
    case NR_TABLE_MARKDOWN:
        nr_escape(&safe, text);
        for (size_t i = 0; i < safe.size; i++)
            if (strchr("|\n`\\", safe.data[i])) safe.data[i] = ' ';
        nr_buffer_printf(b, "| %s |", safe.data ? safe.data : "");
        break;
    case NR_TABLE_HTML:
        nr_buffer_text(b, head ? "<tr><th scope=\"col\">" : "<tr><th scope=\"row\">");
        nr_escape(b, text);
        nr_buffer_text(b, "</th>");
        break;
    }
    nr_buffer_free(&safe);
}

static void cell(nr_buffer *b, nr_table_form form, int width, const char *text, bool head)
{
    switch (form) {
    case NR_TABLE_TEXT: nr_buffer_printf(b, "%*s", width, text); break;
    case NR_TABLE_MARKDOWN: nr_buffer_printf(b, " %s |", text); break;
    case NR_TABLE_HTML: nr_buffer_printf(b, head ? "<th scope=\"col\">%s</th>" : "<td>%s</td>", text); break;
    }
}

static void end_row(nr_buffer *b, nr_table_form form) { nr_buffer_text(b, form == NR_TABLE_HTML ? "</tr>\n" : "\n"); }

static void heading(nr_buffer *b, nr_table_form form)
{
    static const char *const names[] = {"items", "chance", "backbone", "extended", "difference"};
    static const int widths[] = {ITEMS, GUESS, FIGURE, FIGURE, FIGURE};
    if (form == NR_TABLE_HTML) nr_buffer_text(b, "<table class=\"results\"><thead>");
    first_cell(b, form, "correct answers, %", true);
    for (size_t i = 0; i < NR_COUNT(names); i++) cell(b, form, widths[i], names[i], true);
    end_row(b, form);
    if (form == NR_TABLE_MARKDOWN) nr_buffer_text(b, "|---|---:|---:|---:|---:|---:|\n");
    if (form == NR_TABLE_HTML) nr_buffer_text(b, "</thead><tbody>");
}

/* "45.3 +- 1.2": per cent with its standard error, where there is one. */
static void figure_cell(nr_buffer *b, nr_table_form form, const json_t *task, const char *model, bool sign)
{
    char text[48] = "-", key[64];
    snprintf(key, sizeof key, "%.20s_stderr", model);
    double v = 100 * nr_report_number(task, model), e = 100 * nr_report_number(task, key);
    const char *pm = form == NR_TABLE_TEXT ? "+-" : form == NR_TABLE_HTML ? "&plusmn;" : "±";
    if (isfinite(v) && isfinite(e)) snprintf(text, sizeof text, sign ? "%+.1f %s %.1f" : "%.1f %s %.1f", v, pm, e);
    else if (isfinite(v)) snprintf(text, sizeof text, sign ? "%+.1f" : "%.1f", v);
    cell(b, form, FIGURE, text, false);
}

static void row(nr_buffer *b, nr_table_form form, const json_t *task)
{
    const char *name = nr_report_string(task, "task"), *format = nr_report_string(task, "format");
    double items = nr_report_number(task, "items"), chance = 100 * nr_report_number(task, "chance");
    bool usual = !format || strcmp(format, "harness") == 0;
    nr_buffer full = {0};
    char text[32] = "-";
    nr_buffer_printf(&full, "%s%s%s", name ? name : "?", usual ? "" : ":", usual ? "" : format);
    first_cell(b, form, full.data ? full.data : "?", false);
    if (isfinite(items)) snprintf(text, sizeof text, "%.0f", items);
    cell(b, form, ITEMS, text, false);
    snprintf(text, sizeof text, isfinite(chance) ? "%.1f" : "-", chance);
    cell(b, form, GUESS, text, false);
    figure_cell(b, form, task, "backbone", false);
    figure_cell(b, form, task, "extended", false);
    figure_cell(b, form, task, "difference", true);
    end_row(b, form);
    nr_buffer_free(&full);
}

void nr_report_task_table(nr_buffer *b, const nr_report_data *d, nr_table_form form)
{
    size_t i;
    const json_t *task;
    json_t *tasks = nr_report_tasks(d);
    if (!tasks) return;
    heading(b, form);
    json_array_foreach(tasks, i, task) row(b, form, task);
    if (form == NR_TABLE_HTML) nr_buffer_text(b, "</tbody></table>\n");
    json_decref(tasks);
}
