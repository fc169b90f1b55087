/*
 * pretokenize.c - the scanners. Each tries the alternatives of its pattern in
 * order and matches greedily, as a backtracking regular expression does.
 */
#include <string.h>

#include "tokenizer/pretokenize.h"

typedef const unsigned char *cursor;

static const char *const names[] = {
#define NR_X(name, text) text,
    NR_SPLITS(NR_X)
#undef NR_X
};

static const struct {
    const char *regex;
    nr_split split;
} known[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", NR_SPLIT_GPT2},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", NR_SPLIT_LLAMA3},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", NR_SPLIT_QWEN2},
};

const char *nr_split_name(nr_split s)
{
    return names[s];
}

bool nr_split_from_regex(nr_split *s, const char *regex)
{
    for (size_t i = 0; i < NR_COUNT(known); i++)
        if (!strcmp(known[i].regex, regex)) {
            *s = known[i].split;
            return true;
        }
    return false;
}

const char *nr_split_regex(nr_split s)
{
    for (size_t i = 0; i < NR_COUNT(known); i++)
        if (known[i].split == s) return known[i].regex;
    return NULL;
}

bool nr_pretokenizer_add(nr_pretokenizer *t, nr_split s)
{
    if (s == NR_SPLIT_GPT2 && t->count && t->steps[t->count - 1] == NR_SPLIT_DIGIT) {
        t->steps[t->count - 1] = NR_SPLIT_DIGIT_GPT2;
        return true;
    }
    if (t->count == NR_SPLIT_STEPS) return false;
    t->steps[t->count++] = s;
    return true;
}

/* Class bits of the symbol at p; its length through *n. */
static inline unsigned class_at(const uint8_t *classes, cursor p, cursor end, size_t *n)
{
    if (*p < 0x80) {
        *n = 1;
        return classes[*p];
    }
    uint32_t cp;
    *n = nr_utf8_next(p, (size_t)(end - p), &cp);
    return classes[cp];
}

/* Past the run of symbols whose class bits, cut to `mask`, equal `want`. */
static inline cursor run(const uint8_t *classes, cursor p, cursor end, unsigned mask, unsigned want)
{
    size_t n;
    while (p < end && (class_at(classes, p, end, &n) & mask) == want) p += n;
    return p;
}

/* Length of 's 't 're 've 'm 'll 'd at p, 0 when none. In any case: `fold`,
 * where U+017F, the long s, is an s too. */
static inline size_t contraction(cursor p, cursor end, bool fold)
{
    size_t room = (size_t)(end - p);
    if (room < 2 || *p != '\'') return 0;
    unsigned up = fold ? 0x20 : 0, a = p[1] | up, b = room > 2 ? p[2] | up : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return fold && room > 2 && p[1] == 0xC5 && p[2] == 0xBF ? 3 : 0;
}

/* \s+(?!\S)|\s+ where [p, q) is the run of white space and not empty: all of
 * it before the end of the text, else all but its last symbol, which may open
 * the next piece. */
static inline size_t spaces(cursor p, cursor q, bool at_end)
{
    if (at_end) return (size_t)(q - p);
    uint32_t cp;
    size_t last = nr_utf8_last(p, q, &cp);
    return (size_t)(q - p) > last ? (size_t)(q - p) - last : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * With `digits` the text ends, for each piece, before the next digit, and a
 * digit is a piece: the same as cutting out the digits first. */
static inline size_t gpt2(const uint8_t *classes, cursor p, cursor end, bool digits)
{
    const unsigned stop = digits ? NR_DIGIT : 0, kinds = NR_LETTER | NR_NUMBER | NR_SPACE | stop;
    size_t n, m;
    unsigned c = class_at(classes, p, end, &n);
    if (c & stop) return n;
    if (*p == '\'' && (m = contraction(p, end, false)) != 0) return m;
    cursor q = p + n;
    if (*p == ' ' && q < end) {
        c = class_at(classes, q, end, &m);
        if (c & (NR_SPACE | stop)) c = NR_SPACE;
        else q += m;
    }
    if (c & NR_LETTER) return (size_t)(run(classes, q, end, NR_LETTER | stop, NR_LETTER) - p);
    if (c & NR_NUMBER) return (size_t)(run(classes, q, end, NR_NUMBER | stop, NR_NUMBER) - p);
    if (!(c & NR_SPACE)) return (size_t)(run(classes, q, end, kinds, 0) - p);
    q = run(classes, q, end, NR_SPACE | stop, NR_SPACE);
    return spaces(p, q, q == end || (class_at(classes, q, end, &n) & stop));
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*
 * |\s*[\r\n]+|\s+(?!\S)|\s+ */
static inline size_t llama3(const uint8_t *classes, cursor p, cursor end, unsigned numbers)
{
    const unsigned kinds = NR_LETTER | NR_NUMBER | NR_SPACE;
    size_t n, m;
    unsigned c = class_at(classes, p, end, &n), next = 0;
    if (*p == '\'' && (m = contraction(p, end, true)) != 0) return m;
    cursor q = p + n;
    if (c & NR_LETTER) return (size_t)(run(classes, q, end, NR_LETTER, NR_LETTER) - p);
    if (c & NR_NUMBER) {
        for (unsigned i = 1; i < numbers && q < end && (class_at(classes, q, end, &m) & NR_NUMBER); i++) q += m;
        return (size_t)(q - p);
    }
    if (q < end) {
        next = class_at(classes, q, end, &m);
        if ((next & NR_LETTER) && *p != '\r' && *p != '\n')
            return (size_t)(run(classes, q + m, end, NR_LETTER, NR_LETTER) - p);
    }
    if (!(c & NR_SPACE) || (*p == ' ' && q < end && !(next & kinds))) {
        q = run(classes, q, end, kinds, 0);
        while (q < end && (*q == '\r' || *q == '\n')) q++;
        return (size_t)(q - p);
    }
    q = run(classes, q, end, NR_SPACE, NR_SPACE);
    for (cursor line = q; line > p; line--)
        if (line[-1] == '\r' || line[-1] == '\n') return (size_t)(line - p);
    return spaces(p, q, q == end);
}

size_t nr_split_next(nr_split s, const uint8_t *classes, const unsigned char *p, const unsigned char *end)
{
    size_t n;
    unsigned digit;
    switch (s) {
    case NR_SPLIT_GPT2: return gpt2(classes, p, end, false);
    case NR_SPLIT_DIGIT_GPT2: return gpt2(classes, p, end, true);
    case NR_SPLIT_LLAMA3: return llama3(classes, p, end, 3);
    case NR_SPLIT_QWEN2: return llama3(classes, p, end, 1);
    case NR_SPLIT_DIGIT:
    case NR_SPLIT_DIGITS: break;
    }
    digit = class_at(classes, p, end, &n) & NR_DIGIT;
    if (digit && s == NR_SPLIT_DIGIT) return n;
    return (size_t)(run(classes, p + n, end, NR_DIGIT, digit) - p);
}

void nr_pieces_start(nr_pieces *w, const nr_pretokenizer *how, const uint8_t *classes, const char *text, size_t n)
{
    *w = (nr_pieces){.how = how, .classes = classes, .p = (cursor)text, .end = (cursor)text + n};
    for (size_t i = 0; i < NR_SPLIT_STEPS; i++) w->stop[i] = w->p;
}

bool nr_pieces_next(nr_pieces *w, const unsigned char **piece, size_t *n)
{
    if (w->p == w->end) return false;
    cursor stop = w->end;
    for (size_t i = 0; i < w->how->count; i++) {
        if (w->stop[i] == w->p) w->stop[i] = w->p + nr_split_next(w->how->steps[i], w->classes, w->p, stop);
        stop = w->stop[i];
    }
    *piece = w->p;
    *n = (size_t)(stop - w->p);
    w->p = stop;
    return true;
}
