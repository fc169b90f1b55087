/* test_safetensors.c - reading hostile files; writing the bytes that the safetensors package writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/formats.h"

static char folder[] = "/tmp/nres-safetensors-XXXXXX";
static char file[128];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(file, sizeof file, "%s/x.safetensors", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

/* A file of this header (its size given, or SIZE_MAX: right) and n zero bytes. */
static void put(const char *header, size_t size, size_t n)
{
    nr_buffer b = {0};
    nr_error err = {0};
    uint64_t said = size == SIZE_MAX ? strlen(header) : size;
    nr_buffer_add(&b, &said, sizeof said);
    nr_buffer_text(&b, header);
    for (size_t i = 0; i < n; i++) nr_buffer_add(&b, "", 1);
    if (nr_write_file(file, b.data, b.size, &err) != NR_OK) fail_msg("%s", err.message);
    nr_buffer_free(&b);
}

static void reads_what_python_wrote(void **state)
{
    (void)state;
    nr_safetensors *s;
    nr_error err = {0};
    float y[6];
    if (nr_safetensors_open(&s, NRES_FIXTURES "/formats/written.safetensors", &err) != NR_OK) fail_msg("%s", err.message);
    assert_int_equal(s->count, 5);
    assert_string_equal(json_string_value(json_object_get(s->metadata, "format")), "pt");
    const nr_tensor *b = nr_safetensors_find(s, "b"), *a = nr_safetensors_find(s, "a"), *d = nr_safetensors_find(s, "d");
    assert_true(b && b->type == NR_F32 && b->ndim == 2 && b->shape[0] == 2 && b->shape[1] == 3);
    nr_tensor_read(y, b, 0, 2);
    for (int i = 0; i < 6; i++) assert_true(y[i] == (float)i);
    nr_tensor_read(y, a, 0, 1);
    assert_true(a->type == NR_BF16 && y[0] == 1 && y[1] == -2);
    assert_true(d->ndim == 0 && d->type == NR_F64 && d->size == 8);
    nr_tensor_read(y, d, 0, 1);
    assert_true(y[0] == 3);
    assert_true(nr_safetensors_find(s, "e")->size == 0);
    assert_null(nr_safetensors_find(s, "f"));
    nr_safetensors_close(s);
}

static void writes_the_same_bytes(void **state)
{
    (void)state;
    static const float b[6] = {0, 1, 2, 3, 4, 5};
    static const uint16_t a[2] = {0x3F80, 0xC000}, c[1] = {0x3800};
    static const double d = 3;
    const nr_tensor t[] = {
        {.name = (char *)"a", .type = NR_BF16, .ndim = 1, .shape = {2}, .data = (const unsigned char *)a, .size = 4},
        {.name = (char *)"b", .type = NR_F32, .ndim = 2, .shape = {2, 3}, .data = (const unsigned char *)b, .size = 24},
        {.name = (char *)"c", .type = NR_F16, .ndim = 1, .shape = {1}, .data = (const unsigned char *)c, .size = 2},
        {.name = (char *)"d", .type = NR_F64, .ndim = 0, .data = (const unsigned char *)&d, .size = 8},
        {.name = (char *)"e", .type = NR_F32, .ndim = 2, .shape = {0, 4}, .data = (const unsigned char *)b, .size = 0},
    };
    nr_error err = {0};
    nr_map mine, python;
    if (nr_safetensors_write(file, t, NR_COUNT(t), NULL, &err) != NR_OK) fail_msg("%s", err.message);
    assert_int_equal(nr_map_open(&mine, file, &err), NR_OK);
    assert_int_equal(nr_map_open(&python, NRES_FIXTURES "/formats/written.safetensors", &err), NR_OK);
    assert_int_equal(mine.size, python.size);
    assert_memory_equal(mine.data, python.data, mine.size);
    nr_map_close(&mine);
    nr_map_close(&python);
}

static void refuses_to_write(void **state)
{
    (void)state;
    static const float b[2] = {0, 1};
    nr_error err = {0};
    nr_tensor t[2] = {{.name = (char *)"a", .type = NR_F32, .ndim = 1, .shape = {2}, .data = (const unsigned char *)b, .size = 8}};
    t[1] = t[0];
    unlink(file);
    assert_int_equal(nr_safetensors_write(file, t, 2, NULL, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "found one twice"));
    t[0].shape[0] = 3;
    assert_int_equal(nr_safetensors_write(file, t, 1, NULL, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "tensor a: expected the shape's 12 bytes, found 8"));
    t[0] = (nr_tensor){.name = (char *)"q", .type = NR_Q8_0, .ndim = 1, .shape = {32}, .data = (const unsigned char *)b, .size = 34};
    assert_int_equal(nr_safetensors_write(file, t, 1, NULL, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, "expected an unquantised type, found Q8_0"));
    t[0].name = (char *)"__metadata__";
    assert_int_equal(nr_safetensors_write(file, t, 1, NULL, &err), NR_E_FORMAT);
    assert_false(nr_path_exists(file));
}

static void keeps_metadata(void **state)
{
    (void)state;
    nr_error err = {0};
    nr_safetensors *s;
    json_t *metadata = json_pack("{s:s}", "k\303\251y", "v");
    if (nr_safetensors_write(file, NULL, 0, metadata, &err) != NR_OK) fail_msg("%s", err.message);
    assert_int_equal(json_object_size(metadata), 1); /* the caller's stays as it was */
    if (nr_safetensors_open(&s, file, &err) != NR_OK) fail_msg("%s", err.message);
    assert_string_equal(json_string_value(json_object_get(s->metadata, "k\303\251y")), "v");
    assert_string_equal(json_string_value(json_object_get(s->metadata, "format")), "pt");
    assert_int_equal((s->map.size - 8) % 8, 0);
    nr_safetensors_close(s);
    json_decref(metadata);
}

static void refuses_bad_files(void **state)
{
    (void)state;
#define T(name, shape, begin, end) "\"" name "\": {\"dtype\": \"F32\", \"shape\": [" shape "], \"data_offsets\": [" #begin ", " #end "]}"
    static const struct {
        const char *header;
        size_t size, data;
        nr_status status;
        const char *says;
    } cases[] = {
        {"{}", 3, 0, NR_E_FORMAT, "header size: expected at most 2 bytes, found 3"},
        {"{}", (size_t)1 << 40, 0, NR_E_FORMAT, "header size: expected at most 2 bytes"},
        {"{}", SIZE_MAX - 1, 0, NR_E_FORMAT, "header size"},
        {"{", SIZE_MAX, 0, NR_E_FORMAT, "not JSON"},
        {"[]", SIZE_MAX, 0, NR_E_FORMAT, "header: expected a JSON object"},
        {"{}", SIZE_MAX, 1, NR_E_FORMAT, "data: expected 0 bytes behind the header, found 1"},
        {"{" T("a", "2", 0, 8) "}", SIZE_MAX, 9, NR_E_FORMAT, "data: expected 8 bytes behind the header, found 9"},
        {"{" T("a", "2", 0, 8) "}", SIZE_MAX, 7, NR_E_FORMAT, "tensor a: data_offsets: expected rising offsets up to 7"},
        {"{" T("a", "2", 4, 12) "}", SIZE_MAX, 12, NR_E_FORMAT, "tensor a: data_offsets: expected 0 (no holes), found 4"},
        {"{" T("a", "2", 0, 8) "," T("b", "1", 4, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "expected 8 (no overlaps), found 4"},
        {"{" T("a", "2", 0, 8) "," T("b", "2", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "(no overlaps)"},
        {"{" T("a", "2", 0, 8) "," T("a", "2", 8, 16) "}", SIZE_MAX, 16, NR_E_FORMAT, "duplicate"},
        {"{" T("a", "2", 8, 0) "}", SIZE_MAX, 8, NR_E_FORMAT, "rising offsets"},
        {"{" T("a", "2", -8, 0) "}", SIZE_MAX, 8, NR_E_FORMAT, "rising offsets"},
        {"{" T("a", "3", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "tensor a: data_offsets: expected the shape's 12 bytes, found 8"},
        {"{" T("a", "-2", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "tensor a: shape: expected whole numbers"},
        {"{" T("a", "2.0", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "tensor a: shape: expected whole numbers"},
        {"{" T("a", "1,1,1,1,2", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "a list of at most 4"},
        {"{" T("a", "4294967296, 4294967296", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "a product below 2^64"},
        {"{" T("", "2", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "expected printable tensor names"},
        {"{" T("a\\u0001", "2", 0, 8) "}", SIZE_MAX, 8, NR_E_FORMAT, "expected printable tensor names"},
        {"{\"a\": {\"dtype\": \"F8_E4M3\", \"shape\": [8], \"data_offsets\": [0, 8]}}", SIZE_MAX, 8, NR_E_UNSUPPORTED, "tensor a: dtype: expected F32, F16, BF16 or F64, found F8_E4M3"},
        {"{\"a\": {\"dtype\": 1, \"shape\": [8], \"data_offsets\": [0, 8]}}", SIZE_MAX, 8, NR_E_FORMAT, "dtype: expected a string"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": 2, \"data_offsets\": [0, 8]}}", SIZE_MAX, 8, NR_E_FORMAT, "shape: expected a list"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0]}}", SIZE_MAX, 8, NR_E_FORMAT, "two whole numbers"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2]}}", SIZE_MAX, 8, NR_E_FORMAT, "dtype, shape and data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8], \"x\": 1}}", SIZE_MAX, 8, NR_E_FORMAT, "dtype, shape and data_offsets"},
        {"{\"a\": 1}", SIZE_MAX, 8, NR_E_FORMAT, "tensor a: entry"},
        {"{\"__metadata__\": {\"a\": 1}}", SIZE_MAX, 0, NR_E_FORMAT, "__metadata__: a: expected a string"},
        {"{\"__metadata__\": 1}", SIZE_MAX, 0, NR_E_FORMAT, "__metadata__: expected an object"},
        {"{" T("a", "2", 0, 8) "}  ", SIZE_MAX, 8, NR_OK, ""},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_safetensors *s;
        nr_error err = {0};
        put(cases[i].header, cases[i].size, cases[i].data);
        nr_status st = nr_safetensors_open(&s, file, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].says) || (st && !strstr(err.message, file)))
            fail_msg("%s: expected %d and \"%s\", found %d and \"%s\"", cases[i].header, cases[i].status, cases[i].says, st, err.message);
        assert_true((st == NR_OK) == (s != NULL));
        nr_safetensors_close(s);
    }
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    nr_map m;
    nr_error err = {0};
    assert_int_equal(nr_map_open(&m, NRES_FIXTURES "/formats/written.safetensors", &err), NR_OK);
    for (size_t i = 0; i < m.size; i++) {
        nr_safetensors *s;
        assert_int_equal(nr_write_file(file, m.data, i, &err), NR_OK);
        assert_int_equal(nr_safetensors_open(&s, file, &err), NR_E_FORMAT);
        assert_null(s);
    }
    nr_map_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_python_wrote), cmocka_unit_test(writes_the_same_bytes), cmocka_unit_test(refuses_to_write),
        cmocka_unit_test(keeps_metadata), cmocka_unit_test(refuses_bad_files), cmocka_unit_test(refuses_every_truncation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
