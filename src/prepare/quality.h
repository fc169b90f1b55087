/* quality.h - a classifier of documents, good against random. */
#ifndef NR_QUALITY_H
#define NR_QUALITY_H

#include "base/base.h"

typedef struct {
    const char *const *good, *const *random; /* files and folders */
    size_t good_count, random_count;
    const char *field;
    double held_out;     /* share of the documents, dealt out by their text's hash */
    size_t epochs;
    const char *out;     /* the model's file */
} nr_quality_training;

typedef struct {
    size_t good, random, held_good, held_random;
    double precision, recall; /* of "good" at a share of 0.5, on what was held out */
} nr_quality_result;

/* Trains on one thread: the same text gives the same model. */
nr_status nr_quality_train(const nr_quality_training *t, nr_quality_result *r, const nr_listener *l, nr_error *err);

#endif
