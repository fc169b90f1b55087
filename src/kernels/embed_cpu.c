/*
 * embed_cpu.c - rows of the embedding table, which may lie quantised in a mapped file,
 * and their gradient.
 *
 * An id may stand in many rows, so the gradient is cut by channels and each task adds
 * all rows in their order.
 */
#include "kernels/cpu.h"

typedef struct {
    float *x; /* (n, C) */
    const nr_tensor *table;
    const int32_t *ids;
    size_t n, C, rows;
} job;

static void embed_rows(void *context, size_t task)
{
    const job *j = context;
    size_t begin = task * j->rows, end = NR_MIN(begin + j->rows, j->n);
    for (size_t r = begin; r < end; r++) nr_tensor_read(j->x + r * j->C, j->table, (size_t)j->ids[r], 1);
}

void NR_CPU(embed, f32)(void *x, const nr_tensor *table, const int32_t *ids, size_t n, size_t C)
{
    job j = {x, table, ids, n, C, rows_of_task(C)};
    nr_parallel(tasks_of(n, j.rows), embed_rows, &j);
}

#define BACK_CHANNELS 64

typedef struct {
    float *dtable;
    const float *dx; /* (n, C) */
    const int32_t *ids;
    size_t n, C;
} back_job;

static void add_channels(void *context, size_t task)
{
    const back_job *j = context;
    size_t begin = task * BACK_CHANNELS, count = NR_MIN(j->C - begin, (size_t)BACK_CHANNELS);
    for (size_t r = 0; r < j->n; r++) {
        float *to = j->dtable + (size_t)j->ids[r] * j->C + begin;
        const float *from = j->dx + r * j->C + begin;
        NR_EACH(count, rstore_n(to, i, rload_n(to, i, m) + rload_n(from, i, m), m););
    }
}

void NR_CPU(embed_back, f32)(void *dtable, const void *dx, const int32_t *ids, size_t n, size_t C)
{
    back_job j = {dtable, dx, ids, n, C};
    nr_parallel(tasks_of(C, BACK_CHANNELS), add_channels, &j);
}
