/* flow_counts.h - what steps count: what came in, what was dropped and why, what went out. */
#ifndef NR_FLOW_COUNTS_H
#define NR_FLOW_COUNTS_H

#include "base/base.h"

/* X(step, name, text) */
#define NR_FLOW_COUNTS(X)                                                                       \
    X(read, files, "files")                                                                     \
    X(read, broken_files, "files left from a broken place on")                                  \
    X(read, records, "records")                                                                 \
    X(read, other_records, "left out: no document (request, metadata, redirect, talk)")         \
    X(read, broken_records, "left out: broken")                                                 \
    X(read, large_records, "left out: over 16 MiB")                                             \
    X(read, http_errors, "left out: the server's answer was no page (status)")                  \
    X(read, other_types, "left out: neither HTML nor plain text")                               \
    X(read, bad_encodings, "left out: packed in an unknown or broken way")                      \
    X(read, bad_charsets, "left out: characters that can't be read")                            \
    X(read, refused_pages, "left out: pages with too many tags")                                \
    X(read, empty, "left out: without text")                                                    \
    X(read, page_bytes, "bytes of pages and markup")                                            \
    X(read, elements, "elements left out of pages")                                             \
    X(read, documents, "documents")                                                             \
    X(read, paragraphs, "paragraphs")                                                           \
    X(read, bytes, "bytes of text")                                                             \
    X(language, unclear_documents, "documents dropped: no clear language")                      \
    X(language, other_documents, "documents dropped: another language")                         \
    X(language, other_paragraphs, "paragraphs dropped: another language")                       \
    X(language, documents, "documents")                                                         \
    X(language, paragraphs, "paragraphs")                                                       \
    X(language, bytes, "bytes of text")                                                         \
    X(dedup, repeated_paragraphs, "paragraphs dropped: seen before")                            \
    X(dedup, repeated_documents, "documents dropped: seen before")                              \
    X(dedup, documents, "documents")                                                            \
    X(dedup, paragraphs, "paragraphs")                                                          \
    X(dedup, bytes, "bytes of text")                                                            \
    X(near, short_documents, "documents too short to compare, kept")                            \
    X(near, near_documents, "documents dropped: nearly seen before")                            \
    X(near, documents, "documents")                                                             \
    X(near, paragraphs, "paragraphs")                                                           \
    X(near, bytes, "bytes of text")                                                             \
    X(quality, poor_documents, "documents dropped: below the threshold")                        \
    X(quality, documents, "documents")                                                          \
    X(quality, paragraphs, "paragraphs")                                                        \
    X(quality, bytes, "bytes of text")

typedef struct {
#define NR_X(step, name, text) uint64_t step##_##name;
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
} nr_count_values;

typedef struct {
    char name[8];
    uint64_t documents, paragraphs, bytes; /* read, before any was dropped */
} nr_language_count;

typedef struct {
    nr_count_values v;
    nr_language_count *languages; /* sorted by name */
    size_t language_count;
    bool failed;                  /* out of memory for a language */
} nr_counts;

void nr_counts_free(nr_counts *c);
void nr_counts_language(nr_counts *c, const char *name, uint64_t documents, uint64_t paragraphs, uint64_t bytes);
/* Sets what the step "read" counted to 0. */
void nr_counts_forget_read(nr_counts *c);
void nr_counts_add(nr_counts *to, const nr_counts *from);
/* {"read": {"files": 1, ...}, "language": {..., "languages": {"en": {...}}}} */
json_t *nr_counts_to_json(const nr_counts *c);
nr_status nr_counts_from_json(nr_counts *c, const json_t *j, const char *where, nr_error *err);

/* Paragraphs of a text whose paragraphs have one empty line between two. */
uint64_t nr_paragraph_count(const char *s, size_t n);
/* documents, paragraphs and bytes that leave a step. */
#define NR_COUNT_OUT(c, step, text)                                                    \
    do {                                                                               \
        (c)->v.step##_documents++;                                                     \
        (c)->v.step##_paragraphs += nr_paragraph_count((text)->data, (text)->size);    \
        (c)->v.step##_bytes += (text)->size;                                           \
    } while (0)

#endif
