/*
 * threads.c - one way to run in parallel: libgomp's pool, which the matrix
 * library uses too, entered through the function that gcc's own "omp parallel"
 * calls. So gcc and clang build the same program on the same runtime.
 *
 * The threads of the team take short runs of neighbouring tasks, whoever is
 * free: which thread ran a task never shows in a result. The team has always
 * the full size: libgomp ends threads when a team shrinks and would start them
 * again for the next one.
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

typedef struct {
    size_t tasks;
    void (*task)(void *context, size_t i);
    void *context;
    size_t run;         /* tasks taken at once */
    atomic_size_t next; /* first task nobody has taken */
} job;

/* Takes runs of tasks until none is left. A thread that the machine holds up
 * leaves its later runs to the others. */
static void work_off(job *j)
{
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&j->next, j->run, memory_order_relaxed);
        if (begin >= j->tasks) return;
        size_t end = NR_MIN(begin + j->run, j->tasks);
        for (size_t i = begin; i < end; i++) j->task(j->context, i);
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

static void team_member(void *data) { work_off(data); }

static void run_team(job *j, size_t threads) { GOMP_parallel(team_member, j, (unsigned)threads, 0); }

#else

#include <pthread.h>

static _Thread_local bool in_task;

static bool inside(void) { return in_task; }

static void *run_member(void *data)
{
    in_task = true;
    work_off(data);
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
    /* some eight runs a thread: few enough to keep neighbours together, enough to even out */
    job j = {.tasks = tasks, .task = task, .context = context, .run = NR_MAX(tasks / (8 * threads), (size_t)1)};
    run_team(&j, threads);
}
