/*
 * linear_quant.h - matrices that stay in their file's quantised blocks.
 *
 *   to run    integer products with the same bits, laid in tiles: the rows of x
 *             are rounded to int8 (quant.h)
 *   training  the matrix is expanded into an ordinary packed one, which all
 *             matrices of its shape share, unless it is the one that lies there
 *             already
 *
 * A matrix packed for the backward pass too never takes the first way, so that
 * training has the bits of a packed backbone.
 */
#ifndef NR_LINEAR_QUANT_H
#define NR_LINEAR_QUANT_H

#include "kernels/linear.h"
#include "kernels/quant.h"

/* The shared packings of a model or an extension, one a shape and use, made when
 * they are first needed. Outlives its matrices; products by way of them wait for
 * one another. */
typedef struct nr_linear_pool nr_linear_pool;
nr_status nr_linear_pool_new(nr_linear_pool **out, const nr_ops *ops, nr_error *err);
void nr_linear_pool_free(nr_linear_pool *pool); /* NULL: nothing */

/* Whether a tensor can stay in its blocks on this table. */
bool nr_linear_quant_can(const nr_ops *ops, const nr_tensor *weight);
/* The matrix of a tensor, which must stay where it is. bias may be NULL; it is copied. */
nr_status nr_linear_quant_new(nr_linear **w, nr_linear_pool *pool, size_t out, size_t in, const nr_tensor *weight,
                              const nr_tensor *bias, unsigned uses, nr_error *err);
/* As nr_linear_quant_new with chosen kernels, for tests and comparisons. NULL: the way of training,
 * and the tensor may be of any type. */
nr_status nr_linear_quant_new_on(nr_linear **w, nr_linear_pool *pool, const nr_quant_kernels *kernels, size_t out,
                                 size_t in, const nr_tensor *weight, const nr_tensor *bias, unsigned uses, nr_error *err);

#endif
