/*
 * bpe.c - the merge loop, in two forms that give the same ids: short pieces
 * search an array for the lowest rank (n^2, but in registers and cache), long
 * ones keep a heap over a linked list (n log n, whatever the text).
 */
#include <stdlib.h>

#include "tokenizer/bpe.h"

enum { SHORT_PIECE = 64 };
#define NO_RANK UINT32_MAX
#define NO_LINK UINT32_MAX

nr_status nr_bpe_new(nr_bpe *b, size_t merges, nr_error *err)
{
    size_t slots = 16;
    while (slots / 2 < merges) slots *= 2;
    *b = (nr_bpe){.mask = slots - 1, .unknown = -1};
    for (size_t i = 0; i < 256; i++) b->byte_ids[i] = -1;
    NR_TRY(nr_alloc(&b->pairs, slots, sizeof *b->pairs, "table of merges", err));
    for (size_t i = 0; i < slots; i++) b->pairs[i].a = -1;
    return NR_OK;
}

void nr_bpe_free(nr_bpe *b)
{
    free(b->pairs);
    b->pairs = NULL;
}

static inline size_t slot_of(const nr_bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (h ^ h >> 32) & b->mask;
}

/* The merge of two ids; NULL when there is none. */
static inline const nr_pair *find(const nr_bpe *b, int32_t left, int32_t right)
{
    for (size_t i = slot_of(b, left, right);; i = (i + 1) & b->mask) {
        const nr_pair *s = &b->pairs[i];
        if (s->a == left && s->b == right) return s;
        if (s->a < 0) return NULL;
    }
}

void nr_bpe_add(nr_bpe *b, nr_pair pair)
{
    size_t i = slot_of(b, pair.a, pair.b);
    while (b->pairs[i].a >= 0 && (b->pairs[i].a != pair.a || b->pairs[i].b != pair.b)) i = (i + 1) & b->mask;
    b->pairs[i] = pair;
}

/* Ids of single bytes; fewer than n when the vocabulary lacks some. */
static size_t start(const nr_bpe *b, const unsigned char *p, size_t n, int32_t *ids)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_ids[p[i]];
        if (id < 0) id = b->unknown;
        if (id >= 0) ids[m++] = id;
    }
    return m;
}

/* Merges in place; n <= SHORT_PIECE. Returns how many ids are left. */
static size_t merge_short(const nr_bpe *b, int32_t *ids, size_t n)
{
    uint32_t rank[SHORT_PIECE]; /* of the pair (i, i + 1) */
    int32_t whole[SHORT_PIECE]; /* what it becomes */
    for (size_t i = 0; i + 1 < n; i++) {
        const nr_pair *s = find(b, ids[i], ids[i + 1]);
        rank[i] = s ? s->rank : NO_RANK;
        whole[i] = s ? s->id : -1;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;
        ids[best] = whole[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
            whole[i - 1] = whole[i];
        }
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const nr_pair *s = find(b, ids[i], ids[i + 1]);
            rank[i] = s ? s->rank : NO_RANK;
            whole[i] = s ? s->id : -1;
        }
    }
    return n;
}

/* A heap of rank << 32 | place, the smallest on top. */
typedef struct {
    uint64_t *data; /* (2 n) */
    size_t size;
} heap;

static void heap_push(heap *h, uint64_t v)
{
    size_t i = h->size++;
    for (; i > 0 && h->data[(i - 1) / 2] > v; i = (i - 1) / 2) h->data[i] = h->data[(i - 1) / 2];
    h->data[i] = v;
}

static uint64_t heap_pop(heap *h)
{
    uint64_t top = h->data[0], v = h->data[--h->size];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < h->size; i = c) {
        if (c + 1 < h->size && h->data[c + 1] < h->data[c]) c++;
        if (h->data[c] >= v) break;
        h->data[i] = h->data[c];
    }
    h->data[i] = v;
    return top;
}

/* A long piece as a doubly linked list; id -1 marks a symbol merged away. */
typedef struct {
    const nr_bpe *b;
    int32_t *ids;
    uint32_t *before, *after; /* (n) */
    heap h;
} list;

static void push_pair(list *l, uint32_t i)
{
    if (i == NO_LINK || l->after[i] == NO_LINK) return;
    const nr_pair *s = find(l->b, l->ids[i], l->ids[l->after[i]]);
    if (s) heap_push(&l->h, (uint64_t)s->rank << 32 | i);
}

static size_t merge_long(list *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        l->before[i] = i ? (uint32_t)i - 1 : NO_LINK;
        l->after[i] = i + 1 < n ? (uint32_t)i + 1 : NO_LINK;
    }
    for (size_t i = 0; i < n; i++) push_pair(l, (uint32_t)i);
    while (l->h.size) {
        uint64_t top = heap_pop(&l->h);
        uint32_t i = (uint32_t)top, j = l->after[i];
        if (l->ids[i] < 0 || j == NO_LINK) continue;
        const nr_pair *s = find(l->b, l->ids[i], l->ids[j]);
        if (!s || s->rank != top >> 32) continue; /* one of the two has grown since */
        l->ids[i] = s->id;
        l->ids[j] = -1;
        l->after[i] = l->after[j];
        if (l->after[i] != NO_LINK) l->before[l->after[i]] = i;
        push_pair(l, l->before[i]);
        push_pair(l, i);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (l->ids[i] >= 0) l->ids[kept++] = l->ids[i];
    return kept;
}

nr_status nr_bpe_encode(const nr_bpe *b, const unsigned char *p, size_t n, int32_t *ids, size_t *count,
                        nr_bpe_scratch *scratch, nr_error *err)
{
    size_t m = start(b, p, n, ids);
    if (m <= SHORT_PIECE) {
        *count = merge_short(b, ids, m);
        return NR_OK;
    }
    if (n >= INT32_MAX)
        return nr_fail(err, NR_E_UNSUPPORTED, "text: expected pieces below 2 GiB, found one of %zu bytes", n);
    /* at most m - 1 pairs at first, and each merge takes one and adds two */
    size_t need = m * (2 * sizeof(uint64_t) + 2 * sizeof(uint32_t));
    if (scratch->size < need) {
        void *more = realloc(scratch->data, need);
        if (!more) return nr_fail(err, NR_E_MEMORY, "merging a piece of %zu bytes: out of memory", n);
        *scratch = (nr_bpe_scratch){.data = more, .size = need};
    }
    list l = {.b = b, .ids = ids, .h = {.data = scratch->data}};
    l.before = (uint32_t *)(l.h.data + 2 * m);
    l.after = l.before + m;
    *count = merge_long(&l, m);
    return NR_OK;
}
