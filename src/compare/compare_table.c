/*
 * compare_table.c - a summary as a table: text of 80 columns, Markdown, and CSV
 * with a line for every run. A row is a group of runs that differ in the seed.
 */
#include <math.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"

#define LABEL NR_LABEL_COLUMNS

typedef struct {
    const char *title[2], *key, *format;
    int width;
    double scale;
} column;

static const column scores[] = {
    {{"learning", "bits/B"}, "learning", "%.4f", 8, 1},       {{"forget.", "bits/B"}, "forgetting", "%.4f", 8, 1},
    {{"sum", "bits/B"}, "sum", "%.4f", 8, 1},                 {{"weights", "million"}, "weights", "%.3f", 10, 1e-6},
    {{"train", "tok/s"}, "training_tokens_per_second", "%.0f", 7, 1}, {{"gener.", "tok/s"}, "generated_tokens_per_second", "%.1f", 7, 1},
    {{"peak", "MiB"}, "memory_peak", "%.0f", 6, 1.0 / (1 << 20)},
};
static const column distance[] = {
    {{"nats/token", "after-before"}, "nats_more", "%+.4f", 14, 1}, {{"KL", "nats/token"}, "kl", "%.4f", 12, 1},
    {{"same first", "choice, %"}, "top1_agreement", "%.2f", 12, 100}, {{"validation", "sum, bits/B"}, "validation_sum", "%.4f", 13, 1},
};

static bool is(const json_t *g, const char *key) { return json_is_true(json_object_get(g, key)); }

static void number(char *to, size_t size, const json_t *g, const column *c)
{
    double v = nr_report_number(g, c->key) * c->scale;
    if (!isfinite(v)) snprintf(to, size, "-");
    else if (snprintf(to, size, c->format, v) >= c->width) snprintf(to, size, "%.0f", v); /* a large number needs no decimals */
}

/* ---- text ---- */

static void text_heading(nr_buffer *b, const column *c, size_t count)
{
    for (int line = 0; line < 2; line++) {
        nr_buffer_printf(b, "%-*s", LABEL, line ? "   run" : "");
        for (size_t k = 0; k < count; k++) nr_buffer_printf(b, "%*s", c[k].width, c[k].title[line]);
        nr_buffer_text(b, "\n");
    }
}

static void text_error(nr_buffer *b, const json_t *g)
{
    const char *error = nr_report_string(g, "error");
    double missing = nr_report_number(g, "missing");
    if (error) nr_buffer_printf(b, "     failed: %.66s\n", error);
    else if (missing > 0) nr_buffer_printf(b, "     %.0f of its runs not made yet\n", missing);
}

static void text_block(nr_buffer *b, const json_t *groups, const column *c, size_t count, bool first)
{
    size_t i;
    const json_t *g;
    char cell[64];
    text_heading(b, c, count);
    json_array_foreach(groups, i, g) {
        nr_compare_text_name(b, g);
        for (size_t k = 0; k < count; k++) {
            number(cell, sizeof cell, g, &c[k]);
            if (strcmp(c[k].key, "weights") == 0 && is(g, "off_budget")) strcat(cell, "*");
            nr_buffer_printf(b, "%*s", c[k].width, cell);
        }
        nr_buffer_text(b, "\n");
        if (first) text_error(b, g);
    }
}

/* Bits per byte of every column, as many at a time as fit. */
static void text_columns(nr_buffer *b, const json_t *summary)
{
    const json_t *columns = json_object_get(summary, "columns"), *groups = json_object_get(summary, "groups"), *g;
    size_t n = json_array_size(columns), i, across = (80 - LABEL) / 13;
    for (size_t at = 0; n > 2 && at < n; at += across) {
        size_t end = NR_MIN(at + across, n);
        nr_buffer_printf(b, "\n%-*s", LABEL, "   bits/B");
        for (size_t k = at; k < end; k++) nr_buffer_printf(b, " %12.12s", nr_report_string(json_array_get(columns, k), "name"));
        nr_buffer_text(b, "\n");
        json_array_foreach(groups, i, g) {
            nr_compare_text_name(b, g);
            for (size_t k = at; k < end; k++) {
                double v = nr_report_number(json_object_get(g, "texts"), nr_report_string(json_array_get(columns, k), "name"));
                if (isfinite(v)) nr_buffer_printf(b, " %12.4f", v);
                else nr_buffer_printf(b, " %12s", "-");
            }
            nr_buffer_text(b, "\n");
        }
    }
}

/* The rows of which no run was made, in lines of 80 columns. */
static void text_waiting(nr_buffer *b, const json_t *waiting)
{
    size_t i, n = json_array_size(waiting), used = 0;
    const json_t *name;
    if (n) nr_buffer_text(b, "\nNot made yet:");
    json_array_foreach(waiting, i, name) {
        size_t length = json_string_length(name) + 2; /* a blank before, a comma behind */
        if (i == 0 || used + length > 78) nr_buffer_text(b, "\n  "), used = 2;
        nr_buffer_printf(b, " %s%s", json_string_value(name), i + 1 < n ? "," : "\n");
        used += length;
    }
}

void nr_compare_text(nr_buffer *b, const json_t *summary)
{
    const json_t *groups = json_object_get(summary, "groups");
    nr_buffer_printf(b, "%s, %s\n", nr_report_string(summary, "title"), nr_report_string(summary, "model"));
    nr_buffer_printf(b, "learning: %s, forgetting: %s; lower is better\n\n", nr_report_string(summary, "learning_text"),
                     nr_report_string(summary, "forgetting_text"));
    text_block(b, groups, scores, NR_COUNT(scores), true);
    nr_buffer_text(b, "\n");
    text_block(b, groups, distance, NR_COUNT(distance), false);
    text_columns(b, summary);
    nr_compare_tasks_text(b, summary);
    nr_compare_pairs_text(b, groups);
    text_waiting(b, json_object_get(summary, "waiting"));
    nr_buffer_text(b, "\nThe number before a row is its rank by the sum, among the rows that validation\n"
                      "chose. *: more than a tenth off the budget of --extra.\n");
}

/* ---- Markdown ---- */

/* The rows of which no run was made, in one paragraph of Markdown or HTML; word: a name in it. */
static void put_waiting(nr_buffer *b, const json_t *summary, const char *begin, void (*word)(nr_buffer *b, const char *s), const char *end)
{
    size_t i;
    const json_t *name;
    json_array_foreach(json_object_get(summary, "waiting"), i, name) {
        nr_buffer_printf(b, "%s%s", i ? ", " : begin, i ? "" : "Not made yet: ");
        word(b, json_string_value(name));
    }
    if (i) nr_buffer_text(b, end);
}

static void markdown_heading(nr_buffer *b, const json_t *columns)
{
    size_t i, cells = 0;
    const json_t *c;
    nr_buffer_text(b, "| rank | run | seeds |");
    for (size_t k = 0; k < NR_COUNT(scores); k++) nr_buffer_printf(b, " %s, %s |", scores[k].title[0], scores[k].title[1]), cells++;
    for (size_t k = 0; k < NR_COUNT(distance); k++) nr_buffer_printf(b, " %s, %s |", distance[k].title[0], distance[k].title[1]), cells++;
    json_array_foreach(columns, i, c) {
        nr_buffer_text(b, " ");
        nr_compare_markdown_word(b, nr_report_string(c, "name"));
        nr_buffer_text(b, " |");
        cells++;
    }
    nr_buffer_text(b, "\n|---:|---|---:|");
    while (cells-- > 0) nr_buffer_text(b, "---:|");
    nr_buffer_text(b, "\n");
}

static void markdown_cells(nr_buffer *b, const json_t *g, const column *c, size_t count)
{
    char cell[64];
    for (size_t k = 0; k < count; k++) {
        number(cell, sizeof cell, g, &c[k]);
        nr_buffer_printf(b, " %s%s |", cell, strcmp(c[k].key, "weights") == 0 && is(g, "off_budget") ? "\\*" : "");
    }
}

static void markdown_row(nr_buffer *b, const json_t *g, const json_t *columns)
{
    size_t i;
    const json_t *c;
    double place = nr_report_number(g, "rank");
    if (isfinite(place)) nr_buffer_printf(b, "| %.0f | ", place);
    else nr_buffer_text(b, "| | ");
    nr_compare_markdown_word(b, nr_report_string(g, "name"));
    if (nr_report_string(g, "error")) {
        nr_buffer_text(b, " (failed: ");
        nr_compare_markdown_word(b, nr_report_string(g, "error"));
        nr_buffer_text(b, ")");
    }
    nr_buffer_printf(b, " | %.0f |", nr_report_number(g, "seeds"));
    markdown_cells(b, g, scores, NR_COUNT(scores));
    markdown_cells(b, g, distance, NR_COUNT(distance));
    json_array_foreach(columns, i, c) {
        double v = nr_report_number(json_object_get(g, "texts"), nr_report_string(c, "name"));
        if (isfinite(v)) nr_buffer_printf(b, " %.4f |", v);
        else nr_buffer_text(b, " - |");
    }
    nr_buffer_text(b, "\n");
}

void nr_compare_markdown(nr_buffer *b, const json_t *summary)
{
    size_t i;
    const json_t *g, *groups = json_object_get(summary, "groups"), *columns = json_object_get(summary, "columns");
    nr_buffer_text(b, "# ");
    nr_compare_markdown_word(b, nr_report_string(summary, "title"));
    nr_buffer_printf(b, "\n\nBackbone %s. Bits per byte, lower is better; learning is %s, forgetting %s. The rank is by their sum, among the rows that "
                        "validation text chose. \\*: more than a tenth off the budget of weights.\n\n",
                     nr_report_string(summary, "model"), nr_report_string(summary, "learning_text"), nr_report_string(summary, "forgetting_text"));
    markdown_heading(b, columns);
    json_array_foreach(groups, i, g) markdown_row(b, g, columns);
    nr_compare_tasks_markdown(b, summary);
    nr_compare_pairs_markdown(b, groups);
    put_waiting(b, summary, "\n", nr_compare_markdown_word, "\n");
}

/* ---- CSV ---- */

/* Quoted where RFC 4180 wants it; a cell that a spreadsheet would take for a formula gets an apostrophe. */
static void csv_word(nr_buffer *b, const char *s)
{
    bool formula = *s && strchr("=+-@\t\r", *s);
    if (!formula && !strpbrk(s, ",\"\n\r")) {
        nr_buffer_text(b, s);
        return;
    }
    nr_buffer_text(b, formula ? "\"'" : "\"");
    for (; *s; s++) nr_buffer_add(b, *s == '"' ? "\"\"" : s, *s == '"' ? 2 : 1);
    nr_buffer_text(b, "\"");
}

static void csv_number(nr_buffer *b, double v)
{
    if (isfinite(v)) nr_buffer_printf(b, ",%.9g", v);
    else nr_buffer_text(b, ",");
}

static const char *const csv_numbers[][2] = {
    {"seed", "settings.seed"}, {"learning_rate", "learning_rate"}, {"weights", "weights"}, {"share_of_all_weights", "share_of_all_weights"},
    {"validation_old", "validation.old"}, {"validation_new", "validation.new"}, {"training_tokens", "training_tokens"},
    {"training_seconds", "cost.training_seconds"}, {"training_tokens_per_second", "cost.training_tokens_per_second"},
    {"generated_tokens_per_second", "cost.generated_tokens_per_second"}, {"memory_peak", "cost.memory_peak"},
};
static const char *const csv_texts[] = {"bits_per_byte", "backbone_bits_per_byte", "bits_more_stderr", "nats_more", "kl", "top1_agreement"};

static void csv_run(nr_buffer *b, const json_t *run, const json_t *columns, const json_t *tasks)
{
    static const char *const words[] = {"name", "label", "group", "role", "settings.method", "status", "error"};
    size_t i;
    const json_t *c;
    for (size_t k = 0; k < NR_COUNT(words); k++) {
        const char *s = nr_report_string(run, words[k]);
        if (k > 0) nr_buffer_text(b, ",");
        csv_word(b, s ? s : "");
    }
    for (size_t k = 0; k < NR_COUNT(csv_numbers); k++) csv_number(b, nr_report_number(run, csv_numbers[k][1]));
    nr_buffer_text(b, json_object_get(run, "off_budget") ? is(run, "off_budget") ? ",1" : ",0" : ",");
    json_array_foreach(columns, i, c) {
        const json_t *of = json_object_get(json_object_get(run, "scores"), nr_report_string(c, "name"));
        for (size_t k = 0; k < NR_COUNT(csv_texts); k++) csv_number(b, nr_report_number(of, csv_texts[k]));
    }
    nr_compare_tasks_csv(b, run, tasks);
    nr_buffer_text(b, "\n");
}

void nr_compare_csv(nr_buffer *b, const json_t *summary)
{
    size_t i;
    const json_t *c, *run, *columns = json_object_get(summary, "columns"), *tasks = json_object_get(summary, "tasks");
    nr_buffer_text(b, "name,label,group,role,method,status,error");
    for (size_t k = 0; k < NR_COUNT(csv_numbers); k++) nr_buffer_printf(b, ",%s", csv_numbers[k][0]);
    nr_buffer_text(b, ",off_budget");
    json_array_foreach(columns, i, c)
        for (size_t k = 0; k < NR_COUNT(csv_texts); k++) nr_buffer_printf(b, ",%s.%s", nr_report_string(c, "name"), csv_texts[k]);
    nr_compare_tasks_csv_head(b, tasks);
    nr_buffer_text(b, "\n");
    json_array_foreach(json_object_get(summary, "runs"), i, run) csv_run(b, run, columns, tasks);
}

/* ---- HTML ---- */

static void html_cells(nr_buffer *b, const json_t *g, const column *c, size_t count)
{
    char cell[64];
    for (size_t k = 0; k < count; k++) {
        number(cell, sizeof cell, g, &c[k]);
        nr_buffer_printf(b, "<td>%s%s</td>", cell, strcmp(c[k].key, "weights") == 0 && is(g, "off_budget") ? "*" : "");
    }
}

void nr_compare_html(nr_buffer *b, const json_t *summary)
{
    const json_t *groups = json_object_get(summary, "groups"), *columns = json_object_get(summary, "columns"), *g, *c;
    size_t i, k;
    nr_buffer_text(b, "<div class=\"scroll\"><table class=\"results\"><thead><tr><th scope=\"col\">run</th><th scope=\"col\">rank</th><th scope=\"col\">seeds</th>");
    for (k = 0; k < NR_COUNT(scores); k++) nr_buffer_printf(b, "<th scope=\"col\">%s<br>%s</th>", scores[k].title[0], scores[k].title[1]);
    for (k = 0; k < NR_COUNT(distance); k++) nr_buffer_printf(b, "<th scope=\"col\">%s<br>%s</th>", distance[k].title[0], distance[k].title[1]);
    json_array_foreach(columns, k, c) {
        nr_buffer_text(b, "<th scope=\"col\">");
        nr_escape(b, nr_report_string(c, "name"));
        nr_buffer_text(b, "</th>");
    }
    nr_buffer_text(b, "</tr></thead><tbody>\n");
    json_array_foreach(groups, i, g) {
        double place = nr_report_number(g, "rank");
        const char *error = nr_report_string(g, "error");
        nr_buffer_printf(b, "<tr%s><th scope=\"row\">", error ? " class=\"failed\"" : place == 1 ? " class=\"first\"" : "");
        nr_escape(b, nr_report_string(g, "name"));
        nr_buffer_text(b, "</th><td>");
        if (isfinite(place)) nr_buffer_printf(b, "%.0f", place);
        nr_buffer_printf(b, "</td><td>%.0f</td>", nr_report_number(g, "seeds"));
        html_cells(b, g, scores, NR_COUNT(scores));
        html_cells(b, g, distance, NR_COUNT(distance));
        json_array_foreach(columns, k, c) {
            double v = nr_report_number(json_object_get(g, "texts"), nr_report_string(c, "name"));
            if (isfinite(v)) nr_buffer_printf(b, "<td>%.4f</td>", v);
            else nr_buffer_text(b, "<td>-</td>");
        }
        nr_buffer_text(b, "</tr>\n");
        if (!error) continue;
        nr_buffer_printf(b, "<tr class=\"why\"><td colspan=\"%zu\"><span>failed: ", 3 + NR_COUNT(scores) + NR_COUNT(distance) + json_array_size(columns));
        nr_escape(b, error);
        nr_buffer_text(b, "</span></td></tr>\n");
    }
    nr_buffer_text(b, "</tbody></table></div>\n");
    put_waiting(b, summary, "<p class=\"note\">", nr_escape, "</p>\n");
    nr_buffer_text(b, "<p class=\"note\">The rank is by the sum, among the rows that validation text chose. *: more than a tenth off the "
                      "budget of weights.</p>\n");
    nr_compare_pairs_html(b, groups);
}
