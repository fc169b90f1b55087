/* rotary_cpu.c - rotates halves of every query and key head in place; see rotary_ref.inc. */
#include "kernels/cpu.h"

typedef struct {
    void *q, *k;
    const float *table;
    const int32_t *pos;
    size_t n, H, K, D, rows;
    bool inverse;
} job;

NR_INLINE void rotate_rows(const job *j, size_t task, bool bf16)
{
    size_t half = j->D / 2, begin = task * j->rows, end = NR_MIN(begin + j->rows, j->n);
    float sign = j->inverse ? -1.0f : 1.0f;
    for (size_t r = begin; r < end; r++) {
        const float *cosine = j->table + (size_t)j->pos[r] * j->D, *sine = cosine + half;
        for (size_t h = 0; h < j->H + j->K; h++) {
            bool query = h < j->H;
            void *x = query ? act_at_mut(j->q, (r * j->H + h) * j->D, bf16) : act_at_mut(j->k, (r * j->K + h - j->H) * j->D, bf16);
            NR_EACH(half, {
                vf a = aload_n(x, i, m, bf16), b = aload_n(x, i + half, m, bf16);
                vf c = rload_n(cosine, i, m), s = rload_n(sine, i, m) * sign;
                astore_n(x, i, a * c - b * s, m, bf16);
                astore_n(x, i + half, b * c + a * s, m, bf16);
            });
        }
    }
}

#define ROTARY(type, bf16)                                                                                             \
    static void rotate_rows_##type(void *context, size_t task) { rotate_rows(context, task, bf16); }                   \
    void NR_CPU(rotary, type)(void *q, void *k, const void *table, const int32_t *pos, size_t n, size_t H, size_t K,   \
                              size_t D, bool inverse)                                                                  \
    {                                                                                                                  \
        job j = {q, k, table, pos, n, H, K, D, rows_of_task((H + K) * D), inverse};                                    \
        nr_parallel(tasks_of(n, j.rows), rotate_rows_##type, &j);                                                      \
    }
NR_CPU_BOTH(ROTARY)
