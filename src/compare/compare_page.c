/*
 * compare_page.c - report.html of a comparison, and its drawings as files: SVG,
 * and PNG where rsvg-convert is there. The page needs nothing else.
 */
#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare/compare.h"
#include "report/report.h"

/* ---- the page ---- */

static void cards(nr_buffer *b, const json_t *summary)
{
    size_t i;
    const json_t *g, *first = NULL;
    json_array_foreach(json_object_get(summary, "groups"), i, g)
        if (nr_report_number(g, "rank") == 1) first = g;
    if (!first) return;
    static const struct {
        const char *class, *key, *text;
    } kinds[] = {{"new", "learning", "learning: bits per byte on new text"}, {"old", "forgetting", "forgetting: bits per byte on old text"},
                 {"", "sum", "their sum, by which rows are ranked"}, {"old", "kl", "KL divergence to the backbone on old text, nats per token"}};
    nr_buffer_text(b, "<h2>First by the sum: ");
    nr_escape(b, nr_report_string(first, "name"));
    nr_buffer_text(b, "</h2>\n<div class=\"cards\">\n");
    for (size_t k = 0; k < NR_COUNT(kinds); k++) {
        double v = nr_report_number(first, kinds[k].key);
        if (isfinite(v)) nr_buffer_printf(b, "<div class=\"card %s\"><b>%.4f</b><span>%s</span></div>\n", kinds[k].class, v, kinds[k].text);
    }
    nr_buffer_text(b, "</div>\n");
}

static void figures(nr_buffer *b, const json_t *summary)
{
    const char *name, *title, *note;
    nr_buffer svg = {0};
    nr_buffer_text(b, "<h2>Drawings</h2>\n<div class=\"figures\">\n");
    for (size_t i = 0; nr_compare_figure(summary, i, false, &name, &title, &note, &svg); i++) {
        if (svg.size > 0) nr_buffer_printf(b, "<figure><figcaption><b>%s</b>%s</figcaption>%s</figure>\n", title, note, svg.data);
        svg.size = 0;
    }
    nr_buffer_text(b, "</div>\n");
    nr_buffer_free(&svg);
}

static void commands(nr_buffer *b, const json_t *summary)
{
    size_t i;
    const json_t *run;
    nr_buffer_text(b, "<h2>The command of each run</h2>\n<details><summary>Commands</summary>\n");
    json_array_foreach(json_object_get(summary, "runs"), i, run) {
        const char *command = nr_report_string(run, "command");
        if (!command) continue;
        nr_buffer_text(b, "<h3>");
        nr_escape(b, nr_report_string(run, "name"));
        nr_buffer_text(b, "</h3><pre>");
        nr_escape(b, command);
        nr_buffer_text(b, "</pre>\n");
    }
    nr_buffer_text(b, "</details>\n");
}

static void page(nr_buffer *b, const json_t *summary)
{
    nr_buffer below = {0};
    nr_buffer_printf(&below, "on %s; learning is %s, forgetting is %s; ", nr_report_string(summary, "model"), nr_report_string(summary, "learning_text"),
                     nr_report_string(summary, "forgetting_text"));
    nr_page_begin(b, nr_report_string(summary, "title"), below.data ? below.data : "");
    cards(b, summary);
    figures(b, summary);
    nr_buffer_text(b, "<h2>All rows</h2>\n");
    nr_compare_html(b, summary);
    nr_compare_tasks_html(b, summary);
    commands(b, summary);
    nr_page_end(b);
    nr_buffer_free(&below);
}

/* ---- files ---- */

static bool convert(const char *draw, const char *svg, const char *png)
{
    const char *words[] = {draw, "--background-color=white", "-o", png, svg, NULL};
    char *environment[] = {NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, draw, NULL, NULL, (char *const *)(uintptr_t)words, environment) != 0) return false;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* PNG of a drawing, through an SVG without variables that goes again. */
static bool write_png(const char *draw, const char *folder, const char *name, const char *svg)
{
    nr_buffer plain = {0};
    char *from = nr_format("%s/.%s.plain.svg", folder, name), *to = nr_format("%s/%s.png", folder, name);
    nr_chart_plain(&plain, svg);
    bool done = from && to && !plain.failed && nr_write_file(from, plain.data, plain.size, NULL) == NR_OK && convert(draw, from, to);
    if (from) unlink(from);
    nr_buffer_free(&plain);
    free(from);
    free(to);
    return done;
}

static nr_status write_figures(const json_t *summary, const char *folder, const char *draw, const nr_listener *l, nr_error *err)
{
    const char *name, *title, *note;
    nr_buffer svg = {0};
    nr_status st = nr_make_folders(folder, err);
    bool drawn = draw != NULL;
    for (size_t i = 0; st == NR_OK && nr_compare_figure(summary, i, true, &name, &title, &note, &svg); i++) {
        char *path = nr_format("%s/%s.svg", folder, name);
        if (!path || svg.failed) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for a drawing", folder);
        else if (svg.size > 0) st = nr_write_file(path, svg.data, svg.size, err);
        if (st == NR_OK && svg.size > 0 && draw) drawn &= write_png(draw, folder, name, svg.data);
        svg.size = 0;
        free(path);
    }
    nr_buffer_free(&svg);
    if (st == NR_OK && !drawn)
        nr_say(l, "%s: SVG alone; %s", folder, draw ? "rsvg-convert made no PNG" : "PNG files need rsvg-convert (Debian: librsvg2-bin)");
    return st;
}

nr_status nr_compare_page_write(const json_t *summary, const char *folder, const char *draw, const nr_listener *l, nr_error *err)
{
    nr_buffer b = {0};
    char *path = nr_path_join(folder, "report.html"), *figures_folder = nr_path_join(folder, "figures");
    page(&b, summary);
    nr_status st = path && figures_folder && !b.failed ? nr_write_file(path, b.data, b.size, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    if (st == NR_OK) st = write_figures(summary, figures_folder, draw, l, err);
    nr_buffer_free(&b);
    free(path);
    free(figures_folder);
    return st;
}
