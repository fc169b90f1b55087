/*
 * fusion.h - experts fused with the frozen FFN by a share g:
 *
 *   M(x) = sum_i p_i W_out_i (act(W_gate_i x) * W_in_i x)      p = softmax(W_r x), 1 for a single expert
 *   h    = (1 - g) FFN(x) + g M(x)                             g constant, or sigmoid(w . x)
 *
 * A method fills an nr_fusion, keeps it in e->state and declares with
 * nr_fusion_declare. The E experts, each m wide, lie stacked: W_gate and W_in
 * (E m, C), W_out (C, E m).
 */
#ifndef NR_FUSION_H
#define NR_FUSION_H

#include "model/extension.h"

typedef struct {
    size_t experts, width;   /* E, m */
    bool gate;               /* g = sigmoid(w . x), else `share` */
    double share;
} nr_fusion;

#define NR_FUSION_ACTIVATIONS 17
extern const nr_activation nr_fusion_activations[NR_FUSION_ACTIVATIONS];

/* Weights of a layer: the experts, the router and w. */
size_t nr_fusion_cost(const nr_config *c, const nr_fusion *f);
/* The parameters of layer l: w_gate, w_in, w_out and, where there are any, router and gate. *first gets the place of w_gate. */
nr_status nr_fusion_declare(nr_extension *e, size_t l, size_t *first, nr_error *err);
bool nr_fusion_has_block(const nr_extension *e, nr_place place);
nr_status nr_fusion_after(nr_hook *h, void *y, const void *xn, nr_error *err);
nr_status nr_fusion_after_back(nr_hook *h, void *dxn, void *dy, const void *xn, nr_error *err);
void nr_fusion_close(nr_extension *e);

#define NR_FUSION_HOOKS                                                                                       \
    .activations = nr_fusion_activations, .activation_count = NR_FUSION_ACTIVATIONS,                          \
    .has_block = nr_fusion_has_block, .after = nr_fusion_after, .after_back = nr_fusion_after_back,           \
    .close = nr_fusion_close

#endif
