/*
 * pipeline.h - from a crawl to text for training: read, language, dedup, near,
 * quality, in this order, those that are asked for.
 */
#ifndef NR_PIPELINE_H
#define NR_PIPELINE_H

#include "prepare/flow.h"
#include "prepare/key_filter.h"
#include "tokenizer/tokenizer.h"

typedef enum { NR_DEDUP_NONE, NR_DEDUP_PARAGRAPHS, NR_DEDUP_DOCUMENTS } nr_dedup_kind;

typedef struct {
    const char *const *paths;      /* files and folders to read */
    size_t path_count;
    const char *folder;            /* of the result */
    nr_read_options read;
    const char *language_model;    /* NULL: languages aren't looked at */
    const char *const *languages;
    size_t language_count;
    double language_share, paragraph_share;
    nr_dedup_kind dedup;
    double dedup_error;            /* 0: exact, in two passes; else one pass, with this probability that what is new is dropped */
    size_t dedup_memory;           /* the most bytes that the one pass keeps; decides no byte of the result */
    double near;                   /* 0: not looked for */
    const char *quality_model;     /* NULL: quality isn't looked at */
    double quality_threshold;
    size_t part_bytes;             /* 0: 64 MiB */
    bool keep_work;                /* of the steps before the last */
} nr_pipeline_options;
void nr_pipeline_defaults(nr_pipeline_options *o);

/* The folder then holds text/part-00000.jsonl ... and manifest.json, which is
 * written last. Where an earlier call was interrupted or killed, this one goes
 * on, to the same bytes. A folder of other inputs or settings is refused. */
nr_status nr_pipeline_run(const nr_pipeline_options *o, nr_counts *counts, const nr_listener *l, nr_error *err);

/* manifest.c: sources, settings, counts and parts of a result. */
typedef struct {
    const char *key, *settings;
    const nr_paths *inputs;
    const char *source_folder; /* whose state knows the hashes of the inputs */
    const char *text_folder;   /* whose state knows the parts */
    const nr_filter_facts *filter; /* NULL: there was none */
} nr_manifest_source;
nr_status nr_manifest_write(const char *folder, const nr_manifest_source *s, const nr_counts *c, nr_error *err);
/* *found false: there is none. One with another key is refused. */
nr_status nr_manifest_load(const char *folder, const char *key, nr_counts *c, bool *found, nr_error *err);

#endif
