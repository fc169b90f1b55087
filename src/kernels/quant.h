/*
 * quant.h - integer products of rows with a matrix of quantised weights.
 *
 * A row of x is rounded to int8 in blocks of 32, each with its own float scale:
 * x = d q. All types of weights are seen as groups of 32 (Q6_K: of 16) unsigned
 * or signed integers w with a scale a and an offset b:
 *
 *   sum_i (a w_i + b) d q_i = a d (sum w_i q_i) + b d (sum q_i)
 *
 * Sums of w_i q_i are exact, and with them offsets that are integers times a;
 * the groups are added in float, in order. The bits of a result depend on the
 * instruction set, not on the number of rows.
 *
 * The file's blocks hold a row after the other. For products they lie in tiles
 * instead: as many rows side by side as a vector has lanes, in the same bits:
 *
 *   Q4_0, Q4_1, Q8_0  for each 32 columns: the rows' scales (half), Q4_1: minima
 *                     (half), then the integers
 *   Q4_K, Q5_K, Q6_K  for each 256 columns: scales (half), but for Q6_K minima
 *                     (half); for each 32 of them the rows' scales and minima,
 *                     Q6_K: both halves' scales (a byte each), the integers,
 *                     and what they have beyond four bits
 *
 * Integers are in vectors of four columns a row: for nibbles vector j has columns
 * 4 j + 0..3 low and 16 + 4 j + 0..3 high. Bits beyond four: bit j, or bits 2 (j mod 4),
 * of a byte belong to the vector of columns 4 j + 0..3.
 */
#ifndef NR_QUANT_H
#define NR_QUANT_H

#include "tensor/tensor.h"

enum { NR_INT8_BLOCK = 32 };

/* n rows of x. Columns are filled up with zeros to whole blocks. */
typedef struct {
    size_t blocks;    /* of a row */
    int8_t *q;        /* (n, blocks, 32), 64-byte aligned */
    float *d;         /* (n, blocks) max |x| / 127; NaN where x has a number that isn't finite */
    float *sum;       /* (n, blocks) d times the sum of q */
    int32_t *total;   /* (n, blocks, 2) the sum of q of each 16 */
} nr_int8_rows;

/* Bytes of one row of x, and rows laid out in memory of that many a row, 64-byte aligned. */
size_t nr_int8_row_bytes(size_t cols);
nr_int8_rows nr_int8_rows_in(void *memory, size_t n, size_t cols);

typedef struct {
    const char *name;
    size_t lanes; /* rows of a tile; NR_QUANT_LANES at most */
    /* Rounds x (n, cols) of type f32 or bf16. */
    void (*round)(const nr_int8_rows *to, const void *x, nr_dtype act, size_t n, size_t cols);
    /* y (n, count lanes) = the products of n rows of x with `count` tiles, one after another. */
    void (*dot)(float *y, const unsigned char *tiles, nr_dtype type, size_t count, const nr_int8_rows *x, size_t n);
    /* y (count) of type f32 or bf16 [+]= v */
    void (*put)(void *y, nr_dtype to, bool accumulate, const float *v, size_t count);
} nr_quant_kernels;

enum { NR_QUANT_LANES = 16 };

/* Whether there are such products for a type of weights. */
bool nr_quant_has(nr_dtype type);
/* The fastest that run here, and those of a named instruction set, NULL where this machine lacks it. */
const nr_quant_kernels *nr_quant_best(void);
const nr_quant_kernels *nr_quant_isa(const char *isa);

/* Bytes of a tile of `lanes` rows. */
size_t nr_quant_tile_bytes(nr_dtype type, size_t lanes, size_t cols);
/* to: a tile of `lanes` rows of blocks; a row that is NULL counts as zeros. */
void nr_quant_tile(unsigned char *to, const unsigned char *const *rows, nr_dtype type, size_t lanes, size_t cols);

#endif
