/*
 * Every allocation and every file operation of base fails once: each failure
 * comes back as one error, loses no memory (address sanitizer, valgrind) and
 * leaves the file that was there as it was.
 */
#include "fault/sweep.h"

void *__real_malloc(size_t n);

static char folder[256], *path;

static int setup(void **state)
{
    (void)state;
    path = nr_path_join(testing_folder(folder), "file.json");
    return path ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(path);
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

static size_t size_of_file(void)
{
    nr_map m;
    assert_int_equal(nr_map_open(&m, path, NULL), NR_OK);
    size_t n = m.size;
    nr_map_close(&m);
    return n;
}

static nr_status save(nr_error *err)
{
    nr_settings s;
    nr_settings_default(&s);
    json_t *j = nr_settings_to_json(&s, NULL);
    if (!j) return nr_fail(err, NR_E_MEMORY, "settings: out of memory");
    nr_status st = nr_json_save(j, path, err);
    json_decref(j);
    return st;
}

static nr_status load(nr_error *err)
{
    json_t *j = NULL;
    nr_settings s, defaults;
    nr_settings_default(&s);
    nr_settings_default(&defaults);
    s.steps = 1;
    nr_status st = nr_json_load(&j, path, err);
    if (st == NR_OK) st = nr_settings_from_json(&s, j, path, err);
    if (st == NR_OK) assert_memory_equal(&s, &defaults, sizeof s);
    json_decref(j);
    return st;
}

/* jansson's own allocations fail too while it writes. Not while it reads: its
 * scanner (2.14) drops a byte of a string when its buffer can't grow and goes
 * on, which no caller can see. */
static void json_through_a_file(void **state)
{
    (void)state;
    json_set_alloc_funcs(malloc, free);
    sweep(save, NULL, 100);
    json_set_alloc_funcs(__real_malloc, free);
    sweep(load, NULL, 2);
}

static nr_status replace(nr_error *err)
{
    static char big[20000]; /* more than stdio's buffer: written in between */
    nr_writer w;
    NR_TRY(nr_writer_open(&w, path, err));
    for (int i = 0; i < 3; i++) nr_writer_write(&w, big, sizeof big);
    return nr_writer_commit(&w, err);
}

static void replaced_whole_or_not_at_all(void **state)
{
    (void)state;
    assert_int_equal(nr_write_file(path, "old", 3, NULL), NR_OK);
    for (long n = 0;; n++) {
        fault_arm(n);
        nr_status st = replace(NULL);
        bool failed = fault_disarm();
        size_t size = size_of_file();
        /* The last sync can fail after the new file is in place. */
        assert_true(size == 3 || size == 60000);
        if (st == NR_OK) assert_int_equal(size, 60000);
        if (!failed) {
            assert_int_equal(st, NR_OK);
            assert_true(n > 8);
            break;
        }
        assert_true(st != NR_OK);
        char *left = nr_format("%s.tmp-%ld-0", path, (long)getpid());
        assert_false(nr_path_exists(left));
        free(left);
        assert_int_equal(nr_write_file(path, "old", 3, NULL), NR_OK);
    }
}

static nr_status grow(nr_error *err)
{
    nr_arena a = {0};
    nr_buffer b = {0};
    char *name = nr_strdup("x"), *text = nr_format("%d", 7);
    nr_arena_take(&a, 100, 8);
    nr_status st = nr_arena_commit(&a, "arena", err);
    for (int i = 0; i < 1000; i++) nr_buffer_printf(&b, "%d", i);
    if (st == NR_OK && (b.failed || !name || !text)) st = nr_fail(err, NR_E_MEMORY, "text: out of memory");
    if (!b.failed) assert_int_equal(b.size, 10 + 180 + 2700);
    free(name);
    free(text);
    nr_arena_free(&a);
    nr_buffer_free(&b);
    return st;
}

static void memory(void **state)
{
    (void)state;
    sweep(grow, NULL, 6);
}

static nr_status folders(nr_error *err)
{
    char *deep = nr_path_join(folder, "a/b/c"), *top = nr_path_join(folder, "a");
    nr_status st = deep && top ? nr_make_folders(deep, err) : nr_fail(err, NR_E_MEMORY, "path: out of memory");
    if (st == NR_OK) st = nr_remove_folder(top, err);
    free(deep);
    free(top);
    return st;
}

static void folders_come_and_go(void **state)
{
    (void)state;
    sweep(folders, NULL, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_through_a_file),
        cmocka_unit_test(replaced_whole_or_not_at_all),
        cmocka_unit_test(memory),
        cmocka_unit_test(folders_come_and_go),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
