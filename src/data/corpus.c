/*
 * corpus.c - the documents of a text or JSONL file, one after another.
 *
 *   JSONL  a JSON object a line, its text in the field the caller names
 *   auto   paragraphs of plain text: runs of lines between blank ones
 *   line   each line; file: the whole file
 *
 * Holds one document at a time and a buffer of the same order. Refuses bytes
 * that are not UTF-8 (file and byte offset in the unpacked text), rows that
 * are no JSON object or lack the field (file and line), documents over
 * DOCUMENT_BYTES, and files without any document. A byte order mark at the
 * start is skipped; empty documents are too.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/data.h"

#define DOCUMENT_BYTES ((size_t)256 << 20)
#define FIRST_BYTES ((size_t)1 << 20)

typedef enum { PARAGRAPHS, LINES, WHOLE, ROWS } layout;

struct nr_corpus {
    char *path, *field;
    layout how;
    nr_unpack *file;
    char *data;         /* unread text: [at, have) */
    size_t at, have, cap;
    size_t base;        /* offset in the text of data[0] */
    size_t take;        /* bytes of the document handed out last */
    size_t line;        /* number of the line at `at`, from 1 */
    size_t documents;
    bool ended;
    json_t *row;        /* whose text was handed out last */
};

bool nr_corpus_name_is_jsonl(const char *path)
{
    static const char *const ends[] = {".jsonl", ".ndjson", ".json"};
    size_t n = strlen(path);
    if (n > 3 && strcasecmp(path + n - 3, ".gz") == 0) n -= 3;
    else if (n > 4 && strcasecmp(path + n - 4, ".zst") == 0) n -= 4;
    for (size_t i = 0; i < NR_COUNT(ends); i++) {
        size_t m = strlen(ends[i]);
        if (n > m && strncasecmp(path + n - m, ends[i], m) == 0) return true;
    }
    return false;
}

/* ---- the buffer ---- */

static nr_status grow(nr_corpus *c, nr_error *err)
{
    size_t cap = c->cap ? c->cap * 2 : FIRST_BYTES;
    if (c->have > DOCUMENT_BYTES)
        return nr_fail(err, NR_E_FORMAT, "%s line %zu: expected documents of at most %zu MiB, found a longer one", c->path,
                       c->line, DOCUMENT_BYTES >> 20);
    char *data = realloc(c->data, cap);
    if (!data) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for a document of %zu bytes", c->path, cap);
    c->data = data;
    c->cap = cap;
    return NR_OK;
}

/* Reads on behind what is unread. */
static nr_status fill(nr_corpus *c, nr_error *err)
{
    if (c->at > 0) {
        memmove(c->data, c->data + c->at, c->have - c->at);
        c->base += c->at;
        c->have -= c->at;
        c->at = 0;
    }
    if (c->have == c->cap) NR_TRY(grow(c, err));
    size_t got;
    NR_TRY(nr_unpack_read(c->file, c->data + c->have, c->cap - c->have, &got, err));
    c->have += got;
    c->ended = got == 0;
    return NR_OK;
}

/* The line that begins `from` bytes behind the unread text's start: its end and
 * the next line's start, both counted from there too. *end == from == *next: no
 * line is left. */
static nr_status find_line(nr_corpus *c, size_t from, size_t *end, size_t *next, nr_error *err)
{
    size_t searched = from;
    for (;;) {
        size_t have = c->have - c->at;
        const char *stop = have > searched ? memchr(c->data + c->at + searched, '\n', have - searched) : NULL;
        if (stop) {
            *end = (size_t)(stop - (c->data + c->at));
            *next = *end + 1;
            return NR_OK;
        }
        if (c->ended) {
            *end = *next = have;
            return NR_OK;
        }
        searched = NR_MAX(searched, have);
        NR_TRY(fill(c, err));
    }
}

/* ---- UTF-8 ---- */

/* Length of the character at p, 0 where there is none: RFC 3629's table. */
static size_t character(const unsigned char *p, size_t n)
{
    unsigned char a = p[0];
    if (a < 0x80) return 1;
    if (a < 0xC2 || a > 0xF4 || n < 2) return 0;
    unsigned char low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80, high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) return 0;
    size_t size = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    if (n < size) return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return size;
}

/* Bytes of s that are UTF-8 before the first that isn't. */
static size_t valid_bytes(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= sizeof eight) {
            memcpy(&eight, p + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        size_t m = character(p + i, n - i);
        if (m == 0) return i;
        i += m;
    }
    return n;
}

static nr_status check_text(const nr_corpus *c, size_t from, size_t size, nr_error *err)
{
    const char *s = c->data + c->at + from;
    size_t good = valid_bytes(s, size);
    if (good == size) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: expected UTF-8, found the byte 0x%02X at offset %zu of the text", c->path,
                   (unsigned char)s[good], c->base + c->at + from + good);
}

/* ---- documents ---- */

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\f\v", s[i]) || s[i] == '\0') return false;
    return true;
}

/* A run of lines that aren't blank. size 0: none is left. */
static nr_status next_paragraph(nr_corpus *c, size_t *from, size_t *size, nr_error *err)
{
    size_t at = 0, end, next;
    *from = *size = 0;
    for (;;) {
        NR_TRY(find_line(c, at, &end, &next, err));
        if (end == at && next == at) break;
        bool blank = is_blank(c->data + c->at + at, end - at);
        c->line++;
        if (blank && *size > 0) {
            at = next;
            break;
        }
        if (blank) { /* dropped at once, so that a long run of them is not kept */
            c->at += next;
            at = 0;
            continue;
        }
        if (*size == 0) *from = at;
        *size = end - *from;
        at = next;
    }
    c->take = at;
    if (*size > 0 && c->data[c->at + *from + *size - 1] == '\r') --*size;
    return NR_OK;
}

static nr_status next_line(nr_corpus *c, size_t *from, size_t *size, nr_error *err)
{
    *from = *size = 0;
    while (*size == 0) {
        size_t end, next;
        c->at += c->take;
        c->take = 0;
        NR_TRY(find_line(c, 0, &end, &next, err));
        if (next == 0) return NR_OK;
        c->line++;
        c->take = next;
        if (end > 0 && c->data[c->at + end - 1] == '\r') end--;
        if (!is_blank(c->data + c->at, end)) *size = end;
    }
    return NR_OK;
}

static nr_status whole_file(nr_corpus *c, size_t *size, nr_error *err)
{
    while (!c->ended) NR_TRY(fill(c, err));
    *size = c->take = c->have - c->at;
    return NR_OK;
}

/* The text of one JSONL row; an empty one comes back with size 0. */
static nr_status row_text(nr_corpus *c, size_t size, const char **text, size_t *text_size, nr_error *err)
{
    char where[512];
    NR_TRY(check_text(c, 0, size, err));
    snprintf(where, sizeof where, "%.480s line %zu", c->path, c->line - 1);
    json_decref(c->row);
    c->row = NULL;
    NR_TRY(nr_json_parse(&c->row, c->data + c->at, size, where, err));
    NR_TRY(nr_json_string(c->row, c->field, true, text, where, err));
    *text_size = json_string_length(json_object_get(c->row, c->field));
    return NR_OK;
}

static nr_status next_row(nr_corpus *c, const char **text, size_t *size, nr_error *err)
{
    *size = 0;
    while (*size == 0) {
        size_t from, n;
        *text = NULL;
        NR_TRY(next_line(c, &from, &n, err));
        if (n == 0) return NR_OK;
        NR_TRY(row_text(c, n, text, size, err));
    }
    return NR_OK;
}

static nr_status none_found(const nr_corpus *c, nr_error *err)
{
    size_t bytes = c->base + c->have;
    if (bytes == 0) return nr_fail(err, NR_E_FORMAT, "%s: expected text, found an empty file", c->path);
    return nr_fail(err, NR_E_FORMAT, "%s: expected text, found no document in %zu bytes", c->path, bytes);
}

nr_status nr_corpus_next(nr_corpus *c, const char **text, size_t *size, nr_error *err)
{
    size_t from = 0;
    *text = NULL;
    *size = 0;
    c->at += c->take;
    c->take = 0;
    if (c->how == ROWS) {
        NR_TRY(next_row(c, text, size, err));
    } else {
        if (c->how == PARAGRAPHS) NR_TRY(next_paragraph(c, &from, size, err));
        if (c->how == LINES) NR_TRY(next_line(c, &from, size, err));
        if (c->how == WHOLE) NR_TRY(whole_file(c, size, err));
        NR_TRY(check_text(c, from, *size, err));
        if (*size > 0) *text = c->data + c->at + from;
    }
    if (*text) c->documents++;
    return *text || c->documents ? NR_OK : none_found(c, err);
}

/* ---- life ---- */

static nr_status open_corpus(nr_corpus *c, nr_documents how, nr_error *err)
{
    if (!c->path || !c->field) return nr_fail(err, NR_E_MEMORY, "corpus: out of memory");
    NR_TRY(nr_unpack_open(&c->file, c->path, err));
    while (c->have < 3 && !c->ended) NR_TRY(fill(c, err));
    if (c->have >= 3 && memcmp(c->data, "\xEF\xBB\xBF", 3) == 0) c->at = 3;
    bool brace = how == NR_DOCUMENTS_AUTO && c->have > c->at && c->data[c->at] == '{';
    c->how = nr_corpus_name_is_jsonl(c->path) || brace ? ROWS
             : how == NR_DOCUMENTS_LINE                ? LINES
             : how == NR_DOCUMENTS_FILE                ? WHOLE
                                                       : PARAGRAPHS;
    return NR_OK;
}

nr_status nr_corpus_open(nr_corpus **out, const char *path, const char *text_field, nr_documents how, nr_error *err)
{
    nr_corpus *c;
    *out = NULL;
    NR_TRY(nr_alloc(&c, 1, sizeof *c, "corpus", err));
    c->path = nr_strdup(path);
    c->field = nr_strdup(text_field);
    c->line = 1;
    nr_status st = open_corpus(c, how, err);
    if (st == NR_OK)
        *out = c;
    else
        nr_corpus_close(c);
    return st;
}

double nr_corpus_fraction(const nr_corpus *c) { return nr_unpack_fraction(c->file); }

void nr_corpus_close(nr_corpus *c)
{
    if (!c) return;
    nr_unpack_close(c->file);
    json_decref(c->row);
    free(c->data);
    free(c->path);
    free(c->field);
    free(c);
}
