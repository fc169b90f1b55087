/* test_tokenizer_pieces.c - the scanners: chosen texts cut by hand, one pass against two steps, every byte once. */
#include "testing.h"

#include "tokenizer/pretokenize.h"

static uint8_t *classes;

static int setup(void **state)
{
    (void)state;
    classes = malloc(NR_CODE_POINTS + 1);
    nr_unicode_classes(classes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(classes);
    return 0;
}

/* Pieces joined by '|'. */
static void pieces(char *out, const nr_pretokenizer *how, const char *text, size_t n)
{
    nr_pieces w;
    const unsigned char *p;
    size_t m, total = 0;
    *out = 0;
    nr_pieces_start(&w, how, classes, text, n);
    while (nr_pieces_next(&w, &p, &m)) {
        assert_true(m > 0);
        assert_ptr_equal(p, text + total);
        if (total) strcat(out, "|");
        strncat(out, (const char *)p, m);
        total += m;
    }
    assert_int_equal(total, n);
}

static void by_hand(void **state)
{
    (void)state;
    static const struct {
        nr_split how;
        const char *text, *want;
    } cases[] = {
        {NR_SPLIT_GPT2, "Hello  world's 123abc", "Hello| | world|'s| 123|abc"},
        {NR_SPLIT_GPT2, "a \n\n b  ", "a| \n\n| b|  "},
        {NR_SPLIT_GPT2, "it'S 'llx ''s", "it|'|S| '|llx| ''|s"},
        {NR_SPLIT_GPT2, "x\xC2\xA0y\xE2\x80\x83\xE2\x80\x83z", "x|\xC2\xA0|y|\xE2\x80\x83|\xE2\x80\x83|z"},
        {NR_SPLIT_GPT2, "\xFF\xFE a\xC3", "\xFF\xFE| a|\xC3"},
        {NR_SPLIT_GPT2, "\n", "\n"},
        {NR_SPLIT_DIGIT_GPT2, "a 12  3\n4.5", "a| |1|2|  |3|\n|4|.|5"},
        {NR_SPLIT_DIGIT_GPT2, "\xD9\xA0\xD9\xA1\xE2\x85\xA7 1", "\xD9\xA0|\xD9\xA1|\xE2\x85\xA7| |1"},
        {NR_SPLIT_LLAMA3, "1234567 $x\tab", "123|456|7| $|x|\tab"},
        {NR_SPLIT_LLAMA3, "a\r\n\r\n b!!\n\nc  \n  d", "a|\r\n\r\n| b|!!\n\n|c|  \n| | d"},
        {NR_SPLIT_LLAMA3, "'Som 'LLx '\xC5\xBFy", "'S|om| '|LLx| '|\xC5\xBFy"},
        {NR_SPLIT_LLAMA3, "'LLx'\xC5\xBFy", "'LL|x|'\xC5\xBF|y"},
        {NR_SPLIT_LLAMA3, "  \n", "  \n"},
        {NR_SPLIT_LLAMA3, "a   ", "a|   "},
        {NR_SPLIT_QWEN2, "1234 \xC2\xBD.5", "1|2|3|4| |\xC2\xBD|.|5"},
        {NR_SPLIT_DIGIT, "ab12c", "ab|1|2|c"},
        {NR_SPLIT_DIGITS, "ab12c", "ab|12|c"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        char found[256];
        nr_pretokenizer how = {.steps = {cases[i].how}, .count = 1};
        pieces(found, &how, cases[i].text, strlen(cases[i].text));
        assert_string_equal(found, cases[i].want);
    }
}

static const char *symbol(uint64_t r)
{
    static const char *const list[] = {"a", "B", "7", " ", " ", "\n", "'", "'s", "'re", ".", "\r", "\t", "\xC3\xA9", "\xD9\xA0", "\xC2\xBD",
        "\xE4\xB8\x80", "\xFF", "\xE2\x80\x83", "\xF0\x9F\x98\x80", "\xF0\x91\xB7\xA0" /* U+11DE0: a digit, but no \p{N} yet */, "\xC3", "\xC5\xBF"};
    return list[r % NR_COUNT(list)];
}

/* "digit" and then "gpt2", and the two at once; an unused step in between changes nothing. */
static void one_pass(void **state)
{
    (void)state;
    nr_pretokenizer one = {0}, two = {.steps = {NR_SPLIT_DIGIT, NR_SPLIT_GPT2}, .count = 2}, none = {0};
    assert_true(nr_pretokenizer_add(&one, NR_SPLIT_DIGIT) && nr_pretokenizer_add(&one, NR_SPLIT_GPT2));
    assert_int_equal(one.count, 1);
    assert_int_equal(one.steps[0], NR_SPLIT_DIGIT_GPT2);
    for (uint64_t i = 0; i < 20000; i++) {
        char text[256] = "", a[512], b[512];
        size_t n = nr_rng_u64(5, NR_RNG_TEST, i) % 40;
        for (size_t k = 0; k < n; k++) strcat(text, symbol(nr_rng_u64(6, NR_RNG_TEST, i << 8 | k)));
        pieces(a, &one, text, strlen(text));
        pieces(b, &two, text, strlen(text));
        assert_string_equal(a, b);
        pieces(a, &none, text, strlen(text));
        assert_string_equal(a, text);
    }
    nr_pretokenizer full = {0};
    for (size_t i = 0; i < NR_SPLIT_STEPS; i++) assert_true(nr_pretokenizer_add(&full, NR_SPLIT_DIGITS));
    assert_false(nr_pretokenizer_add(&full, NR_SPLIT_DIGITS));
}

/* Overlong forms, surrogates, cut sequences: one byte each, of no class. */
static void utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80", "\xC0\xAF", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xE2\x82", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xF0\x9F\x98", "\xE2\x28\xA1"};
    for (size_t i = 0; i < NR_COUNT(bad); i++) {
        uint32_t cp;
        assert_int_equal(nr_utf8_next((const unsigned char *)bad[i], strlen(bad[i]), &cp), 1);
        assert_int_equal(cp, NR_INVALID);
    }
    assert_int_equal(classes[NR_INVALID], 0);
    for (uint32_t want = 0; want < NR_CODE_POINTS; want++) {
        char c[5] = "x";
        uint32_t cp;
        if (want >= 0xD800 && want < 0xE000) continue;
        size_t n = nr_utf8_put(c + 1, want);
        assert_int_equal(nr_utf8_next((unsigned char *)c + 1, n, &cp), n);
        assert_int_equal(cp, want);
        assert_int_equal(nr_utf8_last((unsigned char *)c, (unsigned char *)c + 1 + n, &cp), n);
        assert_int_equal(cp, want);
        if (n > 1) assert_int_equal(nr_utf8_next((unsigned char *)c + 1, n - 1, &cp), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(one_pass), cmocka_unit_test(utf8)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
