/*
 * session.c - nr_session: tokens in, logits out, over a KV cache.
 *
 * A prompt runs in pieces of PREFILL tokens, then token by token through the
 * same pass. Everything is taken when the session is made; a step of one token
 * allocates nothing. Logits that aren't finite are an error of the evaluation,
 * so that no token is ever drawn from them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "infer/infer.h"

#define PREFILL 512
#define DEFAULT_CONTEXT 2048

struct nr_session {
    const nr_model *model;
    nr_pass *pass;
    size_t context, position;
    int32_t *ids;    /* (context) the timeline */
    const float *logits; /* (V) of the last token; NULL: none, as after a rewind */
    float *converted;    /* (V) where the pass has them in double */
    double *p;       /* (V) */
    int32_t *order;  /* (V) */
};

/* One row at a time is what a step asks of every matrix. */
static nr_status prepare_step(const nr_model *m, const nr_extension *e, nr_error *err)
{
    const nr_ops *ops = m->ops;
    for (size_t l = 0; l < m->config->L; l++)
        for (nr_site s = 0; s < NR_SITES; s++) NR_TRY(ops->linear_prepare(m->layers[l].site[s], 1, false, err));
    for (size_t l = 0; e && l < e->own_count; l++)
        for (nr_site s = 0; s < NR_SITES; s++) NR_TRY(ops->linear_prepare(e->own[l].site[s], 1, false, err));
    for (size_t i = 0; e && i < e->param_count; i++)
        if (e->params[i].linear) NR_TRY(ops->linear_prepare(e->params[i].linear, 1, false, err));
    return NR_OK;
}

static nr_status set_up(nr_session *s, nr_extension *e, size_t context, nr_error *err)
{
    const nr_model *m = s->model;
    size_t V = m->config->V;
    s->context = context ? context : NR_MIN(m->config->max_context, (size_t)DEFAULT_CONTEXT);
    nr_pass_options opt = {.B = 1, .T = NR_MIN(s->context, (size_t)PREFILL), .cache_context = s->context, .head_rows = 1};
    nr_extension *all[NR_STACK_MAX];
    size_t count = nr_extension_stack(e, all);
    NR_TRY(nr_pass_new(&s->pass, m, all, count, &opt, err));
    NR_TRY(prepare_step(m, NULL, err));
    for (size_t i = 0; i < count; i++) NR_TRY(prepare_step(m, all[i], err));
    NR_TRY(nr_alloc(&s->ids, s->context, sizeof *s->ids, "timeline", err));
    NR_TRY(nr_alloc(&s->converted, m->ops->real == NR_F32 ? 1 : V, sizeof *s->converted, "logits", err));
    NR_TRY(nr_alloc(&s->p, V, sizeof *s->p, "probabilities", err));
    return nr_alloc(&s->order, V, sizeof *s->order, "candidates", err);
}

nr_status nr_session_new(nr_session **out, const nr_model *m, nr_extension *e, size_t context, nr_error *err)
{
    nr_session *s;
    *out = NULL;
    NR_TRY(nr_alloc(&s, 1, sizeof *s, "session", err));
    s->model = m;
    nr_status st = set_up(s, e, context, err);
    if (st == NR_OK)
        *out = s;
    else
        nr_session_close(s);
    return st;
}

void nr_session_close(nr_session *s)
{
    if (!s) return;
    nr_pass_free(s->pass);
    free(s->ids);
    free(s->converted);
    free(s->p);
    free(s->order);
    free(s);
}

static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static nr_status read_logits(nr_session *s, size_t row, nr_error *err)
{
    const nr_ops *ops = s->model->ops;
    const void *logits;
    size_t V = s->model->config->V;
    NR_TRY(nr_pass_logits(s->pass, &logits, row, 1, err));
    for (size_t i = 0; ops->real != NR_F32 && i < V; i++) s->converted[i] = (float)nr_real_get(ops, logits, i);
    const float *x = ops->real == NR_F32 ? logits : s->converted;
    if (!all_finite(x, V)) {
        size_t i = 0;
        while (isfinite(x[i])) i++;
        return nr_fail(err, NR_E_NOT_FINITE, "logits after token %zu: expected finite numbers, found %g for id %zu",
                       s->position, (double)x[i], i);
    }
    s->logits = x;
    return NR_OK;
}

typedef struct {
    nr_session *s;
    const int32_t *ids;
    size_t n;
    bool last; /* its logits are wanted */
} piece;

static nr_status run_piece(void *context, nr_error *err)
{
    const piece *p = context;
    nr_session *s = p->s;
    nr_batch b = {.B = 1, .T = p->n, .ids = p->ids, .start = s->position};
    s->logits = NULL;
    NR_TRY(nr_pass_forward(s->pass, &b, err));
    memcpy(s->ids + s->position, p->ids, p->n * sizeof *p->ids);
    s->position += p->n;
    return p->last ? read_logits(s, p->n - 1, err) : NR_OK;
}

nr_status nr_session_eval(nr_session *s, const int32_t *ids, size_t n, nr_error *err)
{
    if (n > s->context - s->position)
        return nr_fail(err, NR_E_USAGE, "context: %zu tokens are full: expected at most %zu more, found %zu", s->context,
                       s->context - s->position, n);
    for (size_t done = 0, count; done < n; done += count) {
        count = NR_MIN(n - done, (size_t)PREFILL);
        piece p = {.s = s, .ids = ids + done, .n = count, .last = done + count == n};
        NR_TRY(nr_crew(run_piece, &p, err)); /* a token is hundreds of short calls */
    }
    return NR_OK;
}

const float *nr_session_logits(const nr_session *s) { return s->logits; }

int32_t nr_session_sample(nr_session *s, const nr_sampling *how)
{
    size_t V = s->model->config->V, window = how->repetition_window;
    if (!s->logits) return -1;
    bool penalised = how->repetition_penalty > 0 && how->repetition_penalty != 1;
    if (how->temperature <= 0 && !penalised) return nr_sampling_best(s->logits, V);
    size_t seen = window == 0 || window > s->position ? s->position : window;
    nr_sampling_distribution(s->p, s->order, s->logits, V, s->ids + s->position - seen, seen, how);
    return nr_sampling_draw(s->p, V, nr_rng_uniform(how->seed, NR_RNG_SAMPLE, s->position));
}

size_t nr_session_position(const nr_session *s) { return s->position; }

void nr_session_rewind(nr_session *s, size_t n)
{
    if (n >= s->position) return;
    s->position = n; /* what lies behind it in the cache is written over before it is read */
    s->logits = NULL;
}
