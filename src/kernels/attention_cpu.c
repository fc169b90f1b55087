/*
 * attention_cpu.c - causal attention of grouped heads, forward.
 *
 * Several queries: keys and values are packed into float tiles once; then every
 * (sequence, head, 32 queries) goes over its visible tiles with a running
 * maximum and sum. One query (decoding): every (sequence, kv head, CHUNK keys)
 * reads the cache in place, once for all query heads that share it; whoever
 * finishes the last chunk of a kv head brings what all of them found to one
 * maximum and adds it in order. Memory is linear in the number of keys.
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
    _Atomic uint64_t taken; /* lanes */
    _Atomic uint32_t *left; /* (B, K) chunks that aren't done; one query only */
} job;

static job layout(const nr_attention *a)
{
    job j = {.a = a, .keys = a->start + a->Tq, .DP = padded(a->D)};
    j.key_tiles = tasks_of(j.keys, KEYS);
    j.query_tiles = tasks_of(a->Tq, QUERIES);
    j.packed_size = KEYS * (a->D + j.DP);          /* transposed keys (D, KEYS), values (KEYS, DP) */
    j.lane_size = QUERIES * (2 * j.DP + KEYS + 2 + VW); /* q, o, scores, maximum, sum; sum by lanes */
    j.items = a->B * a->H * j.query_tiles;
    j.lane_count = NR_MIN(j.items, (size_t)LANES);
    return j;
}

/* ---- one query: sizes ---- */

enum {
    CHUNK = 2 * KEYS,           /* keys of a task */
    GROUP = VW == 16 ? 4 : 2    /* query heads at once, with GROUP x 4 accumulators */
};

static size_t chunks_of(const nr_attention *a) { return tasks_of(a->start + a->Tq, CHUNK); }
static size_t head_rows(const nr_attention *a) { return tasks_of(a->H / a->K, ROWS) * ROWS; }
/* Floats that a chunk leaves: o (head rows, DP), maximum and sum (heads). */
static size_t chunk_size(const nr_attention *a) { return head_rows(a) * padded(a->D) + 2 * (a->H / a->K); }
/* Floats of a working set: q, scores and sums by lanes of the heads; of pairs a tile of keys and one of values. */
static size_t decode_size(const nr_attention *a) { return head_rows(a) * (padded(a->D) + KEYS + VW) + KEYS * padded(a->D); }

NR_INLINE void pack_tile(const job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t tile = task % j->key_tiles, head = task / j->key_tiles % a->K, b = task / j->key_tiles / a->K;
    size_t at = b * a->k_batch + tile * KEYS * a->k_stride + head * a->k_head,
           rows = NR_MIN(j->keys - tile * KEYS, (size_t)KEYS);
    float *kt = j->packed + task * j->packed_size, *v = kt + a->D * KEYS;
#if HAS_PAIRS
    if (bf16) {
        pair_columns(kt, act_at(j->k, at, bf16), a->k_stride, rows, a->D);
        pair_rows(NULL, v, act_at(j->v, at, bf16), a->k_stride, rows, KEYS, a->D);
        return;
    }
#endif
    pack_columns(kt, act_at(j->k, at, bf16), a->k_stride, rows, a->D, bf16);
    if (j->DP != a->D) memset(v, 0, KEYS * j->DP * sizeof *v);
    pack_rows(v, act_at(j->v, at, bf16), a->k_stride, rows, KEYS, a->D, 1, bf16);
}

/* Scores of one row [0, cols) become weights against the running
 * maximum; the row of o and the sum follow a larger maximum. Seen are [0, shared)
 * and [begin, end). */
NR_INLINE void soften_row(float *s, float *o, float *max, float *sum, size_t shared, size_t begin, size_t end, size_t cols,
                          size_t DP)
{
    for (size_t i = shared; i < begin; i++) s[i] = -INFINITY;
    for (size_t i = end; i < cols; i++) s[i] = -INFINITY;
    vf top = vset(*max), total = {0};
    for (size_t i = 0; i < cols; i += VW) top = vmax(top, vload(s + i));
    float most = vsum_max(top);
    if (most == -INFINITY) { /* nothing seen yet */
        memset(s, 0, cols * sizeof *s);
        return;
    }
    for (size_t i = 0; i < cols; i += VW) {
        vf p = vexp(vload(s + i) - most);
        vstore(s + i, p);
        total += p;
    }
    if (most == *max) {
        *sum += vsum(total);
        return;
    }
    float keep = vexp(vset(*max - most))[0];
    *sum = *sum * keep + vsum(total);
    *max = most;
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

#if HAS_PAIRS
/* soften_row for pairs: logarithms to base 2, of scores times scale; the weights
 * are left as bf16 at the begin of the row; the sum stays in lanes. The maximum
 * follows only where weights would pass 2^SLACK, which is seldom. */
#define SLACK 8
NR_INLINE void soften_pairs(float *s, float *o, float *max, float *sum, uint64_t seen, size_t cols, size_t DP, float scale)
{
    vf top = vset(-INFINITY);
    for (size_t i = 0; i < cols; i += VW)
        top = (vf)_mm512_mask_max_ps((__m512)top, (__mmask16)(seen >> i), (__m512)top, (__m512)vload(s + i));
    if (_mm512_cmp_ps_mask((__m512)(top * scale), (__m512)vset(*max + SLACK), _CMP_GT_OQ)) {
        float most = vsum_max(top) * scale, keep = *max == -INFINITY ? 0 : vexp2_masked(vset(*max - most), 1)[0];
        *max = most;
        vstore(sum, vload(sum) * keep);
        for (size_t i = 0; i < DP; i += VW) vstore(o + i, vload(o + i) * keep);
    }
    vf total = vload(sum), least = vset(-*max);
    for (size_t i = 0; i < cols; i += 2 * VW) { /* written behind what is still to be read */
        vf a = vexp2_masked(vfma(vload(s + i), vset(scale), least), (__mmask16)(seen >> i)), b = vzero();
        if (i + VW < cols) b = vexp2_masked(vfma(vload(s + i + VW), vset(scale), least), (__mmask16)(seen >> (i + VW)));
        total += a + b;
        _mm512_storeu_si512(s + i / 2, round_both(a, b));
    }
    vstore(sum, total);
}

#endif

/* Queries of a head. */
typedef struct {
    size_t b, h, t0, at; /* at: their first element in q and o */
} place;

/* Late tiles see more keys, so a head's tiles are taken from both ends in turn, which evens out the shares. */
NR_INLINE place place_of(const job *j, size_t item)
{
    const nr_attention *a = j->a;
    size_t turn = item % j->query_tiles, bh = item / j->query_tiles, tile = turn % 2 ? j->query_tiles - 1 - turn / 2 : turn / 2;
    place p = {bh / a->H, bh % a->H, tile * QUERIES, 0};
    p.at = ((p.b * a->Tq + p.t0) * a->H + p.h) * a->D;
    return p;
}

/* q of a tile, o and the sums by lanes empty. */
NR_INLINE void pack_queries(const job *j, float *lane, size_t at, size_t n, bool bf16)
{
    const nr_attention *a = j->a;
    const void *from = act_at(j->q, at, bf16);
    float *o = lane + QUERIES * j->DP;
    memset(o, 0, QUERIES * j->DP * sizeof *o);
    memset(lane + j->lane_size - QUERIES * VW, 0, QUERIES * VW * sizeof *o);
#if HAS_PAIRS
    if (bf16) {
        pair_rows(lane, NULL, from, a->H * a->D, n, QUERIES, a->D);
        return;
    }
#endif
    pack_rows(lane, from, a->H * a->D, n, QUERIES, a->D, a->scale, bf16);
}

NR_INLINE void query_tile(const job *j, float *lane, size_t item, bool bf16)
{
    const nr_attention *a = j->a;
    const place p = place_of(j, item);
    const bool pairs = HAS_PAIRS && bf16;
    size_t b = p.b, h = p.h, t0 = p.t0, n = NR_MIN(a->Tq - t0, (size_t)QUERIES), DP = j->DP, at = a->start + t0, last = at + n - 1;
    size_t unit = pairs ? 2 : 1, stride = a->H * a->D, ends[QUERIES / ROWS];
    float *q = lane, *o = q + QUERIES * DP, *s = o + QUERIES * DP, *max = s + QUERIES * KEYS, *sum = max + QUERIES, *sums = sum + QUERIES;
    const int32_t *first = a->first ? a->first + b * a->Tq + t0 : NULL;
    const float *packed = j->packed + (b * a->K + h / (a->H / a->K)) * j->key_tiles * j->packed_size;
    size_t begin = first ? last : 0;
    for (size_t r = 0; r < n; r++) {
        max[r] = -INFINITY;
        sum[r] = 0;
        if (first) begin = NR_MIN(begin, a->shared + (size_t)first[r]);
    }
    if (a->shared > 0) begin = 0;
    pack_queries(j, lane, p.at, n, bf16);
    size_t next = place_of(j, NR_MIN(item + 1, j->items - 1)).at;
    for (size_t k0 = begin / KEYS * KEYS; k0 < at + n; k0 += KEYS) {
        const float *kt = packed + k0 / KEYS * j->packed_size, *v = kt + a->D * KEYS;
        for (size_t r = 0; r < n; r += ROWS) { /* nothing beyond what the last of ROWS queries sees */
            size_t end = ends[r / ROWS] = visible_end(at + NR_MIN(r + ROWS, n) - 1, k0, KEYS);
            product(s + r * KEYS, KEYS, q + r * DP / unit, DP / unit, 1, kt, KEYS, ROWS, block_cols(end), (a->D + unit - 1) / unit, false, pairs);
            if (k0 + KEYS < at + n) continue;
            fetch_rows(j->o, p.at + r * stride, stride, ROWS, a->D, bf16);
            fetch_rows(j->q, next + r * stride, stride, ROWS, a->D, bf16);
        }
        for (size_t r = 0; r < n; r++) {
            size_t cols = block_cols(ends[r / ROWS]), from = first ? visible_begin(a->shared + (size_t)first[r], k0, cols) : 0;
            size_t shared = visible_shared(a, k0, cols), end = visible_end(at + r, k0, cols);
#if HAS_PAIRS
            if (pairs) {
                soften_pairs(s + r * KEYS, o + r * DP, max + r, sums + r * VW, seen_bits(shared, from, end), cols, DP, a->scale * LOG2_E);
                continue;
            }
#endif
            soften_row(s + r * KEYS, o + r * DP, max + r, sum + r, shared, from, end, cols, DP);
        }
        for (size_t r = 0; r < n; r += ROWS)
            product(o + r * DP, DP, s + r * KEYS, KEYS, 1, v, DP, ROWS, DP, (ends[r / ROWS] + unit - 1) / unit, true, pairs);
    }
    for (size_t r = 0; pairs && r < n; r++) {
        max[r] *= LN_2;
        sum[r] = vsum(vload(sums + r * VW));
    }
    store_rows(j, b, h, t0, n, o, max, sum, bf16);
}

/* A contiguous share of the items. */
NR_INLINE void run_share(job *j, size_t share, bool bf16)
{
    size_t begin = share * j->items / j->lane_count, end = (share + 1) * j->items / j->lane_count, lane = take_lane(&j->taken);
    for (size_t i = begin; i < end; i++) query_tile(j, j->lanes + lane * j->lane_size, i, bf16);
    give_lane(&j->taken, lane);
}

/* ---- one query ---- */

typedef float v4 __attribute__((vector_size(16)));

NR_INLINE v4 by_fours(vf v)
{
#if VW == 16
    typedef float v8 __attribute__((vector_size(32)));
    v8 h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif VW == 8
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
    return v;
#endif
}

/* The sums over the lanes of four vectors. */
NR_INLINE v4 four_sums(const vf x[4])
{
    v4 a = by_fours(x[0]), b = by_fours(x[1]), c = by_fours(x[2]), d = by_fours(x[3]);
    v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    v4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

/* s (heads, KEYS): scores of keys [0, n) at k, `stride` apart, with q (heads, DP); beyond n without meaning. */
NR_INLINE void decode_scores(size_t heads, float *s, const float *q, const void *k, size_t stride, size_t n, size_t D, bool bf16)
{
    size_t DP = padded(D);
    for (size_t r = 0; r < n; r += 4) {
        vf x[GROUP][4] = {{{0}}};
        size_t at[4];
        for (size_t i = 0; i < 4; i++) at[i] = NR_MIN(r + i, n - 1) * stride;
        NR_EACH(D, {
            vf key[4];
            for (size_t c = 0; c < 4; c++) key[c] = aload_n(k, at[c] + i, m, bf16);
            for (size_t h = 0; h < heads; h++)
                for (size_t c = 0; c < 4; c++) x[h][c] = vfma(vload(q + h * DP + i), key[c], x[h][c]);
        });
        for (size_t h = 0; h < heads; h++) {
            v4 sums = four_sums(x[h]);
            memcpy(s + h * KEYS + r, &sums, sizeof sums);
        }
    }
}

/* o (heads, DP) += sums of s_r v_r, nv vectors of them. */
NR_INLINE void value_block(size_t heads, size_t nv, float *o, size_t DP, const float *s, const void *v, size_t stride, size_t n,
                           size_t m, bool bf16)
{
    vf x[GROUP][4];
    for (size_t h = 0; h < heads; h++)
        for (size_t c = 0; c < nv; c++) x[h][c] = vload(o + h * DP + c * VW);
    for (size_t r = 0; r < n; r++) {
        vf value[4];
        for (size_t c = 0; c < nv; c++) value[c] = aload_n(v, r * stride + c * VW, m, bf16);
        for (size_t h = 0; h < heads; h++)
            for (size_t c = 0; c < nv; c++) x[h][c] = vfma(vset(s[h * KEYS + r]), value[c], x[h][c]);
    }
    for (size_t h = 0; h < heads; h++)
        for (size_t c = 0; c < nv; c++) vstore(o + h * DP + c * VW, x[h][c]);
}

NR_INLINE void decode_values(size_t heads, float *o, const float *s, const void *v, size_t stride, size_t n, size_t D, bool bf16)
{
    size_t d = 0, DP = padded(D);
    for (; d + 4 * VW <= D; d += 4 * VW) value_block(heads, 4, o + d, DP, s, act_at(v, d, bf16), stride, n, VW, bf16);
    for (; d < D; d += VW) value_block(heads, 1, o + d, DP, s, act_at(v, d, bf16), stride, n, NR_MIN(D - d, (size_t)VW), bf16);
}

/* Up to GROUP heads of a chunk. */
NR_INLINE void decode_heads(const job *j, size_t heads, const float *q, float *s, float *o, float *max, float *sum, size_t kv,
                            size_t first, size_t begin, size_t end, bool bf16)
{
    const nr_attention *a = j->a;
    for (size_t k0 = begin; k0 < end; k0 += KEYS) {
        size_t n = NR_MIN(end - k0, (size_t)KEYS), at = kv + k0 * a->k_stride, next = k0 + n;
        if (k0 == begin) fetch_rows(j->v, at, a->k_stride, n, a->D, bf16);
        if (next < end) fetch_rows(j->k, kv + next * a->k_stride, a->k_stride, NR_MIN(end - next, (size_t)KEYS), a->D, bf16);
        decode_scores(heads, s, q, act_at(j->k, at, bf16), a->k_stride, n, a->D, bf16);
        for (size_t h = 0; h < heads; h++)
            soften_row(s + h * KEYS, o + h * j->DP, max + h, sum + h, visible_shared(a, k0, n), visible_begin(first, k0, n), n,
                       padded(n), j->DP);
        if (next < end) fetch_rows(j->v, kv + next * a->k_stride, a->k_stride, NR_MIN(end - next, (size_t)KEYS), a->D, bf16);
        decode_values(heads, o, s, act_at(j->v, at, bf16), a->k_stride, n, a->D, bf16);
    }
}

#if HAS_PAIRS
/* All heads that share a kv head: a tile of keys and one of values serve them as they serve a prompt's queries. */
NR_INLINE void decode_pairs(const job *j, size_t heads, float *work, float *o, float *max, float *sum, const uint16_t *q0, size_t kv,
                            size_t first, size_t begin, size_t end)
{
    const nr_attention *a = j->a;
    const uint16_t *keys = j->k, *values = j->v;
    size_t D = a->D, DP = j->DP, rows = head_rows(a);
    float *q = work, *s = q + rows * DP, *sums = s + rows * KEYS, *kt = sums + rows * VW, *v = kt + (D + 1) / 2 * KEYS;
    pair_rows(q, NULL, q0, D, heads, rows, D);
    memset(o, 0, rows * DP * sizeof *o);
    memset(sums, 0, rows * VW * sizeof *sums);
    for (size_t k0 = begin; k0 < end; k0 += KEYS) {
        size_t n = NR_MIN(end - k0, (size_t)KEYS), at = kv + k0 * a->k_stride, next = k0 + KEYS;
        for (size_t r = 0; r < n; r += VW) {
            size_t some = NR_MIN(n - r, (size_t)VW);
            fetch_rows(values, at + r * a->k_stride, a->k_stride, some, D, true);
            pair_some_columns(kt + r, keys + at + r * a->k_stride, a->k_stride, some, D);
        }
        for (size_t r = 0; r < rows; r += ROWS)
            product(s + r * KEYS, KEYS, q + r * DP / 2, DP / 2, 1, kt, KEYS, ROWS, padded(n), (D + 1) / 2, false, true);
        for (size_t r = 0; r < n; r += VW) { /* the next tile's keys are fetched a few at a time, beside other work */
            size_t some = NR_MIN(n - r, (size_t)VW), ahead = NR_MIN(j->keys - NR_MIN(next + r, j->keys), (size_t)VW);
            fetch_rows(keys, kv + (next + r) * a->k_stride, a->k_stride, ahead, D, true);
            pair_rows(NULL, v + r / 2 * DP, values + at + r * a->k_stride, a->k_stride, some, (some + 1) / 2 * 2, D);
        }
        for (size_t h = 0; h < heads; h++)
            soften_pairs(s + h * KEYS, o + h * DP, max + h, sums + h * VW, seen_bits(visible_shared(a, k0, n), visible_begin(first, k0, n), n),
                         padded(n), DP, a->scale * LOG2_E);
        for (size_t r = 0; r < rows; r += ROWS)
            product(o + r * DP, DP, s + r * KEYS, KEYS, 1, v, DP, ROWS, DP, (n + 1) / 2, true, true);
    }
    for (size_t h = 0; h < heads; h++) {
        max[h] *= LN_2;
        sum[h] = vsum(vload(sums + h * VW));
    }
}
#endif

NR_INLINE void decode_floats(const job *j, size_t all, float *work, float *o, float *max, float *sum, const void *q0, size_t kv, size_t first,
                             size_t begin, size_t end, bool bf16)
{
    size_t D = j->a->D, DP = j->DP;
    float *q = work, *s = q + all * DP;
    pack_rows(q, q0, D, all, all, D, j->a->scale, bf16);
    memset(o, 0, all * DP * sizeof *o);
    for (size_t h = 0, n; h < all; h += n) {
        n = NR_MIN(all - h, (size_t)GROUP);
#define HEADS(count) decode_heads(j, count, q + h * DP, s + h * KEYS, o + h * DP, max + h, sum + h, kv, first, begin, end, bf16)
        switch (n) {
        case 1: HEADS(1); break;
#if VW == 16
        case 2: HEADS(2); break;
        case 3: HEADS(3); break;
#endif
        default: HEADS(GROUP);
        }
#undef HEADS
    }
}

/* All chunks of a head: the first one's o becomes their sum. */
NR_INLINE void decode_head(const job *j, size_t b, size_t head, bool bf16)
{
    const nr_attention *a = j->a;
    size_t heads = a->H / a->K, chunks = chunks_of(a), size = chunk_size(a), DP = j->DP;
    float *from = j->lanes + (b * a->K + head / heads) * chunks * size, *o = from + head % heads * DP;
    float *max = from + head_rows(a) * DP + head % heads, *sum = max + heads, most = -INFINITY, total = 0;
    for (size_t c = 0; c < chunks; c++) most = NR_MAX(most, max[c * size]);
    for (size_t c = 0; c < chunks && most != -INFINITY; c++) {
        float share = vexp(vset(max[c * size] - most))[0];
        total += sum[c * size] * share;
        for (size_t i = 0; i < DP; i += VW) {
            vf x = vload(o + c * size + i) * share;
            vstore(o + i, c == 0 ? x : vload(o + i) + x);
        }
    }
    store_rows(j, b, head, 0, 1, o, &most, &total, bf16);
}

NR_INLINE void decode_chunk(job *j, size_t task, bool bf16)
{
    const nr_attention *a = j->a;
    size_t chunks = chunks_of(a), chunk = task % chunks, head = task / chunks % a->K, b = task / chunks / a->K, heads = a->H / a->K;
    size_t first = a->first ? a->shared + (size_t)a->first[b] : 0, kv = b * a->k_batch + head * a->k_head, lane = take_lane(&j->taken);
    size_t begin = NR_MAX(chunk * CHUNK, a->shared > 0 ? 0 : first), end = NR_MIN((chunk + 1) * CHUNK, j->keys);
    float *o = j->lanes + task * chunk_size(a), *max = o + head_rows(a) * j->DP, *sum = max + heads, *work = j->packed + lane * decode_size(a);
    const void *q = act_at(j->q, (b * a->H + head * heads) * a->D, bf16);
    for (size_t h = 0; h < heads; h++) {
        max[h] = -INFINITY;
        sum[h] = 0;
    }
#if HAS_PAIRS
    if (bf16) decode_pairs(j, heads, work, o, max, sum, q, kv, first, begin, end);
    else decode_floats(j, heads, work, o, max, sum, q, kv, first, begin, end, false);
#else
    decode_floats(j, heads, work, o, max, sum, q, kv, first, begin, end, bf16);
#endif
    give_lane(&j->taken, lane);
    if (atomic_fetch_sub_explicit(j->left + b * a->K + head, 1, memory_order_acq_rel) > 1) return;
    for (size_t h = 0; h < heads; h++) decode_head(j, b, head * heads + h, bf16);
}

#define ATTENTION(type, bf16)                                                                                          \
    static void pack_##type(void *context, size_t task) { pack_tile(context, task, bf16); }                            \
    static void share_##type(void *context, size_t task) { run_share(context, task, bf16); }                           \
    static void chunk_##type(void *context, size_t task) { decode_chunk(context, task, bf16); }                        \
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
            size_t heads = a->B * a->K, chunks = chunks_of(a);                                                         \
            j.packed = j.lanes + heads * chunks * chunk_size(a);                                                       \
            j.left = (_Atomic uint32_t *)(void *)(j.packed + LANES * decode_size(a));                                  \
            for (size_t i = 0; i < heads; i++) atomic_init(j.left + i, (uint32_t)chunks);                              \
            nr_parallel(heads * chunks, chunk_##type, &j);                                                             \
            return;                                                                                                    \
        }                                                                                                              \
        j.packed = j.lanes + j.lane_count * j.lane_size;                                                               \
        nr_parallel(a->B * a->K * j.key_tiles, pack_##type, &j);                                                       \
        nr_parallel(j.lane_count, share_##type, &j);                                                                   \
    }                                                                                                                  \
    /* Also enough for any smaller Tq over the same keys: a cache is planned once. */                                  \
    size_t NR_CPU(attention_scratch, type)(const nr_attention *a, bool backward)                                       \
    {                                                                                                                  \
        job j = layout(a);                                                                                             \
        size_t tiles = j.lane_count * j.lane_size + a->B * a->K * j.key_tiles * j.packed_size;                         \
        size_t chunks = a->B * a->K * chunks_of(a), decode = chunks * chunk_size(a) + LANES * decode_size(a) + a->B * a->K; \
        size_t bytes = NR_MAX(tiles, decode) * sizeof(float);                                                          \
        if (!backward) return bytes;                                                                                   \
        return NR_MAX(bytes, NR_CPU(attention_back_scratch, f32)(a));                                                  \
    }
NR_CPU_BOTH(ATTENTION)
