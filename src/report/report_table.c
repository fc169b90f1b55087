/*
 * report_table.c - the final table: the backbone, the extension and the
 * extension switched off on every evaluated file, and what it cost.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

#define COLUMN 13 /* characters */
#define LABEL 15
#define ACROSS 5  /* files side by side: 15 + 5 * 13 = 80 columns */

static void set(json_t *o, const char *key, double v) { json_object_set_new(o, key, isfinite(v) ? json_real(v) : json_null()); }

/* "text/en-pubmed.test.jsonl" is "en-pubmed". */
static json_t *short_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strcspn(name, ".");
    char *text = strndup(name, n ? n : strlen(name));
    json_t *o = json_string(text ? text : name);
    free(text);
    return o;
}

static const json_t *file_of(const json_t *eval, const char *path)
{
    size_t i;
    const json_t *f;
    json_array_foreach(json_object_get(eval, "files"), i, f) {
        const char *other = nr_report_string(f, "path");
        if (other && strcmp(other, path) == 0) return f;
    }
    return NULL;
}

static json_t *set_json(const nr_report_data *d, const json_t *f)
{
    const char *path = nr_report_string(f, "path"), *domain = nr_report_string(f, "domain");
    json_t *o = json_object();
    const json_t *before = file_of(d->before, path ? path : "");
    double off = nr_report_number(f, "backbone.bits_per_byte");
    double first = before ? nr_report_number(before, "backbone.bits_per_byte") : off;
    json_object_set_new(o, "name", short_name(path ? path : "?"));
    if (domain) json_object_set_new(o, "domain", json_string(domain));
    set(o, "documents", nr_report_number(f, "documents"));
    set(o, "tokens", nr_report_number(f, "tokens"));
    set(o, "bytes", nr_report_number(f, "bytes"));
    set(o, "backbone", first);
    set(o, "extended", nr_report_number(f, "extended.bits_per_byte"));
    set(o, "off", off);
    set(o, "difference", nr_report_number(f, "extended.bits_per_byte") - first);
    set(o, "difference_stderr", nr_report_number(f, "difference.bits_per_byte_stderr"));
    set(o, "kl", nr_report_number(f, "kl"));
    set(o, "top1_agreement", nr_report_number(f, "top1_agreement"));
    return o;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double nr_report_speed(const json_t *steps)
{
    size_t n = 0, i;
    const json_t *s;
    double *v, middle = NAN;
    nr_error ignored;
    if (nr_alloc(&v, json_array_size(steps) + 1, sizeof *v, "speeds", &ignored) != NR_OK) return NAN;
    json_array_foreach(steps, i, s) {
        double speed = nr_report_number(s, "tokens_per_second");
        if (speed > 0 && isfinite(speed)) v[n++] = speed;
    }
    qsort(v, n, sizeof *v, by_size);
    if (n > 0) middle = v[n / 2];
    free(v);
    return middle;
}

/* Tokens and seconds of the last line are those of the whole run. */
static void cost_json(json_t *o, const nr_report_data *d)
{
    const json_t *e = d->extension ? d->extension : json_object_get(d->eval, "extension");
    const json_t *last = json_array_get(d->steps, json_array_size(d->steps) - 1);
    double tokens = nr_report_number(last, "tokens"), seconds = nr_report_number(last, "seconds");
    set(o, "weights", nr_report_number(e, "weights"));
    set(o, "share_of_all_weights", nr_report_number(e, "share_of_all_weights"));
    set(o, "share_of_non_embedding_weights", nr_report_number(e, "share_of_non_embedding_weights"));
    set(o, "steps", nr_report_number(last, "step"));
    set(o, "training_tokens", tokens);
    set(o, "training_seconds", seconds);
    set(o, "tokens_per_second", nr_report_speed(d->steps));
    set(o, "memory_peak", nr_report_number(d->usage, "memory_peak"));
}

json_t *nr_report_results(const nr_report_data *d)
{
    const json_t *files = json_object_get(d->eval, "files"), *f;
    size_t i;
    if (json_array_size(files) == 0) return NULL;
    json_t *o = json_object(), *sets = json_array();
    const char *method = nr_report_string(d->extension, "method");
    if (!method) method = nr_report_string(d->eval, "extension.method");
    json_array_foreach(files, i, f) json_array_append_new(sets, set_json(d, f));
    json_object_set_new(o, "sets", sets);
    json_object_set_new(o, "method", json_string(method ? method : "extension"));
    if (nr_report_string(d->eval, "model")) json_object_set(o, "model", json_object_get(d->eval, "model"));
    json_t *tasks = nr_report_tasks(d);
    if (tasks) json_object_set_new(o, "tasks", tasks);
    cost_json(o, d);
    return o;
}

/* ---- three forms of one table ---- */

typedef struct {
    nr_buffer *b;
    nr_table_form form;
    const json_t *sets;
    size_t first, count; /* of the sets at hand */
} table;

static const json_t *column(const table *t, size_t i) { return json_array_get(t->sets, t->first + i); }

static void cell(const table *t, const char *text)
{
    switch (t->form) {
    case NR_TABLE_TEXT: nr_buffer_printf(t->b, "%*s", COLUMN, text); break;
    case NR_TABLE_MARKDOWN: nr_buffer_printf(t->b, " %s |", text); break;
    case NR_TABLE_HTML: nr_buffer_printf(t->b, "<td>%s</td>", text); break;
    }
}

static void begin_row(const table *t, const char *label)
{
    switch (t->form) {
    case NR_TABLE_TEXT: nr_buffer_printf(t->b, "%-*s", LABEL, label); break;
    case NR_TABLE_MARKDOWN: nr_buffer_printf(t->b, "| %s |", label); break;
    case NR_TABLE_HTML: nr_buffer_printf(t->b, "<tr><th scope=\"row\">%s</th>", label); break;
    }
}

static void end_row(const table *t) { nr_buffer_text(t->b, t->form == NR_TABLE_HTML ? "</tr>\n" : "\n"); }

/* scale: 100 for shares. sign: with a plus. */
static void number_row(const table *t, const char *label, const char *key, const char *format, double scale)
{
    bool any = false;
    for (size_t i = 0; i < t->count; i++) any |= isfinite(nr_report_number(column(t, i), key));
    if (!any) return;
    begin_row(t, label);
    for (size_t i = 0; i < t->count; i++) {
        char text[64] = "-";
        double v = nr_report_number(column(t, i), key);
        if (isfinite(v)) snprintf(text, sizeof text, format, v * scale);
        cell(t, text);
    }
    end_row(t);
}

/* Names from files: escaped where the form has a syntax, cut where columns are narrow. */
static void name_cell(const table *t, const char *name)
{
    nr_buffer safe = {0};
    char cut[COLUMN] = "";
    switch (t->form) {
    case NR_TABLE_TEXT:
        snprintf(cut, sizeof cut, "%s", name);
        for (char *p = cut; *p; p++)
            if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7F) *p = '?';
        nr_buffer_printf(t->b, "%*s", COLUMN, cut);
        break;
    case NR_TABLE_MARKDOWN:
        nr_escape(&safe, name);
        for (size_t i = 0; i < safe.size; i++)
            if (strchr("|\n`\\", safe.data[i])) safe.data[i] = ' ';
        nr_buffer_printf(t->b, " %s |", safe.data ? safe.data : "");
        break;
    case NR_TABLE_HTML:
        nr_buffer_text(t->b, "<th scope=\"col\">");
        nr_escape(t->b, name);
        nr_buffer_text(t->b, "</th>");
        break;
    }
    nr_buffer_free(&safe);
}

static void heading(const table *t)
{
    bool domains = false;
    if (t->form == NR_TABLE_HTML) nr_buffer_text(t->b, "<table class=\"results\"><thead>");
    begin_row(t, "bits per byte");
    for (size_t i = 0; i < t->count; i++) {
        const char *name = nr_report_string(column(t, i), "name");
        name_cell(t, name ? name : "?");
        domains |= nr_report_string(column(t, i), "domain") != NULL;
    }
    end_row(t);
    if (t->form == NR_TABLE_MARKDOWN) {
        nr_buffer_text(t->b, "|---|");
        for (size_t i = 0; i < t->count; i++) nr_buffer_text(t->b, "---:|");
        nr_buffer_text(t->b, "\n");
    }
    if (domains) {
        begin_row(t, "domain");
        for (size_t i = 0; i < t->count; i++) {
            const char *domain = nr_report_string(column(t, i), "domain");
            cell(t, !domain ? "-" : strcmp(domain, "new") == 0 ? "new" : "old");
        }
        end_row(t);
    }
    if (t->form == NR_TABLE_HTML) nr_buffer_text(t->b, "</thead><tbody>");
}

const char *nr_report_method(const char *method, const char *other)
{
    static const char *const names[][2] = {{"neutral", "Neutral residues"}, {"lora", "LoRA"}, {"llama-pro", "LLaMA-Pro"},
                                           {"finetune", "Finetuning"},      {"ewc", "EWC"},   {"lwf", "LwF"}};
    for (size_t i = 0; i < NR_COUNT(names); i++)
        if (strcmp(method, names[i][0]) == 0) return names[i][1];
    return other;
}

static const char *method_label(const json_t *r)
{
    const char *method = nr_report_string(r, "method");
    if (!method) return "extension";
    return strcmp(method, "neutral") == 0 ? "neutral res." : nr_report_method(method, "extension");
}

static void rows(const table *t, const json_t *r)
{
    bool wide = t->form != NR_TABLE_TEXT;
    const char *method = method_label(r);
    heading(t);
    number_row(t, "backbone", "backbone", "%.4f", 1);
    number_row(t, wide && strcmp(method, "neutral res.") == 0 ? "neutral residues" : method, "extended", "%.4f", 1);
    number_row(t, wide ? "the same run, extension off" : "extension off", "off", "%.4f", 1);
    number_row(t, wide ? "difference to the backbone" : "difference", "difference", "%+.4f", 1);
    number_row(t, wide ? "standard error of the difference" : "  +- (stderr)", "difference_stderr", "%.4f", 1);
    number_row(t, wide ? "KL to the backbone, nats per token" : "KL, nats/token", "kl", "%.4f", 1);
    number_row(t, wide ? "same first choice, %" : "same choice, %", "top1_agreement", "%.2f", 100);
    if (t->form == NR_TABLE_HTML) nr_buffer_text(t->b, "</tbody></table>\n");
}

/* ---- cost ---- */

static void time_text(nr_buffer *b, double s)
{
    if (s < 60) nr_buffer_printf(b, "%.1f s", s);
    else if (s < 3600) nr_buffer_printf(b, "%d min %02d s", (int)(s / 60), (int)fmod(s, 60));
    else nr_buffer_printf(b, "%d h %02d min", (int)fmin(s / 3600, 1e6), (int)fmod(s / 60, 60));
}

static void cost(const table *t, const json_t *r)
{
    const char *open = t->form == NR_TABLE_HTML ? "<p class=\"cost\">" : t->form == NR_TABLE_MARKDOWN ? "\n" : "", *close = t->form == NR_TABLE_HTML ? "</p>\n" : "\n";
    double weights = nr_report_number(r, "weights"), seconds = nr_report_number(r, "training_seconds");
    double peak = nr_report_number(r, "memory_peak"), tokens = nr_report_number(r, "training_tokens");
    if (weights > 0) {
        nr_buffer_printf(t->b, "%sweights added   ", open);
        nr_grouped(t->b, weights);
        nr_buffer_printf(t->b, ": %.2f %% of all, %.2f %% of the non-embedding ones%s", 100 * nr_report_number(r, "share_of_all_weights"),
                         100 * nr_report_number(r, "share_of_non_embedding_weights"), close);
    }
    if (seconds > 0) {
        nr_buffer_printf(t->b, "%straining        ", open);
        time_text(t->b, seconds);
        nr_buffer_printf(t->b, ", %.0f steps, ", nr_report_number(r, "steps"));
        nr_grouped(t->b, tokens);
        double speed = nr_report_number(r, "tokens_per_second");
        nr_buffer_text(t->b, " tokens");
        if (isfinite(speed)) nr_buffer_printf(t->b, ", %.0f tokens/s", speed);
        nr_buffer_text(t->b, close);
    }
    if (peak > 0) nr_buffer_printf(t->b, "%speak memory     %.2f GiB%s", open, peak / 1073741824.0, close);
}

void nr_report_table(nr_buffer *b, const nr_report_data *d, nr_table_form form)
{
    json_t *r = nr_report_results(d);
    if (!r) return;
    table t = {.b = b, .form = form, .sets = json_object_get(r, "sets")};
    size_t n = json_array_size(t.sets), across = form == NR_TABLE_TEXT ? ACROSS : n;
    for (t.first = 0; t.first < n; t.first += across) {
        t.count = NR_MIN(across, n - t.first);
        rows(&t, r);
        nr_buffer_text(b, "\n");
    }
    cost(&t, r);
    json_decref(r);
}

/* ---- continuations ---- */

/* Words on lines of at most 80 characters behind an indent; control characters become spaces. */
static void wrapped(nr_buffer *b, const char *label, const char *prompt, const char *text)
{
    size_t column = 10;
    nr_buffer_printf(b, "%-10s", label);
    for (int part = 0; part < 2; part++)
        for (const char *p = part ? text : prompt; *p;) {
            size_t blanks = 0, n = 0, wide = 0;
            while (p[blanks] && (unsigned char)p[blanks] <= 0x20) blanks++;
            p += blanks;
            while ((unsigned char)p[n] > 0x20) wide += ((unsigned char)p[n++] & 0xC0) != 0x80;
            if (n == 0) break;
            if (blanks && column + 1 + wide > 80) {
                nr_buffer_text(b, "\n          ");
                column = 10;
            } else if (blanks && column > 10) {
                nr_buffer_text(b, " ");
                column++;
            }
            nr_buffer_add(b, p, n);
            column += wide;
            p += n;
        }
    nr_buffer_text(b, "\n");
}

void nr_report_samples(nr_buffer *b, const nr_report_data *d)
{
    const json_t *s;
    size_t i;
    json_array_foreach(json_object_get(d->samples, "samples"), i, s) {
        const char *prompt = nr_report_string(s, "before.prompt"), *before = nr_report_string(s, "before.text");
        const char *after = nr_report_string(s, "after.text");
        if (!prompt || !before || !after) continue;
        nr_buffer_text(b, "\n");
        wrapped(b, "before", prompt, before);
        wrapped(b, "after", prompt, after);
    }
}
