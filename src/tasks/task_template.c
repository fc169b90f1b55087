/*
 * task_template.c - texts with places that are filled from a row.
 *
 *   place:  {{ name step... ? | filter | filter }}
 *   step:   .key  or  [index]
 *
 * "lettered" stands before all other filters, in a place that is all of its
 * template: a text "A. one\nB. two" is a list from there on.
 *
 * Refuses places that aren't closed, unknown filters, names that are missing,
 * and values that are neither text nor whole numbers: one line that shows the
 * place. A single brace is text.
 */
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

#define MAX_TEMPLATE ((size_t)64 << 10)
#define MAX_RESULT ((size_t)16 << 20)
enum { MAX_STEPS = 8, MAX_FILTERS = 8 };

typedef struct {
    const char *text;      /* of a name or key */
    size_t size, index;    /* index: text NULL */
} step;

typedef struct {
    const char *text;      /* "{{...}}" */
    size_t size;
    step steps[MAX_STEPS];
    size_t step_count;
    bool optional, lettered;
    nr_text_filter filters[MAX_FILTERS];
    size_t filter_count;
} place;

/* ---- reading a place ---- */

static nr_status refuse(const place *p, const char *why, const char *where, nr_error *err)
{
    return nr_fail(err, NR_E_FORMAT, "%s: \"%.*s\": %s", where, (int)NR_MIN(p->size, (size_t)80), p->text, why);
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || (unsigned char)c >= 0x80;
}

static const char *skip(const char *s, const char *end)
{
    while (s < end && *s == ' ') s++;
    return s;
}

/* A name or a key at s; NULL: there is none. */
static const char *read_name(step *to, const char *s, const char *end)
{
    const char *begin = s;
    while (s < end && is_name(*s)) s++;
    *to = (step){begin, (size_t)(s - begin), 0};
    return s > begin ? s : NULL;
}

/* [index] at s; NULL: it isn't one. */
static const char *read_index(step *to, const char *s, const char *end)
{
    const char *begin = ++s;
    *to = (step){0};
    while (s < end && *s >= '0' && *s <= '9' && s - begin < 6) to->index = to->index * 10 + (size_t)(*s++ - '0');
    return s > begin && s < end && *s == ']' ? s + 1 : NULL;
}

/* "| lettered" at s; s: it isn't there. */
static const char *read_lettered(place *p, const char *s, const char *end)
{
    step name;
    const char *next = s < end && *s == '|' ? read_name(&name, skip(s + 1, end), end) : NULL;
    p->lettered = next && name.size == 8 && memcmp(name.text, "lettered", 8) == 0;
    return p->lettered ? skip(next, end) : s;
}

static nr_status read_filters(place *p, const char *s, const char *end, const char *where, nr_error *err)
{
    char why[160];
    s = read_lettered(p, s, end);
    while (s < end && *s == '|') {
        step name;
        const char *next = read_name(&name, skip(s + 1, end), end);
        nr_text_filter f = next ? nr_text_filter_find(name.text, name.size) : NULL;
        snprintf(why, sizeof why, "expected a filter (%s) behind \"|\"", nr_text_filter_names());
        if (!f) return refuse(p, why, where, err);
        if (p->filter_count == MAX_FILTERS) return refuse(p, "expected fewer filters", where, err);
        p->filters[p->filter_count++] = f;
        s = skip(next, end);
    }
    return s == end ? NR_OK : refuse(p, "expected a name, steps such as .key or [0], and filters behind \"|\"", where, err);
}

/* The place that begins at text. */
static nr_status read_place(place *p, const char *text, const char *where, nr_error *err)
{
    const char *close = strstr(text, "}}");
    *p = (place){.text = text, .size = close ? (size_t)(close + 2 - text) : strlen(text)};
    if (!close) return refuse(p, "expected \"}}\" behind it, found none", where, err);
    const char *s = read_name(&p->steps[0], skip(text + 2, close), close);
    if (!s) return refuse(p, "expected a name", where, err);
    p->step_count = 1;
    while (s && s < close && (*s == '.' || *s == '[')) {
        if (p->step_count == MAX_STEPS) return refuse(p, "expected fewer steps", where, err);
        step *to = &p->steps[p->step_count++];
        s = *s == '.' ? read_name(to, s + 1, close) : read_index(to, s, close);
    }
    if (!s) return refuse(p, "expected .key or [index]", where, err);
    if (s < close && *s == '?') p->optional = true, s++;
    return read_filters(p, skip(s, close), close, where, err);
}

static bool is_all(const place *p, const char *template) { return p->text == template && !template[p->size]; }

nr_status nr_task_template_check(const char *text, const char *where, nr_error *err)
{
    place p;
    if (strlen(text) > MAX_TEMPLATE)
        return nr_fail(err, NR_E_FORMAT, "%s: expected a template of at most %zu bytes, found %zu", where, MAX_TEMPLATE, strlen(text));
    for (const char *s = strstr(text, "{{"); s; s = strstr(s, "{{")) {
        NR_TRY(read_place(&p, s, where, err));
        if (p.lettered && !is_all(&p, text)) return refuse(&p, "expected it to be all of its template", where, err);
        s += p.size;
    }
    return NR_OK;
}

/* ---- filling it ---- */

static nr_status missing(const place *p, const json_t *values, const char *where, nr_error *err)
{
    nr_buffer names = {0};
    const char *key;
    json_t *v, *o = (json_t *)(uintptr_t)values; /* jansson's iterators take no const */
    if (json_is_object(values)) json_object_foreach(o, key, v) nr_buffer_printf(&names, "%s%s", names.size ? ", " : "", key);
    nr_status st = nr_fail(err, NR_E_FORMAT, "%s: \"%.*s\": expected such a value, found none (there are: %.200s)", where,
                           (int)NR_MIN(p->size, (size_t)80), p->text, names.data ? names.data : "none");
    nr_buffer_free(&names);
    return st;
}

static const json_t *find(const place *p, const json_t *values)
{
    const json_t *v = values;
    for (size_t i = 0; i < p->step_count && v; i++) {
        const step *s = &p->steps[i];
        v = s->text ? json_object_getn(v, s->text, s->size) : json_array_get(v, s->index);
    }
    return v && !json_is_null(v) ? v : NULL;
}

/* A text or whole number through the filters. */
static nr_status add_leaf(nr_buffer *out, const place *p, const json_t *v, const char *where, nr_error *err)
{
    nr_buffer now = {0};
    if (json_is_string(v)) nr_buffer_add(&now, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v)) nr_buffer_printf(&now, "%lld", (long long)json_integer_value(v));
    else return refuse(p, "expected text or a whole number", where, err);
    for (size_t i = 0; i < p->filter_count; i++) {
        nr_buffer next = {0};
        p->filters[i](&next, now.data ? now.data : "", now.size);
        next.failed = next.failed || now.failed;
        nr_buffer_free(&now);
        now = next;
    }
    if (now.failed) out->failed = true;
    nr_buffer_add(out, now.data, now.size);
    nr_buffer_free(&now);
    if (out->size > MAX_RESULT) return refuse(p, "expected less text", where, err);
    return NR_OK;
}

static nr_status take(json_t **out, nr_buffer *b, const char *where, nr_error *err)
{
    if (!b->failed) *out = json_stringn(b->data ? b->data : "", b->size);
    nr_buffer_free(b);
    return *out ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory filling a template", where);
}

static nr_status render_list(json_t **out, const place *p, const json_t *list, const char *where, nr_error *err)
{
    nr_status st = NR_OK;
    json_t *made = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        nr_buffer b = {0};
        json_t *text = NULL;
        st = add_leaf(&b, p, json_array_get(list, i), where, err);
        if (st == NR_OK) st = take(&text, &b, where, err);
        else nr_buffer_free(&b);
        if (st == NR_OK && json_array_append_new(made, text) != 0) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", where);
        if (st != NR_OK) break;
    }
    if (st == NR_OK) *out = made;
    else json_decref(made);
    return st;
}

/* The choices of a text, each behind "A. ", "B. " ... at the start of a line. */
static nr_status render_lettered(json_t **out, const place *p, const json_t *v, const char *where, nr_error *err)
{
    json_t *list = json_is_string(v) ? nr_text_lettered(json_string_value(v), json_string_length(v)) : NULL;
    nr_status st = list ? render_list(out, p, list, where, err) : refuse(p, "expected lines \"A. \", \"B. \" and so on", where, err);
    json_decref(list);
    return st;
}

/* Text up to the next place, or to the end. */
static const char *add_text(nr_buffer *out, const char *s)
{
    const char *next = strstr(s, "{{");
    nr_buffer_add(out, s, next ? (size_t)(next - s) : strlen(s));
    return next;
}

nr_status nr_task_template_render(json_t **out, const char *text, const json_t *values, const char *where, nr_error *err)
{
    nr_buffer b = {0};
    place p;
    nr_status st = NR_OK;
    *out = NULL;
    for (const char *s = add_text(&b, text); s && st == NR_OK; s = add_text(&b, s + p.size)) {
        st = read_place(&p, s, where, err);
        if (st != NR_OK) break;
        const json_t *v = find(&p, values);
        if (v && is_all(&p, text) && (json_is_array(v) || p.lettered)) {
            nr_buffer_free(&b);
            return p.lettered ? render_lettered(out, &p, v, where, err) : render_list(out, &p, v, where, err);
        }
        if (p.lettered) st = refuse(&p, "expected it to be all of its template", where, err);
        else if (v) st = add_leaf(&b, &p, v, where, err);
        else if (!p.optional) st = missing(&p, values, where, err);
    }
    if (st == NR_OK) return take(out, &b, where, err);
    nr_buffer_free(&b);
    return st;
}
