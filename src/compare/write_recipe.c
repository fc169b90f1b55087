/*
 * write_recipe.c - runs written as a recipe again: a row each, or a row for the
 * runs of a group with their seeds as a list. Variables are replaced and paths
 * absolute, so that the file means the same wherever it stands.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "train/train.h"

/* A string as YAML takes it in quotes; '$' begins a variable there. */
static void add_text(nr_buffer *b, const char *s)
{
    nr_buffer doubled = {0};
    nr_buffer_text(&doubled, "");
    for (; *s; s++) nr_buffer_add(&doubled, *s == '$' ? "$$" : s, *s == '$' ? 2 : 1);
    json_t *j = doubled.failed ? NULL : json_string(doubled.data);
    char *text = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    if (text) nr_buffer_text(b, text);
    else b->failed = true;
    free(text);
    json_decref(j);
    nr_buffer_free(&doubled);
}

/* An absolute path where there is such a file; else as it is (ORG/NAME). */
static void add_path(nr_buffer *b, const char *path)
{
    char *whole = realpath(path, NULL);
    add_text(b, whole ? whole : path);
    free(whole);
}

static void add_paths(nr_buffer *b, const char *key, const nr_paths *p)
{
    if (p->count == 0) return;
    nr_buffer_printf(b, ", %s: [", key);
    for (size_t i = 0; i < p->count; i++) {
        if (i > 0) nr_buffer_text(b, ", ");
        add_path(b, p->paths[i]);
    }
    nr_buffer_text(b, "]");
}

static void add_head(nr_buffer *b, const nr_recipe *r)
{
    nr_buffer_text(b, "title: ");
    add_text(b, r->title ? r->title : "Comparison");
    nr_buffer_text(b, "\nmodel: ");
    add_path(b, r->model);
    for (size_t i = 0; i < r->stands_on.count; i++) {
        nr_buffer_text(b, i ? ", " : "\nstands_on: [");
        add_path(b, r->stands_on.paths[i]);
    }
    nr_buffer_text(b, r->stands_on.count ? "]\ntexts:\n" : "\ntexts:\n");
    for (size_t t = 0; t < r->text_count; t++) {
        const nr_recipe_text *of = &r->texts[t];
        nr_buffer_printf(b, "  %s: {domain: %s", of->name, nr_domain_names[of->domain]);
        add_paths(b, "train", &of->train);
        add_paths(b, "validation", &of->validation);
        if (of->test) {
            nr_buffer_text(b, ", test: ");
            add_path(b, of->test);
        }
        nr_buffer_text(b, "}\n");
    }
}

static void add_folders(nr_buffer *b, const char *key, const nr_paths *p, size_t count)
{
    nr_buffer_printf(b, "%s: [", key);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) nr_buffer_text(b, ", ");
        add_path(b, p->paths[i]);
    }
    nr_buffer_text(b, "]");
}

/* Definitions that come with nres go along as a folder too: the first of a name counts, so that nothing changes. */
static void add_tasks(nr_buffer *b, const nr_recipe *r)
{
    const nr_recipe_tasks *t = &r->tasks;
    if (t->count == 0) return;
    nr_buffer_text(b, "tasks:\n  ");
    add_folders(b, "data", &t->data, t->data.count);
    nr_buffer_text(b, "\n  ");
    add_folders(b, "path", &t->definitions, t->definitions.count);
    if (t->format) {
        nr_buffer_text(b, "\n  format: ");
        add_text(b, t->format);
    }
    nr_buffer_printf(b, "\n  limit: %zu\n", t->limit);
    if (t->shots_given) nr_buffer_printf(b, "  shots: %zu\n", t->shots);
    for (int d = NR_OLD; d <= NR_NEW; d++) {
        bool any = false;
        nr_buffer_printf(b, "  %s: [", nr_domain_names[d]);
        for (size_t i = 0; i < t->count; i++) {
            if (t->list[i].domain != d) continue;
            if (any) nr_buffer_text(b, ", ");
            add_text(b, t->list[i].name);
            any = true;
        }
        nr_buffer_text(b, "]\n");
    }
}

static void add_names(nr_buffer *b, const nr_recipe *r, const nr_planned *run, int domain)
{
    bool any = false;
    nr_buffer_printf(b, ", %s: [[", nr_domain_names[domain]);
    for (size_t t = 0; t < r->text_count; t++) {
        if (r->texts[t].domain != domain || !run->trains_on[t]) continue;
        nr_buffer_printf(b, "%s%s", any ? ", " : "", r->texts[t].name);
        any = true;
    }
    nr_buffer_text(b, "]]");
}

/* Every setting that isn't the default; the seeds of the whole group where it is one row. */
static void add_row(nr_buffer *b, const nr_recipe *r, const nr_planned *run, bool group)
{
    nr_settings usual;
    char value[256], other[256];
    nr_settings_default(&usual);
    nr_buffer_printf(b, "  - {name: %s", run->label);
    for (size_t i = 0; i < nr_setting_count; i++) {
        const nr_setting *w = &nr_setting_list[i];
        nr_setting_get(&run->s, w, value, sizeof value);
        nr_setting_get(&usual, w, other, sizeof other);
        if (strcmp(w->name, "method") != 0 && (strcmp(value, other) == 0 || (group && strcmp(w->name, "seed") == 0))) continue;
        nr_buffer_printf(b, ", %s: ", w->name);
        add_text(b, value);
    }
    if (group) nr_buffer_text(b, ", seed: [");
    for (size_t i = 0, n = 0; group && i < r->run_count; i++)
        if (strcmp(r->runs[i].group, run->group) == 0) nr_buffer_printf(b, "%s%zu", n++ ? ", " : "", r->runs[i].s.seed);
    if (group) nr_buffer_text(b, "]");
    add_names(b, r, run, NR_OLD);
    add_names(b, r, run, NR_NEW);
    nr_buffer_text(b, "}\n");
}

nr_status nr_recipe_write(const nr_recipe *r, const nr_planned *runs, size_t count, bool groups, bool test, const char *path, nr_error *err)
{
    nr_buffer b = {0};
    add_head(&b, r);
    if (test) add_tasks(&b, r);
    if (!test) nr_buffer_text(&b, "controls: []\n");
    nr_buffer_printf(&b, "evaluation: {max_documents: %zu, context: %zu, batch_tokens: %zu, generate: %zu, weights: %s, spectra: %s, test: %s}\nrows:\n",
                     r->max_documents, r->context, r->batch_tokens, r->generate, r->best ? "best" : "last", r->spectra ? "true" : "false",
                     test ? "true" : "false");
    for (size_t i = 0; i < count; i++) add_row(&b, r, &runs[i], groups);
    nr_status st = b.failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory, or a path that is not UTF-8", path) : nr_write_file(path, b.data, b.size, err);
    nr_buffer_free(&b);
    return st;
}
