/*
 * tensor.c - the table of element types, conversions of single numbers, and
 * reads of whole rows out of a mapped tensor.
 *
 * Mapped data may start at any byte: everything is loaded through memcpy.
 */
#include <string.h>

#include "tensor/tensor.h"

const nr_dtype_info nr_dtypes[NR_DTYPE_COUNT] = {
#define NR_X(e, name, gguf, block, bytes, st) [e] = {name, gguf, block, bytes, st},
    NR_DTYPE_LIST(NR_X)
#undef NR_X
};

size_t nr_dtype_size(nr_dtype t) { return nr_dtypes[t].bytes / nr_dtypes[t].block; }

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float nr_bf16_to_f32(uint16_t v) { return from_bits((uint32_t)v << 16); }

uint16_t nr_f32_to_bf16(float v)
{
    uint32_t bits = to_bits(v);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40); /* NaN, kept quiet */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Exponent biases: 15 in half, 127 in float. Without branches, so that loops over it become vectors. */
float nr_f16_to_f32(uint16_t v)
{
    uint32_t magnitude = (uint32_t)(v & 0x7FFF) << 13, exponent = magnitude & 0x0F800000;
    uint32_t bits = magnitude + ((127 - 15) << 23);
    /* Infinity and NaN: the exponent goes to 255. */
    bits += exponent == 0x0F800000 ? (uint32_t)(255 - 31 - (127 - 15)) << 23 : 0;
    /* Subnormals: as a number with the smallest exponent, less its implicit one. */
    uint32_t small = to_bits(from_bits(bits + (1u << 23)) - from_bits((127 - 15 + 1) << 23));
    return from_bits((exponent == 0 ? small : bits) | (uint32_t)(v & 0x8000) << 16);
}

uint16_t nr_f32_to_f16(float v)
{
    uint32_t bits = to_bits(v), magnitude = bits & 0x7FFFFFFF, sign = bits >> 16 & 0x8000, half;
    if (magnitude > 0x7F800000) half = 0x7E00;                   /* NaN */
    else if (magnitude >= 0x477FF000) half = 0x7C00;             /* 65520 and more: infinity */
    else if (magnitude < 0x38800000)                             /* below 2^-14: subnormal, in units of 2^-24 */
        half = to_bits(from_bits(magnitude) + 0.5f) - to_bits(0.5f);
    else half = (magnitude + 0xFFF + (magnitude >> 13 & 1) - ((127 - 15) << 23)) >> 13;
    return (uint16_t)(sign | half);
}

size_t nr_tensor_rows(const nr_tensor *t)
{
    size_t rows = 1;
    for (unsigned i = 0; i + 1 < t->ndim; i++) rows *= t->shape[i];
    return rows;
}

size_t nr_tensor_cols(const nr_tensor *t) { return t->ndim ? t->shape[t->ndim - 1] : 1; }

/*
 * Where GGUF keeps Hugging Face's row r. The rotary embedding turns pairs
 * (i, i + D/2) of a head there and (2 i, 2 i + 1) here.
 */
static size_t interleaved_row(size_t r, size_t rows, size_t heads)
{
    size_t D = rows / heads, in_head = r % D, half = D / 2;
    return r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

size_t nr_tensor_row_bytes(const nr_tensor *t)
{
    size_t cols = t->stored_cols ? t->stored_cols : nr_tensor_cols(t);
    return cols / nr_dtypes[t->type].block * nr_dtypes[t->type].bytes;
}

size_t nr_tensor_row_at(const nr_tensor *t, size_t stored)
{
    if (t->permuted_heads == 0) return stored;
    size_t D = nr_tensor_rows(t) / t->permuted_heads, in_head = stored % D;
    return stored - in_head + in_head / 2 + (in_head % 2) * (D / 2);
}

enum { LARGEST_BLOCK = 256 };

/* n elements, not always whole blocks. */
static void read_part(float *dst, const unsigned char *src, nr_dtype type, size_t n)
{
    size_t whole = n / nr_dtypes[type].block * nr_dtypes[type].block;
    float last[LARGEST_BLOCK];
    nr_dequantise(dst, src, type, whole);
    if (whole == n) return;
    nr_dequantise(last, src + whole / nr_dtypes[type].block * nr_dtypes[type].bytes, type, nr_dtypes[type].block);
    memcpy(dst + whole, last, (n - whole) * sizeof *dst);
}

void nr_tensor_read(float *dst, const nr_tensor *t, size_t row, size_t n)
{
    size_t rows = nr_tensor_rows(t), cols = nr_tensor_cols(t), bytes = nr_tensor_row_bytes(t);
    if (t->permuted_heads == 0 && t->stored_cols == 0) {
        nr_dequantise(dst, t->data + row * bytes, t->type, n * cols);
        return;
    }
    /* A vector (a bias) is permuted by elements. */
    bool vector = t->ndim == 1 && t->permuted_heads > 0;
    size_t items = vector ? cols : rows, width = vector ? 1 : cols;
    size_t first = vector ? 0 : row, count = vector ? cols : n;
    if (vector) bytes = nr_dtypes[t->type].bytes / nr_dtypes[t->type].block;
    for (size_t i = 0; i < count; i++) {
        size_t from = t->permuted_heads ? interleaved_row(first + i, items, t->permuted_heads) : first + i;
        read_part(dst + i * width, t->data + from * bytes, t->type, width);
    }
}
