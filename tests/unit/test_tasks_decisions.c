/*
 * test_tasks_decisions.c - every normalisation against a few independent lines
 * of Python on the same log-likelihoods (tests/golden/gen_tasks_decisions.py):
 * the choice taken of each question, shares of right answers and their errors.
 */
#include "../testing.h"

#include <math.h>
#include <string.h>

#include "tasks/tasks.h"

enum { MOST = 8 };

static double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

/* Lengths are taken from the text here, as the scoring does. */
static size_t read_choices(nr_choice_score *to, const json_t *list)
{
    size_t i;
    const json_t *c;
    json_array_foreach(list, i, c) {
        const char *text = json_string_value(json_object_get(c, "text"));
        assert_true(i < MOST);
        to[i] = (nr_choice_score){.sum = number(c, "sum"), .behind_nothing = number(c, "nothing"), .behind_context = number(c, "context"),
                                  .characters = nr_text_characters(text, strlen(text)), .bytes = strlen(text),
                                  .tokens = (size_t)number(c, "tokens"), .blank = nr_text_characters(" ", 1)};
    }
    return i;
}

static void decides_as_computed(void **state)
{
    (void)state;
    json_t *golden;
    const json_t *item;
    nr_error err = {0};
    size_t i;
    nr_mean right[NR_DECISIONS] = {{0}};
    if (nr_json_load(&golden, NRES_FIXTURES "/tasks/decisions.json", &err) != NR_OK) fail_msg("%s", err.message);
    assert_true(json_array_size(json_object_get(golden, "items")) >= 60);
    json_array_foreach(json_object_get(golden, "items"), i, item) {
        nr_choice_score c[MOST];
        size_t n = read_choices(c, json_object_get(item, "choices")), answer = (size_t)number(item, "answer");
        for (int d = 0; d < NR_DECISIONS; d++) {
            size_t want = (size_t)number(json_object_get(item, "taken"), nr_decision_names[d]), taken = nr_decide((nr_decision)d, c, n);
            if (taken != want) fail_msg("item %zu: %s: expected choice %zu, found %zu", i, nr_decision_names[d], want, taken);
            nr_mean_add(&right[d], taken == answer);
        }
    }
    for (int d = 0; d < NR_DECISIONS; d++) {
        const json_t *want = json_object_get(json_object_get(golden, "figures"), nr_decision_names[d]);
        assert_int_equal(json_array_size(want), 2);
        assert_true(fabs(nr_mean_value(&right[d]) - json_number_value(json_array_get(want, 0))) < 1e-12);
        assert_true(fabs(nr_mean_stderr(&right[d]) - json_number_value(json_array_get(want, 1))) < 1e-12);
    }
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(decides_as_computed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
