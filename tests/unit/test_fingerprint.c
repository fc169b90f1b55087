/* test_fingerprint.c - a model's fingerprint: of its bytes, computed once, by whichever thread asks first. */
#include "testing.h"
#include "tiny.h"

#include <fcntl.h>

enum { ASKING = 16 };

typedef struct {
    const nr_model *model;
    char hex[ASKING][65];
} question;

static void ask(void *context, size_t i)
{
    question *q = context;
    if (nr_model_fingerprint(q->model, q->hex[i], NULL) != NR_OK) q->hex[i][0] = '\0';
}

static void all_threads_hear_the_same(void **state)
{
    (void)state;
    tiny t;
    question q = {0};
    nr_threads_set(4);
    tiny_open(&t, nr_ops_reference(false), NR_USE_SHAPES);
    q.model = t.model;
    nr_parallel(ASKING, ask, &q);
    assert_int_equal(strlen(q.hex[0]), 64);
    for (size_t i = 1; i < ASKING; i++) assert_string_equal(q.hex[i], q.hex[0]);
    tiny_close(&t);
}

/* Flips a bit of the last weight. */
static void change(const char *path)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    off_t last = lseek(fd, -1, SEEK_END);
    assert_int_equal(pread(fd, &byte, 1, last), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, last), 1);
    close(fd);
}

/* The mapping shows the changed byte: an unchanged answer is a kept one, and another model of the file has another. */
static void computed_once(void **state)
{
    (void)state;
    tiny t;
    nr_model *again;
    nr_error err = {0};
    nr_model_options opt = {.use = NR_USE_SHAPES};
    char first[65], second[65], path[160];
    tiny_open(&t, nr_ops_reference(false), NR_USE_SHAPES);
    tiny_ok(nr_model_fingerprint(t.model, first, &err), &err);
    snprintf(path, sizeof path, "%s/model/model.safetensors", t.folder);
    change(path);
    tiny_ok(nr_model_fingerprint(t.model, second, &err), &err);
    assert_string_equal(second, first);
    snprintf(path, sizeof path, "%s/model", t.folder);
    tiny_ok(nr_model_open(&again, path, &opt, &err), &err);
    tiny_ok(nr_model_fingerprint(again, second, &err), &err);
    assert_string_not_equal(second, first);
    nr_model_close(again);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_threads_hear_the_same),
        cmocka_unit_test(computed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
