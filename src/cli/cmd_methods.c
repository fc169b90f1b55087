/* cmd_methods.c - nres methods: the extension methods there are, from their table. */
#include <stdlib.h>

#include "cli/cli.h"
#include "model/extension.h"

static bool json;

static const nr_option options[] = {
    {"json", 0, 'b', NULL, "print them as a JSON array", &json, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

static int print_json(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < nr_method_count; i++) {
        const nr_method *m = nr_methods[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:f}", "name", m->name, "summary", m->summary, "computes", m->math,
                                              "source", m->source, "learning_rate", m->learning_rate));
    }
    char *text = list ? json_dumps(list, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    bool good = text && json_array_size(list) == nr_method_count;
    if (good) printf("%s\n", text);
    free(text);
    json_decref(list);
    nr_error err;
    if (good) return 0;
    nr_fail(&err, NR_E_MEMORY, "not enough memory for the list of methods");
    return nr_cli_fail(&err);
}

static int run(int argc, char **argv)
{
    int rc = nr_cli_parse(&nr_command_methods, options, NR_COUNT(options), argc, argv, NULL, NULL, NULL);
    if (rc) return rc < 0 ? 0 : rc;
    if (json) return print_json();
    for (size_t i = 0; i < nr_method_count; i++) {
        const nr_method *m = nr_methods[i];
        printf("%s%s\n  ", i ? "\n" : "", m->name);
        nr_cli_wrap(stdout, m->summary, 2, 2);
        printf("  computes       ");
        nr_cli_wrap(stdout, m->math, 17, 17);
        printf("  source         %s\n", m->source);
        printf("  learning rate  %g unless --learning-rate is given\n", m->learning_rate);
    }
    return 0;
}

const nr_command nr_command_methods = {
    .name = "methods",
    .summary = "list the extension methods, what each computes and where it comes from",
    .usage = "nres methods [--json]",
    .examples = "nres methods\n",
    .run = run,
    .options = option_list,
};
