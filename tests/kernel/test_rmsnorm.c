/* RMSNorm, forward and backward, on every table of this machine against the reference. */
#include "op_check.h"

typedef struct {
    size_t n, C;
    bool with_dw, with_x;
    nr_slot slot; /* of x */
} sizes;

static void run_forward(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    ops->rmsnorm(out[0], s->with_x ? out[2] : NULL, out[1], in[0], s->slot, in[1], s->n, s->C, 1e-5);
}

static void run_backward(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    size_t blocks = (s->n + NR_ROW_BLOCK - 1) / NR_ROW_BLOCK;
    guarded scratch = guarded_new(blocks * s->C * ops->real_size), y = guarded_new(s->n * s->C * ops->act_size),
            rstd = guarded_new(s->n * ops->real_size);
    ops->rmsnorm(y.data, NULL, rstd.data, in[1], s->slot, in[2], s->n, s->C, 1e-5);
    ops->rmsnorm_back(out[0], s->with_dw ? out[2] : NULL, s->with_dw ? out[1] : NULL, in[0], in[1], s->slot, in[2], rstd.data, s->n, s->C,
                      scratch.data);
    guarded_free(&scratch, "scratch");
    guarded_free(&y, "y");
    guarded_free(&rstd, "rstd");
}

static void check_sizes(size_t n, size_t C, nr_slot slot)
{
    sizes s = {n, C, true, true, slot};
    as x = slot == NR_ACT ? AS_ACT : AS_REAL;
    double typical = C == 1 && slot == NR_ACT ? 4 : 0; /* a lone channel's gradient is a difference of equals */
    op_case forward = {"rmsnorm",
                       &s,
                       {{x, n * C, 2, 0, 0}, {AS_REAL, C, 1, 0, 0}},
                       {{AS_ACT, n * C, 0, C, 0}, {AS_REAL, n, 0, C, 0}, {AS_ACT, n * C, 0, 1, 0}},
                       run_forward};
    check_op(&forward);
    s.with_x = false;
    forward.out[2].n = 0;
    check_op(&forward);
    op_case backward = {"rmsnorm_back",
                        &s,
                        {{AS_REAL, n * C, 1, 0, 0}, {x, n * C, 2, 0, 0}, {AS_REAL, C, 1, 0, 0}},
                        {{AS_REAL, n * C, 1, C, typical}, {AS_REAL, C, 1, n, sqrt((double)n)}, {AS_ACT, n * C, 0, C, typical}},
                        run_backward};
    check_op(&backward);
    s.with_dw = false;
    backward.out[1].n = backward.out[2].n = 0;
    check_op(&backward);
}

static void test_rmsnorm(void **state)
{
    static const size_t list[][2] = {{0, 5},   {1, 1},   {1, 576},  {2, 3},    {7, 17},
                                     {64, 63}, {65, 65}, {130, 97}, {257, 576}};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++) {
        check_sizes(list[i][0], list[i][1], NR_REAL);
        check_sizes(list[i][0], list[i][1], NR_ACT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rmsnorm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
