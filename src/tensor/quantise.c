/*
 * quantise.c - floats as Q8_0 blocks, in the layout and with the roundings of
 * the gguf package (quants.py).
 */
#include <math.h>
#include <string.h>

#include "tensor/tensor.h"

enum { QK = 32 };

static void block_q8_0(uint8_t *b, const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, inverse = d == 0 ? 0 : 1 / d;
    uint16_t half = nr_f32_to_f16(d);
    memcpy(b, &half, sizeof half);
    for (size_t i = 0; i < QK; i++) b[2 + i] = (uint8_t)(int8_t)(i < n ? roundf(x[i] * inverse) : 0);
}

void nr_quantise_q8_0(void *dst, const float *src, size_t n)
{
    uint8_t *b = dst;
    for (size_t i = 0; i < n; i += QK, b += 2 + QK) block_q8_0(b, src + i, NR_MIN(QK, n - i));
}
