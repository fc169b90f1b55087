/*
 * adapter.c - the vanilla adapter: the block of neutral residues (neutral.c)
 * without its gate and its local losses.
 *
 *   parallel   y = FFN(x) + W_out (act(W_gate x) * W_in x)
 *   serial     y = f + W_out (act(W_gate f) * W_in f)         f = FFN(x)
 */
#include "methods/neutral.h"

static void settle(nr_settings *s)
{
    s->gate = NR_GATE_NONE;
    s->gate_bias = s->l1 = s->ce = false;
}

const nr_method nr_method_adapter = {
    .name = "adapter",
    .summary = "vanilla adapters beside each FFN or after it, without gate and local loss",
    .math = "y = FFN(x) + W_out (act(W_gate x) * W_in x); serial: of FFN(x) instead of x",
    .source = "arXiv 2410.02744, its baseline",
    .starts_as_backbone = true,
    .has_init = true,
    .learning_rate = 3e-3,
    .settle = settle,
    NR_NEUTRAL_HOOKS,
};
