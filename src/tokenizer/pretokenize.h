/*
 * pretokenize.h - cuts text into the pieces that BPE merges within.
 *
 * One hand-written scanner a known pattern, equal to the regular expression
 * for every text. Every byte belongs to exactly one piece. A byte that is not
 * valid UTF-8 is a symbol of the class "other" (neither letter, number nor
 * white space).
 */
#ifndef NR_PRETOKENIZE_H
#define NR_PRETOKENIZE_H

#include "tokenizer/unicode.h"

/* X(name, text in the fingerprint) */
#define NR_SPLITS(X)                                                                  \
    X(NR_SPLIT_GPT2, "gpt2")                                                          \
    X(NR_SPLIT_LLAMA3, "llama3")                                                      \
    X(NR_SPLIT_QWEN2, "qwen2")                                                        \
    X(NR_SPLIT_DIGIT, "digit")   /* each digit alone, all else in runs */             \
    X(NR_SPLIT_DIGITS, "digits") /* runs of digits, runs of all else */               \
    X(NR_SPLIT_DIGIT_GPT2, "digit, gpt2") /* the two in one pass: SmolLM2 */

typedef enum {
#define NR_X(name, text) name,
    NR_SPLITS(NR_X)
#undef NR_X
} nr_split;

enum { NR_SPLIT_STEPS = 4 };

/* Steps are applied in turn: each cuts the pieces of the one before, and sees
 * nothing outside the piece it cuts. No step: the text is one piece. */
typedef struct {
    nr_split steps[NR_SPLIT_STEPS];
    size_t count;
} nr_pretokenizer;

const char *nr_split_name(nr_split s);
/* The split that a regular expression means, by its exact text; false: unknown. */
bool nr_split_from_regex(nr_split *s, const char *regex);
/* The other way; NULL: the split has none. */
const char *nr_split_regex(nr_split s);
/* Adds a step, joining digit + gpt2 into the one-pass form; false: too many. */
bool nr_pretokenizer_add(nr_pretokenizer *t, nr_split s);

/* Length of the piece that starts at p; p < end. */
size_t nr_split_next(nr_split s, const uint8_t *classes, const unsigned char *p, const unsigned char *end);

/* A walk over the pieces of [p, end). */
typedef struct {
    const nr_pretokenizer *how;
    const uint8_t *classes;
    const unsigned char *p, *end, *stop[NR_SPLIT_STEPS];
} nr_pieces;
void nr_pieces_start(nr_pieces *w, const nr_pretokenizer *how, const uint8_t *classes, const char *text, size_t n);
/* The next piece, or false at the end. */
bool nr_pieces_next(nr_pieces *w, const unsigned char **piece, size_t *n);

#endif
