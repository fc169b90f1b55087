/*
 * prep_extract.c - files and folders of HTML, plain text and JSONL to documents.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "prepare/prep.h"

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

/* NR_EXTRACT_AUTO where the ending says nothing. */
static nr_extract_kind kind_of(const char *path)
{
    static const struct {
        const char *ending;
        nr_extract_kind kind;
    } list[] = {{".html", NR_EXTRACT_HTML}, {".htm", NR_EXTRACT_HTML},   {".xhtml", NR_EXTRACT_HTML},
                {".txt", NR_EXTRACT_TEXT},  {".jsonl", NR_EXTRACT_JSONL}, {".ndjson", NR_EXTRACT_JSONL}};
    for (size_t i = 0; i < NR_COUNT(list); i++)
        if (ends_with(path, list[i].ending)) return list[i].kind;
    return NR_EXTRACT_AUTO;
}

static bool known(const char *name) { return kind_of(name) != NR_EXTRACT_AUTO; }

/* ---- one document ---- */

typedef struct {
    nr_prose_set *out;
    const nr_extract_options *options;
    nr_extract_counts *counts;
    nr_error *err;
} job;

/* Bytes of the pattern at the start of s; '#' stands for one or more digits. */
static size_t prefix_size(const char *s, size_t n, const char *pattern)
{
    size_t i = 0;
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            size_t first = i;
            while (i < n && s[i] >= '0' && s[i] <= '9') i++;
            if (i == first) return 0;
        } else if (i >= n || s[i++] != *pattern) {
            return 0;
        }
    }
    return i;
}

static void add_paragraph(const job *j, nr_buffer *b, const char *s, size_t n)
{
    nr_buffer plain = {0};
    size_t cut = j->options->strip ? prefix_size(s, n, j->options->strip) : 0;
    nr_text_plain(&plain, s + cut, n - cut);
    if (plain.size > 0) {
        if (b->size > 0) nr_buffer_text(b, "\n\n");
        nr_buffer_add(b, plain.data, plain.size);
    }
    if (plain.failed) b->failed = true;
    nr_buffer_free(&plain);
}

/* One paragraph of the input, or each of its lines. */
static void add_paragraphs(const job *j, nr_buffer *b, const char *s, size_t n)
{
    while (j->options->lines && n > 0) {
        const char *stop = memchr(s, '\n', n);
        size_t line = stop ? (size_t)(stop - s) : n;
        add_paragraph(j, b, s, line);
        line += stop != NULL;
        s += line;
        n -= line;
    }
    if (n > 0) add_paragraph(j, b, s, n);
}

static nr_status emit(const job *j, const char *source, nr_buffer *text)
{
    const char *label = j->options->label;
    if (text->failed) return nr_fail(j->err, NR_E_MEMORY, "%s: out of memory for its text", source);
    if (text->size == 0) {
        j->counts->empty_documents++;
        return NR_OK;
    }
    char *name = label && *label ? nr_format("%s/%s", label, source) : nr_strdup(source);
    if (!name) return nr_fail(j->err, NR_E_MEMORY, "%s: out of memory for its name", source);
    nr_status st = nr_prose_add(j->out, name, text->data, j->err);
    free(name);
    j->counts->documents++;
    j->counts->bytes += text->size;
    j->counts->paragraphs++;
    for (const char *p = text->data; (p = strstr(p, "\n\n")); p += 2) j->counts->paragraphs++;
    text->size = 0;
    return st;
}

/* Paragraphs as one document, or as several of document_bytes: "source:1", ... and the last one "source". */
static nr_status emit_pieces(const job *j, const char *source, const char *p)
{
    nr_buffer text = {0};
    nr_status st = NR_OK;
    size_t limit = j->options->document_bytes, number = 0, n;
    const char *start;
    while (st == NR_OK && nr_next_paragraph(&p, &start, &n)) {
        add_paragraphs(j, &text, start, n);
        if (limit == 0 || text.size < limit) continue;
        char *name = nr_format("%s:%zu", source, ++number);
        st = name ? emit(j, name, &text) : nr_fail(j->err, NR_E_MEMORY, "%s: out of memory for its name", source);
        free(name);
    }
    if (st == NR_OK && (text.size > 0 || number == 0)) st = emit(j, source, &text);
    nr_buffer_free(&text);
    return st;
}

static nr_status extract_jsonl(const job *j, const char *path)
{
    nr_prose_set rows = {0};
    nr_status st = nr_prose_read_jsonl(&rows, path, j->options->field, j->options->title_mark, j->err);
    for (size_t i = 0; i < rows.count && st == NR_OK; i++) st = emit_pieces(j, rows.items[i].source, rows.items[i].text);
    nr_prose_free(&rows);
    return st;
}

/* A NUL-terminated copy in UTF-8, NULs dropped. */
static void to_text(nr_buffer *out, const nr_map *m)
{
    if (nr_utf8_valid((const char *)m->data, m->size))
        nr_buffer_add(out, m->data, m->size);
    else
        nr_utf8_from_1252(out, (const char *)m->data, m->size);
    size_t kept = 0;
    for (size_t i = 0; i < out->size; i++)
        if (out->data[i]) out->data[kept++] = out->data[i];
    if (out->data) out->data[kept] = 0;
    out->size = kept;
}

static nr_status extract_text(const job *j, const char *source, const nr_map *m)
{
    nr_buffer all = {0};
    to_text(&all, m);
    nr_status st = all.failed ? nr_fail(j->err, NR_E_MEMORY, "%s: out of memory for %zu bytes", source, m->size)
                              : emit_pieces(j, source, all.data ? all.data : "");
    nr_buffer_free(&all);
    return st;
}

static nr_status extract_html(const job *j, const char *source, const nr_map *m)
{
    nr_buffer text = {0};
    nr_status st = nr_html_prose(&text, (const char *)m->data, m->size, &j->options->html, &j->counts->html, source, j->err);
    if (st == NR_OK) st = emit(j, source, &text);
    nr_buffer_free(&text);
    return st;
}

static nr_status extract_file(const job *j, const char *path, const char *source, const nr_listener *l)
{
    nr_extract_kind kind = j->options->kind == NR_EXTRACT_AUTO ? kind_of(path) : j->options->kind;
    nr_map m;
    j->counts->files++;
    if (kind == NR_EXTRACT_JSONL) return extract_jsonl(j, path);
    NR_TRY(nr_map_open(&m, path, j->err));
    nr_status st = kind == NR_EXTRACT_HTML ? extract_html(j, source, &m) : extract_text(j, source, &m);
    nr_map_close(&m);
    if (st == NR_E_UNSUPPORTED) { /* one hostile page doesn't end a whole folder */
        if (j->err) nr_say(l, "left out: %s", j->err->message);
        j->counts->skipped_files++;
        st = NR_OK;
    }
    return st;
}

nr_status nr_extract(nr_prose_set *out, const char *const *paths, size_t count, const nr_extract_options *o,
                     nr_extract_counts *counts, const nr_listener *l, nr_error *err)
{
    nr_error own;
    job j = {.out = out, .options = o, .counts = counts, .err = err ? err : &own};
    nr_status st = NR_OK;
    for (size_t i = 0; i < count && st == NR_OK; i++) {
        nr_paths files = {0};
        const char *slash = strrchr(paths[i], '/');
        if (nr_path_is_folder(paths[i])) {
            st = nr_paths_walk(&files, paths[i], known, j.err);
            size_t root = strlen(paths[i]);
            while (root > 0 && paths[i][root - 1] == '/') root--;
            for (size_t k = 0; k < files.count && st == NR_OK; k++) {
                const char *source = files.paths[k] + root;
                while (*source == '/') source++;
                st = nr_stopped(l) ? nr_fail(j.err, NR_E_INTERRUPTED, "extract: interrupted; nothing was written")
                                   : extract_file(&j, files.paths[k], source, l);
            }
        } else {
            st = extract_file(&j, paths[i], slash ? slash + 1 : paths[i], l);
        }
        nr_paths_free(&files);
    }
    return st;
}
