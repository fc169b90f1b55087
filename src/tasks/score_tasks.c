/*
 * score_tasks.c - nr_score_tasks: names in, one JSON object out.
 *
 * Questions are scored in groups of CHUNK_IDS ids, so that memory doesn't grow
 * with a task; within a group everything shared is computed once (walk.c).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tasks/tasks.h"

#define CHUNK_IDS ((size_t)1 << 21)
#define DEFAULT_ROWS 1024
#define CACHE_STEP 64 /* the cache's positions are a multiple of it */

typedef struct {
    const nr_model *model;
    const nr_tokenizer *tokenizer;
    nr_extension *extension;
    const nr_task_options *opt;
    const nr_listener *listener;
    nr_walker *walker[2];
    size_t positions;            /* of the walkers' caches */
    nr_requests requests;
    /* of the task at work */
    nr_task task;
    nr_items items;
    nr_task_scores s;
    size_t chunk_first, chunk_items, chunk_rows, chunk_done;
    double began;
    /* of all tasks */
    json_t *list, *results[2];
    char stamp[64];
} work;

static nr_status no_memory(nr_error *err) { return nr_fail(err, NR_E_MEMORY, "out of memory for task scores"); }

/* ---- one chunk of questions ---- */

/* Models [first, end): 0 the backbone, 1 the extended one. */
static int first_model(const work *w) { return w->extension && w->opt->extended_only ? 1 : 0; }
static int end_model(const work *w) { return w->extension ? 2 : 1; }

static bool behind_nothing(const work *w) { return w->task.decides[NR_D_acc_mutual_info]; }
static bool behind_context(const work *w) { return w->task.unconditional != NULL; }

static size_t requests_of(const work *w, const nr_item *item)
{
    return item->choices * (1 + behind_nothing(w) + behind_context(w));
}

static nr_status add_item(work *w, const nr_item *item, nr_error *err)
{
    char where[4300];
    snprintf(where, sizeof where, "%.4000s: row %zu", w->items.questions.path, item->number + 1);
    const char *contexts[3] = {item->context, "", w->task.unconditional};
    bool wanted[3] = {true, behind_nothing(w), behind_context(w)};
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; wanted[k] && i < item->choices; i++) {
            NR_TRY(nr_requests_add(&w->requests, contexts[k], item->continuations[i], where, err));
            const nr_request *q = &w->requests.list[w->requests.count - 1];
            w->s.tokens += q->length;
            w->s.cut += q->cut;
        }
    return NR_OK;
}

/* Adds questions from number `from` on, up to a chunk's ids; *end: the first that isn't in it. */
static nr_status fill_chunk(work *w, size_t from, size_t *end, nr_error *err)
{
    nr_requests_clear(&w->requests);
    for (*end = from; *end < w->items.count && w->requests.ids_count < CHUNK_IDS; (*end)++) {
        if (nr_stopped(w->listener)) return nr_fail(err, NR_E_INTERRUPTED, "scoring was interrupted");
        NR_TRY(add_item(w, &w->items.items[*end], err));
    }
    w->s.requests += w->requests.count;
    return NR_OK;
}

static void on_rows(void *user, size_t rows)
{
    const work *w = user;
    char what[64];
    int models = end_model(w) - first_model(w);
    double spent = nr_clock() - w->began;
    double share = (double)(w->chunk_done + rows) / (double)(w->chunk_rows * (size_t)models);
    double done = (double)w->chunk_first + share * (double)w->chunk_items;
    snprintf(what, sizeof what, "scoring %.50s", w->task.name);
    nr_progress(w->listener, what, floor(done), (double)w->items.count, spent > 0 ? done / spent : 0, "questions");
}

/* Caches long enough for the longest request so far. */
static nr_status take_walkers(work *w, nr_error *err)
{
    size_t rows = w->opt->batch_tokens ? w->opt->batch_tokens : DEFAULT_ROWS, need = w->requests.longest;
    if (w->positions && need <= w->positions) return NR_OK;
    for (int k = 0; k < 2; k++) nr_walker_free(w->walker[k]), w->walker[k] = NULL;
    w->positions = NR_MIN((need + CACHE_STEP - 1) / CACHE_STEP * CACHE_STEP, w->requests.context);
    for (int k = first_model(w); k < end_model(w); k++)
        NR_TRY(nr_walker_new(&w->walker[k], w->model, k ? w->extension : NULL, w->positions, rows, w->requests.prefix, err));
    return NR_OK;
}

static void keep(work *w, int model, size_t from, size_t end, const double *sums, const uint8_t *greedy)
{
    size_t r = 0;
    for (size_t i = from; i < end; i++) {
        const nr_item *item = &w->items.items[i];
        nr_choice_score *c = w->s.scores[model] + w->s.first[i];
        size_t n = item->choices;
        for (size_t k = 0; k < n; k++) {
            size_t nothing = r + k + n, context = nothing + (behind_nothing(w) ? n : 0), bytes = strlen(item->texts[k]);
            c[k] = (nr_choice_score){.sum = sums[r + k], .greedy = greedy[r + k], .tokens = w->requests.list[r + k].scored,
                                     .behind_nothing = behind_nothing(w) ? sums[nothing] : NAN,
                                     .behind_context = behind_context(w) ? sums[context] : NAN, .bytes = bytes,
                                     .characters = nr_text_characters(item->texts[k], bytes),
                                     .blank = nr_text_characters(w->task.delimiter, strlen(w->task.delimiter))};
        }
        r += requests_of(w, item);
    }
}

static nr_status score_chunk(work *w, size_t from, size_t end, nr_error *err)
{
    nr_walk plan;
    double *sums = NULL;
    uint8_t *greedy = NULL;
    nr_status st = NR_OK;
    NR_TRY(nr_walk_plan(&plan, &w->requests, !w->opt->separate, err));
    NR_GO(take_walkers(w, err));
    NR_GO(nr_alloc(&sums, w->requests.count, sizeof *sums, "log-likelihoods", err));
    NR_GO(nr_alloc(&greedy, w->requests.count, 1, "choices", err));
    w->chunk_first = from;
    w->chunk_items = end - from;
    w->chunk_rows = plan.rows;
    for (int k = first_model(w); k < end_model(w); k++) {
        w->chunk_done = (size_t)(k - first_model(w)) * plan.rows;
        NR_GO(nr_walker_run(w->walker[k], &plan, sums, greedy, w->listener, on_rows, w, err));
        keep(w, k, from, end, sums, greedy);
    }
    w->s.computed += plan.rows;
done:
    nr_walk_free(&plan);
    free(sums);
    free(greedy);
    return st;
}

/* ---- one task ---- */

static nr_status take_scores(work *w, nr_error *err)
{
    size_t n = 0;
    w->s = (nr_task_scores){.task = &w->task, .items = &w->items, .shots = w->s.shots};
    NR_TRY(nr_alloc(&w->s.first, w->items.count, sizeof *w->s.first, "scores", err));
    for (size_t i = 0; i < w->items.count; i++) w->s.first[i] = n, n += w->items.items[i].choices;
    for (int k = first_model(w); k < end_model(w); k++) NR_TRY(nr_alloc(&w->s.scores[k], n, sizeof **w->s.scores, "scores", err));
    return NR_OK;
}

static nr_status write_samples(const work *w, nr_error *err)
{
    static const char *const models[] = {"backbone", "extended"};
    bool plain = strcmp(w->task.format, "harness") == 0;
    for (int k = 0; w->opt->output && k < 2; k++) {
        if (!w->s.scores[k]) continue;
        char *path = nr_format("%s/%s/samples_%s%s%s_%s.jsonl", w->opt->output, models[k], w->task.name, plain ? "" : "-",
                               plain ? "" : w->task.format, w->stamp);
        nr_status st = path ? nr_task_samples_write(&w->s, k, path, err) : no_memory(err);
        free(path);
        NR_TRY(st);
    }
    return NR_OK;
}

static nr_status score_items(work *w, nr_error *err)
{
    NR_TRY(take_scores(w, err));
    w->began = nr_clock();
    for (size_t from = 0, end; from < w->items.count; from = end) {
        NR_TRY(fill_chunk(w, from, &end, err));
        NR_TRY(score_chunk(w, from, end, err));
    }
    w->s.seconds = nr_clock() - w->began;
    if (json_array_append_new(w->list, nr_task_result(&w->s)) != 0) return no_memory(err);
    for (int k = 0; k < 2; k++)
        if (w->s.scores[k]) nr_task_results_add(w->results[k], &w->s, k);
    return write_samples(w, err);
}

static nr_status score_task(work *w, const char *name, const char *format, nr_error *err)
{
    const nr_task_options *o = w->opt;
    NR_TRY(nr_task_open(&w->task, name, format, o->definitions, o->definition_count, err));
    w->s.shots = o->shots ? *o->shots : w->task.shots;
    nr_status st = nr_items_make(&w->items, &w->task, o->data, o->data_count, w->s.shots, o->limit, w->listener, err);
    if (st == NR_OK) st = score_items(w, err);
    free(w->s.first);
    free(w->s.scores[0]);
    free(w->s.scores[1]);
    w->s = (nr_task_scores){0};
    nr_items_free(&w->items);
    nr_task_free(&w->task);
    return st;
}

/* "olmes" stands for its two formulations. */
static nr_status score_name(work *w, const char *name, nr_error *err)
{
    const char *format = w->opt->format ? w->opt->format : "harness", *colon = strchr(name, ':');
    if (strcmp(colon ? colon + 1 : format, "olmes") != 0) return score_task(w, name, format, err);
    char base[128];
    snprintf(base, sizeof base, "%.*s", (int)NR_MIN(colon ? (size_t)(colon - name) : strlen(name), sizeof base - 1), name);
    NR_TRY(score_task(w, base, "olmes-cloze", err));
    return score_task(w, base, "olmes-choice", err);
}

/* ---- the call ---- */

static json_t *head_json(const work *w)
{
    json_t *o = json_object();
    json_object_set_new(o, "model", json_string(w->model->file->path));
    json_object_set_new(o, "compute", json_string(w->model->ops->name));
    json_object_set_new(o, "context", json_integer((json_int_t)w->requests.context));
    json_object_set_new(o, "prefix_token", json_integer(w->requests.prefix));
    if (!w->extension) return o;
    char *text = nr_extension_describe(w->extension);
    json_object_set_new(o, "extension", text ? json_loads(text, 0, NULL) : json_null());
    free(text);
    return o;
}

static nr_status write_results(const work *w, int model, double seconds, nr_error *err)
{
    static const char *const models[] = {"backbone", "extended"};
    json_t *all = w->results[model], *config = json_object();
    char text[64];
    json_object_set_new(config, "model", json_string("nres"));
    json_object_set_new(config, "model_args", json_string(w->model->file->path));
    json_object_set_new(config, "model_dtype", json_string(w->model->ops->name));
    json_object_set_new(config, "limit", w->opt->limit ? json_integer((json_int_t)w->opt->limit) : json_null());
    json_object_set_new(all, "config", config);
    json_object_set_new(all, "date", json_real((double)time(NULL)));
    json_object_set_new(all, "max_length", json_integer((json_int_t)w->requests.context));
    json_object_set_new(all, "model_source", json_string("nres"));
    json_object_set_new(all, "model_name", json_string(w->model->file->path));
    snprintf(text, sizeof text, "%.3f", seconds);
    json_object_set_new(all, "total_evaluation_time_seconds", json_string(text));
    char *path = nr_format("%s/%s/results_%s.json", w->opt->output, models[model], w->stamp);
    nr_status st = path ? nr_json_save(all, path, err) : no_memory(err);
    free(path);
    return st;
}

static nr_status make_folders(work *w, nr_error *err)
{
    static const char *const models[] = {"backbone", "extended"};
    struct timespec now;
    struct tm t;
    if (!w->opt->output) return NR_OK;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &t);
    size_t n = strftime(w->stamp, sizeof w->stamp, "%Y-%m-%dT%H-%M-%S", &t);
    snprintf(w->stamp + n, sizeof w->stamp - n, ".%06ld", now.tv_nsec / 1000);
    for (int k = first_model(w); k < end_model(w); k++) {
        char *path = nr_path_join(w->opt->output, models[k]);
        nr_status st = path ? nr_make_folders(path, err) : no_memory(err);
        free(path);
        NR_TRY(st);
    }
    return NR_OK;
}

static nr_status set_up(work *w, nr_error *err)
{
    size_t most = w->model->config->max_context, context = w->opt->context ? w->opt->context : most;
    if (w->opt->task_count == 0) return nr_fail(err, NR_E_USAGE, "tasks: expected one at least, found none");
    if (context > most || context < 2)
        return nr_fail(err, NR_E_USAGE, "context: expected 2 to %zu tokens (the model's), found %zu", most, context);
    w->requests = (nr_requests){.tokenizer = w->tokenizer, .context = context, .add_bos = nr_tokenizer_add_bos(w->tokenizer)};
    NR_TRY(nr_prefix_token(&w->requests.prefix, w->model, w->tokenizer, err));
    w->list = json_array();
    for (int k = 0; k < 2; k++) w->results[k] = json_object();
    if (!w->list || !w->results[0] || !w->results[1]) return no_memory(err);
    return make_folders(w, err);
}

nr_status nr_score_tasks(char **json, const nr_model *m, const nr_tokenizer *t, nr_extension *e, const nr_task_options *opt,
                         const nr_listener *l, nr_error *err)
{
    work w = {.model = m, .tokenizer = t, .extension = e, .opt = opt, .listener = l};
    double began = nr_clock();
    json_t *o = NULL;
    nr_status st;
    *json = NULL;
    NR_GO(set_up(&w, err));
    for (size_t i = 0; i < opt->task_count; i++) NR_GO(score_name(&w, opt->tasks[i], err));
    for (int k = first_model(&w); opt->output && k < end_model(&w); k++) NR_GO(write_results(&w, k, nr_clock() - began, err));
    o = head_json(&w);
    json_object_set(o, "tasks", w.list);
    json_object_set_new(o, "seconds", json_real(nr_clock() - began));
    *json = json_dumps(o, JSON_INDENT(2));
    if (!*json) st = no_memory(err);
done:
    for (int k = 0; k < 2; k++) nr_walker_free(w.walker[k]), json_decref(w.results[k]);
    nr_requests_free(&w.requests);
    json_decref(w.list);
    json_decref(o);
    return st;
}

nr_status nr_list_tasks(char **json, const char *const *definitions, size_t count, nr_error *err)
{
    json_t *list;
    *json = NULL;
    NR_TRY(nr_task_catalogue(&list, definitions, count, err));
    *json = json_dumps(list, JSON_INDENT(2));
    json_decref(list);
    return *json ? NR_OK : no_memory(err);
}
