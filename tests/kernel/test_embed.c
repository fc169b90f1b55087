/* Embedding rows from tables of several types, against reading the tensor, and in double; their gradient. */
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

typedef struct {
    size_t n, C;
    const int32_t *ids;
} back_sizes;

static void run_back(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const back_sizes *s = arg;
    ops->embed_back(out[0], in[0], s->ids, s->n, s->C);
}

/* Ids that stand in many rows and in none; what was there stays. */
static void test_embed_back(void **state)
{
    static const size_t widths[] = {1, 16, 63, 64, 65, 576};
    int32_t ids[N];
    (void)state;
    for (size_t i = 0; i < N; i++) ids[i] = (int32_t)(nr_rng_u64(5, NR_RNG_TEST, i) % 9 * 4);
    for (size_t k = 0; k < NR_COUNT(widths); k++)
        for (size_t n = 0; n <= N; n += N) {
            back_sizes s = {n, widths[k], ids};
            op_case c = {"embed_back", &s, {{AS_REAL, n * s.C, 1, 0, 0}}, {{AS_REAL, V * s.C, 1, n, 0}}, run_back};
            check_op(&c);
        }
}

/* A trained table in double is read without a detour through float. */
static void test_embed_double(void **state)
{
    double table[3 * 5], x[2 * 5];
    const int32_t ids[2] = {2, 0};
    (void)state;
    for (size_t i = 0; i < 15; i++) table[i] = 1.0 / (double)(i + 3);
    nr_tensor t = {.type = NR_F64, .ndim = 2, .shape = {3, 5}, .data = (const unsigned char *)table, .size = sizeof table};
    nr_ops_reference(true)->embed(x, &t, ids, 2, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_true(x[i] == table[10 + i]);
        assert_true(x[5 + i] == table[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_embed), cmocka_unit_test(test_embed_back),
                                       cmocka_unit_test(test_embed_double)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
