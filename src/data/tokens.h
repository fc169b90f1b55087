/*
 * tokens.h - the inside of the token cache, shared by tokens.c (reads) and
 * tokens_build.c (writes).
 *
 *   index.json      counts, bytes of an id (2 or 4), tokens and SHA-256 of each
 *                   shard, SHA-256 of documents.bin and of the index itself
 *   documents.bin   an nr_document a document, little-endian
 *   00000.ids ...   ids of whole documents, one after another
 */
#ifndef NR_TOKENS_H
#define NR_TOKENS_H

#include <time.h>

#include "data/data.h"

#define NR_TOKENS_FORMAT 1

typedef struct {
    uint64_t end;   /* ids of all documents up to this one's last */
    uint64_t bytes; /* of its text */
    uint64_t hash;  /* of its text */
} nr_document;

typedef struct {
    size_t size;
    char sha256[65];
    struct timespec changed;
} nr_file_hash;

/* Everything that decides what the cache holds. */
typedef struct {
    const nr_files *files;
    const nr_file_hash *hashes; /* (files->count) */
    const nr_tokenizer *tokenizer;
    const char *text_field;
    nr_documents documents;
    size_t shard_ids; /* a shard ends with the document that brings it here */
    char key[65];
} nr_tokens_source;

/* Reads and tokenises everything into `folder`, which must not exist. */
nr_status nr_tokens_build(const char *folder, const nr_tokens_source *source, const nr_listener *l, nr_error *err);
/* SHA-256 of the index without its own "sha256". */
nr_status nr_tokens_index_hash(const json_t *index, char hex[65], const char *where, nr_error *err);
/* "00000.ids" */
void nr_tokens_shard_name(char name[32], size_t shard);

/* manifest_check.c */
/* Whether the file is what the manifest of the folder above its own says; a file without one is fine. */
nr_status nr_manifest_check(const char *path, size_t size, const char *sha256, nr_error *err);

#endif
