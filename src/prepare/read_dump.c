/*
 * read_dump.c - the pages of a MediaWiki XML dump, one after another: title and
 * the text of the first revision in it. Pages outside the main namespace and
 * redirects are counted and passed over. Reads lines, as dumps are written;
 * holds one page.
 */
#include <string.h>

#include "prepare/read_formats.h"

#define LINE ((size_t)1 << 20)

bool nr_is_dump(const char *data, size_t n) { return memmem(data, NR_MIN(n, (size_t)1024), "<mediawiki", 10) != NULL; }

/* What stands between <tag...> and </tag> in a line; false: it isn't there. */
static bool between(const char *line, size_t n, const char *open, const char *close, const char **start, size_t *size)
{
    const char *a = memmem(line, n, open, strlen(open)), *end = line + n;
    if (!a) return false;
    a += strlen(open);
    const char *b = memmem(a, (size_t)(end - a), close, strlen(close));
    if (!b) return false;
    *start = a;
    *size = (size_t)(b - a);
    return true;
}

typedef struct {
    bool redirect, other, large, have_text, in_text;
} page;

/* Adds a piece of the text's line; its end tag ends it. */
static void add_text(page *p, nr_record *rec, const char *s, size_t n, bool whole)
{
    const char *stop = memmem(s, n, "</text>", 7);
    if (stop) n = (size_t)(stop - s);
    if (rec->text.size + n > NR_RECORD_BYTES_MAX) p->large = true;
    if (!p->large) nr_buffer_add(&rec->text, s, n);
    if (!p->large && !stop && whole) nr_buffer_add(&rec->text, "\n", 1);
    if (stop) p->in_text = false, p->have_text = true;
}

static void read_line(page *p, nr_record *rec, const char *line, size_t n, bool whole)
{
    const char *v;
    size_t k;
    if (p->in_text) {
        add_text(p, rec, line, n, whole);
    } else if (between(line, n, "<title>", "</title>", &v, &k)) {
        rec->source.size = 0;
        nr_buffer_add(&rec->source, v, k);
    } else if (between(line, n, "<ns>", "</ns>", &v, &k)) {
        p->other = k != 1 || *v != '0';
    } else if (memmem(line, n, "<redirect", 9)) {
        p->redirect = true;
    } else if (!p->have_text && (v = memmem(line, n, "<text", 5))) {
        const char *close = memchr(v, '>', (size_t)(line + n - v));
        if (!close || close[-1] == '/') return;
        p->in_text = true;
        add_text(p, rec, close + 1, (size_t)(line + n - close - 1), whole);
    }
}

/* To the end of a page; *found false: the file's end. */
static nr_status read_page(nr_reader *r, nr_record *rec, page *p, bool *found, nr_error *err)
{
    const char *line;
    size_t n;
    bool whole, inside = false;
    *found = false;
    for (;;) {
        NR_TRY(nr_bytes_line(&r->bytes, LINE, &line, &n, &whole, err));
        if (!line) {
            r->ended = true;
            return inside ? nr_fail(err, NR_E_FORMAT, "%s: ends inside a page", r->path) : NR_OK;
        }
        if (!inside) {
            inside = memmem(line, n, "<page>", 6) != NULL;
        } else if (!p->in_text && memmem(line, n, "</page>", 7)) {
            return *found = true, NR_OK;
        } else {
            read_line(p, rec, line, n, whole);
            if (rec->source.size > 4096) rec->source.size = 4096;
        }
    }
}

nr_status nr_dump_next(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err)
{
    for (;;) {
        page p = {0};
        nr_record_clear(rec);
        NR_TRY(read_page(r, rec, &p, more, err));
        if (!*more) return NR_OK;
        c->v.read_records++;
        rec->kind = NR_RECORD_WIKI;
        if (p.redirect || p.other)
            c->v.read_other_records++;
        else if (p.large)
            c->v.read_large_records++;
        else if (!p.have_text || rec->source.size == 0)
            c->v.read_broken_records++;
        else
            return NR_OK;
    }
}
