/*
 * threads.c - one way to run in parallel: libgomp's pool, which the matrix
 * library uses too, entered through the function that gcc's own "omp parallel"
 * calls. So gcc and clang build the same program on the same runtime.
 *
 * Every thread begins with a share of its own: the k-th stretch of neighbouring
 * tasks. One operation after another is cut by rows, so a thread finds in its
 * caches the rows that it wrote itself. When its share is done it helps with
 * the others': which thread ran a task never shows in a result. The team has
 * always the full size: libgomp ends threads when a team shrinks and would
 * start them again for the next one.
 *
 * The thread sanitizer can't see libgomp's barriers, so a build with it runs
 * the same tasks on POSIX threads, which it understands.
 */
#include <stdatomic.h>

#include "base/base.h"

#if defined(__SANITIZE_THREAD__)
#define NR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NR_TSAN 1
#endif
#endif

/* libgomp's interface; no compiler but gcc brings its omp.h. */
extern void omp_set_num_threads(int n);
extern int omp_get_max_threads(void);
extern int omp_in_parallel(void);
extern int omp_get_thread_num(void);

#define SHARES 64 /* more threads than that begin with a share of two */

typedef struct {
    _Alignas(64) atomic_size_t next; /* first task nobody has taken */
    size_t end, run;                 /* tasks taken at once */
} share;

typedef struct {
    void (*task)(void *context, size_t i);
    void *context;
    atomic_size_t members; /* threads that have come */
    size_t share_count;
    share shares[SHARES];
} job;

static void take_runs(const job *j, share *s)
{
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&s->next, s->run, memory_order_relaxed);
        if (begin >= s->end) return;
        size_t end = NR_MIN(begin + s->run, s->end);
        for (size_t i = begin; i < end; i++) j->task(j->context, i);
    }
}

/* The member's own share, then what is left of the others'. A thread that the
 * machine holds up leaves its later runs to the rest. */
static void work_off(job *j, size_t member)
{
    for (size_t k = 0; k < j->share_count; k++) take_runs(j, &j->shares[(member + k) % j->share_count]);
}

/* A share a thread, taken in up to eight runs: few enough to keep neighbours together, enough to even out. */
static void cut(job *j, size_t tasks, size_t threads)
{
    j->share_count = NR_MIN(NR_MIN(threads, tasks), (size_t)SHARES);
    for (size_t k = 0; k < j->share_count; k++) {
        size_t begin = k * tasks / j->share_count, end = (k + 1) * tasks / j->share_count;
        j->shares[k].end = end;
        j->shares[k].run = (end - begin + 7) / 8;
        atomic_init(&j->shares[k].next, begin);
    }
}

void nr_threads_set(size_t n)
{
    size_t most = 4096;
    if (n == 0) n = nr_core_count();
    omp_set_num_threads((int)NR_MIN(n, most));
}

size_t nr_threads_get(void)
{
    int n = omp_get_max_threads();
    return n > 0 ? (size_t)n : 1;
}

#ifndef NR_TSAN

extern void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags);

static bool inside(void) { return omp_in_parallel(); }

static void team_member(void *data) { work_off(data, (size_t)omp_get_thread_num()); }

static void run_team(job *j, size_t threads) { GOMP_parallel(team_member, j, (unsigned)threads, 0); }

#else

#include <pthread.h>

static _Thread_local bool in_task;

static bool inside(void) { return in_task; }

static void *run_member(void *data)
{
    job *j = data;
    in_task = true;
    work_off(j, atomic_fetch_add(&j->members, 1));
    in_task = false;
    return NULL;
}

#define MOST 64 /* enough for the sanitizer's tests */

static void run_team(job *j, size_t threads)
{
    pthread_t id[MOST];
    bool started[MOST] = {false};
    threads = NR_MIN(threads, (size_t)MOST);
    for (size_t i = 1; i < threads; i++) started[i] = pthread_create(&id[i], NULL, run_member, j) == 0;
    run_member(j);
    for (size_t i = 1; i < threads; i++)
        if (started[i]) pthread_join(id[i], NULL);
}

#endif

void nr_parallel(size_t tasks, void (*task)(void *context, size_t i), void *context)
{
    size_t threads = nr_threads_get();
    if (tasks <= 1 || threads <= 1 || inside()) {
        for (size_t i = 0; i < tasks; i++) task(context, i);
        return;
    }
    job j;
    j.task = task;
    j.context = context;
    atomic_init(&j.members, 0);
    cut(&j, tasks, threads);
    run_team(&j, threads);
}
