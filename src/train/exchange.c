/*
 * exchange.c - what travels between ranks: of a model and its extension only
 * the extension's gradients, updated weights and, for checkpoints, its optimizer
 * state. Refuses nothing; one rank alone runs the same code and sends nothing.
 *
 *   pieces   runs of parameters that one layer of the walk trains, small ones
 *            joined. A piece starts when the backward pass has left its layer,
 *            so that it travels while the layers below are computed.
 *   slices   every piece is cut into a slice a rank. Rank r gets everybody's
 *            gradients of its slice, adds them in the order of the ranks (its own
 *            in its place, unrounded), and alone keeps and updates the optimizer
 *            state there. Slices of pieces, not one stretch of all parameters:
 *            so no rank is sent a whole layer by all others at once.
 *
 * A step sends 2 (N - 1) / N of the weights a rank, as the best all-reduce does,
 * and its additions don't depend on who comes first: the same number of ranks
 * gives the same bits.
 */
#include <stdlib.h>
#include <string.h>

#include "train/exchange.h"

#define LEAST_PIECE 8192   /* elements: below that a message is mostly latency */
#define MOST_PIECE ((size_t)1 << 27)
#define SLICE_UNIT 16      /* elements: a cache line of floats */

static size_t ranks(const nr_exchange *x) { return nr_cluster_size(x->cluster); }
static size_t self(const nr_exchange *x) { return nr_cluster_rank(x->cluster); }

/* ---- pieces and slices ---- */

static size_t slice_begin(size_t n, size_t rank, size_t count)
{
    size_t units = (n + SLICE_UNIT - 1) / SLICE_UNIT, each = (units + count - 1) / count;
    return NR_MIN(rank * each * SLICE_UNIT, n);
}

/* First element of a rank's slice, among all values; its length. */
static size_t slice_of(const nr_exchange *x, const nr_piece *p, size_t rank, size_t *length)
{
    size_t n = p->end - p->begin, begin = slice_begin(n, rank, ranks(x));
    *length = slice_begin(n, rank + 1, ranks(x)) - begin;
    return p->begin + begin;
}

size_t nr_exchange_share(size_t weights, size_t count)
{
    return count <= 1 ? weights : NR_MIN(weights / count + weights / LEAST_PIECE * SLICE_UNIT + SLICE_UNIT, weights);
}

/* A parameter joins the piece before it where both belong to the same depth, or where that piece is small. */
static bool joins(const nr_piece *p, size_t depth, size_t more)
{
    size_t n = p->end - p->begin;
    return n + more <= MOST_PIECE && (p->depth == depth || n < LEAST_PIECE);
}

static void cut(nr_exchange *x)
{
    for (size_t i = 0; i < x->e->param_count; i++) {
        const nr_param *p = &x->e->params[i];
        size_t n = p->shape[0] * p->shape[1], depth = nr_param_depth(x->e, p);
        nr_piece *last = x->count ? &x->pieces[x->count - 1] : NULL;
        if (last && joins(last, depth, n)) {
            last->end += n;
            last->depth = NR_MIN(last->depth, depth);
        } else {
            x->pieces[x->count++] = (nr_piece){.begin = p->offset, .end = p->offset + n, .depth = depth};
        }
    }
    for (size_t i = 0; i < x->count; i++) {
        size_t length;
        slice_of(x, &x->pieces[i], self(x), &length);
        x->pieces[i].own = x->owned;
        x->owned += length;
    }
}

static void put_in_order(nr_exchange *x)
{
    for (size_t i = 0; i < x->count; i++) {
        size_t k = i;
        for (; k > 0 && x->pieces[x->order[k - 1]].depth < x->pieces[i].depth; k--) x->order[k] = x->order[k - 1];
        x->order[k] = i;
    }
}

/* ---- life ---- */

static size_t wire_size(const nr_exchange *x) { return x->wire ? sizeof(uint16_t) : x->ops->real_size; }

size_t nr_exchange_bytes(size_t weights, size_t real_size, bool bf16, size_t count)
{
    return count <= 1 ? 0 : weights * real_size + (bf16 ? weights * sizeof(uint16_t) : 0);
}

static nr_status take_buffers(nr_exchange *x, nr_error *err)
{
    const char *what = "what travels between ranks";
    size_t bytes = x->owned * ranks(x) * wire_size(x), all = x->e->weights * x->ops->real_size;
    if (self(x) == 0) bytes = NR_MAX(bytes, all);
    NR_TRY(nr_alloc(&x->receive, bytes, 1, what, err));
    if (x->wire) {
        size_t largest = 0, length;
        for (size_t i = 0; i < x->count; i++) {
            slice_of(x, &x->pieces[i], self(x), &length);
            largest = NR_MAX(largest, length);
        }
        NR_TRY(nr_alloc(&x->send, x->e->weights, sizeof *x->send, what, err));
        NR_TRY(nr_alloc(&x->sum, 2 * largest, sizeof *x->sum, what, err));
        x->wide = x->sum + largest;
    }
    NR_TRY(nr_alloc(&x->to, ranks(x), sizeof *x->to, what, err));
    NR_TRY(nr_alloc(&x->from, ranks(x), sizeof *x->from, what, err));
    return x->cluster->reserve(x->cluster, x->count, err);
}

nr_status nr_exchange_new(nr_exchange *x, nr_cluster *c, nr_extension *e, bool bf16, nr_error *err)
{
    *x = (nr_exchange){.cluster = c, .e = e, .ops = e->model->ops};
    NR_TRY(nr_alloc(&x->pieces, e->param_count, sizeof *x->pieces, "pieces of the extension", err));
    NR_TRY(nr_alloc(&x->order, e->param_count, sizeof *x->order, "pieces of the extension", err));
    cut(x);
    put_in_order(x);
    if (ranks(x) == 1) return NR_OK;
    if (bf16) x->wire = nr_ops_cpu_isa(nr_cpu_name(), NR_COMPUTE_BF16);
    return take_buffers(x, err);
}

void nr_exchange_free(nr_exchange *x)
{
    free(x->pieces);
    free(x->order);
    free(x->receive);
    free(x->send);
    free(x->sum);
    free(x->to);
    free(x->from);
    *x = (nr_exchange){0};
}

/* ---- messages ---- */

static char *element(const nr_exchange *x, void *reals, size_t i) { return (char *)reals + i * x->ops->real_size; }

static nr_status start(nr_exchange *x, size_t slot, nr_error *err)
{
    for (size_t r = 0; r < ranks(x); r++)
        if (r != self(x)) x->bytes += x->to[r].bytes;
    return x->cluster->start(x->cluster, slot, x->to, x->from, err);
}

static nr_status wait_for(nr_exchange *x, size_t slot, nr_error *err)
{
    double began = nr_clock();
    nr_status st = x->cluster->wait(x->cluster, slot, err);
    x->seconds += nr_clock() - began;
    return st;
}

/* Where the gradients that rank r sends for slice `own` of a piece are put. */
static char *received(const nr_exchange *x, const nr_piece *p, size_t length, size_t r)
{
    return x->receive + (p->own * ranks(x) + r * length) * wire_size(x);
}

/* ---- gradients ---- */

void nr_exchange_begin(nr_exchange *x)
{
    x->started = 0;
    x->seconds = 0;
    x->bytes = 0;
    x->failed = (nr_error){0};
}

static nr_status start_piece(nr_exchange *x, size_t slot, nr_error *err)
{
    const nr_piece *p = &x->pieces[slot];
    size_t mine;
    slice_of(x, p, self(x), &mine);
    if (x->wire) x->wire->to_act(x->send + p->begin, element(x, x->e->grads, p->begin), p->end - p->begin);
    for (size_t r = 0; r < ranks(x); r++) {
        size_t length, at = slice_of(x, p, r, &length);
        char *out = x->wire ? (char *)(x->send + at) : element(x, x->e->grads, at);
        x->to[r] = (nr_part){out, length * wire_size(x)};
        x->from[r] = (nr_part){received(x, p, mine, r), mine * wire_size(x)};
    }
    return start(x, slot, err);
}

void nr_exchange_depth(void *exchange, size_t depth)
{
    nr_exchange *x = exchange;
    if (ranks(x) == 1) return;
    for (; x->started < x->count && x->pieces[x->order[x->started]].depth >= depth; x->started++)
        if (x->failed.status == NR_OK) start_piece(x, x->order[x->started], &x->failed);
}

/* What rank r gives for a slice, as reals: in place, or widened into `wide`. */
static const void *given(const nr_exchange *x, const nr_piece *p, size_t length, size_t r, const void *own, float *wide)
{
    if (r == self(x)) return own;
    const char *there = received(x, p, length, r);
    if (!x->wire) return there;
    x->wire->to_real(wide, there, length);
    return wide;
}

/* The slice's gradients, summed in the order of the ranks. */
static void add_up(nr_exchange *x, const nr_piece *p)
{
    size_t length, at = slice_of(x, p, self(x), &length), bytes = length * x->ops->real_size;
    void *own = element(x, x->e->grads, at);
    if (self(x) == 0) {
        for (size_t r = 1; r < ranks(x); r++) x->ops->add(own, given(x, p, length, r, own, x->wide), 1, length);
        return;
    }
    void *sum = x->wire ? (void *)x->sum : received(x, p, length, 0);
    if (x->wire) x->wire->to_real(sum, received(x, p, length, 0), length);
    for (size_t r = 1; r < ranks(x); r++) x->ops->add(sum, given(x, p, length, r, own, x->wide), 1, length);
    memcpy(own, sum, bytes);
}

nr_status nr_exchange_finish(nr_exchange *x, nr_error *err)
{
    if (ranks(x) == 1) return NR_OK;
    nr_exchange_depth(x, 0);
    if (x->failed.status != NR_OK) {
        if (err) *err = x->failed;
        return x->failed.status;
    }
    for (size_t i = 0; i < x->count; i++) {
        NR_TRY(wait_for(x, x->order[i], err));
        add_up(x, &x->pieces[x->order[i]]);
    }
    return NR_OK;
}

/* ---- the rank's own slices ---- */

void nr_exchange_each(const nr_exchange *x, nr_exchange_visit *visit, void *context)
{
    const nr_param *p = x->e->params;
    for (size_t i = 0; i < x->count; i++) {
        size_t length, at = slice_of(x, &x->pieces[i], self(x), &length), end = at + length, own = x->pieces[i].own;
        while (at < end) {
            size_t last = p->offset + p->shape[0] * p->shape[1];
            if (last <= at) {
                p++;
                continue;
            }
            size_t count = NR_MIN(last, end) - at;
            visit(context, p, at, own, count);
            at += count;
            own += count;
        }
    }
}

/* Slices of piece `slot` of an array from all ranks to all. */
static nr_status share(nr_exchange *x, size_t slot, void *reals, nr_error *err)
{
    size_t mine, at = slice_of(x, &x->pieces[slot], self(x), &mine);
    for (size_t r = 0; r < ranks(x); r++) {
        size_t length, begin = slice_of(x, &x->pieces[slot], r, &length);
        x->to[r] = (nr_part){element(x, reals, at), mine * x->ops->real_size};
        x->from[r] = (nr_part){element(x, reals, begin), length * x->ops->real_size};
    }
    return start(x, slot, err);
}

nr_status nr_exchange_values(nr_exchange *x, nr_error *err)
{
    for (size_t i = 0; ranks(x) > 1 && i < x->count; i++) NR_TRY(share(x, i, x->e->values, err));
    for (size_t i = 0; ranks(x) > 1 && i < x->count; i++) NR_TRY(wait_for(x, i, err));
    return NR_OK;
}

nr_status nr_exchange_parts(nr_exchange *x, nr_error *err)
{
    NR_TRY(start(x, 0, err));
    return wait_for(x, 0, err);
}

/* ---- whole arrays, for checkpoints ---- */

void *nr_exchange_whole(const nr_exchange *x, void *slices, int which)
{
    if (ranks(x) == 1) return slices;
    return which == 0 ? x->e->grads : (void *)x->receive;
}

static nr_status move(nr_exchange *x, size_t slot, void *slices, void *whole, bool to_root, nr_error *err)
{
    const nr_piece *p = &x->pieces[slot];
    size_t real = x->ops->real_size, mine, at = slice_of(x, p, self(x), &mine);
    void *own = element(x, slices, p->own);
    memset(x->to, 0, ranks(x) * sizeof *x->to);
    memset(x->from, 0, ranks(x) * sizeof *x->from);
    if (self(x) == 0) {
        for (size_t r = 1; r < ranks(x); r++) {
            size_t length, begin = slice_of(x, p, r, &length);
            (to_root ? x->from : x->to)[r] = (nr_part){element(x, whole, begin), length * real};
        }
        if (to_root)
            memcpy(element(x, whole, at), own, mine * real);
        else
            memcpy(own, element(x, whole, at), mine * real);
    } else {
        (to_root ? x->to : x->from)[0] = (nr_part){own, mine * real};
    }
    return start(x, slot, err);
}

static nr_status move_all(nr_exchange *x, void *slices, int which, bool to_root, nr_error *err)
{
    void *whole = nr_exchange_whole(x, slices, which);
    for (size_t i = 0; ranks(x) > 1 && i < x->count; i++) NR_TRY(move(x, i, slices, whole, to_root, err));
    for (size_t i = 0; ranks(x) > 1 && i < x->count; i++) NR_TRY(wait_for(x, i, err));
    return NR_OK;
}

nr_status nr_exchange_collect(nr_exchange *x, void *slices, int which, nr_error *err)
{
    return move_all(x, slices, which, true, err);
}

nr_status nr_exchange_spread(nr_exchange *x, void *slices, int which, nr_error *err)
{
    return move_all(x, slices, which, false, err);
}
