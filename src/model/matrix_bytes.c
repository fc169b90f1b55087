/*
 * matrix_bytes.c - memory of the backbone's matrices, for plans: packed, kept in
 * the file's blocks, in int8, or yielded to an extension that replaces them.
 */
#include "kernels/linear_int8.h"
#include "model/extension.h"

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
