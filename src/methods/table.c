/*
 * table.c - the list of methods. A new one is a file in this folder and a line
 * here, in the order of the setting "method".
 */
#include <string.h>

#include "model/extension.h"

/* X(symbol) */
#define METHODS(X) X(neutral) X(lora) X(llama_pro) X(finetune) X(ewc) X(lwf)

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
