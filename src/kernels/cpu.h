/*
 * cpu.h - names of the CPU kernels: nr_<op>_<type>_<instruction set>, and how
 * their work is cut.
 *
 * CMake compiles every *_cpu.c once per instruction set with NR_ISA set. An
 * operation that touches act exists for f32 and bf16; one that touches only
 * real exists as f32.
 */
#ifndef NR_CPU_H
#define NR_CPU_H

#include "kernels/ops.h"
#include "kernels/simd.h"

#define NR_CPU_JOIN2(op, type, isa) nr_##op##_##type##_##isa
#define NR_CPU_JOIN(op, type, isa)  NR_CPU_JOIN2(op, type, isa)
#define NR_CPU(op, type)            NR_CPU_JOIN(op, type, NR_ISA)

/* Operations on act, and on real only. */
#define NR_CPU_ACT_OPS(X, type)                                                                                        \
    X(rmsnorm, type) X(rmsnorm_back, type)                                                                             \
    X(rotary, type) X(attention, type) X(attention_back, type) X(attention_scratch, type) X(glu, type)                 \
        X(glu_back, type) X(cross_entropy, type) X(distil, type) X(gate, type) X(gate_add, type) X(gate_back, type)                    \
            X(gate_back_input, type) X(int8_rows, type) X(to_act, type) X(to_real, type) X(scale, type)
#define NR_CPU_REAL_OPS(X)                                                                                             \
    X(embed, f32) X(embed_back, f32) X(divergence, f32) X(add, f32) X(row_norm, f32) X(sum_squares, f32) X(adamw, f32)

#define NR_CPU_DECLARE(op, type) __typeof__(*((nr_ops *)0)->op) NR_CPU(op, type);
NR_CPU_ACT_OPS(NR_CPU_DECLARE, f32)
NR_CPU_ACT_OPS(NR_CPU_DECLARE, bf16)
NR_CPU_REAL_OPS(NR_CPU_DECLARE)
extern const nr_ops NR_CPU(table, f32), NR_CPU(table, bf16);
/* Bytes that attention_back needs, for attention_scratch. */
size_t NR_CPU(attention_back_scratch, f32)(const nr_attention *a);

/* The same text for both types of act. */
#define NR_CPU_BOTH(X) X(f32, false) X(bf16, true)

/* Elements of a task: enough to pay for handing it out. */
#define NR_CPU_BLOCK 16384

NR_INLINE size_t tasks_of(size_t n, size_t block) { return (n + block - 1) / block; }
NR_INLINE size_t rows_of_task(size_t width) { return width >= NR_CPU_BLOCK ? 1 : NR_CPU_BLOCK / (width ? width : 1); }

/* Address of element i of an act buffer. */
NR_INLINE const void *act_at(const void *p, size_t i, bool bf16)
{
    return (const char *)p + i * (bf16 ? sizeof(uint16_t) : sizeof(float));
}
NR_INLINE void *act_at_mut(void *p, size_t i, bool bf16)
{
    return (char *)p + i * (bf16 ? sizeof(uint16_t) : sizeof(float));
}

/* dst (C) += rows of partial sums (blocks, stride), in order. */
NR_INLINE void add_blocks(float *dst, const float *partial, size_t blocks, size_t stride, size_t C)
{
    for (size_t b = 0; b < blocks; b++)
        NR_EACH(C, rstore_n(dst, i, rload_n(dst, i, m) + rload_n(partial + b * stride, i, m), m););
}

#endif
