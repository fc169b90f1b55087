/* cmd_version.c - nres version: what this program is and what it runs on. */
#include "cli/cli.h"

static int run(int argc, char **argv)
{
    char line[512];
    int rc = nr_cli_parse(&nr_command_version, NULL, 0, argc, argv, NULL, NULL, NULL);
    if (rc) return rc < 0 ? 0 : rc;
    nr_build_info(line, sizeof line);
    printf("%s\n", line);
    nr_build_options(line, sizeof line);
    nr_cli_wrap(stdout, line, 0, 2);
    return 0;
}

const nr_command nr_command_version = {
    .name = "version",
    .summary = "print the version, the instruction set in use and the matrix library",
    .usage = "nres version",
    .examples = "nres version\n",
    .run = run,
};
