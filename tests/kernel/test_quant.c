/*
 * Integer products with quantised blocks: every type on every instruction set
 * against the blocks' own numbers in double, in two steps.
 *
 *   rounding x   |x - d q| <= d / 2, d = max |x| / 127 of 32: a half step, and
 *                what float rounding adds to it
 *   the product  sum w (d q) in double against the kernel: only float
 *                roundings of its sums, GROUPS / 2 + 12 of 6e-8 at most, of terms
 *                that are up to OFFSETS times as large as w x, as weights are
 *                taken apart into a positive integer and an offset
 *
 * Together they bound the error against x itself. Then matrices: bias, slots,
 * interleaved rows, threads, rows one by one, sharing of the packing.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "op_check.h"

#include "kernels/linear_quant.h"

static const char *const quant_isa[] = {"baseline", "avx2", "avx512", "avx512-vnni"};
static const nr_dtype quant_types[] = {NR_Q4_0, NR_Q4_1, NR_Q8_0, NR_Q4_K, NR_Q5_K, NR_Q6_K};

#define OFFSETS 8

static void must(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

static void *fresh(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    assert_non_null(p);
    memset(p, 0, (bytes + 127) / 64 * 64);
    return p;
}

/* Random blocks with scales about 0.07 (K: 0.001, as their groups' scales reach 63), either sign. */
static nr_tensor blocks_make(nr_dtype type, size_t rows, size_t cols, uint64_t seed)
{
    static char name[] = "w";
    const nr_dtype_info *info = &nr_dtypes[type];
    nr_tensor t = {.name = name, .type = type, .ndim = 2, .shape = {rows, cols}};
    t.size = rows * cols / info->block * info->bytes;
    unsigned char *data = fresh(t.size);
    for (size_t i = 0; i < t.size; i++) data[i] = (unsigned char)nr_rng_u64(seed, NR_RNG_TEST, i);
    for (size_t b = 0; b < t.size; b += info->bytes) {
        unsigned char high = info->block == 32 ? 0x2c : 0x14, sign = data[b + 1] & 0x80;
        size_t at = type == NR_Q6_K ? 208 : 0, more = type == NR_Q4_1 || type == NR_Q4_K || type == NR_Q5_K;
        data[b + at + 1] = high | sign;
        if (more) data[b + 3] = high | (data[b + 3] & 0x80);
    }
    t.data = data;
    return t;
}

/* All rows of t in tiles, the last one filled up. */
static unsigned char *tiles_make(const nr_quant_kernels *k, const nr_tensor *t)
{
    size_t count = (t->shape[0] + k->lanes - 1) / k->lanes, bytes = nr_quant_tile_bytes(t->type, k->lanes, t->shape[1]);
    unsigned char *to = fresh(count * bytes);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *rows[NR_QUANT_LANES] = {NULL};
        for (size_t r = 0; r < k->lanes && i * k->lanes + r < t->shape[0]; r++)
            rows[r] = t->data + (i * k->lanes + r) * nr_tensor_row_bytes(t);
        nr_quant_tile(to + i * bytes, rows, t->type, k->lanes, t->shape[1]);
    }
    return to;
}

static void blocks_free(nr_tensor *t) { free((void *)(uintptr_t)t->data); }

static void *act_values(nr_dtype act, size_t n, double scale, uint64_t stream)
{
    const nr_ops *ops = nr_ops_cpu_isa("baseline", act == NR_BF16 ? NR_COMPUTE_BF16 : NR_COMPUTE_FP32);
    operand o = {AS_ACT, n, scale, 0, 0};
    void *p = fresh(n * ops->act_size);
    fill(ops, &o, p, stream);
    return p;
}

static double act_at(nr_dtype act, const void *x, size_t i)
{
    return act == NR_BF16 ? (double)nr_bf16_to_f32(((const uint16_t *)x)[i]) : (double)((const float *)x)[i];
}

/* ---- rounding ---- */

static void check_round(const nr_quant_kernels *k, nr_dtype act, size_t n, size_t cols)
{
    void *x = act_values(act, n * cols, 3, 5), *memory = fresh(n * nr_int8_row_bytes(cols));
    nr_int8_rows r = nr_int8_rows_in(memory, n, cols);
    k->round(&r, x, act, n, cols);
    for (size_t b = 0; b < n * r.blocks; b++) {
        size_t row = b / r.blocks, from = b % r.blocks * 32;
        double most = 0, half[2] = {0, 0};
        for (size_t i = 0; i < 32; i++) {
            double v = from + i < cols ? act_at(act, x, row * cols + from + i) : 0;
            most = fmax(most, fabs(v));
            half[i / 16] += r.q[32 * b + i];
            if (!(fabs(v - (double)r.d[b] * r.q[32 * b + i]) <= 0.50002 * (double)r.d[b]))
                fail_msg("%s: x %g rounded to %d times %g", k->name, v, r.q[32 * b + i], (double)r.d[b]);
        }
        assert_true(fabs((double)r.d[b] - most / 127) <= 1e-7 * most);
        double d = r.d[b], allowed = 2e-7 * d * 32 * 127;
        assert_true(fabs((double)r.sum[b] - d * (half[0] + half[1])) <= allowed);
        for (size_t h = 0; h < 2; h++) assert_true((double)r.total[2 * b + h] == half[h]);
    }
    free(x);
    free(memory);
}

static void test_round(void **state)
{
    static const size_t cols[] = {1, 7, 32, 33, 64, 520, 576};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(quant_isa); i++) {
        const nr_quant_kernels *k = nr_quant_isa(quant_isa[i]);
        for (size_t c = 0; k && c < NR_COUNT(cols); c++)
            for (size_t n = 1; n <= 3; n++) {
                check_round(k, NR_F32, n, cols[c]);
                check_round(k, NR_BF16, n, cols[c]);
            }
    }
}

/* Zeros, and numbers that aren't: these must reach the product. */
static void test_round_special(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(quant_isa); i++) {
        const nr_quant_kernels *k = nr_quant_isa(quant_isa[i]);
        if (!k) continue;
        for (int what = 0; what < 5; what++) {
            float x[64] = {0}, y[NR_QUANT_LANES];
            void *memory = fresh(nr_int8_row_bytes(64));
            nr_int8_rows r = nr_int8_rows_in(memory, 1, 64);
            nr_tensor t = blocks_make(NR_Q4_1, 1, 64, 3);
            for (size_t c = 32; c < 64; c++) x[c] = (float)c;
            if (what == 1) x[5] = (float)NAN;
            if (what == 2) x[7] = (float)INFINITY;
            if (what == 3) x[40] = -(float)INFINITY;
            if (what == 4) x[9] = 1e-44f; /* 127 / x isn't finite */
            k->round(&r, x, NR_F32, 1, 64);
            unsigned char *tiles = tiles_make(k, &t);
            k->dot(y, tiles, t.type, 1, &r, 1);
            if (what == 0 || what == 4) {
                assert_true(r.d[0] >= 0 && r.d[0] <= x[9] && isfinite(y[0])); /* both are 0 where all are */
                for (size_t c = 0; c < 32; c++) assert_int_equal(r.q[c], 0);
            } else {
                assert_false(isfinite(y[0]));
            }
            free(tiles);
            blocks_free(&t);
            free(memory);
        }
    }
}

/* ---- products ---- */

typedef struct {
    double exact, rounded, slack, kernel; /* sum w x, sum w d q, and what they may differ by */
} bound;

static bound bounds(const float *w, const void *x, nr_dtype act, const nr_int8_rows *r, size_t row, size_t cols)
{
    bound b = {0, 0, 0, 0};
    double size = 0;
    for (size_t g = 0; g < r->blocks; g++) {
        double d = r->d[row * r->blocks + g], most = 0, sum = 0;
        for (size_t i = 32 * g; i < NR_MIN(32 * g + 32, cols); i++) {
            double v = w[i], q = r->q[(row * r->blocks) * 32 + i];
            b.exact += v * act_at(act, x, row * cols + i);
            b.rounded += v * d * q;
            b.slack += fabs(v) * d * 0.50002;
            most = fmax(most, fabs(v));
            sum += fabs(d * q);
        }
        size += most * sum;
    }
    b.kernel = 6e-8 * ((double)r->blocks / 2 + 12) * OFFSETS * size + 1e-30;
    return b;
}

static void check_dot(const nr_quant_kernels *k, nr_dtype type, nr_dtype act, size_t rows, size_t cols, size_t n)
{
    nr_tensor t = blocks_make(type, rows, cols, 7 + rows);
    void *x = act_values(act, n * cols, 1, 3), *memory = fresh(n * nr_int8_row_bytes(cols));
    nr_int8_rows r = nr_int8_rows_in(memory, n, cols);
    size_t count = (rows + k->lanes - 1) / k->lanes, all = count * k->lanes;
    unsigned char *tiles = tiles_make(k, &t);
    float *w = fresh(rows * cols * sizeof *w), *alone = fresh(all * sizeof *alone);
    guarded y = guarded_new(n * all * sizeof(float));
    float *got = (float *)(void *)y.data;
    nr_tensor_read(w, &t, 0, rows);
    k->round(&r, x, act, n, cols);
    k->dot(got, tiles, type, count, &r, n);
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < rows; o++) {
            bound b = bounds(w + o * cols, x, act, &r, i, cols);
            double v = got[i * all + o];
            if (!(fabs(v - b.rounded) <= b.kernel) || !(fabs(v - b.exact) <= b.slack + b.kernel))
                fail_msg("%s %s (%zu, %zu) row %zu of %zu: %.9g, of rounded x %.9g within %.3g, of x %.9g within %.3g", k->name,
                         nr_dtypes[type].name, rows, cols, i, n, v, b.rounded, b.kernel, b.exact, b.slack);
        }
    for (size_t i = 0; i < n; i++) { /* the same bits whatever rows come along */
        void *one = (char *)x + i * cols * (act == NR_BF16 ? 2 : 4);
        nr_int8_rows single = nr_int8_rows_in(memory, 1, cols);
        k->round(&single, one, act, 1, cols);
        k->dot(alone, tiles, type, count, &single, 1);
        assert_memory_equal(alone, got + i * all, all * sizeof *alone);
    }
    free(tiles);
    guarded_free(&y, "dot");
    free(x);
    free(memory);
    free(w);
    free(alone);
    blocks_free(&t);
}

static void test_dot(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(quant_isa); i++) {
        const nr_quant_kernels *k = nr_quant_isa(quant_isa[i]);
        if (!k) continue;
        for (size_t t = 0; t < NR_COUNT(quant_types); t++) {
            size_t block = nr_dtypes[quant_types[t]].block;
            for (size_t n = 1; n <= 5; n++)
                for (size_t blocks = 1; blocks <= 3; blocks++) check_dot(k, quant_types[t], n % 2 ? NR_F32 : NR_BF16, 7, blocks * block, n);
            check_dot(k, quant_types[t], NR_BF16, 13, block == 32 ? 576 : 768, 33);
            check_dot(k, quant_types[t], NR_F32, 1, block == 32 ? 1536 : 2048, 1);
        }
    }
}

static void test_sets(void **state)
{
    (void)state;
    assert_non_null(nr_quant_isa("baseline"));
    assert_null(nr_quant_isa("avx10"));
    assert_non_null(nr_quant_best());
    assert_true(nr_quant_has(NR_Q5_K));
    assert_false(nr_quant_has(NR_F16));
    assert_false(nr_quant_has(NR_Q2_K));
}

/* ---- matrices ---- */

static const size_t threads[] = {1, 2, 3, 7};

typedef struct {
    nr_dtype type;
    size_t out, in, n, heads; /* heads: rows interleaved */
    nr_slot slot;
    bool accumulate, bias;
} setup;

static nr_tensor bias_make(size_t out)
{
    static char name[] = "b";
    float *b = fresh(out * sizeof *b);
    for (size_t i = 0; i < out; i++) b[i] = (float)normal(9, i);
    return (nr_tensor){.name = name, .type = NR_F32, .ndim = 1, .shape = {out}, .data = (void *)b, .size = 4 * out};
}

/* Few rows: within the bound of each element, whatever the number of threads. */
static void check_matrix(const nr_ops *ops, const setup *s)
{
    nr_error err;
    nr_linear_pool *pool;
    nr_linear *m;
    nr_tensor t = blocks_make(s->type, s->out, s->in, 21), b = bias_make(s->out);
    t.permuted_heads = s->heads;
    must(nr_linear_pool_new(&pool, ops, &err), &err);
    must(nr_linear_quant_new(&m, pool, s->out, s->in, &t, s->bias ? &b : NULL, NR_PACK_FORWARD, &err), &err);
    must(ops->linear_prepare(m, s->n, false, &err), &err);
    const void *weights = NULL;
    size_t lanes = nr_quant_best()->lanes;
    assert_int_equal(ops->linear_weights(m, &weights), (s->out + lanes - 1) / lanes * nr_quant_tile_bytes(s->type, lanes, s->in));
    assert_non_null(weights);
    as kind = s->slot == NR_ACT ? AS_ACT : AS_REAL;
    operand start = {kind, s->n * s->out, 1, 0, 0};
    size_t bytes = s->n * s->out * element_size(ops, kind);
    void *x = act_values(ops->act, s->n * s->in, 1, 3), *memory = fresh(s->n * nr_int8_row_bytes(s->in));
    char *before = fresh(bytes), *first = fresh(bytes), *y = fresh(bytes);
    float *w = fresh(s->out * s->in * sizeof *w), *bias = fresh(s->out * sizeof *bias);
    nr_int8_rows r = nr_int8_rows_in(memory, s->n, s->in);
    fill(ops, &start, before, 4);
    nr_quant_best()->round(&r, x, ops->act, s->n, s->in);
    nr_tensor_read(w, &t, 0, s->out);
    nr_tensor_read(bias, &b, 0, 1);
    for (size_t k = 0; k < NR_COUNT(threads); k++) {
        nr_threads_set(threads[k]);
        memcpy(y, before, bytes);
        must(ops->linear(m, y, s->slot, x, s->n, s->accumulate, &err), &err);
        if (k == 0) memcpy(first, y, bytes);
        assert_memory_equal(first, y, bytes);
    }
    for (size_t i = 0; i < s->n; i++)
        for (size_t o = 0; o < s->out; o++) {
            bound e = bounds(w + o * s->in, x, ops->act, &r, i, s->in);
            double want = e.rounded + (s->bias ? (double)bias[o] : 0), got = element(ops, kind, y, i * s->out + o);
            if (s->accumulate) want += element(ops, kind, before, i * s->out + o);
            double allowed = e.kernel + 3e-7 * (fabs(want) + 2) + (kind == AS_ACT && ops->act == NR_BF16 ? fabs(want) / 256 + 1e-6 : 0);
            if (!(fabs(got - want) <= allowed)) fail_msg("matrix (%zu, %zu): element (%zu, %zu) %.9g, expected %.9g", s->out, s->in, i, o, got, want);
        }
    ops->linear_free(m);
    nr_linear_pool_free(pool);
    blocks_free(&t);
    blocks_free(&b);
    free(x), free(memory), free(before), free(first), free(y), free(w), free(bias);
    nr_threads_set(0);
}

static void each_table(void (*check)(const nr_ops *ops))
{
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++) {
        const nr_ops *ops;
        if (nr_ops_cpu(&ops, (nr_compute)compute, NULL) == NR_OK) check(ops);
    }
}

static void check_matrices(const nr_ops *ops)
{
    for (size_t t = 0; t < NR_COUNT(quant_types); t++)
        for (int v = 0; v < 16; v++) {
            setup s = {quant_types[t], 200, 512, (size_t)v % 5 + 1, v & 8 ? 5 : 0, v & 1 ? NR_ACT : NR_REAL, v & 2, v & 4};
            check_matrix(ops, &s);
        }
    setup odd = {NR_Q4_1, 7, 32, 3, 0, NR_REAL, false, true}, long_rows = {NR_Q8_0, 3, 30016, 4, 0, NR_REAL, false, false};
    check_matrix(ops, &odd);
    check_matrix(ops, &long_rows);
}

static void test_matrices(void **state)
{
    (void)state;
    each_table(check_matrices);
}

/* ---- groups: the bits of each product alone ---- */

static void check_group(const nr_ops *ops, size_t count, size_t n, bool mixed)
{
    enum { MOST = 6, IN = 96 };
    static const size_t out[MOST] = {128, 7, 200, 64, 33, 128};
    nr_error err;
    nr_linear_pool *pool;
    nr_tensor t[MOST], b = bias_make(out[0]);
    nr_linear *m[MOST];
    nr_product list[MOST];
    void *x = act_values(ops->act, n * IN, 1, 3), *alone[MOST];
    must(nr_linear_pool_new(&pool, ops, &err), &err);
    for (size_t i = 0; i < count; i++) {
        t[i] = blocks_make(i % 2 ? NR_Q8_0 : NR_Q4_1, out[i], IN, 41 + i);
        if (i == 3) t[i].permuted_heads = 4;
        if (mixed && i == 1) {
            must(ops->linear_new(&m[i], ops, out[i], IN, false, NR_PACK_FORWARD, &err), &err);
            must(ops->linear_pack_tensor(m[i], &t[i], NULL, &err), &err);
        } else {
            must(nr_linear_quant_new(&m[i], pool, out[i], IN, &t[i], i == 0 ? &b : NULL, NR_PACK_FORWARD, &err), &err);
        }
        alone[i] = fresh(n * out[i] * ops->act_size);
        list[i] = (nr_product){m[i], fresh(n * out[i] * ops->act_size)};
        must(ops->linear(m[i], alone[i], NR_ACT, x, n, false, &err), &err);
    }
    for (size_t k = 0; k < NR_COUNT(threads); k++) {
        nr_threads_set(threads[k]);
        must(ops->linear_group(list, count, x, n, &err), &err);
        for (size_t i = 0; i < count; i++) {
            assert_memory_equal(alone[i], list[i].y, n * out[i] * ops->act_size);
            memset(list[i].y, 0, n * out[i] * ops->act_size);
        }
    }
    nr_threads_set(0);
    for (size_t i = 0; i < count; i++) {
        ops->linear_free(m[i]);
        blocks_free(&t[i]);
        free(alone[i]), free(list[i].y);
    }
    nr_linear_pool_free(pool);
    blocks_free(&b);
    free(x);
}

static void check_groups(const nr_ops *ops)
{
    static const size_t rows[] = {0, 1, 5, 33, 60};
    for (size_t count = 0; count <= 6; count++)
        for (size_t r = 0; r < NR_COUNT(rows); r++) {
            check_group(ops, count, rows[r], false);
            check_group(ops, count, rows[r], true);
        }
}

static void test_groups(void **state)
{
    (void)state;
    each_table(check_groups);
}

/* ---- many rows: the bits of a packed matrix ---- */

typedef struct {
    nr_tensor t, bias;
    nr_linear *quant, *packed;
} pair;

static void pair_make(pair *p, const nr_ops *ops, nr_linear_pool *pool, nr_dtype type, size_t out, size_t in, size_t heads, uint64_t seed)
{
    nr_error err;
    unsigned uses = NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT;
    p->t = blocks_make(type, out, in, seed);
    p->t.permuted_heads = heads;
    p->bias = bias_make(out);
    must(nr_linear_quant_new(&p->quant, pool, out, in, &p->t, &p->bias, uses, &err), &err);
    must(ops->linear_new(&p->packed, ops, out, in, true, uses, &err), &err);
    must(ops->linear_pack_tensor(p->packed, &p->t, &p->bias, &err), &err);
}

static void pair_free(pair *p, const nr_ops *ops)
{
    ops->linear_free(p->quant);
    ops->linear_free(p->packed);
    blocks_free(&p->t);
    blocks_free(&p->bias);
}

static void pair_check(pair *p, const nr_ops *ops, size_t n, bool back)
{
    nr_error err;
    size_t from = back ? p->packed->out : p->packed->in, to = back ? p->packed->in : p->packed->out;
    void *x = act_values(ops->act, n * from, 1, 8), *y[2];
    for (int k = 0; k < 2; k++) {
        nr_linear *m = k ? p->packed : p->quant;
        y[k] = fresh(n * to * ops->real_size);
        must(back ? ops->linear_back_input(m, y[k], NR_REAL, x, n, false, &err) : ops->linear(m, y[k], NR_REAL, x, n, false, &err), &err);
    }
    assert_memory_equal(y[0], y[1], n * to * ops->real_size);
    free(x), free(y[0]), free(y[1]);
}

static void check_many(const nr_ops *ops)
{
    nr_error err;
    nr_linear_pool *pool;
    pair p[4];
    must(nr_linear_pool_new(&pool, ops, &err), &err);
    pair_make(&p[0], ops, pool, NR_Q4_1, 128, 256, 4, 31);
    pair_make(&p[1], ops, pool, NR_Q4_K, 128, 256, 0, 32);
    pair_make(&p[2], ops, pool, NR_Q8_0, 401, 96, 0, 33); /* several pieces of a packing */
    pair_make(&p[3], ops, pool, NR_Q6_K, 128, 256, 0, 34);
    for (size_t round = 0; round < 3; round++)
        for (size_t i = 0; i < 4; i++) {
            pair_check(&p[i], ops, round ? 70 : 1, false); /* one row too: training never rounds x */
            pair_check(&p[3 - i], ops, 70, true);
            pair_check(&p[i], ops, 70, false);
        }
    assert_int_equal(ops->linear_back_weight(p[0].quant, NULL, NULL, NULL, NULL, 1, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "Q4_1"));
    assert_int_equal(ops->linear_pack(p[1].quant, NULL, NULL, &err), NR_E_USAGE);
    assert_int_equal(ops->linear_pack_tensor(p[1].quant, &p[1].t, NULL, &err), NR_E_USAGE);
    for (size_t i = 0; i < 4; i++) pair_free(&p[i], ops);
    nr_linear_pool_free(pool);
}

static void test_many(void **state)
{
    (void)state;
    each_table(check_many);
}

/* ---- at the same time ---- */

typedef struct {
    pair *p;
    const nr_ops *ops;
    const void *x, *want[2];
    atomic_int other;
} together;

static void *call_many(void *data)
{
    together *t = data;
    nr_threads_set(1);
    for (size_t i = 0; i < 24; i++) {
        size_t size = 40 * t->p->packed->out * t->ops->real_size;
        void *y = fresh(size);
        nr_status st = t->ops->linear(t->p[i % 2].quant, y, NR_REAL, t->x, 40, false, NULL);
        if (st != NR_OK || memcmp(y, t->want[i % 2], size)) atomic_fetch_add(&t->other, 1);
        free(y);
    }
    return NULL;
}

/* Two matrices that share a packing, each wanted by several threads. */
static void check_together(const nr_ops *ops)
{
    enum { callers = 4 };
    nr_error err;
    nr_linear_pool *pool;
    pair p[2];
    pthread_t id[callers];
    void *want[2];
    must(nr_linear_pool_new(&pool, ops, &err), &err);
    for (size_t i = 0; i < 2; i++) pair_make(&p[i], ops, pool, NR_Q4_0, 96, 64, 0, 41 + i);
    void *x = act_values(ops->act, 40 * 64, 1, 8);
    together t = {.p = p, .ops = ops, .x = x};
    for (size_t i = 0; i < 2; i++) {
        t.want[i] = want[i] = fresh(40 * 96 * ops->real_size);
        must(ops->linear(p[i].packed, want[i], NR_REAL, x, 40, false, &err), &err);
    }
    for (size_t i = 0; i < callers; i++) assert_int_equal(pthread_create(&id[i], NULL, call_many, &t), 0);
    for (size_t i = 0; i < callers; i++) pthread_join(id[i], NULL);
    assert_int_equal(atomic_load(&t.other), 0);
    for (size_t i = 0; i < 2; i++) {
        free(want[i]);
        pair_free(&p[i], ops);
    }
    free(x);
    nr_linear_pool_free(pool);
}

static void test_together(void **state)
{
    (void)state;
    each_table(check_together);
}

static void check_refusals(const nr_ops *ops)
{
    nr_error err;
    nr_linear_pool *pool;
    nr_linear *m;
    nr_tensor t = blocks_make(NR_Q4_0, 4, 64, 3), half = t;
    half.type = NR_F16;
    must(nr_linear_pool_new(&pool, ops, &err), &err);
    assert_int_equal(nr_linear_quant_new(&m, pool, 4, 64, &half, NULL, NR_PACK_FORWARD, &err), NR_E_UNSUPPORTED);
    assert_null(m);
    assert_int_equal(nr_linear_quant_new(&m, pool, 5, 64, &t, NULL, NR_PACK_FORWARD, &err), NR_E_MISMATCH);
    must(nr_linear_quant_new(&m, pool, 4, 64, &t, NULL, NR_PACK_FORWARD, &err), &err);
    assert_int_equal(ops->linear_back_input(m, NULL, NR_REAL, NULL, 1, false, &err), NR_E_USAGE);
    ops->linear_free(m);
    nr_linear_pool_free(pool);
    assert_false(nr_linear_quant_can(nr_ops_reference(false), &t));
    blocks_free(&t);
}

static void test_refusals(void **state)
{
    (void)state;
    each_table(check_refusals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),   cmocka_unit_test(test_round), cmocka_unit_test(test_round_special), cmocka_unit_test(test_dot),
        cmocka_unit_test(test_matrices), cmocka_unit_test(test_groups), cmocka_unit_test(test_many), cmocka_unit_test(test_together),     cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
