/*
 * tensor.h - element types, quantised blocks, views of mapped tensors.
 */
#ifndef NR_TENSOR_H
#define NR_TENSOR_H

#include "base/base.h"

/* X(enum, name, GGUF type id or -1, elements of a block, bytes of a block, safetensors name or NULL) */
#define NR_DTYPE_LIST(X)                 \
    X(NR_F32, "F32", 0, 1, 4, "F32")     \
    X(NR_F16, "F16", 1, 1, 2, "F16")     \
    X(NR_BF16, "BF16", 30, 1, 2, "BF16") \
    X(NR_F64, "F64", 28, 1, 8, "F64")    \
    X(NR_Q4_0, "Q4_0", 2, 32, 18, NULL)  \
    X(NR_Q4_1, "Q4_1", 3, 32, 20, NULL)  \
    X(NR_Q5_0, "Q5_0", 6, 32, 22, NULL)  \
    X(NR_Q5_1, "Q5_1", 7, 32, 24, NULL)  \
    X(NR_Q8_0, "Q8_0", 8, 32, 34, NULL)  \
    X(NR_Q2_K, "Q2_K", 10, 256, 84, NULL) \
    X(NR_Q3_K, "Q3_K", 11, 256, 110, NULL) \
    X(NR_Q4_K, "Q4_K", 12, 256, 144, NULL) \
    X(NR_Q5_K, "Q5_K", 13, 256, 176, NULL) \
    X(NR_Q6_K, "Q6_K", 14, 256, 210, NULL)

typedef enum {
#define NR_X(e, name, gguf, block, bytes, st) e,
    NR_DTYPE_LIST(NR_X)
#undef NR_X
    NR_DTYPE_COUNT
} nr_dtype;

typedef struct {
    const char *name;
    int gguf; /* type id in GGUF, -1: none */
    size_t block, bytes;
    const char *safetensors;
} nr_dtype_info;
extern const nr_dtype_info nr_dtypes[NR_DTYPE_COUNT];
/* Bytes of one element of an unquantised type. */
size_t nr_dtype_size(nr_dtype t);

/* A matrix or vector that lies in a mapped file. */
typedef struct {
    char *name;          /* Hugging Face's name */
    nr_dtype type;
    unsigned ndim;
    size_t shape[4];     /* outermost first */
    const unsigned char *data;
    size_t size;         /* bytes */
    size_t permuted_heads; /* rows are GGUF-interleaved in this many heads; 0: not */
    size_t stored_cols;  /* of a row as it lies there, filled up behind the shape's to whole blocks; 0: the shape's */
} nr_tensor;

/* All dims but the last, multiplied; a vector has 1 row. */
size_t nr_tensor_rows(const nr_tensor *t);
size_t nr_tensor_cols(const nr_tensor *t);
/* Bytes from one row to the next. */
size_t nr_tensor_row_bytes(const nr_tensor *t);
/* Which row of the shape lies in place `stored`: another one where rows are interleaved. */
size_t nr_tensor_row_at(const nr_tensor *t, size_t stored);

/* n elements of type t at src as float; n a multiple of the block. Bit-exact
 * against the gguf package. */
void nr_dequantise(float *dst, const void *src, nr_dtype t, size_t n);
/* Rows [row, row + n) as float, undoing a rotary permutation of rows. */
void nr_tensor_read(float *dst, const nr_tensor *t, size_t row, size_t n);

float nr_bf16_to_f32(uint16_t v);
uint16_t nr_f32_to_bf16(float v); /* round to nearest even; NaN stays NaN */
float nr_f16_to_f32(uint16_t v);
uint16_t nr_f32_to_f16(float v); /* the same; too large: infinity */

/* n floats as Q8_0 blocks, the last one filled up with zeros: d = max |x| / 127 as half, q = x / d
 * rounded to nearest, ties away from zero. Bit for bit the gguf package's. */
void nr_quantise_q8_0(void *dst, const float *src, size_t n);

#endif
