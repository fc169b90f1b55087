/*
 * flow_counts.c - counts added up, and as JSON: a flow stores them with its
 * state, so that one that was interrupted ends with the same counts.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/flow_counts.h"

void nr_counts_free(nr_counts *c)
{
    free(c->languages);
    *c = (nr_counts){0};
}

void nr_counts_language(nr_counts *c, const char *name, uint64_t documents, uint64_t paragraphs, uint64_t bytes)
{
    size_t i = 0;
    while (i < c->language_count && strcmp(c->languages[i].name, name) < 0) i++;
    if (i == c->language_count || strcmp(c->languages[i].name, name) != 0) {
        nr_language_count *more = realloc(c->languages, (c->language_count + 1) * sizeof *more);
        if (!more) {
            c->failed = true;
            return;
        }
        memmove(more + i + 1, more + i, (c->language_count - i) * sizeof *more);
        more[i] = (nr_language_count){0};
        snprintf(more[i].name, sizeof more[i].name, "%s", name);
        c->languages = more;
        c->language_count++;
    }
    c->languages[i].documents += documents;
    c->languages[i].paragraphs += paragraphs;
    c->languages[i].bytes += bytes;
}

void nr_counts_forget_read(nr_counts *c)
{
#define NR_X(step, name, text) \
    if (strcmp(#step, "read") == 0) c->v.step##_##name = 0;
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
}

void nr_counts_add(nr_counts *to, const nr_counts *from)
{
#define NR_X(step, name, text) to->v.step##_##name += from->v.step##_##name;
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
    for (size_t i = 0; i < from->language_count; i++) {
        const nr_language_count *l = &from->languages[i];
        nr_counts_language(to, l->name, l->documents, l->paragraphs, l->bytes);
    }
    to->failed |= from->failed;
}

static void put(json_t *all, const char *step, const char *name, uint64_t value)
{
    json_t *o = json_object_get(all, step);
    if (!o) {
        o = json_object();
        json_object_set_new(all, step, o);
    }
    json_object_set_new(o, name, json_integer((json_int_t)value));
}

json_t *nr_counts_to_json(const nr_counts *c)
{
    json_t *all = json_object(), *languages = json_object();
#define NR_X(step, name, text) put(all, #step, #name, c->v.step##_##name);
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
    for (size_t i = 0; i < c->language_count; i++) {
        const nr_language_count *l = &c->languages[i];
        put(languages, l->name, "documents", l->documents);
        put(languages, l->name, "paragraphs", l->paragraphs);
        put(languages, l->name, "bytes", l->bytes);
    }
    json_object_set_new(json_object_get(all, "language"), "languages", languages);
    return all;
}

static nr_status get(uint64_t *value, const json_t *all, const char *step, const char *name, const char *where, nr_error *err)
{
    size_t v = 0;
    NR_TRY(nr_json_size(json_object_get(all, step), name, true, &v, where, err));
    *value = v;
    return NR_OK;
}

nr_status nr_counts_from_json(nr_counts *c, const json_t *j, const char *where, nr_error *err)
{
    *c = (nr_counts){0};
#define NR_X(step, name, text) NR_TRY(get(&c->v.step##_##name, j, #step, #name, where, err));
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
    const char *name;
    json_t *o, *languages = json_object_get(json_object_get(j, "language"), "languages");
    json_object_foreach(languages, name, o)
    {
        uint64_t v[3] = {0};
        NR_TRY(get(&v[0], languages, name, "documents", where, err));
        NR_TRY(get(&v[1], languages, name, "paragraphs", where, err));
        NR_TRY(get(&v[2], languages, name, "bytes", where, err));
        nr_counts_language(c, name, v[0], v[1], v[2]);
    }
    return c->failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory for counts", where) : NR_OK;
}

uint64_t nr_paragraph_count(const char *s, size_t n)
{
    if (n == 0) return 0;
    uint64_t count = 1;
    for (const char *p = s, *end = s + n; (p = memmem(p, (size_t)(end - p), "\n\n", 2)); p += 2) count++;
    return count;
}
