/* recipes.c - options of the commands that work on recipes. */
#include "cli/recipes.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int nr_recipe_variables_check(const nr_command *c, const nr_list *variables)
{
    for (size_t i = 0; i < variables->count; i++) {
        const char *equals = strchr(variables->items[i], '=');
        if (!equals || equals == variables->items[i])
            return nr_cli_usage(c, "--set: expected NAME=VALUE, found \"%.200s\"", variables->items[i]);
    }
    return 0;
}

/* The program itself, by the name that it was started from. */
static const char *own_path(void)
{
    static char buf[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", buf, sizeof buf - 1);
    if (n <= 0) return NULL;
    buf[n] = '\0';
    return buf;
}

nr_compare_options nr_recipe_options(const char *recipe, const char *output, const nr_list *variables, size_t jobs, size_t threads)
{
    static char draw[PATH_MAX], tasks[PATH_MAX];
    char *folder = nr_cli_task_folder();
    snprintf(tasks, sizeof tasks, "%s", folder ? folder : "");
    free(folder);
    return (nr_compare_options){.recipe = recipe, .output = output, .variables = variables->items, .variable_count = variables->count,
                                .program = own_path(), .draw = nr_cli_find_program("rsvg-convert", draw), .jobs = jobs, .threads = threads,
                                .cache_folder = nr_cli_cache_folder(), .hub_folder = nr_cli_hub_folder(),
                                .task_folder = *tasks ? tasks : NULL};
}
