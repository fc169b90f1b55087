/*
 * shapes.c - sizes that follow from a config alone, and the rotary table.
 */
#include <math.h>
#include <string.h>

#include "kernels/linear_int8.h"
#include "model/extension.h"

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

enum { SHAPES = 16 }; /* of a layer's sites and the head, at most */

typedef struct {
    size_t shape[SHAPES][2], count;
} seen_shapes;

static bool first_of_shape(seen_shapes *seen, size_t out, size_t in)
{
    for (size_t i = 0; i < seen->count; i++)
        if (seen->shape[i][0] == out && seen->shape[i][1] == in) return false;
    seen->shape[seen->count][0] = out;
    seen->shape[seen->count++][1] = in;
    return true;
}

typedef struct {
    const nr_model *m;
    unsigned uses;
    bool quantised;
    const nr_extension *yields;
    seen_shapes quantised_shapes, yielded_shapes;
} count_job;

static size_t matrix_bytes(count_job *j, const char *name, size_t out, size_t in, nr_products products)
{
    const nr_model *m = j->m;
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    const nr_tensor *t = nr_model_file_find(m->file, full);
    if (j->yields && nr_extension_replaces(j->yields, full))
        return (t ? t->size : 0) + (first_of_shape(&j->yielded_shapes, out, in) ? m->ops->linear_bytes(m->ops, out, in, NR_PACK_FORWARD) : 0);
    if (products != NR_PRODUCTS_COMPUTE) return nr_linear_int8_bytes(m->ops, out, in, j->uses, products == NR_PRODUCTS_INT8);
    size_t packed = m->ops->linear_bytes(m->ops, out, in, j->uses);
    if (!j->quantised || !t || !nr_linear_quant_can(m->ops, t)) return packed;
    return t->size + (first_of_shape(&j->quantised_shapes, out, in) ? packed : 0);
}

size_t nr_model_matrix_bytes(const nr_model *m, nr_use use, bool quantised, nr_products products, const nr_extension *yields)
{
    const nr_config *c = m->config;
    unsigned uses = NR_PACK_FORWARD | (use == NR_USE_TRAIN ? NR_PACK_BACKWARD_INPUT : 0);
    size_t bytes = (2 * c->L + 1) * c->C * m->ops->real_size;
    count_job j = {.m = m, .uses = uses, .quantised = quantised, .yields = yields};
    if (use < NR_USE_FORWARD) return 0;
    for (size_t l = 0; l < c->L; l++)
        for (nr_site s = 0; s < NR_SITES; s++) {
            char name[128];
            size_t out, in;
            nr_site_shape(c, s, &out, &in);
            snprintf(name, sizeof name, "model.layers.%zu.%s", l, nr_site_tensors[s]);
            bytes += matrix_bytes(&j, name, out, in, products);
        }
    return bytes + matrix_bytes(&j, c->tied ? "model.embed_tokens" : "lm_head", c->V, c->C, NR_PRODUCTS_COMPUTE);
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

double nr_real_get(const nr_ops *ops, const void *buffer, size_t i)
{
    return ops->real == NR_F64 ? ((const double *)buffer)[i] : (double)((const float *)buffer)[i];
}

void nr_real_set(const nr_ops *ops, void *buffer, size_t i, double value)
{
    if (ops->real == NR_F64) ((double *)buffer)[i] = value;
    else ((float *)buffer)[i] = (float)value;
}
