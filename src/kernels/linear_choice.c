/* linear_choice.c - who multiplies for the cpu tables: own kernels, or the library where it adds something. */
#include "kernels/linear.h"

static bool library_multiplies(nr_dtype act) { return act == NR_BF16 && nr_linear_dnnl_adds_bf16(); }

nr_status nr_linear_cpu_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses, nr_error *err)
{
    return (library_multiplies(ops->act) ? nr_linear_dnnl_new : nr_linear_panel_new)(w, ops, out, in, bias, uses, err);
}

size_t nr_linear_cpu_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses)
{
    return (library_multiplies(ops->act) ? nr_linear_dnnl_bytes : nr_linear_panel_bytes)(ops, out, in, uses);
}

bool nr_linear_cpu_has_bf16(void) { return nr_linear_panel_has_bf16() || nr_linear_dnnl_adds_bf16(); }
