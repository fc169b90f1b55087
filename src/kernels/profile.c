/*
 * profile.c - nr_profile: the operations of one table, timed.
 *
 * Each wrapper below is one line of a list: the operation's parameters, the
 * arguments passed on, and its work in products and bytes. R and A are the
 * sizes of a real and an act.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/linear.h"
#include "kernels/profile.h"

#define LINES 256

static struct {
    const nr_ops *base;
    nr_ops table;
    nr_profile_line lines[LINES];
    size_t count;
} profile;

#define R (double)profile.base->real_size
#define A (double)profile.base->act_size

/* op: the name as the wrapper has it, one string a wrapper. */
static nr_profile_line *line_of(const char *op, size_t out, size_t in)
{
    nr_profile_line *l = profile.lines, *end = l + profile.count;
    while (l < end && (l->op != op || l->out != out || l->in != in)) l++;
    if (l < end) return l;
    if (profile.count == LINES) return NULL;
    profile.count++;
    *l = (nr_profile_line){.op = op, .out = out, .in = in};
    return l;
}

/* Matrices are packed by several threads at once. */
static void add(const char *op, size_t out, size_t in, double seconds, double flops, double bytes)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    nr_profile_line *l = line_of(op, out, in);
    if (l) {
        l->calls++;
        l->seconds += seconds;
        l->flops += flops;
        l->bytes += bytes;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- the operations on rows ---- */

/* Keys that a call's queries see, over all queries of a head: a sequence's
 * query t sees start + t + 1 of them. */
static double pairs(const nr_attention *a)
{
    double t = (double)a->Tq;
    return (double)a->B * t * ((double)a->start + (t + 1) / 2);
}
static double heads(const nr_attention *a) { return (double)(a->H * a->D); }
static double rows(const nr_attention *a) { return (double)(a->B * a->Tq); }
static double cached(const nr_attention *a) { return (double)(a->B * (a->start + a->Tq) * a->K * a->D); }
static double slot_bytes(nr_slot slot, bool accumulate) { return (slot == NR_REAL ? R : A) * (accumulate ? 2 : 1); }

/* X(op, parameters, arguments, flops, bytes) */
#define TIMED(X)                                                                                                              \
    X(embed, (void *x, const nr_tensor *table, const int32_t *ids, size_t n, size_t C), (x, table, ids, n, C), 0,              \
      (double)(n * C) * (R + 2))                                                                                              \
    X(embed_back, (void *dtable, const void *dx, const int32_t *ids, size_t n, size_t C), (dtable, dx, ids, n, C), 0,          \
      (double)(n * C) * 3 * R)                                                                                                \
    X(rmsnorm, (void *y, void *x_act, void *rstd, const void *x, nr_slot slot, const void *w, size_t n, size_t C, double eps), \
      (y, x_act, rstd, x, slot, w, n, C, eps), 0, (double)(n * C) * (slot_bytes(slot, false) + (x_act ? 2 : 1) * A))           \
    X(rmsnorm_back, (void *dx, void *dx_act, void *dw, const void *dy, const void *x, nr_slot slot, const void *w,             \
                     const void *rstd, size_t n, size_t C, void *scratch),                                                    \
      (dx, dx_act, dw, dy, x, slot, w, rstd, n, C, scratch), 0,                                                                \
      (double)(n * C) * (3 * R + slot_bytes(slot, false) + (dx_act ? A : 0)))                                                  \
    X(rotary, (void *q, void *k, const void *table, const int32_t *pos, size_t n, size_t H, size_t K, size_t D, bool inverse), \
      (q, k, table, pos, n, H, K, D, inverse), 0, (double)(n * (H + K) * D) * 2 * A)                                           \
    X(attention, (void *o, void *lse, const void *q, const void *k, const void *v, const nr_attention *a, void *scratch),      \
      (o, lse, q, k, v, a, scratch), 4 * pairs(a) * heads(a), (2 * rows(a) * heads(a) + 2 * cached(a)) * A)                    \
    X(attention_back, (void *dq, void *dk, void *dv, const void *d_o, const void *o, const void *q, const void *k,             \
                       const void *v, const void *lse, const nr_attention *a, void *scratch),                                 \
      (dq, dk, dv, d_o, o, q, k, v, lse, a, scratch), 10 * pairs(a) * heads(a),                                                \
      (4 * rows(a) * heads(a) + 4 * cached(a)) * A)                                                                            \
    X(glu, (void *h, const void *g, const void *u, nr_act act, size_t n, size_t F), (h, g, u, act, n, F), 0,                   \
      (double)(n * F) * 3 * A)                                                                                                \
    X(glu_back, (void *dg, void *du, void *h, const void *dh, const void *g, const void *u, nr_act act, size_t n, size_t F),  \
      (dg, du, h, dh, g, u, act, n, F), 0, (double)(n * F) * (h ? 6 : 5) * A)                                                 \
    X(cross_entropy, (double *nll, void *d_logits, const void *logits, const int32_t *targets, double scale, size_t n,         \
                      size_t V), (nll, d_logits, logits, targets, scale, n, V), 0, (double)(n * V) * (R + (d_logits ? A : 0))) \
    X(divergence, (double *kl, uint8_t *same, const void *p, const void *q, size_t n, size_t V), (kl, same, p, q, n, V), 0,    \
      (double)(n * V) * 2 * R)                                                                                                \
    X(distil, (double *kl, void *d_q, const void *p, const void *q, const uint8_t *use, double temperature, double scale,      \
               size_t n, size_t V), (kl, d_q, p, q, use, temperature, scale, n, V), 0,                                        \
      (double)(n * V) * (2 * R + (d_q ? 2 * A : 0)))                                                                          \
    X(gate, (void *g, void *z, const void *xn, const void *w, const void *bias, nr_gate kind, size_t n, size_t C),             \
      (g, z, xn, w, bias, kind, n, C), 0, (double)(n * C) * A)                                                                \
    X(gate_add, (void *x, double *abs_sum, const void *g, const void *a, bool on_a, size_t n, size_t C),                       \
      (x, abs_sum, g, a, on_a, n, C), 0, (double)(n * C) * (2 * R + A))                                                        \
    X(gate_back, (void *da, void *dz, const void *dy, const void *a, const void *g, const void *z, const nr_gate_loss *loss,   \
                  size_t n, size_t C), (da, dz, dy, a, g, z, loss, n, C), 0, (double)(n * C) * (R + 2 * A))                    \
    X(gate_back_input, (void *dxn, void *dw, void *dbias, const void *dz, const void *xn, const void *w, size_t n, size_t C,   \
                        void *scratch), (dxn, dw, dbias, dz, xn, w, n, C, scratch), 0, (double)(n * C) * ((dxn ? 2 * R : 0) + A)) \
    X(to_act, (void *dst, const void *src, size_t n), (dst, src, n), 0, (double)n * (R + A))                                   \
    X(to_real, (void *dst, const void *src, size_t n), (dst, src, n), 0, (double)n * (R + A))                                  \
    X(scale, (void *x, double s, size_t n), (x, s, n), 0, (double)n * 2 * A)                                                   \
    X(add, (void *dst, const void *src, double s, size_t n), (dst, src, s, n), 0, (double)n * 3 * R)                           \
    X(row_norm, (double *norm, const void *x, size_t n, size_t C), (norm, x, n, C), 0, (double)(n * C) * R)                    \
    X(adamw, (void *p, const void *g, void *m, void *v, double g_scale, double lr, double beta1, double beta2, double eps,     \
              double decay, size_t t, size_t n), (p, g, m, v, g_scale, lr, beta1, beta2, eps, decay, t, n), 0,                 \
      (double)n * 7 * R)

#define WRAPPER(op, parameters, arguments, flops, bytes)          \
    static void timed_##op parameters                             \
    {                                                             \
        double began = nr_clock();                                \
        profile.base->op arguments;                               \
        add(#op, 0, 0, nr_clock() - began, (flops), (bytes));     \
    }
TIMED(WRAPPER)

static double timed_sum_squares(const void *x, size_t n)
{
    double began = nr_clock(), sum = profile.base->sum_squares(x, n);
    add("sum_squares", 0, 0, nr_clock() - began, 0, (double)n * R);
    return sum;
}

/* ---- matrix products ---- */

static void add_product(const char *op, const nr_linear *w, double began, size_t n, double row_bytes, double matrix_bytes)
{
    add(op, w->out, w->in, nr_clock() - began, 2 * (double)n * (double)(w->out * w->in), (double)n * row_bytes + matrix_bytes);
}

static nr_status timed_linear(nr_linear *w, void *y, nr_slot slot, const void *x, size_t n, bool accumulate, nr_error *err)
{
    double began = nr_clock();
    nr_status st = profile.base->linear(w, y, slot, x, n, accumulate, err);
    add_product("linear", w, began, n, (double)w->in * A + (double)w->out * slot_bytes(slot, accumulate), nr_linear_read_bytes(w, n, false));
    return st;
}

/* Under the rows of all of them. */
static nr_status timed_group(const nr_product *list, size_t count, const void *x, size_t n, nr_error *err)
{
    double began = nr_clock();
    nr_status st = profile.base->linear_group(list, count, x, n, err);
    double spent = nr_clock() - began, bytes = 0;
    size_t out = 0, in = count > 0 ? list[0].w->in : 0;
    for (size_t i = 0; i < count; i++) {
        out += list[i].w->out;
        bytes += nr_linear_read_bytes(list[i].w, n, false);
    }
    add("linear_group", out, in, spent, 2 * (double)n * (double)(out * in), (double)n * (double)(in + out) * A + bytes);
    return st;
}

static nr_status timed_back_input(nr_linear *w, void *dx, nr_slot slot, const void *dy, size_t n, bool accumulate, nr_error *err)
{
    double began = nr_clock();
    nr_status st = profile.base->linear_back_input(w, dx, slot, dy, n, accumulate, err);
    add_product("linear_back_input", w, began, n, (double)w->out * A + (double)w->in * slot_bytes(slot, accumulate), nr_linear_read_bytes(w, n, true));
    return st;
}

static nr_status timed_back_weight(nr_linear *w, void *dw, void *dbias, const void *dy, const void *x, size_t n, nr_error *err)
{
    double began = nr_clock();
    nr_status st = profile.base->linear_back_weight(w, dw, dbias, dy, x, n, err);
    add_product("linear_back_weight", w, began, n, (double)(w->out + w->in) * A, (double)(w->out * w->in) * 2 * R);
    return st;
}

static nr_status timed_pack(nr_linear *w, const void *weight, const void *bias, nr_error *err)
{
    double began = nr_clock();
    nr_status st = profile.base->linear_pack(w, weight, bias, err);
    add("linear_pack", w->out, w->in, nr_clock() - began, 0, (double)(w->out * w->in) * (R + 2 * A));
    return st;
}

static nr_status timed_pack_tensor(nr_linear *w, const nr_tensor *weight, const nr_tensor *bias, nr_error *err)
{
    double began = nr_clock();
    nr_status st = profile.base->linear_pack_tensor(w, weight, bias, err);
    add("linear_pack_tensor", w->out, w->in, nr_clock() - began, 0, (double)weight->size + (double)(w->out * w->in) * 2 * A);
    return st;
}

/* ---- the profile ---- */

const nr_ops *nr_profile_begin(const nr_ops *base)
{
    profile.base = base;
    profile.table = *base;
#define ENTRY(op, parameters, arguments, flops, bytes) profile.table.op = timed_##op;
    TIMED(ENTRY)
#undef ENTRY
    profile.table.sum_squares = timed_sum_squares;
    profile.table.linear = timed_linear;
    profile.table.linear_group = timed_group;
    profile.table.linear_back_input = timed_back_input;
    profile.table.linear_back_weight = timed_back_weight;
    profile.table.linear_pack = timed_pack;
    profile.table.linear_pack_tensor = timed_pack_tensor;
    nr_profile_clear();
    return &profile.table;
}

void nr_profile_clear(void) { profile.count = 0; }

static int by_seconds(const void *a, const void *b)
{
    const nr_profile_line *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

const nr_profile_line *nr_profile_lines(size_t *count)
{
    qsort(profile.lines, profile.count, sizeof *profile.lines, by_seconds);
    *count = profile.count;
    return profile.lines;
}
