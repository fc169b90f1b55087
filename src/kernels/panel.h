/*
 * panel.h - products of rows with one panel of a packed matrix, in registers.
 *
 * A panel is `width` columns wide (64 with AVX-512, 16 with AVX2, 8 elsewhere) and
 * lies as the instructions want it, depth filled up with zeros:
 *
 *   fp32  (depth, width)
 *   bf16  (depth / 2, width, 2)
 *   int8  (depth / 4, width, 4)
 *
 * For bf16 and int8 this is how oneDNN packs for the same instructions. Every element is one sum
 * in the order of depth, so neither the rows beside it nor how rows are cut
 * change its bits. Compiled once per instruction set; there is none for bf16 or int8 where the processor
 * has no dot product of them.
 *
 * What comes next can be asked for in time: pairs of cache lines of the next panel,
 * and of the next rows, are fetched into the second cache while the panel is
 * multiplied, as far as its depth gives time, so that a walk over panels never
 * waits for memory.
 */
#ifndef NR_PANEL_H
#define NR_PANEL_H

#include "kernels/ops.h"

#define NR_PANEL 64  /* the widest */
#define NR_TILE 6    /* rows of x multiplied at once */
#define NR_FETCH 128 /* bytes of a pair of cache lines: the pitch of what lies in one piece */

/* Pairs of cache lines to ask for, pitch bytes apart. */
typedef struct {
    const void *at;
    size_t pairs, pitch;
} nr_ahead;

typedef struct {
    const void *x; /* (rows, depth) float, bf16, or uint8 around 128 */
    size_t pitch;  /* bytes from row to row of x; 0: it lies in tiles */
    const void *panel;
    size_t rows, cols, depth; /* cols <= width */
    const float *begin;       /* sums (rows, cols) of earlier terms, begin_pitch apart, or NULL */
    size_t begin_pitch;
    nr_ahead next_panel, next_rows;
    void *y;                  /* (rows, cols) [+]= sums (+ bias (cols) or NULL), rows y_pitch elements apart */
    nr_dtype to;
    size_t y_pitch;
    bool accumulate;
    const float *bias;
    /* int8: y [+]= (sum - offset (cols)) row_scale (rows) col_scale (cols) */
    const float *row_scale, *col_scale;
    const int32_t *offset;
} nr_panel;

typedef void nr_panel_product(const nr_panel *p);

/* For a sum over the rows of x (n, cols), pitch elements apart: some columns of it as a panel, (n / unit, width, unit); and as rows
 * that lie in tiles, (cols / NR_TILE, n / unit, NR_TILE, unit). Zeros fill up n and the panel's width. */
typedef void nr_panel_turn(void *to, const void *x, size_t pitch, size_t n, size_t cols);

/* A panel from a piece (depth, cols) of a matrix of floats, row after row pitch elements apart; or, packed across,
 * from a piece (cols, depth). Whole units and vectors are written: zeros stand beside what exists. */
typedef void nr_panel_pack(void *panel, const float *w, size_t pitch, size_t depth, size_t cols);

/* The products of one type on one instruction set. */
typedef struct {
    size_t width, unit, size; /* columns of a panel; elements of a sum side by side; bytes of one */
    nr_panel_product *product;
    nr_panel_turn *turn, *turn_to_tiles; /* these are NULL for int8 */
    nr_panel_pack *pack_down, *pack_across;
} nr_panel_kernels;

/* A matrix in panels, and where its product goes. */
typedef struct {
    const char *data;
    size_t cols;
    void *y; /* (n, cols) */
    nr_dtype to;
    bool accumulate;
    const float *bias;
} nr_panels;

/* Of float or bf16; NULL where this processor has no such product. */
const nr_panel_kernels *nr_panel_kernels_of(nr_dtype type);
/* Of those that run here the next best, or NULL; after NULL the best. */
const nr_panel_kernels *nr_panel_kernels_next(nr_dtype type, const nr_panel_kernels *after);
const nr_panel_kernels *nr_panel_int8(void);
/* A matrix of linear_panel.c (see nr_ops.linear_new) on kernels of the type ops->act. */
nr_status nr_linear_panel_new_with(nr_linear **w, const nr_panel_kernels *kernels, const nr_ops *ops, size_t out, size_t in, bool bias,
                                   unsigned uses, nr_error *err);

static inline size_t nr_panel_count(const nr_panel_kernels *k, size_t cols) { return (cols + k->width - 1) / k->width; }
static inline size_t nr_panel_bytes(const nr_panel_kernels *k, size_t depth) { return (depth + k->unit - 1) / k->unit * k->unit * k->width * k->size; }
/* Of the panels of all matrices of a list, the one that panel *panel belongs to; *panel counts from its first then. */
const nr_panels *nr_panels_find(const nr_panel_kernels *k, const nr_panels *list, size_t *panel);

/* dw (out, in) += dy (n, out)^T x (n, in), dy and x of the kernels' type. */
void nr_panels_weight(const nr_panel_kernels *k, float *dw, const void *dy, const void *x, size_t n, size_t out, size_t in);
/* The products of x (n, depth) with `count` matrices. */
void nr_panels_multiply(const nr_panel_kernels *k, const nr_panels *list, size_t count, const void *x, size_t n, size_t depth);

#endif
