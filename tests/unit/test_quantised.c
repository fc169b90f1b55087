/*
 * A model whose matrices stay in the file's blocks, against the same model
 * packed: training has the same bits, generation is as near as x rounded to
 * int8 leaves it, plans count less. Then extensions that are only run: in Q8_0
 * blocks, and with rows left out.
 */
#include "../tiny.h"

#include "kernels/linear_quant.h"
#include "train/train.h"

#define MODEL NRES_FIXTURES "/formats/quant.gguf"

enum { B = 2, T = 40, N = B * T, V = 48 };

static const nr_ops *tables[2];
static size_t table_count;

static int find_tables(void **state)
{
    (void)state;
    for (int compute = NR_COMPUTE_FP32; compute <= NR_COMPUTE_BF16; compute++)
        if (nr_ops_cpu(&tables[table_count], (nr_compute)compute, NULL) == NR_OK) table_count++;
    return 0;
}

static nr_model *open_model(const nr_ops *ops, nr_use use, nr_frozen frozen)
{
    nr_model *m;
    nr_error err = {0};
    nr_model_options opt = {.use = use, .threads = nr_threads_get(), .frozen = frozen};
    tiny_ok(nr_model_open_on(&m, MODEL, &opt, ops, &err), &err);
    return m;
}

static nr_extension *open_extension(const nr_model *m, const char *method, const char *gate)
{
    nr_settings s;
    nr_extension *e;
    nr_error err = {0};
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    tiny_ok(nr_settings_set(&s, "gate", gate, &err), &err);
    s.width = strcmp(method, "llama-pro") == 0 ? 1 : 40; /* 40: blocks of 32 that aren't full */
    tiny_ok(nr_extension_new(&e, m, &s, &err), &err);
    tiny_shake(e, 0.3);
    return e;
}

typedef struct {
    int32_t ids[N], targets[N];
    uint8_t is_new[B];
    nr_batch batch;
} rows;

static void fill(rows *r)
{
    for (size_t i = 0; i < N; i++) {
        r->ids[i] = (int32_t)(nr_rng_u64(3, NR_RNG_TEST, i) % V);
        r->targets[i] = (int32_t)(nr_rng_u64(4, NR_RNG_TEST, i) % V);
    }
    r->is_new[0] = 1;
    r->is_new[1] = 0;
    r->batch = (nr_batch){.B = B, .T = T, .ids = r->ids, .targets = r->targets, .is_new = r->is_new, .step_tokens = N,
                          .step_positions = N, .step_old_tokens = T};
}

/* ---- training ---- */

/* Loss and gradients of one step. */
static double *step(const nr_ops *ops, nr_frozen frozen, const char *method, bool recompute, size_t *count)
{
    nr_model *m = open_model(ops, NR_USE_TRAIN, frozen);
    nr_extension *e = open_extension(m, method, "elu");
    nr_pass *p;
    nr_error err = {0};
    rows r;
    nr_pass_options opt = {.B = B, .T = T, .train = true, .recompute = recompute, .head_rows = 64}; /* 64 and 16 of them */
    fill(&r);
    tiny_ok(nr_extension_train(e, &err), &err);
    tiny_ok(nr_pass_new(&p, m, &e, 1, &opt, &err), &err);
    double *result = calloc(e->weights + 1, sizeof *result);
    assert_non_null(result);
    result[0] = tiny_loss(p, &r.batch, true);
    for (size_t i = 0; i < e->weights; i++) result[1 + i] = nr_real_get(ops, e->grads, i);
    *count = 1 + e->weights;
    nr_pass_free(p);
    nr_extension_close(e);
    nr_model_close(m);
    return result;
}

static void test_training(void **state)
{
    static const char *const methods[] = {"neutral", "lora", "llama-pro", "finetune"};
    (void)state;
    for (size_t k = 0; k < table_count; k++)
        for (size_t i = 0; i < NR_COUNT(methods); i++)
            for (int recompute = 0; recompute < 2; recompute++) {
                size_t count[2];
                double *packed = step(tables[k], NR_FROZEN_PACKED, methods[i], recompute, &count[0]);
                double *quantised = step(tables[k], NR_FROZEN_QUANTISED, methods[i], recompute, &count[1]);
                assert_int_equal(count[0], count[1]);
                assert_true(isfinite(packed[0]) && packed[0] > 0);
                assert_memory_equal(packed, quantised, count[0] * sizeof *packed);
                free(packed);
                free(quantised);
            }
}

/* ---- what it takes ---- */

static void test_bytes(void **state)
{
    (void)state;
    nr_model *shapes = open_model(tables[0], NR_USE_SHAPES, NR_FROZEN_AUTO);
    const nr_config *c = shapes->config;
    const nr_ops *ops = tables[0];
    unsigned uses = NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT;
    size_t packed = nr_model_matrix_bytes(shapes, NR_USE_TRAIN, false, NR_PRODUCTS_COMPUTE, NULL);
    size_t quantised = nr_model_matrix_bytes(shapes, NR_USE_TRAIN, true, NR_PRODUCTS_COMPUTE, NULL);
    size_t expected = (2 * c->L + 1) * c->C * sizeof(float), shape[5][2] = {{32, 32}, {16, 32}, {64, 32}, {32, 64}, {V, 32}};
    for (size_t i = 0; i < 5; i++) expected += ops->linear_bytes(ops, shape[i][0], shape[i][1], uses); /* one of each shape */
    size_t layer = 2 * 32 * 32 + 2 * 16 * 32 + 2 * 64 * 32 + 32 * 64;                                  /* Q4_1: 20 bytes of 32 */
    const nr_tensor *head = nr_model_file_find(shapes->file, "lm_head.weight");
    assert_non_null(head);
    assert_int_equal(quantised, expected + c->L * layer / 32 * 20 + head->size);
    assert_true(quantised < packed);
    assert_int_equal(nr_model_matrix_bytes(shapes, NR_USE_SHAPES, true, NR_PRODUCTS_COMPUTE, NULL), 0);
    nr_model_close(shapes);
}

/* ---- generation ---- */

/* Logits after a prompt in pieces and some tokens one by one: (tokens, V). */
static float *session_logits(const nr_model *m, nr_extension *e, size_t prompt, size_t more)
{
    nr_session *s;
    nr_error err = {0};
    rows r;
    fill(&r);
    float *logits = calloc((1 + more) * V, sizeof *logits);
    assert_non_null(logits);
    tiny_ok(nr_session_new(&s, m, e, 128, &err), &err);
    tiny_ok(nr_session_eval(s, r.ids, prompt, &err), &err);
    memcpy(logits, nr_session_logits(s), V * sizeof *logits);
    for (size_t i = 0; i < more; i++) {
        tiny_ok(nr_session_eval(s, r.ids + prompt + i, 1, &err), &err);
        memcpy(logits + (i + 1) * V, nr_session_logits(s), V * sizeof *logits);
    }
    nr_session_close(s);
    return logits;
}

/* |a - b| / |b| of whole buffers. */
static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(d / norm);
}

/* int8 in blocks of 32 rounds x by some 0.5 %. The weights of this model are normal(0, 1): scores of its attention
 * reach the hundreds and make more of that than a trained model does. */
static void test_generation(void **state)
{
    (void)state;
    for (size_t k = 0; k < table_count; k++) {
        nr_model *packed = open_model(tables[k], NR_USE_FORWARD, NR_FROZEN_PACKED);
        nr_model *quantised = open_model(tables[k], NR_USE_FORWARD, NR_FROZEN_AUTO);
        assert_true(quantised->quantised && !packed->quantised);
        float *a = session_logits(packed, NULL, 6, 8), *b = session_logits(quantised, NULL, 6, 8);
        double d = distance(b, a, 9 * V);
        if (!(d > 0 && d < 0.1)) fail_msg("logits differ by %g of their size", d);
        nr_threads_set(1); /* the same bits */
        float *one = session_logits(quantised, NULL, 6, 8);
        nr_threads_set(0);
        assert_memory_equal(b, one, 9 * V * sizeof *b);
        float *single = session_logits(quantised, NULL, 1, 13); /* few rows or one: the same integers */
        assert_memory_equal(single + 5 * V, b, 9 * V * sizeof *b);
        free(a), free(b), free(one), free(single);
        nr_model_close(packed);
        nr_model_close(quantised);
    }
}

/* ---- rows left out ---- */

/* Final hidden rows of a forward of all rows. */
static void *hidden(const nr_model *m, nr_extension *e, double threshold)
{
    nr_pass *p;
    nr_error err = {0};
    rows r;
    size_t bytes = N * m->config->C * m->ops->act_size;
    nr_pass_options opt = {.B = B, .T = T};
    fill(&r);
    e->gate_threshold = threshold;
    tiny_ok(nr_pass_new(&p, m, &e, 1, &opt, &err), &err);
    tiny_ok(nr_pass_forward(p, &r.batch, &err), &err);
    void *out = malloc(bytes);
    assert_non_null(out);
    memcpy(out, nr_pass_hidden(p), bytes);
    nr_pass_free(p);
    return out;
}

static double value_at(const nr_ops *ops, const void *p, size_t i)
{
    return ops->act == NR_BF16 ? (double)nr_bf16_to_f32(((const uint16_t *)p)[i]) : (double)((const float *)p)[i];
}

static double act_distance(const nr_model *m, const void *a, const void *b)
{
    double d = 0, norm = 0;
    for (size_t i = 0; i < N * m->config->C; i++) {
        double x = value_at(m->ops, a, i), y = value_at(m->ops, b, i);
        d += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(d / norm);
}

/* relu: half of the rows are off, and leaving them out changes at most the
 * order of sums in products of other row counts. */
static void test_rows_off(void **state)
{
    (void)state;
    for (size_t k = 0; k < table_count; k++) {
        nr_model *m = open_model(tables[k], NR_USE_FORWARD, NR_FROZEN_PACKED);
        nr_extension *e = open_extension(m, "neutral", "relu");
        bool bf16 = m->ops->act == NR_BF16;
        void *all = hidden(m, e, -1), *on = hidden(m, e, 0), *none = hidden(m, e, 1e9);
        double d = act_distance(m, on, all);
        if (!(d <= (bf16 ? 4e-3 : 1e-5))) fail_msg("rows left out: hidden rows differ by %g", d);
        assert_true(act_distance(m, none, all) > 0.01);
        nr_extension_switch(e, false);
        void *off = hidden(m, e, 0);
        assert_memory_equal(off, none, N * m->config->C * m->ops->act_size);
        free(all), free(on), free(none), free(off);
        nr_extension_close(e);
        nr_model_close(m);
    }
}

/* In generation a row is alone: then not a bit changes. */
static void test_one_row_off(void **state)
{
    (void)state;
    for (size_t k = 0; k < table_count; k++) {
        nr_model *m = open_model(tables[k], NR_USE_FORWARD, NR_FROZEN_AUTO);
        nr_extension *e = open_extension(m, "neutral", "relu");
        e->gate_threshold = -1;
        float *all = session_logits(m, e, 1, 20);
        e->gate_threshold = 0;
        float *on = session_logits(m, e, 1, 20);
        assert_memory_equal(all, on, 21 * V * sizeof *all);
        free(all), free(on);
        nr_extension_close(e);
        nr_model_close(m);
    }
}

/* What a threshold leaves out is less than all. */
static void test_threshold(void **state)
{
    nr_error err;
    (void)state;
    nr_model *m = open_model(tables[0], NR_USE_FORWARD, NR_FROZEN_PACKED);
    nr_extension *e = open_extension(m, "neutral", "elu"), *plain = open_extension(m, "neutral", "none");
    nr_extension *lora = open_extension(m, "lora", "elu");
    void *all = hidden(m, e, 0), *some = hidden(m, e, 0.5), *none = hidden(m, e, 1e9);
    double near = act_distance(m, some, all), far = act_distance(m, none, all);
    if (!(near > 0 && near < far)) fail_msg("threshold 0.5 changes %g, no adapter at all %g", near, far);
    assert_int_equal(nr_extension_set_gate_threshold(e, 0.25, &err), NR_OK);
    assert_true(e->gate_threshold == 0.25);
    assert_int_equal(nr_extension_set_gate_threshold(e, -1, &err), NR_E_USAGE);
    assert_int_equal(nr_extension_set_gate_threshold(e, NAN, &err), NR_E_USAGE);
    assert_int_equal(nr_extension_set_gate_threshold(plain, 0.1, &err), NR_E_USAGE);
    assert_int_equal(nr_extension_set_gate_threshold(lora, 0.1, &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "lora"));
    free(all), free(some), free(none);
    nr_extension_close(e);
    nr_extension_close(plain);
    nr_extension_close(lora);
    nr_model_close(m);
}

/* ---- extensions in Q8_0 ---- */

static void test_quantised_extension(void **state)
{
    static const char *const methods[] = {"neutral", "lora", "llama-pro", "finetune"};
    nr_error err = {0};
    (void)state;
    for (size_t k = 0; k < table_count; k++)
        for (size_t i = 0; i < NR_COUNT(methods); i++) {
            nr_model *m = open_model(tables[k], NR_USE_FORWARD, NR_FROZEN_PACKED);
            nr_extension *e = open_extension(m, methods[i], "elu");
            float *before = session_logits(m, e, 60, 8), *base = session_logits(m, NULL, 60, 8);
            tiny_ok(nr_extension_quantise(e, &err), &err);
            tiny_ok(nr_extension_quantise(e, &err), &err); /* a second time is nothing */
            float *after = session_logits(m, e, 60, 8);
            double d = distance(after, before, 9 * V), away = distance(base, before, 9 * V);
            bool all = strcmp(methods[i], "finetune") == 0; /* every matrix is rounded, the head too */
            if (!(d > 0 && d < (all ? 0.2 : 0.1) && d < away / 3)) fail_msg("%s in Q8_0: logits differ by %g, without it by %g", methods[i], d, away);
            assert_int_equal(nr_extension_save(e, "/tmp/nres-never", &err), NR_E_USAGE);
            assert_int_equal(nr_extension_train(e, &err), NR_E_USAGE);
            free(before), free(base), free(after);
            nr_extension_close(e);
            nr_model_close(m);
        }
}

static void test_quantised_refusals(void **state)
{
    nr_error err;
    (void)state;
    nr_model *m = open_model(tables[0], NR_USE_FORWARD, NR_FROZEN_PACKED);
    nr_extension *e = open_extension(m, "neutral", "elu");
    nr_real_set(m->ops, e->values, 5, NAN);
    assert_int_equal(nr_extension_quantise(e, &err), NR_E_NOT_FINITE);
    assert_non_null(strstr(err.message, "w_gate"));
    nr_extension_close(e);
    nr_model_close(m);
    m = open_model(nr_ops_reference(false), NR_USE_FORWARD, NR_FROZEN_QUANTISED); /* packs all the same */
    e = open_extension(m, "neutral", "elu");
    assert_int_equal(nr_extension_quantise(e, &err), NR_E_UNSUPPORTED);
    nr_extension_close(e);
    nr_model_close(m);
    m = open_model(tables[0], NR_USE_TRAIN, NR_FROZEN_AUTO);
    assert_false(m->quantised);
    e = open_extension(m, "neutral", "elu");
    tiny_ok(nr_extension_train(e, &err), &err);
    assert_int_equal(nr_extension_quantise(e, &err), NR_E_USAGE);
    nr_extension_close(e);
    nr_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),   cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_rows_off),
        cmocka_unit_test(test_one_row_off), cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_quantised_extension), cmocka_unit_test(test_quantised_refusals),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
