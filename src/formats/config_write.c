/*
 * config_write.c - an nr_config as config.json and generation_config.json, for
 * models whose file has neither (GGUF).
 *
 * GGUF keeps llama 3's rotary scaling as divisors of the frequencies, while
 * config.json keeps the numbers that they were computed from. Those are found
 * again by trying them; divisors that no such numbers give are refused.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "formats/formats_internal.h"

/* GGUF keeps floats: the number with the fewest digits that is the same float, 1e-05 and not 9.99999974737875e-06. */
static double shortest(double v)
{
    char text[64];
    for (int digits = 1; digits <= 9 && (double)(float)v == v; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtof(text, NULL) == (float)v) return strtod(text, NULL);
    }
    return v;
}

/* ---- rotary scaling ---- */

static double llama3_divisor(const nr_config *c, size_t i)
{
    double wave = 2 * acos(-1.0) * pow(c->rope.theta, 2 * (double)i / (double)c->D), context = (double)c->rope.original_context;
    if (wave < context / c->rope.high_freq_factor) return 1;
    if (wave > context / c->rope.low_freq_factor) return c->rope.factor;
    double smooth = (context / wave - c->rope.low_freq_factor) / (c->rope.high_freq_factor - c->rope.low_freq_factor);
    return 1 / ((1 - smooth) / c->rope.factor + smooth);
}

static bool divides_so(const nr_config *guess, const float *divisors)
{
    for (size_t i = 0; i < guess->D / 2; i++)
        if (fabs(llama3_divisor(guess, i) / (double)divisors[i] - 1) > 1e-5) return false;
    return true;
}

/* The published models have 1, 4 and 8192; other contexts are powers of two too. */
static nr_status find_llama3(nr_config *c, const char *where, nr_error *err)
{
    const float *divisors = c->rope.divisors;
    c->rope.kind = NR_ROPE_LLAMA3;
    c->rope.factor = 1;
    c->rope.low_freq_factor = 1;
    c->rope.high_freq_factor = 4;
    for (size_t i = 0; i < c->D / 2; i++)
        if ((double)divisors[i] > c->rope.factor) c->rope.factor = (double)divisors[i];
    c->rope.original_context = 8192;
    for (size_t power = 4; power < 32; power++) {
        if (divides_so(c, divisors)) return NR_OK;
        c->rope.original_context = (size_t)1 << power;
    }
    return nr_fail(err, NR_E_UNSUPPORTED, "%s: tensor rope_freqs.weight: expected the divisors of a llama3 scaling, which is all that "
                   "config.json can say, found others", where);
}

static json_t *rope_scaling(const nr_config *c)
{
    switch (c->rope.kind) {
    case NR_ROPE_LINEAR: return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", shortest(c->rope.factor));
    case NR_ROPE_LLAMA3:
        return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", shortest(c->rope.factor), "low_freq_factor",
                         c->rope.low_freq_factor, "high_freq_factor", c->rope.high_freq_factor, "original_max_position_embeddings",
                         (json_int_t)c->rope.original_context);
    case NR_ROPE_DEFAULT: break;
    }
    return json_null();
}

/* ---- ids ---- */

static json_t *id(int32_t v) { return v < 0 ? json_null() : json_integer(v); }

/* One id, or a list where there are several. */
static json_t *ends(const nr_config *c)
{
    if (c->eos < 0 || c->more_eos[0] < 0) return id(c->eos);
    json_t *list = json_array();
    bool bad = json_array_append_new(list, json_integer(c->eos)) != 0;
    for (size_t i = 0; i < NR_COUNT(c->more_eos) && c->more_eos[i] >= 0; i++)
        bad = json_array_append_new(list, json_integer(c->more_eos[i])) != 0 || bad;
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

nr_status nr_config_generation(json_t **out, const nr_config *c, nr_error *err)
{
    *out = json_pack("{s:o, s:o, s:o}", "bos_token_id", id(c->bos), "eos_token_id", ends(c), "pad_token_id", id(c->pad));
    return *out ? NR_OK : nr_fail(err, NR_E_MEMORY, "generation_config.json: out of memory");
}

/* ---- the whole ---- */

static json_t *sizes(const nr_config *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "hidden_size", (json_int_t)c->C, "intermediate_size",
                     (json_int_t)c->F, "num_hidden_layers", (json_int_t)c->L, "num_attention_heads", (json_int_t)c->H,
                     "num_key_value_heads", (json_int_t)c->K, "head_dim", (json_int_t)c->D, "vocab_size", (json_int_t)c->V,
                     "max_position_embeddings", (json_int_t)c->max_context);
}

nr_status nr_config_to_json(json_t **out, const nr_config *c, const char *where, nr_error *err)
{
    nr_config said = *c;
    char class[96]; /* LlamaForCausalLM */
    *out = NULL;
    if (c->rope.divisors) NR_TRY(find_llama3(&said, where, err));
    snprintf(class, sizeof class, "%c%sForCausalLM", toupper((unsigned char)c->architecture[0]), c->architecture + 1);
    json_t *j = json_pack("{s:[s], s:s, s:s, s:f, s:f, s:o, s:b, s:b, s:b, s:f, s:f, s:o, s:o, s:o, s:b}", "architectures", class,
                          "model_type", c->architecture, "hidden_act", c->act == NR_ACT_SILU ? "silu" : "gelu_pytorch_tanh",
                          "rms_norm_eps", shortest(c->norm_eps), "rope_theta", shortest(c->rope.theta), "rope_scaling",
                          rope_scaling(&said), "tie_word_embeddings", c->tied, "attention_bias", c->attention_bias, "mlp_bias",
                          c->mlp_bias, "attention_dropout", 0.0, "initializer_range", 0.02, "bos_token_id", id(c->bos),
                          "eos_token_id", ends(c), "pad_token_id", id(c->pad), "use_cache", true);
    json_t *rest = sizes(c);
    if (!j || !rest || json_object_update(j, rest) != 0) {
        json_decref(j);
        j = NULL;
    }
    json_decref(rest);
    *out = j;
    return j ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for config.json", where);
}
