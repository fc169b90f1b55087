/*
 * vocabulary.h - the tokenizer's insides, shared by its readers (JSON, GGUF),
 * the builder and the encoder.
 */
#ifndef NR_VOCABULARY_H
#define NR_VOCABULARY_H

#include "tokenizer/bpe.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/tokenizer.h"

/* ---- added.c: tokens found in the text before it is cut ---- */

typedef struct {
    nr_bytes text;
    int32_t id;
    bool special;        /* plain text unless special tokens are parsed */
    bool lstrip, rstrip; /* takes the white space before, behind it */
    bool single_word;    /* not inside a word */
    bool normalized;     /* looked for after the normalizer */
} nr_added;

typedef struct {
    const nr_added *sorted; /* by text */
    size_t count;
    bool first[256]; /* bytes that a token starts with */
} nr_matcher;

void nr_added_sort(nr_added *a, size_t count);
/* a: sorted. */
void nr_matcher_init(nr_matcher *m, const nr_added *a, size_t count);

/* One step of a walk over text[from, n): the next token found and the bytes it
 * takes, [*begin, *end); NULL: none. Special tokens are passed over, as one
 * block, unless parse_special. `taken` is where the last match ended. */
const nr_added *nr_matcher_next(const nr_matcher *m, const uint8_t *classes, const char *text, size_t n,
                                size_t taken, size_t *from, bool parse_special, size_t *begin, size_t *end);

/* ---- the tokenizer ---- */

struct nr_tokenizer {
    uint8_t *classes;
    nr_pretokenizer split;
    bool nfc, add_bos, only_special; /* only_special: every added token is special */
    size_t size;     /* ids are 0 .. size - 1 */
    char *blob;
    nr_bytes *bytes; /* (size); data NULL: no such id */
    uint8_t *is_special; /* (size) */
    nr_words words;  /* pieces that are one token, whatever the merges */
    nr_bpe bpe;
    nr_added *added;
    size_t added_count;
    nr_matcher raw, normalized;
    int32_t bos, eos;
    char fingerprint[65];
};

/* ---- build.c: from what a file says to a tokenizer ---- */

/* Cap on ids, far above any model's. */
enum { NR_TOKENS_MAX = 1 << 24 };

/* Strings belong to the reader and live through nr_tokenizer_build. */
typedef struct {
    const char *where;
    size_t size;
    nr_bytes *texts; /* (size) in the byte-level alphabet; data NULL: not in the vocabulary */
    nr_bytes (*merges)[2];
    size_t merge_count;
    nr_added *added;
    size_t added_count;
    nr_bytes unknown; /* data NULL: none */
    nr_pretokenizer split;
    bool nfc, ignore_merges, add_bos;
    int32_t bos, eos;
} nr_vocabulary;

/* tokenizer_gguf.c: the vocabulary in the metadata; its strings are the file's. */
nr_status nr_vocabulary_from_gguf(nr_vocabulary *v, const nr_gguf *g, nr_error *err);
void nr_vocabulary_free(nr_vocabulary *v);

nr_status nr_tokenizer_build(nr_tokenizer **out, const nr_vocabulary *v, nr_error *err);

#endif
