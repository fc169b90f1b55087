/* Embedding rows from tables of several types, against reading the tensor, and in double. */
#include "op_check.h"

enum { V = 37, C = 64, N = 301 };

static void check_table(const nr_tensor *table)
{
    static const size_t threads[] = {1, 2, 3, 7};
    int32_t ids[N];
    float want[C];
    const nr_ops *ops;
    const char *isa;
    for (size_t i = 0; i < N; i++) ids[i] = (int32_t)(i * 11 % V);
    for (size_t t = 0; table_at(t, &isa, &ops); t++)
        for (size_t k = 0; ops && k < NR_COUNT(threads); k++) {
            nr_threads_set(threads[k]);
            guarded x = guarded_new(N * C * sizeof(float));
            ops->embed(x.data, table, ids, N, C);
            for (size_t i = 0; i < N; i++) {
                nr_tensor_read(want, table, (size_t)ids[i], 1);
                assert_memory_equal(x.data + i * sizeof want, want, sizeof want);
            }
            guarded_free(&x, "embed");
        }
    nr_threads_set(0);
    guarded wide = guarded_new(N * C * sizeof(double)), narrow = guarded_new(N * C * sizeof(float));
    nr_ops_reference(true)->embed(wide.data, table, ids, N, C);
    nr_ops_reference(false)->embed(narrow.data, table, ids, N, C);
    for (size_t i = 0; i < N; i++) {
        nr_tensor_read(want, table, (size_t)ids[i], 1);
        for (size_t c = 0; c < C; c++) assert_true(((double *)(void *)wide.data)[i * C + c] == (double)want[c]);
        assert_memory_equal(narrow.data + i * sizeof want, want, sizeof want);
    }
    guarded_free(&wide, "embed in double");
    guarded_free(&narrow, "embed");
}

static void test_embed(void **state)
{
    static const nr_dtype types[] = {NR_F32, NR_BF16, NR_F16, NR_Q8_0, NR_Q4_1};
    (void)state;
    for (size_t k = 0; k < NR_COUNT(types); k++) {
        const nr_dtype_info *info = &nr_dtypes[types[k]];
        size_t size = V * C / info->block * info->bytes;
        guarded data = guarded_new(size);
        for (size_t i = 0; i < size; i++)
            data.data[i] = (unsigned char)(nr_rng_u64(3, NR_RNG_TEST, i) & 0x3f); /* no NaN */
        nr_tensor table = {.type = types[k], .ndim = 2, .shape = {V, C}, .data = data.data, .size = size};
        check_table(&table);
        guarded_free(&data, "table");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_embed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
