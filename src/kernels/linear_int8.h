/*
 * linear_int8.h - frozen matrices as int8, for training: products of 8-bit
 * integers run at twice the rate of bf16 where the processor has VNNI.
 *
 *   W     int8, one scale for each output of the product (row of W forward,
 *         column of W backward): q = round(w 127 / max |w|)
 *   x     each row rounded to uint8 around 128 with a scale of its own
 *   y = s_x s_w (sum of (u - 128) q), added up in int32 without rounding
 */
#ifndef NR_LINEAR_INT8_H
#define NR_LINEAR_INT8_H

#include "kernels/linear.h"

/* NR_OK where this machine and library multiply int8 on this table; else what is missing. */
nr_status nr_linear_int8_can(const nr_ops *ops, nr_error *err);
/* The matrix (out, in) of a tensor; bias may be NULL. back_int8: the backward
 * product in int8 too, else in act. */
nr_status nr_linear_int8_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, const nr_tensor *weight, const nr_tensor *bias, unsigned uses,
                             bool back_int8, nr_error *err);
/* Bytes of its packings, for plans. */
size_t nr_linear_int8_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses, bool back_int8);

#endif
