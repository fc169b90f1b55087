/*
 * extension_peft.c - LoRA in PEFT's folder: adapter_config.json and
 * adapter_model.safetensors, whose tensors have the names and shapes of ours.
 *
 * Reads plain LoRA on the layers' seven matrices. What changes what is computed
 * and isn't done here (DoRA, biases, ranks by pattern, other trained modules) is
 * refused by name. Writes as few fields as PEFT needs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/extension.h"

static nr_status wrong(const char *path, const char *field, const char *wanted, nr_error *err)
{
    return nr_fail(err, NR_E_UNSUPPORTED, "%s: %s: expected %s", path, field, wanted);
}

static bool is_set(const json_t *v)
{
    if (!v || json_is_null(v) || json_is_false(v)) return false;
    if (json_is_object(v)) return json_object_size(v) > 0;
    if (json_is_array(v)) return json_array_size(v) > 0;
    return true;
}

/* A variant of LoRA, or a way to start that changes the backbone's own weights too. */
static bool is_variant(const char *key, const json_t *v)
{
    static const char *const none[] = {"fan_in_fan_out", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication",
                                       "trainable_token_indices", "exclude_modules", "target_parameters", "alora_invocation_tokens"};
    size_t length = strlen(key);
    const char *start = json_string_value(v);
    if (strcmp(key, "init_lora_weights") == 0)
        return start && strcmp(start, "gaussian") != 0 && strcmp(start, "eva") != 0 && strcmp(start, "orthogonal") != 0;
    for (size_t i = 0; i < NR_COUNT(none); i++)
        if (strcmp(key, none[i]) == 0) return true;
    return (strncmp(key, "use_", 4) == 0 && strcmp(key, "use_rslora") != 0) || (length > 7 && strcmp(key + length - 7, "_config") == 0);
}

/* Fields that would change the computation. */
static nr_status check_plain(const json_t *j, const char *path, nr_error *err)
{
    const char *key;
    json_t *v;
    const char *type = "", *bias = "none";
    NR_TRY(nr_json_string(j, "peft_type", true, &type, path, err));
    if (strcmp(type, "LORA") != 0) return nr_fail(err, NR_E_UNSUPPORTED, "%s: peft_type: expected LORA, found %.100s", path, type);
    NR_TRY(nr_json_string(j, "bias", false, &bias, path, err));
    if (strcmp(bias, "none") != 0) return wrong(path, "bias", "none", err);
    json_object_foreach((json_t *)(uintptr_t)j, key, v)
    {
        if (is_set(v) && is_variant(key, v)) return wrong(path, key, "nothing, because it isn't computed here", err);
    }
    return NR_OK;
}

/* "q_proj" or a longer name that ends in ".q_proj". */
static bool names_site(const char *module, nr_site s)
{
    const char *own = strrchr(nr_site_tensors[s], '.') + 1, *last = strrchr(module, '.');
    return strcmp(last ? last + 1 : module, own) == 0;
}

static nr_status read_targets(nr_settings *s, const json_t *j, const char *path, nr_error *err)
{
    const json_t *list = json_object_get(j, "target_modules");
    bool on[NR_SITES] = {false};
    const char *whole = json_string_value(list);
    if (whole && strcmp(whole, "all-linear") == 0)
        for (nr_site k = 0; k < NR_SITES; k++) on[k] = true;
    else if (!json_is_array(list))
        return wrong(path, "target_modules", "a list of modules, or all-linear", err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *module = json_string_value(json_array_get(list, i));
        nr_site k = 0;
        while (module && k < NR_SITES && !names_site(module, k)) k++;
        if (!module || k == NR_SITES) return wrong(path, "target_modules", "some of {q,k,v,o,gate,up,down}_proj", err);
        on[k] = true;
    }
    s->lora_targets.s[0] = '\0';
    for (nr_site k = 0; k < NR_SITES; k++)
        if (on[k]) {
            size_t at = strlen(s->lora_targets.s);
            snprintf(s->lora_targets.s + at, sizeof s->lora_targets.s - at, "%s%s", at ? "," : "", nr_site_names[k]);
        }
    return NR_OK;
}

static nr_status read_layers(nr_settings *s, const json_t *j, const char *path, nr_error *err)
{
    const json_t *list = json_object_get(j, "layers_to_transform");
    if (!is_set(list) && !json_is_integer(list)) return NR_OK;
    if (json_is_integer(list)) {
        snprintf(s->layers.s, sizeof s->layers.s, "%lld", (long long)json_integer_value(list));
        return NR_OK;
    }
    if (!json_is_array(list)) return wrong(path, "layers_to_transform", "a list of layers", err);
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!json_is_integer(json_array_get(list, i)) || at + 24 > sizeof s->layers.s)
            return wrong(path, "layers_to_transform", "a list of layers", err);
        at += (size_t)snprintf(s->layers.s + at, sizeof s->layers.s - at, "%s%lld", i ? "," : "",
                               (long long)json_integer_value(json_array_get(list, i)));
    }
    return NR_OK;
}

static nr_status read_config(nr_settings *s, const char *path, nr_error *err)
{
    json_t *j;
    double alpha = 8;
    bool root = false;
    nr_status st = NR_OK;
    nr_settings_default(s);
    snprintf(s->method.s, sizeof s->method.s, "lora");
    NR_TRY(nr_json_load(&j, path, err));
    NR_GO(check_plain(j, path, err));
    NR_GO(nr_json_size(j, "r", true, &s->width, path, err));
    NR_GO(nr_json_double(j, "lora_alpha", false, &alpha, path, err));
    NR_GO(nr_json_bool(j, "use_rslora", false, &root, path, err));
    if (s->width == 0 || s->width > 1000000 || !(alpha > 0)) {
        st = wrong(path, "r and lora_alpha", "numbers above 0", err);
        goto done;
    }
    s->lora_scale = root ? alpha * sqrt((double)s->width) : alpha; /* alpha / sqrt(r) instead of alpha / r */
    NR_GO(read_targets(s, j, path, err));
    NR_GO(read_layers(s, j, path, err));
done:
    json_decref(j);
    return st;
}

nr_status nr_extension_load_peft(nr_extension **out, const nr_model *m, const char *folder, nr_error *err)
{
    nr_settings s;
    nr_status st;
    *out = NULL;
    char *config = nr_path_join(folder, "adapter_config.json"), *weights = nr_path_join(folder, "adapter_model.safetensors");
    if (!config || !weights) {
        st = nr_fail(err, NR_E_MEMORY, "%s: not enough memory to load", folder);
        goto done;
    }
    NR_GO(read_config(&s, config, err));
    st = nr_extension_from(out, m, &s, weights, err);
done:
    free(config);
    free(weights);
    return st;
}

static json_t *config_of(const nr_extension *e)
{
    const nr_settings *s = &e->settings;
    json_t *targets = json_array(), *layers = json_array();
    for (nr_site k = 0; k < NR_SITES; k++)
        if (e->method->has_site(e, k)) json_array_append_new(targets, json_string(strrchr(nr_site_tensors[k], '.') + 1));
    for (size_t l = 0; l < e->model->config->L; l++)
        if (e->layer_on[l]) json_array_append_new(layers, json_integer((json_int_t)l));
    double alpha = s->lora_scale > 0 ? s->lora_scale : 2 * (double)e->width;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:o, s:o, s:o}", "peft_type", "LORA", "task_type", "CAUSAL_LM",
                          "base_model_name_or_path", e->model->config->name, "bias", "none", "inference_mode", true, "r", (json_int_t)e->width,
                          "lora_alpha", alpha == floor(alpha) ? json_integer((json_int_t)alpha) : json_real(alpha), "target_modules", targets,
                          "layers_to_transform", layers);
    if (j && e->layer_count == e->model->config->L) json_object_set_new(j, "layers_to_transform", json_null());
    return j;
}

nr_status nr_extension_save_peft(const nr_extension *e, const char *folder, nr_error *err)
{
    nr_status st;
    if (strcmp(e->method->name, "lora") != 0)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: PEFT's folder: expected an extension of method lora, found %s", folder, e->method->name);
    if (e->block_data) return nr_fail(err, NR_E_USAGE, "%s: expected an extension with its weights, found one in Q8_0 blocks", folder);
    NR_TRY(nr_make_folders(folder, err));
    char *config = nr_path_join(folder, "adapter_config.json"), *weights = nr_path_join(folder, "adapter_model.safetensors");
    json_t *j = config_of(e);
    if (!config || !weights || !j) {
        st = nr_fail(err, NR_E_MEMORY, "%s: not enough memory to save", folder);
        goto done;
    }
    NR_GO(nr_extension_write_weights(e, weights, err));
    st = nr_json_save(j, config, err);
done:
    json_decref(j);
    free(config);
    free(weights);
    return st;
}
