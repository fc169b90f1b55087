/*
 * report.h - what a run did, for people: one self-contained page with its
 * drawings, and the final table as text, Markdown and JSON.
 *
 * Everything read is taken as hostile: every string is escaped, every number
 * may be missing or not finite.
 */
#ifndef NR_REPORT_H
#define NR_REPORT_H

#include "base/base.h"

/* ---- report_data.c: what the files of a run say ---- */

typedef struct {
    const char *run;     /* folder with config.json, metrics.jsonl, extension_config.json, usage.json */
    const char *eval;    /* nres eval --json of the trained extension, or NULL */
    const char *before;  /* nres eval --json of the backbone alone, or NULL */
    const char *gates;   /* nres eval --token-gates, or NULL */
    const char *samples; /* {"samples": [{"before", "after"}]}: what nres generate --json printed; or NULL */
    const char *tasks;   /* nres eval --tasks --json of both, or NULL */
} nr_report_files;

typedef struct {
    char *run;
    json_t *config, *extension, *usage, *eval, *before, *gates, *samples, *tasks; /* NULL: none */
    json_t *steps, *evals; /* lists, by ascending step: lines of metrics.jsonl */
    size_t bad_lines;      /* of metrics.jsonl: cut off or no JSON */
} nr_report_data;

/* Metrics are needed; what else is there is read. After a resume a step may be
 * logged twice: the later line counts. */
nr_status nr_report_load(nr_report_data *d, const nr_report_files *f, nr_error *err);
void nr_report_free(nr_report_data *d);
/* A number at a path such as "old.bits_per_byte"; NaN where there is none. */
double nr_report_number(const json_t *o, const char *path);
/* A string at a path, or NULL. */
const char *nr_report_string(const json_t *o, const char *path);
/* Whether this string stands there. */
bool nr_report_is(const json_t *o, const char *path, const char *value);
/* The name of a method as a title has it; other where it has none. */
const char *nr_report_method(const char *method, const char *other);

/* ---- report_escape.c ---- */

/* Text for HTML and XML: & < > " ' escaped; control characters and bytes that
 * are not UTF-8 become U+FFFD. */
void nr_escape(nr_buffer *b, const char *s);
/* Thousands parted by commas. */
void nr_grouped(nr_buffer *b, double v);

/* ---- chart.c: lines over a common x, as SVG ---- */

typedef struct {
    const char *name;  /* in the legend, or NULL: not there */
    const char *style; /* "old", "new", "base", "third", "m1" to "m8": a colour of the page */
    const double *x, *y;
    size_t count;
    bool dashed, faint, points;
    bool star;                /* points are stars */
    const char *const *notes; /* (count) words beside points, or NULL */
} nr_series;

typedef struct {
    const char *id, *title, *description, *x_label, *y_label;
    const nr_series *series;
    size_t series_count;
    bool from_zero;     /* the y axis shows 0 */
    bool whole_x;       /* x are whole numbers: no ticks between them */
    int digits;         /* of numbers after the point */
    double y_low, y_high; /* given range of y; both 0: from the data */
    double taller;      /* than the usual drawing */
    bool margin;        /* x spans a little more than the data */
    bool no_ends;       /* no values at the lines' ends */
} nr_chart;

/* standalone: a file of its own, with its colours inside. */
void nr_chart_svg(nr_buffer *b, const nr_chart *c, bool standalone);
/* The colours that drawings use, as CSS for a selector and its dark form. */
extern const char nr_chart_light[], nr_chart_dark[], nr_chart_rules[];
/* A drawing that stands alone with light colours in place of its variables, for programs that know none. */
void nr_chart_plain(nr_buffer *b, const char *svg);
/* Step between ticks, 1, 2 or 5 times a power of ten, for about `want` of them. */
double nr_tick_step(double low, double high, size_t want);

/* ---- report_table.c: the final table ---- */

typedef enum { NR_TABLE_TEXT, NR_TABLE_MARKDOWN, NR_TABLE_HTML } nr_table_form;
/* Bits per byte of backbone, extension and extension off on every file, and
 * what the extension cost: seconds of the whole run, validation included;
 * tokens a second of its median step. Text is at most 80 columns wide. */
void nr_report_table(nr_buffer *b, const nr_report_data *d, nr_table_form form);
/* Prompts continued before and after, wrapped at 80 columns. */
void nr_report_samples(nr_buffer *b, const nr_report_data *d);
/* Tokens a second, the median over the steps: validation and pauses don't count; NAN without any. */
double nr_report_speed(const json_t *steps);
/* The same table as JSON, task scores with it; NULL without an evaluation. */
json_t *nr_report_results(const nr_report_data *d);

/* ---- report_tasks.c: the table of task scores ---- */

/* Nothing without task scores. Text is at most 80 columns wide. */
void nr_report_task_table(nr_buffer *b, const nr_report_data *d, nr_table_form form);
/* [{"task", "format", "items", "chance", "backbone", "backbone_stderr", ...}]; NULL without task scores. */
json_t *nr_report_tasks(const nr_report_data *d);

/* ---- report_page.c, report_figures.c, report_tokens.c ---- */

/* The drawings, in the page's order: number i as SVG; false after the last.
 * name: of its file. A drawing without data leaves svg empty. */
bool nr_report_figure(const nr_report_data *d, size_t i, bool standalone, const char **name, nr_buffer *svg, nr_buffer *numbers);
/* Texts coloured token by token. */
void nr_report_tokens(nr_buffer *b, const nr_report_data *d);
void nr_report_page(nr_buffer *b, const nr_report_data *d);
/* Head of a page up to its heading, with the button for light and dark, and its end. */
void nr_page_begin(nr_buffer *b, const char *title, const char *below);
void nr_page_end(nr_buffer *b);
/* Writes the page, and the drawings into `folder` (NULL: not). */
nr_status nr_report_write(const nr_report_data *d, const char *path, const char *folder, nr_error *err);

#endif
