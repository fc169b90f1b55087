/*
 * forward.c - the walk up the layers.
 *
 *   x_mid = x_in + o(attention(rotary(q, k), v)) + extensions   q k v of norm1(x_in)
 *   x_out = x_mid + down(act(gate) up) + extensions             gate up of norm2(x_mid)
 *
 * The walk calls hooks and knows no method by name. What no extension asks for
 * costs nothing: the outputs of o and down go straight into the residual unless
 * a block stands after them, keys lie as attention left them unless there is a
 * prefix.
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
    return (nr_attention){.B = b->B, .Tq = b->T, .H = c->H, .K = c->K, .D = c->D, .k_stride = c->K * c->D, .k_head = c->D,
                          .k_batch = b->T * c->K * c->D, .scale = (float)(1 / __builtin_sqrt((double)c->D)), .first = b->first};
}

nr_hook nr_pass_hook(nr_pass *p, size_t ext, size_t depth, size_t number, const nr_batch *b)
{
    return (nr_hook){.e = p->ext[ext], .ops = p->ops, .config = p->config, .depth = depth, .layer = number,
                     .n = b->B * b->T, .batch = b, .train = p->opt.train, .saved = p->saved[depth].ext[ext],
                     .scratch = p->s.ext[ext], .row_is_new = p->row_is_new, .rope = p->rope, .pos = p->pos,
                     .context = p->opt.cache_context};
}

/* Where the forward pass stands. */
typedef struct {
    size_t d, number;
    bool own, again;         /* a second run in backward */
    const nr_batch *b;
    nr_observation *o;       /* NULL unless this layer is observed now */
} place;

/* The hook of an extension there. Local losses count once: not in a second run. */
static nr_hook hook_at(nr_pass *p, const place *at, size_t ext)
{
    nr_hook h = nr_pass_hook(p, ext, at->d, at->number, at->b);
    h.losses = p->opt.train && !at->again && p->ext[ext]->grads ? &p->local : NULL;
    return h;
}

/* What extensions add to y beside a matrix that reads x. */
static nr_status beside(nr_pass *p, const place *at, nr_site s, void *y, nr_slot slot, const void *x, nr_error *err)
{
    for (size_t i = 0; i < p->ext_count; i++) {
        const nr_method *m = p->ext[i]->method;
        if (!m->site || !nr_pass_extends(p, i, at->number, at->own) || !m->has_site(p->ext[i], s)) continue;
        nr_hook h = hook_at(p, at, i);
        NR_TRY(m->site(&h, s, y, slot, x, err));
    }
    return NR_OK;
}

/* Says what a token's walk reads after site s, the last of those that are read now. */
static void foretell(const nr_pass *p, size_t depth, nr_site s)
{
    if (p->walk && p->rows == 1) nr_crew_ahead(p->walk + depth * NR_SITES + s + 1);
}

/* y = W x, and what extensions add beside W. */
static nr_status site(nr_pass *p, const place *at, nr_site s, void *y, nr_slot slot, const void *x, bool accumulate, nr_error *err)
{
    size_t number;
    bool own;
    const nr_layer *layer = nr_pass_layer(p, at->d, &number, &own);
    foretell(p, at->d, s);
    NR_TRY(p->ops->linear(layer->site[s], y, slot, x, at->b->B * at->b->T, accumulate, err));
    return beside(p, at, s, y, slot, x, err);
}

typedef struct {
    nr_site site;
    void *y; /* act */
} output;

enum { OUTPUTS = 3 };

/* The same of up to OUTPUTS sites that read the same x. */
static nr_status sites(nr_pass *p, const place *at, const output *list, size_t count, const void *x, nr_error *err)
{
    size_t number;
    bool own;
    const nr_layer *layer = nr_pass_layer(p, at->d, &number, &own);
    nr_product products[OUTPUTS];
    for (size_t i = 0; i < count; i++) products[i] = (nr_product){layer->site[list[i].site], list[i].y};
    foretell(p, at->d, list[count - 1].site);
    NR_TRY(p->ops->linear_group(products, count, x, at->b->B * at->b->T, err));
    for (size_t i = 0; i < count; i++) NR_TRY(beside(p, at, list[i].site, list[i].y, NR_ACT, x, err));
    return NR_OK;
}

/* Copies rows [from, from + count) of the new keys and values to position `to` of sequence i's cache. */
static void put_cache(nr_pass *p, size_t d, const nr_saved *s, size_t i, size_t from, size_t count, size_t to)
{
    size_t K = p->config->K, size = p->config->D * p->ops->act_size, rows = p->prefix + p->opt.cache_context;
    for (size_t r = 0; r < count; r++)
        for (size_t h = 0; h < K; h++) {
            size_t at = ((i * K + h) * rows + p->prefix + to + r) * size, source = ((from + r) * K + h) * size;
            memcpy((char *)p->cache_k[d] + at, (char *)s->k + source, size);
            memcpy((char *)p->cache_v[d] + at, (char *)s->v + source, size);
        }
}

/* Stretch after stretch through the one cache, whose keys and values are k and v; padding attends nothing. */
static void attention_stretches(nr_pass *p, size_t d, nr_saved *s, const void *k, const void *v, nr_attention a, const nr_batch *b)
{
    size_t row = 0, width = p->config->H * p->config->D, shared = a.start;
    for (size_t i = 0; i < b->stretch_count; row += b->stretches[i++].length) {
        put_cache(p, d, s, 0, row, b->stretches[i].length, b->stretches[i].start);
        a.Tq = b->stretches[i].length;
        a.start = shared + b->stretches[i].start;
        p->ops->attention(nr_at(p, s->attended, NR_ACT, row * width), NULL, nr_at(p, s->q, NR_ACT, row * width), k, v, &a,
                          p->s.attention);
    }
    memset(nr_at(p, s->attended, NR_ACT, row * width), 0, (b->T - row) * width * p->ops->act_size);
}

/* ---- a prefix of keys and values ---- */

bool nr_pass_has_prefix(const nr_pass *p, size_t number, bool own)
{
    return p->prefix > 0 && !own && !p->bare && p->prefixer->on && p->prefixer->layer_on[number];
}

size_t nr_pass_shift(const nr_pass *p)
{
    return p->prefix > 0 && !p->bare && p->prefixer->on ? p->prefix : 0;
}

size_t nr_pass_prefixer(const nr_pass *p)
{
    size_t i = 0;
    while (p->ext[i] != p->prefixer) i++;
    return i;
}

/* The layer's prefix in front of every sequence of k and v, which lie as a says. */
static void put_prefix(nr_pass *p, const nr_hook *h, void *k, void *v, const nr_attention *a)
{
    const void *from[2];
    void *to[2] = {k, v}, *unused[2];
    h->e->method->prefix_of(h, &from[0], &from[1], &unused[0], &unused[1]);
    for (size_t i = 0; i < 2 * h->batch->B; i++)
        for (size_t r = 0; r < p->prefix; r++)
            for (size_t head = 0; head < a->K; head++) {
                size_t at = i / 2 * a->k_batch + head * a->k_head + r * a->k_stride;
                p->ops->to_act(nr_at(p, to[i % 2], NR_ACT, at), nr_at(p, (void *)(uintptr_t)from[i % 2], NR_REAL, (r * a->K + head) * a->D), a->D);
            }
}

void nr_pass_join_prefix(nr_pass *p, size_t depth, size_t number, bool own, const nr_batch *b, nr_attention *a, const void **k,
                         const void **v)
{
    if (!nr_pass_has_prefix(p, number, own)) return;
    nr_hook h = nr_pass_hook(p, nr_pass_prefixer(p), depth, number, b);
    size_t row = p->config->K * p->config->D, rows = p->prefix + b->T;
    a->k_batch = rows * row;
    put_prefix(p, &h, p->s.keys, p->s.values, a);
    for (size_t i = 0; i < b->B; i++) {
        size_t to = (i * rows + p->prefix) * row, from = i * b->T * row * p->ops->act_size, bytes = b->T * row * p->ops->act_size;
        memcpy(nr_at(p, p->s.keys, NR_ACT, to), (const char *)*k + from, bytes);
        memcpy(nr_at(p, p->s.values, NR_ACT, to), (const char *)*v + from, bytes);
    }
    *k = p->s.keys;
    *v = p->s.values;
    a->start = a->shared = p->prefix;
}

/* The cache's keys and values instead of the batch's own. A sequence's prefix is written when its first token comes. */
static void read_cache(nr_pass *p, size_t d, size_t number, bool own, const nr_saved *s, const nr_batch *b, nr_attention *a,
                       const void **k, const void **v)
{
    size_t rows = p->prefix + p->opt.cache_context;
    bool prefix = nr_pass_has_prefix(p, number, own);
    a->k_stride = a->D;
    a->k_head = rows * a->D;
    a->k_batch = a->K * a->k_head;
    for (size_t i = 0; i < b->B && !b->stretches; i++) put_cache(p, d, s, i, i * b->T, b->T, b->start);
    if (prefix && b->start == 0) {
        nr_hook h = nr_pass_hook(p, nr_pass_prefixer(p), d, number, b);
        put_prefix(p, &h, p->cache_k[d], p->cache_v[d], a);
    }
    a->shared = prefix ? p->prefix : 0;
    a->start = a->shared + b->start;
    *k = nr_at(p, p->cache_k[d], NR_ACT, (p->prefix - a->shared) * a->D);
    *v = nr_at(p, p->cache_v[d], NR_ACT, (p->prefix - a->shared) * a->D);
}

/* ---- blocks ---- */

bool nr_pass_has_block(const nr_pass *p, size_t ext, size_t number, bool own, nr_place where)
{
    const nr_extension *e = p->ext[ext];
    const nr_method *m = e->method;
    bool after = where == NR_AFTER_ATTENTION || where == NR_AFTER_FFN;
    if (!(after ? (bool)m->after : (bool)m->block) || !nr_pass_extends(p, ext, number, own)) return false;
    return m->has_block ? m->has_block(e, where) : where == NR_BESIDE_FFN;
}

bool nr_pass_any_block(const nr_pass *p, size_t number, bool own, nr_place where)
{
    for (size_t i = 0; i < p->ext_count; i++)
        if (nr_pass_has_block(p, i, number, own, where)) return true;
    return false;
}

static nr_hook block_hook(nr_pass *p, const place *at, size_t ext, nr_place where)
{
    nr_hook h = hook_at(p, at, ext);
    h.place = where;
    h.gate = at->o && (where == NR_BESIDE_FFN || where == NR_AFTER_FFN) ? at->o->gate + at->number * h.n : NULL;
    return h;
}

/* x += what the blocks beside a half add. An observed output goes through a buffer of its own: x + (0 + g a) is
 * x + g a, bit for bit. */
static nr_status blocks_beside(nr_pass *p, const place *at, nr_place where, void *x, nr_error *err)
{
    size_t n = at->b->B * at->b->T, C = p->config->C;
    nr_observation *o = where == NR_BESIDE_FFN ? at->o : NULL;
    if (o && !nr_pass_any_block(p, at->number, at->own, where) && nr_pass_any_block(p, at->number, at->own, NR_AFTER_FFN)) return NR_OK;
    void *to = x;
    if (o) {
        to = p->s.block_out;
        nr_zero(to, n * C * p->ops->real_size);
    }
    for (size_t i = 0; i < p->ext_count; i++) {
        if (!nr_pass_has_block(p, i, at->number, at->own, where)) continue;
        nr_hook h = block_hook(p, at, i, where);
        NR_TRY(p->ext[i]->method->block(&h, to, p->s.xn, err));
    }
    if (o) {
        p->ops->row_norm(o->ext_norm + at->number * n, to, n, C);
        p->ops->add(x, to, 1, n * C);
    }
    return NR_OK;
}

/* x += W in, the half's output: straight, or by way of the blocks after it. */
static nr_status join(nr_pass *p, const place *at, nr_site s, nr_place where, void *x, const void *in, nr_error *err)
{
    size_t n = at->b->B * at->b->T, C = p->config->C;
    if (!nr_pass_any_block(p, at->number, at->own, where)) return site(p, at, s, x, NR_REAL, in, true, err);
    NR_TRY(site(p, at, s, p->s.half, NR_REAL, in, false, err));
    bool observed = at->o && where == NR_AFTER_FFN;
    if (observed) nr_copy(p->s.block_out, p->s.half, n * C * p->ops->real_size);
    for (size_t i = 0; i < p->ext_count; i++) {
        if (!nr_pass_has_block(p, i, at->number, at->own, where)) continue;
        nr_hook h = block_hook(p, at, i, where);
        NR_TRY(p->ext[i]->method->after(&h, p->s.half, p->s.xn, err));
    }
    if (observed) { /* what the blocks changed */
        p->ops->add(p->s.block_out, p->s.half, -1, n * C);
        p->ops->row_norm(at->o->ext_norm + at->number * n, p->s.block_out, n, C);
    }
    p->ops->add(x, p->s.half, 1, n * C);
    return NR_OK;
}

/* ---- a layer ---- */

static nr_status attention(nr_pass *p, const place *at, const nr_layer *layer, nr_saved *s, void *x, nr_error *err)
{
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    const nr_batch *b = at->b;
    size_t n = b->B * b->T;
    void *kept = p->opt.recompute ? NULL : s->x_in;
    ops->rmsnorm(p->s.xn, kept, s->rstd1, x, NR_REAL, layer->norm1, n, c->C, c->norm_eps);
    const output qkv[] = {{NR_Q, s->q}, {NR_K, s->k}, {NR_V, s->v}};
    NR_TRY(sites(p, at, qkv, NR_COUNT(qkv), p->s.xn, err));
    ops->rotary(s->q, s->k, p->rope, p->pos, n, c->H, c->K, c->D, false);
    nr_attention a = nr_pass_attention(p, b);
    const void *k = s->k, *v = s->v;
    if (p->opt.cache_context) read_cache(p, at->d, at->number, at->own, s, b, &a, &k, &v);
    else nr_pass_join_prefix(p, at->d, at->number, at->own, b, &a, &k, &v);
    if (b->stretches) attention_stretches(p, at->d, s, k, v, a, b);
    else ops->attention(s->attended, s->lse, s->q, k, v, &a, p->s.attention);
    NR_TRY(join(p, at, NR_O, NR_AFTER_ATTENTION, x, s->attended, err));
    return blocks_beside(p, at, NR_BESIDE_ATTENTION, x, err);
}

static nr_status feed_forward(nr_pass *p, const place *at, const nr_layer *layer, nr_saved *s, void *x, nr_error *err)
{
    const nr_config *c = p->config;
    const nr_ops *ops = p->ops;
    size_t n = at->b->B * at->b->T;
    ops->rmsnorm(p->s.xn, p->opt.train ? s->x_mid : NULL, s->rstd2, x, NR_REAL, layer->norm2, n, c->C, c->norm_eps);
    const output gate_up[] = {{NR_GATE, s->gate}, {NR_UP, s->up}};
    NR_TRY(sites(p, at, gate_up, NR_COUNT(gate_up), p->s.xn, err));
    ops->glu(p->s.h, s->gate, s->up, c->act, n, c->F);
    if (at->o) { /* |FFN(x)| needs the sum apart from the residual */
        const place aside = {.d = at->d, .number = at->number, .own = at->own, .again = true, .b = at->b};
        NR_TRY(site(p, &aside, NR_DOWN, p->s.block_out, NR_REAL, p->s.h, false, err));
        ops->row_norm(at->o->ffn_norm + at->number * n, p->s.block_out, n, c->C);
    }
    NR_TRY(join(p, at, NR_DOWN, NR_AFTER_FFN, x, p->s.h, err));
    return blocks_beside(p, at, NR_BESIDE_FFN, x, err);
}

/* What a second run begins with: the residual before the layer. */
static void keep_residual(nr_pass *p, size_t d, const nr_batch *b, bool again)
{
    void *kept = p->saved[d].x_in;
    size_t bytes = b->B * b->T * p->config->C * p->ops->real_size;
    if (again) nr_copy(p->x, kept, bytes);
    else if (kept) nr_copy(kept, p->x, bytes);
}

nr_status nr_pass_run_layer(nr_pass *p, size_t d, const nr_batch *b, bool again, nr_error *err)
{
    place at = {.d = d, .again = again, .b = b};
    const nr_layer *layer = nr_pass_layer(p, d, &at.number, &at.own);
    nr_saved *s = &p->saved[d];
    at.o = again || at.own ? NULL : p->observation;
    if (p->opt.recompute) keep_residual(p, d, b, again);
    if (at.own && (p->bare || !p->walker->on)) return NR_OK; /* a copy that is switched off passes its input on */
    NR_TRY(attention(p, &at, layer, s, p->x, err));
    return feed_forward(p, &at, layer, s, p->x, err);
}

static nr_status check_stretches(const nr_pass *p, const nr_batch *b, nr_error *err)
{
    size_t rows = 0;
    if (b->B != 1 || !p->opt.cache_context || p->opt.train || b->start || b->first)
        return nr_fail(err, NR_E_USAGE, "stretches: expected a pass with a cache, one sequence and no start, found %zu and %zu", b->B,
                       b->start);
    for (size_t i = 0; i < b->stretch_count; i++) {
        const nr_stretch *s = &b->stretches[i];
        if (s->length > b->T - rows || s->start > p->positions || s->length > p->positions - s->start)
            return nr_fail(err, NR_E_USAGE, "stretch %zu: expected %zu rows and %zu positions at most, found %zu from %zu", i,
                           b->T - rows, p->positions, s->length, s->start);
        rows += s->length;
    }
    return NR_OK;
}

static nr_status check_batch(const nr_pass *p, const nr_batch *b, nr_error *err)
{
    if (b->B * b->T > p->opt.B * p->opt.T || b->B > p->opt.B)
        return nr_fail(err, NR_E_USAGE, "batch: expected at most %zu x %zu tokens, found %zu x %zu", p->opt.B, p->opt.T, b->B, b->T);
    if (b->stretches) NR_TRY(check_stretches(p, b, err));
    else if (b->start + b->T > p->positions)
        return nr_fail(err, NR_E_USAGE, "context: expected at most %zu positions, found %zu", p->positions, b->start + b->T);
    for (size_t i = 0; i < b->B * b->T; i++)
        if (b->ids[i] < 0 || (size_t)b->ids[i] >= p->config->V)
            return nr_fail(err, NR_E_FORMAT, "token id: expected 0 to %zu, found %d", p->config->V - 1, b->ids[i]);
    return NR_OK;
}

enum { EMBED_ROWS = 16 };

/* Beside packed matrices the file's pages are needed for this alone. A few rows at a time are read out of the file instead:
 * where one is touched, the system maps its neighbours too, and a batch would soon have the whole table in memory. */
static nr_status embed(nr_pass *p, const nr_tensor *table, const int32_t *ids, size_t n, nr_error *err)
{
    static const int32_t in_turn[EMBED_ROWS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    size_t C = p->config->C, bytes = nr_tensor_row_bytes(table);
    char *rows = p->s.block_out; /* nothing stands there yet; a row is seldom longer than one of x */
    if (p->model->quantised || table != p->model->embedding || bytes > C * p->ops->real_size) {
        p->ops->embed(p->x, table, ids, n, C);
        return NR_OK;
    }
    for (size_t row = 0, count; row < n; row += count) {
        count = NR_MIN(n - row, (size_t)EMBED_ROWS);
        for (size_t i = 0; i < count; i++)
            NR_TRY(nr_model_file_read(p->model->file, rows + i * bytes, table->data + (size_t)ids[row + i] * bytes, bytes, err));
        nr_tensor some = *table;
        some.shape[0] = count;
        some.size = count * bytes;
        some.data = (const unsigned char *)rows;
        p->ops->embed(nr_at(p, p->x, NR_REAL, row * C), &some, in_turn, count, C);
    }
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
        p->pos[i] = (int32_t)(nr_pass_shift(p) + (b->stretches ? 0 : b->start + i % b->T));
        p->row_is_new[i] = b->is_new ? b->is_new[i / b->T] : 1;
    }
    for (size_t i = 0, row = 0; b->stretches && i < b->stretch_count; i++)
        for (size_t j = 0; j < b->stretches[i].length; j++) p->pos[row++] += (int32_t)(b->stretches[i].start + j);
    if (p->observation) {
        p->observation->n = n;
        for (size_t i = 0; i < c->L * n; i++) p->observation->gate[i] = __builtin_nan("");
    }
    nr_ends ends = nr_pass_ends(p);
    NR_TRY(embed(p, ends.embedding, b->ids, n, err));
    for (size_t d = 0; d < p->depth; d++) NR_TRY(nr_pass_run_layer(p, d, b, false, err));
    p->ops->rmsnorm(p->s.final_xn, NULL, p->s.final_rstd, p->x, NR_REAL, ends.final_norm, n, c->C, c->norm_eps);
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
    if (!p->distilled) return nr_fail(err, NR_E_USAGE, "distillation: expected a pass with memory for it, found none");
    if (mark_distilled(p, b) == 0) return NR_OK;
    p->bare = true;
    nr_status st = nr_pass_forward(p, b, err);
    p->bare = false;
    if (st != NR_OK) return st;
    nr_copy(p->s.taught, p->s.final_xn, p->rows * p->config->C * p->ops->act_size);
    p->teaches = true;
    return NR_OK;
}
