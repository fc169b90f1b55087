/*
 * quant.c - which integer kernels run here, for which types, and how rows of
 * int8 lie in memory.
 */
#include "kernels/isa.h"
#include "kernels/quant.h"

#include <string.h>

#define KERNELS(isa) extern const nr_quant_kernels nr_quant_kernels_##isa;
KERNELS(baseline)
#if defined(__x86_64__)
KERNELS(avx2)
KERNELS(avx512)
KERNELS(avx512vnni)
#endif

/* Best first. */
static const struct {
    const char *name;
    bool (*runs)(void);
    const nr_quant_kernels *kernels;
} sets[] = {
#if defined(__x86_64__)
    {"avx512-vnni", nr_runs_avx512vnni, &nr_quant_kernels_avx512vnni},
    {"avx512", nr_runs_avx512, &nr_quant_kernels_avx512},
    {"avx2", nr_runs_avx2, &nr_quant_kernels_avx2},
#endif
    {"baseline", nr_runs_baseline, &nr_quant_kernels_baseline},
};

bool nr_quant_has(nr_dtype type)
{
    return type == NR_Q4_0 || type == NR_Q4_1 || type == NR_Q8_0 || type == NR_Q4_K || type == NR_Q5_K || type == NR_Q6_K;
}

const nr_quant_kernels *nr_quant_best(void)
{
    size_t i = 0;
    while (!sets[i].runs()) i++;
    return sets[i].kernels;
}

const nr_quant_kernels *nr_quant_isa(const char *isa)
{
    for (size_t i = 0; i < NR_COUNT(sets); i++)
        if (strcmp(sets[i].name, isa) == 0) return sets[i].runs() ? sets[i].kernels : NULL;
    return NULL;
}

static size_t blocks_of(size_t cols) { return (cols + NR_INT8_BLOCK - 1) / NR_INT8_BLOCK; }

size_t nr_int8_row_bytes(size_t cols) { return blocks_of(cols) * (NR_INT8_BLOCK + 4 * sizeof(float)); }

nr_int8_rows nr_int8_rows_in(void *memory, size_t n, size_t cols)
{
    nr_int8_rows r = {.blocks = blocks_of(cols), .q = memory};
    size_t all = n * r.blocks;
    r.d = (float *)(void *)((char *)memory + all * NR_INT8_BLOCK);
    r.sum = r.d + all;
    r.total = (int32_t *)(void *)(r.sum + all);
    return r;
}
