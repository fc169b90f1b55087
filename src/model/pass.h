/*
 * pass.h - the inside of nr_pass, shared by layout.c, forward.c, backward.c
 * and loss.c.
 *
 * Memory. Every buffer stands once in one of the lists below, with its type,
 * its size and whether it is kept until the backward pass. Saved buffers exist
 * once a depth; with --recompute layer only x_in does, and the rest of the
 * saved list shrinks to one slot that backward fills again layer by layer.
 * What only the FFN, only attention or only the vocabulary's end needs shares
 * one place: none of the three reads what another left there.
 */
#ifndef NR_PASS_H
#define NR_PASS_H

#include "model/extension.h"

/* X(name, slot, elements): kept from forward to backward, per depth. n = B T rows. */
#define NR_SAVED_LIST(X)                                             \
    X(x_mid, NR_ACT, p->opt.train ? n * c->C : 0) /* the residual after attention */ \
    X(rstd1, NR_REAL, n)                                             \
    X(rstd2, NR_REAL, n)                                             \
    X(q, NR_ACT, n * c->H * c->D)       /* rotated */                 \
    X(k, NR_ACT, n * c->K * c->D)       /* rotated */                 \
    X(v, NR_ACT, n * c->K * c->D)                                    \
    X(attended, NR_ACT, n * c->H * c->D)                             \
    X(lse, NR_REAL, n * c->H)                                        \
    X(gate, NR_ACT, n * c->F)                                        \
    X(up, NR_ACT, n * c->F)

/* X(name, slot, elements, in inference too) */
#define NR_SCRATCH_LIST(X)                                                   \
    X(xn, NR_ACT, n * c->C, true)           /* normed input */                \
    X(final_rstd, NR_REAL, n, true)                                          \
    X(final_xn, NR_ACT, n * c->C, true)     /* input of the head */           \
    X(block_out, NR_REAL, n * c->C, true)   /* observed outputs; d xn in backward */ \
    X(dx, NR_REAL, n * c->C, false)         /* gradient of the residual */    \
    X(dy, NR_ACT, n * c->C, false)          /* the same as matrix input */    \
    X(norm_blocks, NR_REAL, (n / NR_ROW_BLOCK + 1) * c->C, false)            \
    X(half, NR_REAL, p->after ? n * c->C : 0, true) /* output of a half with blocks after it; its gradient */ \
    X(taught, NR_ACT, p->opt.distil.weight > 0 ? n * c->C : 0, true) /* distillation: the backbone's final_xn */

/* The same, in one place: of the FFN, */
#define NR_FFN_LIST(X)                                                       \
    X(h, NR_ACT, n * c->F, true)            /* act(gate) up */                \
    X(dh, NR_ACT, n * c->F, false)
/* of attention, beside its scratch, */
#define NR_ATTENTION_LIST(X)                                                 \
    X(dq, NR_ACT, n * c->H * c->D, false)                                    \
    X(dk, NR_ACT, n * c->K * c->D, false)                                    \
    X(dv, NR_ACT, n * c->K * c->D, false)                                    \
    X(dattended, NR_ACT, n * c->H * c->D, false)                             \
    X(keys, NR_ACT, p->joined * c->K * c->D, true) /* prefix and tokens, without a cache */ \
    X(values, NR_ACT, p->joined * c->K * c->D, true)                         \
    X(dkeys, NR_ACT, p->joined * c->K * c->D, false)                         \
    X(dvalues, NR_ACT, p->joined * c->K * c->D, false)                       \
    X(prefix, NR_REAL, p->prefix * c->K * c->D, false) /* a row's part of its gradient */
/* and of the head. */
#define NR_HEAD_LIST(X)                                                      \
    X(logits, NR_REAL, p->head_rows * c->V, true)                            \
    X(d_logits, NR_ACT, p->opt.distil.weight > 0 ? p->head_rows * c->V : 0, false) /* else in the logits' place */ \
    X(taught_logits, NR_REAL, p->opt.distil.weight > 0 ? p->head_rows * c->V : 0, true)

typedef struct {
    void *x_in; /* (n, C): the residual as it enters, act; real where the layer runs again from it; NULL: not kept */
#define NR_X(name, slot, size) void *name;
    NR_SAVED_LIST(NR_X)
#undef NR_X
    nr_read_ahead heads; /* of it, what attention's backward pass reads */
    void ***ext;         /* [extension][activation] */
} nr_saved;

struct nr_pass {
    const nr_model *model;
    const nr_config *config;
    const nr_ops *ops;
    nr_pass_options opt;
    struct nr_extension **ext;
    size_t ext_count;
    const struct nr_extension *walker; /* whose depth/layer_at counts, or NULL */
    const struct nr_extension *replacer; /* whose weights stand in the place of the backbone's, or NULL */
    bool bare;                         /* as if every extension were off */
    const struct nr_extension *prefixer; /* whose prefix counts, or NULL */
    size_t prefix;                     /* keys and values before every row, where the prefixer extends */
    size_t joined;                     /* rows of keys with their prefixes when there is no cache, else 0 */
    bool after;                        /* some extension has blocks after a half */
    size_t depth;                      /* of the walk */
    size_t lowest;                     /* first depth with something trained; depth when nothing is */
    nr_arena arena;
    nr_saved *saved;                   /* (depth); depths may share buffers */
    void *x;                           /* real (n, C): the residual; in a backward pass that runs layers again act: the input of one */
    struct {
#define NR_X(name, slot, size, always) void *name;
        NR_SCRATCH_LIST(NR_X)
        NR_FFN_LIST(NR_X)
        NR_ATTENTION_LIST(NR_X)
        NR_HEAD_LIST(NR_X)
#undef NR_X
        void ***ext;                   /* [extension][activation] */
        void *attention;
    } s;
    void **cache_k, **cache_v;         /* (depth) each act (B, K, prefix + context, D) */
    void *rope;                        /* real (prefix + positions, D) */
    size_t positions;
    int32_t *pos;                      /* (n) */
    uint8_t *row_is_new;               /* (n) */
    double *nll;                       /* (n) */
    uint8_t *distilled;                /* (n) rows that are distilled; NULL without distillation */
    double *kl;                        /* (n) */
    bool teaches;                      /* the next loss has it */
    size_t head_rows;
    size_t prepared;                   /* rows that the linears are prepared for */
    size_t rows;                       /* of the latest forward */
    nr_read_ahead *walk;               /* what a token reads: (depth, NR_SITES), and the head; sites read together stand at the first; NULL: not told */
    nr_observation *observation;
    void (*depth_done)(void *context, size_t depth);
    void *depth_context;
    nr_losses local;                   /* local losses of the latest forward */
    size_t plan[4];                    /* bytes: saved, scratch, the shared place, cache */
};

/* What stands at a depth: the layer, and its backbone number or -1 for an own copy. */
const nr_layer *nr_pass_layer(const nr_pass *p, size_t depth, size_t *number, bool *own);
/* What stands before and behind the layers: the backbone's, or in its place an extension's. */
nr_ends nr_pass_ends(const nr_pass *p);
/* A hook's view at this depth. */
nr_hook nr_pass_hook(nr_pass *p, size_t ext, size_t depth, size_t number, const nr_batch *b);
/* Whether extension i has hooks at backbone layer `number`. */
bool nr_pass_extends(const nr_pass *p, size_t ext, size_t number, bool own);
/* Whether it has a block there. */
bool nr_pass_has_block(const nr_pass *p, size_t ext, size_t number, bool own, nr_place place);
bool nr_pass_any_block(const nr_pass *p, size_t number, bool own, nr_place place);
/* Prefix of the tokens' positions now: 0 while the prefixer is off. */
size_t nr_pass_shift(const nr_pass *p);
/* Attention of a batch over its own keys, as training lays them out. */
nr_attention nr_pass_attention(const nr_pass *p, const nr_batch *b);
/* The same over the keys and values with the layer's prefix before them, if it has one: *k and *v change. */
void nr_pass_join_prefix(nr_pass *p, size_t depth, size_t number, bool own, const nr_batch *b, nr_attention *a, const void **k,
                         const void **v);
bool nr_pass_has_prefix(const nr_pass *p, size_t number, bool own);
/* Which extension is the prefixer; only with one. */
size_t nr_pass_prefixer(const nr_pass *p);
void *nr_at(const nr_pass *p, void *base, nr_slot slot, size_t element);
/* Runs depth d on the residual; again: a second run in backward, from what was kept of it. */
nr_status nr_pass_run_layer(nr_pass *p, size_t d, const nr_batch *b, bool again, nr_error *err);
nr_status nr_pass_backward(nr_pass *p, const nr_batch *b, nr_error *err);

#endif
