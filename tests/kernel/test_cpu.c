/* Which table runs: names, types, and what is refused. */
#include "op_check.h"

static void test_names(void **state)
{
    (void)state;
    const char *here = nr_cpu_name();
    size_t known = 0;
    for (size_t i = 0; i < NR_COUNT(isa_names); i++) known += !strcmp(here, isa_names[i]);
    assert_int_equal(known, 1);
    assert_non_null(nr_ops_cpu_isa(here, NR_COMPUTE_FP32));
    assert_non_null(nr_ops_cpu_isa("baseline", NR_COMPUTE_BF16));
    assert_null(nr_ops_cpu_isa("avx10", NR_COMPUTE_FP32));
    assert_null(nr_ops_cpu_isa("", NR_COMPUTE_AUTO));
}

static void test_types(void **state)
{
    const nr_ops *ops, *automatic;
    nr_error err = {0};
    (void)state;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, &err), NR_OK);
    assert_string_equal(ops->name, "cpu-fp32");
    assert_int_equal(ops->real, NR_F32);
    assert_int_equal(ops->act, NR_F32);
    assert_ptr_equal(ops, nr_ops_cpu_isa(nr_cpu_name(), NR_COMPUTE_FP32));
    assert_int_equal(nr_ops_cpu(&automatic, NR_COMPUTE_AUTO, &err), NR_OK);
    nr_status s = nr_ops_cpu(&ops, NR_COMPUTE_BF16, &err);
    if (s == NR_OK) {
        assert_string_equal(ops->name, "cpu-bf16");
        assert_int_equal(ops->act, NR_BF16);
        assert_int_equal(ops->act_size, 2);
        assert_ptr_equal(automatic, ops);
    } else {
        assert_int_equal(s, NR_E_UNSUPPORTED);
        assert_null(ops);
        assert_non_null(strstr(err.message, "bf16"));
        assert_string_equal(automatic->name, "cpu-fp32");
    }
    assert_string_equal(nr_ops_reference(false)->name, "ref-fp32");
    assert_string_equal(nr_ops_reference(true)->name, "ref-fp64");
    assert_int_equal(nr_ops_reference(true)->act_size, 8);
}

/* Every entry of every table is there. */
static void test_complete(void **state)
{
    const nr_ops *ops;
    const char *isa;
    (void)state;
    for (size_t t = 0; table_at(t, &isa, &ops) || t < 2 * NR_COUNT(isa_names) + 2; t++) {
        if (t >= 2 * NR_COUNT(isa_names)) ops = nr_ops_reference(t % 2);
        if (!ops) continue;
        const char *from = (const char *)&ops->embed, *to = (const char *)(ops + 1);
        for (const char *p = from; p < to; p += sizeof(void *)) {
            void *entry;
            memcpy(&entry, p, sizeof entry);
            assert_non_null(entry);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_complete)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
