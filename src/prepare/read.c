/*
 * read.c - which files to read, what kind each is, and the simple kinds: rows
 * of JSON, pages, plain text. A page is a file; plain text is cut into
 * documents at empty lines so that no file is too long to hold.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "prepare/flow_state.h"
#include "prepare/read_formats.h"

#define ROW_BYTES ((size_t)64 << 20)
#define TEXT_BYTES ((size_t)4 << 20) /* a document of plain text that is longer ends at the next empty line */

/* ---- which files ---- */

/* Whether one of the last parts of the name says a kind that can be read: a.warc.gz, index.html.fr */
static bool readable_name(const char *name)
{
    static const char *const kinds[] = {"warc", "wet", "html", "htm", "xhtml", "txt", "jsonl", "ndjson", "xml"};
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t n = strcspn(dot + 1, ".");
        for (size_t i = 0; i < NR_COUNT(kinds); i++)
            if (strlen(kinds[i]) == n && strncasecmp(dot + 1, kinds[i], n) == 0) return true;
    }
    return false;
}

/* A folder's files; of a prepared text its text alone. */
static nr_status add_folder(nr_paths *in, const char *folder, nr_error *err)
{
    char *manifest = nr_path_join(folder, "manifest.json"), *text = nr_path_join(folder, "text"), *work = nr_path_join(folder, "work");
    nr_status st = NR_OK;
    if (!manifest || !text || !work)
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    else if (nr_path_exists(manifest) && nr_path_is_folder(text))
        st = nr_inputs_parts(in, text, err);
    else if (nr_path_is_folder(work) && !nr_path_exists(manifest))
        st = nr_fail(err, NR_E_MISMATCH, "%s: a text whose preparation isn't finished; finish it first", folder);
    else
        st = nr_paths_walk(in, folder, readable_name, err);
    free(manifest);
    free(text);
    free(work);
    return st;
}

nr_status nr_inputs_parts(nr_paths *in, const char *folder, nr_error *err)
{
    for (size_t i = 0;; i++) {
        char *path = nr_flow_part_path(folder, i);
        if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
        bool there = nr_path_exists(path);
        nr_status st = there ? nr_paths_add(in, path, err) : NR_OK;
        free(path);
        if (st != NR_OK || !there) return st;
    }
}

nr_status nr_inputs_find(nr_paths *in, const char *const *paths, size_t count, nr_error *err)
{
    *in = (nr_paths){0};
    nr_status st = NR_OK;
    for (size_t i = 0; i < count && st == NR_OK; i++) {
        size_t first = in->count;
        if (!nr_path_is_folder(paths[i])) {
            st = nr_path_exists(paths[i]) ? nr_paths_add(in, paths[i], err) : nr_fail(err, NR_E_IO, "%s: no such file or folder", paths[i]);
            continue;
        }
        st = add_folder(in, paths[i], err);
        if (st == NR_OK && in->count == first)
            st = nr_fail(err, NR_E_IO, "%s: expected files to read (.warc .wet .html .xml .jsonl .txt), found none", paths[i]);
    }
    if (st != NR_OK) nr_paths_free(in);
    return st;
}

/* ---- simple kinds ---- */

static nr_status next_row(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err)
{
    const char *line;
    size_t n;
    bool whole;
    for (;;) {
        NR_TRY(nr_bytes_line(&r->bytes, ROW_BYTES, &line, &n, &whole, err));
        nr_record_clear(rec);
        if (!line) return *more = false, NR_OK;
        r->line++;
        if (strspn(line, " \t\r") >= n && whole) continue;
        c->v.read_records++;
        *more = true;
        rec->kind = NR_RECORD_ROW;
        nr_buffer_printf(&rec->source, "%s:%llu", r->name, (unsigned long long)r->line);
        if (whole) {
            nr_buffer_add(&rec->text, line, n);
            return NR_OK;
        }
        while (line && !whole) NR_TRY(nr_bytes_line(&r->bytes, ROW_BYTES, &line, &n, &whole, err));
        c->v.read_large_records++;
    }
}

static nr_status next_page(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err)
{
    uint64_t got;
    nr_record_clear(rec);
    *more = false;
    if (r->ended) return NR_OK;
    r->ended = true;
    c->v.read_records++;
    NR_TRY(nr_bytes_take(&r->bytes, NR_RECORD_BYTES_MAX + 1, &rec->text, &got, err));
    if (got > NR_RECORD_BYTES_MAX) {
        c->v.read_large_records++;
        return NR_OK;
    }
    nr_buffer_text(&rec->source, r->path);
    rec->kind = NR_RECORD_PAGE;
    *more = true;
    return NR_OK;
}

static nr_status next_text(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err)
{
    const char *line;
    size_t n;
    bool whole, any = false;
    nr_record_clear(rec);
    while (!r->ended && rec->text.size < NR_RECORD_BYTES_MAX) {
        NR_TRY(nr_bytes_line(&r->bytes, (size_t)1 << 20, &line, &n, &whole, err));
        if (!line) {
            r->ended = true;
            break;
        }
        any = true;
        if (n == 0 && rec->text.size >= TEXT_BYTES) break;
        nr_buffer_add(&rec->text, line, n);
        if (whole) nr_buffer_text(&rec->text, "\n");
    }
    *more = any;
    if (!any) return NR_OK;
    c->v.read_records++;
    rec->kind = NR_RECORD_BYTES;
    if (r->line++ == 0 && r->ended)
        nr_buffer_text(&rec->source, r->path);
    else
        nr_buffer_printf(&rec->source, "%s:%llu", r->path, (unsigned long long)r->line);
    return NR_OK;
}

/* ---- readers ---- */

static bool name_is_page(const char *name) { return strcasestr(name, ".htm") || strcasestr(name, ".xhtml"); }

static bool looks_like_page(const char *s, size_t n)
{
    while (n > 0 && strchr(" \t\r\n\xEF\xBB\xBF", *s) && *s) s++, n--;
    return n >= 9 && (strncasecmp(s, "<!doctype", 9) == 0 || strncasecmp(s, "<html", 5) == 0);
}

static nr_status choose(nr_reader *r, nr_error *err)
{
    NR_TRY(nr_bytes_need(&r->bytes, 1024, err));
    const char *s = r->bytes.data ? r->bytes.data : "";
    size_t n = NR_MIN(r->bytes.have, (size_t)1024);
    if (nr_is_warc(s, n))
        r->next = nr_warc_next;
    else if (nr_is_dump(s, n))
        r->next = nr_dump_next;
    else if (nr_corpus_name_is_jsonl(r->name) || (n > 1 && s[0] == '{' && s[1] == '"'))
        r->next = next_row;
    else
        r->next = name_is_page(r->name) || looks_like_page(s, n) ? next_page : next_text;
    return NR_OK;
}

nr_status nr_reader_open(nr_reader **out, const char *path, nr_error *err)
{
    nr_reader *r;
    *out = NULL;
    NR_TRY(nr_alloc(&r, 1, sizeof *r, path, err));
    r->path = nr_strdup(path);
    r->hash = nr_sha256_new();
    nr_status st = r->path && r->hash ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st == NR_OK) {
        const char *slash = strrchr(r->path, '/');
        r->name = slash ? slash + 1 : r->path;
        st = nr_bytes_open(&r->bytes, r->path, r->hash, err);
    }
    if (st == NR_OK) st = choose(r, err);
    if (st == NR_OK)
        *out = r;
    else
        nr_reader_close(r);
    return st;
}

nr_status nr_reader_next(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err)
{
    NR_TRY(r->next(r, rec, more, c, err));
    if (*more && (rec->text.failed || rec->source.failed)) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for a record", r->path);
    return NR_OK;
}

nr_status nr_reader_hash(nr_reader *r, char hex[65], nr_error *err)
{
    NR_TRY(nr_unpack_drain(r->bytes.file, err));
    nr_sha256_hex(r->hash, hex);
    r->hash = NULL;
    return hex[0] ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hash", r->path);
}

double nr_reader_fraction(const nr_reader *r) { return nr_unpack_fraction(r->bytes.file); }

void nr_reader_close(nr_reader *r)
{
    char unused[65];
    if (!r) return;
    nr_bytes_close(&r->bytes);
    if (r->hash) nr_sha256_hex(r->hash, unused);
    free(r->path);
    free(r);
}
