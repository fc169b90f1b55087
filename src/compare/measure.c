/*
 * measure.c - one run of a comparison, from wherever it stands to its record:
 * trained or resumed with the ordinary trainer, scored on the test texts, its
 * generation timed.
 *
 *   OUT/runs/NAME/           the trainer's folder, and `identity`
 *   OUT/results/NAME.json    the record, written last: a run with one is done
 *   OUT/logs/NAME.progress   how far its scoring is, while it lasts
 *
 * A folder trained with other settings or texts than the recipe now says is
 * begun anew. A failure is a record too, with its error in place of scores.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "data/data.h"
#include "report/report.h"
#include "train/train.h"

#define PROMPT 64       /* tokens before what is timed */
#define REPETITIONS 3

/* ---- paths ---- */

char *nr_measure_folder(const nr_compare_place *p, const nr_planned *run) { return nr_format("%s/runs/%s", p->output, run->name); }

static char *record_path(const nr_compare_place *p, const nr_planned *run) { return nr_format("%s/results/%s.json", p->output, run->name); }

json_t *nr_measure_record(const nr_compare_place *p, const nr_planned *run, bool failed_too)
{
    char *path = record_path(p, run);
    json_t *o = NULL;
    if (path && nr_path_exists(path) && nr_json_load(&o, path, NULL) == NR_OK) {
        if (!nr_record_is_of(o, run) || (!failed_too && !nr_report_is(o, "status", "done"))) {
            json_decref(o);
            o = NULL;
        }
    }
    free(path);
    return o;
}

nr_status nr_measure_write(const nr_compare_place *p, const nr_planned *run, json_t *record, nr_error *err)
{
    char *folder = nr_format("%s/results", p->output), *path = record_path(p, run);
    nr_status st = folder && path ? nr_make_folders(folder, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", run->name);
    if (st == NR_OK) st = nr_json_save(record, path, err);
    free(folder);
    free(path);
    return st;
}

/* ---- files ---- */

nr_status nr_measure_files(const nr_recipe *r, const nr_planned *run, const char ***paths, nr_files files[4], nr_error *err)
{
    size_t all = 0, n = 0;
    for (size_t t = 0; t < r->text_count; t++) all += r->texts[t].train.count + r->texts[t].validation.count;
    NR_TRY(nr_alloc(paths, all + 1, sizeof **paths, "paths", err));
    for (int set = 0; set < 4; set++) {
        files[set] = (nr_files){*paths + n, 0};
        for (size_t t = 0; t < r->text_count; t++) {
            const nr_paths *from = set < 2 ? &r->texts[t].train : &r->texts[t].validation;
            if (r->texts[t].domain != set % 2 || (set < 2 && !run->trains_on[t])) continue;
            for (size_t i = 0; i < from->count; i++) (*paths)[n++] = from->paths[i];
        }
        files[set].count = (size_t)(*paths + n - files[set].paths);
    }
    return NR_OK;
}

/* ---- training ---- */

static void add_quoted(nr_buffer *b, const char *text)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./,:+@%";
    bool quote = !*text || strspn(text, plain) != strlen(text);
    nr_buffer_text(b, quote ? " '" : " ");
    for (const char *p = text; *p; p++) nr_buffer_printf(b, *p == '\'' ? "'\\''" : "%c", *p);
    if (quote) nr_buffer_text(b, "'");
}

/* A path; one that begins with the value of a variable of the command line begins with its name instead. */
static void add_path(nr_buffer *b, const nr_recipe *r, const char *path)
{
    for (size_t i = 0; i < r->variable_count; i++) {
        const char *value = strchr(r->variables[i], '=') + 1;
        size_t n = strlen(value);
        if (n < 2 || strncmp(path, value, n) != 0) continue;
        nr_buffer_printf(b, " \"$%.*s%s\"", (int)(value - 1 - r->variables[i]), r->variables[i], path + n);
        return;
    }
    add_quoted(b, path);
}

/* What would train this run by itself. */
static char *command_of(const nr_compare_place *p, const nr_planned *run, const nr_files files[4], const char *folder)
{
    static const char *const flags[4] = {"--old", "--new", "--old-validation", "--new-validation"};
    nr_buffer b = {0};
    nr_settings defaults;
    char value[256], usual[256], name[64];
    nr_settings_default(&defaults);
    nr_buffer_text(&b, run->role == NR_CONTROL_BACKBONE ? "nres eval -m" : "nres extend -m");
    add_path(&b, p->recipe, p->recipe->model);
    for (size_t i = 0; i < p->recipe->stands_on.count; i++) {
        nr_buffer_text(&b, " -x");
        add_path(&b, p->recipe, p->recipe->stands_on.paths[i]);
    }
    for (int set = 0; set < 4 && run->role != NR_CONTROL_BACKBONE; set++) {
        if (files[set].count) nr_buffer_printf(&b, " %s", flags[set]);
        for (size_t i = 0; i < files[set].count; i++) add_path(&b, p->recipe, files[set].paths[i]);
    }
    for (size_t t = 0; t < p->recipe->text_count && run->role == NR_CONTROL_BACKBONE; t++)
        if (p->recipe->texts[t].test) add_path(&b, p->recipe, p->recipe->texts[t].test);
    for (size_t i = 0; i < nr_setting_count && run->role != NR_CONTROL_BACKBONE; i++) {
        const nr_setting *w = &nr_setting_list[i];
        nr_setting_get(&run->s, w, value, sizeof value);
        nr_setting_get(&defaults, w, usual, sizeof usual);
        if (strcmp(value, usual) == 0) continue;
        snprintf(name, sizeof name, "%s", w->name);
        for (char *c = name; *c; c++)
            if (*c == '_') *c = '-';
        if (w->type == 'B') nr_buffer_printf(&b, " --%s%s", strcmp(value, "true") == 0 ? "" : "no-", name);
        else nr_buffer_printf(&b, " --%s", name);
        if (w->type != 'B') add_quoted(&b, value);
    }
    if (run->role != NR_CONTROL_BACKBONE) nr_buffer_text(&b, " -o");
    if (run->role != NR_CONTROL_BACKBONE) add_quoted(&b, folder);
    return b.failed ? NULL : b.data;
}

/* Whether the folder holds this very run, begun. */
static nr_status folder_state(const char *folder, const nr_planned *run, const nr_listener *l, bool *begun, nr_error *err)
{
    char *identity = nr_path_join(folder, "identity"), *config = nr_path_join(folder, "config.json");
    nr_map m = {0};
    nr_status st = identity && config ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    *begun = false;
    if (st == NR_OK && nr_path_exists(identity)) NR_GO(nr_map_open(&m, identity, err));
    bool same = m.size == 65 && memcmp(m.data, run->trained, 64) == 0;
    if (m.path) nr_map_close(&m);
    if (st == NR_OK && same) {
        *begun = nr_path_exists(config);
    } else if (st == NR_OK) {
        if (nr_path_exists(config)) nr_say(l, "%s: was trained with other settings or texts: begins anew", folder);
        char line[66];
        NR_GO(nr_remove_folder(folder, err));
        NR_GO(nr_make_folders(folder, err));
        snprintf(line, sizeof line, "%s\n", run->trained);
        NR_GO(nr_write_file(identity, line, 65, err));
    }
done:
    free(identity);
    free(config);
    return st;
}

/* Of a run that is finished nothing goes on from its state, which is two to three times the size of its weights. */
static nr_status drop_state(const char *folder, nr_error *err)
{
    char *path = nr_path_join(folder, "state");
    nr_status st = path ? nr_remove_folder(path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    free(path);
    return st;
}

static nr_status train(const nr_compare_place *p, const nr_planned *run, const nr_files files[4], const char *folder, const char *command,
                       const nr_listener *l, nr_error *err)
{
    bool begun;
    nr_trainer *t;
    NR_TRY(folder_state(folder, run, l, &begun, err));
    nr_run how = {.model = p->recipe->model, .run = folder, .cache_folder = p->cache_folder, .hub_folder = p->hub_folder,
                  .train = {files[0], files[1]}, .validation = {files[2], files[3]}, .command = command, .overwrite = true,
                  .stands_on = {(const char *const *)p->recipe->stands_on.paths, p->recipe->stands_on.count}};
    nr_status st = begun ? nr_trainer_resume(&t, folder, l, err) : nr_trainer_new(&t, &how, &run->s, l, err);
    if (st == NR_OK) st = nr_trainer_run(t, err);
    nr_trainer_close(t);
    return st == NR_OK ? drop_state(folder, err) : st;
}

/* ---- scoring ---- */

typedef struct {
    nr_model *model;
    nr_tokenizer *tokenizer;
    nr_extension *e;                    /* the run's, or the last that it stands on, or NULL */
    nr_extension *all[NR_STACK_MAX];
    size_t count;
} opened;

static void close_all(opened *o)
{
    for (size_t i = 0; i < o->count; i++) nr_extension_close(o->all[i]);
    nr_tokenizer_close(o->tokenizer);
    nr_model_close(o->model);
    *o = (opened){0};
}

/* An extension on those that are open. */
static nr_status open_on(opened *o, const char *folder, nr_error *err)
{
    nr_extension *e;
    NR_TRY(nr_extension_load(&e, o->model, folder, false, err));
    o->all[o->count++] = e;
    if (o->e) NR_TRY(nr_extension_stand_on(e, o->e, err));
    o->e = e;
    return NR_OK;
}

static nr_status open_all(opened *o, const nr_compare_place *p, const nr_planned *run, const char *folder, nr_frozen frozen, nr_error *err)
{
    const nr_recipe *r = p->recipe;
    nr_model_options opt = {.compute = (nr_compute)run->s.compute, .use = NR_USE_FORWARD, .threads = run->s.threads,
                            .hub_folder = p->hub_folder, .frozen = frozen};
    *o = (opened){0};
    NR_TRY(nr_model_open(&o->model, r->model, &opt, err));
    NR_TRY(nr_tokenizer_open(&o->tokenizer, r->model, p->hub_folder, err));
    for (size_t i = 0; i < r->stands_on.count; i++) NR_TRY(open_on(o, r->stands_on.paths[i], err));
    if (run->role == NR_CONTROL_BACKBONE) return NR_OK;
    char *from = r->best ? nr_path_join(folder, "best") : nr_strdup(folder);
    nr_status st = from ? open_on(o, from, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    free(from);
    return st;
}

static nr_status score(nr_measured *m, opened *o, const nr_listener *l, nr_error *err)
{
    const nr_recipe *r = m->recipe;
    const char *paths[64];
    int domains[64];
    size_t n = 0;
    char *text;
    for (size_t t = 0; t < r->text_count && n < NR_COUNT(paths); t++) {
        if (!r->texts[t].test) continue;
        paths[n] = r->texts[t].test;
        domains[n++] = r->texts[t].domain;
    }
    if (n == 0) return nr_fail(err, NR_E_USAGE, "%s: expected a text with a test file, found none", r->path);
    nr_files files = {paths, n};
    nr_eval_options opt = {.text_field = m->run->s.text_field.s, .documents = m->run->s.documents, .context = r->context,
                           .max_documents = r->max_documents, .batch_tokens = r->batch_tokens, .domains = domains};
    NR_TRY(nr_evaluate(&text, o->model, o->tokenizer, o->e, &files, &opt, l, err));
    nr_status st = nr_json_parse(&m->eval, text, strlen(text), "evaluation", err);
    free(text);
    return st;
}

/* ---- the speed of generation ---- */

/* The first test document's first tokens, the new domain's before the old one's. */
static nr_status prompt_of(const nr_recipe *r, const nr_settings *s, const opened *o, int32_t ids[PROMPT], size_t *count, nr_error *err)
{
    const char *path = NULL, *text;
    nr_corpus *c;
    size_t size, room;
    int32_t *all = NULL;
    for (int d = NR_NEW; d >= NR_OLD; d--)
        for (size_t t = 0; t < r->text_count && !path; t++)
            if (r->texts[t].domain == d) path = r->texts[t].test;
    NR_TRY(nr_corpus_open(&c, path, s->text_field.s, (nr_documents)s->documents, err));
    nr_status st;
    NR_GO(nr_corpus_next(c, &text, &size, err));
    size = NR_MIN(size, (size_t)(16 * PROMPT));
    room = NR_IDS_ROOM(size);
    NR_GO(nr_alloc(&all, room, sizeof *all, "token ids", err));
    NR_GO(nr_tokenizer_encode(o->tokenizer, text, size, false, all, room, count, err));
    *count = NR_MIN(*count, (size_t)PROMPT);
    memcpy(ids, all, *count * sizeof *ids);
done:
    free(all);
    nr_corpus_close(c);
    return st;
}

static nr_status generate(nr_session *s, size_t prompt, int32_t last, size_t n, double *rate, const nr_listener *l, nr_error *err)
{
    const nr_sampling greedy = {.top_p = 1, .repetition_penalty = 1};
    double best = 0, all = (double)REPETITIONS * (double)n;
    for (int k = 0; k < REPETITIONS; k++) {
        nr_session_rewind(s, prompt - 1);
        int32_t id = last;
        double began = nr_clock();
        for (size_t i = 0; i < n; i++) {
            NR_TRY(nr_session_eval(s, &id, 1, err));
            id = nr_session_sample(s, &greedy);
        }
        nr_progress(l, "timing generation", (double)((size_t)k + 1) * (double)n, all, best, "tokens");
        double spent = nr_clock() - began;
        if (spent > 0) best = fmax(best, (double)n / spent);
    }
    *rate = best;
    return NR_OK;
}

/* Greedy tokens a second, the best of a few times, from the file's own blocks as nres generate does. */
static nr_status time_generation(nr_measured *m, const nr_compare_place *p, const nr_listener *l, nr_error *err)
{
    opened o;
    nr_session *s = NULL;
    int32_t ids[PROMPT];
    size_t count = 0;
    nr_status st;
    m->generated_per_second = NAN;
    if (m->recipe->generate == 0) return NR_OK;
    NR_GO(open_all(&o, p, m->run, m->folder, NR_FROZEN_AUTO, err));
    NR_GO(prompt_of(m->recipe, &m->run->s, &o, ids, &count, err));
    size_t context = NR_MIN(o.model->config->max_context, count + m->recipe->generate);
    if (count == 0 || context <= count) goto done;
    NR_GO(nr_session_new(&s, o.model, o.e, context, err));
    NR_GO(nr_session_eval(s, ids, count, err));
    st = generate(s, count, ids[count - 1], context - count, &m->generated_per_second, l, err);
done:
    nr_session_close(s);
    close_all(&o);
    return st;
}

/* ---- how far it is ---- */

#define TELL_SECONDS 0.5

typedef struct {
    const nr_listener *listener;
    const char *path;
    double told;
} teller;

char *nr_measure_progress_path(const nr_compare_place *p, const nr_planned *run) { return nr_format("%s/logs/%s.progress", p->output, run->name); }

/* Nothing depends on it: what can't be written is left out, and no disk is waited for. */
static void tell(void *user, const char *what, double done, double total, double rate, const char *unit)
{
    teller *t = user;
    double now = nr_clock();
    nr_progress(t->listener, what, done, total, rate, unit);
    if (now - t->told < TELL_SECONDS) return;
    t->told = now;
    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:s}", "what", what, "done", nr_json_finite(done), "total", nr_json_finite(total), "rate",
                          nr_json_finite(rate), "unit", unit ? unit : "");
    char *part = nr_format("%s.part", t->path);
    if (o && part && json_dump_file(o, part, JSON_COMPACT) == 0 && rename(part, t->path) != 0) remove(part);
    free(part);
    json_decref(o);
}

static void tell_log(void *user, const char *line) { nr_say(((teller *)user)->listener, "%s", line); }

static bool tell_stopped(void *user) { return nr_stopped(((teller *)user)->listener); }

/* ---- a whole run ---- */

static nr_status look_at(nr_measured *m, const nr_compare_place *p, const nr_listener *l, nr_error *err)
{
    opened o;
    if (!p->recipe->test) {
        m->generated_per_second = NAN;
        return NR_OK;
    }
    nr_status st = open_all(&o, p, m->run, m->folder, NR_FROZEN_PACKED, err);
    if (st == NR_OK) st = nr_model_fingerprint(o.model, m->backbone, err);
    if (st == NR_OK) st = score(m, &o, l, err);
    if (st == NR_OK && m->recipe->tasks.count)
        st = nr_recipe_tasks_score(&m->tasks, &m->task_seconds, m->recipe, o.model, o.tokenizer, o.e, l, err);
    if (st == NR_OK && m->recipe->spectra) m->spectrum = nr_gate_spectrum(o.model, o.e);
    close_all(&o);
    return st == NR_OK ? time_generation(m, p, l, err) : st;
}

/* The same with a listener that writes how far it is. */
static nr_status look_and_tell(nr_measured *m, const nr_compare_place *p, const nr_listener *l, nr_error *err)
{
    char *path = nr_measure_progress_path(p, m->run);
    teller t = {.listener = l, .path = path};
    nr_listener telling = {.user = &t, .log = tell_log, .progress = tell, .stop = tell_stopped};
    nr_status st = look_at(m, p, path && p->alone ? &telling : l, err);
    if (path) remove(path);
    free(path);
    return st;
}

nr_status nr_measure(const nr_compare_place *p, const nr_planned *run, const nr_listener *l, nr_error *err)
{
    nr_files files[4];
    const char **paths = NULL;
    char *folder = nr_measure_folder(p, run), *command = NULL;
    json_t *record = NULL;
    nr_measured m = {.recipe = p->recipe, .run = run, .folder = folder};
    nr_status st = folder ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", run->name);
    if (st == NR_OK) NR_GO(nr_measure_files(p->recipe, run, &paths, files, err));
    m.command = command = command_of(p, run, files, folder);
    if (run->role != NR_CONTROL_BACKBONE) NR_GO(train(p, run, files, folder, command, l, err));
    NR_GO(look_and_tell(&m, p, l, err));
    record = nr_record(&m, err);
    st = record ? nr_measure_write(p, run, record, err) : err->status;
done:
    json_decref(record);
    json_decref(m.eval);
    json_decref(m.spectrum);
    json_decref(m.tasks);
    free(paths);
    free(command);
    free(folder);
    return st;
}

nr_status nr_measure_failed(const nr_compare_place *p, const nr_planned *run, const nr_error *why, nr_error *err)
{
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "format_version", 1, "name", run->name, "label", run->label, "group",
                          run->group, "role", nr_control_names[run->role], "identity", run->identity, "status", "failed", "error", why->message,
                          "exit_code", nr_status_exit_code(why->status));
    nr_status st = o ? nr_measure_write(p, run, o, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", run->name);
    json_decref(o);
    return st;
}
