/*
 * train_eval.c - validation of both domains: extended model against backbone.
 *
 *   bits per byte   nats / ln 2 / bytes of the targets' text (EOS has none)
 *   kl, agreement   mean KL(backbone || extended) and share of equal top tokens
 *   per layer       mean |g|, mean |g a| / |FFN(x)|, and the area under the curve
 *                   of telling new tokens from old ones by g
 *
 * The rows are the first of the validation stream and never change. The
 * backbone runs over them once a process; its final hidden rows are kept, so
 * that later validations cost one forward pass and two products of the head. A
 * fresh extension of a method that starts as the backbone needs no pass of its
 * own: the first validation makes one instead of two.
 * Batches have the rows of a training micro-batch, the last one those that are
 * left.
 *
 * Several ranks take a stretch of the batches each. The sums of every batch
 * travel to all, who add them in the order of the batches: so the numbers are
 * the same bits on any number of ranks. The gates travel to rank 0, which alone
 * takes the areas under the curves.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

size_t nr_validation_rows(const nr_settings *s) { return NR_MAX(s->eval_tokens / s->context, 1); }

/* ---- whose batch ---- */

/* First batch of a rank, and the one behind its last. */
static size_t batches_before(size_t batches, size_t rank, size_t ranks) { return batches * rank / ranks; }

/* Tokens of a rank's rows of a domain. */
static size_t tokens_of_rank(const nr_trainer *t, int d, size_t rank)
{
    const nr_validation *v = &t->val;
    size_t ranks = nr_train_ranks(t), first = batches_before(v->batches[d], rank, ranks),
           end = batches_before(v->batches[d], rank + 1, ranks);
    return (NR_MIN(end * t->B, v->rows[d]) - NR_MIN(first * t->B, v->rows[d])) * t->s.context;
}

static size_t tokens_of(const nr_trainer *t, int d) { return t->val.rows[d] * t->s.context; }

/* Gates that a rank finds. */
static size_t gates_of_rank(const nr_trainer *t, size_t rank)
{
    return t->model->config->L * (tokens_of_rank(t, NR_OLD, rank) + tokens_of_rank(t, NR_NEW, rank));
}

static nr_batch_score *score_of(const nr_validation *v, int d, size_t batch)
{
    return (nr_batch_score *)(void *)(v->scores[d] + batch * v->score_bytes);
}

/* ---- memory ---- */

size_t nr_validation_bytes(const nr_model *m, const nr_settings *s, size_t B, size_t ranks)
{
    const nr_config *c = m->config;
    size_t rows = nr_validation_rows(s), batches = (rows + B - 1) / B, own = NR_MIN((batches + ranks - 1) / ranks * B, rows);
    size_t n = B * s->context, gates = 2 * c->L * rows * s->context;
    return 2 * own * s->context * c->C * m->ops->act_size +
           (ranks > 1 ? 2 : 1) * gates * sizeof(float) + (3 * c->L * n + 2 * n + 6 * c->L) * sizeof(double) + n +
           2 * batches * (sizeof(nr_batch_score) + 2 * c->L * sizeof(double));
}

static nr_status take_domain(nr_trainer *t, int d, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t rank = nr_cluster_rank(t->cluster), L = t->model->config->L;
    const char *what = "validation";
    if (t->valid[d]) v->rows[d] = NR_MIN(nr_validation_rows(&t->s), nr_rows_count(t->valid[d]));
    v->batches[d] = (v->rows[d] + t->B - 1) / t->B;
    v->first[d] = batches_before(v->batches[d], rank, nr_train_ranks(t));
    v->end[d] = batches_before(v->batches[d], rank + 1, nr_train_ranks(t));
    NR_TRY(nr_alloc(&v->hidden[d], tokens_of_rank(t, d, rank) * t->model->config->C, t->model->ops->act_size, what, err));
    NR_TRY(nr_alloc(&v->scores[d], v->batches[d], v->score_bytes, what, err));
    NR_TRY(nr_alloc(&v->gate_sum[d], L, sizeof(double), what, err));
    return nr_alloc(&v->ratio_sum[d], L, sizeof(double), what, err);
}

nr_status nr_validation_new(nr_trainer *t, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t L = t->model->config->L, n = t->B * t->s.context;
    const char *what = "validation";
    v->score_bytes = sizeof(nr_batch_score) + 2 * L * sizeof(double);
    for (int d = 0; d < 2; d++) NR_TRY(take_domain(t, d, err));
    NR_TRY(nr_alloc(&v->observed.ffn_norm, L * n, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->observed.ext_norm, L * n, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->observed.gate, L * n, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->nll, n, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->kl, n, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->same, n, 1, what, err));
    NR_TRY(nr_alloc(&v->auc, L, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->auc_abs, L, sizeof(double), what, err));
    size_t all = L * (tokens_of(t, NR_OLD) + tokens_of(t, NR_NEW)), own = gates_of_rank(t, nr_cluster_rank(t->cluster));
    if (nr_train_leads(t)) NR_TRY(nr_alloc(&v->gate, all, sizeof(float), what, err));
    return nr_train_ranks(t) == 1 ? NR_OK : nr_alloc(&v->travel, nr_train_leads(t) ? all - own : own, sizeof(float), what, err);
}

void nr_validation_free(nr_validation *v)
{
    for (int d = 0; d < 2; d++) {
        free(v->hidden[d]);
        free(v->scores[d]);
        free(v->gate_sum[d]);
        free(v->ratio_sum[d]);
    }
    free(v->observed.ffn_norm);
    free(v->observed.ext_norm);
    free(v->observed.gate);
    free(v->nll);
    free(v->kl);
    free(v->same);
    free(v->gate);
    free(v->travel);
    free(v->auc);
    free(v->auc_abs);
}

/* ---- area under the curve ---- */

static int by_value(const void *a, const void *b)
{
    float x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

double nr_domain_auc(float *old, size_t old_count, float *new_, size_t new_count)
{
    if (old_count == 0 || new_count == 0) return NAN;
    for (size_t i = 0; i < old_count; i++)
        if (isnan(old[i])) return NAN;
    for (size_t i = 0; i < new_count; i++)
        if (isnan(new_[i])) return NAN;
    qsort(old, old_count, sizeof *old, by_value);
    qsort(new_, new_count, sizeof *new_, by_value);
    double wins = 0; /* pairs with new > old, ties half */
    size_t below = 0, upto = 0;
    for (size_t i = 0; i < new_count; i++) {
        while (below < old_count && old[below] < new_[i]) below++;
        while (upto < old_count && old[upto] <= new_[i]) upto++;
        wins += 0.5 * ((double)below + (double)upto);
    }
    return wins / ((double)old_count * (double)new_count);
}

double nr_domain_auc_abs(float *old, size_t old_count, float *new_, size_t new_count)
{
    for (size_t i = 0; i < old_count; i++) old[i] = fabsf(old[i]);
    for (size_t i = 0; i < new_count; i++) new_[i] = fabsf(new_[i]);
    return nr_domain_auc(old, old_count, new_, new_count);
}

/* Where layer l keeps the gates of a domain: old ones, then new ones. */
static float *gates(const nr_trainer *t, size_t l, int domain)
{
    size_t old = tokens_of(t, NR_OLD), new_ = tokens_of(t, NR_NEW);
    return t->val.gate + l * (old + new_) + (domain == NR_NEW ? old : 0);
}

static void layer_auc(void *context, size_t l)
{
    nr_trainer *t = context;
    float *old = gates(t, l, NR_OLD), *new_ = gates(t, l, NR_NEW);
    t->val.auc[l] = nr_domain_auc(old, tokens_of(t, NR_OLD), new_, tokens_of(t, NR_NEW));
    t->val.auc_abs[l] = nr_domain_auc_abs(old, tokens_of(t, NR_OLD), new_, tokens_of(t, NR_NEW));
}

/* ---- one batch ---- */

/* Rows of the validation stream from `begin` on, at most B. Returns how many. */
static size_t fill(nr_trainer *t, int domain, size_t begin)
{
    size_t T = t->s.context, used = NR_MIN(t->B, t->val.rows[domain] - begin);
    for (size_t i = 0; i < used; i++) {
        nr_rows_get(t->valid[domain], begin + i, t->row, t->first ? t->first + i * T : NULL);
        memcpy(t->ids + i * T, t->row, T * sizeof *t->ids);
        memcpy(t->targets + i * T, t->row + 1, T * sizeof *t->targets);
        t->is_new[i] = domain == NR_NEW;
    }
    return used;
}

static nr_batch batch_of(const nr_trainer *t, size_t rows)
{
    return (nr_batch){.B = rows, .T = t->s.context, .ids = t->ids, .targets = t->targets, .is_new = t->is_new, .first = t->first};
}

static double sum_of(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* What a forward pass of the backbone leaves: its nats, and its hidden rows for later. */
static nr_status keep_backbone(nr_trainer *t, int domain, size_t batch, const nr_batch *b, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t T = b->T, begin = (batch - v->first[domain]) * t->B, row = t->model->config->C * t->model->ops->act_size;
    NR_TRY(nr_pass_loss(t->pass, b, false, NULL, v->nll, err));
    score_of(v, domain, batch)->backbone_nats = sum_of(v->nll, b->B * T);
    memcpy((char *)v->hidden[domain] + begin * T * row, nr_pass_hidden(t->pass), b->B * T * row);
    return NR_OK;
}

/* The backbone alone. */
static nr_status backbone_batch(nr_trainer *t, int domain, size_t batch, size_t used, nr_error *err)
{
    nr_batch b = batch_of(t, used);
    nr_extension_switch(t->e, false);
    nr_status st = nr_pass_forward(t->pass, &b, err);
    if (st == NR_OK) st = keep_backbone(t, domain, batch, &b, err);
    nr_extension_switch(t->e, true);
    return st;
}

/* Where a batch puts the gates of layer l: rank 0 in their place, another rank with what it sends. */
static float *gates_of_batch(const nr_trainer *t, size_t l, int domain, size_t batch)
{
    const nr_validation *v = &t->val;
    size_t rank = nr_cluster_rank(t->cluster), T = t->s.context, own = tokens_of_rank(t, domain, rank);
    if (rank == 0) return gates(t, l, domain) + batch * t->B * T;
    size_t before = domain == NR_NEW ? t->model->config->L * tokens_of_rank(t, NR_OLD, rank) : 0;
    return v->travel + before + l * own + (batch - v->first[domain]) * t->B * T;
}

static void add_observed(nr_trainer *t, int domain, size_t batch, size_t used)
{
    nr_validation *v = &t->val;
    size_t T = t->s.context, n = used * T, L = t->model->config->L;
    double *sums = score_of(v, domain, batch)->layers;
    for (size_t l = 0; l < L; l++) {
        float *gate = gates_of_batch(t, l, domain, batch);
        double gate_sum = 0, ratio_sum = 0;
        for (size_t i = 0; i < used * T; i++) {
            double g = v->observed.gate[l * n + i];
            gate[i] = (float)g;
            gate_sum += fabs(g);
            ratio_sum += v->observed.ext_norm[l * n + i] / v->observed.ffn_norm[l * n + i];
        }
        sums[l] = gate_sum;
        sums[L + l] = ratio_sum;
    }
}

/* A batch's sums, of n rows. */
static void add_rows(nr_trainer *t, int domain, size_t batch, size_t n)
{
    nr_validation *v = &t->val;
    nr_batch_score *d = score_of(v, domain, batch);
    d->nats = sum_of(v->nll, n);
    d->kl = sum_of(v->kl, n);
    d->tokens = (double)n;
    d->agree = d->bytes = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        d->agree += v->same[i];
        nr_tokenizer_token(t->tokenizer, t->targets[i], &bytes);
        if (t->targets[i] != nr_tokenizer_eos(t->tokenizer)) d->bytes += (double)bytes;
    }
}

/* Nats of the extended model, and its distance from the backbone. */
static nr_status score_rows(nr_trainer *t, int domain, size_t batch, size_t used, nr_error *err)
{
    nr_validation *v = &t->val;
    const nr_ops *ops = t->model->ops;
    size_t T = t->s.context, C = t->model->config->C, V = t->model->config->V;
    size_t chunk = nr_pass_head_rows(t->pass) / 2, n = used * T, begin = (batch - v->first[domain]) * t->B;
    for (size_t row = 0; row < n; row += chunk) {
        size_t count = NR_MIN(chunk, n - row);
        const void *logits, *backbone;
        const char *hidden = (const char *)v->hidden[domain] + (begin * T + row) * C * ops->act_size;
        NR_TRY(nr_pass_logits_beside(t->pass, &logits, &backbone, hidden, row, count, err));
        ops->cross_entropy(v->nll + row, NULL, logits, t->targets + row, 1, count, V);
        ops->divergence(v->kl + row, v->same + row, backbone, logits, count, V);
    }
    add_rows(t, domain, batch, n);
    return NR_OK;
}

/* The extended model, with what its layers add written down. */
static nr_status observed_pass(nr_trainer *t, const nr_batch *b, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t observed = t->model->config->L * b->B * b->T;
    memset(v->observed.ffn_norm, 0, observed * sizeof(double)); /* layers that the walk doesn't observe stay 0 / 0 */
    memset(v->observed.ext_norm, 0, observed * sizeof(double));
    nr_pass_observe(t->pass, &v->observed);
    nr_status st = nr_pass_forward(t->pass, b, err);
    nr_pass_observe(t->pass, NULL);
    return st;
}

static nr_status extended_batch(nr_trainer *t, int domain, size_t batch, size_t used, nr_error *err)
{
    nr_batch b = batch_of(t, used);
    NR_TRY(observed_pass(t, &b, err));
    add_observed(t, domain, batch, used);
    return score_rows(t, domain, batch, used, err);
}

/* Both at once, of an extension that changes nothing yet. */
static nr_status first_batch(nr_trainer *t, int domain, size_t batch, size_t used, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t n = used * t->s.context;
    nr_batch b = batch_of(t, used);
    NR_TRY(observed_pass(t, &b, err));
    add_observed(t, domain, batch, used);
    NR_TRY(keep_backbone(t, domain, batch, &b, err));
    memset(v->kl, 0, n * sizeof *v->kl);
    memset(v->same, 1, n);
    add_rows(t, domain, batch, n);
    return NR_OK;
}

/* One count over both domains: what is left is then of the same work as what was done. */
static void say_progress(nr_trainer *t, int domain, size_t next)
{
    const nr_validation *v = &t->val;
    size_t old = v->end[NR_OLD] - v->first[NR_OLD], all = old + v->end[NR_NEW] - v->first[NR_NEW];
    size_t done = next - v->first[domain] + (domain == NR_NEW ? old : 0);
    nr_progress(t->listener, "validating", (double)done, (double)all, 0, "batches");
}

static nr_status own_batches(nr_trainer *t, int domain, nr_error *err)
{
    nr_validation *v = &t->val;
    for (size_t batch = v->first[domain]; batch < v->end[domain]; batch++) {
        size_t used = fill(t, domain, batch * t->B);
        bool same = t->fresh && t->at.step == 0 && t->e->method->starts_as_backbone;
        if (!v->have_backbone && !same) NR_TRY(backbone_batch(t, domain, batch, used, err));
        NR_TRY(same ? first_batch(t, domain, batch, used, err) : extended_batch(t, domain, batch, used, err));
        say_progress(t, domain, batch + 1);
    }
    return NR_OK;
}

/* ---- all ranks' batches ---- */

/* The scores of every batch, to all. */
static nr_status exchange_scores(nr_trainer *t, int d, nr_error *err)
{
    nr_validation *v = &t->val;
    nr_exchange *x = &t->exchange;
    for (size_t r = 0; r < nr_train_ranks(t); r++) {
        size_t first = batches_before(v->batches[d], r, nr_train_ranks(t)), end = batches_before(v->batches[d], r + 1, nr_train_ranks(t));
        x->to[r] = (nr_part){v->scores[d] + v->first[d] * v->score_bytes, (v->end[d] - v->first[d]) * v->score_bytes};
        x->from[r] = (nr_part){v->scores[d] + first * v->score_bytes, (end - first) * v->score_bytes};
    }
    return nr_exchange_parts(x, err);
}

/* What rank r sent, layer by layer, into its place among the gates. */
static const float *unpack_gates(nr_trainer *t, int d, size_t r, const float *from)
{
    size_t count = tokens_of_rank(t, d, r), first = batches_before(t->val.batches[d], r, nr_train_ranks(t)) * t->B * t->s.context;
    for (size_t l = 0; l < t->model->config->L; l++, from += count)
        if (count > 0) memcpy(gates(t, l, d) + first, from, count * sizeof *from);
    return from;
}

static nr_status collect_gates(nr_trainer *t, nr_error *err)
{
    nr_validation *v = &t->val;
    nr_exchange *x = &t->exchange;
    size_t ranks = nr_train_ranks(t), rank = nr_cluster_rank(t->cluster);
    memset(x->to, 0, ranks * sizeof *x->to);
    memset(x->from, 0, ranks * sizeof *x->from);
    if (rank > 0) x->to[0] = (nr_part){v->travel, gates_of_rank(t, rank) * sizeof *v->travel};
    float *at = v->travel;
    for (size_t r = 1; rank == 0 && r < ranks; at += gates_of_rank(t, r), r++)
        x->from[r] = (nr_part){at, gates_of_rank(t, r) * sizeof *at};
    NR_TRY(nr_exchange_parts(x, err));
    const float *from = v->travel;
    for (size_t r = 1; rank == 0 && r < ranks; r++)
        for (int d = 0; d < 2; d++) from = unpack_gates(t, d, r, from);
    return NR_OK;
}

static void add_up(nr_trainer *t, int domain)
{
    nr_validation *v = &t->val;
    size_t L = t->model->config->L;
    nr_domain_score *d = &v->domain[domain];
    *d = (nr_domain_score){.present = v->rows[domain] > 0, .rows = v->rows[domain]};
    memset(v->gate_sum[domain], 0, L * sizeof(double));
    memset(v->ratio_sum[domain], 0, L * sizeof(double));
    for (size_t batch = 0; batch < v->batches[domain]; batch++) {
        const nr_batch_score *s = score_of(v, domain, batch);
        d->nats += s->nats;
        d->backbone_nats += s->backbone_nats;
        d->kl += s->kl;
        d->agree += s->agree;
        d->tokens += (size_t)s->tokens;
        d->bytes += (size_t)s->bytes;
        for (size_t l = 0; l < L; l++) {
            v->gate_sum[domain][l] += s->layers[l];
            v->ratio_sum[domain][l] += s->layers[L + l];
        }
    }
}

/* ---- the whole ---- */

static void summarise(nr_trainer *t)
{
    nr_scores *s = &t->at.last;
    for (int k = 0; k < 2; k++) {
        const nr_domain_score *d = &t->val.domain[k];
        double tokens = (double)d->tokens, bits = M_LN2 * (double)d->bytes;
        s->bits[k] = d->present ? d->nats / bits : NAN;
        s->backbone_bits[k] = d->present ? d->backbone_nats / bits : NAN;
        s->kl[k] = d->present ? d->kl / tokens : NAN;
        s->agreement[k] = d->present ? d->agree / tokens : NAN;
    }
    bool old = t->val.domain[NR_OLD].present && t->s.old_share > 0, new_ = t->val.domain[NR_NEW].present;
    s->score = old && new_ ? s->bits[NR_OLD] + s->bits[NR_NEW] : new_ ? s->bits[NR_NEW] : s->bits[NR_OLD];
}

nr_status nr_validate(nr_trainer *t, nr_error *err)
{
    nr_status st = NR_OK;
    for (int d = 0; d < 2 && st == NR_OK; d++) st = own_batches(t, d, err);
    for (int d = 0; d < 2 && st == NR_OK && nr_train_ranks(t) > 1; d++) st = exchange_scores(t, d, err);
    if (st == NR_OK && nr_train_ranks(t) > 1) st = collect_gates(t, err);
    if (st != NR_OK) return nr_train_together(t, st);
    t->val.have_backbone = true;
    for (int d = 0; d < 2; d++) add_up(t, d);
    if (nr_train_leads(t)) nr_parallel(t->model->config->L, layer_auc, t);
    summarise(t);
    return NR_OK;
}
