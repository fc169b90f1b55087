/* neutral.h - the gated adapter's hooks, for methods that are the same block with other settings. */
#ifndef NR_NEUTRAL_H
#define NR_NEUTRAL_H

#include "model/extension.h"

#define NR_NEUTRAL_ACTIVATIONS 13
extern const nr_activation nr_neutral_activations[NR_NEUTRAL_ACTIVATIONS];

nr_status nr_neutral_declare(nr_extension *e, nr_error *err);
bool nr_neutral_has_block(const nr_extension *e, nr_place place);
nr_status nr_neutral_block(nr_hook *h, void *x, const void *xn, nr_error *err);
nr_status nr_neutral_block_back(nr_hook *h, void *dxn, const void *dy, const void *xn, nr_error *err);
nr_status nr_neutral_after(nr_hook *h, void *y, const void *xn, nr_error *err);
nr_status nr_neutral_after_back(nr_hook *h, void *dxn, void *dy, const void *xn, nr_error *err);

/* Fields of an nr_method. */
#define NR_NEUTRAL_HOOKS                                                                                  \
    .declare = nr_neutral_declare, .activations = nr_neutral_activations,                                 \
    .activation_count = NR_NEUTRAL_ACTIVATIONS, .has_block = nr_neutral_has_block,                        \
    .block = nr_neutral_block, .block_back = nr_neutral_block_back, .after = nr_neutral_after,            \
    .after_back = nr_neutral_after_back

#endif
