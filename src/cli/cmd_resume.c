/*
 * cmd_resume.c - nres resume: go on with a run that was interrupted or killed,
 * to the same bits as if nothing had happened.
 */
#include "cli/training.h"

extern const nr_command nr_command_resume;

static bool json, quiet;

static const nr_option options[] = {
    {"json", 0, 'b', NULL, "print one JSON object a line: start, step, eval, saved, done", &json, 0, 0},
    {"quiet", 'q', 'b', NULL, "no settings, no progress", &quiet, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_trainer *t;
    nr_error err;
    int code = nr_cli_parse(&nr_command_resume, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (words.count != 1) return nr_cli_usage(&nr_command_resume, "expected one RUN, found %zu words", words.count);
    nr_status st = nr_trainer_resume(&t, words.items[0], nr_training_listener(json, quiet), &err);
    if (st == NR_OK) st = nr_trainer_run(t, &err);
    nr_trainer_close(t);
    if (st != NR_OK) return nr_cli_fail(&err);
    nr_cli_live_end();
    if (!json) printf("%s\n", words.items[0]);
    return 0;
}

const nr_command nr_command_resume = {
    .name = "resume",
    .summary = "go on with an interrupted run",
    .usage = "nres resume RUN",
    .examples = "nres resume runs/fr",
    .run = run,
    .options = option_list,
};
