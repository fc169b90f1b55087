/*
 * backward.c - the walk down the layers: each step stands in reverse order of
 * its forward line, which the comment above it repeats.
 *
 * dx (real) is the gradient of the residual stream and accumulates; scratch
 * overwrites. Frozen matrices only pass gradients through. Below the lowest
 * trained depth nothing runs at all, and in that layer nothing below the
 * lowest hook.
 */
#include <string.h>

#include "model/pass.h"

/* Where the walk down stands. */
typedef struct {
    nr_pass *p;
    size_t d, number, n;
    bool own;
    const nr_layer *layer;
    nr_saved *s;
    const nr_saved *above; /* of the layer that was before, or NULL */
    const nr_batch *b;
} place;

static bool has_site(const place *at, size_t ext, nr_site s)
{
    const nr_extension *e = at->p->ext[ext];
    return e->method->site && nr_pass_extends(at->p, ext, at->number, at->own) && e->method->has_site(e, s);
}

/* Whether anything beside or in matrix s is trained, so that its input is wanted. */
static bool wants_input(const place *at, nr_site s)
{
    if (at->layer->d_site[s]) return true;
    for (size_t i = 0; i < at->p->ext_count; i++)
        if (has_site(at, i, s)) return true;
    return false;
}

/* dx [+]= W^T dy, and what stands beside W; weight gradients where trained.
 * x may be NULL when wants_input says no. */
static nr_status site_back(place *at, nr_site s, void *dx, nr_slot slot, const void *dy, const void *x, bool accumulate, nr_error *err)
{
    const nr_ops *ops = at->p->ops;
    nr_linear *w = at->layer->site[s];
    if (at->layer->d_site[s])
        NR_TRY(ops->linear_back_weight(w, at->layer->d_site[s], at->layer->d_bias[s], dy, x, at->n, err));
    NR_TRY(ops->linear_back_input(w, dx, slot, dy, at->n, accumulate, err));
    for (size_t i = 0; i < at->p->ext_count; i++) {
        if (!has_site(at, i, s)) continue;
        nr_hook h = nr_pass_hook(at->p, i, at->d, at->number, at->b);
        NR_TRY(at->p->ext[i]->method->site_back(&h, s, dx, slot, dy, x, err));
    }
    return NR_OK;
}

static nr_status blocks_beside_back(place *at, nr_place where, void *dxn, const void *xn, nr_error *err)
{
    nr_pass *p = at->p;
    for (size_t i = p->ext_count; i-- > 0;) {
        if (!nr_pass_has_block(p, i, at->number, at->own, where)) continue;
        nr_hook h = nr_pass_hook(p, i, at->d, at->number, at->b);
        h.place = where;
        NR_TRY(p->ext[i]->method->block_back(&h, dxn, p->s.dx, xn, err));
    }
    return NR_OK;
}

/* p->s.dy, the gradient of the residual, becomes that of the half's output by way of the blocks after the half. They add to
 * dxn, which *begun says: the half's own matrices then add too. */
static nr_status blocks_after_back(place *at, nr_place where, void *dxn, const void *xn, bool *begun, nr_error *err)
{
    nr_pass *p = at->p;
    size_t elements = at->n * p->config->C;
    *begun = nr_pass_any_block(p, at->number, at->own, where);
    if (!*begun) return NR_OK;
    nr_zero(dxn, elements * p->ops->real_size);
    nr_copy(p->s.half, p->s.dx, elements * p->ops->real_size);
    for (size_t i = p->ext_count; i-- > 0;) {
        if (!nr_pass_has_block(p, i, at->number, at->own, where)) continue;
        nr_hook h = nr_pass_hook(p, i, at->d, at->number, at->b);
        h.place = where;
        NR_TRY(p->ext[i]->method->after_back(&h, dxn, p->s.half, xn, err));
    }
    p->ops->to_act(p->s.dy, p->s.half, elements);
    return NR_OK;
}

/* The input of the attention half, as act. One that was kept as real, to run the layer again, is rounded too: running
 * again changes no bit. */
static const void *residual(nr_pass *p, const void *kept, size_t n)
{
    if (!p->opt.recompute) return kept;
    p->ops->to_act(p->x, kept, n * p->config->C);
    return p->x;
}

/* Where a half's input comes again: `kept` of the layer above, which is done with, where that is a place of its own. All
 * threads read it for the weights' gradients, and to write where others have read is slow (docs/OPTIMIZATION.md); there nothing
 * is written before the next forward pass. */
static void *input_again(const place *at, void *kept)
{
    return at->p->opt.recompute || !kept ? at->p->s.xn : kept;
}

static nr_status feed_forward_back(place *at, bool last, nr_error *err)
{
    nr_pass *p = at->p;
    nr_saved *s = at->s;
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    size_t n = at->n;
    bool begun;
    void *dxn = p->s.block_out, *xn = input_again(at, at->above ? at->above->x_mid : NULL);
    /* xn = norm2(x_mid): needed again by what is trained on it */
    ops->rmsnorm(xn, NULL, s->rstd2, s->x_mid, NR_ACT, at->layer->norm2, n, c->C, c->norm_eps);
    /* x = x_mid + after(down(h)) */
    NR_TRY(blocks_after_back(at, NR_AFTER_FFN, dxn, xn, &begun, err));
    if (last) return blocks_beside_back(at, NR_BESIDE_FFN, NULL, xn, err); /* only the blocks' own weights want gradients */
    if (wants_input(at, NR_DOWN)) ops->glu(p->s.h, s->gate, s->up, c->act, n, c->F);
    NR_TRY(site_back(at, NR_DOWN, p->s.dh, NR_ACT, p->s.dy, p->s.h, false, err));
    /* h = act(gate) up: their gradients lie where dh and up did */
    ops->glu_back(p->s.dh, s->up, NULL, p->s.dh, s->gate, s->up, c->act, n, c->F);
    /* gate, up = W xn */
    NR_TRY(site_back(at, NR_UP, dxn, NR_REAL, s->up, xn, begun, err));
    NR_TRY(site_back(at, NR_GATE, dxn, NR_REAL, p->s.dh, xn, true, err));
    /* x += blocks(xn) */
    NR_TRY(blocks_beside_back(at, NR_BESIDE_FFN, dxn, xn, err));
    /* xn = norm2(x_mid) */
    ops->rmsnorm_back(p->s.dx, p->s.dy, at->layer->d_norm2, dxn, s->x_mid, NR_ACT, at->layer->norm2, s->rstd2, n, c->C, p->s.norm_blocks);
    return NR_OK;
}

/* dk, dv of the tokens and the gradient of the layer's prefix, out of those of the joined keys and values. */
static void split_prefix(place *at)
{
    nr_pass *p = at->p;
    const nr_ops *ops = p->ops;
    nr_hook h = nr_pass_hook(p, nr_pass_prefixer(p), at->d, at->number, at->b);
    size_t row = p->config->K * p->config->D, T = at->b->T, rows = p->prefix + T;
    const void *unused[2];
    void *grad[2], *from[2] = {p->s.dkeys, p->s.dvalues}, *to[2] = {p->s.dk, p->s.dv};
    h.e->method->prefix_of(&h, &unused[0], &unused[1], &grad[0], &grad[1]);
    for (int i = 0; i < 2; i++)
        for (size_t b = 0; b < at->b->B; b++) {
            memcpy(nr_at(p, to[i], NR_ACT, b * T * row), nr_at(p, from[i], NR_ACT, (b * rows + p->prefix) * row), T * row * ops->act_size);
            if (!grad[i]) continue;
            ops->to_real(p->s.prefix, nr_at(p, from[i], NR_ACT, b * rows * row), p->prefix * row);
            ops->add(grad[i], p->s.prefix, 1, p->prefix * row);
        }
}

/* dq, dk and dv of the tokens' q, k and v. */
static void heads_back(place *at)
{
    nr_pass *p = at->p;
    const nr_saved *s = at->s;
    nr_attention a = nr_pass_attention(p, at->b);
    bool prefix = nr_pass_has_prefix(p, at->number, at->own);
    const void *k = s->k, *v = s->v;
    nr_pass_join_prefix(p, at->d, at->number, at->own, at->b, &a, &k, &v);
    p->ops->attention_back(p->s.dq, prefix ? p->s.dkeys : p->s.dk, prefix ? p->s.dvalues : p->s.dv, p->s.dattended, s->attended, s->q,
                           k, v, s->lse, &a, p->s.attention);
    if (prefix) split_prefix(at);
}

static nr_status attention_back(place *at, nr_error *err)
{
    nr_pass *p = at->p;
    nr_saved *s = at->s;
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    size_t n = at->n;
    bool begun, beside = nr_pass_any_block(p, at->number, at->own, NR_BESIDE_ATTENTION);
    void *dxn = p->s.block_out, *xn = input_again(at, at->above ? at->above->x_in : NULL);
    const void *x_in = residual(p, s->x_in, n);
    /* xn = norm1(x_in), where something reads it that is trained */
    if (wants_input(at, NR_Q) || wants_input(at, NR_K) || wants_input(at, NR_V) || beside ||
        nr_pass_any_block(p, at->number, at->own, NR_AFTER_ATTENTION))
        ops->rmsnorm(xn, NULL, s->rstd1, x_in, NR_ACT, at->layer->norm1, n, c->C, c->norm_eps);
    /* x_mid = x_in + after(o(attended)) */
    NR_TRY(blocks_after_back(at, NR_AFTER_ATTENTION, dxn, xn, &begun, err));
    nr_crew_ahead(&s->heads); /* was written long ago */
    NR_TRY(site_back(at, NR_O, p->s.dattended, NR_ACT, p->s.dy, s->attended, false, err));
    nr_crew_ahead(NULL);
    heads_back(at);
    ops->rotary(p->s.dq, p->s.dk, p->rope, p->pos, n, c->H, c->K, c->D, true);
    /* q, k, v = W norm1(x_in) */
    NR_TRY(site_back(at, NR_V, dxn, NR_REAL, p->s.dv, xn, begun, err));
    NR_TRY(site_back(at, NR_K, dxn, NR_REAL, p->s.dk, xn, true, err));
    NR_TRY(site_back(at, NR_Q, dxn, NR_REAL, p->s.dq, xn, true, err));
    /* x_mid += blocks(xn) */
    if (beside) NR_TRY(blocks_beside_back(at, NR_BESIDE_ATTENTION, dxn, xn, err));
    ops->rmsnorm_back(p->s.dx, p->s.dy, at->layer->d_norm1, dxn, x_in, NR_ACT, at->layer->norm1, s->rstd1, n, c->C, p->s.norm_blocks);
    return NR_OK;
}

/* In the lowest trained layer the walk may end at the FFN's input: nothing
 * below wants a gradient when only blocks are trained there. */
static bool ends_at_blocks(const place *at)
{
    if (at->d != at->p->lowest || at->own || at->layer->d_norm1 || at->layer->d_norm2 || nr_pass_ends(at->p).d_embedding)
        return false;
    for (nr_site s = 0; s < NR_SITES; s++)
        if (wants_input(at, s)) return false;
    return !nr_pass_has_prefix(at->p, at->number, at->own) && !nr_pass_any_block(at->p, at->number, at->own, NR_BESIDE_ATTENTION) &&
           !nr_pass_any_block(at->p, at->number, at->own, NR_AFTER_ATTENTION);
}

void nr_pass_on_depth(nr_pass *p, void (*done)(void *context, size_t depth), void *context)
{
    p->depth_done = done;
    p->depth_context = context;
}

nr_status nr_pass_backward(nr_pass *p, const nr_batch *b, nr_error *err)
{
    void *d_embedding = nr_pass_ends(p).d_embedding;
    for (size_t d = p->depth; d-- > p->lowest;) {
        place at = {.p = p, .d = d, .n = b->B * b->T, .s = &p->saved[d], .above = d + 1 < p->depth ? &p->saved[d + 1] : NULL, .b = b};
        at.layer = nr_pass_layer(p, d, &at.number, &at.own);
        if (p->opt.recompute) NR_TRY(nr_pass_run_layer(p, d, b, true, err));
        bool last = ends_at_blocks(&at);
        NR_TRY(feed_forward_back(&at, last, err));
        if (!last) NR_TRY(attention_back(&at, err));
        if (d == 0 && d_embedding) p->ops->embed_back(d_embedding, p->s.dx, b->ids, at.n, p->config->C);
        if (p->depth_done) p->depth_done(p->depth_context, d);
    }
    return NR_OK;
}
