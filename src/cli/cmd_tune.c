/* cmd_tune.c - nres tune: the settings of a recipe's rows chosen on validation text. */
#include <stdlib.h>

#include "cli/recipes.h"

extern const nr_command nr_command_tune;

static const char *output;
static nr_list variables;
static size_t jobs = 1, threads, keep = 3, rounds = 3;
static bool quiet;

static const nr_option options[] = {
    {"output", 'o', 's', "OUT", "folder of the rounds and of choice.yaml", &output, 0, 0},
    {"set", 0, 'l', "NAME=VALUE", "value of $NAME in the recipe; may be repeated", &variables, 0, 0},
    {"keep", 0, 'u', "K", "a round keeps one in K, and the next trains K times longer [3]", &keep, 2, 100},
    {"rounds", 0, 'u', "N", "rounds, the last one for all steps [3]", &rounds, 1, 10},
    {"jobs", 'j', 'u', "N", "runs at a time, each a process [1]", &jobs, 1, 1024},
    {"threads", 't', 'u', "N", "threads of each; 0: the cores shared out [0]", &threads, 0, 4096},
    {"quiet", 'q', 'b', NULL, "no progress", &quiet, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_error err;
    char *text;
    int code = nr_cli_parse(&nr_command_tune, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (words.count != 1) return nr_cli_usage(&nr_command_tune, "expected one recipe, found %zu words", words.count);
    if (!output) return nr_cli_usage(&nr_command_tune, "-o OUT is needed");
    if ((code = nr_recipe_variables_check(&nr_command_tune, &variables))) return code;
    nr_compare_options opt = nr_recipe_options(words.items[0], output, &variables, jobs, threads);
    nr_status st = nr_tune(&text, &opt, keep, rounds, nr_cli_listener(quiet), &err);
    nr_cli_live_end();
    if (st != NR_OK) return nr_cli_fail(&err);
    fputs(text, stdout);
    free(text);
    return 0;
}

const nr_command nr_command_tune = {
    .name = "tune",
    .summary = "choose among the values of a recipe's rows, on validation text",
    .usage = "nres tune RECIPE -o OUT [--keep K] [--rounds N] [--set NAME=VALUE...]",
    .examples = "nres tune recipe.yaml -o runs/tune\n"
                "nres tune recipe.yaml -o runs/tune --rounds 2 --keep 4 --jobs 2\n"
                "nres compare runs/tune/choice.yaml -o runs/compare",
    .run = run,
    .options = option_list,
};
