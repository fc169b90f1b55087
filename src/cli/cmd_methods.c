/* cmd_methods.c - nres methods: the extension methods there are, from their table. */
#include "cli/cli.h"
#include "model/extension.h"

static int run(int argc, char **argv)
{
    int rc = nr_cli_parse(&nr_command_methods, NULL, 0, argc, argv, NULL, NULL, NULL);
    if (rc) return rc < 0 ? 0 : rc;
    for (size_t i = 0; i < nr_method_count; i++) {
        const nr_method *m = nr_methods[i];
        printf("%s%s\n", i ? "\n" : "", m->name);
        printf("  %s\n", m->summary);
        printf("  computes       %s\n", m->math);
        printf("  source         %s\n", m->source);
        printf("  learning rate  %g unless --learning-rate is given\n", m->learning_rate);
    }
    return 0;
}

const nr_command nr_command_methods = {
    .name = "methods",
    .summary = "list the extension methods, what each computes and where it comes from",
    .usage = "nres methods",
    .examples = "nres methods\n",
    .run = run,
};
