/*
 * test_model_grad.c - gradients of the whole tiny model in double, for every
 * method and every switch of the neutral residues: each trained weight against
 * a central difference. Never at the fresh init, where W_out = 0 hides bugs and
 * nothing is distilled.
 */
#include "../gradients.h"

#define CASE(name, mask, recompute, ...)                        \
    static void name(void **state)                              \
    {                                                           \
        (void)state;                                            \
        const char *const settings[] = {__VA_ARGS__, NULL};     \
        gradients_check(settings, mask, recompute);                       \
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
CASE(lwf_prefix, false, false, "method", "prefix", "width", "2", "init_scale", "0.5", "lwf_alpha", "2")
CASE(lwf_houlsby, true, false, "method", "houlsby", "width", "2", "lwf_alpha", "2", "lwf_rows", "all")
CASE(lwf_llama_pro, false, false, "method", "llama-pro", "width", "1", "lwf_alpha", "2")

static void finetune_biased(void **state)
{
    (void)state;
    gradients_check_shape(tiny_biased_config(), (const char *const[]){"method", "finetune", NULL}, false, false);
    gradients_check_shape(tiny_biased_config(), (const char *const[]){"method", "finetune", "train_weights", "lm_head", NULL}, false, false);
    gradients_check_shape(tiny_biased_config(), (const char *const[]){"method", "lwf", "lwf_alpha", "1", "train_weights", "layers.0.*_proj", NULL}, false, true);
}
CASE(serial_elu, false, true, "method", "neutral", "width", "5", "gate", "elu", "alpha", "3", "placement", "serial")
CASE(adapter, false, false, "method", "adapter", "width", "8")
CASE(adapter_serial, true, false, "method", "adapter", "width", "8", "placement", "serial")
CASE(houlsby, false, false, "method", "houlsby", "width", "3")
CASE(houlsby_recompute, true, true, "method", "houlsby", "width", "2", "layers", "1,3")
CASE(attention, false, false, "method", "attention", "width", "2")
CASE(attention_recompute, true, true, "method", "attention", "width", "1", "layers", "1-3")
CASE(prefix, false, false, "method", "prefix", "width", "3", "init_scale", "0.5")
CASE(prefix_recompute, true, true, "method", "prefix", "width", "2", "layers", "1,2")

CASE(loramoe, false, false, "method", "loramoe", "width", "2", "experts", "4", "balance", "0.7", "balance_delta", "0.3")
CASE(loramoe_attention, true, true, "method", "loramoe", "width", "1", "experts", "3", "lora_targets", "q,k,v,o", "layers", "1,2")
CASE(moe_ct, false, false, "method", "moe-ct", "width", "3", "experts", "3")
CASE(moe_ct_sigmoid, true, true, "method", "moe-ct", "width", "2", "experts", "2", "fusion", "sigmoid", "layers", "1,3")
CASE(moextend, false, false, "method", "moextend", "width", "2")

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
        cmocka_unit_test(lwf_lora), cmocka_unit_test(lwf_llama_pro), cmocka_unit_test(lwf_prefix), cmocka_unit_test(lwf_houlsby),
        cmocka_unit_test(serial_elu), cmocka_unit_test(adapter), cmocka_unit_test(adapter_serial), cmocka_unit_test(houlsby),
        cmocka_unit_test(houlsby_recompute), cmocka_unit_test(attention), cmocka_unit_test(attention_recompute),
        cmocka_unit_test(prefix), cmocka_unit_test(prefix_recompute), cmocka_unit_test(loramoe), cmocka_unit_test(loramoe_attention),
        cmocka_unit_test(moe_ct), cmocka_unit_test(moe_ct_sigmoid), cmocka_unit_test(moextend), cmocka_unit_test(gate_cut_from_lm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
