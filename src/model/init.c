/*
 * init.c - nr_model_init: a random backbone of a given shape as a Hugging Face
 * folder, for tests and for measuring shapes that aren't at hand.
 *
 * Matrices are normal(0, initializer_range), norms 1, biases 0. The folder
 * appears whole or not at all.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/model.h"

typedef struct {
    nr_tensor *tensors;
    size_t count, cap;
    uint64_t seed;
    double range;
} weights;

typedef struct {
    float *to;
    size_t n;
    uint64_t seed, index;
    double range;
} fill_job;

enum { PIECE = 1 << 14 };

static void fill(void *context, size_t piece)
{
    const fill_job *job = context;
    size_t begin = piece * PIECE, end = NR_MIN(begin + PIECE, job->n);
    for (size_t i = begin; i < end; i++)
        job->to[i] = (float)(job->range * nr_rng_normal(job->seed, NR_RNG_BACKBONE, job->index | i));
}

/* A (rows, cols) matrix, or a vector when rows is 0: of `one` everywhere. */
static nr_status add(weights *w, size_t rows, size_t cols, float one, nr_error *err, const char *name)
{
    size_t n = (rows ? rows : 1) * cols;
    float *data;
    if (w->count == w->cap) return nr_fail(err, NR_E_MEMORY, "too many tensors");
    NR_TRY(nr_alloc(&data, n, sizeof *data, name, err));
    if (rows) {
        fill_job job = {data, n, w->seed, (uint64_t)w->count << 40, w->range};
        nr_parallel((n + PIECE - 1) / PIECE, fill, &job);
    }
    for (size_t i = 0; !rows && i < n; i++) data[i] = one;
    nr_tensor *t = &w->tensors[w->count++];
    *t = (nr_tensor){.name = nr_strdup(name), .type = NR_F32, .ndim = rows ? 2 : 1, .shape = {rows ? rows : cols, rows ? cols : 0},
                     .data = (const unsigned char *)data, .size = n * sizeof *data};
    return t->name ? NR_OK : nr_fail(err, NR_E_MEMORY, "not enough memory for %s", name);
}

static nr_status add_layer(weights *w, const nr_config *c, size_t l, nr_error *err)
{
    char name[160];
    snprintf(name, sizeof name, "model.layers.%zu.input_layernorm.weight", l);
    NR_TRY(add(w, 0, c->C, 1, err, name));
    snprintf(name, sizeof name, "model.layers.%zu.post_attention_layernorm.weight", l);
    NR_TRY(add(w, 0, c->C, 1, err, name));
    for (nr_site s = 0; s < NR_SITES; s++) {
        size_t out, in;
        nr_site_shape(c, s, &out, &in);
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", l, nr_site_tensors[s]);
        NR_TRY(add(w, out, in, 0, err, name));
        snprintf(name, sizeof name, "model.layers.%zu.%s.bias", l, nr_site_tensors[s]);
        if (nr_site_bias(c, s)) NR_TRY(add(w, 0, out, 0, err, name));
    }
    return NR_OK;
}

static nr_status add_all(weights *w, const nr_config *c, nr_error *err)
{
    w->cap = 3 + c->L * (2 + 2 * NR_SITES);
    NR_TRY(nr_alloc(&w->tensors, w->cap, sizeof *w->tensors, "tensor list", err));
    NR_TRY(add(w, c->V, c->C, 0, err, "model.embed_tokens.weight"));
    for (size_t l = 0; l < c->L; l++) NR_TRY(add_layer(w, c, l, err));
    NR_TRY(add(w, 0, c->C, 1, err, "model.norm.weight"));
    return c->tied ? NR_OK : add(w, c->V, c->C, 0, err, "lm_head.weight");
}

static nr_status write_folder(const char *folder, const char *config_json, const char *tokenizer_json, const weights *w, nr_error *err)
{
    char *path = nr_path_join(folder, "model.safetensors");
    nr_status st = path ? nr_make_folders(folder, err) : nr_fail(err, NR_E_MEMORY, "%s: not enough memory", folder);
    if (st == NR_OK) st = nr_safetensors_write(path, w->tensors, w->count, NULL, err);
    if (st == NR_OK) st = nr_copy_file(config_json, folder, "config.json", err);
    if (st == NR_OK && tokenizer_json) st = nr_copy_file(tokenizer_json, folder, "tokenizer.json", err);
    free(path);
    return st;
}

nr_status nr_model_init(const char *config_json, const char *tokenizer_json, const char *folder, uint64_t seed, nr_error *err)
{
    nr_config c = {0};
    weights w = {.seed = seed, .range = 0.02};
    json_t *j = NULL;
    nr_status st;
    char *to = nr_path_trim(folder), *temporary = to ? nr_format("%s.%ld.tmp", to, (long)getpid()) : NULL;
    if (!temporary) {
        st = nr_fail(err, NR_E_MEMORY, "%s: not enough memory", folder);
        goto done;
    }
    if (nr_path_exists(to)) {
        st = nr_fail(err, NR_E_IO, "%s: exists already", folder);
        goto done;
    }
    NR_GO(nr_json_load(&j, config_json, err));
    NR_GO(nr_config_from_json(&c, j, config_json, err));
    NR_GO(nr_json_double(j, "initializer_range", false, &w.range, config_json, err));
    NR_GO(add_all(&w, &c, err));
    NR_GO(write_folder(temporary, config_json, tokenizer_json, &w, err));
    st = nr_rename_folder(temporary, to, err);
done:
    if (st != NR_OK && temporary && nr_path_exists(temporary)) nr_remove_folder(temporary, NULL);
    for (size_t i = 0; i < w.count; i++) {
        free(w.tensors[i].name);
        free((void *)w.tensors[i].data);
    }
    free(w.tensors);
    free(c.chat_template);
    json_decref(j);
    free(temporary);
    free(to);
    return st;
}
