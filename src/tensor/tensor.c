/*
 * tensor.c - shapes of tensors, and reads of whole rows out of a mapped one.
 *
 * Mapped data may start at any byte: everything is loaded through memcpy.
 */
#include <string.h>

#include "tensor/tensor.h"

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
