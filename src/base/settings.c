/*
 * settings.c - settings as data: everything here is generated from NR_SETTINGS
 * in nres.h. Refuses unknown names, values of the wrong type or out of range,
 * and combinations that contradict each other.
 *
 * Numbers are read and written in the C locale whatever the program's is.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define TYPE_CHAR(type) (#type)[0]

const nr_setting nr_setting_list[] = {
#define NR_X(group, type, name, def, lo, hi, choices, arg, help) \
    {#group, #name, choices, arg, help, TYPE_CHAR(type), offsetof(nr_settings, name), lo, hi},
    NR_SETTINGS(NR_X)
#undef NR_X
};
const size_t nr_setting_count = NR_COUNT(nr_setting_list);

#define DEFAULT_U(field, def) field = def;
#define DEFAULT_F(field, def) field = def;
#define DEFAULT_B(field, def) field = def;
#define DEFAULT_E(field, def) field = def;
#define DEFAULT_S(field, def) snprintf(field.s, sizeof field.s, "%s", def);

void nr_settings_default(nr_settings *s)
{
    *s = (nr_settings){0};
#define NR_X(group, type, name, def, lo, hi, choices, arg, help) DEFAULT_##type(s->name, def)
    NR_SETTINGS(NR_X)
#undef NR_X
}

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b)) return false;
    return *a == *b;
}

const nr_setting *nr_setting_find(const char *name)
{
    for (size_t i = 0; i < nr_setting_count; i++)
        if (same_name(nr_setting_list[i].name, name)) return &nr_setting_list[i];
    return NULL;
}

/* ---- numbers in the C locale ---- */

static bool parse_double(const char *text, double *v)
{
    /* Digits only: strtod would also take nan, inf and hexadecimal. */
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", NULL);
    if (!c) return false;
    char *end;
    *v = strtod_l(text, &end, c);
    freelocale(c);
    return *end == '\0' && isfinite(*v);
}

static bool parse_size(const char *text, size_t *v)
{
    if (!*text || strspn(text, "0123456789") != strlen(text)) return false;
    errno = 0;
    unsigned long long n = strtoull(text, NULL, 10);
    *v = (size_t)n;
    return errno == 0 && *v == n;
}

/* The shortest text that reads back as the same double. */
static void print_double(char *buf, size_t size, double v)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", NULL);
    locale_t before = c ? uselocale(c) : (locale_t)0;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(buf, size, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) break;
    }
    if (c) {
        uselocale(before);
        freelocale(c);
    }
}

/* ---- one field ---- */

/* Number of the choice called `text` in "a|b|c", or -1. */
static int choice_find(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0; *choices; i++) {
        size_t len = strcspn(choices, "|");
        if (len == n && n > 0 && memcmp(choices, text, n) == 0) return i;
        choices += len + (choices[len] == '|');
    }
    return -1;
}

static void choice_copy(const char *choices, int which, char *buf, size_t size)
{
    for (; which > 0 && *choices; which--) {
        choices += strcspn(choices, "|");
        choices += *choices == '|';
    }
    snprintf(buf, size, "%.*s", (int)strcspn(choices, "|"), choices);
}

/* "a, b or c" */
static void choice_words(const char *choices, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = '\0';
    while (*choices && at < size) {
        size_t len = strcspn(choices, "|");
        bool last = choices[len] == '\0';
        const char *joint = at == 0 ? "" : last ? " or " : ", ";
        int n = snprintf(buf + at, size - at, "%s%.*s", joint, (int)len, choices);
        at += n > 0 ? (size_t)n : 0;
        choices += len + !last;
    }
}

static nr_status wrong_number(const nr_setting *w, const char *prefix, const char *kind, const char *value,
                              nr_error *err)
{
    char lo[32], hi[32];
    print_double(lo, sizeof lo, w->lo);
    print_double(hi, sizeof hi, w->hi);
    return nr_fail(err, NR_E_USAGE, "%s%s: expected %s from %s to %s, found \"%.200s\"", prefix, w->name, kind, lo, hi,
                   value);
}

static nr_status set_text(nr_text *field, const nr_setting *w, const char *prefix, const char *value, nr_error *err)
{
    size_t n = strlen(value);
    json_t *probe = json_string(value); /* NULL for bytes that aren't UTF-8 */
    bool valid = probe != NULL;
    json_decref(probe);
    for (size_t i = 0; i < n; i++) valid = valid && (unsigned char)value[i] >= 0x20;
    if (!valid || n == 0 || n >= sizeof field->s)
        return nr_fail(err, NR_E_USAGE, "%s%s: expected 1 to %zu bytes of printable UTF-8, found \"%.200s\"", prefix,
                       w->name, sizeof field->s - 1, value);
    memcpy(field->s, value, n + 1);
    return NR_OK;
}

/* prefix stands before the name in errors: "--" or "FILE: ". */
static nr_status set_field(nr_settings *s, const nr_setting *w, const char *prefix, const char *value, nr_error *err)
{
    char *field = (char *)s + w->offset;
    switch (w->type) {
    case 'U': {
        size_t v;
        if (!parse_size(value, &v) || (double)v < w->lo || (double)v > w->hi)
            return wrong_number(w, prefix, "a whole number", value, err);
        memcpy(field, &v, sizeof v);
        return NR_OK;
    }
    case 'F': {
        double v;
        if (!parse_double(value, &v) || v < w->lo || v > w->hi) return wrong_number(w, prefix, "a number", value, err);
        memcpy(field, &v, sizeof v);
        return NR_OK;
    }
    case 'B': {
        bool v = strcmp(value, "true") == 0;
        if (!v && strcmp(value, "false") != 0)
            return nr_fail(err, NR_E_USAGE, "%s%s: expected true or false, found \"%.200s\"", prefix, w->name, value);
        memcpy(field, &v, sizeof v);
        return NR_OK;
    }
    case 'E': {
        int v = choice_find(w->choices, value);
        if (v < 0) {
            char words[256];
            choice_words(w->choices, words, sizeof words);
            return nr_fail(err, NR_E_USAGE, "%s%s: expected %s, found \"%.200s\"", prefix, w->name, words, value);
        }
        memcpy(field, &v, sizeof v);
        return NR_OK;
    }
    default: return set_text((nr_text *)(void *)field, w, prefix, value, err);
    }
}

nr_status nr_settings_set(nr_settings *s, const char *name, const char *value, nr_error *err)
{
    const nr_setting *w = nr_setting_find(name);
    if (!w) return nr_fail(err, NR_E_USAGE, "--%.200s: there is no such setting", name);
    /* Errors name the flag as it is typed. */
    nr_setting flag = *w;
    char typed[64];
    snprintf(typed, sizeof typed, "%s", w->name);
    for (char *p = typed; *p; p++)
        if (*p == '_') *p = '-';
    flag.name = typed;
    return set_field(s, &flag, "--", value, err);
}

void nr_setting_get(const nr_settings *s, const nr_setting *w, char *buf, size_t size)
{
    const char *field = (const char *)s + w->offset;
    switch (w->type) {
    case 'U': {
        size_t v;
        memcpy(&v, field, sizeof v);
        snprintf(buf, size, "%zu", v);
        break;
    }
    case 'F': {
        double v;
        memcpy(&v, field, sizeof v);
        print_double(buf, size, v);
        break;
    }
    case 'B': {
        bool v;
        memcpy(&v, field, sizeof v);
        snprintf(buf, size, "%s", v ? "true" : "false");
        break;
    }
    case 'E': {
        int v;
        memcpy(&v, field, sizeof v);
        choice_copy(w->choices, v, buf, size);
        break;
    }
    default: snprintf(buf, size, "%s", ((const nr_text *)(const void *)field)->s);
    }
}

/* ---- JSON ---- */

static json_t *value_to_json(const nr_settings *s, const nr_setting *w)
{
    char text[sizeof(nr_text)];
    size_t u;
    double f;
    switch (w->type) {
    case 'U': memcpy(&u, (const char *)s + w->offset, sizeof u); return json_integer((json_int_t)u);
    case 'F': memcpy(&f, (const char *)s + w->offset, sizeof f); return json_real(f);
    default:
        nr_setting_get(s, w, text, sizeof text);
        return w->type == 'B' ? json_boolean(strcmp(text, "true") == 0) : json_string(text);
    }
}

json_t *nr_settings_to_json(const nr_settings *s, const char *group)
{
    json_t *o = json_object();
    for (size_t i = 0; o && i < nr_setting_count; i++) {
        const nr_setting *w = &nr_setting_list[i];
        if (group && strcmp(group, w->group) != 0) continue;
        if (json_object_set_new(o, w->name, value_to_json(s, w)) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

/* The JSON value as the text that set_field takes; NULL for a wrong kind. */
static const char *json_to_text(const json_t *v, char type, char *buf, size_t size)
{
    if (type == 'U' && json_is_integer(v)) {
        snprintf(buf, size, "%lld", (long long)json_integer_value(v));
        return buf;
    }
    if (type == 'F' && json_is_number(v)) {
        print_double(buf, size, json_number_value(v));
        return buf;
    }
    if (type == 'B' && json_is_boolean(v)) return json_is_true(v) ? "true" : "false";
    if ((type == 'E' || type == 'S') && json_is_string(v)) return json_string_value(v);
    return NULL;
}

static const char *kind_wanted(char type)
{
    return type == 'U' ? "a whole number" : type == 'F' ? "a number" : type == 'B' ? "true or false" : "a string";
}

nr_status nr_settings_from_json(nr_settings *s, const json_t *j, const char *where, nr_error *err)
{
    if (!json_is_object(j)) return nr_fail(err, NR_E_FORMAT, "%s: expected an object of settings", where);
    nr_settings next = *s; /* all or nothing */
    char prefix[512], buf[64];
    snprintf(prefix, sizeof prefix, "%.500s: ", where);
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)j, key, v)
    {
        const nr_setting *w = nr_setting_find(key);
        if (!w) return nr_fail(err, NR_E_FORMAT, "%s: \"%.200s\": there is no such setting", where, key);
        const char *text = json_to_text(v, w->type, buf, sizeof buf);
        if (!text) return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected %s", where, key, kind_wanted(w->type));
        if (set_field(&next, w, prefix, text, err) != NR_OK) {
            if (err) err->status = NR_E_FORMAT;
            return NR_E_FORMAT;
        }
    }
    *s = next;
    return NR_OK;
}

/* ---- combinations ---- */

/* Every word of the list is one of LoRA's matrices, none twice. */
static nr_status check_targets(const char *list, nr_error *err)
{
    static const char choices[] = "q|k|v|o|gate|up|down";
    unsigned seen = 0;
    for (const char *p = list;; p++) {
        char word[16];
        size_t n = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)NR_MIN(n, sizeof word - 1), p);
        int which = choice_find(choices, word);
        if (which < 0 || seen & 1u << which)
            return nr_fail(err, NR_E_USAGE, "--lora-targets: expected a list of q,k,v,o,gate,up,down, each once, found \"%s\"",
                           list);
        seen |= 1u << which;
        p += n;
        if (!*p) return NR_OK;
    }
}

/* "all", or numbers and ranges; whether the model has such layers is checked where it is known. */
static nr_status check_layers(const char *list, nr_error *err)
{
    if (strcmp(list, "all") == 0 || strspn(list, "0123456789,-") == strlen(list)) return NR_OK;
    return nr_fail(err, NR_E_USAGE, "--layers: expected all or a list such as 0-9,20,29, found \"%s\"", list);
}

nr_status nr_settings_check(const nr_settings *s, nr_error *err)
{
    if (s->warmup_steps > s->steps)
        return nr_fail(err, NR_E_USAGE, "--warmup-steps: expected at most the %zu of --steps, found %zu", s->steps,
                       s->warmup_steps);
    if (s->micro_batch_size > 0 && s->batch_size % s->micro_batch_size != 0)
        return nr_fail(err, NR_E_USAGE, "--micro-batch-size: expected a divisor of the %zu of --batch-size, found %zu",
                       s->batch_size, s->micro_batch_size);
    char gate[32];
    nr_setting_get(s, nr_setting_find("gate"), gate, sizeof gate);
    if (s->ce && strcmp(gate, "sigmoid") != 0)
        return nr_fail(err, NR_E_USAGE, "--ce: expected --gate sigmoid, whose output is a probability, found --gate %s",
                       gate);
    if (s->gate_bias && strcmp(gate, "none") == 0)
        return nr_fail(err, NR_E_USAGE, "--gate-bias: expected a gate to have it, found --gate none");
    NR_TRY(check_layers(s->layers.s, err));
    return check_targets(s->lora_targets.s, err);
}
