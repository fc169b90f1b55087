/*
 * exchange.h - the extension's gradients, updated weights and optimizer state
 * between the ranks of a run; see exchange.c.
 */
#ifndef NR_EXCHANGE_H
#define NR_EXCHANGE_H

#include "base/base.h"
#include "base/cluster.h"
#include "model/extension.h"

/* Elements [begin, end) of the extension's values, whose gradients travel together. */
typedef struct {
    size_t begin, end;
    size_t depth; /* its gradients are whole when the backward pass has left this depth */
    size_t own;   /* elements of this rank's slices of the pieces before it */
} nr_piece;

typedef struct {
    nr_cluster *cluster;
    nr_extension *e;
    const nr_ops *ops, *wire; /* wire: converts to bf16; NULL: gradients travel as they are */
    nr_piece *pieces;         /* (count) in the order of the values */
    size_t *order;            /* (count) numbers of pieces, in the order in which they start: deepest first */
    size_t count, started;
    size_t owned;             /* elements of all slices of this rank */
    char *receive;            /* what the others send for the slices of this rank; on rank 0 room for all values */
    uint16_t *send;           /* (weights) the gradients as bf16, or NULL */
    float *sum, *wide;        /* (largest slice) with bf16: a sum, and what is added to it */
    nr_part *to, *from;       /* (size) */
    nr_error failed;          /* of a start during the backward pass */
    /* of the latest step */
    double seconds;           /* spent waiting */
    size_t bytes;             /* sent by this rank */
} nr_exchange;

/* bf16: gradients travel rounded to it. Values never do. */
nr_status nr_exchange_new(nr_exchange *x, nr_cluster *c, nr_extension *e, bool bf16, nr_error *err);
void nr_exchange_free(nr_exchange *x);
/* Bytes of its buffers on the rank that takes most, for plans. */
size_t nr_exchange_bytes(size_t weights, size_t real_size, bool bf16, size_t ranks);
/* Elements of the optimizer's state that rank 0 keeps; no other rank has more. */
size_t nr_exchange_share(size_t weights, size_t ranks);

/* The gradients of a step, in this order: begin, depth for every depth that the backward pass of the last micro-batch
 * leaves, finish. After it the gradients of this rank's slices are sums over all ranks. */
void nr_exchange_begin(nr_exchange *x);
void nr_exchange_depth(void *exchange, size_t depth);
nr_status nr_exchange_finish(nr_exchange *x, nr_error *err);

/* Calls visit for every part of a parameter in this rank's slices, in order: count elements from number `at` of the
 * values on, which stand from number `own` on in arrays of `owned` elements. */
typedef void nr_exchange_visit(void *context, const nr_param *p, size_t at, size_t own, size_t count);
void nr_exchange_each(const nr_exchange *x, nr_exchange_visit *visit, void *context);
/* The updated values of every rank's slices, to all. */
nr_status nr_exchange_values(nr_exchange *x, nr_error *err);

/* Sends x->to[r] and gets x->from[r], which the caller has filled in, and waits. */
nr_status nr_exchange_parts(nr_exchange *x, nr_error *err);

/* Between the slices of an optimizer array (owned) and the whole array (weights), which stands on rank 0: where it is
 * alone, in the array itself. which: 0 or 1, of two arrays that may be whole at once. The gradients are lost. */
void *nr_exchange_whole(const nr_exchange *x, void *slices, int which);
nr_status nr_exchange_collect(nr_exchange *x, void *slices, int which, nr_error *err);
nr_status nr_exchange_spread(nr_exchange *x, void *slices, int which, nr_error *err);

#endif
