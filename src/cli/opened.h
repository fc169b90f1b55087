/* opened.h - what the commands that run a model open first. */
#ifndef NR_OPENED_H
#define NR_OPENED_H

#include "cli/cli.h"

typedef struct {
    /* asked for */
    const char *model_path;
    nr_list extension_paths;                 /* each runs with those before it; may be empty */
    const char *compute;                     /* "auto", "fp32", "bf16" */
    const char *frozen;                      /* "auto", "packed", "quantised" */
    const char *quantise_extension;          /* "q8_0", or NULL: not */
    double gate_threshold;
    size_t threads;
    bool allow_other;
    /* opened */
    nr_model *model;
    nr_tokenizer *tokenizer;
    nr_extension *extension; /* the last, which stands on the others; NULL without a path */
} nr_opened;
nr_status nr_opened_open(nr_opened *o, nr_error *err);
void nr_opened_close(nr_opened *o);
/* All of them on or off. */
void nr_opened_switch(const nr_opened *o, bool on);

#endif
