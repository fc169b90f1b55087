/*
 * cmd_export.c - nres export: an extension in another program's format.
 */
#include <string.h>

#include "cli/cli.h"

extern const nr_command nr_command_export;

static const char *model, *extension, *output, *format = "peft";
static bool allow_other;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "GGUF file, Hugging Face folder or ORG/NAME in its cache", &model, 0, 0},
    {"extension", 'x', 's', "EXT", "run or extension folder", &extension, 0, 0},
    {"output", 'o', 's', "DIR", "folder to write", &output, 0, 0},
    {"format", 0, 's', "F", "peft: LoRA as PEFT loads it", &format, 0, 0},
    {"allow-other-backbone", 0, 'b', NULL, "take an extension trained on other weights of the same shape", &allow_other, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

static nr_status export(nr_error *err)
{
    nr_model *m = NULL;
    nr_extension *e = NULL;
    nr_status st;
    nr_model_options opt = {.compute = NR_COMPUTE_FP32, .use = NR_USE_FORWARD, .hub_folder = nr_cli_hub_folder()};
    NR_GO(nr_model_open(&m, model, &opt, err));
    NR_GO(nr_extension_load(&e, m, extension, allow_other, err));
    st = nr_extension_save_peft(e, output, err);
done:
    nr_extension_close(e);
    nr_model_close(m);
    return st;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_error err;
    int code = nr_cli_parse(&nr_command_export, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!model || !extension || !output) return nr_cli_usage(&nr_command_export, "-m MODEL, -x EXT and -o DIR are needed");
    if (strcmp(format, "peft") != 0) return nr_cli_usage(&nr_command_export, "--format: expected peft, found \"%.200s\"", format);
    if (export(&err) != NR_OK) return nr_cli_fail(&err);
    printf("%s\n", output);
    return 0;
}

const nr_command nr_command_export = {
    .name = "export",
    .summary = "write a LoRA extension as PEFT keeps it",
    .usage = "nres export -m MODEL -x EXT -o DIR [--format peft]",
    .examples = "nres export -m model -x run/best -o lora-for-peft\n",
    .run = run,
    .options = option_list,
};
