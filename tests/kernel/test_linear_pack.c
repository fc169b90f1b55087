/*
 * Packing of matrices: from mapped tensors of every kind as from floats, again
 * after an update, for plans; calls at the same time on several threads; what
 * is refused and how.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "op_check.h"

#include "kernels/linear.h"

static const nr_ops *tables[6];
static size_t table_count;

static int find_tables(void **state)
{
    (void)state;
    tables[table_count++] = nr_ops_reference(false);
    tables[table_count++] = nr_ops_reference(true);
    static nr_ops library[2]; /* the same tables, whose matrices are the library's */
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++) {
        nr_ops *other = &library[compute == NR_COMPUTE_BF16];
        nr_linear *w;
        if (nr_ops_cpu(&tables[table_count], (nr_compute)compute, NULL) != NR_OK) continue;
        *other = *tables[table_count++];
        other->linear_new = nr_linear_dnnl_new;
        other->linear_bytes = nr_linear_dnnl_bytes;
        if (nr_linear_dnnl_new(&w, other, 1, 1, false, NR_PACK_FORWARD, NULL) != NR_OK) continue;
        other->linear_free(w);
        tables[table_count++] = other;
    }
    return 0;
}

static void must(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

static void *fresh(size_t bytes)
{
    void *p = calloc(bytes + 1, 1);
    assert_non_null(p);
    return p;
}

static void *values(const nr_ops *ops, as kind, size_t n, uint64_t stream)
{
    operand o = {kind, n, 1, 0, 0};
    void *p = fresh(n * element_size(ops, kind));
    fill(ops, &o, p, stream);
    return p;
}

/* ---- tensors ---- */

/* A matrix with any bytes as its blocks, but finite scales. */
static nr_tensor tensor_make(nr_dtype type, size_t rows, size_t cols)
{
    const nr_dtype_info *info = &nr_dtypes[type];
    nr_tensor t = {.name = "w", .type = type, .ndim = 2, .shape = {rows, cols}};
    t.size = rows * cols / info->block * info->bytes;
    unsigned char *data = fresh(t.size);
    if (type == NR_F32)
        for (size_t i = 0; i < rows * cols; i++) {
            float v = (float)nr_rng_normal(3, NR_RNG_TEST, i);
            memcpy(data + 4 * i, &v, sizeof v);
        }
    else
        for (size_t i = 0; i < t.size; i++) data[i] = (unsigned char)nr_rng_u64(3, NR_RNG_TEST, i);
    for (size_t b = 0; info->block == 32 && b < t.size; b += info->bytes) {
        data[b + 1] = 0x2c; /* scale and offset about 0.07 */
        if (type == NR_Q4_1 || type == NR_Q5_1) data[b + 3] = 0x2c;
    }
    for (size_t i = 1; (type == NR_F16 || type == NR_BF16) && i < t.size; i += 2)
        data[i] = (unsigned char)((data[i] & 0x81) | 0x3c);
    t.data = data;
    return t;
}

/* Forward and backward results of w, one after the other. */
static void *both(nr_linear *w, size_t n)
{
    const nr_ops *ops = w->ops;
    void *x = values(ops, AS_ACT, n * w->in, 1), *dy = values(ops, AS_ACT, n * w->out, 2);
    char *result = fresh(n * (w->out + w->in) * ops->real_size);
    nr_error err;
    must(ops->linear(w, result, NR_REAL, x, n, false, &err), &err);
    must(ops->linear_back_input(w, result + n * w->out * ops->real_size, NR_REAL, dy, n, false, &err), &err);
    free(x);
    free(dy);
    return result;
}

static void check_tensor(const nr_ops *ops, nr_dtype type, size_t out, size_t in)
{
    nr_tensor t = tensor_make(type, out, in), b = tensor_make(NR_F32, 1, out);
    b.ndim = 1;
    b.shape[0] = out;
    float *plain = fresh(out * in * sizeof *plain);
    double *wide = fresh(out * in * sizeof *wide), *wide_bias = fresh(out * sizeof *wide_bias);
    nr_tensor_read(plain, &t, 0, out);
    for (size_t i = 0; i < out * in; i++) wide[i] = (double)plain[i];
    for (size_t i = 0; i < out; i++) wide_bias[i] = (double)((const float *)(const void *)b.data)[i];
    bool is_double = ops->real == NR_F64;
    nr_linear *from_tensor, *from_floats;
    nr_error err;
    must(ops->linear_new(&from_tensor, ops, out, in, true, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
    must(ops->linear_new(&from_floats, ops, out, in, true, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
    must(ops->linear_pack_tensor(from_tensor, &t, &b, &err), &err);
    must(ops->linear_pack(from_floats, is_double ? (void *)wide : (void *)plain, is_double ? (const void *)wide_bias : b.data, &err), &err);
    void *one = both(from_tensor, 5), *two = both(from_floats, 5);
    assert_memory_equal(one, two, 5 * (out + in) * ops->real_size);
    free(one);
    free(two);
    free(plain);
    free(wide);
    free(wide_bias);
    free((void *)(uintptr_t)t.data);
    free((void *)(uintptr_t)b.data);
    ops->linear_free(from_tensor);
    ops->linear_free(from_floats);
}

static void test_tensors(void **state)
{
    static const nr_dtype types[] = {NR_F32, NR_F16, NR_BF16, NR_Q4_1, NR_Q8_0};
    (void)state;
    for (size_t i = 0; i < table_count; i++)
        for (size_t t = 0; t < NR_COUNT(types); t++) {
            check_tensor(tables[i], types[t], 7, 32);
            check_tensor(tables[i], types[t], 401, 96); /* several pieces, the last one odd */
        }
}

/* ---- again ---- */

static void test_update(void **state)
{
    (void)state;
    for (size_t i = 0; i < table_count; i++) {
        const nr_ops *ops = tables[i];
        nr_linear *w, *want;
        nr_error err;
        size_t out = 200, in = 70;
        void *first = values(ops, AS_REAL, out * in, 5), *second = values(ops, AS_REAL, out * in, 6);
        must(ops->linear_new(&w, ops, out, in, false, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
        must(ops->linear_new(&want, ops, out, in, false, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT, &err), &err);
        must(ops->linear_prepare(w, 9, true, &err), &err);
        must(ops->linear_pack(w, first, NULL, &err), &err);
        free(both(w, 9));
        must(ops->linear_pack(w, second, NULL, &err), &err);
        must(ops->linear_pack(want, second, NULL, &err), &err);
        void *a = both(w, 9), *b = both(want, 9);
        assert_memory_equal(a, b, 9 * (out + in) * ops->real_size);
        free(a);
        free(b);
        free(first);
        free(second);
        ops->linear_free(w);
        ops->linear_free(want);
        ops->linear_free(NULL);
    }
}

static void test_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < table_count; i++) {
        const nr_ops *ops = tables[i];
        size_t plain = 520 * 576 * ops->act_size, one = ops->linear_bytes(ops, 520, 576, NR_PACK_FORWARD);
        size_t two = ops->linear_bytes(ops, 520, 576, NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT);
        assert_int_equal(ops->linear_bytes(ops, 520, 576, 0), 0);
        assert_true(one >= plain && one <= plain + plain / 4);
        assert_true(two >= one && two <= 2 * one + plain / 4);
    }
}

/* ---- at the same time ---- */

enum { callers = 4, rounds = 12 };

typedef struct {
    nr_linear *w;
    const void *x[rounds], *want[rounds];
    atomic_int other;
} together;

static void *call_many(void *data)
{
    together *t = data;
    const nr_ops *ops = t->w->ops;
    nr_threads_set(1);
    for (size_t i = 0; i < rounds; i++) {
        size_t size = (i + 1) * t->w->out * ops->real_size;
        void *y = fresh(size);
        nr_status st = ops->linear(t->w, y, NR_REAL, t->x[i], i + 1, false, NULL);
        if (st != NR_OK || memcmp(y, t->want[i], size)) atomic_fetch_add(&t->other, 1);
        free(y);
    }
    return NULL;
}

/* Row counts that nobody prepared: each caller may be the first. */
static void test_together(void **state)
{
    (void)state;
    for (size_t k = 0; k < table_count; k++) {
        const nr_ops *ops = tables[k];
        together t = {0};
        nr_linear *alone;
        nr_error err;
        size_t out = 150, in = 40;
        void *weight = values(ops, AS_REAL, out * in, 8);
        must(ops->linear_new(&t.w, ops, out, in, false, NR_PACK_FORWARD, &err), &err);
        must(ops->linear_new(&alone, ops, out, in, false, NR_PACK_FORWARD, &err), &err);
        must(ops->linear_pack(t.w, weight, NULL, &err), &err);
        must(ops->linear_pack(alone, weight, NULL, &err), &err);
        for (size_t i = 0; i < rounds; i++) {
            void *y = fresh((i + 1) * out * ops->real_size);
            t.x[i] = values(ops, AS_ACT, (i + 1) * in, i);
            must(ops->linear(alone, y, NR_REAL, t.x[i], i + 1, false, &err), &err);
            t.want[i] = y;
        }
        pthread_t id[callers];
        for (size_t i = 0; i < callers; i++) assert_int_equal(pthread_create(&id[i], NULL, call_many, &t), 0);
        for (size_t i = 0; i < callers; i++) pthread_join(id[i], NULL);
        assert_int_equal(atomic_load(&t.other), 0);
        for (size_t i = 0; i < rounds; i++) {
            free((void *)(uintptr_t)t.x[i]);
            free((void *)(uintptr_t)t.want[i]);
        }
        free(weight);
        ops->linear_free(t.w);
        ops->linear_free(alone);
    }
}

/* ---- refusals ---- */

static void expect(nr_status got, nr_status want, const nr_error *err, const char *part)
{
    assert_int_equal(got, want);
    assert_int_equal(err->status, want);
    if (!strstr(err->message, part)) fail_msg("expected '%s' in: %s", part, err->message);
    assert_null(strchr(err->message, '\n'));
}

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < table_count; i++) {
        const nr_ops *ops = tables[i];
        nr_error err;
        nr_linear *w = NULL, *biased = NULL, *none = (nr_linear *)&err;
        expect(ops->linear_new(&none, ops, 0, 5, false, NR_PACK_FORWARD, &err), NR_E_USAGE, &err, "(0, 5)");
        assert_null(none);
        double zeros[64] = {0};
        must(ops->linear_new(&w, ops, 2, 3, false, NR_PACK_FORWARD, &err), &err);
        must(ops->linear_new(&biased, ops, 2, 3, true, NR_PACK_BACKWARD_INPUT, &err), &err);
        expect(ops->linear_pack(w, zeros, zeros, &err), NR_E_USAGE, &err, "expected no bias, found one");
        expect(ops->linear_pack(biased, zeros, NULL, &err), NR_E_USAGE, &err, "expected a bias, found none");
        expect(ops->linear_back_input(w, zeros, NR_REAL, zeros, 1, false, &err), NR_E_USAGE, &err, "backward");
        expect(ops->linear(biased, zeros, NR_REAL, zeros, 1, false, &err), NR_E_USAGE, &err, "forward");
        char weight_name[] = "w.weight", bias_name[] = "w.bias";
        nr_tensor t = {.name = weight_name, .type = NR_F32, .ndim = 2, .shape = {3, 2}, .data = (void *)zeros, .size = 24};
        nr_tensor b = {.name = bias_name, .type = NR_F32, .ndim = 1, .shape = {3}, .data = (void *)zeros, .size = 12};
        expect(ops->linear_pack_tensor(w, &t, NULL, &err), NR_E_MISMATCH, &err, "tensor w.weight: expected shape (2, 3), found (3, 2)");
        t.shape[0] = 2, t.shape[1] = 3;
        expect(ops->linear_pack_tensor(biased, &t, &b, &err), NR_E_MISMATCH, &err, "tensor w.bias: expected shape (2)");
        ops->linear_free(w);
        ops->linear_free(biased);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_update),   cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_together), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
