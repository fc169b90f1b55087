/* Settings: every entry of the list round-trips, ranges hold, contradictions are refused. */
#include <locale.h>

#include "base/base.h"
#include "testing.h"

static nr_settings defaults(void)
{
    nr_settings s;
    nr_settings_default(&s);
    return s;
}

static void defaults_are_valid_and_stated(void **state)
{
    (void)state;
    nr_settings s = defaults();
    nr_error err;
    assert_int_equal(nr_settings_check(&s, &err), NR_OK);
    assert_int_equal(s.steps, 500);
    assert_true(s.adam_epsilon == 1e-8);
    assert_true(s.l1);
    assert_false(s.ce);
    assert_string_equal(s.text_field.s, "text");
    assert_string_equal(s.method.s, "neutral");
}

/* Whatever get prints, set takes, and nothing else changes. */
static void every_setting_round_trips(void **state)
{
    (void)state;
    nr_error err;
    char text[256], again[256];
    assert_true(nr_setting_count > 30);
    for (size_t i = 0; i < nr_setting_count; i++) {
        const nr_setting *w = &nr_setting_list[i];
        nr_settings s = defaults(), zero = defaults();
        nr_setting_get(&s, w, text, sizeof text);
        assert_int_equal(nr_settings_set(&zero, w->name, text, &err), NR_OK);
        assert_memory_equal(&s, &zero, sizeof s);
        nr_setting_get(&zero, w, again, sizeof again);
        assert_string_equal(text, again);
    }
}

static void names_take_dashes_and_underscores(void **state)
{
    (void)state;
    assert_non_null(nr_setting_find("batch-size"));
    assert_ptr_equal(nr_setting_find("batch-size"), nr_setting_find("batch_size"));
    assert_null(nr_setting_find("batch"));
    assert_null(nr_setting_find("batch_size_"));
    assert_null(nr_setting_find(""));
}

static void ranges_hold(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        bool good;
    } cases[] = {
        {"steps", "1", true},          {"steps", "0", false},           {"steps", "-1", false},
        {"steps", "1.5", false},       {"steps", "1e3", false},         {"steps", "", false},
        {"steps", " 7", false},        {"steps", "7 ", false},          {"steps", "99999999999999999999", false},
        {"steps", "+7", false},        {"steps", "0x10", false},        {"seed", "9007199254740992", true},
        {"seed", "9007199254740993", true}, /* compares as the double 2^53 */
        {"seed", "9007199254740994", false}, {"old-share", "0", true},  {"old-share", "1", true},
        {"old-share", "1.0000001", false}, {"old-share", "nan", false}, {"old-share", "inf", false},
        {"old-share", "0x1p-1", false}, {"old-share", ".5", true},      {"old-share", "5e-1", true},
        {"old-share", "0,5", false},   {"old-share", "-0.1", false},    {"old-share", "", false},
        {"old-share", "e", false},     {"ce", "true", true},            {"ce", "false", true},
        {"ce", "yes", false},          {"ce", "", false},               {"gate", "sigmoid", true},
        {"gate", "Sigmoid", false},    {"gate", "sig", false},          {"gate", "elu|relu", false},
        {"gate", "", false},           {"layers", "", false},           {"text-field", "a\nb", false},
        {"text-field", "\xff", false}, {"text-field", "texte \xc3\xa9", true}, {"extra", "0.001", false},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_settings s = defaults();
        nr_error err = {0};
        nr_status st = nr_settings_set(&s, cases[i].name, cases[i].value, &err);
        if ((st == NR_OK) != cases[i].good) fail_msg("--%s \"%s\": %s", cases[i].name, cases[i].value, err.message);
        if (st == NR_OK) continue;
        assert_int_equal(st, NR_E_USAGE);
        assert_non_null(strstr(err.message, cases[i].name));
        nr_settings untouched = defaults();
        assert_memory_equal(&s, &untouched, sizeof s);
    }
}

static void errors_say_what_was_expected(void **state)
{
    (void)state;
    nr_settings s = defaults();
    nr_error err;
    nr_settings_set(&s, "batch_size", "none", &err);
    assert_string_equal(err.message, "--batch-size: expected a whole number from 1 to 1e+06, found \"none\"");
    nr_settings_set(&s, "gate", "tanh", &err);
    assert_string_equal(err.message, "--gate: expected elu, relu, sigmoid or none, found \"tanh\"");
    nr_settings_set(&s, "bogus", "1", &err);
    assert_string_equal(err.message, "--bogus: there is no such setting");
}

static void text_length_is_limited(void **state)
{
    (void)state;
    char value[257];
    nr_settings s = defaults();
    memset(value, 'x', sizeof value);
    value[255] = '\0';
    assert_int_equal(nr_settings_set(&s, "text_field", value, NULL), NR_OK);
    assert_string_equal(s.text_field.s, value);
    value[255] = 'x';
    value[256] = '\0';
    assert_int_equal(nr_settings_set(&s, "text_field", value, NULL), NR_E_USAGE);
}

static void doubles_survive_text_in_any_locale(void **state)
{
    (void)state;
    static const double values[] = {0.1, 1.0 / 3, 1e-8, 123456.789, 5e-324 * 0 + 2e-5, 0.30000000000000004};
    char text[64];
    setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed: a decimal comma */
    for (size_t i = 0; i < NR_COUNT(values); i++) {
        nr_settings s = defaults(), back = defaults();
        s.alpha = values[i];
        nr_setting_get(&s, nr_setting_find("alpha"), text, sizeof text);
        assert_int_equal(nr_settings_set(&back, "alpha", text, NULL), NR_OK);
        assert_true(back.alpha == values[i]);
        assert_null(strchr(text, ','));
    }
    setlocale(LC_ALL, "C");
    nr_settings s = defaults();
    s.alpha = 0.1;
    nr_setting_get(&s, nr_setting_find("alpha"), text, sizeof text);
    assert_string_equal(text, "0.1");
}

static void json_round_trips(void **state)
{
    (void)state;
    nr_error err;
    nr_settings s = defaults(), back = defaults();
    assert_int_equal(nr_settings_set(&s, "gate", "sigmoid", &err), NR_OK);
    assert_int_equal(nr_settings_set(&s, "ce", "true", &err), NR_OK);
    assert_int_equal(nr_settings_set(&s, "steps", "123456789012", &err), NR_OK);
    assert_int_equal(nr_settings_set(&s, "alpha", "0.30000000000000004", &err), NR_OK);
    assert_int_equal(nr_settings_set(&s, "layers", "0-3,7", &err), NR_OK);
    json_t *j = nr_settings_to_json(&s, NULL);
    assert_int_equal(json_object_size(j), nr_setting_count);
    assert_int_equal(nr_settings_from_json(&back, j, "config.json", &err), NR_OK);
    assert_memory_equal(&s, &back, sizeof s);
    json_decref(j);
    j = nr_settings_to_json(&s, "method");
    assert_non_null(json_object_get(j, "gate"));
    assert_null(json_object_get(j, "steps"));
    json_decref(j);
}

static void json_is_refused_whole(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]", "{\"steps\": 5, \"stepz\": 1}", "{\"steps\": 5, \"gate\": 2}", "{\"steps\": 5, \"alpha\": \"1\"}",
        "{\"steps\": 0}", "{\"steps\": 5, \"ce\": 1}", "{\"steps\": 5.0}", "{\"steps\": 5, \"gate\": \"tanh\"}",
        "{\"steps\": 5, \"layers\": \"\"}", "{\"steps\": null}", "{\"steps\": -3}",
    };
    for (size_t i = 0; i < NR_COUNT(bad); i++) {
        nr_settings s = defaults(), before = defaults();
        nr_error err = {0};
        json_t *j;
        assert_int_equal(nr_json_parse(&j, bad[i], strlen(bad[i]), "x", &err), NR_OK);
        assert_int_equal(nr_settings_from_json(&s, j, "config.json", &err), NR_E_FORMAT);
        assert_int_equal(err.status, NR_E_FORMAT);
        assert_true(strncmp(err.message, "config.json: ", 13) == 0);
        assert_memory_equal(&s, &before, sizeof s);
        json_decref(j);
    }
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *set[3][2];
        const char *message; /* NULL: allowed */
    } cases[] = {
        {{{"steps", "5"}, {"warmup-steps", "6"}}, "--warmup-steps: expected at most the 5 of --steps, found 6"},
        {{{"steps", "5"}, {"warmup-steps", "5"}}, NULL},
        {{{"batch-size", "8"}, {"micro-batch-size", "3"}},
         "--micro-batch-size: expected a divisor of the 8 of --batch-size, found 3"},
        {{{"batch-size", "8"}, {"micro-batch-size", "4"}}, NULL},
        {{{"batch-size", "8"}, {"micro-batch-size", "16"}}, "--micro-batch-size: "},
        {{{"ce", "true"}}, "--ce: expected --gate sigmoid, whose output is a probability, found --gate elu"},
        {{{"ce", "true"}, {"gate", "sigmoid"}}, NULL},
        {{{"gate", "none"}, {"gate-bias", "true"}}, "--gate-bias: expected a gate to have it, found --gate none"},
        {{{"layers", "first"}}, "--layers: "},
        {{{"layers", "0-3,5"}}, NULL},
        {{{"lora-targets", "q,k,v,o,gate,up,down"}}, NULL},
        {{{"lora-targets", "q,q"}}, "--lora-targets: "},
        {{{"lora-targets", "q,"}}, "--lora-targets: "},
        {{{"lora-targets", "gates"}}, "--lora-targets: "},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_settings s = defaults();
        nr_error err = {0};
        for (size_t k = 0; k < 3 && cases[i].set[k][0]; k++)
            assert_int_equal(nr_settings_set(&s, cases[i].set[k][0], cases[i].set[k][1], &err), NR_OK);
        nr_status st = nr_settings_check(&s, &err);
        assert_int_equal(st, cases[i].message ? NR_E_USAGE : NR_OK);
        if (cases[i].message && strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("found: %s", err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_valid_and_stated),
        cmocka_unit_test(every_setting_round_trips),
        cmocka_unit_test(names_take_dashes_and_underscores),
        cmocka_unit_test(ranges_hold),
        cmocka_unit_test(errors_say_what_was_expected),
        cmocka_unit_test(text_length_is_limited),
        cmocka_unit_test(doubles_survive_text_in_any_locale),
        cmocka_unit_test(json_round_trips),
        cmocka_unit_test(json_is_refused_whole),
        cmocka_unit_test(contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
