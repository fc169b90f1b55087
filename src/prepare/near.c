/*
 * near.c - documents that are nearly the same. MinHash: of all runs of five
 * words the smallest value under each of 128 hash functions; two documents
 * agree in as many of them as they have runs in common. Signatures lie in a
 * mapped file (512 bytes a document); bands of eight values are spread over
 * files by their hash, and documents that meet in a band are compared.
 * Compared is with the first document of the band: one that was dropped
 * itself still stands for the one it repeats.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/prep.h"
#include "prepare/two_passes.h"

#define VALUES 128
#define BANDS 16
#define BAND (VALUES / BANDS)
#define RUN 5 /* words */

typedef struct {
    double least;
    nr_two_passes passes;
    nr_writer writer;     /* of the signatures, one for every record read */
    uint64_t written;
    nr_map signatures;
} near;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* Words are runs of letters and digits whatever their case; characters of scripts without blanks are words each. */
static bool next_word(const char *s, size_t n, size_t *at, uint64_t *hash)
{
    uint64_t h = 0xCBF29CE484222325u;
    bool any = false;
    while (*at < n) {
        uint32_t c = 0;
        size_t k = nr_utf8_read(s + *at, n - *at, &c);
        bool part = k > 0 && (nr_is_letter(c) || (c >= '0' && c <= '9'));
        bool alone = c >= 0x2E80 && c < 0xAC00;
        if (any && (!part || alone)) break;
        *at += k ? k : 1;
        if (!part) continue;
        h = (h ^ nr_lower(c)) * 0x100000001B3u;
        any = true;
        if (alone) break;
    }
    *hash = mix(h);
    return any;
}

bool nr_minhash(uint32_t signature[VALUES], const char *s, size_t n)
{
    uint64_t words[RUN] = {0}, h;
    uint32_t factor[VALUES], add[VALUES];
    size_t at = 0, count = 0;
    for (size_t i = 0; i < VALUES; i++) {
        factor[i] = (uint32_t)mix(2 * i + 1) | 1;
        add[i] = (uint32_t)mix(2 * i + 2);
        signature[i] = UINT32_MAX;
    }
    while (next_word(s, n, &at, &h)) {
        words[count++ % RUN] = h;
        if (count < RUN) continue;
        uint64_t run = 0;
        for (size_t i = 0; i < RUN; i++) run = mix(run ^ words[(count + i) % RUN]);
        uint32_t low = (uint32_t)run, high = (uint32_t)(run >> 32);
        for (size_t i = 0; i < VALUES; i++) { /* low and high both count: 64 bits of a run, 32 of a value */
            uint32_t v = (low * factor[i] + add[i]) ^ (high * (factor[i] >> 7 | 1));
            v ^= v >> 15;
            v *= 0x2C1B3C6Du;
            v ^= v >> 12;
            signature[i] = NR_MIN(signature[i], v);
        }
    }
    return count >= RUN;
}

/* ---- first pass ---- */

static nr_status sign(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    uint32_t signature[VALUES];
    (void)self;
    (void)c;
    if (nr_minhash(signature, r->text.data, r->text.size)) nr_buffer_add(&r->keys, signature, sizeof signature);
    return r->keys.failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory for its signature", r->source.data) : NR_OK;
}

static nr_status spread(void *user, const nr_record *r, nr_error *err)
{
    near *d = user;
    static const uint32_t none[VALUES];
    (void)err;
    for (; d->written < r->number; d->written++) nr_writer_write(&d->writer, none, sizeof none);
    d->written++;
    if (r->keys.size == 0) {
        nr_writer_write(&d->writer, none, sizeof none);
        return NR_OK;
    }
    nr_writer_write(&d->writer, r->keys.data, sizeof none);
    for (size_t b = 0; b < BANDS; b++) {
        nr_keyed k = {.number = r->number};
        uint64_t v[BAND / 2];
        memcpy(v, r->keys.data + b * sizeof v, sizeof v);
        k.key[0] = k.key[1] = mix(b + 1);
        for (size_t i = 0; i < BAND / 2; i++) k.key[0] = mix(k.key[0] ^ v[i]), k.key[1] = mix(k.key[1] + v[i]);
        nr_partitions_add(&d->passes.keys, &k);
    }
    return NR_OK;
}

static void compare(void *user, uint64_t first, uint64_t later)
{
    near *d = user;
    uint32_t a[VALUES], b[VALUES];
    size_t same = 0;
    memcpy(a, d->signatures.data + first * sizeof a, sizeof a);
    memcpy(b, d->signatures.data + later * sizeof b, sizeof b);
    for (size_t i = 0; i < VALUES; i++) same += a[i] == b[i];
    if ((double)same >= d->least * VALUES) nr_bit_set(&d->passes.gone, later);
}

static char *signatures_path(const near *d) { return nr_path_join(d->passes.keys.folder, "signatures"); }

static nr_status begin(void *user, nr_error *err)
{
    near *d = user;
    char *path = signatures_path(d);
    nr_status st = path ? nr_writer_open(&d->writer, path, err) : nr_fail(err, NR_E_MEMORY, "out of memory for signatures");
    free(path);
    return st;
}

static nr_status between(void *user, nr_error *err)
{
    near *d = user;
    NR_TRY(nr_writer_commit(&d->writer, err));
    char *path = signatures_path(d);
    nr_status st = path ? nr_map_open(&d->signatures, path, err) : nr_fail(err, NR_E_MEMORY, "out of memory for signatures");
    free(path);
    return st;
}

/* ---- second pass ---- */

static nr_status drop_repeats(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const near *d = self;
    uint32_t signature[VALUES];
    (void)err;
    if (nr_bit(&d->passes.gone, r->number)) {
        c->v.near_near_documents++;
        r->dropped = true;
        return NR_OK;
    }
    if (r->text.size < 2000 && !nr_minhash(signature, r->text.data, r->text.size)) c->v.near_short_documents++;
    NR_COUNT_OUT(c, near, &r->text);
    return NR_OK;
}

nr_status nr_near_dedup(const nr_dedup_work *w, double least, nr_counts *c, const nr_listener *l, nr_error *err)
{
    near d = {.least = least};
    d.passes = (nr_two_passes){.bits = "near.bits", .looking = "signing", .dropping = "near-duplicates",
                               .look = NR_STEP("sign", sign, &d), .drop = NR_STEP("near", drop_repeats, &d),
                               .self = &d, .spread = spread, .meet = compare, .begin = begin, .between = between};
    nr_status st = nr_two_passes_run(&d.passes, w, c, l, err);
    nr_writer_abort(&d.writer);
    if (d.signatures.data) nr_map_close(&d.signatures);
    return st;
}
