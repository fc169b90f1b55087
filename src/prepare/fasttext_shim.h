/* fasttext_shim.h - libfasttext behind four C functions; for text_model.c alone. */
#ifndef NR_FASTTEXT_SHIM_H
#define NR_FASTTEXT_SHIM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each returns 0, or -1 with what went wrong in why. */
int nr_fasttext_load(void **out, const char *data, size_t n, char *why, size_t why_size);
void nr_fasttext_free(void *model);
/* *found 0: no word is known. wanted NULL: the likeliest label; else that label's share. */
int nr_fasttext_predict(const void *model, const char *s, size_t n, const char *wanted, char *label, size_t label_size,
                        double *share, int *found);
int nr_fasttext_train(const char *lines, const char *out, int dim, int epochs, int word_ngrams, int buckets, double rate,
                      char *why, size_t why_size);

#ifdef __cplusplus
}
#endif
#endif
