/*
 * shapes.c - sizes that follow from a config alone, and the rotary table.
 */
#include <math.h>

#include "model/model.h"

const char *const nr_site_names[NR_SITES] = {"q", "k", "v", "o", "gate", "up", "down"};
const char *const nr_site_tensors[NR_SITES] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
};

void nr_site_shape(const nr_config *c, nr_site s, size_t *out, size_t *in)
{
    size_t q = c->H * c->D, kv = c->K * c->D;
    const size_t shape[NR_SITES][2] = {{q, c->C}, {kv, c->C}, {kv, c->C}, {c->C, q}, {c->F, c->C}, {c->F, c->C}, {c->C, c->F}};
    *out = shape[s][0];
    *in = shape[s][1];
}

bool nr_site_bias(const nr_config *c, nr_site s)
{
    return s <= NR_O ? c->attention_bias : c->mlp_bias;
}

size_t nr_model_weight_count(const nr_config *c)
{
    size_t layer = 2 * c->C;
    for (nr_site s = 0; s < NR_SITES; s++) {
        size_t out, in;
        nr_site_shape(c, s, &out, &in);
        layer += out * in + (nr_site_bias(c, s) ? out : 0);
    }
    return c->L * layer + c->C + (c->tied ? 1 : 2) * c->V * c->C;
}

/* Frequency of pair i after the file's scaling. float steps: the same roundings as transformers. */
static float frequency(const nr_config *c, size_t i)
{
    float f = 1.0f / powf((float)c->rope.theta, (float)(2 * i) / (float)c->D);
    switch (c->rope.kind) {
    case NR_ROPE_DEFAULT: break;
    case NR_ROPE_LINEAR: f /= (float)c->rope.factor; break;
    case NR_ROPE_LLAMA3: {
        /* Llama 3.1: long waves are divided by the factor, short ones kept, the middle is blended. */
        double wave = 2 * M_PI / (double)f, context = (double)c->rope.original_context;
        double low = context / c->rope.low_freq_factor, high = context / c->rope.high_freq_factor;
        if (wave > low) {
            f /= (float)c->rope.factor;
        } else if (wave >= high) {
            double smooth = (context / wave - c->rope.low_freq_factor) / (c->rope.high_freq_factor - c->rope.low_freq_factor);
            f = (float)((1 - smooth) * (double)f / c->rope.factor + smooth * (double)f);
        }
        break;
    }
    }
    return c->rope.divisors ? f / c->rope.divisors[i] : f;
}

void nr_rope_table(void *table, const nr_ops *ops, const nr_config *c, size_t positions)
{
    size_t half = c->D / 2;
    for (size_t i = 0; i < half; i++) {
        float f = frequency(c, i);
        for (size_t t = 0; t < positions; t++) {
            float angle = (float)t * f;
            nr_real_set(ops, table, t * c->D + i, (double)cosf(angle));
            nr_real_set(ops, table, t * c->D + half + i, (double)sinf(angle));
        }
    }
}
