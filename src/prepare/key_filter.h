/*
 * key_filter.h - which keys were seen before, in bounded memory and one pass:
 * a Bloom filter that grows, and the keys it holds in a file. A key that was
 * added is always known; a new one is taken for known, and not added, with at
 * most the stated probability.
 */
#ifndef NR_KEY_FILTER_H
#define NR_KEY_FILTER_H

#include "base/base.h"
#include "prepare/partition.h"

typedef struct nr_filter nr_filter;

typedef struct {
    double error;    /* the bound for each new key */
    uint64_t bytes;  /* of the filter */
    uint64_t hashes; /* bits set by a key */
    uint64_t keys;   /* added so far */
    double wrong;    /* new keys taken for known: the number to expect so far */
} nr_filter_facts;

/* path: of the file of keys, 24 bytes each; made when it isn't there. most_bytes: what the filter may take, at least
 * 64 KiB; the largest power of two in it counts. error: in (0, 0.5]. */
nr_status nr_filter_open(nr_filter **out, const char *path, double error, size_t most_bytes, nr_error *err);
/* Whether the key was seen before; one that wasn't is added. Numbers never fall. The first call goes on with the keys of
 * smaller numbers that the file has, and cuts off the rest. A filter without room for the next key at its error is an error. */
nr_status nr_filter_add(nr_filter *f, const nr_keyed *k, bool *seen, nr_error *err);
/* The file holds all keys added so far, whatever happens to the process. */
nr_status nr_filter_settle(nr_filter *f, nr_error *err);
/* What the filter may grow to, and about how many keys it then takes. */
void nr_filter_most(const nr_filter *f, size_t *bytes, double *keys);
/* How things stand; before any call of nr_filter_add with all keys of the file. */
nr_status nr_filter_count(nr_filter *f, nr_filter_facts *facts, nr_error *err);
void nr_filter_close(nr_filter *f);

#endif
