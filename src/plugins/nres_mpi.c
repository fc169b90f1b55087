/*
 * nres_mpi.c - libnres_mpi.so: nr_cluster over MPI. The only file that sees an
 * MPI header; it uses nothing of libnres, so that any build of the program can
 * load it.
 *
 * Exchanges are plain messages between pairs, each rank beginning with its next
 * neighbour, so that no rank is sent to by all at once. MPI moves large messages
 * only while somebody is inside one of its calls; the trainer is busy with the
 * backward pass then, so a thread of this file looks after them. One lock
 * stands around every call of MPI.
 *
 * Waiting sleeps between looks, longer and longer: a rank may wait for hours
 * while another one tokenises, and idle ranks must not take cores from busy ones.
 */
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cluster.h"

#define LOOK_EVERY 100000           /* ns between two looks of the thread at messages under way */
#define PIECE ((size_t)1 << 28)     /* bytes of one broadcast */

typedef struct {
    MPI_Request *requests; /* (2 (size - 1)) */
    int count;             /* of this exchange; 0: none under way */
} slot;

typedef struct {
    nr_cluster base;
    MPI_Comm comm;
    slot *slots;
    size_t slot_count;
    pthread_mutex_t lock;  /* around MPI and everything below */
    pthread_cond_t work;
    pthread_t thread;
    bool has_thread, quit;
    size_t under_way;      /* slots */
    bool waits;            /* the main thread is in a wait and looks itself */
} cluster;

static cluster *of(nr_cluster *c) { return (cluster *)(void *)c; }

static nr_status fail(nr_error *err, nr_status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static nr_status fail(nr_error *err, nr_status st, const char *fmt, ...)
{
    va_list ap;
    if (!err) return st;
    err->status = st;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return st;
}

static nr_status check(const cluster *c, int code, const char *what, nr_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (code == MPI_SUCCESS) return NR_OK;
    MPI_Error_string(code, text, &n);
    for (int i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20) text[i] = ' ';
    return fail(err, NR_E_IO, "rank %zu on %s: %s: MPI says: %s", c->base.rank, c->base.host, what, text);
}

/* ---- waiting ---- */

static void sleep_ns(long ns) { nanosleep(&(struct timespec){.tv_nsec = ns}, NULL); }

/* Between look number n and the next: some 50 of them at once, then 20 us, 200 us, at last 5 ms. */
static void rest(size_t n)
{
    if (n < 50)
        sched_yield();
    else
        sleep_ns(n < 500 ? 20000 : n < 5000 ? 200000 : 5000000);
}

/* Until all requests are done. */
static nr_status finish(cluster *c, MPI_Request *requests, int count, const char *what, nr_error *err)
{
    int done = 0, code = MPI_SUCCESS;
    for (size_t n = 0; !done && code == MPI_SUCCESS; n++) {
        pthread_mutex_lock(&c->lock);
        c->waits = true;
        code = MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (done || code != MPI_SUCCESS) c->waits = false;
        pthread_mutex_unlock(&c->lock);
        if (!done && code == MPI_SUCCESS) rest(n);
    }
    return check(c, code, what, err);
}

/* Any test of any request moves all messages on. */
static void *look_after(void *data)
{
    cluster *c = data;
    pthread_mutex_lock(&c->lock);
    while (!c->quit) {
        if (c->under_way == 0 || c->waits) {
            pthread_cond_wait(&c->work, &c->lock);
            continue;
        }
        int there;
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, &there, MPI_STATUS_IGNORE);
        pthread_mutex_unlock(&c->lock);
        sleep_ns(LOOK_EVERY);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- exchanges ---- */

static nr_status reserve(nr_cluster *base, size_t slots, nr_error *err)
{
    cluster *c = of(base);
    size_t each = 2 * (base->size - 1);
    MPI_Request *requests = calloc(slots * each + 1, sizeof *requests);
    slot *list = calloc(slots + 1, sizeof *list);
    if (!requests || !list) {
        free(requests);
        free(list);
        return fail(err, NR_E_MEMORY, "no memory for %zu exchanges between %zu ranks", slots, base->size);
    }
    if (c->slots) free(c->slots[0].requests);
    free(c->slots);
    for (size_t i = 0; i <= slots; i++) list[i].requests = requests + (i < slots ? i * each : 0);
    c->slots = list;
    c->slot_count = slots;
    return NR_OK;
}

static int send_or_receive(cluster *c, slot *s, const nr_part *part, size_t other, int tag, bool send)
{
    if (part->bytes == 0) return MPI_SUCCESS;
    MPI_Request *r = &s->requests[s->count];
    int code = send ? MPI_Isend(part->data, (int)part->bytes, MPI_BYTE, (int)other, tag, c->comm, r)
                    : MPI_Irecv(part->data, (int)part->bytes, MPI_BYTE, (int)other, tag, c->comm, r);
    if (code == MPI_SUCCESS) s->count++;
    return code;
}

static nr_status start(nr_cluster *base, size_t number, const nr_part *send, const nr_part *receive, nr_error *err)
{
    cluster *c = of(base);
    size_t N = base->size, me = base->rank;
    if (number >= c->slot_count) return fail(err, NR_E_USAGE, "exchange %zu: expected one below %zu", number, c->slot_count);
    for (size_t r = 0; r < N; r++)
        if (r != me && (send[r].bytes > INT_MAX || receive[r].bytes > INT_MAX))
            return fail(err, NR_E_UNSUPPORTED, "exchange %zu: expected messages below 2 GiB, found %zu bytes", number,
                        send[r].bytes > receive[r].bytes ? send[r].bytes : receive[r].bytes);
    slot *s = &c->slots[number];
    int code = MPI_SUCCESS;
    pthread_mutex_lock(&c->lock);
    s->count = 0;
    for (size_t k = 1; k < N && code == MPI_SUCCESS; k++)
        code = send_or_receive(c, s, &receive[(me + N - k) % N], (me + N - k) % N, (int)number, false);
    for (size_t k = 1; k < N && code == MPI_SUCCESS; k++)
        code = send_or_receive(c, s, &send[(me + k) % N], (me + k) % N, (int)number, true);
    c->under_way++;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    return check(c, code, "sending", err);
}

static nr_status wait_for(nr_cluster *base, size_t number, nr_error *err)
{
    cluster *c = of(base);
    slot *s = &c->slots[number];
    nr_status st = finish(c, s->requests, s->count, "waiting for the other ranks", err);
    pthread_mutex_lock(&c->lock);
    c->under_way--;
    if (c->under_way > 0) pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    return st;
}

/* ---- all together ---- */

static nr_status gather(nr_cluster *base, void *all, const void *mine, size_t bytes, nr_error *err)
{
    cluster *c = of(base);
    MPI_Request r = MPI_REQUEST_NULL;
    if (bytes > INT_MAX) return fail(err, NR_E_UNSUPPORTED, "gathering: expected less than 2 GiB a rank, found %zu bytes", bytes);
    pthread_mutex_lock(&c->lock);
    int code = MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, c->comm, &r);
    pthread_mutex_unlock(&c->lock);
    return code == MPI_SUCCESS ? finish(c, &r, 1, "gathering", err) : check(c, code, "gathering", err);
}

static nr_status broadcast(nr_cluster *base, void *data, size_t bytes, size_t root, nr_error *err)
{
    cluster *c = of(base);
    nr_status st = NR_OK;
    for (size_t at = 0; at < bytes && st == NR_OK; at += PIECE) {
        MPI_Request r = MPI_REQUEST_NULL;
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        pthread_mutex_lock(&c->lock);
        int code = MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, (int)root, c->comm, &r);
        pthread_mutex_unlock(&c->lock);
        st = code == MPI_SUCCESS ? finish(c, &r, 1, "broadcasting", err) : check(c, code, "broadcasting", err);
    }
    return st;
}

/* ---- life ---- */

static void free_all(cluster *c)
{
    if (c->slots) free(c->slots[0].requests);
    free(c->slots);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void close_cluster(nr_cluster *base)
{
    cluster *c = of(base);
    pthread_mutex_lock(&c->lock);
    c->quit = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    if (c->has_thread) pthread_join(c->thread, NULL);
    MPI_Comm_free(&c->comm);
    MPI_Finalize();
    free_all(c);
}

static void give_up(nr_cluster *base, int code) { MPI_Abort(of(base)->comm, code); }

static nr_status meet(cluster *c, nr_error *err)
{
    int rank, size, local, n;
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    MPI_Comm machine;
    nr_status st = check(c, MPI_Comm_dup(MPI_COMM_WORLD, &c->comm), "starting", err);
    if (st != NR_OK) return st;
    MPI_Comm_set_errhandler(c->comm, MPI_ERRORS_RETURN);
    MPI_Comm_rank(c->comm, &rank);
    MPI_Comm_size(c->comm, &size);
    c->base.rank = (size_t)rank;
    c->base.size = (size_t)size;
    MPI_Get_processor_name(host, &n);
    snprintf(c->base.host, sizeof c->base.host, "%.63s", host);
    st = check(c, MPI_Comm_split_type(c->comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine), "starting", err);
    if (st != NR_OK) return st;
    MPI_Comm_size(machine, &local);
    MPI_Comm_free(&machine);
    c->base.local_size = (size_t)local;
    return NR_OK;
}

/* Signals are the main thread's. */
static void start_thread(cluster *c, int provided)
{
    sigset_t all, before;
    if (provided < MPI_THREAD_SERIALIZED || c->base.size == 1) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->has_thread = pthread_create(&c->thread, NULL, look_after, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

nr_cluster_plugin nr_cluster_plugin_open;

__attribute__((visibility("default"))) nr_status nr_cluster_plugin_open(nr_cluster **out, unsigned abi, nr_error *err)
{
    int there, provided;
    *out = NULL;
    if (abi != NR_CLUSTER_ABI)
        return fail(err, NR_E_MISMATCH, "libnres_mpi.so: expected to be loaded by a program of interface %d, found %u",
                    NR_CLUSTER_ABI, abi);
    if (MPI_Initialized(&there) != MPI_SUCCESS || there)
        return fail(err, NR_E_USAGE, "MPI: expected to be started once a process, found it started");
    cluster *c = calloc(1, sizeof *c);
    if (!c) return fail(err, NR_E_MEMORY, "MPI: out of memory");
    c->base = (nr_cluster){.abi = NR_CLUSTER_ABI, .size = 1, .local_size = 1, .reserve = reserve, .start = start,
                           .wait = wait_for, .gather = gather, .broadcast = broadcast, .give_up = give_up, .close = close_cluster};
    c->comm = MPI_COMM_NULL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    nr_status st = check(c, MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided), "starting", err);
    if (st == NR_OK) st = meet(c, err);
    if (st != NR_OK) {
        free_all(c);
        return st;
    }
    start_thread(c, provided);
    *out = &c->base;
    return NR_OK;
}
