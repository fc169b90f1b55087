/*
 * gradients.h - every weight of a method on the whole tiny model, in double,
 * against a central difference. Never at the fresh init, where a zero matrix
 * hides bugs and nothing is distilled.
 */
#ifndef GRADIENTS_H
#define GRADIENTS_H

#include "tiny.h"

/* Central differences at step 1e-5 in double: rounding 1e-11 of a loss near 4, truncation some 1e-7 where the loss bends
 * much (seen: 2e-7). A wrong term shows as 1e-3 and more. */
static const double step = 1e-5, tolerance = 1e-6;

static inline double gradients_loss(nr_pass *p, const nr_settings *s, const nr_batch *b, bool backward)
{
    nr_error err = {0};
    if (s->lwf_alpha > 0) tiny_ok(nr_pass_teach(p, b, &err), &err);
    return tiny_loss(p, b, backward);
}

static inline void gradients_check_shape(const char *shape, const char *const *settings, bool mask, bool recompute)
{
    tiny t;
    nr_settings s;
    nr_extension *e;
    nr_pass *p;
    nr_error err = {0};
    tiny_batch b;
    const nr_ops *ops = nr_ops_reference(true);
    tiny_open_as(&t, ops, NR_USE_TRAIN, shape);
    nr_settings_default(&s);
    for (size_t i = 0; settings[i]; i += 2) tiny_ok(nr_settings_set(&s, settings[i], settings[i + 1], &err), &err);
    tiny_ok(nr_extension_new(&e, t.model, &s, &err), &err);
    tiny_ok(nr_extension_train(e, &err), &err);
    tiny_shake(e, 0.2);
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true, .recompute = recompute, .head_rows = 8,
                           .distil = {s.lwf_alpha, s.lwf_temperature, (nr_distil_rows)s.lwf_rows}};
    tiny_ok(nr_pass_new(&p, t.model, &e, 1, &opt, &err), &err);
    tiny_fill(&b);
    if (mask) b.batch.first = b.first;
    gradients_loss(p, &s, &b.batch, true);
    double worst = 0;
    for (size_t i = 0; i < e->weights; i++) {
        double v = nr_real_get(ops, e->values, i), side[2];
        for (int k = 0; k < 2; k++) {
            nr_real_set(ops, e->values, i, v + (k ? step : -step));
            tiny_ok(nr_extension_repack(e, &err), &err);
            side[k] = gradients_loss(p, &s, &b.batch, false);
        }
        nr_real_set(ops, e->values, i, v);
        double numeric = (side[1] - side[0]) / (2 * step), analytic = nr_real_get(ops, e->grads, i);
        double off = fabs(numeric - analytic) / fmax(1e-2, fabs(numeric));
        if (off > worst) worst = off;
        if (off > tolerance) {
            size_t k = e->param_count - 1;
            while (e->params[k].offset > i) k--;
            fail_msg("%s: weight %zu of %s: difference quotient %.10g, gradient %.10g", settings[1], i - e->params[k].offset,
                     e->params[k].name, numeric, analytic);
        }
    }
    print_message("  %zu weights, worst %.1e\n", e->weights, worst);
    nr_pass_free(p);
    nr_extension_close(e);
    tiny_close(&t);
}

static inline void gradients_check(const char *const *settings, bool mask, bool recompute)
{
    gradients_check_shape(tiny_config(), settings, mask, recompute);
}

#endif
