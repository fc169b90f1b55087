/*
 * cmd_export.c - nres export: a model, with an extension or without, in another
 * program's format.
 */
#include <string.h>

#include "cli/cli.h"

extern const nr_command nr_command_export;

static const char *model, *output, *format = "hf", *type = "fp32";
static nr_list extensions;
static size_t shard = 5000;
static bool allow_other, quiet;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "GGUF file, Hugging Face folder or ORG/NAME in its cache", &model, 0, 0},
    {"extension", 'x', 'l', "EXT", "run or extension folders, each standing on those before it", &extensions, 0, 0},
    {"output", 'o', 's', "DIR", "folder to make", &output, 0, 0},
    {"format", 0, 's', "F", "hf: a model that transformers loads; peft: LoRA alone, as PEFT loads it", &format, 0, 0},
    {"type", 0, 's', "TYPE", "of the weights with --format hf: fp32, bf16 or fp16", &type, 0, 0},
    {"max-shard-size", 0, 'u', "MB", "a file of weights is no larger (0: as many as there are)", &shard, 0, 1e9},
    {"allow-other-backbone", 0, 'b', NULL, "take an extension trained on other weights of the same shape", &allow_other, 0, 0},
    {"quiet", 'q', 'b', NULL, "no progress", &quiet, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

/* Place of a word in a list of `count`; count: not there. */
static size_t place_of(const char *word, const char *const *list, size_t count)
{
    size_t i = 0;
    while (i < count && strcmp(word, list[i]) != 0) i++;
    return i;
}

static nr_status export(nr_export_type as, bool peft, nr_error *err)
{
    nr_model *m = NULL;
    nr_extension *last = NULL;
    nr_status st;
    nr_model_options opt = {.compute = NR_COMPUTE_FP32, .use = NR_USE_WEIGHTS, .hub_folder = nr_cli_hub_folder()};
    nr_export_options how = {.type = as, .shard_bytes = shard ? shard * 1000000 : SIZE_MAX};
    NR_GO(nr_model_open(&m, model, &opt, err));
    NR_GO(nr_extension_load_stack(&last, m, extensions.items, extensions.count, allow_other, err));
    st = peft ? nr_extension_save_peft(last, output, err) : nr_model_export(m, last, output, &how, nr_cli_listener(quiet), err);
done:
    nr_extension_close_stack(last);
    nr_model_close(m);
    return st;
}

static int run(int argc, char **argv)
{
    static const char *const types[] = {"fp32", "bf16", "fp16"}, *const formats[] = {"hf", "peft"};
    nr_list words = {0};
    nr_error err;
    int code = nr_cli_parse(&nr_command_export, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    size_t as = place_of(type, types, NR_COUNT(types)), kind = place_of(format, formats, NR_COUNT(formats));
    if (!model || !output) return nr_cli_usage(&nr_command_export, "-m MODEL and -o DIR are needed");
    if (kind == NR_COUNT(formats)) return nr_cli_usage(&nr_command_export, "--format: expected hf or peft, found \"%.200s\"", format);
    if (as == NR_COUNT(types)) return nr_cli_usage(&nr_command_export, "--type: expected fp32, bf16 or fp16, found \"%.200s\"", type);
    if (kind == 1 && extensions.count != 1)
        return nr_cli_usage(&nr_command_export, "--format peft: expected one -x EXT, found %zu", extensions.count);
    nr_status st = export((nr_export_type)as, kind == 1, &err);
    nr_cli_live_end();
    if (st != NR_OK) return nr_cli_fail(&err);
    printf("%s\n", output);
    return 0;
}

const nr_command nr_command_export = {
    .name = "export",
    .summary = "write a model as a Hugging Face folder, or a LoRA as PEFT keeps it",
    .usage = "nres export -m MODEL [-x EXT...] -o DIR [--format hf|peft] [--type fp32|bf16|fp16]",
    .examples = "nres export -m model.gguf -o model\n"
                "nres export -m model.gguf -x run/best -o finetuned --type bf16\n"
                "nres export -m model -x run/best -o lora-for-peft --format peft\n",
    .run = run,
    .options = option_list,
};
