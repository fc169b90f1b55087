/*
 * attention_back_cpu.c - attention, backward.
 *
 * With P = exp(S - lse), dP = dO V^T and delta = dO . O:  dS = P (dP - delta),
 * dQ = scale dS K, dK = scale dS^T Q, dV = P^T dO.
 *
 * One task is a (sequence, kv head) with the query heads that share it: it goes
 * over tiles of keys and, inside, over heads and tiles of queries, adds dQ up in
 * its lane and dK and dV of a tile head after head. Where there are too few of
 * those for the threads, a task is one query head and leaves its dK and dV in
 * scratch; then they are added in the same order. So no result depends on who ran
 * what. Memory is linear in T.
 *
 * In pairs (attention_tiles.h) q and dO lie twice, along D and as neighbouring
 * rows, in the room of one float copy; P is kept as neighbouring rows and dS
 * both ways, because the products sum over D, over queries and over keys. The
 * scale is then left out of q and put into scores and dK.
 */
#include "kernels/attention_tiles.h"

typedef struct {
    void *dq, *dk, *dv;
    const void *d_o, *o, *q, *k, *v;
    const float *lse;
    const nr_attention *a;
    float *lanes, *heads;
    size_t T, keys, rows, key_rows, tiles, DP, per, packed_size, row_size, lane_size, head_size, items, lane_count;
    _Atomic uint64_t taken; /* lanes */
} job;

/* per: query heads of a task, one or all that share their keys. */
static job layout(const nr_attention *a, size_t per)
{
    job j = {.a = a, .T = a->Tq, .keys = a->start + a->Tq, .DP = padded(a->D), .per = per, .items = a->B * a->H / per};
    j.tiles = tasks_of(j.keys, KEYS);
    j.rows = tasks_of(j.T, KEYS) * KEYS;
    j.key_rows = j.tiles * KEYS;
    j.packed_size = KEYS * (2 * a->D + j.DP); /* k^T, v^T (D, KEYS); k (KEYS, DP) */
    j.row_size = j.rows * (3 * j.DP + 1);     /* q, dO, dQ, delta of a head */
    j.lane_size = per * j.row_size + 2 * QUERIES * KEYS + QUERIES * KEYS / 2 /* P, dS; dS along keys */
                  + 4 * KEYS * j.DP + j.packed_size;                         /* dK, dV of a tile and a head, and of the heads before it */
    j.head_size = per < a->H / a->K ? 2 * j.key_rows * j.DP : 0;             /* dK, dV of all keys */
    j.lane_count = NR_MIN(j.items, (size_t)LANES);
    return j;
}

static size_t scratch_of(const job *j) { return j->lane_count * j->lane_size + j->items * j->head_size; }

/* Heads that share keys stay together, unless the threads would be busy for longer then. */
static size_t heads_of_task(const nr_attention *a)
{
    size_t threads = nr_threads_get(), group = a->H / a->K;
    return tasks_of(a->B * a->K, threads) * group <= tasks_of(a->B * a->H, threads) ? group : 1;
}

/* Tile of keys k0 of a kv head, of which kv is the first element. */
NR_INLINE void pack_tile(const job *j, float *packed, size_t kv, size_t k0, bool bf16)
{
    const nr_attention *a = j->a;
    size_t at = kv + k0 * a->k_stride, rows = NR_MIN(j->keys - k0, (size_t)KEYS);
    float *kt = packed, *vt = kt + a->D * KEYS, *k = vt + a->D * KEYS;
#if HAS_PAIRS
    if (bf16) {
        pair_columns(kt, act_at(j->k, at, bf16), a->k_stride, rows, a->D);
        pair_columns(vt, act_at(j->v, at, bf16), a->k_stride, rows, a->D);
        pair_rows(NULL, k, act_at(j->k, at, bf16), a->k_stride, rows, KEYS, a->D);
        return;
    }
#endif
    pack_columns(kt, act_at(j->k, at, bf16), a->k_stride, rows, a->D, bf16);
    pack_columns(vt, act_at(j->v, at, bf16), a->k_stride, rows, a->D, bf16);
    if (j->DP != a->D) memset(k, 0, KEYS * j->DP * sizeof *k);
    pack_rows(k, act_at(j->k, at, bf16), a->k_stride, rows, KEYS, a->D, 1, bf16);
}

/* The row of scores s and of dP turn into P and dS; outside [0, shared) and [begin, end) both are 0. */
NR_INLINE void weights_row(float *s, float *dp, float lse, float delta, size_t shared, size_t begin, size_t end, size_t cols)
{
    for (size_t i = shared; i < begin; i++) s[i] = -INFINITY;
    for (size_t i = end; i < cols; i++) s[i] = -INFINITY;
    if (lse == -INFINITY) lse = 0; /* sees nothing: all of s is -infinity */
    for (size_t i = 0; i < cols; i += VW) {
        vf p = vexp(vload(s + i) - lse);
        vstore(s + i, p);
        vstore(dp + i, p * (vload(dp + i) - delta));
    }
}

#if HAS_PAIRS
/* One of two query rows: what it sees of the tile, and its numbers; lse to base 2. */
typedef struct {
    float *s, *dp, lse, delta;
    uint64_t seen;
} query_row;

/* Two rows of scores and of dP turn into P and dS: both as neighbours in the
 * places to_p and to_ds, which lie behind what is still to be read; dS along
 * keys in row a and row b of `along`. */
NR_INLINE void weights_pair(const query_row *a, const query_row *b, float *to_p, float *to_ds, uint16_t *along_a, uint16_t *along_b,
                            size_t cols, float scale)
{
    for (size_t i = 0; i < cols; i += VW) {
        vf p_a = vexp2_masked(vfma(vload(a->s + i), vset(scale), vset(-a->lse)), (__mmask16)(a->seen >> i));
        vf ds_a = p_a * (vload(a->dp + i) - a->delta);
        vf p_b = vexp2_masked(vfma(vload(b->s + i), vset(scale), vset(-b->lse)), (__mmask16)(b->seen >> i));
        vf ds_b = p_b * (vload(b->dp + i) - b->delta);
        __m512i ds = round_both(ds_a, ds_b);
        _mm512_storeu_si512(to_p + i, beside(round_both(p_a, p_b)));
        _mm512_storeu_si512(to_ds + i, beside(ds));
        _mm256_storeu_si256((__m256i *)(along_a + i), _mm512_castsi512_si256(ds));
        _mm256_storeu_si256((__m256i *)(along_b + i), _mm512_extracti64x4_epi64(ds, 1));
    }
}
#endif

/* A query head's views of a lane; dk and dv are of one tile of keys. */
typedef struct {
    float *q, *d_o, *dq, *delta, *p, *ds, *dk, *dv;
    float *q_rows, *d_o_rows, *along; /* in pairs: q and dO by rows two by two, dS along keys; else q, dO and dS themselves */
    const float *lse;
    const int32_t *first;
    const void *next[3]; /* q, dO and O of the head that comes next, or NULL */
    void *to_dq;         /* in memory */
} view;

/* Where in the tile at k0 query t begins to see keys of its own sequence. */
NR_INLINE size_t first_of(const job *j, const view *w, size_t t, size_t k0, size_t cols)
{
    return w->first ? visible_begin(j->a->shared + (size_t)w->first[t], k0, cols) : 0;
}

#if HAS_PAIRS
NR_INLINE query_row row_of(const job *j, const view *w, size_t t0, size_t r, size_t k0)
{
    float lse = w->lse[t0 + r];
    return (query_row){.s = w->p + r * KEYS, .dp = w->ds + r * KEYS, .lse = lse == -INFINITY ? 0 : lse * LOG2_E, .delta = w->delta[t0 + r],
                       .seen = seen_bits(visible_shared(j->a, k0, KEYS), first_of(j, w, t0 + r, k0, KEYS),
                                         visible_end(j->a->start + t0 + r, k0, KEYS))};
}

#endif

/* ROWS rows of the next head from t on, and of the place where dq goes, are asked for: they lie far apart. */
NR_INLINE void ask_ahead(const job *j, const view *w, size_t t, bool bf16)
{
    size_t D = j->a->D, stride = j->a->H * D, n = NR_MIN(j->T - t, (size_t)ROWS);
    for (size_t i = 0; i < NR_COUNT(w->next) && w->next[0]; i++) fetch_rows(w->next[i], t * stride, stride, n, D, bf16);
    fetch_rows(w->to_dq, t * stride, stride, n, D, bf16);
}

/* Scores and dP of a tile's n queries turn into P and dS. */
NR_INLINE void weigh(const job *j, const view *w, size_t k0, size_t t0, size_t n, const size_t ends[QUERIES / ROWS], bool pairs)
{
#if HAS_PAIRS
    for (size_t r = 0; pairs && r < n; r += 2) {
        query_row a = row_of(j, w, t0, r, k0), b = {.s = a.s + KEYS, .dp = a.dp + KEYS}; /* sees nothing where there is no second row */
        uint16_t *along = (uint16_t *)(void *)(w->along + r * KEYS / 2);
        if (r + 1 < n) b = row_of(j, w, t0, r + 1, k0);
        weights_pair(&a, &b, w->p + r / 2 * KEYS, w->ds + r / 2 * KEYS, along, along + KEYS, block_cols(ends[r / ROWS]), j->a->scale * LOG2_E);
    }
#endif
    for (size_t r = 0; !pairs && r < n; r++) {
        size_t cols = block_cols(ends[r / ROWS]);
        weights_row(w->p + r * KEYS, w->ds + r * KEYS, w->lse[t0 + r], w->delta[t0 + r], visible_shared(j->a, k0, cols),
                    first_of(j, w, t0 + r, k0, cols), visible_end(j->a->start + t0 + r, k0, cols), cols);
    }
}

/* A tile of keys with one of queries; of a tile on the diagonal only what ROWS queries or keys have below it. set: which ROWS
 * keys have a dK and dV that more is added to. */
NR_INLINE void tile_pair(const job *j, const view *w, const float *packed, size_t k0, size_t t0, bool set[KEYS / ROWS], bool bf16)
{
    const bool pairs = HAS_PAIRS && bf16;
    size_t D = j->a->D, DP = j->DP, n = NR_MIN(j->T - t0, (size_t)QUERIES), at = j->a->start + t0, unit = pairs ? 2 : 1;
    size_t seen = NR_MIN(at + n - k0, (size_t)KEYS), depth = (D + unit - 1) / unit, along = KEYS / unit, ends[QUERIES / ROWS];
    const float *kt = packed, *vt = kt + D * KEYS, *k = vt + D * KEYS;
    const float *q = w->q_rows + t0 / unit * DP, *d_o = w->d_o_rows + t0 / unit * DP;
    for (size_t r = 0; r < n; r += ROWS) {
        size_t end = ends[r / ROWS] = visible_end(at + NR_MIN(r + ROWS, n) - 1, k0, KEYS), row = (t0 + r) * (DP / unit);
        product(w->p + r * KEYS, KEYS, w->q + row, DP / unit, 1, kt, KEYS, ROWS, block_cols(end), depth, false, pairs);
        product(w->ds + r * KEYS, KEYS, w->d_o + row, DP / unit, 1, vt, KEYS, ROWS, block_cols(end), depth, false, pairs);
        if (at + n - k0 <= KEYS) ask_ahead(j, w, t0 + r, bf16); /* every query has one tile on the diagonal */
    }
    weigh(j, w, k0, t0, n, ends, pairs);
    for (size_t i = 0; i < seen; i += ROWS) {
        size_t from = (k0 + i - NR_MIN(k0 + i, at)) / unit, rows = (n + unit - 1) / unit - from; /* queries, or pairs, that see key i */
        const float *p = w->p + from * KEYS + i, *ds = w->ds + from * KEYS + i;
        product(w->dv + i * DP, DP, p, 1, KEYS, d_o + from * DP, DP, ROWS, DP, rows, set[i / ROWS], pairs);
        product(w->dk + i * DP, DP, ds, 1, KEYS, q + from * DP, DP, ROWS, DP, rows, set[i / ROWS], pairs);
        set[i / ROWS] = true;
    }
    for (size_t r = 0; r < n; r += ROWS)
        product(w->dq + (t0 + r) * DP, DP, w->along + r * along, along, 1, k, DP, ROWS, DP, (ends[r / ROWS] + unit - 1) / unit,
                w->first || k0 > 0, pairs);
}

/* First key that any of the tile's queries sees. */
NR_INLINE size_t tile_first(const job *j, const int32_t *first, size_t t0)
{
    size_t least = t0;
    if (!first || j->a->shared > 0) return 0;
    for (size_t t = t0; t < NR_MIN(t0 + QUERIES, j->T); t++) least = NR_MIN(least, (size_t)first[t]);
    return least;
}

/* First query, of a whole tile of them, that the keys from k0 on concern. */
NR_INLINE size_t first_query(const job *j, size_t k0)
{
    return (k0 - NR_MIN(k0, j->a->start)) / QUERIES * QUERIES;
}

/* A tile of keys with all queries; dK and dV are set. */
NR_INLINE void keys_task(const job *j, const view *w, const float *packed, size_t k0, bool bf16)
{
    bool set[KEYS / ROWS] = {0};
    for (size_t t0 = first_query(j, k0); t0 < j->T; t0 += QUERIES)
        if (tile_first(j, w->first, t0) < k0 + KEYS) tile_pair(j, w, packed, k0, t0, set, bf16);
    for (size_t i = 0; i < KEYS; i += ROWS)
        if (!set[i / ROWS]) {
            memset(w->dv + i * j->DP, 0, ROWS * j->DP * sizeof *w->dv);
            memset(w->dk + i * j->DP, 0, ROWS * j->DP * sizeof *w->dk);
        }
}

/* The product of two rows of D elements. */
NR_INLINE float row_product(const void *a, const void *b, size_t at, size_t D, bool bf16)
{
    vf s = {0};
#if HAS_PAIRS
    if (bf16) {
        const uint16_t *x = (const uint16_t *)a + at, *y = (const uint16_t *)b + at;
        for (size_t d = 0; d < D; d += ELEMENTS) s = multiply_add(s, (vf)load_row(x, d, D, true), (vf)load_row(y, d, D, true), true);
        return vsum(s);
    }
#endif
    NR_EACH(D, s += aload_n(a, at + i, m, bf16) * aload_n(b, at + i, m, bf16););
    return vsum(s);
}

/* The element of q, dO, O and dq at which a head's rows begin. */
NR_INLINE size_t head_at(const job *j, size_t item)
{
    const nr_attention *a = j->a;
    return (item / a->H * j->T * a->H + item % a->H) * a->D;
}

/* Head `item` of q, which is the g-th of its task. */
NR_INLINE view view_of(const job *j, float *lane, size_t item, size_t g, bool bf16)
{
    size_t DP = j->DP, at = head_at(j, item), then = item + j->per;
    view w = {.q = lane + g * j->row_size, .p = lane + j->per * j->row_size};
    w.d_o = w.q + j->rows * DP;
    w.dq = w.d_o + j->rows * DP;
    w.delta = w.dq + j->rows * DP;
    w.ds = w.p + QUERIES * KEYS;
    w.q_rows = HAS_PAIRS && bf16 ? w.q + j->rows * DP / 2 : w.q;
    w.d_o_rows = HAS_PAIRS && bf16 ? w.d_o + j->rows * DP / 2 : w.d_o;
    w.along = HAS_PAIRS && bf16 ? w.ds + QUERIES * KEYS : w.ds;
    w.dk = w.ds + QUERIES * KEYS + QUERIES * KEYS / 2;
    w.dv = w.dk + KEYS * DP;
    w.lse = j->lse + item * j->T;
    w.first = j->a->first ? j->a->first + item / j->a->H * j->T : NULL;
    w.to_dq = act_at_mut(j->dq, at, bf16);
    for (size_t i = 0; i < NR_COUNT(w.next) && then < j->a->B * j->a->H; i++)
        w.next[i] = act_at((const void *[]){j->q, j->d_o, j->o}[i], head_at(j, then), bf16);
    return w;
}

/* q, dO and delta of a head; dQ where more is added to it. */
NR_INLINE void pack_head(const job *j, const view *w, size_t at, bool bf16)
{
    const nr_attention *a = j->a;
    size_t D = a->D, DP = j->DP, stride = a->H * D;
    if (w->first) memset(w->dq, 0, j->rows * DP * sizeof *w->dq);
#if HAS_PAIRS
    if (bf16) {
        pair_rows(w->q, w->q_rows, act_at(j->q, at, bf16), stride, j->T, j->rows, D);
        pair_rows(w->d_o, w->d_o_rows, act_at(j->d_o, at, bf16), stride, j->T, j->rows, D);
    } else
#endif
    {
        if (DP != D) memset(w->q, 0, 2 * j->rows * DP * sizeof *w->q);
        pack_rows(w->q, act_at(j->q, at, bf16), stride, j->T, j->rows, D, a->scale, bf16);
        pack_rows(w->d_o, act_at(j->d_o, at, bf16), stride, j->T, j->rows, D, 1, bf16);
    }
    for (size_t t = 0; t < j->T; t++) w->delta[t] = row_product(j->d_o, j->o, at + t * stride, D, bf16);
}

NR_INLINE void add_tile(float *sum, const float *tile, size_t size)
{
    for (size_t i = 0; i < size; i += VW) vstore(sum + i, vload(sum + i) + vload(tile + i));
}

/* dK and dV of keys [k0, ...) of a kv head go to memory, out of `group` sums (rows, DP), pitch apart, added in order. */
NR_INLINE void put_keys(const job *j, size_t kv, size_t k0, const float *dk, const float *dv, size_t group, size_t pitch, bool bf16)
{
    const nr_attention *a = j->a;
    size_t rows = NR_MIN(j->keys - k0, (size_t)KEYS);
    for (size_t t = 0; t < rows; t++) {
        size_t to = kv + (k0 + t) * a->k_stride, from = t * j->DP;
        NR_EACH(a->D, {
            vf x = vload(dk + from + i), y = vload(dv + from + i);
            for (size_t g = 1; g < group; g++) {
                x += vload(dk + g * pitch + from + i);
                y += vload(dv + g * pitch + from + i);
            }
            astore_n(j->dk, to + i, HAS_PAIRS && bf16 ? x * a->scale : x, m, bf16);
            astore_n(j->dv, to + i, y, m, bf16);
        });
    }
}

/* dQ of a head goes to memory, from element `to` on. */
NR_INLINE void put_queries(const job *j, const float *dq, size_t to, bool bf16)
{
    size_t D = j->a->D, DP = j->DP, stride = j->a->H * D;
    void *at = j->dq;
    float scale = j->a->scale;
    for (size_t t = 0; t < j->T; t++) NR_EACH(D, astore_n(at, to + t * stride + i, vload(dq + t * DP + i) * scale, m, bf16););
}

/* The element of k, v, dk and dv at which a kv head begins. */
NR_INLINE size_t keys_at(const job *j, size_t b, size_t head) { return b * j->a->k_batch + head * j->a->k_head; }

/* dK and dV of a tile of keys go to `to`, `apart` floats apart. */
NR_INLINE void aim_keys(view *w, float *to, size_t apart)
{
    w->dk = to;
    w->dv = to + apart;
}

/* Query heads [item, item + per), which share their keys: a head alone leaves dK and dV in scratch, others add them up. */
NR_INLINE void heads_task(const job *j, float *lane, size_t item, bool bf16)
{
    const nr_attention *a = j->a;
    size_t DP = j->DP, group = a->H / a->K, tile_size = 2 * KEYS * DP, kv = keys_at(j, item / a->H, item % a->H / group);
    float *sum = lane + j->lane_size - j->packed_size - tile_size, *packed = sum + tile_size;
    for (size_t g = 0; g < j->per; g++) {
        view w = view_of(j, lane, item + g, g, bf16);
        pack_head(j, &w, head_at(j, item + g), bf16);
    }
    for (size_t k0 = 0; k0 < j->keys; k0 += KEYS) {
        pack_tile(j, packed, kv, k0, bf16);
        for (size_t g = 0; g < j->per; g++) {
            view w = view_of(j, lane, item + g, g, bf16);
            if (j->head_size) aim_keys(&w, j->heads + item * j->head_size + k0 * DP, j->key_rows * DP);
            else if (g == 0) aim_keys(&w, sum, tile_size / 2);
            keys_task(j, &w, packed, k0, bf16);
            if (g > 0) add_tile(sum, w.dk, tile_size);
        }
        if (!j->head_size) put_keys(j, kv, k0, sum, sum + tile_size / 2, 1, 0, bf16);
    }
    for (size_t g = 0; g < j->per; g++) put_queries(j, view_of(j, lane, item + g, g, bf16).dq, head_at(j, item + g), bf16);
}

NR_INLINE void run_share(job *j, size_t share, bool bf16)
{
    size_t begin = share * j->items / j->lane_count, end = (share + 1) * j->items / j->lane_count, lane = take_lane(&j->taken);
    for (size_t i = begin; i < end; i++) heads_task(j, j->lanes + lane * j->lane_size, i * j->per, bf16);
    give_lane(&j->taken, lane);
}

/* dK and dV of KEYS keys of one kv head: its query heads added in order. */
NR_INLINE void add_heads(const job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t k0 = task % j->tiles * KEYS, head = task / j->tiles % a->K, b = task / j->tiles / a->K, group = a->H / a->K;
    const float *dk = j->heads + (b * a->H + head * group) * j->head_size + k0 * j->DP;
    put_keys(j, keys_at(j, b, head), k0, dk, dk + j->key_rows * j->DP, group, j->head_size, bf16);
}

size_t NR_CPU(attention_back_scratch, f32)(const nr_attention *a)
{
    job apart = layout(a, 1), together = layout(a, a->H / a->K);
    return NR_MAX(scratch_of(&apart), scratch_of(&together)) * sizeof(float);
}

#define ATTENTION_BACK(type, bf16)                                                                                     \
    static void share_##type(void *context, size_t task) { run_share(context, task, bf16); }                           \
    static void add_##type(void *context, size_t task) { add_heads(context, task, bf16); }                             \
    void NR_CPU(attention_back, type)(void *dq, void *dk, void *dv, const void *d_o, const void *o, const void *q,     \
                                      const void *k, const void *v, const void *lse, const nr_attention *a,            \
                                      void *scratch)                                                                   \
    {                                                                                                                  \
        job j = layout(a, heads_of_task(a));                                                                           \
        if (j.items == 0 || j.T == 0) return;                                                                          \
        j.dq = dq;                                                                                                     \
        j.dk = dk;                                                                                                     \
        j.dv = dv;                                                                                                     \
        j.d_o = d_o;                                                                                                   \
        j.o = o;                                                                                                       \
        j.q = q;                                                                                                       \
        j.k = k;                                                                                                       \
        j.v = v;                                                                                                       \
        j.lse = lse;                                                                                                   \
        j.lanes = scratch;                                                                                             \
        j.heads = j.lanes + j.lane_count * j.lane_size;                                                                \
        nr_parallel(j.lane_count, share_##type, &j);                                                                   \
        if (j.head_size) nr_parallel(a->B * a->K * j.tiles, add_##type, &j);                                           \
    }
NR_CPU_BOTH(ATTENTION_BACK)
