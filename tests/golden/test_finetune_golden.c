/*
 * test_finetune_golden.c - training of the backbone's weights against PyTorch
 * (gen_finetune.py): loss and gradients, weights after three AdamW steps, the
 * Fisher information and its penalty, distillation; in double on the references
 * and in float on the machine's own kernels.
 */
#include "../tiny.h"

#include "train/train.h"

static nr_safetensors *golden;

static const float *need(const char *prefix, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "%s%s%s", prefix, *name ? "." : "", name);
    const nr_tensor *t = nr_safetensors_find(golden, full);
    if (!t) fail_msg("fixture has no %s", full);
    return (const float *)(const void *)t->data;
}

/* |a - b| / |b| of every tensor: of n reals at `from` for the elements of the extension. */
static void compare(const nr_trainer *t, const void *from, const char *prefix, double tolerance)
{
    double worst = 0;
    for (size_t k = 0; k < t->e->param_count; k++) {
        const nr_param *p = &t->e->params[k];
        const float *want = need(prefix, p->name);
        double off = 0, size = 0;
        for (size_t i = 0; i < p->shape[0] * p->shape[1]; i++) {
            double d = nr_real_get(t->model->ops, from, p->offset + i) - (double)want[i];
            off += d * d;
            size += (double)want[i] * (double)want[i];
        }
        off = sqrt(off / (size + 1e-300));
        if (!(off < tolerance)) fail_msg("%s: %s of %s is off by %.2e", t->model->ops->name, prefix, p->name, off);
        worst = fmax(worst, off);
    }
    print_message("  %s %s: worst tensor %.1e\n", t->model->ops->name, prefix, worst);
}

static void close_to(double a, double b, double tolerance)
{
    if (!(fabs(a - b) < tolerance * fabs(b))) fail_msg("expected %.9g, found %.9g", b, a);
}

/* A trainer without text, on the fixture's backbone. */
static nr_trainer *open_trainer(const nr_ops *ops, const char *method, const char *rows)
{
    nr_model *m;
    nr_trainer *t;
    nr_settings s;
    nr_error err = {0};
    nr_model_options opt = {.use = NR_USE_TRAIN, .threads = 2};
    tiny_ok(nr_model_open_on(&m, NRES_FIXTURES "/neutral", &opt, ops, &err), &err);
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", method, &err), &err);
    tiny_ok(nr_settings_set(&s, "lwf_rows", rows, &err), &err);
    s.batch_size = s.micro_batch_size = 3;
    s.context = 7;
    s.ewc_lambda = 30;
    s.lwf_alpha = strcmp(method, "lwf") == 0 ? 0.7 : 0;
    tiny_ok(nr_trainer_random(&t, m, &s, &err), &err);
    return t;
}

/* As shake() of the generator. */
static void shake(nr_trainer *t)
{
    nr_error err = {0};
    for (size_t k = 0; k < t->e->param_count; k++) {
        const nr_param *p = &t->e->params[k];
        for (size_t i = 0; i < p->shape[0] * p->shape[1]; i++) {
            double v = nr_real_get(t->model->ops, t->e->values, p->offset + i), n = (double)i;
            nr_real_set(t->model->ops, t->e->values, p->offset + i, v * (1 + 0.1 * sin(0.37 * n)) + 0.02 * cos(0.11 * n));
        }
    }
    tiny_ok(nr_extension_repack(t->e, &err), &err);
}

static void fill(tiny_batch *b)
{
    tiny_fill(b);
    for (size_t i = 0; i < TINY_N; i++) {
        b->ids[i] = (int32_t)need("ids", "")[i];
        b->targets[i] = (int32_t)need("targets", "")[i];
    }
}

static double gradients(nr_trainer *t, const tiny_batch *b)
{
    memset(t->e->grads, 0, t->e->weights * t->model->ops->real_size);
    return tiny_loss(t->pass, &b->batch, true);
}

static void finetuning(const nr_ops *ops, double tolerance)
{
    tiny_batch b;
    nr_error err = {0};
    nr_trainer *t = open_trainer(ops, "finetune", "new");
    shake(t);
    fill(&b);
    close_to(gradients(t, &b), (double)need("losses", "")[0], tolerance);
    compare(t, t->e->grads, "grad", tolerance);
    for (size_t step = 1; step <= 3; step++) {
        gradients(t, &b);
        ops->adamw(t->e->values, t->e->grads, t->m, t->v, 1, 1e-2, 0.9, 0.95, 1e-8, 0.1, step, t->e->weights);
        tiny_ok(nr_extension_repack(t->e, &err), &err);
    }
    compare(t, t->e->values, "after", tolerance);
    nr_trainer_close(t);
}

static void consolidation(const nr_ops *ops, double tolerance)
{
    nr_error err = {0};
    nr_trainer *t = open_trainer(ops, "ewc", "new");
    memset(t->fisher, 0, t->e->weights * ops->real_size);
    for (size_t row = 0; row < 2; row++) {
        for (size_t i = 0; i < 8; i++) t->row[i] = (int32_t)need("old", "")[8 * row + i];
        tiny_ok(nr_fisher_add(t, 0.5, &err), &err);
    }
    compare(t, t->fisher, "fisher", 2 * tolerance);
    memset(t->e->grads, 0, t->e->weights * ops->real_size);
    assert_true(nr_fisher_hold(t) == 0); /* where they began */
    shake(t);
    close_to(nr_fisher_hold(t), (double)need("losses", "")[1], 2 * tolerance);
    compare(t, t->e->grads, "ewc.grad", 2 * tolerance);
    nr_trainer_close(t);
}

/* The distillation alone: the loss and gradients with it, less those without. */
static void distillation(const nr_ops *ops, const char *rows, double tolerance)
{
    char prefix[32], grad[48];
    tiny_batch b;
    nr_error err = {0};
    nr_trainer *t = open_trainer(ops, "lwf", rows);
    shake(t);
    fill(&b);
    double *plain = calloc(t->e->weights, sizeof *plain), without = gradients(t, &b);
    assert_non_null(plain);
    for (size_t i = 0; i < t->e->weights; i++) plain[i] = nr_real_get(ops, t->e->grads, i);
    tiny_ok(nr_pass_teach(t->pass, &b.batch, &err), &err);
    double with = gradients(t, &b);
    for (size_t i = 0; i < t->e->weights; i++) nr_real_set(ops, t->e->grads, i, nr_real_get(ops, t->e->grads, i) - plain[i]);
    snprintf(prefix, sizeof prefix, "lwf.%s", rows);
    snprintf(grad, sizeof grad, "%s.grad", prefix);
    close_to(with - without, (double)need(prefix, "")[0], 4 * tolerance);
    compare(t, t->e->grads, grad, 4 * tolerance);
    close_to(gradients(t, &b), without, 1e-12); /* taught once, for one loss */
    free(plain);
    nr_trainer_close(t);
}

static void all(const nr_ops *ops, double tolerance)
{
    finetuning(ops, tolerance);
    consolidation(ops, tolerance);
    distillation(ops, "new", tolerance);
    distillation(ops, "old", tolerance);
    distillation(ops, "all", tolerance);
}

/* transformers computes norms, rotary tables and softmax in float32 even for a float64 model: 1e-6 is their rounding. */
static void in_double(void **state)
{
    (void)state;
    all(nr_ops_reference(true), 3e-6);
}

static void in_float(void **state)
{
    const nr_ops *ops;
    (void)state;
    assert_int_equal(nr_ops_cpu(&ops, NR_COMPUTE_FP32, NULL), NR_OK);
    all(ops, 5e-5);
}

int main(void)
{
    nr_error err = {0};
    if (nr_safetensors_open(&golden, NRES_FIXTURES "/finetune/golden.safetensors", &err) != NR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_double), cmocka_unit_test(in_float)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_safetensors_close(golden);
    return failed;
}
