/*
 * ops.c - which table runs here: the processor's instruction sets, asked once a
 * call, against what the program was built with.
 */
#include "kernels/ops.h"
#include "kernels/isa.h"
#include "kernels/linear.h"

#include <string.h>

#define TABLES(isa) extern const nr_ops nr_table_f32_##isa, nr_table_bf16_##isa;
TABLES(baseline)
#if defined(__x86_64__)
TABLES(avx2)
TABLES(avx512)
TABLES(avx512bf16)
#endif

/* Best first. */
static const struct {
    const char *name;
    bool (*runs)(void);
    const nr_ops *f32, *bf16;
    bool bf16_products;
} sets[] = {
#if defined(__x86_64__)
    {"avx512-bf16", nr_runs_avx512bf16, &nr_table_f32_avx512bf16, &nr_table_bf16_avx512bf16, true},
    {"avx512", nr_runs_avx512, &nr_table_f32_avx512, &nr_table_bf16_avx512, false},
    {"avx2", nr_runs_avx2, &nr_table_f32_avx2, &nr_table_bf16_avx2, false},
#endif
    {"baseline", nr_runs_baseline, &nr_table_f32_baseline, &nr_table_bf16_baseline, false},
};

static size_t best_set(void)
{
    size_t i = 0;
    while (!sets[i].runs()) i++;
    return i;
}

const char *nr_cpu_name(void) { return sets[best_set()].name; }

nr_status nr_ops_cpu(const nr_ops **out, nr_compute compute, nr_error *err)
{
    size_t i = best_set();
    bool products = sets[i].bf16_products && nr_linear_cpu_has_bf16();
    *out = NULL;
    if (compute == NR_COMPUTE_BF16 && !sets[i].bf16_products)
        return nr_fail(err, NR_E_UNSUPPORTED, "compute bf16: expected a processor with avx512-bf16, found %s; use fp32",
                       sets[i].name);
    if (compute == NR_COMPUTE_BF16 && !products)
        return nr_fail(err, NR_E_UNSUPPORTED,
                       "compute bf16: expected a matrix library with bf16 products, found %s; use fp32",
                       nr_matrix_library());
    *out = compute != NR_COMPUTE_FP32 && products ? sets[i].bf16 : sets[i].f32;
    return NR_OK;
}

const nr_ops *nr_ops_cpu_isa(const char *isa, nr_compute compute)
{
    for (size_t i = 0; i < NR_COUNT(sets); i++)
        if (!strcmp(sets[i].name, isa)) {
            bool bf16 = compute == NR_COMPUTE_BF16 || (compute == NR_COMPUTE_AUTO && sets[i].bf16_products);
            if (!sets[i].runs()) return NULL;
            return bf16 ? sets[i].bf16 : sets[i].f32;
        }
    return NULL;
}
