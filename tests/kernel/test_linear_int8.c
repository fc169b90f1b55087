/*
 * Products of frozen matrices in int8: exactly the sums of the rounded numbers,
 * as near to the unrounded product as the rounding allows, the same bits on any
 * number of threads; what is refused. Skipped where the machine has none.
 */
#include "op_check.h"

#include "kernels/linear_int8.h"

typedef struct {
    size_t n, out, in;
} shape;

static const shape shapes[] = {{1, 64, 64}, {3, 192, 576}, {64, 576, 576}, {65, 70, 45}, {130, 200, 641}, {257, 1536, 64}, {96, 64, 2048}};

typedef struct {
    const nr_ops *ops;
    shape s;
    bool back, accumulate, bias;
    nr_slot slot;
    nr_tensor weight, bias_tensor;
    float *w, *b, *x, *start; /* x (n, depth): values that act can hold */
    double *exact, *rounded, *room; /* (n, cols): the product, of rounded numbers, and how far they may be apart */
} setup;

static size_t depth_of(const setup *t) { return t->back ? t->s.out : t->s.in; }
static size_t cols_of(const setup *t) { return t->back ? t->s.in : t->s.out; }

static float *numbers(size_t n, uint64_t seed, double scale, bool bf16)
{
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        p[i] = (float)(scale * nr_rng_normal(seed, NR_RNG_TEST, i));
        if (bf16) p[i] = nr_bf16_to_f32(nr_f32_to_bf16(p[i]));
    }
    return p;
}

static nr_tensor tensor_of(const float *data, size_t rows, size_t cols)
{
    nr_tensor t = {.name = (char *)(uintptr_t)"w", .type = NR_F32, .ndim = 2, .shape = {rows, cols}, .data = (const unsigned char *)data,
                   .size = rows * cols * sizeof *data};
    if (rows == 1) t = (nr_tensor){.name = t.name, .type = NR_F32, .ndim = 1, .shape = {cols}, .data = t.data, .size = t.size};
    return t;
}

/* Weight between input k and output c of the product. */
static float weight_at(const setup *t, size_t k, size_t c) { return t->back ? t->w[k * t->s.in + c] : t->w[c * t->s.in + k]; }

/* The definition in linear_int8.h, number by number. */
static void expect(setup *t)
{
    size_t depth = depth_of(t), cols = cols_of(t);
    float *sw = malloc(cols * sizeof *sw), *sx = malloc(t->s.n * sizeof *sx), *inverse = malloc(t->s.n * sizeof *inverse);
    assert_true(sw && sx && inverse);
    for (size_t c = 0; c < cols; c++) {
        float most = 0;
        for (size_t k = 0; k < depth; k++) most = fmaxf(most, fabsf(weight_at(t, k, c)));
        sw[c] = most / 127;
    }
    for (size_t r = 0; r < t->s.n; r++) {
        float most = 0;
        for (size_t k = 0; k < depth; k++) most = fmaxf(most, fabsf(t->x[r * depth + k]));
        sx[r] = most / 127;
        inverse[r] = most > 0 ? 127 / most : 0;
    }
    for (size_t r = 0; r < t->s.n; r++)
        for (size_t c = 0; c < cols; c++) {
            long sum = 0;
            double exact = 0, room = 0;
            for (size_t k = 0; k < depth; k++) {
                float w = weight_at(t, k, c), x = t->x[r * depth + k];
                sum += lround((double)(sw[c] > 0 ? w / sw[c] : 0)) * lrint((double)x * (double)inverse[r]);
                exact += (double)w * (double)x;
                room += 0.5 * (fabs((double)w * (double)sx[r]) + fabs((double)x * (double)sw[c])) + 0.25 * (double)sx[r] * (double)sw[c];
            }
            double more = (t->bias && !t->back ? (double)t->b[c] : 0) + (t->accumulate ? (double)t->start[r * cols + c] : 0);
            size_t at = r * cols + c;
            t->exact[at] = exact + more;
            t->rounded[at] = (double)sx[r] * (double)sw[c] * (double)sum + more;
            t->room[at] = room;
        }
    free(sw);
    free(sx);
    free(inverse);
}

static void store(const nr_ops *ops, nr_slot slot, void *to, const float *from, size_t n)
{
    if (slot == NR_ACT) ops->to_act(to, from, n);
    else memcpy(to, from, n * sizeof *from);
}

static void run(const setup *t, void *y, size_t threads)
{
    nr_error err = {0};
    nr_linear *w;
    size_t n = t->s.n;
    unsigned use = t->back ? NR_PACK_BACKWARD_INPUT : NR_PACK_FORWARD;
    nr_threads_set(threads);
    if (nr_linear_int8_new(&w, t->ops, t->s.out, t->s.in, &t->weight, t->bias ? &t->bias_tensor : NULL, use, true, &err) != NR_OK)
        fail_msg("%s", err.message);
    void *x = malloc(n * depth_of(t) * sizeof(float) + 64);
    assert_non_null(x);
    t->ops->to_act(x, t->x, n * depth_of(t));
    store(t->ops, t->slot, y, t->start, n * cols_of(t));
    nr_status st = nr_linear_prepare(w, n, false, &err);
    if (st == NR_OK)
        st = t->back ? nr_linear_back_input(w, y, t->slot, x, n, t->accumulate, &err) : nr_linear_forward(w, y, t->slot, x, n, t->accumulate, &err);
    if (st != NR_OK) fail_msg("%s", err.message);
    free(x);
    nr_linear_free(w);
    nr_threads_set(0);
}

static void check(const setup *t)
{
    size_t count = t->s.n * cols_of(t), size = t->slot == NR_ACT ? t->ops->act_size : t->ops->real_size;
    char *y = malloc(count * sizeof(float) + 64), *again = malloc(count * sizeof(float) + 64);
    float *found = malloc((count + 64) * sizeof *found);
    double rms = 0, far = 0;
    assert_true(y && again && found);
    run(t, y, 1);
    if (t->slot == NR_ACT) t->ops->to_real(found, y, count);
    else memcpy(found, y, count * sizeof *found);
    for (size_t i = 0; i < count; i++) rms += t->exact[i] * t->exact[i] / (double)count;
    double step = t->slot == NR_ACT && t->ops->act == NR_BF16 ? 4e-3 : 1e-6;
    for (size_t i = 0; i < count; i++) {
        double v = (double)found[i], slack = step * (fabs(v) + sqrt(rms));
        if (fabs(v - t->rounded[i]) > slack) fail_msg("element %zu: expected %g, found %g", i, t->rounded[i], v);
        if (fabs(v - t->exact[i]) > t->room[i] + slack) fail_msg("element %zu: %g is too far from %g", i, v, t->exact[i]);
        far = fmax(far, fabs(v - t->exact[i]));
    }
    assert_true(far > 0); /* it was rounded */
    for (size_t threads = 2; threads <= 7; threads++) {
        run(t, again, threads);
        assert_memory_equal(y, again, count * size);
    }
    free(y);
    free(again);
    free(found);
}

static void one_setup(const nr_ops *ops, shape s, unsigned variant)
{
    setup t = {.ops = ops, .s = s, .back = variant & 1, .accumulate = variant & 2, .bias = variant & 4, .slot = variant & 8 ? NR_ACT : NR_REAL};
    if (t.back && t.bias) return;
    bool bf16 = ops->act == NR_BF16;
    size_t count = s.n * cols_of(&t);
    t.w = numbers(s.out * s.in, 1, 0.05, false);
    t.b = numbers(s.out, 2, 1, false);
    t.x = numbers(s.n * depth_of(&t), 3, 2, bf16);
    t.start = numbers(count, 4, 1, bf16);
    memset(t.x, 0, depth_of(&t) * sizeof *t.x); /* a row without a scale */
    for (size_t k = 0; k < s.in; k++) t.w[k] = 0;
    t.weight = tensor_of(t.w, s.out, s.in);
    t.bias_tensor = tensor_of(t.b, 1, s.out);
    t.exact = malloc(count * sizeof *t.exact);
    t.rounded = malloc(count * sizeof *t.rounded);
    t.room = malloc(count * sizeof *t.room);
    assert_true(t.exact && t.rounded && t.room);
    expect(&t);
    if (s.n > 1) check(&t); /* the only row is the one without a scale */
    free(t.w);
    free(t.b);
    free(t.x);
    free(t.start);
    free(t.exact);
    free(t.rounded);
    free(t.room);
}

static bool missing(const nr_ops *ops)
{
    nr_error err = {0};
    if (nr_linear_int8_can(ops, &err) == NR_OK) return false;
    print_message("%s\n", err.message);
    return true;
}

static void products(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        const nr_ops *ops;
        if (nr_ops_cpu(&ops, k ? NR_COMPUTE_BF16 : NR_COMPUTE_FP32, NULL) != NR_OK) continue;
        if (missing(ops)) skip();
        for (size_t i = 0; i < NR_COUNT(shapes); i++)
            for (unsigned variant = 0; variant < 16; variant++) one_setup(ops, shapes[i], variant);
    }
}

/* Forward in int8 alone: the backward product is the ordinary one, bit for bit. */
static void backward_in_act(void **state)
{
    (void)state;
    const nr_ops *ops;
    nr_error err = {0};
    nr_linear *mixed, *plain;
    enum { n = 40, out = 96, in = 128 };
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_AUTO, &err), NR_OK);
    if (missing(ops)) skip();
    float *w = numbers(out * in, 1, 0.1, false), *dy = numbers(n * out, 2, 1, false), a[n * in], b[n * in], dy_act[n * out];
    nr_tensor t = tensor_of(w, out, in);
    unsigned uses = NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT;
    assert_int_equal(nr_linear_int8_new(&mixed, ops, out, in, &t, NULL, uses, false, &err), NR_OK);
    assert_int_equal(ops->linear_new(&plain, ops, out, in, false, uses, &err), NR_OK);
    assert_int_equal(ops->linear_pack_tensor(plain, &t, NULL, &err), NR_OK);
    ops->to_act(dy_act, dy, n * out);
    assert_int_equal(ops->linear_back_input(mixed, a, NR_REAL, dy_act, n, false, &err), NR_OK);
    assert_int_equal(ops->linear_back_input(plain, b, NR_REAL, dy_act, n, false, &err), NR_OK);
    assert_memory_equal(a, b, sizeof a);
    /* frozen: neither new weights nor gradients */
    assert_int_equal(ops->linear_pack(mixed, w, NULL, &err), NR_E_USAGE);
    assert_int_equal(ops->linear_back_weight(mixed, w, NULL, dy_act, a, 1, &err), NR_E_USAGE);
    ops->linear_free(mixed);
    ops->linear_free(plain);
    free(w);
    free(dy);
}

static void refused(void **state)
{
    (void)state;
    nr_error err = {0};
    nr_linear *w;
    const nr_ops *ops;
    assert_int_equal(nr_linear_int8_can(nr_ops_reference(true), &err), NR_E_UNSUPPORTED);
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_AUTO, &err), NR_OK);
    if (missing(ops)) skip();
    float data[64 * 32] = {0};
    nr_tensor t = tensor_of(data, 64, 32);
    assert_int_equal(nr_linear_int8_new(&w, ops, 64, 16, &t, NULL, NR_PACK_FORWARD, true, &err), NR_E_MISMATCH);
    assert_int_equal(nr_linear_int8_new(&w, ops, 64, 32, &t, NULL, NR_PACK_FORWARD, true, &err), NR_OK);
    assert_int_equal(ops->linear_back_input(w, data, NR_REAL, data, 1, false, &err), NR_E_USAGE); /* not packed for it */
    ops->linear_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(backward_in_act), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
