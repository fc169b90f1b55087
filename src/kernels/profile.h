/*
 * profile.h - where the time goes: a table of operations that times another
 * one's, call by call, and counts the work.
 */
#ifndef NR_PROFILE_H
#define NR_PROFILE_H

#include "kernels/ops.h"

/* One operation of one shape. flops: multiplications and additions of matrix
 * products and attention, 0 elsewhere. bytes: every operand once, as if the
 * caches held nothing before the call and everything during it. */
typedef struct {
    const char *op;          /* field of nr_ops */
    size_t out, in;          /* matrix of a product; 0 elsewhere */
    size_t calls;
    double seconds, flops, bytes;
} nr_profile_line;

/* The table to open a model on. One profile exists in a process, because an
 * operation has no argument that could carry another; calls come from one
 * thread at a time. Starts counting from nothing. */
const nr_ops *nr_profile_begin(const nr_ops *base);
/* Forgets what was counted so far. */
void nr_profile_clear(void);
/* The lines so far, longest time first; owned by the profile. */
const nr_profile_line *nr_profile_lines(size_t *count);

#endif
