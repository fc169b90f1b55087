/*
 * dtype.c - the table of element types, and conversions of single numbers.
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
