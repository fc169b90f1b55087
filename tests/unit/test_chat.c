/* test_chat.c - chat templates against Jinja's own output, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer/tokenizer.h"

static void golden(void **state)
{
    (void)state;
    nr_error err;
    json_t *j, *c;
    size_t i, refused = 0;
    assert_int_equal(nr_json_load(&j, NRES_FIXTURES "/tokenizer/chat.json", &err), NR_OK);
    json_t *cases = json_object_get(j, "cases");
    assert_true(json_array_size(cases) > 100);
    json_array_foreach(cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        const char *template = json_string_value(json_object_get(json_object_get(j, "templates"), name));
        const char *want = json_string_value(json_object_get(c, "text"));
        char *found;
        nr_status st = nr_chat_render(&found, template, "<s>", "</s>", json_string_value(json_object_get(c, "system")),
                                      json_string_value(json_object_get(c, "user")), "test", &err);
        if (st != NR_OK && want) print_error("%s: %s\n", name, err.message);
        assert_int_equal(st, want ? NR_OK : NR_E_UNSUPPORTED);
        if (!want) refused++;
        else if (strcmp(found, want)) print_error("%s, case %zu\n", name, i);
        if (want) assert_string_equal(found, want);
        else assert_null(found);
        free(found);
    }
    assert_true(refused > 0);
    json_decref(j);
}

static void families(void **state)
{
    (void)state;
    char *text;
    nr_error err;
    assert_int_equal(nr_chat_apply(&text, "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]{{ eos_token }}", NULL, "a", "t", &err), NR_OK);
    assert_string_equal(text, "<s>[INST] a [/INST]</s>");
    free(text);
    assert_int_equal(nr_chat_apply(&text, "{{ bos_token }}<|start_header_id|>", NULL, "a", "t", &err), NR_OK);
    assert_string_equal(text, "<|begin_of_text|><|start_header_id|>");
    free(text);
    assert_int_equal(nr_chat_apply(&text, "{{ bos_token }}: {{ messages[0].content }}", NULL, "a", "t", &err), NR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "{{ bos_token }}: {{ messages[0].content }}"));
    assert_int_equal(nr_chat_apply(&text, NULL, NULL, "a", "t", &err), NR_E_UNSUPPORTED);
    assert_null(text);
}

/* Each is refused in one line that holds the text that wasn't understood. */
static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *template, *names;
    } cases[] = {
        {"{{ strftime_now('%d') }}", "strftime_now"},
        {"{{ messages | tojson }}", "tojson"},
        {"{% for a, b in messages %}{% endfor %}", "for a, b in messages"},
        {"{% for a in messages if a %}{% endfor %}", "messages if a"},
        {"{% include 'x' %}", "include"},
        {"{% if true %}", "if true"},
        {"{% endif %}", "endif"},
        {"{% if true %}{% endfor %}", "endfor"},
        {"{{ 'x }}", "'x }}"},
        {"{{ 1 + 'x' }}", "1 + 'x'"},
        {"{{ messages[0].content.split('x') }}", "split"},
        {"{{ messages }}", "messages"},
        {"{{ undefined.field }}", "undefined.field"},
        {"{{ ((((((((((((((((((((((((((((((((((((((((((((1)))))))))))))))))))))))))))))))))))))))))))) }}", "(((("},
        {"{{ raise_exception('no ' + 'way') }}", "no way"},
        {"{% set a = 1, b %}", "1, b"},
        {"{{ 1 % 0 }}", "1 % 0"},
        {"{{ 'a' < 'b' }}", "'a' < 'b'"},
        {"{{ x is odd }}", "x is odd"},
        {"{{ 99999999999999999999 }}", "9999"},
        {"{{ }}", ""},
        {"{{ 'a\n\tb' | frob }}", "'a  b' | frob"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_error err;
        char *text;
        nr_status st = nr_chat_render(&text, cases[i].template, NULL, NULL, NULL, "u", "file", &err);
        if (st == NR_OK) print_error("taken: %s\n", cases[i].template);
        assert_int_equal(st, NR_E_UNSUPPORTED);
        assert_null(text);
        if (!strstr(err.message, cases[i].names)) print_error("%s\n", err.message);
        assert_non_null(strstr(err.message, cases[i].names));
        assert_null(strchr(err.message, '\n'));
        assert_int_equal(strncmp(err.message, "file: ", 6), 0);
    }
}

/* Loops in loops, and strings that double, end at a cap. */
static void bounded(void **state)
{
    (void)state;
    nr_error err;
    char *text;
    nr_buffer b = {0};
    for (int i = 0; i < 12; i++) nr_buffer_text(&b, "{% for a in ['','','','','','','',''] %}");
    for (int i = 0; i < 12; i++) nr_buffer_text(&b, "{% endfor %}");
    assert_int_equal(nr_chat_render(&text, b.data, NULL, NULL, NULL, "u", "t", &err), NR_E_UNSUPPORTED);
    nr_buffer_free(&b);
    nr_buffer_text(&b, "{% set a = '0123456789abcdef' %}");
    for (int i = 0; i < 40; i++) nr_buffer_text(&b, "{% set a = a + a %}");
    assert_int_equal(nr_chat_render(&text, b.data, NULL, NULL, NULL, "u", "t", &err), NR_E_UNSUPPORTED);
    nr_buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(families), cmocka_unit_test(refused), cmocka_unit_test(bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
