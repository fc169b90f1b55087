/*
 * partition.h - keys with numbers, spread over files on disk by the key, so
 * that what has the same key meets in one file; and a set of bits in a file.
 * For looking for repetitions in more text than memory holds.
 */
#ifndef NR_PARTITION_H
#define NR_PARTITION_H

#include "base/base.h"

#define NR_PARTITIONS 64

typedef struct {
    uint64_t key[2], number;
} nr_keyed;

typedef struct {
    FILE *files[NR_PARTITIONS];
    char *folder;
    int error; /* errno of the first failure */
} nr_partitions;

/* A fresh folder for the files: what was there is removed. */
nr_status nr_partitions_open(nr_partitions *p, const char *folder, nr_error *err);
void nr_partitions_add(nr_partitions *p, const nr_keyed *k);
/* Ends the writing, so that the files can be read. */
nr_status nr_partitions_flush(nr_partitions *p, nr_error *err);
/* Calls found(user, first, later) for every keyed number whose key came before with the
 * number `first`, partition by partition in parallel. Holds the distinct keys of as many
 * partitions as there are threads: 24 bytes a key, twice for free room. */
nr_status nr_partitions_repeats(const nr_partitions *p, void (*found)(void *user, uint64_t first, uint64_t later), void *user,
                                nr_error *err);
/* Closes and removes the files. */
void nr_partitions_close(nr_partitions *p);

/* Bits in a mapped file that begins with a key: which records go. */
typedef struct {
    uint64_t *words;
    size_t bytes;
    unsigned char *map;
} nr_bits;
/* A file of `count` clear bits. */
nr_status nr_bits_create(nr_bits *b, const char *path, uint64_t count, nr_error *err);
/* Opens one that nr_bits_finish has named; *found false: it isn't there, or has another key. */
nr_status nr_bits_open(nr_bits *b, const char *path, const char key[65], bool *found, nr_error *err);
/* Stores the key and syncs the bits, in that the file is whole when it has one. */
nr_status nr_bits_finish(nr_bits *b, const char *path, const char key[65], nr_error *err);
void nr_bits_close(nr_bits *b);
static inline void nr_bit_set(nr_bits *b, uint64_t i) { __atomic_fetch_or(&b->words[i >> 6], (uint64_t)1 << (i & 63), __ATOMIC_RELAXED); }
static inline bool nr_bit(const nr_bits *b, uint64_t i) { return b->words[i >> 6] >> (i & 63) & 1; }

#endif
