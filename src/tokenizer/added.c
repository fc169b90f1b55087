/*
 * added.c - finds added tokens in text: leftmost, then longest, then the
 * conditions and the white space around them, as the `tokenizers` package does.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

static int by_text(const void *a, const void *b)
{
    const nr_bytes *x = &((const nr_added *)a)->text, *y = &((const nr_added *)b)->text;
    int c = memcmp(x->data, y->data, NR_MIN(x->size, y->size));
    return c ? c : (x->size > y->size) - (x->size < y->size);
}

void nr_added_sort(nr_added *a, size_t count)
{
    if (count) qsort(a, count, sizeof *a, by_text);
}

void nr_matcher_init(nr_matcher *m, const nr_added *a, size_t count)
{
    *m = (nr_matcher){.sorted = a, .count = count};
    for (size_t i = 0; i < count; i++) m->first[a[i].text.data[0]] = true;
}

/* The first token in [lo, hi) whose byte at `depth` is >= c; all share what stands before it. */
static size_t bound(const nr_added *a, size_t lo, size_t hi, size_t depth, unsigned c)
{
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (a[mid].text.size <= depth || a[mid].text.data[depth] < c) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* The longest token that stands at p. */
static const nr_added *longest(const nr_matcher *m, const unsigned char *p, const unsigned char *end)
{
    const nr_added *best = NULL;
    size_t lo = 0, hi = m->count;
    for (size_t depth = 0; p < end; depth++, p++) {
        lo = bound(m->sorted, lo, hi, depth, *p);
        hi = bound(m->sorted, lo, hi, depth, *p + 1u);
        if (lo == hi) break;
        if (m->sorted[lo].text.size == depth + 1) best = &m->sorted[lo];
    }
    return best;
}

static bool alone(const uint8_t *classes, const unsigned char *text, const unsigned char *p, const unsigned char *q,
                  const unsigned char *end)
{
    uint32_t cp;
    if (p > text && (nr_utf8_last(text, p, &cp), classes[cp] & NR_WORD)) return false;
    return !(q < end && (nr_utf8_next(q, (size_t)(end - q), &cp), classes[cp] & NR_WORD));
}

const nr_added *nr_matcher_next(const nr_matcher *m, const uint8_t *classes, const char *text, size_t n,
                                size_t taken, size_t *from, bool parse_special, size_t *begin, size_t *end)
{
    const unsigned char *s = (const unsigned char *)text, *p = s + *from, *stop = s + n;
    uint32_t cp;
    while (p < stop) {
        const nr_added *a = m->first[*p] ? longest(m, p, stop) : NULL;
        if (!a) {
            p++;
            continue;
        }
        const unsigned char *q = p + a->text.size;
        *from = (size_t)(q - s);
        if ((a->special && !parse_special) || (a->single_word && !alone(classes, s, p, q, stop))) {
            p = q;
            continue;
        }
        for (size_t len; a->lstrip && p > s + taken; p -= len) {
            len = nr_utf8_last(s, p, &cp);
            if (!(classes[cp] & NR_SPACE)) break;
        }
        for (size_t len; a->rstrip && q < stop; q += len) {
            len = nr_utf8_next(q, (size_t)(stop - q), &cp);
            if (!(classes[cp] & NR_SPACE)) break;
        }
        *begin = NR_MAX((size_t)(p - s), taken);
        *end = (size_t)(q - s);
        return a;
    }
    *from = n;
    return NULL;
}
