/*
 * test_exchange.c - what travels between ranks: slices that cover everything
 * once, sums in the order of the ranks, agreements, and whole runs over ranks
 * that are threads.
 */
#include "runs.h"

#include <math.h>

#include "cluster.h"

/* In a thread no check of the test library may fail: it would jump out of another stack. */
static void must(bool right, const char *what) { cluster_check(right, what); }

static int setup(void **state)
{
    nr_threads_set(1);
    return runs_setup(state);
}

/* ---- pieces, slices, sums ---- */

static nr_extension *open_extension(nr_model **m, const char *method)
{
    nr_settings s;
    nr_error err;
    nr_extension *e;
    nr_model_options opt = {.compute = NR_COMPUTE_FP32, .use = NR_USE_TRAIN, .threads = 1};
    nr_settings_default(&s);
    ok(nr_settings_set(&s, "method", method, &err), &err);
    if (strcmp(method, "llama-pro") == 0) s.width = 2; /* blocks */
    ok(nr_model_open(m, model_path, &opt, &err), &err);
    ok(nr_extension_new(&e, *m, &s, &err), &err);
    ok(nr_extension_train(e, &err), &err);
    return e;
}

typedef struct {
    const char *method;
    bool bf16;
    size_t n;       /* weights */
    float *sum;     /* (n): what every slice must hold */
    uint8_t *owned; /* (ranks, n) */
} sum_check;

/* What rank r brings for element i: of every size, so that the order of additions shows. */
static float gradient(size_t r, size_t i) { return (float)nr_rng_normal(r + 1, NR_RNG_TEST, i) * (i % 3 ? 1.0f : 1e4f); }

typedef struct {
    sum_check *check;
    nr_exchange *x;
    size_t rank, next_own;
} visit_check;

static void visit(void *context, const nr_param *p, size_t at, size_t own, size_t count)
{
    visit_check *v = context;
    must(own == v->next_own, "slices don't follow each other");
    must(at >= p->offset && at + count <= p->offset + p->shape[0] * p->shape[1], "a part lies outside its parameter");
    v->next_own += count;
    for (size_t i = at; i < at + count; i++) {
        v->check->owned[v->rank * v->check->n + i]++;
        must(((const float *)v->x->e->grads)[i] == v->check->sum[i], "another sum");
    }
}

static void sums_on_rank(nr_cluster *c, void *context)
{
    sum_check *check = context;
    nr_model *m;
    nr_extension *e = open_extension(&m, check->method);
    nr_exchange x;
    size_t depth = e->method->depth ? e->method->depth(e) : m->config->L;
    must(nr_exchange_new(&x, c, e, check->bf16, NULL) == NR_OK, "no exchange");
    must(x.count > 1, "one piece only");
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < e->weights; i++) ((float *)e->grads)[i] = gradient(c->rank, i);
        nr_exchange_begin(&x);
        for (size_t d = depth; d-- > 0;) nr_exchange_depth(&x, d);
        must(nr_exchange_finish(&x, NULL) == NR_OK, "finish");
    }
    visit_check v = {check, &x, c->rank, 0};
    nr_exchange_each(&x, visit, &v);
    must(v.next_own == x.owned, "not every slice is visited");
    must(x.owned <= nr_exchange_share(e->weights, c->size), "a share beyond the plan");
    /* values: every rank changes its own */
    float *values = e->values, *state = calloc(x.owned + 1, sizeof *state);
    for (size_t i = 0; i < e->weights; i++)
        values[i] = check->owned[c->rank * check->n + i] ? (float)i : -1;
    must(nr_exchange_values(&x, NULL) == NR_OK, "values");
    for (size_t i = 0; i < e->weights; i++) must(values[i] == (float)i, "another value");
    /* optimizer state: together on rank 0, and back */
    for (size_t i = 0, k = 0; i < e->weights; i++)
        if (check->owned[c->rank * check->n + i]) state[k++] = (float)i;
    must(nr_exchange_collect(&x, state, 1, NULL) == NR_OK, "collect");
    float *whole = nr_exchange_whole(&x, state, 1);
    for (size_t i = 0; c->rank == 0 && i < e->weights; i++) must(whole[i] == (float)i, "another state");
    for (size_t k = 0; c->size > 1 && k < x.owned; k++) state[k] = -1;
    must(nr_exchange_spread(&x, state, 1, NULL) == NR_OK, "spread");
    for (size_t i = 0, k = 0; i < e->weights; i++)
        if (check->owned[c->rank * check->n + i]) must(state[k++] == (float)i, "another state after its way back");
    free(state);
    nr_exchange_free(&x);
    nr_extension_close(e);
    nr_model_close(m);
}

/* The sum as rank `owner` makes it. */
static float expected(size_t i, size_t ranks, size_t owner, bool bf16)
{
    float sum = 0;
    for (size_t r = 0; r < ranks; r++) {
        float g = gradient(r, i);
        if (bf16 && r != owner) g = nr_bf16_to_f32(nr_f32_to_bf16(g));
        sum = r == 0 ? g : sum + g;
    }
    return sum;
}

/* Which rank owns each element, from the pieces themselves. */
static void find_owners(size_t *owner, const char *method, size_t ranks)
{
    nr_model *m;
    nr_extension *e = open_extension(&m, method);
    for (size_t r = 0; r < ranks; r++) {
        nr_cluster fake = {.rank = r, .size = ranks, .reserve = cluster_reserve};
        nr_exchange x;
        assert_int_equal(nr_exchange_new(&x, &fake, e, false, NULL), NR_OK);
        for (size_t p = 0; p < x.count; p++) {
            size_t end = p + 1 < x.count ? x.pieces[p + 1].own : x.owned, n = x.pieces[p].end - x.pieces[p].begin;
            size_t each = ((n + 15) / 16 + ranks - 1) / ranks * 16;
            for (size_t i = 0; i < end - x.pieces[p].own; i++) owner[x.pieces[p].begin + r * each + i] = r;
        }
        nr_exchange_free(&x);
    }
    nr_extension_close(e);
    nr_model_close(m);
}

static void gradients_add_in_order(void **state)
{
    (void)state;
    static const char *const methods[] = {"neutral", "lora", "llama-pro", "finetune"};
    for (size_t k = 0; k < NR_COUNT(methods) * 4 * 2; k++) {
        static const size_t sizes[] = {1, 2, 3, 5};
        size_t ranks = sizes[k / 2 % 4];
        sum_check check = {.method = methods[k / 8], .bf16 = k % 2};
        nr_model *m;
        nr_extension *e = open_extension(&m, check.method);
        check.n = e->weights;
        nr_extension_close(e);
        nr_model_close(m);
        size_t *owner = calloc(check.n, sizeof *owner);
        check.sum = calloc(check.n, sizeof *check.sum);
        check.owned = calloc(ranks, check.n);
        find_owners(owner, check.method, ranks);
        for (size_t i = 0; i < check.n; i++) check.sum[i] = expected(i, ranks, owner[i], check.bf16 && ranks > 1);
        cluster_run(ranks, sums_on_rank, &check);
        for (size_t i = 0; i < check.n; i++) {
            size_t owners = 0;
            for (size_t r = 0; r < ranks; r++) owners += check.owned[r * check.n + i];
            if (owners != 1) fail_msg("%s, %zu ranks: element %zu has %zu owners", check.method, ranks, i, owners);
        }
        free(owner);
        free(check.sum);
        free(check.owned);
    }
}

/* ---- agreement ---- */

typedef struct {
    nr_status fails[CLUSTER_RANKS];
    bool stops[CLUSTER_RANKS];
    nr_status found[CLUSTER_RANKS];
    bool stop[CLUSTER_RANKS];
    nr_error err[CLUSTER_RANKS];
} verdicts;

static void agree_on_rank(nr_cluster *c, void *context)
{
    verdicts *v = context;
    nr_status st = v->fails[c->rank];
    nr_error *err = &v->err[c->rank];
    if (st != NR_OK) nr_fail(err, st, "trouble of %zu", c->rank);
    v->stop[c->rank] = v->stops[c->rank];
    v->found[c->rank] = nr_cluster_agree(c, st, &v->stop[c->rank], err);
    must(nr_cluster_agreed(c) == (v->found[c->rank] != NR_OK), "agreed");
    /* A second one is silent after a failure. */
    must(nr_cluster_agree(c, v->found[c->rank], NULL, err) == v->found[c->rank], "second agreement");
}

static void failures_are_shared(void **state)
{
    (void)state;
    verdicts none = {{NR_OK}, .stops = {[2] = true}}, one = {.fails = {[1] = NR_E_IO, [2] = NR_E_MEMORY}},
             all = {.fails = {NR_E_USAGE, NR_E_USAGE, NR_E_USAGE}};
    cluster_run(3, agree_on_rank, &none);
    cluster_run(3, agree_on_rank, &one);
    cluster_run(3, agree_on_rank, &all);
    for (size_t r = 0; r < 3; r++) {
        assert_int_equal(none.found[r], NR_OK);
        assert_true(none.stop[r]);
        assert_int_equal(one.found[r], NR_E_IO);
        assert_string_equal(one.err[r].message, "rank 1 on here: trouble of 1");
        assert_int_equal(all.found[r], NR_E_USAGE);
        assert_string_equal(all.err[r].message, "trouble of 0");
    }
}

/* ---- whole runs ---- */

typedef struct {
    const char *name;
    nr_settings s;
    size_t stop_rank, stop_after; /* polls; 0: never */
    bool resume;
    nr_status found[CLUSTER_RANKS];
    nr_error err[CLUSTER_RANKS];
} run_job;

typedef struct {
    size_t left;
} brake;

static bool stop_after(void *user)
{
    brake *b = user;
    return b->left > 0 && --b->left == 0;
}

static void train_on_rank(nr_cluster *c, void *context)
{
    run_job *j = context;
    const char *old_files[1] = {old_path}, *new_files[1] = {new_path};
    char *where = nr_path_join(folder, j->name);
    nr_run run = {.model = model_path, .run = where, .cache_folder = cache, .train = {{old_files, 1}, {new_files, 1}},
                  .command = "a test", .cluster = c};
    brake b = {c->rank == j->stop_rank ? j->stop_after : 0};
    nr_listener l = {.user = &b, .stop = stop_after};
    nr_trainer *t;
    nr_error *err = &j->err[c->rank];
    nr_status st = j->resume ? nr_trainer_resume_on(&t, where, c, &l, err) : nr_trainer_new(&t, &run, &j->s, &l, err);
    if (st == NR_OK) st = nr_trainer_run(t, err);
    j->found[c->rank] = st;
    must(st == NR_OK || nr_cluster_agreed(c), "a failure that isn't shared");
    nr_trainer_close(t);
    free(where);
}

static nr_settings small(void)
{
    nr_settings s;
    nr_settings_default(&s);
    s.steps = 16;
    s.batch_size = 12;
    s.micro_batch_size = 2;
    s.context = 16;
    s.warmup_steps = 3;
    s.eval_steps = 6;
    s.eval_tokens = 210; /* 13 rows: the last batch is half full */
    s.save_every = 5;
    s.old_share = 0.3;
    s.validation_share = 0.1;
    s.threads = 1;
    s.learning_rate = 1e-3;
    s.compute = NR_COMPUTE_FP32;
    return s;
}

static void run_on(size_t ranks, run_job *j, nr_status want)
{
    cluster_run(ranks, train_on_rank, j);
    for (size_t r = 0; r < ranks; r++) {
        if (j->found[r] != want) fail_msg("%s, rank %zu of %zu: status %d: %s", j->name, r, ranks, j->found[r], j->err[r].message);
        if (want != NR_OK) assert_string_equal(j->err[r].message, j->err[0].message);
    }
}

/* Weights of a finished run. */
static float *weights_of(const char *name, size_t *n)
{
    nr_error err;
    nr_map m;
    char *path = nr_format("%s/%s/extension.safetensors", folder, name);
    ok(nr_map_open(&m, path, &err), &err);
    uint64_t header;
    memcpy(&header, m.data, sizeof header);
    size_t begin = 8 + (size_t)header;
    *n = (m.size - begin) / sizeof(float);
    float *w = malloc(*n * sizeof *w);
    memcpy(w, m.data + begin, *n * sizeof *w);
    nr_map_close(&m);
    free(path);
    return w;
}

static double distance(const char *a, const char *b)
{
    size_t n, m;
    float *x = weights_of(a, &n), *y = weights_of(b, &m);
    double worst = 0;
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
    free(x);
    free(y);
    return worst;
}

static void ranks_train_as_one(void **state)
{
    (void)state;
    run_job one = {.name = "one", .s = small()}, two = {.name = "two", .s = small()}, again = {.name = "again", .s = small()},
            three = {.name = "three", .s = small()}, six = {.name = "six", .s = small()};
    run_on(1, &one, NR_OK);
    run_on(2, &two, NR_OK);
    run_on(2, &again, NR_OK);
    run_on(3, &three, NR_OK);
    run_on(6, &six, NR_OK);
    assert_true(distance("two", "again") == 0);
    assert_true(distance("one", "two") > 0); /* sums in another order: the ranks did share the work */
    assert_true(distance("one", "two") < 2e-5);
    assert_true(distance("one", "three") < 2e-5);
    assert_true(distance("one", "six") < 2e-5);
}

/* Asked on one rank, all stop at the same step; another number goes on. */
static void one_rank_stops_all(void **state)
{
    (void)state;
    run_job whole = {.name = "whole", .s = small()}, asked = {.name = "asked", .s = small(), .stop_rank = 1, .stop_after = 9};
    run_on(2, &whole, NR_OK);
    run_on(2, &asked, NR_E_INTERRUPTED);
    assert_non_null(strstr(asked.err[0].message, "the state is saved"));
    asked.stop_after = 0;
    asked.resume = true;
    run_on(2, &asked, NR_OK);
    assert_true(distance("whole", "asked") == 0);

    run_job other = {.name = "other", .s = small(), .stop_after = 9};
    run_on(3, &other, NR_E_INTERRUPTED);
    other.stop_after = 0;
    other.resume = true;
    run_on(1, &other, NR_OK);
    assert_true(distance("whole", "other") < 2e-5);
}

static void shares_that_do_not_fit(void **state)
{
    (void)state;
    nr_settings s = small();
    nr_error err;
    size_t B;
    assert_int_equal(nr_train_share_batch(&B, &s, 5, false, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "10 or 15 fit"));
    assert_int_equal(nr_train_share_batch(&B, &s, 13, false, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "13 fits"));
    s.micro_batch_size = 6;
    assert_int_equal(nr_train_share_batch(&B, &s, 4, false, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "1 or 3 fit"));
    assert_int_equal(nr_train_share_batch(&B, &s, 4, true, &err), NR_OK);
    assert_int_equal(B, 3);
    s.micro_batch_size = 0;
    for (size_t ranks = 1; ranks <= 12; ranks++) {
        if (12 % ranks != 0) continue;
        ok(nr_train_share_batch(&B, &s, ranks, false, &err), &err);
        assert_int_equal(B, 12 / ranks); /* the 12 rows of 16 tokens fit a pass */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_add_in_order), cmocka_unit_test(failures_are_shared), cmocka_unit_test(ranks_train_as_one),
        cmocka_unit_test(one_rank_stops_all),     cmocka_unit_test(shares_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, setup, runs_teardown);
}
