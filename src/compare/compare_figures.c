/*
 * compare_figures.c - the drawings of a comparison, from its summary alone.
 *
 *   tradeoff    forgetting against learning, a curve a label with the learning
 *               rate as its parameter, the backbone as a star
 *   loss        training loss on new rows
 *   early, learned   validation text of both domains over the steps
 *   gates       mean |g| by layer, new text and old, of rows that have a gate
 *   spectrum    singular values of the gate matrices, sorted, over the largest
 *
 * Curves over steps or layers are those of the chosen rows' first seed; where
 * there are few rows, of all of them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"

#define MAX_CURVES 16
#define MAX_POINTS 400
#define FEW 8 /* rows that a drawing takes whole */

/* The curves of one drawing. */
typedef struct {
    nr_series series[MAX_CURVES];
    double x[MAX_CURVES][MAX_POINTS], y[MAX_CURVES][MAX_POINTS];
    char name[MAX_CURVES][120], note_text[MAX_CURVES][MAX_POINTS][16];
    const char *note[MAX_CURVES][MAX_POINTS];
    size_t count;
} curves;

static const char *const styles[] = {"m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"};

static nr_series *add_curve(curves *c, const char *name, size_t colour)
{
    if (c->count == MAX_CURVES) return NULL;
    size_t k = c->count++;
    snprintf(c->name[k], sizeof c->name[k], "%s", name);
    c->series[k] = (nr_series){.name = c->name[k], .style = styles[colour % NR_COUNT(styles)], .x = c->x[k], .y = c->y[k],
                               .dashed = colour >= NR_COUNT(styles)};
    return &c->series[k];
}

static void add_point(curves *c, double x, double y, const char *note)
{
    size_t k = c->count - 1, n = c->series[k].count;
    if (n == MAX_POINTS || !isfinite(x) || !isfinite(y)) return;
    c->x[k][n] = x;
    c->y[k][n] = y;
    snprintf(c->note_text[k][n], sizeof c->note_text[k][n], "%s", note ? note : "");
    c->note[k][n] = note && *note ? c->note_text[k][n] : NULL;
    c->series[k].count++;
}

/* Leaves a curve out that got no point. */
static void drop_empty(curves *c)
{
    if (c->count > 0 && c->series[c->count - 1].count == 0) c->count--;
}

/* ---- what is drawn ---- */

static bool has_role(const json_t *o, const char *role)
{
    const char *its = nr_report_string(o, "role");
    return its && strcmp(its, role) == 0;
}

/* The first finished run of a group. */
static const json_t *first_run(const json_t *summary, const json_t *group)
{
    size_t i;
    const json_t *run;
    json_array_foreach(json_object_get(summary, "runs"), i, run) {
        const char *of = nr_report_string(run, "group"), *status = nr_report_string(run, "status");
        if (of && status && strcmp(of, nr_report_string(group, "name")) == 0 && strcmp(status, "done") == 0) return run;
    }
    return NULL;
}

/* Whether a drawing of curves shows this group. */
static bool shown(const json_t *summary, const json_t *group)
{
    size_t i, rows = 0;
    const json_t *g;
    json_array_foreach(json_object_get(summary, "groups"), i, g) rows += has_role(g, "row");
    if (has_role(group, "backbone")) return false;
    return has_role(group, "row") ? rows <= FEW || json_is_true(json_object_get(group, "chosen")) : true;
}

typedef bool (*fill_curve)(curves *c, const json_t *run, const json_t *group, size_t colour);

/* A curve, or several, for every group that is shown. */
static void fill_all(curves *c, const json_t *summary, fill_curve fill)
{
    size_t i, colour = 0;
    const json_t *g;
    json_array_foreach(json_object_get(summary, "groups"), i, g) {
        const json_t *run = shown(summary, g) ? first_run(summary, g) : NULL;
        if (run) colour += fill(c, run, g, colour);
    }
}

static void draw(curves *c, nr_chart *chart, bool standalone, nr_buffer *svg)
{
    chart->series = c->series;
    chart->series_count = c->count;
    if (c->count > 0) nr_chart_svg(svg, chart, standalone);
}

/* ---- learning against forgetting ---- */

/* What tells a group from the others of its label: a learning rate as a number alone; nothing where there are no others. */
static const char *point_name(const json_t *g, double rate, char to[16])
{
    const char *own = nr_report_string(g, "name") + strlen(nr_report_string(g, "label"));
    if (!*own) to[0] = '\0';
    else if (strncmp(own, ",lr=", 4) == 0 && !strchr(own + 1, ',')) snprintf(to, 16, "%g", rate);
    else snprintf(to, 16, "%.15s", own + 1);
    return to;
}

/* A row that ended worse than the backbone in both. */
static bool is_worse(const json_t *g, const json_t *backbone)
{
    static const char *const both[] = {"learning", "forgetting"};
    bool worse = backbone && has_role(g, "row");
    for (size_t i = 0; i < NR_COUNT(both); i++) worse = worse && nr_report_number(g, both[i]) > nr_report_number(backbone, both[i]);
    return worse;
}

/* Such rows would stretch the drawing until nothing else shows: they are left out where others are left. */
typedef struct {
    const json_t *backbone; /* its group, or NULL: none is left out */
    const char *first;
    size_t count;
} left_out;

static left_out find_left_out(const json_t *groups)
{
    left_out l = {0};
    size_t i, others = 0;
    const json_t *g;
    json_array_foreach(groups, i, g)
        if (has_role(g, "backbone")) l.backbone = g;
    json_array_foreach(groups, i, g) {
        if (!has_role(g, "row")) continue;
        if (!is_worse(g, l.backbone)) others++;
        else if (l.count++ == 0) l.first = nr_report_string(g, "name");
    }
    return others ? l : (left_out){0};
}

/* A label's groups by rising learning rate; equal ones as the recipe has them. */
static void tradeoff_label(curves *c, const json_t *groups, const char *label, const json_t *leave_worse_than)
{
    double last = -INFINITY;
    size_t used = 0;
    for (;;) {
        size_t i, at = SIZE_MAX, seen = 0;
        const json_t *g, *next = NULL;
        double lowest = INFINITY;
        json_array_foreach(groups, i, g) {
            double rate = nr_report_number(g, "learning_rate");
            if (strcmp(nr_report_string(g, "label"), label) != 0 || !isfinite(rate)) continue;
            if (rate == last) seen++;
            bool after = rate > last || (rate == last && seen > used);
            if (after && rate < lowest) lowest = rate, next = g, at = i;
        }
        if (at == SIZE_MAX) return;
        used = lowest == last ? used + 1 : 1;
        last = lowest;
        char name[16];
        if (!is_worse(next, leave_worse_than)) add_point(c, nr_report_number(next, "learning"), nr_report_number(next, "forgetting"), point_name(next, last, name));
    }
}

static bool first_of_label(const json_t *groups, size_t at)
{
    const char *label = nr_report_string(json_array_get(groups, at), "label");
    for (size_t i = 0; i < at; i++)
        if (strcmp(nr_report_string(json_array_get(groups, i), "label"), label) == 0) return false;
    return true;
}

static void tradeoff(curves *c, const json_t *summary, bool standalone, nr_buffer *svg)
{
    const json_t *groups = json_object_get(summary, "groups"), *g;
    size_t i, colour = 0;
    const left_out out = find_left_out(groups);
    char x_label[120] = "learning: bits per byte on new text";
    size_t end = strlen(x_label);
    json_array_foreach(groups, i, g) {
        if (!first_of_label(groups, i)) continue;
        bool backbone = has_role(g, "backbone");
        nr_series *s = add_curve(c, nr_report_string(g, "label"), backbone ? 0 : colour++);
        if (!s) break;
        s->points = true;
        s->star = backbone;
        if (backbone) s->style = "base";
        if (backbone) add_point(c, nr_report_number(g, "learning"), nr_report_number(g, "forgetting"), NULL);
        else tradeoff_label(c, groups, nr_report_string(g, "label"), out.backbone);
        s->notes = has_role(g, "row") ? c->note[c->count - 1] : NULL;
        drop_empty(c);
    }
    if (out.count == 1) snprintf(x_label + end, sizeof x_label - end, " (worse in both, not drawn: %.24s)", out.first);
    else if (out.count) snprintf(x_label + end, sizeof x_label - end, " (worse in both, not drawn: %zu rows)", out.count);
    nr_chart chart = {.id = "tradeoff", .title = "Forgetting against learning",
                      .description = "Bits per byte on old text against bits per byte on new text, a curve a row with the learning rate as its parameter; "
                                     "the lower left is best. The star is the backbone.",
                      .x_label = x_label, .y_label = "forgetting: bits per byte on old text", .digits = 4,
                      .margin = true, .no_ends = true, .taller = 120};
    draw(c, &chart, standalone, svg);
}

/* ---- over the steps ---- */

static bool loss_curve(curves *c, const json_t *run, const json_t *group, size_t colour)
{
    const json_t *steps = json_object_get(json_object_get(run, "curve"), "step"), *values = json_object_get(json_object_get(run, "curve"), "new");
    size_t n = json_array_size(values), half = n / 40 + 1;
    if (!add_curve(c, nr_report_string(group, "name"), colour)) return false;
    for (size_t i = 0; i < n; i++) { /* a centred mean over a twentieth */
        double sum = 0, count = 0;
        for (size_t k = i > half ? i - half : 0; k <= NR_MIN(i + half, n - 1); k++)
            if (json_is_number(json_array_get(values, k))) sum += json_number_value(json_array_get(values, k)), count++;
        add_point(c, json_number_value(json_array_get(steps, i)), sum / count, NULL);
    }
    drop_empty(c);
    return true;
}

static void loss(curves *c, const json_t *summary, bool standalone, nr_buffer *svg)
{
    fill_all(c, summary, loss_curve);
    nr_chart chart = {.id = "loss", .title = "Training loss on new rows", .description = "Cross-entropy in nats per token on the new rows of the training steps.",
                      .x_label = "step", .y_label = "nats per token", .whole_x = true, .digits = 2};
    draw(c, &chart, standalone, svg);
}

static bool validation_curve(curves *c, const json_t *run, const json_t *group, size_t colour, const char *domain)
{
    size_t i;
    const json_t *v;
    nr_series *s = add_curve(c, nr_report_string(group, "name"), colour);
    if (!s) return false;
    s->points = true;
    json_array_foreach(json_object_get(run, "validations"), i, v) add_point(c, nr_report_number(v, "step"), nr_report_number(v, domain), NULL);
    drop_empty(c);
    return true;
}

static bool early_curve(curves *c, const json_t *run, const json_t *g, size_t colour) { return validation_curve(c, run, g, colour, "old"); }
static bool learned_curve(curves *c, const json_t *run, const json_t *g, size_t colour) { return validation_curve(c, run, g, colour, "new"); }

static void early(curves *c, const json_t *summary, bool standalone, nr_buffer *svg)
{
    fill_all(c, summary, early_curve);
    nr_chart chart = {.id = "early", .title = "Forgetting over the steps", .description = "Bits per byte on old validation text over the training steps.",
                      .x_label = "step", .y_label = "bits per byte, old text", .whole_x = true, .digits = 3};
    draw(c, &chart, standalone, svg);
}

static void learned(curves *c, const json_t *summary, bool standalone, nr_buffer *svg)
{
    fill_all(c, summary, learned_curve);
    nr_chart chart = {.id = "learned", .title = "Learning over the steps", .description = "Bits per byte on new validation text over the training steps.",
                      .x_label = "step", .y_label = "bits per byte, new text", .whole_x = true, .digits = 3};
    draw(c, &chart, standalone, svg);
}

/* ---- by layer ---- */

/* Without a gate g is 1 everywhere. */
static bool has_gate(const json_t *layers)
{
    size_t i;
    const json_t *l;
    json_array_foreach(layers, i, l)
        if (nr_report_number(l, "new.gate_abs") != 1 || nr_report_number(l, "old.gate_abs") != 1) return true;
    return false;
}

static bool gate_curve(curves *c, const json_t *run, const json_t *group, size_t colour)
{
    size_t i;
    const json_t *l, *list = json_object_get(run, "layers");
    bool any = false;
    if (!has_gate(list)) return false;
    for (int old = 0; old < 2; old++) {
        char name[120];
        snprintf(name, sizeof name, "%s%s", nr_report_string(group, "name"), old ? ", old text" : ", new text");
        nr_series *s = add_curve(c, name, colour);
        if (!s) break;
        s->dashed = old;
        json_array_foreach(list, i, l) add_point(c, nr_report_number(l, "layer"), nr_report_number(l, old ? "old.gate_abs" : "new.gate_abs"), NULL);
        any |= s->count > 0;
        drop_empty(c);
    }
    return any;
}

static void gates(curves *c, const json_t *summary, bool standalone, nr_buffer *svg)
{
    fill_all(c, summary, gate_curve);
    nr_chart chart = {.id = "gates", .title = "Size of the gate by layer", .description = "Mean absolute gate of each layer on new text, and dashed on old text.",
                      .x_label = "layer", .y_label = "mean |g|", .from_zero = true, .whole_x = true, .digits = 3, .no_ends = true};
    draw(c, &chart, standalone, svg);
}

/* ---- singular values ---- */

static bool spectrum_curve(curves *c, const json_t *run, const json_t *group, size_t colour)
{
    const json_t *s = json_object_get(run, "gate_spectrum"), *v;
    char name[120];
    size_t i, n = json_array_size(json_object_get(s, "values"));
    double of = nr_report_number(s, "of");
    if (n < 2) return false;
    snprintf(name, sizeof name, "%s (%.0f of %.0f)", nr_report_string(group, "name"), nr_report_number(s, "effective_rank"), of);
    if (!add_curve(c, name, colour)) return false;
    json_array_foreach(json_object_get(s, "values"), i, v) {
        double x = (double)i / (double)(n - 1);
        if (json_number_value(v) > 1e-7) add_point(c, x, json_number_value(v), NULL);
    }
    drop_empty(c);
    return true;
}

static void spectrum(curves *c, const json_t *summary, bool standalone, nr_buffer *svg)
{
    size_t i;
    const json_t *g;
    json_array_foreach(json_object_get(summary, "groups"), i, g)
        if (has_role(g, "backbone") && first_run(summary, g)) spectrum_curve(c, first_run(summary, g), g, 7);
    fill_all(c, summary, spectrum_curve);
    nr_chart chart = {.id = "spectrum", .title = "Singular values of the gate matrices",
                      .description = "Singular values of W_gate, sorted and divided by the largest, means over the layers, against their place from the "
                                     "first to the last. In brackets the effective rank: the exponential of the entropy of the values' shares.",
                      .x_label = "place, from the largest (0) to the smallest (1)", .y_label = "value over the largest", .from_zero = true, .digits = 2, .no_ends = true};
    draw(c, &chart, standalone, svg);
}

static const struct {
    const char *name, *title, *note;
    void (*draw)(curves *c, const json_t *summary, bool standalone, nr_buffer *svg);
} figures[] = {
    {"tradeoff", "Forgetting against learning", "Test text; the lower left is best. A row's points are its learning rates, or what else differs; the star is the backbone. "
     "Rows that end worse than it in both are left out.", tradeoff},
    {"loss", "Training loss", "On the new rows of the training steps, running means.", loss},
    {"early", "Forgetting over the steps", "Old validation text. What rises at the start is forgetting that the first steps cause.", early},
    {"learned", "Learning over the steps", "New validation text: lower is better.", learned},
    {"gates", "Size of the gate by layer", "On new text, dashed on old text. Near 0 the layer is the backbone's.", gates},
    {"spectrum", "Singular values of the gate matrices", "Sorted, over the largest, means over the layers. In brackets the effective rank.", spectrum},
};

bool nr_compare_figure(const json_t *summary, size_t i, bool standalone, const char **name, const char **title, const char **note, nr_buffer *svg)
{
    curves *c;
    if (i >= NR_COUNT(figures)) return false;
    *name = figures[i].name;
    *title = figures[i].title;
    *note = figures[i].note;
    if (nr_alloc(&c, 1, sizeof *c, "curves", NULL) != NR_OK) return false;
    figures[i].draw(c, summary, standalone, svg);
    free(c);
    return true;
}
