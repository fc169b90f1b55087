/*
 * read_http.c - a server's answer as it was stored: status line, head, body.
 * Undoes chunks and gzip or deflate, and says what the body is. Refuses (and
 * counts) other statuses than 200, other types than HTML and plain text,
 * packings it doesn't know and bodies that grow over 16 MiB.
 */
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "prepare/read_formats.h"

typedef struct {
    int status;
    bool chunked, typed, readable;
    nr_record_kind kind;
    enum { PLAIN, ZIPPED, UNKNOWN } packing;
    size_t body; /* where it begins */
} answer;

static bool is(const char *value, size_t n, const char *word)
{
    return strlen(word) == n && strncasecmp(value, word, n) == 0;
}

const char *nr_header_value(const char *line, size_t n, const char *name, size_t *size)
{
    size_t k = strlen(name);
    if (n <= k || line[k] != ':' || strncasecmp(line, name, k) != 0) return NULL;
    for (k++; k < n && (line[k] == ' ' || line[k] == '\t');) k++;
    while (n > k && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r')) n--;
    *size = n - k;
    return line + k;
}

bool nr_media_type(const char *value, size_t n, nr_record_kind *kind, char charset[40])
{
    size_t k = 0;
    while (k < n && value[k] != ';' && value[k] != ' ') k++;
    for (size_t i = k; i + 8 < n; i++) {
        if (strncasecmp(value + i, "charset=", 8) != 0) continue;
        size_t from = i + 8, m = 0;
        for (; from < n && m < 39 && !strchr("; ", value[from]); from++)
            if (value[from] != '"' && value[from] != '\'') charset[m++] = value[from];
        charset[m] = 0;
        break;
    }
    bool page = is(value, k, "text/html") || is(value, k, "application/xhtml+xml");
    *kind = page ? NR_RECORD_PAGE : NR_RECORD_BYTES;
    return page || is(value, k, "text/plain");
}

static void read_field(answer *a, nr_record *r, const char *line, size_t n)
{
    size_t k;
    const char *v;
    if ((v = nr_header_value(line, n, "Transfer-Encoding", &k))) {
        a->chunked = k >= 7 && strncasecmp(v + k - 7, "chunked", 7) == 0;
    } else if ((v = nr_header_value(line, n, "Content-Type", &k))) {
        a->typed = true;
        a->readable = nr_media_type(v, k, &a->kind, r->charset);
    } else if ((v = nr_header_value(line, n, "Content-Encoding", &k))) {
        bool zipped = is(v, k, "gzip") || is(v, k, "x-gzip") || is(v, k, "deflate");
        a->packing = zipped ? ZIPPED : k == 0 || is(v, k, "identity") ? PLAIN : UNKNOWN;
    }
}

/* false: no head of an answer. */
static bool read_head(answer *a, nr_record *r)
{
    if (r->text.size < 12 || memcmp(r->text.data, "HTTP/", 5) != 0) return false;
    const char *s = r->text.data, *end = s + r->text.size;
    const char *blank = memchr(s, ' ', 12);
    if (!blank || end - blank < 4) return false;
    for (int i = 1; i <= 3; i++) {
        if (blank[i] < '0' || blank[i] > '9') return false;
        a->status = a->status * 10 + (blank[i] - '0');
    }
    for (const char *line = s, *stop; (stop = memchr(line, '\n', (size_t)(end - line))); line = stop + 1) {
        size_t n = (size_t)(stop - line);
        if (n > 0 && line[n - 1] == '\r') n--;
        if (n == 0) return a->body = (size_t)(stop + 1 - s), true;
        read_field(a, r, line, n);
    }
    return false;
}

/* Takes the sizes of chunks out, in place. Bodies that only claim to be in chunks stay as they are. */
static void join_chunks(nr_buffer *b)
{
    size_t from = 0, to = 0;
    while (from < b->size) {
        size_t length = 0, digits = 0;
        for (; from < b->size && digits < 8; digits++, from++) {
            char c = b->data[from];
            int v = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
            if (v < 0) break;
            length = length * 16 + (size_t)v;
        }
        const char *stop = from < b->size ? memchr(b->data + from, '\n', NR_MIN(b->size - from, (size_t)512)) : NULL;
        if (digits == 0 || !stop) {
            if (to == 0) return;
            break;
        }
        if (length == 0) break;
        from = (size_t)(stop + 1 - b->data);
        length = NR_MIN(length, b->size - from);
        memmove(b->data + to, b->data + from, length);
        to += length;
        from += length;
        while (from < b->size && (b->data[from] == '\r' || b->data[from] == '\n')) from++;
    }
    b->size = to;
    if (b->data) b->data[to] = 0;
}

/* Unpacks with zlib; windowBits says which head it has. What was unpacked before the data broke is kept. */
static bool inflate_all(nr_buffer *out, const nr_buffer *in, int bits)
{
    z_stream z = {.next_in = (unsigned char *)in->data, .avail_in = (uInt)in->size};
    char piece[16384];
    int rc = Z_OK;
    if (inflateInit2(&z, bits) != Z_OK) return false;
    while (rc == Z_OK && out->size <= NR_RECORD_BYTES_MAX) {
        z.next_out = (unsigned char *)piece;
        z.avail_out = sizeof piece;
        rc = inflate(&z, Z_NO_FLUSH);
        nr_buffer_add(out, piece, sizeof piece - z.avail_out);
        if (rc == Z_OK && z.avail_out == sizeof piece) break;
    }
    inflateEnd(&z);
    return rc == Z_STREAM_END;
}

static bool unzip(nr_record *r)
{
    nr_buffer out = {0};
    bool ok = inflate_all(&out, &r->text, 15 + 32); /* gzip's or zlib's head */
    if (!ok && out.size == 0) ok = inflate_all(&out, &r->text, -15);
    if (out.size == 0 || out.size > NR_RECORD_BYTES_MAX || out.failed) {
        nr_buffer_free(&out);
        return false;
    }
    nr_buffer_free(&r->text);
    r->text = out;
    return true;
}

/* A body without a type that begins like a page is one. */
static bool looks_like_page(const nr_buffer *b)
{
    size_t i = 0, n = NR_MIN(b->size, (size_t)512);
    while (i < n && strchr(" \t\r\n\xEF\xBB\xBF", b->data[i]) && b->data[i]) i++;
    return n - i >= 9 && (strncasecmp(b->data + i, "<!doctype", 9) == 0 || strncasecmp(b->data + i, "<html", 5) == 0);
}

void nr_http_open(nr_record *r, nr_counts *c, uint64_t **why)
{
    answer a = {0};
    *why = NULL;
    if (!read_head(&a, r)) {
        *why = &c->v.read_broken_records;
        return;
    }
    if (a.status != 200) {
        *why = &c->v.read_http_errors;
        return;
    }
    if (a.typed && !a.readable) {
        *why = &c->v.read_other_types;
        return;
    }
    memmove(r->text.data, r->text.data + a.body, r->text.size - a.body + 1);
    r->text.size -= a.body;
    if (a.chunked) join_chunks(&r->text);
    /* Crawlers that unpack leave the header there: only what is packed is unpacked. */
    const unsigned char *p = (const unsigned char *)r->text.data;
    bool packed = a.packing == ZIPPED && r->text.size > 2 && (p[0] == 0x1F || (p[0] & 0x0F) == 8 || p[0] >= 0x80);
    if ((a.packing == UNKNOWN && !looks_like_page(&r->text)) || (packed && !unzip(r))) {
        *why = &c->v.read_bad_encodings;
        return;
    }
    if (!a.typed && !looks_like_page(&r->text)) *why = &c->v.read_other_types;
    r->kind = a.typed ? a.kind : NR_RECORD_PAGE;
}
