/*
 * text_model.h - linear classifiers of text in fastText's format: which
 * language, how good. Needs libfasttext; without it opening and training say so.
 */
#ifndef NR_TEXT_MODEL_H
#define NR_TEXT_MODEL_H

#include "base/base.h"

typedef struct nr_text_model nr_text_model;
bool nr_text_model_built_in(void);
/* Checks every length and index in the file before the library sees it: that trusts its input. */
nr_status nr_text_model_open(nr_text_model **out, const char *path, nr_error *err);
void nr_text_model_close(nr_text_model *m);
const char *nr_text_model_hash(const nr_text_model *m); /* SHA-256 of the file */
/* The likeliest label ("en" for "__label__en") and its share of certainty; false: the
 * text has no word it knows. Line ends count as blanks. Any number of threads at once. */
bool nr_text_model_predict(const nr_text_model *m, const char *s, size_t n, char label[32], double *share);
/* Certainty of one label, 0 where it isn't among the likeliest. */
double nr_text_model_share(const nr_text_model *m, const char *s, size_t n, const char *label);

/* text_model_check.c: whether the bytes are a whole classifier that can be used without harm. */
nr_status nr_text_model_check(const unsigned char *data, size_t n, const char *where, nr_error *err);

typedef struct {
    size_t dim, epochs, word_ngrams, buckets;
    double rate;
} nr_text_training;
/* Trains on lines "__label__X words..." on one thread, so that the same lines give the same model. */
nr_status nr_text_model_train(const char *lines_path, const char *out_path, const nr_text_training *t, nr_error *err);

#endif
