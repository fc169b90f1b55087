/* Errors, allocation, arenas, growing strings, SHA-256, the random stream. */
#include <errno.h>
#include <math.h>

#include "base/base.h"
#include "testing.h"

static void error_is_one_clean_line(void **state)
{
    (void)state;
    nr_error err;
    assert_int_equal(nr_fail(&err, NR_E_FORMAT, "%s: bad \033[31m field", "a\nb"), NR_E_FORMAT);
    assert_int_equal(err.status, NR_E_FORMAT);
    assert_string_equal(err.message, "a?b: bad ?[31m field");
    nr_fail(&err, NR_E_FORMAT, "%s", "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \xFFx \xE2\x82 \xC2\x9B" "31m \xC3");
    assert_string_equal(err.message, "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 ?x ?? ??31m ?");
    assert_int_equal(nr_fail(NULL, NR_E_IO, "nobody listens"), NR_E_IO);
    errno = ENOENT;
    assert_int_equal(nr_fail_errno(&err, "can't open", "x/y"), NR_E_IO);
    assert_string_equal(err.message, "x/y: can't open: No such file or directory");
}

static void long_error_keeps_whole_characters(void **state)
{
    (void)state;
    nr_error err;
    char text[3001];
    for (size_t i = 0; i < 3000; i += 3) memcpy(text + i, "\xE2\x82\xAC", 3);
    text[3000] = '\0';
    nr_fail(&err, NR_E_IO, "%s", text);
    assert_int_equal(strlen(err.message), 1023); /* 341 whole characters: the buffer less its NUL */
    nr_fail(&err, NR_E_IO, "a%s", text);
    assert_int_equal(strlen(err.message), 1 + 3 * 340);
}

static void statuses_have_text_and_codes(void **state)
{
    (void)state;
    assert_int_equal(nr_status_exit_code(NR_OK), 0);
    assert_int_equal(nr_status_exit_code(NR_E_USAGE), 2);
    assert_int_equal(nr_status_exit_code(NR_E_NOT_FINITE), 3);
    assert_int_equal(nr_status_exit_code(NR_E_INTERRUPTED), 130);
    assert_int_equal(nr_status_exit_code((nr_status)99), 1);
    assert_string_equal(nr_status_text(NR_E_MEMORY), "not enough memory");
    assert_string_equal(nr_version(), NRES_VERSION);
}

static void allocation_is_zeroed_aligned_and_checked(void **state)
{
    (void)state;
    nr_error err;
    unsigned char *p = NULL;
    for (int i = 0; i < 100; i++) { /* memory that has been used before comes zeroed too */
        assert_int_equal(nr_alloc(&p, 1001, 3, "test", &err), NR_OK);
        for (size_t k = 0; k < 3003; k++) assert_int_equal(p[k], 0);
        memset(p, 0x5A, 3003);
        free(p);
    }
    assert_int_equal(nr_alloc(&p, 1001, 3, "test", &err), NR_OK);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < 3003; i++) assert_int_equal(p[i], 0);
    free(p);
    assert_int_equal(nr_alloc(&p, 0, 8, "nothing", &err), NR_OK);
    assert_non_null(p);
    free(p);
    p = (unsigned char *)state;
    assert_int_equal(nr_alloc(&p, SIZE_MAX / 4, 8, "the plan", &err), NR_E_MEMORY);
    assert_null(p);
    assert_non_null(strstr(err.message, "the plan"));
    assert_int_equal(nr_alloc(&p, SIZE_MAX - 10, 1, "nearly all", &err), NR_E_MEMORY);
}

/* Their whole pages are given back to the system instead of written over. */
static void large_blocks_are_zeroed_too(void **state)
{
    (void)state;
    static const size_t sizes[] = {(1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 4097, 9 << 20};
    nr_error err;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < NR_COUNT(sizes); i++) {
            unsigned char *p = NULL, any = 0, *before = malloc(sizes[i]), *behind;
            assert_non_null(before);
            memset(before, 0x5A, sizes[i]); /* what the next block may be made of */
            behind = malloc(100000);
            assert_non_null(behind);
            memset(behind, 0xA5, 100000);
            free(before);
            assert_int_equal(nr_alloc(&p, sizes[i], 1, "test", &err), NR_OK);
            for (size_t k = 0; k < sizes[i]; k++) any |= p[k];
            assert_int_equal(any, 0);
            for (size_t k = 0; k < 100000; k++) assert_int_equal(behind[k], 0xA5);
            free(behind);
            memset(p, 0x5A, sizes[i]);
            free(p);
        }
}

static void arena_hands_out_what_the_dry_walk_counted(void **state)
{
    (void)state;
    nr_error err;
    nr_arena a = {0};
    char *got[3];
    static const size_t sizes[3] = {5, 64, 1000};
    for (int walk = 0; walk < 2; walk++) {
        for (size_t i = 0; i < 3; i++) got[i] = nr_arena_take(&a, sizes[i], 1);
        if (walk == 0) {
            assert_int_equal(a.used, 64 + 64 + 1024);
            assert_null(got[0]);
            assert_int_equal(nr_arena_commit(&a, "walk", &err), NR_OK);
        }
    }
    assert_ptr_equal(got[0], a.base);
    assert_ptr_equal(got[1], a.base + 64);
    assert_ptr_equal(got[2], a.base + 128);
    assert_null(nr_arena_take(&a, 1, 1)); /* more than was counted */
    nr_arena_free(&a);
    assert_null(a.base);
}

static void arena_overflow_fails_at_commit(void **state)
{
    (void)state;
    nr_error err;
    nr_arena a = {0};
    nr_arena_take(&a, SIZE_MAX / 2, 4);
    nr_arena_take(&a, 1, 1);
    assert_int_equal(nr_arena_commit(&a, "too much", &err), NR_E_MEMORY);
    nr_arena_free(&a);
}

static void buffer_grows(void **state)
{
    (void)state;
    nr_buffer b = {0};
    for (int i = 0; i < 1000; i++) nr_buffer_printf(&b, "%d,", i);
    nr_buffer_text(&b, "end");
    nr_buffer_add(&b, "\0x", 2);
    assert_false(b.failed);
    assert_int_equal(b.size, 10 * 2 + 90 * 3 + 900 * 4 + 3 + 2);
    assert_memory_equal(b.data, "0,1,2,", 6);
    assert_memory_equal(b.data + b.size - 5, "end\0x", 6);
    nr_buffer_free(&b);
    assert_null(b.data);
    char *s = nr_format("%s-%d", "x", 7);
    assert_string_equal(s, "x-7");
    free(s);
}

static void sha256_known_digests(void **state)
{
    (void)state;
    char hex[65];
    nr_sha256 *h = nr_sha256_new();
    nr_sha256_add(h, "", 0);
    nr_sha256_hex(h, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    h = nr_sha256_new();
    nr_sha256_add(h, "ab", 2);
    nr_sha256_add(h, "c", 1);
    nr_sha256_hex(h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    nr_sha256_hex(NULL, hex);
    assert_string_equal(hex, "");
}

/* The authors' known answers of Philox4x32-10; the first two words are what u64 gives. */
static void philox_known_answers(void **state)
{
    (void)state;
    assert_true(nr_rng_u64(0, 0, 0) == 0xe169c58d6627e8d5u);
    assert_true(nr_rng_u64(UINT64_MAX, UINT64_MAX, UINT64_MAX) == 0x41c83b0e408f276du);
    assert_true(nr_rng_u64(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u) == 0x94fdccebd16cfe09u);
}

static void random_numbers_have_their_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum[2] = {0}, square[2] = {0}, fourth = 0, least = 1, most = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = nr_rng_uniform(7, NR_RNG_TEST, i), z = nr_rng_normal(7, NR_RNG_TEST, i);
        sum[0] += u;
        square[0] += u * u;
        sum[1] += z;
        square[1] += z * z;
        fourth += z * z * z * z;
        least = fmin(least, u);
        most = fmax(most, u);
        assert_true(isfinite(z));
    }
    assert_true(least >= 0 && least < 1e-4 && most < 1 && most > 1 - 1e-4);
    /* five standard errors of each mean */
    assert_true(fabs(sum[0] / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(square[0] / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
    assert_true(fabs(sum[1] / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(square[1] / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
}

/* Many at once are the same bits as one by one, and both what Box and Muller say. */
static void normals_are_box_mullers(void **state)
{
    (void)state;
    enum { N = 50001 };
    static double many[N];
    nr_rng_normals(many, 7, NR_RNG_TEST, 3, N);
    for (uint64_t i = 0; i < N; i++) {
        double one = nr_rng_normal(7, NR_RNG_TEST, 3 + i);
        assert_memory_equal(&one, &many[i], sizeof one);
    }
    for (uint64_t i = 0; i < N; i += 2) { /* u from the first half of the block, v from the other: |z| <= r, and z = r cos */
        double u = (double)((nr_rng_u64(7, NR_RNG_TEST, 3 + i) >> 11) + 1) * 0x1p-53, r = sqrt(-2 * log(u));
        assert_true(fabs(many[i]) <= r * (1 + 1e-14));
    }
    for (size_t n = 0; n < 20; n++) {
        double few[21] = {0};
        few[n] = 5;
        nr_rng_normals(few, 7, NR_RNG_TEST, 3, n);
        assert_memory_equal(few, many, n * sizeof *few);
        assert_true(few[n] == 5);
    }
    /* of the old way, through the C library: log and cos of block (index 0, purpose 0, key 0) */
    double u = (double)((0xe169c58d6627e8d5u >> 11) + 1) * 0x1p-53, v = (double)(0x9b00dbd8bc57ac4cu >> 11) * 0x1p-53;
    assert_true(fabs(nr_rng_normal(0, 0, 0) - sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v)) < 1e-14);
}

static void random_streams_differ_by_every_argument(void **state)
{
    (void)state;
    uint64_t a = nr_rng_u64(1, NR_RNG_INIT, 5);
    assert_true(a == nr_rng_u64(1, NR_RNG_INIT, 5));
    assert_true(a != nr_rng_u64(2, NR_RNG_INIT, 5));
    assert_true(a != nr_rng_u64(1, NR_RNG_SAMPLE, 5));
    assert_true(a != nr_rng_u64(1, NR_RNG_INIT, 6));
    assert_true(a != nr_rng_u64(1, NR_RNG_INIT, 5 + ((uint64_t)1 << 40)));
    assert_true(nr_rng_normal(1, NR_RNG_INIT, 5) != nr_rng_normal(1, NR_RNG_INIT, 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_is_one_clean_line),
        cmocka_unit_test(long_error_keeps_whole_characters),
        cmocka_unit_test(statuses_have_text_and_codes),
        cmocka_unit_test(allocation_is_zeroed_aligned_and_checked),
        cmocka_unit_test(large_blocks_are_zeroed_too),
        cmocka_unit_test(arena_hands_out_what_the_dry_walk_counted),
        cmocka_unit_test(arena_overflow_fails_at_commit),
        cmocka_unit_test(buffer_grows),
        cmocka_unit_test(sha256_known_digests),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(random_numbers_have_their_moments),
        cmocka_unit_test(normals_are_box_mullers),
        cmocka_unit_test(random_streams_differ_by_every_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
