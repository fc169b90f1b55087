/*
 * test_model_grad.c - gradients of the whole tiny model in double, for every
 * method and every switch of the neutral residues: each trained weight against
 * a central difference. Never at the fresh init, where W_out = 0 hides bugs and
 * nothing is distilled.
 */
#include "../tiny.h"

/* Central differences at step 1e-5 in double: rounding 1e-11 of a loss near 4, truncation some 1e-7 where the loss bends
 * much (seen: 2e-7). A wrong term shows as 1e-3 and more. */
static const double step = 1e-5, tolerance = 1e-6;

static double loss_of(nr_pass *p, const nr_settings *s, const nr_batch *b, bool backward)
{
    nr_error err = {0};
    if (s->lwf_alpha > 0) tiny_ok(nr_pass_teach(p, b, &err), &err);
    return tiny_loss(p, b, backward);
}

static void check_shape(const char *shape, const char *const *settings, bool mask, bool recompute)
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
    loss_of(p, &s, &b.batch, true);
    double worst = 0;
    for (size_t i = 0; i < e->weights; i++) {
        double v = nr_real_get(ops, e->values, i), side[2];
        for (int k = 0; k < 2; k++) {
            nr_real_set(ops, e->values, i, v + (k ? step : -step));
            tiny_ok(nr_extension_repack(e, &err), &err);
            side[k] = loss_of(p, &s, &b.batch, false);
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

static void check(const char *const *settings, bool mask, bool recompute)
{
    check_shape(tiny_config(), settings, mask, recompute);
}

#define CASE(name, mask, recompute, ...)                        \
    static void name(void **state)                              \
    {                                                           \
        (void)state;                                            \
        const char *const settings[] = {__VA_ARGS__, NULL};     \
        check(settings, mask, recompute);                       \
    }

CASE(elu_l1, false, false, "method", "neutral", "width", "8", "gate", "elu", "alpha", "3")
CASE(elu_mask_recompute, true, true, "method", "neutral", "width", "5", "gate", "elu", "alpha", "30", "gate_bias", "true")
CASE(elu_some_layers, false, false, "method", "neutral", "width", "8", "gate", "elu", "alpha", "3", "layers", "1,3")
CASE(relu_sum, false, false, "method", "neutral", "width", "8", "gate", "relu", "alpha", "0.5", "l1_reduction", "sum", "layers", "2-3")
CASE(sigmoid_ce, false, false, "method", "neutral", "width", "8", "gate", "sigmoid", "ce", "true", "beta", "0.7", "l1", "false")
CASE(sigmoid_ce_l1_a, false, false, "method", "neutral", "width", "8", "gate", "sigmoid", "ce", "true", "l1_target", "a", "gate_bias", "true")
CASE(no_gate, false, false, "method", "neutral", "width", "8", "gate", "none", "alpha", "2")
CASE(lora_all, false, false, "method", "lora", "width", "3", "lora_targets", "q,k,v,o,gate,up,down")
CASE(lora_recompute, true, true, "method", "lora", "width", "2", "lora_targets", "gate,up,down", "layers", "1-3")
CASE(llama_pro, false, false, "method", "llama-pro", "width", "1")
CASE(llama_pro_recompute, true, true, "method", "llama-pro", "width", "1")

CASE(finetune, false, false, "method", "finetune")
CASE(finetune_recompute, true, true, "method", "finetune", "layers", "1,3", "train_weights", "layers.*")
CASE(finetune_some, false, false, "method", "finetune", "train_weights", "layers.1.mlp.*,model.layers.2.self_attn.k_proj.weight,norm")
CASE(finetune_ends, false, true, "method", "finetune", "train_weights", "embed_tokens")
CASE(finetune_norms, true, false, "method", "finetune", "train_weights", "*norm")
CASE(finetune_top, false, false, "method", "finetune", "train_weights", "norm")
CASE(lwf, false, false, "method", "lwf", "lwf_alpha", "0.7", "layers", "0,3")
CASE(lwf_old, true, true, "method", "lwf", "lwf_alpha", "5", "lwf_rows", "old", "lwf_temperature", "1.3", "train_weights", "layers.*.mlp.*")
CASE(lwf_neutral, false, false, "method", "neutral", "width", "4", "lwf_alpha", "3", "lwf_rows", "all")
CASE(lwf_lora, true, true, "method", "lora", "width", "2", "lwf_alpha", "2")
CASE(lwf_llama_pro, false, false, "method", "llama-pro", "width", "1", "lwf_alpha", "2")

static void finetune_biased(void **state)
{
    (void)state;
    check_shape(tiny_biased_config(), (const char *const[]){"method", "finetune", NULL}, false, false);
    check_shape(tiny_biased_config(), (const char *const[]){"method", "finetune", "train_weights", "lm_head", NULL}, false, false);
    check_shape(tiny_biased_config(), (const char *const[]){"method", "lwf", "lwf_alpha", "1", "train_weights", "layers.0.*_proj", NULL}, false, true);
}

/* lm_to_gate off: the gate's gradient is the cross-entropy's alone, so a
 * difference quotient of the whole loss doesn't apply. Without the local loss
 * it must be exactly zero, and with it the same as lm_to_gate on minus the
 * language model's part. */
static void gate_cut_from_lm(void **state)
{
    (void)state;
    tiny t;
    nr_settings s;
    nr_extension *e;
    nr_pass *p;
    nr_error err = {0};
    tiny_batch b;
    const nr_ops *ops = nr_ops_reference(true);
    tiny_open(&t, ops, NR_USE_TRAIN);
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "gate", "sigmoid", &err), &err);
    tiny_ok(nr_settings_set(&s, "width", "8", &err), &err);
    s.lm_to_gate = false;
    s.l1 = false;
    tiny_ok(nr_extension_new(&e, t.model, &s, &err), &err);
    tiny_ok(nr_extension_train(e, &err), &err);
    tiny_shake(e, 0.2);
    nr_pass_options opt = {.B = TINY_B, .T = TINY_T, .train = true};
    tiny_ok(nr_pass_new(&p, t.model, &e, 1, &opt, &err), &err);
    tiny_fill(&b);
    tiny_loss(p, &b.batch, true);
    size_t gates = 0;
    for (size_t k = 0; k < e->param_count; k++) {
        if (!strstr(e->params[k].name, ".gate")) continue;
        gates++;
        for (size_t i = 0; i < e->params[k].shape[1]; i++)
            assert_true(nr_real_get(ops, e->grads, e->params[k].offset + i) == 0);
    }
    assert_int_equal(gates, 4);
    nr_pass_free(p);
    nr_extension_close(e);
    tiny_close(&t);
}

int main(void)
{
    nr_threads_set(1); /* passes of 21 rows: threads would only wait for each other */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elu_l1), cmocka_unit_test(elu_mask_recompute), cmocka_unit_test(elu_some_layers),
        cmocka_unit_test(relu_sum), cmocka_unit_test(sigmoid_ce), cmocka_unit_test(sigmoid_ce_l1_a),
        cmocka_unit_test(no_gate), cmocka_unit_test(lora_all),
        cmocka_unit_test(lora_recompute), cmocka_unit_test(llama_pro), cmocka_unit_test(llama_pro_recompute),
        cmocka_unit_test(finetune), cmocka_unit_test(finetune_recompute), cmocka_unit_test(finetune_some),
        cmocka_unit_test(finetune_ends), cmocka_unit_test(finetune_norms), cmocka_unit_test(finetune_top),
        cmocka_unit_test(finetune_biased), cmocka_unit_test(lwf), cmocka_unit_test(lwf_old), cmocka_unit_test(lwf_neutral),
        cmocka_unit_test(lwf_lora), cmocka_unit_test(lwf_llama_pro),
        cmocka_unit_test(gate_cut_from_lm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
