/* test_windows.c - every token is scored once, with the context that its window promises. */
#include "../testing.h"

#include "eval/eval.h"

static void every_token_once(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 45; n++)
        for (size_t context = 1; context <= 12; context++)
            for (size_t stride = 0; stride <= context; stride++) {
                size_t step = stride ? stride : context, scored = 0, windows = nr_window_count(n, context, stride);
                for (size_t i = 0; i < windows; i++) {
                    nr_window w = nr_window_at(n, context, stride, i);
                    /* predictions [scored, scored + w.scored), which end the window */
                    assert_int_equal(w.begin + w.length, scored + w.scored);
                    assert_int_equal(w.length, i ? context : NR_MIN(n, context));
                    assert_true(w.scored >= 1 && w.scored <= (i ? step : context));
                    if (i && i + 1 < windows) assert_int_equal(w.scored, step);
                    scored += w.scored;
                }
                assert_int_equal(scored, n);
            }
    assert_int_equal(nr_window_count(0, 8, 0), 0);
}

static void check(size_t n, size_t context, size_t stride, const nr_window *want, size_t count)
{
    assert_int_equal(nr_window_count(n, context, stride), count);
    for (size_t i = 0; i < count; i++) {
        nr_window w = nr_window_at(n, context, stride, i);
        assert_int_equal(w.begin, want[i].begin);
        assert_int_equal(w.length, want[i].length);
        assert_int_equal(w.scored, want[i].scored);
    }
}

/* As lm-evaluation-harness cuts ten tokens: its windows [prefix 0 1 2] -> 0..3,
 * [3 4 5 6] -> 4..7, [5 6 7 8] -> 8 9 (max_seq_len 4, context_len 1), and with
 * context_len 3 (stride 2). */
static void known_windows(void **state)
{
    (void)state;
    const nr_window rolling[] = {{0, 4, 4}, {4, 4, 4}, {6, 4, 2}};
    const nr_window stride[] = {{0, 4, 4}, {2, 4, 2}, {4, 4, 2}, {6, 4, 2}};
    const nr_window odd[] = {{0, 4, 4}, {3, 4, 3}, {6, 4, 3}};
    const nr_window one[] = {{0, 3, 3}};
    check(10, 4, 0, rolling, 3);
    check(10, 4, 2, stride, 4);
    check(10, 4, 3, odd, 3);
    check(3, 4, 0, one, 1);
}

static void padding_is_small(void **state)
{
    (void)state;
    size_t last = 0, different = 0;
    for (size_t n = 1; n <= 4096; n++) {
        size_t padded = nr_window_padded(n, 4096);
        assert_true(padded >= n && padded >= last && padded - n < NR_MAX(n / 8 + 1, (size_t)8));
        if (padded != last) different++;
        last = padded;
    }
    assert_true(different < 80);
    assert_int_equal(nr_window_padded(100, 100), 100);
    assert_int_equal(nr_window_padded(3, 5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_once),
        cmocka_unit_test(known_windows),
        cmocka_unit_test(padding_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
