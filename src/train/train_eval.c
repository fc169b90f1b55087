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
 * that later validations cost one forward pass and two products of the head.
 * Batches keep the shape of a training micro-batch: what the last one has too
 * much is filled with the first row and left out of the sums.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

size_t nr_validation_rows(const nr_settings *s) { return NR_MAX(s->eval_tokens / s->context, 1); }

/* Bytes of each buffer, for domain rows[2]. */
typedef struct {
    size_t hidden[2], logits, observed, tokens_wide, gate, layers;
} sizes;

static sizes sizes_of(const nr_model *m, size_t T, size_t B, size_t head_rows, const size_t rows[2])
{
    const nr_config *c = m->config;
    sizes z = {.logits = head_rows * c->V, .observed = c->L * B * T, .tokens_wide = B * T, .layers = c->L};
    for (int d = 0; d < 2; d++) z.hidden[d] = rows[d] * T * c->C;
    z.gate = c->L * (rows[0] + rows[1]) * T;
    return z;
}

size_t nr_validation_bytes(const nr_model *m, const nr_settings *s, size_t B)
{
    size_t rows[2] = {nr_validation_rows(s), nr_validation_rows(s)};
    sizes z = sizes_of(m, s->context, B, 256, rows); /* 256: about what a pass takes for its logits */
    return (z.hidden[0] + z.hidden[1]) * m->ops->act_size + z.logits * m->ops->real_size + z.gate * sizeof(float) +
           (3 * z.observed + 2 * z.tokens_wide + 6 * z.layers) * sizeof(double) + z.tokens_wide;
}

nr_status nr_validation_new(nr_trainer *t, nr_error *err)
{
    nr_validation *v = &t->val;
    const nr_ops *ops = t->model->ops;
    for (int d = 0; d < 2; d++)
        if (t->valid[d]) v->rows[d] = NR_MIN(nr_validation_rows(&t->s), nr_rows_count(t->valid[d]));
    sizes z = sizes_of(t->model, t->s.context, t->B, nr_pass_head_rows(t->pass), v->rows);
    const char *what = "validation";
    NR_TRY(nr_alloc(&v->logits, z.logits, ops->real_size, what, err));
    NR_TRY(nr_alloc(&v->observed.ffn_norm, z.observed, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->observed.ext_norm, z.observed, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->observed.gate, z.observed, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->nll, z.tokens_wide, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->kl, z.tokens_wide, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->same, z.tokens_wide, 1, what, err));
    NR_TRY(nr_alloc(&v->gate, z.gate, sizeof(float), what, err));
    NR_TRY(nr_alloc(&v->auc, z.layers, sizeof(double), what, err));
    NR_TRY(nr_alloc(&v->auc_abs, z.layers, sizeof(double), what, err));
    for (int d = 0; d < 2; d++) {
        NR_TRY(nr_alloc(&v->hidden[d], z.hidden[d], ops->act_size, what, err));
        NR_TRY(nr_alloc(&v->gate_sum[d], z.layers, sizeof(double), what, err));
        NR_TRY(nr_alloc(&v->ratio_sum[d], z.layers, sizeof(double), what, err));
    }
    return NR_OK;
}

void nr_validation_free(nr_validation *v)
{
    for (int d = 0; d < 2; d++) {
        free(v->hidden[d]);
        free(v->gate_sum[d]);
        free(v->ratio_sum[d]);
    }
    free(v->logits);
    free(v->observed.ffn_norm);
    free(v->observed.ext_norm);
    free(v->observed.gate);
    free(v->nll);
    free(v->kl);
    free(v->same);
    free(v->gate);
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

static size_t tokens_of(const nr_trainer *t, int d) { return t->val.rows[d] * t->s.context; }

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

/* Rows [begin, begin + B) of the validation stream. Returns how many of them count. */
static size_t fill(nr_trainer *t, int domain, size_t begin)
{
    size_t T = t->s.context, used = NR_MIN(t->B, t->val.rows[domain] - begin);
    for (size_t i = 0; i < t->B; i++) {
        size_t row = i < used ? begin + i : 0;
        nr_rows_get(t->valid[domain], row, t->row, t->first ? t->first + i * T : NULL);
        memcpy(t->ids + i * T, t->row, T * sizeof *t->ids);
        memcpy(t->targets + i * T, t->row + 1, T * sizeof *t->targets);
        t->is_new[i] = domain == NR_NEW;
    }
    return used;
}

static nr_batch batch_of(const nr_trainer *t)
{
    return (nr_batch){.B = t->B, .T = t->s.context, .ids = t->ids, .targets = t->targets, .is_new = t->is_new, .first = t->first};
}

static double sum_of(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* The backbone alone: its nats, and its hidden rows for later. */
static nr_status backbone_batch(nr_trainer *t, int domain, size_t begin, size_t used, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t T = t->s.context, row = t->model->config->C * t->model->ops->act_size;
    nr_batch b = batch_of(t);
    nr_extension_switch(t->e, false);
    nr_status st = nr_pass_forward(t->pass, &b, err);
    if (st == NR_OK) st = nr_pass_loss(t->pass, &b, false, NULL, v->nll, err);
    nr_extension_switch(t->e, true);
    if (st != NR_OK) return st;
    v->backbone_nats[domain] += sum_of(v->nll, used * T);
    memcpy((char *)v->hidden[domain] + begin * T * row, nr_pass_hidden(t->pass), used * T * row);
    return NR_OK;
}

static void add_observed(nr_trainer *t, int domain, size_t begin, size_t used)
{
    nr_validation *v = &t->val;
    size_t T = t->s.context, n = t->B * T;
    for (size_t l = 0; l < t->model->config->L; l++) {
        float *gate = gates(t, l, domain) + begin * T;
        for (size_t i = 0; i < used * T; i++) {
            double g = v->observed.gate[l * n + i];
            gate[i] = (float)g;
            v->gate_sum[domain][l] += fabs(g);
            v->ratio_sum[domain][l] += v->observed.ext_norm[l * n + i] / v->observed.ffn_norm[l * n + i];
        }
    }
}

/* Nats of the extended model, and its distance from the backbone. */
static nr_status score_rows(nr_trainer *t, int domain, size_t begin, size_t used, nr_error *err)
{
    nr_validation *v = &t->val;
    const nr_ops *ops = t->model->ops;
    size_t T = t->s.context, C = t->model->config->C, V = t->model->config->V;
    size_t chunk = nr_pass_head_rows(t->pass), n = used * T;
    for (size_t row = 0; row < n; row += chunk) {
        size_t count = NR_MIN(chunk, n - row);
        const void *logits;
        const char *hidden = (const char *)v->hidden[domain] + (begin * T + row) * C * ops->act_size;
        NR_TRY(ops->linear(t->model->head, v->logits, NR_REAL, hidden, count, false, err));
        NR_TRY(nr_pass_logits(t->pass, &logits, row, count, err));
        ops->cross_entropy(v->nll + row, NULL, logits, t->targets + row, 1, count, V);
        ops->divergence(v->kl + row, v->same + row, v->logits, logits, count, V);
    }
    nr_domain_score *d = &v->domain[domain];
    d->nats += sum_of(v->nll, n);
    d->kl += sum_of(v->kl, n);
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        d->agree += v->same[i];
        d->tokens++;
        nr_tokenizer_token(t->tokenizer, t->targets[i], &bytes);
        if (t->targets[i] != nr_tokenizer_eos(t->tokenizer)) d->bytes += bytes;
    }
    return NR_OK;
}

static nr_status extended_batch(nr_trainer *t, int domain, size_t begin, size_t used, nr_error *err)
{
    nr_validation *v = &t->val;
    size_t observed = t->model->config->L * t->B * t->s.context;
    nr_batch b = batch_of(t);
    memset(v->observed.ffn_norm, 0, observed * sizeof(double)); /* layers that the walk doesn't observe stay 0 / 0 */
    memset(v->observed.ext_norm, 0, observed * sizeof(double));
    nr_pass_observe(t->pass, &v->observed);
    nr_status st = nr_pass_forward(t->pass, &b, err);
    nr_pass_observe(t->pass, NULL);
    if (st != NR_OK) return st;
    add_observed(t, domain, begin, used);
    return score_rows(t, domain, begin, used, err);
}

static nr_status domain_rows(nr_trainer *t, int domain, nr_error *err)
{
    nr_validation *v = &t->val;
    nr_domain_score *d = &v->domain[domain];
    *d = (nr_domain_score){.present = v->rows[domain] > 0, .rows = v->rows[domain]};
    memset(v->gate_sum[domain], 0, t->model->config->L * sizeof(double));
    memset(v->ratio_sum[domain], 0, t->model->config->L * sizeof(double));
    for (size_t begin = 0; begin < v->rows[domain]; begin += t->B) {
        size_t used = fill(t, domain, begin);
        if (!v->have_backbone) NR_TRY(backbone_batch(t, domain, begin, used, err));
        NR_TRY(extended_batch(t, domain, begin, used, err));
        nr_progress(t->listener, "validating", (double)(begin + used), (double)v->rows[domain], 0, "rows");
    }
    d->backbone_nats = v->backbone_nats[domain];
    return NR_OK;
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
    for (int d = 0; d < 2; d++) NR_TRY(domain_rows(t, d, err));
    t->val.have_backbone = true;
    nr_parallel(t->model->config->L, layer_auc, t);
    summarise(t);
    return NR_OK;
}
