/*
 * rows.c - documents joined by EOS and cut into rows of T + 1 ids.
 *
 *   stream  d0 EOS d1 EOS d2 EOS ...      row i = ids [i T, i T + T]
 *
 * Inputs are the row's first T ids, targets the last T, so every id of the
 * stream but its first is a target once; an incomplete row at the end is
 * dropped. Training and validation take disjoint documents of the same files by
 * a hash of the document's number. Holds two numbers a document. Refuses a
 * stream that is shorter than one row, with the counts that say why.
 */
#include <stdlib.h>
#include <string.h>

#include "data/data.h"

struct nr_rows {
    const nr_tokens *tokens; /* NULL: random ids */
    size_t context, count, left_out;
    int32_t eos;
    size_t documents;
    size_t *document; /* (documents) number in the tokens */
    size_t *start;    /* (documents + 1) position in the stream */
    size_t V;         /* random ids: below this */
    uint64_t seed;
};

bool nr_split_is_validation(uint64_t seed, bool is_new, size_t document, double share)
{
    return nr_rng_uniform(seed, NR_RNG_SPLIT, (uint64_t)document * 2 + is_new) < share;
}

static nr_status hashes_of(nr_key_set *set, const nr_tokens *t, nr_error *err)
{
    bool fresh;
    for (size_t d = 0; t && d < nr_tokens_documents(t); d++)
        NR_TRY(nr_key_add(set, nr_tokens_document_hash(t, d), &fresh, err));
    return NR_OK;
}

static nr_status choose(nr_rows *r, const nr_key_set *without, uint64_t seed, bool is_new, double share, bool validation,
                        nr_error *err)
{
    size_t all = nr_tokens_documents(r->tokens), at = 0;
    NR_TRY(nr_alloc(&r->document, all, sizeof *r->document, "documents", err));
    NR_TRY(nr_alloc(&r->start, all + 1, sizeof *r->start, "documents", err));
    for (size_t d = 0; d < all; d++) {
        if (share > 0 && nr_split_is_validation(seed, is_new, d, share) != validation) continue;
        if (without->size && nr_key_has(without, nr_tokens_document_hash(r->tokens, d))) {
            r->left_out++;
            continue;
        }
        size_t count, bytes;
        nr_tokens_document(r->tokens, d, NULL, &count, &bytes);
        r->document[r->documents++] = d;
        at += count + 1;
        r->start[r->documents] = at;
    }
    r->count = at > 0 ? (at - 1) / r->context : 0;
    return NR_OK;
}

static nr_status too_short(const nr_rows *r, bool validation, double share, const char *what, nr_error *err)
{
    const char *advice = validation && share > 0 ? "; name validation files or raise --validation-share"
                                                 : "; give more text or a smaller --context";
    return nr_fail(err, NR_E_USAGE, "%s: expected at least a row of %zu tokens, found %zu tokens in %zu of %zu documents%s",
                   what, r->context + 1, r->start[r->documents], r->documents, nr_tokens_documents(r->tokens), advice);
}

nr_status nr_rows_open(nr_rows **out, const nr_tokens *t, const nr_tokens *without, size_t context, int32_t eos,
                       uint64_t seed, bool is_new, double validation_share, bool validation, const char *what, nr_error *err)
{
    nr_rows *r;
    nr_key_set set = {0};
    *out = NULL;
    NR_TRY(nr_alloc(&r, 1, sizeof *r, "rows", err));
    *r = (nr_rows){.tokens = t, .context = context, .eos = eos};
    nr_status st = hashes_of(&set, without, err);
    if (st == NR_OK) st = choose(r, &set, seed, is_new, validation_share, validation, err);
    if (st == NR_OK && r->count == 0) st = too_short(r, validation, validation_share, what, err);
    nr_key_free(&set);
    if (st == NR_OK)
        *out = r;
    else
        nr_rows_close(r);
    return st;
}

nr_status nr_rows_random(nr_rows **out, size_t context, size_t count, size_t V, uint64_t seed, nr_error *err)
{
    NR_TRY(nr_alloc(out, 1, sizeof **out, "rows", err));
    **out = (nr_rows){.context = context, .count = count, .V = V, .seed = seed};
    return NR_OK;
}

void nr_rows_close(nr_rows *r)
{
    if (!r) return;
    free(r->document);
    free(r->start);
    free(r);
}

size_t nr_rows_count(const nr_rows *r) { return r->count; }
size_t nr_rows_documents(const nr_rows *r) { return r->documents; }
size_t nr_rows_left_out(const nr_rows *r) { return r->left_out; }

/* The document that holds position `at` of the stream; its EOS is its own. */
static size_t document_at(const nr_rows *r, size_t at)
{
    size_t low = 0, high = r->documents;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (r->start[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void random_row(const nr_rows *r, size_t i, int32_t *ids, int32_t *first)
{
    size_t T = r->context;
    for (size_t k = 0; k <= T; k++) ids[k] = (int32_t)(nr_rng_u64(r->seed, NR_RNG_TEST, i * (T + 1) + k) % r->V);
    if (first) memset(first, 0, T * sizeof *first);
}

void nr_rows_get(const nr_rows *r, size_t i, int32_t *ids, int32_t *first)
{
    if (!r->tokens) {
        random_row(r, i, ids, first);
        return;
    }
    size_t T = r->context, begin = i * T, at = begin, d = document_at(r, begin);
    while (at <= begin + T) {
        size_t text_end = r->start[d + 1] - 1, end = NR_MIN(r->start[d + 1], begin + T + 1);
        if (at < text_end)
            nr_tokens_read(r->tokens, r->document[d], at - r->start[d], NR_MIN(text_end, end) - at, ids + (at - begin));
        if (end > text_end) ids[text_end - begin] = r->eos;
        for (size_t k = at; first && k < NR_MIN(end, begin + T); k++) first[k - begin] = (int32_t)(at - begin);
        at = end;
        d++;
    }
}
