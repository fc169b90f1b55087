/* dedup.h - repeated paragraphs and documents out of more text than memory holds. */
#ifndef NR_DEDUP_H
#define NR_DEDUP_H

#include "prepare/flow.h"
#include "prepare/key_filter.h"

typedef struct {
    const nr_paths *inputs;
    const char *settings;    /* beside the inputs, as in nr_flow */
    const char *folder;      /* of the result; what is only needed meanwhile lies there too */
    size_t part_bytes;
    const nr_step *more;     /* steps after this one, in the same pass */
    size_t more_count;
    const nr_read_options *read;
} nr_dedup_work;

/* dedup.c: of equal paragraphs (or documents) the first is kept, in the order of
 * reading. Equal: the same bytes, told by 128 bits of SHA-256. */
nr_status nr_dedup(const nr_dedup_work *w, bool documents, nr_counts *c, const nr_listener *l, nr_error *err);

/* The same in one pass, as two steps of a flow: the first hashes, the second asks a filter. What is new is taken for a
 * repeat with the filter's probability; what is a repeat is always found. */
typedef struct {
    bool documents;
    nr_filter *filter;
} nr_dedup_filter;
void nr_dedup_steps(const nr_dedup_filter *d, nr_step steps[2]);

/* near.c: of documents whose runs of five words are nearly the same, the first is kept. `least`: the share of
 * runs in common, estimated by MinHash from 128 values (standard error at most 0.045). Documents meet when one of 16
 * bands of 8 values is equal: pairs of similarity s do with probability 1 - (1 - s^8)^16 (0.95 at 0.8, 1.00 at 0.9). */
nr_status nr_near_dedup(const nr_dedup_work *w, double least, nr_counts *c, const nr_listener *l, nr_error *err);
/* The signature (128) of a text; false: fewer than five words. */
bool nr_minhash(uint32_t signature[128], const char *s, size_t n);

#endif
