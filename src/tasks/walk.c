/*
 * walk.c - log-likelihoods of many requests with everything they share
 * computed once.
 *
 * The plan sorts the requests' inputs; each one then computes only the tokens
 * behind what it has in common with the one before it. So the choices of a
 * question share the question, questions share their examples, and choices of
 * one token cost nothing of their own. The model's cache holds the path from
 * the root to where the walk stands; passes of a fixed number of rows cut the
 * walk anywhere (nr_stretch in model.h).
 *
 * The head sees only rows that predict something scored, gathered into pieces
 * of few different sizes.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

enum { PIECE = 256, STEP = 64 }; /* rows of the head at once: a multiple of STEP, at most PIECE */

/* ---- the plan ---- */

void nr_walk_free(nr_walk *w)
{
    free(w->id);
    free(w->position);
    free(w->scores);
    *w = (nr_walk){0};
}

typedef struct {
    const int32_t *ids;
    size_t length, request;
} path;

static size_t shared(const path *a, const path *b)
{
    size_t n = NR_MIN(a->length, b->length), i = 0;
    while (i < n && a->ids[i] == b->ids[i]) i++;
    return i;
}

static int by_ids(const void *a, const void *b)
{
    const path *x = a, *y = b;
    size_t i = shared(x, y);
    if (i < x->length && i < y->length) return x->ids[i] < y->ids[i] ? -1 : 1;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return x->request < y->request ? -1 : 1;
}

static int by_row(const void *a, const void *b)
{
    const struct nr_walk_score *x = a, *y = b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return x->request < y->request ? -1 : 1;
}

/* Rows of paths in their order, and who scores what on them. at (longest): the row of each position of the path. */
static void lay_out(nr_walk *w, const path *paths, const nr_requests *r, bool share, size_t *at)
{
    for (size_t i = 0; i < r->count; i++) {
        const path *p = &paths[i];
        const nr_request *q = &r->list[p->request];
        for (size_t k = share && i ? shared(&paths[i - 1], p) : 0; k < p->length; k++) {
            w->id[w->rows] = p->ids[k];
            w->position[w->rows] = (int32_t)k;
            at[k] = w->rows++;
        }
        for (size_t k = p->length - q->scored; k < p->length; k++)
            w->scores[w->score_count++] = (struct nr_walk_score){at[k], p->request, p->ids[k + 1]};
    }
    qsort(w->scores, w->score_count, sizeof *w->scores, by_row);
}

nr_status nr_walk_plan(nr_walk *w, const nr_requests *r, bool share, nr_error *err)
{
    path *paths = NULL;
    size_t *at = NULL, scored = 0, rows = 0;
    nr_status st;
    *w = (nr_walk){0};
    NR_GO(nr_alloc(&paths, r->count, sizeof *paths, "a plan", err));
    NR_GO(nr_alloc(&at, r->longest + 1, sizeof *at, "a plan", err));
    for (size_t i = 0; i < r->count; i++) {
        paths[i] = (path){r->ids + r->list[i].begin, r->list[i].length, i};
        scored += r->list[i].scored;
    }
    if (share) qsort(paths, r->count, sizeof *paths, by_ids);
    for (size_t i = 0; i < r->count; i++) rows += paths[i].length - (share && i ? shared(&paths[i - 1], &paths[i]) : 0);
    NR_GO(nr_alloc(&w->id, rows, sizeof *w->id, "a plan", err));
    NR_GO(nr_alloc(&w->position, rows, sizeof *w->position, "a plan", err));
    NR_GO(nr_alloc(&w->scores, scored, sizeof *w->scores, "a plan", err));
    lay_out(w, paths, r, share, at);
done:
    free(paths);
    free(at);
    if (st != NR_OK) nr_walk_free(w);
    return st;
}

/* ---- passes ---- */

struct nr_walker {
    const nr_model *model;
    nr_pass *pass;
    size_t rows;             /* of a pass at most */
    int32_t *ids;            /* (rows) */
    int32_t padding;
    nr_stretch *stretches;   /* (rows) */
    void *hidden;            /* act (PIECE, C) */
    void *logits;            /* real (PIECE, V) */
    size_t picked[PIECE];    /* row of each piece's row */
    int32_t targets[PIECE];
    double nll[PIECE];
    size_t first[PIECE + 1]; /* scores [first[i], first[i + 1]) stand on row i of the piece */
};

void nr_walker_free(nr_walker *w)
{
    if (!w) return;
    nr_pass_free(w->pass);
    free(w->ids);
    free(w->stretches);
    free(w->hidden);
    free(w->logits);
    free(w);
}

nr_status nr_walker_new(nr_walker **out, const nr_model *m, nr_extension *e, size_t positions, size_t rows, int32_t padding,
                        nr_error *err)
{
    nr_walker *w;
    nr_status st;
    nr_pass_options opt = {.B = 1, .T = rows, .cache_context = positions, .head_rows = 1};
    *out = NULL;
    NR_TRY(nr_alloc(&w, 1, sizeof *w, "a walk", err));
    w->model = m;
    w->rows = rows;
    w->padding = padding;
    NR_GO(nr_pass_new(&w->pass, m, &e, e ? 1 : 0, &opt, err));
    NR_GO(nr_alloc(&w->ids, rows, sizeof *w->ids, "a pass", err));
    NR_GO(nr_alloc(&w->stretches, rows, sizeof *w->stretches, "a pass", err));
    NR_GO(nr_alloc(&w->hidden, PIECE * m->config->C, m->ops->act_size, "rows of the head", err));
    NR_GO(nr_alloc(&w->logits, PIECE * m->config->V, m->ops->real_size, "logits", err));
    *out = w;
    return NR_OK;
done:
    nr_walker_free(w);
    return st;
}

/* Rows [from, from + count) of the plan through the model; padded to few different lengths. */
static nr_status forward(nr_walker *w, const nr_walk *plan, size_t from, size_t count, nr_error *err)
{
    size_t stretches = 0, padded = NR_MIN(nr_window_padded(count, w->rows), w->rows);
    for (size_t i = 0; i < padded; i++) w->ids[i] = i < count ? plan->id[from + i] : w->padding;
    for (size_t i = 0; i < count; i++) {
        int32_t at = plan->position[from + i];
        bool goes_on = i > 0 && at == plan->position[from + i - 1] + 1;
        if (!goes_on) w->stretches[stretches++] = (nr_stretch){(size_t)at, 0};
        w->stretches[stretches - 1].length++;
    }
    nr_batch b = {.B = 1, .T = padded, .ids = w->ids, .stretches = w->stretches, .stretch_count = stretches};
    return nr_pass_forward(w->pass, &b, err);
}

/* ---- the head ---- */

typedef struct {
    const nr_walker *w;
    const nr_walk *plan;
    double *values;  /* of each score of the piece */
    uint8_t *best;
    size_t base;     /* first score of the piece */
} piece_job;

/* Whether no other id has a larger logit, nor an earlier one the same. */
static bool is_first_choice(const nr_ops *ops, const void *row, size_t V, size_t target)
{
    if (ops->real != NR_F32) {
        double x = nr_real_get(ops, row, target);
        for (size_t i = 0; i < V; i++)
            if (nr_real_get(ops, row, i) > x || (i < target && nr_real_get(ops, row, i) == x)) return false;
        return true;
    }
    const float *p = row, x = p[target];
    unsigned above = 0;
    for (size_t i = 0; i < target; i++) above |= p[i] >= x;
    for (size_t i = target + 1; i < V; i++) above |= p[i] > x;
    return above == 0;
}

static void score_row(void *context, size_t i)
{
    const piece_job *j = context;
    const nr_walker *w = j->w;
    const nr_ops *ops = w->model->ops;
    size_t V = w->model->config->V;
    const char *row = (const char *)w->logits + i * V * ops->real_size;
    double log_sum = w->nll[i] + nr_real_get(ops, row, (size_t)w->targets[i]);
    for (size_t s = w->first[i]; s < w->first[i + 1]; s++) {
        size_t target = (size_t)j->plan->scores[s].target;
        j->values[s - j->base] = nr_real_get(ops, row, target) - log_sum;
        j->best[s - j->base] = is_first_choice(ops, row, V, target);
    }
}

/* The head on `count` picked rows of a pass that began at `from`. */
static nr_status score_piece(nr_walker *w, const nr_walk *plan, size_t from, size_t count, double *values, uint8_t *best, nr_error *err)
{
    const nr_ops *ops = w->model->ops;
    size_t C = w->model->config->C, V = w->model->config->V, size = C * ops->act_size;
    size_t padded = NR_MIN((count + STEP - 1) / STEP * STEP, (size_t)PIECE);
    const char *hidden = nr_pass_hidden(w->pass);
    for (size_t i = 0; i < count; i++) {
        memcpy((char *)w->hidden + i * size, hidden + (w->picked[i] - from) * size, size);
        w->targets[i] = plan->scores[w->first[i]].target;
    }
    memset((char *)w->hidden + count * size, 0, (padded - count) * size);
    NR_TRY(ops->linear(w->model->head, w->logits, NR_REAL, w->hidden, padded, false, err));
    ops->cross_entropy(w->nll, NULL, w->logits, w->targets, 1, count, V);
    piece_job job = {.w = w, .plan = plan, .values = values, .best = best, .base = w->first[0]};
    nr_parallel(count, score_row, &job);
    return NR_OK;
}

/* Scores from number *next on that stand on rows below `end`. */
static nr_status score_rows(nr_walker *w, const nr_walk *plan, size_t from, size_t end, size_t *next, double *values,
                            uint8_t *best, nr_error *err)
{
    size_t s = *next;
    while (s < plan->score_count && plan->scores[s].row < end) {
        size_t count = 0, begin = s;
        while (s < plan->score_count && plan->scores[s].row < end) {
            if (count == 0 || plan->scores[s].row != w->picked[count - 1]) {
                if (count == PIECE) break;
                w->picked[count] = plan->scores[s].row;
                w->first[count++] = s;
            }
            s++;
        }
        w->first[count] = s;
        NR_TRY(score_piece(w, plan, from, count, values + begin, best + begin, err));
    }
    *next = s;
    return NR_OK;
}

static nr_status run_passes(nr_walker *w, const nr_walk *plan, double *values, uint8_t *best, const nr_listener *l,
                            void (*done)(void *user, size_t rows), void *user, nr_error *err)
{
    size_t next = 0;
    for (size_t from = 0, count; from < plan->rows; from += count) {
        if (nr_stopped(l)) return nr_fail(err, NR_E_INTERRUPTED, "scoring was interrupted");
        count = NR_MIN(w->rows, plan->rows - from);
        NR_TRY(forward(w, plan, from, count, err));
        NR_TRY(score_rows(w, plan, from, from + count, &next, values, best, err));
        if (done) done(user, from + count);
    }
    return NR_OK;
}

/* A request's tokens are added in their order: on its path rows rise. */
nr_status nr_walker_run(nr_walker *w, const nr_walk *plan, double *sums, uint8_t *greedy, const nr_listener *l,
                        void (*done)(void *user, size_t rows), void *user, nr_error *err)
{
    double *values = NULL;
    uint8_t *best = NULL;
    nr_status st;
    NR_GO(nr_alloc(&values, plan->score_count, sizeof *values, "log-likelihoods", err));
    NR_GO(nr_alloc(&best, plan->score_count, 1, "choices", err));
    NR_GO(run_passes(w, plan, values, best, l, done, user, err));
    for (size_t s = 0; s < plan->score_count; s++) sums[plan->scores[s].request] = 0, greedy[plan->scores[s].request] = 1;
    for (size_t s = 0; s < plan->score_count && st == NR_OK; s++) {
        size_t r = plan->scores[s].request;
        if (!isfinite(values[s])) st = nr_fail(err, NR_E_NOT_FINITE, "expected finite log-likelihoods, found %g", values[s]);
        sums[r] += values[s];
        greedy[r] &= best[s];
    }
done:
    free(values);
    free(best);
    return st;
}
