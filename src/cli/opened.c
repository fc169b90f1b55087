/* opened.c - model, tokenizer and extension of a command, from its options. */
#include "cli/opened.h"

nr_status nr_opened_open(nr_opened *o, nr_error *err)
{
    nr_settings s;
    nr_settings_default(&s);
    NR_TRY(nr_settings_set(&s, "compute", o->compute, err));
    nr_model_options opt = {.compute = (nr_compute)s.compute, .use = NR_USE_FORWARD, .threads = o->threads,
                            .hub_folder = nr_cli_hub_folder()};
    NR_TRY(nr_model_open(&o->model, o->model_path, &opt, err));
    NR_TRY(nr_tokenizer_open(&o->tokenizer, o->model_path, opt.hub_folder, err));
    if (!o->extension_path) return NR_OK;
    return nr_extension_load(&o->extension, o->model, o->extension_path, o->allow_other, err);
}

void nr_opened_close(nr_opened *o)
{
    nr_extension_close(o->extension);
    nr_tokenizer_close(o->tokenizer);
    nr_model_close(o->model);
}
