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
 * A crew is a team that stays for many calls, each a few microseconds long. Its
 * threads take single tasks, their own from the begin of their share and others'
 * from the end, and nothing waits for a thread that took none. Idle ones spin, as
 * the next call of a token's walk, or of a micro-batch's, follows at once; while
 * they do, they fetch what they were told that they will read, so that memory
 * doesn't rest between calls.
 *
 * The thread sanitizer can't see libgomp's barriers, so a build with it runs
 * the same tasks on POSIX threads, which it understands.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

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

#define SHARES 64 /* threads beyond begin with what is left of others' */

typedef struct {
    _Alignas(64) atomic_size_t next; /* first task nobody has taken */
    size_t end, run;                 /* tasks taken at once */
} share;

typedef struct {
    void (*task)(void *context, size_t i);
    void *context;
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
static void work_off(void *data, size_t member)
{
    job *j = data;
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

/* What each thread of a team runs, with its number in the team; the calling thread is number 0. */
typedef struct {
    void (*run)(void *data, size_t member);
    void *data;
#ifdef NR_TSAN
    atomic_size_t members; /* that have come */
#endif
} team;

#ifndef NR_TSAN

extern void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags);

static bool inside(void) { return omp_in_parallel(); }

static void team_member(void *data)
{
    const team *t = data;
    t->run(t->data, (size_t)omp_get_thread_num());
}

static void run_team(void (*run)(void *data, size_t member), void *data, size_t threads)
{
    team t = {.run = run, .data = data};
    GOMP_parallel(team_member, &t, (unsigned)threads, 0);
}

#else

static _Thread_local bool in_task;

static bool inside(void) { return in_task; }

static void run_member(team *t, size_t member)
{
    in_task = true;
    t->run(t->data, member);
    in_task = false;
}

static void *team_member(void *data)
{
    team *t = data;
    run_member(t, 1 + atomic_fetch_add(&t->members, 1));
    return NULL;
}

#define MOST 64 /* enough for the sanitizer's tests */

static void run_team(void (*run)(void *data, size_t member), void *data, size_t threads)
{
    team t = {.run = run, .data = data};
    pthread_t id[MOST];
    bool started[MOST] = {false};
    threads = NR_MIN(threads, (size_t)MOST);
    for (size_t i = 1; i < threads; i++) started[i] = pthread_create(&id[i], NULL, team_member, &t) == 0;
    run_member(&t, 0);
    for (size_t i = 1; i < threads; i++)
        if (started[i]) pthread_join(id[i], NULL);
}

#endif

/* ---- crews ---- */

enum { PATIENCE = 1 << 14 }; /* looks before a waiting thread offers its core to others; some 100 us */
enum {
    AHEAD = 1 << 18,         /* bytes that a thread fetches ahead: a part of its second cache, in whole LINES */
    LINE = 64,
    LINES = 16               /* at once, between two looks */
};

typedef struct {
    _Alignas(64) _Atomic uint64_t range; /* tasks nobody has taken: the first, and 2^32 times the end */
} stretch;

/* How far a member has fetched. */
typedef struct {
    const nr_read_ahead *told, *at; /* the latest word, and where it is: that or later */
    size_t done, left;         /* bytes of its share of `at`; bytes that it may still fetch */
} fetched;

typedef struct {
    stretch own[SHARES];
    _Alignas(64) atomic_size_t calls; /* so far */
    _Alignas(64) atomic_size_t done;  /* tasks of this one */
    _Alignas(64) size_t tasks;        /* these three change only while no task is left or running */
    void (*task)(void *context, size_t i);
    void *context;
    size_t stretches;
    atomic_bool over;
    bool busy; /* the leader is in a call */
    nr_status (*lead)(void *context, nr_error *err);
    void *lead_context;
    nr_status st; /* the leader's */
    nr_error *err;
    fetched fetched; /* by the leader */
    _Alignas(64) _Atomic(const nr_read_ahead *) ahead; /* NULL: nothing is known */
} crew;

static _Thread_local crew *leads; /* the crew whose leader this thread is */

static uint64_t range_of(size_t begin, size_t end) { return (uint64_t)begin | (uint64_t)end << 32; }

/* Takes and runs tasks of a stretch: from its begin, or one from its end. Returns how many. */
static size_t run_stretch(crew *c, stretch *s, bool own)
{
    size_t count = 0;
    uint64_t range = atomic_load_explicit(&s->range, memory_order_relaxed);
    for (;;) {
        size_t begin = (uint32_t)range, end = (size_t)(range >> 32);
        if (begin >= end) break;
        uint64_t rest = own ? range_of(begin + 1, end) : range_of(begin, end - 1);
        if (!atomic_compare_exchange_weak_explicit(&s->range, &range, rest, memory_order_acquire, memory_order_relaxed)) continue;
        c->task(c->context, own ? begin : end - 1);
        count++;
        if (!own) break;
        range = rest;
    }
    if (count > 0) atomic_fetch_add_explicit(&c->done, count, memory_order_release);
    return count;
}

/* Works until no task is left to take. */
static void help(crew *c, size_t member)
{
    if (member < c->stretches) run_stretch(c, &c->own[member], true);
    for (size_t k = 1; k <= c->stretches; k++) {
        stretch *s = &c->own[(member + k) % c->stretches];
        while (run_stretch(c, s, false) > 0) {}
    }
}

/* The next LINES lines of the member's share, cut as tasks are. Returns whether there were any. */
static bool fetch_ahead(crew *c, size_t member, fetched *f)
{
    const nr_read_ahead *told = atomic_load_explicit(&c->ahead, memory_order_acquire);
    if (told != f->told) {
        f->told = told;
        f->left = AHEAD;
        /* `at` may be ahead on the same walk; what is told as the last stands alone, or is the walk's end. */
        if (told && (f->at < told || (told->last && f->at != told))) f->at = told, f->done = 0;
    }
    while (told && f->left > 0) {
        const nr_read_ahead *a = f->at;
        size_t all = 0;
        for (size_t i = 0; i < NR_RUNS; i++) all += a->bytes[i];
        size_t part = all / c->stretches;
        if (member < c->stretches && f->done < part) {
            size_t run = 0, from = part * member + f->done;
            while (from >= a->bytes[run]) from -= a->bytes[run++];
            for (size_t i = 0; i < LINES; i++) __builtin_prefetch((const char *)a->at[run] + NR_MIN(from + i * LINE, a->bytes[run] - 1), 0, 2);
            f->done += LINES * LINE;
            f->left -= LINES * LINE;
            return true;
        }
        if (a->last) return false;
        f->at++;
        f->done = 0;
    }
    return false;
}

static void look_again(size_t *looks)
{
    if (++*looks > PATIENCE) sched_yield();
#if defined(__x86_64__)
    else __builtin_ia32_pause();
#endif
}

static void crew_call(crew *c, size_t tasks, void (*task)(void *context, size_t i), void *context)
{
    size_t looks = 0, n = c->stretches;
    c->busy = true;
    c->tasks = tasks;
    c->task = task;
    c->context = context;
    atomic_store_explicit(&c->done, 0, memory_order_relaxed);
    for (size_t i = 0; i < n; i++)
        atomic_store_explicit(&c->own[i].range, range_of(i * tasks / n, (i + 1) * tasks / n), memory_order_release);
    atomic_fetch_add_explicit(&c->calls, 1, memory_order_release);
    help(c, 0);
    while (atomic_load_explicit(&c->done, memory_order_acquire) < tasks)
        if (!fetch_ahead(c, 0, &c->fetched)) look_again(&looks);
    c->busy = false;
}

static void crew_member(void *data, size_t member)
{
    crew *c = data;
    if (member == 0) {
        c->st = c->lead(c->lead_context, c->err);
        atomic_store_explicit(&c->over, true, memory_order_relaxed);
        atomic_fetch_add_explicit(&c->calls, 1, memory_order_release);
        return;
    }
    size_t seen = 0;
    fetched f = {0};
    for (size_t looks = 0; !atomic_load_explicit(&c->over, memory_order_relaxed);) {
        size_t calls = atomic_load_explicit(&c->calls, memory_order_acquire);
        if (calls == seen) {
            if (!fetch_ahead(c, member, &f)) look_again(&looks);
            continue;
        }
        seen = calls;
        looks = 0;
        help(c, member);
    }
}

nr_status nr_crew(nr_status (*lead)(void *context, nr_error *err), void *context, nr_error *err)
{
    size_t threads = nr_threads_get();
    if (threads <= 1 || leads || inside()) return lead(context, err);
    crew c = {.stretches = NR_MIN(threads, (size_t)SHARES), .lead = lead, .lead_context = context, .err = err};
    leads = &c;
    run_team(crew_member, &c, threads);
    leads = NULL;
    return c.st;
}

void nr_crew_ahead(const nr_read_ahead *next)
{
    if (leads) atomic_store_explicit(&leads->ahead, next, memory_order_release);
}

const nr_read_ahead *nr_crew_told(void) { return leads ? atomic_load_explicit(&leads->ahead, memory_order_relaxed) : NULL; }

void nr_parallel(size_t tasks, void (*task)(void *context, size_t i), void *context)
{
    size_t threads = nr_threads_get();
    if (tasks > 1 && tasks <= UINT32_MAX && leads && !leads->busy) {
        crew_call(leads, tasks, task, context);
        return;
    }
    if (tasks <= 1 || threads <= 1 || inside()) {
        for (size_t i = 0; i < tasks; i++) task(context, i);
        return;
    }
    job j = {.task = task, .context = context};
    cut(&j, tasks, threads);
    run_team(work_off, &j, threads);
}

/* ---- bytes ---- */

typedef struct {
    char *dst;
    const char *src; /* NULL: zeros */
    size_t bytes;
} copy_job;

enum { COPY_PIECE = 1 << 18 };

static void copy_piece(void *context, size_t i)
{
    const copy_job *c = context;
    size_t begin = i * COPY_PIECE, bytes = NR_MIN((size_t)COPY_PIECE, c->bytes - begin);
    if (c->src) memcpy(c->dst + begin, c->src + begin, bytes);
    else memset(c->dst + begin, 0, bytes);
}

void nr_copy(void *dst, const void *src, size_t bytes)
{
    copy_job c = {dst, src, bytes};
    nr_parallel((bytes + COPY_PIECE - 1) / COPY_PIECE, copy_piece, &c);
}

void nr_zero(void *dst, size_t bytes) { nr_copy(dst, NULL, bytes); }

/* ---- tasks that may fail ---- */

typedef struct {
    nr_status (*task)(void *context, size_t i, nr_error *err);
    void *context;
    pthread_mutex_t lock; /* of what follows */
    size_t first;         /* task that failed */
    nr_status status;
    nr_error *err;
} trial;

static void try_task(void *context, size_t i)
{
    trial *t = context;
    nr_error own = {0};
    nr_status st = t->task(t->context, i, &own);
    if (st == NR_OK) return;
    pthread_mutex_lock(&t->lock);
    if (t->status == NR_OK || i < t->first) {
        t->first = i;
        t->status = st;
        if (t->err) *t->err = own;
    }
    pthread_mutex_unlock(&t->lock);
}

nr_status nr_parallel_try(size_t tasks, nr_status (*task)(void *context, size_t i, nr_error *err), void *context, nr_error *err)
{
    trial t = {.task = task, .context = context, .lock = PTHREAD_MUTEX_INITIALIZER, .err = err};
    nr_parallel(tasks, try_task, &t);
    return t.status;
}
