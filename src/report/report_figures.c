/*
 * report_figures.c - which drawings a report holds and the numbers in them.
 *
 * A fresh extension is an exact identity, so the curves of bits per byte begin
 * at step 0 with the backbone's own value.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

#define MAX_LAYERS 1024
#define MAX_POINTS 400 /* of the loss curve: more are averaged */

typedef struct {
    double *x, *y;
    size_t count;
} points;

static bool take(points *p, size_t n)
{
    nr_error ignored;
    p->count = 0;
    return nr_alloc(&p->x, n + 1, sizeof *p->x, "points", &ignored) == NR_OK && nr_alloc(&p->y, n + 1, sizeof *p->y, "points", &ignored) == NR_OK;
}

static void drop(points *p)
{
    free(p->x);
    free(p->y);
    *p = (points){0};
}

static void put(points *p, double x, double y)
{
    p->x[p->count] = x;
    p->y[p->count++] = y;
}

/* The numbers of a drawing as a table, for those who can't see it. */
static void numbers_table(nr_buffer *b, const nr_chart *c)
{
    const nr_series *first = &c->series[0];
    nr_buffer_text(b, "<table class=\"numbers\"><thead><tr><th scope=\"col\">");
    nr_escape(b, c->x_label);
    for (size_t k = 0; k < c->series_count; k++) {
        nr_buffer_text(b, "</th><th scope=\"col\">");
        nr_escape(b, c->series[k].name);
    }
    nr_buffer_text(b, "</th></tr></thead><tbody>");
    for (size_t i = 0; i < first->count; i++) {
        nr_buffer_printf(b, "<tr><th scope=\"row\">%g</th>", first->x[i]);
        for (size_t k = 0; k < c->series_count; k++) {
            const nr_series *s = &c->series[k];
            size_t at = s->count == first->count ? i : i < s->count ? i : s->count;
            if (at < s->count && isfinite(s->y[at]))
                nr_buffer_printf(b, "<td>%.*f</td>", c->digits, s->y[at]);
            else
                nr_buffer_text(b, "<td>-</td>");
        }
        nr_buffer_text(b, "</tr>");
    }
    nr_buffer_text(b, "</tbody></table>");
}

static void draw(const nr_chart *c, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    nr_chart_svg(svg, c, standalone);
    if (numbers && svg->size > 0 && c->series[0].count <= 200) numbers_table(numbers, c);
}

/* ---- bits per byte over the steps ---- */

static bool bits_curve(const nr_report_data *d, const char *domain, points *line, points *base)
{
    char here[64], there[64];
    size_t i;
    const json_t *e;
    snprintf(here, sizeof here, "%s.bits_per_byte", domain);
    snprintf(there, sizeof there, "%s.backbone_bits_per_byte", domain);
    if (!take(line, json_array_size(d->evals) + 1) || !take(base, json_array_size(d->evals) + 1)) return false;
    json_array_foreach(d->evals, i, e) {
        double step = nr_report_number(e, "step"), y = nr_report_number(e, here), y0 = nr_report_number(e, there);
        if (i == 0 && step > 0 && isfinite(y0)) {
            put(line, 0, y0);
            put(base, 0, y0);
        }
        put(line, step, y);
        put(base, step, y0);
    }
    return line->count > 0;
}

static void bits_figure(const nr_report_data *d, bool is_new, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    points line = {0}, base = {0};
    if (bits_curve(d, is_new ? "new" : "old", &line, &base)) {
        nr_series series[] = {{.name = "with the extension", .style = is_new ? "new" : "old", .x = line.x, .y = line.y, .count = line.count, .points = true},
                              {.name = "backbone", .style = "base", .x = base.x, .y = base.y, .count = base.count, .dashed = true}};
        nr_chart c = {.id = is_new ? "learning" : "forgetting", .title = is_new ? "Learning: validation text of the new domain" : "Forgetting: validation text of the old domain",
                      .description = is_new ? "Bits per byte on new text over the training steps; lower is better. The dashed line is the backbone without the extension."
                                            : "Bits per byte on old text over the training steps; above the dashed line of the backbone is forgetting.",
                      .x_label = "step", .y_label = "bits per byte", .series = series, .series_count = 2, .whole_x = true, .digits = 4};
        draw(&c, standalone, svg, numbers);
    }
    drop(&line);
    drop(&base);
}

static void learning(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers) { bits_figure(d, true, standalone, svg, numbers); }
static void forgetting(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers) { bits_figure(d, false, standalone, svg, numbers); }

/* ---- loss ---- */

/* Steps in which the domain had rows, averaged so that at most MAX_POINTS are left. */
static bool loss_points(const nr_report_data *d, const char *key, points *p)
{
    size_t n = json_array_size(d->steps), each = n / MAX_POINTS + 1, i, held = 0;
    double x = 0, y = 0;
    const json_t *s;
    if (!take(p, n)) return false;
    json_array_foreach(d->steps, i, s) {
        double v = nr_report_number(s, key);
        if (!isfinite(v)) continue;
        x += nr_report_number(s, "step");
        y += v;
        if (++held == each) {
            put(p, x / (double)held, y / (double)held);
            x = y = 0;
            held = 0;
        }
    }
    return p->count > 1;
}

/* Centred mean over a twentieth of the curve. */
static bool smooth(const points *from, points *to)
{
    size_t half = from->count / 40 + 1;
    if (!take(to, from->count)) return false;
    for (size_t i = 0; i < from->count; i++) {
        size_t a = i > half ? i - half : 0, b = NR_MIN(i + half, from->count - 1);
        double sum = 0;
        for (size_t k = a; k <= b; k++) sum += from->y[k];
        put(to, from->x[i], sum / (double)(b - a + 1));
    }
    return true;
}

static void loss(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    static const char *const keys[] = {"lm_loss_new", "lm_loss_old"}, *const names[] = {"new rows", "old rows"}, *const styles[] = {"new", "old"};
    points raw[2] = {{0}, {0}}, mean[2] = {{0}, {0}};
    nr_series series[4];
    size_t count = 0;
    (void)numbers;
    for (size_t k = 0; k < 2; k++) {
        if (!loss_points(d, keys[k], &raw[k]) || !smooth(&raw[k], &mean[k])) continue;
        series[count++] = (nr_series){.style = styles[k], .x = raw[k].x, .y = raw[k].y, .count = raw[k].count, .faint = true};
        series[count++] = (nr_series){.name = names[k], .style = styles[k], .x = mean[k].x, .y = mean[k].y, .count = mean[k].count};
    }
    nr_chart c = {.id = "loss", .title = "Training loss", .description = "Cross-entropy in nats per token on the rows of each training step, new and old, with their running means.",
                  .x_label = "step", .y_label = "nats per token", .series = series, .series_count = count, .whole_x = true, .digits = 2};
    if (count > 0) draw(&c, standalone, svg, NULL);
    for (size_t k = 0; k < 2; k++) drop(&raw[k]), drop(&mean[k]);
}

/* ---- by layer ---- */

/* Means over the evaluated files of a domain, by their tokens; else the last validation. */
static bool layer_points(const nr_report_data *d, const char *domain, const char *key, points *p)
{
    const json_t *file, *layer;
    size_t i, l;
    double weight[MAX_LAYERS] = {0}, sum[MAX_LAYERS] = {0};
    if (!take(p, MAX_LAYERS)) return false;
    json_array_foreach(json_object_get(d->eval, "files"), i, file) {
        double tokens = nr_report_number(file, "tokens");
        if (!nr_report_is(file, "domain", domain) || !(tokens > 0)) continue;
        json_array_foreach(json_object_get(file, "layers"), l, layer) {
            double number = nr_report_number(layer, "layer"), v = nr_report_number(layer, key);
            if (!isfinite(v) || !(number >= 0 && number < MAX_LAYERS)) continue;
            weight[(size_t)number] += tokens;
            sum[(size_t)number] += tokens * v;
        }
    }
    for (l = 0; l < MAX_LAYERS; l++)
        if (weight[l] > 0) put(p, (double)l, sum[l] / weight[l]);
    if (p->count > 0) return true;
    const json_t *last = json_array_get(d->evals, json_array_size(d->evals) - 1);
    char path[64];
    snprintf(path, sizeof path, "%s.%s", domain, strcmp(key, "ratio") == 0 ? "norm_ratio" : "mean_abs_gate");
    json_array_foreach(json_object_get(last, "layers"), l, layer) {
        double number = nr_report_number(layer, "layer"), v = nr_report_number(layer, path);
        if (l < MAX_LAYERS && isfinite(v)) put(p, isfinite(number) ? number : (double)l, v);
    }
    return p->count > 0;
}

static void layer_figure(const nr_report_data *d, const char *key, nr_chart *c, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    points of[2] = {{0}, {0}};
    bool any[2] = {layer_points(d, "new", key, &of[0]), layer_points(d, "old", key, &of[1])};
    nr_series series[2];
    size_t count = 0;
    for (size_t k = 0; k < 2; k++)
        if (any[k])
            series[count++] = (nr_series){.name = k ? "old text" : "new text", .style = k ? "old" : "new", .x = of[k].x, .y = of[k].y, .count = of[k].count, .points = true};
    c->series = series;
    c->series_count = count;
    double most = 0; /* small values get the digits to tell them apart */
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < series[k].count; i++) most = fmax(most, fabs(series[k].y[i]));
    if (most > 0 && most < 0.1) c->digits = most < 0.01 ? 5 : 4;
    if (count > 0) draw(c, standalone, svg, numbers);
    drop(&of[0]);
    drop(&of[1]);
}

static void gates(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    nr_chart c = {.id = "gates", .title = "Mean size of the gate, |g|, by layer",
                  .description = "Mean absolute gate of each layer on new and on old text. A gate near 0 leaves the backbone as it is.",
                  .x_label = "layer", .y_label = "mean |g|", .from_zero = true, .whole_x = true, .digits = 3};
    layer_figure(d, "gate_abs_mean", &c, standalone, svg, numbers);
}

static void ratio(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    nr_chart c = {.id = "ratio", .title = "What the extension adds, |g a| / |FFN|, by layer",
                  .description = "Mean size of the gated adapter's output beside that of the frozen feed-forward block, on new and on old text.",
                  .x_label = "layer", .y_label = "|g a| / |FFN|", .from_zero = true, .whole_x = true, .digits = 3};
    layer_figure(d, "ratio", &c, standalone, svg, numbers);
}

static void detector(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers)
{
    const json_t *list = json_object_get(d->eval, "gate_auc"), *o;
    points of[3] = {{0}}; /* |g|, g, chance */
    bool evaluated = json_array_size(list) > 0;
    size_t i;
    if (!evaluated) list = json_object_get(json_array_get(d->evals, json_array_size(d->evals) - 1), "layers");
    if (json_array_size(list) > 0 && take(&of[0], json_array_size(list)) && take(&of[1], json_array_size(list)) && take(&of[2], json_array_size(list))) {
        json_array_foreach(list, i, o) {
            double layer = nr_report_number(o, "layer"), size = nr_report_number(o, evaluated ? "auc_abs" : "gate_auc_abs"),
                   value = nr_report_number(o, evaluated ? "auc" : "gate_auc");
            if (!isfinite(size) || !isfinite(value) || !isfinite(layer)) continue;
            put(&of[0], layer, size);
            put(&of[1], layer, value);
            put(&of[2], layer, 0.5);
        }
        nr_series series[] = {{.name = "|g|", .style = "third", .x = of[0].x, .y = of[0].y, .count = of[0].count, .points = true},
                              {.name = "g", .style = "third", .x = of[1].x, .y = of[1].y, .count = of[1].count, .faint = true},
                              {.name = "chance", .style = "base", .x = of[2].x, .y = of[2].y, .count = of[2].count, .dashed = true}};
        nr_chart c = {.id = "detector", .title = "The gate as a detector of new text, by layer",
                      .description = "Area under the curve when the size of each layer's gate, |g|, or its value, g, tells tokens of new text from tokens of old text: 1 always, 0.5 by chance. An ELU gate that opens towards -1 has a large |g| and a small g.",
                      .x_label = "layer", .y_label = "area under the curve", .series = series, .series_count = 3, .whole_x = true, .digits = 2};
        if (of[0].count > 0) draw(&c, standalone, svg, numbers);
    }
    for (i = 0; i < 3; i++) drop(&of[i]);
}

static const struct {
    const char *name;
    void (*draw)(const nr_report_data *d, bool standalone, nr_buffer *svg, nr_buffer *numbers);
} figures[] = {{"learning", learning}, {"forgetting", forgetting}, {"loss", loss}, {"detector", detector}, {"gates", gates}, {"ratio", ratio}};

bool nr_report_figure(const nr_report_data *d, size_t i, bool standalone, const char **name, nr_buffer *svg, nr_buffer *numbers)
{
    if (i >= NR_COUNT(figures)) return false;
    *name = figures[i].name;
    figures[i].draw(d, standalone, svg, numbers);
    return true;
}
