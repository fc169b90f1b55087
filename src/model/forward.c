/*
 * forward.c - the walk up the layers.
 *
 *   x_mid = x_in + o(attention(rotary(q, k), v))      q k v of norm1(x_in)
 *   x_out = x_mid + down(act(gate) up) + extensions   gate up of norm2(x_mid)
 *
 * The walk calls hooks and knows no method by name.
 */
#include <string.h>

#include "model/pass.h"

void *nr_at(const nr_pass *p, void *base, nr_slot slot, size_t element)
{
    return (char *)base + element * (slot == NR_REAL ? p->ops->real_size : p->ops->act_size);
}

nr_attention nr_pass_attention(const nr_pass *p, const nr_batch *b)
{
    const nr_config *c = p->config;
    return (nr_attention){.B = b->B, .Tq = b->T, .H = c->H, .K = c->K, .D = c->D, .k_stride = c->K * c->D,
                          .k_batch = b->T * c->K * c->D, .scale = (float)(1 / __builtin_sqrt((double)c->D)), .first = b->first};
}

typedef struct {
    char *dst;
    const char *src;
    size_t bytes;
} copy_job;

enum { COPY_PIECE = 1 << 18 };

static void copy_piece(void *context, size_t i)
{
    const copy_job *job = context;
    size_t begin = i * COPY_PIECE;
    memcpy(job->dst + begin, job->src + begin, NR_MIN((size_t)COPY_PIECE, job->bytes - begin));
}

void nr_copy(void *dst, const void *src, size_t bytes)
{
    copy_job job = {dst, src, bytes};
    nr_parallel((bytes + COPY_PIECE - 1) / COPY_PIECE, copy_piece, &job);
}

nr_hook nr_pass_hook(nr_pass *p, size_t ext, size_t depth, size_t number, const nr_batch *b)
{
    return (nr_hook){.e = p->ext[ext], .ops = p->ops, .config = p->config, .depth = depth, .layer = number,
                     .n = b->B * b->T, .batch = b, .train = p->opt.train, .saved = p->saved[depth].ext[ext],
                     .scratch = p->s.ext[ext], .row_is_new = p->row_is_new};
}

/* y = W x, and what extensions add beside W. */
static nr_status site(nr_pass *p, size_t d, nr_site s, void *y, nr_slot slot, const void *x, bool accumulate,
                      const nr_batch *b, nr_error *err)
{
    size_t number;
    bool own;
    const nr_layer *layer = nr_pass_layer(p, d, &number, &own);
    NR_TRY(p->ops->linear(layer->site[s], y, slot, x, b->B * b->T, accumulate, err));
    for (size_t i = 0; i < p->ext_count; i++) {
        const nr_method *m = p->ext[i]->method;
        if (!m->site || !nr_pass_extends(p, i, number, own) || !m->has_site(p->ext[i], s)) continue;
        nr_hook h = nr_pass_hook(p, i, d, number, b);
        NR_TRY(m->site(&h, s, y, slot, x, err));
    }
    return NR_OK;
}

/* Copies the new keys and values behind those already in the cache. */
static void append_cache(nr_pass *p, size_t d, const nr_saved *s, const nr_batch *b)
{
    size_t row = p->config->K * p->config->D * p->ops->act_size, context = p->opt.cache_context;
    for (size_t i = 0; i < b->B; i++) {
        size_t to = (i * context + b->start) * row, from = i * b->T * row;
        memcpy((char *)p->cache_k[d] + to, (char *)s->k + from, b->T * row);
        memcpy((char *)p->cache_v[d] + to, (char *)s->v + from, b->T * row);
    }
}

static nr_status attention(nr_pass *p, size_t d, const nr_layer *layer, nr_saved *s, const nr_batch *b, nr_error *err)
{
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    size_t n = b->B * b->T;
    ops->rmsnorm(p->s.xn, s->rstd1, s->x_in, layer->norm1, n, c->C, c->norm_eps);
    NR_TRY(site(p, d, NR_Q, s->q, NR_ACT, p->s.xn, false, b, err));
    NR_TRY(site(p, d, NR_K, s->k, NR_ACT, p->s.xn, false, b, err));
    NR_TRY(site(p, d, NR_V, s->v, NR_ACT, p->s.xn, false, b, err));
    ops->rotary(s->q, p->rope, p->pos, n, c->H, c->D, false);
    ops->rotary(s->k, p->rope, p->pos, n, c->K, c->D, false);
    nr_attention a = nr_pass_attention(p, b);
    const void *k = s->k, *v = s->v;
    if (p->opt.cache_context) {
        append_cache(p, d, s, b);
        k = p->cache_k[d];
        v = p->cache_v[d];
        a.start = b->start;
        a.k_batch = p->opt.cache_context * c->K * c->D;
    }
    ops->attention(s->attended, s->lse, s->q, k, v, &a, p->s.attention);
    nr_copy(s->x_mid, s->x_in, n * c->C * ops->real_size);
    return site(p, d, NR_O, s->x_mid, NR_REAL, s->attended, true, b, err);
}

/* x += what the block hooks add beside the FFN. An observed output goes
 * through a buffer of its own: x + (0 + g a) is x + g a, bit for bit. */
static nr_status blocks(nr_pass *p, size_t d, size_t number, bool own, void *x, const nr_batch *b, bool again, nr_error *err)
{
    size_t n = b->B * b->T, C = p->config->C;
    nr_observation *o = again || own ? NULL : p->observation;
    void *to = x;
    if (o) {
        to = p->s.block_out;
        memset(to, 0, n * C * p->ops->real_size);
    }
    for (size_t i = 0; i < p->ext_count; i++) {
        const nr_method *m = p->ext[i]->method;
        if (!m->block || !nr_pass_extends(p, i, number, own)) continue;
        nr_hook h = nr_pass_hook(p, i, d, number, b);
        h.losses = p->opt.train && !again && p->ext[i]->grads ? &p->local : NULL;
        h.gate = o ? o->gate + number * n : NULL;
        NR_TRY(m->block(&h, to, p->s.xn, err));
    }
    if (o) {
        p->ops->row_norm(o->ext_norm + number * n, to, n, C);
        p->ops->add(x, to, 1, n * C);
    }
    return NR_OK;
}

static nr_status feed_forward(nr_pass *p, size_t d, const nr_layer *layer, size_t number, bool own, nr_saved *s, void *x,
                              const nr_batch *b, bool again, nr_error *err)
{
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    size_t n = b->B * b->T;
    ops->rmsnorm(p->s.xn, s->rstd2, s->x_mid, layer->norm2, n, c->C, c->norm_eps);
    NR_TRY(site(p, d, NR_GATE, s->gate, NR_ACT, p->s.xn, false, b, err));
    NR_TRY(site(p, d, NR_UP, s->up, NR_ACT, p->s.xn, false, b, err));
    ops->glu(p->s.h, s->gate, s->up, c->act, n, c->F);
    if (p->observation && !again && !own) { /* |FFN(x)| needs the sum apart from the residual */
        NR_TRY(site(p, d, NR_DOWN, p->s.block_out, NR_REAL, p->s.h, false, b, err));
        ops->row_norm(p->observation->ffn_norm + number * n, p->s.block_out, n, c->C);
    }
    nr_copy(x, s->x_mid, n * c->C * ops->real_size);
    NR_TRY(site(p, d, NR_DOWN, x, NR_REAL, p->s.h, true, b, err));
    return blocks(p, d, number, own, x, b, again, err);
}

nr_status nr_pass_run_layer(nr_pass *p, size_t d, void *x, const nr_batch *b, bool again, nr_error *err)
{
    size_t number;
    bool own;
    const nr_layer *layer = nr_pass_layer(p, d, &number, &own);
    nr_saved *s = &p->saved[d];
    if (own && (p->bare || !p->walker->on)) { /* a copy that is switched off passes its input on */
        if (x != s->x_in) nr_copy(x, s->x_in, b->B * b->T * p->config->C * p->ops->real_size);
        return NR_OK;
    }
    NR_TRY(attention(p, d, layer, s, b, err));
    return feed_forward(p, d, layer, number, own, s, x, b, again, err);
}

static nr_status check_batch(const nr_pass *p, const nr_batch *b, nr_error *err)
{
    if (b->B * b->T > p->opt.B * p->opt.T || b->B > p->opt.B)
        return nr_fail(err, NR_E_USAGE, "batch: expected at most %zu x %zu tokens, found %zu x %zu", p->opt.B, p->opt.T, b->B, b->T);
    if (b->start + b->T > p->positions)
        return nr_fail(err, NR_E_USAGE, "context: expected at most %zu positions, found %zu", p->positions, b->start + b->T);
    for (size_t i = 0; i < b->B * b->T; i++)
        if (b->ids[i] < 0 || (size_t)b->ids[i] >= p->config->V)
            return nr_fail(err, NR_E_FORMAT, "token id: expected 0 to %zu, found %d", p->config->V - 1, b->ids[i]);
    return NR_OK;
}

nr_status nr_pass_forward(nr_pass *p, const nr_batch *b, nr_error *err)
{
    const nr_config *c = p->config;
    size_t n = b->B * b->T;
    NR_TRY(check_batch(p, b, err));
    p->rows = n;
    memset(&p->local, 0, sizeof p->local);
    for (size_t i = 0; i < n; i++) {
        p->pos[i] = (int32_t)(b->start + i % b->T);
        p->row_is_new[i] = b->is_new ? b->is_new[i / b->T] : 1;
    }
    if (p->observation) {
        p->observation->n = n;
        for (size_t i = 0; i < c->L * n; i++) p->observation->gate[i] = __builtin_nan("");
    }
    nr_ends ends = nr_pass_ends(p);
    p->ops->embed(p->saved[0].x_in, ends.embedding, b->ids, n, c->C);
    for (size_t d = 0; d < p->depth; d++) {
        void *x = d + 1 < p->depth ? p->saved[d + 1].x_in : p->x_out;
        /* x_in of a depth that keeps nothing is the next one's too: the layer writes x only after its last read of x_in */
        NR_TRY(nr_pass_run_layer(p, d, x, b, false, err));
    }
    p->ops->rmsnorm(p->s.final_xn, p->s.final_rstd, p->x_out, ends.final_norm, n, c->C, c->norm_eps);
    return NR_OK;
}

/* Marks the rows that are distilled; returns how many. */
static size_t mark_distilled(nr_pass *p, const nr_batch *b)
{
    nr_distil_rows rows = p->opt.distil.rows;
    size_t count = 0;
    for (size_t i = 0; i < b->B * b->T; i++) {
        bool is_new = b->is_new ? b->is_new[i / b->T] : true;
        p->distilled[i] = rows == NR_DISTIL_ALL || is_new == (rows == NR_DISTIL_NEW);
        count += p->distilled[i];
    }
    return count;
}

nr_status nr_pass_teach(nr_pass *p, const nr_batch *b, nr_error *err)
{
    p->teaches = false;
    NR_TRY(check_batch(p, b, err));
    if (!p->taught) return nr_fail(err, NR_E_USAGE, "distillation: expected a pass with memory for it, found none");
    if (mark_distilled(p, b) == 0) return NR_OK;
    p->bare = true;
    nr_status st = nr_pass_forward(p, b, err);
    p->bare = false;
    if (st != NR_OK) return st;
    nr_copy(p->taught, p->s.final_xn, p->rows * p->config->C * p->ops->act_size);
    p->teaches = true;
    return NR_OK;
}
