/*
 * bench.c - nr_bench: how fast this machine trains, scores, reads a prompt and
 * generates, with where the time went, held against what the machine can do.
 *
 * Every test opens the model for itself, on a table that times the operations,
 * so the work that a figure is divided by is counted, not estimated. Timing
 * costs about 0.1 us a call (some 1500 calls a pass). Ids are random.
 *
 * What the machine can do changes while it is measured: neighbours come and go,
 * and a virtual machine's cores move together or apart. So a repetition is held
 * against the rate found right before and after it, not against a rate of
 * another moment.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/profile.h"
#include "kernels/rate.h"
#include "train/train.h"

#define WARM 2             /* repetitions that don't count */
#define RATE_SECONDS 0.4
#define BESIDE_SECONDS 0.1 /* the same beside a repetition */
#define PRODUCT_ROWS 1024

typedef struct {
    const char *path;
    const nr_settings *settings;
    const nr_bench_options *opt;
    const nr_listener *listener;
    const nr_ops *ops, *timed;
    size_t C, F; /* the model's, where the machine is measured */
    double flops_rate, read_rate; /* 0: not measured */
    size_t peak;                  /* bytes resident at most, measuring rates aside */
    json_t *tests;
} bench;

/* What a test is held against. */
typedef enum { BY_PRODUCTS, BY_MEMORY } bound;

/* Repetitions of a test, which did the work of the profile together. */
typedef struct {
    const char *name, *doing;
    size_t tokens; /* of one */
    bound by;
    nr_status (*once)(void *context, nr_error *err);
    void *context;
    double *seconds; /* (repetitions) */
    double *rates;   /* (repetitions + 1) of the bound, before each and after the last; 0: not measured */
} test;

/* ---- JSON ---- */

static void put(json_t *o, const char *key, double v) { json_object_set_new(o, key, json_real(v)); }

static void put_size(json_t *o, const char *key, size_t v) { json_object_set_new(o, key, json_integer((json_int_t)v)); }

static int by_value(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static json_t *lines_json(const nr_profile_line *line, size_t count, double all)
{
    json_t *list = json_array();
    double sum = 0;
    for (size_t i = 0; i < count; i++, line++) {
        json_t *o = json_object();
        json_object_set_new(o, "op", json_string(line->op));
        if (line->out) {
            put_size(o, "out", line->out);
            put_size(o, "in", line->in);
        }
        put_size(o, "calls", line->calls);
        put(o, "seconds", line->seconds);
        put(o, "share", all > 0 ? line->seconds / all : 0);
        put(o, "flops_per_second", line->seconds > 0 ? line->flops / line->seconds : 0);
        put(o, "bytes_per_second", line->seconds > 0 ? line->bytes / line->seconds : 0);
        json_array_append_new(list, o);
        sum += line->seconds;
    }
    json_t *rest = json_pack("{s:s, s:f, s:f}", "op", "between operations", "seconds", all - sum, "share", all > 0 ? 1 - sum / all : 0);
    if (rest) json_array_append_new(list, rest);
    return list;
}

/* ---- the machine ---- */

static nr_status read_shape(bench *b, nr_error *err)
{
    nr_model *m;
    nr_model_options opt = {.use = NR_USE_SHAPES, .threads = b->settings->threads};
    NR_TRY(nr_model_open_on(&m, b->path, &opt, b->ops, err));
    b->C = m->config->C;
    b->F = m->config->F;
    nr_model_close(m);
    return NR_OK;
}

/* The best of the model's own products and of a large square one. */
static double best_product(const bench *b, const nr_ops *ops, double seconds)
{
    double best = nr_product_rate(ops, 2048, 2048, 2048, seconds);
    double up = nr_product_rate(ops, PRODUCT_ROWS, b->F, b->C, seconds), down = nr_product_rate(ops, PRODUCT_ROWS, b->C, b->F, seconds);
    return NR_MAX(best, NR_MAX(up, down));
}

static json_t *machine_json(bench *b)
{
    const nr_ops *kind;
    json_t *o = json_object();
    char line[256];
    nr_build_info(line, sizeof line);
    json_object_set_new(o, "build", json_string(line));
    json_object_set_new(o, "isa", json_string(nr_cpu_name()));
    json_object_set_new(o, "matrix_library", json_string(nr_matrix_library()));
    put_size(o, "cores", nr_core_count());
    put_size(o, "threads", nr_threads_get());
    for (int k = 0; k < 2; k++) {
        if (nr_ops_cpu(&kind, k ? NR_COMPUTE_BF16 : NR_COMPUTE_FP32, NULL) != NR_OK) continue;
        double rate = best_product(b, kind, RATE_SECONDS);
        put(o, k ? "flops_bf16" : "flops_fp32", rate);
        if (kind == b->ops) b->flops_rate = rate;
    }
    b->read_rate = nr_read_rate(RATE_SECONDS, NULL);
    put(o, "copy_bytes_per_second", nr_copy_rate(RATE_SECONDS));
    put(o, "read_bytes_per_second", b->read_rate);
    nr_memory_peak_forget();
    return o;
}

/* The rate that bounds a test, now: the best product, or what memory gives in the mean, which neighbours share. What it takes of
 * memory isn't counted. */
static double rate_now(bench *b, bound by)
{
    double rate = 0;
    if (!(b->opt->tests & NR_BENCH_MACHINE)) return 0;
    b->peak = NR_MAX(b->peak, nr_memory_peak());
    if (by == BY_MEMORY) (void)nr_read_rate(BESIDE_SECONDS, &rate);
    else rate = best_product(b, b->ops, BESIDE_SECONDS);
    nr_memory_peak_forget();
    return rate;
}

/* ---- repetitions ---- */

static double median_of(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return 0.5 * (x[(n - 1) / 2] + x[n / 2]);
}

/* The median share of the bound, each repetition against the faster of the rates beside it. Orders t->rates. */
static void put_share(json_t *o, const test *t, const char *key, double work, size_t count)
{
    if (t->rates[0] <= 0) return;
    json_t *list = json_array();
    for (size_t i = 0; i <= count; i++) json_array_append_new(list, json_real(t->rates[i]));
    json_object_set_new(o, "bound_rates", list);
    for (size_t i = 0; i < count; i++) t->rates[i] = work / t->seconds[i] / NR_MAX(t->rates[i], t->rates[i + 1]);
    put(o, key, median_of(t->rates, count));
}

/* Orders t->seconds. */
static void add_test(bench *b, const test *t, size_t count)
{
    double all = 0, products = 0, attention = 0, bytes = 0, done = (double)(t->tokens * count);
    size_t lines;
    const nr_profile_line *line = nr_profile_lines(&lines);
    json_t *o = json_object(), *list = json_array(), *rate = json_object();
    for (size_t i = 0; i < lines; i++) {
        *(line[i].out ? &products : &attention) += line[i].flops;
        bytes += line[i].bytes;
    }
    for (size_t i = 0; i < count; i++) {
        all += t->seconds[i];
        json_array_append_new(list, json_real(t->seconds[i]));
    }
    if (t->by == BY_PRODUCTS) put_share(o, t, "share_of_flop_bound", products / (double)count, count);
    else put_share(o, t, "share_of_byte_bound", bytes / (double)count, count);
    double median = median_of(t->seconds, count), each = (double)t->tokens / median;
    put(rate, "best", (double)t->tokens / t->seconds[0]);
    put(rate, "median", each);
    json_object_set_new(o, "name", json_string(t->name));
    put_size(o, "tokens", t->tokens);
    json_object_set_new(o, "seconds", list);
    json_object_set_new(o, "tokens_per_second", rate);
    put(o, "flops_per_token", products / done);
    put(o, "attention_flops_per_token", attention / done);
    put(o, "bytes_per_token", bytes / done);
    if (b->flops_rate > 0 && t->by != BY_PRODUCTS) put(o, "share_of_flop_bound", products / done * each / b->flops_rate);
    if (b->read_rate > 0 && t->by != BY_MEMORY) put(o, "share_of_byte_bound", bytes / done * each / b->read_rate);
    put_size(o, "peak_bytes", NR_MAX(b->peak, nr_memory_peak()));
    if (b->opt->profile) json_object_set_new(o, "profile", lines_json(line, lines, all));
    json_array_append_new(b->tests, o);
}

static nr_status repetitions(bench *b, test *t, nr_error *err)
{
    size_t n = b->opt->repetitions;
    nr_status st;
    NR_GO(nr_alloc(&t->seconds, n, sizeof *t->seconds, "timings", err));
    NR_GO(nr_alloc(&t->rates, n + 1, sizeof *t->rates, "rates", err));
    for (size_t i = 0; i < WARM + n; i++) {
        if (i >= WARM) t->rates[i - WARM] = rate_now(b, t->by);
        if (i == WARM) nr_profile_clear();
        double began = nr_clock();
        NR_GO(t->once(t->context, err));
        if (i >= WARM) t->seconds[i - WARM] = nr_clock() - began;
        nr_progress(b->listener, t->doing, (double)(i + 1), (double)(WARM + n), 0, "repetitions");
        if (nr_stopped(b->listener)) NR_GO(nr_fail(err, NR_E_INTERRUPTED, "interrupted"));
    }
    t->rates[n] = rate_now(b, t->by);
    add_test(b, t, n);
done:
    free(t->seconds);
    free(t->rates);
    return st;
}

/* ---- tests ---- */

/* As training and scoring keep the backbone; alone: as nres generate does by itself. */
static nr_status open_model(const bench *b, nr_model **m, nr_use use, bool alone, nr_error *err)
{
    nr_model_options opt = nr_train_model_options(b->settings);
    opt.use = use;
    opt.hub_folder = b->opt->hub_folder;
    if (alone) opt.frozen = b->opt->packed ? NR_FROZEN_PACKED : NR_FROZEN_AUTO;
    if (use == NR_USE_FORWARD) opt.products = NR_PRODUCTS_COMPUTE; /* that is for training */
    return nr_model_open_on(m, b->path, &opt, b->timed, err);
}

static nr_status train_once(void *context, nr_error *err)
{
    nr_step_result r;
    return nr_train_step(context, &r, err);
}

static nr_status train(bench *b, nr_error *err)
{
    nr_model *m;
    nr_trainer *t;
    nr_settings s = *b->settings;
    s.steps = WARM + b->opt->repetitions;
    s.warmup_steps = 0;
    NR_TRY(open_model(b, &m, NR_USE_TRAIN, false, err));
    NR_TRY(nr_trainer_random(&t, m, &s, err));
    test steps = {"train", "training", s.batch_size * s.context, BY_PRODUCTS, train_once, t, NULL, NULL};
    nr_status st = repetitions(b, &steps, err);
    nr_trainer_close(t);
    return st;
}

static void random_ids(int32_t *ids, size_t n, size_t V)
{
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(nr_rng_u64(1, NR_RNG_TEST, i) % V);
}

typedef struct {
    nr_pass *p;
    nr_batch batch;
    size_t rows; /* of a repetition */
} pass;

static nr_status pass_once(void *context, nr_error *err)
{
    const pass *f = context;
    for (size_t row = 0; row < f->rows; row += f->batch.B) {
        NR_TRY(nr_pass_forward(f->p, &f->batch, err));
        NR_TRY(nr_pass_loss(f->p, &f->batch, false, NULL, NULL, err));
    }
    return NR_OK;
}

static nr_status forward_passes(bench *b, const nr_model *m, nr_extension *e, nr_error *err)
{
    const nr_settings *s = b->settings;
    size_t B = nr_train_micro_batch(s), T = s->context;
    int32_t *ids = NULL;
    pass f = {.rows = s->batch_size};
    nr_pass_options opt = {.B = B, .T = T};
    nr_status st;
    NR_GO(nr_alloc(&ids, B * T + 1, sizeof *ids, "ids", err));
    NR_GO(nr_pass_new(&f.p, m, &e, 1, &opt, err));
    random_ids(ids, B * T + 1, m->config->V);
    f.batch = (nr_batch){.B = B, .T = T, .ids = ids, .targets = ids + 1, .step_tokens = B * T};
    test t = {"forward", "forward", s->batch_size * T, BY_PRODUCTS, pass_once, &f, NULL, NULL};
    NR_GO(repetitions(b, &t, err));
done:
    nr_pass_free(f.p);
    free(ids);
    return st;
}

typedef struct {
    nr_session *session;
    int32_t *ids;          /* (prompt + generate) */
    size_t prompt, generate;
} talk;

static nr_status prompt_once(void *context, nr_error *err)
{
    const talk *t = context;
    nr_session_rewind(t->session, 0);
    return nr_session_eval(t->session, t->ids, t->prompt, err);
}

/* Behind the prompt. */
static nr_status generate_once(void *context, nr_error *err)
{
    const talk *t = context;
    nr_session_rewind(t->session, t->prompt);
    for (size_t k = 0; k < t->generate; k++) NR_TRY(nr_session_eval(t->session, t->ids + t->prompt + k, 1, err));
    return NR_OK;
}

/* A prompt at once, then token by token; e NULL: the backbone alone. */
static nr_status session(bench *b, const nr_model *m, nr_extension *e, nr_error *err)
{
    size_t P = NR_MAX(b->opt->prompt, 1), G = b->opt->generate;
    talk s = {.prompt = P, .generate = G};
    test prompt = {e ? "prompt, extended" : "prompt", "reading a prompt", P, BY_PRODUCTS, prompt_once, &s, NULL, NULL};
    test generate = {e ? "generate, extended" : "generate", "generating", G, BY_MEMORY, generate_once, &s, NULL, NULL};
    nr_status st;
    NR_GO(nr_alloc(&s.ids, P + G, sizeof *s.ids, "ids", err));
    NR_GO(nr_session_new(&s.session, m, e, P + G, err));
    random_ids(s.ids, P + G, m->config->V);
    if (b->opt->tests & NR_BENCH_PROMPT) NR_GO(repetitions(b, &prompt, err));
    if (b->opt->tests & NR_BENCH_GENERATE && G > 0) {
        NR_GO(prompt_once(&s, err));
        NR_GO(repetitions(b, &generate, err));
    }
done:
    nr_session_close(s.session);
    free(s.ids);
    return st;
}

static nr_status sessions(bench *b, const nr_model *m, nr_extension *e, nr_error *err)
{
    NR_TRY(session(b, m, NULL, err));
    return session(b, m, e, err);
}

/* Runs a test on a model opened to be run, and a fresh extension. */
static nr_status inference(bench *b, bool alone, nr_status (*run)(bench *, const nr_model *, nr_extension *, nr_error *), nr_error *err)
{
    nr_model *m;
    nr_extension *e = NULL;
    NR_TRY(open_model(b, &m, NR_USE_FORWARD, alone, err));
    nr_status st = nr_extension_new(&e, m, b->settings, err);
    if (st == NR_OK) st = run(b, m, e, err);
    nr_extension_close(e);
    nr_model_close(m);
    return st;
}

/* ---- the call ---- */

nr_status nr_bench(char **json, const char *model, const nr_settings *s, const nr_bench_options *opt, const nr_listener *l,
                   nr_error *err)
{
    bench b = {.path = model, .settings = s, .opt = opt, .listener = l};
    json_t *o = NULL;
    nr_status st;
    *json = NULL;
    NR_TRY(nr_settings_check(s, err));
    if (opt->repetitions == 0) return nr_fail(err, NR_E_USAGE, "repetitions: expected at least 1, found 0");
    NR_TRY(nr_ops_cpu(&b.ops, (nr_compute)s->compute, err));
    nr_threads_set(s->threads);
    if (opt->tests & NR_BENCH_MACHINE) NR_TRY(read_shape(&b, err));
    b.timed = nr_profile_begin(b.ops);
    b.tests = json_array();
    o = json_pack("{s:s, s:s, s:o}", "model", model, "compute", b.ops->name, "settings", nr_settings_to_json(s, NULL));
    if (opt->tests & NR_BENCH_MACHINE) json_object_set_new(o, "machine", machine_json(&b));
    if (opt->tests & NR_BENCH_TRAIN) NR_GO(train(&b, err));
    if (opt->tests & NR_BENCH_FORWARD) NR_GO(inference(&b, false, forward_passes, err));
    if (opt->tests & (NR_BENCH_PROMPT | NR_BENCH_GENERATE)) NR_GO(inference(&b, true, sessions, err));
    json_object_set(o, "tests", b.tests);
    put_size(o, "peak_bytes", NR_MAX(b.peak, nr_memory_peak()));
    *json = json_dumps(o, JSON_INDENT(2));
    st = *json ? NR_OK : nr_fail(err, NR_E_MEMORY, "out of memory writing the result");
done:
    json_decref(b.tests);
    json_decref(o);
    return st;
}
