/*
 * threads.c - one way to run in parallel: libgomp's pool, which the matrix
 * library uses too, entered through the function that gcc's own "omp parallel"
 * calls. So gcc and clang build the same program on the same runtime.
 *
 * Every thread of the team takes one contiguous share of the tasks. The team
 * has always the full size: libgomp ends threads when a team shrinks and would
 * start them again for the next one.
 *
 * The thread sanitizer can't see libgomp's barriers, so a build with it runs
 * the same shares on POSIX threads, which it understands.
 */
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
extern int omp_get_num_threads(void);
extern int omp_get_thread_num(void);
extern int omp_in_parallel(void);

typedef struct {
    size_t tasks;
    void (*task)(void *context, size_t i);
    void *context;
} job;

/* Share number `part` of `parts`: the first tasks % parts shares hold one more. */
static void run_share(const job *j, size_t part, size_t parts)
{
    size_t each = j->tasks / parts, more = j->tasks % parts;
    size_t begin = part * each + NR_MIN(part, more);
    size_t end = begin + each + (part < more);
    for (size_t i = begin; i < end; i++) j->task(j->context, i);
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

static void team_member(void *data)
{
    run_share(data, (size_t)omp_get_thread_num(), (size_t)omp_get_num_threads());
}

static void run_team(job *j, size_t threads) { GOMP_parallel(team_member, j, (unsigned)threads, 0); }

#else

#include <pthread.h>

static _Thread_local bool in_task;

typedef struct {
    const job *j;
    size_t part, parts;
} member;

static bool inside(void) { return in_task; }

static void *run_member(void *data)
{
    const member *m = data;
    in_task = true;
    run_share(m->j, m->part, m->parts);
    in_task = false;
    return NULL;
}

#define MOST 64 /* enough for the sanitizer's tests */

static void run_team(job *j, size_t threads)
{
    pthread_t id[MOST];
    bool started[MOST] = {false};
    member m[MOST];
    threads = NR_MIN(threads, (size_t)MOST);
    for (size_t i = 0; i < threads; i++) m[i] = (member){j, i, threads};
    for (size_t i = 1; i < threads; i++) started[i] = pthread_create(&id[i], NULL, run_member, &m[i]) == 0;
    for (size_t i = 0; i < threads; i++)
        if (!started[i]) run_member(&m[i]);
    for (size_t i = 1; i < threads; i++)
        if (started[i]) pthread_join(id[i], NULL);
}

#endif

void nr_parallel(size_t tasks, void (*task)(void *context, size_t i), void *context)
{
    job j = {tasks, task, context};
    size_t threads = nr_threads_get();
    if (tasks <= 1 || threads <= 1 || inside())
        run_share(&j, 0, 1);
    else
        run_team(&j, threads);
}
