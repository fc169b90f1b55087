/*
 * manifest_check.c - whether a part of a prepared text is what the manifest
 * beside it says (prepare/manifest.c writes that), so that a part that was changed or
 * cut off is noticed before anything is learnt from it.
 */
#include <stdlib.h>
#include <string.h>

#include "data/tokens.h"

/* The entry of a part, NULL: the manifest doesn't list it. */
static const json_t *find_part(const json_t *j, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(j, "parts"), i, row)
    {
        const char *there = json_string_value(json_object_get(row, "name"));
        if (there && strncmp(there, "text/", 5) == 0 && strcmp(there + 5, name) == 0) return row;
    }
    return NULL;
}

nr_status nr_manifest_check(const char *path, size_t size, const char *sha256, nr_error *err)
{
    json_t *j = NULL;
    const char *slash = strrchr(path, '/'), *expected;
    size_t bytes;
    char *manifest = slash ? nr_format("%.*s/../manifest.json", (int)(slash - path), path) : nr_strdup("../manifest.json");
    if (!manifest) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    nr_status st = NR_OK;
    if (!nr_path_exists(manifest)) goto done;
    NR_GO(nr_json_load(&j, manifest, err));
    const json_t *row = json_is_object(j) ? find_part(j, slash ? slash + 1 : path) : NULL;
    if (!row) goto done;
    NR_GO(nr_json_size(row, "bytes", true, &bytes, manifest, err));
    NR_GO(nr_json_string(row, "sha256", true, &expected, manifest, err));
    if (bytes != size)
        st = nr_fail(err, NR_E_MISMATCH, "%s: its manifest says %zu bytes, found %zu; make the text anew", path, bytes, size);
    else if (strcmp(expected, sha256) != 0)
        st = nr_fail(err, NR_E_MISMATCH, "%s: its manifest says the SHA-256 %.12s..., found %.12s...; make the text anew", path, expected, sha256);
done:
    json_decref(j);
    free(manifest);
    return st;
}
