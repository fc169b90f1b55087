/*
 * tokenizer_open.c - finds the tokenizer that a path means, and its BOS and
 * EOS, which tokenizer.json itself doesn't name: tokenizer_config.json beside
 * it does, or else config.json.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

static nr_status open_gguf(nr_tokenizer **out, const nr_map *map, nr_error *err)
{
    nr_gguf *g;
    NR_TRY(nr_gguf_open(&g, map, err));
    nr_status st = nr_tokenizer_from_gguf(out, g, err);
    nr_gguf_close(g);
    return st;
}

/* A file of the folder as JSON; *j stays NULL when there is none. */
static nr_status load_beside(json_t **j, const char *folder, const char *name, nr_error *err)
{
    char *path = nr_path_join(folder, name);
    *j = NULL;
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s/%s: out of memory", folder, name);
    nr_status st = nr_path_exists(path) ? nr_json_load(j, path, err) : NR_OK;
    free(path);
    return st;
}

/* "<s>", or an object with it as its content, by its id among the added tokens. */
static int32_t named(const nr_tokenizer *t, const json_t *v)
{
    const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
    if (!text) return -1;
    for (size_t i = 0; i < t->added_count; i++) {
        nr_bytes b = t->added[i].text;
        if (b.size == strlen(text) && !memcmp(b.data, text, b.size)) return t->added[i].id;
    }
    return -1;
}

/* A number, or the first of a list of them. */
static int32_t numbered(const nr_tokenizer *t, const json_t *v)
{
    if (json_is_array(v)) v = json_array_get(v, 0);
    json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    return id >= 0 && (size_t)id < t->size ? (int32_t)id : -1;
}

static nr_status read_ends(nr_tokenizer *t, const char *folder, nr_error *err)
{
    json_t *names, *config;
    NR_TRY(load_beside(&names, folder, "tokenizer_config.json", err));
    nr_status st = load_beside(&config, folder, "config.json", err);
    if (st == NR_OK) {
        if (t->bos < 0) t->bos = named(t, json_object_get(names, "bos_token"));
        if (t->bos < 0) t->bos = numbered(t, json_object_get(config, "bos_token_id"));
        if (t->eos < 0) t->eos = named(t, json_object_get(names, "eos_token"));
        if (t->eos < 0) t->eos = numbered(t, json_object_get(config, "eos_token_id"));
    }
    json_decref(names);
    json_decref(config);
    return st;
}

static nr_status open_json(nr_tokenizer **out, const char *text, size_t n, const char *path, nr_error *err)
{
    json_t *j;
    NR_TRY(nr_json_parse(&j, text, n, path, err));
    nr_status st = nr_tokenizer_from_json(out, j, path, err);
    json_decref(j);
    return st;
}

/* The folder a file stands in; malloc'ed. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return nr_strdup(".");
    return nr_format("%.*s", (int)NR_MAX(slash - path, 1), path);
}

static nr_status open_file(nr_tokenizer **out, const char *path, nr_error *err)
{
    nr_map map;
    NR_TRY(nr_map_open(&map, path, err));
    bool gguf = map.size >= 4 && !memcmp(map.data, "GGUF", 4);
    nr_status st = gguf ? open_gguf(out, &map, err) : open_json(out, (const char *)map.data, map.size, path, err);
    nr_map_close(&map);
    if (st != NR_OK || gguf) return st;
    char *folder = folder_of(path);
    st = folder ? read_ends(*out, folder, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    free(folder);
    if (st != NR_OK) {
        nr_tokenizer_close(*out);
        *out = NULL;
    }
    return st;
}

nr_status nr_tokenizer_open(nr_tokenizer **out, const char *path, const char *hub_folder, nr_error *err)
{
    char *found, *file = NULL;
    *out = NULL;
    NR_TRY(nr_model_resolve(&found, path, hub_folder, err));
    nr_status st = NR_OK;
    if (nr_path_is_folder(found)) {
        file = nr_path_join(found, "tokenizer.json");
        if (!file) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", found);
        else if (!nr_path_exists(file)) st = nr_fail(err, NR_E_IO, "%s: expected a file tokenizer.json, found none", found);
    }
    if (st == NR_OK) st = open_file(out, file ? file : found, err);
    free(file);
    free(found);
    return st;
}
