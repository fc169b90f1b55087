/*
 * dedup.c - exact repeats. Two passes: the first sends the hash and number of
 * every paragraph to files by the hash, and each file says which numbers are
 * repeats; the second reads the text again and leaves those out. In between
 * stands one bit a paragraph, in a mapped file. Or one pass, which asks a
 * filter in the order of reading and may leave out a few that are no repeats.
 */
#include <stdlib.h>
#include <openssl/evp.h>
#include <string.h>

#include "prepare/two_passes.h"

typedef struct {
    bool documents;
    nr_two_passes passes;
} dedup;

/* The next paragraph; the whole text where documents are compared. */
static bool next_piece(bool documents, const char **at, const char *end, size_t *n)
{
    static const char gap[] = "\n\n";
    if (*at >= end) return false;
    const char *stop = documents ? NULL : memmem(*at, (size_t)(end - *at), gap, 2);
    *n = (size_t)((stop ? stop : end) - *at);
    return true;
}

static bool hash(EVP_MD_CTX *context, const char *s, size_t n, nr_keyed *k)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(context, s, n) != 1 ||
        EVP_DigestFinal_ex(context, digest, NULL) != 1)
        return false;
    memcpy(k->key, digest, sizeof k->key);
    return true;
}

/* The keys of a record's pieces to r->keys, the first with the number. */
static nr_status hash_record(nr_record *r, bool documents, uint64_t number, nr_error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context != NULL;
    const char *p = r->text.data, *end = p + r->text.size;
    for (size_t n; ok && next_piece(documents, &p, end, &n); p += n + 2) {
        nr_keyed k = {.number = number++};
        ok = hash(context, p, n, &k);
        nr_buffer_add(&r->keys, &k, sizeof k);
    }
    EVP_MD_CTX_free(context);
    return ok && !r->keys.failed ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hashes", r->source.data);
}

/* Leaves out the pieces that seen() knows, which is asked in their order; i: the piece's place in the record. */
typedef nr_status seen_fn(const void *user, const nr_record *r, size_t i, bool *yes, nr_error *err);
static nr_status drop_pieces(nr_record *r, bool documents, seen_fn *seen, const void *user, nr_counts *c, nr_error *err)
{
    char *s = r->text.data;
    const char *p = s, *end = s + r->text.size;
    size_t to = 0, i = 0;
    for (size_t n; next_piece(documents, &p, end, &n); p += n + 2) {
        bool gone;
        NR_TRY(seen(user, r, i++, &gone, err));
        if (gone) {
            if (!documents) c->v.dedup_repeated_paragraphs++;
            continue;
        }
        if (to > 0) memcpy(s + to, "\n\n", 2), to += 2;
        memmove(s + to, p, n);
        to += n;
    }
    r->text.size = to;
    s[to] = 0;
    r->dropped = to == 0;
    if (r->dropped) c->v.dedup_repeated_documents++;
    else NR_COUNT_OUT(c, dedup, &r->text);
    return NR_OK;
}

/* ---- two passes: the first ---- */

static nr_status hash_pieces(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const dedup *d = self;
    (void)c;
    return hash_record(r, d->documents, d->documents ? r->number : r->paragraph, err);
}

static nr_status spread(void *user, const nr_record *r, nr_error *err)
{
    dedup *d = user;
    (void)err;
    for (size_t i = 0; i + sizeof(nr_keyed) <= r->keys.size; i += sizeof(nr_keyed)) {
        nr_keyed k;
        memcpy(&k, r->keys.data + i, sizeof k);
        nr_partitions_add(&d->passes.keys, &k);
    }
    return NR_OK;
}

static void mark(void *user, uint64_t first, uint64_t later)
{
    dedup *d = user;
    (void)first;
    nr_bit_set(&d->passes.gone, later);
}

/* ---- the second ---- */

static nr_status marked(const void *user, const nr_record *r, size_t i, bool *yes, nr_error *err)
{
    const dedup *d = user;
    (void)err;
    *yes = nr_bit(&d->passes.gone, (d->documents ? r->number : r->paragraph) + i);
    return NR_OK;
}

static nr_status drop_repeats(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const dedup *d = self;
    return drop_pieces(r, d->documents, marked, d, c, err);
}

nr_status nr_dedup(const nr_dedup_work *w, bool documents, nr_counts *c, const nr_listener *l, nr_error *err)
{
    dedup d = {.documents = documents};
    d.passes = (nr_two_passes){.bits = "repeats.bits", .looking = "hashing", .dropping = "deduplicating",
                               .look = NR_STEP("hash", hash_pieces, &d), .drop = NR_STEP("dedup", drop_repeats, &d),
                               .paragraphs = !documents, .self = &d, .spread = spread, .meet = mark};
    return nr_two_passes_run(&d.passes, w, c, l, err);
}

/* ---- one pass ---- */

static nr_status hash_for_filter(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const nr_dedup_filter *d = self;
    (void)c;
    return hash_record(r, d->documents, 0, err);
}

static nr_status known(const void *user, const nr_record *r, size_t i, bool *yes, nr_error *err)
{
    const nr_dedup_filter *d = user;
    nr_keyed k;
    memcpy(&k, r->keys.data + i * sizeof k, sizeof k);
    k.number = r->number; /* a flow goes on at a record */
    return nr_filter_add(d->filter, &k, yes, err);
}

static nr_status drop_known(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const nr_dedup_filter *d = self;
    return drop_pieces(r, d->documents, known, d, c, err);
}

static nr_status settle(const void *self, nr_error *err) { return nr_filter_settle(((const nr_dedup_filter *)self)->filter, err); }

void nr_dedup_steps(const nr_dedup_filter *d, nr_step steps[2])
{
    steps[0] = (nr_step){.name = "hash", .work = hash_for_filter, .self = d};
    steps[1] = (nr_step){.name = "filter", .work = drop_known, .self = d, .in_order = true, .settle = settle};
}
