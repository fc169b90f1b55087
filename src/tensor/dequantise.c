/*
 * dequantise.c - blocks of GGUF's quantised types as float.
 *
 * Layouts are those of the gguf package (quants.py), and so is the order of
 * the float operations: results are the same bits. In every comment, d and m
 * are halfs, `low` the low four bits of a byte and `high` the other four.
 */
#include <string.h>

#include "tensor/tensor.h"

enum { QK = 32, QK_K = 256 };

static float half_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return nr_f16_to_f32(v);
}

static uint32_t word_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* d, 16 bytes: elements 0..15 low, 16..31 high; d (q - 8) */
static void block_q4_0(float *y, const uint8_t *b)
{
    float d = half_at(b);
    const uint8_t *q = b + 2;
    for (size_t i = 0; i < QK / 2; i++) {
        y[i] = d * (float)((q[i] & 15) - 8);
        y[i + QK / 2] = d * (float)((q[i] >> 4) - 8);
    }
}

/* d, m, 16 bytes; d q + m */
static void block_q4_1(float *y, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    const uint8_t *q = b + 4;
    for (size_t i = 0; i < QK / 2; i++) {
        y[i] = d * (float)(q[i] & 15) + m;
        y[i + QK / 2] = d * (float)(q[i] >> 4) + m;
    }
}

/* d, 32 fifth bits, 16 bytes; d (q - 16) */
static void block_q5_0(float *y, const uint8_t *b)
{
    float d = half_at(b);
    uint32_t top = word_at(b + 2);
    const uint8_t *q = b + 6;
    for (size_t i = 0; i < QK / 2; i++) {
        int low = (q[i] & 15) | (int)(top >> i & 1) << 4;
        int high = q[i] >> 4 | (int)(top >> (i + QK / 2) & 1) << 4;
        y[i] = d * (float)(low - 16);
        y[i + QK / 2] = d * (float)(high - 16);
    }
}

/* d, m, 32 fifth bits, 16 bytes; d q + m */
static void block_q5_1(float *y, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    uint32_t top = word_at(b + 4);
    const uint8_t *q = b + 8;
    for (size_t i = 0; i < QK / 2; i++) {
        int low = (q[i] & 15) | (int)(top >> i & 1) << 4;
        int high = q[i] >> 4 | (int)(top >> (i + QK / 2) & 1) << 4;
        y[i] = d * (float)low + m;
        y[i + QK / 2] = d * (float)high + m;
    }
}

/* d, 32 signed bytes; d q */
static void block_q8_0(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (size_t i = 0; i < QK; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

/* 16 bytes of scale (low) and minimum (high), 64 bytes of two bits, d, dmin.
 * Each half of the block: 32 bytes hold elements at 0, 32, 64, 96 by shift. */
static void block_q2_k(float *y, const uint8_t *b)
{
    const uint8_t *scales = b, *q = b + 16;
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (size_t g = 0; g < QK_K / 16; g++) { /* groups of 16 */
        float dl = d * (float)(scales[g] & 15), ml = dmin * (float)(scales[g] >> 4);
        const uint8_t *at = q + g / 8 * 32 + g % 2 * 16;
        unsigned shift = (unsigned)(g / 2 % 4 * 2);
        for (size_t i = 0; i < 16; i++) y[g * 16 + i] = dl * (float)(at[i] >> shift & 3) - ml;
    }
}

/* 32 bytes of third bits, 64 bytes of two bits, 12 bytes of 16 six-bit scales, d.
 * Scales: eight low, eight high nibbles, then two top bits each. d (s - 32) (q - 4 unless the third bit is set) */
static void block_q3_k(float *y, const uint8_t *b)
{
    const uint8_t *mask = b, *q = b + 32, *packed = b + 96;
    float d = half_at(b + 108);
    for (size_t g = 0; g < QK_K / 16; g++) {
        int nibble = packed[g % 8] >> (g / 8 * 4) & 15;
        int top = packed[8 + g % 4] >> (g / 4 * 2) & 3;
        float dl = d * (float)((nibble | top << 4) - 32);
        const uint8_t *at = q + g / 8 * 32 + g % 2 * 16, *third = mask + g % 2 * 16;
        unsigned shift = (unsigned)(g / 2 % 4 * 2), bit = (unsigned)(g / 2);
        for (size_t i = 0; i < 16; i++) {
            int v = (at[i] >> shift & 3) - (third[i] >> bit & 1 ? 0 : 4);
            y[g * 16 + i] = dl * (float)v;
        }
    }
}

/* Scale and minimum of group g of 8, six bits each, in 12 bytes. */
static void scale_min(const uint8_t *p, size_t g, float *scale, float *min)
{
    int s, m;
    if (g < 4) {
        s = p[g] & 63;
        m = p[g + 4] & 63;
    } else {
        s = (p[g + 4] & 15) | (p[g - 4] >> 2 & 0x30);
        m = p[g + 4] >> 4 | (p[g] >> 2 & 0x30);
    }
    *scale = (float)s;
    *min = (float)m;
}

/* d, dmin, 12 bytes of scales, 128 bytes: every 32 hold 64 elements, low first */
static void block_q4_k(float *y, const uint8_t *b)
{
    float d = half_at(b), dmin = half_at(b + 2);
    for (size_t g = 0; g < QK_K / 32; g++) {
        float s, m;
        scale_min(b + 4, g, &s, &m);
        s *= d;
        m *= dmin;
        const uint8_t *q = b + 16 + g / 2 * 32;
        unsigned shift = (unsigned)(g % 2 * 4);
        for (size_t i = 0; i < 32; i++) y[g * 32 + i] = s * (float)(q[i] >> shift & 15) - m;
    }
}

/* as Q4_K with 32 bytes of fifth bits between: bit g of byte i */
static void block_q5_k(float *y, const uint8_t *b)
{
    float d = half_at(b), dmin = half_at(b + 2);
    const uint8_t *top = b + 16;
    for (size_t g = 0; g < QK_K / 32; g++) {
        float s, m;
        scale_min(b + 4, g, &s, &m);
        s *= d;
        m *= dmin;
        const uint8_t *q = b + 48 + g / 2 * 32;
        unsigned shift = (unsigned)(g % 2 * 4);
        for (size_t i = 0; i < 32; i++) {
            int v = (q[i] >> shift & 15) | (top[i] >> g & 1) << 4;
            y[g * 32 + i] = s * (float)v - m;
        }
    }
}

/* 128 bytes of low fours, 64 bytes of upper twos, 16 signed scales, d; d s (q - 32).
 * Each half of the block: 64 bytes low (elements 0..63) then high (64..127); 32 bytes of twos by shift. */
static void block_q6_k(float *y, const uint8_t *b)
{
    const uint8_t *low = b, *top = b + 128;
    float d = half_at(b + 208);
    for (size_t g = 0; g < QK_K / 16; g++) {
        float s = d * (float)(int8_t)b[192 + g];
        size_t half = g / 8, in_half = g % 8;
        const uint8_t *q = low + half * 64 + in_half % 4 * 16, *twos = top + half * 32 + in_half % 2 * 16;
        unsigned shift = (unsigned)(in_half / 4 * 4), two = (unsigned)(in_half / 2 * 2);
        for (size_t i = 0; i < 16; i++) {
            int v = (q[i] >> shift & 15) | (twos[i] >> two & 3) << 4;
            y[g * 16 + i] = s * (float)(v - 32);
        }
    }
}

#define EACH_BLOCK(t, expand)                                            \
    for (size_t i = 0; i < n / nr_dtypes[t].block; i++)                  \
        expand(dst + i * nr_dtypes[t].block, p + i * nr_dtypes[t].bytes); \
    return

static void copy_f16(float *dst, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = half_at(p + 2 * i);
}

static void copy_bf16(float *dst, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, p + 2 * i, sizeof v);
        dst[i] = nr_bf16_to_f32(v);
    }
}

static void copy_f64(float *dst, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, p + 8 * i, sizeof v);
        dst[i] = (float)v;
    }
}

void nr_dequantise(float *dst, const void *src, nr_dtype t, size_t n)
{
    const uint8_t *p = src;
    switch (t) {
    case NR_F32:
        if (n) memcpy(dst, p, n * sizeof *dst);
        return;
    case NR_F16: copy_f16(dst, p, n); return;
    case NR_BF16: copy_bf16(dst, p, n); return;
    case NR_F64: copy_f64(dst, p, n); return;
    case NR_Q4_0: EACH_BLOCK(NR_Q4_0, block_q4_0);
    case NR_Q4_1: EACH_BLOCK(NR_Q4_1, block_q4_1);
    case NR_Q5_0: EACH_BLOCK(NR_Q5_0, block_q5_0);
    case NR_Q5_1: EACH_BLOCK(NR_Q5_1, block_q5_1);
    case NR_Q8_0: EACH_BLOCK(NR_Q8_0, block_q8_0);
    case NR_Q2_K: EACH_BLOCK(NR_Q2_K, block_q2_k);
    case NR_Q3_K: EACH_BLOCK(NR_Q3_K, block_q3_k);
    case NR_Q4_K: EACH_BLOCK(NR_Q4_K, block_q4_k);
    case NR_Q5_K: EACH_BLOCK(NR_Q5_K, block_q5_k);
    case NR_Q6_K: EACH_BLOCK(NR_Q6_K, block_q6_k);
    case NR_DTYPE_COUNT: return;
    }
}
