/*
 * record.c - a run as one JSON object: what it was, what it scored, what it
 * cost, and the curves that drawings need, so that records alone make the table
 * and the page. Numbers that depend on this machine's clock and memory stand
 * under "cost" and nowhere else.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"
#include "train/train.h"

#define CURVE_POINTS 200

static void put(json_t *o, const char *key, double v) { json_object_set_new(o, key, nr_json_finite(v)); }

static void put_from(json_t *o, const char *key, const json_t *from, const char *path) { put(o, key, nr_report_number(from, path)); }

/* ---- what it was ---- */

bool nr_record_name(json_t *record, const nr_planned *run)
{
    json_t *names = json_pack("{s:s, s:s, s:s, s:s}", "name", run->name, "label", run->label, "group", run->group, "role", nr_control_names[run->role]);
    bool done = names && json_object_update(record, names) == 0;
    json_decref(names);
    return done;
}

static json_t *head(const nr_measured *m)
{
    const nr_recipe *r = m->recipe;
    const nr_planned *run = m->run;
    char build[256];
    nr_build_info(build, sizeof build);
    json_t *names[2] = {json_array(), json_array()};
    for (size_t t = 0; t < r->text_count; t++)
        if (run->trains_on[t]) json_array_append_new(names[r->texts[t].domain], json_string(r->texts[t].name));
    const char *slash = strrchr(r->model, '/');
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:{s:o, s:o}}", "format_version", 1, "identity", run->identity, "nres", nr_version(),
                          "machine", build, "model", slash && slash[1] ? slash + 1 : r->model, "settings", nr_settings_to_json(&run->s, NULL),
                          "trained_on", "old", names[0], "new", names[1]);
    if (!o || !nr_record_name(o, run)) return o;
    if (m->backbone[0]) json_object_set_new(o, "backbone", json_string(m->backbone));
    if (m->command) json_object_set_new(o, "command", json_string(m->command));
    return o;
}

/* ---- what it scored ---- */

static json_t *text_scores(const json_t *file, int domain)
{
    json_t *o = json_object();
    bool extended = json_object_get(file, "extended") != NULL;
    const char *key = extended ? "extended" : "backbone";
    char path[64];
    json_object_set_new(o, "domain", json_string(nr_domain_names[domain]));
    snprintf(path, sizeof path, "%s.bits_per_byte", key);
    put_from(o, "bits_per_byte", file, path);
    put_from(o, "backbone_bits_per_byte", file, "backbone.bits_per_byte");
    snprintf(path, sizeof path, "%s.nats_per_token", key);
    put_from(o, "nats_per_token", file, path);
    put_from(o, "backbone_nats_per_token", file, "backbone.nats_per_token");
    put(o, "nats_more", extended ? nr_report_number(file, "difference.nats_per_token") : 0);
    put(o, "bits_more", extended ? nr_report_number(file, "difference.bits_per_byte") : 0);
    put(o, "bits_more_stderr", extended ? nr_report_number(file, "difference.bits_per_byte_stderr") : 0);
    put(o, "kl", extended ? nr_report_number(file, "kl") : 0);
    put(o, "top1_agreement", extended ? nr_report_number(file, "top1_agreement") : 1);
    put_from(o, "tokens", file, "tokens");
    return o;
}

/* By column, in the recipe's order; the first text of a domain is the one that counts. */
static json_t *scores(const nr_measured *m)
{
    json_t *o = json_object();
    const json_t *files = json_object_get(m->eval, "files");
    for (size_t t = 0, i = 0; t < m->recipe->text_count; t++)
        if (m->recipe->texts[t].test) json_object_set_new(o, m->recipe->texts[t].name, text_scores(json_array_get(files, i++), m->recipe->texts[t].domain));
    return o;
}

/* Gates and norms of each layer on the first text of both domains. */
static json_t *layers(const nr_measured *m)
{
    const json_t *files = json_object_get(m->eval, "files"), *layer, *file, *auc;
    json_t *list = json_array();
    size_t i, l;
    bool seen[2] = {false, false};
    json_array_foreach(files, i, file) {
        int d = nr_report_is(file, "domain", "new");
        if (seen[d]) continue;
        seen[d] = true;
        json_array_foreach(json_object_get(file, "layers"), l, layer) {
            if (l >= json_array_size(list)) json_array_append_new(list, json_pack("{s:O}", "layer", json_object_get(layer, "layer")));
            json_t *o = json_object();
            put_from(o, "gate", layer, "gate_mean");
            put_from(o, "gate_abs", layer, "gate_abs_mean");
            put_from(o, "ratio", layer, "ratio");
            json_object_set_new(json_array_get(list, l), nr_domain_names[d], o);
        }
    }
    json_array_foreach(json_object_get(m->eval, "gate_auc"), l, auc) {
        double number = nr_report_number(auc, "layer");
        json_t *o = number >= 0 ? json_array_get(list, (size_t)number) : NULL;
        if (o) put_from(o, "gate_auc_abs", auc, "auc_abs");
    }
    return list;
}

/* ---- how it went ---- */

static json_t *curve(const json_t *steps)
{
    static const char *const keys[] = {"step", "lm_loss_new", "lm_loss_old"}, *const names[] = {"step", "new", "old"};
    size_t n = json_array_size(steps), each = n / CURVE_POINTS + 1;
    json_t *o = json_object();
    for (size_t k = 0; k < 3; k++) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i += each) { /* means of `each` steps, of those in which the domain had rows */
            double sum = 0, count = 0;
            for (size_t j = i; j < NR_MIN(i + each, n); j++) {
                double v = nr_report_number(json_array_get(steps, j), keys[k]);
                if (isfinite(v)) sum += v, count++;
            }
            json_array_append_new(list, nr_json_finite(sum / count));
        }
        json_object_set_new(o, names[k], list);
    }
    return o;
}

static json_t *validations(const json_t *evals)
{
    size_t i;
    const json_t *e;
    json_t *list = json_array();
    json_array_foreach(evals, i, e) {
        json_t *o = json_object();
        put_from(o, "step", e, "step");
        put_from(o, "old", e, "old.bits_per_byte");
        put_from(o, "new", e, "new.bits_per_byte");
        json_array_append_new(list, o);
    }
    return list;
}

static void add_training(json_t *o, json_t *cost, const nr_measured *m, const nr_report_data *d)
{
    const json_t *last = json_array_get(d->steps, json_array_size(d->steps) - 1);
    char *path = nr_path_join(m->folder, m->recipe->best ? "best/extension_config.json" : "extension_config.json");
    json_t *e = NULL;
    if (path && nr_path_exists(path)) nr_json_load(&e, path, NULL);
    double weights = nr_report_number(e, "weights"), share = nr_report_number(e, "share_of_all_weights");
    double budget = m->run->s.extra / 100 * weights / share;
    put(o, "weights", weights);
    put(o, "share_of_all_weights", share);
    json_object_set_new(o, "off_budget", json_boolean(isfinite(budget) && fabs(weights / budget - 1) > 0.1));
    json_object_set_new(o, "width", json_incref(json_object_get(e, "width")));
    put_from(o, "learning_rate", e, "training.settings.learning_rate");
    json_object_set_new(o, "validation", json_pack("{s:o, s:o, s:o, s:o}", "score", nr_json_finite(nr_report_number(e, "training.score")), "old",
                                                   nr_json_finite(nr_report_number(e, "training.old.bits_per_byte")), "new",
                                                   nr_json_finite(nr_report_number(e, "training.new.bits_per_byte")), "step",
                                                   nr_json_finite(nr_report_number(e, "training.step"))));
    json_object_set_new(o, "curve", curve(d->steps));
    json_object_set_new(o, "validations", validations(d->evals));
    put_from(o, "training_tokens", last, "tokens");
    put_from(cost, "training_seconds", last, "seconds");
    put(cost, "training_tokens_per_second", nr_report_speed(d->steps));
    put_from(cost, "memory_peak", d->usage, "memory_peak");
    json_decref(e);
    free(path);
}

json_t *nr_record(const nr_measured *m, nr_error *err)
{
    json_t *o = head(m), *cost = json_object();
    nr_report_data d = {0};
    nr_report_files files = {.run = m->folder};
    nr_status st = NR_OK;
    if (!o || !cost) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory, or a name that is not UTF-8", m->run->name);
    if (st == NR_OK && m->run->role != NR_CONTROL_BACKBONE) st = nr_report_load(&d, &files, err);
    if (st == NR_OK) {
        if (m->run->role != NR_CONTROL_BACKBONE) add_training(o, cost, m, &d);
        if (m->eval) json_object_set_new(o, "scores", scores(m));
        if (m->eval) json_object_set_new(o, "layers", layers(m));
        if (m->tasks) json_object_set(o, "tasks", m->tasks);
        if (m->tasks) put(cost, "tasks_seconds", m->task_seconds);
        if (m->spectrum) json_object_set(o, "gate_spectrum", m->spectrum);
        put(cost, "generated_tokens_per_second", m->generated_per_second);
        json_object_set_new(o, "cost", json_incref(cost));
        json_object_set_new(o, "status", json_string("done"));
    }
    nr_report_free(&d);
    json_decref(cost);
    if (st == NR_OK) return o;
    json_decref(o);
    return NULL;
}
