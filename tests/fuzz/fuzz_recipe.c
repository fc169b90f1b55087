/* fuzz_recipe.c - hostile bytes as a recipe: refused with a line and a number, or expanded into runs with names of their own. */
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const variables[] = {"A=1", "B=text"};
    nr_recipe r;
    nr_error err = {0};
    if (nr_recipe_load(&r, memory_file(data, size), variables, 2, NULL, &err) != NR_OK) {
        if (!err.message[0] || strchr(err.message, '\n')) abort();
        return 0;
    }
    for (size_t i = 0; i < r.run_count; i++) {
        const char *name = r.runs[i].name;
        if (!*name || strchr(name, '/') || strlen(name) > 200 || strlen(r.runs[i].identity) != 64) abort();
    }
    nr_recipe_free(&r);
    return 0;
}
