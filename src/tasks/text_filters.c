/*
 * text_filters.c - strip, capitalize and the clean-up of WikiHow's marks, with
 * Python's idea of white space and letters, since that is what published
 * figures were made with. Letters whose other case is more than one letter
 * stay as they are, and a sigma at the end of a word is an ordinary one.
 */
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"
#include "tokenizer/unicode.h"

typedef struct {
    uint32_t first, last;
    int32_t step, delta;
} case_run;
#include "case_tables.inc"

static uint32_t turn(const case_run *runs, size_t count, uint32_t cp)
{
    size_t lo = 0, hi = count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (runs[mid].last < cp) lo = mid + 1;
        else hi = mid;
    }
    /* runs of step 2 may lie in one another: the next one too */
    for (size_t i = lo; i < count && i < lo + 2; i++)
        if (cp >= runs[i].first && cp <= runs[i].last && (cp - runs[i].first) % (uint32_t)runs[i].step == 0)
            return (uint32_t)((int32_t)cp + runs[i].delta);
    return cp;
}

/* str.isspace of one character. */
static bool blank(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static size_t blank_head(const char *text, size_t n)
{
    size_t at = 0;
    uint32_t c;
    while (at < n) {
        size_t size = nr_utf8_next((const unsigned char *)text + at, n - at, &c);
        if (!blank(c)) break;
        at += size;
    }
    return at;
}

size_t nr_text_blank_tail(const char *text, size_t n)
{
    size_t end = n;
    uint32_t c;
    while (end > 0) {
        size_t size = nr_utf8_last((const unsigned char *)text, (const unsigned char *)text + end, &c);
        if (!blank(c)) break;
        end -= size;
    }
    return n - end;
}

size_t nr_text_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* ---- filters ---- */

static void lstrip(nr_buffer *out, const char *text, size_t n)
{
    size_t head = blank_head(text, n);
    nr_buffer_add(out, text + head, n - head);
}

static void rstrip(nr_buffer *out, const char *text, size_t n) { nr_buffer_add(out, text, n - nr_text_blank_tail(text, n)); }

static void strip(nr_buffer *out, const char *text, size_t n)
{
    size_t head = blank_head(text, n);
    rstrip(out, text + head, n - head);
}

/* The first letter large, all others small. */
static void capitalize(nr_buffer *out, const char *text, size_t n)
{
    char bytes[4];
    uint32_t c;
    for (size_t at = 0, size; at < n; at += size) {
        size = nr_utf8_next((const unsigned char *)text + at, n - at, &c);
        if (c == NR_INVALID) {
            nr_buffer_add(out, text + at, size);
            continue;
        }
        c = at == 0 ? turn(title_runs, NR_COUNT(title_runs), c) : turn(lower_runs, NR_COUNT(lower_runs), c);
        nr_buffer_add(out, bytes, nr_utf8_put(bytes, c));
    }
}

static void spaces(nr_buffer *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) nr_buffer_add(out, text[i] == '_' ? " " : text + i, 1);
}

/* from, read left to right, becomes to. */
static void replace(nr_buffer *out, const char *text, size_t n, const char *from, const char *to)
{
    size_t length = strlen(from);
    for (size_t at = 0; at < n;) {
        if (n - at >= length && memcmp(text + at, from, length) == 0) {
            nr_buffer_text(out, to);
            at += length;
        } else {
            nr_buffer_add(out, text + at++, 1);
        }
    }
}

/* Without "[...]", the shortest ones, within a line. */
static void drop_brackets(nr_buffer *out, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t end = at + 1;
        while (text[at] == '[' && end < n && text[end] != ']' && text[end] != '\n') end++;
        bool bracket = text[at] == '[' && end < n && text[end] == ']';
        if (!bracket) nr_buffer_add(out, text + at, 1);
        at = bracket ? end + 1 : at + 1;
    }
}

static void clean(nr_buffer *out, const char *text, size_t n, bool dot)
{
    nr_buffer a = {0}, b = {0}, c = {0}, d = {0};
    strip(&a, text, n);
    if (dot) replace(&d, a.data ? a.data : "", a.size, ". [title]", ". ");
    else nr_buffer_add(&d, a.data, a.size);
    replace(&b, d.data ? d.data : "", d.size, " [title]", ". ");
    drop_brackets(&c, b.data ? b.data : "", b.size);
    replace(out, c.data ? c.data : "", c.size, "  ", " ");
    out->failed = out->failed || a.failed || b.failed || c.failed || d.failed;
    nr_buffer_free(&a);
    nr_buffer_free(&b);
    nr_buffer_free(&c);
    nr_buffer_free(&d);
}

static void wikihow(nr_buffer *out, const char *text, size_t n) { clean(out, text, n, false); }
/* A full stop before the mark goes with it. */
static void wikihow_olmes(nr_buffer *out, const char *text, size_t n) { clean(out, text, n, true); }

/* "A. bank" is "A". */
static void letter(nr_buffer *out, const char *text, size_t n)
{
    const char *dot = memchr(text, '.', n);
    strip(out, text, dot ? (size_t)(dot - text) : n);
}

static const struct {
    const char *name;
    nr_text_filter filter;
} filters[] = {{"strip", strip},           {"lstrip", lstrip}, {"rstrip", rstrip},
               {"capitalize", capitalize}, {"spaces", spaces}, {"wikihow", wikihow},
               {"wikihow-olmes", wikihow_olmes}, {"letter", letter}};

nr_text_filter nr_text_filter_find(const char *name, size_t n)
{
    for (size_t i = 0; i < NR_COUNT(filters); i++)
        if (strlen(filters[i].name) == n && memcmp(filters[i].name, name, n) == 0) return filters[i].filter;
    return NULL;
}

const char *nr_text_filter_names(void) { return "strip lstrip rstrip capitalize spaces wikihow wikihow-olmes letter, or lettered before them"; }

/* ---- choices in one text ---- */

static bool begins_choice(const char *text, size_t n, size_t letters)
{
    return n > 2 && text[0] == (char)('A' + letters) && text[1] == '.' && text[2] == ' ';
}

static bool add_choice(json_t *list, const char *text, size_t n)
{
    nr_buffer b = {0};
    strip(&b, text, n);
    bool added = !b.failed && json_array_append_new(list, json_stringn(b.data ? b.data : "", b.size)) == 0;
    nr_buffer_free(&b);
    return added;
}

json_t *nr_text_lettered(const char *text, size_t n)
{
    size_t at = blank_head(text, n), letters = 1;
    json_t *list = begins_choice(text + at, n - at, 0) ? json_array() : NULL;
    while (list && at < n) {
        size_t begin = at += 3;
        while (at < n && !(text[at - 1] == '\n' && letters < 26 && begins_choice(text + at, n - at, letters))) at++;
        letters++;
        if (!add_choice(list, text + begin, at - begin)) break;
    }
    if (json_array_size(list) >= 2 && json_array_size(list) + 1 == letters) return list;
    json_decref(list);
    return NULL;
}
