/* test_config.c - config.json: what is read, and what is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "formats/formats.h"

static const char base[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 100, \"hidden_size\": 32, \"intermediate_size\": 64,"
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"rope_theta\": 500000.0,"
    "\"rms_norm_eps\": 1e-5, \"bos_token_id\": 1, \"eos_token_id\": 2}";

/* The base config with the fields of `change` set; a field "-" : "name" removes one. */
static nr_status read_changed(nr_config *c, const char *change, nr_error *err)
{
    json_t *j, *other;
    nr_error parse = {0};
    if (nr_json_parse(&j, base, strlen(base), "base", &parse) != NR_OK) fail_msg("%s", parse.message);
    if (nr_json_parse(&other, change, strlen(change), change, &parse) != NR_OK) fail_msg("%s", parse.message);
    const char *gone = json_string_value(json_object_get(other, "-"));
    if (gone) {
        json_object_del(j, gone);
        json_object_del(other, "-");
    }
    json_object_update(j, other);
    nr_status st = nr_config_from_json(c, j, "config.json", err);
    json_decref(other);
    json_decref(j);
    return st;
}

static nr_config good(const char *change)
{
    nr_config c;
    nr_error err = {0};
    if (read_changed(&c, change, &err) != NR_OK) fail_msg("%s: %s", change, err.message);
    return c;
}

static void reads_a_llama(void **state)
{
    (void)state;
    nr_config c = good("{}");
    assert_string_equal(c.architecture, "llama");
    assert_true(c.L == 2 && c.C == 32 && c.F == 64 && c.H == 4 && c.K == 2 && c.D == 8 && c.V == 100);
    assert_true(c.max_context == 2048 && c.norm_eps == 1e-5 && c.act == NR_ACT_SILU);
    assert_true(c.rope.kind == NR_ROPE_DEFAULT && c.rope.theta == 500000 && c.rope.divisors == NULL);
    assert_true(!c.tied && !c.attention_bias && !c.mlp_bias);
    assert_true(c.bos == 1 && c.eos == 2 && c.pad == -1 && c.more_eos[0] == -1);
    assert_null(c.chat_template);
}

static void reads_variants(void **state)
{
    (void)state;
    nr_config c = good("{\"-\": \"num_key_value_heads\", \"head_dim\": 16, \"hidden_act\": \"gelu_pytorch_tanh\", \"pad_token_id\": -1}");
    assert_true(c.K == 4 && c.D == 16 && c.act == NR_ACT_GELU_TANH && c.pad == -1);
    c = good("{\"eos_token_id\": [5, 6, 7, 6], \"bos_token_id\": null, \"pad_token_id\": 0, \"tie_word_embeddings\": true}");
    assert_true(c.eos == 5 && c.more_eos[0] == 6 && c.more_eos[1] == 7 && c.more_eos[2] == -1 && c.bos == -1 && c.pad == 0 && c.tied);
    c = good("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}, \"attention_bias\": true, \"mlp_bias\": true}");
    assert_true(c.rope.kind == NR_ROPE_LINEAR && c.rope.factor == 4 && c.attention_bias && c.mlp_bias);
    c = good("{\"-\": \"rope_theta\", \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 1e6, \"factor\": 8, \"low_freq_factor\": 1,"
             "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}");
    assert_true(c.rope.kind == NR_ROPE_LLAMA3 && c.rope.theta == 1e6 && c.rope.factor == 8 && c.rope.low_freq_factor == 1 &&
                c.rope.high_freq_factor == 4 && c.rope.original_context == 8192);
    c = good("{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 500000}, \"rope_scaling\": null}");
    assert_true(c.rope.kind == NR_ROPE_DEFAULT && c.rope.theta == 500000);
    c = good("{\"-\": \"rope_theta\"}");
    assert_true(c.rope.theta == 10000);
    c = good("{\"model_type\": \"mistral\", \"sliding_window\": null}");
    assert_string_equal(c.architecture, "mistral");
    assert_int_equal(c.max_context, 131072);
    good("{\"model_type\": \"mistral\", \"max_position_embeddings\": 4096}"); /* the default window hides nothing */
    good("{\"sliding_window\": 2048}");
}

/* What real files carry beside their shape. */
static void passes_harmless_keys(void **state)
{
    (void)state;
    good("{\"torch_dtype\": \"bfloat16\", \"dtype\": \"bfloat16\", \"transformers_version\": \"4.42.3\", \"_name_or_path\": \"x\", \"use_cache\": true,"
         "\"architectures\": [\"LlamaForCausalLM\"], \"initializer_range\": 0.041666666666666664, \"is_llama_config\": true,"
         "\"rope_interleaved\": false, \"attention_dropout\": 0.0, \"pretraining_tp\": 1, \"transformers.js_config\": {\"kv_cache_dtype\": {\"q4f16\": \"float16\"}},"
         "\"_attn_implementation_autoset\": true, \"quantization_config\": null, \"partial_rotary_factor\": 1.0, \"layer_types\": [\"full_attention\", \"full_attention\"],"
         "\"use_sliding_window\": false, \"unsloth_version\": \"2025\", \"pruned_heads\": {}, \"moe_layers\": null, \"some_scaling\": false}");
}

static void refuses_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *change;
        nr_status status;
        const char *says;
    } cases[] = {
        {"{\"-\": \"model_type\"}", NR_E_FORMAT, "\"model_type\": expected a string, found nothing"},
        {"{\"model_type\": \"gemma2\"}", NR_E_UNSUPPORTED, "\"model_type\": expected one of llama, mistral, found gemma2"},
        {"{\"hidden_act\": \"relu\"}", NR_E_UNSUPPORTED, "\"hidden_act\": expected silu or gelu_pytorch_tanh, found \"relu\""},
        {"{\"quantization_config\": {\"bits\": 4}}", NR_E_UNSUPPORTED, "\"quantization_config\": expected nothing"},
        {"{\"auto_map\": {\"AutoConfig\": \"x.Y\"}}", NR_E_UNSUPPORTED, "\"auto_map\""},
        {"{\"partial_rotary_factor\": 0.5}", NR_E_UNSUPPORTED, "\"partial_rotary_factor\": expected 1, found 0.5"},
        {"{\"sliding_window\": 1024}", NR_E_UNSUPPORTED, "\"sliding_window\": expected null, found 1024"},
        {"{\"model_type\": \"mistral\"}", NR_E_UNSUPPORTED, "\"sliding_window\": expected null, found nothing, which means 4096"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": null, \"-\": \"num_key_value_heads\"}", NR_E_FORMAT, "\"num_key_value_heads\": expected a whole number"},
        {"{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}", NR_E_UNSUPPORTED, "\"layer_types\": expected full_attention everywhere, found \"sliding_attention\""},
        {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}", NR_E_UNSUPPORTED, "\"rope_type\": expected default, linear or llama3, found yarn"},
        {"{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4, \"attention_factor\": 2}}", NR_E_UNSUPPORTED, "\"rope_scaling\": expected a rotary scaling without \"attention_factor\""},
        {"{\"rope_scaling\": {\"rope_type\": \"linear\"}}", NR_E_FORMAT, "\"factor\": expected a number, found nothing"},
        {"{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}}", NR_E_FORMAT, "rotary factor: expected a number above 0, found 0"},
        {"{\"rope_scaling\": [1]}", NR_E_UNSUPPORTED, "\"rope_scaling\": expected an object or null"},
        {"{\"rope_parameters\": {\"rope_theta\": 1}}", NR_E_FORMAT, "\"rope_theta\": expected 1 as in \"rope_parameters\", found 500000"},
        {"{\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.25}}", NR_E_UNSUPPORTED, "\"partial_rotary_factor\""},
        {"{\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", NR_E_UNSUPPORTED, "\"rope_scaling\": expected null, or what \"rope_parameters\" says"},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1, \"original_max_position_embeddings\": 64}}", NR_E_FORMAT, "high_freq_factor: expected above low_freq_factor 4, found 1"},
        {"{\"residual_multiplier\": 0.22}", NR_E_UNSUPPORTED, "\"residual_multiplier\": expected a key that nres knows, or null, found 0.22"},
        {"{\"attn_logit_softcapping\": 50.0}", NR_E_UNSUPPORTED, "\"attn_logit_softcapping\""},
        {"{\"num_local_experts\": 8}", NR_E_UNSUPPORTED, "\"num_local_experts\""},
        {"{\"rope_interleaved\": true}", NR_E_UNSUPPORTED, "\"rope_interleaved\""},
        {"{\"is_encoder_decoder\": true}", NR_E_UNSUPPORTED, "\"is_encoder_decoder\": expected false, found true"},
        {"{\"tie_word_embeddings\": 1}", NR_E_FORMAT, "\"tie_word_embeddings\": expected true or false"},
        {"{\"num_hidden_layers\": 0}", NR_E_FORMAT, "number of layers: expected 1 to 10000, found 0"},
        {"{\"num_hidden_layers\": -1}", NR_E_FORMAT, "\"num_hidden_layers\""},
        {"{\"num_attention_heads\": 0}", NR_E_FORMAT, "\"num_attention_heads\": expected a divisor of hidden_size 32, found 0"},
        {"{\"num_attention_heads\": 5}", NR_E_FORMAT, "\"num_attention_heads\": expected a divisor"},
        {"{\"num_key_value_heads\": 3}", NR_E_FORMAT, "number of key/value heads: expected a divisor of 4 heads, found 3"},
        {"{\"num_key_value_heads\": 0}", NR_E_FORMAT, "number of key/value heads: expected 1 to 4, found 0"},
        {"{\"head_dim\": 7}", NR_E_FORMAT, "head size: expected an even one, found 7"},
        {"{\"hidden_size\": 9007199254740992}", NR_E_FORMAT, "width: expected 1 to 1048576"},
        {"{\"vocab_size\": 1e9}", NR_E_FORMAT, "\"vocab_size\": expected a whole number, found a fraction"},
        {"{\"rms_norm_eps\": 0}", NR_E_FORMAT, "norm epsilon: expected a number above 0"},
        {"{\"eos_token_id\": 100}", NR_E_FORMAT, "special token id: expected below the vocabulary's 100, found 100"},
        {"{\"eos_token_id\": [1, \"x\"]}", NR_E_UNSUPPORTED, "\"eos_token_id\": expected token ids"},
        {"{\"eos_token_id\": [1,2,3,4,5,6,7,8,9]}", NR_E_UNSUPPORTED, "\"eos_token_id\": expected at most 8 ids"},
        {"{\"bos_token_id\": \"<s>\"}", NR_E_FORMAT, "\"bos_token_id\": expected a whole number, found a string"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_config c;
        nr_error err = {0};
        nr_status st = read_changed(&c, cases[i].change, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].says) || strncmp(err.message, "config.json: ", 13) != 0)
            fail_msg("%s: expected %d and \"%s\", found %d and \"%s\"", cases[i].change, cases[i].status, cases[i].says, st, err.message);
    }
}

static void refuses_what_is_no_object(void **state)
{
    (void)state;
    nr_config c;
    nr_error err = {0};
    json_t *list = json_array();
    assert_int_equal(nr_config_from_json(&c, list, "config.json", &err), NR_E_FORMAT);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_llama), cmocka_unit_test(reads_variants), cmocka_unit_test(passes_harmless_keys),
        cmocka_unit_test(refuses_by_name), cmocka_unit_test(refuses_what_is_no_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
