/*
 * cluster.c - the side of nr_cluster that knows no network: loading the plugin,
 * agreeing on failures, and one process alone.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/cluster.h"

nr_status nr_cluster_open(nr_cluster **out, const char *plugin, nr_error *err)
{
    *out = NULL;
    /* Its symbols are for the parts that MPI itself loads later. */
    void *library = dlopen(plugin, RTLD_NOW | RTLD_GLOBAL);
    if (!library) return nr_fail(err, NR_E_IO, "%s: can't be loaded: %s", plugin, dlerror());
    void *symbol = dlsym(library, NR_CLUSTER_PLUGIN);
    nr_cluster_plugin *open;
    if (!symbol) return nr_fail(err, NR_E_FORMAT, "%s: not a plugin of nres: %s is missing", plugin, NR_CLUSTER_PLUGIN);
    memcpy(&open, &symbol, sizeof open); /* ISO C has no cast from an object to a function */
    NR_TRY(open(out, NR_CLUSTER_ABI, err)); /* the library stays loaded: MPI can't be taken down and up again */
    nr_status st = nr_cluster_ready(*out, err);
    if (st == NR_OK) return NR_OK;
    (*out)->give_up(*out, nr_status_exit_code(st));
    *out = NULL;
    return st;
}

size_t nr_cluster_rank(const nr_cluster *c) { return c ? c->rank : 0; }
size_t nr_cluster_size(const nr_cluster *c) { return c ? c->size : 1; }
bool nr_cluster_agreed(const nr_cluster *c) { return !c || c->size == 1 || c->agreed; }

void nr_cluster_close(nr_cluster *c)
{
    if (!c) return;
    free(c->verdicts);
    c->verdicts = NULL;
    c->close(c);
}

void nr_cluster_give_up(nr_cluster *c, int code)
{
    if (c && c->size > 1) c->give_up(c, code);
}

nr_status nr_cluster_gather(nr_cluster *c, void *all, const void *mine, size_t bytes, nr_error *err)
{
    if (c && c->size > 1) return c->gather(c, all, mine, bytes, err);
    if (bytes > 0) memcpy(all, mine, bytes);
    return NR_OK;
}

nr_status nr_cluster_broadcast(nr_cluster *c, void *data, size_t bytes, nr_error *err)
{
    return c && c->size > 1 && bytes > 0 ? c->broadcast(c, data, bytes, 0, err) : NR_OK;
}

/* ---- agreement ---- */

struct nr_verdict {
    int32_t status, stop;
};

nr_status nr_cluster_ready(nr_cluster *c, nr_error *err)
{
    return nr_alloc(&c->verdicts, c->size, sizeof *c->verdicts, "verdicts of the ranks", err);
}

/* The failure of rank `from`, in its own words, to all. */
static nr_status tell(nr_cluster *c, size_t from, bool alone, nr_error *err)
{
    nr_error first = *err;
    if (c->rank == from && alone)
        nr_fail(&first, err->status, "rank %zu on %s: %s", c->rank, c->host, err->message);
    nr_status st = c->broadcast(c, &first, sizeof first, from, err);
    if (st != NR_OK) return st;
    *err = first;
    c->agreed = true;
    return first.status;
}

static nr_status lose(nr_cluster *c, nr_status st)
{
    c->lost = true;
    return st;
}

/* err is not NULL. */
static nr_status agree(nr_cluster *c, nr_status st, bool *stop, nr_error *err)
{
    struct nr_verdict mine = {(int32_t)st, stop && *stop};
    size_t failed = 0, first = 0;
    nr_error unused;
    nr_status sent = c->gather(c, c->verdicts, &mine, sizeof mine, st == NR_OK ? err : &unused);
    if (sent != NR_OK) return lose(c, st == NR_OK ? sent : st);
    for (size_t r = c->size; r-- > 0;) {
        if (stop) *stop |= c->verdicts[r].stop != 0;
        if (c->verdicts[r].status == NR_OK) continue;
        failed++;
        first = r;
    }
    if (failed == 0) return NR_OK;
    /* Where all failed it is nothing of this rank's own. */
    st = tell(c, first, failed < c->size, err);
    return c->agreed ? st : lose(c, st);
}

nr_status nr_cluster_agree(nr_cluster *c, nr_status st, bool *stop, nr_error *err)
{
    nr_error own = {0};
    if (!c || c->size == 1 || c->agreed || c->lost) return st;
    return agree(c, st, stop, err ? err : &own);
}

/* ---- threads ---- */

size_t nr_cluster_share(const nr_cluster *c)
{
    long all = sysconf(_SC_NPROCESSORS_ONLN);
    size_t cores = all > 0 ? (size_t)all : nr_core_count();
    return NR_MAX(cores / (c ? c->local_size : 1), (size_t)1);
}

size_t nr_cluster_threads(const nr_cluster *c)
{
    return !c || c->size == 1 ? nr_core_count() : NR_MIN(nr_core_count(), nr_cluster_share(c));
}
