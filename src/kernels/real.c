/*
 * real.c - single numbers of a buffer of parameters, in float or double.
 */
#include "kernels/ops.h"

double nr_real_get(const nr_ops *ops, const void *buffer, size_t i)
{
    return ops->real == NR_F64 ? ((const double *)buffer)[i] : (double)((const float *)buffer)[i];
}

void nr_real_set(const nr_ops *ops, void *buffer, size_t i, double value)
{
    if (ops->real == NR_F64) ((double *)buffer)[i] = value;
    else ((float *)buffer)[i] = (float)value;
}
