/*
 * cmd_inspect.c - nres inspect: what a model is, what its weights take, and
 * what the default extension would add. Nothing is packed or changed.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

extern const nr_command nr_command_inspect;

static const char *model;
static bool json, tensors, fingerprint;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "GGUF file, Hugging Face folder or ORG/NAME in its cache", &model, 0, 0},
    {"json", 0, 'b', NULL, "print everything as one JSON object", &json, 0, 0},
    {"tensors", 0, 'b', NULL, "list every tensor too", &tensors, 0, 0},
    {"fingerprint", 0, 'b', NULL, "print the SHA-256 of the weights too (reads them all)", &fingerprint, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

/* ---- fields of the description ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

static long long whole(const json_t *o, const char *key) { return (long long)json_integer_value(json_object_get(o, key)); }

static void label(const char *name) { printf("  %-14s", name); }

/* 134515008 as 134,515,008 */
static const char *grouped(char buf[32], long long n)
{
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%lld", n), at = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

/* Text from the file, cut to the table's width and without control characters. */
static void print_text(const char *s, size_t most)
{
    size_t n = strlen(s);
    const char *from = n > most ? s + n - most + 3 : s;
    if (n > most) printf("...");
    for (; *from; from++) putchar((unsigned char)*from < 32 || *from == 127 ? '?' : *from);
    putchar('\n');
}

/* ---- parts of the table ---- */

static void print_file(const json_t *j)
{
    char size[32];
    double bytes = 0;
    const json_t *files = json_object_get(j, "files");
    for (size_t i = 0; i < json_array_size(files); i++) bytes += (double)whole(json_array_get(files, i), "bytes");
    label("name");
    print_text(text_of(j, "name"), 64);
    label("path");
    print_text(text_of(j, "path"), 64);
    label("format");
    printf("%s, %zu file%s, %s\n", text_of(j, "format"), json_array_size(files), json_array_size(files) == 1 ? "" : "s",
           nr_cli_bytes(size, bytes));
}

static void print_rope(const json_t *rope)
{
    label("rotary");
    printf("%s, base %g", text_of(rope, "type"), json_number_value(json_object_get(rope, "theta")));
    if (json_object_get(rope, "factor")) printf(", factor %g", json_number_value(json_object_get(rope, "factor")));
    if (json_object_get(rope, "original_context")) printf(", from %lld tokens", whole(rope, "original_context"));
    putchar('\n');
}

static void print_shape(const json_t *j)
{
    label("architecture");
    print_text(text_of(j, "architecture"), 64);
    label("layers");
    printf("%lld of width %lld, FFN %lld (%s)\n", whole(j, "layers"), whole(j, "width"), whole(j, "ffn_width"), text_of(j, "activation"));
    label("heads");
    printf("%lld of size %lld, %lld for keys and values\n", whole(j, "heads"), whole(j, "head_size"), whole(j, "kv_heads"));
    label("biases");
    bool attention = json_is_true(json_object_get(j, "attention_bias")), mlp = json_is_true(json_object_get(j, "mlp_bias"));
    printf("%s\n", attention && mlp ? "attention and FFN" : attention ? "attention" : mlp ? "FFN" : "none");
    print_rope(json_object_get(j, "rope"));
    label("context");
    printf("%lld tokens\n", whole(j, "context"));
    label("vocabulary");
    printf("%lld, head %s\n", whole(j, "vocabulary"), json_is_true(json_object_get(j, "tied")) ? "tied to the embedding" : "of its own");
}

static void print_tokenizer(const json_t *j)
{
    const json_t *t = json_object_get(j, "tokenizer"), *ids = json_object_get(j, "special_ids"), *eos = json_object_get(ids, "eos");
    label("tokenizer");
    printf("%s", json_is_null(t) ? "none" : text_of(t, "kind"));
    if (json_is_string(json_object_get(t, "pre"))) printf(", pre-tokenizer %.32s", text_of(t, "pre"));
    printf(", chat template %s\n", json_is_true(json_object_get(j, "chat_template")) ? "present" : "absent");
    label("special ids");
    if (json_is_integer(json_object_get(ids, "bos"))) printf("bos %lld, ", whole(ids, "bos"));
    for (size_t i = 0; i < json_array_size(eos); i++) printf("eos %lld, ", (long long)json_integer_value(json_array_get(eos, i)));
    if (json_is_integer(json_object_get(ids, "pad"))) printf("pad %lld, ", whole(ids, "pad"));
    printf("bos %s\n", json_is_true(json_object_get(ids, "add_bos")) ? "put first" : "not put first");
}

static void print_weights(const json_t *j)
{
    char a[32], b[32];
    const char *name;
    json_t *t;
    const json_t *w = json_object_get(j, "weights");
    printf("\nWeights\n");
    label("all");
    printf("%15s\n", grouped(a, whole(w, "all")));
    label("embedding");
    printf("%15s\n", grouped(a, whole(w, "embedding")));
    label("other");
    printf("%15s\n", grouped(a, whole(w, "non_embedding")));
    printf("\n  %-14s%15s%10s%14s\n", "type", "weights", "tensors", "bytes");
    json_object_foreach(json_object_get(j, "types"), name, t) {
        label(name);
        printf("%15s%10lld%14s\n", grouped(a, whole(t, "weights")), whole(t, "tensors"), nr_cli_bytes(b, (double)whole(t, "bytes")));
    }
}

/*
 * Neutral residues at the default --extra: L (3 M C + C) weights, M the nearest
 * multiple of 8. Trained in float with its gradient and two Adam moments.
 */
static void print_extension(const json_t *j)
{
    char a[32], b[32];
    nr_settings s;
    nr_settings_default(&s);
    double all = (double)whole(json_object_get(j, "weights"), "all"), layers = (double)whole(j, "layers"), width = (double)whole(j, "width");
    double exact = (s.extra / 100 * all / layers - width) / (3 * width);
    double m = exact < 8 ? 8 : (double)((long long)(exact / 8 + 0.5) * 8);
    double extra = layers * (3 * m * width + width), other = (double)whole(json_object_get(j, "weights"), "non_embedding");
    printf("\nExtension: neutral residues, --extra %g\n", s.extra);
    label("width");
    printf("%15.0f a layer\n", m);
    label("weights");
    printf("%15s: %.2f %% of all, %.2f %% of the non-embedding\n", grouped(a, (long long)extra), 100 * extra / all, 100 * extra / other);
    label("memory");
    printf("%15s in fp32, %s with gradients and AdamW\n", nr_cli_bytes(a, 4 * extra), nr_cli_bytes(b, 16 * extra));
}

static void print_tensors(const json_t *list)
{
    char size[32], shape[96];
    printf("\nTensors\n");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *t = json_array_get(list, i), *dims = json_object_get(t, "shape");
        size_t n = 0;
        shape[0] = '\0';
        for (size_t k = 0; k < json_array_size(dims) && n < sizeof shape; k++)
            n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%lld", k ? " x " : "", (long long)json_integer_value(json_array_get(dims, k)));
        printf("  %-47s %-4s %13s %9s\n", text_of(t, "name"), text_of(t, "type"), shape, nr_cli_bytes(size, (double)whole(t, "bytes")));
    }
}

/* ---- the command ---- */

static nr_status describe(json_t **j, nr_error *err)
{
    nr_model *m;
    nr_model_options opt = {.use = NR_USE_SHAPES, .compute = NR_COMPUTE_FP32, .hub_folder = nr_cli_hub_folder()};
    char hex[65];
    *j = NULL;
    NR_TRY(nr_model_open(&m, model, &opt, err));
    nr_status st = fingerprint ? nr_model_fingerprint(m, hex, err) : NR_OK;
    char *text = st == NR_OK ? nr_model_describe(m, tensors) : NULL;
    if (st == NR_OK) st = text ? nr_json_parse(j, text, strlen(text), model, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", model);
    if (st == NR_OK && fingerprint) json_object_set_new(*j, "fingerprint", json_string(hex));
    free(text);
    nr_model_close(m);
    return st;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_error err;
    json_t *j;
    int code = nr_cli_parse(&nr_command_inspect, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!model && words.count == 1) model = words.items[0];
    else if (words.count > 0) return nr_cli_usage(&nr_command_inspect, "expected one model, found \"%.100s\" too", words.items[words.count - 1]);
    if (!model) return nr_cli_usage(&nr_command_inspect, "a model is needed: -m MODEL");
    if (describe(&j, &err) != NR_OK) return nr_cli_fail(&err);
    if (json) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("Model\n");
        print_file(j);
        print_shape(j);
        print_tokenizer(j);
        print_weights(j);
        if (fingerprint) printf("\nFingerprint\n  %s\n", text_of(j, "fingerprint"));
        print_extension(j);
        if (tensors) print_tensors(json_object_get(j, "tensors"));
    }
    json_decref(j);
    return 0;
}

const nr_command nr_command_inspect = {
    .name = "inspect",
    .summary = "show a model's shape, weights, and what an extension would add",
    .usage = "nres inspect [-m] MODEL [--json] [--tensors] [--fingerprint]",
    .examples = "nres inspect SmolLM2-135M-Instruct.Q4_1.gguf\n"
                "nres inspect -m HuggingFaceTB/SmolLM2-135M --json",
    .run = run,
    .options = option_list,
};
