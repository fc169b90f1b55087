/*
 * train_step.c - one optimizer step: rows are drawn, run through the model in
 * micro-batches of one fixed shape, and the summed gradient is clipped and
 * applied.
 *
 *   loss = sum of nats / targets of the step + local losses of the step + the loss of the weights themselves (fisher.c)
 *   clip: g *= min(1, max_norm / (|g| + 1e-6)), |g| over all parameters in order
 *   lr: linear warm-up, then a cosine down to min_lr_ratio of the peak, or constant
 *
 * Losses are scaled by counts of the whole step, so that cutting it into
 * micro-batches changes only rounding. A loss or gradient that isn't finite ends
 * the run before it reaches the weights. Nothing is allocated.
 *
 * Of several ranks each draws the whole step and runs its own stretch of the
 * rows; gradients travel while the last micro-batch is still in its backward
 * pass, and each rank updates its slices of the weights. One rank alone runs
 * the same lines.
 */
#include <math.h>
#include <string.h>

#include "train/train.h"

double nr_train_learning_rate(const nr_settings *s, uint64_t step)
{
    double t = (double)step + 1, warm = (double)s->warmup_steps, all = (double)s->steps;
    if (t <= warm) return s->learning_rate * t / warm;
    if (s->lr_scheduler == 1) return s->learning_rate;
    double progress = (t - warm) / (all - warm);
    return s->learning_rate * (s->min_lr_ratio + (1 - s->min_lr_ratio) * 0.5 * (1 + cos(3.14159265358979323846 * progress)));
}

/* Rows [begin, begin + B) of the step into the buffers of a batch. */
static void fill(nr_trainer *t, size_t begin)
{
    size_t T = t->s.context;
    for (size_t i = 0; i < t->B; i++) {
        const nr_drawn *d = &t->drawn[begin + i];
        const nr_rows *rows = t->train[d->is_new];
        size_t row = nr_draw_row(t->s.seed, d->is_new, d->index, nr_rows_count(rows));
        nr_rows_get(rows, row, t->row, t->first ? t->first + i * T : NULL);
        memcpy(t->ids + i * T, t->row, T * sizeof *t->ids);
        memcpy(t->targets + i * T, t->row + 1, T * sizeof *t->targets);
        t->is_new[i] = d->is_new;
    }
}

/* A micro-batch: rows [begin, begin + B) of the step; of the last one gradients leave as they come. */
typedef struct {
    nr_trainer *t;
    nr_batch batch;
    size_t begin;
    bool last;
    nr_losses *sum;
} micro_batch;

static nr_status run_micro_batch(void *context, nr_error *err)
{
    const micro_batch *m = context;
    nr_trainer *t = m->t;
    fill(t, m->begin);
    if (t->s.lwf_alpha > 0) NR_TRY(nr_pass_teach(t->pass, &m->batch, err));
    NR_TRY(nr_pass_forward(t->pass, &m->batch, err));
    nr_pass_on_depth(t->pass, m->last ? nr_exchange_depth : NULL, &t->exchange);
    return nr_pass_loss(t->pass, &m->batch, true, m->sum, NULL, err);
}

static nr_status run_passes(nr_trainer *t, const nr_step_result *r, nr_losses *sum, nr_error *err)
{
    size_t T = t->s.context;
    micro_batch m = {.t = t, .sum = sum};
    m.batch = (nr_batch){.B = t->B, .T = T, .ids = t->ids, .targets = t->targets, .is_new = t->is_new, .first = t->first,
                         .step_tokens = t->s.batch_size * T, .step_old_tokens = r->old_rows * T};
    nr_zero(t->e->grads, t->e->weights * t->model->ops->real_size);
    nr_exchange_begin(&t->exchange);
    for (m.begin = t->first_row; m.begin < t->end_row; m.begin += t->B) {
        m.last = m.begin + t->B == t->end_row;
        NR_TRY(nr_crew(run_micro_batch, &m, err)); /* over a thousand calls, some a few microseconds long */
    }
    return nr_exchange_finish(&t->exchange, err);
}

/* ---- sums of all ranks ---- */

typedef struct {
    const nr_trainer *t;
    double sum;
} squares_job;

static void add_squares(void *context, const nr_param *p, size_t at, size_t own, size_t count)
{
    squares_job *j = context;
    const nr_ops *ops = j->t->model->ops;
    (void)p;
    (void)own;
    j->sum += ops->sum_squares((char *)j->t->e->grads + at * ops->real_size, count);
}

static void add_losses(nr_losses *sum, const nr_losses *more)
{
    sum->nll += more->nll;
    for (int d = 0; d < 2; d++) {
        sum->nll_domain[d] += more->nll_domain[d];
        sum->targets[d] += more->targets[d];
    }
    for (size_t k = 0; k < NR_COUNT(sum->local); k++) sum->local[k] += more->local[k];
    sum->distil += more->distil;
    sum->local_weighted += more->local_weighted;
}

/* Losses of all rows and the norm of the whole gradient, added in the order of the ranks. */
static nr_status sum_up(nr_trainer *t, nr_step_result *r, nr_step_sums *mine, nr_error *err)
{
    double tokens = (double)(t->s.batch_size * t->s.context);
    nr_losses sum = {0};
    squares_job own = {t, 0};
    if (t->fisher) mine->held = nr_fisher_hold(t);
    nr_exchange_each(&t->exchange, add_squares, &own);
    mine->squares = own.sum;
    NR_TRY(nr_cluster_gather(t->cluster, t->sums, mine, sizeof *mine, err));
    double squares = 0, held = 0;
    for (size_t k = 0; k < nr_train_ranks(t); k++) {
        add_losses(&sum, &t->sums[k].losses);
        squares += t->sums[k].squares;
        held += t->sums[k].held;
    }
    r->lm = sum.nll / tokens;
    for (int d = 0; d < 2; d++) r->lm_domain[d] = sum.targets[d] ? sum.nll_domain[d] / (double)sum.targets[d] : NAN;
    r->l1 = sum.local[0];
    r->ce = sum.local[1];
    r->balance = sum.local[2];
    r->distil = sum.distil;
    r->ewc = held;
    r->local = sum.local_weighted + held;
    r->loss = r->lm + r->local;
    r->norm = sqrt(squares);
    return NR_OK;
}

/* "rank 2: " where only some ranks' losses aren't finite, else nothing. */
static void name_rank(const nr_trainer *t, char *text, size_t size)
{
    size_t bad = 0, first = 0;
    text[0] = '\0';
    for (size_t k = nr_train_ranks(t); k-- > 0;) {
        if (isfinite(t->sums[k].losses.nll + t->sums[k].losses.local_weighted)) continue;
        bad++;
        first = k;
    }
    if (bad > 0 && bad < nr_train_ranks(t)) snprintf(text, size, "rank %zu: ", first);
}

static nr_status not_finite(const nr_trainer *t, const nr_step_result *r, nr_error *err)
{
    const char *precision = t->model->ops->act == NR_BF16 ? " or --compute fp32" : "";
    char rank[32];
    name_rank(t, rank, sizeof rank);
    return nr_fail(err, NR_E_NOT_FINITE,
                   "%s%s: step %llu: expected a finite loss and gradient, found loss %g, gradient norm %g; the latest saved "
                   "state is kept; try a --learning-rate below %g, more --warmup-steps than %zu%s",
                   rank, t->folder, (unsigned long long)t->at.step + 1, r->loss, r->norm, t->s.learning_rate, t->s.warmup_steps,
                   precision);
}

/* ---- the update ---- */

typedef struct {
    nr_trainer *t;
    double g_scale, lr;
} update_job;

static void update(void *context, const nr_param *p, size_t at, size_t own, size_t count)
{
    const update_job *j = context;
    const nr_trainer *t = j->t;
    const nr_ops *ops = t->model->ops;
    const nr_settings *s = &t->s;
    size_t from = at * ops->real_size, state = own * ops->real_size;
    ops->adamw((char *)t->e->values + from, (char *)t->e->grads + from, (char *)t->m + state, (char *)t->v + state, j->g_scale,
               j->lr, s->adam_beta1, s->adam_beta2, s->adam_epsilon, p->decay ? s->weight_decay : 0, (size_t)t->at.step + 1, count);
}

static nr_status apply(nr_trainer *t, const nr_step_result *r, nr_error *err)
{
    double scale = t->s.max_grad_norm > 0 ? t->s.max_grad_norm / (r->norm + 1e-6) : 1;
    update_job job = {t, NR_MIN(scale, 1), r->lr};
    nr_exchange_each(&t->exchange, update, &job);
    NR_TRY(nr_exchange_values(&t->exchange, err));
    return nr_extension_repack(t->e, err);
}

nr_status nr_train_step(nr_trainer *t, nr_step_result *r, nr_error *err)
{
    nr_draw_count before = t->at.drawn;
    nr_step_sums mine = {0};
    *r = (nr_step_result){.lr = nr_train_learning_rate(&t->s, t->at.step)};
    nr_draw_step(&t->s, t->at.step, &t->at.drawn, t->drawn);
    for (size_t i = 0; i < t->s.batch_size; i++) r->old_rows += !t->drawn[i].is_new;
    nr_status st = run_passes(t, r, &mine.losses, err);
    if (st == NR_OK) st = sum_up(t, r, &mine, err);
    if (st != NR_OK) return nr_train_together(t, st);
    if (!isfinite(r->loss) || !isfinite(r->norm)) { /* every rank finds the same */
        t->at.drawn = before;
        if (t->cluster) t->cluster->agreed = true;
        return not_finite(t, r, err);
    }
    st = nr_train_together(t, apply(t, r, err));
    if (st != NR_OK) return st;
    r->exchange_seconds = t->exchange.seconds;
    r->exchange_bytes = t->exchange.bytes;
    t->at.step++;
    return NR_OK;
}
