/*
 * report_tokens.c - texts with every token on a ground that shows its gate:
 * the mean over the layers, one colour where it is positive, another where it
 * is negative, as strong as its size beside the largest one shown.
 */
#include <math.h>
#include <string.h>

#include "report/report.h"

static double mean_gate(const json_t *token)
{
    const json_t *v;
    double sum = 0;
    size_t i, n = 0;
    json_array_foreach(json_object_get(token, "gates"), i, v)
        if (json_is_number(v) && isfinite(json_number_value(v))) sum += json_number_value(v), n++;
    return n ? sum / (double)n : NAN;
}

static double largest(const json_t *texts)
{
    const json_t *text, *token;
    size_t i, k;
    double most = 0.02; /* gates below are drawn faint, whatever the others are */
    json_array_foreach(texts, i, text)
        json_array_foreach(json_object_get(text, "tokens"), k, token) {
            double g = fabs(mean_gate(token));
            if (g > most) most = g;
        }
    return most;
}

static void token(nr_buffer *b, const json_t *o, double most)
{
    const char *text = nr_report_string(o, "text");
    double g = mean_gate(o);
    if (!text) return;
    if (!isfinite(g)) {
        nr_escape(b, text);
        return;
    }
    nr_buffer_printf(b, "<span class=\"tok\" style=\"background:rgb(var(--%s-rgb)/%.2f)\" title=\"mean gate %+.3f\">", g < 0 ? "minus" : "plus",
                     0.75 * fmin(1, fabs(g) / most), g);
    nr_escape(b, text);
    nr_buffer_text(b, "</span>");
}

void nr_report_tokens(nr_buffer *b, const nr_report_data *d)
{
    const json_t *texts = json_object_get(d->gates, "texts"), *text, *o;
    size_t i, k;
    if (json_array_size(texts) == 0) return;
    double most = largest(texts);
    json_array_foreach(texts, i, text) {
        double sum = 0;
        size_t n = 0;
        nr_buffer_text(b, "<p class=\"tokens\">");
        json_array_foreach(json_object_get(text, "tokens"), k, o) {
            double g = mean_gate(o);
            if (isfinite(g)) sum += g, n++;
            token(b, o, most);
        }
        if (n) nr_buffer_printf(b, "<span class=\"mean\">mean gate %+.3f</span>", sum / (double)n);
        nr_buffer_text(b, "</p>\n");
    }
    nr_buffer_text(b, "<p class=\"scale\" aria-hidden=\"true\">");
    for (int s = -4; s <= 4; s++) {
        double g = most * s / 4;
        nr_buffer_printf(b, "<span style=\"background:rgb(var(--%s-rgb)/%.2f)\">%+.2f</span>", g < 0 ? "minus" : "plus", 0.75 * fabs(g) / most, g);
    }
    nr_buffer_text(b, "</p>\n");
}
