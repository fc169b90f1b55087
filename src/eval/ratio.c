/*
 * ratio.c - sum y / sum x over documents (nats a byte, nats a token) with its
 * standard error over documents.
 *
 * Documents differ in length, so this is a ratio estimator, not a mean of
 * ratios. To first order its error is that of the mean of the residuals
 * e = y - r x (which sum to zero), divided by the mean of x:
 *     se(r) = sqrt( n / (n - 1) * sum e^2 ) / sum x
 * A difference of two models over the same documents is the same with y =
 * y_after - y_before, which makes it a paired comparison.
 *
 * Sums are kept instead of documents: sum e^2 = yy - 2 r xy + r^2 xx. In double
 * that loses at most 1e-8 of |r|, far below any error worth printing.
 */
#include <math.h>

#include "eval/eval.h"

void nr_ratio_add(nr_ratio *r, double y, double x)
{
    r->n += 1;
    r->y += y;
    r->x += x;
    r->yy += y * y;
    r->xy += x * y;
    r->xx += x * x;
}

double nr_ratio_value(const nr_ratio *r) { return r->x > 0 ? r->y / r->x : NAN; }

double nr_ratio_stderr(const nr_ratio *r)
{
    if (r->n < 2 || !(r->x > 0)) return NAN;
    double v = r->y / r->x;
    double squares = r->yy - 2 * v * r->xy + v * v * r->xx;
    return squares > 0 ? sqrt(r->n / (r->n - 1) * squares) / r->x : 0;
}
