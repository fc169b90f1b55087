/*
 * data.h - from text files to rows of token ids: documents, the cache of
 * token shards, packing, and which row is drawn when.
 */
#ifndef NR_DATA_H
#define NR_DATA_H

#include "tokenizer/tokenizer.h"

/* ---- unpack.c: bytes of a file, plain or packed (gzip, zstd; with libarchive bzip2, xz) by its magic, in bounded memory ---- */
typedef struct nr_unpack nr_unpack;
nr_status nr_unpack_open(nr_unpack **out, const char *path, nr_error *err);
/* Adds the file's own bytes to the hash as they are read; the hash stays the caller's. */
nr_status nr_unpack_open_hashed(nr_unpack **out, const char *path, nr_sha256 *hash, nr_error *err);
/* Reads the rest of the file for the hash's sake; nothing can be read from it afterwards. */
nr_status nr_unpack_drain(nr_unpack *u, nr_error *err);
/* Up to n further bytes; *got = 0 at the end. A file that ends early or is
 * broken is an error that says where. */
nr_status nr_unpack_read(nr_unpack *u, void *buf, size_t n, size_t *got, nr_error *err);
double nr_unpack_fraction(const nr_unpack *u); /* share of the file's own bytes read */
void nr_unpack_close(nr_unpack *u);

/* ---- corpus.c: documents of one file, streamed ----
 * .gz and .zst by their magic bytes; JSONL by name (.jsonl, .json, .ndjson,
 * before .gz/.zst) or a first byte '{' under documents = auto. Text must be
 * UTF-8: an error names the file and the byte offset. A file without any
 * document is an error. */
typedef struct nr_corpus nr_corpus;
typedef enum { NR_DOCUMENTS_AUTO, NR_DOCUMENTS_LINE, NR_DOCUMENTS_FILE } nr_documents;
nr_status nr_corpus_open(nr_corpus **out, const char *path, const char *text_field, nr_documents how, nr_error *err);
/* The next document, not empty; *text is good until the next call. At the end *text = NULL. */
nr_status nr_corpus_next(nr_corpus *c, const char **text, size_t *size, nr_error *err);
double nr_corpus_fraction(const nr_corpus *c); /* share of the file read so far */
void nr_corpus_close(nr_corpus *c);
/* Whether the name alone says JSONL. */
bool nr_corpus_name_is_jsonl(const char *path);

/* ---- tokens.c, tokens_build.c: token ids of files, computed once, mapped ----
 * cache_folder/tokens/<hash of contents, tokenizer and reading settings>/ holds
 * shards of ids, documents.bin (end, bytes and hash of each document) and
 * index.json, written last. A cache whose sizes or hashes don't fit is made
 * anew. Of documents with equal text only the first is kept. A part of a prepared
 * text (prepare/pipeline.h) must be what its manifest says. */
typedef struct nr_tokens nr_tokens;
nr_status nr_tokens_open(nr_tokens **out, const nr_files *files, const nr_tokenizer *t, const nr_settings *s,
                         const char *cache_folder, const nr_listener *l, nr_error *err);
void nr_tokens_close(nr_tokens *t);
size_t nr_tokens_documents(const nr_tokens *t);
size_t nr_tokens_duplicates(const nr_tokens *t); /* documents dropped because their text was there before */
size_t nr_tokens_total(const nr_tokens *t);
const char *nr_tokens_hash(const nr_tokens *t);
size_t nr_tokens_disk_bytes(const nr_tokens *t);
/* Size and SHA-256 of the bytes of file i, as hashed at opening. */
const char *nr_tokens_file(const nr_tokens *t, size_t i, size_t *size);
/* Ids of document d: writes them (call with ids NULL to measure) and its bytes of text. */
void nr_tokens_document(const nr_tokens *t, size_t d, int32_t *ids, size_t *count, size_t *bytes);
/* Ids [from, from + n) of document d. */
void nr_tokens_read(const nr_tokens *t, size_t d, size_t from, size_t n, int32_t *ids);
/* Hash of document d's text. */
uint64_t nr_tokens_document_hash(const nr_tokens *t, size_t d);

/* ---- rows.c: documents joined by EOS, cut into rows of T + 1 ids ----
 * Row i holds ids [i T, i T + T] of the joined stream, so that every id but the
 * first is predicted once; what is left at the end is dropped. */
typedef struct nr_rows nr_rows;
/* Which documents: those for which nr_split_is_validation(seed, is_new, d, share) equals `validation`; share 0: all.
 * Documents that also stand in `without` (NULL: none) are left out. */
nr_status nr_rows_open(nr_rows **out, const nr_tokens *t, const nr_tokens *without, size_t context, int32_t eos,
                       uint64_t seed, bool is_new, double validation_share, bool validation, const char *what,
                       nr_error *err);
/* Rows of random ids below V, without any text: for measuring speed. */
nr_status nr_rows_random(nr_rows **out, size_t context, size_t count, size_t V, uint64_t seed, nr_error *err);
void nr_rows_close(nr_rows *r);
size_t nr_rows_count(const nr_rows *r);
size_t nr_rows_documents(const nr_rows *r);
size_t nr_rows_left_out(const nr_rows *r); /* documents that `without` holds too */
/* Ids (T + 1) of row i; first (T): first position of the row that shares the position's document, or NULL. */
void nr_rows_get(const nr_rows *r, size_t i, int32_t *ids, int32_t *first);
bool nr_split_is_validation(uint64_t seed, bool is_new, size_t document, double share);

/* ---- draw.c: which rows make a step, from the seed alone ---- */
typedef struct {
    bool is_new;
    uint64_t index; /* how many rows of this domain were drawn before it */
} nr_drawn;
/* Where the caller's steps got to, so that the next one need not be counted out
 * from the first: start with {0}. Only speed depends on it. */
typedef struct {
    uint64_t rows, old;
} nr_draw_count;
/* Rows [0, batch) of step (from 0). Stratified: the running count of old rows is round(p * rows so far).
 * count may be NULL. */
void nr_draw_step(const nr_settings *s, uint64_t step, nr_draw_count *count, nr_drawn *rows);
/* The row that draw number `index` of a domain means: a fresh permutation of all rows each epoch. */
size_t nr_draw_row(uint64_t seed, bool is_new, uint64_t index, size_t row_count);

#endif
