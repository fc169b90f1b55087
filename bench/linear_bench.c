/*
 * linear_bench.c - speed of the matrix product on the shapes of a 135 M model.
 *
 *   linear_bench [--threads N] [--quick]
 *
 * Prints, for every shape, row count and type, the best of several runs in
 * GFLOP/s, after a warm-up; for one row GB/s of weights, beside what a plain
 * copy of memory reaches; the time of packing; and the cost of a new matrix.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

static void *memory(size_t n)
{
    void *p = NULL;
    nr_error err;
    if (nr_alloc(&p, n, 1, "a bench buffer", &err) != NR_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return p;
}

static void must(nr_status st, const nr_error *err)
{
    if (st == NR_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static void fill(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (float)((i * 2654435761u >> 8 & 0xffff) / 65536.0 - 0.5);
}

typedef struct {
    const nr_ops *ops;
    nr_linear *w;
    void *x, *y, *dw; /* x (n,in) act, y (n,out) act or real */
    size_t n;
} run;

typedef nr_status (*call)(const run *r, nr_error *err);

static nr_status forward(const run *r, nr_error *err)
{
    return r->ops->linear(r->w, r->y, NR_REAL, r->x, r->n, false, err);
}

static nr_status forward_act(const run *r, nr_error *err)
{
    return r->ops->linear(r->w, r->y, NR_ACT, r->x, r->n, false, err);
}

static nr_status back_input(const run *r, nr_error *err)
{
    return r->ops->linear_back_input(r->w, r->x, NR_ACT, r->y, r->n, false, err);
}

static nr_status back_weight(const run *r, nr_error *err)
{
    return r->ops->linear_back_weight(r->w, r->dw, NULL, r->y, r->x, r->n, err);
}

/* Best of the runs that fit into `seconds`. */
static double best(call f, const run *r, double seconds)
{
    nr_error err;
    double least = 1e9, end = nr_clock() + seconds;
    must(f(r, &err), &err);
    for (int i = 0; i < 3 || nr_clock() < end; i++) {
        double begin = nr_clock();
        must(f(r, &err), &err);
        least = NR_MIN(least, nr_clock() - begin);
    }
    return least;
}

static void make(run *r, const nr_ops *ops, size_t n, size_t out, size_t in)
{
    nr_error err;
    float *weight = memory(out * in * sizeof *weight), *values = memory(NR_MAX(in, out) * n * sizeof *values);
    fill(weight, out * in);
    fill(values, NR_MAX(in, out) * n);
    *r = (run){.ops = ops, .n = n, .x = memory(n * in * sizeof(float)), .y = memory(n * out * sizeof(float))};
    r->dw = out * in <= 4 << 20 ? memory(out * in * sizeof(float)) : NULL;
    ops->to_act(r->x, values, n * in);
    ops->to_act(r->y, values, n * out);
    must(ops->linear_new(&r->w, ops, out, in, false, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
    must(ops->linear_pack(r->w, weight, NULL, &err), &err);
    free(weight);
    free(values);
}

static void drop(run *r)
{
    r->ops->linear_free(r->w);
    free(r->x);
    free(r->y);
    free(r->dw);
}

static const size_t shapes[][2] = {{1536, 576}, {576, 1536}, {576, 576}, {192, 576}, {1040, 576}, {520, 576},
                                   {576, 520},  {141, 576},  {960, 576}, {3072, 576}, {49152, 576}};

static void products(const nr_ops *ops, const size_t *rows, size_t row_counts, double seconds)
{
    printf("%s, %zu threads, GFLOP/s\n%14s %6s %9s %9s %9s %9s\n", ops->name, nr_threads_get(), "(out, in)", "n", "forward",
           "to act", "to input", "to weight");
    for (size_t s = 0; s < NR_COUNT(shapes); s++)
        for (size_t i = 0; i < row_counts; i++) {
            size_t out = shapes[s][0], in = shapes[s][1], n = rows[i];
            if (out > 40000 && n > 1024) continue;
            run r;
            make(&r, ops, n, out, in);
            double flop = 2.0 * (double)n * (double)out * (double)in * 1e-9;
            char shape[32];
            snprintf(shape, sizeof shape, "(%zu, %zu)", out, in);
            /* to input first: it reads y, which the forward pass overwrites with reals */
            double input = flop / best(back_input, &r, seconds), act = flop / best(forward_act, &r, seconds);
            double weight = r.dw ? flop / best(back_weight, &r, seconds) : 0;
            printf("%14s %6zu %9.0f %9.0f %9.0f %9.0f\n", shape, n, flop / best(forward, &r, seconds), act, input, weight);
            fflush(stdout);
            drop(&r);
        }
}

/* ---- one row: many matrices in turn, larger together than the caches ---- */

typedef struct {
    char *to;
    const char *from;
    size_t part;
} copy_job;

static void copy_part(void *context, size_t i)
{
    const copy_job *j = context;
    memcpy(j->to + i * j->part, j->from + i * j->part, j->part);
}

static double copy_speed(void)
{
    size_t size = (size_t)256 << 20, parts = 64;
    copy_job j = {memory(size), memory(size), size / parts};
    double least = 1e9;
    for (int i = 0; i < 6; i++) {
        double begin = nr_clock();
        nr_parallel(parts, copy_part, &j);
        if (i) least = NR_MIN(least, nr_clock() - begin);
    }
    free(j.to);
    free((void *)(uintptr_t)j.from);
    return 2 * (double)size / least * 1e-9;
}

static void decode(const nr_ops *ops, size_t n)
{
    enum { count = 96 };
    static run many[count];
    static const size_t layer[][2] = {{576, 576}, {192, 576}, {576, 576}, {1536, 576}, {1536, 576}, {576, 1536}};
    double weights = 0, least = 1e9;
    nr_error err;
    for (size_t i = 0; i < count; i++) {
        const size_t *s = layer[i % NR_COUNT(layer)];
        make(&many[i], ops, n, s[0], s[1]);
        must(ops->linear_prepare(many[i].w, n, false, &err), &err);
        weights += (double)(s[0] * s[1] * ops->act_size);
    }
    for (int pass = 0; pass < 20; pass++) {
        double begin = nr_clock();
        for (size_t i = 0; i < count; i++) must(forward_act(&many[i], &err), &err);
        if (pass) least = NR_MIN(least, nr_clock() - begin);
    }
    printf("%s, n = %zu, %d matrices of %.0f MB in turn: %.0f us, %.1f GB/s of weights, %.0f GFLOP/s\n", ops->name, n, count,
           weights * 1e-6, least * 1e6, weights / least * 1e-9, 2 * (double)n * weights / (double)ops->act_size / least * 1e-9);
    for (size_t i = 0; i < count; i++) drop(&many[i]);
}

/* ---- packing and making ---- */

static void packing(const nr_ops *ops, size_t out, size_t in, int count)
{
    nr_error err;
    nr_linear *w;
    float *weight = memory(out * in * sizeof *weight);
    double least = 1e9, begin;
    fill(weight, out * in);
    must(ops->linear_new(&w, ops, out, in, false, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
    for (int i = 0; i < count; i++) {
        begin = nr_clock();
        must(ops->linear_pack(w, weight, NULL, &err), &err);
        if (i) least = NR_MIN(least, nr_clock() - begin);
    }
    ops->linear_free(w);
    double make = nr_clock(), prepare;
    must(ops->linear_new(&w, ops, out, in, false, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
    make = nr_clock() - make;
    prepare = nr_clock();
    must(ops->linear_prepare(w, 1024, true, &err), &err);
    prepare = nr_clock() - prepare;
    ops->linear_free(w);
    printf("%s (%zu, %zu): both packings %.0f us, %.1f GB/s read; new %.0f us, prepare 1024 rows %.0f us, packed %.1f MB\n",
           ops->name, out, in, least * 1e6, (double)(out * in) * 4e-9 / least, make * 1e6, prepare * 1e6,
           (double)ops->linear_bytes(ops, out, in, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT) * 1e-6);
    free(weight);
}

int main(int argc, char **argv)
{
    static const size_t all[] = {512, 1024, 2048}, few[] = {1024};
    static const size_t small[] = {1, 8, 32, 64, 128, 256};
    bool quick = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            nr_threads_set((size_t)strtoul(argv[++i], NULL, 10));
        else if (!strcmp(argv[i], "--quick"))
            quick = true;
        else {
            fprintf(stderr, "usage: linear_bench [--threads N] [--quick]\n");
            return 2;
        }
    }
    printf("%s, %s, copy of memory %.1f GB/s (read and written)\n", nr_cpu_name(), nr_matrix_library(), copy_speed());
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++) {
        const nr_ops *ops;
        nr_error err;
        if (nr_ops_cpu(&ops, (nr_compute)compute, &err) != NR_OK) {
            printf("%s\n", err.message);
            continue;
        }
        products(ops, quick ? few : all, quick ? NR_COUNT(few) : NR_COUNT(all), quick ? 0.02 : 0.1);
        if (!quick) products(ops, small, NR_COUNT(small), 0.05);
        for (size_t n = 1; n <= 8; n *= 2) decode(ops, n);
        packing(ops, 520, 576, 50);
        packing(ops, 576, 520, 50);
        packing(ops, 1536, 576, 30);
        packing(ops, 49152, 576, 4);
    }
    return 0;
}
