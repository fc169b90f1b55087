/*
 * model.h - the backbone with its packed matrices, and a pass through it:
 * forward, loss, backward, with any extensions in place.
 *
 * nr_model is immutable. nr_pass is a mutable workspace over it: it plans its
 * memory from shapes, takes it once, and is then run any number of times.
 */
#ifndef NR_MODEL_H
#define NR_MODEL_H

#include <pthread.h>

#include "kernels/linear_quant.h"
#include "kernels/ops.h"

/* The seven matrices of a layer. */
typedef enum { NR_Q, NR_K, NR_V, NR_O, NR_GATE, NR_UP, NR_DOWN, NR_SITES } nr_site;
/* "q" ... "down" and "self_attn.q_proj" ... "mlp.down_proj". */
extern const char *const nr_site_names[NR_SITES];
extern const char *const nr_site_tensors[NR_SITES];
/* (out, in) of a site. */
void nr_site_shape(const nr_config *c, nr_site s, size_t *out, size_t *in);
bool nr_site_bias(const nr_config *c, nr_site s);

/* One layer as the walk sees it: a backbone layer or an extension's own copy.
 * The d_ pointers are NULL where frozen. */
typedef struct {
    nr_linear *site[NR_SITES];
    const void *norm1, *norm2;      /* (C) real */
    void *d_site[NR_SITES];         /* (out, in) real or NULL */
    void *d_bias[NR_SITES];         /* (out) real or NULL */
    void *d_norm1, *d_norm2;        /* (C) real or NULL */
} nr_layer;

/* The file's hash, from the first time it was asked for: any thread may be the first. */
typedef struct {
    pthread_mutex_t lock;
    char hex[65];                   /* "": not yet */
} nr_fingerprint;

/* What stands before and behind the layers. */
typedef struct {
    const nr_tensor *embedding;     /* (V, C) */
    const void *final_norm;         /* (C) real */
    nr_linear *head;                /* (V, C) */
    void *d_embedding, *d_final_norm, *d_head; /* real or NULL; a tied head's is the embedding's */
} nr_ends;

struct nr_model {
    nr_model_file *file;
    const nr_config *config;
    const nr_ops *ops;
    nr_use use;
    nr_layer *layers;               /* (L) */
    void *norms;                    /* real (2 L + 1, C): norm1, norm2 of each layer, then the final one */
    const void *final_norm;         /* (C) real */
    const nr_tensor *embedding;     /* (V, C) in the file */
    nr_linear *head;                /* (V, C) */
    bool quantised;                 /* what can stay in its blocks does */
    nr_products products;           /* with the layers' matrices */
    nr_linear_pool *pool;           /* the shared packings of those matrices */
    nr_fingerprint *fingerprint;
};

/* As nr_model_open with a chosen backend (tests use the references). */
nr_status nr_model_open_on(nr_model **out, const char *path, const nr_model_options *opt,
                           const nr_ops *ops, nr_error *err);
size_t nr_model_weight_count(const nr_config *c);
struct nr_extension;
/* Memory of the backbone's matrices and norms for a use: packings, and where matrices stay
 * quantised the file's blocks and one packing a shape. m may be opened for its shapes only.
 * yields: the matrices that this extension replaces are yielded to it, which leaves the file's pages and one packing a
 * shape; NULL: none. */
size_t nr_model_matrix_bytes(const nr_model *m, nr_use use, bool quantised, nr_products products,
                             const struct nr_extension *yields);
/* Gives up the packings of the matrices that e replaces: products with them, which only the backbone alone still makes,
 * expand a matrix each time, with the same bits. No pass over m may be open. */
nr_status nr_model_yield(nr_model *m, const struct nr_extension *e, nr_error *err);
/* table real (positions, D): cos (D/2), sin (D/2), computed in float steps as transformers does. */
void nr_rope_table(void *table, const nr_ops *ops, const nr_config *c, size_t positions);

/* ---- a pass --------------------------------------------------------------- */

typedef struct nr_pass nr_pass;

/* Whose rows are held near the backbone's distribution. */
typedef enum { NR_DISTIL_NEW, NR_DISTIL_OLD, NR_DISTIL_ALL } nr_distil_rows;

typedef struct {
    size_t B, T;             /* largest batch and length of one call */
    bool train;              /* keep what backward needs */
    bool recompute;          /* keep only each layer's input and run the layer again in backward */
    size_t cache_context;    /* > 0: a KV cache of this many positions for B sequences */
    size_t head_rows;        /* rows of a chunk of logits; 0: chosen */
    struct {
        double weight;       /* alpha; 0: none, and no memory for it */
        double temperature;
        nr_distil_rows rows;
    } distil;                /* see nr_pass_teach */
} nr_pass_options;

/* The plan: what nr_pass_new would take. */
typedef struct {
    size_t saved, scratch, shared, cache, total; /* bytes; shared: logits, and what lies in their place before and after */
} nr_pass_plan;

/* Rows of a call that follow one another. They are written to positions [start, start + length) of the cache and see
 * it from its first position to their own, so that what stretches share is computed once: the cache is a path through
 * a tree of texts, and stretches in the order of a walk over the tree find their ancestors before `start`. */
typedef struct {
    size_t start, length;
} nr_stretch;

typedef struct {
    size_t B, T;
    const int32_t *ids;      /* (B, T) */
    const int32_t *targets;  /* (B, T), -1 ignored; NULL: no loss */
    const uint8_t *is_new;   /* (B) or NULL: all new */
    const int32_t *first;    /* (B, T) first visible key, or NULL */
    size_t start;            /* position of the first token in the KV cache */
    const nr_stretch *stretches; /* B = 1 and a cache only: where each stretch of the T rows stands; rows behind the
                                    last one are padding. NULL: all from `start` on */
    size_t stretch_count;
    /* Scales of one optimizer step: accumulation must not change the losses. */
    size_t step_tokens;      /* targets that count in the whole step */
    size_t step_positions;   /* tokens of all rows, counted or not; 0: the same as step_tokens */
    size_t step_old_tokens;  /* of these, old rows' (all T of a row) */
} nr_batch;

/* Sums over the rows of one call; the trainer adds calls up and divides. */
typedef struct {
    double nll;              /* nats, over targets */
    double nll_domain[2];    /* [0] old, [1] new */
    size_t targets[2];       /* by domain */
    double local[3];         /* [0] l1, [1] cross-entropy, [2] balance of experts, each already
                                weighted by its share of the step but not by its own weight */
    double distil;           /* KL to the backbone at the temperature: its share of the step's mean, unweighted */
    double local_weighted;   /* as it enters the loss, distillation included */
} nr_losses;

/* Per layer figures of one call, filled while an observer is set. (L, n) row-major. */
typedef struct {
    size_t n;                /* rows of the call */
    double *ffn_norm;        /* |FFN(x)| */
    double *ext_norm;        /* |g a|: what all extensions' block hooks add */
    double *gate;            /* g of the (last) gated extension; NaN without */
} nr_observation;

nr_status nr_pass_plan_for(nr_pass_plan *plan, const nr_model *m, struct nr_extension *const *ext, size_t ext_count,
                           const nr_pass_options *opt);
nr_status nr_pass_new(nr_pass **out, const nr_model *m, struct nr_extension *const *ext, size_t ext_count,
                      const nr_pass_options *opt, nr_error *err);
void nr_pass_free(nr_pass *p);

/* Runs the layers. Final normed hidden rows stay in the pass. */
nr_status nr_pass_forward(nr_pass *p, const nr_batch *b, nr_error *err);
/* Runs the backbone alone over the batch, extensions off, and keeps its hidden rows: the next nr_pass_loss, after
 * nr_pass_forward of the same batch, adds alpha T^2 times the mean of KL(softmax(z0 / T) || softmax(z / T)) over the
 * tokens of the step's rows that opt.distil names. Does nothing where the batch has none. */
nr_status nr_pass_teach(nr_pass *p, const nr_batch *b, nr_error *err);
/* Logits real (count, V) of hidden rows [row, row + count), count <= head_rows;
 * owned by the pass, good until the next call. */
nr_status nr_pass_logits(nr_pass *p, const void **logits, size_t row, size_t count, nr_error *err);
size_t nr_pass_head_rows(const nr_pass *p);
/* The same beside the logits of `count` other hidden rows, act (count, C); count <= head_rows / 2. */
nr_status nr_pass_logits_beside(nr_pass *p, const void **logits, const void **other, const void *hidden, size_t row,
                                size_t count, nr_error *err);
/* The hidden rows themselves, act (n, C): inputs of model->head. Owned by the pass. */
const void *nr_pass_hidden(const nr_pass *p);
/* After forward: losses in chunks of the vocabulary's rows; nll (B T) double
 * per token or NULL. backward: also gradients, += into the extensions'. */
nr_status nr_pass_loss(nr_pass *p, const nr_batch *b, bool backward, nr_losses *sum, double *nll, nr_error *err);
/* Calls done(context, depth) in the following backward passes whenever the walk has left a depth: the gradients of
 * what is trained there are whole then. NULL ends it. */
void nr_pass_on_depth(nr_pass *p, void (*done)(void *context, size_t depth), void *context);
/* Observation of the following forwards; NULL ends it. Buffers hold (L, B T). */
void nr_pass_observe(nr_pass *p, nr_observation *o);

#endif
