/*
 * prep_text.c - characters, words and paragraphs of prose. Works on bytes of
 * any kind: what is not UTF-8 is dropped, never read past.
 */
#include <string.h>

#include "prepare/prep.h"

size_t nr_utf8_read(const char *s, size_t n, uint32_t *code)
{
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0) return 0;
    if (u[0] < 0x80) return *code = u[0], 1;
    size_t len = u[0] >= 0xF0 ? 4 : u[0] >= 0xE0 ? 3 : 2;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (u[0] < 0xC2 || u[0] > 0xF4 || len > n) return 0;
    uint32_t c = u[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (u[i] & 0x3F);
    }
    if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return 0;
    return *code = c, len;
}

void nr_utf8_write(nr_buffer *b, uint32_t c)
{
    char out[4];
    size_t n = 0;
    if (c < 0x80) {
        out[n++] = (char)c;
    } else if (c < 0x800) {
        out[n++] = (char)(0xC0 | c >> 6);
        out[n++] = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        out[n++] = (char)(0xE0 | c >> 12);
        out[n++] = (char)(0x80 | (c >> 6 & 0x3F));
        out[n++] = (char)(0x80 | (c & 0x3F));
    } else {
        out[n++] = (char)(0xF0 | c >> 18);
        out[n++] = (char)(0x80 | (c >> 12 & 0x3F));
        out[n++] = (char)(0x80 | (c >> 6 & 0x3F));
        out[n++] = (char)(0x80 | (c & 0x3F));
    }
    nr_buffer_add(b, out, n);
}

bool nr_utf8_valid(const char *s, size_t n)
{
    uint32_t c;
    for (size_t i = 0, k; i < n; i += k)
        if ((k = nr_utf8_read(s + i, n - i, &c)) == 0) return false;
    return true;
}

/* Windows-1252's own characters at 0x80..0x9F; 0: none. */
static const uint16_t windows[32] = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
                                     0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
                                     0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

void nr_utf8_from_1252(nr_buffer *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x80 && c < 0xA0) {
            if (windows[c - 0x80]) nr_utf8_write(b, windows[c - 0x80]);
        } else {
            nr_utf8_write(b, c);
        }
    }
}

uint32_t nr_lower(uint32_t c)
{
    if (c >= 'A' && c <= 'Z') return c + 32;
    if (c >= 0xC0 && c <= 0xDE && c != 0xD7) return c + 32;
    if (c == 0x178) return 0xFF;
    if (c == 0x130) return 'i';
    if ((c >= 0x100 && c <= 0x137) || (c >= 0x14A && c <= 0x177)) return c | 1;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E)) return c % 2 ? c + 1 : c;
    return c;
}

bool nr_is_letter(uint32_t c)
{
    if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
    if (c < 0xC0) return c == 0xAA || c == 0xB5 || c == 0xBA;
    if (c < 0x2C0) return c != 0xD7 && c != 0xF7;
    /* Greek to the last script before punctuation, then the blocks after the symbols. */
    return (c >= 0x370 && c < 0x2000) || (c >= 0x2C00 && c < 0x2E00) || (c >= 0x3040 && c < 0xD7B0) ||
           (c >= 0xF900 && c < 0xFB00);
}

/* ---- one paragraph in its plain form ---- */

/* Tags that pages leave behind when they were escaped twice. A name such as
 * <stdio.h> or <VirtualHost> is text and stays. */
static size_t leftover_tag(const char *s, size_t n)
{
    static const char *const names[] = {"b",  "i",  "u",    "p",    "br",   "em", "tt",  "li",  "ul",   "ol",  "td",    "tr", "th",
                                        "dd", "dt", "dl",   "h1",   "h2",   "h3", "h4",  "sub", "sup",  "div", "span",  "pre", "code",
                                        "a",  "hr", "font", "strong", "table", "emph", "literal", "filename"};
    size_t i = 1, k = 0;
    char name[16];
    if (i < n && s[i] == '/') i++;
    for (; i < n && k < sizeof name - 1; i++) {
        char c = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '1' && c <= '4'))) break;
        name[k++] = c;
    }
    name[k] = 0;
    bool known = false;
    for (size_t j = 0; j < NR_COUNT(names) && !known; j++) known = strcmp(name, names[j]) == 0;
    if (!known || i >= n || !strchr(" \t\n/>", s[i])) return 0;
    for (size_t j = i; j < n && j < i + 200; j++) {
        if (s[j] == '<') return 0;
        if (s[j] == '>') return j + 1;
    }
    return 0;
}

/* Entities that were escaped twice. */
static size_t leftover_entity(const char *s, size_t n, char *as)
{
    static const struct {
        const char *name;
        char as;
    } list[] = {{"&nbsp;", ' '}, {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&#39;", '\''}};
    for (size_t i = 0; i < NR_COUNT(list); i++) {
        size_t k = strlen(list[i].name);
        if (k <= n && memcmp(s, list[i].name, k) == 0) return *as = list[i].as, k;
    }
    return 0;
}

/* Roff escapes: font changes, zero-width marks, hyphens and spaces. */
static size_t leftover_roff(const char *s, size_t n, char *as)
{
    *as = 0;
    if (n >= 3 && s[1] == 'f' && strchr("BIRP", s[2])) return 3;
    if (n >= 5 && s[1] == 'f' && s[2] == '(' && s[3] == 'C') return 5;
    if (n >= 2 && (s[1] == '&' || s[1] == '|' || s[1] == '^')) return 2;
    if (n >= 2 && s[1] == '-' && n >= 3 && (s[2] | 32) >= 'a' && (s[2] | 32) <= 'z') return *as = '-', 2;
    return 0;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_invisible(uint32_t c)
{
    return c < 0x20 || c == 0x7F || c == 0xAD || (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
           (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF0 && c <= 0xFFFF) || (c >= 0xE000 && c <= 0xF8FF);
}

void nr_text_plain(nr_buffer *b, const char *s, size_t n)
{
    bool space = false, any = false, quoted = false;
    for (size_t i = 0, k = 1; i < n; i += k) {
        uint32_t c;
        char as = 0;
        if (i + 1 < n && s[i] == s[i + 1] && (s[i] == '`' || (s[i] == '\'' && quoted))) { /* ``so'' */
            quoted = s[i] == '`';
            if (space) nr_buffer_add(b, " ", 1);
            space = false;
            any = true;
            nr_buffer_add(b, "\"", 1);
            k = 2;
            continue;
        }
        if (s[i] == '<' && (k = leftover_tag(s + i, n - i)) > 0) continue;
        if (s[i] == '\\' && (k = leftover_roff(s + i, n - i, &as)) > 0 && as == 0) continue;
        if (as != 0 || (s[i] == '&' && (k = leftover_entity(s + i, n - i, &as)) > 0)) {
            c = (unsigned char)as;
        } else if ((k = nr_utf8_read(s + i, n - i, &c)) == 0) {
            k = 1;
            continue;
        }
        if (c >= 0x80 && c < 0xA0 && (c = windows[c - 0x80]) == 0) continue;
        if (c == 0x2010 || c == 0x2011) c = '-'; /* typographic hyphens of formatted manuals */
        if (is_space(c)) {
            space = any;
        } else if (!is_invisible(c)) {
            if (space) nr_buffer_add(b, " ", 1);
            space = false;
            any = true;
            nr_utf8_write(b, c);
        }
    }
}

/* ---- walks ---- */

bool nr_next_paragraph(const char **text, const char **start, size_t *size)
{
    const char *p = *text;
    while (*p == '\n' || *p == ' ' || *p == '\t' || *p == '\r') p++;
    *start = p;
    if (!*p) {
        *text = p;
        return false;
    }
    const char *end = p;
    for (;;) {
        const char *stop = strchr(p, '\n');
        if (!stop) {
            end = p + strlen(p);
            p = end;
            break;
        }
        end = stop;
        const char *q = stop + 1;
        while (*q == ' ' || *q == '\t' || *q == '\r') q++;
        p = stop + 1;
        if (*q == '\n' || !*q) break;
    }
    *text = p;
    while (end > *start && strchr(" \t\r\n", end[-1])) end--;
    *size = (size_t)(end - *start);
    return true;
}

bool nr_next_word(const char **text, const char *end, const char **start, size_t *size)
{
    const char *p = *text;
    uint32_t c;
    size_t k = 0;
    while (p < end && ((k = nr_utf8_read(p, (size_t)(end - p), &c)) == 0 || !nr_is_letter(c))) p += k ? k : 1;
    *start = p;
    while (p < end && (k = nr_utf8_read(p, (size_t)(end - p), &c)) > 0 && nr_is_letter(c)) p += k;
    *size = (size_t)(p - *start);
    *text = p;
    return *size > 0;
}

static uint64_t hash_step(uint64_t h, uint64_t v) { return (h ^ v) * 0x100000001B3u; }

uint64_t nr_words_hash(const char *s, size_t n, size_t *words)
{
    const char *p = s, *end = s + n, *w;
    size_t size, count = 0;
    uint64_t h = 0xCBF29CE484222325u;
    while (nr_next_word(&p, end, &w, &size)) {
        for (size_t i = 0, k; i < size; i += k) {
            uint32_t c = 0;
            k = nr_utf8_read(w + i, size - i, &c);
            if (k == 0) break;
            h = hash_step(h, nr_lower(c));
        }
        h = hash_step(h, ' ');
        count++;
    }
    if (words) *words = count;
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}
