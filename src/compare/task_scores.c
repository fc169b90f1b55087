/*
 * task_scores.c - the multiple-choice tasks of a recipe: checked before anything
 * is trained, scored for each run, and their means.
 *
 * Format "olmes" is both of OLMES's formulations, of which the better one counts.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"
#include "train/train.h"

/* ---- what they are ---- */

/* The definition in formulation k of the task; *none: it has no such formulation. */
static nr_status open_task(const nr_recipe *r, size_t i, int k, nr_task *t, bool *none, nr_error *err)
{
    static const char *const both[2] = {"olmes-cloze", "olmes-choice"};
    const nr_recipe_tasks *tasks = &r->tasks;
    const char *name = tasks->list[i].name, *colon = strchr(name, ':'), *format = tasks->format ? tasks->format : "harness";
    bool olmes = strcmp(colon ? colon + 1 : format, "olmes") == 0;
    char base[128];
    *none = k > 0 && !olmes;
    if (*none) return NR_OK;
    snprintf(base, sizeof base, "%.*s", (int)(olmes && colon ? colon - name : (ptrdiff_t)sizeof base - 1), name);
    nr_error why;
    nr_status st = nr_task_open(t, base, olmes ? both[k] : format, (const char *const *)tasks->definitions.paths, tasks->definitions.count, &why);
    return st == NR_OK ? st : nr_recipe_fail(r, tasks->list[i].line, err, "tasks: %s", why.message);
}

/* Its file of questions or of examples, malloc'ed; NULL: none. */
static char *find_file(const nr_recipe *r, const nr_task *t, const char *split)
{
    const nr_paths *data = &r->tasks.data;
    const json_t *splits = json_object_get(t->splits, split);
    return splits ? nr_task_rows_find((const char *const *)data->paths, data->count, t->stems, splits) : NULL;
}

nr_status nr_recipe_tasks_check(const nr_recipe *r, nr_error *err)
{
    for (size_t i = 0; i < r->tasks.count; i++)
        for (int k = 0; k < 2; k++) {
            nr_task t;
            bool none;
            NR_TRY(open_task(r, i, k, &t, &none, err));
            if (!none) nr_task_free(&t);
        }
    return NR_OK;
}

nr_status nr_recipe_tasks_find(const nr_recipe *r, nr_error *err)
{
    for (size_t i = 0; i < r->tasks.count; i++) {
        nr_task t;
        bool none;
        NR_TRY(open_task(r, i, 0, &t, &none, err));
        char *path = find_file(r, &t, "questions");
        nr_status st = path ? NR_OK : nr_recipe_fail(r, r->tasks.list[i].line, err, "tasks: %.100s: expected a file %s_%s.jsonl in %.300s, found none", t.name,
                                                     json_string_value(json_array_get(t.stems, 0)),
                                                     json_string_value(json_array_get(json_object_get(t.splits, "questions"), 0)),
                                                     r->tasks.data.count ? r->tasks.data.paths[0] : "no folder");
        free(path);
        nr_task_free(&t);
        NR_TRY(st);
    }
    return NR_OK;
}

static json_t *task_identity(const nr_recipe *r, size_t i)
{
    static const char *const splits[] = {"questions", "examples"};
    const nr_recipe_task *task = &r->tasks.list[i];
    json_t *list = json_pack("[s, i]", task->name, task->domain);
    for (int k = 0; k < 2; k++) {
        nr_task t;
        bool none;
        if (open_task(r, i, k, &t, &none, NULL) != NR_OK || none) continue;
        json_array_append_new(list, nr_file_identity(t.path));
        for (size_t s = 0; s < NR_COUNT(splits); s++) {
            char *path = find_file(r, &t, splits[s]);
            json_array_append_new(list, path ? nr_file_identity(path) : json_null());
            free(path);
        }
        nr_task_free(&t);
    }
    return list;
}

json_t *nr_recipe_tasks_identity(const nr_recipe *r)
{
    const nr_recipe_tasks *t = &r->tasks;
    if (t->count == 0 || !r->test) return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < t->count; i++) json_array_append_new(list, task_identity(r, i));
    json_t *shots = t->shots_given ? json_integer((json_int_t)t->shots) : json_null();
    return json_pack("{s:s, s:I, s:o, s:o}", "format", t->format ? t->format : "harness", "limit", (json_int_t)t->limit, "shots", shots, "tasks", list);
}

/* ---- how much there is to read ---- */

static size_t shared(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    return n;
}

static double bytes_of(const nr_items *s)
{
    double bytes = 0;
    for (size_t i = 0; i < s->count; i++) {
        const nr_item *item = &s->items[i];
        bytes += (double)strlen(item->context) - (double)(i ? shared(item->context, item[-1].context) : 0);
        for (size_t c = 0; c < item->choices; c++) bytes += (double)strlen(item->continuations[c]);
    }
    return bytes;
}

double nr_recipe_tasks_tokens(const nr_recipe *r)
{
    const nr_recipe_tasks *tasks = &r->tasks;
    double bytes = 0;
    for (size_t i = 0; i < tasks->count; i++)
        for (int k = 0; k < 2; k++) {
            nr_task t;
            nr_items items = {0};
            bool none;
            if (open_task(r, i, k, &t, &none, NULL) != NR_OK || none) continue;
            if (nr_items_make(&items, &t, (const char *const *)tasks->data.paths, tasks->data.count, tasks->shots_given ? tasks->shots : t.shots,
                              tasks->limit, NULL, NULL) == NR_OK)
                bytes += bytes_of(&items);
            nr_items_free(&items);
            nr_task_free(&t);
        }
    return bytes / NR_BYTES_A_TOKEN;
}

/* ---- a run's scores ---- */

static double number(const json_t *o, const char *key) { return nr_report_number(o, key); }

static void put(json_t *o, const char *key, double v) { json_object_set_new(o, key, nr_json_finite(v)); }

/* Figures of the one model that was scored, by the metric that decides. */
static void figures(const json_t *task, double *accuracy, double *error)
{
    const char *metric = nr_report_string(task, "primary");
    const json_t *of = json_object_get(task, "extended");
    char key[64];
    if (!of) of = json_object_get(task, "backbone");
    snprintf(key, sizeof key, "%.40s_stderr", metric);
    *accuracy = number(of, metric);
    *error = number(of, key);
}

static json_t *entry(const json_t *task, int domain, bool olmes)
{
    double accuracy, error;
    figures(task, &accuracy, &error);
    json_t *o = json_pack("{s:s, s:O, s:s, s:O}", "domain", nr_domain_names[domain], "task", json_object_get(task, "task"), "format",
                          olmes ? "olmes" : nr_report_string(task, "format"), "decided_by", json_object_get(task, "primary"));
    put(o, "accuracy", accuracy);
    put(o, "stderr", error);
    put(o, "items", number(task, "items"));
    put(o, "chance", number(task, "chance"));
    put(o, "shots", number(task, "shots"));
    return o;
}

/* Results stand in the order of the recipe; two of OLMES's formulations are one task. */
static json_t *entries(const nr_recipe *r, const json_t *results)
{
    json_t *o = json_object();
    for (size_t i = 0, at = 0; i < r->tasks.count; i++) {
        const json_t *task = json_array_get(results, at++), *other = json_array_get(results, at);
        const char *format = nr_report_string(task, "format"), *its = nr_report_string(other, "format");
        bool olmes = format && its && strcmp(format, "olmes-cloze") == 0 && strcmp(its, "olmes-choice") == 0 &&
                     json_equal(json_object_get(task, "task"), json_object_get(other, "task")) && !strstr(r->tasks.list[i].name, ":olmes-");
        double mine, theirs, error;
        if (olmes) {
            at++;
            figures(task, &mine, &error);
            figures(other, &theirs, &error);
            if (theirs > mine) task = other;
        }
        json_object_set_new(o, r->tasks.list[i].name, entry(task, r->tasks.list[i].domain, olmes));
    }
    return o;
}

nr_status nr_recipe_tasks_score(json_t **out, double *seconds, const nr_recipe *r, const nr_model *m, const nr_tokenizer *t,
                                nr_extension *e, const nr_listener *l, nr_error *err)
{
    const nr_recipe_tasks *tasks = &r->tasks;
    const char **names;
    char *text = NULL;
    json_t *o = NULL;
    nr_status st;
    *out = NULL;
    NR_TRY(nr_alloc(&names, tasks->count, sizeof *names, "names of tasks", err));
    for (size_t i = 0; i < tasks->count; i++) names[i] = tasks->list[i].name;
    nr_task_options opt = {.tasks = names, .task_count = tasks->count, .definitions = (const char *const *)tasks->definitions.paths,
                           .definition_count = tasks->definitions.count, .data = (const char *const *)tasks->data.paths,
                           .data_count = tasks->data.count, .format = tasks->format, .shots = tasks->shots_given ? &tasks->shots : NULL,
                           .limit = tasks->limit, .extended_only = true};
    NR_GO(nr_score_tasks(&text, m, t, e, &opt, l, err));
    NR_GO(nr_json_parse(&o, text, strlen(text), "task scores", err));
    *seconds = number(o, "seconds");
    *out = entries(r, json_object_get(o, "tasks"));
done:
    json_decref(o);
    free(text);
    free(names);
    return st;
}

/* ---- means ---- */

void nr_task_mean(double *accuracy, double *error, const json_t *scores, const json_t *columns, const char *domain)
{
    size_t i, n = 0;
    const json_t *c;
    double sum = 0, squares = 0;
    json_array_foreach(columns, i, c) {
        const json_t *of = json_object_get(scores, nr_report_string(c, "name"));
        if (strcmp(nr_report_string(c, "domain"), domain) != 0) continue;
        sum += number(of, "accuracy");
        squares += number(of, "stderr") * number(of, "stderr");
        n++;
    }
    *accuracy = n ? sum / (double)n : NAN;
    *error = n ? sqrt(squares) / (double)n : NAN;
}

static json_t *figure(double accuracy, double error)
{
    json_t *o = json_object();
    put(o, "accuracy", accuracy);
    put(o, "stderr", error);
    return o;
}

/* Over the seeds of a group. They answer the same questions, so that those's sampling error stays; what seeds differ by
 * is added, as the error of a mean. */
static json_t *over_seeds(const json_t *group, const json_t *runs, const char *name)
{
    size_t i, n = 0;
    const json_t *run;
    double sum = 0, squares = 0, errors = 0;
    json_array_foreach(runs, i, run) {
        const char *its = nr_report_string(run, "group"), *status = nr_report_string(run, "status");
        const json_t *of = json_object_get(json_object_get(run, "tasks"), name);
        double v = number(of, "accuracy"), e = number(of, "stderr");
        if (!its || !status || strcmp(its, nr_report_string(group, "name")) != 0 || strcmp(status, "done") != 0 || !isfinite(v)) continue;
        sum += v;
        squares += v * v;
        errors += e * e;
        n++;
    }
    double k = (double)n, mean = sum / k, seeds = n > 1 ? fmax(0, squares - sum * mean) / (k - 1) / k : 0;
    return n ? figure(mean, sqrt(errors / k + seeds)) : figure(NAN, NAN);
}

void nr_summary_tasks(json_t *group, const json_t *runs, const json_t *columns)
{
    size_t i;
    const json_t *c;
    double accuracy, error;
    json_t *o = json_object();
    json_array_foreach(columns, i, c) json_object_set_new(o, nr_report_string(c, "name"), over_seeds(group, runs, nr_report_string(c, "name")));
    for (int d = NR_OLD; d <= NR_NEW; d++) {
        char key[32];
        snprintf(key, sizeof key, "tasks_%s", nr_domain_names[d]);
        nr_task_mean(&accuracy, &error, o, columns, nr_domain_names[d]);
        json_object_set_new(group, key, figure(accuracy, error));
    }
    json_object_set_new(group, "tasks", o);
}

json_t *nr_summary_task_columns(const nr_recipe *r, const json_t *runs)
{
    json_t *list = json_array();
    for (size_t k = 0; r->test && k < r->tasks.count; k++) {
        static const char *const keys[] = {"format", "decided_by", "items", "chance", "shots"};
        const nr_recipe_task *task = &r->tasks.list[k];
        json_t *o = json_pack("{s:s, s:s}", "name", task->name, "domain", nr_domain_names[task->domain]);
        const json_t *run, *of = NULL;
        size_t i;
        json_array_foreach(runs, i, run)
            if (!of) of = json_object_get(json_object_get(run, "tasks"), task->name);
        for (i = 0; of && i < NR_COUNT(keys); i++) json_object_set(o, keys[i], json_object_get(of, keys[i]));
        json_array_append_new(list, o);
    }
    return list;
}
