/*
 * wikitext.c - MediaWiki's markup to paragraphs of text. Left out: templates,
 * tables, references, comments, pictures, categories, markup in angle
 * brackets. Links keep their words. Every pass is linear and works in place;
 * what opens and never closes is text from its opening on.
 */
#include <string.h>
#include <strings.h>

#include "prepare/prep.h"
#include "prepare/read_formats.h"

/* The text; each pass shortens it in place. */
typedef struct {
    char *s;
    size_t n;
} span;

static bool at(const span *t, size_t i, const char *word)
{
    size_t k = strlen(word);
    return t->n - i >= k && strncasecmp(t->s + i, word, k) == 0;
}

/* ---- entities of XML, then of the markup: "&amp;nbsp;" needs both ---- */

static size_t entity(const span *t, size_t i, uint32_t *code)
{
    static const struct {
        const char *name;
        uint32_t code;
    } list[] = {{"&lt;", '<'},      {"&gt;", '>'},        {"&quot;", '"'},     {"&amp;", '&'},      {"&nbsp;", 0xA0},
                {"&ndash;", 0x2013}, {"&mdash;", 0x2014}, {"&minus;", 0x2212}, {"&thinsp;", 0x2009}, {"&apos;", '\''},
                {"&hellip;", 0x2026}, {"&times;", 0xD7}};
    for (size_t k = 0; k < NR_COUNT(list); k++)
        if (at(t, i, list[k].name)) return *code = list[k].code, strlen(list[k].name);
    if (!at(t, i, "&#")) return 0;
    size_t p = i + 2, digits = 0;
    bool hex = p < t->n && (t->s[p] | 32) == 'x';
    p += hex;
    *code = 0;
    for (; p < t->n && digits < 7; p++, digits++) {
        char c = t->s[p];
        int v = c >= '0' && c <= '9' ? c - '0' : hex && (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (v < 0) break;
        *code = *code * (hex ? 16 : 10) + (uint32_t)v;
    }
    bool good = digits > 0 && p < t->n && t->s[p] == ';' && *code >= 0x20 && *code <= 0x10FFFF && !(*code >= 0xD800 && *code < 0xE000);
    return good ? p + 1 - i : 0;
}

static void replace_entities(span *t)
{
    nr_buffer one = {0};
    size_t to = 0;
    for (size_t i = 0, k; i < t->n;) {
        uint32_t code;
        if (t->s[i] != '&' || (k = entity(t, i, &code)) == 0) {
            t->s[to++] = t->s[i++];
            continue;
        }
        one.size = 0;
        nr_utf8_write(&one, code); /* never longer than the entity */
        if (!one.failed) memcpy(t->s + to, one.data, one.size);
        to += one.size;
        i += k;
    }
    nr_buffer_free(&one);
    t->n = to;
}

/* ---- what is removed whole ---- */

/* Elements whose content is no text. */
static const char *const removed[] = {"ref", "math", "gallery", "timeline", "syntaxhighlight", "source", "code", "pre", "score",
                                      "imagemap", "chem", "graph", "mapframe", "templatestyles"};

/* Where the element that opens at i ends; i: it is none of these. unclosed: those
 * that no end tag follows any more, so that none is looked for twice. */
static size_t element_end(const span *t, size_t i, bool unclosed[])
{
    for (size_t k = 0; k < NR_COUNT(removed); k++) {
        size_t n = strlen(removed[k]);
        if (t->n - i < n + 2 || strncasecmp(t->s + i + 1, removed[k], n) != 0 || !strchr(" />\n", t->s[i + 1 + n])) continue;
        const char *close = memchr(t->s + i, '>', NR_MIN(t->n - i, (size_t)4096));
        if (!close) return i;
        if (close[-1] == '/') return (size_t)(close + 1 - t->s);
        for (const char *p = close; !unclosed[k] && (p = memchr(p, '<', t->n - (size_t)(p - t->s))); p++) {
            size_t j = (size_t)(p - t->s);
            if (j + 2 + n < t->n && p[1] == '/' && strncasecmp(p + 2, removed[k], n) == 0) {
                const char *end = memchr(p, '>', NR_MIN(t->n - j, (size_t)4096));
                return end ? (size_t)(end + 1 - t->s) : j;
            }
        }
        unclosed[k] = true;
        return (size_t)(close + 1 - t->s);
    }
    return i;
}

/* Comments, elements that hold no text, and the tags of all others. */
static void remove_elements(span *t)
{
    size_t to = 0;
    bool comments = true, unclosed[NR_COUNT(removed)] = {false};
    for (size_t i = 0; i < t->n;) {
        if (t->s[i] != '<') {
            t->s[to++] = t->s[i++];
            continue;
        }
        if (comments && at(t, i, "<!--")) {
            const char *end = memmem(t->s + i, t->n - i, "-->", 3);
            comments = end != NULL; /* no further one ends either */
            if (end) i = (size_t)(end + 3 - t->s);
            else t->s[to++] = t->s[i++];
            continue;
        }
        size_t end = element_end(t, i, unclosed);
        if (end > i) {
            i = end;
            continue;
        }
        char next = i + 1 < t->n ? t->s[i + 1] : 0;
        const char *close = (next | 32) >= 'a' || next == '/' ? memchr(t->s + i, '>', NR_MIN(t->n - i, (size_t)400)) : NULL;
        if (close && (at(t, i, "<br") || at(t, i, "<p>"))) t->s[to++] = '\n';
        if (close) i = (size_t)(close + 1 - t->s);
        else t->s[to++] = t->s[i++];
    }
    t->n = to;
}

/* Templates and tables, nested ones too: what stands in braces. An opening that never closes is kept. */
static void remove_braces(span *t)
{
    enum { DEEP = 64 };
    size_t open[DEEP], depth = 0, to = 0; /* open: where in the output the brace began */
    for (size_t i = 0; i < t->n;) {
        bool opens = at(t, i, "{{") || at(t, i, "{|"), closes = at(t, i, "}}") || at(t, i, "|}");
        if (closes && at(t, i, "|}}") && depth > 0 && t->s[open[depth - 1] + 1] == '{') closes = false; /* "{{x|}}" */
        if (opens && depth < DEEP) open[depth++] = to;
        if (closes && depth > 0) {
            to = open[--depth];
            i += 2;
            continue;
        }
        size_t step = opens ? 2 : 1;
        for (; step > 0 && i < t->n; step--) t->s[to++] = t->s[i++];
    }
    t->n = to;
}

/* ---- links ---- */

/* Namespaces of pictures and categories, in the languages at hand; interwiki codes have no space before ':'. */
static bool no_text_link(const char *s, size_t n)
{
    static const char *const names[] = {"file:", "image:", "category:", "fichier:", "catégorie:", "datei:", "bild:", "kategorie:",
                                        "archivo:", "categoría:", "immagine:", "categoria:", "media:"};
    for (size_t i = 0; i < NR_COUNT(names); i++)
        if (n >= strlen(names[i]) && strncasecmp(s, names[i], strlen(names[i])) == 0) return true;
    return false;
}

/* [[target|words]] becomes words; links inside a picture's caption go with it. */
static void open_links(span *t)
{
    enum { DEEP = 16 };
    struct {
        size_t at, bar;
    } open[DEEP];
    size_t depth = 0, to = 0;
    for (size_t i = 0; i < t->n;) {
        if (at(t, i, "[[") && depth < DEEP) {
            open[depth].at = to;
            open[depth++].bar = SIZE_MAX;
            t->s[to++] = t->s[i++];
            t->s[to++] = t->s[i++];
        } else if (at(t, i, "]]") && depth > 0) {
            size_t from = open[--depth].at, words = open[depth].bar == SIZE_MAX ? from + 2 : open[depth].bar + 1;
            if (no_text_link(t->s + from + 2, to - from - 2)) {
                to = from;
            } else {
                memmove(t->s + from, t->s + words, to - words);
                to = from + (to - words);
            }
            i += 2;
        } else {
            if (t->s[i] == '|' && depth > 0) open[depth - 1].bar = to;
            t->s[to++] = t->s[i++];
        }
    }
    t->n = to;
}

/* [http://... words] becomes words. */
static void open_addresses(span *t)
{
    size_t to = 0;
    for (size_t i = 0; i < t->n;) {
        const char *end = at(t, i, "[http") || at(t, i, "[//") ? memchr(t->s + i, ']', NR_MIN(t->n - i, (size_t)4096)) : NULL;
        if (!end) {
            t->s[to++] = t->s[i++];
            continue;
        }
        const char *blank = memchr(t->s + i, ' ', (size_t)(end - (t->s + i)));
        for (const char *p = blank ? blank + 1 : end; p < end; p++) t->s[to++] = *p;
        i = (size_t)(end + 1 - t->s);
    }
    t->n = to;
}

/* ---- lines ---- */

/* A line without its marks: "== Title ==", "* item", "; term", "----", __TOC__. */
static void add_line(nr_buffer *out, const char *s, size_t n, bool *blank)
{
    bool heading = n > 2 && s[0] == '=', item = n > 0 && strchr("*#:;", s[0]);
    if (n > 4 && memcmp(s, "__", 2) == 0 && memcmp(s + n - 2, "__", 2) == 0) n = 0;
    while (n > 0 && strchr(heading ? "= \t" : "*#:; \t", s[0])) s++, n--;
    while (n > 0 && strchr(heading ? "= \t\r" : " \t\r", s[n - 1])) n--;
    if (n == 0 || (s[0] == '-' && strspn(s, "-") >= n)) {
        *blank = true;
        return;
    }
    if (out->size > 0) nr_buffer_text(out, *blank || heading || !item ? "\n\n" : "\n");
    if (item) nr_buffer_text(out, "- ");
    for (size_t i = 0; i < n;) {
        size_t quotes = 0;
        while (i + quotes < n && s[i + quotes] == '\'') quotes++;
        if (quotes < 2) {
            nr_buffer_add(out, s + i, quotes + (quotes == 0));
            i += quotes + (quotes == 0);
        } else {
            i += quotes; /* bold, italic */
        }
    }
    *blank = heading;
}

void nr_wikitext_plain(nr_buffer *out, const char *s, size_t n)
{
    nr_buffer copy = {0}, lines = {0};
    bool blank = true;
    nr_buffer_add(&copy, s, n);
    span t = {copy.data, copy.size};
    if (copy.failed || n == 0) t.n = 0;
    replace_entities(&t);
    remove_elements(&t);
    remove_braces(&t);
    replace_entities(&t);
    open_links(&t);
    open_addresses(&t);
    for (size_t i = 0; i < t.n;) {
        const char *stop = memchr(t.s + i, '\n', t.n - i);
        size_t size = stop ? (size_t)(stop - (t.s + i)) : t.n - i;
        add_line(&lines, t.s + i, size, &blank);
        i += size + 1;
    }
    if (lines.size > 0) nr_buffer_add(out, lines.data, lines.size);
    if (copy.failed || lines.failed) out->failed = true;
    nr_buffer_free(&copy);
    nr_buffer_free(&lines);
}
