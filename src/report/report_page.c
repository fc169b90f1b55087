/*
 * report_page.c - the page: headline, drawings, coloured text, table, settings
 * and the command. One file that needs nothing else: no network, no fonts, no
 * images; its policy forbids loading any.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

#define MAX_SETTINGS 400

static const char style[] =
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,sans-serif}"
    "main{max-width:1180px;margin:0 auto;padding:28px 24px 64px}header{display:flex;gap:16px;align-items:flex-start;justify-content:space-between}"
    "h1{font-size:27px;line-height:1.2;margin:0 0 4px}h2{font-size:19px;margin:44px 0 10px}h3{font-size:15px;margin:0 0 2px}"
    "p{margin:8px 0}.soft,.note{color:var(--soft)}.note{font-size:14px;margin:0 0 8px;max-width:75ch}"
    "button{font:inherit;font-size:14px;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px 12px;cursor:pointer;white-space:nowrap;flex:none}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin:22px 0 0}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}"
    ".card b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:14px}"
    ".card.new b{color:var(--new)}.card.old b{color:var(--old)}"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:18px}"
    "figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px 10px}"
    "figcaption{font-size:14px;color:var(--soft)}figcaption b{display:block;color:var(--ink);font-size:15px}"
    "svg.chart{display:block;width:100%;height:auto;margin-top:6px}details{font-size:14px;margin-top:6px}summary{cursor:pointer;color:var(--soft)}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:5px 12px;text-align:right;border-bottom:1px solid var(--line)}"
    "th:first-child{text-align:left}thead th{color:var(--soft);font-weight:600}tbody th{font-weight:500}.scroll{overflow-x:auto}"
    "thead th{vertical-align:bottom}.scroll .results th,.scroll .results td{white-space:nowrap}.results .soft{font-weight:400}"
    ".scroll .results tr>:first-child{position:sticky;left:0;background:var(--page)}.first>*{font-weight:600}"
    ".scroll .why td{text-align:left;color:var(--soft);font-size:14px;padding-top:0}.why span{display:block;width:min(1080px,82vw);white-space:normal;overflow-wrap:anywhere}"
    ".failed>*{border-bottom:0}.scroll+h3{margin-top:22px}"
    ".numbers{font-size:13px;margin-top:6px}.numbers th,.numbers td{padding:2px 10px}"
    ".tokens{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;line-height:2;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".tok{border-radius:4px;padding:2px 0}.mean{color:var(--soft);font-size:13px;margin-left:12px;white-space:nowrap}"
    ".scale span{display:inline-block;min-width:58px;text-align:center;font-size:12px;padding:2px 4px}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:14px;margin:12px 0 22px}.pair div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 16px}"
    ".pair p{white-space:pre-wrap;overflow-wrap:anywhere}.prompt{font-weight:600}@media(max-width:700px){.pair{grid-template-columns:1fr}}"
    "pre{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 16px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13.5px}"
    ".settings{columns:3 300px;font-size:13.5px}.settings div{break-inside:avoid;display:flex;justify-content:space-between;gap:10px;border-bottom:1px solid var(--line);padding:3px 0}"
    ".settings dt{color:var(--soft)}.settings dd{margin:0;text-align:right;overflow-wrap:anywhere}"
    "@media print{button{display:none}main{max-width:none;padding:0}figure,.card,.pair,tr{break-inside:avoid}.figures{grid-template-columns:1fr 1fr}h2{break-after:avoid}"
    ".tok,.scale span{-webkit-print-color-adjust:exact;print-color-adjust:exact}}";

/* The button goes round: as the system has it, dark, light. */
static const char script[] =
    "(function(){var r=document.documentElement,b=document.getElementById('theme');"
    "b.hidden=false;b.onclick=function(){var d=r.dataset.theme||(matchMedia('(prefers-color-scheme: dark)').matches?'dark':'light');"
    "r.dataset.theme=d==='dark'?'light':'dark';};})();";

static void head(nr_buffer *b, const char *title)
{
    static const char light[] = "--page:#f6f7f9;--card:#fff;--minus-rgb:139 92 246;--plus-rgb:20 160 140;";
    static const char dark[] = "--page:#101218;--card:#171a21;--minus-rgb:139 92 246;--plus-rgb:20 160 140;";
    nr_buffer_text(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>");
    nr_escape(b, title);
    nr_buffer_printf(b, "</title>\n<style>:root{color-scheme:light;%s%s}@media(prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;%s%s}}"
                        ":root[data-theme=dark]{color-scheme:dark;%s%s}",
                     nr_chart_light, light, nr_chart_dark, dark, nr_chart_dark, dark);
    /* Paper is white, whatever the screen was. */
    nr_buffer_printf(b, "@media print{:root,:root[data-theme=dark],:root:not([data-theme=light]){color-scheme:light;%s%s--page:#fff;}}", nr_chart_light, light);
    nr_buffer_text(b, nr_chart_rules);
    nr_buffer_text(b, style);
    nr_buffer_text(b, "</style>\n</head>\n");
}

void nr_page_begin(nr_buffer *b, const char *title, const char *below)
{
    head(b, title);
    nr_buffer_text(b, "<body>\n<main>\n<header><div><h1>");
    nr_escape(b, title);
    nr_buffer_text(b, "</h1><p class=\"soft\">");
    nr_escape(b, below);
    nr_buffer_printf(b, "written by nres %s</p></div><button id=\"theme\" type=\"button\" hidden>Light / dark</button></header>\n", NRES_VERSION);
}

void nr_page_end(nr_buffer *b) { nr_buffer_printf(b, "</main>\n<script>%s</script>\n</body>\n</html>\n", script); }

/* ---- headline ---- */

typedef struct {
    double before, after, kl;
    const char *name;
} outcome;

/* The first file of a domain, else the last validation. */
static bool outcome_of(outcome *o, const nr_report_data *d, const json_t *results, const char *domain)
{
    size_t i;
    const json_t *s;
    char path[64];
    json_array_foreach(json_object_get(results, "sets"), i, s) {
        if (!nr_report_is(s, "domain", domain)) continue;
        *o = (outcome){nr_report_number(s, "backbone"), nr_report_number(s, "extended"), nr_report_number(s, "kl"), nr_report_string(s, "name")};
        return true;
    }
    const json_t *last = json_array_get(d->evals, json_array_size(d->evals) - 1);
    snprintf(path, sizeof path, "%s.backbone_bits_per_byte", domain);
    o->before = nr_report_number(last, path);
    snprintf(path, sizeof path, "%s.bits_per_byte", domain);
    o->after = nr_report_number(last, path);
    snprintf(path, sizeof path, "%s.kl", domain);
    o->kl = nr_report_number(last, path);
    o->name = "validation";
    return isfinite(o->before) && isfinite(o->after);
}

static void card(nr_buffer *b, const char *class, const char *value, const char *text, const char *name)
{
    nr_buffer_printf(b, "<div class=\"card %s\"><b>%s</b><span>%s", class, value, text);
    if (name) {
        nr_buffer_text(b, " (");
        nr_escape(b, name);
        nr_buffer_text(b, ")");
    }
    nr_buffer_text(b, "</span></div>\n");
}

static void bits_card(nr_buffer *b, const outcome *o, bool is_new)
{
    char value[64], text[160];
    double change = 100 * (o->after / o->before - 1);
    if (!isfinite(change)) return;
    snprintf(value, sizeof value, "%+.1f %%", change);
    snprintf(text, sizeof text, "bits per byte on %s text: %.4f before, %.4f after", is_new ? "new" : "old", o->before, o->after);
    card(b, is_new ? "new" : "old", value, text, o->name);
}

static void cards(nr_buffer *b, const nr_report_data *d, const json_t *r)
{
    char value[64], text[128];
    outcome o;
    const json_t *e = d->extension ? d->extension : json_object_get(d->eval, "extension");
    double share = nr_report_number(e, "share_of_all_weights");
    const json_t *last = json_array_get(d->steps, json_array_size(d->steps) - 1);
    double seconds = nr_report_number(last, "seconds"), speed = nr_report_number(r, "tokens_per_second");
    nr_buffer_text(b, "<div class=\"cards\">\n");
    if (outcome_of(&o, d, r, "new")) bits_card(b, &o, true);
    if (outcome_of(&o, d, r, "old")) {
        bits_card(b, &o, false);
        snprintf(value, sizeof value, "%.4f", o.kl);
        if (isfinite(o.kl)) card(b, "old", value, "KL divergence to the backbone on old text, nats per token", o.name);
    }
    if (isfinite(share)) {
        nr_buffer grouped = {0};
        nr_grouped(&grouped, nr_report_number(e, "weights"));
        snprintf(value, sizeof value, "%.1f %%", 100 * share);
        /* what trains the backbone's own weights adds none, and can't keep to a budget */
        double asked = nr_report_number(e, "settings.extra");
        bool own = nr_report_number(e, "width") == 0;
        int n = snprintf(text, sizeof text, "weights %s: %s", own ? "trained" : "added", grouped.data ? grouped.data : "?");
        if (own && 100 * share > 1.05 * asked) snprintf(text + n, sizeof text - (size_t)n, "; the method can't keep to %g %%", asked);
        card(b, "", value, text, NULL);
        nr_buffer_free(&grouped);
    }
    if (seconds > 0) {
        snprintf(value, sizeof value, seconds < 120 ? "%.0f s" : "%.0f min", seconds < 120 ? seconds : seconds / 60);
        snprintf(text, sizeof text, isfinite(speed) ? "of training and validation; %.0f tokens a second" : "of training and validation", speed);
        card(b, "", value, text, NULL);
    }
    nr_buffer_text(b, "</div>\n");
}

/* ---- drawings ---- */

static const struct {
    const char *name, *title, *note;
} captions[] = {
    {"learning", "Learning", "Validation text of the new domain: lower is better."},
    {"forgetting", "Forgetting", "Validation text of the old domain: above the dashed line is forgetting."},
    {"loss", "Training loss", "On the rows of each step, with running means."},
    {"detector", "The gate as a detector", "How well each layer's gate tells new text from old; 0.5 is chance."},
    {"gates", "Size of the gate", "Near 0 the layer is the backbone's."},
    {"ratio", "What the extension adds", "Its output beside the frozen feed-forward block's."},
};

static void figures(nr_buffer *b, const nr_report_data *d)
{
    const char *name;
    nr_buffer svg = {0}, numbers = {0};
    nr_buffer_text(b, "<h2>Learning and forgetting</h2>\n<div class=\"figures\">\n");
    for (size_t i = 0; nr_report_figure(d, i, false, &name, &svg, &numbers); i++) {
        if (strcmp(name, "loss") == 0) nr_buffer_text(b, "</div>\n<h2>Training, and where the extension acts</h2>\n<div class=\"figures\">\n");
        for (size_t k = 0; k < NR_COUNT(captions) && svg.size > 0; k++) {
            if (strcmp(captions[k].name, name) != 0) continue;
            nr_buffer_printf(b, "<figure><figcaption><b>%s</b>%s</figcaption>%s", captions[k].title, captions[k].note, svg.data);
            if (numbers.size > 0) nr_buffer_printf(b, "<details><summary>Numbers</summary><div class=\"scroll\">%s</div></details>", numbers.data);
            nr_buffer_text(b, "</figure>\n");
        }
        if (svg.failed || numbers.failed) b->failed = true;
        svg.size = numbers.size = 0;
    }
    nr_buffer_text(b, "</div>\n");
    nr_buffer_free(&svg);
    nr_buffer_free(&numbers);
}

/* ---- continuations ---- */

static void samples(nr_buffer *b, const nr_report_data *d)
{
    static const char *const keys[] = {"before.text", "after.text"}, *const titles[] = {"Backbone", "With the extension"};
    const json_t *list = json_object_get(d->samples, "samples"), *s;
    size_t i;
    if (json_array_size(list) == 0) return;
    nr_buffer_text(b, "<h2>Prompts continued</h2>\n");
    json_array_foreach(list, i, s) {
        const char *prompt = nr_report_string(s, "before.prompt");
        nr_buffer_text(b, "<div class=\"pair\">");
        for (size_t k = 0; k < 2; k++) {
            const char *text = nr_report_string(s, keys[k]);
            nr_buffer_printf(b, "<div><h3 class=\"soft\">%s</h3><p><span class=\"prompt\">", titles[k]);
            nr_escape(b, prompt ? prompt : "");
            nr_buffer_text(b, "</span>");
            nr_escape(b, text ? text : "");
            nr_buffer_text(b, "</p></div>");
        }
        nr_buffer_text(b, "</div>\n");
    }
}

/* ---- settings and command ---- */

static void setting(nr_buffer *b, const char *name, const json_t *v)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    nr_buffer_text(b, "<div><dt>");
    nr_escape(b, name);
    nr_buffer_text(b, "</dt><dd>");
    const json_t *item;
    size_t i;
    bool files = json_array_size(v) > 0 && nr_report_string(json_array_get(v, 0), "path");
    if (!files) nr_escape(b, json_is_string(v) ? json_string_value(v) : text ? text : "?");
    json_array_foreach(files ? v : NULL, i, item) { /* of a file the name is enough here: config.json has its hash */
        const char *path = nr_report_string(item, "path"), *slash = path ? strrchr(path, '/') : NULL;
        if (i > 0) nr_buffer_text(b, ", ");
        nr_escape(b, slash ? slash + 1 : path ? path : "?");
    }
    nr_buffer_text(b, "</dd></div>");
    free(text);
}

static void settings_of(nr_buffer *b, const char *prefix, const json_t *o, size_t *count, int depth)
{
    const char *key;
    const json_t *v;
    json_object_foreach((json_t *)o, key, v) {
        if (*count >= MAX_SETTINGS || strcmp(key, "command") == 0 || strcmp(key, "tokens") == 0) continue;
        if (json_is_array(v) && json_array_size(v) == 0) continue;
        char *name = *prefix ? nr_format("%s.%s", prefix, key) : nr_strdup(key);
        if (name && json_is_object(v) && depth < 4) {
            settings_of(b, strcmp(key, "settings") == 0 ? prefix : name, v, count, depth + 1);
        } else if (name) {
            setting(b, name, v);
            ++*count;
        }
        free(name);
    }
}

static void command(nr_buffer *b, const nr_report_data *d)
{
    const json_t *v = json_object_get(d->config, "command"), *word;
    size_t i;
    if (!json_is_string(v) && !json_is_array(v)) return;
    nr_buffer_text(b, "<h2>The command that makes this run again</h2>\n<pre>");
    if (json_is_string(v)) nr_escape(b, json_string_value(v));
    json_array_foreach(v, i, word) {
        if (i > 0) nr_buffer_text(b, " ");
        if (json_is_string(word)) nr_escape(b, json_string_value(word));
    }
    nr_buffer_text(b, "</pre>\n");
}

static void title_of(nr_buffer *b, const nr_report_data *d)
{
    const char *method = nr_report_string(d->extension, "method"), *slash = strrchr(d->run, '/');
    const char *name = slash && slash[1] ? slash + 1 : d->run;
    nr_buffer_text(b, method ? nr_report_method(method, "Extension") : "Neutral residues");
    nr_buffer_text(b, ": ");
    nr_buffer_text(b, name);
}

void nr_report_page(nr_buffer *b, const nr_report_data *d)
{
    json_t *results = nr_report_results(d);
    nr_buffer title = {0}, below = {0}, part = {0};
    size_t count = 0;
    const char *backbone = nr_report_string(d->extension, "backbone.name");
    title_of(&title, d);
    if (backbone) nr_buffer_printf(&below, "on %s, ", backbone);
    nr_page_begin(b, title.data ? title.data : "Report", below.data ? below.data : "");
    cards(b, d, results);
    figures(b, d);
    nr_report_tokens(&part, d);
    if (part.size > 0)
        nr_buffer_printf(b, "<h2>The gate, token by token</h2>\n<p class=\"note\">The colour of a token is its gate, mean over the layers: "
                            "no colour is a neutral extension. Point at a token for its value.</p>\n%s", part.data);
    part.size = 0;
    nr_report_table(&part, d, NR_TABLE_HTML);
    if (part.size > 0) nr_buffer_printf(b, "<h2>Held-out text</h2>\n<div class=\"scroll\">%s</div>\n", part.data);
    part.size = 0;
    nr_report_task_table(&part, d, NR_TABLE_HTML);
    if (part.size > 0)
        nr_buffer_printf(b, "<h2>Questions answered</h2>\n<p class=\"note\">Behind each figure its standard error; the difference is "
                            "paired, question by question. Chance is what guessing gets.</p>\n<div class=\"scroll\">%s</div>\n", part.data);
    samples(b, d);
    if (d->config) {
        nr_buffer_text(b, "<h2>Settings</h2>\n<dl class=\"settings\">");
        settings_of(b, "", d->config, &count, 0);
        nr_buffer_text(b, "</dl>\n");
    }
    command(b, d);
    nr_page_end(b);
    if (title.failed || part.failed) b->failed = true;
    json_decref(results);
    nr_buffer_free(&title);
    nr_buffer_free(&below);
    nr_buffer_free(&part);
}

nr_status nr_report_write(const nr_report_data *d, const char *path, const char *folder, nr_error *err)
{
    nr_buffer b = {0};
    nr_status st = NR_OK;
    const char *name;
    nr_report_page(&b, d);
    if (b.failed) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for the report", path);
    if (st == NR_OK) st = nr_write_file(path, b.data, b.size, err);
    if (st == NR_OK && folder) st = nr_make_folders(folder, err);
    for (size_t i = 0; st == NR_OK && folder; i++) {
        b.size = 0;
        if (!nr_report_figure(d, i, true, &name, &b, NULL)) break;
        char *file = nr_format("%s/%s.svg", folder, name);
        if (!file || b.failed) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for a drawing", folder);
        else if (b.size > 0) st = nr_write_file(file, b.data, b.size, err);
        free(file);
    }
    nr_buffer_free(&b);
    return st;
}
