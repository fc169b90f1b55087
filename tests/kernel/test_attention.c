/* Attention, forward, backward and decoding, on every table of this machine against the reference. */
#include "op_check.h"

typedef struct {
    nr_attention a;
    size_t queries, keys; /* elements of q and of k */
} sizes;

/* spare: rows behind the last key, as in a cache, where each head's keys lie together. */
static sizes sizes_of(size_t B, size_t Tq, size_t H, size_t K, size_t D, size_t start, size_t spare)
{
    size_t rows = start + Tq + spare;
    sizes s = {.a = {B, Tq, H, K, D, start, K * D, D, rows * K * D, 1 / sqrtf((float)D), NULL, 0}};
    if (spare > 0) {
        s.a.k_stride = D;
        s.a.k_head = rows * D;
    }
    s.queries = B * Tq * H * D;
    s.keys = B * s.a.k_batch;
    return s;
}

static void run_forward(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    guarded scratch = guarded_new(ops->attention_scratch(&s->a, false));
    ops->attention(out[0], out[1], in[0], in[1], in[2], &s->a, scratch.data);
    guarded_free(&scratch, "scratch");
}

/* lse comes from the table's own forward pass. o, which backward only needs in
 * dO . O, is any input here: bf16's rounding of a true o would hide errors. */
static void run_backward(const nr_ops *ops, const void *arg, void *const *in, void *const *out)
{
    const sizes *s = arg;
    guarded scratch = guarded_new(ops->attention_scratch(&s->a, true)), o = guarded_new(s->queries * ops->act_size),
            lse = guarded_new(s->a.B * s->a.H * s->a.Tq * ops->real_size);
    ops->attention(o.data, lse.data, in[1], in[2], in[3], &s->a, scratch.data);
    ops->attention_back(out[0], out[1], out[2], in[0], in[4], in[1], in[2], in[3], lse.data, &s->a, scratch.data);
    guarded_free(&scratch, "scratch");
    guarded_free(&o, "o");
    guarded_free(&lse, "lse");
}

static void check_forward(const sizes *s)
{
    op_case c = {"attention",
                 s,
                 {{AS_ACT, s->queries, 2, 0, 0}, {AS_ACT, s->keys, 1, 0, 0}, {AS_ACT, s->keys, 1, 0, 0}},
                 {{AS_ACT, s->queries, 0, s->a.start + s->a.Tq, 0}, {AS_REAL, s->a.B * s->a.H * s->a.Tq, 0, s->a.D, 0}},
                 run_forward};
    check_op(&c);
}

static void check_backward(const sizes *s)
{
    op_case c = {
        "attention_back",
        s,
        {{AS_ACT, s->queries, 1, 0, 0},
         {AS_ACT, s->queries, 2, 0, 0},
         {AS_ACT, s->keys, 1, 0, 0},
         {AS_ACT, s->keys, 1, 0, 0},
         {AS_ACT, s->queries, 0.3, 0, 0}},
        {{AS_ACT, s->queries, 0, s->a.start + s->a.Tq, 0}, {AS_ACT, s->keys, 0, s->a.start + s->a.Tq, 0}, {AS_ACT, s->keys, 0, s->a.start + s->a.Tq, 0}},
        run_backward};
    check_op(&c);
}

/* B Tq H K D start */
static const size_t list[][6] = {{0, 3, 2, 1, 8, 0},   {1, 0, 2, 1, 8, 0},    {1, 1, 1, 1, 1, 0},
                                 {1, 2, 2, 1, 4, 0},   {2, 7, 3, 3, 5, 0},    {1, 31, 6, 2, 16, 0},
                                 {2, 33, 4, 2, 72, 0}, {1, 64, 9, 3, 64, 0},  {1, 65, 2, 1, 80, 0},
                                 {3, 97, 3, 1, 17, 0}, {1, 257, 9, 3, 64, 0}, {1, 70, 2, 1, 256, 0}};

static void test_training(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_COUNT(list); i++) {
        const size_t *l = list[i];
        sizes s = sizes_of(l[0], l[1], l[2], l[3], l[4], l[5], 0);
        check_forward(&s);
        check_backward(&s);
    }
}

/* Queries behind a cache, the cache longer than what is used of it. */
static void test_cache(void **state)
{
    static const size_t cached[][6] = {{1, 1, 9, 3, 64, 0},   {1, 1, 9, 3, 64, 300}, {2, 1, 4, 1, 20, 63},
                                       {1, 1, 2, 2, 256, 64}, {1, 1, 3, 1, 7, 130},  {1, 5, 9, 3, 64, 123},
                                       {3, 1, 7, 1, 33, 383}, {1, 1, 8, 2, 64, 127}, {1, 1, 6, 1, 100, 511},
                                       {2, 40, 4, 2, 24, 61}};
    (void)state;
    for (size_t i = 0; i < NR_COUNT(cached); i++) {
        const size_t *l = cached[i];
        sizes s = sizes_of(l[0], l[1], l[2], l[3], l[4], l[5], 11);
        check_forward(&s);
    }
}

/* Documents: the first visible key moves up inside a row. */
static void test_first(void **state)
{
    int32_t first[2 * 150];
    (void)state;
    for (size_t b = 0; b < 2; b++)
        for (size_t t = 0; t < 150; t++) {
            size_t document = b ? t / 13 * 13 : t < 70 ? 0 : t < 140 ? 70 : 140;
            first[b * 150 + t] = (int32_t)document;
        }
    sizes s = sizes_of(2, 150, 6, 2, 24, 0, 0);
    s.a.first = first;
    check_forward(&s);
    check_backward(&s);
    int32_t one[2] = {70, 3};
    s = sizes_of(2, 1, 6, 2, 24, 149, 3);
    s.a.first = one;
    check_forward(&s);
    one[0] = 140; /* no key of the first chunk */
    check_forward(&s);
}

/* Keys before all rows that every query sees, in training and behind a cache; with documents too. */
static void test_shared(void **state)
{
    static const size_t prefixed[][6] = {{2, 7, 3, 3, 5, 1},    {1, 33, 4, 2, 72, 64}, {2, 97, 3, 1, 17, 5},
                                         {1, 70, 9, 3, 64, 200}, {1, 3, 2, 1, 16, 130}, {1, 257, 2, 1, 64, 31}};
    int32_t first[2 * 257];
    (void)state;
    for (size_t i = 0; i < NR_COUNT(prefixed); i++) {
        const size_t *l = prefixed[i];
        sizes s = sizes_of(l[0], l[1], l[2], l[3], l[4], l[5], 0);
        s.a.shared = l[5];
        check_forward(&s);
        check_backward(&s);
        for (size_t t = 0; t < l[0] * l[1]; t++) first[t] = (int32_t)(t % l[1] / 23 * 23);
        s.a.first = first;
        check_forward(&s);
        check_backward(&s);
    }
    int32_t one[2] = {70, 3};
    sizes s = sizes_of(2, 1, 6, 2, 24, 149, 3);
    s.a.first = one;
    s.a.shared = 66;
    check_forward(&s);
}

/* A mask that begins at a document is the document alone. */
static void test_document_alone(void **state)
{
    enum { T = 90, CUT = 41, W = 2 * 16 };
    const nr_ops *ops;
    const char *isa;
    (void)state;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops || ops->act != NR_F32) continue;
        float q[T * W], k[T * W], v[T * W], o[T * W], alone[T * W];
        int32_t first[T];
        for (size_t i = 0; i < T * W; i++) {
            q[i] = (float)nr_rng_normal(1, NR_RNG_TEST, i);
            k[i] = (float)nr_rng_normal(2, NR_RNG_TEST, i);
            v[i] = (float)nr_rng_normal(3, NR_RNG_TEST, i);
        }
        for (size_t i = 0; i < T; i++) first[i] = i < CUT ? 0 : CUT;
        sizes s = sizes_of(1, T, 2, 2, 16, 0, 0), d = sizes_of(1, T - CUT, 2, 2, 16, 0, 0);
        s.a.first = first;
        guarded scratch = guarded_new(ops->attention_scratch(&s.a, false));
        ops->attention(o, NULL, q, k, v, &s.a, scratch.data);
        ops->attention(alone, NULL, q + CUT * W, k + CUT * W, v + CUT * W, &d.a, scratch.data);
        for (size_t i = 0; i < (T - CUT) * W; i++) assert_float_equal(o[CUT * W + i], alone[i], 2e-6);
        guarded_free(&scratch, "scratch");
    }
}

/* A cache's scratch is planned once, for the most queries and keys. */
static void test_scratch_grows(void **state)
{
    const nr_ops *ops;
    const char *isa;
    (void)state;
    for (size_t t = 0; table_at(t, &isa, &ops); t++) {
        if (!ops) continue;
        sizes most = sizes_of(2, 64, 9, 3, 64, 448, 0);
        size_t planned = ops->attention_scratch(&most.a, false);
        for (size_t start = 0; start < 511; start += 37)
            for (size_t n = 1; n <= 64 && start + n <= 512; n += 9) {
                sizes s = sizes_of(2, n, 9, 3, 64, start, 512 - start - n);
                assert_true(ops->attention_scratch(&s.a, false) <= planned);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training), cmocka_unit_test(test_cache),
                                       cmocka_unit_test(test_first), cmocka_unit_test(test_shared), cmocka_unit_test(test_document_alone),
                                       cmocka_unit_test(test_scratch_grows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
