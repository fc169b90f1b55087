/*
 * Matrices in their blocks: a step of generation takes no memory at all, and
 * every allocation of opening such a model, of quantising an extension and of
 * a prompt fails in turn with one line.
 */
#include "fault/sweep.h"
#include "model/extension.h"

static const int32_t ids[60] = {1, 5, 7, 11, 13, 2, 3, 40, 41, 42};

static nr_model *open_model(nr_frozen frozen)
{
    nr_model *m;
    nr_error err;
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = 1, .frozen = frozen};
    if (nr_model_open(&m, NRES_FIXTURES "/formats/quant.gguf", &opt, &err) != NR_OK) fail_msg("%s", err.message);
    return m;
}

static nr_extension *open_extension(const nr_model *m, nr_error *err)
{
    nr_settings s;
    nr_extension *e;
    nr_settings_default(&s);
    s.width = 8;
    return nr_extension_new(&e, m, &s, err) == NR_OK ? e : NULL;
}

static void test_steps(void **state)
{
    nr_error err;
    nr_session *s;
    nr_sampling how = {.temperature = 0.8, .top_k = 5, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.1, .seed = 3};
    (void)state;
    nr_model *m = open_model(NR_FROZEN_AUTO);
    nr_extension *e = open_extension(m, &err);
    assert_non_null(e);
    assert_int_equal(nr_extension_quantise(e, &err), NR_OK);
    assert_int_equal(nr_session_new(&s, m, e, 64, &err), NR_OK);
    assert_int_equal(nr_session_eval(s, ids, 10, &err), NR_OK);
    fault_arm(0);
    for (size_t i = 0; i < 40; i++) {
        int32_t id = nr_session_sample(s, &how);
        assert_int_equal(nr_session_eval(s, &id, 1, &err), NR_OK);
    }
    assert_false(fault_disarm()); /* nothing was asked for */
    nr_session_close(s);
    nr_extension_close(e);
    nr_model_close(m);
}

/* Everything but the model's file, which has its own test. */
static nr_status work(const nr_model *m, nr_error *err)
{
    nr_session *s = NULL;
    nr_status st = NR_E_MEMORY;
    nr_extension *e = open_extension(m, err);
    if (!e) return st;
    NR_GO(nr_extension_quantise(e, err));
    NR_GO(nr_session_new(&s, m, e, 64, err));
    NR_GO(nr_session_eval(s, ids, 60, err));
done:
    nr_session_close(s);
    nr_extension_close(e);
    return st;
}

static void test_allocations(void **state)
{
    long n = 0;
    (void)state;
    for (;; n++) {
        nr_error err = {0};
        nr_model *m = open_model(NR_FROZEN_QUANTISED);
        fault_arm(n);
        nr_status st = work(m, &err);
        bool failed = fault_disarm();
        nr_model_close(m);
        if (!failed) {
            assert_int_equal(st, NR_OK);
            break;
        }
        assert_int_equal(st, NR_E_MEMORY);
        assert_true(strlen(err.message) > 10);
        assert_null(strchr(err.message, '\n'));
    }
    assert_true(n > 20); /* the sweep reached something */
}

static nr_status open_once(nr_error *err)
{
    nr_model *m;
    nr_model_options opt = {.use = NR_USE_FORWARD, .threads = 1, .frozen = NR_FROZEN_QUANTISED};
    nr_status st = nr_model_open(&m, NRES_FIXTURES "/formats/quant.gguf", &opt, err);
    if (st == NR_OK) nr_model_close(m);
    return st;
}

static void test_opening(void **state)
{
    (void)state;
    sweep(open_once, NULL, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_opening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
