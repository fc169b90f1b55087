/*
 * recipe.c - what stands in a recipe: a model, texts, settings and rows.
 * Owns copies of its words, with variables replaced and paths made good.
 *
 * Paths are relative to the recipe; one that begins with a variable given on
 * the command line is relative to where that was typed. Refuses keys, settings,
 * texts and controls that it doesn't know, naming file and line.
 */
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "train/train.h"

#define MAX_TEXTS 32
#define MAX_ROWS 1000
#define MAX_TASKS 100

static nr_status no_memory(const nr_recipe *r, nr_error *err) { return nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->path); }

/* Every key of a mapping is one of the words "a|b|c". */
static nr_status check_keys(const nr_recipe *r, const nr_yaml *y, const char *what, const char *words, nr_error *err)
{
    if (y->kind != 'm') return nr_recipe_fail(r, y->line, err, "%s: expected a mapping", what);
    for (size_t i = 0; i < y->count; i++) {
        const char *key = y->items[i].key, *p = words;
        size_t n = strlen(key);
        while (*p && !(strncmp(p, key, n) == 0 && (p[n] == '|' || !p[n]))) {
            p += strcspn(p, "|");
            p += *p == '|';
        }
        if (!*p) return nr_recipe_fail(r, y->items[i].line, err, "%s: expected %s, found \"%.100s\"", what, words, key);
    }
    return NR_OK;
}

/* A path; where `maybe` one that isn't there beside the recipe stays as written (ORG/NAME). */
static nr_status take_path(const nr_recipe *r, const nr_yaml *y, bool maybe, char **out, nr_error *err)
{
    bool typed;
    char *text;
    NR_TRY(nr_recipe_expand(r, y, &text, &typed, err));
    *out = text;
    if (!*text) return nr_recipe_fail(r, y->line, err, "expected a path, found nothing");
    if (typed || text[0] == '/') return NR_OK;
    char *beside = nr_path_join(r->folder, text);
    if (!beside) return no_memory(r, err);
    if (maybe && !nr_path_exists(beside)) {
        free(beside);
        return NR_OK;
    }
    free(text);
    *out = beside;
    return NR_OK;
}

/* ---- texts ---- */

static nr_status take_paths(const nr_recipe *r, const nr_yaml *y, nr_paths *p, nr_error *err)
{
    size_t n = y->kind == 'l' ? y->count : 1;
    nr_status st = NR_OK;
    for (size_t i = 0; i < n && st == NR_OK; i++) {
        char *path = NULL;
        st = take_path(r, y->kind == 'l' ? &y->items[i] : y, false, &path, err);
        if (st == NR_OK) st = nr_paths_add(p, path, err);
        free(path);
    }
    return st;
}

/* Names stand in file names, tables and JSON paths. */
static bool plain_name(const char *s)
{
    size_t n = strlen(s);
    return n > 0 && n <= 60 && s[0] != '-' && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
}

static nr_status take_text(nr_recipe *r, const nr_yaml *y, nr_recipe_text *t, nr_error *err)
{
    const nr_yaml *v;
    NR_TRY(check_keys(r, y, y->key, "domain|train|validation|test", err));
    if (!plain_name(y->key)) return nr_recipe_fail(r, y->line, err, "texts: expected a name of letters, digits, _ and -, found \"%.100s\"", y->key);
    t->name = nr_strdup(y->key);
    if (!t->name) return no_memory(r, err);
    v = nr_yaml_find(y, "domain");
    const char *domain = v && v->kind == 's' ? v->text : "nothing";
    t->domain = strcmp(domain, nr_domain_names[NR_NEW]) == 0;
    if (!t->domain && strcmp(domain, nr_domain_names[NR_OLD]) != 0)
        return nr_recipe_fail(r, v ? v->line : y->line, err, "%s: domain: expected old or new, found %.60s", y->key, domain);
    if ((v = nr_yaml_find(y, "train"))) NR_TRY(take_paths(r, v, &t->train, err));
    if ((v = nr_yaml_find(y, "validation"))) NR_TRY(take_paths(r, v, &t->validation, err));
    if ((v = nr_yaml_find(y, "test"))) NR_TRY(take_path(r, v, false, &t->test, err));
    return NR_OK;
}

static nr_status take_texts(nr_recipe *r, nr_error *err)
{
    const nr_yaml *y = nr_yaml_find(&r->tree, "texts");
    if (!y || y->kind != 'm' || y->count == 0 || y->count > MAX_TEXTS)
        return nr_recipe_fail(r, y ? y->line : 1, err, "texts: expected a mapping of 1 to %d texts", MAX_TEXTS);
    NR_TRY(nr_alloc(&r->texts, y->count, sizeof *r->texts, "texts", err));
    bool trains = false;
    for (size_t i = 0; i < y->count; i++) {
        nr_recipe_text *t = &r->texts[r->text_count++];
        NR_TRY(take_text(r, &y->items[i], t, err));
        trains |= t->train.count > 0;
    }
    return trains ? NR_OK : nr_recipe_fail(r, y->line, err, "texts: expected one with files to train on, found none");
}

/* ---- rows ---- */

static nr_status check_axis(const nr_recipe *r, const nr_yaml *y, nr_error *err)
{
    bool texts = strcmp(y->key, "old") == 0 || strcmp(y->key, "new") == 0;
    if (!texts && !nr_setting_find(y->key)) return nr_recipe_fail(r, y->line, err, "\"%.100s\": there is no such setting", y->key);
    if (y->kind == 'm' || (y->kind == 'l' && y->count == 0)) return nr_recipe_fail(r, y->line, err, "%s: expected a value or a list of values", y->key);
    for (size_t i = 0; !texts && y->kind == 'l' && i < y->count; i++)
        if (y->items[i].kind != 's') return nr_recipe_fail(r, y->items[i].line, err, "%s: expected a value in the list", y->key);
    return NR_OK;
}

static nr_status add_axis(const nr_recipe *r, nr_recipe_row *row, const nr_yaml *y, nr_error *err)
{
    NR_TRY(check_axis(r, y, err));
    const nr_setting *w = nr_setting_find(y->key);
    const char *name = w ? w->name : y->key; /* one spelling of '-' and '_' */
    for (size_t i = 0; i < row->count; i++)
        if (strcmp(row->axes[i].name, name) == 0) {
            row->axes[i].values = y; /* the row's own instead of the shared one */
            return NR_OK;
        }
    snprintf(row->axes[row->count].name, sizeof row->axes->name, "%s", name);
    row->axes[row->count++].values = y;
    return NR_OK;
}

static nr_status take_row(nr_recipe *r, const nr_yaml *shared, const nr_yaml *y, nr_recipe_row *row, nr_error *err)
{
    if (y->kind != 'm') return nr_recipe_fail(r, y->line, err, "rows: expected a mapping such as {method: neutral}");
    NR_TRY(nr_alloc(&row->axes, (shared ? shared->count : 0) + y->count + 1, sizeof *row->axes, "rows", err));
    row->line = y->line;
    for (size_t i = 0; shared && i < shared->count; i++) NR_TRY(add_axis(r, row, &shared->items[i], err));
    for (size_t i = 0; i < y->count; i++) {
        const nr_yaml *v = &y->items[i];
        if (strcmp(v->key, "name") != 0) {
            NR_TRY(add_axis(r, row, v, err));
            continue;
        }
        if (v->kind != 's' || !plain_name(v->text)) return nr_recipe_fail(r, v->line, err, "name: expected letters, digits, _ and -");
        row->name = v->text;
    }
    return NR_OK;
}

static nr_status take_rows(nr_recipe *r, nr_error *err)
{
    const nr_yaml *y = nr_yaml_find(&r->tree, "rows"), *shared = nr_yaml_find(&r->tree, "settings");
    if (shared && shared->kind != 'm') return nr_recipe_fail(r, shared->line, err, "settings: expected a mapping");
    if (!y || y->kind != 'l' || y->count == 0 || y->count > MAX_ROWS)
        return nr_recipe_fail(r, y ? y->line : 1, err, "rows: expected a list of 1 to %d rows", MAX_ROWS);
    NR_TRY(nr_alloc(&r->rows, y->count, sizeof *r->rows, "rows", err));
    for (size_t i = 0; i < y->count; i++) NR_TRY(take_row(r, shared, &y->items[i], &r->rows[r->row_count++], err));
    return NR_OK;
}

static nr_status take_controls(nr_recipe *r, nr_error *err)
{
    const nr_yaml *y = nr_yaml_find(&r->tree, "controls");
    if (y && y->kind != 'l') return nr_recipe_fail(r, y->line, err, "controls: expected a list of backbone, old-only, new-only");
    for (int c = NR_CONTROL_BACKBONE; c <= NR_CONTROL_NEW_ONLY; c++) r->controls[c] = !y;
    for (size_t i = 0; y && i < y->count; i++) {
        const char *name = y->items[i].kind == 's' ? y->items[i].text : "a list";
        int c = NR_CONTROL_BACKBONE;
        while (c <= NR_CONTROL_NEW_ONLY && strcmp(nr_control_names[c], name) != 0) c++;
        if (c > NR_CONTROL_NEW_ONLY)
            return nr_recipe_fail(r, y->items[i].line, err, "controls: expected backbone, old-only or new-only, found \"%.60s\"", name);
        r->controls[c] = true;
    }
    return NR_OK;
}

/* ---- how it is measured ---- */

static nr_status take_size(const nr_recipe *r, const nr_yaml *y, const char *key, size_t *to, nr_error *err)
{
    const nr_yaml *v = y ? nr_yaml_find(y, key) : NULL;
    char *text, *end;
    if (!v) return NR_OK;
    NR_TRY(nr_recipe_expand(r, v, &text, NULL, err));
    bool digits = *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 16;
    *to = digits ? strtoull(text, &end, 10) : 0;
    nr_status st = digits ? NR_OK : nr_recipe_fail(r, v->line, err, "%s: expected a whole number, found \"%.60s\"", key, text);
    free(text);
    return st;
}

/* One of two words: sets *to where it is the second. */
static nr_status take_word(const nr_recipe *r, const nr_yaml *y, const char *key, const char *no, const char *yes, bool *to, nr_error *err)
{
    const nr_yaml *v = y ? nr_yaml_find(y, key) : NULL;
    if (!v) return NR_OK;
    const char *text = v->kind == 's' ? v->text : "a list";
    *to = strcmp(text, yes) == 0;
    if (*to || strcmp(text, no) == 0) return NR_OK;
    return nr_recipe_fail(r, v->line, err, "%s: expected %s or %s, found \"%.60s\"", key, no, yes, text);
}

static nr_status take_evaluation(nr_recipe *r, nr_error *err)
{
    const nr_yaml *y = nr_yaml_find(&r->tree, "evaluation");
    if (y) NR_TRY(check_keys(r, y, "evaluation", "max_documents|context|batch_tokens|generate|weights|spectra|test", err));
    r->generate = 48;
    r->test = true;
    NR_TRY(take_size(r, y, "max_documents", &r->max_documents, err));
    NR_TRY(take_size(r, y, "context", &r->context, err));
    NR_TRY(take_size(r, y, "batch_tokens", &r->batch_tokens, err));
    NR_TRY(take_size(r, y, "generate", &r->generate, err));
    NR_TRY(take_word(r, y, "weights", "last", "best", &r->best, err));
    NR_TRY(take_word(r, y, "test", "false", "true", &r->test, err));
    return take_word(r, y, "spectra", "false", "true", &r->spectra, err);
}

/* ---- tasks ---- */

static nr_status add_task(nr_recipe *r, const char *name, size_t n, size_t line, int domain, nr_error *err)
{
    nr_recipe_tasks *t = &r->tasks;
    if (t->count == MAX_TASKS) return nr_recipe_fail(r, line, err, "tasks: expected at most %d", MAX_TASKS);
    nr_recipe_task *task = &t->list[t->count++];
    *task = (nr_recipe_task){.name = nr_format("%.*s", (int)n, name), .domain = domain, .line = line};
    if (!task->name) return no_memory(r, err);
    if (n == 0 || n > 100 || strspn(task->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:") != n)
        return nr_recipe_fail(r, line, err, "tasks: expected NAME or NAME:FORMAT, found \"%.100s\"", task->name);
    for (size_t i = 0; i + 1 < t->count; i++)
        if (strcmp(t->list[i].name, task->name) == 0) return nr_recipe_fail(r, line, err, "tasks: %s stands there twice", task->name);
    return NR_OK;
}

/* A word, or several with commas between: a variable may hold them. */
static nr_status add_words(nr_recipe *r, const nr_yaml *y, int domain, nr_error *err)
{
    char *text;
    nr_status st = NR_OK;
    NR_TRY(nr_recipe_expand(r, y, &text, NULL, err));
    for (const char *p = text; st == NR_OK && *p;) {
        size_t n = strcspn(p, ","), blank = strspn(p, " ");
        st = add_task(r, p + blank, n - NR_MIN(n, blank), y->line, domain, err);
        p += n + (p[n] == ',');
    }
    free(text);
    return st;
}

static nr_status take_task_names(nr_recipe *r, const nr_yaml *y, nr_error *err)
{
    NR_TRY(nr_alloc(&r->tasks.list, MAX_TASKS, sizeof *r->tasks.list, "tasks", err));
    for (int d = NR_OLD; d <= NR_NEW; d++) {
        const nr_yaml *list = nr_yaml_find(y, nr_domain_names[d]);
        if (list && list->kind == 's') NR_TRY(add_words(r, list, d, err));
        for (size_t i = 0; list && list->kind != 's' && i < list->count; i++) NR_TRY(add_words(r, &list->items[i], d, err));
    }
    return r->tasks.count ? NR_OK : nr_recipe_fail(r, y->line, err, "tasks: expected names under old and new, found none");
}

/* A number, or "format": as each format says. */
static nr_status take_shots(nr_recipe *r, const nr_yaml *y, nr_error *err)
{
    const nr_yaml *v = nr_yaml_find(y, "shots");
    char *text;
    if (!v) return NR_OK;
    NR_TRY(nr_recipe_expand(r, v, &text, NULL, err));
    r->tasks.shots_given = strcmp(text, "format") != 0;
    free(text);
    return r->tasks.shots_given ? take_size(r, y, "shots", &r->tasks.shots, err) : NR_OK;
}

static nr_status take_tasks(nr_recipe *r, const char *own, nr_error *err)
{
    const nr_yaml *y = nr_yaml_find(&r->tree, "tasks"), *v;
    nr_recipe_tasks *t = &r->tasks;
    if (!y) return NR_OK;
    NR_TRY(check_keys(r, y, "tasks", "data|path|format|limit|shots|old|new", err));
    if (!(v = nr_yaml_find(y, "data"))) return nr_recipe_fail(r, y->line, err, "tasks: data: expected the folder of the tasks' files, found nothing");
    NR_TRY(take_paths(r, v, &t->data, err));
    if ((v = nr_yaml_find(y, "path"))) NR_TRY(take_paths(r, v, &t->definitions, err));
    if (own) NR_TRY(nr_paths_add(&t->definitions, own, err));
    if ((v = nr_yaml_find(y, "format"))) NR_TRY(nr_recipe_expand(r, v, &t->format, NULL, err));
    NR_TRY(take_size(r, y, "limit", &t->limit, err));
    NR_TRY(take_shots(r, y, err));
    NR_TRY(take_task_names(r, y, err));
    return nr_recipe_tasks_check(r, err);
}

/* ---- the whole ---- */

static nr_status take_head(nr_recipe *r, nr_error *err)
{
    const nr_yaml *title = nr_yaml_find(&r->tree, "title"), *model = nr_yaml_find(&r->tree, "model"),
                  *own = nr_yaml_find(&r->tree, "variables");
    NR_TRY(check_keys(r, &r->tree, "a recipe", "title|model|stands_on|variables|texts|tasks|settings|rows|controls|evaluation", err));
    for (size_t i = 0; own && (own->kind != 'm' || i < own->count); i++)
        if (own->kind != 'm' || own->items[i].kind != 's') return nr_recipe_fail(r, own->line, err, "variables: expected NAME: VALUE");
    if (title) NR_TRY(nr_recipe_expand(r, title, &r->title, NULL, err));
    if (!model) return nr_recipe_fail(r, 1, err, "model: is missing");
    return take_path(r, model, true, &r->model, err);
}

static nr_status take_below(nr_recipe *r, nr_error *err)
{
    const nr_yaml *y = nr_yaml_find(&r->tree, "stands_on");
    if (!y) return NR_OK;
    NR_TRY(take_paths(r, y, &r->stands_on, err));
    if (r->stands_on.count < NR_STACK_MAX) return NR_OK;
    return nr_recipe_fail(r, y->line, err, "stands_on: expected fewer than %d extensions, found %zu", NR_STACK_MAX, r->stands_on.count);
}

static nr_status load(nr_recipe *r, const char *task_folder, nr_error *err)
{
    NR_TRY(nr_yaml_load(&r->tree, r->path, err));
    NR_TRY(take_head(r, err));
    NR_TRY(take_below(r, err));
    NR_TRY(take_texts(r, err));
    NR_TRY(take_controls(r, err));
    NR_TRY(take_evaluation(r, err));
    NR_TRY(take_tasks(r, task_folder, err));
    NR_TRY(take_rows(r, err));
    return nr_grid_expand(r, err);
}

nr_status nr_recipe_load(nr_recipe *r, const char *path, const char *const *variables, size_t count, const char *task_folder,
                         nr_error *err)
{
    const char *slash = strrchr(path, '/');
    *r = (nr_recipe){.variables = variables, .variable_count = count};
    r->path = nr_strdup(path);
    r->folder = slash ? nr_format("%.*s", (int)(slash - path + 1), path) : nr_strdup(".");
    nr_status st = r->path && r->folder ? load(r, task_folder, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st != NR_OK) nr_recipe_free(r);
    return st;
}

void nr_recipe_free(nr_recipe *r)
{
    for (size_t i = 0; i < r->text_count; i++) {
        nr_paths_free(&r->texts[i].train);
        nr_paths_free(&r->texts[i].validation);
        free(r->texts[i].test);
        free(r->texts[i].name);
    }
    for (size_t i = 0; i < r->row_count; i++) free(r->rows[i].axes);
    for (size_t i = 0; i < r->run_count; i++) {
        free(r->runs[i].name);
        free(r->runs[i].label);
        free(r->runs[i].group);
        free(r->runs[i].trains_on);
    }
    for (size_t i = 0; i < r->tasks.count; i++) free(r->tasks.list[i].name);
    free(r->tasks.list);
    free(r->tasks.format);
    nr_paths_free(&r->tasks.data);
    nr_paths_free(&r->tasks.definitions);
    nr_paths_free(&r->stands_on);
    free(r->runs);
    free(r->rows);
    free(r->texts);
    free(r->model);
    free(r->title);
    free(r->folder);
    free(r->path);
    nr_yaml_free(&r->tree);
    *r = (nr_recipe){0};
}
