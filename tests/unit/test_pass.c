/*
 * test_pass.c - promises of a pass: recomputation, micro-batches, threads and
 * the KV cache change nothing; the plan is what is taken; the backbone's
 * bytes stay.
 */
#include "../tiny.h"

typedef struct {
    tiny t;
    nr_extension *e;
    tiny_batch b;
} fixture;

static void open_fixture(fixture *f, const nr_ops *ops, const char *method)
{
    nr_settings s;
    nr_error err = {0};
    tiny_open(&f->t, ops, NR_USE_TRAIN);
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    s.width = strcmp(method, "llama-pro") == 0 || strcmp(method, "moextend") == 0 || strcmp(method, "attention") == 0 ? 2 : 8;
    s.placement = strcmp(method, "adapter") == 0; /* serial; neutral stands beside */
    tiny_ok(nr_extension_new(&f->e, f->t.model, &s, &err), &err);
    tiny_ok(nr_extension_train(f->e, &err), &err);
    tiny_shake(f->e, 0.2);
    tiny_fill(&f->b);
}

static void close_fixture(fixture *f)
{
    nr_extension_close(f->e);
    tiny_close(&f->t);
}

/* Gradients and loss of the batch cut into passes of `rows` rows. */
static double gradients(fixture *f, size_t rows, bool recompute, void *grads)
{
    nr_pass *p;
    nr_error err = {0};
    nr_losses sum = {0};
    const nr_ops *ops = f->t.model->ops;
    nr_pass_options opt = {.B = rows, .T = TINY_T, .train = true, .recompute = recompute};
    tiny_ok(nr_pass_new(&p, f->t.model, &f->e, 1, &opt, &err), &err);
    memset(f->e->grads, 0, f->e->weights * ops->real_size);
    for (size_t r = 0; r < TINY_B; r += rows) {
        nr_batch b = f->b.batch;
        b.B = rows;
        b.ids += r * TINY_T;
        b.targets += r * TINY_T;
        b.is_new += r;
        tiny_ok(nr_pass_forward(p, &b, &err), &err);
        tiny_ok(nr_pass_loss(p, &b, true, &sum, NULL, &err), &err);
    }
    memcpy(grads, f->e->grads, f->e->weights * ops->real_size);
    nr_pass_free(p);
    return sum.nll / (double)f->b.batch.step_tokens + sum.local_weighted;
}

static void recompute_changes_no_bit(void **state)
{
    (void)state;
    const nr_ops *ops;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_AUTO, NULL), NR_OK);
    for (size_t i = 0; i < nr_method_count; i++) {
        fixture f;
        open_fixture(&f, ops, nr_methods[i]->name);
        size_t bytes = f.e->weights * ops->real_size;
        void *kept = malloc(bytes), *again = malloc(bytes);
        double a = gradients(&f, 3, false, kept), b = gradients(&f, 3, true, again);
        assert_true(a == b);
        assert_memory_equal(kept, again, bytes);
        free(kept), free(again);
        close_fixture(&f);
    }
}

/* Accumulation must not change the losses, local ones included: in double only rounding is left. */
static void micro_batches_add_up(void **state)
{
    (void)state;
    for (size_t k = 0; k < nr_method_count; k++) {
        fixture f;
        const nr_ops *ops = nr_ops_reference(true);
        open_fixture(&f, ops, nr_methods[k]->name);
        double *whole = malloc(f.e->weights * sizeof *whole), *pieces = malloc(f.e->weights * sizeof *pieces);
        double a = gradients(&f, 3, false, whole), b = gradients(&f, 1, false, pieces);
        assert_true(fabs(a - b) < 1e-12);
        for (size_t i = 0; i < f.e->weights; i++) assert_true(fabs(whole[i] - pieces[i]) < 1e-12);
        free(whole), free(pieces);
        close_fixture(&f);
    }
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    const nr_compute computes[] = {NR_COMPUTE_FP32, NR_COMPUTE_BF16};
    for (size_t k = 0; k < 2 * nr_method_count; k++) {
        const nr_ops *ops;
        fixture f;
        if (nr_ops_cpu(&ops, computes[k % 2], NULL) != NR_OK) continue;
        open_fixture(&f, ops, nr_methods[k / 2]->name);
        size_t bytes = f.e->weights * ops->real_size;
        void *one = malloc(bytes), *more = malloc(bytes);
        nr_threads_set(1);
        double a = gradients(&f, 3, false, one);
        for (size_t threads = 2; threads <= 7; threads += threads == 3 ? 4 : 1) {
            nr_threads_set(threads);
            assert_true(gradients(&f, 3, false, more) == a);
            assert_memory_equal(one, more, bytes);
        }
        nr_threads_set(0);
        free(one), free(more);
        close_fixture(&f);
    }
}

/* Token by token through the cache against all at once; a second text in the same cache too. */
static void cache_agrees(void **state)
{
    (void)state;
    for (size_t k = 0; k < nr_method_count; k++) {
        fixture f;
        nr_pass *whole, *step;
        nr_error err = {0};
        const nr_ops *ops = nr_ops_reference(true);
        const double *a, *b;
        open_fixture(&f, ops, nr_methods[k]->name);
        size_t V = f.t.model->config->V;
        nr_pass_options opt = {.B = 1, .T = TINY_T}, cached = {.B = 1, .T = 3, .cache_context = 20};
        tiny_ok(nr_pass_new(&whole, f.t.model, &f.e, 1, &opt, &err), &err);
        tiny_ok(nr_pass_new(&step, f.t.model, &f.e, 1, &cached, &err), &err);
        nr_batch all = {.B = 1, .T = TINY_T, .ids = f.b.ids};
        tiny_ok(nr_pass_forward(whole, &all, &err), &err);
        for (size_t at = 0; at < TINY_T;) { /* pieces of 3, 1, 1, 1, 1 */
            nr_batch piece = {.B = 1, .T = at ? 1 : 3, .ids = f.b.ids + at, .start = at};
            tiny_ok(nr_pass_forward(step, &piece, &err), &err);
            at += piece.T;
            tiny_ok(nr_pass_logits(whole, (const void **)&a, at - 1, 1, &err), &err);
            tiny_ok(nr_pass_logits(step, (const void **)&b, piece.T - 1, 1, &err), &err);
            for (size_t v = 0; v < V; v++) assert_true(fabs(a[v] - b[v]) < 1e-10);
        }
        nr_batch again = {.B = 1, .T = 2, .ids = f.b.ids + 9}, short_one = {.B = 1, .T = 2, .ids = f.b.ids + 9};
        tiny_ok(nr_pass_forward(whole, &again, &err), &err);
        tiny_ok(nr_pass_forward(step, &short_one, &err), &err);
        tiny_ok(nr_pass_logits(whole, (const void **)&a, 1, 1, &err), &err);
        tiny_ok(nr_pass_logits(step, (const void **)&b, 1, 1, &err), &err);
        for (size_t v = 0; v < V; v++) assert_true(fabs(a[v] - b[v]) < 1e-10);
        nr_batch over = {.B = 1, .T = 3, .ids = f.b.ids, .start = 18};
        assert_int_equal(nr_pass_forward(step, &over, &err), NR_E_USAGE);
        nr_pass_free(whole);
        nr_pass_free(step);
        close_fixture(&f);
    }
}

static void plan_is_what_is_taken(void **state)
{
    (void)state;
    fixture f;
    nr_pass_plan kept, again;
    const nr_ops *ops;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    open_fixture(&f, ops, "neutral");
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true};
    assert_int_equal(nr_pass_plan_for(&kept, f.t.model, &f.e, 1, &opt), NR_OK);
    opt.recompute = true;
    assert_int_equal(nr_pass_plan_for(&again, f.t.model, &f.e, 1, &opt), NR_OK);
    assert_int_equal(kept.saved + kept.scratch + kept.shared + kept.cache, kept.total);
    assert_true(again.saved < kept.saved);
    close_fixture(&f);
}

/* Validation holds two sets of logits against each other: each is what it is alone. */
static void logits_stand_beside_others(void **state)
{
    (void)state;
    enum { ROWS = TINY_N / 4 };
    fixture f;
    nr_pass *p, *other;
    nr_error err = {0};
    const void *a, *b, *alone;
    const nr_ops *ops = nr_ops_reference(true);
    open_fixture(&f, ops, "neutral");
    size_t bytes = ROWS * f.t.model->config->V * ops->real_size;
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true, .head_rows = 2 * ROWS};
    tiny_ok(nr_pass_new(&p, f.t.model, &f.e, 1, &opt, &err), &err);
    tiny_ok(nr_pass_new(&other, f.t.model, &f.e, 0, &opt, &err), &err);
    tiny_ok(nr_pass_forward(p, &f.b.batch, &err), &err);
    tiny_ok(nr_pass_forward(other, &f.b.batch, &err), &err);
    tiny_ok(nr_pass_logits_beside(p, &a, &b, nr_pass_hidden(other), 1, ROWS, &err), &err);
    tiny_ok(nr_pass_logits(other, &alone, 0, ROWS, &err), &err);
    assert_memory_equal(b, alone, bytes);
    double *kept = test_malloc(bytes);
    memcpy(kept, a, bytes);
    tiny_ok(nr_pass_logits(p, &alone, 1, ROWS, &err), &err);
    assert_memory_equal(kept, alone, bytes);
    assert_memory_not_equal(kept, b, bytes);
    assert_int_equal(nr_pass_logits_beside(p, &a, &b, nr_pass_hidden(other), 0, ROWS + 1, &err), NR_E_USAGE);
    test_free(kept);
    nr_pass_free(other);
    nr_pass_free(p);
    close_fixture(&f);
}

static void bad_batches(void **state)
{
    (void)state;
    fixture f;
    nr_pass *p;
    nr_error err = {0};
    const nr_ops *ops = nr_ops_reference(false);
    open_fixture(&f, ops, "neutral");
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true}, wide = {.B = 1, .T = 65};
    assert_int_equal(nr_pass_new(&p, f.t.model, &f.e, 1, &wide, &err), NR_E_USAGE);
    tiny_ok(nr_pass_new(&p, f.t.model, &f.e, 1, &opt, &err), &err);
    f.b.ids[4] = 40;
    assert_int_equal(nr_pass_forward(p, &f.b.batch, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "39"));
    f.b.ids[4] = -1;
    assert_int_equal(nr_pass_forward(p, &f.b.batch, &err), NR_E_FORMAT);
    f.b.ids[4] = 1;
    f.b.batch.B = 4;
    assert_int_equal(nr_pass_forward(p, &f.b.batch, &err), NR_E_USAGE);
    nr_pass_free(p);
    close_fixture(&f);
}

/* Of the placements of the gated adapter, beside the FFN and after it. */
static void observation_changes_no_bit(void **state)
{
    (void)state;
    const char *const methods[] = {"neutral", "adapter", "moextend", "houlsby"};
    for (size_t k = 0; k < NR_COUNT(methods); k++) {
        fixture f;
        nr_pass *p;
        nr_error err = {0};
        const nr_ops *ops;
        double ffn[4 * TINY_N], ext[4 * TINY_N], gate[4 * TINY_N];
        nr_observation o = {.ffn_norm = ffn, .ext_norm = ext, .gate = gate};
        assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
        open_fixture(&f, ops, methods[k]);
        nr_pass_options opt = {.B = TINY_B, .T = TINY_T};
        tiny_ok(nr_pass_new(&p, f.t.model, &f.e, 1, &opt, &err), &err);
        double plain = tiny_loss(p, &f.b.batch, false);
        nr_pass_observe(p, &o);
        assert_true(tiny_loss(p, &f.b.batch, false) == plain);
        for (size_t i = 0; i < 4 * TINY_N; i++) {
            assert_true(ffn[i] > 0);
            assert_true((ext[i] > 0) == f.e->layer_on[i / TINY_N]);
            assert_true(strcmp(methods[k], "houlsby") == 0 || !f.e->layer_on[i / TINY_N] ? isnan(gate[i]) : gate[i] > -1 && isfinite(gate[i]));
        }
        nr_pass_free(p);
        close_fixture(&f);
    }
}

/* Several extensions at once, with hooks in all places: their effects are in, and each can be switched off. */
static void several_at_once(void **state)
{
    (void)state;
    static const char *const methods[] = {"neutral", "houlsby", "attention", "prefix", "lora"};
    nr_extension *all[NR_COUNT(methods)];
    nr_error err = {0};
    nr_pass *p;
    tiny t;
    tiny_batch b;
    tiny_open(&t, nr_ops_reference(true), NR_USE_TRAIN);
    tiny_fill(&b);
    for (size_t i = 0; i < NR_COUNT(methods); i++) {
        nr_settings s;
        nr_settings_default(&s);
        tiny_ok(nr_settings_set(&s, "method", methods[i], &err), &err);
        s.width = 2;
        tiny_ok(nr_extension_new(&all[i], t.model, &s, &err), &err);
        tiny_ok(nr_extension_train(all[i], &err), &err);
        tiny_shake(all[i], 0.2);
    }
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true};
    tiny_ok(nr_pass_new(&p, t.model, all, NR_COUNT(methods), &opt, &err), &err);
    double whole = tiny_loss(p, &b.batch, true), slope = 0, step = 1e-5, side[2];
    for (size_t i = 0; i < NR_COUNT(methods); i++) slope += nr_real_get(t.model->ops, all[i]->grads, 3);
    for (int k = 0; k < 2; k++) { /* along one weight of each */
        for (size_t i = 0; i < NR_COUNT(methods); i++) {
            double v = nr_real_get(t.model->ops, all[i]->values, 3);
            nr_real_set(t.model->ops, all[i]->values, 3, v + (k ? 2 * step : -step));
            tiny_ok(nr_extension_repack(all[i], &err), &err);
        }
        side[k] = tiny_loss(p, &b.batch, false);
    }
    assert_true(fabs((side[1] - side[0]) / (2 * step) - slope) < 1e-6 * fmax(1, fabs(slope)));
    for (size_t i = 0; i < NR_COUNT(methods); i++) {
        nr_extension_switch(all[i], false);
        assert_true(tiny_loss(p, &b.batch, false) != whole);
    }
    nr_pass *plain;
    tiny_ok(nr_pass_new(&plain, t.model, NULL, 0, &opt, &err), &err);
    assert_true(tiny_loss(p, &b.batch, false) == tiny_loss(plain, &b.batch, false));
    nr_pass_free(plain);
    nr_pass_free(p);
    for (size_t i = 0; i < NR_COUNT(methods); i++) nr_extension_close(all[i]);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recompute_changes_no_bit), cmocka_unit_test(micro_batches_add_up),
        cmocka_unit_test(threads_change_no_bit), cmocka_unit_test(cache_agrees),
        cmocka_unit_test(plan_is_what_is_taken), cmocka_unit_test(logits_stand_beside_others),
        cmocka_unit_test(bad_batches), cmocka_unit_test(observation_changes_no_bit),
        cmocka_unit_test(several_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
