/*
 * table.c - the list of methods. A new one is a file in this folder and a line
 * here. NR_MORE_METHODS is for programs that compile this file with a method of
 * their own.
 */
#include <string.h>

#include "model/extension.h"

/* X(symbol) */
#ifndef NR_MORE_METHODS
#define NR_MORE_METHODS(X)
#endif
#define METHODS(X)   \
    X(neutral)       \
    X(lora)          \
    X(llama_pro)     \
    X(adapter)       \
    X(houlsby)       \
    X(attention)     \
    X(prefix)        \
    X(loramoe)       \
    X(moe_ct)        \
    X(moextend)      \
    X(finetune)      \
    X(ewc)           \
    X(lwf)           \
    NR_MORE_METHODS(X)

#define NR_X(symbol) extern const nr_method nr_method_##symbol;
METHODS(NR_X)
#undef NR_X

const nr_method *const nr_methods[] = {
#define NR_X(symbol) &nr_method_##symbol,
    METHODS(NR_X)
#undef NR_X
};
const size_t nr_method_count = NR_COUNT(nr_methods);

const nr_method *nr_method_find(const char *name)
{
    for (size_t i = 0; i < nr_method_count; i++)
        if (strcmp(nr_methods[i]->name, name) == 0) return nr_methods[i];
    return NULL;
}

nr_status nr_method_named(const nr_method **m, const char *name, nr_error *err)
{
    char list[512];
    size_t at = 0;
    *m = nr_method_find(name);
    if (*m) return NR_OK;
    list[0] = '\0';
    for (size_t i = 0; i < nr_method_count && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i == 0 ? "" : i + 1 < nr_method_count ? ", " : " or ",
                               nr_methods[i]->name);
    return nr_fail(err, NR_E_USAGE, "--method: expected %s, found \"%.200s\"", list, name);
}
