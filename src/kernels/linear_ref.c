/*
 * linear_ref.c - the reference matrix product, as float (oracle of the kernel
 * tests) and as double (gradient checks). Keeps the weights as they are.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/linear.h"

#define T float
#define MATRIX matrix32
#define JOB job32
#define NAME(x) nr_linear_ref32_##x
#include "kernels/linear_ref.inc"
#undef T
#undef MATRIX
#undef JOB
#undef NAME

#define T double
#define MATRIX matrix64
#define JOB job64
#define NAME(x) nr_linear_ref64_##x
#include "kernels/linear_ref.inc"

NR_LINEAR_DEFINE_KIND(ref32);
NR_LINEAR_DEFINE_KIND(ref64);
