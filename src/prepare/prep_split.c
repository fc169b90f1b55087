/*
 * prep_split.c - deals documents out to training, validation and test by a
 * hash of their source, so that the parts don't depend on order and all
 * documents of one source (paragraphs of one article) stay together. No
 * paragraph ends up in two parts.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/prep.h"

const char *const nr_part_names[NR_PARTS] = {"train", "validation", "test"};

static uint64_t text_hash(const char *s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    return h;
}

/* Same source, same number: in [0, 1). */
static double place_of(const nr_prose *p, uint64_t seed) { return nr_rng_uniform(seed, NR_RNG_SPLIT, text_hash(p->source)); }

static nr_part part_of(double place, const nr_split_options *o)
{
    if (place < o->share[NR_PART_TEST]) return NR_PART_TEST;
    if (place < o->share[NR_PART_TEST] + o->share[NR_PART_VALIDATION]) return NR_PART_VALIDATION;
    return NR_PART_TRAIN;
}

typedef struct {
    double place;
    size_t index;
} ranked;

static int by_place(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

typedef struct {
    nr_split_counts *counts;
    nr_key_set earlier, own; /* paragraphs of earlier parts, and of this one */
    size_t cut;              /* bytes of a document; 0: all */
    nr_error *err;
} splitter;

/* What is left of a document once paragraphs of earlier parts are gone and the rest is cut. */
static nr_status trim(splitter *s, const nr_prose *doc, nr_buffer *out, size_t *paragraphs)
{
    const char *p = doc->text, *start;
    size_t n;
    *paragraphs = 0;
    while (nr_next_paragraph(&p, &start, &n)) {
        uint64_t key = nr_words_hash(start, n, NULL);
        if (s->cut > 0 && out->size > 0 && out->size + n > s->cut) {
            s->counts->cut_documents++;
            break;
        }
        if (nr_key_has(&s->earlier, key)) {
            s->counts->repeated_paragraphs++;
            continue;
        }
        NR_TRY(nr_key_add(&s->own, key, NULL, s->err));
        if (out->size > 0) nr_buffer_text(out, "\n\n");
        nr_buffer_add(out, start, n);
        (*paragraphs)++;
    }
    return out->failed ? nr_fail(s->err, NR_E_MEMORY, "split: out of memory for %s", doc->source) : NR_OK;
}

/* Documents of one part, chosen up to the limit in the order of their hashes, written in the order of the input. */
static nr_status fill(splitter *s, nr_prose_set *out, const nr_prose_set *in, const ranked *order, size_t first, size_t count,
                      nr_part part, size_t max_bytes)
{
    nr_split_counts *c = s->counts;
    char **texts = NULL;
    nr_status st = NR_OK;
    NR_TRY(nr_alloc(&texts, in->count + 1, sizeof *texts, "split", s->err));
    bool full = false;
    for (size_t i = first; i < first + count && st == NR_OK; i++) {
        size_t paragraphs, index = order[i].index;
        nr_buffer text = {0};
        if (full) {
            c->over_limit_documents++;
            continue;
        }
        NR_GO(trim(s, &in->items[index], &text, &paragraphs));
        c->empty_documents += text.size == 0;
        if (text.size == 0) continue;
        c->documents[part]++;
        c->paragraphs[part] += paragraphs;
        c->bytes[part] += text.size;
        full = max_bytes > 0 && c->bytes[part] >= max_bytes;
        texts[index] = text.data;
    }
    for (size_t i = 0; i < in->count && st == NR_OK; i++)
        if (texts[i]) st = nr_prose_add(out, in->items[i].source, texts[i], s->err);
done:
    for (size_t i = 0; i < in->count; i++) free(texts[i]);
    free(texts);
    return st;
}

/* This part's paragraphs join those of earlier parts. */
static nr_status remember(splitter *s)
{
    for (size_t i = 0; i < s->own.size; i++)
        if (s->own.keys[i]) NR_TRY(nr_key_add(&s->earlier, s->own.keys[i], NULL, s->err));
    nr_key_free(&s->own);
    return NR_OK;
}

nr_status nr_split(nr_prose_set out[NR_PARTS], const nr_prose_set *in, const nr_split_options *o, nr_split_counts *counts,
                   nr_error *err)
{
    static const nr_part sequence[NR_PARTS] = {NR_PART_TEST, NR_PART_VALIDATION, NR_PART_TRAIN};
    splitter s = {.counts = counts, .err = err};
    ranked *order = NULL;
    nr_status st = NR_OK;
    double held = o->share[NR_PART_TEST] + o->share[NR_PART_VALIDATION];
    if (o->share[NR_PART_TEST] < 0 || o->share[NR_PART_VALIDATION] < 0 || held > 1)
        return nr_fail(err, NR_E_USAGE, "split: expected shares of validation and test from 0 to 1 in sum, found %g", held);
    NR_TRY(nr_alloc(&order, in->count + 1, sizeof *order, "split", err));
    for (size_t i = 0; i < in->count; i++) order[i] = (ranked){place_of(&in->items[i], o->seed), i};
    qsort(order, in->count, sizeof *order, by_place);
    size_t first = 0;
    for (size_t k = 0; k < NR_PARTS && st == NR_OK; k++) {
        size_t count = 0;
        while (first + count < in->count && (sequence[k] == NR_PART_TRAIN || part_of(order[first + count].place, o) == sequence[k])) count++;
        /* A small set may have no hash below the share: a part that was asked for gets the next source. */
        if (count == 0 && o->share[sequence[k]] > 0 && in->count - first >= NR_PARTS)
            while (first + count < in->count && order[first + count].place == order[first].place) count++;
        s.cut = sequence[k] == NR_PART_TRAIN ? 0 : o->max_document_bytes;
        st = fill(&s, &out[sequence[k]], in, order, first, count, sequence[k], o->max_bytes[sequence[k]]);
        if (st == NR_OK) st = remember(&s);
        first += count;
    }
    nr_key_free(&s.own);
    nr_key_free(&s.earlier);
    free(order);
    return st;
}
