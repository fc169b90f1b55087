/*
 * cmd_extend.c - nres extend: train an extension on new text while rehearsing
 * old text. Settings, plan and progress go to stderr; stdout gets the run's
 * folder, or with --json one JSON object a line.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/training.h"

extern const nr_command nr_command_extend;

static const char *model, *output;
static nr_list new_files, old_files, new_validation, old_validation, below;
static bool dry_run, overwrite, json, quiet, mpi;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "backbone: a GGUF file, a folder or ORG/NAME in the Hugging Face cache", &model, 0, 0},
    {"new", 0, 'l', "FILE", "text of the domain to learn: plain or JSONL, also .gz and .zst", &new_files, 0, 0},
    {"old", 0, 'l', "FILE", "text of the domain that the backbone knows", &old_files, 0, 0},
    {"new-validation", 0, 'l', "FILE", "new text to validate on [split off --new]", &new_validation, 0, 0},
    {"old-validation", 0, 'l', "FILE", "old text to validate on [split off --old]", &old_validation, 0, 0},
    {"extension", 'x', 'r', "EXT", "extension that the new one stands on, frozen: a run's folder or an extension's; may be repeated", &below, 0, 0},
    {"output", 'o', 's', "RUN", "folder of the run", &output, 0, 0},
    {"dry-run", 0, 'b', NULL, "print what the run would take, and stop", &dry_run, 0, 0},
    {"overwrite", 0, 'b', NULL, "replace a run that is there", &overwrite, 0, 0},
    {"json", 0, 'b', NULL, "print one JSON object a line: start, step, eval, saved, done", &json, 0, 0},
    {"quiet", 'q', 'b', NULL, "no settings, no progress", &quiet, 0, 0},
    {"mpi", 0, 'b', NULL, "train with the processes that MPI knows; on by itself under mpirun and srun", &mpi, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

/* What was typed, with quotes where a shell needs them. */
static char *command_line(int argc, char **argv)
{
    nr_buffer b = {0};
    nr_buffer_text(&b, "nres");
    for (int i = 0; i < argc; i++) {
        const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./,:+@%";
        bool quote = argv[i][0] == '\0' || strspn(argv[i], plain) != strlen(argv[i]);
        nr_buffer_text(&b, quote ? " '" : " ");
        for (const char *p = argv[i]; *p; p++) nr_buffer_printf(&b, *p == '\'' ? "'\\''" : "%c", *p);
        if (quote) nr_buffer_text(&b, "'");
    }
    return b.failed ? NULL : b.data;
}

static nr_files files_of(const nr_list *l) { return (nr_files){l->items, l->count}; }

static int print_plan(const nr_run *r, const nr_settings *s)
{
    nr_plan plan;
    nr_error err;
    if (nr_cluster_rank(r->cluster) > 0) return 0; /* one of them says what each takes */
    if (nr_trainer_plan(&plan, r, s, &err) != NR_OK) return nr_cli_fail(&err);
    if (json) {
        printf("{\"trained\": %zu, \"allowed\": %zu, \"backbone\": %zu, ", plan.trained, plan.allowed, plan.backbone);
        printf("\"weights_bytes\": %zu, \"activation_bytes\": %zu, \"extension_bytes\": %zu, \"optimizer_bytes\": %zu, "
               "\"exchange_bytes\": %zu, \"total_bytes\": %zu, \"disk_bytes\": %zu, \"seconds\": %.3f}\n",
               plan.weights_bytes, plan.activation_bytes, plan.extension_bytes, plan.optimizer_bytes, plan.exchange_bytes,
               plan.total_bytes, plan.disk_bytes, plan.seconds);
        return 0;
    }
    char *table = nr_plan_describe(&plan);
    if (table) fputs(table, stdout);
    free(table);
    return 0;
}

static int train(const nr_run *r, const nr_settings *s)
{
    nr_trainer *t;
    nr_error err;
    const nr_listener *l = nr_training_listener(json, quiet);
    nr_status st = nr_trainer_new(&t, r, s, l, &err);
    if (st == NR_OK) st = nr_trainer_run(t, &err);
    nr_trainer_close(t);
    return st == NR_OK ? nr_training_done(r->cluster, r->run, json) : nr_training_fail(r->cluster, &err);
}

static int run(int argc, char **argv)
{
    nr_settings s;
    nr_error err;
    nr_settings_default(&s);
    int code = nr_cli_parse(&nr_command_extend, options, NR_COUNT(options), argc, argv, NULL, &s, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!model) return nr_cli_usage(&nr_command_extend, "-m MODEL is needed");
    if (!output && !dry_run) return nr_cli_usage(&nr_command_extend, "-o RUN is needed");
    if (nr_settings_check(&s, &err) != NR_OK) return nr_cli_usage(&nr_command_extend, "%s", err.message);
    nr_cluster *cluster;
    code = nr_training_join(&cluster, mpi);
    if (code) return code;
    char *command = command_line(argc, argv);
    nr_run r = {.model = model,
                .run = output ? output : "",
                .cache_folder = nr_cli_cache_folder(),
                .hub_folder = nr_cli_hub_folder(),
                .train = {files_of(&old_files), files_of(&new_files)},
                .validation = {files_of(&old_validation), files_of(&new_validation)},
                .stands_on = files_of(&below),
                .command = command,
                .overwrite = overwrite,
                .cluster = cluster};
    if (dry_run) {
        code = print_plan(&r, &s);
        nr_cluster_close(cluster);
    } else {
        code = train(&r, &s);
    }
    free(command);
    return code;
}

const nr_command nr_command_extend = {
    .name = "extend",
    .summary = "train an extension on new text",
    .usage = "nres extend -m MODEL --new FILE... --old FILE... -o RUN [settings]",
    .examples = "nres extend -m model.gguf --new fr.txt --old en.txt -o runs/fr\n"
                "nres extend -m model.gguf --new fr.jsonl.zst --old en.jsonl.zst -o runs/fr --steps 1000 --extra 10\n"
                "nres extend -m model.gguf --new fr.txt --old en.txt --dry-run --context 512\n"
                "nres extend -m model.gguf -x runs/fr --new de.txt --old en.txt fr.txt -o runs/de\n"
                "mpirun -np 4 nres extend -m model.gguf --new fr.txt --old en.txt -o runs/fr",
    .run = run,
    .options = option_list,
    .takes_settings = true,
};
