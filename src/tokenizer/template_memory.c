/*
 * template_memory.c - the memory behind a chat template's values: everything that
 * is taken stands in one list, of bounded size, until the template is closed.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/template.h"

void nr_template_refuse(nr_template *t, const char *why, const char *text, size_t n)
{
    if (t->st != NR_OK) return;
    char shown[64];
    size_t m = 0;
    for (size_t i = 0; i < n && m < 60; i++) shown[m++] = (unsigned char)text[i] < 32 ? ' ' : text[i];
    shown[m] = 0;
    t->st = nr_fail(t->err, NR_E_UNSUPPORTED, "%s: chat template %s: \"%s\"", t->where, why, shown);
}

void *nr_template_take(nr_template *t, size_t count, size_t size)
{
    void *p = NULL;
    size_t bytes;
    if (t->st != NR_OK) return NULL;
    if (nr_mul_overflows(count, size, &bytes) || bytes > NR_TEMPLATE_BYTES - t->taken_bytes) {
        nr_template_refuse(t, "takes too much memory", "", 0);
        return NULL;
    }
    if (t->taken_count == t->taken_cap) {
        size_t cap = t->taken_cap ? 2 * t->taken_cap : 64;
        void **more = realloc(t->taken, cap * sizeof *more);
        if (!more) {
            t->st = nr_fail(t->err, NR_E_MEMORY, "%s: chat template: out of memory", t->where);
            return NULL;
        }
        t->taken = more;
        t->taken_cap = cap;
    }
    t->st = nr_alloc(&p, count, size, "chat template", t->err);
    if (t->st != NR_OK) return NULL;
    t->taken[t->taken_count++] = p;
    t->taken_bytes += bytes;
    return p;
}

nr_value nr_template_string(nr_template *t, const char *text, size_t n)
{
    char *copy = nr_template_take(t, n + 1, 1);
    if (!copy) return (nr_value){.kind = NR_V_STRING, .text = ""};
    memcpy(copy, text, n);
    return (nr_value){.kind = NR_V_STRING, .text = copy, .size = n};
}

nr_record *nr_record_new(nr_template *t)
{
    return nr_template_take(t, 1, sizeof(nr_record));
}

void nr_record_set(nr_template *t, nr_record *r, const char *name, nr_value v)
{
    size_t i = 0;
    if (t->st != NR_OK) return;
    while (i < r->count && strcmp(r->names[i], name) != 0) i++;
    if (i == NR_RECORD_FIELDS) {
        nr_template_refuse(t, "sets too many fields, the last of them", name, strlen(name));
        return;
    }
    r->names[i] = name;
    r->values[i] = v;
    r->count = NR_MAX(r->count, i + 1);
}

/* Sets a variable of the innermost loop; what stood outside is only hidden. */
void nr_template_set(nr_template *t, const char *name, nr_value v)
{
    size_t i = t->variable_count;
    if (t->st != NR_OK) return;
    while (i > 0 && t->variables[i - 1].scope == t->scope && strcmp(t->variables[i - 1].name, name) != 0) i--;
    if (i > 0 && t->variables[i - 1].scope == t->scope) {
        t->variables[i - 1].value = v;
        return;
    }
    if (t->variable_count == NR_TEMPLATE_VARIABLES) {
        nr_template_refuse(t, "sets too many variables, the last of them", name, strlen(name));
        return;
    }
    t->variables[t->variable_count].name = name;
    t->variables[t->variable_count].value = v;
    t->variables[t->variable_count++].scope = t->scope;
}

void nr_template_close(nr_template *t)
{
    for (size_t i = 0; i < t->taken_count; i++) free(t->taken[i]);
    free(t->taken);
    nr_buffer_free(&t->out);
    *t = (nr_template){0};
}
