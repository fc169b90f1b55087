/* test_model_file.c - the same model from every container, the hub's folders, and what is missing or too much. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/formats.h"

#define FIXTURE(name) NRES_FIXTURES "/formats/" name

static char folder[] = "/tmp/nres-model-file-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

static nr_model_file *opened(const char *path)
{
    nr_model_file *f;
    nr_error err = {0};
    if (nr_model_file_open(&f, path, NULL, &err) != NR_OK) fail_msg("%s", err.message);
    return f;
}

static void refused(const char *path, const char *hub, nr_status status, const char *says)
{
    nr_model_file *f;
    nr_error err = {0};
    nr_status st = nr_model_file_open(&f, path, hub, &err);
    if (st != status || !strstr(err.message, says)) fail_msg("expected %d and \"%s\", found %d and \"%s\"", status, says, st, err.message);
    assert_null(f);
}

static float *values(const nr_tensor *t)
{
    size_t n = nr_tensor_rows(t) * nr_tensor_cols(t);
    float *y = calloc(n, sizeof *y);
    nr_tensor_read(y, t, 0, nr_tensor_rows(t));
    return y;
}

/* ---- the same numbers ---- */

static void same_weights(const char *path, double tolerance)
{
    nr_model_file *a = opened(FIXTURE("single")), *b = opened(path);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const nr_tensor *x = &a->tensors[i], *y = nr_model_file_find(b, x->name);
        if (!y) fail_msg("%s lacks %s", path, x->name);
        float *p = values(x), *q = values(y);
        for (size_t k = 0; k < nr_tensor_rows(x) * nr_tensor_cols(x); k++)
            if (!(fabs((double)(p[k] - q[k])) <= tolerance)) fail_msg("%s, %s[%zu]: expected %g, found %g", path, x->name, k, (double)p[k], (double)q[k]);
        free(p);
        free(q);
    }
    nr_model_file_close(a);
    nr_model_file_close(b);
}

static void every_container_holds_the_same(void **state)
{
    (void)state;
    same_weights(FIXTURE("sharded"), 0);
    same_weights(FIXTURE("tiny.gguf"), 0);
    same_weights(FIXTURE("quant.gguf"), 0.25); /* four bits over a range of about 5 */
}

static void folder_config(void **state)
{
    (void)state;
    nr_model_file *f = opened(FIXTURE("single"));
    const nr_config *c = &f->config;
    assert_true(c->L == 2 && c->C == 32 && c->F == 64 && c->H == 4 && c->K == 2 && c->D == 8 && c->V == 48 && !c->tied);
    assert_string_equal(c->name, "single");
    assert_true(c->rope.kind == NR_ROPE_LLAMA3 && c->attention_bias && c->mlp_bias && !f->is_gguf && !f->gguf);
    /* config.json says [2, 3], generation_config.json [2, 4] */
    assert_true(c->bos == 1 && c->eos == 2 && c->more_eos[0] == 3 && c->more_eos[1] == 4 && c->more_eos[2] == -1 && c->pad == -1);
    assert_true(c->add_bos);
    assert_string_equal(c->chat_template, "{{ messages }}"); /* the one named default */
    nr_model_file_close(f);
}

static void gguf_config(void **state)
{
    (void)state;
    nr_model_file *f = opened(FIXTURE("tiny.gguf"));
    const nr_config *c = &f->config;
    assert_true(c->L == 2 && c->C == 32 && c->F == 64 && c->H == 4 && c->K == 2 && c->D == 8 && c->V == 48 && !c->tied);
    assert_string_equal(c->name, "tiny");
    assert_string_equal(c->architecture, "llama");
    assert_true(c->norm_eps == (double)1e-5f && c->max_context == 128 && c->attention_bias && c->mlp_bias && c->add_bos);
    assert_non_null(c->rope.divisors);
    assert_true(c->rope.kind == NR_ROPE_DEFAULT && c->rope.divisors[0] == 1 && c->rope.divisors[3] == 8);
    assert_int_equal(nr_model_file_find(f, "model.layers.1.self_attn.k_proj.weight")->permuted_heads, 2);
    assert_int_equal(nr_model_file_find(f, "model.layers.1.self_attn.q_proj.bias")->permuted_heads, 4);
    assert_null(nr_model_file_find(f, "rope_freqs.weight"));
    nr_model_file_close(f);
}

/* ---- the hub's folders ---- */

static void write_text(const char *path, const char *text)
{
    nr_error err = {0};
    char *copy = nr_strdup(path);
    *strrchr(copy, '/') = '\0';
    if (nr_make_folders(copy, &err) != NR_OK || nr_write_file(path, text, strlen(text), &err) != NR_OK) fail_msg("%s", err.message);
    free(copy);
}

static char *at(const char *fmt, const char *what)
{
    static char path[4][512];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], fmt, folder, what);
    return p;
}

static void hub_folder(void **state)
{
    (void)state;
    static const char commit[] = "0123456789abcdef0123456789abcdef01234567";
    nr_error err = {0};
    nr_model_file *f;
    refused("org/tiny-model", folder, NR_E_IO, "org/tiny-model: expected a file, a folder or a model in the Hugging Face cache");
    refused("org/tiny-model", NULL, NR_E_IO, "found nothing");
    refused("../tiny", folder, NR_E_IO, "found nothing");
    write_text(at("%s/models--org--tiny-model/refs/main", ""), commit);
    refused("org/tiny-model", folder, NR_E_IO, "as refs/main says, found none");
    assert_int_equal(nr_make_folders(at("%s/models--org--tiny-model/snapshots/", ""), &err), NR_OK);
    assert_int_equal(symlink(FIXTURE("single"), at("%s/models--org--tiny-model/snapshots/%s", commit)), 0);
    if (nr_model_file_open(&f, "org/tiny-model", folder, &err) != NR_OK) fail_msg("%s", err.message);
    assert_string_equal(f->config.name, "tiny-model");
    assert_int_equal(f->config.C, 32);
    nr_model_file_close(f);
    write_text(at("%s/models--org--tiny-model/refs/main", ""), "../../../etc");
    refused("org/tiny-model", folder, NR_E_FORMAT, "refs/main: expected a commit in hex");
}

/* A folder with one .gguf file and no config.json stands for the file; two are too many. */
static void gguf_in_a_folder(void **state)
{
    (void)state;
    nr_error err = {0};
    assert_int_equal(nr_make_folders(at("%s/gguf", ""), &err), NR_OK);
    assert_int_equal(symlink(FIXTURE("tiny.gguf"), at("%s/gguf/a.gguf", "")), 0);
    nr_model_file *f = opened(at("%s/gguf", ""));
    assert_true(f->is_gguf && strstr(f->path, "/gguf/a.gguf"));
    nr_model_file_close(f);
    assert_int_equal(symlink(FIXTURE("tiny.gguf"), at("%s/gguf/b.gguf", "")), 0);
    refused(at("%s/gguf", ""), NULL, NR_E_USAGE, "expected config.json or one .gguf file, found 2 .gguf files");
}

/* ---- damaged models ---- */

static const char tiny[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 4, \"hidden_size\": 4, \"intermediate_size\": 2, \"num_hidden_layers\": 1,"
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true}";

enum { TENSORS = 11, MORE = 2 };
typedef struct {
    nr_tensor t[TENSORS + MORE];
    size_t count;
} model;

static const float numbers[16] = {1, 2, 3};

static nr_tensor tensor(const char *name, size_t rows, size_t cols)
{
    nr_tensor t = {.name = (char *)(uintptr_t)name, .type = NR_F32, .ndim = cols ? 2 : 1, .shape = {rows, cols}, .data = (const unsigned char *)numbers};
    t.size = rows * (cols ? cols : 1) * 4;
    return t;
}

static model small(void)
{
#define IN "model.layers.0."
    model m = {.count = TENSORS, .t = {
        tensor("model.embed_tokens.weight", 4, 4), tensor("model.norm.weight", 4, 0), tensor(IN "input_layernorm.weight", 4, 0),
        tensor(IN "post_attention_layernorm.weight", 4, 0), tensor(IN "self_attn.q_proj.weight", 4, 4),
        tensor(IN "self_attn.k_proj.weight", 2, 4), tensor(IN "self_attn.v_proj.weight", 2, 4), tensor(IN "self_attn.o_proj.weight", 4, 4),
        tensor(IN "mlp.gate_proj.weight", 2, 4), tensor(IN "mlp.up_proj.weight", 2, 4), tensor(IN "mlp.down_proj.weight", 4, 2),
    }};
    return m;
}

static const char *store(const model *m)
{
    nr_error err = {0};
    char *path = at("%s/model", "");
    write_text(at("%s/model/config.json", ""), tiny);
    if (nr_safetensors_write(at("%s/model/model.safetensors", ""), m->t, m->count, NULL, &err) != NR_OK) fail_msg("%s", err.message);
    return path;
}

static void tensors_that_are_missing(void **state)
{
    (void)state;
    model m = small();
    nr_model_file_close(opened(store(&m)));
    for (size_t i = 0; i < TENSORS; i++) {
        char says[128];
        model less = small();
        snprintf(says, sizeof says, "tensor %s: expected it, found nothing", less.t[i].name);
        less.t[i] = less.t[--less.count];
        refused(store(&less), NULL, NR_E_FORMAT, says);
    }
}

static void tensors_of_another_shape(void **state)
{
    (void)state;
    model m = small();
    m.t[5] = tensor(IN "self_attn.k_proj.weight", 4, 4);
    refused(store(&m), NULL, NR_E_FORMAT, "k_proj.weight: expected 2 x 4, found 4 x 4");
    m = small();
    m.t[1] = tensor("model.norm.weight", 4, 1);
    refused(store(&m), NULL, NR_E_FORMAT, "tensor model.norm.weight: expected 4, found 4 x 1");
    m = small();
    m.t[4].ndim = 0;
    m.t[4].size = 4;
    refused(store(&m), NULL, NR_E_FORMAT, "q_proj.weight: expected 4 x 4, found a scalar");
}

static void tensors_too_many(void **state)
{
    (void)state;
    static const char *const names[] = {"score.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.00.mlp.up_proj.weight",
                                        IN "self_attn.q_proj.bias", IN "self_attn.q_norm.weight", "rope"};
    for (size_t i = 0; i < NR_COUNT(names); i++) {
        char says[128];
        model m = small();
        m.t[m.count++] = tensor(names[i], 2, 4);
        snprintf(says, sizeof says, "tensor %s: expected tensors of a llama model with 1 layers, found this one", names[i]);
        refused(store(&m), NULL, NR_E_UNSUPPORTED, says);
    }
    model m = small();
    m.t[m.count++] = tensor(IN "self_attn.rotary_emb.inv_freq", 1, 0);
    m.t[m.count++] = tensor("lm_head.weight", 4, 4); /* the embedding again */
    nr_model_file *f = opened(store(&m));
    assert_null(nr_model_file_find(f, IN "self_attn.rotary_emb.inv_freq"));
    json_t *j = nr_model_file_describe(f, true);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "weights"), "all")), 16 + 4 * 3 + 16 + 8 + 8 + 16 + 24);
    json_decref(j);
    nr_model_file_close(f);
    static const float other[16] = {9};
    m.t[m.count - 1].data = (const unsigned char *)other;
    refused(store(&m), NULL, NR_E_FORMAT, "tensor lm_head.weight: expected the embedding's values");
}

static void shards(void **state)
{
    (void)state;
    model m = small();
    nr_error err = {0};
    char *path = at("%s/parts", ""), index[2048];
    write_text(at("%s/parts/config.json", ""), tiny);
    refused(path, NULL, NR_E_IO, "expected model.safetensors or model.safetensors.index.json, found neither");
    path = at("%s/parts", "");
    assert_int_equal(nr_safetensors_write(at("%s/parts/a.safetensors", ""), m.t, 5, NULL, &err), NR_OK);
    assert_int_equal(nr_safetensors_write(at("%s/parts/b.safetensors", ""), m.t + 5, 6, NULL, &err), NR_OK);
    for (int broken = 0; broken < 6; broken++) {
        size_t n = (size_t)snprintf(index, sizeof index, "{\"weight_map\": {");
        for (size_t i = 0; i < TENSORS - (broken == 1); i++) {
            const char *shard = i < 5 ? "a.safetensors" : broken == 3 ? "gone.safetensors" : broken == 4 ? "../b.safetensors" : "b.safetensors";
            n += (size_t)snprintf(index + n, sizeof index - n, "%s\"%s\": \"%s\"", i ? ", " : "", m.t[i].name, broken == 2 && i == 0 ? "b.safetensors" : shard);
        }
        if (broken == 5) n += (size_t)snprintf(index + n, sizeof index - n, ", \"ghost\": \"a.safetensors\"");
        snprintf(index + n, sizeof index - n, "}}");
        write_text(at("%s/parts/model.safetensors.index.json", ""), index);
        path = at("%s/parts", "");
        if (broken == 0) nr_model_file_close(opened(path));
        if (broken == 1) refused(path, NULL, NR_E_FORMAT, "b.safetensors: tensor " IN "mlp.down_proj.weight: expected what the index names, found it not named");
        if (broken == 2) refused(path, NULL, NR_E_FORMAT, "a.safetensors: tensor model.embed_tokens.weight: expected what the index names, found it named in b.safetensors");
        if (broken == 3) refused(path, NULL, NR_E_IO, "gone.safetensors");
        if (broken == 4) refused(path, NULL, NR_E_FORMAT, "expected a file in the folder, found ../b.safetensors");
        if (broken == 5) refused(path, NULL, NR_E_FORMAT, "a.safetensors: tensor ghost: expected it, as the index says, found nothing");
    }
    write_text(at("%s/parts/model.safetensors.index.json", ""), "{\"weight_map\": {}}");
    refused(at("%s/parts", ""), NULL, NR_E_FORMAT, "expected 1 to 10000 shards, found 0");
}

/* ---- fingerprint ---- */

static void fingerprints(void **state)
{
    (void)state;
    static const float other[16] = {1, 2, 4};
    nr_error err = {0};
    char one[65], two[65];
    model m = small();
    nr_model_file *f = opened(store(&m));
    assert_int_equal(nr_model_file_fingerprint(f, one, &err), NR_OK);
    nr_model_file_close(f);
    assert_int_equal(strlen(one), 64);
    model turned = small(); /* another order on disk is the same model */
    turned.t[0] = small().t[10];
    turned.t[10] = small().t[0];
    f = opened(store(&turned));
    assert_int_equal(nr_model_file_fingerprint(f, two, &err), NR_OK);
    nr_model_file_close(f);
    assert_string_equal(one, two);
    m.t[7].data = (const unsigned char *)other; /* one byte */
    f = opened(store(&m));
    assert_int_equal(nr_model_file_fingerprint(f, two, &err), NR_OK);
    nr_model_file_close(f);
    assert_string_not_equal(one, two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_container_holds_the_same), cmocka_unit_test(folder_config), cmocka_unit_test(gguf_config),
        cmocka_unit_test(hub_folder), cmocka_unit_test(gguf_in_a_folder), cmocka_unit_test(tensors_that_are_missing),
        cmocka_unit_test(tensors_of_another_shape), cmocka_unit_test(tensors_too_many), cmocka_unit_test(shards),
        cmocka_unit_test(fingerprints),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
