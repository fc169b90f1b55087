/*
 * int8_cpu.c - into and out of the int8 products of linear_int8.h: rows rounded
 * around 128, and sums turned into y. Called inside tasks: nothing here runs in
 * parallel.
 */
#include "kernels/cpu.h"

NR_INLINE float row_largest(const void *x, size_t at, size_t C, bool bf16)
{
    vf most = {0};
    NR_EACH(C, most = vmax(most, vabs(aload_n(x, at + i, m, bf16))););
    return vsum_max(most);
}

NR_INLINE void rows(uint8_t *u, float *scale, const void *x, size_t n, size_t C, bool bf16)
{
    typedef uint8_t vb __attribute__((vector_size(VW)));
    for (size_t r = 0; r < n; r++) {
        float largest = row_largest(x, r * C, C, bf16), to = largest > 0 ? 127 / largest : 0;
        scale[r] = largest / 127;
        NR_EACH(C, {
            /* 1.5 2^23 + 128: adding it rounds to the nearest integer and leaves it in the low bits */
            vi v = (vi)vfma(aload_n(x, r * C + i, m, bf16), vset(to), vset(12583040.0f));
            vb b = __builtin_convertvector((vu)v & 0xff, vb);
            memcpy(u + r * C + i, &b, (size_t)m);
        });
    }
}

NR_INLINE void sums(void *y, size_t pitch, const int32_t *sum, const float *row_scale, const float *col_scale,
                    const int32_t *offset, const float *bias, bool accumulate, size_t n, size_t cols, bool bf16)
{
    for (size_t r = 0; r < n; r++) {
        const int32_t *from = sum + r * cols;
        NR_EACH(cols, {
            vi a = {0};
            vi o = {0};
            memcpy(&a, from + i, (size_t)m * sizeof(int32_t));
            memcpy(&o, offset + i, (size_t)m * sizeof(int32_t));
            vf v = __builtin_convertvector(a - o, vf) * (rload_n(col_scale, i, m) * row_scale[r]);
            if (bias) v += rload_n(bias, i, m);
            if (accumulate) v += aload_n(y, r * pitch + i, m, bf16);
            astore_n(y, r * pitch + i, v, m, bf16);
        });
    }
}

#define INT8(type, bf16)                                                                                               \
    void NR_CPU(int8_rows, type)(uint8_t *u, float *scale, const void *x, size_t n, size_t C) { rows(u, scale, x, n, C, bf16); } \
    void NR_CPU(int8_sums, type)(void *y, nr_dtype to, size_t pitch, const int32_t *sum, const float *row_scale,       \
                                 const float *col_scale, const int32_t *offset, const float *bias, bool accumulate,    \
                                 size_t n, size_t cols)                                                                \
    {                                                                                                                  \
        if (to == NR_BF16) sums(y, pitch, sum, row_scale, col_scale, offset, bias, accumulate, n, cols, true);         \
        else sums(y, pitch, sum, row_scale, col_scale, offset, bias, accumulate, n, cols, false);                      \
    }
NR_CPU_BOTH(INT8)
