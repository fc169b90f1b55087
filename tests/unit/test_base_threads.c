/* nr_parallel and nr_crew: each task once, any number of threads, nested calls in place. */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"
#include "testing.h"

enum { TASKS = 1009 };

typedef struct {
    int runs[TASKS];
    pthread_t who[TASKS];
} record;

static void note(void *context, size_t i)
{
    record *r = context;
    r->runs[i]++;
    r->who[i] = pthread_self();
}

static void every_task_runs_once(void **state)
{
    (void)state;
    static const size_t threads[] = {1, 2, 3, 7, 16}, tasks[] = {0, 1, 2, 3, 5, 16, 17, TASKS};
    for (size_t t = 0; t < NR_COUNT(threads); t++)
        for (size_t k = 0; k < NR_COUNT(tasks); k++) {
            static record r;
            r = (record){0};
            nr_threads_set(threads[t]);
            assert_int_equal(nr_threads_get(), threads[t]);
            nr_parallel(tasks[k], note, &r);
            for (size_t i = 0; i < TASKS; i++) assert_int_equal(r.runs[i], i < tasks[k]);
        }
}

/* Neighbours stay together: 1009 tasks on 4 threads are 33 runs of 31. */
static void neighbours_stay_together(void **state)
{
    (void)state;
    static record r;
    nr_threads_set(4);
    nr_parallel(TASKS, note, &r);
    size_t changes = 0;
    for (size_t i = 1; i < TASKS; i++) changes += !pthread_equal(r.who[i - 1], r.who[i]);
    assert_in_range(changes, 0, 32);
}

enum { UNEVEN = 64, ITS_RUN = UNEVEN / (8 * 2) };

/* Task 0 ends only when every run but its own is done. */
static void held_up(void *context, size_t i)
{
    int *done = context;
    while (i == 0 && __atomic_load_n(done, __ATOMIC_SEQ_CST) < UNEVEN - ITS_RUN) sched_yield();
    __atomic_fetch_add(done, 1, __ATOMIC_SEQ_CST);
}

static void a_thread_held_up_leaves_its_work_to_others(void **state)
{
    (void)state;
    int done = 0;
    nr_threads_set(2);
    nr_parallel(UNEVEN, held_up, &done);
    assert_int_equal(done, UNEVEN);
}

/* Two tasks that wait for each other end only if they run at the same time. */
static void meet(void *context, size_t i)
{
    int *arrived = context;
    __atomic_fetch_add(&arrived[i], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived[1 - i], __ATOMIC_SEQ_CST) == 0) sched_yield();
}

static void tasks_run_at_the_same_time(void **state)
{
    (void)state;
    int arrived[2] = {0};
    nr_threads_set(2);
    nr_parallel(2, meet, arrived);
    assert_int_equal(arrived[0] + arrived[1], 2);
}

typedef struct {
    int arrived[2];
    pthread_t who[2];
} meeting;

static void meet_and_note(void *context, size_t i)
{
    meeting *m = context;
    m->who[i] = pthread_self();
    meet(m->arrived, i);
}

/* The rows that a thread wrote are in its caches: it gets the same stretch of tasks in call after call. */
static void a_share_stays_with_its_thread(void **state)
{
    (void)state;
    nr_threads_set(2);
    for (int call = 0; call < 50; call++) {
        meeting m = {0};
        nr_parallel(2, meet_and_note, &m);
        assert_true(pthread_equal(m.who[0], pthread_self()));
        assert_false(pthread_equal(m.who[1], pthread_self()));
    }
}

static void inner(void *context, size_t i)
{
    pthread_t *who = context;
    who[i] = pthread_self();
    sched_yield(); /* time for another thread to take the next one, if it could */
}

static void outer(void *context, size_t i)
{
    int *alien = context;
    pthread_t who[50];
    nr_parallel(NR_COUNT(who), inner, who);
    for (size_t k = 0; k < NR_COUNT(who); k++) alien[i] += !pthread_equal(who[k], pthread_self());
}

extern void omp_set_max_active_levels(int n);

static void nested_calls_run_in_place(void **state)
{
    (void)state;
    int alien[8] = {0};
    omp_set_max_active_levels(4); /* as OMP_MAX_ACTIVE_LEVELS would; one level is libgomp's default */
    nr_threads_set(4);
    nr_parallel(NR_COUNT(alien), outer, alien);
    for (size_t i = 0; i < NR_COUNT(alien); i++) assert_int_equal(alien[i], 0);
}

static void add(void *context, size_t i)
{
    double *sums = context;
    for (size_t k = 0; k < 1000; k++) sums[i] += 1.0 / (double)(1 + i + k);
}

static void results_are_visible_after_the_call(void **state)
{
    (void)state;
    static double one[64], many[64];
    nr_threads_set(1);
    nr_parallel(NR_COUNT(one), add, one);
    nr_threads_set(8);
    nr_parallel(NR_COUNT(many), add, many);
    assert_memory_equal(one, many, sizeof one);
}

static void default_is_all_cores(void **state)
{
    (void)state;
    nr_threads_set(0);
    assert_int_equal(nr_threads_get(), NR_MIN(nr_core_count(), (size_t)4096));
    assert_true(nr_core_count() >= 1);
    double before = nr_clock();
    assert_true(nr_clock() >= before);
    assert_true(nr_memory_peak() > 100000);
}

/* ---- crews ---- */

typedef struct {
    size_t tasks;
    record r;
} crew_work;

/* Calls of one kind after another, as in a token's walk: none may see another's tasks. */
static nr_status lead_calls(void *context, nr_error *err)
{
    (void)err;
    crew_work *w = context;
    for (size_t call = 1; call <= 300; call++) {
        nr_parallel(w->tasks, note, &w->r);
        for (size_t i = 0; i < TASKS; i++) assert_int_equal(w->r.runs[i], i < w->tasks ? (int)call : 0);
    }
    return NR_OK;
}

static void a_crew_runs_every_task_once(void **state)
{
    (void)state;
    static const size_t threads[] = {1, 2, 3, 7}, tasks[] = {0, 1, 2, 5, 17, TASKS};
    for (size_t t = 0; t < NR_COUNT(threads); t++)
        for (size_t k = 0; k < NR_COUNT(tasks); k++) {
            static crew_work w;
            w = (crew_work){.tasks = tasks[k]};
            nr_threads_set(threads[t]);
            assert_int_equal(nr_crew(lead_calls, &w, NULL), NR_OK);
        }
}

static nr_status lead_meeting(void *context, nr_error *err)
{
    (void)err;
    int *arrived = context;
    for (size_t k = 0; k < 20; k++) {
        arrived[0] = arrived[1] = 0;
        nr_parallel(2, meet, arrived);
    }
    return NR_OK;
}

static void a_crew_runs_tasks_at_the_same_time(void **state)
{
    (void)state;
    int arrived[2] = {0};
    nr_threads_set(2);
    assert_int_equal(nr_crew(lead_meeting, arrived, NULL), NR_OK);
    assert_int_equal(arrived[0] + arrived[1], 2);
}

static nr_status lead_nested(void *context, nr_error *err)
{
    (void)err;
    nr_parallel(8, outer, context);
    return NR_OK;
}

static void crew_in_task(void *context, size_t i) { nr_crew(lead_nested, (int *)context + 8 * i, NULL); }

static nr_status lead_crew(void *context, nr_error *err) { return nr_crew(lead_nested, context, err); }

static void nested_calls_of_a_crew_run_in_place(void **state)
{
    (void)state;
    int alien[4 * 8] = {0};
    nr_threads_set(4);
    assert_int_equal(nr_crew(lead_nested, alien, NULL), NR_OK);
    assert_int_equal(nr_crew(lead_crew, alien, NULL), NR_OK);
    nr_parallel(4, crew_in_task, alien);
    for (size_t i = 0; i < NR_COUNT(alien); i++) assert_int_equal(alien[i], 0);
}

static nr_status lead_sums(void *context, nr_error *err)
{
    (void)err;
    nr_parallel(64, add, context);
    return NR_OK;
}

static void results_of_a_crew_are_visible_after_it(void **state)
{
    (void)state;
    static double one[64], many[64];
    for (size_t i = 0; i < 64; i++) add(one, i);
    nr_threads_set(8);
    assert_int_equal(nr_crew(lead_sums, many, NULL), NR_OK);
    assert_memory_equal(one, many, sizeof one);
}

/* Told what is read next, even steps of nothing and of an odd number of bytes, threads find every task all the same. */
static nr_status lead_told(void *context, nr_error *err)
{
    (void)err;
    static const char weights[5000];
    static const nr_read_ahead walk[] = {{{weights, weights + 1000}, {1000, 3000}, false}, {{NULL}, {0}, false},
                                         {{NULL, weights, weights}, {0, 1, 4999}, false}, {{weights}, {63}, true}};
    crew_work *w = context;
    for (size_t call = 1; call <= 300; call++) {
        nr_crew_ahead(walk + (call - 1) % NR_COUNT(walk));
        nr_parallel(w->tasks, note, &w->r);
        if (call % 50 == 0) sched_yield();
        for (size_t i = 0; i < TASKS; i++) assert_int_equal(w->r.runs[i], i < w->tasks ? (int)call : 0);
    }
    nr_crew_ahead(NULL);
    nr_parallel(w->tasks, note, &w->r);
    return NR_OK;
}

static void a_crew_told_what_comes_runs_every_task_once(void **state)
{
    (void)state;
    nr_crew_ahead(NULL); /* nobody hears it */
    for (size_t threads = 1; threads <= 5; threads++) {
        static crew_work w;
        w = (crew_work){.tasks = 9};
        nr_threads_set(threads);
        assert_int_equal(nr_crew(lead_told, &w, NULL), NR_OK);
    }
}

/* What a crew's leader returns comes out, whether others stood by or not; the next crew starts anew. */
static nr_status lead_failing(void *context, nr_error *err)
{
    nr_parallel(8, outer, context);
    return nr_fail(err, NR_E_IO, "lead");
}

static void a_crews_leader_may_fail(void **state)
{
    (void)state;
    static const size_t threads[] = {1, 2, 4};
    int alien[8] = {0};
    for (size_t t = 0; t < NR_COUNT(threads); t++) {
        nr_error err = {0};
        nr_threads_set(threads[t]);
        assert_int_equal(nr_crew(lead_failing, alien, &err), NR_E_IO);
        assert_string_equal(err.message, "lead");
        assert_int_equal(nr_crew(lead_nested, alien, &err), NR_OK);
    }
    nr_threads_set(0);
}

static void a_peak_can_be_forgotten(void **state)
{
    (void)state;
    size_t bytes = 256 << 20;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* no allocator that might keep it */
    assert_true(p != MAP_FAILED);
    memset(p, 1, bytes);
    nr_memory_peak_forget(); /* what is resident now still counts */
    size_t with = nr_memory_peak();
    assert_true(with >= bytes);
    munmap(p, bytes);
    assert_true(nr_memory_peak() >= bytes);
    nr_memory_peak_forget();
    if (access("/proc/self/clear_refs", W_OK) == 0) assert_true(nr_memory_peak() < with);
}

static nr_status fail_at(void *context, size_t i, nr_error *err)
{
    int *ran = context;
    ran[i]++;
    return i % 7 == 5 ? nr_fail(err, i == 5 ? NR_E_FORMAT : NR_E_IO, "task %zu", i) : NR_OK;
}

static void the_first_failing_tasks_error_is_told(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 4; threads++) {
        int ran[64] = {0};
        nr_error err = {0};
        nr_threads_set(threads);
        assert_int_equal(nr_parallel_try(5, fail_at, ran, &err), NR_OK);
        assert_int_equal(err.status, NR_OK);
        assert_int_equal(nr_parallel_try(64, fail_at, ran, &err), NR_E_FORMAT);
        assert_string_equal(err.message, "task 5");
        assert_int_equal(nr_parallel_try(64, fail_at, ran, NULL), NR_E_FORMAT);
        for (size_t i = 0; i < 64; i++) assert_int_equal(ran[i], i < 5 ? 3 : 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),       cmocka_unit_test(neighbours_stay_together),
        cmocka_unit_test(a_thread_held_up_leaves_its_work_to_others),
        cmocka_unit_test(a_share_stays_with_its_thread),
        cmocka_unit_test(tasks_run_at_the_same_time), cmocka_unit_test(nested_calls_run_in_place),
        cmocka_unit_test(results_are_visible_after_the_call), cmocka_unit_test(default_is_all_cores),
        cmocka_unit_test(a_crew_runs_every_task_once), cmocka_unit_test(a_crew_runs_tasks_at_the_same_time),
        cmocka_unit_test(nested_calls_of_a_crew_run_in_place), cmocka_unit_test(results_of_a_crew_are_visible_after_it),
        cmocka_unit_test(a_crew_told_what_comes_runs_every_task_once), cmocka_unit_test(a_peak_can_be_forgotten),
        cmocka_unit_test(the_first_failing_tasks_error_is_told), cmocka_unit_test(a_crews_leader_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
