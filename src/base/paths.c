/*
 * paths.c - the files below a folder, as a list of paths.
 *
 * Names that begin with a dot are passed over. Links are not followed, so that a
 * tree with loops or doubles is read once.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"

#define MAX_FOLDERS 64 /* deep */

void nr_paths_free(nr_paths *p)
{
    for (size_t i = 0; i < p->count; i++) free(p->paths[i]);
    free(p->paths);
    *p = (nr_paths){0};
}

nr_status nr_paths_add(nr_paths *p, const char *path, nr_error *err)
{
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        char **more = realloc(p->paths, cap * sizeof *more);
        if (!more) return nr_fail(err, NR_E_MEMORY, "files: out of memory for %zu names", cap);
        p->paths = more;
        p->cap = cap;
    }
    char *copy = nr_strdup(path);
    if (!copy) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    p->paths[p->count++] = copy;
    return NR_OK;
}

static nr_status walk(nr_paths *p, const char *folder, bool (*wanted)(const char *name), int depth, nr_error *err)
{
    nr_status st = NR_OK;
    if (depth > MAX_FOLDERS) return nr_fail(err, NR_E_UNSUPPORTED, "%s: folders nested over %d deep", folder, MAX_FOLDERS);
    DIR *d = opendir(folder);
    if (!d) return nr_fail_errno(err, "can't open the folder", folder);
    for (struct dirent *e; st == NR_OK && (e = readdir(d));) {
        struct stat info;
        if (e->d_name[0] == '.') continue;
        char *path = nr_path_join(folder, e->d_name);
        if (!path)
            st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
        else if (lstat(path, &info) != 0)
            st = nr_fail_errno(err, "can't look at", path);
        else if (S_ISDIR(info.st_mode))
            st = walk(p, path, wanted, depth + 1, err);
        else if (S_ISREG(info.st_mode) && wanted(e->d_name))
            st = nr_paths_add(p, path, err);
        free(path);
    }
    closedir(d);
    return st;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

nr_status nr_paths_walk(nr_paths *p, const char *folder, bool (*wanted)(const char *name), nr_error *err)
{
    size_t first = p->count;
    NR_TRY(walk(p, folder, wanted, 0, err));
    if (p->count > first) qsort(p->paths + first, p->count - first, sizeof *p->paths, by_bytes);
    return NR_OK;
}
