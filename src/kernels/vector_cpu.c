/* vector_cpu.c - conversions, sums and norms of flat arrays and rows. */
#include "kernels/cpu.h"

typedef struct {
    void *dst;
    const void *src;
    double *sums;
    float s;
    size_t n, C, block;
} job;

NR_INLINE size_t block_size(const job *j, size_t at) { return NR_MIN(j->n - at, (size_t)NR_CPU_BLOCK); }

/* The same bits on every instruction set, which astore_n doesn't give denormals. */
NR_INLINE void to_act_block(const job *j, size_t task, bool bf16)
{
    size_t at = task * NR_CPU_BLOCK;
    NR_EACH(block_size(j, at), {
        vf x = rload_n(j->src, at + i, m);
        vh h = vto_bf16(x);
        if (bf16) memcpy((uint16_t *)j->dst + at + i, &h, m * sizeof(uint16_t));
        else rstore_n(j->dst, at + i, x, m);
    });
}

NR_INLINE void to_real_block(const job *j, size_t task, bool bf16)
{
    size_t at = task * NR_CPU_BLOCK;
    NR_EACH(block_size(j, at), rstore_n(j->dst, at + i, aload_n(j->src, at + i, m, bf16), m););
}

NR_INLINE void scale_block(const job *j, size_t task, bool bf16)
{
    size_t at = task * NR_CPU_BLOCK;
    NR_EACH(block_size(j, at), astore_n(j->dst, at + i, aload_n(j->dst, at + i, m, bf16) * j->s, m, bf16););
}

#define VECTOR(type, bf16)                                                                                             \
    static void to_act_##type(void *context, size_t task) { to_act_block(context, task, bf16); }                       \
    static void to_real_##type(void *context, size_t task) { to_real_block(context, task, bf16); }                     \
    static void scale_##type(void *context, size_t task) { scale_block(context, task, bf16); }                         \
    void NR_CPU(to_act, type)(void *dst, const void *src, size_t n)                                                    \
    {                                                                                                                  \
        job j = {.dst = dst, .src = src, .n = n};                                                                      \
        nr_parallel(tasks_of(n, NR_CPU_BLOCK), to_act_##type, &j);                                                     \
    }                                                                                                                  \
    void NR_CPU(to_real, type)(void *dst, const void *src, size_t n)                                                   \
    {                                                                                                                  \
        job j = {.dst = dst, .src = src, .n = n};                                                                      \
        nr_parallel(tasks_of(n, NR_CPU_BLOCK), to_real_##type, &j);                                                    \
    }                                                                                                                  \
    void NR_CPU(scale, type)(void *x, double s, size_t n)                                                              \
    {                                                                                                                  \
        job j = {.dst = x, .s = (float)s, .n = n};                                                                     \
        nr_parallel(tasks_of(n, NR_CPU_BLOCK), scale_##type, &j);                                                      \
    }
NR_CPU_BOTH(VECTOR)

static void add_block(void *context, size_t task)
{
    const job *j = context;
    size_t at = task * NR_CPU_BLOCK;
    NR_EACH(block_size(j, at),
            rstore_n(j->dst, at + i, rload_n(j->dst, at + i, m) + j->s * rload_n(j->src, at + i, m), m););
}

void NR_CPU(add, f32)(void *dst, const void *src, double s, size_t n)
{
    job j = {.dst = dst, .src = src, .s = (float)s, .n = n};
    nr_parallel(tasks_of(n, NR_CPU_BLOCK), add_block, &j);
}

/* Squares and sums in double. */
NR_INLINE double squares(const float *x, size_t n)
{
    vd s[2] = {{0}};
    NR_EACH(n, {
        vf v = rload_n(x, i, m);
        vd a = vwiden_low(v), b = vwiden_high(v);
        s[0] += a * a;
        s[1] += b * b;
    });
    return vsum_d(s[0]) + vsum_d(s[1]);
}

static void norm_rows(void *context, size_t task)
{
    const job *j = context;
    size_t begin = task * j->block, end = NR_MIN(begin + j->block, j->n);
    for (size_t r = begin; r < end; r++) j->sums[r] = sqrt(squares((const float *)j->src + r * j->C, j->C));
}

void NR_CPU(row_norm, f32)(double *norm, const void *x, size_t n, size_t C)
{
    job j = {.sums = norm, .src = x, .n = n, .C = C, .block = rows_of_task(C)};
    nr_parallel(tasks_of(n, j.block), norm_rows, &j);
}

static void squares_block(void *context, size_t task)
{
    const job *j = context;
    size_t at = task * j->block;
    j->sums[task] = squares((const float *)j->src + at, NR_MIN(j->n - at, j->block));
}

/* At most this many partial sums; the block grows with n. */
#define MOST_SUMS 256

double NR_CPU(sum_squares, f32)(const void *x, size_t n)
{
    double sums[MOST_SUMS], total = 0;
    size_t least = tasks_of(n, MOST_SUMS);
    job j = {.sums = sums, .src = x, .n = n};
    j.block = NR_MAX((least + 63) / 64 * 64, (size_t)4096);
    size_t tasks = tasks_of(n, j.block);
    nr_parallel(tasks, squares_block, &j);
    for (size_t i = 0; i < tasks; i++) total += sums[i];
    return total;
}
