/*
 * prep_documents.c - a set of documents in memory and as JSONL. Owns copies of
 * every string. Refuses a line that isn't a JSON object or lacks the text.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/prep.h"

#define MAX_LINE (256u << 20) /* bytes of one JSONL line */

nr_status nr_prose_add(nr_prose_set *s, const char *source, const char *text, nr_error *err)
{
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 256;
        nr_prose *items = realloc(s->items, cap * sizeof *items);
        if (!items) return nr_fail(err, NR_E_MEMORY, "documents: out of memory for %zu of them", cap);
        s->items = items;
        s->cap = cap;
    }
    nr_prose *p = &s->items[s->count];
    p->source = nr_strdup(source);
    p->text = nr_strdup(text);
    if (!p->source || !p->text) {
        free(p->source);
        free(p->text);
        return nr_fail(err, NR_E_MEMORY, "documents: out of memory for %s", source);
    }
    s->count++;
    return NR_OK;
}

void nr_prose_free(nr_prose_set *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->items[i].source);
        free(s->items[i].text);
    }
    free(s->items);
    *s = (nr_prose_set){0};
}

size_t nr_prose_bytes(const nr_prose_set *s)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->count; i++) bytes += strlen(s->items[i].text);
    return bytes;
}

/* Adds one row. The title mark splits "Title -- text". */
static nr_status add_row(nr_prose_set *s, const json_t *row, const char *field, const char *title_mark,
                         const char *where, nr_error *err)
{
    const char *text, *source = where;
    NR_TRY(nr_json_string(row, field, true, &text, where, err));
    NR_TRY(nr_json_string(row, "source", false, &source, where, err));
    const char *mark = title_mark && *title_mark ? strstr(text, title_mark) : NULL;
    if (!mark || mark == text || memchr(text, '\n', (size_t)(mark - text)))
        return nr_prose_add(s, source, text, err);
    char *title = strndup(text, (size_t)(mark - text));
    if (!title) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for a title", where);
    nr_status st = nr_prose_add(s, title, mark + strlen(title_mark), err);
    free(title);
    return st;
}

nr_status nr_prose_read_jsonl(nr_prose_set *s, const char *path, const char *field, const char *title_mark,
                              nr_error *err)
{
    nr_map m;
    nr_status st = NR_OK;
    NR_TRY(nr_map_open(&m, path, err));
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *p = (const char *)m.data, *end = p + m.size;
    for (size_t line = 1; p < end && st == NR_OK; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        const char *row = p;
        p += n + 1;
        while (n > 0 && strchr(" \t\r", row[n - 1])) n--;
        if (n == 0) continue;
        char *where = nr_format("%s:%zu", name, line);
        json_t *j = NULL;
        if (!where)
            st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
        else if (n > MAX_LINE)
            st = nr_fail(err, NR_E_FORMAT, "%s line %zu: expected at most %u bytes, found %zu", path, line, MAX_LINE, n);
        else
            st = nr_json_parse(&j, row, n, where, err);
        if (st == NR_OK && !json_is_object(j))
            st = nr_fail(err, NR_E_FORMAT, "%s line %zu: expected a JSON object with the field \"%s\"", path, line, field);
        if (st == NR_OK) st = add_row(s, j, field, title_mark, where, err);
        json_decref(j);
        free(where);
    }
    nr_map_close(&m);
    return st;
}

nr_status nr_prose_write_jsonl(const nr_prose_set *s, const char *path, nr_error *err)
{
    nr_writer w;
    NR_TRY(nr_writer_open(&w, path, err));
    for (size_t i = 0; i < s->count; i++) {
        json_t *row = json_object();
        char *line = NULL;
        if (row && json_object_set_new(row, "source", json_string(s->items[i].source)) == 0 &&
            json_object_set_new(row, "text", json_string(s->items[i].text)) == 0)
            line = json_dumps(row, JSON_COMPACT | JSON_PRESERVE_ORDER);
        json_decref(row);
        if (!line) {
            nr_writer_abort(&w);
            return nr_fail(err, NR_E_FORMAT, "%s: document %zu (%s) is not UTF-8 or memory is out", path, i,
                           s->items[i].source);
        }
        nr_writer_write(&w, line, strlen(line));
        nr_writer_write(&w, "\n", 1);
        free(line);
    }
    return nr_writer_commit(&w, err);
}
