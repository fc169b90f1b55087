/*
 * chart.c - a chart of lines as SVG: axes with round ticks, a legend, the last
 * value of every line written at its end. Points that are not finite leave a
 * gap. Colours are CSS variables, so that the page's light and dark forms
 * (and the drawing's own, when it stands alone) decide them.
 */
#include <math.h>
#include <string.h>

#include "report/report.h"

#define WIDTH 560.0
#define HEIGHT 300.0
#define LEFT 68.0
#define RIGHT 62.0
#define TOP 38.0
#define BOTTOM 46.0
#define LEGEND 18.0 /* a line of it */
#define MAX_SERIES 8

const char nr_chart_light[] = "--ink:#1f2430;--soft:#5b6472;--line:#d9dde4;--old:#2356c5;--new:#b8450b;--base:#7a8190;--third:#5f7a1d;"
                              "--m1:#0067a8;--m2:#c24a00;--m3:#007a59;--m4:#a8327e;--m5:#806400;--m6:#4b45b8;--m7:#7c3f20;--m8:#4a5263;";
const char nr_chart_dark[] = "--ink:#e8eaef;--soft:#a3abba;--line:#363c48;--old:#7fa8ff;--new:#ff9a5c;--base:#98a0b0;--third:#b4d16a;"
                             "--m1:#6cb6ff;--m2:#ff9a5c;--m3:#4fd1a5;--m4:#f29bd0;--m5:#e6c84f;--m6:#aaa5ff;--m7:#d8a583;--m8:#c3cad8;";
#define NR_CHART_METHOD(n) ".chart .m" #n "{stroke:var(--m" #n ")}.chart .fm" #n "{fill:var(--m" #n ")}"

const char nr_chart_rules[] =
    ".chart text{font:12px system-ui,sans-serif;fill:var(--soft)}.chart .name{fill:var(--ink)}"
    ".chart .grid{stroke:var(--line);stroke-width:1}.chart .axis{stroke:var(--soft);stroke-width:1}"
    ".chart path{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".chart .dashed{stroke-dasharray:5 5;stroke-width:1.6}.chart .faint{stroke-width:1;opacity:.35}"
    ".chart .old{stroke:var(--old)}.chart .new{stroke:var(--new)}.chart .base{stroke:var(--base)}.chart .third{stroke:var(--third)}"
    ".chart .fold{fill:var(--old)}.chart .fnew{fill:var(--new)}.chart .fbase{fill:var(--base)}.chart .fthird{fill:var(--third)}"
    NR_CHART_METHOD(1) NR_CHART_METHOD(2) NR_CHART_METHOD(3) NR_CHART_METHOD(4)
    NR_CHART_METHOD(5) NR_CHART_METHOD(6) NR_CHART_METHOD(7) NR_CHART_METHOD(8)
    ".chart text.note{font-size:10px}.chart text.fold,.chart text.fnew,.chart text.fbase,.chart text.fthird{font-weight:600}";

double nr_tick_step(double low, double high, size_t want)
{
    double raw = (high - low) / (double)(want ? want : 1);
    if (!(raw > 0) || !isfinite(raw)) return 1;
    double power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

typedef struct {
    double x0, x1, y0, y1;
    double top, height; /* of the drawing: more than one line of legend moves it down */
} range;

static double place_x(const range *r, double x) { return LEFT + (x - r->x0) / (r->x1 - r->x0) * (WIDTH - LEFT - RIGHT); }
static double place_y(const range *r, double y) { return r->height - BOTTOM - (y - r->y0) / (r->y1 - r->y0) * (r->height - r->top - BOTTOM); }

/* What the data span; false without a single finite point. */
static bool span(range *r, const nr_chart *c)
{
    *r = (range){INFINITY, -INFINITY, INFINITY, -INFINITY, TOP, HEIGHT};
    for (size_t k = 0; k < c->series_count; k++)
        for (size_t i = 0; i < c->series[k].count; i++) {
            double x = c->series[k].x[i], y = c->series[k].y[i];
            if (!isfinite(x) || !isfinite(y) || fabs(x) > 1e15 || fabs(y) > 1e15) continue;
            r->x0 = fmin(r->x0, x);
            r->x1 = fmax(r->x1, x);
            r->y0 = fmin(r->y0, y);
            r->y1 = fmax(r->y1, y);
        }
    if (!(r->x0 <= r->x1)) return false;
    if (c->y_low < c->y_high) {
        r->y0 = c->y_low;
        r->y1 = c->y_high;
    }
    if (c->from_zero) r->y0 = fmin(r->y0, 0), r->y1 = fmax(r->y1, 0);
    double x_least = fmax(1e-9, fabs(r->x1) * 1e-6), y_least = fmax(1e-9, fabs(r->y1) * 1e-6);
    if (r->x1 - r->x0 < x_least) r->x0 -= 0.5, r->x1 += 0.5;
    if (r->y1 - r->y0 < y_least) r->y0 -= fmax(0.5 * fabs(r->y0), y_least), r->y1 += fmax(0.5 * fabs(r->y1), y_least);
    if (c->margin) r->x0 -= 0.06 * (r->x1 - r->x0), r->x1 += 0.06 * (r->x1 - r->x0);
    return true;
}

/* Widens y to whole ticks. */
static double round_y(range *r)
{
    double step = nr_tick_step(r->y0, r->y1, 5);
    r->y0 = floor(r->y0 / step + 1e-9) * step;
    r->y1 = ceil(r->y1 / step - 1e-9) * step;
    return step;
}

static int digits_for(double step)
{
    int digits = (int)ceil(-log10(step) - 1e-9);
    return digits < 0 ? 0 : digits > 9 ? 9 : digits;
}

static void text_at(nr_buffer *b, double x, double y, const char *anchor, const char *class, const char *text)
{
    nr_buffer_printf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s%s%s>", x, y, anchor, class ? " class=\"" : "", class ? class : "",
                     class ? "\"" : "");
    nr_escape(b, text);
    nr_buffer_text(b, "</text>");
}

static void axes(nr_buffer *b, const nr_chart *c, range *r)
{
    char label[64];
    double step = round_y(r);
    int digits = digits_for(step);
    for (double y = r->y0; y <= r->y1 + step / 2; y += step) {
        double at = place_y(r, y);
        nr_buffer_printf(b, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, at, at);
        snprintf(label, sizeof label, "%.*f", digits, fabs(y) < step / 1e6 ? 0 : y);
        text_at(b, LEFT - 8, at + 4, "end", NULL, label);
    }
    step = nr_tick_step(r->x0, r->x1, 6);
    if (c->whole_x && step < 1) step = 1;
    digits = digits_for(step);
    for (double x = ceil(r->x0 / step - 1e-9) * step; x <= r->x1 + step * 1e-6; x += step) {
        double at = place_x(r, x);
        nr_buffer_printf(b, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", at, at, r->height - BOTTOM, r->height - BOTTOM + 4);
        snprintf(label, sizeof label, "%.*f", digits, fabs(x) < step / 1e6 ? 0 : x);
        text_at(b, at, r->height - BOTTOM + 18, "middle", NULL, label);
    }
    nr_buffer_printf(b, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, r->height - BOTTOM, r->height - BOTTOM);
    text_at(b, (LEFT + WIDTH - RIGHT) / 2, r->height - 10, "middle", NULL, c->x_label);
    nr_buffer_printf(b, "<text transform=\"translate(12 %.1f) rotate(-90)\" text-anchor=\"middle\">", (r->top + r->height - BOTTOM) / 2);
    nr_escape(b, c->y_label);
    nr_buffer_text(b, "</text>");
}

static bool visible(const nr_series *s, const range *r, size_t i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]) && fabs(s->x[i]) <= 1e15 && s->y[i] >= r->y0 - (r->y1 - r->y0) &&
           s->y[i] <= r->y1 + (r->y1 - r->y0);
}

/* Five points around a centre. */
static void star(nr_buffer *b, const char *style, double x, double y)
{
    nr_buffer_printf(b, "<polygon class=\"f%s\" points=\"", style);
    for (int k = 0; k < 10; k++) {
        double size = k % 2 ? 3.4 : 8.5, angle = M_PI / 5 * k;
        nr_buffer_printf(b, "%s%.1f,%.1f", k ? " " : "", x + size * sin(angle), y - size * cos(angle));
    }
    nr_buffer_text(b, "\"/>");
}

static void draw_point(nr_buffer *b, const nr_chart *c, const nr_series *s, const range *r, size_t i)
{
    double x = place_x(r, s->x[i]), y = place_y(r, s->y[i]);
    nr_buffer_text(b, "<g>");
    if (s->star) star(b, s->style, x, y);
    else nr_buffer_printf(b, "<circle class=\"f%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", s->style, x, y);
    nr_buffer_text(b, "<title>");
    nr_escape(b, s->name);
    nr_buffer_printf(b, ", %g: %.*f</title></g>", s->x[i], c->digits, s->y[i]);
}

/* ---- notes beside points ---- */

#define MAX_NOTES 256

typedef struct {
    struct {
        double left, right, top, bottom;
    } taken[MAX_NOTES]; /* by notes and points */
    size_t count;
} notes;

/* Takes the place where it is free. */
static bool take(notes *n, double left, double right, double top, double bottom)
{
    if (n->count == MAX_NOTES) return false;
    for (size_t i = 0; i < n->count; i++)
        if (left < n->taken[i].right && right > n->taken[i].left && top < n->taken[i].bottom && bottom > n->taken[i].top) return false;
    n->taken[n->count].left = left, n->taken[n->count].right = right;
    n->taken[n->count].top = top, n->taken[n->count++].bottom = bottom;
    return true;
}

/* In the first of four corners around its point that is free; none: left to the point's title. */
static void note(nr_buffer *b, notes *n, double x, double y, const char *text)
{
    double wide = 6.2 * (double)strlen(text);
    for (int corner = 0; corner < 4; corner++) {
        bool left = corner >= 2;
        double at = corner % 2 ? y + 13 : y - 5, from = left ? x - 6 - wide : x + 6;
        if (!take(n, from, from + wide, at - 9, at + 1)) continue;
        text_at(b, left ? x - 6 : x + 6, at, left ? "end" : "start", "note", text);
        return;
    }
}

static void draw_notes(nr_buffer *b, const nr_chart *c, const range *r)
{
    notes n = {.count = 0};
    for (size_t k = 0; k < c->series_count; k++)
        for (size_t i = 0; c->series[k].points && i < c->series[k].count && n.count < MAX_NOTES / 2; i++) {
            const nr_series *s = &c->series[k];
            double x = place_x(r, s->x[i]), y = place_y(r, s->y[i]);
            if (visible(s, r, i)) take(&n, x - 2, x + 2, y - 2, y + 2);
        }
    for (size_t k = 0; k < c->series_count; k++)
        for (size_t i = 0; c->series[k].notes && i < c->series[k].count; i++) {
            const nr_series *s = &c->series[k];
            if (s->notes[i] && visible(s, r, i)) note(b, &n, place_x(r, s->x[i]), place_y(r, s->y[i]), s->notes[i]);
        }
}

static void draw_line(nr_buffer *b, const nr_chart *c, const nr_series *s, const range *r)
{
    bool pen = false;
    nr_buffer_printf(b, "<path class=\"%s%s%s\" d=\"", s->style, s->dashed ? " dashed" : "", s->faint ? " faint" : "");
    for (size_t i = 0; i < s->count; i++) {
        bool there = visible(s, r, i);
        if (there) nr_buffer_printf(b, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(r, s->x[i]), place_y(r, s->y[i]));
        pen = there;
    }
    nr_buffer_text(b, "\"/>");
    for (size_t i = 0; s->points && i < s->count; i++)
        if (visible(s, r, i)) draw_point(b, c, s, r, i);
}

static double legend_width(const nr_series *s) { return 26 + 6.7 * (double)strlen(s->name) + 18; }

/* Where the legend's names stand: in one line, or in columns as wide as the widest. */
typedef struct {
    double column; /* 0: one line */
    size_t columns, lines;
} legend_grid;

static legend_grid legend_grid_of(const nr_chart *c)
{
    double all = LEFT, widest = 0;
    size_t names = 0;
    for (size_t k = 0; k < c->series_count; k++) {
        if (!c->series[k].name) continue;
        all += legend_width(&c->series[k]);
        widest = fmax(widest, legend_width(&c->series[k]));
        names++;
    }
    if (all <= WIDTH) return (legend_grid){0, names, 1};
    size_t columns = (size_t)fmax((WIDTH - LEFT) / widest, 1);
    return (legend_grid){widest, columns, (names + columns - 1) / columns};
}

static void legend(nr_buffer *b, const nr_chart *c)
{
    const legend_grid g = legend_grid_of(c);
    double x = LEFT, y = 16;
    for (size_t k = 0, at = 0; k < c->series_count; k++) {
        const nr_series *s = &c->series[k];
        if (!s->name) continue;
        if (s->star) star(b, s->style, x + 10, y);
        else nr_buffer_printf(b, "<path class=\"%s%s%s\" d=\"M%.1f %.0fH%.1f\"/>", s->style, s->dashed ? " dashed" : "",
                              s->faint ? " faint" : "", x, y, x + 20);
        text_at(b, x + 26, y + 4, "start", "name", s->name);
        x += g.column > 0 ? g.column : legend_width(s);
        if (++at % g.columns == 0) x = LEFT, y += LEGEND;
    }
}

/* The last value of each line at its end, moved apart where they would touch. */
static void end_labels(nr_buffer *b, const nr_chart *c, const range *r)
{
    double at[MAX_SERIES], value[MAX_SERIES];
    size_t of[MAX_SERIES], count = 0;
    for (size_t k = 0; k < c->series_count && k < MAX_SERIES; k++) {
        const nr_series *s = &c->series[k];
        size_t i = s->count;
        while (i > 0 && !visible(s, r, i - 1)) i--;
        if (i == 0 || s->faint) continue;
        double y = place_y(r, s->y[i - 1]);
        size_t j = count++;
        for (; j > 0 && at[j - 1] > y; j--) at[j] = at[j - 1], value[j] = value[j - 1], of[j] = of[j - 1];
        at[j] = y, value[j] = s->y[i - 1], of[j] = k;
    }
    for (size_t j = 1; j < count; j++)
        if (at[j] - at[j - 1] < 14) at[j] = at[j - 1] + 14;
    double over = count ? at[count - 1] - (r->height - BOTTOM + 4) : 0;
    for (size_t j = 0; j < count; j++) {
        char text[64], class[32];
        snprintf(text, sizeof text, "%.*f", c->digits, value[j]);
        snprintf(class, sizeof class, "f%s", c->series[of[j]].style);
        text_at(b, WIDTH - RIGHT + 7, at[j] + 4 - (over > 0 ? over : 0), "start", class, text);
    }
}

void nr_chart_svg(nr_buffer *b, const nr_chart *c, bool standalone)
{
    range r;
    if (!span(&r, c)) return;
    double more = LEGEND * (double)(legend_grid_of(c).lines - 1);
    r.top += more;
    r.height += more + c->taller;
    nr_buffer_printf(b, "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-labelledby=\"%s-t %s-d\"", WIDTH, r.height, c->id, c->id);
    if (standalone) nr_buffer_printf(b, " xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\"", WIDTH * 1.5, r.height * 1.5);
    nr_buffer_printf(b, "><title id=\"%s-t\">", c->id);
    nr_escape(b, c->title);
    nr_buffer_printf(b, "</title><desc id=\"%s-d\">", c->id);
    nr_escape(b, c->description);
    nr_buffer_text(b, "</desc>");
    if (standalone)
        nr_buffer_printf(b, "<style>svg{%s background:#fff}@media(prefers-color-scheme:dark){svg{%s background:#171a21}}%s</style>",
                         nr_chart_light, nr_chart_dark, nr_chart_rules);
    axes(b, c, &r);
    for (size_t k = 0; k < c->series_count; k++) draw_line(b, c, &c->series[k], &r);
    draw_notes(b, c, &r);
    legend(b, c);
    if (!c->no_ends) end_labels(b, c, &r);
    nr_buffer_text(b, "</svg>");
}

/* The colour of a name within "--name:#123456;", n bytes long. */
static void plain_colour(nr_buffer *b, const char *name, size_t n)
{
    for (const char *p = nr_chart_light; (p = strstr(p, "--")); p += 2)
        if (strncmp(p, name, n) == 0 && p[n] == ':') {
            nr_buffer_add(b, p + n + 1, strcspn(p + n + 1, ";"));
            return;
        }
    nr_buffer_text(b, "#000");
}

void nr_chart_plain(nr_buffer *b, const char *svg)
{
    while (*svg) {
        const char *var = strstr(svg, "var(--");
        size_t n = var ? (size_t)(var - svg) : strlen(svg);
        nr_buffer_add(b, svg, n);
        svg += n;
        if (!var) break;
        size_t name = strcspn(svg + 4, ")");
        plain_colour(b, svg + 4, name);
        svg += 4 + name + (svg[4 + name] == ')');
    }
}
