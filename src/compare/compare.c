/*
 * compare.c - nr_compare and nr_compare_plan: a recipe's runs made, and what
 * they say written down. The table, the page and the drawings are made anew from
 * the records each time, so that they are there as runs come in.
 */
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "train/train.h"

/* ---- the plan ---- */

/* What scoring a run takes, in tokens of training: about as much for a token of the test texts, which both models read;
 * half as much for one of the questions. */
static double scoring_tokens(const nr_recipe *r)
{
    double bytes = 0;
    if (!r->test) return 0;
    for (size_t t = 0; t < r->text_count; t++) {
        nr_map m;
        if (!r->texts[t].test || nr_map_open(&m, r->texts[t].test, NULL) != NR_OK) continue;
        bytes += (double)m.size;
        nr_map_close(&m);
    }
    return bytes / NR_BYTES_A_TOKEN + nr_recipe_tasks_tokens(r) / 2;
}

static nr_status plan_run(const nr_compare_place *p, nr_reuse *reuse, const nr_planned *run, double scoring, json_t *list, nr_error *err)
{
    nr_files files[4];
    const char **paths;
    nr_plan plan = {0};
    nr_error why;
    json_t *done = nr_measure_record(p, run, false);
    if (!done) NR_TRY(nr_reuse_find(&done, reuse, p, run, err));
    NR_TRY(nr_measure_files(p->recipe, run, &paths, files, err));
    nr_run how = {.model = p->recipe->model, .run = "", .cache_folder = p->cache_folder, .hub_folder = p->hub_folder,
                  .train = {files[0], files[1]}, .validation = {files[2], files[3]},
                  .stands_on = {(const char *const *)p->recipe->stands_on.paths, p->recipe->stands_on.count}};
    nr_status st = run->role == NR_CONTROL_BACKBONE ? NR_OK : nr_trainer_plan(&plan, &how, &run->s, &why);
    double trained = (double)run->s.steps * (double)(run->s.batch_size * run->s.context);
    double seconds = trained > 0 ? plan.seconds / trained * (trained + scoring) : 0;
    json_t *o = json_pack("{s:s, s:I, s:f, s:b}", "name", run->name, "memory_bytes", (json_int_t)plan.total_bytes, "seconds", seconds, "done", done != NULL);
    if (st != NR_OK) json_object_set_new(o, "error", json_string(why.message));
    json_array_append_new(list, o);
    json_decref(done);
    free(paths);
    return NR_OK;
}

nr_status nr_compare_plan(char **json, const nr_compare_options *opt, nr_error *err)
{
    nr_recipe r;
    *json = NULL;
    NR_TRY(nr_recipe_load(&r, opt->recipe, opt->variables, opt->variable_count, opt->task_folder, err));
    nr_compare_place p = {&r, opt->output ? opt->output : "", opt->cache_folder, opt->hub_folder, false};
    double scoring = scoring_tokens(&r);
    json_t *list = json_array(), *o = json_pack("{s:o, s:f}", "runs", list, "scoring_tokens", scoring);
    nr_reuse reuse;
    nr_status st = nr_reuse_load(&reuse, opt->reuse, opt->reuse_count, err);
    for (size_t i = 0; st == NR_OK && i < r.run_count; i++)
        if (!opt->only || strcmp(opt->only, r.runs[i].name) == 0) st = plan_run(&p, &reuse, &r.runs[i], scoring, list, err);
    if (st == NR_OK && !(*json = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9)))) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", r.path);
    json_decref(o);
    nr_reuse_free(&reuse);
    nr_recipe_free(&r);
    return st;
}

/* ---- what is written ---- */

static nr_status write_part(const char *folder, const char *name, nr_buffer *b, nr_error *err)
{
    char *path = nr_path_join(folder, name);
    nr_status st = path && !b->failed ? nr_write_file(path, b->data, b->size, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", name);
    free(path);
    b->size = 0;
    return st;
}

static nr_status write_all(const nr_compare_place *p, const nr_compare_options *opt, const nr_listener *l, char **text, nr_error *err)
{
    nr_buffer b = {0};
    json_t *summary = nr_summary(p);
    char *path = nr_path_join(p->output, "table.json");
    nr_status st = summary && path ? nr_json_save(summary, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", p->output);
    if (st != NR_OK) goto done;
    nr_compare_markdown(&b, summary);
    NR_GO(write_part(p->output, "table.md", &b, err));
    nr_compare_csv(&b, summary);
    NR_GO(write_part(p->output, "table.csv", &b, err));
    NR_GO(nr_compare_page_write(summary, p->output, opt->draw, l, err));
    nr_compare_text(&b, summary);
    *text = b.failed ? NULL : nr_strdup(b.data);
    if (!*text) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for the table", p->output);
done:
    nr_buffer_free(&b);
    json_decref(summary);
    free(path);
    return st;
}

/* ---- the call ---- */

static nr_status run_only(const nr_compare_place *p, const char *name, const nr_listener *l, nr_error *err)
{
    const nr_recipe *r = p->recipe;
    for (size_t i = 0; i < r->run_count; i++) {
        nr_error why = {0};
        if (strcmp(r->runs[i].name, name) != 0) continue;
        nr_status st = nr_measure(p, &r->runs[i], l, &why);
        if (st != NR_OK && st != NR_E_INTERRUPTED) NR_TRY(nr_measure_failed(p, &r->runs[i], &why, err));
        if (st != NR_OK && err) *err = why;
        return st;
    }
    return nr_fail(err, NR_E_USAGE, "%s: no run is called \"%.200s\"; --dry-run lists them", r->path, name);
}

static nr_status compare(char **text, const nr_compare_place *p, const nr_compare_options *opt, const nr_listener *l, nr_error *err)
{
    nr_error failed;
    if (p->recipe->test) NR_TRY(nr_recipe_tasks_find(p->recipe, err));
    if (opt->only) return run_only(p, opt->only, l, err);
    NR_TRY(nr_reuse_all(p, opt, l, err));
    if (opt->so_far && !nr_path_exists(p->output)) return nr_fail(err, NR_E_IO, "%s: no comparison is here yet", p->output);
    if (opt->so_far) return write_all(p, opt, l, text, err);
    NR_TRY(nr_runner_all(p, opt, l, &failed, err));
    NR_TRY(write_all(p, opt, l, text, err));
    if (failed.status != NR_OK && err) *err = failed;
    return failed.status;
}

nr_status nr_compare(char **text, const nr_compare_options *opt, const nr_listener *l, nr_error *err)
{
    nr_recipe r;
    *text = NULL;
    if (!opt->output || !*opt->output) return nr_fail(err, NR_E_USAGE, "compare: expected a folder for the results");
    NR_TRY(nr_recipe_load(&r, opt->recipe, opt->variables, opt->variable_count, opt->task_folder, err));
    for (size_t i = 0; i < r.run_count; i++)
        if (opt->threads && r.runs[i].s.threads == 0) r.runs[i].s.threads = opt->threads;
    nr_compare_place p = {&r, opt->output, opt->cache_folder, opt->hub_folder, opt->only != NULL};
    nr_status st = compare(text, &p, opt, l, err);
    nr_recipe_free(&r);
    return st;
}
