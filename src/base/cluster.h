/*
 * cluster.h - several processes that train together: the table of functions
 * through which the project talks to the others. The one implementation over a
 * network, MPI, is a plugin of its own (src/plugins/nres_mpi.c) that is loaded
 * only when a launcher started the program, so that the program runs without
 * MPI. nr_cluster NULL is one process alone: every function below accepts it.
 *
 * There is no all-reduce here: its order of additions would be the library's
 * choice. Sums are made from exchanges, in the order of the ranks, by
 * train/exchange.c.
 */
#ifndef NR_CLUSTER_H
#define NR_CLUSTER_H

#include "nres.h"

/* A plugin of another number isn't used. */
#define NR_CLUSTER_ABI 1

/* What one rank sends to another, or gets from it; 0 bytes: no message. */
typedef struct {
    void *data;
    size_t bytes;
} nr_part;

struct nr_cluster {
    unsigned abi;
    size_t rank, size;
    size_t local_size; /* ranks on this machine */
    char host[64];
    bool agreed;       /* the failure that ends the work is known to every rank */
    bool lost;         /* this rank failed where the others wait for it: they have to be ended */
    struct nr_verdict *verdicts; /* (size): of an agreement */

    /* Exchanges are numbered by slot, so that one takes no memory. */
    nr_status (*reserve)(nr_cluster *c, size_t slots, nr_error *err);
    /* Sends send[r] to every other rank r and gets receive[r] from it; both (size), own places ignored. Returns at
     * once; what is sent must stay as it is, and what is received is there, after wait. Ranks start exchanges in the
     * same order of slots. */
    nr_status (*start)(nr_cluster *c, size_t slot, const nr_part *send, const nr_part *receive, nr_error *err);
    nr_status (*wait)(nr_cluster *c, size_t slot, nr_error *err);
    /* all (size, bytes): every rank's `mine`, in order. */
    nr_status (*gather)(nr_cluster *c, void *all, const void *mine, size_t bytes, nr_error *err);
    nr_status (*broadcast)(nr_cluster *c, void *data, size_t bytes, size_t root, nr_error *err);
    void (*give_up)(nr_cluster *c, int code); /* ends every process */
    void (*close)(nr_cluster *c);             /* waits for the others to close too */
};

/* What a plugin exports under this name. */
typedef nr_status nr_cluster_plugin(nr_cluster **out, unsigned abi, nr_error *err);
#define NR_CLUSTER_PLUGIN "nr_cluster_plugin_open"

/* ---- cluster.c ---- */

/* What nr_cluster_open does once the plugin has joined: memory of the agreements. */
nr_status nr_cluster_ready(nr_cluster *c, nr_error *err);
nr_status nr_cluster_gather(nr_cluster *c, void *all, const void *mine, size_t bytes, nr_error *err);
/* From rank 0. */
nr_status nr_cluster_broadcast(nr_cluster *c, void *data, size_t bytes, nr_error *err);
/* Every rank brings how its work went, and all go on or fail together: with the first failure in the order of the
 * ranks, which names its rank. *stop: true on all where it was on any; may be NULL. A rank that failed may come here
 * from anywhere, as long as what the others do together next is an agreement too. After a failure nothing is sent. */
nr_status nr_cluster_agree(nr_cluster *c, nr_status st, bool *stop, nr_error *err);
/* Cores of the machine that are this rank's share. */
size_t nr_cluster_share(const nr_cluster *c);
/* Threads of this rank where the settings name none: its share, or as many as it is bound to if those are fewer. */
size_t nr_cluster_threads(const nr_cluster *c);

#endif
