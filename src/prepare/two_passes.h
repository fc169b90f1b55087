/* two_passes.h - the frame of what compares every record with all before it (dedup.c, near.c). */
#ifndef NR_TWO_PASSES_H
#define NR_TWO_PASSES_H

#include "prepare/dedup.h"
#include "prepare/partition.h"

typedef struct {
    const char *bits;               /* name of the file of bits, in the result's folder */
    const char *looking, *dropping; /* titles of the passes */
    nr_step look;                   /* of the first pass: leaves a record's keys in r->keys */
    nr_step drop;                   /* of the second: leaves out what `gone` marks */
    bool paragraphs;                /* bits are numbered by paragraph instead of record */
    void *self;                     /* of the functions below */
    nr_status (*spread)(void *self, const nr_record *r, nr_error *err); /* in order: r->keys to `keys` */
    void (*meet)(void *self, uint64_t first, uint64_t later);           /* two numbers with the same key; may set bits */
    nr_status (*begin)(void *self, nr_error *err);                      /* before the first pass, and behind it; may be NULL */
    nr_status (*between)(void *self, nr_error *err);

    nr_partitions keys;             /* of the first pass; its folder is removed behind it */
    nr_bits gone;
} nr_two_passes;

nr_status nr_two_passes_run(nr_two_passes *t, const nr_dedup_work *w, nr_counts *c, const nr_listener *l, nr_error *err);

#endif
