/*
 * test_stack_grad.c - one extension trained on top of a frozen one: every
 * trained weight against a central difference in double, through the frozen
 * one, whose local losses must not count.
 */
#include "../tiny.h"

static const double step = 1e-5, tolerance = 1e-6; /* as in test_model_grad.c */

static nr_extension *make(const tiny *t, const char *const *settings, double size)
{
    nr_settings s;
    nr_extension *e;
    nr_error err = {0};
    nr_settings_default(&s);
    for (size_t i = 0; settings[i]; i += 2) tiny_ok(nr_settings_set(&s, settings[i], settings[i + 1], &err), &err);
    tiny_ok(nr_extension_new(&e, t->model, &s, &err), &err);
    if (size > 0) tiny_shake(e, size);
    return e;
}

static void check(const char *const *lower, const char *const *upper, bool recompute)
{
    tiny t;
    nr_pass *p;
    nr_error err = {0};
    tiny_batch b;
    const nr_ops *ops = nr_ops_reference(true);
    nr_extension *all[NR_STACK_MAX];
    tiny_open(&t, ops, NR_USE_TRAIN);
    nr_extension *below = make(&t, lower, 0.3), *e = make(&t, upper, 0);
    tiny_ok(nr_extension_stand_on(e, below, &err), &err);
    tiny_ok(nr_extension_train(e, &err), &err);
    tiny_shake(e, 0.2);
    assert_int_equal(nr_extension_stack(e, all), 2);
    assert_ptr_equal(all[0], below);
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true, .recompute = recompute, .head_rows = 8};
    tiny_ok(nr_pass_new(&p, t.model, all, 2, &opt, &err), &err);
    tiny_fill(&b);
    tiny_loss(p, &b.batch, true);
    double worst = 0;
    for (size_t i = 0; i < e->weights; i++) {
        double v = nr_real_get(ops, e->values, i), side[2];
        for (int k = 0; k < 2; k++) {
            nr_real_set(ops, e->values, i, v + (k ? step : -step));
            tiny_ok(nr_extension_repack(e, &err), &err);
            side[k] = tiny_loss(p, &b.batch, false);
        }
        nr_real_set(ops, e->values, i, v);
        double numeric = (side[1] - side[0]) / (2 * step), analytic = nr_real_get(ops, e->grads, i);
        worst = fmax(worst, fabs(numeric - analytic) / fmax(1e-2, fabs(numeric)));
        if (worst > tolerance) fail_msg("%s on %s: weight %zu: difference quotient %.10g, gradient %.10g", upper[1], lower[1], i, numeric, analytic);
    }
    print_message("  %zu weights, worst %.1e\n", e->weights, worst);
    nr_pass_free(p);
    nr_extension_close(e);
    nr_extension_close(below);
    tiny_close(&t);
}

static const char *const elu[] = {"method", "neutral", "width", "5", "gate", "elu", "alpha", "30", NULL};
static const char *const sigmoid[] = {"method", "neutral", "width", "4", "gate", "sigmoid", "ce", "true", "alpha", "9", "gate_bias", "true", NULL};
static const char *const lora[] = {"method", "lora", "width", "2", "lora_targets", "q,o,up,down", NULL};
static const char *const some[] = {"method", "neutral", "width", "4", "gate", "elu", "alpha", "3", "layers", "2-3", NULL};

static void neutral_on_neutral(void **state) { (void)state, check(sigmoid, elu, false); }
static void neutral_on_lora(void **state) { (void)state, check(lora, some, true); }
static void lora_on_neutral(void **state) { (void)state, check(elu, lora, false); }
static const char *const houlsby[] = {"method", "houlsby", "width", "3", NULL};
static const char *const loramoe[] = {"method", "loramoe", "width", "2", "experts", "4", "balance", "3", NULL};
static const char *const prefix[] = {"method", "prefix", "width", "2", NULL};
static const char *const moe_ct[] = {"method", "moe-ct", "width", "4", "experts", "2", "fusion", "sigmoid", NULL};
static const char *const moextend[] = {"method", "moextend", NULL};
static const char *const attention[] = {"method", "attention", "width", "2", NULL};
static const char *const serial[] = {"method", "adapter", "width", "4", "placement", "serial", NULL};
static void neutral_on_houlsby(void **state) { (void)state, check(houlsby, some, false); }
static void neutral_on_loramoe(void **state) { (void)state, check(loramoe, some, false); }
static void neutral_on_prefix(void **state) { (void)state, check(prefix, some, false); }
static void neutral_on_moe_ct(void **state) { (void)state, check(moe_ct, some, false); }
static void neutral_on_moextend(void **state) { (void)state, check(moextend, some, false); }
static void neutral_on_attention(void **state) { (void)state, check(attention, some, false); }
static void neutral_on_serial(void **state) { (void)state, check(serial, some, false); }
static void some_layers_on_all(void **state) { (void)state, check(sigmoid, some, true); }

/* A fresh one changes nothing, bit for bit, whatever it stands on; each has its own switch. */
static void fresh_is_identity(void **state)
{
    (void)state;
    tiny t;
    nr_error err = {0};
    tiny_batch b;
    double loss[4];
    tiny_open(&t, nr_ops_reference(true), NR_USE_FORWARD);
    nr_extension *below = make(&t, elu, 0.3), *e = make(&t, sigmoid, 0);
    tiny_ok(nr_extension_stand_on(e, below, &err), &err);
    tiny_fill(&b);
    for (int k = 0; k < 4; k++) {
        nr_pass *p;
        nr_extension *all[NR_STACK_MAX];
        nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .head_rows = 8};
        size_t count = k == 0 ? nr_extension_stack(below, all) : nr_extension_stack(e, all);
        if (k == 2) nr_extension_switch(below, false);
        if (k == 3) count = 0;
        tiny_ok(nr_pass_new(&p, t.model, all, count, &opt, &err), &err);
        loss[k] = tiny_loss(p, &b.batch, false);
        nr_pass_free(p);
    }
    assert_true(loss[0] == loss[1]);
    assert_true(loss[2] == loss[3]);
    assert_true(loss[0] != loss[2]);
    nr_extension_close(e);
    nr_extension_close(below);
    tiny_close(&t);
}

static void refusals(void **state)
{
    (void)state;
    tiny t, other;
    nr_error err = {0};
    nr_extension *list[NR_STACK_MAX + 1], *all[NR_STACK_MAX];
    tiny_open(&t, nr_ops_reference(true), NR_USE_SHAPES);
    tiny_open(&other, nr_ops_reference(true), NR_USE_SHAPES);
    for (size_t i = 0; i <= NR_STACK_MAX; i++) list[i] = make(i == NR_STACK_MAX ? &other : &t, elu, 0);
    assert_int_equal(nr_extension_stack(NULL, all), 0);
    for (size_t i = 1; i < NR_STACK_MAX; i++) tiny_ok(nr_extension_stand_on(list[i], list[i - 1], &err), &err);
    assert_int_equal(nr_extension_stack(list[NR_STACK_MAX - 1], all), NR_STACK_MAX);
    assert_int_equal(nr_extension_stand_on(list[0], list[3], &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "can't stand on itself"));
    assert_int_equal(nr_extension_stand_on(list[NR_STACK_MAX], list[0], &err), NR_E_MISMATCH);
    nr_extension *more = make(&t, elu, 0);
    assert_int_equal(nr_extension_stand_on(more, list[NR_STACK_MAX - 1], &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "expected at most 16 together"));
    tiny_ok(nr_extension_stand_on(list[1], NULL, &err), &err);
    assert_int_equal(nr_extension_stack(list[1], all), 1);
    nr_extension_close(more);
    for (size_t i = 0; i <= NR_STACK_MAX; i++) nr_extension_close(list[i]);
    tiny_close(&t);
    tiny_close(&other);
}

int main(void)
{
    nr_threads_set(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(neutral_on_neutral), cmocka_unit_test(neutral_on_lora), cmocka_unit_test(lora_on_neutral),
                                       cmocka_unit_test(some_layers_on_all), cmocka_unit_test(fresh_is_identity), cmocka_unit_test(refusals),
                                       cmocka_unit_test(neutral_on_houlsby), cmocka_unit_test(neutral_on_loramoe), cmocka_unit_test(neutral_on_prefix),
                                       cmocka_unit_test(neutral_on_moe_ct), cmocka_unit_test(neutral_on_moextend), cmocka_unit_test(neutral_on_attention),
                                       cmocka_unit_test(neutral_on_serial)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
