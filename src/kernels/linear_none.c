/* linear_none.c - builds without a matrix library: own kernels multiply (linear_panel.c), and nothing in int8. */
#include "kernels/linear_int8.h"

const char *nr_matrix_library(void) { return "own kernels"; }

bool nr_linear_dnnl_adds_bf16(void) { return false; }

nr_status nr_linear_dnnl_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, bool bias, unsigned uses, nr_error *err)
{
    (void)out, (void)in, (void)bias, (void)uses;
    *w = NULL;
    return nr_fail(err, NR_E_UNSUPPORTED, "matrix product: expected a program built with oneDNN, found %s on %s", nr_matrix_library(), ops->name);
}

size_t nr_linear_dnnl_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses)
{
    (void)ops, (void)out, (void)in, (void)uses;
    return 0;
}

nr_status nr_linear_int8_can(const nr_ops *ops, nr_error *err)
{
    return nr_fail(err, NR_E_UNSUPPORTED, "--frozen-products int8: expected a program built with oneDNN, found %s on %s",
                   nr_matrix_library(), ops->name);
}

nr_status nr_linear_int8_new(nr_linear **w, const nr_ops *ops, size_t out, size_t in, const nr_tensor *weight, const nr_tensor *bias,
                             unsigned uses, bool back_int8, nr_error *err)
{
    (void)out, (void)in, (void)weight, (void)bias, (void)uses, (void)back_int8;
    *w = NULL;
    return nr_linear_int8_can(ops, err);
}

size_t nr_linear_int8_bytes(const nr_ops *ops, size_t out, size_t in, unsigned uses, bool back_int8)
{
    (void)back_int8;
    return ops->linear_bytes(ops, out, in, uses);
}
