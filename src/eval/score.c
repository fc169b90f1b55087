/*
 * score.c - a group of documents through the backbone and, at once, through
 * the extended model.
 *
 * Windows of similar length run together, padded to one length. Padding stands
 * behind a window's own tokens, where causal attention doesn't look, and has
 * target -1. Losses land in arrays by token, so that sums over documents don't
 * depend on how windows met in batches.
 *
 * Both models' logits of the same few rows exist at the same time, which is
 * what the divergence needs; a tokens x vocabulary matrix never does.
 */
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

enum { BACKBONE, EXTENDED };

/* ---- the group ---- */

void nr_scorer_free(nr_scorer *s)
{
    free(s->ids);
    free(s->ends);
    free(s->bytes);
    free(s->nll[BACKBONE]);
    free(s->nll[EXTENDED]);
    free(s->kl);
    free(s->same);
    free(s->layers);
}

static nr_status grow(void *list, size_t *cap, size_t need, size_t size, const char *what, nr_error *err)
{
    void *p;
    size_t bytes, more = *cap ? *cap : 256;
    if (need <= *cap) return NR_OK;
    while (more < need && more <= SIZE_MAX / 2) more *= 2;
    memcpy(&p, list, sizeof p);
    if (nr_mul_overflows(more, size, &bytes) || !(p = realloc(p, bytes)))
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory, %zu elements wanted", what, more);
    memcpy(list, &p, sizeof p);
    *cap = more;
    return NR_OK;
}

nr_status nr_scorer_add(nr_scorer *s, const int32_t *tokens, size_t count, size_t bytes, nr_error *err)
{
    size_t cap = s->documents_cap;
    NR_TRY(grow(&s->ids, &s->ids_cap, s->ids_count + count + 1, sizeof *s->ids, "token ids", err));
    NR_TRY(grow(&s->ends, &cap, s->documents + 1, sizeof *s->ends, "documents", err));
    NR_TRY(grow(&s->bytes, &s->documents_cap, s->documents + 1, sizeof *s->bytes, "documents", err));
    s->ids[s->ids_count] = s->prefix;
    memcpy(s->ids + s->ids_count + 1, tokens, count * sizeof *tokens);
    s->ids_count += count + 1;
    s->ends[s->documents] = s->ids_count;
    s->bytes[s->documents++] = bytes;
    return NR_OK;
}

size_t nr_scorer_document(const nr_scorer *s, size_t d, size_t *first)
{
    size_t begin = d ? s->ends[d - 1] : 0;
    if (first) *first = begin - d; /* every document before it has one prefix */
    return s->ends[d] - begin - 1;
}

size_t nr_scorer_tokens(const nr_scorer *s) { return s->ids_count - s->documents; }

void nr_scorer_clear(nr_scorer *s) { s->ids_count = s->documents = 0; }

bool nr_extension_has_blocks(const nr_extension *e)
{
    const nr_method *m = e ? e->method : NULL;
    if (!m || (!m->block && !m->after)) return false;
    return m->has_block ? m->has_block(e, NR_BESIDE_FFN) || m->has_block(e, NR_AFTER_FFN) : true;
}

nr_status nr_prefix_token(int32_t *out, const nr_model *m, const nr_tokenizer *t, nr_error *err)
{
    int32_t choice[] = {nr_tokenizer_bos(t), m->config->bos, nr_tokenizer_eos(t), m->config->eos};
    for (size_t i = 0; i < NR_COUNT(choice); i++)
        if (choice[i] >= 0 && (size_t)choice[i] < m->config->V) return *out = choice[i], NR_OK;
    return nr_fail(err, NR_E_UNSUPPORTED,
                   "%s: expected a begin- or end-of-text token to stand before a text, found neither", m->file->path);
}

/* ---- windows of a group, sorted by padded length ---- */

typedef struct {
    nr_window w;
    size_t document, padded, order;
} entry;

static int by_length(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->padded != y->padded) return x->padded < y->padded ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static nr_status list_windows(const nr_scorer *s, entry **out, size_t *count, nr_error *err)
{
    size_t n = 0;
    for (size_t d = 0; d < s->documents; d++)
        n += nr_window_count(nr_scorer_document(s, d, NULL), s->context, s->stride);
    NR_TRY(nr_alloc(out, n, sizeof **out, "windows", err));
    *count = n;
    n = 0;
    for (size_t d = 0; d < s->documents; d++) {
        size_t tokens = nr_scorer_document(s, d, NULL), windows = nr_window_count(tokens, s->context, s->stride);
        for (size_t i = 0; i < windows; i++, n++) {
            nr_window w = nr_window_at(tokens, s->context, s->stride, i);
            (*out)[n] = (entry){w, d, nr_window_padded(w.length, s->context), n};
        }
    }
    qsort(*out, n, sizeof **out, by_length);
    return NR_OK;
}

/* ---- batches of one padded length ---- */

typedef struct {
    nr_scorer *s;
    size_t B, T, rows;         /* shape of the latest batch, and B T */
    nr_pass *pass[2];
    nr_observation seen;
    int32_t *ids, *targets;    /* (B, T) */
    size_t *token;             /* (B, T) index of the target in the group */
    double *nll[2], *kl;       /* (B, T) */
    uint8_t *same;
} batch;

static void batch_free(batch *b)
{
    nr_pass_free(b->pass[BACKBONE]);
    nr_pass_free(b->pass[EXTENDED]);
    free(b->seen.ffn_norm);
    free(b->seen.ext_norm);
    free(b->seen.gate);
    free(b->ids);
    free(b->targets);
    free(b->token);
    free(b->nll[BACKBONE]);
    free(b->nll[EXTENDED]);
    free(b->kl);
    free(b->same);
}

static nr_status observe(batch *b, size_t n, nr_error *err)
{
    size_t L = b->s->model->config->L;
    if (!nr_extension_has_blocks(b->s->extension)) return NR_OK;
    NR_TRY(nr_alloc(&b->seen.ffn_norm, L * n, sizeof(double), "norms", err));
    NR_TRY(nr_alloc(&b->seen.ext_norm, L * n, sizeof(double), "norms", err));
    NR_TRY(nr_alloc(&b->seen.gate, L * n, sizeof(double), "gates", err));
    nr_pass_observe(b->pass[EXTENDED], &b->seen);
    return NR_OK;
}

static nr_status batch_new(batch *b, nr_scorer *s, size_t B, size_t T, nr_error *err)
{
    size_t n = B * T;
    nr_pass_options opt = {.B = B, .T = T};
    *b = (batch){.s = s, .T = T};
    NR_TRY(nr_pass_new(&b->pass[BACKBONE], s->model, NULL, 0, &opt, err));
    if (s->extension) {
        NR_TRY(nr_pass_new(&b->pass[EXTENDED], s->model, &s->extension, 1, &opt, err));
        NR_TRY(observe(b, n, err));
        NR_TRY(nr_alloc(&b->nll[EXTENDED], n, sizeof(double), "losses", err));
        NR_TRY(nr_alloc(&b->kl, n, sizeof(double), "divergences", err));
        NR_TRY(nr_alloc(&b->same, n, 1, "choices", err));
    }
    NR_TRY(nr_alloc(&b->ids, n, sizeof *b->ids, "a batch", err));
    NR_TRY(nr_alloc(&b->targets, n, sizeof *b->targets, "a batch", err));
    NR_TRY(nr_alloc(&b->token, n, sizeof *b->token, "a batch", err));
    return nr_alloc(&b->nll[BACKBONE], n, sizeof(double), "losses", err);
}

static void batch_fill(batch *b, const entry *windows, size_t count)
{
    const nr_scorer *s = b->s;
    b->B = count;
    b->rows = count * b->T;
    for (size_t i = 0; i < count; i++) {
        const nr_window *w = &windows[i].w;
        size_t first, d = windows[i].document;
        nr_scorer_document(s, d, &first);
        const int32_t *input = s->ids + first + d + w->begin;
        for (size_t j = 0; j < b->T; j++) {
            size_t row = i * b->T + j;
            bool counts = j < w->length && j + w->scored >= w->length;
            b->ids[row] = j < w->length ? input[j] : s->prefix;
            b->targets[row] = counts ? input[j + 1] : -1;
            b->token[row] = first + w->begin + j;
        }
    }
}

static bool any_target(const batch *b, size_t row, size_t count)
{
    for (size_t i = row; i < row + count; i++)
        if (b->targets[i] >= 0) return true;
    return false;
}

/* Losses of rows [row, row + count), from both models' logits. */
static nr_status rows_score(batch *b, size_t row, size_t count, nr_error *err)
{
    const nr_ops *ops = b->s->model->ops;
    size_t V = b->s->model->config->V;
    const void *logits[2];
    for (int k = BACKBONE; k <= EXTENDED && b->pass[k]; k++) {
        NR_TRY(nr_pass_logits(b->pass[k], &logits[k], row, count, err));
        ops->cross_entropy(b->nll[k] + row, NULL, logits[k], b->targets + row, 1, count, V);
    }
    if (b->pass[EXTENDED]) ops->divergence(b->kl + row, b->same + row, logits[BACKBONE], logits[EXTENDED], count, V);
    return NR_OK;
}

static void keep_losses(const batch *b)
{
    nr_scorer *s = b->s;
    for (size_t i = 0; i < b->rows; i++) {
        if (b->targets[i] < 0) continue;
        size_t t = b->token[i];
        s->nll[BACKBONE][t] = b->nll[BACKBONE][i];
        if (!b->pass[EXTENDED]) continue;
        s->nll[EXTENDED][t] = b->nll[EXTENDED][i];
        s->kl[t] = b->kl[i];
        s->same[t] = b->same[i];
    }
}

static void keep_layers(const batch *b)
{
    nr_scorer *s = b->s;
    if (!b->seen.gate) return;
    for (size_t l = 0; l < s->model->config->L; l++) {
        const double *gate = b->seen.gate + l * b->rows, *ffn = b->seen.ffn_norm + l * b->rows,
                     *ext = b->seen.ext_norm + l * b->rows;
        for (size_t i = 0; i < b->rows; i++) {
            if (b->targets[i] < 0) continue;
            s->layers[l].gate += gate[i];
            s->layers[l].gate_abs += __builtin_fabs(gate[i]);
            s->layers[l].ratio += ffn[i] > 0 ? ext[i] / ffn[i] : 0;
            if (s->gates) nr_thinned_put(s->gates, l, s->gates->seen + b->token[i], (float)gate[i]);
        }
    }
}

static nr_status batch_run(batch *b, const entry *windows, size_t count, nr_error *err)
{
    nr_scorer *s = b->s;
    batch_fill(b, windows, count);
    nr_batch input = {.B = b->B, .T = b->T, .ids = b->ids, .targets = b->targets};
    size_t step = SIZE_MAX, tokens = 0;
    for (int k = BACKBONE; k <= EXTENDED && b->pass[k]; k++) {
        NR_TRY(nr_pass_forward(b->pass[k], &input, err));
        step = NR_MIN(step, nr_pass_head_rows(b->pass[k]));
    }
    for (size_t row = 0; row < b->rows; row += step) {
        size_t n = NR_MIN(step, b->rows - row);
        if (any_target(b, row, n)) NR_TRY(rows_score(b, row, n, err));
    }
    keep_losses(b);
    keep_layers(b);
    for (size_t i = 0; i < count; i++) tokens += windows[i].w.scored;
    s->layer_tokens += tokens;
    if (s->scored) s->scored(s->user, tokens);
    return NR_OK;
}

/* All windows of one padded length. */
static nr_status run_class(nr_scorer *s, const entry *windows, size_t count, nr_error *err)
{
    batch b;
    size_t T = windows[0].padded, most = NR_MAX(s->batch_tokens / T, (size_t)1), B = NR_MIN(most, count);
    nr_status st = batch_new(&b, s, B, T, err);
    for (size_t i = 0; st == NR_OK && i < count; i += B) {
        if (nr_stopped(s->listener))
            st = nr_fail(err, NR_E_INTERRUPTED, "scoring was interrupted");
        else
            st = batch_run(&b, windows + i, NR_MIN(B, count - i), err);
    }
    batch_free(&b);
    return st;
}

static nr_status take_arrays(nr_scorer *s, nr_error *err)
{
    size_t n = nr_scorer_tokens(s), cap[4] = {s->tokens_cap, s->tokens_cap, s->tokens_cap, s->tokens_cap};
    if (!s->layers) NR_TRY(nr_alloc(&s->layers, s->model->config->L, sizeof *s->layers, "layer sums", err));
    NR_TRY(grow(&s->nll[BACKBONE], &cap[0], n, sizeof(double), "losses", err));
    NR_TRY(grow(&s->nll[EXTENDED], &cap[1], n, sizeof(double), "losses", err));
    NR_TRY(grow(&s->kl, &cap[2], n, sizeof(double), "divergences", err));
    NR_TRY(grow(&s->same, &cap[3], n, 1, "choices", err));
    s->tokens_cap = cap[0];
    return NR_OK;
}

nr_status nr_scorer_run(nr_scorer *s, nr_error *err)
{
    entry *windows;
    size_t count;
    nr_status st = NR_OK;
    NR_TRY(take_arrays(s, err));
    NR_TRY(list_windows(s, &windows, &count, err));
    if (s->gates) nr_thinned_reserve(s->gates, nr_scorer_tokens(s));
    for (size_t i = 0, end; st == NR_OK && i < count; i = end) {
        end = i + 1;
        while (end < count && windows[end].padded == windows[i].padded) end++;
        st = run_class(s, windows + i, end - i, err);
    }
    if (s->gates) s->gates->seen += nr_scorer_tokens(s);
    free(windows);
    return st;
}
