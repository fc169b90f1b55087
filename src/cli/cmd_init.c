/*
 * cmd_init.c - nres init: a small random backbone from a shape and a tokenizer.
 */
#include "cli/cli.h"

extern const nr_command nr_command_init;

static const char *config, *tokenizer, *output;
static size_t seed = 1;

static const nr_option options[] = {
    {"config", 0, 's', "FILE", "shape: a Hugging Face config.json", &config, 0, 0},
    {"tokenizer", 0, 's', "FILE", "tokenizer.json to go with it", &tokenizer, 0, 0},
    {"output", 'o', 's', "DIR", "folder to make", &output, 0, 0},
    {"seed", 's', 'u', "S", "seed of the random weights", &seed, 0, 0},
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
    int code = nr_cli_parse(&nr_command_init, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!config || !output) return nr_cli_usage(&nr_command_init, "--config and -o are needed");
    if (nr_model_init(config, tokenizer, output, seed, &err) != NR_OK) return nr_cli_fail(&err);
    printf("%s\n", output);
    return 0;
}

const nr_command nr_command_init = {
    .name = "init",
    .summary = "make a random backbone of a given shape",
    .usage = "nres init --config config.json [--tokenizer tokenizer.json] -o DIR [-s SEED]",
    .examples = "nres init --config shape/config.json --tokenizer shape/tokenizer.json -o tiny",
    .run = run,
    .options = option_list,
};
