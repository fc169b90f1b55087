/*
 * panel.h - products of rows with one panel of a packed matrix, in registers.
 *
 * A panel is PANEL columns wide and lies as the dot instructions want it:
 *
 *   bf16  (depth / 2, NR_PANEL, 2), depth filled up with zeros
 *   int8  (depth / 4, NR_PANEL, 4)
 *
 * which is how oneDNN packs for the same instructions. Every element is one sum
 * in the order of depth, so neither the rows beside it nor how rows are cut
 * change its bits. Compiled once per instruction set that has such a dot
 * product; elsewhere there is no function and products go to the matrix library.
 *
 * What comes next can be asked for in time: pairs of cache lines of the next panel,
 * and of the next rows, are fetched into the second cache while the panel is
 * multiplied, as far as its depth gives time, so that a walk over panels never
 * waits for memory.
 */
#ifndef NR_PANEL_H
#define NR_PANEL_H

#include "kernels/ops.h"

#define NR_PANEL 64
#define NR_FETCH 128 /* bytes of a pair of cache lines: the pitch of what lies in one piece */

/* Pairs of cache lines to ask for, pitch bytes apart. */
typedef struct {
    const void *at;
    size_t pairs, pitch;
} nr_ahead;

typedef struct {
    const void *x;      /* (rows, depth) bf16, or uint8 around 128 */
    size_t pitch, step; /* bytes from row to row of x, and from 4 bytes of a row to the next: 4, or what pairs are apart */
    const void *panel;
    size_t rows, cols, depth; /* cols <= NR_PANEL */
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

/* A matrix in panels, and where its product goes. */
typedef struct {
    const char *data;
    size_t cols;
    void *y; /* (n, cols) */
    nr_dtype to;
    bool accumulate;
    const float *bias;
} nr_panels;

static inline size_t nr_panel_count(size_t cols) { return (cols + NR_PANEL - 1) / NR_PANEL; }
/* Of the panels of all matrices of a list, the one that panel *panel belongs to; *panel counts from its first then. */
const nr_panels *nr_panels_find(const nr_panels *list, size_t *panel);

/* pairs (rows / 2, width, 2) = two rows of x (rows, cols) bf16, pitch elements apart, beside each other, filled up with
 * zeros: of 64 columns the panel of a sum over rows. The last of an odd number of rows stands beside zeros. */
typedef void nr_panel_pairs(uint16_t *pairs, size_t width, const uint16_t *x, size_t pitch, size_t rows, size_t cols);

/* A panel of bf16 from a piece (depth, cols) of a matrix of floats, row after row pitch elements apart; or, for
 * nr_panel_bf16_pack(true), from a piece (cols, depth). Whole pairs and vectors are written: zeros stand beside what exists. */
typedef void nr_panel_pack(uint16_t *panel, const float *w, size_t pitch, size_t depth, size_t cols);

/* NULL where this processor has no such product. */
nr_panel_product *nr_panel_bf16(void);
nr_panel_product *nr_panel_int8(void);
nr_panel_pairs *nr_panel_bf16_pairs(void);
nr_panel_pack *nr_panel_bf16_pack(bool across);
/* dw (out, in) += dy (n, out)^T x (n, in), dy and x bf16. */
void nr_panels_bf16_weight(float *dw, const uint16_t *dy, const uint16_t *x, size_t n, size_t out, size_t in);
/* The products of x (n, depth) bf16 with `count` matrices whose panels take panel_bytes each. */
void nr_panels_bf16(const nr_panels *list, size_t count, const void *x, size_t n, size_t depth, size_t panel_bytes);

#endif
