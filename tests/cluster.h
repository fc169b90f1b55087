/*
 * cluster.h - nr_cluster between threads of one process, for tests: exact about
 * what it is given, so that a message that nobody expects, or of another size
 * than expected, or that changes before it has arrived, ends the test.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/cluster.h"

#define CLUSTER_RANKS 8
#define CLUSTER_SLOTS 64

typedef struct {
    size_t size;
    pthread_barrier_t barrier;
    const nr_part *sends[CLUSTER_SLOTS][CLUSTER_RANKS];
    const void *given[CLUSTER_RANKS];
} cluster_hub;

typedef struct {
    nr_cluster base;
    cluster_hub *hub;
    void *sent[CLUSTER_SLOTS][CLUSTER_RANKS]; /* as it was at the start */
    nr_part send[CLUSTER_SLOTS][CLUSTER_RANKS], receive[CLUSTER_SLOTS][CLUSTER_RANKS];
    bool started[CLUSTER_SLOTS];
} cluster_member;

static inline void cluster_check(bool right, const char *what)
{
    if (right) return;
    fprintf(stderr, "cluster: %s\n", what);
    abort();
}

static inline nr_status cluster_reserve(nr_cluster *c, size_t slots, nr_error *err)
{
    (void)c;
    (void)err;
    cluster_check(slots <= CLUSTER_SLOTS, "too many slots");
    return NR_OK;
}

static inline nr_status cluster_start(nr_cluster *c, size_t slot, const nr_part *send, const nr_part *receive, nr_error *err)
{
    cluster_member *m = (cluster_member *)(void *)c;
    (void)err;
    cluster_check(!m->started[slot], "a slot is started twice");
    m->started[slot] = true;
    memcpy(m->send[slot], send, c->size * sizeof *send);
    memcpy(m->receive[slot], receive, c->size * sizeof *receive);
    for (size_t r = 0; r < c->size; r++) {
        if (r == c->rank || send[r].bytes == 0) continue;
        cluster_check((m->sent[slot][r] = malloc(send[r].bytes)) != NULL, "out of memory");
        memcpy(m->sent[slot][r], send[r].data, send[r].bytes);
    }
    m->hub->sends[slot][c->rank] = m->send[slot];
    return NR_OK;
}

static inline nr_status cluster_wait(nr_cluster *c, size_t slot, nr_error *err)
{
    cluster_member *m = (cluster_member *)(void *)c;
    (void)err;
    cluster_check(m->started[slot], "a wait without a start");
    pthread_barrier_wait(&m->hub->barrier);
    for (size_t r = 0; r < c->size; r++) {
        if (r == c->rank) continue;
        const nr_part *from = &m->hub->sends[slot][r][c->rank], *to = &m->receive[slot][r];
        cluster_check(from->bytes == to->bytes, "a message of another size than expected");
        if (to->bytes > 0) memcpy(to->data, from->data, to->bytes);
    }
    m->started[slot] = false;
    for (size_t r = 0; r < c->size; r++) {
        if (!m->sent[slot][r]) continue;
        cluster_check(memcmp(m->sent[slot][r], m->send[slot][r].data, m->send[slot][r].bytes) == 0, "what is sent changed on its way");
        free(m->sent[slot][r]);
        m->sent[slot][r] = NULL;
    }
    pthread_barrier_wait(&m->hub->barrier);
    return NR_OK;
}

static inline nr_status cluster_gather(nr_cluster *c, void *all, const void *mine, size_t bytes, nr_error *err)
{
    cluster_member *m = (cluster_member *)(void *)c;
    (void)err;
    m->hub->given[c->rank] = mine;
    pthread_barrier_wait(&m->hub->barrier);
    for (size_t r = 0; r < c->size; r++) memcpy((char *)all + r * bytes, m->hub->given[r], bytes);
    pthread_barrier_wait(&m->hub->barrier);
    return NR_OK;
}

static inline nr_status cluster_broadcast(nr_cluster *c, void *data, size_t bytes, size_t root, nr_error *err)
{
    cluster_member *m = (cluster_member *)(void *)c;
    (void)err;
    m->hub->given[c->rank] = data;
    pthread_barrier_wait(&m->hub->barrier);
    if (c->rank != root) memcpy(data, m->hub->given[root], bytes);
    pthread_barrier_wait(&m->hub->barrier);
    return NR_OK;
}

typedef struct {
    cluster_member member;
    void (*work)(nr_cluster *c, void *context);
    void *context;
    pthread_t thread;
} cluster_thread;

static inline void *cluster_main(void *data)
{
    cluster_thread *t = data;
    nr_threads_set(1);
    t->work(&t->member.base, t->context);
    return NULL;
}

/* Runs work(member, context) on so many ranks, a thread each. */
static inline void cluster_run(size_t size, void (*work)(nr_cluster *c, void *context), void *context)
{
    cluster_hub hub = {.size = size};
    cluster_thread *ranks = calloc(size, sizeof *ranks);
    pthread_barrier_init(&hub.barrier, NULL, (unsigned)size);
    for (size_t r = 0; r < size; r++) {
        ranks[r] = (cluster_thread){.work = work, .context = context};
        ranks[r].member.hub = &hub;
        ranks[r].member.base = (nr_cluster){.abi = NR_CLUSTER_ABI, .rank = r, .size = size, .local_size = size, .host = "here",
                                            .reserve = cluster_reserve, .start = cluster_start, .wait = cluster_wait,
                                            .gather = cluster_gather, .broadcast = cluster_broadcast};
        cluster_check(nr_cluster_ready(&ranks[r].member.base, NULL) == NR_OK, "out of memory");
    }
    for (size_t r = 0; r < size; r++) cluster_check(pthread_create(&ranks[r].thread, NULL, cluster_main, &ranks[r]) == 0, "no thread");
    for (size_t r = 0; r < size; r++) {
        pthread_join(ranks[r].thread, NULL);
        free(ranks[r].member.base.verdicts);
    }
    pthread_barrier_destroy(&hub.barrier);
    free(ranks);
}

#endif
