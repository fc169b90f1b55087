/* embed_cpu.c - rows of the embedding table, which may lie quantised in a mapped file. */
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
