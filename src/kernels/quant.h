/*
 * quant.h - integer products of few rows with a matrix that stays in its
 * quantised blocks.
 *
 * A row of x is rounded to int8 in blocks of 32, each with its own float scale:
 * x = d q. All types of weights are seen as groups of 32 (Q6_K: of 16) unsigned
 * or signed integers w with a scale a and an offset b:
 *
 *   sum_i (a w_i + b) d q_i = a d (sum w_i q_i) + b d (sum q_i)
 *
 * Sums of w_i q_i are exact; the groups are added in float. The bits of a
 * result depend on the instruction set, not on the number of rows.
 */
#ifndef NR_QUANT_H
#define NR_QUANT_H

#include "tensor/tensor.h"

enum { NR_INT8_BLOCK = 32 };

/* n rows of x. Columns are filled up with zeros to whole blocks. */
typedef struct {
    size_t blocks;    /* of a row */
    int8_t *q;        /* (n, blocks, 32), 64-byte aligned */
    float *d;         /* (n, blocks) max |x| / 127; NaN or infinity where x has one */
    float *sum;       /* (n, blocks) d times the sum of q */
    float *half;      /* (n, blocks, 2) the same of each 16 */
    float *d_sum;     /* (n, blocks, 2) d and sum side by side */
} nr_int8_rows;

/* Bytes of one row of x, and rows laid out in memory of that many a row, 64-byte aligned. */
size_t nr_int8_row_bytes(size_t cols);
nr_int8_rows nr_int8_rows_in(void *memory, size_t n, size_t cols);

typedef struct {
    const char *name;
    /* Rounds x (n, cols) of type f32 or bf16. */
    void (*round)(const nr_int8_rows *to, const void *x, nr_dtype act, size_t n, size_t cols);
    /* y (n, rows) = the products of n rows of x with `rows` rows of blocks that lie one after another. */
    void (*dot)(float *y, const unsigned char *w, nr_dtype type, size_t rows, const nr_int8_rows *x, size_t n);
} nr_quant_kernels;

/* Whether there are such products for a type of weights. */
bool nr_quant_has(nr_dtype type);
/* The fastest that run here, and those of a named instruction set, NULL where this machine lacks it. */
const nr_quant_kernels *nr_quant_best(void);
const nr_quant_kernels *nr_quant_isa(const char *isa);

#endif
