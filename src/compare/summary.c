/*
 * summary.c - the records of a comparison as one JSON object: every run, and
 * the groups of runs that differ in their seed alone, with means, the choice
 * among a label's groups, ranks and paired intervals.
 *
 *   learning    bits per byte on the first new text that is tested
 *   forgetting  the same on the first old text
 *   sum         of both: the rule by which rows are ranked, the lowest first
 *   chosen      of a label's groups the one with the lowest sum on validation
 *               text; test text decides nothing
 *   against     the differences to the first label's chosen group, seed by seed,
 *               with 95 % intervals of Student's t
 *   tasks       means of task scores (task_scores.c)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"
#include "train/train.h"

static const char *const measures[] = {"learning", "forgetting", "sum"};

/* ---- numbers of a record ---- */

/* The first text of a domain that is tested, or NULL. */
static const char *main_text(const nr_recipe *r, int domain)
{
    for (size_t t = 0; t < r->text_count; t++)
        if (r->texts[t].domain == domain && r->texts[t].test) return r->texts[t].name;
    return NULL;
}

static double text_number(const json_t *record, const char *text, const char *key)
{
    return text ? nr_report_number(json_object_get(json_object_get(record, "scores"), text), key) : NAN;
}

static double measure_of(const nr_recipe *r, const json_t *record, size_t measure)
{
    double learning = text_number(record, main_text(r, NR_NEW), "bits_per_byte");
    double forgetting = text_number(record, main_text(r, NR_OLD), "bits_per_byte");
    return measure == 0 ? learning : measure == 1 ? forgetting : learning + forgetting;
}

static double validation_sum(const json_t *record)
{
    double old = nr_report_number(record, "validation.old"), new_ = nr_report_number(record, "validation.new");
    return isfinite(old) && isfinite(new_) ? old + new_ : nr_report_number(record, "validation.score");
}

/* ---- means ---- */

typedef struct {
    const nr_recipe *recipe;
    const json_t *runs;  /* records */
    const char *group;
} members;

static bool is_member(const members *m, const json_t *record)
{
    const char *group = nr_report_string(record, "group"), *status = nr_report_string(record, "status");
    return group && strcmp(group, m->group) == 0 && status && strcmp(status, "done") == 0;
}

/* Mean over a group's finished runs of a number found by path; largest: its maximum instead. */
static double mean_of(const members *m, const char *path, bool largest)
{
    size_t i, n = 0;
    const json_t *record;
    double sum = 0, most = -INFINITY;
    json_array_foreach(m->runs, i, record) {
        double v = is_member(m, record) ? nr_report_number(record, path) : NAN;
        if (!isfinite(v)) continue;
        sum += v;
        most = fmax(most, v);
        n++;
    }
    return n == 0 ? NAN : largest ? most : sum / (double)n;
}

static double mean_text(const members *m, const char *text, const char *key)
{
    size_t i, n = 0;
    const json_t *record;
    double sum = 0;
    json_array_foreach(m->runs, i, record) {
        double v = is_member(m, record) ? text_number(record, text, key) : NAN;
        if (isfinite(v)) sum += v, n++;
    }
    return n ? sum / (double)n : NAN;
}

static double mean_validation(const members *m)
{
    size_t i, n = 0;
    const json_t *record;
    double sum = 0;
    json_array_foreach(m->runs, i, record)
        if (is_member(m, record)) sum += validation_sum(record), n++;
    return n ? sum / (double)n : NAN;
}

static void put(json_t *o, const char *key, double v) { json_object_set_new(o, key, nr_json_finite(v)); }

static json_t *texts_of(const members *m)
{
    json_t *o = json_object();
    for (size_t t = 0; t < m->recipe->text_count; t++)
        if (m->recipe->texts[t].test) put(o, m->recipe->texts[t].name, mean_text(m, m->recipe->texts[t].name, "bits_per_byte"));
    return o;
}

static void count_seeds(const members *m, json_t *o)
{
    size_t i, done = 0, failed = 0, all = 0;
    const json_t *record;
    bool off = false;
    json_array_foreach(m->runs, i, record) {
        const char *group = nr_report_string(record, "group"), *error = nr_report_string(record, "error");
        if (!group || strcmp(group, m->group) != 0) continue;
        all++;
        done += is_member(m, record);
        off |= json_is_true(json_object_get(record, "off_budget"));
        if (error && failed++ == 0) json_object_set_new(o, "error", json_string(error));
    }
    json_object_set_new(o, "seeds", json_integer((json_int_t)done));
    json_object_set_new(o, "failed", json_integer((json_int_t)failed));
    json_object_set_new(o, "missing", json_integer((json_int_t)(all - done - failed)));
    json_object_set_new(o, "off_budget", json_boolean(off));
}

static json_t *group_json(const nr_recipe *r, const json_t *runs, const nr_planned *run)
{
    static const char *const plain[][2] = {{"weights", "weights"}, {"share_of_all_weights", "share_of_all_weights"}, {"learning_rate", "learning_rate"},
                                           {"training_tokens_per_second", "cost.training_tokens_per_second"},
                                           {"training_seconds", "cost.training_seconds"},
                                           {"generated_tokens_per_second", "cost.generated_tokens_per_second"}};
    members m = {r, runs, run->group};
    const char *old = main_text(r, NR_OLD);
    char method[64];
    nr_setting_get(&run->s, nr_setting_find("method"), method, sizeof method);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "name", run->group, "label", run->label, "role", nr_control_names[run->role], "method",
                          run->role == NR_CONTROL_BACKBONE ? "none" : method);
    count_seeds(&m, o);
    put(o, "learning", mean_text(&m, main_text(r, NR_NEW), "bits_per_byte"));
    put(o, "forgetting", mean_text(&m, old, "bits_per_byte"));
    put(o, "sum", nr_report_number(o, "learning") + nr_report_number(o, "forgetting"));
    put(o, "nats_more", mean_text(&m, old, "nats_more"));
    put(o, "kl", mean_text(&m, old, "kl"));
    put(o, "top1_agreement", mean_text(&m, old, "top1_agreement"));
    put(o, "validation_sum", mean_validation(&m));
    for (size_t i = 0; i < NR_COUNT(plain); i++) put(o, plain[i][0], mean_of(&m, plain[i][1], false));
    put(o, "memory_peak", mean_of(&m, "cost.memory_peak", true));
    json_object_set_new(o, "texts", texts_of(&m));
    return o;
}

/* ---- choice and rank ---- */

static bool ranks(const json_t *g)
{
    const char *role = nr_report_string(g, "role");
    return role && strcmp(role, "row") == 0 && isfinite(nr_report_number(g, "sum"));
}

static void choose(json_t *groups)
{
    size_t i, k;
    json_t *g, *other;
    json_array_foreach(groups, i, g) {
        bool chosen = ranks(g);
        json_array_foreach(groups, k, other) {
            if (k == i || !ranks(other) || strcmp(nr_report_string(other, "label"), nr_report_string(g, "label")) != 0) continue;
            double mine = nr_report_number(g, "validation_sum"), its = nr_report_number(other, "validation_sum");
            if (its < mine || (!(mine < its) && k < i)) chosen = false; /* of equals the first */
        }
        json_object_set_new(g, "chosen", json_boolean(chosen));
    }
}

static bool is_chosen(const json_t *g) { return json_is_true(json_object_get(g, "chosen")); }

static void rank(json_t *groups)
{
    size_t i, k;
    json_t *g, *other;
    json_array_foreach(groups, i, g) {
        size_t before = 0;
        json_array_foreach(groups, k, other)
            if (is_chosen(other) && nr_report_number(other, "sum") < nr_report_number(g, "sum")) before++;
        if (is_chosen(g)) json_object_set_new(g, "rank", json_integer((json_int_t)before + 1));
    }
}

/* ---- seed by seed ---- */

static const json_t *run_with(const json_t *runs, const char *group, double seed)
{
    size_t i;
    const json_t *record;
    members m = {NULL, runs, group};
    json_array_foreach(runs, i, record)
        if (is_member(&m, record) && nr_report_number(record, "settings.seed") == seed) return record;
    return NULL;
}

/* In how many seeds a chosen group has the lowest sum of all chosen ones. */
static void count_firsts(const nr_recipe *r, json_t *groups, const json_t *runs)
{
    size_t i, k, n;
    json_t *g;
    const json_t *record, *other;
    json_array_foreach(groups, i, g) {
        members m = {r, runs, nr_report_string(g, "name")};
        size_t first = 0;
        if (!is_chosen(g)) continue;
        json_array_foreach(runs, n, record) {
            if (!is_member(&m, record)) continue;
            bool best = true;
            json_array_foreach(groups, k, other) {
                const json_t *its = is_chosen(other) && k != i ? run_with(runs, nr_report_string(other, "name"), nr_report_number(record, "settings.seed")) : NULL;
                if (its && measure_of(r, its, 2) < measure_of(r, record, 2)) best = false;
            }
            first += best;
        }
        json_object_set_new(g, "first_in_seeds", json_integer((json_int_t)first));
    }
}

/* 97.5 % of Student's t. */
static double quantile(size_t freedom)
{
    static const double t[] = {NAN,   12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
                               2.120, 2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    return freedom < NR_COUNT(t) ? t[freedom] : 1.96 + 2.5 / (double)freedom;
}

static json_t *paired(const nr_recipe *r, const json_t *runs, const char *group, const char *reference, size_t measure, size_t *pairs)
{
    members m = {r, runs, group};
    size_t i, n = 0;
    double sum = 0, squares = 0;
    const json_t *record;
    json_array_foreach(runs, i, record) {
        const json_t *its = is_member(&m, record) ? run_with(runs, reference, nr_report_number(record, "settings.seed")) : NULL;
        double d = its ? measure_of(r, record, measure) - measure_of(r, its, measure) : NAN;
        if (isfinite(d)) sum += d, squares += d * d, n++;
    }
    *pairs = n;
    if (n == 0) return NULL;
    double mean = sum / (double)n, variance = n > 1 ? fmax(0, squares - sum * mean) / (double)(n - 1) : NAN;
    double half = n > 1 ? quantile(n - 1) * sqrt(variance / (double)n) : NAN;
    return json_pack("{s:f, s:o, s:o}", "mean", mean, "low", nr_json_finite(mean - half), "high", nr_json_finite(mean + half));
}

static void compare_groups(const nr_recipe *r, json_t *groups, const json_t *runs)
{
    size_t i, pairs = 0;
    json_t *g;
    const char *reference = NULL;
    json_array_foreach(groups, i, g)
        if (!reference && is_chosen(g)) reference = nr_report_string(g, "name");
    json_array_foreach(groups, i, g) {
        const char *name = nr_report_string(g, "name"), *role = nr_report_string(g, "role");
        if (!reference || strcmp(name, reference) == 0 || strcmp(role, "backbone") == 0) continue;
        json_t *o = json_pack("{s:s}", "group", reference);
        for (size_t k = 0; k < NR_COUNT(measures); k++) {
            json_t *d = paired(r, runs, name, reference, k, &pairs);
            if (d) json_object_set_new(o, measures[k], d);
        }
        json_object_set_new(o, "pairs", json_integer((json_int_t)pairs));
        json_object_set_new(g, "against", o);
    }
}

/* ---- the whole ---- */

static json_t *all_runs(const nr_compare_place *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->recipe->run_count; i++) {
        const nr_planned *run = &p->recipe->runs[i];
        json_t *record = nr_measure_record(p, run, true);
        if (!record)
            record = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", run->name, "label", run->label, "group", run->group, "role",
                               nr_control_names[run->role], "status", "missing", "settings", nr_settings_to_json(&run->s, NULL));
        json_array_append_new(list, record);
    }
    return list;
}

static json_t *columns_of(const nr_recipe *r)
{
    json_t *list = json_array();
    for (size_t t = 0; t < r->text_count; t++)
        if (r->texts[t].test)
            json_array_append_new(list, json_pack("{s:s, s:s}", "name", r->texts[t].name, "domain", nr_domain_names[r->texts[t].domain]));
    return list;
}

/* Groups of which a run was made; the names of the others go to waiting. */
static json_t *made_groups(const nr_recipe *r, const json_t *runs, json_t *waiting)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < r->run_count; i++) {
        bool seen = false;
        for (size_t k = 0; k < i; k++) seen |= strcmp(r->runs[k].group, r->runs[i].group) == 0;
        json_t *g = seen ? NULL : group_json(r, runs, &r->runs[i]);
        if (g && nr_report_number(g, "seeds") + nr_report_number(g, "failed") == 0) {
            json_array_append(waiting, json_object_get(g, "name"));
            json_decref(g);
        } else if (g) {
            json_array_append_new(groups, g);
        }
    }
    return groups;
}

json_t *nr_summary(const nr_compare_place *p)
{
    const nr_recipe *r = p->recipe;
    const char *slash = strrchr(r->model, '/'), *learning = main_text(r, NR_NEW), *forgetting = main_text(r, NR_OLD);
    json_t *runs = all_runs(p), *waiting = json_array(), *groups = made_groups(r, runs, waiting);
    json_t *tasks = nr_summary_task_columns(r, runs), *g;
    size_t k;
    json_array_foreach(groups, k, g)
        if (json_array_size(tasks)) nr_summary_tasks(g, runs, tasks);
    choose(groups);
    rank(groups);
    count_firsts(r, groups, runs);
    compare_groups(r, groups, runs);
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "title", r->title ? r->title : "Comparison", "model", slash && slash[1] ? slash + 1 : r->model,
                     "learning_text", learning ? learning : "", "forgetting_text", forgetting ? forgetting : "", "columns", columns_of(r), "tasks",
                     tasks, "groups", groups, "waiting", waiting, "runs", runs);
}
