/*
 * nfc.c - Unicode normalisation form C.
 *
 * The text is cut before every symbol that is stable and never joins what
 * stands before it. A cut of one symbol is copied; any other is decomposed,
 * its marks put into canonical order, and composed again.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/unicode.h"

typedef struct {
    uint32_t first;
    uint8_t ccc;
} ccc_run;
typedef struct {
    uint32_t whole, first, second;
} decomposition;
typedef struct {
    uint32_t first, second, whole;
} composition;

#include "tokenizer/unicode_nfc.inc"

/* Hangul syllables are arithmetic: S = S0 + (l * 21 + v) * 28 + t. */
enum { S0 = 0xAC00, L0 = 0x1100, V0 = 0x1161, T0 = 0x11A7, LN = 19, VN = 21, TN = 28, SN = 11172 };

/* Code points of one cut. */
typedef struct {
    uint32_t *data;
    size_t size, cap;
} points;

static bool put(points *s, uint32_t cp)
{
    if (s->size == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 32;
        uint32_t *more = realloc(s->data, cap * sizeof *more);
        if (!more) return false;
        s->data = more;
        s->cap = cap;
    }
    s->data[s->size++] = cp;
    return true;
}

static unsigned ccc_of(uint32_t cp)
{
    size_t lo = 0, hi = NR_COUNT(ccc_runs);
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (ccc_runs[mid].first <= cp) lo = mid;
        else hi = mid;
    }
    return ccc_runs[lo].ccc;
}

static bool decompose(points *s, uint32_t cp)
{
    if (cp - S0 < SN) {
        uint32_t i = cp - S0, t = i % TN;
        return put(s, L0 + i / (VN * TN)) && put(s, V0 + i / TN % VN) && (t == 0 || put(s, T0 + t));
    }
    size_t lo = 0, hi = NR_COUNT(decompositions);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (decompositions[mid].whole < cp) lo = mid + 1;
        else hi = mid;
    }
    if (lo == NR_COUNT(decompositions) || decompositions[lo].whole != cp) return put(s, cp);
    const decomposition *d = &decompositions[lo];
    return decompose(s, d->first) && (d->second == 0 || decompose(s, d->second));
}

/* What a and b compose to, 0 when they don't. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a - L0 < LN && b - V0 < VN) return S0 + ((a - L0) * VN + (b - V0)) * TN;
    if (a - S0 < SN && (a - S0) % TN == 0 && b - T0 - 1 < TN - 1) return a + (b - T0);
    uint64_t key = (uint64_t)a << 32 | b;
    size_t lo = 0, hi = NR_COUNT(compositions);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (((uint64_t)compositions[mid].first << 32 | compositions[mid].second) < key) lo = mid + 1;
        else hi = mid;
    }
    bool hit = lo < NR_COUNT(compositions) && compositions[lo].first == a && compositions[lo].second == b;
    return hit ? compositions[lo].whole : 0;
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Puts each run of marks into the order of their classes, equal ones as they were. */
static bool order(points *s)
{
    for (size_t i = 0; i < s->size;) {
        if (ccc_of(s->data[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i;
        bool sorted = true;
        for (unsigned last = 0, c; end < s->size && (c = ccc_of(s->data[end])) != 0; end++, last = c)
            sorted = sorted && c >= last;
        size_t n = end - i;
        uint64_t *keys = sorted ? NULL : malloc(n * sizeof *keys);
        if (!sorted && !keys) return false;
        if (!sorted) {
            /* class, place, code point: 8 + 35 + 21 bits */
            for (size_t k = 0; k < n; k++)
                keys[k] = (uint64_t)ccc_of(s->data[i + k]) << 56 | (uint64_t)k << 21 | s->data[i + k];
            qsort(keys, n, sizeof *keys, by_key);
            for (size_t k = 0; k < n; k++) s->data[i + k] = keys[k] & 0x1FFFFF;
        }
        free(keys);
        i = end;
    }
    return true;
}

/* Joins each symbol with the last starter unless a symbol of its class or a higher one stands between. */
static void recompose(points *s)
{
    size_t starter = SIZE_MAX, kept = 0;
    unsigned last = 0; /* class of the symbol kept last after the starter */
    for (size_t i = 0; i < s->size; i++) {
        uint32_t cp = s->data[i], whole = 0;
        unsigned c = ccc_of(cp);
        bool adjacent = starter != SIZE_MAX && starter + 1 == kept;
        if (starter != SIZE_MAX && (adjacent || (last < c && last != 0))) whole = compose(s->data[starter], cp);
        if (whole) {
            s->data[starter] = whole;
            continue;
        }
        if (c == 0) starter = kept;
        last = c;
        s->data[kept++] = cp;
    }
    s->size = kept;
}

/* One symbol on from p: its length; *bits is its class. */
static size_t step(const uint8_t *classes, const unsigned char *p, const unsigned char *end, uint32_t *cp, uint8_t *bits)
{
    size_t n = nr_utf8_next(p, (size_t)(end - p), cp);
    *bits = classes[*cp];
    return n;
}

bool nr_nfc_unchanged(const uint8_t *classes, const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + n;
    while (p < end) {
        uint64_t eight;
        if (end - p >= 8 && (memcpy(&eight, p, 8), (eight & 0x8080808080808080u) == 0)) {
            p += 8;
            continue;
        }
        uint32_t cp;
        uint8_t bits;
        p += step(classes, p, end, &cp, &bits);
        if (bits & NR_UNSAFE) return false;
    }
    return true;
}

/* Adds the cut [p, end), one stable symbol at most at its start. */
static bool add_cut(nr_buffer *out, points *s, const uint8_t *classes, const unsigned char *p, const unsigned char *end)
{
    s->size = 0;
    while (p < end) {
        uint32_t cp;
        uint8_t bits;
        p += step(classes, p, end, &cp, &bits);
        if (!decompose(s, cp)) return false;
    }
    if (!order(s)) return false;
    recompose(s);
    for (size_t i = 0; i < s->size; i++) {
        char bytes[4];
        nr_buffer_add(out, bytes, nr_utf8_put(bytes, s->data[i]));
    }
    return true;
}

nr_status nr_nfc(nr_buffer *out, const uint8_t *classes, const char *text, size_t n, nr_error *err)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + n, *copied = p;
    points s = {0};
    bool ok = true;
    while (ok && p < end) {
        uint32_t cp;
        uint8_t bits;
        const unsigned char *cut = p;
        p += step(classes, p, end, &cp, &bits);
        bool valid = cp != NR_INVALID, changes = (bits & NR_UNSAFE) != 0;
        while (valid && p < end) {
            size_t len = step(classes, p, end, &cp, &bits);
            if (!(bits & NR_UNSAFE)) break;
            p += len;
            changes = true;
        }
        if (!changes) continue;
        nr_buffer_add(out, copied, (size_t)(cut - copied));
        ok = add_cut(out, &s, classes, cut, p);
        copied = p;
    }
    nr_buffer_add(out, copied, (size_t)(end - copied));
    free(s.data);
    if (!ok || out->failed) return nr_fail(err, NR_E_MEMORY, "normalising %zu bytes of text: out of memory", n);
    return NR_OK;
}
