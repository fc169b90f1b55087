/* table_cpu.c - the op tables of one instruction set, for both types of act. */
#include "kernels/cpu.h"
#include "kernels/linear.h"

#define ENTRY(op, type) .op = NR_CPU(op, type),

const nr_ops NR_CPU(table, f32) = {
    .name = "cpu-fp32",
    .real = NR_F32,
    .act = NR_F32,
    .real_size = sizeof(float),
    .act_size = sizeof(float),
    NR_CPU_ACT_OPS(ENTRY, f32) NR_CPU_REAL_OPS(ENTRY) NR_LINEAR_FIELDS(cpu),
};

const nr_ops NR_CPU(table, bf16) = {
    .name = "cpu-bf16",
    .real = NR_F32,
    .act = NR_BF16,
    .real_size = sizeof(float),
    .act_size = sizeof(uint16_t),
    NR_CPU_ACT_OPS(ENTRY, bf16) NR_CPU_REAL_OPS(ENTRY) NR_LINEAR_FIELDS(cpu),
};
