/*
 * attention_back_cpu.c - attention, backward.
 *
 * With P = exp(S - lse), dP = dO V^T and delta = dO . O:  dS = P (dP - delta),
 * dQ = scale dS K, dK = scale dS^T Q, dV = P^T dO.
 *
 * One task is a (sequence, query head): it goes over tiles of keys and, inside,
 * of queries, adds dQ up in its lane and leaves dK and dV of its head in
 * scratch. Then the query heads of a group are added in order. So no result
 * depends on who ran what. Memory is linear in T.
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
    float *packed, *lanes, *heads;
    size_t T, keys, rows, key_rows, tiles, DP, packed_size, lane_size, head_size, items, lane_count;
    _Atomic uint64_t taken; /* lanes */
} job;

static job layout(const nr_attention *a)
{
    job j = {.a = a, .T = a->Tq, .keys = a->start + a->Tq, .DP = padded(a->D), .items = a->B * a->H};
    j.tiles = tasks_of(j.keys, KEYS);
    j.rows = tasks_of(j.T, KEYS) * KEYS;
    j.key_rows = j.tiles * KEYS;
    j.packed_size = KEYS * (2 * a->D + j.DP);                   /* k^T, v^T (D, KEYS); k (KEYS, DP) */
    j.lane_size = j.rows * (3 * j.DP + 1) + 2 * QUERIES * KEYS + QUERIES * KEYS / 2; /* q, dO, dQ, delta; P, dS; dS along keys */
    j.head_size = 2 * j.key_rows * j.DP;                        /* dK, dV */
    j.lane_count = NR_MIN(j.items, (size_t)LANES);
    return j;
}

NR_INLINE void pack_tile(const job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t tile = task % j->tiles, head = task / j->tiles % a->K, b = task / j->tiles / a->K;
    size_t at = b * a->k_batch + tile * KEYS * a->k_stride + head * a->k_head,
           rows = NR_MIN(j->keys - tile * KEYS, (size_t)KEYS);
    float *kt = j->packed + task * j->packed_size, *vt = kt + a->D * KEYS, *k = vt + a->D * KEYS;
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

/* Views of a lane and of the head's gradients. */
typedef struct {
    float *q, *d_o, *dq, *delta, *p, *ds, *along, *dk, *dv;
    float *q_pairs, *d_o_pairs; /* in pairs: rows two by two; q and d_o then lie along D */
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

NR_INLINE void tile_pair(const job *j, const view *w, const float *packed, size_t k0, size_t t0)
{
    size_t D = j->a->D, DP = j->DP, n = NR_MIN(j->T - t0, (size_t)QUERIES);
    size_t seen = NR_MIN(j->a->start + t0 + n - k0, (size_t)KEYS), cols = padded(seen);
    const float *kt = packed, *vt = kt + D * KEYS, *k = vt + D * KEYS, *q = w->q + t0 * DP, *d_o = w->d_o + t0 * DP;
    product(w->p, KEYS, q, DP, 1, kt, KEYS, n, cols, D, false, false);
    product(w->ds, KEYS, d_o, DP, 1, vt, KEYS, n, cols, D, false, false);
    for (size_t r = 0; r < n; r++)
        weights_row(w->p + r * KEYS, w->ds + r * KEYS, w->lse[t0 + r], w->delta[t0 + r],
                    visible_shared(j->a, k0, cols), first_of(j, w, t0 + r, k0, cols),
                    visible_end(j->a->start + t0 + r, k0, cols), cols);
    product(w->dv + k0 * DP, DP, w->p, 1, KEYS, d_o, DP, seen, DP, n, true, false);
    product(w->dk + k0 * DP, DP, w->ds, 1, KEYS, q, DP, seen, DP, n, true, false);
    product(w->dq + t0 * DP, DP, w->ds, KEYS, 1, k, DP, n, DP, seen, true, false);
}

#if HAS_PAIRS
NR_INLINE query_row row_of(const job *j, const view *w, size_t t0, size_t r, size_t k0)
{
    float lse = w->lse[t0 + r];
    return (query_row){.s = w->p + r * KEYS, .dp = w->ds + r * KEYS, .lse = lse == -INFINITY ? 0 : lse * LOG2_E, .delta = w->delta[t0 + r],
                       .seen = seen_bits(visible_shared(j->a, k0, KEYS), first_of(j, w, t0 + r, k0, KEYS),
                                         visible_end(j->a->start + t0 + r, k0, KEYS))};
}

/* ROWS rows of the next head from t on, and of the place where dq goes, are asked for: they lie far apart. */
NR_INLINE void ask_ahead(const job *j, const view *w, size_t t)
{
    size_t D = j->a->D, stride = j->a->H * D, n = NR_MIN(j->T - t, (size_t)ROWS);
    for (size_t i = 0; i < NR_COUNT(w->next) && w->next[0]; i++) fetch_rows(w->next[i], t * stride, stride, n, D, true);
    fetch_rows(w->to_dq, t * stride, stride, n, D, true);
}

/* tile_pair on pairs of bf16; of a tile on the diagonal only what ROWS queries or
 * keys have below it. set: which ROWS keys have a dK and dV that more is added to. */
NR_INLINE void tile_of_pairs(const job *j, const view *w, const float *packed, size_t k0, size_t t0, bool set[KEYS / ROWS])
{
    size_t D = j->a->D, DP = j->DP, n = NR_MIN(j->T - t0, (size_t)QUERIES), half = (n + 1) / 2, at = j->a->start + t0;
    size_t seen = NR_MIN(at + n - k0, (size_t)KEYS), ends[QUERIES / ROWS];
    const float *kt = packed, *vt = kt + D * KEYS, *k = vt + D * KEYS;
    const float *q_pairs = w->q_pairs + t0 / 2 * DP, *d_o_pairs = w->d_o_pairs + t0 / 2 * DP;
    for (size_t r = 0; r < n; r += ROWS) {
        size_t end = ends[r / ROWS] = visible_end(at + NR_MIN(r + ROWS, n) - 1, k0, KEYS), cols = padded(end);
        product(w->p + r * KEYS, KEYS, w->q + (t0 + r) * DP / 2, DP / 2, 1, kt, KEYS, ROWS, cols, (D + 1) / 2, false, true);
        product(w->ds + r * KEYS, KEYS, w->d_o + (t0 + r) * DP / 2, DP / 2, 1, vt, KEYS, ROWS, cols, (D + 1) / 2, false, true);
        if (at + n - k0 <= KEYS) ask_ahead(j, w, t0 + r); /* every query has one tile on the diagonal */
    }
    for (size_t r = 0; r < n; r += 2) {
        query_row a = row_of(j, w, t0, r, k0), b = {.s = a.s + KEYS, .dp = a.dp + KEYS}; /* sees nothing where there is no second row */
        uint16_t *along = (uint16_t *)(void *)(w->along + r * KEYS / 2);
        if (r + 1 < n) b = row_of(j, w, t0, r + 1, k0);
        weights_pair(&a, &b, w->p + r / 2 * KEYS, w->ds + r / 2 * KEYS, along, along + KEYS, padded(ends[r / ROWS]), j->a->scale * LOG2_E);
    }
    for (size_t i = 0; i < seen; i += ROWS) {
        size_t from = (k0 + i - NR_MIN(k0 + i, at)) / 2; /* pair of queries that is the first to see key i */
        float *p = w->p + from * KEYS + i, *ds = w->ds + from * KEYS + i;
        product(w->dv + (k0 + i) * DP, DP, p, 1, KEYS, d_o_pairs + from * DP, DP, ROWS, DP, half - from, set[i / ROWS], true);
        product(w->dk + (k0 + i) * DP, DP, ds, 1, KEYS, q_pairs + from * DP, DP, ROWS, DP, half - from, set[i / ROWS], true);
        set[i / ROWS] = true;
    }
    for (size_t r = 0; r < n; r += ROWS)
        product(w->dq + (t0 + r) * DP, DP, w->along + r * KEYS / 2, KEYS / 2, 1, k, DP, ROWS, DP, (ends[r / ROWS] + 1) / 2,
                w->first || k0 > 0, true);
}
#endif

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

#if HAS_PAIRS
/* A tile of keys with all queries; dK and dV are set. */
NR_INLINE void keys_of_pairs(const job *j, const view *w, const float *packed, size_t k0)
{
    bool set[KEYS / ROWS] = {0};
    for (size_t t0 = first_query(j, k0); t0 < j->T; t0 += QUERIES)
        if (tile_first(j, w->first, t0) < k0 + KEYS) tile_of_pairs(j, w, packed, k0, t0, set);
    for (size_t i = 0; i < KEYS; i += ROWS)
        if (!set[i / ROWS]) {
            memset(w->dv + (k0 + i) * j->DP, 0, ROWS * j->DP * sizeof *w->dv);
            memset(w->dk + (k0 + i) * j->DP, 0, ROWS * j->DP * sizeof *w->dk);
        }
}
#endif

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

NR_INLINE void head_task(const job *j, float *lane, size_t item, bool bf16)
{
    const nr_attention *a = j->a;
    size_t b = item / a->H, h = item % a->H, DP = j->DP, D = a->D, at = head_at(j, item), next = head_at(j, item + 1), stride = a->H * D;
    const float *packed = j->packed + (b * a->K + h / (a->H / a->K)) * j->tiles * j->packed_size;
    view w = {.q = lane, .d_o = lane + j->rows * DP, .dq = lane + 2 * j->rows * DP, .delta = lane + 3 * j->rows * DP};
    w.p = w.delta + j->rows;
    w.ds = w.p + QUERIES * KEYS;
    w.along = w.ds + QUERIES * KEYS;
    w.q_pairs = w.q + j->rows * DP / 2;
    w.d_o_pairs = w.d_o + j->rows * DP / 2;
    w.dk = j->heads + item * j->head_size;
    w.dv = w.dk + j->key_rows * DP;
    w.lse = j->lse + item * j->T;
    w.first = a->first ? a->first + b * j->T : NULL;
    w.to_dq = act_at_mut(j->dq, at, bf16);
    for (size_t i = 0; i < NR_COUNT(w.next) && item + 1 < j->items; i++) w.next[i] = act_at((const void *[]){j->q, j->d_o, j->o}[i], next, bf16);
#if HAS_PAIRS
    if (bf16) {
        pair_rows(w.q, w.q_pairs, act_at(j->q, at, bf16), stride, j->T, j->rows, D);
        pair_rows(w.d_o, w.d_o_pairs, act_at(j->d_o, at, bf16), stride, j->T, j->rows, D);
        if (w.first) memset(w.dq, 0, j->rows * DP * sizeof *w.dq);
    } else
#endif
    {
        if (DP != D) memset(lane, 0, 2 * j->rows * DP * sizeof *lane);
        memset(w.dq, 0, j->rows * DP * sizeof *w.dq);
        memset(w.dk, 0, j->head_size * sizeof *w.dk);
        pack_rows(w.q, act_at(j->q, at, bf16), stride, j->T, j->rows, D, a->scale, bf16);
        pack_rows(w.d_o, act_at(j->d_o, at, bf16), stride, j->T, j->rows, D, 1, bf16);
    }
    for (size_t t = 0; t < j->T; t++) w.delta[t] = row_product(j->d_o, j->o, at + t * stride, D, bf16);
    for (size_t k0 = 0; k0 < j->keys; k0 += KEYS) {
        const float *tile = packed + k0 / KEYS * j->packed_size;
#if HAS_PAIRS
        if (bf16) {
            keys_of_pairs(j, &w, tile, k0);
            continue;
        }
#endif
        for (size_t t0 = first_query(j, k0); t0 < j->T; t0 += QUERIES)
            if (tile_first(j, w.first, t0) < k0 + KEYS) tile_pair(j, &w, tile, k0, t0);
    }
    for (size_t t = 0; t < j->T; t++)
        NR_EACH(D, astore_n(j->dq, at + t * stride + i, vload(w.dq + t * DP + i) * a->scale, m, bf16););
}

NR_INLINE void run_share(job *j, size_t share, bool bf16)
{
    size_t begin = share * j->items / j->lane_count, end = (share + 1) * j->items / j->lane_count, lane = take_lane(&j->taken);
    for (size_t i = begin; i < end; i++) head_task(j, j->lanes + lane * j->lane_size, i, bf16);
    give_lane(&j->taken, lane);
}

/* dK and dV of KEYS keys of one kv head: its query heads added in order. */
NR_INLINE void add_heads(const job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t tile = task % j->tiles, head = task / j->tiles % a->K, b = task / j->tiles / a->K, group = a->H / a->K;
    const float *dk = j->heads + (b * a->H + head * group) * j->head_size, *dv = dk + j->key_rows * j->DP;
    for (size_t t = tile * KEYS; t < NR_MIN((tile + 1) * KEYS, j->keys); t++) {
        size_t to = b * a->k_batch + t * a->k_stride + head * a->k_head, from = t * j->DP;
        NR_EACH(a->D, {
            vf x = vload(dk + from + i), y = vload(dv + from + i);
            for (size_t g = 1; g < group; g++) {
                x += vload(dk + g * j->head_size + from + i);
                y += vload(dv + g * j->head_size + from + i);
            }
            astore_n(j->dk, to + i, HAS_PAIRS && bf16 ? x * a->scale : x, m, bf16);
            astore_n(j->dv, to + i, y, m, bf16);
        });
    }
}

size_t NR_CPU(attention_back_scratch, f32)(const nr_attention *a)
{
    job j = layout(a);
    return (j.lane_count * j.lane_size + j.items * j.head_size + a->B * a->K * j.tiles * j.packed_size) * sizeof(float);
}

#define ATTENTION_BACK(type, bf16)                                                                                     \
    static void pack_##type(void *context, size_t task) { pack_tile(context, task, bf16); }                            \
    static void share_##type(void *context, size_t task) { run_share(context, task, bf16); }                           \
    static void add_##type(void *context, size_t task) { add_heads(context, task, bf16); }                             \
    void NR_CPU(attention_back, type)(void *dq, void *dk, void *dv, const void *d_o, const void *o, const void *q,     \
                                      const void *k, const void *v, const void *lse, const nr_attention *a,            \
                                      void *scratch)                                                                   \
    {                                                                                                                  \
        job j = layout(a);                                                                                             \
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
        j.packed = j.heads + j.items * j.head_size;                                                                    \
        nr_parallel(a->B * a->K * j.tiles, pack_##type, &j);                                                           \
        nr_parallel(j.lane_count, share_##type, &j);                                                                   \
        nr_parallel(a->B * a->K * j.tiles, add_##type, &j);                                                            \
    }
NR_CPU_BOTH(ATTENTION_BACK)
