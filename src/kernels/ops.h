/*
 * ops.h - the dozen operations of the model, as one table a backend.
 *
 * A backend fixes two element types:
 *   real  residual stream, norms, parameters, gradients, optimizer
 *   act   inputs of matrix products and saved activations
 * and implements every operation for them. The walk over the layers
 * (model/) and the methods (methods/) see only this table, so that the whole
 * model also runs in double for gradient checks.
 *
 *   name      real  act    what for
 *   cpu-fp32  f32   f32    training and inference
 *   cpu-bf16  f32   bf16   the same where the machine has BF16 products
 *   ref-fp32  f32   f32    oracle of the kernel tests (X_ref.inc as float)
 *   ref-fp64  f64   f64    gradient checks (X_ref.inc as double)
 *
 * Rules for every operation
 *   - Rows: buffers are (n, C) with n = B T; any size works, 0 and primes too.
 *   - void * stands for real or act as the comment says. x is never changed
 *     unless the comment says in place. += accumulates, = overwrites.
 *   - The result is the same bits on any number of threads: work is cut by
 *     shape, reductions over rows run in fixed blocks of NR_ROW_BLOCK rows
 *     added in order.
 *   - Nothing allocates; scratch comes from the caller.
 *   - Sums over a row's channels that decide norms, softmax and losses are
 *     kept in at least float with fixed lanes.
 */
#ifndef NR_OPS_H
#define NR_OPS_H

#include "formats/formats.h"
#include "tensor/tensor.h"

#define NR_ROW_BLOCK 64

typedef enum { NR_REAL, NR_ACT } nr_slot;
typedef enum { NR_GATE_ELU, NR_GATE_RELU, NR_GATE_SIGMOID, NR_GATE_NONE } nr_gate;

/* Uses a matrix is packed for. */
enum { NR_PACK_FORWARD = 1, NR_PACK_BACKWARD_INPUT = 2 };

typedef struct nr_linear nr_linear; /* (out, in), packed; see linear.h */
typedef struct nr_ops nr_ops;

/* One of several products that read the same x: y (n,out) act = x W^T (+ bias). */
typedef struct {
    nr_linear *w;
    void *y;
} nr_product;

/* One attention call: B sequences of Tq queries that stand at key positions
 * [start, start + Tq) and see keys [shared + first, own position], and the
 * first `shared` keys always. Rows of a head lie k_stride elements apart in k and
 * v, heads k_head and sequences k_batch apart. In training start = shared (0
 * without a prefix), k_head = D, k_stride = K D, k_batch = (start + Tq) K D. A
 * cache keeps each head's rows together, so that memory is read in long
 * stretches: k_stride = D. */
typedef struct {
    size_t B, Tq, H, K, D, start;
    size_t k_stride, k_head, k_batch;
    float scale;          /* 1 / sqrt(D) */
    const int32_t *first; /* (B, Tq) first visible key, counted from behind the shared ones, or NULL: 0 */
    size_t shared;        /* keys that every query sees, whatever first says */
} nr_attention;

/* What the gate's backward needs beside the tensors; n rows. */
typedef struct {
    nr_gate gate;
    const void *l1_coef;   /* real (n): alpha / (L tokens [C]) on old rows, 0 on new; NULL: no l1 */
    bool l1_on_a;          /* l1 of a instead of g a */
    const void *ce_coef;   /* real (n): beta / (L tokens); NULL: no cross-entropy */
    const uint8_t *is_new; /* (n) labels of the cross-entropy */
    bool lm_to_gate;
} nr_gate_loss;

struct nr_ops {
    const char *name;
    nr_dtype real, act;
    size_t real_size, act_size;

    /* x (n,C) real = rows ids of table (V,C), which may lie quantised in a file */
    void (*embed)(void *x, const nr_tensor *table, const int32_t *ids, size_t n, size_t C);
    /* Rows ids of dtable (V,C) real += dx (n,C) real, in the order of the rows */
    void (*embed_back)(void *dtable, const void *dx, const int32_t *ids, size_t n, size_t C);

    /* y (n,C) act = x w / sqrt(mean x^2 + eps), x real or act as slot says; x_act (n,C) act = x, or NULL, and rstd (n) real
     * are kept for backward. w (C) real */
    void (*rmsnorm)(void *y, void *x_act, void *rstd, const void *x, nr_slot slot, const void *w, size_t n, size_t C, double eps);
    /* dx (n,C) real +=; dx_act (n,C) act = dx, or NULL; dw (C) real += or NULL; dy (n,C) real; x as above.
     * scratch: real (ceil(n / NR_ROW_BLOCK), C), needed with dw only */
    void (*rmsnorm_back)(void *dx, void *dx_act, void *dw, const void *dy, const void *x, nr_slot slot, const void *w,
                         const void *rstd, size_t n, size_t C, void *scratch);

    /* q (n,H,D) and k (n,K,D), or NULL with K = 0, act in place; table real (positions, D):
     * cos (D/2), sin (D/2); pos (n). Rotates halves as transformers does (x1 = first half).
     * inverse: by -angle, which is the backward pass. */
    void (*rotary)(void *q, void *k, const void *table, const int32_t *pos, size_t n, size_t H, size_t K, size_t D, bool inverse);

    /* o (B Tq, H D) act, lse (B, H, Tq) real or NULL; q (B Tq, H D) act; k, v act as nr_attention says.
     * Linear memory in T: scratch nr_ops.attention_scratch bytes. Query head h reads kv head h / (H/K). */
    void (*attention)(void *o, void *lse, const void *q, const void *k, const void *v,
                      const nr_attention *a, void *scratch);
    /* dq, dk, dv act =; training layout only: the keys are [0, start + Tq). */
    void (*attention_back)(void *dq, void *dk, void *dv, const void *d_o, const void *o, const void *q,
                           const void *k, const void *v, const void *lse, const nr_attention *a, void *scratch);
    size_t (*attention_scratch)(const nr_attention *a, bool backward); /* bytes */

    /* h (n,F) act = act(g) u */
    void (*glu)(void *h, const void *g, const void *u, nr_act act, size_t n, size_t F);
    /* dg, du (n,F) act = ; h (n,F) act = as above, or NULL. Each may lie where dh, g or u does, which are lost then. */
    void (*glu_back)(void *dg, void *du, void *h, const void *dh, const void *g, const void *u, nr_act act, size_t n, size_t F);

    /* Rows of logits (n,V) real against targets (n), -1 = ignored.
     * nll (n) double = lse - logit[target], 0 where ignored.
     * d_logits (n,V) act or NULL = (softmax - onehot) * scale, 0 where ignored; may begin where logits does, which are lost then. */
    void (*cross_entropy)(double *nll, void *d_logits, const void *logits, const int32_t *targets,
                          double scale, size_t n, size_t V);
    /* Of two sets of logits (n,V) real: kl (n) double = KL(p || q); same (n) = equal argmax. */
    void (*divergence)(double *kl, uint8_t *same, const void *p, const void *q, size_t n, size_t V);
    /* Of rows with use[r] != 0: kl (n) double = KL(softmax(p / T) || softmax(q / T)), d_q (n,V) act or NULL
     * += (softmax(q / T) - softmax(p / T)) * scale; p, q (n,V) real, T temperature. Others: kl = 0. */
    void (*distil)(double *kl, void *d_q, const void *p, const void *q, const uint8_t *use, double temperature,
                   double scale, size_t n, size_t V);

    /* z (n) real = xn w + bias; g (n) real = gate(z), 1 for none. xn (n,C) act, w (C) real or NULL: 0, bias real * or NULL */
    void (*gate)(void *g, void *z, const void *xn, const void *w, const void *bias, nr_gate kind, size_t n, size_t C);
    /* x (n,C) real += g a (a (n,C) act); abs_sum (n) double or NULL = sum over channels of |g a| (of |a|: on_a) */
    void (*gate_add)(void *x, double *abs_sum, const void *g, const void *a, bool on_a, size_t n, size_t C);
    /* da (n,C) act = g dy + the l1 term, may lie where a does; dz (n) real = gate'(z) (sum_c dy a [if lm_to_gate] + l1 term) + the ce term */
    void (*gate_back)(void *da, void *dz, const void *dy, const void *a, const void *g, const void *z,
                      const nr_gate_loss *loss, size_t n, size_t C);
    /* dxn (n,C) real += dz w, or NULL; dw (C) real += sum_n dz xn, or NULL; dbias real * += or NULL.
     * scratch: real (ceil(n / NR_ROW_BLOCK), C + 1) */
    void (*gate_back_input)(void *dxn, void *dw, void *dbias, const void *dz, const void *xn, const void *w,
                            size_t n, size_t C, void *scratch);

    /* ---- the begin of int8 products, see linear_int8.h. Called inside a task. ---- */

    /* u (n,C) = 128 + round(x 127 / max |x of the row|); scale (n) = max / 127; x (n,C) act */
    void (*int8_rows)(uint8_t *u, float *scale, const void *x, size_t n, size_t C);
    /* dst act = src real */
    void (*to_act)(void *dst, const void *src, size_t n);
    /* dst real = src act */
    void (*to_real)(void *dst, const void *src, size_t n);
    /* x act *= s */
    void (*scale)(void *x, double s, size_t n);
    /* dst real += s * src real */
    void (*add)(void *dst, const void *src, double s, size_t n);
    /* norm (n) double = sqrt(sum_c x^2) of real rows */
    void (*row_norm)(double *norm, const void *x, size_t n, size_t C);
    /* sum of squares of n reals, in fixed blocks */
    double (*sum_squares)(const void *x, size_t n);

    /* p -= lr (m^ / (sqrt(v^) + eps) + decay p), g first times g_scale; t counts from 1, where m and v begin, whatever they hold */
    void (*adamw)(void *p, const void *g, void *m, void *v, double g_scale, double lr, double beta1, double beta2,
                  double eps, double decay, size_t t, size_t n);

    /* ---- linear: see linear.h for the type ---- */

    /* An empty matrix of this shape. bias: y gets + bias (out). */
    nr_status (*linear_new)(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses, nr_error *err);
    void (*linear_free)(nr_linear *w);
    size_t (*linear_bytes)(const nr_ops *ops, size_t out, size_t in, unsigned uses); /* of the packings, for plans */
    /* Packs from real (out,in) row-major (trained weights; called after each update) */
    nr_status (*linear_pack)(nr_linear *w, const void *weight, const void *bias, nr_error *err);
    /* Packs from a mapped tensor, expanded piece by piece */
    nr_status (*linear_pack_tensor)(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err);
    /* Makes what calls with exactly n rows need, so that they allocate nothing. */
    nr_status (*linear_prepare)(nr_linear *w, size_t n, bool weight_gradient, nr_error *err);
    /* y (n,out) [+]= x W^T (+ bias); y real or act as slot says; x (n,in) act. n not prepared: prepares. */
    nr_status (*linear)(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err);
    /* dx (n,in) [+]= dy (n,out) W; dx real or act; dy act */
    nr_status (*linear_back_input)(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err);
    /* dw (out,in) real += dy (n,out)^T x (n,in); dbias (out) real += or NULL. Same bits on any number of threads. */
    nr_status (*linear_back_weight)(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err);
    /* The products of several matrices with the same x (n,in): bit for bit `linear` of each, for less. */
    nr_status (*linear_group)(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err);
    /* Where the weights lie that a product of one row goes through, in one run, and their bytes; 0: not told. */
    size_t (*linear_weights)(const nr_linear *w, const void **at);
};

/* Real number i of a buffer, and the other way: parameters in float or double. */
double nr_real_get(const nr_ops *ops, const void *buffer, size_t i);
void nr_real_set(const nr_ops *ops, void *buffer, size_t i, double value);

/* The table for a compute type on this machine; AUTO resolves to what it has.
 * NR_E_UNSUPPORTED names the missing instructions (bf16 where there are none). */
nr_status nr_ops_cpu(const nr_ops **out, nr_compute compute, nr_error *err);
const nr_ops *nr_ops_reference(bool as_double);
/* "avx512-bf16", "avx512", "avx2", "baseline": what nr_ops_cpu runs on here. */
const char *nr_cpu_name(void);
/* The table of a named instruction set, NULL when this machine lacks it; for
 * tests and comparisons. bf16 storage works on every set, but linear has bf16
 * products only where nr_ops_cpu grants bf16. */
const nr_ops *nr_ops_cpu_isa(const char *isa, nr_compute compute);
/* Matrix library and version, e.g. "oneDNN 2.6.3", or "own kernels". */
const char *nr_matrix_library(void);

#endif
