/*
 * ref.c - the reference backends: every X_ref.inc compiled as float and as double.
 *
 * Plain loops in the order of the formulas (docs/MATH.md), one thread. Sums are
 * kept in double in both, so that ref-fp32 is exact up to the rounding of what
 * it stores and can serve as oracle for any reduction length.
 */
#include "kernels/linear.h"
#include "kernels/ops.h"

#include <math.h>
#include <string.h>

#define scalar        float
#define NR_REF(name)  name##_f32
#define NR_REF_NAME   "ref-fp32"
#define NR_REF_DTYPE  NR_F32
#define NR_REF_LINEAR NR_LINEAR_FIELDS(ref32)
#include "kernels/ref_all.inc"
#undef scalar
#undef NR_REF
#undef NR_REF_NAME
#undef NR_REF_DTYPE
#undef NR_REF_LINEAR

#define scalar        double
#define NR_REF(name)  name##_f64
#define NR_REF_NAME   "ref-fp64"
#define NR_REF_DTYPE  NR_F64
#define NR_REF_LINEAR NR_LINEAR_FIELDS(ref64)
#include "kernels/ref_all.inc"

const nr_ops *nr_ops_reference(bool as_double) { return as_double ? &table_f64 : &table_f32; }
