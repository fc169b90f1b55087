/* rate.h - what this machine can do: the bounds that other figures are held against. */
#ifndef NR_RATE_H
#define NR_RATE_H

#include "kernels/ops.h"

/* Operations (multiplications and additions) a second of the product
 * (rows, in) x (in, out) on a table: the best of repetitions within `seconds`.
 * 0 where it can't be tried. */
double nr_product_rate(const nr_ops *ops, size_t rows, size_t out, size_t in, double seconds);
/* Bytes a second, read and written together, of a copy far larger than the
 * caches by all threads: the best of repetitions. 0 where memory is short. */
double nr_copy_rate(double seconds);
/* Bytes a second that all threads read and add up: the best of repetitions, and in *mean (NULL: not wanted) that of all. */
double nr_read_rate(double seconds, double *mean);

#endif
