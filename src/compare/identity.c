/*
 * identity.c - a hash of all that decides a run's numbers: settings, texts, what
 * is measured, the model, the extensions below. A record with it is one of this
 * very run; two runs with the same are refused, with the lines of both. And a
 * hash of what decides its training alone: a run that is only measured in
 * another way is scored again, not trained again.
 */
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"
#include "train/train.h"

static json_t *text_identity(const nr_recipe_text *t, bool trains)
{
    json_t *o = json_pack("{s:i}", "domain", t->domain), *list;
    json_object_set_new(o, "train", list = json_array());
    for (size_t i = 0; trains && i < t->train.count; i++) json_array_append_new(list, nr_file_identity(t->train.paths[i]));
    json_object_set_new(o, "validation", list = json_array());
    for (size_t i = 0; i < t->validation.count; i++) json_array_append_new(list, nr_file_identity(t->validation.paths[i]));
    return o;
}

static bool hash_json(char hex[65], const json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    nr_sha256 *h = text ? nr_sha256_new() : NULL;
    if (h) {
        nr_sha256_add(h, text, strlen(text));
        nr_sha256_hex(h, hex);
    }
    free(text);
    return h != NULL;
}

/* What decides a run's training; not where it stands, nor how many threads there are. */
static json_t *what_trains(const nr_recipe *r, const nr_planned *run, const nr_settings *s)
{
    bool backbone = run->role == NR_CONTROL_BACKBONE;
    json_t *texts = json_object();
    for (size_t t = 0; t < r->text_count; t++)
        json_object_set_new(texts, r->texts[t].name, text_identity(&r->texts[t], run->trains_on[t] && !backbone));
    char compute[32];
    nr_setting_get(s, nr_setting_find("compute"), compute, sizeof compute);
    json_t *o = json_pack("{s:i, s:o, s:o, s:o}", "format_version", 1, "model", nr_file_identity(r->model), "texts", texts, "settings",
                          backbone ? json_string(compute) : nr_settings_to_json(s, NULL));
    json_t *below = r->stands_on.count ? json_array() : NULL;
    for (size_t i = 0; i < r->stands_on.count; i++) {
        char hex[65];
        if (nr_extension_file_hash(hex, r->stands_on.paths[i], NULL) != NR_OK) snprintf(hex, sizeof hex, "none");
        json_array_append_new(below, json_string(hex));
    }
    if (o && below) json_object_set(o, "stands_on", below);
    json_decref(below);
    return o;
}

/* And what is measured. */
static void add_what_is_measured(json_t *o, const nr_recipe *r, const json_t *tasks)
{
    json_t *texts = json_object_get(o, "texts");
    for (size_t t = 0; t < r->text_count; t++)
        if (r->texts[t].test) json_object_set_new(json_object_get(texts, r->texts[t].name), "test", nr_file_identity(r->texts[t].test));
    json_object_set_new(o, "evaluation", json_pack("[I, I, I, I, b, b, b]", (json_int_t)r->max_documents, (json_int_t)r->context,
                                                   (json_int_t)r->batch_tokens, (json_int_t)r->generate, r->best, r->spectra, r->test));
    if (tasks) json_object_set(o, "tasks", (json_t *)(uintptr_t)tasks);
}

/* A method without an init has the same numbers with either: such a run counts as one with the default, and records of
 * either are its own. */
static nr_status identify(const nr_recipe *r, const json_t *tasks, nr_planned *run, nr_error *err)
{
    nr_settings s = run->s;
    const nr_method *method;
    NR_TRY(nr_train_method_defaults(&s, &method, err));
    s.threads = 0;
    if (!method->has_init) s.init = NR_INIT_HE;
    json_t *o = what_trains(r, run, &s);
    bool done = hash_json(run->trained, o);
    add_what_is_measured(o, r, tasks);
    done = hash_json(run->identity, o) && done;
    if (!method->has_init) json_object_set_new(json_object_get(o, "settings"), "init", json_string("low"));
    done = hash_json(run->other_init, o) && done;
    json_decref(o);
    return done ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory, or a path that is not UTF-8", r->path);
}

bool nr_record_is_of(const json_t *record, const nr_planned *run)
{
    return nr_report_is(record, "identity", run->identity) || nr_report_is(record, "identity", run->other_init);
}

nr_status nr_grid_identify(nr_recipe *r, nr_error *err)
{
    nr_status st = NR_OK;
    json_t *tasks = nr_recipe_tasks_identity(r);
    for (size_t i = 0; i < r->run_count && st == NR_OK; i++) st = identify(r, tasks, &r->runs[i], err);
    json_decref(tasks);
    for (size_t i = 0; i < r->run_count && st == NR_OK; i++) {
        for (size_t k = 0; k < i; k++)
            if (strcmp(r->runs[k].identity, r->runs[i].identity) == 0 && r->runs[i].role == NR_ROW)
                return nr_recipe_fail(r, r->runs[i].line, err, "the row repeats a run of line %zu", r->runs[k].line);
    }
    return st;
}
