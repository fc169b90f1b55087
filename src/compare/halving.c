/*
 * halving.c - nr_tune: of every label's groups the one with the lowest sum of
 * old and new bits per byte on validation text, by successive halving.
 *
 * Round k of n trains what is left for steps / keep^(n - k) steps, each with its
 * whole schedule, and keeps one in `keep` groups of each label; the last round
 * trains for all steps and keeps one. Rounds are comparisons of their own, in
 * OUT/round1, OUT/round2 ...: so a tuning that was killed goes on where it was.
 * No test text is looked at.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"

typedef struct {
    const nr_recipe *recipe;
    const nr_compare_options *opt;
    const nr_listener *listener;
    bool *alive;     /* (runs) */
    double *score;   /* (runs): of the run's group; INFINITY: failed */
    nr_buffer table;
} tuning;

static bool is_row(const tuning *t, size_t i) { return t->recipe->runs[i].role == NR_ROW; }
static bool same_group(const tuning *t, size_t i, size_t k) { return strcmp(t->recipe->runs[i].group, t->recipe->runs[k].group) == 0; }
static bool same_label(const tuning *t, size_t i, size_t k) { return strcmp(t->recipe->runs[i].label, t->recipe->runs[k].label) == 0; }

/* Whether i is the first run of its group. */
static bool leads(const tuning *t, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (is_row(t, k) && same_group(t, i, k)) return false;
    return is_row(t, i);
}

/* Groups of the label of run i that are left. */
static size_t groups_left(const tuning *t, size_t i)
{
    size_t n = 0;
    for (size_t k = 0; k < t->recipe->run_count; k++) n += is_row(t, k) && t->alive[k] && same_label(t, i, k) && leads(t, k);
    return n;
}

static bool undecided(const tuning *t)
{
    for (size_t i = 0; i < t->recipe->run_count; i++)
        if (is_row(t, i) && t->alive[i] && groups_left(t, i) > 1) return true;
    return false;
}

/* ---- one round ---- */

/* The runs that are left, shortened. */
static nr_status shorten(const tuning *t, size_t factor, nr_planned **runs, size_t *count, nr_error *err)
{
    *count = 0;
    NR_TRY(nr_alloc(runs, t->recipe->run_count, sizeof **runs, "runs", err));
    for (size_t i = 0; i < t->recipe->run_count; i++) {
        if (!is_row(t, i) || !t->alive[i] || groups_left(t, i) < 2) continue;
        nr_planned *run = &(*runs)[(*count)++];
        *run = t->recipe->runs[i];
        run->s.steps = NR_MAX(run->s.steps / factor, (size_t)1);
        run->s.warmup_steps = NR_MIN(run->s.warmup_steps / factor, run->s.steps);
        run->s.eval_steps = 0;
    }
    return NR_OK;
}

static double validation_of(const nr_compare_place *p, const nr_planned *run)
{
    json_t *record = nr_measure_record(p, run, false);
    double old = nr_report_number(record, "validation.old"), new_ = nr_report_number(record, "validation.new");
    double score = isfinite(old) && isfinite(new_) ? old + new_ : nr_report_number(record, "validation.score");
    json_decref(record);
    return isfinite(score) ? score : INFINITY;
}

/* Means over the seeds; the round's runs stand in the order of those that are left. */
static void take_scores(tuning *t, const nr_compare_place *p)
{
    size_t n = t->recipe->run_count, at = 0;
    for (size_t i = 0; i < n; i++)
        if (is_row(t, i) && t->alive[i] && groups_left(t, i) > 1) t->score[i] = validation_of(p, &p->recipe->runs[at++]);
    for (size_t i = 0; i < n; i++) {
        if (!leads(t, i) || !t->alive[i] || groups_left(t, i) < 2) continue;
        double sum = 0, count = 0;
        for (size_t k = i; k < n; k++)
            if (is_row(t, k) && same_group(t, i, k)) sum += t->score[k], count++;
        for (size_t k = i; k < n; k++)
            if (is_row(t, k) && same_group(t, i, k)) t->score[k] = sum / count;
    }
}

static nr_status run_round(tuning *t, size_t round, size_t factor, nr_error *err)
{
    nr_planned *runs;
    size_t count;
    nr_recipe r = {0};
    nr_error failed;
    char *folder = nr_format("%s/round%zu", t->opt->output, round), *path = folder ? nr_path_join(folder, "recipe.yaml") : NULL;
    nr_status st = path ? nr_make_folders(folder, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->opt->output);
    if (st == NR_OK) st = shorten(t, factor, &runs, &count, err);
    if (st == NR_OK) {
        st = nr_recipe_write(t->recipe, runs, count, false, false, path, err);
        free(runs);
    }
    if (st == NR_OK) st = nr_recipe_load(&r, path, NULL, 0, NULL, err);
    if (st == NR_OK) {
        nr_compare_options opt = *t->opt;
        opt.recipe = path;
        opt.output = folder;
        opt.variables = NULL;
        opt.variable_count = 0;
        nr_compare_place p = {&r, folder, opt.cache_folder, opt.hub_folder, false};
        st = nr_runner_all(&p, &opt, t->listener, &failed, err);
        if (st == NR_OK) take_scores(t, &p);
    }
    nr_recipe_free(&r);
    free(folder);
    free(path);
    return st;
}

/* ---- what stays ---- */

/* Groups of the same label that are left and better; of equals the first. */
static size_t better(const tuning *t, size_t i)
{
    size_t n = 0;
    for (size_t k = 0; k < t->recipe->run_count; k++)
        if (leads(t, k) && t->alive[k] && same_label(t, i, k) && !same_group(t, i, k) && (t->score[k] < t->score[i] || (t->score[k] == t->score[i] && k < i))) n++;
    return n;
}

static nr_status select_best(tuning *t, size_t keep, bool last, size_t steps, size_t round, nr_error *err)
{
    size_t n = t->recipe->run_count;
    bool *stays;
    NR_TRY(nr_alloc(&stays, n, sizeof *stays, "runs", err));
    nr_status st = NR_OK;
    nr_buffer_printf(&t->table, "round %zu, up to %zu steps%*ssum, bits/B\n", round, steps, 37, "");
    for (size_t i = 0; i < n && st == NR_OK; i++) {
        size_t all = is_row(t, i) ? groups_left(t, i) : 0, left = last ? 1 : (all + keep - 1) / keep;
        stays[i] = is_row(t, i) && t->alive[i] && (all < 2 || better(t, i) < left);
        if (leads(t, i) && t->alive[i] && all > 1)
            nr_buffer_printf(&t->table, "  %-56.56s%12.4f%s\n", t->recipe->runs[i].group, t->score[i], stays[i] ? "  kept" : "");
        if (stays[i] && all > 1 && !isfinite(t->score[i]) && better(t, i) == 0)
            st = nr_fail(err, NR_E_NOT_FINITE, "%s: every run of %s failed in round %zu; its logs say why", t->opt->output, t->recipe->runs[i].label, round);
    }
    memcpy(t->alive, stays, n * sizeof *stays);
    free(stays);
    return st;
}

static nr_status write_choice(tuning *t, nr_error *err)
{
    nr_planned *chosen;
    size_t count = 0;
    char *path = nr_path_join(t->opt->output, "choice.yaml");
    NR_TRY(nr_alloc(&chosen, t->recipe->run_count, sizeof *chosen, "runs", err));
    nr_buffer_text(&t->table, "chosen\n");
    for (size_t i = 0; i < t->recipe->run_count; i++) {
        if (!leads(t, i) || !t->alive[i]) continue;
        chosen[count++] = t->recipe->runs[i];
        nr_buffer_printf(&t->table, "  %s\n", t->recipe->runs[i].group);
    }
    nr_status st = path ? nr_recipe_write(t->recipe, chosen, count, true, true, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->opt->output);
    if (st == NR_OK) nr_buffer_printf(&t->table, "written to %s\n", path);
    free(path);
    free(chosen);
    return st;
}

static nr_status tune(tuning *t, size_t keep, size_t rounds, nr_error *err)
{
    size_t n = t->recipe->run_count, most = 0;
    NR_TRY(nr_alloc(&t->alive, n, sizeof *t->alive, "runs", err));
    NR_TRY(nr_alloc(&t->score, n, sizeof *t->score, "runs", err));
    for (size_t i = 0; i < n; i++) {
        t->alive[i] = is_row(t, i);
        if (is_row(t, i)) most = NR_MAX(most, t->recipe->runs[i].s.steps);
    }
    if (!undecided(t)) return nr_fail(err, NR_E_USAGE, "%s: expected a row with a list of values to choose from, found none", t->recipe->path);
    for (size_t round = 1; round <= rounds && undecided(t); round++) {
        size_t factor = 1;
        for (size_t k = round; k < rounds; k++) factor *= keep;
        NR_TRY(run_round(t, round, factor, err));
        NR_TRY(select_best(t, keep, round == rounds, NR_MAX(most / factor, (size_t)1), round, err));
    }
    return write_choice(t, err);
}

nr_status nr_tune(char **text, const nr_compare_options *opt, size_t keep, size_t rounds, const nr_listener *l, nr_error *err)
{
    nr_recipe r;
    *text = NULL;
    if (!opt->output || !*opt->output) return nr_fail(err, NR_E_USAGE, "tune: expected a folder for the rounds");
    if (keep < 2 || keep > 100 || rounds < 1 || rounds > 10)
        return nr_fail(err, NR_E_USAGE, "tune: expected one in 2 to 100 to keep and 1 to 10 rounds, found %zu and %zu", keep, rounds);
    NR_TRY(nr_recipe_load(&r, opt->recipe, opt->variables, opt->variable_count, opt->task_folder, err));
    tuning t = {.recipe = &r, .opt = opt, .listener = l};
    nr_status st = tune(&t, keep, rounds, err);
    if (st == NR_OK && t.table.failed) st = nr_fail(err, NR_E_MEMORY, "tune: out of memory for the table");
    if (st == NR_OK) *text = t.table.data;
    else nr_buffer_free(&t.table);
    free(t.alive);
    free(t.score);
    nr_recipe_free(&r);
    return st;
}
