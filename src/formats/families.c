/*
 * families.c - the model families that nres knows, one row each. A row says
 * what a file leaves unsaid: the family's defaults and how GGUF lays it out.
 */
#include <stdio.h>
#include <string.h>

#include "formats/formats_internal.h"

static const nr_family families[] = {
    {"llama", "llama", NR_ACT_SILU, 10000, 2048, false, 0, true},
    /* In GGUF these come as llama. */
    {"mistral", NULL, NR_ACT_SILU, 10000, 131072, true, 4096, true},
};

const nr_family *nr_family_by_model_type(const char *model_type)
{
    for (size_t i = 0; i < NR_COUNT(families); i++)
        if (strcmp(families[i].model_type, model_type) == 0) return &families[i];
    return NULL;
}

const nr_family *nr_family_by_architecture(nr_span a)
{
    for (size_t i = 0; i < NR_COUNT(families); i++) {
        const char *name = families[i].architecture;
        if (name && strlen(name) == a.size && memcmp(name, a.data, a.size) == 0) return &families[i];
    }
    return NULL;
}

const char *nr_family_list(char *buf, size_t size, bool gguf)
{
    size_t at = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < NR_COUNT(families) && at < size; i++) {
        const char *name = gguf ? families[i].architecture : families[i].model_type;
        if (name) at += (size_t)snprintf(buf + at, size - at, "%s%s", at ? ", " : "", name);
    }
    return buf;
}
