/* test_draw.c - the order of rows: exact shares, epochs that are permutations, no state. */
#include "testing.h"

#include "data/data.h"

enum { STEPS = 100, BATCH = 8 };

static nr_settings settings_of(double share, int draw)
{
    nr_settings s;
    nr_settings_default(&s);
    s.old_share = share;
    s.draw = draw;
    s.batch_size = BATCH;
    s.seed = 5;
    return s;
}

static size_t old_rows(const nr_settings *s, uint64_t steps)
{
    nr_drawn rows[BATCH];
    nr_draw_count count = {0};
    size_t old = 0;
    for (uint64_t step = 0; step < steps; step++) {
        nr_draw_step(s, step, &count, rows);
        for (size_t i = 0; i < BATCH; i++) old += !rows[i].is_new;
    }
    return old;
}

static void stratified_shares(void **state)
{
    (void)state;
    const struct {
        double share;
        size_t old;
    } cases[] = {{0, 0}, {0.01, 8}, {0.1, 80}, {0.5, 400}, {5.0 / 6, 667}, {1, 800}};
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_settings s = settings_of(cases[i].share, 0);
        assert_int_equal(old_rows(&s, STEPS), cases[i].old);
    }
}

/* Never further from p than one row, at any step. */
static void stratified_error_is_carried(void **state)
{
    (void)state;
    nr_settings s = settings_of(0.1, 0);
    nr_drawn rows[BATCH];
    size_t old = 0;
    for (uint64_t step = 0; step < STEPS; step++) {
        nr_draw_step(&s, step, NULL, rows);
        for (size_t i = 0; i < BATCH; i++) {
            old += !rows[i].is_new;
            double want = 0.1 * (double)(step * BATCH + i + 1);
            assert_true((double)old > want - 0.5001 && (double)old < want + 0.5001);
        }
    }
}

static void bernoulli_share(void **state)
{
    (void)state;
    nr_settings s = settings_of(0.1, 1);
    size_t old = old_rows(&s, 5000); /* 40000 rows: 4000 +- 60 */
    assert_true(old > 3760 && old < 4240 && old != 4000);
    s.old_share = 0;
    assert_int_equal(old_rows(&s, STEPS), 0);
    s.old_share = 1;
    assert_int_equal(old_rows(&s, STEPS), STEPS * BATCH);
}

/* Indices count on within each domain; a step is the same with, without and after a stale count. */
static void steps_need_no_state(void **state)
{
    (void)state;
    for (int draw = 0; draw < 2; draw++) {
        nr_settings s = settings_of(0.3, draw);
        nr_drawn rows[BATCH], alone[BATCH], stale[BATCH];
        nr_draw_count count = {0};
        uint64_t next[2] = {0, 0};
        for (uint64_t step = 0; step < STEPS; step++) {
            nr_draw_count later = {(step + 9) * BATCH, 3};
            nr_draw_step(&s, step, &count, rows);
            nr_draw_step(&s, step, NULL, alone);
            nr_draw_step(&s, step, &later, stale);
            for (size_t i = 0; i < BATCH; i++) {
                assert_int_equal(rows[i].index, next[rows[i].is_new]++);
                assert_true(rows[i].is_new == alone[i].is_new && rows[i].index == alone[i].index);
                assert_true(rows[i].is_new == stale[i].is_new && rows[i].index == stale[i].index);
            }
        }
    }
}

static void epochs_are_permutations(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097};
    unsigned char *seen = malloc(5000);
    size_t *order = malloc(5000 * sizeof *order);
    for (size_t k = 0; k < NR_COUNT(counts); k++) {
        size_t n = counts[k], same_epoch = 0, same_domain = 0, in_order = 0;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, 5000);
            for (size_t i = 0; i < n; i++) {
                size_t row = nr_draw_row(5, true, epoch * n + i, n);
                assert_true(row < n);
                assert_int_equal(seen[row]++, 0);
                if (epoch == 0) order[i] = row;
                if (epoch == 1) same_epoch += order[i] == row;
                in_order += row == i;
                same_domain += nr_draw_row(5, false, epoch * n + i, n) == row;
            }
        }
        /* A random permutation keeps about one element an epoch in its place. */
        if (n >= 1000) assert_true(same_epoch < 8 && in_order < 20 && same_domain < 20);
    }
    free(order);
    free(seen);
}

static void seeds_differ(void **state)
{
    (void)state;
    size_t same = 0;
    for (size_t i = 0; i < 1000; i++) same += nr_draw_row(1, true, i, 1000) == nr_draw_row(2, true, i, 1000);
    assert_true(same < 8);
}

/* The first and the last element are as likely in every place: a chi-square of 16 bins over many seeds. */
static void places_are_uniform(void **state)
{
    (void)state;
    size_t bins[16] = {0};
    for (uint64_t seed = 0; seed < 1600; seed++) bins[nr_draw_row(seed, true, 3, 160) / 10]++;
    double chi = 0;
    for (size_t i = 0; i < 16; i++) chi += ((double)bins[i] - 100) * ((double)bins[i] - 100) / 100;
    assert_true(chi < 37.7); /* 15 degrees of freedom, 0.1 % */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stratified_shares),   cmocka_unit_test(stratified_error_is_carried),
        cmocka_unit_test(bernoulli_share),     cmocka_unit_test(steps_need_no_state),
        cmocka_unit_test(epochs_are_permutations), cmocka_unit_test(seeds_differ),
        cmocka_unit_test(places_are_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
