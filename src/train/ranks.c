/*
 * ranks.c - what the ranks of a run must agree on before they train together,
 * and how they share a step's rows.
 *
 * Rank 0 alone reads and writes the run's folder; what the others need of it is
 * sent to them. Every rank opens model and texts itself, from a file system of
 * its own or a shared one. Refuses ranks that would compute something else than
 * rank 0: other settings, model, tokens or element types.
 */
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

#define TOKENS_OF_A_PASS 512 /* twice as many are no faster and take 0.22 GiB more (SmolLM2-135M) */

bool nr_train_leads(const nr_trainer *t) { return nr_cluster_rank(t->cluster) == 0; }
size_t nr_train_ranks(const nr_trainer *t) { return nr_cluster_size(t->cluster); }

nr_status nr_train_agree(nr_trainer *t, nr_status st, nr_error *err)
{
    return nr_cluster_agree(t->cluster, st, NULL, err);
}

nr_status nr_train_together(nr_trainer *t, nr_status st)
{
    if (st != NR_OK && t->cluster) t->cluster->lost = true;
    return st;
}

/* ---- sharing a batch ---- */

/* The largest divisor of the batch, at most `most` rows, of which every rank gets the same number; 0: none. */
static size_t largest(const nr_settings *s, size_t ranks, size_t most)
{
    size_t best = 0;
    for (size_t b = 1; b <= NR_MIN(s->batch_size, most); b++)
        if (s->batch_size % b == 0 && s->batch_size / b % ranks == 0) best = b;
    return best;
}

static size_t rows_of_a_pass(const nr_settings *s) { return NR_MAX(TOKENS_OF_A_PASS / s->context, (size_t)1); }

size_t nr_train_micro_batch(const nr_settings *s)
{
    return s->micro_batch_size ? s->micro_batch_size : largest(s, 1, rows_of_a_pass(s));
}

/* "1, 2 or 4" */
static void list_fitting(const nr_settings *s, size_t ranks, char *text, size_t size)
{
    size_t n = 0, end = largest(s, ranks, s->batch_size);
    text[0] = '\0';
    for (size_t b = 1; b <= end && n < size; b++) {
        if (s->batch_size % b != 0 || s->batch_size / b % ranks != 0) continue;
        n += (size_t)snprintf(text + n, size - n, "%s%zu", n == 0 ? "" : b == end ? " or " : ", ", b);
    }
}

nr_status nr_train_share_batch(size_t *B, const nr_settings *s, size_t ranks, bool may_shrink, nr_error *err)
{
    char fitting[256];
    size_t below = s->batch_size / ranks * ranks;
    *B = nr_train_micro_batch(s);
    if (s->batch_size / *B % ranks == 0 && s->batch_size % *B == 0) return NR_OK;
    if (s->batch_size % ranks != 0) {
        if (below > 0) snprintf(fitting, sizeof fitting, "%zu or %zu fit", below, below + ranks);
        else snprintf(fitting, sizeof fitting, "%zu fits", ranks);
        return nr_fail(err, NR_E_USAGE, "--batch-size %zu: expected a multiple of the %zu ranks, which get equal shares; %s",
                       s->batch_size, ranks, fitting);
    }
    if (s->micro_batch_size && !may_shrink) {
        list_fitting(s, ranks, fitting, sizeof fitting);
        return nr_fail(err, NR_E_USAGE,
                       "--micro-batch-size %zu: expected micro-batches that %zu ranks share evenly; with --batch-size %zu, %s fit",
                       s->micro_batch_size, ranks, s->batch_size, fitting);
    }
    *B = largest(s, ranks, *B);
    return NR_OK;
}

/* ---- the same run on every rank ---- */

/* What decides the numbers, in a form that can be sent. */
typedef struct {
    char settings[65], backbone[65], tokens[4][65], backend[32], cpu[32];
} identity;

static nr_status identify(const nr_trainer *t, identity *id, nr_error *err)
{
    json_t *j = nr_settings_to_json(&t->s, NULL);
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    nr_sha256 *h = text ? nr_sha256_new() : NULL;
    memset(id, 0, sizeof *id);
    if (h) {
        nr_sha256_add(h, text, strlen(text));
        nr_sha256_hex(h, id->settings);
    }
    free(text);
    json_decref(j);
    if (!id->settings[0]) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for the settings", t->folder);
    memcpy(id->backbone, t->e->backbone, sizeof id->backbone);
    for (size_t set = 0; set < 4; set++)
        if (t->tokens[set]) snprintf(id->tokens[set], sizeof id->tokens[set], "%s", nr_tokens_hash(t->tokens[set]));
    snprintf(id->backend, sizeof id->backend, "%s", t->model->ops->name);
    snprintf(id->cpu, sizeof id->cpu, "%s", nr_cpu_name());
    return NR_OK;
}

static nr_status differs(const char *what, const char *first, const char *mine, nr_error *err)
{
    return nr_fail(err, NR_E_MISMATCH, "another %s than rank 0's: expected %.12s, found %.12s", what, first, mine);
}

static nr_status compare(const identity *first, const identity *mine, nr_error *err)
{
    if (strcmp(first->settings, mine->settings) != 0) return differs("list of settings", first->settings, mine->settings, err);
    if (strcmp(first->backbone, mine->backbone) != 0) return differs("model", first->backbone, mine->backbone, err);
    for (size_t set = 0; set < 4; set++) {
        char what[64];
        snprintf(what, sizeof what, "text (%s)", nr_run_sets[set]);
        if (strcmp(first->tokens[set], mine->tokens[set]) != 0) return differs(what, first->tokens[set], mine->tokens[set], err);
    }
    if (strcmp(first->backend, mine->backend) != 0)
        return nr_fail(err, NR_E_MISMATCH, "computes with %s, rank 0 with %s: --compute fp32 runs on both", mine->backend,
                       first->backend);
    return NR_OK;
}

nr_status nr_train_compare(nr_trainer *t, nr_error *err)
{
    identity mine, first;
    nr_status st = identify(t, &mine, err);
    NR_TRY(nr_train_agree(t, st, err));
    first = mine;
    NR_TRY(nr_train_together(t, nr_cluster_broadcast(t->cluster, &first, sizeof first, err)));
    NR_TRY(nr_train_agree(t, compare(&first, &mine, err), err));
    bool other = strcmp(first.cpu, mine.cpu) != 0;
    NR_TRY(nr_cluster_agree(t->cluster, NR_OK, &other, err));
    if (other) nr_train_say(t, "warning: the ranks have different instruction sets: another split of the work may differ in the last bits");
    return NR_OK;
}

void nr_train_say_ranks(nr_trainer *t)
{
    size_t ranks = nr_train_ranks(t), passes = (t->end_row - t->first_row) / t->B;
    if (ranks == 1) return;
    nr_train_say(t, "%zu ranks, %zu of them on %s: each takes %zu micro-batch%s of %zu row%s a step; %zu thread%s each", ranks,
                 t->cluster->local_size, t->cluster->host, passes, passes == 1 ? "" : "es", t->B, t->B == 1 ? "" : "s",
                 nr_threads_get(), nr_threads_get() == 1 ? "" : "s");
    size_t share = nr_cluster_share(t->cluster);
    if (t->s.threads == 0 && nr_core_count() < share)
        nr_train_say(t, "warning: the launcher binds each rank to %zu of the %zu cores that are its share; mpirun --bind-to none frees them",
                     nr_core_count(), share);
}

/* ---- from rank 0 ---- */

nr_status nr_train_pass_on_config(nr_trainer *t, nr_error *err)
{
    struct {
        size_t bytes;
        bool finished;
    } head = {0};
    nr_status st = NR_OK;
    char *text = NULL;
    if (nr_train_ranks(t) == 1) return NR_OK;
    if (nr_train_leads(t)) {
        text = json_dumps(t->config, JSON_COMPACT);
        if (!text) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for config.json", t->folder);
        head.bytes = text ? strlen(text) : 0;
        head.finished = t->finished;
    }
    NR_GO(nr_train_agree(t, st, err));
    NR_GO(nr_train_together(t, nr_cluster_broadcast(t->cluster, &head, sizeof head, err)));
    if (!nr_train_leads(t)) st = nr_alloc(&text, head.bytes + 1, 1, "config.json", err);
    NR_GO(nr_train_agree(t, st, err));
    NR_GO(nr_train_together(t, nr_cluster_broadcast(t->cluster, text, head.bytes, err)));
    if (nr_train_leads(t)) goto done;
    t->finished = head.finished;
    st = nr_json_parse(&t->config, text, head.bytes, "config.json from rank 0", err);
done:
    free(text);
    return st;
}

static nr_status pass_on(nr_trainer *t, bool fresh, nr_error *err)
{
    void *slices[2] = {t->m, t->v};
    NR_TRY(nr_cluster_broadcast(t->cluster, t->e->values, t->e->weights * t->model->ops->real_size, err));
    for (int which = 0; which < 2 && !fresh; which++) NR_TRY(nr_exchange_spread(&t->exchange, slices[which], which, err));
    if (!fresh) NR_TRY(nr_cluster_broadcast(t->cluster, &t->at, sizeof t->at, err));
    return nr_train_leads(t) ? NR_OK : nr_extension_repack(t->e, err);
}

nr_status nr_train_pass_on_state(nr_trainer *t, bool fresh, nr_error *err)
{
    if (nr_train_ranks(t) == 1) return NR_OK;
    return nr_train_together(t, pass_on(t, fresh, err));
}
