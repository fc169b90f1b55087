/*
 * Every allocation of the tokenizer and of chat templates fails once: each
 * comes back as one error and loses no memory, or was one that encoding can do
 * without (its cache of pieces).
 */
#include "fault/fault.h"
#include "testing.h"
#include "tokenizer/tokenizer.h"

static void sweep(nr_status (*work)(nr_error *err), long at_least)
{
    long n = 0;
    for (;; n++) {
        nr_error err = {0};
        fault_arm(n);
        nr_status st = work(&err);
        bool failed = fault_disarm();
        if (!failed) {
            assert_int_equal(st, NR_OK);
            break;
        }
        if (st != NR_OK && st != NR_E_MEMORY && st != NR_E_IO) fail_msg("failure %ld came back as %d: %s", n, st, err.message);
        if (st != NR_OK) assert_true(err.message[0] != '\0');
        assert_true(n < 20000);
    }
    assert_true(n >= at_least);
}

static nr_status open_and_close(nr_error *err)
{
    nr_tokenizer *t;
    nr_status st = nr_tokenizer_open(&t, NRES_FIXTURES "/tiny", NULL, err);
    assert_true((st == NR_OK) == (t != NULL));
    nr_tokenizer_close(t);
    return st;
}

static nr_tokenizer *qwen2;
static int32_t ids[16384], want[16384];
static size_t wanted;
static char text[5000];

/* Long pieces, a normalizer that changes the text, a cache, and no room for the ids. */
static nr_status encode(nr_error *err)
{
    size_t n, m;
    NR_TRY(nr_tokenizer_encode(qwen2, text, sizeof text, true, ids, 16384, &n, err));
    assert_int_equal(n, wanted);
    assert_memory_equal(ids, want, n * sizeof *ids);
    NR_TRY(nr_tokenizer_encode(qwen2, text, sizeof text, true, NULL, 0, &m, err));
    assert_int_equal(m, wanted);
    return NR_OK;
}

static nr_status chat(nr_error *err)
{
    static const char template[] = "{% set ns = namespace(a='') %}{% for m in messages[0:] %}{% set ns.a = ns.a + m.content | trim %}"
                                   "{{ '<|' ~ loop.index ~ '|>' if m.role in ['user', 'system'] }}{% endfor %}{{ ns.a | upper }}";
    char *out;
    NR_TRY(nr_chat_render(&out, template, "<s>", "</s>", " a ", "b", "file", err));
    assert_string_equal(out, "<|1|><|2|>AB");
    free(out);
    return NR_OK;
}

static void tokenizer(void **state)
{
    (void)state;
    nr_error err;
    sweep(open_and_close, 20);
    if (nr_tokenizer_open(&qwen2, NRES_FIXTURES "/tokenizer/qwen2.json", NULL, &err) != NR_OK) fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof text; i++) text[i] = i < 2000 ? "abcdefghij kl "[i % 14] : "etaonis"[i * i % 7];
    memcpy(text + 3000, "e\xCC\x81\xCC\xA3\xCC\x81\xCC\xA7 <|im_start|>", 22);
    assert_int_equal(nr_tokenizer_encode(qwen2, text, sizeof text, true, want, 16384, &wanted, &err), NR_OK);
    sweep(encode, 6);
    nr_tokenizer_close(qwen2);
}

static void templates(void **state)
{
    (void)state;
    sweep(chat, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokenizer), cmocka_unit_test(templates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
