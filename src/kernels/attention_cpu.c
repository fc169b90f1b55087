/*
 * attention_cpu.c - causal attention of grouped heads, forward.
 *
 * Several queries: keys and values are packed into float tiles once; then every
 * (sequence, head, 32 queries) goes over its visible tiles with a running
 * maximum and sum. One query (decoding): every (sequence, head) reads the cache
 * in place. Memory is linear in the number of keys.
 *
 * A query that sees no key gets o = 0 and lse = -infinity.
 */
#include "kernels/attention_tiles.h"

typedef struct {
    void *o;
    float *lse;
    const void *q, *k, *v;
    const nr_attention *a;
    float *packed, *lanes;
    size_t keys, key_tiles, query_tiles, DP, packed_size, lane_size, items, lane_count;
} job;

static job layout(const nr_attention *a)
{
    job j = {.a = a, .keys = a->start + a->Tq, .DP = padded(a->D)};
    j.key_tiles = tasks_of(j.keys, KEYS);
    j.query_tiles = tasks_of(a->Tq, QUERIES);
    j.packed_size = KEYS * (a->D + j.DP);          /* transposed keys (D, KEYS), values (KEYS, DP) */
    j.lane_size = QUERIES * (2 * j.DP + KEYS + 2); /* q, o, scores, maximum, sum */
    j.items = a->B * a->H * j.query_tiles;
    j.lane_count = NR_MIN(j.items, (size_t)LANES);
    return j;
}

static size_t decode_size(const nr_attention *a) { return 2 * padded(a->D) + KEYS; }

NR_INLINE void pack_tile(const job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t tile = task % j->key_tiles, head = task / j->key_tiles % a->K, b = task / j->key_tiles / a->K;
    size_t at = b * a->k_batch + tile * KEYS * a->k_stride + head * a->D,
           rows = NR_MIN(j->keys - tile * KEYS, (size_t)KEYS);
    float *kt = j->packed + task * j->packed_size, *v = kt + a->D * KEYS;
    if (HAS_PAIRS && bf16) {
        pair_columns(kt, act_at(j->k, at, bf16), a->k_stride, rows, a->D);
        pair_neighbours(v, act_at(j->v, at, bf16), a->k_stride, rows, KEYS, a->D);
        return;
    }
    pack_columns(kt, act_at(j->k, at, bf16), a->k_stride, rows, a->D, bf16);
    if (j->DP != a->D) memset(v, 0, KEYS * j->DP * sizeof *v);
    pack_rows(v, act_at(j->v, at, bf16), a->k_stride, rows, KEYS, a->D, 1, bf16);
}

/* Scores of one row [0, cols), times scale, become weights against the running
 * maximum; the row of o and the sum follow a larger maximum. Seen are [0, shared)
 * and [begin, end). pairs: the weights are left as bf16 at the begin of the row. */
NR_INLINE void soften_row(float *s, float *o, float *max, float *sum, size_t shared, size_t begin, size_t end, size_t cols,
                          size_t DP, bool fresh, float scale, bool pairs)
{
    for (size_t i = shared; i < begin; i++) s[i] = -INFINITY;
    for (size_t i = end; i < cols; i++) s[i] = -INFINITY;
    vf top = vset(*max), total = {0};
    for (size_t i = 0; i < cols; i += VW) {
        if (scale != 1) vstore(s + i, vload(s + i) * scale);
        top = vmax(top, vload(s + i));
    }
    float most = vsum_max(top);
    if (most == -INFINITY) { /* nothing seen yet */
        memset(s, 0, cols * sizeof *s);
        return;
    }
    for (size_t i = 0; i < cols; i += VW) {
        vf p = vexp(vload(s + i) - most);
        if (pairs) astore(s, i, p, true); /* behind what is still to be read */
        else vstore(s + i, p);
        total += p;
    }
    float keep = vexp(vset(*max - most))[0];
    *sum = *sum * keep + vsum(total);
    *max = most;
    if (fresh || keep == 1) return;
    for (size_t i = 0; i < DP; i += VW) vstore(o + i, vload(o + i) * keep);
}

NR_INLINE void store_rows(const job *j, size_t b, size_t h, size_t t0, size_t n, const float *o, const float *max,
                          const float *sum, bool bf16)
{
    const nr_attention *a = j->a;
    for (size_t r = 0; r < n; r++) {
        float s = sum[r] > 0 ? 1 / sum[r] : 0;
        size_t at = ((b * a->Tq + t0 + r) * a->H + h) * a->D;
        NR_EACH(a->D, astore_n(j->o, at + i, vload(o + r * j->DP + i) * s, m, bf16););
        if (j->lse) j->lse[(b * a->H + h) * a->Tq + t0 + r] = max[r] + logf(sum[r]);
    }
}

NR_INLINE void query_tile(const job *j, float *lane, size_t b, size_t h, size_t tile, bool bf16)
{
    const nr_attention *a = j->a;
    size_t t0 = tile * QUERIES, n = NR_MIN(a->Tq - t0, (size_t)QUERIES), DP = j->DP, last = a->start + t0 + n - 1;
    float *q = lane, *o = q + QUERIES * DP, *s = o + QUERIES * DP, *max = s + QUERIES * KEYS, *sum = max + QUERIES;
    const int32_t *first = a->first ? a->first + b * a->Tq + t0 : NULL;
    const float *packed = j->packed + (b * a->K + h / (a->H / a->K)) * j->key_tiles * j->packed_size;
    size_t begin = first ? last : 0;
    const bool pairs = HAS_PAIRS && bf16;
    for (size_t r = 0; r < n; r++) {
        max[r] = -INFINITY;
        sum[r] = 0;
        if (first) begin = NR_MIN(begin, a->shared + (size_t)first[r]);
    }
    if (a->shared > 0) begin = 0;
    const void *from = act_at(j->q, ((b * a->Tq + t0) * a->H + h) * a->D, bf16);
    if (pairs) pair_rows(q, from, a->H * a->D, n, QUERIES, a->D);
    else pack_rows(q, from, a->H * a->D, n, QUERIES, a->D, a->scale, bf16);
    for (size_t k = begin / KEYS; k <= last / KEYS; k++) {
        size_t k0 = k * KEYS, seen = NR_MIN(last + 1 - k0, (size_t)KEYS), cols = padded(seen);
        const float *kt = packed + k * j->packed_size, *v = kt + a->D * KEYS;
        bool fresh = k == begin / KEYS;
        product(s, KEYS, q, pairs ? DP / 2 : DP, 1, kt, KEYS, n, cols, pairs ? (a->D + 1) / 2 : a->D, false, pairs);
        for (size_t r = 0; r < n; r++)
            soften_row(s + r * KEYS, o + r * DP, max + r, sum + r,
                       visible_shared(a, k0, cols), first ? visible_begin(a->shared + (size_t)first[r], k0, cols) : 0,
                       visible_end(a->start + t0 + r, k0, cols), cols, DP, fresh, pairs ? a->scale : 1, pairs);
        product(o, DP, s, KEYS, 1, v, DP, n, DP, pairs ? (seen + 1) / 2 : seen, !fresh, pairs);
    }
    store_rows(j, b, h, t0, n, o, max, sum, bf16);
}

/* A lane takes a contiguous share of the items. Late tiles see more keys, so a
 * head's tiles are taken from both ends in turn, which evens out the shares. */
NR_INLINE void run_lane(const job *j, size_t lane, bool bf16)
{
    const nr_attention *a = j->a;
    size_t begin = lane * j->items / j->lane_count, end = (lane + 1) * j->items / j->lane_count;
    for (size_t i = begin; i < end; i++) {
        size_t turn = i % j->query_tiles, bh = i / j->query_tiles;
        size_t tile = turn % 2 ? j->query_tiles - 1 - turn / 2 : turn / 2;
        query_tile(j, j->lanes + lane * j->lane_size, bh / a->H, bh % a->H, tile, bf16);
    }
}

/* ---- one query ---- */

/* Scores of keys [0, n) at k, `stride` apart. */
NR_INLINE void decode_scores(float *s, const float *q, const void *k, size_t stride, size_t n, size_t D, bool bf16)
{
    for (size_t r = 0; r < n; r++) {
        vf x[4] = {{0}};
        size_t d = 0;
        for (; d + 4 * VW <= D; d += 4 * VW)
            for (size_t c = 0; c < 4; c++) x[c] = vfma(vload(q + d + c * VW), aload(k, r * stride + d + c * VW, bf16), x[c]);
        for (; d < D; d += VW) x[0] = vfma(vload(q + d), aload_n(k, r * stride + d, D - d, bf16), x[0]);
        s[r] = vsum((x[0] + x[1]) + (x[2] + x[3]));
    }
}

/* o (DP) += sum of s_r v_r. */
NR_INLINE void decode_values(float *o, const float *s, const void *v, size_t stride, size_t n, size_t D, bool bf16)
{
    size_t d = 0;
    for (; d + 4 * VW <= D; d += 4 * VW) {
        vf x[4];
        for (size_t c = 0; c < 4; c++) x[c] = vload(o + d + c * VW);
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < 4; c++) x[c] = vfma(vset(s[r]), aload(v, r * stride + d + c * VW, bf16), x[c]);
        for (size_t c = 0; c < 4; c++) vstore(o + d + c * VW, x[c]);
    }
    for (; d < D; d += VW) {
        vf x = vload(o + d);
        for (size_t r = 0; r < n; r++) x = vfma(vset(s[r]), aload_n(v, r * stride + d, D - d, bf16), x);
        vstore(o + d, x);
    }
}

NR_INLINE void decode_head(const job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t b = task / a->H, h = task % a->H, kv = b * a->k_batch + h / (a->H / a->K) * a->D;
    size_t first = a->first ? a->shared + (size_t)a->first[b] : 0, begin = a->shared > 0 ? 0 : first;
    float *q = j->lanes + task * decode_size(a), *o = q + j->DP, *s = o + j->DP, max = -INFINITY, sum = 0;
    pack_rows(q, act_at(j->q, task * a->D, bf16), a->D, 1, 1, a->D, a->scale, bf16);
    memset(o, 0, j->DP * sizeof *o);
    for (size_t k0 = begin; k0 < j->keys; k0 += KEYS) {
        size_t n = NR_MIN(j->keys - k0, (size_t)KEYS), at = kv + k0 * a->k_stride;
        decode_scores(s, q, act_at(j->k, at, bf16), a->k_stride, n, a->D, bf16);
        soften_row(s, o, &max, &sum, visible_shared(a, k0, n), visible_begin(first, k0, n), n, padded(n), j->DP, false, 1, false);
        decode_values(o, s, act_at(j->v, at, bf16), a->k_stride, n, a->D, bf16);
    }
    store_rows(j, b, h, 0, 1, o, &max, &sum, bf16);
}

#define ATTENTION(type, bf16)                                                                                          \
    static void pack_##type(void *context, size_t task) { pack_tile(context, task, bf16); }                            \
    static void lane_##type(void *context, size_t task) { run_lane(context, task, bf16); }                             \
    static void decode_##type(void *context, size_t task) { decode_head(context, task, bf16); }                        \
    void NR_CPU(attention, type)(void *o, void *lse, const void *q, const void *k, const void *v,                      \
                                 const nr_attention *a, void *scratch)                                                 \
    {                                                                                                                  \
        job j = layout(a);                                                                                             \
        if (j.items == 0) return;                                                                                      \
        j.o = o;                                                                                                       \
        j.lse = lse;                                                                                                   \
        j.q = q;                                                                                                       \
        j.k = k;                                                                                                       \
        j.v = v;                                                                                                       \
        j.lanes = scratch;                                                                                             \
        if (a->Tq == 1) {                                                                                              \
            nr_parallel(a->B * a->H, decode_##type, &j);                                                               \
            return;                                                                                                    \
        }                                                                                                              \
        j.packed = j.lanes + j.lane_count * j.lane_size;                                                               \
        nr_parallel(a->B * a->K * j.key_tiles, pack_##type, &j);                                                       \
        nr_parallel(j.lane_count, lane_##type, &j);                                                                    \
    }                                                                                                                  \
    /* Also enough for any smaller Tq over the same keys: a cache is planned once. */                                  \
    size_t NR_CPU(attention_scratch, type)(const nr_attention *a, bool backward)                                       \
    {                                                                                                                  \
        job j = layout(a);                                                                                             \
        size_t tiles = j.lane_count * j.lane_size + a->B * a->K * j.key_tiles * j.packed_size;                         \
        size_t bytes = NR_MAX(tiles, a->B * a->H * decode_size(a)) * sizeof(float);                                    \
        if (!backward) return bytes;                                                                                   \
        return NR_MAX(bytes, NR_CPU(attention_back_scratch, f32)(a));                                                  \
    }
NR_CPU_BOTH(ATTENTION)
