/* test_tensor.c - element types against numpy and the gguf package, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/formats.h"
#include "tensor/tensor.h"

static int dtype_of(uint32_t gguf)
{
    for (int t = 0; t < NR_DTYPE_COUNT; t++)
        if (nr_dtypes[t].gguf == (int)gguf) return t;
    return -1;
}

static bool same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0; }

static void dequantise_equals_gguf(void **state)
{
    (void)state;
    nr_map m;
    nr_error err = {0};
    if (nr_map_open(&m, NRES_FIXTURES "/formats/dequant.bin", &err) != NR_OK) fail_msg("%s", err.message);
    size_t at = 0, types = 0;
    while (at < m.size) {
        uint32_t head[3]; /* type, bytes, elements */
        memcpy(head, m.data + at, sizeof head);
        at += sizeof head;
        int t = dtype_of(head[0]);
        assert_true(t >= 0);
        assert_int_equal(head[1] / nr_dtypes[t].bytes * nr_dtypes[t].block, head[2]);
        float *y = malloc(head[2] * sizeof *y);
        unsigned char *odd = malloc(head[1] + 1); /* an odd address: blocks aren't aligned in files */
        memcpy(odd + 1, m.data + at, head[1]);
        nr_dequantise(y, odd + 1, (nr_dtype)t, head[2]);
        at += head[1];
        for (size_t i = 0; i < head[2]; i++) {
            float want;
            memcpy(&want, m.data + at + 4 * i, sizeof want);
            if (!same(y[i], want)) fail_msg("%s, element %zu: expected %a, found %a", nr_dtypes[t].name, i, (double)want, (double)y[i]);
        }
        at += (size_t)head[2] * 4;
        free(odd);
        free(y);
        types++;
    }
    assert_int_equal(types, 12); /* all but F32 and F64 */
    nr_map_close(&m);
}

/* The same matrices as floats and in the gguf package's Q8_0. */
static void q8_0_equals_gguf(void **state)
{
    nr_model_file *plain, *quantised = NULL;
    nr_error err = {0};
    size_t seen = 0;
    (void)state;
    if (nr_model_file_open(&plain, NRES_FIXTURES "/formats/tiny.gguf", NULL, &err) != NR_OK ||
        nr_model_file_open(&quantised, NRES_FIXTURES "/formats/quant.gguf", NULL, &err) != NR_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < quantised->count; i++) {
        const nr_tensor *q = &quantised->tensors[i], *t = nr_model_file_find(plain, q->name);
        if (q->type != NR_Q8_0) continue;
        assert_true(t && t->type == NR_F32 && t->permuted_heads == 0);
        unsigned char *blocks = malloc(q->size);
        nr_quantise_q8_0(blocks, (const float *)(const void *)t->data, nr_tensor_rows(t) * nr_tensor_cols(t));
        assert_memory_equal(blocks, q->data, q->size);
        free(blocks);
        seen++;
    }
    assert_true(seen > 0);
    nr_model_file_close(plain);
    nr_model_file_close(quantised);
}

/* Every half comes back; what lies between goes to the nearer one, to even in the middle. */
static void halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = nr_f16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(nr_f16_to_f32(nr_f32_to_f16(f))));
            continue;
        }
        assert_int_equal(nr_f32_to_f16(f), h);
        if ((h & 0x7fff) >= 0x7bff) continue;
        float next = nr_f16_to_f32((uint16_t)(h + 1)), middle = f + (next - f) / 2;
        assert_int_equal(nr_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(nr_f32_to_f16(nextafterf(middle, f)), h);
        assert_int_equal(nr_f32_to_f16(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(nr_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(nr_f32_to_f16(65520), 0x7c00);
    assert_int_equal(nr_f32_to_f16(-1e30f), 0xfc00);
}

/* Rows filled up behind their columns, and places of interleaved ones. */
static void stored_rows(void **state)
{
    static char name[] = "t";
    float x[2 * 40], row[2 * 40];
    unsigned char blocks[2 * 2 * 34];
    (void)state;
    for (size_t i = 0; i < 80; i++) x[i] = (float)i - 30;
    for (size_t r = 0; r < 2; r++) nr_quantise_q8_0(blocks + 68 * r, x + 40 * r, 40);
    nr_tensor t = {.name = name, .type = NR_Q8_0, .ndim = 2, .shape = {2, 40}, .data = blocks, .size = sizeof blocks, .stored_cols = 64};
    assert_int_equal(nr_tensor_row_bytes(&t), 68);
    nr_tensor_read(row, &t, 0, 2);
    for (size_t i = 0; i < 80; i++) assert_true(fabsf(row[i] - x[i]) <= 0.2f);
    nr_tensor_read(row, &t, 1, 1);
    assert_true(fabsf(row[39] - x[79]) <= 0.2f);
    float numbers[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    nr_tensor p = {.name = name, .type = NR_F32, .ndim = 2, .shape = {12, 1}, .data = (void *)numbers, .size = sizeof numbers, .permuted_heads = 2};
    for (size_t stored = 0; stored < 12; stored++) { /* the number in place `stored` is the one read at its row */
        nr_tensor_read(row, &p, nr_tensor_row_at(&p, stored), 1);
        assert_true(row[0] == (float)stored);
    }
}

static void plain_types(void **state)
{
    (void)state;
    const double d[3] = {1.0, -2.5, 1e-300};
    const float f[3] = {3.0f, -0.0f, 1e-40f};
    float y[3];
    nr_dequantise(y, d, NR_F64, 3);
    assert_true(y[0] == 1.0f && y[1] == -2.5f && y[2] == 0.0f);
    nr_dequantise(y, f, NR_F32, 3);
    assert_memory_equal(y, f, sizeof f);
    assert_int_equal(nr_dtype_size(NR_F64), 8);
    assert_int_equal(nr_dtype_size(NR_BF16), 2);
}

/* All 65536 halfs against the definition in double. */
static void halfs(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10 & 31);
        double m = (double)(h & 1023), sign = h >> 15 ? -1 : 1;
        float got = nr_f16_to_f32((uint16_t)h);
        if (exponent == 31 && m > 0) {
            assert_true(isnan(got));
            continue;
        }
        double want = exponent == 31 ? INFINITY : exponent ? ldexp(1 + m / 1024, exponent - 15) : ldexp(m, -24);
        if (!same(got, (float)(sign * want))) fail_msg("half %04x: expected %a, found %a", h, sign * want, (double)got);
    }
}

static void bf16_rounds_to_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t bits;
        uint16_t want;
    } cases[] = {
        {0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81}, {0x3F818000, 0x3F82},
        {0x7F7FFFFF, 0x7F80}, {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80}, {0x80000001, 0x8000},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        float v;
        memcpy(&v, &cases[i].bits, sizeof v);
        assert_int_equal(nr_f32_to_bf16(v), cases[i].want);
    }
    for (uint32_t b = 0; b < 65536; b++) {
        float v = nr_bf16_to_f32((uint16_t)b);
        if (isnan(v)) assert_true(isnan(nr_bf16_to_f32(nr_f32_to_bf16(v))));
        else assert_int_equal(nr_f32_to_bf16(v), b);
    }
}

/* A (rows, 2) matrix of 2 heads of 6, stored interleaved as GGUF does. */
static void permuted_rows(void **state)
{
    (void)state;
    static const int stored[12] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}; /* Hugging Face's row at each place */
    float data[24], y[24], bias[12];
    for (int i = 0; i < 12; i++) {
        data[2 * i] = (float)stored[i];
        data[2 * i + 1] = (float)stored[i] + 0.5f;
        bias[i] = (float)stored[i];
    }
    nr_tensor t = {.type = NR_F32, .ndim = 2, .shape = {12, 2}, .data = (const unsigned char *)data, .size = sizeof data, .permuted_heads = 2};
    assert_int_equal(nr_tensor_rows(&t), 12);
    assert_int_equal(nr_tensor_cols(&t), 2);
    nr_tensor_read(y, &t, 0, 12);
    for (int i = 0; i < 12; i++) assert_true(y[2 * i] == (float)i && y[2 * i + 1] == (float)i + 0.5f);
    nr_tensor_read(y, &t, 5, 3); /* across heads */
    assert_true(y[0] == 5 && y[2] == 6 && y[4] == 7);
    nr_tensor b = {.type = NR_F32, .ndim = 1, .shape = {12}, .data = (const unsigned char *)bias, .size = sizeof bias, .permuted_heads = 2};
    nr_tensor_read(y, &b, 0, 1);
    for (int i = 0; i < 12; i++) assert_true(y[i] == (float)i);
    t.permuted_heads = 0;
    nr_tensor_read(y, &t, 1, 1);
    assert_true(y[0] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dequantise_equals_gguf),
        cmocka_unit_test(q8_0_equals_gguf),
        cmocka_unit_test(halves),
        cmocka_unit_test(stored_rows),
        cmocka_unit_test(plain_types), cmocka_unit_test(halfs),
        cmocka_unit_test(bf16_rounds_to_even), cmocka_unit_test(permuted_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
