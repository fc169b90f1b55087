/*
 * cmd_compare.c - nres compare: the runs of a recipe, and the table of what they
 * learned and forgot. Progress goes to stderr, the table to stdout.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/recipes.h"

extern const nr_command nr_command_compare;

static const char *output, *only;
static nr_list variables, reuse;
static size_t jobs = 1, threads;
static bool dry_run, so_far, json, quiet;

static const nr_option options[] = {
    {"output", 'o', 's', "OUT", "folder of the runs, their records and the table", &output, 0, 0},
    {"set", 0, 'l', "NAME=VALUE", "value of $NAME in the recipe; may be repeated", &variables, 0, 0},
    {"reuse", 0, 'l', "OUT", "take over runs that are done in these comparisons and are the same here; folders of records do too", &reuse, 0, 0},
    {"jobs", 'j', 'u', "N", "runs at a time, each a process [1]", &jobs, 1, 1024},
    {"threads", 't', 'u', "N", "threads of each; 0: the cores shared out [0]", &threads, 0, 4096},
    {"only", 0, 's', "RUN", "make this one run and no table", &only, 0, 0},
    {"so-far", 0, 'b', NULL, "make no run: the table of those that are done", &so_far, 0, 0},
    {"dry-run", 0, 'b', NULL, "list the runs with their memory and time, and stop", &dry_run, 0, 0},
    {"json", 0, 'b', NULL, "print JSON: the plan, or the table's groups and runs", &json, 0, 0},
    {"quiet", 'q', 'b', NULL, "no progress", &quiet, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

/* ---- the plan ---- */

static void print_plan(const json_t *plan)
{
    size_t i;
    const json_t *run;
    double seconds = 0, left = 0;
    char time[32];
    printf("%-52s%12s%16s\n", "run", "memory", "about");
    json_array_foreach(json_object_get(plan, "runs"), i, run) {
        double s = json_number_value(json_object_get(run, "seconds")), bytes = json_number_value(json_object_get(run, "memory_bytes"));
        const char *error = json_string_value(json_object_get(run, "error"));
        bool done = json_is_true(json_object_get(run, "done"));
        seconds += s;
        left += done ? 0 : s;
        if (error) printf("%s\n     %s\n", json_string_value(json_object_get(run, "name")), error);
        else {
            char memory[32] = "-";
            if (bytes > 0) nr_cli_bytes(memory, bytes);
            printf("%-52s%12s%16s\n", json_string_value(json_object_get(run, "name")), memory, done ? "done" : nr_cli_seconds(time, s));
        }
    }
    printf("%-52s%12s%16s\n", "together, one after another", "", nr_cli_seconds(time, seconds));
    if (left < seconds) printf("%-52s%12s%16s\n", "left", "", nr_cli_seconds(time, left));
}

static int plan(const nr_compare_options *opt)
{
    char *text;
    nr_error err;
    if (nr_compare_plan(&text, opt, &err) != NR_OK) return nr_cli_fail(&err);
    if (json) {
        puts(text);
    } else {
        json_t *o = json_loads(text, 0, NULL);
        print_plan(o);
        json_decref(o);
    }
    free(text);
    return 0;
}

/* ---- the runs ---- */

static nr_status print_json(nr_error *err)
{
    char *path = nr_path_join(output, "table.json");
    nr_map m;
    nr_status st = path ? nr_map_open(&m, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", output);
    if (st == NR_OK) {
        fwrite(m.data, 1, m.size, stdout);
        nr_map_close(&m);
    }
    free(path);
    return st;
}

static int compare(const nr_compare_options *opt)
{
    char *text;
    nr_error err;
    nr_status st = nr_compare(&text, opt, nr_cli_listener(quiet), &err);
    nr_cli_live_end();
    if (text && json) {
        nr_error other;
        if (print_json(&other) != NR_OK) nr_cli_fail(&other);
    } else if (text) {
        fputs(text, stdout);
    }
    free(text);
    return st == NR_OK ? 0 : nr_cli_fail(&err);
}

static int check_words(const nr_list *words)
{
    if (words->count != 1) return nr_cli_usage(&nr_command_compare, "expected one recipe, found %zu words", words->count);
    if (!output && !dry_run) return nr_cli_usage(&nr_command_compare, "-o OUT is needed");
    if (only && reuse.count) return nr_cli_usage(&nr_command_compare, "--only makes its run, --reuse takes over others'");
    if (only && so_far) return nr_cli_usage(&nr_command_compare, "--only makes a run, --so-far none");
    return nr_recipe_variables_check(&nr_command_compare, &variables);
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    int code = nr_cli_parse(&nr_command_compare, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if ((code = check_words(&words))) return code;
    nr_compare_options opt = nr_recipe_options(words.items[0], output, &variables, jobs, threads);
    opt.only = only;
    opt.reuse = reuse.items;
    opt.reuse_count = reuse.count;
    opt.so_far = so_far;
    return dry_run ? plan(&opt) : compare(&opt);
}

const nr_command nr_command_compare = {
    .name = "compare",
    .summary = "make the runs of a recipe and compare what they learned and forgot",
    .usage = "nres compare RECIPE -o OUT [--set NAME=VALUE...] [--jobs N] [--dry-run | --so-far]",
    .examples = "nres compare recipe.yaml -o runs/compare --dry-run\n"
                "nres compare recipe.yaml -o runs/compare --set MODEL=model.gguf TEXT=text\n"
                "nres compare recipe.yaml -o runs/compare --jobs 2 --json > table.json\n"
                "nres compare other.yaml -o runs/other --reuse runs/compare\n"
                "nres compare recipe.yaml -o runs/compare --so-far",
    .run = run,
    .options = option_list,
};
