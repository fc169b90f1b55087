/*
 * rate.c - the machine's rates, each the best of repetitions: it may be busy
 * with something else, and a bound is what it can do. Of reading also the mean,
 * as memory is shared with whoever else runs on the chip.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/rate.h"

double nr_product_rate(const nr_ops *ops, size_t rows, size_t out, size_t in, double seconds)
{
    nr_linear *w = NULL;
    void *weight = NULL, *x = NULL, *y = NULL;
    double best = 0;
    bool ok = nr_alloc(&weight, out * in, ops->real_size, "probe", NULL) == NR_OK &&
              nr_alloc(&x, rows * in, ops->act_size, "probe", NULL) == NR_OK &&
              nr_alloc(&y, rows * out, ops->act_size, "probe", NULL) == NR_OK &&
              ops->linear_new(&w, ops, out, in, false, NR_PACK_FORWARD, NULL) == NR_OK &&
              ops->linear_pack(w, weight, NULL, NULL) == NR_OK && ops->linear_prepare(w, rows, false, NULL) == NR_OK &&
              ops->linear(w, y, NR_ACT, x, rows, false, NULL) == NR_OK;
    for (double end = nr_clock() + seconds; ok && nr_clock() < end;) {
        double began = nr_clock();
        ok = ops->linear(w, y, NR_ACT, x, rows, false, NULL) == NR_OK;
        double spent = nr_clock() - began;
        if (best == 0 || spent < best) best = spent;
    }
    if (w) ops->linear_free(w);
    free(weight);
    free(x);
    free(y);
    return ok && best > 0 ? 2.0 * (double)rows * (double)out * (double)in / best : 0;
}

/* ---- memory ---- */

enum { PIECE = 1 << 20, PIECES = 256 };

typedef struct {
    char *from, *to;
    uint64_t sums[PIECES];
} memory;

static void copy_piece(void *context, size_t i)
{
    const memory *m = context;
    memcpy(m->to + i * PIECE, m->from + i * PIECE, PIECE);
}

static void read_piece(void *context, size_t i)
{
    memory *m = context;
    uint64_t sum[8] = {0};
    for (size_t k = 0; k < PIECE; k += sizeof sum) {
        uint64_t line[8];
        memcpy(line, m->from + i * PIECE + k, sizeof line);
        for (size_t j = 0; j < NR_COUNT(sum); j++) sum[j] += line[j];
    }
    for (size_t j = 0; j < NR_COUNT(sum); j++) m->sums[i] += sum[j];
}

static double memory_rate(double seconds, void (*piece)(void *, size_t), double bytes, double *mean)
{
    memory m = {0};
    double best = 0, all = 0, times = 0;
    bool copies = piece == copy_piece;
    if (nr_alloc(&m.from, PIECES, PIECE, "probe", NULL) == NR_OK && (!copies || nr_alloc(&m.to, PIECES, PIECE, "probe", NULL) == NR_OK)) {
        memset(m.from, 1, (size_t)PIECES * PIECE); /* pages of their own, not the zero page */
        if (copies) memset(m.to, 1, (size_t)PIECES * PIECE);
        for (double end = nr_clock() + seconds; nr_clock() < end;) {
            double began = nr_clock();
            nr_parallel(PIECES, piece, &m);
            double spent = nr_clock() - began;
            if (best == 0 || spent < best) best = spent;
            all += spent;
            times++;
        }
    }
    if (mean) *mean = all > 0 ? times * bytes / all : 0;
    free(m.from);
    free(m.to);
    return best > 0 ? bytes / best : 0;
}

double nr_copy_rate(double seconds) { return memory_rate(seconds, copy_piece, 2.0 * PIECES * PIECE, NULL); }

double nr_read_rate(double seconds, double *mean) { return memory_rate(seconds, read_piece, 1.0 * PIECES * PIECE, mean); }
