/*
 * read_text.c - the first step: a record of any kind becomes paragraphs of
 * UTF-8, or is dropped and counted. A paragraph is lines up to an empty one;
 * lines keep no blanks at their ends, and no two empty lines follow another.
 */
#include <string.h>

#include "prepare/prep.h"
#include "prepare/read_formats.h"

/* Bytes at s that are a blank (' '), that can't be seen (0) or stand for themselves (1). */
static char look(const char *s, size_t n, size_t *size)
{
    unsigned char c = (unsigned char)s[0];
    *size = 1;
    if (c < 0x20) return c == '\t';
    if (c == 0x7F) return 0;
    if (c < 0xC2) return 1;
    *size = 2;
    if (n >= 2 && memcmp(s, "\xC2\xA0", 2) == 0) return ' '; /* no-break space */
    if (n >= 2 && memcmp(s, "\xC2\xAD", 2) == 0) return 0;   /* soft hyphen */
    *size = 3;
    if (n >= 3 && (memcmp(s, "\xEF\xBB\xBF", 3) == 0 || memcmp(s, "\xE2\x80\x8B", 3) == 0)) return 0; /* byte order mark, zero-width space */
    *size = 1;
    return 1;
}

/* A line without what can't be seen, and without blanks at its end. */
static void tidy_line(nr_buffer *out, const char *s, size_t n)
{
    size_t start = out->size, from = 0;
    for (size_t i = 0, k; i < n; i += k) {
        char as = look(s + i, n - i, &k);
        if (as == 1) continue;
        nr_buffer_add(out, s + from, i - from);
        if (as == ' ') nr_buffer_add(out, " ", 1);
        from = i + k;
    }
    nr_buffer_add(out, s + from, n - from);
    if (out->failed) return;
    while (out->size > start && (out->data[out->size - 1] == ' ' || out->data[out->size - 1] == '\t')) out->size--;
    out->data[out->size] = 0;
}

/* Takes text over as lines and paragraphs. */
static void tidy(nr_buffer *out, const char *s, size_t n)
{
    nr_buffer line = {0};
    size_t empty = 0;
    for (size_t i = 0; i < n;) {
        const char *stop = memchr(s + i, '\n', n - i);
        size_t size = stop ? (size_t)(stop - (s + i)) : n - i;
        line.size = 0;
        tidy_line(&line, s + i, size);
        i += size + 1;
        if (line.size == 0) {
            empty++;
            continue;
        }
        if (out->size > 0) nr_buffer_text(out, empty ? "\n\n" : "\n");
        nr_buffer_add(out, line.data, line.size);
        empty = 0;
    }
    if (line.failed) out->failed = true;
    nr_buffer_free(&line);
}

/* A source is one line of UTF-8, not too long. */
static void tidy_source(nr_record *r)
{
    nr_buffer out = {0};
    for (size_t i = 0, k; i < r->source.size && out.size < 2000; i += k) {
        uint32_t c;
        k = nr_utf8_read(r->source.data + i, r->source.size - i, &c);
        if (k == 0 || c < 0x20 || c == 0x7F)
            k = NR_MAX(k, (size_t)1), nr_buffer_text(&out, "?");
        else
            nr_buffer_add(&out, r->source.data + i, k);
    }
    if (out.size == 0) nr_buffer_text(&out, "?");
    nr_buffer_free(&r->source);
    r->source = out;
}

/* A row's fields; false: no row. */
static bool open_row(nr_record *r, const char *field)
{
    json_t *j = NULL;
    const char *text = NULL, *source = NULL, *language = NULL;
    static const char *const names[] = {"source", "url", "id", "title"};
    if (nr_json_parse(&j, r->text.data, r->text.size, "row", NULL) == NR_OK && json_is_object(j)) {
        const json_t *page = json_object_get(j, "html"), *plain = json_object_get(j, field);
        r->kind = json_is_string(plain) ? NR_RECORD_TEXT : NR_RECORD_PAGE;
        text = json_string_value(json_is_string(plain) ? plain : page);
        for (size_t i = 0; i < NR_COUNT(names) && !source; i++) source = json_string_value(json_object_get(j, names[i]));
        language = json_string_value(json_object_get(j, "language"));
    }
    if (text) {
        size_t n = json_string_length(json_is_string(json_object_get(j, field)) ? json_object_get(j, field) : json_object_get(j, "html"));
        nr_buffer copy = {0};
        nr_buffer_add(&copy, text, n);
        if (source) r->source.size = 0, nr_buffer_text(&r->source, source);
        if (language && strlen(language) < sizeof r->language) {
            snprintf(r->language, sizeof r->language, "%s", language);
            r->language_share = json_number_value(json_object_get(j, "language_share"));
        }
        snprintf(r->charset, sizeof r->charset, "utf-8");
        nr_buffer_free(&r->text);
        r->text = copy;
    }
    json_decref(j);
    return text != NULL;
}

static nr_status extract(const nr_read_options *o, nr_record *r, nr_counts *c, nr_buffer *out, uint64_t **why, nr_error *err)
{
    nr_buffer utf8 = {0};
    nr_error own;
    size_t dropped = 0;
    nr_status st = NR_OK;
    if (!nr_charset_to_utf8(&utf8, r->text.data ? r->text.data : "", r->text.size, r->charset, true)) {
        *why = &c->v.read_bad_charsets;
    } else if (o->pages_as_they_are) {
        nr_buffer_add(out, utf8.data, utf8.size);
    } else {
        st = nr_html_main(out, utf8.data ? utf8.data : "", utf8.size, &o->main, &dropped, r->source.data, &own);
        if (st == NR_E_UNSUPPORTED || (st == NR_E_MEMORY && !out->failed)) *why = &c->v.read_refused_pages, st = NR_OK;
        if (st != NR_OK && err) *err = own;
    }
    c->v.read_elements += dropped;
    nr_buffer_free(&utf8);
    return st;
}

static nr_status convert(const nr_read_options *o, nr_record *r, nr_counts *c, nr_buffer *out, uint64_t **why, nr_error *err)
{
    nr_buffer plain = {0};
    nr_status st = NR_OK;
    const char *s = r->text.data ? r->text.data : "";
    if (r->kind == NR_RECORD_PAGE && o->pages_as_they_are) return extract(o, r, c, out, why, err);
    if (r->kind == NR_RECORD_PAGE)
        st = extract(o, r, c, &plain, why, err);
    else if (r->kind == NR_RECORD_WIKI && nr_utf8_valid(s, r->text.size))
        nr_wikitext_plain(&plain, s, r->text.size);
    else if (r->kind == NR_RECORD_WIKI || !nr_charset_to_utf8(&plain, s, r->text.size, r->charset, false))
        *why = &c->v.read_bad_charsets;
    if (st == NR_OK && !*why) tidy(out, plain.data ? plain.data : "", plain.size);
    if (plain.failed) out->failed = true;
    nr_buffer_free(&plain);
    return st;
}

nr_status nr_step_read(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const nr_read_options *o = self;
    nr_buffer out = {0};
    uint64_t *why = NULL;
    nr_status st = NR_OK;
    bool is_row = r->kind == NR_RECORD_ROW;
    if (is_row && !open_row(r, o->field ? o->field : "text")) why = &c->v.read_broken_records;
    if (r->kind == NR_RECORD_HTTP) nr_http_open(r, c, &why);
    if (!why) {
        if (r->kind == NR_RECORD_PAGE || r->kind == NR_RECORD_WIKI) c->v.read_page_bytes += r->text.size;
        tidy_source(r);
        st = convert(o, r, c, &out, &why, err);
    }
    if (st == NR_OK && (out.failed || r->source.failed)) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for its text", r->source.data);
    if (!why && out.size == 0) why = &c->v.read_empty;
    nr_buffer_free(&r->text);
    r->text = out;
    if (st != NR_OK) return st;
    if (why) {
        ++*why;
        r->dropped = true;
        return NR_OK;
    }
    r->kind = o->pages_as_they_are && r->kind == NR_RECORD_PAGE ? NR_RECORD_PAGE : NR_RECORD_TEXT;
    NR_COUNT_OUT(c, read, &r->text);
    return NR_OK;
}
