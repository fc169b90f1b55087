/*
 * dnnl_tiles.h - what the matrices made for oneDNN (C API, 2.6) share: packings,
 * the primitives that work on tiles of them, and how a product is cut.
 *
 * oneDNN may divide a product among threads along the summed dimension or at
 * places where its kernels sum in another order, so its bits can depend on the
 * number of threads. Here every primitive is made for one thread; a product is
 * cut into tiles by its shape alone and the tiles are spread over threads by
 * nr_parallel. Equal bits on any number of threads follow from that, on every
 * instruction set.
 *
 * Weights are stored in the layout that oneDNN picks for many rows; it blocks
 * columns outermost, so that any run of column blocks is a packed matrix itself.
 *
 * Primitives hold no weights. oneDNN keeps the code of equal ones once, so that
 * the hundredth matrix of a shape costs microseconds (measured: 3 us each).
 */
#ifndef NR_DNNL_TILES_H
#define NR_DNNL_TILES_H

#include <dnnl.h>
#include <stdatomic.h>

#include "kernels/linear.h"

#define NR_PACK_PIECE 192 /* rows of the matrix that the library packs at once; a multiple of every block */

typedef enum {
    NR_PRIMITIVE_FORWARD,
    NR_PRIMITIVE_BACK_INPUT,
    NR_PRIMITIVE_BACK_WEIGHT,
    NR_PRIMITIVE_PACK_FORWARD,
    NR_PRIMITIVE_PACK_BACK_INPUT
} nr_primitive_kind;

/* One primitive: a product C (rows, cols) = A (rows, depth) B (depth, cols), or
 * a reorder of one piece of the matrix. Immutable once it is in the list. */
typedef struct nr_primitive {
    nr_primitive_kind kind;
    size_t rows, cols, depth;
    nr_dtype to; /* element type of C */
    bool accumulate;
    dnnl_memory_desc_t a, b, c, bias;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    const dnnl_memory_desc_t *scratch;
    size_t scratch_size;
    struct nr_primitive *next;
} nr_primitive;

/* The matrix as B (depth, cols) of one product, in act or int8. */
typedef struct {
    dnnl_memory_desc_t desc;
    char *data;
    size_t depth, cols;
    size_t depth_block, cols_block; /* elements of the inner blocks, 1: plain */
} nr_packing;

typedef struct {
    nr_linear head;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    nr_packing forward, back_input;
    float *bias; /* (out) or NULL */
    _Atomic(nr_primitive *) plans;
} nr_dnnl_matrix;

/* `count` parts of `size`, the last one shorter. */
typedef struct {
    size_t count, size, last;
} nr_cut;

nr_cut nr_cut_evenly(size_t total, size_t most, size_t unit);
size_t nr_cut_part(const nr_cut *c, size_t i);
size_t nr_round_up(size_t n, size_t unit);

/* The error for a status of the library; n rows. */
nr_status nr_dnnl_refuse(const nr_dnnl_matrix *m, dnnl_status_t s, const char *what, size_t n, nr_error *err);
/* The processor's engine. */
dnnl_status_t nr_dnnl_engine(dnnl_engine_t *engine);
/* Engine and stream of a matrix whose head is filled in, and their end with all it holds but itself. */
dnnl_status_t nr_dnnl_start(nr_dnnl_matrix *m);
void nr_dnnl_end(nr_dnnl_matrix *m);

/* The layout of a packing, without memory; type f32, bf16 or s8. */
dnnl_status_t nr_packing_choose(nr_packing *p, dnnl_engine_t engine, size_t depth, size_t cols, dnnl_data_type_t type);
/* The same with memory. */
nr_status nr_packing_make(nr_dnnl_matrix *m, nr_packing *p, size_t depth, size_t cols, dnnl_data_type_t type, nr_error *err);
/* Whether it is made of panels (panel.h) that this processor multiplies; the bytes of one. */
bool nr_packing_has_panels(const nr_packing *p);
size_t nr_packing_panel_bytes(const nr_packing *p);
/* Where element (depth, col) lies: both at the begin of a block. */
char *nr_packing_at(const nr_packing *p, size_t depth, size_t col);

/* The plan like `want`, made when there is none. Safe on several threads: the
 * list only grows, at its head; a plan made twice is only waste. */
dnnl_status_t nr_primitive_get(nr_primitive **out, nr_dnnl_matrix *m, const nr_primitive *want);
/* Runs p in the calling thread alone. */
dnnl_status_t nr_primitive_run(const nr_primitive *p, const nr_dnnl_matrix *m, const void *a, const void *b, void *c, const float *bias);
/* How the rows of a matrix are packed, piece by piece: the reorders for whole pieces and for the last one. */
typedef struct {
    nr_cut pieces;
    nr_primitive *forward[2], *back_input[2]; /* NULL where there is no such packing */
} nr_pack_plan;
dnnl_status_t nr_pack_plan_make(nr_pack_plan *plan, nr_dnnl_matrix *m);
/* bf16 or f32. */
dnnl_data_type_t nr_dnnl_type(nr_dtype t);

#endif
