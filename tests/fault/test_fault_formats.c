/*
 * Every allocation, map and write of the formats fails once: each comes back
 * as one error, loses no memory (the sanitizers watch) and leaves no file.
 */
#include "fault/sweep.h"
#include "formats/formats.h"

static char folder[] = "/tmp/nres-fault-formats-XXXXXX";
static char file[128];

static nr_status open_model(const char *path, nr_error *err)
{
    nr_model_file *f;
    nr_status st = nr_model_file_open(&f, path, NULL, err);
    assert_true((st == NR_OK) == (f != NULL));
    nr_model_file_close(f);
    return st;
}

static nr_status open_gguf(nr_error *err) { return open_model(NRES_FIXTURES "/formats/tiny.gguf", err); }
static nr_status open_single(nr_error *err) { return open_model(NRES_FIXTURES "/formats/single", err); }
static nr_status open_sharded(nr_error *err) { return open_model(NRES_FIXTURES "/formats/sharded", err); }

/* What stood there before stays, unless the whole new file stands there. */
static nr_status write_file(nr_error *err)
{
    static const float numbers[4] = {1, 2, 3, 4};
    const nr_tensor t[2] = {
        {.name = (char *)"a", .type = NR_F32, .ndim = 1, .shape = {4}, .data = (const unsigned char *)numbers, .size = 16},
        {.name = (char *)"b", .type = NR_F32, .ndim = 2, .shape = {2, 2}, .data = (const unsigned char *)numbers, .size = 16},
    };
    return nr_safetensors_write(file, t, 2, NULL, err);
}

static void models(void **state)
{
    (void)state;
    sweep(open_gguf, NULL, 80);
    sweep(open_single, NULL, 50);
    sweep(open_sharded, NULL, 50);
}

static void writing(void **state)
{
    (void)state;
    nr_error err = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/x.safetensors", folder);
    json_set_alloc_funcs(malloc, free); /* as this file sees them: wrapped; a lost byte of the header must not pass */
    sweep(write_file, NULL, 60);
    assert_int_equal(nr_remove_folder(folder, &err), NR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(models), cmocka_unit_test(writing) /* last: it changes jansson */};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
