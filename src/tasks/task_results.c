/*
 * task_results.c - figures of a scored task, as nr_score_tasks returns them and
 * as lm-evaluation-harness writes them: results_*.json and samples_*.jsonl.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

static const char *const model_names[2] = {"backbone", "extended"};

static void put(json_t *o, const char *key, double v) { json_object_set_new(o, key, isfinite(v) ? json_real(v) : json_null()); }

static void put_size(json_t *o, const char *key, size_t v) { json_object_set_new(o, key, json_integer((json_int_t)v)); }

static void put_error(json_t *o, const char *name, const char *behind, double v)
{
    char key[64];
    snprintf(key, sizeof key, "%s_stderr%s", name, behind);
    put(o, key, v);
}

/* ---- decisions ---- */

static size_t taken(const nr_task_scores *s, int model, nr_decision d, size_t item)
{
    return nr_decide(d, s->scores[model] + s->first[item], s->items->items[item].choices);
}

static double correct(const nr_task_scores *s, int model, nr_decision d, size_t item)
{
    return taken(s, model, d, item) == s->items->items[item].answer;
}

/* Mean over the items of a group (SIZE_MAX: of all) of what a model gets right; of model 2: extended minus backbone. */
static nr_mean mean_of(const nr_task_scores *s, int model, nr_decision d, size_t group)
{
    nr_mean m = {0};
    for (size_t i = 0; i < s->items->count; i++) {
        if (group != SIZE_MAX && s->items->items[i].group != group) continue;
        nr_mean_add(&m, model < 2 ? correct(s, model, d, i) : correct(s, 1, d, i) - correct(s, 0, d, i));
    }
    return m;
}

typedef struct {
    double value, error;
} figure;

/* Over all items. With groups lm-evaluation-harness weights them by their size, with errors
 * sqrt(sum (n - 1) n e^2 / (N - groups) / N); the mean of groups has sqrt(sum e^2) / groups. */
static figure figure_of(const nr_task_scores *s, int model, nr_decision d)
{
    size_t groups = json_array_size(s->items->groups);
    nr_mean all = mean_of(s, model, d, SIZE_MAX);
    figure f = {nr_mean_value(&all), nr_mean_stderr(&all)};
    double sum = 0, squares = 0, pooled = 0;
    if (groups < 2) return f;
    for (size_t g = 0; g < groups; g++) {
        nr_mean m = mean_of(s, model, d, g);
        double e = nr_mean_stderr(&m);
        sum += nr_mean_value(&m);
        squares += e * e;
        pooled += (m.n - 1) * e * e * m.n;
    }
    double k = (double)groups;
    if (s->task->group_mean) return (figure){sum / k, sqrt(squares) / k};
    return (figure){f.value, sqrt(pooled / (all.n - k) / all.n)};
}

static json_t *figures_json(const nr_task_scores *s, int model, size_t group)
{
    json_t *o = json_object();
    for (int d = 0; d < NR_DECISIONS; d++) {
        if (!s->task->decides[d]) continue;
        nr_mean m = mean_of(s, model, (nr_decision)d, group);
        figure f = group == SIZE_MAX ? figure_of(s, model, (nr_decision)d) : (figure){nr_mean_value(&m), nr_mean_stderr(&m)};
        put(o, nr_decision_names[d], f.value);
        put_error(o, nr_decision_names[d], "", f.error);
    }
    return o;
}

static json_t *models_json(json_t *o, const nr_task_scores *s, size_t group)
{
    for (int k = 0; k < 2; k++)
        if (s->scores[k]) json_object_set_new(o, model_names[k], figures_json(s, k, group));
    if (s->scores[0] && s->scores[1]) json_object_set_new(o, "difference", figures_json(s, 2, group));
    return o;
}

static size_t items_of(const nr_task_scores *s, size_t group)
{
    size_t n = 0;
    for (size_t i = 0; i < s->items->count; i++) n += s->items->items[i].group == group;
    return n;
}

static json_t *groups_json(const nr_task_scores *s)
{
    json_t *list = json_array();
    for (size_t g = 0; g < json_array_size(s->items->groups); g++) {
        json_t *o = json_object();
        json_object_set(o, "group", json_array_get(s->items->groups, g));
        put_size(o, "items", items_of(s, g));
        json_array_append_new(list, models_json(o, s, g));
    }
    return list;
}

/* What guessing gets right on average. */
static double chance(const nr_task_scores *s)
{
    nr_mean m = {0};
    for (size_t i = 0; i < s->items->count; i++) nr_mean_add(&m, 1 / (double)s->items->items[i].choices);
    return nr_mean_value(&m);
}

json_t *nr_task_result(const nr_task_scores *s)
{
    json_t *o = json_object(), *names = json_array();
    for (int d = 0; d < NR_DECISIONS; d++)
        if (s->task->decides[d]) json_array_append_new(names, json_string(nr_decision_names[d]));
    json_object_set_new(o, "task", json_string(s->task->name));
    json_object_set_new(o, "format", json_string(s->task->format));
    if (s->task->about) json_object_set_new(o, "about", json_string(s->task->about));
    json_object_set_new(o, "definition", json_string(s->task->path));
    json_object_set_new(o, "file", json_string(s->items->questions.path));
    if (s->items->examples.path) json_object_set_new(o, "examples_file", json_string(s->items->examples.path));
    put_size(o, "shots", s->shots);
    json_object_set_new(o, "shots_from", json_string(s->items->shots_from));
    put_size(o, "items", s->items->count);
    put_size(o, "rows", s->items->rows);
    put_size(o, "requests", s->requests);
    put_size(o, "tokens", s->tokens);
    put_size(o, "computed_tokens", s->computed);
    put_size(o, "cut", s->cut);
    put(o, "seconds", s->seconds);
    put(o, "chance", chance(s));
    json_object_set_new(o, "metrics", names);
    json_object_set_new(o, "primary", json_string(nr_decision_names[s->task->primary]));
    models_json(o, s, SIZE_MAX);
    if (s->task->group) json_object_set_new(o, "groups", groups_json(s));
    return o;
}

/* ---- samples ---- */

/* SHA-256 of a text in hex, as a JSON string. */
static json_t *hash_of(const char *text, size_t n)
{
    char hex[65] = "";
    nr_sha256 *h = nr_sha256_new();
    if (!h) return json_null();
    nr_sha256_add(h, text, n);
    nr_sha256_hex(h, hex);
    return json_string(hex);
}

static json_t *arguments_json(const nr_item *item)
{
    char key[32];
    json_t *o = json_object();
    for (size_t i = 0; i < item->choices; i++) {
        json_t *pair = json_object();
        json_object_set_new(pair, "arg_0", json_string(item->context));
        json_object_set_new(pair, "arg_1", json_string(item->continuations[i]));
        snprintf(key, sizeof key, "gen_args_%zu", i);
        json_object_set_new(o, key, pair);
    }
    return o;
}

/* The pairs of log-likelihood and whether greedy decoding takes it, as texts. */
static json_t *responses_json(const nr_choice_score *c, size_t choices, bool nested)
{
    json_t *list = json_array();
    char text[32];
    for (size_t i = 0; i < choices; i++) {
        json_t *pair = json_array(), *outer;
        snprintf(text, sizeof text, "%.17g", c[i].sum);
        json_array_append_new(pair, json_string(text));
        json_array_append_new(pair, json_string(c[i].greedy ? "True" : "False"));
        outer = nested ? json_array() : pair;
        if (nested) json_array_append_new(outer, pair);
        json_array_append_new(list, outer);
    }
    return list;
}

static json_t *choices_json(const nr_choice_score *c, size_t choices)
{
    json_t *list = json_array();
    for (size_t i = 0; i < choices; i++) {
        json_t *o = json_object();
        put(o, "sum_logits", c[i].sum);
        put_size(o, "num_tokens", c[i].tokens);
        put_size(o, "num_chars", c[i].characters);
        put_size(o, "num_bytes", c[i].bytes);
        if (!isnan(c[i].behind_nothing)) put(o, "sum_logits_behind_nothing", c[i].behind_nothing);
        if (!isnan(c[i].behind_context)) put(o, "sum_logits_uncond", c[i].behind_context);
        json_object_set_new(o, "is_greedy", json_boolean(c[i].greedy));
        json_array_append_new(list, o);
    }
    return list;
}

static void put_decisions(json_t *o, const nr_task_scores *s, int model, size_t i)
{
    json_t *names = json_array(), *all = json_object();
    for (int d = 0; d < NR_DECISIONS; d++) {
        size_t choice = taken(s, model, (nr_decision)d, i);
        if (choice == s->items->items[i].choices) continue;
        put_size(all, nr_decision_names[d], choice);
        if (!s->task->decides[d]) continue;
        json_array_append_new(names, json_string(nr_decision_names[d]));
        put(o, nr_decision_names[d], correct(s, model, (nr_decision)d, i));
    }
    json_object_set_new(o, "metrics", names);
    json_object_set_new(o, "decisions", all);
}

static json_t *sample_json(const nr_task_scores *s, int model, size_t i)
{
    const nr_item *item = &s->items->items[i];
    const nr_choice_score *c = s->scores[model] + s->first[i];
    char target[32], *doc = json_dumps(item->doc, JSON_INDENT(2));
    json_t *o = json_object();
    snprintf(target, sizeof target, "%zu", item->answer);
    put_size(o, "doc_id", item->number);
    json_object_set(o, "doc", (json_t *)(uintptr_t)item->doc);
    json_object_set_new(o, "target", json_string(target));
    json_object_set_new(o, "arguments", arguments_json(item));
    json_object_set_new(o, "resps", responses_json(c, item->choices, true));
    json_object_set_new(o, "filtered_resps", responses_json(c, item->choices, false));
    json_object_set_new(o, "filter", json_string("none"));
    put_decisions(o, s, model, i);
    json_object_set_new(o, "choices", choices_json(c, item->choices));
    json_object_set_new(o, "doc_hash", doc ? hash_of(doc, strlen(doc)) : json_null());
    json_object_set_new(o, "prompt_hash", hash_of(item->context, strlen(item->context)));
    json_object_set_new(o, "target_hash", hash_of(target, strlen(target)));
    free(doc);
    return o;
}

nr_status nr_task_samples_write(const nr_task_scores *s, int model, const char *path, nr_error *err)
{
    nr_writer w;
    NR_TRY(nr_writer_open(&w, path, err));
    for (size_t i = 0; i < s->items->count; i++) {
        json_t *o = sample_json(s, model, i);
        char *line = json_dumps(o, JSON_COMPACT);
        json_decref(o);
        if (!line) {
            nr_writer_abort(&w);
            return nr_fail(err, NR_E_MEMORY, "%s: out of memory for a sample", path);
        }
        nr_writer_write(&w, line, strlen(line));
        nr_writer_write(&w, "\n", 1);
        free(line);
    }
    return nr_writer_commit(&w, err);
}

/* ---- results ---- */

/* all[section], made when it isn't there. */
static json_t *section(json_t *all, const char *name)
{
    json_t *o = json_object_get(all, name);
    if (!o) json_object_set_new(all, name, o = json_object());
    return o;
}

static json_t *harness_figures(const nr_task_scores *s, int model, size_t group, const char *alias)
{
    json_t *o = json_object();
    char key[64];
    json_object_set_new(o, "alias", json_string(alias));
    for (int d = 0; d < NR_DECISIONS; d++) {
        if (!s->task->decides[d]) continue;
        nr_mean m = mean_of(s, model, (nr_decision)d, group);
        figure f = group == SIZE_MAX ? figure_of(s, model, (nr_decision)d) : (figure){nr_mean_value(&m), nr_mean_stderr(&m)};
        snprintf(key, sizeof key, "%s,none", nr_decision_names[d]);
        put(o, key, f.value);
        put_error(o, nr_decision_names[d], ",none", f.error);
    }
    return o;
}

static json_t *higher_json(const nr_task *t)
{
    json_t *o = json_object();
    for (int d = 0; d < NR_DECISIONS; d++)
        if (t->decides[d]) json_object_set_new(o, nr_decision_names[d], json_true());
    return o;
}

static json_t *config_json(const nr_task_scores *s)
{
    const nr_task *t = s->task;
    json_t *o = json_copy(json_object_get(json_object_get(t->definition, "formats"), t->format));
    json_object_set_new(o, "task", json_string(t->name));
    json_object_set_new(o, "dataset_path", json_string(s->items->questions.path));
    json_object_set_new(o, "output_type", json_string("multiple_choice"));
    put_size(o, "num_fewshot", s->shots);
    json_object_set_new(o, "target_delimiter", json_string(t->delimiter));
    json_object_set_new(o, "fewshot_delimiter", json_string(t->between));
    return o;
}

static void add_task(json_t *all, const nr_task_scores *s, int model, size_t group, const char *name, const char *alias)
{
    size_t n = group == SIZE_MAX ? s->items->count : items_of(s, group);
    json_t *counts = json_object();
    put_size(counts, "original", group == SIZE_MAX ? s->items->rows : n);
    put_size(counts, "effective", n);
    json_object_set_new(section(all, "results"), name, harness_figures(s, model, group, alias));
    json_object_set_new(section(all, "configs"), name, config_json(s));
    json_object_set_new(section(all, "versions"), name, json_real(1));
    json_object_set_new(section(all, "n-shot"), name, json_integer((json_int_t)s->shots));
    json_object_set_new(section(all, "higher_is_better"), name, higher_json(s->task));
    json_object_set_new(section(all, "n-samples"), name, counts);
}

/* A format other than the first one stands in the name: two of them may meet in one file. */
void nr_task_results_add(json_t *all, const nr_task_scores *s, int model)
{
    char name[256], part[384];
    bool plain = strcmp(s->task->format, "harness") == 0;
    size_t groups = json_array_size(s->items->groups);
    snprintf(name, sizeof name, "%.100s%s%.100s", s->task->name, plain ? "" : ":", plain ? "" : s->task->format);
    add_task(all, s, model, SIZE_MAX, name, name);
    json_t *parts = json_array();
    for (size_t g = 0; s->task->group && g < groups; g++) {
        const char *group = json_string_value(json_array_get(s->items->groups, g));
        snprintf(part, sizeof part, "%s_%.100s", name, group);
        add_task(all, s, model, g, part, group);
        json_array_append_new(parts, json_string(part));
    }
    if (s->task->group) json_object_set_new(section(all, "groups"), name, harness_figures(s, model, SIZE_MAX, name));
    json_object_set_new(section(all, "group_subtasks"), name, parts);
}
