/*
 * linear.h - the matrix product of ops.h: what its versions share, and the
 * names that the op tables take.
 *
 *   set    file                        real  act
 *   cpu    one of the next two         f32   f32 or bf16, as the table says
 *   panel  linear_panel.c, own kernels f32   f32; bf16 where the processor has its dot product
 *   dnnl   linear_dnnl.c, oneDNN       f32   bf16 by better instructions, if the processor has them
 *   ref32  linear_ref.c                f32   f32
 *   ref64  linear_ref.c                f64   f64
 *
 *   quant  linear_quant.c              as its cpu table
 *
 * quant matrices stay in the blocks of a mapped tensor; they are made by
 * nr_linear_quant_new instead of the table's linear_new, and nothing else in
 * the program knows them apart: the table's functions go to those of the kind
 * that stands in the matrix's head.
 *
 * An nr_linear is made for one table (ops->act decides its packing). After
 * packing, forward and backward calls on the same matrix may run at the same
 * time on several threads; packing itself may not overlap with them.
 */
#ifndef NR_LINEAR_H
#define NR_LINEAR_H

#include "kernels/ops.h"

/* Common head: every version embeds it as its first member. */
struct nr_linear {
    const nr_ops *ops;
    size_t out, in;
    unsigned uses; /* NR_PACK_* */
    bool has_bias;
    const struct nr_linear_kind *kind;
};

/* What differs between the versions once a matrix is made: as in nr_ops. */
typedef struct nr_linear_kind {
    void (*free)(nr_linear *w);
    nr_status (*pack)(nr_linear *w, const void *weight, const void *bias, nr_error *err);
    nr_status (*pack_tensor)(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err);
    nr_status (*prepare)(nr_linear *w, size_t n, bool weight_gradient, nr_error *err);
    nr_status (*forward)(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err);
    nr_status (*back_input)(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err);
    nr_status (*back_weight)(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err);
    double (*read_bytes)(const nr_linear *w, size_t n, bool back); /* NULL: out in elements of act */
    /* Of matrices of this kind; NULL: one after another. */
    nr_status (*group)(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err);
    size_t (*weights)(const nr_linear *w, const void **at); /* NULL: not told */
} nr_linear_kind;

#define NR_LINEAR_DECLARE(set)                                                                                        \
    nr_status nr_linear_##set##_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses, \
                                    nr_error *err);                                                                   \
    void nr_linear_##set##_free(nr_linear *w);                                                                        \
    size_t nr_linear_##set##_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses);                          \
    nr_status nr_linear_##set##_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err);              \
    nr_status nr_linear_##set##_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias,             \
                                            nr_error *err);                                                           \
    nr_status nr_linear_##set##_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err);                 \
    nr_status nr_linear_##set##_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, \
                                        nr_error *err);                                                               \
    nr_status nr_linear_##set##_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n,            \
                                           bool accumulate, nr_error *err);                                           \
    nr_status nr_linear_##set##_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x,       \
                                            size_t n, nr_error *err);                                                 \
    extern const nr_linear_kind nr_linear_##set##_kind

#define NR_LINEAR_DEFINE_KIND(set)                                                                          \
    const nr_linear_kind nr_linear_##set##_kind = {                                                         \
        nr_linear_##set##_free,    nr_linear_##set##_pack,       nr_linear_##set##_pack_tensor,             \
        nr_linear_##set##_prepare, nr_linear_##set##_forward,    nr_linear_##set##_back_input,              \
        nr_linear_##set##_back_weight, NULL, NULL, NULL,                                                    \
    }

NR_LINEAR_DECLARE(panel);
NR_LINEAR_DECLARE(dnnl);
NR_LINEAR_DECLARE(ref32);
NR_LINEAR_DECLARE(ref64);

/* ---- linear_choice.c: panel or dnnl ---- */

nr_status nr_linear_cpu_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses, nr_error *err);
size_t nr_linear_cpu_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses);
/* Whether one of them multiplies bf16 matrices on this machine, and each by itself: dnnl only what panel can't as well. */
bool nr_linear_cpu_has_bf16(void);
bool nr_linear_panel_has_bf16(void);
bool nr_linear_dnnl_adds_bf16(void);

/* ---- linear.c: shared by the versions ---- */

/* NR_E_USAGE for a matrix without rows or columns. */
nr_status nr_linear_check_shape(size_t out, size_t in, nr_error *err);
/* NR_E_USAGE unless a bias is given exactly when the matrix has one. */
nr_status nr_linear_check_bias(const nr_linear *w, bool given, nr_error *err);
/* NR_E_MISMATCH naming the tensor unless the shapes fit. */
nr_status nr_linear_check_tensors(const nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err);
nr_status nr_linear_not_packed(const nr_linear *w, const char *what, nr_error *err);
/* sum (C) += the sums of x (n,C) of type f32 or bf16 over rows, in blocks of NR_ROW_BLOCK. */
void nr_linear_add_columns(float *sum, const void *x, nr_dtype type, size_t n, size_t C);

/* The type of a result that goes into this slot. */
static inline nr_dtype nr_slot_type(const nr_ops *ops, nr_slot slot) { return slot == NR_ACT ? ops->act : ops->real; }

/* A table's linear functions: each goes to the matrix's kind. w NULL is freed as nothing. */
void nr_linear_free(nr_linear *w);
nr_status nr_linear_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err);
nr_status nr_linear_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err);
nr_status nr_linear_prepare(nr_linear *w, size_t n, bool weight_gradient, nr_error *err);
nr_status nr_linear_forward(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err);
nr_status nr_linear_forward_group(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err);
nr_status nr_linear_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err);
nr_status nr_linear_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err);
/* Bytes of weights that a product of n rows goes through, for figures of speed. */
double nr_linear_read_bytes(const nr_linear *w, size_t n, bool back);

size_t nr_linear_weights(const nr_linear *w, const void **at);

/* The linear_* fields of an nr_ops initializer: NR_LINEAR_FIELDS(cpu). */
#define NR_LINEAR_FIELDS(set)                                                                            \
    .linear_new = nr_linear_##set##_new, .linear_bytes = nr_linear_##set##_bytes,                        \
    .linear_free = nr_linear_free, .linear_pack = nr_linear_pack,                                        \
    .linear_pack_tensor = nr_linear_pack_tensor, .linear_prepare = nr_linear_prepare,                    \
    .linear = nr_linear_forward, .linear_group = nr_linear_forward_group,                                \
    .linear_weights = nr_linear_weights,                                                                 \
    .linear_back_input = nr_linear_back_input,                                                           \
    .linear_back_weight = nr_linear_back_weight

#endif
