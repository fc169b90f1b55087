/*
 * stack.c - extensions that run together: each may stand on another, and where
 * it runs the others run with it, the lowest first.
 *
 * Refuses extensions of different models, one that would stand on itself, and
 * more than NR_STACK_MAX. What can't run together (two that insert layers) is
 * refused by the pass.
 */
#include <stdlib.h>

#include "model/extension.h"

size_t nr_extension_stack(nr_extension *e, nr_extension *list[NR_STACK_MAX])
{
    size_t n = 0;
    for (nr_extension *at = e; at && n < NR_STACK_MAX; at = at->below) n++;
    for (size_t i = n; i-- > 0; e = e->below) list[i] = e;
    return n;
}

nr_status nr_extension_stand_on(nr_extension *e, nr_extension *below, nr_error *err)
{
    size_t n = 1;
    if (below && below->model != e->model) return nr_fail(err, NR_E_MISMATCH, "extension: expected one of the same model to stand on");
    for (const nr_extension *at = below; at; at = at->below, n++)
        if (at == e) return nr_fail(err, NR_E_USAGE, "extension: it can't stand on itself");
    if (n > NR_STACK_MAX) return nr_fail(err, NR_E_USAGE, "extensions: expected at most %d together, found %zu", NR_STACK_MAX, n);
    e->below = below;
    return NR_OK;
}

nr_extension *nr_extension_below(const nr_extension *e) { return e->below; }

void nr_extension_close_stack(nr_extension *top)
{
    for (nr_extension *below; top; top = below) {
        below = top->below;
        nr_extension_close(top);
    }
}

nr_status nr_extension_load_stack(nr_extension **top, const nr_model *m, const char *const *folders, size_t count, bool allow_other,
                                  nr_error *err)
{
    nr_status st = NR_OK;
    nr_extension *e;
    *top = NULL;
    for (size_t i = 0; i < count; i++) {
        NR_GO(nr_extension_load(&e, m, folders[i], allow_other, err));
        st = nr_extension_stand_on(e, *top, err);
        if (st != NR_OK) {
            nr_extension_close(e);
            goto done;
        }
        *top = e;
    }
done:
    if (st != NR_OK) {
        nr_extension_close_stack(*top);
        *top = NULL;
    }
    return st;
}

nr_status nr_extension_file_hash(char hex[65], const char *folder, nr_error *err)
{
    nr_map m;
    char *path = nr_path_join(folder, "extension.safetensors");
    nr_status st = path ? nr_map_open(&m, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    free(path);
    if (st != NR_OK) return st;
    nr_sha256 *h = nr_sha256_new();
    if (h) {
        nr_sha256_add(h, m.data, m.size);
        nr_sha256_hex(h, hex);
    } else {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    }
    nr_map_close(&m);
    return st;
}
