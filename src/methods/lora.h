/* lora.h - what LoRA and its mixture share: the list of target matrices. */
#ifndef NR_LORA_H
#define NR_LORA_H

#include "model/extension.h"

typedef struct {
    bool on[NR_SITES];
    size_t order[NR_SITES], count; /* place of a site among the targets */
    double scale;                  /* s / R */
} nr_lora;

/* Fills on, order and count from --lora-targets; scale once the rank is known. */
nr_status nr_lora_parse(const nr_extension *e, nr_lora *t, nr_error *err);
/* s / R: s is --lora-scale, or 2 R. */
double nr_lora_scale(const nr_settings *s, size_t rank);
/* Sum over the targets of a layer of out + in: the weights of one rank. */
size_t nr_lora_cost(const nr_extension *e, const nr_lora *t);

#endif
