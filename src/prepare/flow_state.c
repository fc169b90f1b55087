/*
 * flow_state.c - state.json of a flow's folder. It is replaced whole after
 * every part, so that a flow that is killed at any moment finds either the
 * state before or the one behind the part.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/flow_state.h"

#define FORMAT 1

void nr_flow_state_free(nr_flow_state *s)
{
    nr_counts_free(&s->counts);
    free(s->parts);
    free(s->hashes);
    *s = (nr_flow_state){0};
}

char *nr_flow_part_path(const char *folder, size_t number) { return nr_format("%s/part-%05zu.jsonl", folder, number); }

nr_status nr_flow_state_add_part(nr_flow_state *s, const nr_part_info *part, nr_error *err)
{
    nr_part_info *more = realloc(s->parts, (s->part_count + 1) * sizeof *more);
    if (!more) return nr_fail(err, NR_E_MEMORY, "parts: out of memory for %zu of them", s->part_count + 1);
    more[s->part_count++] = *part;
    s->parts = more;
    return NR_OK;
}

static nr_status copy_hash(char to[65], const json_t *o, const char *key, const char *where, nr_error *err)
{
    const char *text;
    NR_TRY(nr_json_string(o, key, true, &text, where, err));
    if (strlen(text) != 64) return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected 64 digits, found \"%s\"", where, key, text);
    memcpy(to, text, 65);
    return NR_OK;
}

static nr_status read_lists(nr_flow_state *s, const json_t *j, size_t files, const char *where, nr_error *err)
{
    const json_t *parts = json_object_get(j, "parts"), *hashes = json_object_get(j, "files");
    if (files == SIZE_MAX) files = json_array_size(hashes);
    NR_TRY(nr_alloc(&s->hashes, files + 1, sizeof *s->hashes, "hashes of files", err));
    if (s->file > files || json_array_size(hashes) != s->file)
        return nr_fail(err, NR_E_FORMAT, "%s: expected %zu files read of %zu, found %zu hashes", where, s->file, files,
                       json_array_size(hashes));
    for (size_t i = 0; i < json_array_size(parts); i++) {
        nr_part_info p;
        NR_TRY(nr_json_size(json_array_get(parts, i), "bytes", true, &p.bytes, where, err));
        NR_TRY(nr_json_size(json_array_get(parts, i), "documents", true, &p.documents, where, err));
        NR_TRY(copy_hash(p.sha256, json_array_get(parts, i), "sha256", where, err));
        NR_TRY(nr_flow_state_add_part(s, &p, err));
    }
    for (size_t i = 0; i < s->file; i++) {
        const char *text = json_string_value(json_array_get(hashes, i));
        if (!text || strlen(text) > 64) return nr_fail(err, NR_E_FORMAT, "%s: \"files\": expected hashes", where);
        snprintf(s->hashes[i], sizeof s->hashes[i], "%s", text);
    }
    return NR_OK;
}

static nr_status read_state(nr_flow_state *s, const json_t *j, size_t files, const char *where, nr_error *err)
{
    size_t format, records, paragraphs;
    NR_TRY(nr_json_size(j, "format_version", true, &format, where, err));
    if (format != FORMAT) return nr_fail(err, NR_E_FORMAT, "%s: expected format_version %d, found %zu", where, FORMAT, format);
    NR_TRY(copy_hash(s->key, j, "key", where, err));
    NR_TRY(nr_json_size(j, "file", true, &s->file, where, err));
    NR_TRY(nr_json_size(j, "record", true, &s->record, where, err));
    NR_TRY(nr_json_size(j, "records", true, &records, where, err));
    NR_TRY(nr_json_size(j, "paragraphs", true, &paragraphs, where, err));
    NR_TRY(nr_json_bool(j, "done", true, &s->done, where, err));
    s->records = records;
    s->paragraphs = paragraphs;
    NR_TRY(nr_counts_from_json(&s->counts, json_object_get(j, "counts"), where, err));
    return read_lists(s, j, files, where, err);
}

nr_status nr_flow_state_load(nr_flow_state *s, const char *folder, size_t files, bool *found, nr_error *err)
{
    json_t *j = NULL;
    nr_status st = NR_OK;
    char *path = nr_path_join(folder, "state.json");
    *s = (nr_flow_state){0};
    *found = false;
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    if (!nr_path_exists(path)) {
        st = nr_alloc(&s->hashes, files == SIZE_MAX ? 1 : files + 1, sizeof *s->hashes, "hashes of files", err);
        goto done;
    }
    NR_GO(nr_json_load(&j, path, err));
    st = read_state(s, j, files, path, err);
    *found = st == NR_OK;
done:
    json_decref(j);
    free(path);
    return st;
}

nr_status nr_flow_state_save(const nr_flow_state *s, const char *folder, nr_error *err)
{
    char *path = nr_path_join(folder, "state.json");
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    json_t *parts = json_array(), *files = json_array();
    for (size_t i = 0; i < s->part_count; i++)
        json_array_append_new(parts, json_pack("{s:I, s:I, s:s}", "bytes", (json_int_t)s->parts[i].bytes, "documents",
                                               (json_int_t)s->parts[i].documents, "sha256", s->parts[i].sha256));
    for (size_t i = 0; i < s->file; i++) json_array_append_new(files, json_string(s->hashes[i]));
    json_t *j = json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o}", "format_version", FORMAT, "key", s->key, "file",
                          (json_int_t)s->file, "record", (json_int_t)s->record, "records", (json_int_t)s->records, "paragraphs",
                          (json_int_t)s->paragraphs, "done", (int)s->done, "parts", parts, "files", files, "counts",
                          nr_counts_to_json(&s->counts));
    nr_status st = j ? nr_json_save(j, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    json_decref(j);
    free(path);
    return st;
}
