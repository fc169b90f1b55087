/*
 * formats_internal.h - what the files of this folder share beyond formats.h: the
 * table of model families and the pieces of opening a model.
 */
#ifndef NR_FORMATS_INTERNAL_H
#define NR_FORMATS_INTERNAL_H

#include "formats/formats.h"

/* ---- families.c: one row a model family ---- */

typedef struct {
    const char *model_type;   /* config.json */
    const char *architecture; /* GGUF's general.architecture; NULL: comes under another row's */
    nr_act act;               /* where config.json names none; GGUF never does */
    double rope_theta;        /* ... */
    size_t max_context;
    bool kv_heads_required;   /* the family's default isn't "as many as heads" */
    size_t sliding_window;    /* the family's default where config.json names none; 0: none */
    bool interleaved;         /* GGUF holds q and k rows interleaved */
} nr_family;

const nr_family *nr_family_by_model_type(const char *model_type);
const nr_family *nr_family_by_architecture(nr_span architecture);
/* "llama, mistral" into buf, for errors. */
const char *nr_family_list(char *buf, size_t size, bool gguf);

/* ---- config.c ---- */

/* Nothing known: no ids, no scaling. */
void nr_config_clear(nr_config *c);
/* Ids of config.json or generation_config.json: bos and pad where there are
 * none yet, end-of-text ids added to those that are there. */
nr_status nr_config_read_ids(nr_config *c, const json_t *j, const char *where, nr_error *err);
void nr_config_add_eos(nr_config *c, int32_t id);

/* ---- config_gguf.c ---- */

/* The shape from metadata and tensor names. *interleaved: q and k rows are. */
nr_status nr_config_from_gguf(nr_config *c, const nr_gguf *g, bool *interleaved, nr_error *err);

/* ---- gguf.c ---- */
size_t nr_gguf_value_count(const nr_gguf *g);
const nr_gguf_value *nr_gguf_value_at(const nr_gguf *g, size_t i);
/* Item i of an integer value or array; false when it isn't one. */
bool nr_gguf_integer(const nr_gguf_value *v, size_t i, int64_t *out);

/* ---- model_folder.c: config, tokenizer settings and shards of a folder ---- */
nr_status nr_folder_read(nr_model_file *f, nr_error *err);

#endif
