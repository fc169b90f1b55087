/*
 * export.c - nr_model_export: a model, with the extensions that are weights and
 * layers of its own architecture, as a Hugging Face folder.
 *
 * The list of tensors follows the walk: at each depth a layer of the backbone or
 * an own one of an extension, some of its weights replaced, something folded into
 * others. A piece of a tensor at a time is read, folded, converted and written,
 * so memory doesn't grow with the model. The folder appears whole or not at all.
 *
 * Refused: methods that no such model can express; numbers that the type can't
 * hold or that aren't finite.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/extension.h"
#include "tokenizer/tokenizer.h"

enum { PIECE = 1 << 20 }; /* weights at a time */
#define DEFAULT_SHARD 5000000000u

/* Where a tensor comes from: the file, or a parameter of an extension. */
typedef struct {
    const nr_tensor *tensor;
    const nr_extension *of;
    const nr_param *param;
    size_t layer;   /* of the backbone, which extensions fold into */
    nr_site site;   /* NR_SITES: no such matrix */
} origin;

typedef struct {
    const nr_model *m;
    nr_extension *stack[NR_STACK_MAX];
    size_t stack_count;
    const nr_extension *walker, *replacer; /* inserts layers; brings weights of its own */
    size_t depth;
    nr_dtype type;
    const char *folder;  /* where the files go */
    nr_tensor *tensors;  /* without data, in the order of the walk */
    origin *origins;
    size_t count, cap;
    float *piece;
    unsigned char *bytes;
    const nr_listener *listener;
    size_t written, size; /* bytes of weights */
    double began;
} job;

/* ---- which extensions ---- */

static nr_status refuse(const nr_extension *e, nr_error *err)
{
    char list[256] = "";
    for (size_t i = 0; i < nr_method_count; i++)
        if (nr_methods[i]->stock)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "", nr_methods[i]->name);
    return nr_fail(err, NR_E_UNSUPPORTED, "extension: expected a method whose result is a plain %s model (%s), found %s; nres runs it with "
                   "-x on the backbone, which can be exported alone", e->model->config->architecture, list, e->method->name);
}

static nr_status look_at_stack(job *j, nr_extension *e, nr_error *err)
{
    nr_extension *all[NR_STACK_MAX];
    size_t count = nr_extension_stack(e, all);
    j->depth = j->m->config->L;
    for (size_t i = 0; i < count; i++) {
        nr_extension *at = all[i];
        if (!at->on) continue;
        if (!at->method->stock) return refuse(at, err);
        if (at->block_data || !at->values)
            return nr_fail(err, NR_E_USAGE, "extension: expected one with its weights, found one %s", at->block_data ? "in Q8_0 blocks" : "without");
        if ((at->replaces && j->replacer) || (at->method->depth && j->walker))
            return nr_fail(err, NR_E_UNSUPPORTED, "extensions: only one of them may %s, found two",
                           at->replaces ? "replace the backbone's weights" : "insert layers");
        if (at->replaces) j->replacer = at;
        if (at->method->depth) {
            j->walker = at;
            j->depth = at->method->depth(at);
        }
        j->stack[j->stack_count++] = at;
    }
    return NR_OK;
}

/* ---- the list of tensors ---- */

static const nr_param *param_named(const nr_extension *e, const char *name)
{
    for (size_t i = 0; e && i < e->param_count; i++)
        if (strcmp(e->params[i].name, name) == 0) return &e->params[i];
    return NULL;
}

/* name: as it is written. from: as the file or, with `of`, that extension has it. rows 0: a vector. */
static nr_status add(job *j, const char *name, const char *from, const nr_extension *of, size_t rows, size_t cols, size_t layer,
                     nr_site site, nr_error *err)
{
    nr_tensor *t = &j->tensors[j->count];
    origin *o = &j->origins[j->count];
    *o = (origin){.layer = layer, .site = site, .of = of ? of : j->replacer};
    o->param = param_named(o->of, from);
    if (!o->param && !of) o->tensor = nr_model_file_find(j->m->file, from);
    if (!o->param && !o->tensor) return nr_fail(err, NR_E_FORMAT, "%s: tensor %s is missing", j->m->file->path, from);
    *t = (nr_tensor){.name = nr_strdup(name), .type = j->type, .ndim = rows ? 2 : 1, .shape = {rows ? rows : cols, rows ? cols : 0},
                     .size = (rows ? rows : 1) * cols * nr_dtype_size(j->type)};
    if (!t->name) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", name);
    j->size += t->size;
    j->count++;
    return NR_OK;
}

static nr_status add_of_layer(job *j, size_t depth, size_t number, bool own, size_t rows, size_t cols, nr_site site, const char *rest,
                              const char *end, nr_error *err)
{
    char name[160], from[160];
    snprintf(name, sizeof name, "model.layers.%zu.%s.%s", depth, rest, end);
    snprintf(from, sizeof from, "%s.%zu.%s.%s", own ? "blocks" : "model.layers", number, rest, end);
    return add(j, name, from, own ? j->walker : NULL, rows, cols, number, own ? NR_SITES : site, err);
}

static nr_status add_layer(job *j, size_t depth, nr_error *err)
{
    const nr_config *c = j->m->config;
    size_t number = depth, out, in;
    bool own = j->walker && !j->walker->method->layer_at(j->walker, depth, &number);
    NR_TRY(add_of_layer(j, depth, number, own, 0, c->C, NR_SITES, "input_layernorm", "weight", err));
    NR_TRY(add_of_layer(j, depth, number, own, 0, c->C, NR_SITES, "post_attention_layernorm", "weight", err));
    for (nr_site s = 0; s < NR_SITES; s++) {
        nr_site_shape(c, s, &out, &in);
        NR_TRY(add_of_layer(j, depth, number, own, out, in, s, nr_site_tensors[s], "weight", err));
        if (nr_site_bias(c, s)) NR_TRY(add_of_layer(j, depth, number, own, 0, out, NR_SITES, nr_site_tensors[s], "bias", err));
    }
    return NR_OK;
}

static nr_status list_tensors(job *j, nr_error *err)
{
    const nr_config *c = j->m->config;
    static const char embedding[] = "model.embed_tokens.weight", norm[] = "model.norm.weight", head[] = "lm_head.weight";
    j->cap = 3 + j->depth * (2 + 2 * NR_SITES);
    NR_TRY(nr_alloc(&j->tensors, j->cap, sizeof *j->tensors, "tensor list", err));
    NR_TRY(nr_alloc(&j->origins, j->cap, sizeof *j->origins, "tensor list", err));
    NR_TRY(add(j, embedding, embedding, NULL, c->V, c->C, 0, NR_SITES, err));
    for (size_t d = 0; d < j->depth; d++) NR_TRY(add_layer(j, d, err));
    NR_TRY(add(j, norm, norm, NULL, 0, c->C, 0, NR_SITES, err));
    return c->tied ? NR_OK : add(j, head, head, NULL, c->V, c->C, 0, NR_SITES, err);
}

/* ---- weights ---- */

static void read_piece(const job *j, const origin *o, size_t row, size_t n, size_t cols)
{
    if (o->tensor) nr_tensor_read(j->piece, o->tensor, row, n);
    for (size_t i = 0; o->param && i < n * cols; i++)
        j->piece[i] = (float)nr_real_get(j->m->ops, nr_param_value(o->of, o->param), row * cols + i);
    for (size_t i = 0; i < j->stack_count && o->site < NR_SITES; i++) {
        const nr_extension *e = j->stack[i];
        if (e->method->fold && e->layer_on[o->layer]) e->method->fold(e, o->layer, o->site, j->piece, row, n);
    }
}

static nr_status convert_piece(job *j, const nr_tensor *t, size_t n, nr_error *err)
{
    const float *from = j->piece;
    for (size_t i = 0; i < n; i++) {
        uint16_t narrow = t->type == NR_BF16 ? nr_f32_to_bf16(from[i]) : nr_f32_to_f16(from[i]);
        float kept = t->type == NR_F32 ? from[i] : t->type == NR_BF16 ? nr_bf16_to_f32(narrow) : nr_f16_to_f32(narrow);
        if (!isfinite(kept))
            return nr_fail(err, NR_E_UNSUPPORTED, "tensor %s: expected numbers that %s can hold, found %g", t->name, nr_dtypes[t->type].name,
                           (double)from[i]);
        if (t->type == NR_F32) memcpy(j->bytes + 4 * i, &from[i], 4);
        else memcpy(j->bytes + 2 * i, &narrow, 2);
    }
    return NR_OK;
}

static nr_status write_tensor(void *context, nr_writer *w, const nr_tensor *t, nr_error *err)
{
    job *j = context;
    const origin *o = &j->origins[t - j->tensors];
    size_t rows = nr_tensor_rows(t), cols = nr_tensor_cols(t), step = NR_MAX(PIECE / cols, 1);
    for (size_t row = 0; row < rows; row += step) {
        size_t n = NR_MIN(step, rows - row), bytes = n * cols * nr_dtype_size(t->type);
        if (nr_stopped(j->listener)) return nr_fail(err, NR_E_INTERRUPTED, "%s: interrupted; nothing is written", j->folder);
        read_piece(j, o, row, n, cols);
        NR_TRY(convert_piece(j, t, n * cols, err));
        nr_writer_write(w, j->bytes, bytes);
        j->written += bytes;
        double spent = nr_clock() - j->began;
        nr_progress(j->listener, "writing", (double)j->written, (double)j->size, spent > 0 ? (double)j->written / spent : 0, "bytes");
    }
    return NR_OK;
}

static nr_status write_shard(job *j, const char *name, size_t begin, size_t end, nr_error *err)
{
    char *path = nr_path_join(j->folder, name);
    nr_status st = path ? nr_safetensors_stream(path, j->tensors + begin, end - begin, write_tensor, j, err)
                        : nr_fail(err, NR_E_MEMORY, "%s/%s: out of memory", j->folder, name);
    free(path);
    return st;
}

static nr_status save_json(json_t *j, const char *folder, const char *name, nr_error *err)
{
    char *path = nr_path_join(folder, name);
    nr_status st = path ? nr_json_save(j, path, err) : nr_fail(err, NR_E_MEMORY, "%s/%s: out of memory", folder, name);
    free(path);
    return st;
}

/* Behind the tensors of the shard that begins at `begin`. */
static size_t shard_end(const job *j, size_t begin, size_t most)
{
    size_t end = begin, bytes = 0;
    while (end < j->count && (end == begin || j->tensors[end].size <= most - NR_MIN(bytes, most))) bytes += j->tensors[end++].size;
    return end;
}

static nr_status write_shards(job *j, size_t most, size_t shards, nr_error *err)
{
    char name[64];
    json_t *map = json_object();
    bool bad = !map;
    nr_status st = NR_OK;
    for (size_t number = 1, begin = 0, end; st == NR_OK && begin < j->count; begin = end, number++) {
        end = shard_end(j, begin, most);
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number, shards);
        for (size_t i = begin; i < end; i++) bad = json_object_set_new(map, j->tensors[i].name, json_string(name)) != 0 || bad;
        st = write_shard(j, name, begin, end, err);
    }
    json_t *index = bad ? NULL : json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)j->size, "weight_map", map);
    if (st == NR_OK && !index) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for its index", j->folder);
    if (st == NR_OK) st = save_json(index, j->folder, "model.safetensors.index.json", err);
    json_decref(index);
    json_decref(map);
    return st;
}

static nr_status write_weights(job *j, size_t most, nr_error *err)
{
    size_t widest = 1, shards = 0;
    for (size_t i = 0; i < j->count; i++) widest = NR_MAX(widest, nr_tensor_cols(&j->tensors[i]));
    NR_TRY(nr_alloc(&j->piece, NR_MAX(widest, (size_t)PIECE), sizeof *j->piece, "a piece of the weights", err));
    NR_TRY(nr_alloc(&j->bytes, NR_MAX(widest, (size_t)PIECE), sizeof *j->piece, "a piece of the weights", err));
    j->began = nr_clock();
    for (size_t begin = 0; begin < j->count; shards++) begin = shard_end(j, begin, most);
    return shards == 1 ? write_shard(j, "model.safetensors", 0, j->count, err) : write_shards(j, most, shards, err);
}

/* ---- what stands beside them ---- */

/* The folder's own, with what has changed; or what GGUF's metadata say. */
static nr_status read_config(json_t **out, const job *j, nr_error *err)
{
    const nr_model_file *f = j->m->file;
    if (f->is_gguf) return nr_config_to_json(out, &f->config, f->path, err);
    char *path = nr_path_join(f->path, "config.json");
    nr_status st = path ? nr_json_load(out, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", f->path);
    free(path);
    return st;
}

static nr_status write_config(const job *j, nr_error *err)
{
    static const char *const types[NR_DTYPE_COUNT] = {[NR_F32] = "float32", [NR_BF16] = "bfloat16", [NR_F16] = "float16"};
    json_t *config = NULL;
    NR_TRY(read_config(&config, j, err));
    const char *key = json_object_get(config, "dtype") ? "dtype" : "torch_dtype"; /* the newer name, and the one that all read */
    bool bad = json_object_set_new(config, key, json_string(types[j->type])) != 0;
    bad = json_object_set_new(config, "num_hidden_layers", json_integer((json_int_t)j->depth)) != 0 || bad;
    if (j->walker) json_object_del(config, "layer_types"); /* one a layer, and all the same */
    nr_status st = bad ? nr_fail(err, NR_E_MEMORY, "%s: out of memory for config.json", j->folder)
                       : save_json(config, j->folder, "config.json", err);
    json_decref(config);
    return st;
}

static nr_status make_from_gguf(const job *j, nr_error *err)
{
    const nr_model_file *f = j->m->file;
    json_t *tokenizer = NULL, *settings = NULL, *generation = NULL;
    nr_status st;
    NR_GO(nr_config_generation(&generation, &f->config, err));
    NR_GO(save_json(generation, j->folder, "generation_config.json", err));
    if (!nr_gguf_find(f->gguf, "tokenizer.ggml.tokens")) goto done;
    NR_GO(nr_tokenizer_gguf_to_json(&tokenizer, &settings, f->gguf, &f->config, err));
    NR_GO(save_json(tokenizer, j->folder, "tokenizer.json", err));
    st = save_json(settings, j->folder, "tokenizer_config.json", err);
done:
    json_decref(tokenizer);
    json_decref(settings);
    json_decref(generation);
    return st;
}

static nr_status copy_from_folder(const job *j, nr_error *err)
{
    static const char *const names[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt"};
    for (size_t i = 0; i < NR_COUNT(names); i++) {
        char *path = nr_path_join(j->m->file->path, names[i]);
        nr_status st = path ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", names[i]);
        if (path && nr_path_exists(path)) st = nr_copy_file(path, j->folder, names[i], err);
        free(path);
        if (st != NR_OK) return st;
    }
    return NR_OK;
}

/* ---- the whole ---- */

static nr_status write_folder(job *j, const nr_export_options *opt, nr_error *err)
{
    NR_TRY(nr_make_folders(j->folder, err));
    NR_TRY(write_config(j, err));
    NR_TRY(j->m->file->is_gguf ? make_from_gguf(j, err) : copy_from_folder(j, err));
    return write_weights(j, opt->shard_bytes ? opt->shard_bytes : DEFAULT_SHARD, err);
}

nr_status nr_model_export(const nr_model *m, nr_extension *e, const char *folder, const nr_export_options *opt, const nr_listener *l,
                          nr_error *err)
{
    static const nr_dtype types[] = {[NR_EXPORT_FP32] = NR_F32, [NR_EXPORT_BF16] = NR_BF16, [NR_EXPORT_FP16] = NR_F16};
    job j = {.m = m, .type = types[opt->type], .listener = l};
    nr_status st;
    char *to = nr_path_trim(folder), *temporary = to ? nr_format("%s.%ld.tmp", to, (long)getpid()) : NULL;
    j.folder = temporary;
    if (!temporary) {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
        goto done;
    }
    if (nr_path_exists(to)) {
        st = nr_fail(err, NR_E_IO, "%s: expected a folder that is yet to be made, found one that is there", folder);
        goto done;
    }
    NR_GO(look_at_stack(&j, e, err));
    NR_GO(list_tensors(&j, err));
    NR_GO(write_folder(&j, opt, err));
    st = nr_rename_folder(temporary, to, err);
done:
    if (st != NR_OK && temporary && nr_path_exists(temporary)) nr_remove_folder(temporary, NULL);
    for (size_t i = 0; i < j.count; i++) free(j.tensors[i].name);
    free(j.tensors);
    free(j.origins);
    free(j.piece);
    free(j.bytes);
    free(temporary);
    free(to);
    return st;
}
