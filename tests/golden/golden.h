/*
 * golden.h - a method on the tiny backbone of fixtures/neutral against a golden
 * file of PyTorch: losses and the gradient of every trained weight.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "../tiny.h"

static nr_safetensors *golden;

static inline const nr_tensor *need(const char *fmt, const char *a, const char *b)
{
    char name[160];
    snprintf(name, sizeof name, fmt, a, b);
    const nr_tensor *t = nr_safetensors_find(golden, name);
    if (!t) fail_msg("fixture has no %s", name);
    return t;
}

static inline double at(const nr_tensor *t, size_t i)
{
    double v;
    memcpy(&v, t->data + i * sizeof v, sizeof v);
    return v;
}

/* Adds |a - b|^2 and |b|^2 of a tensor to off[0] and off[1]; returns its own |a - b| / |b|. */
static inline double distance(const nr_extension *e, const nr_param *p, const nr_tensor *t, double off[2])
{
    double here[2] = {0, 0};
    for (size_t i = 0; i < p->shape[0] * p->shape[1]; i++) {
        double d = nr_real_get(e->model->ops, nr_param_grad(e, p), i) - at(t, i);
        here[0] += d * d;
        here[1] += at(t, i) * at(t, i);
    }
    off[0] += here[0];
    off[1] += here[1];
    return sqrt(here[0] / (here[1] + 1e-300));
}

/* Compares the losses of a case; each test says which it has. */
static void golden_losses(const char *name, const nr_losses *sum, double tolerance);

static inline bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * fabs(b);
}

/* A case: its weights, batch, losses and gradients stand in the golden file under its name. each: the tolerance holds for
 * every tensor; else for all of them as one. */
static inline void golden_run(const nr_ops *ops, const char *name, const char *const *settings, double tolerance, bool each)
{
    nr_model *m;
    nr_extension *e;
    nr_pass *p;
    nr_error err = {0};
    nr_settings s;
    tiny_batch b;
    nr_losses sum = {0};
    nr_model_options opt = {.use = NR_USE_TRAIN, .threads = 2};
    tiny_ok(nr_model_open_on(&m, NRES_FIXTURES "/neutral", &opt, ops, &err), &err);
    nr_settings_default(&s);
    for (size_t i = 0; settings[i]; i += 2) tiny_ok(nr_settings_set(&s, settings[i], settings[i + 1], &err), &err);
    tiny_ok(nr_extension_new(&e, m, &s, &err), &err);
    tiny_ok(nr_extension_train(e, &err), &err);
    for (size_t k = 0; k < e->param_count; k++) {
        const nr_tensor *t = need("%s.value.%s", name, e->params[k].name);
        for (size_t i = 0; i < e->params[k].shape[0] * e->params[k].shape[1]; i++)
            nr_real_set(ops, e->values, e->params[k].offset + i, at(t, i));
    }
    tiny_ok(nr_extension_repack(e, &err), &err);
    tiny_fill(&b);
    for (size_t i = 0; i < TINY_N; i++) {
        b.ids[i] = (int32_t)at(need("%s.ids%s", name, ""), i);
        b.targets[i] = (int32_t)at(need("%s.targets%s", name, ""), i);
    }
    nr_pass_options options = {.B = TINY_B, .T = TINY_T, .train = true};
    tiny_ok(nr_pass_new(&p, m, &e, 1, &options, &err), &err);
    tiny_ok(nr_pass_forward(p, &b.batch, &err), &err);
    tiny_ok(nr_pass_loss(p, &b.batch, true, &sum, NULL, &err), &err);
    golden_losses(name, &sum, tolerance);
    double worst = 0, all[2] = {0, 0};
    for (size_t k = 0; k < e->param_count; k++) {
        double off = distance(e, &e->params[k], need("%s.grad.%s", name, e->params[k].name), all);
        if (each && off > tolerance) fail_msg("%s, %s: gradient of %s is off by %.2e", ops->name, name, e->params[k].name, off);
        worst = fmax(worst, off);
    }
    double whole = sqrt(all[0] / all[1]);
    print_message("  %s %s: whole gradient %.1e, worst tensor %.1e\n", ops->name, name, whole, worst);
    assert_true(whole < tolerance);
    nr_pass_free(p);
    nr_extension_close(e);
    nr_model_close(m);
}

static inline int golden_open(const char *path)
{
    nr_error err = {0};
    if (nr_safetensors_open(&golden, path, &err) == NR_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return 1;
}

#endif
