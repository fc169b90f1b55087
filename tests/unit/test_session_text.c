/* test_session_text.c - text that comes in pieces: whole characters, and stop strings across any cut. */
#include "../testing.h"

#include "eval/eval.h"
#include "infer/infer.h"

/* The text in pieces of `size` bytes. */
static char *through_utf8(const char *text, size_t size, bool check_each)
{
    nr_utf8_stream s = {0};
    nr_buffer all = {0}, piece = {0};
    nr_buffer_text(&all, "");
    for (size_t i = 0, n = strlen(text); i < n; i += size) {
        piece.size = 0;
        nr_buffer_text(&piece, "");
        nr_utf8_stream_add(&s, text + i, NR_MIN(size, n - i), &piece);
        if (check_each) { /* every piece alone is UTF-8: jansson takes nothing else */
            json_t *j = json_stringn(piece.data, piece.size);
            assert_non_null(j);
            json_decref(j);
        }
        nr_buffer_add(&all, piece.data, piece.size);
    }
    nr_utf8_stream_end(&s, &all);
    nr_buffer_free(&piece);
    return all.data;
}

static void characters_stay_whole(void **state)
{
    (void)state;
    const char *text = "na\xC3\xAFve \xF0\x9F\x99\x82 \xE6\x9D\xB1\xE4\xBA\xAC.";
    for (size_t size = 1; size <= 20; size++) {
        char *out = through_utf8(text, size, true);
        assert_string_equal(out, text);
        free(out);
    }
}

static void wrong_bytes_are_replaced(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"a\xFFz", "a\xEF\xBF\xBDz"},
        {"\x80", "\xEF\xBF\xBD"},
        {"\xE6\x9D", "\xEF\xBF\xBD"},          /* never finished */
        {"\xC3z", "\xEF\xBF\xBDz"},
        {"\xF0\x9F\xC3\xA9", "\xEF\xBF\xBD\xEF\xBF\xBD\xC3\xA9"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a surrogate */
        {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"}, /* overlong */
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++)
        for (size_t size = 1; size <= 5; size++) {
            char *out = through_utf8(cases[i][0], size, true);
            assert_string_equal(out, cases[i][1]);
            free(out);
        }
}

static void stops(const char *text, const char *const *list, size_t count, const char *want, bool found)
{
    for (size_t size = 1; size <= strlen(text); size++) {
        nr_stops s = {.stops = list, .count = count};
        nr_buffer out = {0};
        nr_buffer_text(&out, "");
        for (size_t i = 0, n = strlen(text); i < n; i += size) nr_stops_add(&s, text + i, NR_MIN(size, n - i), &out);
        assert_int_equal(s.found, found);
        nr_stops_end(&s, &out);
        assert_string_equal(out.data, want);
        nr_buffer_free(&out);
        nr_stops_free(&s);
    }
}

static void ends_at_the_first_stop(void **state)
{
    (void)state;
    const char *const one[] = {"\n\nQ:"}, *const two[] = {"END", "stop"}, *const self[] = {"aab"}, *const nested[] = {"xyz", "y"};
    stops("A: 4\n\nQ: 5", one, 1, "A: 4", true);
    stops("A: 4\n\n\nQ: 5", one, 1, "A: 4\n", true);
    stops("A: 4\n\nQ", one, 1, "A: 4\n\nQ", false);
    stops("a stop, the END", two, 2, "a ", true);
    stops("EN ENDE", two, 2, "EN ", true);
    stops("aaaab", self, 1, "aa", true);
    stops("no end here", NULL, 0, "no end here", false);
    stops("xy", nested, 2, "x", true);
}

/* Only what may still become a stop string is held back. */
static void holds_back_little(void **state)
{
    (void)state;
    const char *const list[] = {"</s>"};
    nr_stops s = {.stops = list, .count = 1};
    nr_buffer out = {0};
    nr_stops_add(&s, "a </", 4, &out);
    assert_int_equal(out.size, 2);
    nr_stops_add(&s, "p>", 2, &out);
    assert_int_equal(out.size, 6);
    nr_buffer_free(&out);
    nr_stops_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_stay_whole),
        cmocka_unit_test(wrong_bytes_are_replaced),
        cmocka_unit_test(ends_at_the_first_stop),
        cmocka_unit_test(holds_back_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
