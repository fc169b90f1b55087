/*
 * manifest.c - what a prepared text was made of: manifest.json beside text/.
 * Training compares the parts it is given with it (data/manifest_check.c).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "prepare/flow_state.h"
#include "prepare/pipeline.h"

#define FORMAT 1

static json_t *source_list(const nr_paths *in, const nr_flow_state *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < in->count; i++) {
        struct stat info;
        json_int_t size = stat(in->paths[i], &info) == 0 ? (json_int_t)info.st_size : -1;
        json_t *row = json_object();
        json_t *path = json_string(in->paths[i]); /* NULL: the name is no UTF-8 */
        json_object_set_new(row, "path", path ? path : json_string("?"));
        json_object_set_new(row, "bytes", json_integer(size));
        json_object_set_new(row, "sha256", json_string(i < s->file ? s->hashes[i] : ""));
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *part_list(const nr_flow_state *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->part_count; i++) {
        char name[40];
        snprintf(name, sizeof name, "text/part-%05zu.jsonl", i);
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "name", name, "bytes", (json_int_t)s->parts[i].bytes, "documents",
                                              (json_int_t)s->parts[i].documents, "sha256", s->parts[i].sha256));
    }
    return list;
}

static json_t *filter_facts(const nr_filter_facts *f)
{
    return json_pack("{s:f, s:I, s:I, s:I, s:f}", "error", f->error, "bytes", (json_int_t)f->bytes, "hashes", (json_int_t)f->hashes, "keys",
                     (json_int_t)f->keys, "expected_wrong", f->wrong);
}

nr_status nr_manifest_write(const char *folder, const nr_manifest_source *m, const nr_counts *c, nr_error *err)
{
    nr_flow_state source = {0}, text = {0};
    bool found;
    char *path = nr_path_join(folder, "manifest.json");
    nr_status st = path ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    if (st == NR_OK) st = nr_flow_state_load(&source, m->source_folder, m->inputs->count, &found, err);
    if (st == NR_OK) st = nr_flow_state_load(&text, m->text_folder, SIZE_MAX, &found, err);
    if (st == NR_OK) {
        json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:o, s:o, s:o}", "format_version", FORMAT, "nres", nr_version(), "key", m->key,
                              "settings", m->settings, "sources", source_list(m->inputs, &source), "parts", part_list(&text), "counts",
                              nr_counts_to_json(c));
        if (j && m->filter) json_object_set_new(j, "dedup_filter", filter_facts(m->filter));
        st = j ? nr_json_save(j, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
        json_decref(j);
    }
    nr_flow_state_free(&source);
    nr_flow_state_free(&text);
    free(path);
    return st;
}

static nr_status check_format(const json_t *j, const char *where, nr_error *err)
{
    size_t format;
    NR_TRY(nr_json_size(j, "format_version", true, &format, where, err));
    return format == FORMAT ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: expected format_version %d, found %zu", where, FORMAT, format);
}

nr_status nr_manifest_load(const char *folder, const char *key, nr_counts *c, bool *found, nr_error *err)
{
    json_t *j = NULL;
    nr_status st = NR_OK;
    const char *there;
    char *path = nr_path_join(folder, "manifest.json");
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    *found = nr_path_exists(path);
    if (!*found) goto done;
    NR_GO(nr_json_load(&j, path, err));
    NR_GO(check_format(j, path, err));
    NR_GO(nr_json_string(j, "key", true, &there, path, err));
    if (strcmp(there, key) != 0)
        st = nr_fail(err, NR_E_MISMATCH, "%s: is of other inputs or settings; name another folder or remove this one", path);
    else
        st = nr_counts_from_json(c, json_object_get(j, "counts"), path, err);
done:
    json_decref(j);
    free(path);
    return st;
}
