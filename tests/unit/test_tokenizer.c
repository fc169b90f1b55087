/* test_tokenizer.c - ids against the tokenizers package, round trips of any bytes, capacities, refusals. */
#include "testing.h"

#include "tokenizer/vocabulary.h"

#define FOLDER NRES_FIXTURES "/tokenizer/"

static const char *const kinds[] = {"gpt2", "smollm", "llama3", "qwen2"};

static nr_tokenizer *open_kind(const char *kind)
{
    char path[512];
    nr_tokenizer *t;
    nr_error err;
    snprintf(path, sizeof path, "%s%s.json", FOLDER, kind);
    if (nr_tokenizer_open(&t, path, NULL, &err) != NR_OK) fail_msg("%s", err.message);
    return t;
}

static int32_t *encode(const nr_tokenizer *t, const char *text, size_t n, bool special, size_t *count)
{
    nr_error err;
    int32_t *ids = malloc((3 * n + 1) * sizeof *ids);
    assert_non_null(ids);
    assert_int_equal(nr_tokenizer_encode(t, text, n, special, ids, 3 * n + 1, count, &err), NR_OK);
    assert_true(*count <= 3 * n);
    return ids;
}

static void check_ids(const nr_tokenizer *t, const char *kind, const json_t *text, const json_t *want, bool special)
{
    size_t n, i;
    int32_t *ids = encode(t, json_string_value(text), json_string_length(text), special, &n);
    const json_t *id;
    if (n != json_array_size(want)) print_error("%s: '%s'\n", kind, json_string_value(text));
    assert_int_equal(n, json_array_size(want));
    json_array_foreach(want, i, id) {
        if (ids[i] != json_integer_value(id)) print_error("%s, id %zu: '%s'\n", kind, i, json_string_value(text));
        assert_int_equal(ids[i], json_integer_value(id));
    }
    free(ids);
}

static void golden(void **state)
{
    (void)state;
    nr_error err;
    json_t *j, *text;
    size_t i, plain = 0;
    assert_int_equal(nr_json_load(&j, FOLDER "golden.json", &err), NR_OK);
    const json_t *texts = json_object_get(j, "texts");
    assert_true(json_array_size(texts) > 80);
    for (size_t k = 0; k < NR_COUNT(kinds); k++) {
        nr_tokenizer *t = open_kind(kinds[k]);
        const json_t *ids = json_object_get(json_object_get(j, "ids"), kinds[k]);
        json_array_foreach(texts, i, text) {
            const json_t *parsed = json_array_get(json_array_get(ids, 0), i), *other = json_array_get(json_array_get(ids, 1), i);
            plain += json_is_array(other);
            check_ids(t, kinds[k], text, parsed, true);
            check_ids(t, kinds[k], text, json_is_array(other) ? other : parsed, false);
        }
        nr_tokenizer_close(t);
    }
    assert_true(plain > 10);
    json_decref(j);
}

/* Every code point, after a letter and among marks: as the package's normalizer has it. */
static void normal_form(void **state)
{
    (void)state;
    nr_error err;
    json_t *j;
    char hex[65];
    nr_sha256 *h = nr_sha256_new();
    uint8_t *classes = malloc(NR_CODE_POINTS + 1);
    assert_int_equal(nr_json_load(&j, FOLDER "golden.json", &err), NR_OK);
    nr_unicode_classes(classes);
    for (uint32_t cp = 0; cp < NR_CODE_POINTS; cp++) {
        char c[4], line[64];
        if (cp >= 0xD800 && cp < 0xE000) continue;
        int m = (int)nr_utf8_put(c, cp);
        int n = snprintf(line, sizeof line, "a%.*s\xCC\x81\xCC\xA3%.*s\xCC\xA7\xE1\x85\xA1\xE1\x86\xA8\n", m, c, m, c);
        if (cp == 0) { /* printf stops there */
            memcpy(line, "a\0\xCC\x81\xCC\xA3\0\xCC\xA7\xE1\x85\xA1\xE1\x86\xA8\n", 16);
            n = 16;
        }
        nr_buffer out = {0};
        assert_int_equal(nr_nfc(&out, classes, line, (size_t)n, &err), NR_OK);
        assert_int_equal(nr_nfc_unchanged(classes, line, (size_t)n), false);
        nr_sha256_add(h, out.data, out.size);
        nr_buffer_free(&out);
    }
    nr_sha256_hex(h, hex);
    assert_string_equal(hex, json_string_value(json_object_get(j, "nfc")));
    free(classes);
    json_decref(j);
}

static void check_round_trip(const nr_tokenizer *t, const char *text, size_t n)
{
    size_t count, size;
    nr_error err;
    int32_t *ids = encode(t, text, n, false, &count);
    char *back = malloc(n + 1);
    assert_int_equal(nr_tokenizer_decode(t, ids, count, true, back, n, &size, &err), NR_OK);
    assert_int_equal(size, n);
    assert_memory_equal(back, text, n);
    free(back);
    free(ids);
}

/* Any bytes at all, invalid UTF-8 too; the tiny tokenizer has no tokens with lstrip. */
static void round_trip(void **state)
{
    (void)state;
    nr_tokenizer *t;
    nr_error err;
    assert_int_equal(nr_tokenizer_open(&t, NRES_FIXTURES "/tiny", NULL, &err), NR_OK);
    char text[4096];
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t r = nr_rng_u64(1, NR_RNG_TEST, i);
        size_t n = r % (i % 50 ? 40 : sizeof text);
        for (size_t k = 0; k < n; k++) {
            uint64_t x = nr_rng_u64(2, NR_RNG_TEST, i << 20 | k);
            static const char often[] = " \n\t'sa1.\xC3\xA9\xE4\xB8\x80\xF0\x9F\x98\x80\xCC\x81";
            text[k] = x & 1 ? often[(x >> 8) % (sizeof often - 1)] : (char)(x >> 16);
        }
        check_round_trip(t, text, n);
    }
    for (int c = 0; c < 256; c++) memset(text + 16 * c, c, 16);
    check_round_trip(t, text, sizeof text);
    nr_tokenizer_close(t);
}

/* In NFC text the invalid bytes come back as they were, and text in NFC is unchanged. */
static void normalizer_and_bytes(void **state)
{
    (void)state;
    nr_tokenizer *t = open_kind("qwen2");
    static const char composed[] = "\xC3\xA9\xFF\xED\xA0\x80\xEA\xB0\x81 x\xF4\x90\x80\x80\xC0\xAF\xE2\x82";
    check_round_trip(t, composed, sizeof composed - 1);
    /* three bytes that become six: more ids than bytes, and said so */
    nr_error err;
    size_t a, b;
    int32_t few[4];
    assert_int_equal(nr_tokenizer_encode(t, "\xE0\xA5\x98", 3, false, NULL, 0, &a, &err), NR_OK);
    assert_true(a > 4);
    assert_int_equal(nr_tokenizer_encode(t, "\xE0\xA5\x98", 3, false, few, 4, &b, &err), NR_E_MISMATCH);
    assert_int_equal(a, b);
    int32_t *x = encode(t, "e\xCC\x81\xFF", 4, false, &a), *y = encode(t, "\xC3\xA9\xFF", 3, false, &b);
    assert_int_equal(a, b);
    assert_memory_equal(x, y, a * sizeof *x);
    free(x);
    free(y);
    nr_tokenizer_close(t);
}

/* The letters of the golden texts into out; how many. */
static size_t take_letters(char *out, size_t cap)
{
    nr_error err;
    json_t *j, *text;
    size_t i, n = 0;
    assert_int_equal(nr_json_load(&j, FOLDER "golden.json", &err), NR_OK);
    json_array_foreach(json_object_get(j, "texts"), i, text)
        for (const char *p = json_string_value(text); *p && n < cap; p++)
            if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') out[n++] = *p;
    json_decref(j);
    return n;
}

/* Pieces met again come from a cache: the same start and another length is another piece. */
static void pieces_again(void **state)
{
    (void)state;
    nr_tokenizer *t = open_kind("gpt2");
    static const char *const parts[] = {" q\1\2", " q\1\2\3", "\1", "\1\0", "\1\0\0", " zyxwvutsrqp", " zyxwvutsrqpo", " zyxwvuts", "!?!?!?!?", "!?!?!?!?!"};
    static const size_t sizes[] = {4, 5, 1, 2, 3, 12, 13, 9, 8, 9};
    char text[8192];
    size_t n = 0;
    for (uint64_t i = 0; n < sizeof text - 20; i++) {
        size_t k = nr_rng_u64(6, NR_RNG_TEST, i) % NR_COUNT(parts);
        memcpy(text + n, parts[k], sizes[k]);
        n += sizes[k];
        text[n++] = 'a';
    }
    check_round_trip(t, text, n);
    nr_tokenizer_close(t);
}

/* Long pieces go through the heap, short ones through the array: the same ids, and in good time. */
static void long_pieces(void **state)
{
    (void)state;
    nr_tokenizer *t = open_kind("gpt2");
    size_t n = 1 << 20, count;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++) text[i] = "etaonis"[nr_rng_u64(3, NR_RNG_TEST, i) % 7];
    double began = nr_clock();
    int32_t *ids = encode(t, text, n, false, &count);
    assert_true(nr_clock() - began < 60);
    assert_true(count < n);
    free(ids);
    /* the definition itself, the lowest rank and leftmost first, on words run together */
    static uint32_t rank[1100][1100];
    static int32_t whole[1100][1100];
    assert_true(nr_tokenizer_size(t) <= 1100);
    memset(rank, 0xFF, sizeof rank);
    for (size_t s = 0; s <= t->bpe.mask; s++) {
        const nr_pair *p = &t->bpe.pairs[s];
        if (p->a >= 0) rank[p->a][p->b] = p->rank, whole[p->a][p->b] = p->id;
    }
    size_t letters = take_letters(text, n);
    assert_true(letters > 1500);
    nr_bpe_scratch scratch = {0};
    nr_error err;
    for (size_t k = 0; k < 400; k++) {
        int32_t got[200], want[200];
        size_t size = 1 + nr_rng_u64(4, NR_RNG_TEST, k) % 199, m = size;
        const unsigned char *p = (unsigned char *)text + nr_rng_u64(5, NR_RNG_TEST, k) % (letters - size);
        assert_int_equal(nr_bpe_encode(&t->bpe, p, size, got, &count, &scratch, &err), NR_OK);
        for (size_t i = 0; i < size; i++) want[i] = t->bpe.byte_ids[p[i]];
        for (;;) {
            size_t at = 0;
            for (size_t i = 1; i + 1 < m; i++)
                if (rank[want[i]][want[i + 1]] < rank[want[at]][want[at + 1]]) at = i;
            if (m < 2 || rank[want[at]][want[at + 1]] == UINT32_MAX) break;
            want[at] = whole[want[at]][want[at + 1]];
            memmove(want + at + 1, want + at + 2, (m - at - 2) * sizeof *want);
            m--;
        }
        assert_int_equal(count, m);
        assert_memory_equal(got, want, m * sizeof *got);
    }
    free(scratch.data);
    free(text);
    nr_tokenizer_close(t);
}

/* Counts are those of the whole text; too small a cap is an error; nothing is written behind it. */
static void capacities(void **state)
{
    (void)state;
    nr_tokenizer *t = open_kind("smollm");
    nr_error err;
    static const char text[] = "Le monde <|im_start|> 2024, <tool> and an unusually-long-wordxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    size_t n, size, full, n_text = sizeof text - 1;
    int32_t all[256], ids[256];
    assert_int_equal(nr_tokenizer_encode(t, text, n_text, true, all, 256, &full, &err), NR_OK);
    for (size_t cap = 0; cap <= full; cap++) {
        for (size_t i = 0; i < 256; i++) ids[i] = -7;
        assert_int_equal(nr_tokenizer_encode(t, text, n_text, true, ids, cap, &n, &err), cap && cap < full ? NR_E_MISMATCH : NR_OK);
        assert_int_equal(n, full);
        assert_memory_equal(ids, all, cap * sizeof *ids);
        for (size_t i = cap; i < 256; i++) assert_int_equal(ids[i], -7);
    }
    assert_int_equal(nr_tokenizer_encode(t, text, n_text, true, NULL, 0, &n, &err), NR_OK);
    assert_int_equal(n, full);
    for (size_t cap = 0; cap <= n_text; cap++) {
        char back[256];
        memset(back, 0x55, sizeof back);
        assert_int_equal(nr_tokenizer_decode(t, all, full, true, back, cap, &size, &err), NR_OK);
        assert_int_equal(size, n_text);
        assert_memory_equal(back, text, cap);
        for (size_t i = cap; i < sizeof back; i++) assert_int_equal(back[i], 0x55);
    }
    assert_int_equal(nr_tokenizer_decode(t, all, full, false, NULL, 0, &size, &err), NR_OK);
    assert_int_equal(size, n_text - strlen("<|im_start|>"));
    assert_int_equal(nr_tokenizer_encode(t, NULL, 0, true, NULL, 0, &n, &err), NR_OK);
    assert_int_equal(n, 0);
    nr_tokenizer_close(t);
}

static void out_of_range(void **state)
{
    (void)state;
    nr_tokenizer *t = open_kind("smollm");
    nr_error err;
    size_t n = 7;
    int32_t ids[] = {5, (int32_t)nr_tokenizer_size(t)};
    char want[128];
    assert_int_equal(nr_tokenizer_decode(t, ids, 2, true, NULL, 0, &n, &err), NR_E_FORMAT);
    snprintf(want, sizeof want, "token 1: expected an id from 0 to %zu, found %zu", nr_tokenizer_size(t) - 1, nr_tokenizer_size(t));
    assert_string_equal(err.message, want);
    assert_int_equal(n, 0);
    ids[0] = -1;
    assert_int_equal(nr_tokenizer_decode(t, ids, 1, true, NULL, 0, &n, NULL), NR_E_FORMAT);
    assert_null(nr_tokenizer_token(t, -1, &n));
    assert_null(nr_tokenizer_token(t, ids[1], &n));
    nr_tokenizer_close(t);
}

static void special_and_ends(void **state)
{
    (void)state;
    nr_error err;
    nr_tokenizer *t;
    assert_int_equal(nr_tokenizer_open(&t, NRES_FIXTURES "/tiny", NULL, &err), NR_OK);
    assert_int_equal(nr_tokenizer_size(t), 512);
    assert_int_equal(nr_tokenizer_bos(t), 1);
    assert_int_equal(nr_tokenizer_eos(t), 2);
    assert_false(nr_tokenizer_add_bos(t));
    assert_int_equal(nr_tokenizer_special(t, "<|endoftext|>"), 0);
    assert_int_equal(nr_tokenizer_special(t, "<|im_end|>"), 2);
    assert_int_equal(nr_tokenizer_special(t, "<|im"), -1);
    size_t n;
    const char *text = nr_tokenizer_token(t, 1, &n);
    assert_int_equal(n, 12);
    assert_memory_equal(text, "<|im_start|>", 12);
    int32_t *ids = encode(t, "a<|im_end|>", 11, true, &n);
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], 2);
    free(ids);
    ids = encode(t, "a<|im_end|>", 11, false, &n);
    assert_true(n > 2);
    for (size_t i = 0; i < n; i++) assert_true(ids[i] > 2);
    free(ids);
    char first[65];
    memcpy(first, nr_tokenizer_fingerprint(t), 65);
    assert_int_equal(strlen(first), 64);
    nr_tokenizer_close(t);
    t = open_kind("llama3");
    assert_true(nr_tokenizer_add_bos(t));
    assert_int_equal(nr_tokenizer_bos(t), 1);
    assert_string_not_equal(first, nr_tokenizer_fingerprint(t));
    nr_tokenizer_close(t);
    t = open_kind("llama3");
    memcpy(first, nr_tokenizer_fingerprint(t), 65);
    nr_tokenizer_close(t);
    t = open_kind("llama3");
    assert_string_equal(first, nr_tokenizer_fingerprint(t));
    nr_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden), cmocka_unit_test(normal_form), cmocka_unit_test(round_trip),
        cmocka_unit_test(normalizer_and_bytes), cmocka_unit_test(pieces_again), cmocka_unit_test(long_pieces), cmocka_unit_test(capacities),
        cmocka_unit_test(out_of_range), cmocka_unit_test(special_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
