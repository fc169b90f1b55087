/*
 * loss.c - the vocabulary's end of a pass: logits of a few rows at a time,
 * cross-entropy, and the gradient that starts the walk down. A (B T, V) matrix
 * never exists.
 */
#include <string.h>

#include "model/pass.h"

nr_status nr_pass_logits(nr_pass *p, const void **logits, size_t row, size_t count, nr_error *err)
{
    if (row + count > p->rows || count > p->head_rows)
        return nr_fail(err, NR_E_USAGE, "logits: expected rows within %zu and at most %zu of them, found %zu from %zu",
                       p->rows, p->head_rows, count, row);
    const void *x = nr_at(p, p->s.final_xn, NR_ACT, row * p->config->C);
    NR_TRY(p->ops->linear(nr_pass_ends(p).head, p->s.logits, NR_REAL, x, count, false, err));
    *logits = p->s.logits;
    return NR_OK;
}

/* The head of what the trained extension stands on: the backbone's, or that of a frozen one that brings its own weights. */
static nr_linear *head_below(const nr_pass *p)
{
    return p->replacer && !p->replacer->grads ? nr_pass_ends(p).head : p->model->head;
}

nr_status nr_pass_logits_beside(nr_pass *p, const void **logits, const void **other, const void *hidden, size_t row,
                                size_t count, nr_error *err)
{
    if (2 * count > p->head_rows)
        return nr_fail(err, NR_E_USAGE, "logits: expected at most %zu rows beside others, found %zu", p->head_rows / 2, count);
    void *second = nr_at(p, p->s.logits, NR_REAL, count * p->config->V);
    NR_TRY(nr_pass_logits(p, logits, row, count, err));
    *other = second;
    return p->ops->linear(head_below(p), second, NR_REAL, hidden, count, false, err);
}

const void *nr_pass_hidden(const nr_pass *p)
{
    return p->s.final_xn;
}

/* Tokens of the step that are distilled. */
static double distilled_tokens(const nr_pass *p, const nr_batch *b)
{
    size_t all = b->step_positions ? b->step_positions : b->step_tokens, old = b->step_old_tokens;
    switch (p->opt.distil.rows) {
    case NR_DISTIL_NEW: return (double)(all - old);
    case NR_DISTIL_OLD: return (double)old;
    case NR_DISTIL_ALL: break;
    }
    return (double)all;
}

/* alpha T^2 mean KL(softmax(z0 / T) || softmax(z / T)): its gradient is alpha T (softmax(z / T) - softmax(z0 / T)) / tokens. */
static nr_status distil(nr_pass *p, const nr_batch *b, size_t row, size_t count, const void *logits, void *d_logits, nr_error *err)
{
    double tokens = distilled_tokens(p, b), T = p->opt.distil.temperature, sum = 0;
    const void *x = nr_at(p, p->s.taught, NR_ACT, row * p->config->C);
    NR_TRY(p->ops->linear(head_below(p), p->s.taught_logits, NR_REAL, x, count, false, err));
    p->ops->distil(p->kl + row, d_logits, p->s.taught_logits, logits, p->distilled + row, T, p->opt.distil.weight * T / tokens, count,
                   p->config->V);
    for (size_t i = row; i < row + count; i++) sum += p->kl[i];
    p->local.distil += sum / tokens;
    p->local.local_weighted += p->opt.distil.weight * T * T * sum / tokens;
    return NR_OK;
}

/* Rows [row, row + count): logits, losses, and d final_xn (real) in block_out. */
static nr_status chunk(nr_pass *p, const nr_batch *b, size_t row, size_t count, bool backward, nr_error *err)
{
    const nr_config *c = p->config;
    const void *logits;
    NR_TRY(nr_pass_logits(p, &logits, row, count, err));
    void *in_place = p->opt.distil.weight > 0 ? p->s.d_logits : p->s.logits, *d_logits = backward ? in_place : NULL;
    p->ops->cross_entropy(p->nll + row, d_logits, logits, b->targets + row, 1.0 / (double)b->step_tokens, count, c->V);
    if (p->teaches) NR_TRY(distil(p, b, row, count, logits, d_logits, err));
    if (!backward) return NR_OK;
    nr_ends ends = nr_pass_ends(p);
    const void *x = nr_at(p, p->s.final_xn, NR_ACT, row * c->C);
    if (ends.d_head) NR_TRY(p->ops->linear_back_weight(ends.head, ends.d_head, NULL, d_logits, x, count, err));
    return p->ops->linear_back_input(ends.head, nr_at(p, p->s.block_out, NR_REAL, row * c->C), NR_REAL,
                                     d_logits, count, false, err);
}

static void add_up(const nr_pass *p, const nr_batch *b, nr_losses *sum)
{
    for (size_t i = 0; i < p->rows; i++) {
        if (b->targets[i] < 0) continue;
        sum->nll += p->nll[i];
        sum->nll_domain[p->row_is_new[i]] += p->nll[i];
        sum->targets[p->row_is_new[i]]++;
    }
    for (size_t k = 0; k < NR_COUNT(sum->local); k++) sum->local[k] += p->local.local[k];
    sum->distil += p->local.distil;
    sum->local_weighted += p->local.local_weighted;
}

nr_status nr_pass_loss(nr_pass *p, const nr_batch *b, bool backward, nr_losses *sum, double *nll, nr_error *err)
{
    const nr_config *c = p->config;
    size_t n = p->rows;
    if (!b->targets) return nr_fail(err, NR_E_USAGE, "loss: expected targets, found none");
    if (backward && (!p->opt.train || b->step_tokens == 0))
        return nr_fail(err, NR_E_USAGE, "backward: expected a training pass and a count of the step's tokens");
    for (size_t row = 0; row < n; row += p->head_rows)
        NR_TRY(chunk(p, b, row, NR_MIN(p->head_rows, n - row), backward, err));
    p->teaches = false;
    if (sum) add_up(p, b, sum);
    if (nll) memcpy(nll, p->nll, n * sizeof *nll);
    nr_ends ends = nr_pass_ends(p);
    if (!backward || (p->lowest == p->depth && !ends.d_final_norm)) return NR_OK;
    /* final_xn = norm(x) */
    nr_zero(p->s.dx, n * c->C * p->ops->real_size);
    p->ops->rmsnorm_back(p->s.dx, p->s.dy, ends.d_final_norm, p->s.block_out, p->x, NR_REAL, ends.final_norm, p->s.final_rstd, n,
                         c->C, p->s.norm_blocks);
    return nr_pass_backward(p, b, err);
}
