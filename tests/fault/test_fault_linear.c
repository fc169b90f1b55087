/* Every allocation of making, packing and multiplying fails in turn: a status and one line, never a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "kernels/ops.h"

static nr_status work(const nr_ops *ops, const nr_tensor *t, const nr_tensor *bias, void *buffer, nr_error *err)
{
    nr_status st = NR_OK;
    nr_linear *w = NULL;
    NR_GO(ops->linear_new(&w, ops, 200, 32, true, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, err));
    NR_GO(ops->linear_pack_tensor(w, t, bias, err));
    NR_GO(ops->linear_prepare(w, 70, true, err));
    NR_GO(ops->linear(w, buffer, NR_ACT, t->data, 3, false, err));
    NR_GO(ops->linear_back_input(w, buffer, NR_REAL, t->data, 3, true, err));
    NR_GO(ops->linear_back_weight(w, buffer, NULL, t->data, t->data, 3, err));
done:
    ops->linear_free(w);
    return st;
}

static void sweep(const nr_ops *ops)
{
    static double numbers[200 * 32], out[200 * 32];
    char weight_name[] = "w", bias_name[] = "b";
    nr_tensor t = {.name = weight_name, .type = NR_F32, .ndim = 2, .shape = {200, 32}, .data = (void *)numbers, .size = 25600};
    nr_tensor bias = {.name = bias_name, .type = NR_F32, .ndim = 1, .shape = {200}, .data = (void *)numbers, .size = 800};
    long n = 0;
    for (;; n++) {
        nr_error err = {0};
        fault_arm(n);
        nr_status st = work(ops, &t, &bias, out, &err);
        if (!fault_disarm()) {
            assert_int_equal(st, NR_OK);
            break;
        }
        assert_int_equal(st, NR_E_MEMORY);
        assert_true(strlen(err.message) > 10);
        assert_null(strchr(err.message, '\n'));
    }
    assert_true(n > 2); /* the sweep reached something */
}

static void test_allocations(void **state)
{
    (void)state;
    nr_threads_set(1); /* the same order of calls in every round */
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++) {
        const nr_ops *ops;
        if (nr_ops_cpu(&ops, (nr_compute)compute, NULL) == NR_OK) sweep(ops);
    }
    sweep(nr_ops_reference(false));
    sweep(nr_ops_reference(true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_allocations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
