/* opened.c - model, tokenizer and extensions of a command, from its options. */
#include "cli/opened.h"

#include <string.h>

static nr_status frozen_of(nr_frozen *f, const char *name, nr_error *err)
{
    static const char *const names[] = {"auto", "packed", "quantised"};
    for (size_t i = 0; i < NR_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *f = (nr_frozen)i;
            return NR_OK;
        }
    return nr_fail(err, NR_E_USAGE, "--frozen: expected auto, packed or quantised, found \"%.200s\"", name);
}

/* An extension as it is only to be run. */
static nr_status tune(const nr_opened *o, nr_extension *e, nr_error *err)
{
    if (o->gate_threshold > 0) NR_TRY(nr_extension_set_gate_threshold(e, o->gate_threshold, err));
    return o->quantise_extension ? nr_extension_quantise(e, err) : NR_OK;
}

static nr_status load_all(nr_opened *o, nr_error *err)
{
    NR_TRY(nr_extension_load_stack(&o->extension, o->model, o->extension_paths.items, o->extension_paths.count, o->allow_other, err));
    for (nr_extension *e = o->extension; e; e = nr_extension_below(e)) NR_TRY(tune(o, e, err));
    return NR_OK;
}

static nr_status check_words(const nr_opened *o, nr_error *err)
{
    const char *flag = o->quantise_extension ? "--quantise-extension" : o->gate_threshold > 0 ? "--gate-threshold" : NULL;
    if (flag && !o->extension_paths.count) return nr_fail(err, NR_E_USAGE, "%s needs -x EXT", flag);
    if (o->quantise_extension && strcmp(o->quantise_extension, "q8_0") != 0)
        return nr_fail(err, NR_E_USAGE, "--quantise-extension: expected q8_0, found \"%.200s\"", o->quantise_extension);
    return NR_OK;
}

nr_status nr_opened_open(nr_opened *o, nr_error *err)
{
    nr_settings s;
    nr_settings_default(&s);
    NR_TRY(nr_settings_set(&s, "compute", o->compute, err));
    nr_model_options opt = {.compute = (nr_compute)s.compute, .use = NR_USE_FORWARD, .threads = o->threads,
                            .hub_folder = nr_cli_hub_folder()};
    NR_TRY(frozen_of(&opt.frozen, o->frozen ? o->frozen : "packed", err));
    NR_TRY(check_words(o, err));
    NR_TRY(nr_model_open(&o->model, o->model_path, &opt, err));
    NR_TRY(nr_tokenizer_open(&o->tokenizer, o->model_path, opt.hub_folder, err));
    return load_all(o, err);
}

void nr_opened_switch(const nr_opened *o, bool on)
{
    for (nr_extension *e = o->extension; e; e = nr_extension_below(e)) nr_extension_switch(e, on);
}

void nr_opened_close(nr_opened *o)
{
    nr_extension_close_stack(o->extension);
    nr_tokenizer_close(o->tokenizer);
    nr_model_close(o->model);
}
