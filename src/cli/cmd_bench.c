/*
 * cmd_bench.c - nres bench: speed on this machine, a line a test, and with
 * --profile a line an operation.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

extern const nr_command nr_command_bench;

static const char *model, *test_list = "machine,train,forward,prompt,generate";
static size_t repetitions = 5, prompt = 512, generate = 64;
static bool packed, profile, json, quiet;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "backbone: a GGUF file, a folder or ORG/NAME in the Hugging Face cache", &model, 0, 0},
    {"tests", 0, 's', "LIST", "of machine, train, forward, prompt, generate [all]", &test_list, 0, 0},
    {"n-prompt", 'p', 'u', "N", "tokens of the prompt [512]", &prompt, 1, 1e7},
    {"n-gen", 'n', 'u', "N", "tokens to generate [64]", &generate, 1, 1e7},
    {"repetitions", 'r', 'u', "N", "timed repetitions, after two that don't count [5]", &repetitions, 1, 1e6},
    {"packed", 0, 'b', NULL, "prompts and generation from packed matrices instead of the file's blocks", &packed, 0, 0},
    {"profile", 0, 'b', NULL, "print where the time went, operation by operation", &profile, 0, 0},
    {"json", 0, 'b', NULL, "print one JSON object", &json, 0, 0},
    {"quiet", 'q', 'b', NULL, "no progress", &quiet, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

/* Bits of a comma-separated list; 0 where a word is unknown, which *word then names. */
static unsigned tests_of(const char *list, nr_text *word)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"machine", NR_BENCH_MACHINE}, {"train", NR_BENCH_TRAIN}, {"forward", NR_BENCH_FORWARD},
                 {"prompt", NR_BENCH_PROMPT},   {"generate", NR_BENCH_GENERATE}};
    unsigned bits = 0;
    while (*list) {
        size_t n = strcspn(list, ","), i = 0;
        snprintf(word->s, sizeof word->s, "%.*s", (int)NR_MIN(n, sizeof word->s - 1), list);
        while (i < NR_COUNT(names) && strcmp(names[i].name, word->s) != 0) i++;
        if (i == NR_COUNT(names)) return 0;
        bits |= names[i].bit;
        list += n + (list[n] == ',');
    }
    return bits;
}

/* ---- tables ---- */

static double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void print_machine(const json_t *m)
{
    printf("%s\n%.0f threads; GFLOP/s: ", text(m, "build"), number(m, "threads"));
    if (json_object_get(m, "flops_bf16")) printf("bf16 %.0f, ", number(m, "flops_bf16") / 1e9);
    printf("fp32 %.0f; GB/s: read %.1f, copied %.1f\n", number(m, "flops_fp32") / 1e9, number(m, "read_bytes_per_second") / 1e9,
           number(m, "copy_bytes_per_second") / 1e9);
}

static void print_share(const json_t *test, const char *key)
{
    if (json_object_get(test, key)) printf("%9.0f %%", 100 * number(test, key));
    else printf("%11s", "-");
}

static void print_test(const json_t *test)
{
    const json_t *rate = json_object_get(test, "tokens_per_second");
    printf("%-20s%8.0f%10.1f%10.1f%9.3f", text(test, "name"), number(test, "tokens"), number(rate, "best"), number(rate, "median"),
           number(test, "flops_per_token") / 1e9);
    print_share(test, "share_of_flop_bound");
    print_share(test, "share_of_byte_bound");
    putchar('\n');
}

static void print_profile(const json_t *test)
{
    size_t i;
    const json_t *o, *list = json_object_get(test, "profile");
    if (json_array_size(list) == 0) return;
    printf("\n%s\n%-20s%14s%8s%11s%8s%10s%9s\n", text(test, "name"), "operation", "matrix", "calls", "seconds", "share", "GFLOP/s", "GB/s");
    json_array_foreach(list, i, o) {
        char matrix[32] = "";
        if (json_object_get(o, "out")) snprintf(matrix, sizeof matrix, "%.0f x %.0f", number(o, "out"), number(o, "in"));
        printf("%-20s%14s%8.0f%11.4f%6.1f %%%10.1f%9.1f\n", text(o, "op"), matrix, number(o, "calls"), number(o, "seconds"),
               100 * number(o, "share"), number(o, "flops_per_second") / 1e9, number(o, "bytes_per_second") / 1e9);
    }
}

static void print_tables(const json_t *o)
{
    size_t i;
    const json_t *test, *tests = json_object_get(o, "tests"), *machine = json_object_get(o, "machine");
    printf("%s, %s\n", text(o, "model"), text(o, "compute"));
    if (machine) print_machine(machine);
    if (json_array_size(tests) > 0) {
        printf("\n%-20s%8s%20s%9s%22s\n", "", "", "tokens/s", "GFLOP", "of the bound by");
        printf("%-20s%8s%10s%10s%9s%11s%11s\n", "test", "tokens", "best", "median", "a token", "products", "memory");
    }
    json_array_foreach(tests, i, test) print_test(test);
    json_array_foreach(tests, i, test) print_profile(test);
    printf("\npeak memory %.2f GiB\n", number(o, "peak_bytes") / (1 << 30));
}

/* ---- command ---- */

static int run(int argc, char **argv)
{
    nr_settings s;
    nr_error err;
    nr_text word;
    char *result;
    nr_settings_default(&s);
    int code = nr_cli_parse(&nr_command_bench, options, NR_COUNT(options), argc, argv, NULL, &s, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!model) return nr_cli_usage(&nr_command_bench, "-m MODEL is needed");
    nr_bench_options opt = {.tests = tests_of(test_list, &word), .repetitions = repetitions, .prompt = prompt, .generate = generate,
                            .packed = packed, .profile = profile, .hub_folder = nr_cli_hub_folder()};
    if (opt.tests == 0)
        return nr_cli_usage(&nr_command_bench, "--tests: expected a list of machine, train, forward, prompt, generate, found \"%s\"", test_list);
    if (nr_settings_check(&s, &err) != NR_OK) return nr_cli_usage(&nr_command_bench, "%s", err.message);
    if (nr_bench(&result, model, &s, &opt, nr_cli_listener(quiet), &err) != NR_OK) return nr_cli_fail(&err);
    nr_cli_live_end();
    json_t *o = json ? NULL : json_loads(result, 0, NULL);
    if (json) printf("%s\n", result);
    else print_tables(o);
    json_decref(o);
    free(result);
    return 0;
}

const nr_command nr_command_bench = {
    .name = "bench",
    .summary = "measure the speed of this machine on a model",
    .usage = "nres bench -m MODEL [--tests LIST] [-p N] [-n N] [-r N] [--profile] [--json] [settings]",
    .examples = "nres bench -m model.gguf\n"
                "nres bench -m model.gguf --tests train --batch-size 8 --context 256 --profile\n"
                "nres bench -m model.gguf --tests prompt,generate -p 512 -n 128 -t 2",
    .run = run,
    .options = option_list,
    .takes_settings = true,
};
