/*
 * json.c - jansson with our errors and limits. Refuses duplicate keys, nesting
 * deeper than MAX_DEPTH (a parser that recurses must not be led off its
 * stack), files larger than MAX_BYTES, and fields of the wrong kind or range.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define MAX_DEPTH 64
#define MAX_BYTES ((size_t)512 << 20)
#define MAX_EXACT 9007199254740992 /* 2^53: what every JSON reader keeps exactly */

/* Deepest nesting of brackets outside strings. */
static size_t depth_of(const char *text, size_t n)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = NR_MAX(deepest, depth);
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

nr_status nr_json_parse(json_t **out, const char *text, size_t n, const char *where, nr_error *err)
{
    *out = NULL;
    if (n > MAX_BYTES)
        return nr_fail(err, NR_E_FORMAT, "%s: expected at most %zu bytes of JSON, found %zu", where, MAX_BYTES, n);
    size_t depth = depth_of(text, n);
    if (depth > MAX_DEPTH)
        return nr_fail(err, NR_E_FORMAT, "%s: expected JSON nested at most %d deep, found %zu", where, MAX_DEPTH,
                       depth);
    json_error_t e;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (*out) return NR_OK;
    /* Where jansson runs out of memory it mostly says nothing at all. */
    if (json_error_code(&e) == json_error_out_of_memory || !*e.text)
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory reading %zu bytes of JSON", where, n);
    return nr_fail(err, NR_E_FORMAT, "%s: not JSON: line %d, column %d: %s", where, e.line, e.column, e.text);
}

nr_status nr_json_load(json_t **out, const char *path, nr_error *err)
{
    nr_map m;
    *out = NULL;
    NR_TRY(nr_map_open(&m, path, err));
    nr_status st = nr_json_parse(out, (const char *)m.data, m.size, path, err);
    nr_map_close(&m);
    return st;
}

/* ---- writing ---- */

static int add_text(const char *text, size_t n, void *buffer)
{
    nr_buffer *b = buffer;
    nr_buffer_add(b, text, n);
    return b->failed ? -1 : 0;
}

/* A string, number or word. A fraction gets the fewest digits that read back
 * as the same double: 0.1, not 0.10000000000000001. */
static void write_leaf(nr_buffer *b, const json_t *j)
{
    size_t digits = 1;
    char text[64];
    double v = json_real_value(j);
    for (; json_is_real(j) && digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", (int)digits, v);
        if (strtod(text, NULL) == v) break;
    }
    if (json_dump_callback(j, add_text, b, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits)) != 0) b->failed = true;
}

static void new_line(nr_buffer *b, int depth)
{
    nr_buffer_printf(b, "\n%*s", 2 * depth, "");
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_value(nr_buffer *b, const json_t *j, int depth);

static void write_object(nr_buffer *b, const json_t *j, int depth)
{
    size_t n = json_object_size(j), i = 0;
    const char **keys = malloc((n ? n : 1) * sizeof *keys), *key;
    json_t *v, *o = (json_t *)(uintptr_t)j; /* jansson's iterators take no const */
    if (!keys) {
        b->failed = true;
        return;
    }
    json_object_foreach(o, key, v) keys[i++] = key;
    qsort(keys, n, sizeof *keys, compare_keys);
    nr_buffer_text(b, "{");
    for (i = 0; i < n && !b->failed; i++) {
        if (i > 0) nr_buffer_text(b, ",");
        new_line(b, depth + 1);
        json_t *name = json_string(keys[i]);
        if (name)
            write_leaf(b, name);
        else
            b->failed = true;
        json_decref(name);
        nr_buffer_text(b, ": ");
        write_value(b, json_object_get(j, keys[i]), depth + 1);
    }
    free(keys);
    if (n > 0) new_line(b, depth);
    nr_buffer_text(b, "}");
}

static void write_array(nr_buffer *b, const json_t *j, int depth)
{
    size_t n = json_array_size(j);
    nr_buffer_text(b, "[");
    for (size_t i = 0; i < n && !b->failed; i++) {
        if (i > 0) nr_buffer_text(b, ",");
        new_line(b, depth + 1);
        write_value(b, json_array_get(j, i), depth + 1);
    }
    if (n > 0) new_line(b, depth);
    nr_buffer_text(b, "]");
}

static void write_value(nr_buffer *b, const json_t *j, int depth)
{
    if (json_is_object(j))
        write_object(b, j, depth);
    else if (json_is_array(j))
        write_array(b, j, depth);
    else
        write_leaf(b, j);
}

/* Our own writer rather than jansson's, for the digits and because sorted
 * output of jansson 2.14 loses bytes unnoticed when its buffer can't grow. */
nr_status nr_json_save(const json_t *j, const char *path, nr_error *err)
{
    nr_buffer b = {0};
    write_value(&b, j, 0);
    nr_buffer_text(&b, "\n");
    nr_status st = b.failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory writing JSON", path)
                            : nr_write_file(path, b.data, b.size, err);
    nr_buffer_free(&b);
    return st;
}

/* ---- fields ---- */

static const char *kind_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    case JSON_NULL: return "null";
    }
    return "something unknown";
}

/* The field, NULL when it is absent or null. A missing required one is an error. */
static nr_status field(const json_t **v, const json_t *o, const char *key, bool required, const char *want,
                       const char *where, nr_error *err)
{
    *v = NULL;
    if (!json_is_object(o))
        return nr_fail(err, NR_E_FORMAT, "%s: expected an object with \"%s\", found %s", where, key,
                       o ? kind_of(o) : "nothing");
    const json_t *found = json_object_get(o, key);
    if (found && !json_is_null(found))
        *v = found;
    else if (required)
        return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected %s, found %s", where, key, want,
                       found ? "null" : "nothing");
    return NR_OK;
}

static nr_status wrong_kind(const json_t *v, const char *key, const char *want, const char *where, nr_error *err)
{
    return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected %s, found %s", where, key, want, kind_of(v));
}

nr_status nr_json_size(const json_t *o, const char *key, bool required, size_t *v, const char *where, nr_error *err)
{
    const json_t *found;
    const char *want = "a whole number";
    NR_TRY(field(&found, o, key, required, want, where, err));
    if (!found) return NR_OK;
    if (!json_is_integer(found)) return wrong_kind(found, key, want, where, err);
    json_int_t i = json_integer_value(found);
    if (i < 0 || i > MAX_EXACT)
        return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected a whole number from 0 to 2^53, found %lld", where, key,
                       (long long)i);
    *v = (size_t)i;
    return NR_OK;
}

nr_status nr_json_double(const json_t *o, const char *key, bool required, double *v, const char *where, nr_error *err)
{
    const json_t *found;
    NR_TRY(field(&found, o, key, required, "a number", where, err));
    if (!found) return NR_OK;
    if (!json_is_number(found)) return wrong_kind(found, key, "a number", where, err);
    *v = json_number_value(found);
    return NR_OK;
}

nr_status nr_json_bool(const json_t *o, const char *key, bool required, bool *v, const char *where, nr_error *err)
{
    const json_t *found;
    NR_TRY(field(&found, o, key, required, "true or false", where, err));
    if (!found) return NR_OK;
    if (!json_is_boolean(found)) return wrong_kind(found, key, "true or false", where, err);
    *v = json_is_true(found);
    return NR_OK;
}

nr_status nr_json_string(const json_t *o, const char *key, bool required, const char **v, const char *where,
                         nr_error *err)
{
    const json_t *found;
    NR_TRY(field(&found, o, key, required, "a string", where, err));
    if (!found) return NR_OK;
    if (!json_is_string(found)) return wrong_kind(found, key, "a string", where, err);
    *v = json_string_value(found);
    return NR_OK;
}
