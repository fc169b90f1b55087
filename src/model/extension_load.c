/*
 * extension_load.c - an extension from its folder, which says on which backbone
 * it was trained, or from PEFT's, which doesn't.
 */
#include <stdlib.h>
#include <string.h>

#include "model/extension.h"

/* mine: the fingerprint of m. */
static nr_status check_backbone(char mine[65], const nr_model *m, const json_t *j, const char *path, bool allow_other, nr_error *err)
{
    const json_t *b = json_object_get(j, "backbone");
    const char *hex, *name = "?";
    if (!json_is_object(b)) return nr_fail(err, NR_E_FORMAT, "%s: backbone: expected an object", path);
    NR_TRY(nr_json_string(b, "sha256", true, &hex, path, err));
    NR_TRY(nr_json_string(b, "name", false, &name, path, err));
    NR_TRY(nr_model_fingerprint(m, mine, err));
    if (strcmp(hex, mine) != 0 && !allow_other)
        return nr_fail(err, NR_E_MISMATCH,
                       "%s: trained on backbone %s (sha256 %.12s...), but %s has sha256 %.12s...; --allow-other-backbone overrides",
                       path, name, hex, m->file->path, mine);
    return NR_OK;
}

static nr_status load_from(nr_extension **out, const nr_model *m, const json_t *j, const char *config_path,
                           const char *weights_path, bool allow_other, nr_error *err)
{
    size_t version, width;
    const char *name;
    char backbone[65];
    nr_settings s;
    NR_TRY(nr_json_size(j, "format_version", true, &version, config_path, err));
    if (version != 1)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: format_version %zu is newer than this program knows (1)", config_path, version);
    NR_TRY(nr_json_string(j, "method", true, &name, config_path, err));
    NR_TRY(nr_json_size(j, "width", true, &width, config_path, err));
    if (!nr_method_find(name)) return nr_fail(err, NR_E_UNSUPPORTED, "%s: method %s is not known", config_path, name);
    nr_settings_default(&s);
    const json_t *settings = json_object_get(j, "settings");
    if (!json_is_object(settings)) return nr_fail(err, NR_E_FORMAT, "%s: settings: expected an object", config_path);
    NR_TRY(nr_settings_from_json(&s, settings, config_path, err));
    NR_TRY(nr_settings_set(&s, "method", name, err));
    s.width = width;
    NR_TRY(check_backbone(backbone, m, j, config_path, allow_other, err));
    NR_TRY(nr_extension_from(out, m, &s, weights_path, err));
    memcpy((*out)->backbone, backbone, sizeof backbone);
    (*out)->record = json_incref(json_object_get(j, "training"));
    return NR_OK;
}

nr_status nr_extension_load(nr_extension **out, const nr_model *m, const char *folder, bool allow_other, nr_error *err)
{
    nr_status st;
    json_t *j = NULL;
    *out = NULL;
    char *config = nr_path_join(folder, "extension_config.json");
    char *weights = nr_path_join(folder, "extension.safetensors");
    if (!config || !weights) {
        st = nr_fail(err, NR_E_MEMORY, "%s: not enough memory to load", folder);
        goto done;
    }
    char *peft = nr_path_join(folder, "adapter_config.json");
    bool is_peft = peft && !nr_path_exists(config) && nr_path_exists(peft);
    free(peft);
    if (is_peft) {
        st = nr_extension_load_peft(out, m, folder, err);
        goto done;
    }
    if (!nr_path_exists(config)) {
        st = nr_fail(err, NR_E_IO, "%s: not an extension: %s is missing", folder, config);
        goto done;
    }
    NR_GO(nr_json_load(&j, config, err));
    st = load_from(out, m, j, config, weights, allow_other, err);
done:
    json_decref(j);
    free(config);
    free(weights);
    return st;
}
