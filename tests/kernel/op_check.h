/*
 * op_check.h - one operation on every CPU table this machine runs, against the
 * float reference.
 *
 * A test describes its inputs and outputs and gives a function that makes the
 * call. check_op builds the same inputs for every table (act values are exact in
 * bf16, so that bf16 and float see the same numbers) and checks
 *   - the error against the reference, over all elements and at each one
 *   - that nothing beyond the outputs and the scratch was written
 *   - that inputs didn't change
 *   - the same bits on 1, 2, 3 and 7 threads
 */
#ifndef OP_CHECK_H
#define OP_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

typedef enum { AS_REAL, AS_ACT, AS_DOUBLE, AS_BYTES } as;

typedef struct {
    as kind;
    size_t n;
    double scale;     /* inputs: standard deviation. Outputs: of what stands there before, 0: garbage */
    size_t reduction; /* outputs: length of the sums behind an element */
    double typical;   /* outputs: size of an element, where few of them may all be small by cancellation */
} operand;

typedef struct {
    const char *name;
    const void *arg; /* the test's own sizes */
    operand in[8], out[4];
    void (*run)(const nr_ops *ops, const void *arg, void *const *in, void *const *out);
} op_case;

/* ---- tolerances: relative to the root mean square of the result ---- */

typedef struct {
    nr_dtype type;
    size_t reduction;
    double tolerance;
} tolerance;

static const tolerance tolerances[] = {
    {NR_F32, 1, 4e-7},        /* exp within 1.5 units and a few roundings of 6e-8 */
    {NR_F32, 4096, 1e-6},     /* lanes of up to 256 terms: 6e-8 sqrt(256) at most, random signs */
    {NR_F32, 1 << 20, 3e-6},  /* blocks of rows added up: sqrt(1024) roundings */
    {NR_BF16, 1 << 20, 4e-3}, /* one rounding to 8 bits: 2^-8 at most */
};

static double tolerance_of(nr_dtype type, size_t reduction)
{
    for (size_t i = 0; i < NR_COUNT(tolerances); i++)
        if (tolerances[i].type == type && reduction <= tolerances[i].reduction) return tolerances[i].tolerance;
    fail_msg("no tolerance for a reduction of %zu", reduction);
    return 0;
}

/* ---- memory with sentinels ---- */

#define GUARD 256

typedef struct {
    unsigned char *base, *data;
    size_t size;
} guarded;

static guarded guarded_new(size_t size)
{
    guarded g = {.size = size};
    size_t all = (size + 2 * GUARD + 63) / 64 * 64;
    g.base = aligned_alloc(64, all);
    assert_non_null(g.base);
    memset(g.base, 0xa5, all);
    g.data = g.base + GUARD;
    return g;
}

static void guarded_free(guarded *g, const char *what)
{
    for (size_t i = 0; i < GUARD; i++)
        if (g->base[i] != 0xa5 || g->data[g->size + i] != 0xa5)
            fail_msg("%s: wrote beyond its %zu bytes", what, g->size);
    free(g->base);
}

/* ---- elements ---- */

static size_t element_size(const nr_ops *ops, as kind)
{
    return kind == AS_REAL ? ops->real_size : kind == AS_ACT ? ops->act_size : kind == AS_DOUBLE ? sizeof(double) : 1;
}

static double element(const nr_ops *ops, as kind, const void *p, size_t i)
{
    if (kind == AS_BYTES) return ((const uint8_t *)p)[i];
    if (kind == AS_DOUBLE || (kind == AS_REAL ? ops->real : ops->act) == NR_F64) return ((const double *)p)[i];
    if (kind == AS_ACT && ops->act == NR_BF16) return (double)nr_bf16_to_f32(((const uint16_t *)p)[i]);
    return (double)((const float *)p)[i];
}

static void set_element(const nr_ops *ops, as kind, void *p, size_t i, double v)
{
    if (kind == AS_BYTES) ((uint8_t *)p)[i] = (uint8_t)v;
    else if (kind == AS_DOUBLE || (kind == AS_REAL ? ops->real : ops->act) == NR_F64) ((double *)p)[i] = v;
    else if (kind == AS_ACT && ops->act == NR_BF16) ((uint16_t *)p)[i] = nr_f32_to_bf16((float)v);
    else ((float *)p)[i] = (float)v;
}

/* Normal numbers, drawn once: drawing takes longer than the operations do. */
#define POOL ((size_t)1 << 18)

static double normal(uint64_t sequence, size_t i)
{
    static double pool[POOL];
    if (pool[0] == 0)
        for (size_t k = 0; k < POOL; k++) pool[k] = nr_rng_normal(7, NR_RNG_TEST, k);
    return pool[(sequence * 20011 + i) % POOL];
}

/* The same numbers for every table: floats for real, exact bf16 for act. */
static void fill(const nr_ops *ops, const operand *o, void *p, uint64_t sequence)
{
    for (size_t i = 0; i < o->n; i++) {
        float v = (float)(o->scale * normal(sequence, i));
        if (o->kind == AS_ACT) v = nr_bf16_to_f32(nr_f32_to_bf16(v));
        set_element(ops, o->kind, p, i, (double)v);
    }
}

/* ---- one call ---- */

typedef struct {
    guarded in[8], copy[8], out[4];
} call;

static call call_run(const op_case *c, const nr_ops *ops)
{
    call k = {0};
    void *in[8], *out[4];
    for (size_t i = 0; i < 8; i++) {
        k.in[i] = guarded_new(c->in[i].n * element_size(ops, c->in[i].kind));
        k.copy[i] = guarded_new(k.in[i].size);
        if (c->in[i].n) fill(ops, &c->in[i], k.in[i].data, 1 + i);
        memcpy(k.copy[i].data, k.in[i].data, k.in[i].size);
        in[i] = k.in[i].data;
    }
    for (size_t i = 0; i < 4; i++) {
        k.out[i] = guarded_new(c->out[i].n * element_size(ops, c->out[i].kind));
        if (c->out[i].n && c->out[i].scale > 0) fill(ops, &c->out[i], k.out[i].data, 11 + i);
        out[i] = k.out[i].data;
    }
    c->run(ops, c->arg, in, out);
    for (size_t i = 0; i < 8; i++)
        if (memcmp(k.in[i].data, k.copy[i].data, k.in[i].size)) fail_msg("%s: input %zu changed", c->name, i);
    return k;
}

static void call_free(call *k, const char *name)
{
    for (size_t i = 0; i < 8; i++) {
        guarded_free(&k->in[i], name);
        guarded_free(&k->copy[i], name);
    }
    for (size_t i = 0; i < 4; i++) guarded_free(&k->out[i], name);
}

static void compare(const op_case *c, const char *isa, const nr_ops *ops, const call *k, const call *want)
{
    const nr_ops *ref = nr_ops_reference(false);
    for (size_t o = 0; o < 4 && c->out[o].n; o++) {
        as kind = c->out[o].kind;
        double error = 0, norm = 0, tol = tolerance_of(kind == AS_ACT ? ops->act : NR_F32, c->out[o].reduction);
        for (size_t i = 0; i < c->out[o].n; i++) {
            double w = element(ref, kind, want->out[o].data, i), d = element(ops, kind, k->out[o].data, i) - w;
            error += d * d;
            norm += w * w;
        }
        norm = fmax(norm, (double)c->out[o].n * c->out[o].typical * c->out[o].typical);
        double rms = sqrt(norm / (double)c->out[o].n);
        if (!(sqrt(error) <= tol * sqrt(norm) + 1e-30))
            fail_msg("%s on %s %s, output %zu of %zu elements: error %.3g, at most %.3g", c->name, isa, ops->name, o,
                     c->out[o].n, sqrt(error / norm), tol);
        for (size_t i = 0; i < c->out[o].n; i++) {
            double w = element(ref, kind, want->out[o].data, i), d = element(ops, kind, k->out[o].data, i) - w;
            if (!(fabs(d) <= 8 * tol * (fabs(w) + rms) + 1e-30))
                fail_msg("%s on %s %s, output %zu element %zu: %.9g, expected %.9g", c->name, isa, ops->name, o, i,
                         w + d, w);
        }
    }
}

static const char *const isa_names[] = {"baseline", "avx2", "avx512", "avx512-bf16"};

/* Every table of this machine; isa and ops by index, false at the end. */
static bool table_at(size_t i, const char **isa, const nr_ops **ops)
{
    *ops = NULL;
    if (i >= 2 * NR_COUNT(isa_names)) return false;
    *isa = isa_names[i / 2];
    *ops = nr_ops_cpu_isa(*isa, i % 2 ? NR_COMPUTE_BF16 : NR_COMPUTE_FP32);
    return true;
}

static __attribute__((unused)) void check_op(const op_case *c)
{
    static const size_t threads[] = {1, 2, 3, 7};
    call want = call_run(c, nr_ops_reference(false));
    const nr_ops *ops;
    const char *isa;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops) continue;
        call first = {0};
        for (size_t n = 0; n < NR_COUNT(threads); n++) {
            nr_threads_set(threads[n]);
            call k = call_run(c, ops);
            for (size_t o = 0; n > 0 && o < 4; o++)
                if (memcmp(k.out[o].data, first.out[o].data, k.out[o].size))
                    fail_msg("%s on %s %s: output %zu has other bits on %zu threads", c->name, isa, ops->name, o,
                             threads[n]);
            if (n == 0) {
                compare(c, isa, ops, &k, &want);
                first = k;
            } else call_free(&k, c->name);
        }
        call_free(&first, c->name);
    }
    call_free(&want, c->name);
    nr_threads_set(0);
}

#endif
