/*
 * test_checkpoint.c - the trainer through its C interface: interrupted at many
 * steps and resumed to the same bytes, broken states, schedules, scores.
 */
#include "runs.h"

#include <dirent.h>
#include <math.h>

static char *in_folder(const char *name) { return nr_path_join(folder, name); }

static nr_settings small(void)
{
    nr_settings s;
    nr_settings_default(&s);
    s.steps = 20;
    s.batch_size = 4;
    s.micro_batch_size = 2;
    s.context = 16;
    s.warmup_steps = 3;
    s.eval_steps = 6;
    s.eval_tokens = 210; /* 13 rows: the last batch is half full */
    s.save_every = 7;
    s.old_share = 0.3;
    s.validation_share = 0.1;
    s.threads = 1;
    s.weight_decay = 0.1;
    return s;
}

static nr_status start(nr_trainer **t, const char *name, const nr_settings *s, const nr_listener *l, nr_error *err)
{
    const char *old_files[1] = {old_path}, *new_files[1] = {new_path};
    char *run_folder = in_folder(name);
    nr_run run = {.model = model_path, .run = run_folder, .cache_folder = cache, .train = {{old_files, 1}, {new_files, 1}},
                  .command = "a test"};
    nr_status st = nr_trainer_new(t, &run, s, l, err);
    free(run_folder);
    return st;
}

/* Stops after so many polls. */
static bool stop_after(void *user)
{
    size_t *left = user;
    return (*left)-- == 0;
}

static char *bytes_of(const char *run, const char *file, size_t *size)
{
    char *where = nr_format("%s/%s/%s", folder, run, file);
    nr_map m;
    nr_error err;
    ok(nr_map_open(&m, where, &err), &err);
    char *copy = malloc(m.size + 1);
    memcpy(copy, m.data, m.size);
    copy[*size = m.size] = '\0';
    nr_map_close(&m);
    free(where);
    return copy;
}

static void same_file(const char *a, const char *b, const char *file)
{
    size_t n, m;
    char *x = bytes_of(a, file, &n), *y = bytes_of(b, file, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* metrics.jsonl without its last two fields of a step and the last of an evaluation, which tell time. */
static char *metrics_of(const char *run)
{
    size_t n;
    char *text = bytes_of(run, "metrics.jsonl", &n), *to = text;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n'), *cut = strstr(line, ", \"seconds\"");
        assert_true(cut && cut < end);
        memmove(to, line, (size_t)(cut - line));
        to += cut - line;
        line = end + 1;
    }
    *to = '\0';
    return text;
}

static void train_whole(const char *name)
{
    nr_trainer *t;
    nr_error err;
    nr_settings s = small();
    ok(start(&t, name, &s, NULL, &err), &err);
    ok(nr_trainer_run(t, &err), &err);
    ok(nr_trainer_run(t, &err), &err); /* nothing is left to do */
    nr_trainer_close(t);
}

/* As a killed process leaves it: lines behind the saved state. */
static void append_garbage(const char *run, const char *file)
{
    char *path = nr_format("%s/%s/%s", folder, run, file);
    FILE *f = fopen(path, "ab");
    assert_non_null(f);
    fputs("{\"kind\": \"step\", \"cut", f);
    fclose(f);
    free(path);
}

static void interrupted_often(void **state)
{
    (void)state;
    nr_trainer *t;
    nr_error err;
    nr_settings s = small();
    train_whole("whole");
    size_t left = 0, stops = 0;
    nr_listener l = {.user = &left, .stop = stop_after};
    left = 1000; /* tokenising polls too */
    ok(start(&t, "often", &s, &l, &err), &err);
    left = 0; /* before the first step */
    assert_int_equal(nr_trainer_run(t, &err), NR_E_INTERRUPTED);
    nr_trainer_close(t);
    for (nr_status st = NR_E_INTERRUPTED; st != NR_OK; stops++) {
        char *run = in_folder("often");
        left = 1000;
        append_garbage("often", "metrics.jsonl");
        append_garbage("often", "events.out.tfevents.nres");
        ok(nr_trainer_resume(&t, run, &l, &err), &err);
        assert_true(t->at.step == stops * 3);
        left = 3;
        st = nr_trainer_run(t, &err);
        assert_true(st == NR_OK || st == NR_E_INTERRUPTED);
        nr_trainer_close(t);
        free(run);
    }
    assert_int_equal(stops, 7);
    same_file("whole", "often", "extension.safetensors");
    same_file("whole", "often", "extension_config.json");
    same_file("whole", "often", "best/extension.safetensors");
    size_t n, m;
    free(bytes_of("whole", "events.out.tfevents.nres", &n));
    free(bytes_of("often", "events.out.tfevents.nres", &m));
    assert_int_equal(n, m);
    char *a = metrics_of("whole"), *b = metrics_of("often");
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static size_t entries(const char *name)
{
    char *path = in_folder(name);
    DIR *d = opendir(path);
    size_t n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    free(path);
    return n;
}

/* The moments and counters come back as they were; what a killed save left is no obstacle. */
static void state_round_trip(void **state)
{
    (void)state;
    nr_trainer *t;
    nr_error err;
    nr_settings s = small();
    bool found;
    ok(start(&t, "round", &s, NULL, &err), &err);
    ok(nr_state_load(t, &found, &err), &err);
    assert_false(found);
    size_t n = t->e->weights;
    float *values = t->e->values, *m = t->m, *v = t->v;
    for (size_t i = 0; i < n; i++) values[i] = (float)i, m[i] = -(float)i, v[i] = 0.5f * (float)i;
    t->at = (nr_progress_state){.step = 11, .drawn = {44, 13}, .best_score = 1.0 / 3, .best_step = 6, .seconds = 2.5,
                                .last = {.bits = {1.0 / 7, NAN}, .score = NAN}};
    ok(nr_state_save(t, &err), &err);
    memset(values, 0, n * sizeof *values);
    memset(m, 0, n * sizeof *m);
    memset(v, 0, n * sizeof *v);
    char *left = in_folder("round/state/00000099.tmp"), *other = in_folder("round/state/notes");
    ok(nr_make_folders(left, &err), &err);
    ok(nr_make_folders(other, &err), &err);
    t->at = (nr_progress_state){0};
    ok(nr_state_load(t, &found, &err), &err);
    assert_true(found);
    for (size_t i = 0; i < n; i++) assert_true(values[i] == (float)i && m[i] == -(float)i && v[i] == 0.5f * (float)i);
    assert_true(t->at.step == 11 && t->at.drawn.rows == 44 && t->at.drawn.old == 13 && t->at.best_score == 1.0 / 3);
    assert_true(t->at.best_step == 6 && t->at.seconds == 2.5 && t->at.last.bits[0] == 1.0 / 7);
    assert_true(isnan(t->at.last.bits[1]) && isnan(t->at.last.score));
    /* Two generations stay, the newest ones. */
    for (uint64_t step = 12; step < 16; step++) {
        t->at.step = step;
        ok(nr_state_save(t, &err), &err);
    }
    assert_int_equal(entries("round/state"), 4); /* with what isn't ours */
    t->at = (nr_progress_state){0};
    ok(nr_state_load(t, &found, &err), &err);
    assert_int_equal(t->at.step, 15);
    nr_trainer_close(t);
    free(left);
    free(other);
}

static void learning_rates(void **state)
{
    (void)state;
    nr_settings s = small();
    s.steps = 100;
    s.warmup_steps = 10;
    s.learning_rate = 2;
    s.min_lr_ratio = 0.1;
    assert_true(fabs(nr_train_learning_rate(&s, 0) - 0.2) < 1e-12);
    assert_true(fabs(nr_train_learning_rate(&s, 9) - 2) < 1e-12);
    assert_true(fabs(nr_train_learning_rate(&s, 54) - 1.1) < 1e-12); /* half way down */
    assert_true(fabs(nr_train_learning_rate(&s, 99) - 0.2) < 1e-12);
    for (uint64_t step = 10; step < 99; step++)
        assert_true(nr_train_learning_rate(&s, step) > nr_train_learning_rate(&s, step + 1));
    s.lr_scheduler = 1;
    assert_true(nr_train_learning_rate(&s, 4) == 1 && nr_train_learning_rate(&s, 99) == 2);
    s.warmup_steps = 0;
    assert_true(nr_train_learning_rate(&s, 0) == 2);
}

static void micro_batches(void **state)
{
    (void)state;
    static const size_t cases[][4] = {/* asked, batch, context, got */
                                      {0, 8, 256, 2}, {0, 8, 128, 4}, {0, 6, 256, 2}, {0, 7, 256, 1}, {0, 8, 2048, 1}, {2, 8, 16, 2}};
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_settings s = small();
        s.micro_batch_size = cases[i][0];
        s.batch_size = cases[i][1];
        s.context = cases[i][2];
        assert_int_equal(nr_train_micro_batch(&s), cases[i][3]);
    }
}

static void areas_under_curves(void **state)
{
    (void)state;
    float low[3] = {3, 1, 2}, high[2] = {5, 4}, same[4] = {1, 1, 1, 1}, none[1] = {NAN};
    assert_true(nr_domain_auc(low, 3, high, 2) == 1);
    assert_true(nr_domain_auc(high, 2, low, 3) == 0);
    assert_true(nr_domain_auc(same, 2, same + 2, 2) == 0.5);
    assert_true(isnan(nr_domain_auc(low, 3, none, 1)) && isnan(nr_domain_auc(none, 1, low, 3)) && isnan(nr_domain_auc(low, 0, high, 2)));
    float a[50], b[70];
    double pairs = 0;
    for (size_t i = 0; i < 50; i++) a[i] = (float)(nr_rng_u64(1, NR_RNG_TEST, i) % 30);
    for (size_t i = 0; i < 70; i++) b[i] = (float)(nr_rng_u64(2, NR_RNG_TEST, i) % 40);
    for (size_t i = 0; i < 50; i++)
        for (size_t k = 0; k < 70; k++) pairs += b[k] > a[i] ? 1 : b[k] == a[i] ? 0.5 : 0;
    assert_true(fabs(nr_domain_auc(a, 50, b, 70) - pairs / 3500) < 1e-12);
}

/* Bits per byte and KL against sums made row by row with a pass of another shape. */
static void scores(void **state)
{
    (void)state;
    nr_trainer *t;
    nr_error err;
    nr_settings s = small();
    s.compute = 1; /* fp32: another shape changes rounding only */
    ok(start(&t, "scores", &s, NULL, &err), &err);
    float *values = t->e->values;
    for (size_t i = 0; i < t->e->weights; i++) values[i] += 0.3f * (float)nr_rng_normal(5, NR_RNG_TEST, i);
    ok(nr_extension_repack(t->e, &err), &err);
    t->fresh = false; /* no longer the backbone */
    ok(nr_validate(t, &err), &err);
    nr_pass *p;
    nr_pass_options opt = {.B = 1, .T = s.context};
    ok(nr_pass_new(&p, t->model, &t->e, 1, &opt, &err), &err);
    size_t V = t->model->config->V;
    float *base = malloc(s.context * V * sizeof *base);
    for (int d = 0; d < 2; d++) {
        double nats[2] = {0, 0}, kl = 0, bytes = 0, agree = 0;
        const nr_domain_score *score = &t->val.domain[d];
        assert_true(score->rows > 2);
        for (size_t row = 0; row < score->rows; row++) {
            int32_t ids[17];
            double nll[16];
            size_t n;
            const void *logits;
            nr_rows_get(t->valid[d], row, ids, NULL);
            nr_batch b = {.B = 1, .T = 16, .ids = ids, .targets = ids + 1};
            ok(nr_tokenizer_decode(t->tokenizer, ids + 1, 16, false, NULL, 0, &n, &err), &err);
            bytes += (double)n;
            for (int on = 0; on < 2; on++) {
                nr_extension_switch(t->e, on);
                ok(nr_pass_forward(p, &b, &err), &err);
                ok(nr_pass_loss(p, &b, false, NULL, nll, &err), &err);
                for (size_t i = 0; i < 16; i++) nats[on] += nll[i];
                ok(nr_pass_logits(p, &logits, 0, 16, &err), &err);
                if (!on) memcpy(base, logits, 16 * V * sizeof *base);
            }
            const float *ext = logits;
            for (size_t i = 0; i < 16; i++) {
                double zp = 0, zq = 0, sum = 0;
                size_t best_p = 0, best_q = 0;
                for (size_t v = 0; v < V; v++) {
                    zp += exp(base[i * V + v]);
                    zq += exp(ext[i * V + v]);
                    if (base[i * V + v] > base[i * V + best_p]) best_p = v;
                    if (ext[i * V + v] > ext[i * V + best_q]) best_q = v;
                }
                for (size_t v = 0; v < V; v++) {
                    double lp = base[i * V + v] - log(zp), lq = ext[i * V + v] - log(zq);
                    sum += exp(lp) * (lp - lq);
                }
                kl += sum;
                agree += best_p == best_q;
            }
        }
        double tokens = (double)(score->rows * 16);
        assert_true(fabs(t->at.last.bits[d] - nats[1] / log(2) / bytes) < 1e-4);
        assert_true(fabs(t->at.last.backbone_bits[d] - nats[0] / log(2) / bytes) < 1e-4);
        assert_true(fabs(t->at.last.kl[d] - kl / tokens) < 1e-4 && kl > 0);
        assert_true(fabs(t->at.last.agreement[d] - agree / tokens) < 0.02);
    }
    assert_true(t->at.last.score == t->at.last.bits[0] + t->at.last.bits[1]);
    free(base);
    nr_pass_free(p);
    nr_trainer_close(t);
}

/* AdamW by its formula: the weights after a step follow from those before it and the moments. */
static void optimizer_steps(void **state)
{
    (void)state;
    nr_trainer *t;
    nr_error err;
    nr_settings s = small();
    nr_step_result r;
    s.learning_rate = 0.01;
    s.max_grad_norm = 0.05;
    ok(start(&t, "steps", &s, NULL, &err), &err);
    size_t n = t->e->weights;
    float *values = t->e->values, *grads = t->e->grads, *m = t->m, *v = t->v;
    float *before = malloc(n * sizeof *before), *m_before = malloc(n * sizeof *m_before);
    for (size_t step = 1; step <= 5; step++) {
        memcpy(before, values, n * sizeof *before);
        memcpy(m_before, m, n * sizeof *m_before);
        ok(nr_train_step(t, &r, &err), &err);
        double lr = 0.01 * (double)step / 3, norm = 0;
        if (step > 3) lr = nr_train_learning_rate(&s, step - 1);
        assert_true(fabs(r.lr - lr) < 1e-12);
        for (size_t i = 0; i < n; i++) norm += (double)grads[i] * grads[i];
        norm = sqrt(norm);
        assert_true(fabs(norm - r.norm) < 1e-5 * norm && norm > 0.05);
        double clip = 0.05 / (norm + 1e-6);
        for (size_t k = 0; k < t->e->param_count; k++) {
            const nr_param *p = &t->e->params[k];
            for (size_t i = p->offset; i < p->offset + p->shape[0] * p->shape[1]; i++) {
                double want_m = 0.9 * m_before[i] + 0.1 * clip * grads[i];
                double up = (m[i] / (1 - pow(0.9, (double)step))) / (sqrt(v[i] / (1 - pow(0.95, (double)step))) + 1e-8);
                double want = before[i] - lr * (up + (p->vector ? 0 : 0.1) * before[i]);
                assert_true(fabs(m[i] - want_m) < 1e-6 * (fabs(m_before[i]) + fabs(clip * grads[i])) + 1e-30);
                assert_true(fabs(values[i] - want) < 1e-5 * (fabs(want) + lr));
            }
        }
    }
    free(before);
    free(m_before);
    nr_trainer_close(t);
}

/* The step of the lowest score that a run has written down; the last of its validations in *last. */
static size_t lowest(const char *run, size_t *last)
{
    size_t n, step = 0, best_step = 0;
    double score, best = INFINITY;
    char *metrics = bytes_of(run, "metrics.jsonl", &n);
    for (char *line = metrics; (line = strstr(line, "\"kind\": \"eval\"")); line++) {
        const char *s = strstr(line, "\"score\": "), *at = strstr(line, "\"step\": ");
        assert_true(s && at && sscanf(at, "\"step\": %zu", &step) == 1 && sscanf(s, "\"score\": %lf", &score) == 1);
        if (score < best) best = score, best_step = step;
    }
    free(metrics);
    *last = step;
    return best_step;
}

/* best/ is the lowest score, not the latest: with rates that are too high one from the middle, or the first. */
static void best_is_the_lowest(void **state)
{
    (void)state;
    const double rates[] = {0.05, 0.1, 1};
    size_t n, last, before_last = 0;
    for (size_t i = 0; i < NR_COUNT(rates); i++) {
        nr_trainer *t;
        nr_error err;
        nr_settings s = small();
        char run[16], want[32];
        s.learning_rate = rates[i];
        s.min_lr_ratio = 1;
        snprintf(run, sizeof run, "worse%d", (int)i);
        ok(start(&t, run, &s, NULL, &err), &err);
        ok(nr_trainer_run(t, &err), &err);
        size_t best = lowest(run, &last);
        assert_int_equal(t->at.best_step, best);
        nr_trainer_close(t);
        snprintf(want, sizeof want, "\"step\": %d,", (int)best);
        char *config = bytes_of(run, "best/extension_config.json", &n);
        assert_non_null(strstr(config, want));
        free(config);
        before_last += best < last;
    }
    assert_true(before_last > 0);
}

/* The listener hears every line of metrics.jsonl, a line for people per validation, and how far that is. */
typedef struct {
    size_t steps, evals, lines, whole;
    double validated; /* batches of the validation under way */
} heard;

static void hear_event(void *user, const char *json)
{
    heard *h = user;
    h->steps += strncmp(json, "{\"kind\": \"step\"", 15) == 0;
    h->evals += strncmp(json, "{\"kind\": \"eval\"", 15) == 0;
    assert_null(strchr(json, '\n'));
}

static void hear_line(void *user, const char *line)
{
    heard *h = user;
    h->lines += strncmp(line, "step ", 5) == 0;
}

/* A validation counts up once, over both domains: a count that starts anew would spoil the estimate of what is left. */
static void hear_progress(void *user, const char *what, double done, double total, double rate, const char *unit)
{
    heard *h = user;
    (void)rate, (void)unit;
    if (strcmp(what, "validating") != 0) return;
    assert_true(done == h->validated + 1 && done <= total);
    h->validated = done < total ? done : 0;
    h->whole += done == total;
}

static void listener_hears(void **state)
{
    (void)state;
    heard h = {0};
    nr_listener l = {.user = &h, .event = hear_event, .log = hear_line, .progress = hear_progress};
    nr_trainer *t;
    nr_error err;
    nr_settings s = small();
    s.logging_steps = 3;
    ok(start(&t, "heard", &s, &l, &err), &err);
    ok(nr_trainer_run(t, &err), &err);
    nr_trainer_close(t);
    assert_int_equal(h.steps, 7); /* 3, 6, ... 18 and the last */
    assert_int_equal(h.evals, 5); /* 0, 6, 12, 18, 20 */
    assert_int_equal(h.lines, 5);
    assert_int_equal(h.whole, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupted_often), cmocka_unit_test(state_round_trip), cmocka_unit_test(learning_rates),
        cmocka_unit_test(micro_batches),     cmocka_unit_test(areas_under_curves), cmocka_unit_test(scores),
        cmocka_unit_test(optimizer_steps), cmocka_unit_test(best_is_the_lowest),
        cmocka_unit_test(listener_hears),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
