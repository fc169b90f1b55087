/*
 * dedup.c - exact repeats. Two passes: the first sends the hash and number of
 * every paragraph to files by the hash, and each file says which numbers are
 * repeats; the second reads the text again and leaves those out. In between
 * stands one bit a paragraph, in a mapped file.
 */
#include <stdlib.h>
#include <openssl/evp.h>
#include <string.h>

#include "data/dedup.h"
#include "data/partition.h"

typedef struct {
    const nr_dedup_work *work;
    bool documents;
    nr_partitions spread;
    nr_bits gone;
} dedup;

/* Calls back for every paragraph; a whole text where documents are compared. */
static bool next_piece(const dedup *d, const char **at, const char *end, size_t *n)
{
    static const char gap[] = "\n\n";
    if (*at >= end) return false;
    const char *stop = d->documents ? NULL : memmem(*at, (size_t)(end - *at), gap, 2);
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

/* ---- first pass ---- */

static nr_status hash_pieces(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const dedup *d = self;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context != NULL;
    const char *p = r->text.data, *end = p + r->text.size;
    uint64_t number = d->documents ? r->number : r->paragraph;
    (void)c;
    for (size_t n; ok && next_piece(d, &p, end, &n); p += n + 2) {
        nr_keyed k = {.number = number++};
        ok = hash(context, p, n, &k);
        nr_buffer_add(&r->keys, &k, sizeof k);
    }
    EVP_MD_CTX_free(context);
    return ok && !r->keys.failed ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hashes", r->source.data);
}

static nr_status spread(void *user, const nr_record *r, nr_error *err)
{
    dedup *d = user;
    (void)err;
    for (size_t i = 0; i + sizeof(nr_keyed) <= r->keys.size; i += sizeof(nr_keyed)) {
        nr_keyed k;
        memcpy(&k, r->keys.data + i, sizeof k);
        nr_partitions_add(&d->spread, &k);
    }
    return NR_OK;
}

static void mark(void *user, uint64_t first, uint64_t later)
{
    (void)first;
    nr_bit_set(user, later);
}

static nr_status find_repeats(dedup *d, const char *bits, const char *keys, const char key[65], const nr_listener *l, nr_error *err)
{
    const nr_dedup_work *w = d->work;
    nr_counts unused = {0};
    nr_flow_size size;
    nr_flow f = {.inputs = w->inputs, .settings = w->settings, .steps = {{"read", nr_step_read, w->read}, {"hash", hash_pieces, d}},
                 .step_count = 2, .sink = spread, .user = d, .title = "hashing"};
    nr_status st = nr_partitions_open(&d->spread, keys, err);
    if (st == NR_OK) st = nr_flow_run(&f, &unused, &size, l, err);
    if (st == NR_OK) st = nr_partitions_flush(&d->spread, err);
    if (st == NR_OK) st = nr_bits_create(&d->gone, bits, d->documents ? size.records : size.paragraphs, err);
    if (st == NR_OK) st = nr_partitions_repeats(&d->spread, mark, &d->gone, err);
    if (st == NR_OK) st = nr_bits_finish(&d->gone, bits, key, err);
    nr_partitions_close(&d->spread);
    nr_counts_free(&unused);
    return st;
}

/* ---- second pass ---- */

static nr_status drop_repeats(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const dedup *d = self;
    char *s = r->text.data;
    const char *p = s, *end = s + r->text.size;
    uint64_t number = d->documents ? r->number : r->paragraph;
    size_t to = 0;
    (void)err;
    for (size_t n; next_piece(d, &p, end, &n); p += n + 2) {
        if (nr_bit(&d->gone, number++)) {
            if (!d->documents) c->v.dedup_repeated_paragraphs++;
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

nr_status nr_dedup(const nr_dedup_work *w, bool documents, nr_counts *c, const nr_listener *l, nr_error *err)
{
    dedup d = {.work = w, .documents = documents};
    nr_flow f = {.inputs = w->inputs, .settings = w->settings, .steps = {{"read", nr_step_read, w->read}, {"dedup", drop_repeats, &d}},
                 .step_count = 2, .folder = w->folder, .part_bytes = w->part_bytes, .title = "deduplicating"};
    char key[65];
    bool found = false;
    for (size_t i = 0; i < w->more_count && f.step_count < NR_COUNT(f.steps); i++) f.steps[f.step_count++] = w->more[i];
    char *bits = nr_path_join(w->folder, "repeats.bits"), *keys = nr_path_join(w->folder, "keys.tmp");
    nr_status st = bits && keys ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", w->folder);
    if (st == NR_OK) st = nr_make_folders(w->folder, err);
    if (st == NR_OK) st = nr_flow_key(w->inputs, w->settings, key, err);
    if (st == NR_OK) st = nr_bits_open(&d.gone, bits, key, &found, err);
    if (st == NR_OK && found) st = nr_remove_folder(keys, err); /* killed after the bits were whole */
    if (st == NR_OK && !found) st = find_repeats(&d, bits, keys, key, l, err);
    if (st == NR_OK) st = nr_flow_run(&f, c, NULL, l, err);
    nr_bits_close(&d.gone);
    free(bits);
    free(keys);
    return st;
}
