/*
 * layout.c - the memory of a pass: walked once dry to add it up, once more to
 * hand it out. nr_pass_plan_for is the dry walk alone.
 */
#include <stdlib.h>
#include <string.h>

#include "model/pass.h"

static size_t slot_size(const nr_ops *ops, nr_slot slot)
{
    return slot == NR_REAL ? ops->real_size : ops->act_size;
}

static void *take(nr_pass *p, nr_slot slot, size_t elements)
{
    return nr_arena_take(&p->arena, elements, slot_size(p->ops, slot));
}

static void take_ext(nr_pass *p, void ***lists, size_t n, bool saved)
{
    for (size_t i = 0; i < p->ext_count; i++) {
        const nr_method *m = p->ext[i]->method;
        for (size_t a = 0; a < m->activation_count; a++) {
            const nr_activation *act = &m->activations[a];
            if (act->saved != saved || act->cached) continue;
            size_t count = act->bytes ? act->bytes(p->ext[i], &p->opt) : act->size(p->ext[i], p->config, n);
            void *at = act->bytes ? nr_arena_take(&p->arena, count, 1) : act->wide ? nr_arena_take(&p->arena, count, sizeof(double)) : take(p, act->slot, count);
            if (lists) lists[i][a] = at;
        }
    }
}

/* What extensions keep beside the KV cache of a depth. */
static void take_ext_cache(nr_pass *p, void ***lists)
{
    size_t n = p->opt.B * p->opt.cache_context;
    for (size_t i = 0; i < p->ext_count; i++)
        for (size_t a = 0; a < p->ext[i]->method->activation_count; a++) {
            const nr_activation *act = &p->ext[i]->method->activations[a];
            if (!act->cached) continue;
            void *at = take(p, act->slot, act->size(p->ext[i], p->config, n));
            if (lists) lists[i][a] = at;
        }
}

static void take_saved(nr_pass *p, nr_saved *s, size_t n)
{
    const nr_config *c = p->config;
#define NR_X(name, slot, size) s->name = take(p, slot, size);
    NR_SAVED_LIST(NR_X)
#undef NR_X
    size_t q = n * c->H * c->D * p->ops->act_size, k = n * c->K * c->D * p->ops->act_size;
    s->heads = (nr_read_ahead){{s->attended, s->q, s->k, s->v}, {q, q, k, k}, true};
    take_ext(p, s->ext, n, true);
}

/* Depths below the lowest trained one keep nothing, so they share the slot of
 * a recomputed layer; a pass that doesn't train has that one slot only. */
static void lay_out_saved(nr_pass *p, size_t n)
{
    const nr_config *c = p->config;
    nr_saved shared = {0}, *first_shared = NULL;
    for (size_t d = 0; d < p->depth; d++) {
        nr_saved *s = &p->saved[d];
        bool keeps = p->opt.train && d >= p->lowest;
        s->x_in = keeps ? take(p, p->opt.recompute ? NR_REAL : NR_ACT, n * c->C) : NULL;
        if (keeps && !p->opt.recompute) {
            take_saved(p, s, n);
        } else if (!first_shared) {
            take_saved(p, s, n);
            first_shared = s;
            shared = *s;
        } else {
            void *x_in = s->x_in;
            void ***ext = s->ext;
            *s = shared;
            s->x_in = x_in;
            s->ext = ext;
            for (size_t i = 0; ext && i < p->ext_count; i++)
                memcpy(ext[i], first_shared->ext[i], p->ext[i]->method->activation_count * sizeof(void *));
        }
    }
    p->x = take(p, NR_REAL, n * c->C);
}

static size_t attention_scratch(const nr_pass *p)
{
    const nr_config *c = p->config;
    nr_attention a = {.B = p->opt.B, .Tq = p->opt.T, .H = c->H, .K = c->K, .D = c->D, .k_stride = c->K * c->D, .k_head = c->D,
                      .k_batch = p->opt.T * c->K * c->D, .scale = 1};
    a.start = p->prefix;
    if (p->opt.cache_context) {
        a.Tq = NR_MIN(p->opt.T, p->opt.cache_context); /* of one stretch, where there are several */
        a.start += p->opt.cache_context - a.Tq;
    }
    a.k_batch = (a.start + a.Tq) * c->K * c->D;
    size_t forward = p->ops->attention_scratch(&a, false);
    size_t backward = p->opt.train ? p->ops->attention_scratch(&a, true) : 0;
    return NR_MAX(forward, backward);
}

/* The place that the FFN, attention and the head share: as large as the largest needs. */
static void lay_out_shared(nr_pass *p, size_t n)
{
    const nr_config *c = p->config;
    size_t begin = p->arena.used, end;
#define NR_X(name, slot, size, always) p->s.name = (always) || p->opt.train ? take(p, slot, size) : NULL;
    NR_FFN_LIST(NR_X)
    end = p->arena.used;
    p->arena.used = begin;
    NR_ATTENTION_LIST(NR_X)
    p->s.attention = nr_arena_take(&p->arena, attention_scratch(p), 1);
    end = NR_MAX(end, p->arena.used);
    p->arena.used = begin;
    NR_HEAD_LIST(NR_X)
#undef NR_X
    p->arena.used = NR_MAX(end, p->arena.used);
}

static void lay_out(nr_pass *p)
{
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    size_t n = p->opt.B * p->opt.T;
    lay_out_saved(p, n);
    p->plan[0] = p->arena.used;
#define NR_X(name, slot, size, always) p->s.name = (always) || p->opt.train ? take(p, slot, size) : NULL;
    NR_SCRATCH_LIST(NR_X)
#undef NR_X
    take_ext(p, p->s.ext, n, false);
    p->rope = take(p, NR_REAL, (p->prefix + p->positions) * c->D);
    p->pos = nr_arena_take(&p->arena, n, sizeof *p->pos);
    p->row_is_new = nr_arena_take(&p->arena, n, 1);
    p->nll = nr_arena_take(&p->arena, n, sizeof *p->nll);
    if (p->opt.distil.weight > 0) {
        p->distilled = nr_arena_take(&p->arena, n, 1);
        p->kl = nr_arena_take(&p->arena, n, sizeof *p->kl);
    }
    p->plan[1] = p->arena.used - p->plan[0];
    lay_out_shared(p, n);
    p->plan[2] = p->arena.used - p->plan[0] - p->plan[1];
    for (size_t d = 0; d < p->depth; d++) {
        size_t cells = p->opt.cache_context ? p->opt.B * (p->prefix + p->opt.cache_context) * c->K * c->D : 0;
        void *k = nr_arena_take(&p->arena, cells, ops->act_size), *v = nr_arena_take(&p->arena, cells, ops->act_size);
        if (p->cache_k) p->cache_k[d] = k, p->cache_v[d] = v;
        take_ext_cache(p, p->saved[d].ext);
    }
    p->plan[3] = p->arena.used - p->plan[0] - p->plan[1] - p->plan[2];
}

/* ---- what is trained where ---- */

bool nr_pass_extends(const nr_pass *p, size_t ext, size_t number, bool own)
{
    return !own && !p->bare && p->ext[ext]->on && p->ext[ext]->layer_on[number];
}

static bool has_hooks(const nr_method *m)
{
    return m->block || m->after || m->site || m->prefix;
}

static size_t lowest_trained(const nr_pass *p)
{
    for (size_t d = 0; d < p->depth; d++) {
        size_t number = d;
        bool own = p->walker && !p->walker->method->layer_at(p->walker, d, &number);
        if (own) return d;
        for (size_t i = 0; i < p->ext_count; i++)
            if ((has_hooks(p->ext[i]->method) && p->ext[i]->layer_on[number]) ||
                (p->ext[i]->replaces && number >= p->ext[i]->lowest))
                return d;
    }
    return p->depth;
}

static bool replaced(const nr_pass *p)
{
    return p->replacer && p->replacer->on && !p->bare;
}

const nr_layer *nr_pass_layer(const nr_pass *p, size_t depth, size_t *number, bool *own)
{
    *number = depth;
    *own = p->walker && !p->walker->method->layer_at(p->walker, depth, number);
    if (*own) return &p->walker->own[*number];
    return replaced(p) ? &p->replacer->in_place[*number] : &p->model->layers[*number];
}

nr_ends nr_pass_ends(const nr_pass *p)
{
    const nr_model *m = p->model;
    if (replaced(p)) return p->replacer->ends;
    return (nr_ends){.embedding = m->embedding, .final_norm = m->final_norm, .head = m->head};
}

/* ---- life ---- */

/* Some 50 MB of logits, 35 in training, where gradients overwrite them; chunks as even as whole rows of 16 make them. Two rows
 * at least: validation halves them. */
static size_t default_head_rows(const nr_config *c, size_t n, bool train)
{
    size_t most = NR_MAX(((size_t)(train ? 9 : 12) << 20) / c->V / 64 * 64, 64), chunks = (n + most - 1) / most;
    size_t even = chunks ? ((n + chunks - 1) / chunks + 15) / 16 * 16 : 0;
    return NR_MAX(NR_MIN(NR_MIN(even, most), n), 2);
}

static bool has_after(const nr_extension *e)
{
    const nr_method *m = e->method;
    return m->after && (!m->has_block || m->has_block(e, NR_AFTER_ATTENTION) || m->has_block(e, NR_AFTER_FFN));
}

static nr_status set_up(nr_pass *p, const nr_model *m, nr_extension *const *ext, size_t ext_count,
                        const nr_pass_options *opt, nr_error *err)
{
    p->model = m;
    p->config = m->config;
    p->ops = m->ops;
    p->opt = *opt;
    p->ext_count = ext_count;
    p->depth = m->config->L;
    p->positions = opt->cache_context ? opt->cache_context : opt->T;
    if (p->positions > m->config->max_context)
        return nr_fail(err, NR_E_USAGE, "context: expected at most %zu tokens (the model's), found %zu",
                       m->config->max_context, p->positions);
    NR_TRY(nr_alloc(&p->ext, ext_count + 1, sizeof *p->ext, "extension list", err));
    for (size_t i = 0; i < ext_count; i++) {
        p->ext[i] = ext[i];
        if (ext[i]->replaces && p->replacer)
            return nr_fail(err, NR_E_UNSUPPORTED, "extensions: only one of them may replace the backbone's weights, found two");
        if (ext[i]->replaces) p->replacer = ext[i];
        p->after = p->after || has_after(ext[i]);
        if (ext[i]->method->prefix) {
            if (p->prefixer) return nr_fail(err, NR_E_UNSUPPORTED, "extensions: only one of them may have a prefix, found two");
            p->prefixer = ext[i];
            p->prefix = ext[i]->method->prefix(ext[i]);
            p->joined = opt->cache_context ? 0 : opt->B * (p->prefix + opt->T);
        }
        if (!ext[i]->method->depth) continue;
        if (p->walker)
            return nr_fail(err, NR_E_UNSUPPORTED, "extensions: only one of them may insert layers, found two");
        p->walker = ext[i];
        p->depth = ext[i]->method->depth(ext[i]);
    }
    p->lowest = opt->train ? lowest_trained(p) : p->depth;
    p->head_rows = opt->head_rows ? opt->head_rows : default_head_rows(m->config, opt->B * opt->T, opt->train);
    return nr_alloc(&p->saved, p->depth, sizeof *p->saved, "layer table", err);
}

static nr_status pointer_table(nr_pass *p, void ****out, nr_error *err)
{
    void ***lists;
    NR_TRY(nr_alloc(&lists, p->ext_count + 1, sizeof *lists, "activation table", err));
    *out = lists;
    for (size_t i = 0; i < p->ext_count; i++)
        NR_TRY(nr_alloc(&lists[i], p->ext[i]->method->activation_count + 1, sizeof **lists, "activation table", err));
    return NR_OK;
}

static void free_table(const nr_pass *p, void ***lists)
{
    for (size_t i = 0; lists && i < p->ext_count; i++) free(lists[i]);
    free(lists);
}

static nr_status prepare_linears(nr_pass *p, size_t n, nr_error *err)
{
    const nr_ops *ops = p->ops;
    nr_ends ends = nr_pass_ends(p);
    for (size_t d = 0; d < p->depth; d++) {
        size_t number;
        bool own;
        const nr_layer *layer = nr_pass_layer(p, d, &number, &own);
        for (nr_site s = 0; s < NR_SITES; s++) NR_TRY(ops->linear_prepare(layer->site[s], n, own && p->opt.train, err));
        for (nr_site s = 0; !own && s < NR_SITES; s++) /* without the extension */
            if (layer != &p->model->layers[number]) NR_TRY(ops->linear_prepare(p->model->layers[number].site[s], n, false, err));
        if (!p->opt.train) nr_model_file_forget(p->model->file); /* what was laid out anew needn't be in memory twice */
    }
    for (size_t i = 0; i < p->ext_count; i++)
        for (size_t k = 0; k < p->ext[i]->param_count; k++) {
            nr_linear *w = p->ext[i]->params[k].linear;
            if (w && w != ends.head) NR_TRY(ops->linear_prepare(w, n, p->opt.train, err));
        }
    NR_TRY(ops->linear_prepare(ends.head, NR_MIN(n, p->head_rows), ends.d_head != NULL, err));
    return ends.head == p->model->head ? NR_OK : ops->linear_prepare(p->model->head, NR_MIN(n, p->head_rows), false, err);
}

static void add_weights(const nr_pass *p, nr_read_ahead *a, size_t run, const nr_linear *w)
{
    a->bytes[run] = p->ops->linear_weights(w, &a->at[run]);
}

/* What the backbone reads for one token; the matrices are prepared. */
static nr_status foresee(nr_pass *p, nr_error *err)
{
    static const nr_site with[NR_SITES] = {NR_Q, NR_Q, NR_Q, NR_O, NR_GATE, NR_GATE, NR_DOWN}; /* the first of those read together */
    NR_TRY(nr_alloc(&p->walk, p->depth * NR_SITES + 1, sizeof *p->walk, "the walk's steps", err));
    nr_read_ahead *head = p->walk + p->depth * NR_SITES;
    for (size_t d = 0; d < p->depth; d++) {
        size_t number;
        bool own;
        const nr_layer *layer = nr_pass_layer(p, d, &number, &own);
        for (nr_site s = 0; s < NR_SITES; s++) add_weights(p, p->walk + d * NR_SITES + with[s], s - with[s], layer->site[s]);
    }
    add_weights(p, head, 0, nr_pass_ends(p).head);
    head->last = true;
    return NR_OK;
}

nr_status nr_pass_new(nr_pass **out, const nr_model *m, nr_extension *const *ext, size_t ext_count,
                      const nr_pass_options *opt, nr_error *err)
{
    nr_pass *p;
    nr_status st;
    *out = NULL;
    NR_TRY(nr_alloc(&p, 1, sizeof *p, "pass", err));
    NR_GO(set_up(p, m, ext, ext_count, opt, err));
    NR_GO(pointer_table(p, &p->s.ext, err));
    for (size_t d = 0; d < p->depth; d++) NR_GO(pointer_table(p, &p->saved[d].ext, err));
    NR_GO(nr_alloc(&p->cache_k, p->depth, sizeof *p->cache_k, "cache table", err));
    NR_GO(nr_alloc(&p->cache_v, p->depth, sizeof *p->cache_v, "cache table", err));
    lay_out(p);
    NR_GO(nr_arena_commit(&p->arena, "activations", err));
    lay_out(p);
    nr_rope_table(p->rope, p->ops, p->config, p->prefix + p->positions);
    NR_GO(prepare_linears(p, opt->B * opt->T, err));
    if (opt->cache_context) NR_GO(foresee(p, err));
    *out = p;
    return NR_OK;
done:
    nr_pass_free(p);
    return st;
}

nr_status nr_pass_plan_for(nr_pass_plan *plan, const nr_model *m, nr_extension *const *ext, size_t ext_count,
                           const nr_pass_options *opt)
{
    nr_pass p = {0};
    nr_status st = set_up(&p, m, ext, ext_count, opt, NULL);
    if (st == NR_OK) {
        lay_out(&p);
        *plan = (nr_pass_plan){p.plan[0], p.plan[1], p.plan[2], p.plan[3], p.arena.used};
    }
    free(p.ext);
    free(p.saved);
    return st;
}

void nr_pass_free(nr_pass *p)
{
    if (!p) return;
    for (size_t d = 0; p->saved && d < p->depth; d++) free_table(p, p->saved[d].ext);
    free_table(p, p->s.ext);
    free(p->saved);
    free(p->cache_k);
    free(p->cache_v);
    free(p->walk);
    nr_arena_free(&p->arena);
    free(p->ext);
    free(p);
}

void nr_pass_observe(nr_pass *p, nr_observation *o)
{
    p->observation = o;
}

size_t nr_pass_head_rows(const nr_pass *p)
{
    return p->head_rows;
}
