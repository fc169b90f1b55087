/*
 * trainer.c - nr_trainer: one run from its first step, or from its latest
 * checkpoint, to its last.
 *
 *   step -> metrics -> validation and best/ -> checkpoint, each where it is due
 *
 * In that order, so that a checkpoint of step n holds everything that step n
 * wrote, and a run that is killed anywhere goes on from there to the same bits.
 * The extension itself is written last: where RUN/extension_config.json stands,
 * the run is finished.
 *
 * Several ranks walk through the same lines. What only rank 0 does is followed by
 * an agreement before they next need each other, so that its failure ends all of
 * them with one error, and so is every step, which also decides together whether
 * to stop.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

/* ---- setting up ---- */

/* Defaults that depend on the method or on each other become values, so that config.json holds what ran. */
static nr_status settle(nr_trainer *t, bool resumed, nr_error *err)
{
    nr_settings *s = &t->s;
    const nr_method *method;
    NR_TRY(nr_settings_check(s, err));
    NR_TRY(nr_train_method_defaults(s, &method, err));
    size_t asked = s->micro_batch_size, ranks = nr_train_ranks(t), share = s->batch_size / ranks;
    NR_TRY(nr_train_share_batch(&t->B, s, ranks, resumed, err));
    s->micro_batch_size = t->B;
    if (resumed && asked != t->B) nr_train_say(t, "micro-batches of %zu rows instead of %zu, so that %zu ranks share them evenly", t->B, asked, ranks);
    t->first_row = nr_cluster_rank(t->cluster) * share;
    t->end_row = t->first_row + share;
    if (s->old_share == 0 && (s->l1 || s->ce)) {
        s->l1 = s->ce = false;
        if (method->block) nr_train_say(t, "old share 0: the local losses (l1, cross-entropy) are off");
    }
    return NR_OK;
}

static void start_event(const nr_trainer *t, const nr_plan *plan)
{
    json_t *j = json_pack("{s:s, s:s, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:o}}", "kind", "start", "run", t->folder,
                          "settings", nr_settings_to_json(&t->s, NULL), "plan", "weights_bytes", (json_int_t)plan->weights_bytes,
                          "activation_bytes", (json_int_t)plan->activation_bytes, "extension_bytes",
                          (json_int_t)plan->extension_bytes, "optimizer_bytes", (json_int_t)plan->optimizer_bytes, "total_bytes",
                          (json_int_t)plan->total_bytes, "disk_bytes", (json_int_t)plan->disk_bytes, "seconds",
                          nr_json_finite(plan->seconds));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (text) nr_train_event(t, text);
    free(text);
    json_decref(j);
}

static nr_status say_plan(nr_trainer *t, const nr_run *run, const nr_model_options *opt, nr_error *err)
{
    nr_model_options shapes_opt = *opt;
    nr_model *shapes;
    nr_plan plan;
    shapes_opt.use = NR_USE_SHAPES;
    NR_TRY(nr_model_open(&shapes, run->model, &shapes_opt, err));
    nr_status st = nr_plan_make(&plan, shapes, run, &t->s, err);
    nr_model_close(shapes);
    if (st != NR_OK) return st;
    char *table = nr_plan_describe(&plan);
    for (char *line = table, *end; line && *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = '\0';
        nr_train_say(t, "%s", line);
    }
    free(table);
    start_event(t, &plan);
    return NR_OK;
}

static nr_status take_buffers(nr_trainer *t, nr_error *err)
{
    const nr_settings *s = &t->s;
    size_t n = t->B * s->context, real = t->model->ops->real_size;
    const char *what = "a batch";
    NR_TRY(nr_alloc(&t->drawn, s->batch_size, sizeof *t->drawn, what, err));
    NR_TRY(nr_alloc(&t->row, s->context + 1, sizeof *t->row, what, err));
    NR_TRY(nr_alloc(&t->ids, n, sizeof *t->ids, what, err));
    NR_TRY(nr_alloc(&t->targets, n, sizeof *t->targets, what, err));
    NR_TRY(nr_alloc(&t->is_new, t->B, sizeof *t->is_new, what, err));
    if (s->document_mask) NR_TRY(nr_alloc(&t->first, n, sizeof *t->first, what, err));
    NR_TRY(nr_alloc(&t->sums, nr_train_ranks(t), sizeof *t->sums, what, err));
    NR_TRY(nr_exchange_new(&t->exchange, t->cluster, t->e, s->gradient_exchange == 1, err));
    NR_TRY(nr_alloc(&t->m, t->exchange.owned, real, "optimizer", err));
    NR_TRY(nr_alloc(&t->v, t->exchange.owned, real, "optimizer", err));
    NR_TRY(nr_fisher_new(t, err));
    return nr_validation_new(t, err);
}

static nr_status check_vocabulary(const nr_trainer *t, const nr_run *run, nr_error *err)
{
    size_t ids = nr_tokenizer_size(t->tokenizer), V = t->model->config->V;
    if (ids <= V) return NR_OK;
    return nr_fail(err, NR_E_MISMATCH, "%s: expected a tokenizer of at most the model's %zu ids, found %zu", run->model, V, ids);
}

/* The extension on an open model, and all memory of a step. */
static nr_status extend_model(nr_trainer *t, nr_error *err)
{
    NR_TRY(nr_extension_new(&t->e, t->model, &t->s, err));
    if (nr_train_yields(&t->s, t->e)) NR_TRY(nr_model_yield(t->model, t->e, err));
    NR_TRY(nr_extension_train(t->e, err));
    NR_TRY(nr_extension_stand_on(t->e, t->below, err));
    nr_extension *all[NR_STACK_MAX];
    size_t count = nr_extension_stack(t->e, all);
    nr_pass_options pass = nr_train_pass_options(&t->s, t->B);
    NR_TRY(nr_pass_new(&t->pass, t->model, all, count, &pass, err));
    return take_buffers(t, err);
}

/* What the new extension stands on. */
static nr_status open_below(nr_trainer *t, const nr_run *run, nr_error *err)
{
    nr_extension *all[NR_STACK_MAX];
    NR_TRY(nr_extension_load_stack(&t->below, t->model, run->stands_on.paths, run->stands_on.count, false, err));
    size_t count = nr_extension_stack(t->below, all);
    for (size_t i = 0; i < count; i++) nr_train_say(t, "it stands on %s: %s, frozen", run->stands_on.paths[i], all[i]->method->name);
    return NR_OK;
}

/* Everything but the folder: settings, texts, model, extension, memory. */
static nr_status prepare(nr_trainer *t, const nr_run *run, bool resumed, nr_error *err)
{
    nr_model_options opt = nr_train_model_options(&t->s);
    size_t threads = opt.threads ? opt.threads : nr_cluster_threads(t->cluster);
    opt.threads = threads;
    NR_TRY(settle(t, resumed, err));
    NR_TRY(nr_train_check_shares(run, &t->s, err));
    nr_threads_set(threads);
    nr_train_say_settings(t);
    nr_train_say_ranks(t);
    NR_TRY(say_plan(t, run, &opt, err));
    NR_TRY(nr_train_open_data(t, run, err));
    NR_TRY(nr_model_open(&t->model, run->model, &opt, err));
    NR_TRY(check_vocabulary(t, run, err));
    NR_TRY(open_below(t, run, err));
    NR_TRY(extend_model(t, err));
    NR_TRY(nr_model_fingerprint(t->model, t->e->backbone, err));
    nr_train_say(t, "%s on %s: %zu weights, %.2f %% of the backbone's, width %zu in %zu layers, backend %s", t->e->method->name,
                 t->model->config->name, t->e->weights,
                 100 * (double)t->e->weights / (double)nr_model_weight_count(t->model->config), t->e->width, t->e->layer_count,
                 t->model->ops->name);
    return nr_train_compare(t, err);
}

static nr_status open_outputs(nr_trainer *t, nr_error *err)
{
    if (!nr_train_leads(t)) return NR_OK;
    NR_TRY(nr_append_open(&t->metrics, t->folder, "metrics.jsonl", t->at.metrics_bytes, err));
    NR_TRY(nr_append_open(&t->events, t->folder, "events.out.tfevents.nres", t->at.events_bytes, err));
    if (t->at.events_bytes > 0) return NR_OK;
    nr_event_header(&t->record, nr_wall_time());
    if (t->record.failed) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->events.path);
    return nr_append_write(&t->events, t->record.data, t->record.size, err);
}

static void start_anew(nr_trainer *t)
{
    t->fresh = true;
    t->at = (nr_progress_state){.best_score = NAN};
    for (int d = 0; d < 2; d++) t->at.last.bits[d] = t->at.last.backbone_bits[d] = t->at.last.kl[d] = t->at.last.agreement[d] = NAN;
    t->at.last.score = NAN;
}

static nr_status create(nr_trainer **out, const char *folder, nr_cluster *c, const nr_listener *l, nr_error *err)
{
    nr_trainer *t;
    *out = NULL;
    NR_TRY(nr_alloc(&t, 1, sizeof *t, "trainer", err));
    t->lock = -1;
    t->cluster = c;
    t->listener = l;
    if (!nr_train_leads(t) && l) { /* only asked whether to stop */
        t->own_listener = (nr_listener){.user = l->user, .stop = l->stop};
        t->listener = &t->own_listener;
    }
    t->folder = nr_strdup(folder);
    if (!t->folder) {
        nr_trainer_close(t);
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    }
    *out = t;
    return NR_OK;
}

/* The run's folder, on rank 0. */
static nr_status begin_folder(nr_trainer *t, const nr_run *asked, const nr_run *run, nr_error *err)
{
    if (!nr_train_leads(t)) return NR_OK;
    NR_TRY(nr_run_lock(t, err));
    NR_TRY(nr_run_check_free(asked, err));
    NR_TRY(nr_run_clear(t, err));
    return nr_run_write_config(t, run, err);
}

static nr_status begin_run(nr_trainer *t, const nr_run *asked, nr_error *err)
{
    nr_run_copy c;
    NR_TRY(nr_train_check_shares(asked, &t->s, err));
    if (nr_train_leads(t)) NR_TRY(nr_run_check_free(asked, err));
    nr_status st = nr_run_copy_new(&c, asked, err);
    if (st == NR_OK) st = prepare(t, &c.run, false, err);
    if (st == NR_OK) st = begin_folder(t, asked, &c.run, err);
    nr_run_copy_free(&c);
    if (st != NR_OK) return st;
    start_anew(t);
    NR_TRY(open_outputs(t, err));
    NR_TRY(nr_train_agree(t, NR_OK, err));
    NR_TRY(nr_train_pass_on_state(t, true, err));
    return nr_fisher_open(t, err);
}

nr_status nr_trainer_new(nr_trainer **out, const nr_run *run, const nr_settings *s, const nr_listener *l, nr_error *err)
{
    nr_trainer *t;
    *out = NULL;
    NR_TRY(create(&t, run->run, run->cluster, l, err));
    t->s = *s;
    nr_status st = begin_run(t, run, err);
    st = nr_train_agree(t, st, err);
    if (st == NR_OK)
        *out = t;
    else
        nr_trainer_close(t);
    return st;
}

/* ---- without text or folder ---- */

static nr_status begin_random(nr_trainer *t, nr_model *m, nr_error *err)
{
    t->model = m;
    NR_TRY(settle(t, false, err));
    for (int d = 0; d < 2; d++)
        NR_TRY(nr_rows_random(&t->train[d], t->s.context, t->s.batch_size * t->s.steps, m->config->V, t->s.seed + (uint64_t)d, err));
    NR_TRY(extend_model(t, err));
    return t->fisher ? nr_fisher_find(t, err) : NR_OK;
}

nr_status nr_trainer_random(nr_trainer **out, nr_model *m, const nr_settings *s, nr_error *err)
{
    nr_trainer *t;
    *out = NULL;
    nr_status st = create(&t, "random ids", NULL, NULL, err);
    if (st != NR_OK) {
        nr_model_close(m);
        return st;
    }
    t->s = *s;
    st = begin_random(t, m, err);
    if (st == NR_OK)
        *out = t;
    else
        nr_trainer_close(t);
    return st;
}

/* ---- resuming ---- */

static bool is_finished(const nr_trainer *t)
{
    char *path = nr_path_join(t->folder, "extension_config.json");
    bool there = path && nr_path_exists(path);
    free(path);
    return there;
}

static nr_status load_config(nr_trainer *t, nr_error *err)
{
    char *path = nr_path_join(t->folder, "config.json");
    size_t version;
    nr_status st = NR_OK;
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    if (!nr_path_exists(path)) {
        st = nr_fail(err, NR_E_IO, "%s: not a run: config.json is missing; nres extend starts one", t->folder);
        goto done;
    }
    NR_GO(nr_json_load(&t->config, path, err));
    NR_GO(nr_json_size(t->config, "format_version", true, &version, path, err));
    if (version != 1) {
        st = nr_fail(err, NR_E_UNSUPPORTED, "%s: expected format_version 1, found %zu", path, version);
        goto done;
    }
done:
    free(path);
    return st;
}

/* The run as config.json has it, the same on every rank. */
static nr_status recall(nr_trainer *t, nr_run_copy *c, nr_error *err)
{
    char *where = nr_path_join(t->folder, "config.json");
    if (!where) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    nr_settings_default(&t->s);
    nr_status st = nr_settings_from_json(&t->s, json_object_get(t->config, "settings"), where, err);
    if (st == NR_OK) st = nr_run_copy_from_json(c, t->config, t->folder, where, err);
    c->run.cluster = t->cluster;
    free(where);
    return st;
}

static nr_status go_on(nr_trainer *t, const nr_run *run, nr_error *err)
{
    bool found = false;
    NR_TRY(prepare(t, run, true, err));
    nr_status st = nr_train_leads(t) ? nr_run_verify(t, run, err) : NR_OK;
    if (st == NR_OK && nr_train_leads(t)) st = nr_state_load(t, &found, err);
    NR_TRY(nr_cluster_agree(t->cluster, st, &found, err));
    NR_TRY(nr_train_pass_on_state(t, !found, err));
    if (found) {
        nr_train_say(t, "resumed after step %llu of %zu", (unsigned long long)t->at.step, t->s.steps);
    } else {
        start_anew(t);
        nr_train_say(t, "no state was saved yet: the run starts from its first step");
    }
    NR_TRY(nr_fisher_open(t, err));
    return open_outputs(t, err);
}

/* The run's folder, on rank 0. */
static nr_status open_folder(nr_trainer *t, nr_error *err)
{
    if (!nr_train_leads(t)) return NR_OK;
    if (!nr_path_is_folder(t->folder)) return nr_fail(err, NR_E_IO, "%s: expected the folder of a run, found none", t->folder);
    NR_TRY(load_config(t, err));
    NR_TRY(nr_run_lock(t, err));
    t->finished = is_finished(t);
    return NR_OK;
}

static nr_status resume_run(nr_trainer *t, nr_error *err)
{
    nr_run_copy c = {0};
    NR_TRY(open_folder(t, err));
    NR_TRY(nr_train_pass_on_config(t, err));
    nr_status st = recall(t, &c, err);
    if (st == NR_OK && t->finished)
        nr_say(t->listener, "%s: the run is finished: all %zu steps are done", t->folder, t->s.steps);
    else if (st == NR_OK)
        st = go_on(t, &c.run, err);
    nr_run_copy_free(&c);
    return st;
}

nr_status nr_trainer_resume(nr_trainer **out, const char *run_folder, const nr_listener *l, nr_error *err)
{
    return nr_trainer_resume_on(out, run_folder, NULL, l, err);
}

nr_status nr_trainer_resume_on(nr_trainer **out, const char *run_folder, nr_cluster *c, const nr_listener *l, nr_error *err)
{
    nr_trainer *t;
    *out = NULL;
    NR_TRY(create(&t, run_folder, c, l, err));
    nr_status st = resume_run(t, err);
    st = nr_train_agree(t, st, err);
    if (st == NR_OK)
        *out = t;
    else
        nr_trainer_close(t);
    return st;
}

/* ---- what is kept with the weights ---- */

static json_t *domain_record(const nr_scores *s, int d)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "bits_per_byte", nr_json_finite(s->bits[d]), "backbone_bits_per_byte",
                     nr_json_finite(s->backbone_bits[d]), "kl", nr_json_finite(s->kl[d]), "top1_agreement",
                     nr_json_finite(s->agreement[d]));
}

static nr_status write_extension(const nr_trainer *t, const char *folder, nr_error *err)
{
    const nr_scores *s = &t->at.last;
    json_t *settings = nr_settings_to_json(&t->s, NULL);
    json_t *record = json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:O}", "nres", nr_version(), "step", (json_int_t)t->at.step,
                               "steps", (json_int_t)t->s.steps, "tokens",
                               (json_int_t)(t->at.step * t->s.batch_size * t->s.context), "score", nr_json_finite(s->score), "old",
                               domain_record(s, NR_OLD), "new", domain_record(s, NR_NEW), "settings", settings, "tokens_sha256",
                               json_object_get(t->config, "tokens"));
    if (!record) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for the training record", folder);
    nr_status st = nr_extension_write(t->e, folder, record, err);
    json_decref(record);
    return st;
}

static nr_status keep_if_best(nr_trainer *t, bool *best, nr_error *err)
{
    double score = t->at.last.score;
    *best = isfinite(score) && !(score >= t->at.best_score);
    if (!*best) return NR_OK;
    t->at.best_score = score;
    t->at.best_step = t->at.step;
    if (!nr_train_leads(t)) return NR_OK;
    char *folder = nr_path_join(t->folder, "best");
    nr_status st = folder ? write_extension(t, folder, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    free(folder);
    return st;
}

/* ---- the loop ---- */

static void say_scores(nr_trainer *t, bool best)
{
    const nr_scores *s = &t->at.last;
    nr_buffer b = {0};
    nr_buffer_printf(&b, "step %llu", (unsigned long long)t->at.step);
    for (int d = 0; d < 2; d++)
        if (isfinite(s->bits[d]))
            nr_buffer_printf(&b, "  %s %.4f bits per byte (backbone %.4f), KL %.4f", nr_domain_names[d], s->bits[d],
                             s->backbone_bits[d], s->kl[d]);
    if (best) nr_buffer_text(&b, "  best so far");
    if (!b.failed) nr_train_say(t, "%s", b.data);
    nr_buffer_free(&b);
}

static nr_status evaluate(nr_trainer *t, nr_error *err)
{
    bool best;
    double began = nr_clock();
    if (!t->valid[NR_OLD] && !t->valid[NR_NEW]) return NR_OK;
    NR_TRY(nr_validate(t, err));
    NR_TRY(keep_if_best(t, &best, err));
    if (!nr_train_leads(t)) return NR_OK;
    NR_TRY(nr_metrics_eval(t, best, nr_clock() - began, err));
    say_scores(t, best);
    return NR_OK;
}

static nr_status save(nr_trainer *t, nr_error *err)
{
    char text[64];
    NR_TRY(nr_state_collect(t, err));
    if (!nr_train_leads(t)) return NR_OK;
    NR_TRY(nr_state_save(t, err));
    snprintf(text, sizeof text, "{\"kind\": \"saved\", \"step\": %llu}", (unsigned long long)t->at.step);
    nr_train_event(t, text);
    return NR_OK;
}

static bool is_due(uint64_t step, size_t every, size_t last) { return step == last || (every && step % every == 0); }

static nr_status one_step(nr_trainer *t, nr_error *err)
{
    const nr_settings *s = &t->s;
    nr_step_result r;
    double began = nr_clock();
    NR_TRY(nr_train_step(t, &r, err));
    double now = nr_clock(), tokens = (double)(s->batch_size * s->context);
    t->at.seconds = now - t->began;
    bool logs = nr_train_leads(t) && is_due(t->at.step, s->logging_steps, s->steps);
    nr_status st = logs ? nr_metrics_step(t, &r, now - began, err) : NR_OK;
    nr_progress(t->listener, "training", (double)t->at.step, (double)s->steps, now > began ? tokens / (now - began) : 0, "tokens");
    if (is_due(t->at.step, s->eval_steps, s->steps)) {
        NR_TRY(nr_train_agree(t, st, err));
        st = evaluate(t, err);
    }
    if (is_due(t->at.step, s->save_every, s->steps)) {
        NR_TRY(nr_train_agree(t, st, err));
        st = save(t, err);
    }
    return st;
}

static nr_status interrupted(nr_trainer *t, bool saved, nr_error *err)
{
    nr_status st = saved ? NR_OK : save(t, err);
    NR_TRY(nr_train_agree(t, st, err));
    if (t->cluster) t->cluster->agreed = true;
    return nr_fail(err, NR_E_INTERRUPTED, "%s: interrupted after step %llu of %zu; the state is saved, nres resume %s goes on", t->folder,
                   (unsigned long long)t->at.step, t->s.steps, t->folder);
}

/* What this machine spent; apart from the other files, whose bytes depend on no machine's clock. */
static nr_status write_usage(const nr_trainer *t, nr_error *err)
{
    char *path = nr_path_join(t->folder, "usage.json");
    json_t *j = json_pack("{s:f, s:I}", "seconds", t->at.seconds, "memory_peak", (json_int_t)nr_memory_peak());
    nr_status st = path && j ? nr_json_save(j, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    json_decref(j);
    free(path);
    return st;
}

static nr_status finish(nr_trainer *t, nr_error *err)
{
    if (nr_train_leads(t)) {
        NR_TRY(write_extension(t, t->folder, err));
        NR_TRY(write_usage(t, err));
    }
    t->finished = true;
    if (isfinite(t->at.best_score))
        nr_train_say(t, "finished after %zu steps; the best validation was at step %llu, kept in %s/best", t->s.steps,
                     (unsigned long long)t->at.best_step, t->folder);
    else
        nr_train_say(t, "finished after %zu steps; there was no validation text, so no best/ is kept", t->s.steps);
    nr_train_event(t, "{\"kind\": \"done\"}");
    return NR_OK;
}

/* How the work of every rank went, and whether any was asked to stop. */
static nr_status meet(nr_trainer *t, nr_status st, bool *stop, nr_error *err)
{
    *stop = nr_stopped(t->listener);
    return nr_cluster_agree(t->cluster, st, stop, err);
}

static nr_status train(nr_trainer *t, nr_error *err)
{
    bool saved = !t->fresh, stop;
    t->began = nr_clock() - t->at.seconds;
    NR_TRY(meet(t, t->fresh ? evaluate(t, err) : NR_OK, &stop, err));
    while (t->at.step < t->s.steps) {
        if (stop) return interrupted(t, saved, err);
        NR_TRY(meet(t, one_step(t, err), &stop, err));
        saved = is_due(t->at.step, t->s.save_every, t->s.steps);
    }
    return nr_train_agree(t, finish(t, err), err);
}

nr_status nr_trainer_run(nr_trainer *t, nr_error *err)
{
    nr_error own = {0};
    if (t->finished) return NR_OK;
    nr_status st = train(t, &own);
    if (st == NR_OK) return st;
    if (err) *err = own;
    nr_log_line(t, own.message);
    return st;
}

void nr_trainer_close(nr_trainer *t)
{
    if (!t) return;
    nr_append_close(&t->metrics);
    nr_append_close(&t->events);
    nr_buffer_free(&t->line);
    nr_buffer_free(&t->values);
    nr_buffer_free(&t->record);
    nr_validation_free(&t->val);
    nr_pass_free(t->pass);
    for (int d = 0; d < 2; d++) {
        nr_rows_close(t->train[d]);
        nr_rows_close(t->valid[d]);
    }
    for (int i = 0; i < 4; i++) nr_tokens_close(t->tokens[i]);
    nr_extension_close(t->e);
    nr_extension_close_stack(t->below);
    nr_model_close(t->model);
    nr_tokenizer_close(t->tokenizer);
    nr_exchange_free(&t->exchange);
    free(t->sums);
    free(t->drawn);
    free(t->row);
    free(t->ids);
    free(t->targets);
    free(t->is_new);
    free(t->first);
    free(t->m);
    free(t->v);
    free(t->fisher);
    free(t->fisher_read);
    free(t->fisher_sums);
    json_decref(t->config);
    nr_run_unlock(t);
    free(t->folder);
    free(t);
}
