/*
 * compare_tasks.c - the task scores of a comparison, in the forms of its table:
 * a column a task, the old language's and then the new one's, each with its mean
 * and a 95 % interval. What guessing gets right is the last row.
 */
#include <math.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"
#include "train/train.h"

#define WIDTH 13 /* of a column in text */
#define MOST 110 /* columns: 100 tasks and their means */

/* A task, or (task NULL) the mean over a domain's. */
typedef struct {
    const json_t *task;
    int domain;
} column;

static size_t list_columns(column *list, const json_t *columns)
{
    size_t n = 0, i;
    for (int d = NR_OLD; d <= NR_NEW; d++) {
        size_t begin = n;
        const json_t *c;
        json_array_foreach(columns, i, c)
            if (strcmp(nr_report_string(c, "domain"), nr_domain_names[d]) == 0 && n + 2 < MOST) list[n++] = (column){c, d};
        if (n > begin) list[n++] = (column){NULL, d};
    }
    return n;
}

/* Behind the columns of the language that `begin` is of. */
static size_t end_of_domain(const column *list, size_t count, size_t begin)
{
    size_t end = begin;
    while (end < count && list[end].domain == list[begin].domain) end++;
    return end;
}

static void title_of(char to[160], const column *c)
{
    if (c->task) snprintf(to, 160, "%s", nr_report_string(c->task, "name"));
    else snprintf(to, 160, "mean, %s", nr_domain_names[c->domain]);
}

/* Of a group's or a run's object of task scores; group: it has its means beside it. */
static void figure_of(double *accuracy, double *half, const json_t *g, const column *c)
{
    char key[32];
    snprintf(key, sizeof key, "tasks_%s", nr_domain_names[c->domain]);
    const json_t *of = c->task ? json_object_get(json_object_get(g, "tasks"), nr_report_string(c->task, "name")) : json_object_get(g, key);
    *accuracy = 100 * nr_report_number(of, "accuracy");
    *half = 196 * nr_report_number(of, "stderr");
}

/* What guessing gets: of a task, or the mean over a domain's. */
static double chance_of(const column *list, size_t count, const column *c)
{
    double sum = 0, n = 0;
    if (c->task) return 100 * nr_report_number(c->task, "chance");
    for (size_t i = 0; i < count; i++)
        if (list[i].task && list[i].domain == c->domain) sum += nr_report_number(list[i].task, "chance"), n++;
    return 100 * sum / n;
}

static void cell_text(char to[48], double v, double half, const char *between)
{
    if (isfinite(v) && isfinite(half)) snprintf(to, 48, "%.1f%s%.1f", v, between, half);
    else if (isfinite(v)) snprintf(to, 48, "%.1f", v);
    else snprintf(to, 48, "-");
}

/* ---- text ---- */

/* Of what is left of a language, as many columns as make blocks of like width. */
static size_t end_of_block(const column *list, size_t count, size_t begin)
{
    const size_t across = (80 - NR_LABEL_COLUMNS) / WIDTH;
    size_t left = end_of_domain(list, count, begin) - begin, blocks = (left + across - 1) / across;
    return begin + (left + blocks - 1) / blocks;
}

/* A title on two lines of at most 12 characters. */
static void text_heading(nr_buffer *b, const column *list, size_t begin, size_t end)
{
    char title[160];
    for (int line = 0; line < 2; line++) {
        nr_buffer_printf(b, "%-*s", NR_LABEL_COLUMNS, line ? "   correct, % +- 95 %" : "");
        for (size_t k = begin; k < end; k++) {
            title_of(title, &list[k]);
            size_t n = strlen(title), cut = NR_MIN(n, (size_t)WIDTH - 1);
            if (n > cut)
                for (size_t i = cut; i > 3; i--)
                    if (strchr("_:-", title[i - 1])) {
                        cut = i;
                        break;
                    }
            bool one = n == cut;
            nr_buffer_printf(b, "%*.*s", WIDTH, line == one ? (int)(one ? n : cut) : one ? 0 : WIDTH - 1, line == 0 || one ? title : title + cut);
        }
        nr_buffer_text(b, "\n");
    }
}

void nr_compare_tasks_text(nr_buffer *b, const json_t *summary)
{
    column list[MOST];
    char cell[48];
    double v, half;
    size_t i, count = list_columns(list, json_object_get(summary, "tasks"));
    const json_t *g;
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = end_of_block(list, count, begin);
        nr_buffer_text(b, "\n");
        text_heading(b, list, begin, end);
        json_array_foreach(json_object_get(summary, "groups"), i, g) {
            nr_compare_text_name(b, g);
            for (size_t k = begin; k < end; k++) {
                figure_of(&v, &half, g, &list[k]);
                cell_text(cell, v, half, " +- ");
                nr_buffer_printf(b, "%*s", WIDTH, cell);
            }
            nr_buffer_text(b, "\n");
        }
        nr_buffer_printf(b, "%-*s", NR_LABEL_COLUMNS, "   guessing");
        for (size_t k = begin; k < end; k++) {
            cell_text(cell, chance_of(list, count, &list[k]), NAN, "");
            nr_buffer_printf(b, "%*s", WIDTH, cell);
        }
        nr_buffer_text(b, "\n");
    }
}

/* ---- Markdown ---- */

void nr_compare_tasks_markdown(nr_buffer *b, const json_t *summary)
{
    column list[MOST];
    char title[160], cell[48];
    double v, half;
    size_t i, count = list_columns(list, json_object_get(summary, "tasks"));
    const json_t *g;
    if (count == 0) return;
    nr_buffer_text(b, "\nQuestions answered, per cent, with 95 % intervals:\n\n| run |");
    for (size_t k = 0; k < count; k++) {
        title_of(title, &list[k]);
        nr_buffer_text(b, " ");
        nr_compare_markdown_word(b, title);
        nr_buffer_text(b, " |");
    }
    nr_buffer_text(b, "\n|---|");
    for (size_t k = 0; k < count; k++) nr_buffer_text(b, "---:|");
    json_array_foreach(json_object_get(summary, "groups"), i, g) {
        nr_buffer_text(b, "\n| ");
        nr_compare_markdown_word(b, nr_report_string(g, "name"));
        nr_buffer_text(b, " |");
        for (size_t k = 0; k < count; k++) {
            figure_of(&v, &half, g, &list[k]);
            cell_text(cell, v, half, " ± ");
            nr_buffer_printf(b, list[k].task ? " %s |" : " **%s** |", cell);
        }
    }
    nr_buffer_text(b, "\n| guessing |");
    for (size_t k = 0; k < count; k++) {
        cell_text(cell, chance_of(list, count, &list[k]), NAN, "");
        nr_buffer_printf(b, " %s |", cell);
    }
    nr_buffer_text(b, "\n");
}

/* ---- CSV: shares, a run a line ---- */

void nr_compare_tasks_csv_head(nr_buffer *b, const json_t *columns)
{
    column list[MOST];
    for (size_t k = 0, count = list_columns(list, columns); k < count; k++) {
        if (list[k].task) nr_buffer_printf(b, ",%s.accuracy,%s.stderr", nr_report_string(list[k].task, "name"), nr_report_string(list[k].task, "name"));
        else nr_buffer_printf(b, ",tasks_%s.accuracy,tasks_%s.stderr", nr_domain_names[list[k].domain], nr_domain_names[list[k].domain]);
    }
}

static void csv_number(nr_buffer *b, double v)
{
    if (isfinite(v)) nr_buffer_printf(b, ",%.9g", v);
    else nr_buffer_text(b, ",");
}

void nr_compare_tasks_csv(nr_buffer *b, const json_t *run, const json_t *columns)
{
    column list[MOST];
    const json_t *tasks = json_object_get(run, "tasks");
    for (size_t k = 0, count = list_columns(list, columns); k < count; k++) {
        const json_t *of = list[k].task ? json_object_get(tasks, nr_report_string(list[k].task, "name")) : NULL;
        double accuracy = nr_report_number(of, "accuracy"), error = nr_report_number(of, "stderr");
        if (!list[k].task) nr_task_mean(&accuracy, &error, tasks, columns, nr_domain_names[list[k].domain]);
        csv_number(b, accuracy);
        csv_number(b, error);
    }
}

/* ---- HTML ---- */

static void html_heading(nr_buffer *b, const column *list, size_t begin, size_t end)
{
    char title[160];
    nr_buffer_printf(b, "<h3>%s language</h3>\n<div class=\"scroll\"><table class=\"results\"><thead><tr><th scope=\"col\">run</th>",
                     list[begin].domain == NR_OLD ? "The old" : "The new");
    for (size_t k = begin; k < end; k++) {
        title_of(title, &list[k]);
        nr_buffer_text(b, "<th scope=\"col\">");
        nr_escape(b, title);
        double items = list[k].task ? nr_report_number(list[k].task, "items") : NAN;
        if (isfinite(items)) nr_buffer_printf(b, "<br><span class=\"soft\">%.0f questions</span>", items);
        nr_buffer_text(b, "</th>");
    }
    nr_buffer_text(b, "</tr></thead><tbody>\n");
}

static void html_row(nr_buffer *b, const json_t *g, const column *list, size_t begin, size_t end)
{
    char cell[48];
    double v, half;
    nr_buffer_printf(b, "<tr%s><th scope=\"row\">", nr_report_number(g, "rank") == 1 ? " class=\"first\"" : "");
    nr_escape(b, nr_report_string(g, "name"));
    nr_buffer_text(b, "</th>");
    for (size_t k = begin; k < end; k++) {
        figure_of(&v, &half, g, &list[k]);
        cell_text(cell, v, half, " &plusmn; ");
        nr_buffer_printf(b, list[k].task ? "<td>%s</td>" : "<td><b>%s</b></td>", cell);
    }
    nr_buffer_text(b, "</tr>\n");
}

void nr_compare_tasks_html(nr_buffer *b, const json_t *summary)
{
    column list[MOST];
    char cell[48];
    size_t i, count = list_columns(list, json_object_get(summary, "tasks"));
    const json_t *g;
    if (count == 0) return;
    nr_buffer_text(b, "<h2>Questions answered, per cent</h2>\n");
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = end_of_domain(list, count, begin);
        html_heading(b, list, begin, end);
        json_array_foreach(json_object_get(summary, "groups"), i, g) html_row(b, g, list, begin, end);
        nr_buffer_text(b, "<tr><th scope=\"row\" class=\"soft\">guessing</th>");
        for (size_t k = begin; k < end; k++) {
            cell_text(cell, chance_of(list, count, &list[k]), NAN, "");
            nr_buffer_printf(b, "<td class=\"soft\">%s</td>", cell);
        }
        nr_buffer_text(b, "</tr>\n</tbody></table></div>\n");
    }
    nr_buffer_text(b, "<p class=\"note\">With 95 % intervals; with several seeds the means over them.</p>\n");
}
