/* The filter of repeats: forgets nothing it was given, errs as often as it says, grows, goes on, keeps to its memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "prepare/key_filter.h"
#include "testing.h"

#define FILE_NAME "filter.keys"

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static nr_keyed key_of(uint64_t i, uint64_t number) { return (nr_keyed){{mix(2 * i + 1), mix(2 * i + 2)}, number}; }

static nr_filter *open_filter(double error, size_t most)
{
    nr_filter *f;
    nr_error err;
    assert_int_equal(nr_filter_open(&f, FILE_NAME, error, most, &err), NR_OK);
    return f;
}

/* Adds keys first ... last - 1, their numbers the same; how many were taken for known. */
static size_t add(nr_filter *f, uint64_t first, uint64_t last)
{
    size_t known = 0;
    nr_error err;
    for (uint64_t i = first; i < last; i++) {
        nr_keyed k = key_of(i, i);
        bool seen;
        assert_int_equal(nr_filter_add(f, &k, &seen, &err), NR_OK);
        known += seen;
    }
    return known;
}

static nr_filter_facts facts_of(nr_filter *f)
{
    nr_filter_facts facts;
    nr_error err;
    assert_int_equal(nr_filter_count(f, &facts, &err), NR_OK);
    return facts;
}

static void test_error(void **state)
{
    (void)state;
    static const double errors[] = {0.5, 0.1, 0.01, 0.001};
    for (size_t e = 0; e < NR_COUNT(errors); e++) {
        remove(FILE_NAME);
        nr_filter *f = open_filter(errors[e], (size_t)16 << 20);
        size_t n = 1000000, wrong = add(f, 0, n);
        nr_filter_facts facts = facts_of(f);
        assert_int_equal(facts.keys + wrong, n);
        assert_true(facts.bytes > 65536); /* it grew */
        assert_true((double)wrong <= errors[e] * (double)n + 4 * sqrt(errors[e] * (double)n)); /* the bound */
        assert_true(fabs((double)wrong - facts.wrong) <= 4 * sqrt(facts.wrong));
        nr_map file;
        nr_error err;
        assert_int_equal(nr_filter_settle(f, &err), NR_OK);
        assert_int_equal(nr_map_open(&file, FILE_NAME, &err), NR_OK);
        assert_int_equal(file.size, facts.keys * sizeof(nr_keyed));
        for (size_t at = 0; at < file.size; at += sizeof(nr_keyed)) { /* whatever was added is known, through all growth */
            nr_keyed k;
            bool seen = false;
            memcpy(&k, file.data + at, sizeof k);
            assert_int_equal(nr_filter_add(f, &k, &seen, &err), NR_OK);
            assert_true(seen);
        }
        nr_map_close(&file);
        nr_filter_close(f);
    }
    remove(FILE_NAME);
}

/* Stopped at any key and gone on, with keys behind that were not to count: the same file and the same facts. */
static void test_goes_on(void **state)
{
    (void)state;
    enum { N = 120000 };
    remove(FILE_NAME);
    nr_filter *f = open_filter(0.01, (size_t)1 << 30);
    add(f, 0, N);
    nr_filter_facts whole = facts_of(f);
    nr_filter_close(f);
    nr_map first, second;
    nr_error err;
    assert_int_equal(rename(FILE_NAME, "whole.keys"), 0);
    assert_int_equal(nr_map_open(&first, "whole.keys", &err), NR_OK);
    static const uint64_t stops[] = {1, 5000, 54720, 54721, 70000, 119999};
    for (size_t i = 0; i < NR_COUNT(stops); i++) {
        remove(FILE_NAME);
        f = open_filter(0.01, (size_t)1 << 30);
        add(f, 0, NR_MIN(stops[i] + 60000, N)); /* the state that counts was before */
        nr_filter_close(f);
        struct stat s;
        assert_int_equal(stat(FILE_NAME, &s), 0);
        assert_int_equal(truncate(FILE_NAME, s.st_size - 5 * (off_t)(i % 2)), 0); /* the last write was cut */
        f = open_filter(0.01, (size_t)1 << 30);
        add(f, stops[i], N);
        nr_filter_facts facts = facts_of(f);
        assert_memory_equal(&facts, &whole, sizeof facts);
        nr_filter_close(f);
        f = open_filter(0.01, (size_t)1 << 30); /* nothing left to add */
        facts = facts_of(f);
        assert_memory_equal(&facts, &whole, sizeof facts);
        nr_filter_close(f);
        assert_int_equal(nr_map_open(&second, FILE_NAME, &err), NR_OK);
        assert_int_equal(second.size, first.size);
        assert_memory_equal(second.data, first.data, first.size);
        nr_map_close(&second);
    }
    nr_map_close(&first);
    remove("whole.keys");
    remove(FILE_NAME);
}

/* Full: an error that names the option, no key lost; with more memory it goes on. */
static void test_memory(void **state)
{
    (void)state;
    nr_error err;
    nr_filter *f;
    size_t bytes;
    double most;
    uint64_t n = 0;
    bool seen = false;
    remove(FILE_NAME);
    f = open_filter(1e-6, 100000); /* 64 KiB of it count */
    nr_filter_most(f, &bytes, &most);
    assert_int_equal(bytes, 65536);
    assert_int_equal(facts_of(f).hashes, 20);
    nr_keyed k = key_of(0, 0);
    nr_status st;
    for (; (st = nr_filter_add(f, &k, &seen, &err)) == NR_OK; k = key_of(n, n)) n += !seen;
    assert_int_equal(st, NR_E_MEMORY);
    assert_non_null(strstr(err.message, "--dedup-memory"));
    assert_true(fabs((double)n - most) < 0.01 * most && fabs(28.8 * most - 65536 * 8) < 2000); /* 28.8 bits a key */
    assert_int_equal(nr_filter_settle(f, &err), NR_OK);
    assert_int_equal(facts_of(f).keys, n);
    nr_filter_close(f);
    f = open_filter(1e-6, 100000); /* the same once more is full at once */
    assert_int_equal(nr_filter_add(f, &k, &seen, &err), NR_E_MEMORY);
    nr_filter_close(f);
    f = open_filter(1e-6, 200000);
    assert_int_equal(add(f, n, n + 1000), 0);
    assert_int_equal(facts_of(f).keys, n + 1000);
    nr_filter_close(f);
    assert_int_equal(nr_filter_open(&f, FILE_NAME, 0, 1 << 20, &err), NR_E_USAGE);
    assert_int_equal(nr_filter_open(&f, FILE_NAME, 0.6, 1 << 20, &err), NR_E_USAGE);
    assert_int_equal(nr_filter_open(&f, FILE_NAME, 0.1, 1000, &err), NR_E_USAGE);
    assert_int_equal(nr_filter_open(&f, "absent/file", 0.1, 1 << 20, &err), NR_E_IO);
    remove(FILE_NAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_error), cmocka_unit_test(test_goes_on), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
