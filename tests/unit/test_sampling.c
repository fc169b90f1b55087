/*
 * test_sampling.c - probabilities against transformers' own processors
 * (gen_generate.py), and draws against probabilities.
 */
#include "../testing.h"

#include <math.h>

#include "infer/infer.h"

#define V 40

static double field(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static double item(const json_t *o, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(o, key), i));
}

static nr_sampling settings_of(const json_t *o)
{
    return (nr_sampling){.temperature = field(o, "temperature"), .top_k = (size_t)field(o, "top_k"),
                         .top_p = field(o, "top_p"), .min_p = field(o, "min_p"),
                         .repetition_penalty = field(o, "repetition_penalty")};
}

static void equals_transformers(void **state)
{
    (void)state;
    json_t *j;
    nr_error err;
    if (nr_json_load(&j, NRES_FIXTURES "/generate/sampling.json", &err) != NR_OK) fail_msg("%s", err.message);
    json_t *c, *cases = json_object_get(j, "cases");
    size_t n;
    assert_true(json_array_size(cases) >= 16);
    json_array_foreach(cases, n, c) {
        nr_sampling how = settings_of(c);
        float logits[V];
        double p[V];
        int32_t order[V], history[12];
        for (size_t i = 0; i < V; i++) logits[i] = (float)item(c, "logits", i);
        for (size_t i = 0; i < 12; i++) history[i] = (int32_t)item(c, "history", i);
        nr_sampling_distribution(p, order, logits, V, history, 12, &how);
        for (size_t i = 0; i < V; i++) {
            double want = item(c, "p", i);
            assert_int_equal(p[i] > 0, want > 0);
            assert_true(fabs(p[i] - want) < 1e-6); /* theirs are floats */
        }
    }
    json_decref(j);
}

static const nr_sampling plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};

static void best_is_the_first_of_the_largest(void **state)
{
    (void)state;
    enum { MOST = 70 };
    for (size_t n = 1; n <= MOST; n++)
        for (size_t at = 0; at < n; at++) {
            float x[MOST];
            for (size_t i = 0; i < n; i++) x[i] = -9 - (float)(i % 7);
            x[at] = x[n - 1] = -1;
            assert_int_equal(nr_sampling_best(x, n), at);
        }
}

static void greedy_takes_the_first_best(void **state)
{
    (void)state;
    float logits[5] = {1, 4, -2, 4, 0};
    double p[5];
    int32_t order[5], history[2] = {1, 1};
    nr_sampling how = {.temperature = 0, .top_p = 0.1, .top_k = 3, .min_p = 0.5, .repetition_penalty = 1};
    nr_sampling_distribution(p, order, logits, 5, NULL, 0, &how);
    for (size_t i = 0; i < 5; i++) assert_true(p[i] == (i == 1));
    how.repetition_penalty = 1.5; /* greedy too sees the penalty */
    nr_sampling_distribution(p, order, logits, 5, history, 2, &how);
    for (size_t i = 0; i < 5; i++) assert_true(p[i] == (i == 3));
}

static void large_scores_stay_finite(void **state)
{
    (void)state;
    float logits[3] = {3e38f, -3e38f, 2e38f};
    double p[3];
    int32_t order[3];
    nr_sampling how = plain;
    how.temperature = 1e-9;
    how.top_p = 0.9;
    how.min_p = 0.1;
    nr_sampling_distribution(p, order, logits, 3, NULL, 0, &how);
    assert_true(p[0] == 1 && p[1] == 0 && p[2] == 0);
}

/* 100000 draws: every token as often as its probability says, within 5 sigma. */
static void draws_follow_probabilities(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    double p[6] = {0.4, 0, 0.25, 0.3, 0.05, 0};
    size_t hits[6] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) hits[nr_sampling_draw(p, 6, nr_rng_uniform(9, NR_RNG_SAMPLE, i))]++;
    for (size_t i = 0; i < 6; i++) {
        double sigma = sqrt(DRAWS * p[i] * (1 - p[i]));
        assert_true(fabs((double)hits[i] - DRAWS * p[i]) <= 5 * sigma);
    }
}

static void draws_never_leave_the_support(void **state)
{
    (void)state;
    double p[4] = {0, 0.3, 0.7 - 1e-12, 0};
    assert_int_equal(nr_sampling_draw(p, 4, 0), 1);
    assert_int_equal(nr_sampling_draw(p, 4, 0.2999), 1);
    assert_int_equal(nr_sampling_draw(p, 4, 0.3), 2);
    assert_int_equal(nr_sampling_draw(p, 4, 0x1.fffffffffffffp-1), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_transformers),
        cmocka_unit_test(best_is_the_first_of_the_largest), cmocka_unit_test(greedy_takes_the_first_best),
        cmocka_unit_test(large_scores_stay_finite),
        cmocka_unit_test(draws_follow_probabilities),
        cmocka_unit_test(draws_never_leave_the_support),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
