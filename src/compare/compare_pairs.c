/*
 * compare_pairs.c - the differences of a comparison's rows to one of them, seed
 * by seed, in the forms of its table. Nothing where there is one seed.
 */
#include <math.h>

#include "compare/compare.h"
#include "report/report.h"

static const char *const keys[] = {"learning", "forgetting", "sum"};

static bool has_pairs(const json_t *groups)
{
    size_t i;
    const json_t *g;
    json_array_foreach(groups, i, g)
        if (nr_report_number(g, "against.pairs") > 1) return true;
    return false;
}

/* A mean and half its interval. */
static void cell_text(char to[64], const json_t *d, const char *between)
{
    double mean = nr_report_number(d, "mean"), half = nr_report_number(d, "high") - mean;
    if (isfinite(half)) snprintf(to, 64, "%+.4f%s%.4f", mean, between, half);
    else if (isfinite(mean)) snprintf(to, 64, "%+.4f", mean);
    else snprintf(to, 64, "-");
}

void nr_compare_pairs_text(nr_buffer *b, const json_t *groups)
{
    size_t i;
    const json_t *g;
    const char *reference = NULL;
    if (!has_pairs(groups)) return;
    json_array_foreach(groups, i, g)
        if (!reference) reference = nr_report_string(g, "against.group");
    nr_buffer_printf(b, "\nagainst %s, seed by seed, +- 95 %%\n%-*s%18s%18s%18s\n", reference, NR_LABEL_COLUMNS, "   run", keys[0], keys[1], keys[2]);
    json_array_foreach(groups, i, g) {
        const json_t *o = json_object_get(g, "against");
        char cell[64];
        if (!o) continue;
        nr_compare_text_name(b, g);
        for (size_t k = 0; k < NR_COUNT(keys); k++) {
            cell_text(cell, json_object_get(o, keys[k]), " +- ");
            nr_buffer_printf(b, "%18s", cell);
        }
        nr_buffer_text(b, "\n");
    }
}

void nr_compare_pairs_markdown(nr_buffer *b, const json_t *groups)
{
    size_t i;
    const json_t *g;
    if (!has_pairs(groups)) return;
    nr_buffer_text(b, "\nDifferences, seed by seed, with 95 % intervals:\n\n| run | against | seeds | learning | forgetting | sum |\n|---|---|---:|---:|---:|---:|\n");
    json_array_foreach(groups, i, g) {
        const json_t *o = json_object_get(g, "against");
        if (!o) continue;
        nr_buffer_text(b, "| ");
        nr_compare_markdown_word(b, nr_report_string(g, "name"));
        nr_buffer_text(b, " | ");
        nr_compare_markdown_word(b, nr_report_string(o, "group"));
        nr_buffer_printf(b, " | %.0f |", nr_report_number(o, "pairs"));
        for (size_t k = 0; k < NR_COUNT(keys); k++) {
            const json_t *d = json_object_get(o, keys[k]);
            double low = nr_report_number(d, "low"), high = nr_report_number(d, "high"), mean = nr_report_number(d, "mean");
            if (isfinite(low)) nr_buffer_printf(b, " %+.4f (%+.4f to %+.4f) |", mean, low, high);
            else if (isfinite(mean)) nr_buffer_printf(b, " %+.4f |", mean);
            else nr_buffer_text(b, " - |");
        }
        nr_buffer_text(b, "\n");
    }
}

void nr_compare_pairs_html(nr_buffer *b, const json_t *groups)
{
    size_t i;
    const json_t *g;
    if (!has_pairs(groups)) return;
    nr_buffer_text(b, "<h3>Differences, seed by seed, with 95 % intervals</h3>\n<div class=\"scroll\"><table class=\"results\"><thead><tr>"
                      "<th scope=\"col\">run</th><th scope=\"col\">against</th><th scope=\"col\">seeds</th>");
    for (size_t k = 0; k < NR_COUNT(keys); k++) nr_buffer_printf(b, "<th scope=\"col\">%s</th>", keys[k]);
    nr_buffer_text(b, "</tr></thead><tbody>\n");
    json_array_foreach(groups, i, g) {
        const json_t *o = json_object_get(g, "against");
        char cell[64];
        if (!o) continue;
        nr_buffer_text(b, "<tr><th scope=\"row\">");
        nr_escape(b, nr_report_string(g, "name"));
        nr_buffer_text(b, "</th><td>");
        nr_escape(b, nr_report_string(o, "group"));
        nr_buffer_printf(b, "</td><td>%.0f</td>", nr_report_number(o, "pairs"));
        for (size_t k = 0; k < NR_COUNT(keys); k++) {
            cell_text(cell, json_object_get(o, keys[k]), " &plusmn; ");
            nr_buffer_printf(b, "<td>%s</td>", cell);
        }
        nr_buffer_text(b, "</tr>\n");
    }
    nr_buffer_text(b, "</tbody></table></div>\n");
}
