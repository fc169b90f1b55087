/*
 * settled.c - what a run's settings come to: how it opens its backbone, what a
 * pass computes, what the method decides where nobody did.
 */
#include "train/train.h"

nr_model_options nr_train_model_options(const nr_settings *s)
{
    return (nr_model_options){.compute = (nr_compute)s->compute, .use = NR_USE_TRAIN, .threads = s->threads,
                              .frozen = s->frozen == 1 ? NR_FROZEN_QUANTISED : NR_FROZEN_PACKED,
                              .products = (nr_products)s->frozen_products};
}

nr_pass_options nr_train_pass_options(const nr_settings *s, size_t B)
{
    return (nr_pass_options){.B = B, .T = s->context, .train = true, .recompute = s->recompute == 1,
                             .distil = {s->lwf_alpha, s->lwf_temperature, (nr_distil_rows)s->lwf_rows}};
}

bool nr_train_yields(const nr_settings *s, const nr_extension *e)
{
    return e->replaces && (s->lwf_alpha == 0 || s->frozen == 1);
}

nr_status nr_train_method_defaults(nr_settings *s, const nr_method **method, nr_error *err)
{
    NR_TRY(nr_method_named(method, s->method.s, err));
    if ((*method)->settle) (*method)->settle(s);
    if (s->learning_rate == 0) s->learning_rate = (*method)->learning_rate;
    if (s->lwf_alpha == 0) s->lwf_alpha = (*method)->lwf_alpha;
    return NR_OK;
}
