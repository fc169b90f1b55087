/*
 * Products of several matrices with the same x, bit for bit those of each alone:
 * ordinary matrices in fp32 and bf16, and int8, on 1, 2 and 5 threads, with more
 * of them than one call takes together; and the same in a crew that was told what
 * is read afterwards.
 */
#include "op_check.h"

#include "kernels/linear_int8.h"

enum { MOST_ROWS = 520, IN = 97, COUNT = 10 };

static const size_t outs[COUNT] = {192, 65, 1, 64, 130, 7, 63, 128, 16, 200};

static float *numbers(size_t n, uint64_t sequence)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = (float)nr_rng_normal(1, NR_RNG_TEST + sequence, i);
    return x;
}

static nr_tensor tensor_of(const float *x, size_t rows, size_t cols)
{
    size_t size = rows * (cols ? cols : 1) * sizeof *x;
    return (nr_tensor){.name = (char *)(uintptr_t)"w", .type = NR_F32, .ndim = cols ? 2 : 1, .shape = {rows, cols},
                       .data = (const unsigned char *)x, .size = size};
}

static void make(nr_linear **w, const nr_ops *ops, bool int8, size_t i)
{
    nr_error err = {0};
    float *weight = numbers(outs[i] * IN, 2 * i), *bias = numbers(outs[i], 2 * i + 1);
    nr_tensor t = tensor_of(weight, outs[i], IN), b = tensor_of(bias, outs[i], 0);
    bool has_bias = i % 2;
    nr_status st;
    if (int8) {
        st = nr_linear_int8_new(w, ops, outs[i], IN, &t, has_bias ? &b : NULL, NR_PACK_FORWARD, true, &err);
    } else {
        st = ops->linear_new(w, ops, outs[i], IN, has_bias, NR_PACK_FORWARD, &err);
        if (st == NR_OK) st = ops->linear_pack_tensor(*w, &t, has_bias ? &b : NULL, &err);
    }
    if (st != NR_OK) fail_msg("%s", err.message);
    free(weight);
    free(bias);
}

typedef struct {
    const nr_ops *ops;
    const nr_product *list;
    size_t count, n;
    const void *x;
} group;

/* What follows the products may be nothing, less than they ask for at once, or more runs than some have tasks. */
static nr_status lead_told(void *context, nr_error *err)
{
    static const char kept[70000];
    static const nr_read_ahead told[] = {{{kept}, {1}, true}, {{NULL}, {0}, true}, {{kept, kept, kept + 1, kept}, {70000, 0, 6001, 129}, true}};
    const group *g = context;
    for (size_t k = 0; k < NR_COUNT(told); k++) {
        nr_crew_ahead(&told[k]);
        NR_TRY(g->ops->linear_group(g->list, g->count, g->x, g->n, err));
        for (size_t i = 0; i < g->count; i++)
            NR_TRY(g->ops->linear(g->list[i].w, g->list[i].y, NR_ACT, g->x, g->n, false, err));
    }
    nr_crew_ahead(NULL);
    return NR_OK;
}

static void check(const nr_ops *ops, bool int8)
{
    static const size_t rows[] = {0, 1, 5, 50, 129, MOST_ROWS}, threads[] = {1, 2, 5};
    nr_linear *w[COUNT];
    nr_product list[COUNT];
    char *alone[COUNT];
    float *x = numbers(MOST_ROWS * IN, 99);
    char *x_act = malloc(MOST_ROWS * IN * ops->act_size);
    nr_error err = {0};
    ops->to_act(x_act, x, MOST_ROWS * IN);
    for (size_t i = 0; i < COUNT; i++) {
        make(&w[i], ops, int8, i);
        list[i] = (nr_product){w[i], malloc(MOST_ROWS * outs[i] * ops->act_size)};
        alone[i] = malloc(MOST_ROWS * outs[i] * ops->act_size);
    }
    for (size_t k = 0; k < NR_COUNT(rows); k++)
        for (size_t t = 0; t < NR_COUNT(threads); t++) {
            nr_threads_set(threads[t]);
            for (size_t i = 0; i < COUNT; i++) {
                size_t bytes = rows[k] * outs[i] * ops->act_size;
                memset(list[i].y, 0x55, bytes);
                if (ops->linear(w[i], alone[i], NR_ACT, x_act, rows[k], false, &err) != NR_OK) fail_msg("%s", err.message);
            }
            if (ops->linear_group(list, COUNT, x_act, rows[k], &err) != NR_OK) fail_msg("%s", err.message);
            for (size_t i = 0; i < COUNT; i++) assert_memory_equal(list[i].y, alone[i], rows[k] * outs[i] * ops->act_size);
            group g = {ops, list, COUNT, rows[k], x_act};
            if (nr_crew(lead_told, &g, &err) != NR_OK) fail_msg("%s", err.message);
            for (size_t i = 0; i < COUNT; i++) assert_memory_equal(list[i].y, alone[i], rows[k] * outs[i] * ops->act_size);
        }
    nr_threads_set(0);
    for (size_t i = 0; i < COUNT; i++) {
        ops->linear_free(w[i]);
        free(list[i].y);
        free(alone[i]);
    }
    free(x);
    free(x_act);
}

static void groups(void **state)
{
    (void)state;
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++) {
        const nr_ops *ops;
        if (nr_ops_cpu(&ops, (nr_compute)compute, NULL) != NR_OK) continue;
        check(ops, false);
        if (nr_linear_int8_can(ops, NULL) == NR_OK) check(ops, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(groups)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
