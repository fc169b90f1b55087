/*
 * key_filter.c - a Bloom filter of a stated error. For an error e a key sets
 * k = log2(1/e) bits of m, and where s bits are set a new key finds all of its
 * own set with probability (s / m)^k. When that passes e, a filter of twice the
 * size is made from the file of keys: the bound holds for every key, nobody
 * needs to know beforehand how many there are, and after an interruption the
 * same file makes the same filter again.
 */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "prepare/key_filter.h"

#define LEAST ((size_t)64 << 10) /* bytes of the first filter */
#define CHUNK 2048               /* keys read at a time */

struct nr_filter {
    char *path;
    FILE *file;        /* written; read with pread */
    double error;
    size_t most;       /* bytes */
    unsigned hashes;
    uint64_t *words;
    size_t bytes;      /* of words, a power of two */
    uint64_t set, room; /* bits set, and how many may be */
    uint64_t keys;
    double wrong;
    bool begun;
};

/* ---- bits ---- */

/* The k places of a key: double hashing with a step that grows (Dillinger and Manolios, 2004), on 128 bits of SHA-256. */
static bool has(const nr_filter *f, const uint64_t key[2])
{
    uint64_t mask = (uint64_t)f->bytes * 8 - 1, place = key[0], step = key[1];
    for (unsigned i = 0; i < f->hashes; i++, place += step, step += i) __builtin_prefetch(&f->words[(place & mask) >> 6], 1);
    place = key[0], step = key[1];
    for (unsigned i = 0; i < f->hashes; i++, place += step, step += i)
        if (!(f->words[(place & mask) >> 6] >> (place & 63) & 1)) return false;
    return true;
}

static void set_bits(nr_filter *f, const uint64_t key[2])
{
    uint64_t mask = (uint64_t)f->bytes * 8 - 1, place = key[0], step = key[1];
    for (unsigned i = 0; i < f->hashes; i++, place += step, step += i) {
        uint64_t *word = &f->words[(place & mask) >> 6], bit = (uint64_t)1 << (place & 63);
        f->set += !(*word & bit);
        *word |= bit;
    }
}

static nr_status resize(nr_filter *f, size_t bytes, nr_error *err)
{
    free(f->words);
    f->bytes = bytes;
    f->set = 0;
    f->room = (uint64_t)(pow(f->error, 1.0 / f->hashes) * (double)bytes * 8);
    return nr_alloc(&f->words, bytes / sizeof *f->words, sizeof *f->words, "the filter of repeats", err);
}

/* ---- keys ---- */

/* Reads up to CHUNK keys of the file from the place `first`; 0: no more. */
static nr_status read_keys(const nr_filter *f, nr_keyed *k, uint64_t first, size_t *n, nr_error *err)
{
    ssize_t got = pread(fileno(f->file), k, CHUNK * sizeof *k, (off_t)(first * sizeof *k));
    if (got < 0) return nr_fail_errno(err, "can't read", f->path);
    *n = (size_t)got / sizeof *k;
    return NR_OK;
}

/* Twice the size, with the file's keys so far. */
static nr_status grow(nr_filter *f, nr_error *err)
{
    nr_keyed k[CHUNK];
    if (fflush(f->file) != 0) return nr_fail_errno(err, "can't write", f->path);
    NR_TRY(resize(f, f->bytes * 2, err));
    for (uint64_t first = 0; first < f->keys;) {
        size_t n = 0;
        NR_TRY(read_keys(f, k, first, &n, err));
        if (n == 0) return nr_fail(err, NR_E_FORMAT, "%s: expected %llu keys, found %llu", f->path, (unsigned long long)f->keys, (unsigned long long)first);
        for (size_t i = 0; i < n && first < f->keys; i++, first++) set_bits(f, k[i].key);
    }
    return NR_OK;
}

/* Adds a key that the file has already or gets next. */
static nr_status take(nr_filter *f, const nr_keyed *k, nr_error *err)
{
    double p = pow((double)f->set / ((double)f->bytes * 8), f->hashes);
    f->wrong += p / (1 - p); /* new keys taken for known until one is added */
    set_bits(f, k->key);
    f->keys++;
    return f->set > f->room && f->bytes * 2 <= f->most ? grow(f, err) : NR_OK;
}

/* A full filter stays as it is, and its file too. */
static nr_status check_room(const nr_filter *f, nr_error *err)
{
    if (f->set <= f->room) return NR_OK;
    return nr_fail(err, NR_E_MEMORY, "%s: holds %llu different pieces of text, all that %zu bytes take at an error of %g; the same command with twice "
                   "the memory (--dedup-memory) goes on", f->path, (unsigned long long)f->keys, f->bytes, f->error);
}

/* Takes the file's keys below a number and cuts off the rest. */
static nr_status begin(nr_filter *f, uint64_t number, nr_error *err)
{
    nr_keyed k[CHUNK];
    size_t n = 0;
    NR_TRY(resize(f, LEAST, err));
    for (bool more = true; more;) {
        NR_TRY(read_keys(f, k, f->keys, &n, err));
        more = n > 0;
        for (size_t i = 0; i < n && more; i++) {
            more = k[i].number < number;
            if (more) NR_TRY(check_room(f, err));
            if (more) NR_TRY(take(f, &k[i], err));
        }
    }
    off_t end = (off_t)(f->keys * sizeof *k);
    if (ftruncate(fileno(f->file), end) != 0 || fseeko(f->file, end, SEEK_SET) != 0) return nr_fail_errno(err, "can't write", f->path);
    f->begun = true;
    return NR_OK;
}

/* ---- the whole ---- */

nr_status nr_filter_open(nr_filter **out, const char *path, double error, size_t most_bytes, nr_error *err)
{
    nr_filter *f;
    *out = NULL;
    if (!(error > 0 && error <= 0.5)) return nr_fail(err, NR_E_USAGE, "filter: expected an error above 0 and up to 0.5, found %g", error);
    if (most_bytes < LEAST) return nr_fail(err, NR_E_USAGE, "filter: expected at least %zu bytes, found %zu", LEAST, most_bytes);
    NR_TRY(nr_alloc(&f, 1, sizeof *f, "a filter", err));
    f->error = error;
    f->hashes = (unsigned)NR_MAX(1, ceil(-log2(error) - 1e-9));
    for (f->most = LEAST; f->most <= most_bytes / 2;) f->most *= 2;
    f->path = nr_strdup(path);
    int fd = f->path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    f->file = fd >= 0 ? fdopen(fd, "r+") : NULL;
    nr_status st = !f->path ? nr_fail(err, NR_E_MEMORY, "%s: out of memory", path) : f->file ? NR_OK : nr_fail_errno(err, "can't write", path);
    if (!f->file && fd >= 0) close(fd);
    if (st == NR_OK) *out = f;
    else nr_filter_close(f);
    return st;
}

nr_status nr_filter_add(nr_filter *f, const nr_keyed *k, bool *seen, nr_error *err)
{
    if (!f->begun) NR_TRY(begin(f, k->number, err));
    NR_TRY(check_room(f, err));
    *seen = has(f, k->key);
    if (*seen) return NR_OK;
    if (fwrite(k, sizeof *k, 1, f->file) != 1) return nr_fail_errno(err, "can't write", f->path);
    return take(f, k, err);
}

nr_status nr_filter_settle(nr_filter *f, nr_error *err)
{
    if (fflush(f->file) != 0 || fdatasync(fileno(f->file)) != 0) return nr_fail_errno(err, "can't write", f->path);
    return NR_OK;
}

void nr_filter_most(const nr_filter *f, size_t *bytes, double *keys)
{
    *bytes = f->most;
    *keys = -log1p(-pow(f->error, 1.0 / f->hashes)) * (double)f->most * 8 / f->hashes;
}

nr_status nr_filter_count(nr_filter *f, nr_filter_facts *facts, nr_error *err)
{
    if (!f->begun) NR_TRY(begin(f, UINT64_MAX, err));
    *facts = (nr_filter_facts){f->error, f->bytes, f->hashes, f->keys, f->wrong};
    return NR_OK;
}

void nr_filter_close(nr_filter *f)
{
    if (!f) return;
    if (f->file) fclose(f->file);
    free(f->path);
    free(f->words);
    free(f);
}
