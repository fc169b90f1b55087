/*
 * model_folder.c - a Hugging Face folder: config.json, generation_config.json,
 * what of the tokenizer's files concerns a model (chat template, leading bos),
 * and the weights in model.safetensors or in the shards that
 * model.safetensors.index.json names.
 *
 * Refused: a shard outside the folder, a tensor that isn't in the shard that
 * the index names, or is in a shard without being named.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

#define MAX_SHARDS 10000

/* Loads FOLDER/name; *out stays NULL when there is no such file. */
static nr_status load_optional(json_t **out, char **path, const char *folder, const char *name, nr_error *err)
{
    *out = NULL;
    *path = nr_path_join(folder, name);
    if (!*path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    return nr_path_exists(*path) ? nr_json_load(out, *path, err) : NR_OK;
}

static nr_status load_object(json_t **out, char **path, const char *folder, const char *name, nr_error *err)
{
    NR_TRY(load_optional(out, path, folder, name, err));
    if (*out && !json_is_object(*out))
        return nr_fail(err, NR_E_FORMAT, "%s: expected a JSON object, found something else", *path);
    return NR_OK;
}

/* ---- config ---- */

static void name_of_folder(nr_config *c, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    /* .../models--ORG--NAME/snapshots/COMMIT goes by NAME. */
    const char *hub = strstr(path, "models--"), *snapshot = hub ? strstr(hub, "/snapshots/") : NULL;
    if (snapshot) {
        begin = (size_t)(hub - path) + strlen("models--");
        end = (size_t)(snapshot - path);
        for (size_t i = begin; i + 1 < end; i++)
            if (path[i] == '-' && path[i + 1] == '-') begin = i + 2;
    }
    snprintf(c->name, sizeof c->name, "%.*s", (int)NR_MIN(end - begin, sizeof c->name - 1), path + begin);
}

static nr_status read_config(nr_model_file *f, nr_error *err)
{
    json_t *j = NULL;
    char *path = nr_path_join(f->path, "config.json");
    nr_status st = path ? nr_json_load(&j, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", f->path);
    if (st == NR_OK) st = nr_config_from_json(&f->config, j, path, err);
    if (st == NR_OK) name_of_folder(&f->config, f->path);
    json_decref(j);
    free(path);
    return st;
}

static nr_status read_generation(nr_model_file *f, nr_error *err)
{
    json_t *j;
    char *path;
    nr_status st = load_object(&j, &path, f->path, "generation_config.json", err);
    if (st == NR_OK && j) st = nr_config_read_ids(&f->config, j, path, err);
    if (st == NR_OK && j) st = nr_config_check(&f->config, path, err);
    json_decref(j);
    free(path);
    return st;
}

/* ---- tokenizer settings ---- */

/* chat_template is a text, or a list of {name, template}: then "default". */
static nr_status take_template(nr_config *c, const json_t *v, const char *path, nr_error *err)
{
    if (json_is_array(v)) {
        const json_t *list = v;
        v = NULL;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *item = json_array_get(list, i), *name = json_object_get(item, "name");
            if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0) v = json_object_get(item, "template");
        }
    }
    if (!v || json_is_null(v)) return NR_OK;
    if (!json_is_string(v)) return nr_fail(err, NR_E_FORMAT, "%s: \"chat_template\": expected a text, found something else", path);
    c->chat_template = nr_strdup(json_string_value(v));
    return c->chat_template ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
}

/* chat_template.jinja: the newer place, which comes first. */
static nr_status read_jinja(nr_model_file *f, nr_error *err)
{
    nr_map m = {0};
    nr_status st = NR_OK;
    char *path = nr_path_join(f->path, "chat_template.jinja");
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", f->path);
    if (nr_path_exists(path)) {
        st = nr_map_open(&m, path, err);
        if (st == NR_OK) st = nr_alloc(&f->config.chat_template, m.size + 1, 1, path, err);
        if (st == NR_OK) memcpy(f->config.chat_template, m.data, m.size);
        nr_map_close(&m);
    }
    free(path);
    return st;
}

/* tokenizer.json's post-processor may put bos first, alone or as one of several. */
static bool template_begins_with_bos(const json_t *p, int32_t bos)
{
    const json_t *list = json_object_get(p, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (template_begins_with_bos(json_array_get(list, i), bos)) return true;
    const json_t *first = json_array_get(json_object_get(p, "single"), 0);
    const char *id = json_string_value(json_object_get(json_object_get(first, "SpecialToken"), "id"));
    const json_t *ids = json_object_get(json_object_get(json_object_get(p, "special_tokens"), id ? id : ""), "ids");
    const json_t *n = json_array_get(ids, 0);
    return id && json_is_integer(n) && json_integer_value(n) == bos;
}

static nr_status read_post_processor(nr_model_file *f, nr_error *err)
{
    json_t *j;
    char *path;
    nr_status st = load_object(&j, &path, f->path, "tokenizer.json", err);
    if (st == NR_OK && j) f->config.add_bos = template_begins_with_bos(json_object_get(j, "post_processor"), f->config.bos);
    json_decref(j);
    free(path);
    return st;
}

static nr_status read_tokenizer_config(nr_model_file *f, nr_error *err)
{
    json_t *j;
    char *path;
    bool add_bos = false;
    nr_status st = load_object(&j, &path, f->path, "tokenizer_config.json", err);
    const json_t *said = json_object_get(j, "add_bos_token");
    if (st == NR_OK && j) st = nr_json_bool(j, "add_bos_token", false, &add_bos, path, err);
    if (st == NR_OK && j && !f->config.chat_template)
        st = take_template(&f->config, json_object_get(j, "chat_template"), path, err);
    f->config.add_bos = add_bos && f->config.bos >= 0;
    if (st == NR_OK && f->config.bos >= 0 && !json_is_boolean(said)) st = read_post_processor(f, err);
    json_decref(j);
    free(path);
    return st;
}

/* ---- weights ---- */

/* Moves a file's tensors and map into the model. */
static nr_status adopt(nr_model_file *f, nr_safetensors *s, nr_error *err)
{
    nr_tensor *all;
    nr_map *maps;
    NR_TRY(nr_alloc(&all, f->count + s->count, sizeof *all, "tensor list", err));
    nr_status st = nr_alloc(&maps, f->map_count + 1, sizeof *maps, "maps", err);
    if (st != NR_OK) {
        free(all);
        return st;
    }
    if (f->count) memcpy(all, f->tensors, f->count * sizeof *all);
    if (s->count) memcpy(all + f->count, s->tensors, s->count * sizeof *all);
    if (f->map_count) memcpy(maps, f->maps, f->map_count * sizeof *maps);
    maps[f->map_count++] = s->map;
    f->count += s->count;
    free(f->tensors);
    free(f->maps);
    f->tensors = all;
    f->maps = maps;
    s->count = 0;
    s->map = (nr_map){0};
    return NR_OK;
}

/* Opens a shard; weight_map NULL: a single file. The index and the shard must name the same tensors. */
static nr_status add_shard(nr_model_file *f, const char *name, const json_t *weight_map, nr_error *err)
{
    nr_safetensors *s = NULL;
    char *path = nr_path_join(f->path, name);
    nr_status st = path ? nr_safetensors_open(&s, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", f->path);
    for (size_t i = 0; st == NR_OK && weight_map && i < s->count; i++) {
        const char *shard = json_string_value(json_object_get(weight_map, s->tensors[i].name));
        if (!shard || strcmp(shard, name) != 0)
            st = nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected what the index names, found %s%s", path, s->tensors[i].name,
                         shard ? "it named in " : "it not named", shard ? shard : "");
    }
    const char *tensor;
    json_t *shard;
    if (st == NR_OK && weight_map) {
        json_object_foreach((json_t *)(uintptr_t)weight_map, tensor, shard) {
            if (st == NR_OK && strcmp(json_string_value(shard), name) == 0 && !nr_safetensors_find(s, tensor))
                st = nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected it, as the index says, found nothing", path, tensor);
        }
    }
    if (st == NR_OK) st = adopt(f, s, err);
    nr_safetensors_close(s);
    free(path);
    return st;
}

static int compare_texts(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The shards' names, each once, in order. */
static nr_status list_shards(const char ***out, size_t *count, const json_t *map, const char *index, nr_error *err)
{
    const char **names, *tensor;
    json_t *shard;
    size_t n = 0;
    *count = 0;
    NR_TRY(nr_alloc(&names, json_object_size(map), sizeof *names, "shards", err));
    *out = names;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, shard) {
        const char *name = json_string_value(shard);
        if (!name || !*name || *name == '.' || strchr(name, '/'))
            return nr_fail(err, NR_E_FORMAT, "%s: \"weight_map\": %.128s: expected a file in the folder, found %.128s", index,
                           tensor, name ? name : "something else");
        names[n++] = name;
    }
    if (n > 1) qsort(names, n, sizeof *names, compare_texts);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[*count - 1]) != 0) names[(*count)++] = names[i];
    if (*count == 0 || *count > MAX_SHARDS)
        return nr_fail(err, NR_E_FORMAT, "%s: \"weight_map\": expected 1 to %d shards, found %zu", index, MAX_SHARDS, *count);
    return NR_OK;
}

static nr_status read_sharded(nr_model_file *f, const json_t *index, const char *path, nr_error *err)
{
    const json_t *map = json_object_get(index, "weight_map");
    const char **names = NULL;
    size_t count;
    if (!json_is_object(map)) return nr_fail(err, NR_E_FORMAT, "%s: \"weight_map\": expected an object, found none", path);
    nr_status st = list_shards(&names, &count, map, path, err);
    for (size_t i = 0; st == NR_OK && i < count; i++) st = add_shard(f, names[i], map, err);
    free(names);
    return st;
}

static nr_status read_weights(nr_model_file *f, nr_error *err)
{
    static const char single[] = "model.safetensors", sharded[] = "model.safetensors.index.json";
    json_t *index = NULL;
    char *path = NULL, *file = nr_path_join(f->path, single);
    nr_status st = file ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", f->path);
    if (st == NR_OK && nr_path_exists(file)) {
        st = add_shard(f, single, NULL, err);
    } else if (st == NR_OK) {
        st = load_object(&index, &path, f->path, sharded, err);
        if (st == NR_OK && index) st = read_sharded(f, index, path, err);
        if (st == NR_OK && !index)
            st = nr_fail(err, NR_E_IO, "%s: expected %s or %s, found neither", f->path, single, sharded);
    }
    json_decref(index);
    free(path);
    free(file);
    return st;
}

nr_status nr_folder_read(nr_model_file *f, nr_error *err)
{
    NR_TRY(read_config(f, err));
    NR_TRY(read_generation(f, err));
    NR_TRY(read_jinja(f, err));
    NR_TRY(read_tokenizer_config(f, err));
    return read_weights(f, err);
}
