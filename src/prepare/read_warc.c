/*
 * read_warc.c - the records of WARC files (WET too): "WARC/1.x", header lines,
 * an empty line, as many bytes as Content-Length says.
 *
 * Hands on answers of servers (response), files (resource) and extracted text
 * (conversion). Records of other kinds are counted; after a broken head the
 * reader looks for the next line that begins a record. Refuses nothing but
 * what can't be unpacked.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "prepare/read_formats.h"

#define LINE ((size_t)64 << 10)
#define HEADERS 200 /* lines of a head */

typedef enum { OTHER, RESPONSE, RESOURCE, CONVERSION } record_type;

typedef struct {
    record_type type;
    uint64_t length;
    bool has_length, http;
    nr_record_kind kind; /* of a resource */
    bool readable;
} head;

bool nr_is_warc(const char *data, size_t n) { return n >= 7 && memcmp(data, "WARC/1.", 7) == 0; }

static bool is(const char *value, size_t n, const char *word)
{
    return strlen(word) == n && strncasecmp(value, word, n) == 0;
}

static void read_field(head *h, nr_record *rec, const char *line, size_t n)
{
    size_t k;
    const char *v;
    if ((v = nr_header_value(line, n, "WARC-Type", &k))) {
        h->type = is(v, k, "response") ? RESPONSE : is(v, k, "resource") ? RESOURCE : is(v, k, "conversion") ? CONVERSION : OTHER;
    } else if ((v = nr_header_value(line, n, "Content-Length", &k))) {
        char digits[24] = "";
        if (k < sizeof digits - 4) memcpy(digits, v, k);
        h->has_length = k > 0 && strspn(digits, "0123456789") == k;
        h->length = h->has_length ? strtoull(digits, NULL, 10) : 0;
    } else if ((v = nr_header_value(line, n, "WARC-Target-URI", &k))) {
        if (k > 2 && v[0] == '<' && v[k - 1] == '>') v++, k -= 2; /* as some tools write it */
        rec->source.size = 0;
        nr_buffer_add(&rec->source, v, k);
    } else if ((v = nr_header_value(line, n, "Content-Type", &k))) {
        h->http = k >= 16 && strncasecmp(v, "application/http", 16) == 0;
        h->readable = nr_media_type(v, k, &h->kind, rec->charset);
    }
}

/* To the line that begins a record. false: the end. Lines in between that aren't empty break something. */
static nr_status find_record(nr_reader *r, bool *found, bool *clean, nr_error *err)
{
    const char *line;
    size_t n;
    bool whole, start = true;
    *clean = true;
    for (;;) {
        NR_TRY(nr_bytes_line(&r->bytes, LINE, &line, &n, &whole, err));
        if (!line) return *found = false, NR_OK;
        if (start && nr_is_warc(line, n)) return *found = true, NR_OK;
        if (n > 0) *clean = false;
        start = whole; /* the rest of a line that is too long begins nothing */
    }
}

/* The head's lines; *good false: it is broken. */
static nr_status read_head(nr_reader *r, nr_record *rec, head *h, bool *good, nr_error *err)
{
    const char *line;
    size_t n;
    bool whole;
    *h = (head){0};
    *good = false;
    for (int i = 0; i < HEADERS; i++) {
        NR_TRY(nr_bytes_line(&r->bytes, LINE, &line, &n, &whole, err));
        if (!line || !whole) return NR_OK;
        if (n == 0) return *good = h->has_length, NR_OK;
        read_field(h, rec, line, n);
    }
    return NR_OK;
}

/* The kind of the record's bytes, false when it is of no use. */
static bool kind_of(const head *h, nr_record *rec)
{
    if (h->type == RESPONSE && h->http) return rec->kind = NR_RECORD_HTTP, true;
    if (h->type == CONVERSION && h->readable) return rec->kind = h->kind, true;
    return h->type == RESOURCE && h->readable && (rec->kind = h->kind, true);
}

nr_status nr_warc_next(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err)
{
    for (;;) {
        head h;
        bool clean, good;
        uint64_t got;
        nr_record_clear(rec);
        NR_TRY(find_record(r, more, &clean, err));
        c->v.read_broken_records += !clean;
        if (!*more) return NR_OK;
        NR_TRY(read_head(r, rec, &h, &good, err));
        c->v.read_records++;
        if (!good) {
            c->v.read_broken_records++;
            continue;
        }
        bool useful = kind_of(&h, rec), large = h.length > NR_RECORD_BYTES_MAX;
        NR_TRY(nr_bytes_take(&r->bytes, h.length, useful && !large ? &rec->text : NULL, &got, err));
        if (got < h.length)
            c->v.read_broken_records++;
        else if (!useful)
            c->v.read_other_records++;
        else if (large)
            c->v.read_large_records++;
        else
            return NR_OK;
    }
}
