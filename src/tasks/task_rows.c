/*
 * task_rows.c - rows of a user's files as JSON objects.
 *
 *   JSONL  an object a line; JSON: a list of objects
 *   CSV    RFC 4180: commas, double quotes, line breaks inside them; every cell is text. A first line that holds
 *          the names of a layout is its header; else every line is a row, a list of its cells
 *
 * Refuses text that isn't UTF-8, rows that aren't objects, CSV rows of another
 * number of cells, quotes that don't end: file and line.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/data.h"
#include "tasks/tasks.h"

#define MAX_FILE ((size_t)1 << 30)
enum { MAX_CELLS = 256, MAX_PATH = 4096 };

void nr_task_rows_free(nr_task_rows *r)
{
    free(r->path);
    json_decref(r->rows);
    *r = (nr_task_rows){0};
}

static nr_status append(json_t *list, json_t *row, const char *where, nr_error *err)
{
    return row && json_array_append_new(list, row) == 0 ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for its rows", where);
}

/* ---- JSON ---- */

static nr_status parse_lines(json_t *rows, const char *text, size_t n, const char *where, nr_error *err)
{
    char line_where[MAX_PATH];
    size_t line = 1;
    for (size_t at = 0, size; at < n; at += size + 1, line++) {
        const char *end = memchr(text + at, '\n', n - at);
        json_t *row;
        size = end ? (size_t)(end - (text + at)) : n - at;
        if (nr_text_blank_tail(text + at, size) == size) continue;
        snprintf(line_where, sizeof line_where, "%.4000s line %zu", where, line);
        NR_TRY(nr_json_parse(&row, text + at, size, line_where, err));
        if (!json_is_object(row)) {
            json_decref(row);
            return nr_fail(err, NR_E_FORMAT, "%s: expected a JSON object", line_where);
        }
        NR_TRY(append(rows, row, where, err));
    }
    return NR_OK;
}

static nr_status parse_list(json_t *rows, const char *text, size_t n, const char *where, nr_error *err)
{
    json_t *list;
    size_t i;
    json_t *row;
    nr_status st = NR_OK;
    NR_TRY(nr_json_parse(&list, text, n, where, err));
    json_array_foreach(list, i, row) {
        if (!json_is_object(row)) st = nr_fail(err, NR_E_FORMAT, "%s: row %zu: expected a JSON object", where, i + 1);
        if (st == NR_OK) st = append(rows, json_incref(row), where, err);
        if (st != NR_OK) break;
    }
    json_decref(list);
    return st;
}

/* ---- CSV ---- */

typedef struct {
    const char *text, *where;
    size_t n, at, line;
} csv;

/* One cell; *more: another one follows in the row. */
static nr_status read_cell(csv *c, json_t *cells, bool *more, nr_error *err)
{
    nr_buffer b = {0};
    size_t line = c->line;
    bool quoted = c->at < c->n && c->text[c->at] == '"';
    c->at += quoted;
    for (; c->at < c->n; c->at++) {
        char x = c->text[c->at];
        if (quoted && x == '"') {
            if (c->at + 1 >= c->n || c->text[c->at + 1] != '"') break;
            c->at++;
        } else if (!quoted && (x == ',' || x == '\n' || (x == '\r' && c->at + 1 < c->n && c->text[c->at + 1] == '\n'))) {
            break;
        }
        c->line += x == '\n';
        nr_buffer_add(&b, &x, 1);
    }
    bool ended = !quoted || c->at < c->n;
    c->at += quoted && ended;
    if (c->at < c->n && c->text[c->at] == '\r') c->at++;
    *more = c->at < c->n && c->text[c->at] == ',';
    bool line_end = c->at >= c->n || c->text[c->at] == '\n';
    c->line += line_end;
    c->at += c->at < c->n;
    json_t *cell = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.size);
    nr_buffer_free(&b);
    if (cell && ended && (*more || line_end) && json_array_size(cells) < MAX_CELLS) return append(cells, cell, c->where, err);
    json_decref(cell);
    if (!ended) return nr_fail(err, NR_E_FORMAT, "%s line %zu: expected a quote to end, found none", c->where, line);
    if (!cell) return nr_fail(err, NR_E_FORMAT, "%s line %zu: expected UTF-8 text in a cell", c->where, line);
    return nr_fail(err, NR_E_FORMAT, "%s line %zu: expected a comma or the end of the line behind a cell, and at most %d cells",
                   c->where, line, MAX_CELLS);
}

static nr_status read_row(csv *c, json_t **row, nr_error *err)
{
    json_t *cells = json_array();
    nr_status st = cells ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for a row", c->where);
    for (bool more = true; st == NR_OK && more;) st = read_cell(c, cells, &more, err);
    if (st == NR_OK) *row = cells;
    else json_decref(cells);
    return st;
}

static bool holds(const json_t *cells, const char *name)
{
    for (size_t i = 0; i < json_array_size(cells); i++)
        if (strcmp(json_string_value(json_array_get(cells, i)), name) == 0) return true;
    return false;
}

/* Whether a first row names all columns of one of the headers. */
static bool is_header(const json_t *cells, const json_t *headers)
{
    for (size_t h = 0; h < json_array_size(headers); h++) {
        const json_t *names = json_array_get(headers, h);
        size_t found = 0, n = json_array_size(names);
        for (size_t i = 0; i < n; i++) found += holds(cells, json_string_value(json_array_get(names, i)));
        if (n && found == n) return true;
    }
    return false;
}

static json_t *with_names(const json_t *names, const json_t *cells)
{
    json_t *row = json_object();
    for (size_t i = 0; row && i < json_array_size(cells); i++)
        json_object_set(row, json_string_value(json_array_get(names, i)), json_array_get(cells, i));
    return row;
}

static nr_status parse_csv(json_t *rows, bool *headless, const char *text, size_t n, const json_t *headers, const char *where,
                           nr_error *err)
{
    csv c = {.text = text, .where = where, .n = n, .line = 1};
    json_t *names = NULL, *cells = NULL;
    nr_status st = NR_OK;
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) c.at = 3; /* byte order mark */
    for (bool first = true; st == NR_OK && c.at < n; first = false) {
        size_t line = c.line;
        NR_GO(read_row(&c, &cells, err));
        if (first && is_header(cells, headers)) names = json_incref(cells);
        else if (json_array_size(cells) == 1 && !*json_string_value(json_array_get(cells, 0))) (void)0; /* an empty line */
        else if (names && json_array_size(cells) != json_array_size(names))
            st = nr_fail(err, NR_E_FORMAT, "%s line %zu: expected %zu cells, as in the header, found %zu", where, line,
                         json_array_size(names), json_array_size(cells));
        else st = append(rows, names ? with_names(names, cells) : json_incref(cells), where, err);
        json_decref(cells);
        cells = NULL;
    }
    *headless = !names;
done:
    json_decref(names);
    json_decref(cells);
    return st;
}

nr_status nr_task_rows_parse(json_t *rows, bool *headless, const char *text, size_t n, bool is_csv, const json_t *headers,
                             const char *where, nr_error *err)
{
    *headless = false;
    if (is_csv) return parse_csv(rows, headless, text, n, headers, where, err);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '[') return parse_list(rows, text, n, where, err);
        if (text[i] == '{') break;
    }
    return parse_lines(rows, text, n, where, err);
}

/* ---- files ---- */

static nr_status read_all(nr_buffer *b, const char *path, nr_error *err)
{
    nr_unpack *u;
    static const size_t piece = (size_t)1 << 16;
    char *data;
    size_t got = 1;
    NR_TRY(nr_alloc(&data, piece, 1, "a file", err));
    nr_status st = nr_unpack_open(&u, path, err);
    while (st == NR_OK && got > 0) {
        st = nr_unpack_read(u, data, piece, &got, err);
        if (st == NR_OK) nr_buffer_add(b, data, got);
        if (st == NR_OK && (b->failed || b->size > MAX_FILE))
            st = nr_fail(err, NR_E_MEMORY, "%s: expected rows of at most %zu bytes in all", path, MAX_FILE);
    }
    nr_unpack_close(u);
    free(data);
    return st;
}

/* Length of a name without ".gz" or ".zst". */
static size_t unpacked_length(const char *path)
{
    size_t n = strlen(path);
    if (n > 3 && strcasecmp(path + n - 3, ".gz") == 0) return n - 3;
    return n > 4 && strcasecmp(path + n - 4, ".zst") == 0 ? n - 4 : n;
}

static nr_status read_file(nr_task_rows *r, const char *path, const json_t *headers, nr_error *err)
{
    nr_buffer b = {0};
    size_t n = unpacked_length(path);
    nr_status st = read_all(&b, path, err);
    if (st == NR_OK)
        st = nr_task_rows_parse(r->rows, &r->headless, b.data ? b.data : "", b.size, n > 4 && strncasecmp(path + n - 4, ".csv", 4) == 0,
                                headers, path, err);
    nr_buffer_free(&b);
    return st;
}

/* Rows [from, ...) get the column "file": the file's name up to its last "_", or its ending. */
static void name_rows(json_t *rows, size_t from, const char *file)
{
    const char *cut = strrchr(file, '_');
    json_t *name = json_stringn(file, cut && cut > file ? (size_t)(cut - file) : strcspn(file, "."));
    for (size_t i = from; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        if (json_is_object(row)) json_object_set(row, "file", name);
        else json_array_append(row, name);
    }
    json_decref(name);
}

static int plain_file(const struct dirent *d) { return d->d_name[0] != '.'; }
static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static nr_status read_folder(nr_task_rows *r, const char *path, const json_t *headers, nr_error *err)
{
    struct dirent **list;
    int n = scandir(path, &list, plain_file, by_name);
    nr_status st = n < 0 ? nr_fail_errno(err, "can't list", path) : NR_OK;
    for (int i = 0; i < n; i++) {
        size_t from = json_array_size(r->rows);
        char *file = nr_path_join(path, list[i]->d_name);
        if (st == NR_OK) st = file ? read_file(r, file, headers, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
        if (st == NR_OK) name_rows(r->rows, from, list[i]->d_name);
        free(file);
        free(list[i]);
    }
    if (n >= 0) free(list);
    return st;
}

nr_status nr_task_rows_read(nr_task_rows *r, const char *path, const json_t *headers, nr_error *err)
{
    *r = (nr_task_rows){.path = nr_strdup(path), .rows = json_array()};
    nr_status st = r->path && r->rows ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st == NR_OK) st = nr_path_is_folder(path) ? read_folder(r, path, headers, err) : read_file(r, path, headers, err);
    if (st == NR_OK && json_array_size(r->rows) == 0) st = nr_fail(err, NR_E_FORMAT, "%s: expected rows, found none", path);
    if (st != NR_OK) nr_task_rows_free(r);
    return st;
}

static char *find_split(const char *folder, const char *stem, const char *split)
{
    static const char between[] = "_-./", *const ends[] = {".jsonl", ".json", ".csv"}, *const packed[] = {"", ".gz", ".zst"};
    char path[MAX_PATH];
    for (const char *b = between; *b; b++) {
        for (size_t e = 0; e < NR_COUNT(ends); e++)
            for (size_t p = 0; p < NR_COUNT(packed); p++) {
                int n = snprintf(path, sizeof path, "%s/%s%c%s%s%s", folder, stem, *b, split, ends[e], packed[p]);
                if (n > 0 && (size_t)n < sizeof path && nr_path_exists(path)) return nr_strdup(path);
            }
        int n = snprintf(path, sizeof path, "%s/%s%c%s", folder, stem, *b, split);
        if (n > 0 && (size_t)n < sizeof path && nr_path_is_folder(path)) return nr_strdup(path);
    }
    return NULL;
}

char *nr_task_rows_find(const char *const *folders, size_t count, const json_t *stems, const json_t *splits)
{
    for (size_t f = 0; f < count; f++)
        for (size_t s = 0; s < json_array_size(stems); s++)
            for (size_t i = 0; i < json_array_size(splits); i++) {
                char *path = find_split(folders[f], json_string_value(json_array_get(stems, s)),
                                        json_string_value(json_array_get(splits, i)));
                if (path) return path;
            }
    return NULL;
}
