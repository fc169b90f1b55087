/*
 * extension.h - the interface between the walk over the layers and the
 * methods. A method is one nr_method: a table of hooks, each optional, in one
 * file under methods/ with one line in methods/table.c.
 *
 * The walk knows no method by name. It calls hooks with an nr_hook, which says
 * where it stands and hands out what the method declared.
 */
#ifndef NR_EXTENSION_H
#define NR_EXTENSION_H

#include "model/model.h"

typedef struct nr_method nr_method;

/* One trained tensor. Rows of the list are declared by the method, in order. */
typedef struct {
    char name[96];           /* as stored in extension.safetensors */
    size_t shape[2];         /* (rows, cols); a vector has rows = 1 and is stored 1-D, a (layers-free) scalar 1 x 1 */
    bool vector;
    bool decay;              /* weight decay applies */
    double init_variance;    /* normal(0, variance); 0: zeros */
    double init_uniform;     /* > 0: uniform in +- this instead */
    bool init_truncated;     /* the normal's draws beyond 2 standard deviations are drawn again */
    const nr_tensor *copy;   /* copied from this backbone tensor instead */
    size_t number, offset;   /* in the list; elements into values / grads */
    nr_linear *linear;       /* packed for products, or NULL (vectors) */
    bool as_linear;
    int bias;                /* number of the vector that the linear adds, -1: none */
} nr_param;

struct nr_extension {
    const nr_method *method;
    const nr_model *model;
    nr_settings settings;    /* group "method" is what is stored */
    bool on;
    nr_param *params;
    size_t param_count;
    size_t weights;          /* elements of all params */
    void *values, *grads;    /* real (weights); grads NULL unless training */
    bool *layer_on;          /* (L) extended backbone layers */
    size_t layer_count;      /* how many */
    size_t width;            /* M, R or k */
    nr_layer *own;           /* llama-pro: own layers */
    size_t own_count;
    bool replaces;           /* trains backbone weights: params that have the names of backbone tensors stand in their place */
    size_t lowest;           /* replaces: the first layer that gradients must reach; L: none */
    nr_layer *in_place;      /* (L) replaces: the layers, with what trains and what doesn't */
    nr_ends ends;            /* replaces: the same of what stands before and behind them */
    char backbone[65];       /* fingerprint it was trained on */
    json_t *record;          /* training record, or NULL */
    void *state;             /* the method's own; freed by method->close */
    struct nr_extension *below; /* it stands on this one, or NULL; not owned */
    double gate_threshold;   /* rows with |g| at most this leave out their adapter, in inference */
    nr_tensor *blocks;       /* (param_count) quantised: the matrices as Q8_0, in block_data */
    unsigned char *block_data;
    nr_linear_pool *pool;
};

/* Places of a block around the two halves of a layer, attention and FFN. Beside a half it reads the half's normed input and
 * adds to the residual; after it, it changes the half's output before that joins the residual. */
typedef enum { NR_BESIDE_ATTENTION, NR_BESIDE_FFN, NR_AFTER_ATTENTION, NR_AFTER_FFN } nr_place;

/* Where a hook stands. `saved` and `scratch` are the buffers that the method
 * asked for in `activations`: saved ones live from forward to backward of this
 * layer, where the backward hook may overwrite them, scratch ones only inside one hook. */
typedef struct {
    struct nr_extension *e;
    const nr_ops *ops;
    const nr_config *config;
    size_t depth, layer;     /* position in the walk; backbone layer */
    size_t n;                /* rows */
    const nr_batch *batch;
    bool train;
    void *const *saved;      /* by index of the method's own list */
    void *const *scratch;
    double *gate;            /* (n): where an observer wants this layer's gate, or NULL */
    nr_losses *losses;       /* local losses are added here; NULL: don't */
    const uint8_t *row_is_new; /* (n) the domain of each row */
    nr_place place;          /* of a block */
    const void *rope;        /* real, and pos (n): as ops->rotary takes them */
    const int32_t *pos;
    size_t context;          /* positions of the KV cache; 0: none */
} nr_hook;

/* Shape of a buffer of the method, per row or fixed; act or real. */
typedef struct {
    const char *name;
    bool saved;              /* else scratch */
    nr_slot slot;
    bool wide;               /* elements are doubles instead */
    size_t (*size)(const struct nr_extension *e, const nr_config *c, size_t n); /* elements */
    bool cached;             /* instead of scratch: kept at each depth from call to call; n is B times the KV cache's positions */
    size_t (*bytes)(const struct nr_extension *e, const nr_pass_options *opt); /* instead of size: that much scratch */
} nr_activation;

/* The setting init: the variance in which matrices that read the hidden state begin. */
enum { NR_INIT_LOW, NR_INIT_HE };

struct nr_method {
    const char *name;        /* as --method takes it */
    const char *summary;     /* one line */
    const char *math;        /* y = ... */
    const char *source;      /* paper */
    bool starts_as_backbone; /* a fresh extension changes no bit */
    bool gated;              /* rows may leave out what it adds, by gate_threshold */
    bool has_init;           /* reads the setting init */
    double learning_rate;    /* default, for short runs of some 1e5 to 1e6 tokens */
    bool anchored;           /* the trainer adds lambda / 2 sum F (theta - theta0)^2, F found on old text; params are copies */
    double lwf_alpha;        /* default weight of the distillation from the backbone, which any method may have */
    /* Settings that the method doesn't leave open get their value. */
    void (*settle)(nr_settings *s);
    /* Declares params with nr_extension_declare and sets width. */
    nr_status (*declare)(struct nr_extension *e, nr_error *err);
    /* Once memory and linears are there, and again once gradients are: whatever points at them. */
    nr_status (*bind)(struct nr_extension *e, nr_error *err);
    const nr_activation *activations;
    size_t activation_count;

    /* How deep the walk is, and what stands at a depth: a backbone layer
     * (return true, *layer = its number) or own copy number *layer (false). */
    size_t (*depth)(const struct nr_extension *e);
    bool (*layer_at)(const struct nr_extension *e, size_t depth, size_t *layer);

    /* Beside a matrix: y += ...; y real or act by slot. Called on extended layers only. */
    bool (*has_site)(const struct nr_extension *e, nr_site s);
    nr_status (*site)(nr_hook *h, nr_site s, void *y, nr_slot slot, const void *x, nr_error *err);
    /* dx real or act by slot += from dy act. */
    nr_status (*site_back)(nr_hook *h, nr_site s, void *dx, nr_slot slot, const void *dy, const void *x, nr_error *err);

    /* Which places have blocks; NULL: beside the FFN alone. */
    bool (*has_block)(const struct nr_extension *e, nr_place place);
    /* Beside a half: x (n, C) real += f(xn); xn (n, C) act is the half's own input. */
    nr_status (*block)(nr_hook *h, void *x, const void *xn, nr_error *err);
    /* dxn (n, C) real += , NULL where nothing wants it (the lowest trained layer's FFN); dy (n, C) real is the gradient at the sum. */
    nr_status (*block_back)(nr_hook *h, void *dxn, const void *dy, const void *xn, nr_error *err);
    /* After a half: y (n, C) real, its output, becomes f(y, xn). */
    nr_status (*after)(nr_hook *h, void *y, const void *xn, nr_error *err);
    /* dy: from the gradient at f to that at y; dxn += . */
    nr_status (*after_back)(nr_hook *h, void *dxn, void *dy, const void *xn, nr_error *err);

    /* Keys and values that stand before those of every row and that all its tokens see: how many, and where an extended
     * layer's are, each (P, K D) real, gradients NULL where there are none. The tokens' positions begin behind them. */
    size_t (*prefix)(const struct nr_extension *e);
    void (*prefix_of)(const nr_hook *h, const void **k, const void **v, void **dk, void **dv);
    void (*close)(struct nr_extension *e);

    /* stock: the extended model is one of the backbone's own architecture, whose layers and weights are those of the walk.
     * fold: where something stands beside a matrix, rows [row, row + n) of it, (n, in), += what that comes to. */
    bool stock;
    void (*fold)(const struct nr_extension *e, size_t layer, nr_site s, float *w, size_t row, size_t n);
};

/* methods/table.c */
extern const nr_method *const nr_methods[];
extern const size_t nr_method_count;
const nr_method *nr_method_find(const char *name);
/* The same, or an error that lists the names there are. */
nr_status nr_method_named(const nr_method **m, const char *name, nr_error *err);

/* ---- stack.c: several extensions at once ---- */

#define NR_STACK_MAX 16
/* The extensions that run with e, which is the last; 0 with NULL. */
size_t nr_extension_stack(struct nr_extension *e, struct nr_extension *list[NR_STACK_MAX]);
/* SHA-256 of the weights' file of an extension's folder. */
nr_status nr_extension_file_hash(char hex[65], const char *folder, nr_error *err);

/* ---- extension.c ---- */

/* Adds a param; its linear is made when rows > 1 and as_linear. */
nr_param *nr_extension_declare(struct nr_extension *e, size_t rows, size_t cols, bool vector, bool as_linear,
                               const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void *nr_param_value(const struct nr_extension *e, const nr_param *p);
void *nr_param_grad(const struct nr_extension *e, const nr_param *p);
/* The depth of the walk below which the parameter takes no part, so that its gradient is whole once the backward pass
 * has left it. Known by its name: one with "layers.<n>." in it is used in backbone layer n, with "blocks.<n>." in own copy n;
 * 0 otherwise. */
size_t nr_param_depth(const struct nr_extension *e, const nr_param *p);
/* Takes gradients (and the backward packings). */
nr_status nr_extension_train(struct nr_extension *e, nr_error *err);
/* Packs every linear again from values: after an update or a load. */
nr_status nr_extension_repack(struct nr_extension *e, nr_error *err);
/* Place of an extended layer among the extended ones: params stand in that order. */
size_t nr_extension_rank(const struct nr_extension *e, size_t layer);
/* Whether a parameter stands in the place of the backbone tensor of this name. */
bool nr_extension_replaces(const struct nr_extension *e, const char *name);
/* Extra weights that the budget allows: extra / 100 of all backbone weights. */
double nr_extension_budget(const struct nr_extension *e);
/* In which a matrix (out, C) begins: s / (C L), or 2 / C for NR_INIT_HE. */
double nr_extension_variance(const struct nr_extension *e, int init);
/* Writes config and weights; record may be NULL. Files appear atomically,
 * the weights first. */
nr_status nr_extension_write(const struct nr_extension *e, const char *folder, const json_t *record, nr_error *err);
/* The weights alone, as a safetensors file. */
nr_status nr_extension_write_weights(const nr_extension *e, const char *path, nr_error *err);
/* One of these settings, its values from a file of tensors with its parameters' names. */
nr_status nr_extension_from(nr_extension **out, const nr_model *m, const nr_settings *s, const char *weights, nr_error *err);
/* extension_peft.c: LoRA from PEFT's folder. It names no backbone to check. */
nr_status nr_extension_load_peft(nr_extension **out, const nr_model *m, const char *folder, nr_error *err);
/* Real number i of a buffer, and the other way: parameters in float or double. */
double nr_real_get(const nr_ops *ops, const void *buffer, size_t i);
void nr_real_set(const nr_ops *ops, void *buffer, size_t i, double value);

#endif
