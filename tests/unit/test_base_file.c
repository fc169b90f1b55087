/* Maps, folders and the atomic writer: what was there survives every failure. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/base.h"
#include "testing.h"

static char folder[256];

static int make_folder(void **state)
{
    (void)state;
    testing_folder(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK && !nr_path_exists(folder) ? 0 : -1;
}

static void content_is(const char *path, const char *want)
{
    nr_map m;
    nr_error err;
    assert_int_equal(nr_map_open(&m, path, &err), NR_OK);
    assert_int_equal(m.size, strlen(want));
    assert_memory_equal(m.data, want, m.size);
    nr_map_close(&m);
}

static size_t entries(void)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void map_refuses_what_is_no_file(void **state)
{
    (void)state;
    nr_map m;
    nr_error err;
    char *path = nr_path_join(folder, "none");
    assert_int_equal(nr_map_open(&m, path, &err), NR_E_IO);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(nr_map_open(&m, folder, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "found a folder"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(nr_map_open(&m, path, &err), NR_E_IO); /* and doesn't wait for a writer */
    nr_map_close(&m);
    unlink(path);
    free(path);
}

/* Bytes of a map out of its file; of one that has shrunk meanwhile, an error where a touch would end the program. */
static void map_reads_its_file(void **state)
{
    (void)state;
    nr_map m;
    nr_error err;
    char got[4] = "", *path = nr_path_join(folder, "read");
    assert_int_equal(nr_write_file(path, "abcdefgh", 8, NULL), NR_OK);
    assert_int_equal(nr_map_open(&m, path, NULL), NR_OK);
    assert_int_equal(nr_map_read(&m, got, m.data + 1, 3, &err), NR_OK);
    assert_string_equal(got, "bcd");
    nr_map_close(&m);
    assert_int_equal(nr_map_open_file(&m, path, NULL), NR_OK);
    assert_int_equal(nr_map_read(&m, got, m.data + 5, 3, &err), NR_OK);
    assert_string_equal(got, "fgh");
    assert_int_equal(truncate(path, 6), 0);
    assert_int_equal(nr_map_read(&m, got, m.data + 5, 3, &err), NR_E_IO);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "shrunk"));
    nr_map_close(&m);
    unlink(path);
    free(path);
}

static void empty_file_maps(void **state)
{
    (void)state;
    nr_map m;
    char *path = nr_path_join(folder, "empty");
    assert_int_equal(nr_write_file(path, NULL, 0, NULL), NR_OK);
    assert_int_equal(nr_map_open(&m, path, NULL), NR_OK);
    assert_int_equal(m.size, 0);
    assert_non_null(m.data);
    nr_map_close(&m);
    unlink(path);
    free(path);
}

static void writer_replaces_at_commit_only(void **state)
{
    (void)state;
    nr_writer w;
    nr_error err;
    char *path = nr_path_join(folder, "file");
    assert_int_equal(nr_write_file(path, "old", 3, &err), NR_OK);
    assert_int_equal(nr_writer_open(&w, path, &err), NR_OK);
    nr_writer_write(&w, "new and longer", 14);
    content_is(path, "old");
    nr_writer_abort(&w);
    content_is(path, "old");
    assert_int_equal(entries(), 1);
    assert_int_equal(nr_writer_open(&w, path, &err), NR_OK);
    nr_writer_write(&w, "new", 3);
    nr_writer_write(&w, " and longer", 11);
    assert_int_equal(nr_writer_commit(&w, &err), NR_OK);
    content_is(path, "new and longer");
    assert_int_equal(entries(), 1);
    nr_writer_abort(&w); /* after commit: nothing */
    content_is(path, "new and longer");
    unlink(path);
    free(path);
}

static void writer_steps_over_leftovers(void **state)
{
    (void)state;
    char *path = nr_path_join(folder, "file"), *left = nr_format("%s.tmp-%ld-0", path, (long)getpid());
    FILE *f = fopen(left, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(nr_write_file(path, "x", 1, NULL), NR_OK);
    content_is(path, "x");
    assert_true(nr_path_exists(left));
    unlink(left);
    unlink(path);
    free(left);
    free(path);
}

/* A disk that is full after 4096 bytes: the file size limit of this process. */
static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    nr_error err;
    static char big[100000];
    char *path = nr_path_join(folder, "file");
    assert_int_equal(nr_write_file(path, "old", 3, &err), NR_OK);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    nr_status at_write = nr_write_file(path, big, sizeof big, &err);
    nr_error late;
    nr_status at_flush = nr_write_file(path, big, 4097, &late); /* fits stdio's buffer or not: fails at the flush */
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(at_write, NR_E_IO);
    assert_int_equal(at_flush, NR_E_IO);
    assert_non_null(strstr(err.message, "File too large"));
    assert_non_null(strstr(late.message, path));
    content_is(path, "old");
    assert_int_equal(entries(), 1);
    unlink(path);
    free(path);
}

static void writer_needs_its_folder(void **state)
{
    (void)state;
    nr_writer w;
    nr_error err;
    char *path = nr_path_join(folder, "no/such");
    assert_int_equal(nr_writer_open(&w, path, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "No such file or directory"));
    nr_writer_abort(&w);
    free(path);
}

static void folders_are_made_and_removed(void **state)
{
    (void)state;
    nr_error err;
    char *deep = nr_path_join(folder, "a/b//c/"), *file = nr_path_join(folder, "a/b/file");
    char *link = nr_path_join(folder, "a/out"), *outside = nr_path_join(folder, "kept");
    char *blocked = nr_path_join(folder, "a/b/file/d"), *a = nr_path_join(folder, "a");
    assert_int_equal(nr_make_folders(deep, &err), NR_OK);
    assert_int_equal(nr_make_folders(deep, &err), NR_OK);
    assert_true(nr_path_is_folder(deep));
    assert_int_equal(nr_write_file(file, "x", 1, &err), NR_OK);
    assert_int_equal(nr_make_folders(blocked, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "a/b/file"));
    assert_int_equal(symlink("nowhere", link), 0);
    assert_int_equal(nr_make_folders(link, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "a/out: can't make the folder: File exists")); /* of making it, not of looking for it */
    assert_int_equal(unlink(link), 0);
    assert_int_equal(nr_make_folders(outside, &err), NR_OK);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(nr_remove_folder(a, &err), NR_OK);
    assert_false(nr_path_exists(a));
    assert_true(nr_path_is_folder(outside)); /* the link went, not what it pointed at */
    assert_int_equal(nr_remove_folder(a, &err), NR_OK);
    assert_int_equal(nr_remove_folder(outside, &err), NR_OK);
    free(deep), free(file), free(link), free(outside), free(blocked), free(a);
}

static bool is_text(const char *name) { return strstr(name, ".txt") != NULL; }

static void walk_takes_what_is_wanted_in_order(void **state)
{
    (void)state;
    static const char *const names[] = {"w/b.txt", "w/a/z.txt", "w/a.txt", "w/a/y.bin", "w/.hidden.txt", "w/.git/x.txt"};
    static const char *const want[] = {"w/a.txt", "w/a/z.txt", "w/b.txt"};
    nr_error err;
    nr_paths found = {0};
    char *top = nr_path_join(folder, "w"), *link = nr_path_join(folder, "w/a/link.txt");
    for (size_t i = 0; i < NR_COUNT(names); i++) {
        char *path = nr_path_join(folder, names[i]), *slash = strrchr(path, '/');
        *slash = '\0';
        assert_int_equal(nr_make_folders(path, &err), NR_OK);
        *slash = '/';
        assert_int_equal(nr_write_file(path, "x", 1, &err), NR_OK);
        free(path);
    }
    assert_int_equal(symlink("..", link), 0);
    assert_int_equal(nr_paths_add(&found, "first", &err), NR_OK); /* what is there stays in front */
    assert_int_equal(nr_paths_walk(&found, top, is_text, &err), NR_OK);
    assert_int_equal(found.count, 1 + NR_COUNT(want));
    assert_string_equal(found.paths[0], "first");
    for (size_t i = 0; i < NR_COUNT(want); i++) assert_string_equal(found.paths[1 + i] + strlen(folder) + 1, want[i]);
    nr_paths_free(&found);
    assert_int_equal(nr_remove_folder(top, &err), NR_OK);
    assert_int_equal(nr_paths_walk(&found, top, is_text, &err), NR_E_IO);
    free(top), free(link);
}

static void join_uses_one_slash(void **state)
{
    (void)state;
    char *a = nr_path_join("x", "y"), *b = nr_path_join("x/", "y"), *c = nr_path_join("", "y");
    assert_string_equal(a, "x/y");
    assert_string_equal(b, "x/y");
    assert_string_equal(c, "y");
    free(a), free(b), free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_refuses_what_is_no_file),    cmocka_unit_test(map_reads_its_file),
        cmocka_unit_test(empty_file_maps),
        cmocka_unit_test(writer_replaces_at_commit_only), cmocka_unit_test(writer_steps_over_leftovers),
        cmocka_unit_test(full_disk_keeps_the_old_file),   cmocka_unit_test(writer_needs_its_folder),
        cmocka_unit_test(folders_are_made_and_removed),   cmocka_unit_test(join_uses_one_slash),
        cmocka_unit_test(walk_takes_what_is_wanted_in_order),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
