/*
 * test_example_method.c - the example of CONTRIBUTING.md: a method that is one
 * file (examples/method_shift.c) and one entry of the table, which this program
 * compiles with it. Nothing else is written for it, and it has gradients, a
 * start as the backbone, files, and a KV cache.
 */
#include "../gradients.h"

static void is_listed(void **state)
{
    (void)state;
    const nr_method *m;
    nr_error err = {0};
    tiny_ok(nr_method_named(&m, "shift", &err), &err);
    assert_string_equal(nr_methods[nr_method_count - 1]->name, "shift");
    assert_int_equal(nr_method_named(&m, "shfit", &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "expected neutral, lora, "));
    assert_non_null(strstr(err.message, " or shift, found \"shfit\""));
}

static void has_gradients(void **state)
{
    (void)state;
    const char *const settings[] = {"method", "shift", NULL}, *const some[] = {"method", "shift", "layers", "1,3", NULL};
    gradients_check(settings, false, false);
    gradients_check(some, true, true);
}

static double loss(const nr_model *m, nr_extension *e)
{
    nr_pass *p;
    nr_error err = {0};
    tiny_batch b;
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T};
    tiny_fill(&b);
    tiny_ok(nr_pass_new(&p, m, &e, e ? 1 : 0, &opt, &err), &err);
    double v = tiny_loss(p, &b.batch, false);
    nr_pass_free(p);
    return v;
}

static void starts_saves_and_loads(void **state)
{
    (void)state;
    tiny t;
    nr_settings s;
    nr_extension *e, *back;
    nr_error err = {0};
    char folder[160];
    tiny_open(&t, nr_ops_reference(false), NR_USE_FORWARD);
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", "shift", &err), &err);
    tiny_ok(nr_extension_new(&e, t.model, &s, &err), &err);
    assert_true(loss(t.model, e) == loss(t.model, NULL));
    tiny_shake(e, 0.2);
    assert_true(loss(t.model, e) != loss(t.model, NULL));
    snprintf(folder, sizeof folder, "%s/e", t.folder);
    tiny_ok(nr_extension_save(e, folder, &err), &err);
    tiny_ok(nr_extension_load(&back, t.model, folder, false, &err), &err);
    assert_true(loss(t.model, back) == loss(t.model, e));
    nr_extension_close(back);
    nr_extension_close(e);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(is_listed), cmocka_unit_test(has_gradients),
                                       cmocka_unit_test(starts_saves_and_loads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
