/*
 * model_file.c - a model on disk, whatever its container, as one list of
 * tensors under Hugging Face's names and one config.
 *
 * Once open, every tensor that the config needs is there in its shape, and
 * nothing else is but what is known to carry no weights. Files stay mapped
 * read-only until close.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

/* ---- names ---- */

/* X(GGUF's name, Hugging Face's, rows, columns, when) inside a layer.
 * Sizes: C width, F FFN width, Q rows of all heads, K and V of all key/value heads, 1: it is a vector.
 * When: n always, a with attention_bias, m with mlp_bias. */
#define LAYER_TENSORS(X)                                                             \
    X("attn_norm.weight", "input_layernorm.weight", 'C', '1', 'n')                   \
    X("ffn_norm.weight", "post_attention_layernorm.weight", 'C', '1', 'n')           \
    X("attn_q.weight", "self_attn.q_proj.weight", 'Q', 'C', 'n')                     \
    X("attn_k.weight", "self_attn.k_proj.weight", 'K', 'C', 'n')                     \
    X("attn_v.weight", "self_attn.v_proj.weight", 'V', 'C', 'n')                     \
    X("attn_output.weight", "self_attn.o_proj.weight", 'C', 'Q', 'n')                \
    X("ffn_gate.weight", "mlp.gate_proj.weight", 'F', 'C', 'n')                      \
    X("ffn_up.weight", "mlp.up_proj.weight", 'F', 'C', 'n')                          \
    X("ffn_down.weight", "mlp.down_proj.weight", 'C', 'F', 'n')                      \
    X("attn_q.bias", "self_attn.q_proj.bias", 'Q', '1', 'a')                         \
    X("attn_k.bias", "self_attn.k_proj.bias", 'K', '1', 'a')                         \
    X("attn_v.bias", "self_attn.v_proj.bias", 'V', '1', 'a')                         \
    X("attn_output.bias", "self_attn.o_proj.bias", 'C', '1', 'a')                    \
    X("ffn_gate.bias", "mlp.gate_proj.bias", 'F', '1', 'm')                          \
    X("ffn_up.bias", "mlp.up_proj.bias", 'F', '1', 'm')                              \
    X("ffn_down.bias", "mlp.down_proj.bias", 'C', '1', 'm')

typedef struct {
    const char *gguf, *name;
    char rows, cols, when;
} layer_tensor;

static const layer_tensor layer_tensors[] = {
#define ROW(gguf, name, rows, cols, when) {gguf, name, rows, cols, when},
    LAYER_TENSORS(ROW)
#undef ROW
};

static const struct {
    const char *gguf, *name;
} outer_tensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

/* "blk.12.attn_q.weight" with "blk.": 12, and *rest behind the dot. */
static bool split_layer(const char *name, const char *prefix, size_t *layer, const char **rest)
{
    size_t n = strlen(prefix), digits = 0;
    if (strncmp(name, prefix, n) != 0) return false;
    *layer = 0;
    for (; isdigit((unsigned char)name[n + digits]) && digits < 6; digits++) *layer = *layer * 10 + (size_t)(name[n + digits] - '0');
    if (digits == 0 || name[n + digits] != '.') return false;
    if (digits > 1 && name[n] == '0') return false; /* 01 would be another name for 1 */
    *rest = name + n + digits + 1;
    return true;
}

/* Hugging Face's name into buf; false: no weight of the model. */
static bool translate(char buf[96], const char *gguf)
{
    size_t layer;
    const char *rest;
    for (size_t i = 0; i < NR_COUNT(outer_tensors); i++)
        if (strcmp(gguf, outer_tensors[i].gguf) == 0) return snprintf(buf, 96, "%s", outer_tensors[i].name) > 0;
    if (!split_layer(gguf, "blk.", &layer, &rest)) return false;
    for (size_t i = 0; i < NR_COUNT(layer_tensors); i++)
        if (strcmp(rest, layer_tensors[i].gguf) == 0)
            return snprintf(buf, 96, "model.layers.%zu.%s", layer, layer_tensors[i].name) > 0;
    return false;
}

/* Known, and without weights of their own: rotary frequencies. */
static bool is_extra(const char *name)
{
    size_t layer;
    const char *rest;
    if (strcmp(name, "rope_freqs.weight") == 0 || strcmp(name, "model.rotary_emb.inv_freq") == 0) return true;
    if (split_layer(name, "model.layers.", &layer, &rest)) return strcmp(rest, "self_attn.rotary_emb.inv_freq") == 0;
    return false;
}

/* ---- GGUF ---- */

static nr_status add_gguf_tensor(nr_model_file *f, const nr_tensor *t, bool interleaved, nr_error *err)
{
    nr_tensor *to = &f->tensors[f->count];
    char name[96];
    bool known = translate(name, t->name);
    if (!known && is_extra(t->name)) return NR_OK;
    if (!known)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: tensor %s: expected a tensor of the %s family, found this one", f->path, t->name,
                       f->config.architecture);
    *to = *t;
    to->name = nr_strdup(name);
    if (!to->name) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", f->path);
    f->count++;
    if (interleaved && strstr(name, "self_attn.q_proj")) to->permuted_heads = f->config.H;
    if (interleaved && strstr(name, "self_attn.k_proj")) to->permuted_heads = f->config.K;
    if (to->permuted_heads && to->ndim == 1 && nr_dtypes[to->type].block > 1)
        return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected an unquantised bias, found %s", f->path, t->name,
                       nr_dtypes[to->type].name);
    return NR_OK;
}

static nr_status read_gguf(nr_model_file *f, nr_error *err)
{
    bool interleaved = false;
    NR_TRY(nr_alloc(&f->maps, 1, sizeof *f->maps, "maps", err));
    NR_TRY(nr_map_open_file(&f->maps[0], f->path, err));
    f->map_count = 1;
    f->is_gguf = true;
    NR_TRY(nr_gguf_open(&f->gguf, &f->maps[0], err));
    NR_TRY(nr_config_from_gguf(&f->config, f->gguf, &interleaved, err));
    size_t n = nr_gguf_tensor_count(f->gguf);
    NR_TRY(nr_alloc(&f->tensors, n, sizeof *f->tensors, "tensor list", err));
    for (size_t i = 0; i < n; i++) NR_TRY(add_gguf_tensor(f, nr_gguf_tensor(f->gguf, i), interleaved, err));
    return NR_OK;
}

/* ---- what must be there ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const nr_tensor *)a)->name, ((const nr_tensor *)b)->name);
}

const nr_tensor *nr_model_file_find(const nr_model_file *f, const char *name)
{
    nr_tensor want = {.name = (char *)(uintptr_t)name};
    if (f->count == 0) return NULL;
    return bsearch(&want, f->tensors, f->count, sizeof *f->tensors, compare_names);
}

static size_t size_of(const nr_config *c, char letter)
{
    switch (letter) {
    case 'C': return c->C;
    case 'F': return c->F;
    case 'Q': return c->H * c->D;
    case 'K':
    case 'V': return c->K * c->D;
    default: return 1;
    }
}

/* cols 0: a vector. */
static nr_status check_tensor(const nr_model_file *f, const char *name, size_t rows, size_t cols, nr_error *err)
{
    const nr_tensor *t = nr_model_file_find(f, name);
    if (!t) return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected it, found nothing", f->path, name);
    if (cols ? t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols : t->ndim == 1 && t->shape[0] == rows) return NR_OK;
    char expected[64], found[128] = "";
    if (cols) snprintf(expected, sizeof expected, "%zu x %zu", rows, cols);
    else snprintf(expected, sizeof expected, "%zu", rows);
    for (unsigned i = 0; i < t->ndim; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%zu", i ? " x " : "", t->shape[i]);
    return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected %s, found %s", f->path, name, expected, *found ? found : "a scalar");
}

static bool wanted(const nr_config *c, char when)
{
    return when == 'n' || (when == 'a' && c->attention_bias) || (when == 'm' && c->mlp_bias);
}

/* A tied head that is written out anyway must repeat the embedding. */
static nr_status check_head(const nr_model_file *f, nr_error *err)
{
    const nr_config *c = &f->config;
    const nr_tensor *e = nr_model_file_find(f, "model.embed_tokens.weight"), *head = nr_model_file_find(f, "lm_head.weight");
    if (!c->tied) return check_tensor(f, "lm_head.weight", c->V, c->C, err);
    if (!head || (head->type == e->type && head->size == e->size && memcmp(head->data, e->data, e->size) == 0)) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: tensor lm_head.weight: expected the embedding's values (tie_word_embeddings), found others", f->path);
}

static nr_status check_needed(const nr_model_file *f, nr_error *err)
{
    const nr_config *c = &f->config;
    char name[128];
    NR_TRY(check_tensor(f, "model.embed_tokens.weight", c->V, c->C, err));
    NR_TRY(check_tensor(f, "model.norm.weight", c->C, 0, err));
    NR_TRY(check_head(f, err));
    for (size_t l = 0; l < c->L; l++) {
        for (size_t i = 0; i < NR_COUNT(layer_tensors); i++) {
            const layer_tensor *t = &layer_tensors[i];
            if (!wanted(c, t->when)) continue;
            snprintf(name, sizeof name, "model.layers.%zu.%s", l, t->name);
            NR_TRY(check_tensor(f, name, size_of(c, t->rows), t->cols == '1' ? 0 : size_of(c, t->cols), err));
        }
    }
    return NR_OK;
}

static bool is_known(const nr_model_file *f, const char *name)
{
    size_t layer;
    const char *rest;
    for (size_t i = 0; i < NR_COUNT(outer_tensors); i++)
        if (strcmp(name, outer_tensors[i].name) == 0) return true;
    if (!split_layer(name, "model.layers.", &layer, &rest) || layer >= f->config.L) return false;
    for (size_t i = 0; i < NR_COUNT(layer_tensors); i++)
        if (strcmp(rest, layer_tensors[i].name) == 0) return wanted(&f->config, layer_tensors[i].when);
    return false;
}

/* Drops the extras, refuses what nobody knows, leaves the rest sorted by name. */
static nr_status sort_out(nr_model_file *f, nr_error *err)
{
    size_t kept = 0;
    nr_status st = NR_OK;
    for (size_t i = 0; i < f->count; i++) {
        nr_tensor *t = &f->tensors[i];
        if (st == NR_OK && is_extra(t->name)) {
            free(t->name);
            continue;
        }
        if (st == NR_OK && !is_known(f, t->name))
            st = nr_fail(err, NR_E_UNSUPPORTED, "%s: tensor %s: expected tensors of a %s model with %zu layers, found this one",
                         f->path, t->name, f->config.architecture, f->config.L);
        f->tensors[kept++] = *t;
    }
    f->count = kept;
    if (kept > 1) qsort(f->tensors, kept, sizeof *f->tensors, compare_names);
    for (size_t i = 1; i < kept && st == NR_OK; i++)
        if (compare_names(&f->tensors[i - 1], &f->tensors[i]) == 0)
            st = nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected one of that name, found two", f->path, f->tensors[i].name);
    return st;
}

nr_status nr_model_file_open(nr_model_file **out, const char *path, const char *hub_folder, nr_error *err)
{
    nr_model_file *f;
    *out = NULL;
    NR_TRY(nr_alloc(&f, 1, sizeof *f, "model file", err));
    nr_status st = nr_model_resolve(&f->path, path, hub_folder, err);
    if (st == NR_OK) st = nr_path_is_folder(f->path) ? nr_folder_read(f, err) : read_gguf(f, err);
    if (st == NR_OK) st = sort_out(f, err);
    if (st == NR_OK) st = check_needed(f, err);
    if (st != NR_OK)
        nr_model_file_close(f);
    else
        *out = f;
    return st;
}

void nr_model_file_forget(const nr_model_file *f)
{
    for (size_t i = 0; i < f->map_count; i++) nr_map_forget(&f->maps[i]);
}

nr_status nr_model_file_read(const nr_model_file *f, void *to, const void *at, size_t bytes, nr_error *err)
{
    uintptr_t begin = (uintptr_t)at;
    for (size_t i = 0; i < f->map_count; i++) {
        const nr_map *m = &f->maps[i];
        if (begin - (uintptr_t)m->data < m->size) return nr_map_read(m, to, at, bytes, err);
    }
    memcpy(to, at, bytes);
    return NR_OK;
}

void nr_model_file_close(nr_model_file *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->count; i++) free(f->tensors[i].name);
    free(f->tensors);
    nr_gguf_close(f->gguf);
    for (size_t i = 0; i < f->map_count; i++) nr_map_close(&f->maps[i]);
    free(f->maps);
    free(f->config.chat_template);
    free(f->path);
    free(f);
}
