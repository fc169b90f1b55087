/*
 * int8_cpu.c - into the int8 products of linear_int8.h: rows rounded around 128.
 * Called inside tasks: nothing here runs in parallel.
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

#define INT8(type, bf16)                                                                                               \
    void NR_CPU(int8_rows, type)(uint8_t *u, float *scale, const void *x, size_t n, size_t C) { rows(u, scale, x, n, C, bf16); }
NR_CPU_BOTH(INT8)
