/* JSON as hostile text: depth, duplicates, kinds, ranges, truncation. */
#include "base/base.h"
#include "testing.h"

static nr_status parse(const char *text, nr_error *err)
{
    json_t *j;
    nr_status st = nr_json_parse(&j, text, strlen(text), "test.json", err);
    assert_true((st == NR_OK) == (j != NULL));
    json_decref(j);
    return st;
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          "{",       "{\"a\":}",  "{\"a\":1}x",      "[1,]",          "nul",       "\"\xff\"",
        "{'a':1}",   "[01]",    "[1e999]",   "[1",              "{\"a\" 1}",     "\"\\ud800\"", "[NaN]",
        "{\"a\":1,\"a\":2}", "[\"\\u0000\"]", "[123456789012345678901234567890]", "\"\n\"",
    };
    for (size_t i = 0; i < NR_COUNT(bad); i++) {
        nr_error err = {0};
        assert_int_equal(parse(bad[i], &err), NR_E_FORMAT);
        assert_true(strncmp(err.message, "test.json: not JSON: line ", 26) == 0);
    }
}

static void duplicate_keys_are_refused_at_any_depth(void **state)
{
    (void)state;
    nr_error err;
    assert_int_equal(parse("[{\"x\":{\"k\":1,\"j\":2,\"k\":3}}]", &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "duplicate"));
}

static void depth_is_limited(void **state)
{
    (void)state;
    nr_error err;
    char text[200];
    for (size_t depth = 63; depth <= 66; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = '\0';
        assert_int_equal(parse(text, &err), depth <= 64 ? NR_OK : NR_E_FORMAT);
    }
    assert_non_null(strstr(err.message, "at most 64 deep, found 66"));
    enum { MANY = 3000000 };
    char *deep = malloc(MANY + 1);
    memset(deep, '[', MANY);
    deep[MANY] = '\0';
    assert_int_equal(parse(deep, &err), NR_E_FORMAT);
    free(deep);
    /* Brackets in strings are no nesting. */
    char in_string[300] = "[\"\\\"";
    memset(in_string + 4, '[', 200);
    strcpy(in_string + 204, "\"]");
    assert_int_equal(parse(in_string, &err), NR_OK);
}

static void every_prefix_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2.5e3, \"x\\u00e9\\n\", true, null], \"b\": {\"c\": \"\xc3\xa9\"}}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        json_t *j;
        /* exact copy, so that a sanitizer sees a read past the end */
        char *copy = malloc(n ? n : 1);
        memcpy(copy, text, n);
        assert_int_equal(nr_json_parse(&j, copy, n, "prefix", NULL), NR_E_FORMAT);
        assert_null(j);
        free(copy);
    }
}

static void fields_are_checked(void **state)
{
    (void)state;
    nr_error err;
    json_t *j;
    const char *text = "{\"n\":7,\"neg\":-1,\"big\":9007199254740993,\"f\":0.5,\"s\":\"hi\",\"b\":true,\"z\":null,\"l\":[]}";
    assert_int_equal(nr_json_parse(&j, text, strlen(text), "o", &err), NR_OK);
    size_t n = 1;
    double f = 1;
    bool b = false;
    const char *s = "before";
    assert_int_equal(nr_json_size(j, "n", true, &n, "o", &err), NR_OK);
    assert_int_equal(n, 7);
    assert_int_equal(nr_json_size(j, "neg", true, &n, "o", &err), NR_E_FORMAT);
    assert_string_equal(err.message, "o: \"neg\": expected a whole number from 0 to 2^53, found -1");
    assert_int_equal(nr_json_size(j, "big", true, &n, "o", &err), NR_E_FORMAT);
    assert_int_equal(nr_json_size(j, "f", true, &n, "o", &err), NR_E_FORMAT);
    assert_string_equal(err.message, "o: \"f\": expected a whole number, found a fraction");
    assert_int_equal(nr_json_size(j, "z", false, &n, "o", &err), NR_OK);
    assert_int_equal(nr_json_size(j, "none", false, &n, "o", &err), NR_OK);
    assert_int_equal(n, 7);
    assert_int_equal(nr_json_size(j, "none", true, &n, "o", &err), NR_E_FORMAT);
    assert_string_equal(err.message, "o: \"none\": expected a whole number, found nothing");
    assert_int_equal(nr_json_double(j, "n", true, &f, "o", &err), NR_OK);
    assert_true(f == 7);
    assert_int_equal(nr_json_double(j, "s", true, &f, "o", &err), NR_E_FORMAT);
    assert_int_equal(nr_json_bool(j, "b", true, &b, "o", &err), NR_OK);
    assert_true(b);
    assert_int_equal(nr_json_bool(j, "n", true, &b, "o", &err), NR_E_FORMAT);
    assert_int_equal(nr_json_string(j, "s", true, &s, "o", &err), NR_OK);
    assert_string_equal(s, "hi");
    assert_int_equal(nr_json_string(j, "l", true, &s, "o", &err), NR_E_FORMAT);
    assert_string_equal(err.message, "o: \"l\": expected a string, found a list");
    assert_int_equal(nr_json_size(json_object_get(j, "l"), "x", false, &n, "o", &err), NR_E_FORMAT);
    assert_int_equal(nr_json_size(NULL, "x", false, &n, "o", &err), NR_E_FORMAT);
    json_decref(j);
}

static void saves_sorted_and_loads_back(void **state)
{
    (void)state;
    nr_error err;
    char folder[256];
    char *path = nr_path_join(testing_folder(folder), "x.json");
    static const char source[] = "{\"z\":1,\"a\":0.1,\"m\":[\"t\\\"\\n\\u0001\",[],{}],\"e\":1e-8,\"t\":0.3333333333333333,"
                                 "\"w\":3.0,\"big\":1e300,\"n\":null,\"\u00e9\":{\"b\":true,\"a\":-0.0}}";
    json_t *j, *back;
    assert_int_equal(nr_json_parse(&j, source, strlen(source), "source", &err), NR_OK);
    assert_int_equal(nr_json_save(j, path, &err), NR_OK);
    nr_map m;
    assert_int_equal(nr_map_open(&m, path, &err), NR_OK);
    static const char want[] = "{\n  \"a\": 0.1,\n  \"big\": 1e300,\n  \"e\": 1e-8,\n  \"m\": [\n    \"t\\\"\\n\\u0001\",\n"
                               "    [],\n    {}\n  ],\n  \"n\": null,\n  \"t\": 0.3333333333333333,\n  \"w\": 3.0,\n"
                               "  \"z\": 1,\n  \"\u00e9\": {\n    \"a\": -0.0,\n    \"b\": true\n  }\n}\n";
    assert_int_equal(m.size, sizeof want - 1);
    assert_memory_equal(m.data, want, m.size);
    nr_map_close(&m);
    assert_int_equal(nr_json_load(&back, path, &err), NR_OK);
    assert_true(json_equal(j, back));
    json_decref(j);
    json_decref(back);
    assert_int_equal(nr_remove_folder(folder, &err), NR_OK);
    assert_int_equal(nr_json_load(&back, path, &err), NR_E_IO);
    assert_null(back);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(duplicate_keys_are_refused_at_any_depth),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(fields_are_checked),
        cmocka_unit_test(saves_sorted_and_loads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
