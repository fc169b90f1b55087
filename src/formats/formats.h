/*
 * formats.h - files of other programs, read as hostile bytes: GGUF,
 * safetensors, config.json, and the one shape they all end as.
 */
#ifndef NR_FORMATS_H
#define NR_FORMATS_H

#include "tensor/tensor.h"

/* ---- config.c: shapes and constants of a backbone ---- */

typedef enum { NR_ACT_SILU, NR_ACT_GELU_TANH } nr_act;
typedef enum { NR_ROPE_DEFAULT, NR_ROPE_LINEAR, NR_ROPE_LLAMA3 } nr_rope_kind;

typedef struct {
    char architecture[64]; /* llama, mistral, ... as the file says */
    char name[256];        /* general.name or the folder's name */
    size_t L, C, F, H, K, D, V, max_context;
    double norm_eps;
    nr_act act;
    struct {
        nr_rope_kind kind;
        double theta, factor, low_freq_factor, high_freq_factor;
        size_t original_context;
        /* GGUF: the llama3 correction as divisors, (D/2), or NULL */
        const float *divisors;
    } rope;
    bool tied, attention_bias, mlp_bias;
    int32_t bos, eos, pad; /* -1: none */
    int32_t more_eos[8];   /* further end-of-text ids, -1 ended */
    bool add_bos;
    char *chat_template;   /* NULL: none; owned by the model file */
} nr_config;

/* From config.json. What it asks for and we don't do is refused by name. */
nr_status nr_config_from_json(nr_config *c, const json_t *j, const char *where, nr_error *err);
nr_status nr_config_check(const nr_config *c, const char *where, nr_error *err);

/* ---- config_write.c ---- */

/* The other way, as transformers reads it. What config.json can't say (rotary
 * divisors that no llama3 scaling makes) is refused. */
nr_status nr_config_to_json(json_t **out, const nr_config *c, const char *where, nr_error *err);
/* The ids of generation_config.json. */
nr_status nr_config_generation(json_t **out, const nr_config *c, nr_error *err);

/* ---- model_file.c: a GGUF file or a Hugging Face folder, opened ---- */

typedef struct nr_gguf nr_gguf;

typedef struct {
    nr_config config;
    char *path;          /* what the user named, resolved */
    bool is_gguf;
    nr_tensor *tensors;  /* names as Hugging Face has them; duplicates refused */
    size_t count;
    nr_map *maps;
    size_t map_count;
    nr_gguf *gguf;       /* metadata, for the tokenizer; NULL for a folder */
} nr_model_file;

/* path: file, folder, or ORG/NAME under hub_folder (may be NULL). Resolved
 * into *out, malloc'ed. */
nr_status nr_model_resolve(char **out, const char *path, const char *hub_folder, nr_error *err);
/* Maps everything, checks that each tensor the config needs is there with its
 * shape and that nothing else but known extras is (others are refused by name). */
nr_status nr_model_file_open(nr_model_file **out, const char *path, const char *hub_folder, nr_error *err);
void nr_model_file_close(nr_model_file *f);
/* The tensors have been copied: their pages needn't stay in memory. */
void nr_model_file_forget(const nr_model_file *f);
/* Copies bytes of a tensor's data, whose pages stay out of memory. */
nr_status nr_model_file_read(const nr_model_file *f, void *to, const void *at, size_t bytes, nr_error *err);
/* NULL when there is none of that name. */
const nr_tensor *nr_model_file_find(const nr_model_file *f, const char *name);

/* ---- model_describe.c ---- */

/* What `nres inspect --json` prints: a new reference, NULL when out of memory. */
json_t *nr_model_file_describe(const nr_model_file *f, bool with_tensors);
/* SHA-256 over tensor names, types, shapes and bytes, in the order of names. */
nr_status nr_model_file_fingerprint(const nr_model_file *f, char hex[65], nr_error *err);

/* ---- gguf.c: container and metadata ---- */

typedef enum {
    NR_GGUF_U8, NR_GGUF_I8, NR_GGUF_U16, NR_GGUF_I16, NR_GGUF_U32, NR_GGUF_I32,
    NR_GGUF_F32, NR_GGUF_BOOL, NR_GGUF_STRING, NR_GGUF_ARRAY, NR_GGUF_U64,
    NR_GGUF_I64, NR_GGUF_F64
} nr_gguf_kind;

typedef struct {
    const char *data; /* not NUL-terminated */
    size_t size;
} nr_span;

typedef struct {
    nr_span key;
    nr_gguf_kind kind, item; /* item: of an array */
    size_t count;            /* items of an array, else 1 */
    const unsigned char *data;
    nr_span *strings;        /* string arrays, and strings (one item) */
} nr_gguf_value;

nr_status nr_gguf_open(nr_gguf **out, const nr_map *map, nr_error *err);
void nr_gguf_close(nr_gguf *g);
const char *nr_gguf_path(const nr_gguf *g);
/* NULL when absent. */
const nr_gguf_value *nr_gguf_find(const nr_gguf *g, const char *key);
/* Typed reads with errors that name file and key. Not required: *v is left. */
nr_status nr_gguf_size(const nr_gguf *g, const char *key, bool required, size_t *v, nr_error *err);
nr_status nr_gguf_double(const nr_gguf *g, const char *key, bool required, double *v, nr_error *err);
nr_status nr_gguf_string(const nr_gguf *g, const char *key, bool required, nr_span *v, nr_error *err);
nr_status nr_gguf_bool(const nr_gguf *g, const char *key, bool required, bool *v, nr_error *err);
/* Tensors with GGUF's own names, dims turned outermost first. */
size_t nr_gguf_tensor_count(const nr_gguf *g);
const nr_tensor *nr_gguf_tensor(const nr_gguf *g, size_t i);

/* ---- safetensors.c ---- */

typedef struct {
    nr_tensor *tensors;
    size_t count;
    json_t *metadata; /* string to string, or NULL */
    nr_map map;
} nr_safetensors;
nr_status nr_safetensors_open(nr_safetensors **out, const char *path, nr_error *err);
void nr_safetensors_close(nr_safetensors *s);
const nr_tensor *nr_safetensors_find(const nr_safetensors *s, const char *name);
/* Writes tensors (data pointers in memory, unquantised types) atomically.
 * metadata may be NULL; "format": "pt" is added. */
nr_status nr_safetensors_write(const char *path, const nr_tensor *tensors, size_t count,
                               const json_t *metadata, nr_error *err);
/* The same for tensors whose data isn't in memory: in the file's order, `write` brings the t->size bytes of each. */
typedef nr_status nr_tensor_writer(void *context, nr_writer *w, const nr_tensor *t, nr_error *err);
nr_status nr_safetensors_stream(const char *path, const nr_tensor *tensors, size_t count, nr_tensor_writer *write, void *context,
                                nr_error *err);

#endif
