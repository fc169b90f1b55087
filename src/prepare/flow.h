/*
 * flow.h - documents through steps: read, change or drop, count, write.
 *
 * A record is one document on its way. Readers cut files into records in
 * order; steps work on records in parallel, one at a time each; what is left
 * is written in the order of reading, into parts of a folder. A flow that was
 * killed goes on behind the last whole part, to the same bytes: where a part
 * ends depends on the records alone.
 */
#ifndef NR_FLOW_H
#define NR_FLOW_H

#include "base/base.h"
#include "prepare/flow_counts.h"
#include "prepare/html_main.h"

/* What the bytes of a record are. */
typedef enum {
    NR_RECORD_TEXT,   /* paragraphs of UTF-8: what steps hand on */
    NR_RECORD_BYTES,  /* plain text in any charset */
    NR_RECORD_PAGE,   /* HTML in any charset */
    NR_RECORD_HTTP,   /* a server's answer: head and body */
    NR_RECORD_WIKI,   /* MediaWiki's markup in UTF-8, XML entities not yet replaced */
    NR_RECORD_ROW     /* a line of JSON */
} nr_record_kind;

typedef struct {
    nr_record_kind kind;
    nr_buffer source, text;
    nr_buffer keys;       /* a step's own result for the flow's sink */
    char charset[40];     /* as a server named it; "": unknown */
    char language[8];     /* "": not looked at */
    double language_share; /* of certainty */
    uint64_t number;      /* of the record among all read */
    uint64_t paragraph;   /* number of its first paragraph among all read */
    bool dropped;
} nr_record;

void nr_record_free(nr_record *r);
/* Empties the record for another one; memory is kept. */
void nr_record_clear(nr_record *r);

/* ---- read.c: which files, and the records in them ---- */

/* Files as named, folders as their readable files in the order of their names.
 * Of a prepared text (a folder with manifest.json) only the text is read, and
 * an unfinished one is refused. Links inside folders are not followed. */
nr_status nr_inputs_find(nr_paths *in, const char *const *paths, size_t count, nr_error *err);
/* The parts that a complete flow wrote into a folder, in order. */
nr_status nr_inputs_parts(nr_paths *in, const char *folder, nr_error *err);

typedef struct {
    const char *field;    /* of JSON rows that holds the text; NULL: "text" */
    bool pages_as_they_are; /* don't extract: rows with the page under "html" */
    nr_main_options main;
} nr_read_options;

/* WARC and WET files, MediaWiki dumps, JSON rows, pages, plain text; gzip, zstd
 * and, with libarchive, bzip2 and xz around them. The kind is told by the first
 * bytes and the name. Records that are no documents are counted and passed over. */
typedef struct nr_reader nr_reader;
nr_status nr_reader_open(nr_reader **out, const char *path, nr_error *err);
/* *more false: the end. What can't be read any further is an error. */
nr_status nr_reader_next(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err);
/* SHA-256 of the file's bytes as they lie on the disk; reads on to the end. */
nr_status nr_reader_hash(nr_reader *r, char hex[65], nr_error *err);
double nr_reader_fraction(const nr_reader *r);
void nr_reader_close(nr_reader *r);

/* ---- steps ---- */

/* Changes or drops a record. Called from several threads: self is only read. An
 * error ends the flow; what is wrong with a record is counted, not an error. */
typedef struct {
    const char *name;
    nr_status (*work)(const void *self, nr_record *r, nr_counts *c, nr_error *err);
    const void *self;
    bool in_order; /* called on one record after another, in the order of reading: what self points to may change */
    nr_status (*settle)(const void *self, nr_error *err); /* before the flow's state is saved; may be NULL */
} nr_step;
#define NR_STEP(name, work, self) {name, work, self, false, NULL} /* one that needs no order */

/* read_text.c: any kind of record to paragraphs of UTF-8. self: nr_read_options. */
nr_status nr_step_read(const void *self, nr_record *r, nr_counts *c, nr_error *err);

/* step_language.c: a document's language, and that of each of its paragraphs */
struct nr_text_model;
typedef struct {
    const struct nr_text_model *model;
    const char *const *wanted;  /* codes; none: every language is kept */
    size_t wanted_count;
    double share;               /* least certainty of a document's language */
    double paragraph_share;     /* a paragraph goes when it is so certain to be in another language; > 1: none does */
} nr_language_options;
nr_status nr_step_language(const void *self, nr_record *r, nr_counts *c, nr_error *err);

/* step_quality.c: how much a document reads like good text */
typedef struct {
    const struct nr_text_model *model;
    double threshold; /* of the share of "good" */
} nr_quality_options;
nr_status nr_step_quality(const void *self, nr_record *r, nr_counts *c, nr_error *err);

/* ---- flow.c ---- */

typedef struct {
    const nr_paths *inputs;
    const char *settings;   /* one line: everything beside the inputs that decides the result */
    nr_step steps[6];
    size_t step_count;
    const char *folder;     /* of the parts; NULL: none are written */
    size_t part_bytes;      /* a part ends when it has so many; 0: 64 MiB */
    /* Called in order with every record that wasn't dropped; may be NULL. */
    nr_status (*sink)(void *user, const nr_record *r, nr_error *err);
    void *user;
    const char *title;      /* of the progress line */
} nr_flow;

typedef struct {
    uint64_t records, paragraphs; /* read */
} nr_flow_size;

/* Runs to the end, or goes on where an earlier run was interrupted. The folder
 * then holds part-00000.jsonl ... and state.json. A folder with the result of
 * other settings or inputs is refused. size may be NULL. */
nr_status nr_flow_run(const nr_flow *f, nr_counts *counts, nr_flow_size *size, const nr_listener *l, nr_error *err);
/* What decides the result of a flow as a hash: inputs (names, sizes, times) and settings. */
nr_status nr_flow_key(const nr_paths *in, const char *settings, char hex[65], nr_error *err);
/* One row of JSON with its newline; false: not UTF-8 or out of memory. */
bool nr_record_write(nr_buffer *out, const nr_record *r);

#endif
