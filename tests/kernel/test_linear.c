/*
 * Matrix products: forward, backward to the input and to the weight, against
 * the reference in double; the same bits on 1, 2, 3 and 7 threads; sentinels.
 * On the own kernels of every instruction set that runs here, and through oneDNN; a second time with oneDNN held
 * to AVX2, where its kernels divide work in other ways (tests/CMakeLists.txt).
 */
#include "op_check.h"

#include "kernels/linear.h"
#include "kernels/panel.h"

typedef struct {
    size_t n, out, in;
} shape;

typedef enum { FORWARD, BACK_INPUT, BACK_WEIGHT } product;

typedef struct {
    product kind;
    shape s;
    nr_slot slot;
    bool accumulate, bias;
} setup;

/* Rows of n around the tile of 64, primes, one token; shapes of SmolLM2-135M
 * (narrow ones in full, wide ones narrower) and of adapters and LoRA. */
static const shape shapes[] = {
    {0, 5, 3},      {1, 1, 1},      {7, 1, 64},     {5, 3, 1},        {3, 7, 5},       {13, 8, 64},
    {64, 16, 64},   {65, 17, 31},   {63, 64, 160},  {129, 160, 64},   {1, 576, 192},   {1, 192, 576},
    {2, 576, 576},  {8, 1040, 192}, {31, 520, 96},  {100, 96, 520},   {127, 141, 200}, {257, 200, 141},
    {64, 1536, 64}, {66, 64, 1536}, {1, 2053, 130}, {300, 193, 67},   {9, 70, 8999},   {100, 8999, 5},
};

/* Weights as every table can hold them. */
static float *round_weights(const nr_ops *ops, const void *w, size_t n)
{
    float *r = malloc((n + 1) * sizeof *r);
    assert_non_null(r);
    for (size_t i = 0; i < n; i++) r[i] = nr_bf16_to_f32(nr_f32_to_bf16((float)element(ops, AS_REAL, w, i)));
    return r;
}

static void pack_rounded(const nr_ops *ops, nr_linear *w, const void *weight, const void *bias)
{
    size_t n = w->out * w->in;
    float *r = round_weights(ops, weight, n);
    double *d = malloc((n + 1) * sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < n; i++) d[i] = (double)r[i];
    nr_error err = {0};
    if (ops->linear_pack(w, ops->real == NR_F64 ? (void *)d : (void *)r, bias, &err) != NR_OK) fail_msg("%s", err.message);
    free(r);
    free(d);
}

#if defined(__SANITIZE_THREAD__)
#define WATCHED true
#else
#define WATCHED false
#endif

static const nr_panel_kernels *kernels; /* that multiply; NULL: the matrix library */

/* Whether the library has this type; on a processor that it is held to, or at all. */
static bool library_has(const nr_ops *ops)
{
    nr_linear *w;
    if (nr_linear_dnnl_new(&w, ops, 1, 1, false, NR_PACK_FORWARD, NULL) != NR_OK) return false;
    ops->linear_free(w);
    return true;
}

/* in: weight (out,in), bias (out), x, and dy for the weight's gradient. out: the result, dbias. */
static void run(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const setup *t = arg;
    nr_error err = {0};
    nr_linear *w;
    unsigned uses = t->kind == BACK_INPUT ? NR_PACK_BACKWARD_INPUT : NR_PACK_FORWARD;
    nr_status made = ops->real == NR_F64 ? ops->linear_new(&w, ops, t->s.out, t->s.in, t->bias, uses, &err)
                     : kernels           ? nr_linear_panel_new_with(&w, kernels, ops, t->s.out, t->s.in, t->bias, uses, &err)
                                         : nr_linear_dnnl_new(&w, ops, t->s.out, t->s.in, t->bias, uses, &err);
    if (made != NR_OK) fail_msg("%s", err.message);
    pack_rounded(ops, w, in[0], t->bias ? in[1] : NULL);
    nr_status st;
    if (t->kind == FORWARD)
        st = ops->linear(w, out[0], t->slot, in[2], t->s.n, t->accumulate, &err);
    else if (t->kind == BACK_INPUT)
        st = ops->linear_back_input(w, out[0], t->slot, in[2], t->s.n, t->accumulate, &err);
    else
        st = ops->linear_back_weight(w, out[0], t->bias ? out[1] : NULL, in[3], in[2], t->s.n, &err);
    if (st != NR_OK) fail_msg("%s", err.message);
    ops->linear_free(w);
}

/* Rounding errors of one chain of fp32 sums grow as sqrt(K): 6e-8 / sqrt(3) each,
 * of partial sums that are on average 0.7 of the result; factor 3 to spare.
 * bf16 results: one rounding to 8 bits, 2^-8 at most. */
static double product_tolerance(nr_dtype type, size_t K)
{
    return type == NR_BF16 ? 4e-3 : 3 * 0.7 * 3.5e-8 * sqrt((double)K) + 6e-8;
}

static void compare_product(const op_case *c, const nr_ops *ops, const call *got, const call *want)
{
    const nr_ops *ref = nr_ops_reference(true);
    for (size_t o = 0; o < 2 && c->out[o].n; o++) {
        as kind = c->out[o].kind;
        double error = 0, norm = 0, tol = product_tolerance(kind == AS_ACT ? ops->act : NR_F32, c->out[o].reduction);
        for (size_t i = 0; i < c->out[o].n; i++) {
            double w = element(ref, kind, want->out[o].data, i), d = element(ops, kind, got->out[o].data, i) - w;
            error += d * d;
            norm += w * w;
        }
        /* Few elements may all be small by cancellation: their terms are what counts. */
        norm = fmax(norm, (double)c->out[o].n * (double)c->out[o].reduction * 0.5);
        if (!(error <= tol * tol * norm))
            fail_msg("%s on %s, output %zu of %zu elements: error %.3g, at most %.3g", c->name, ops->name, o, c->out[o].n,
                     sqrt(error / norm), tol);
    }
}

static const size_t threads[] = {1, 2, 3, 7};

/* Runs c on every number of threads; the first result, whose bits the others have. */
static call run_on_threads(const op_case *c, const nr_ops *ops)
{
    call first = {0};
    for (size_t i = 0; i < NR_COUNT(threads); i++) {
        nr_threads_set(threads[i]);
        call k = call_run(c, ops);
        for (size_t o = 0; i > 0 && o < 2; o++)
            if (memcmp(k.out[o].data, first.out[o].data, k.out[o].size))
                fail_msg("%s on %s: output %zu has other bits on %zu threads", c->name, ops->name, o, threads[i]);
        if (i == 0)
            first = k;
        else
            call_free(&k, c->name);
    }
    nr_threads_set(0);
    return first;
}

/* Long products take the reference in double too long: for them only the bits count. */
static void check_product(const setup *t, bool values)
{
    size_t weights = t->s.out * t->s.in, y = t->s.n * t->s.out, x = t->s.n * t->s.in;
    char name[128];
    snprintf(name, sizeof name, "product %d (%zu, %zu, %zu) slot %d accumulate %d bias %d", t->kind, t->s.n, t->s.out,
             t->s.in, t->slot, t->accumulate, t->bias);
    op_case c = {name, t, {{AS_REAL, weights, 1, 0, 0}, {AS_REAL, t->s.out, 1, 0, 0}}, {{0}}, run};
    as kind = t->slot == NR_ACT ? AS_ACT : AS_REAL;
    c.in[2] = (operand){AS_ACT, t->kind == BACK_INPUT ? y : x, 1, 0, 0};
    if (t->kind == BACK_WEIGHT) {
        c.in[3] = (operand){AS_ACT, y, 1, 0, 0};
        c.out[0] = (operand){AS_REAL, weights, 1, NR_MAX(t->s.n, 1), 0};
        if (t->bias) c.out[1] = (operand){AS_REAL, t->s.out, 1, NR_MAX(t->s.n, 1), 0};
    } else {
        size_t K = t->kind == FORWARD ? t->s.in : t->s.out;
        c.out[0] = (operand){kind, t->kind == FORWARD ? y : x, t->accumulate ? 1 : 0, K, 0};
    }
    call want = {0};
    if (values) want = call_run(&c, nr_ops_reference(true));
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++) {
        const nr_ops *ops;
        if (nr_ops_cpu(&ops, (nr_compute)compute, NULL) != NR_OK) continue;
        kernels = NULL;
        do { /* every instruction set's, then the library; that alone where it is held to some */
            kernels = getenv("DNNL_MAX_CPU_ISA") ? NULL : nr_panel_kernels_next(ops->act, kernels);
            if (!kernels && !library_has(ops)) break;
            call got = run_on_threads(&c, ops);
            if (values) compare_product(&c, ops, &got, &want);
            call_free(&got, name);
        } while (kernels && values && !WATCHED); /* long products, or all under the thread sanitizer: of the first of them */
    }
    if (values) call_free(&want, name);
}

static void test_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(shapes); i++)
        for (int v = 0; v < 8; v++) {
            setup t = {FORWARD, shapes[i], v & 1 ? NR_ACT : NR_REAL, v & 2, v & 4};
            check_product(&t, true);
        }
}

static void test_back_input(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(shapes); i++)
        for (int v = 0; v < 4; v++) {
            setup t = {BACK_INPUT, shapes[i], v & 1 ? NR_ACT : NR_REAL, v & 2, false};
            check_product(&t, true);
        }
}

static void test_back_weight(void **state)
{
    /* Long sums of few elements are what a matrix library likes to divide. */
    static const shape more[] = {{2048, 8, 64}, {2048, 16, 64}, {2048, 64, 160}, {2048, 1, 1}, {1024, 141, 96}, {1000, 24, 64},
                                 {2048, 32, 32}};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(shapes) + NR_COUNT(more); i++)
        for (int bias = 0; bias < 2; bias++) {
            setup t = {BACK_WEIGHT, i < NR_COUNT(shapes) ? shapes[i] : more[i - NR_COUNT(shapes)], NR_REAL, true, bias};
            check_product(&t, true);
        }
}

/* Adapter and LoRA matrices at the rows of a training pass. */
static void test_training_shapes(void **state)
{
    static const shape list[] = {{1024, 520, 576}, {1024, 576, 520}, {1024, 141, 576}, {1000, 1536, 141}, {2048, 576, 141}};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (int kind = FORWARD; kind <= BACK_WEIGHT; kind++) {
            setup t = {(product)kind, list[i], kind == BACK_WEIGHT ? NR_REAL : NR_ACT, kind == BACK_WEIGHT, false};
            check_product(&t, false);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_back_input),
        cmocka_unit_test(test_back_weight),
        cmocka_unit_test(test_training_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
