/* test_gguf.c - the GGUF container: what is read from good files, what is refused of bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/formats.h"

/* ---- a file in memory, written piece by piece ---- */

static void u32(nr_buffer *b, uint32_t v) { nr_buffer_add(b, &v, sizeof v); }
static void u64(nr_buffer *b, uint64_t v) { nr_buffer_add(b, &v, sizeof v); }
static void text(nr_buffer *b, const char *s)
{
    u64(b, strlen(s));
    nr_buffer_add(b, s, strlen(s));
}
static void head(nr_buffer *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    nr_buffer_add(b, "GGUF", 4);
    u32(b, version);
    u64(b, tensors);
    u64(b, keys);
}
static void number(nr_buffer *b, const char *key, uint32_t v)
{
    text(b, key);
    u32(b, NR_GGUF_U32);
    u32(b, v);
}
static void tensor(nr_buffer *b, const char *name, uint64_t cols, uint32_t type, uint64_t offset)
{
    text(b, name);
    u32(b, 1);
    u64(b, cols);
    u32(b, type);
    u64(b, offset);
}
static void pad(nr_buffer *b, size_t multiple, size_t data)
{
    while (b->size % multiple) nr_buffer_add(b, "", 1);
    for (size_t i = 0; i < data; i++) nr_buffer_add(b, "", 1);
}

/* Opens n bytes at the very end of an allocation, where reading on is seen. */
static nr_status open_bytes(const void *data, size_t n, nr_error *err)
{
    nr_gguf *g;
    char path[] = "bytes";
    unsigned char *copy = malloc(n ? n : 1);
    if (n) memcpy(copy, data, n);
    nr_map m = {copy, n, path, 0};
    nr_status st = nr_gguf_open(&g, &m, err);
    assert_true((st == NR_OK) == (g != NULL));
    nr_gguf_close(g);
    free(copy);
    return st;
}

static void refused(nr_buffer *b, nr_status status, const char *says)
{
    nr_error err = {0};
    nr_status st = open_bytes(b->data, b->size, &err);
    if (st != status || !strstr(err.message, says) || !strstr(err.message, "bytes: "))
        fail_msg("expected status %d and \"%s\", found %d and \"%s\"", status, says, st, err.message);
    nr_buffer_free(b);
}

static void accepted(nr_buffer *b)
{
    nr_error err = {0};
    if (open_bytes(b->data, b->size, &err) != NR_OK) fail_msg("%s", err.message);
    nr_buffer_free(b);
}

/* ---- tests ---- */

static void reads_values(void **state)
{
    (void)state;
    nr_buffer b = {0};
    nr_error err = {0};
    nr_gguf *g;
    char path[] = "bytes";
    head(&b, 2, 1, 6);
    number(&b, "n", 7);
    text(&b, "neg"), u32(&b, NR_GGUF_I32), u32(&b, (uint32_t)-3);
    text(&b, "f"), u32(&b, NR_GGUF_F32), nr_buffer_add(&b, &(float){0.25f}, 4);
    text(&b, "s"), u32(&b, NR_GGUF_STRING), text(&b, "hello");
    text(&b, "yes"), u32(&b, NR_GGUF_BOOL), nr_buffer_add(&b, "\1", 1);
    text(&b, "list"), u32(&b, NR_GGUF_ARRAY), u32(&b, NR_GGUF_STRING), u64(&b, 2), text(&b, "a"), text(&b, "");
    text(&b, "t"), u32(&b, 2), u64(&b, 3), u64(&b, 2), u32(&b, 0), u64(&b, 0);
    pad(&b, 32, 24);
    nr_map m = {(unsigned char *)b.data, b.size, path, 0};
    if (nr_gguf_open(&g, &m, &err) != NR_OK) fail_msg("%s", err.message);
    size_t n = 0;
    double d = 0;
    bool yes = false;
    nr_span s;
    assert_int_equal(nr_gguf_size(g, "n", true, &n, &err), NR_OK);
    assert_int_equal(n, 7);
    assert_int_equal(nr_gguf_size(g, "neg", true, &n, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "bytes: neg: expected a whole number, 0 or more, found -3"));
    assert_int_equal(nr_gguf_double(g, "neg", true, &d, &err), NR_OK);
    assert_true(d == -3);
    assert_int_equal(nr_gguf_double(g, "f", true, &d, &err), NR_OK);
    assert_true(d == 0.25);
    assert_int_equal(nr_gguf_string(g, "s", true, &s, &err), NR_OK);
    assert_int_equal(s.size, 5);
    assert_memory_equal(s.data, "hello", 5);
    assert_int_equal(nr_gguf_bool(g, "yes", true, &yes, &err), NR_OK);
    assert_true(yes);
    assert_int_equal(nr_gguf_bool(g, "n", true, &yes, &err), NR_E_FORMAT);
    assert_int_equal(nr_gguf_string(g, "list", true, &s, &err), NR_E_FORMAT);
    assert_int_equal(nr_gguf_size(g, "gone", true, &n, &err), NR_E_FORMAT);
    assert_int_equal(nr_gguf_size(g, "gone", false, &n, &err), NR_OK);
    const nr_gguf_value *list = nr_gguf_find(g, "list");
    assert_non_null(list);
    assert_int_equal(list->count, 2);
    assert_int_equal(list->strings[0].size, 1);
    assert_int_equal(list->strings[1].size, 0);
    assert_int_equal(nr_gguf_tensor_count(g), 1);
    const nr_tensor *t = nr_gguf_tensor(g, 0);
    assert_string_equal(t->name, "t");
    assert_true(t->ndim == 2 && t->shape[0] == 2 && t->shape[1] == 3 && t->size == 24); /* outermost first */
    assert_ptr_equal(t->data, b.data + b.size - 24);
    nr_gguf_close(g);
    nr_buffer_free(&b);
}

static void refuses_bad_heads(void **state)
{
    (void)state;
    nr_buffer b = {0};
    nr_buffer_text(&b, "GGML....................");
    refused(&b, NR_E_FORMAT, "expected GGUF, found 47 47 4d 4c");
    head(&b, 1, 0, 0);
    refused(&b, NR_E_UNSUPPORTED, "expected GGUF 2 or 3, found 1");
    head(&b, 0x03000000, 0, 0);
    refused(&b, NR_E_UNSUPPORTED, "big-endian");
    head(&b, 3, 0, UINT64_MAX);
    refused(&b, NR_E_FORMAT, "metadata: expected at most 0 keys, found 18446744073709551615");
    head(&b, 3, UINT64_MAX / 8, 0);
    refused(&b, NR_E_FORMAT, "tensors: expected at most 0");
    head(&b, 3, 0, 0);
    accepted(&b);
}

static void refuses_bad_metadata(void **state)
{
    (void)state;
    nr_buffer b = {0};
    head(&b, 3, 0, 2), number(&b, "twice", 1), number(&b, "twice", 2);
    refused(&b, NR_E_FORMAT, "twice: expected one metadata value, found two");
    head(&b, 3, 0, 1), text(&b, "k"), u32(&b, 13), u64(&b, 0);
    refused(&b, NR_E_FORMAT, "k: expected a metadata type from 0 to 12, found 13");
    head(&b, 3, 0, 1), text(&b, "k"), u32(&b, NR_GGUF_ARRAY), u32(&b, NR_GGUF_ARRAY), u64(&b, 0);
    refused(&b, NR_E_FORMAT, "arrays excluded, found 9");
    head(&b, 3, 0, 1), text(&b, "k"), u32(&b, NR_GGUF_ARRAY), u32(&b, NR_GGUF_U64), u64(&b, UINT64_MAX / 4);
    refused(&b, NR_E_FORMAT, "metadata value: expected 18446744073709551615 bytes");
    head(&b, 3, 0, 1), text(&b, "k"), u32(&b, NR_GGUF_ARRAY), u32(&b, NR_GGUF_STRING), u64(&b, (uint64_t)1 << 60);
    refused(&b, NR_E_FORMAT, "k: expected at most 0 strings");
    head(&b, 3, 0, 1), u64(&b, UINT64_MAX), u64(&b, 0);
    refused(&b, NR_E_FORMAT, "metadata key: expected 18446744073709551615 bytes");
    head(&b, 3, 0, 1), text(&b, "a\nb"), u32(&b, NR_GGUF_U32), u32(&b, 0);
    refused(&b, NR_E_FORMAT, "printable characters");
    head(&b, 3, 0, 1), text(&b, "k"), u32(&b, NR_GGUF_BOOL), nr_buffer_add(&b, "\2", 1);
    refused(&b, NR_E_FORMAT, "k: expected a bool of 0 or 1, found 2");
    head(&b, 3, 0, 1), number(&b, "general.alignment", 24);
    refused(&b, NR_E_FORMAT, "general.alignment: expected a power of two from 8 to 2^20, found 24");
}

static void refuses_bad_tensors(void **state)
{
    (void)state;
    nr_buffer b = {0};
    head(&b, 3, 2, 0), tensor(&b, "t", 8, 0, 0), tensor(&b, "t", 8, 0, 32), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "tensor t: expected one of that name, found two");
    head(&b, 3, 2, 0), tensor(&b, "a", 16, 0, 0), tensor(&b, "b", 8, 0, 32), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "tensor b: expected data of its own, found it inside that of a");
    head(&b, 3, 1, 0), tensor(&b, "t", 256, 16, 0), pad(&b, 32, 1024);
    refused(&b, NR_E_UNSUPPORTED, "tensor t: expected F32, F16, BF16, F64, Q4_0 to Q8_0 or Q2_K to Q6_K, found type 16 (IQ2_XXS)");
    head(&b, 3, 1, 0), tensor(&b, "t", 256, 4000000000u, 0), pad(&b, 32, 1024);
    refused(&b, NR_E_UNSUPPORTED, "found type 4000000000 (unknown to nres)");
    head(&b, 3, 1, 0), tensor(&b, "t", 33, 8, 0), pad(&b, 32, 1024);
    refused(&b, NR_E_FORMAT, "tensor t: expected rows of a multiple of 32 elements (Q8_0), found 33");
    head(&b, 3, 1, 0), tensor(&b, "t", 8, 0, 4), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "tensor t: expected an offset that is a multiple of 32, found 4");
    head(&b, 3, 1, 0), tensor(&b, "t", 8, 0, 64), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "tensor t: expected 32 bytes at data offset 64, found 64 bytes of data");
    head(&b, 3, 1, 0), tensor(&b, "t", 8, 0, UINT64_MAX - 31), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "at data offset 18446744073709551584");
    head(&b, 3, 1, 0), tensor(&b, "t", 0, 0, 0), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "tensor t: expected dimensions above 0, found 0");
    head(&b, 3, 1, 0), tensor(&b, "t", (uint64_t)1 << 62, 0, 0), pad(&b, 32, 64);
    refused(&b, NR_E_FORMAT, "found an overflow");
    head(&b, 3, 1, 0), text(&b, "t"), u32(&b, 2), u64(&b, (uint64_t)1 << 40), u64(&b, (uint64_t)1 << 40), u32(&b, 0), u64(&b, 0);
    refused(&b, NR_E_FORMAT, "found an overflow");
    head(&b, 3, 1, 0), text(&b, "t"), u32(&b, 5), pad(&b, 1, 64);
    refused(&b, NR_E_FORMAT, "tensor t: expected 1 to 4 dimensions, found 5");
    head(&b, 3, 1, 0), text(&b, "a b"), u32(&b, 1), pad(&b, 1, 64);
    refused(&b, NR_E_FORMAT, "tensor name at offset 24: expected 1 to 255 printable characters, found 3");
    head(&b, 3, 2, 0), tensor(&b, "a", 8, 0, 0), tensor(&b, "b", 8, 0, 32), pad(&b, 32, 64);
    accepted(&b);
}

static nr_map fixture(const char *name)
{
    nr_map m;
    nr_error err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/formats/%s", NRES_FIXTURES, name);
    if (nr_map_open(&m, path, &err) != NR_OK) fail_msg("%s", err.message);
    return m;
}

/* Where the first tensor's data begins: all before it is the header. */
static size_t header_size(const nr_map *m)
{
    nr_gguf *g;
    nr_error err = {0};
    if (nr_gguf_open(&g, m, &err) != NR_OK) fail_msg("%s", err.message);
    size_t least = m->size;
    for (size_t i = 0; i < nr_gguf_tensor_count(g); i++)
        least = NR_MIN(least, (size_t)(nr_gguf_tensor(g, i)->data - m->data));
    nr_gguf_close(g);
    return least;
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    nr_map m = fixture("tiny.gguf");
    size_t n = header_size(&m);
    assert_true(n > 1000 && n < m.size);
    for (size_t i = 0; i < n; i++) {
        nr_error err = {0};
        assert_int_equal(open_bytes(m.data, i, &err), NR_E_FORMAT);
        assert_non_null(strstr(err.message, "expected"));
    }
    nr_error err = {0};
    assert_int_equal(open_bytes(m.data, m.size - 1, &err), NR_E_FORMAT);
    nr_map_close(&m);
}

/* A damaged header is read or refused, and never read past (sanitizers watch). */
static void survives_flipped_bytes(void **state)
{
    (void)state;
    static const unsigned char flips[] = {0x01, 0x80, 0xFF};
    nr_map m = fixture("quant.gguf");
    size_t n = header_size(&m), failed = 0;
    unsigned char *copy = malloc(m.size);
    memcpy(copy, m.data, m.size);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof flips; k++) {
            copy[i] ^= flips[k];
            nr_error err = {0};
            nr_status st = open_bytes(copy, m.size, &err);
            failed += st != NR_OK;
            assert_true(st == NR_OK || err.message[0]);
            copy[i] ^= flips[k];
        }
    assert_true(failed > n / 2);
    free(copy);
    nr_map_close(&m);
}

/* A vocabulary of 200,000 strings is read in one pass. */
static void long_string_array(void **state)
{
    (void)state;
    nr_buffer b = {0};
    nr_error err = {0};
    char path[] = "bytes", token[32];
    nr_gguf *g;
    head(&b, 3, 0, 1), text(&b, "tokens"), u32(&b, NR_GGUF_ARRAY), u32(&b, NR_GGUF_STRING), u64(&b, 200000);
    for (int i = 0; i < 200000; i++) {
        snprintf(token, sizeof token, "t%d", i);
        text(&b, token);
    }
    nr_map m = {(unsigned char *)b.data, b.size, path, 0};
    double begin = nr_clock();
    if (nr_gguf_open(&g, &m, &err) != NR_OK) fail_msg("%s", err.message);
    assert_true(nr_clock() - begin < 2);
    const nr_gguf_value *v = nr_gguf_find(g, "tokens");
    assert_int_equal(v->count, 200000);
    assert_memory_equal(v->strings[199999].data, "t199999", v->strings[199999].size);
    nr_gguf_close(g);
    nr_buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values), cmocka_unit_test(refuses_bad_heads), cmocka_unit_test(refuses_bad_metadata),
        cmocka_unit_test(refuses_bad_tensors), cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(survives_flipped_bytes), cmocka_unit_test(long_string_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
