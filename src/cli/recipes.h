/* recipes.h - what nres compare and nres tune share. */
#ifndef NR_RECIPES_H
#define NR_RECIPES_H

#include "cli/cli.h"

/* Every word is NAME=VALUE; else 2, with the error printed. */
int nr_recipe_variables_check(const nr_command *c, const nr_list *variables);
/* Options of the library's calls, with this program and what the environment says filled in. */
nr_compare_options nr_recipe_options(const char *recipe, const char *output, const nr_list *variables, size_t jobs, size_t threads);

#endif
