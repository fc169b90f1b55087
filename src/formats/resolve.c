/*
 * resolve.c - what the user calls a model, as a path: a file, a folder, or
 * ORG/NAME in a Hugging Face cache folder. A folder without config.json but
 * with one .gguf file stands for that file.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

/* The folder itself, or the one .gguf file that it holds instead of a config. */
static nr_status resolve_folder(char **out, const char *folder, nr_error *err)
{
    char *config = nr_path_join(folder, "config.json"), *first = NULL;
    size_t found = 0;
    if (!config) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    DIR *d = nr_path_exists(config) ? NULL : opendir(folder);
    free(config);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!nr_ends_with(e->d_name, ".gguf")) continue;
        if (found++ == 0) first = nr_path_join(folder, e->d_name);
    }
    if (d) closedir(d);
    if (found > 1) {
        free(first);
        return nr_fail(err, NR_E_USAGE, "%s: expected config.json or one .gguf file, found %zu .gguf files: name one", folder, found);
    }
    *out = found ? first : nr_strdup(folder);
    return *out ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
}

/* Letters, digits, '-', '_' and '.', one '/' in the middle, no part that begins with '.'. */
static bool is_hub_name(const char *s)
{
    const char *slash = strchr(s, '/');
    if (!slash || slash == s || !slash[1] || *s == '.' || slash[1] == '.') return false;
    for (const char *p = s; *p; p++)
        if (p != slash && !isalnum((unsigned char)*p) && !strchr("-_.", *p)) return false;
    return true;
}

/* refs/main holds the commit that snapshots/ is to be read at. */
static nr_status read_commit(char commit[65], const char *repo, nr_error *err)
{
    nr_map m = {0};
    size_t n = 0;
    char *path = nr_path_join(repo, "refs/main");
    nr_status st = path ? nr_map_open(&m, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", repo);
    if (st == NR_OK) {
        while (n < m.size && n < 64 && isxdigit(m.data[n])) n++;
        memcpy(commit, m.data, n);
        commit[n] = '\0';
        size_t end = n;
        while (end < m.size && isspace(m.data[end])) end++;
        if (n == 0 || end != m.size) st = nr_fail(err, NR_E_FORMAT, "%s: expected a commit in hex, found something else", path);
        nr_map_close(&m);
    }
    free(path);
    return st;
}

static nr_status resolve_hub(char **out, const char *name, const char *hub_folder, nr_error *err)
{
    const char *slash = strchr(name, '/');
    char commit[65], *folder = NULL;
    char *repo = nr_format("%s/models--%.*s--%s", hub_folder, (int)(slash - name), name, slash + 1);
    nr_status st = NR_OK;
    if (!repo) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", name);
    if (!nr_path_is_folder(repo))
        st = nr_fail(err, NR_E_IO, "%s: expected a file, a folder or a model in the Hugging Face cache, found none (looked for %s)",
                     name, repo);
    if (st == NR_OK) st = read_commit(commit, repo, err);
    if (st == NR_OK && !(folder = nr_format("%s/snapshots/%s", repo, commit))) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", name);
    if (st == NR_OK && !nr_path_is_folder(folder))
        st = nr_fail(err, NR_E_IO, "%s: expected the folder %s, as refs/main says, found none", name, folder);
    if (st == NR_OK) st = resolve_folder(out, folder, err);
    free(folder);
    free(repo);
    return st;
}

nr_status nr_model_resolve(char **out, const char *path, const char *hub_folder, nr_error *err)
{
    *out = NULL;
    if (nr_path_is_folder(path)) return resolve_folder(out, path, err);
    if (nr_path_exists(path)) {
        *out = nr_strdup(path);
        return *out ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    }
    if (hub_folder && is_hub_name(path)) return resolve_hub(out, path, hub_folder, err);
    return nr_fail(err, NR_E_IO, "%s: expected a GGUF file, a Hugging Face folder or ORG/NAME in its cache, found nothing", path);
}
