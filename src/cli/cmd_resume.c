/*
 * cmd_resume.c - nres resume: go on with a run that was interrupted or killed,
 * to the same bits as if nothing had happened.
 */
#include "cli/training.h"

extern const nr_command nr_command_resume;

static bool json, quiet, mpi;

static const nr_option options[] = {
    {"json", 0, 'b', NULL, "print one JSON object a line: start, step, eval, saved, done", &json, 0, 0},
    {"quiet", 'q', 'b', NULL, "no settings, no progress", &quiet, 0, 0},
    {"mpi", 0, 'b', NULL, "train with the processes that MPI knows; on by itself under mpirun and srun", &mpi, 0, 0},
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
    nr_cluster *cluster;
    code = nr_training_join(&cluster, mpi);
    if (code) return code;
    nr_status st = nr_trainer_resume_on(&t, words.items[0], cluster, nr_training_listener(json, quiet), &err);
    if (st == NR_OK) st = nr_trainer_run(t, &err);
    nr_trainer_close(t);
    return st == NR_OK ? nr_training_done(cluster, words.items[0], json) : nr_training_fail(cluster, &err);
}

const nr_command nr_command_resume = {
    .name = "resume",
    .summary = "go on with an interrupted run",
    .usage = "nres resume RUN",
    .examples = "nres resume runs/fr\n"
                "mpirun -np 4 nres resume runs/fr",
    .run = run,
    .options = option_list,
};
