/*
 * tiny.h - a random backbone small enough for finite differences, made anew
 * in a temporary folder by the test that includes this.
 */
#ifndef TINY_H
#define TINY_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/extension.h"

typedef struct {
    char folder[128];
    nr_model *model;
} tiny;

static inline void tiny_ok(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

static inline const char *tiny_config(void)
{
    return "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 40, \"hidden_size\": 16,"
           "\"intermediate_size\": 24, \"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
           "\"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000, \"tie_word_embeddings\": true,"
           "\"max_position_embeddings\": 64, \"bos_token_id\": 0, \"eos_token_id\": 0, \"initializer_range\": 0.3}";
}

/* Another shape: an untied head, biases everywhere. */
static inline const char *tiny_biased_config(void)
{
    return "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 40, \"hidden_size\": 16,"
           "\"intermediate_size\": 24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
           "\"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000, \"tie_word_embeddings\": false,"
           "\"attention_bias\": true, \"mlp_bias\": true,"
           "\"max_position_embeddings\": 64, \"bos_token_id\": 0, \"eos_token_id\": 0, \"initializer_range\": 0.3}";
}

static inline void tiny_open_as(tiny *t, const nr_ops *ops, nr_use use, const char *shape)
{
    nr_error err = {0};
    char config[160], folder[160];
    nr_model_options opt = {.use = use, .threads = nr_threads_get()};
    snprintf(t->folder, sizeof t->folder, "/tmp/nres-tiny-XXXXXX");
    assert_non_null(mkdtemp(t->folder));
    snprintf(config, sizeof config, "%s/config.json", t->folder);
    snprintf(folder, sizeof folder, "%s/model", t->folder);
    tiny_ok(nr_write_file(config, shape, strlen(shape), &err), &err);
    tiny_ok(nr_model_init(config, NULL, folder, 7, &err), &err);
    tiny_ok(nr_model_open_on(&t->model, folder, &opt, ops, &err), &err);
}

static inline void tiny_open(tiny *t, const nr_ops *ops, nr_use use)
{
    tiny_open_as(t, ops, use, tiny_config());
}

static inline void tiny_close(tiny *t)
{
    nr_model_close(t->model);
    nr_remove_folder(t->folder, NULL);
}

/* Away from the identity, where wrong gradients look right. */
static inline void tiny_shake(nr_extension *e, double size)
{
    nr_error err = {0};
    for (size_t i = 0; i < e->weights; i++) {
        double v = nr_real_get(e->model->ops, e->values, i);
        nr_real_set(e->model->ops, e->values, i, v + size * nr_rng_normal(99, NR_RNG_TEST, i));
    }
    tiny_ok(nr_extension_repack(e, &err), &err);
}

enum { TINY_B = 3, TINY_T = 7, TINY_N = TINY_B * TINY_T };

typedef struct {
    int32_t ids[TINY_N], targets[TINY_N], first[TINY_N];
    uint8_t is_new[TINY_B];
    nr_batch batch;
} tiny_batch;

static inline void tiny_fill(tiny_batch *t)
{
    for (size_t i = 0; i < TINY_N; i++) {
        t->ids[i] = (int32_t)(nr_rng_u64(3, NR_RNG_TEST, i) % 40);
        t->targets[i] = (int32_t)(nr_rng_u64(4, NR_RNG_TEST, i) % 40);
        t->first[i] = i % TINY_T >= 4 ? 4 : 0; /* a second document from position 4 on */
    }
    t->targets[5] = -1;
    t->is_new[0] = 1;
    t->is_new[1] = 0;
    t->is_new[2] = 1;
    t->batch = (nr_batch){.B = TINY_B, .T = TINY_T, .ids = t->ids, .targets = t->targets, .is_new = t->is_new,
                          .step_tokens = TINY_N - 1, .step_positions = TINY_N, .step_old_tokens = TINY_T};
}

static inline double tiny_loss(nr_pass *p, const nr_batch *b, bool backward)
{
    nr_error err = {0};
    nr_losses sum = {0};
    tiny_ok(nr_pass_forward(p, b, &err), &err);
    tiny_ok(nr_pass_loss(p, b, backward, &sum, NULL, &err), &err);
    return sum.nll / (double)b->step_tokens + sum.local_weighted;
}

#endif
