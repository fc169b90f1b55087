/* test_tokenizer_files.c - what is read from tokenizer.json and GGUF, and what is refused, by name. */
#include "testing.h"

#include "tokenizer/vocabulary.h"

#define TINY NRES_FIXTURES "/tiny/tokenizer.json"

static json_t *load(void)
{
    json_t *j;
    nr_error err;
    assert_int_equal(nr_json_load(&j, TINY, &err), NR_OK);
    return j;
}

/* Sets what stands at "a.b.0.c" of j to the JSON text. */
static void set(json_t *j, const char *path, const char *value)
{
    char copy[256], *key, *next;
    json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    snprintf(copy, sizeof copy, "%s", path);
    for (key = copy; (next = strchr(key, '/')); key = next) {
        *next++ = 0;
        j = json_is_array(j) ? json_array_get(j, (size_t)atoi(key)) : json_object_get(j, key);
        assert_non_null(j);
    }
    if (json_is_array(j)) assert_int_equal(json_array_set_new(j, (size_t)atoi(key), v), 0);
    else assert_int_equal(json_object_set_new(j, key, v), 0);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value;
        nr_status st;
        const char *says;
    } cases[] = {
        {"truncation", "{\"max_length\": 5}", NR_E_UNSUPPORTED, "truncation: expected none"},
        {"padding", "{\"length\": 5}", NR_E_UNSUPPORTED, "padding: expected none"},
        {"normalizer", "{\"type\": \"Lowercase\"}", NR_E_UNSUPPORTED, "normalizer: expected NFC or none, found Lowercase"},
        {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Prepend\"}]}", NR_E_UNSUPPORTED, "found Prepend"},
        {"pre_tokenizer", "null", NR_E_UNSUPPORTED, "pre_tokenizer: expected ByteLevel, found none"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\"}", NR_E_UNSUPPORTED, "pre_tokenizer: expected ByteLevel, Digits or Split, found Metaspace"},
        {"pre_tokenizer/pretokenizers/1/add_prefix_space", "true", NR_E_UNSUPPORTED, "add_prefix_space: expected false"},
        {"pre_tokenizer/pretokenizers/0", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\w+\"}, \"behavior\": \"Isolated\", \"invert\": false}", NR_E_UNSUPPORTED, "found \\w+"},
        {"pre_tokenizer/pretokenizers/0", "{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Isolated\", \"invert\": false}", NR_E_UNSUPPORTED, "a Regex pattern"},
        {"pre_tokenizer/pretokenizers/1", "{\"type\": \"Digits\", \"individual_digits\": true}", NR_E_UNSUPPORTED, "expected ByteLevel, found none"},
        {"pre_tokenizer/pretokenizers/0", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", NR_E_UNSUPPORTED, "nothing after ByteLevel"},
        {"post_processor", "{\"type\": \"BertProcessing\"}", NR_E_UNSUPPORTED, "post_processor: expected ByteLevel or TemplateProcessing, found BertProcessing"},
        {"post_processor", "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"<|im_end|>\"}}]}", NR_E_UNSUPPORTED, "one special token, then the text"},
        {"decoder", "{\"type\": \"WordPiece\"}", NR_E_UNSUPPORTED, "decoder: expected ByteLevel, found WordPiece"},
        {"decoder", "null", NR_E_UNSUPPORTED, "decoder: expected ByteLevel"},
        {"model", "7", NR_E_FORMAT, "expected an object with \"model\""},
        {"model/type", "\"Unigram\"", NR_E_UNSUPPORTED, "model: expected BPE, found Unigram"},
        {"model/dropout", "0.1", NR_E_UNSUPPORTED, "model: dropout: expected none"},
        {"model/byte_fallback", "true", NR_E_UNSUPPORTED, "model: byte_fallback: expected none"},
        {"model/end_of_word_suffix", "\"</w>\"", NR_E_UNSUPPORTED, "model: end_of_word_suffix: expected none"},
        {"model/continuing_subword_prefix", "\"##\"", NR_E_UNSUPPORTED, "model: continuing_subword_prefix: expected none"},
        {"model/unk_token", "\"<none>\"", NR_E_FORMAT, "unk_token '<none>' is not in the vocabulary"},
        {"model/ignore_merges", "3", NR_E_FORMAT, "ignore_merges"},
        {"model/vocab", "[]", NR_E_FORMAT, "model: vocab: expected an object"},
        {"model/vocab/new", "-1", NR_E_FORMAT, "token 'new': expected an id from 0 to 16777215, found -1"},
        {"model/vocab/new", "99999999999", NR_E_FORMAT, "token 'new': expected an id"},
        {"model/vocab/new", "\"1\"", NR_E_FORMAT, "token 'new': expected an id from 0 to 16777215, found no number"},
        {"model/vocab/new", "3", NR_E_FORMAT, "id 3 stands there twice"},
        {"model/vocab", "{\"<|endoftext|>\": 0, \"<|im_start|>\": 1, \"<|im_end|>\": 2, \"\\u4e00\": 3}", NR_E_UNSUPPORTED, "tokens of the byte-level alphabet"},
        {"model/merges", "{}", NR_E_FORMAT, "model: merges: expected a list"},
        {"model/merges/5", "\"ab\"", NR_E_FORMAT, "merges: 5: expected \"a b\""},
        {"model/merges/5", "\"a b c\"", NR_E_FORMAT, "merges: 5: expected \"a b\""},
        {"model/merges/5", "[\"a\"]", NR_E_FORMAT, "merges: 5: expected \"a b\""},
        {"model/merges/5", "[\"a\", 3]", NR_E_FORMAT, "merges: 5: expected \"a b\""},
        {"model/merges/5", "\"zq xy\"", NR_E_FORMAT, "merge 5, 'zq' + 'xy': the first is not in the vocabulary"},
        {"model/merges/5", "\"q xy\"", NR_E_FORMAT, "merge 5, 'q' + 'xy': the second is not in the vocabulary"},
        {"model/merges/5", "\"q z\"", NR_E_FORMAT, "merge 5, 'q' + 'z': the result is not in the vocabulary"},
        {"added_tokens", "3", NR_E_FORMAT, "added_tokens: expected a list"},
        {"added_tokens/0/content", "\"\"", NR_E_FORMAT, "added token 0 has no text"},
        {"added_tokens/0/content", "null", NR_E_FORMAT, "content"},
        {"added_tokens/0/id", "7", NR_E_FORMAT, "added token '<|endoftext|>' has id 7, but the vocabulary differs"},
        {"added_tokens/0/content", "\"<|other|>\"", NR_E_FORMAT, "added token '<|other|>' has id 0, but the vocabulary differs"},
        {"added_tokens/1/content", "\"<|endoftext|>\"", NR_E_FORMAT, "added token '<|endoftext|>' has id 1"},
        {"added_tokens/1/lstrip", "1", NR_E_FORMAT, "lstrip"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_error err;
        nr_tokenizer *t;
        json_t *j = load();
        set(j, cases[i].path, cases[i].value);
        nr_status st = nr_tokenizer_from_json(&t, j, "file.json", &err);
        if (st != cases[i].st || !strstr(err.message, cases[i].says)) print_error("%s: %s\n", cases[i].path, st ? err.message : "taken");
        assert_int_equal(st, cases[i].st);
        assert_null(t);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_int_equal(strncmp(err.message, "file.json: ", 11), 0);
        assert_int_equal(nr_tokenizer_from_json(&t, j, "file.json", NULL), st);
        json_decref(j);
    }
}

static nr_tokenizer *tiny_with(const char *path, const char *value)
{
    nr_error err;
    nr_tokenizer *t;
    json_t *j = load();
    if (path) set(j, path, value);
    if (nr_tokenizer_from_json(&t, j, "file.json", &err) != NR_OK) fail_msg("%s", err.message);
    json_decref(j);
    return t;
}

/* Other ways to say the same, taken: ids stay. */
static void same(void **state)
{
    (void)state;
    static const char text[] = "Le 12 chats, they're 3\n\n  <|im_end|> \xC3\xA9t\xC3\xA9";
    static const struct {
        const char *path, *value;
    } cases[] = {
        {"post_processor", "{\"type\": \"ByteLevel\", \"trim_offsets\": false}"},
        {"post_processor", "{\"type\": \"Sequence\", \"processors\": []}"},
        {"decoder", "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteLevel\"}]}"},
        {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": []}"},
        {"normalizer", "{\"type\": \"NFC\"}"},
        {"model/dropout", "0.0"},
        {"model/end_of_word_suffix", "\"\""},
        {"model/unk_token", "\"<|endoftext|>\""},
    };
    nr_error err;
    int32_t want[128], found[128];
    size_t n, m;
    nr_tokenizer *t = tiny_with(NULL, NULL);
    assert_int_equal(nr_tokenizer_encode(t, text, sizeof text - 1, true, want, 128, &n, &err), NR_OK);
    nr_tokenizer_close(t);
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        t = tiny_with(cases[i].path, cases[i].value);
        assert_int_equal(nr_tokenizer_encode(t, text, sizeof text - 1, true, found, 128, &m, &err), NR_OK);
        assert_int_equal(n, m);
        assert_memory_equal(want, found, n * sizeof *want);
        nr_tokenizer_close(t);
    }
    /* merges as strings */
    json_t *j = load(), *merges = json_object_get(json_object_get(j, "model"), "merges"), *pair;
    size_t k;
    json_array_foreach(merges, k, pair) {
        char *joined = nr_format("%s %s", json_string_value(json_array_get(pair, 0)), json_string_value(json_array_get(pair, 1)));
        json_array_set_new(merges, k, json_string(joined));
        free(joined);
    }
    assert_int_equal(nr_tokenizer_from_json(&t, j, "file.json", &err), NR_OK);
    assert_int_equal(nr_tokenizer_encode(t, text, sizeof text - 1, true, found, 128, &m, &err), NR_OK);
    assert_int_equal(n, m);
    assert_memory_equal(want, found, n * sizeof *want);
    nr_tokenizer_close(t);
    json_decref(j);
}

/* A byte without a token gives no id, or unk_token's. */
static void missing_byte(void **state)
{
    (void)state;
    nr_error err;
    nr_tokenizer *t;
    size_t n;
    int32_t ids[8];
    json_t *j = load(), *vocab = json_object_get(json_object_get(j, "model"), "vocab");
    assert_int_equal(json_object_del(vocab, "\xC4\x80"), 0); /* byte 0 */
    assert_int_equal(nr_tokenizer_from_json(&t, j, "file.json", &err), NR_OK);
    assert_int_equal(nr_tokenizer_encode(t, "\0z\0", 3, false, ids, 8, &n, &err), NR_OK);
    assert_int_equal(n, 1);
    nr_tokenizer_close(t);
    set(j, "model/unk_token", "\"<|endoftext|>\"");
    assert_int_equal(nr_tokenizer_from_json(&t, j, "file.json", &err), NR_OK);
    assert_int_equal(nr_tokenizer_encode(t, "\0z\0", 3, false, ids, 8, &n, &err), NR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[2], 0);
    nr_tokenizer_close(t);
    set(j, "model/fuse_unk", "true");
    assert_int_equal(nr_tokenizer_from_json(&t, j, "file.json", &err), NR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "fuse_unk"));
    json_decref(j);
}

/* ---- GGUF ---- */

static void put_u32(nr_buffer *b, uint32_t v)
{
    nr_buffer_add(b, &v, 4);
}

static void put_string(nr_buffer *b, const char *s)
{
    uint64_t n = strlen(s);
    nr_buffer_add(b, &n, 8);
    nr_buffer_add(b, s, n);
}

static void put_key(nr_buffer *b, const char *key, uint32_t kind)
{
    put_string(b, key);
    put_u32(b, kind);
}

static void put_list(nr_buffer *b, const char *key, uint32_t item, uint64_t count)
{
    put_key(b, key, NR_GGUF_ARRAY);
    put_u32(b, item);
    nr_buffer_add(b, &count, 8);
}

typedef struct {
    const char *model, *pre;
    bool prefix, short_types;
    uint32_t bos;
} gguf_options;

/* The tiny tokenizer as GGUF metadata. */
static void make_gguf(nr_buffer *b, const gguf_options *o)
{
    json_t *j = load(), *model = json_object_get(j, "model"), *v;
    const char *key, *texts[512] = {0};
    uint64_t counts[2] = {0, 8};
    size_t i;
    json_object_foreach(json_object_get(model, "vocab"), key, v) texts[json_integer_value(v)] = key;
    nr_buffer_add(b, "GGUF\3\0\0\0", 8);
    nr_buffer_add(b, counts, 16);
    put_key(b, "tokenizer.ggml.model", NR_GGUF_STRING);
    put_string(b, o->model);
    put_key(b, "tokenizer.ggml.pre", NR_GGUF_STRING);
    put_string(b, o->pre);
    put_list(b, "tokenizer.ggml.tokens", NR_GGUF_STRING, 512);
    for (i = 0; i < 512; i++) put_string(b, texts[i]);
    put_list(b, "tokenizer.ggml.token_type", NR_GGUF_I32, o->short_types ? 511 : 512);
    for (i = 0; i < (o->short_types ? 511u : 512u); i++) put_u32(b, i < 3 ? 3 : 1);
    json_t *merges = json_object_get(model, "merges");
    put_list(b, "tokenizer.ggml.merges", NR_GGUF_STRING, json_array_size(merges));
    json_array_foreach(merges, i, v) {
        char *joined = nr_format("%s %s", json_string_value(json_array_get(v, 0)), json_string_value(json_array_get(v, 1)));
        put_string(b, joined);
        free(joined);
    }
    put_key(b, "tokenizer.ggml.bos_token_id", NR_GGUF_U32);
    put_u32(b, o->bos);
    put_key(b, "tokenizer.ggml.eos_token_id", NR_GGUF_U32);
    put_u32(b, 2);
    put_key(b, "tokenizer.ggml.add_space_prefix", NR_GGUF_BOOL);
    nr_buffer_add(b, &o->prefix, 1);
    json_decref(j);
}

static nr_status from_gguf(nr_tokenizer **t, const gguf_options *o, nr_error *err)
{
    nr_buffer b = {0};
    make_gguf(&b, o);
    char path[] = "file.gguf";
    nr_map map = {(unsigned char *)b.data, b.size, path, 0};
    nr_gguf *g;
    *t = NULL;
    nr_status st = nr_gguf_open(&g, &map, err);
    if (st == NR_OK) st = nr_tokenizer_from_gguf(t, g, err);
    if (g) nr_gguf_close(g);
    nr_buffer_free(&b);
    return st;
}

static void gguf_same_ids(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *pre_tokenizer;
        bool nfc, bos;
    } cases[] = {
        {"smollm", NULL, false, false},
        {"gpt-2", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", false, false},
        {"default", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}", false, false},
        {"llama-bpe", NULL, false, true},
        {"qwen2", NULL, true, false},
    };
    static const char text[] = "Un 12 345 e\xCC\x81 t\xC3\xA9 they'll  \n\n  (x)\n y<|im_end|>.\xEF\xBC\x91 ==\n";
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_error err;
        nr_tokenizer *t, *u;
        gguf_options o = {.model = "gpt2", .pre = cases[i].pre, .bos = 1};
        if (from_gguf(&t, &o, &err) != NR_OK) fail_msg("%s", err.message);
        assert_int_equal(nr_tokenizer_bos(t), 1);
        assert_int_equal(nr_tokenizer_eos(t), 2);
        assert_int_equal(nr_tokenizer_add_bos(t), cases[i].bos);
        json_t *j = load();
        if (cases[i].pre_tokenizer) set(j, "pre_tokenizer", cases[i].pre_tokenizer);
        if (cases[i].bos || cases[i].nfc) {
            char *split = nr_format("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
                "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}%s| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*"
                "|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Removed\", \"invert\": true}, {\"type\": \"ByteLevel\", "
                "\"add_prefix_space\": false, \"use_regex\": false}]}", cases[i].nfc ? "" : "{1,3}");
            set(j, "pre_tokenizer", split);
            free(split);
        }
        if (cases[i].nfc) set(j, "normalizer", "{\"type\": \"NFC\"}");
        if (cases[i].bos) set(j, "model/ignore_merges", "true");
        if (nr_tokenizer_from_json(&u, j, "file.json", &err) != NR_OK) fail_msg("%s", err.message);
        json_decref(j);
        for (int special = 0; special < 2; special++) {
            int32_t a[256], b[256];
            size_t n, m;
            assert_int_equal(nr_tokenizer_encode(t, text, sizeof text - 1, special, a, 256, &n, &err), NR_OK);
            assert_int_equal(nr_tokenizer_encode(u, text, sizeof text - 1, special, b, 256, &m, &err), NR_OK);
            assert_int_equal(n, m);
            assert_memory_equal(a, b, n * sizeof *a);
        }
        nr_tokenizer_close(t);
        nr_tokenizer_close(u);
    }
}

static void gguf_refuses(void **state)
{
    (void)state;
    static const struct {
        gguf_options o;
        const char *says;
    } cases[] = {
        {{.model = "llama", .pre = "smollm"}, "file.gguf: tokenizer.ggml.model: expected gpt2 (byte-level BPE), found llama"},
        {{.model = "gpt2", .pre = "deepseek-llm"}, "tokenizer.ggml.pre: expected gpt-2, smollm, llama-bpe or qwen2, found deepseek-llm"},
        {{.model = "gpt2", .pre = "smollm", .prefix = true}, "tokenizer.ggml.add_space_prefix: expected false"},
        {{.model = "gpt2", .pre = "smollm", .short_types = true}, "token_type: expected 512 entries, one a token, found 511"},
        {{.model = "gpt2", .pre = "smollm", .bos = 512}, "bos_token_id: expected an id below 512, found 512"},
    };
    for (size_t i = 0; i < NR_COUNT(cases); i++) {
        nr_error err;
        nr_tokenizer *t;
        assert_int_not_equal(from_gguf(&t, &cases[i].o, &err), NR_OK);
        assert_null(t);
        if (!strstr(err.message, cases[i].says)) print_error("%s\n", err.message);
        assert_non_null(strstr(err.message, cases[i].says));
    }
}

static void paths(void **state)
{
    (void)state;
    nr_error err;
    nr_tokenizer *t;
    char folder[256], file[300];
    testing_folder(folder);
    assert_int_equal(nr_tokenizer_open(&t, folder, NULL, &err), NR_E_IO);
    assert_non_null(strstr(err.message, "tokenizer.json"));
    assert_null(t);
    snprintf(file, sizeof file, "%s/tokenizer.json", folder);
    assert_int_equal(nr_write_file(file, "{\"a\":", 5, &err), NR_OK);
    assert_int_equal(nr_tokenizer_open(&t, folder, NULL, &err), NR_E_FORMAT);
    assert_non_null(strstr(err.message, file));
    json_t *j = load();
    assert_int_equal(nr_json_save(j, file, &err), NR_OK);
    json_decref(j);
    assert_int_equal(nr_tokenizer_open(&t, file, NULL, &err), NR_OK);
    assert_int_equal(nr_tokenizer_bos(t), -1);
    assert_int_equal(nr_tokenizer_eos(t), -1);
    nr_tokenizer_close(t);
    snprintf(file, sizeof file, "%s/config.json", folder);
    assert_int_equal(nr_write_file(file, "{\"bos_token_id\": 1, \"eos_token_id\": [2, 0]}", 43, &err), NR_OK);
    assert_int_equal(nr_tokenizer_open(&t, folder, NULL, &err), NR_OK);
    assert_int_equal(nr_tokenizer_bos(t), 1);
    assert_int_equal(nr_tokenizer_eos(t), 2);
    nr_tokenizer_close(t);
    snprintf(file, sizeof file, "%s/tokenizer_config.json", folder);
    static const char names[] = "{\"bos_token\": {\"content\": \"<|im_end|>\"}, \"eos_token\": \"<|endoftext|>\"}";
    assert_int_equal(nr_write_file(file, names, sizeof names - 1, &err), NR_OK);
    assert_int_equal(nr_tokenizer_open(&t, folder, NULL, &err), NR_OK);
    assert_int_equal(nr_tokenizer_bos(t), 2);
    assert_int_equal(nr_tokenizer_eos(t), 0);
    nr_tokenizer_close(t);
    assert_int_equal(nr_remove_folder(folder, &err), NR_OK);
    assert_int_not_equal(nr_tokenizer_open(&t, folder, NULL, &err), NR_OK);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses), cmocka_unit_test(same), cmocka_unit_test(missing_byte),
        cmocka_unit_test(gguf_same_ids), cmocka_unit_test(gguf_refuses), cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
