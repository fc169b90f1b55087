/*
 * Allocations, maps, writes, syncs and renames fail once, from the token cache
 * to the last file of a run: each comes back as one error or is got round, loses
 * no memory (the sanitizers watch), and what is on the disk then still leads to
 * the same weights. The JSON library keeps its own malloc here: version 2.14
 * drops bytes of a string that it has no memory for and reports success, which
 * no caller can notice.
 */
#include "fault/fault.h"
#include "testing.h"

#include "data/data.h"
#include "model/model.h"

static const char *method = "neutral";
static char folder[256], model_path[300], text_path[300], cache[300], run_path[300], result[340];
static nr_tokenizer *tokenizer;

static int setup(void **state)
{
    nr_buffer b = {0};
    nr_error err;
    (void)state;
    testing_folder(folder);
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(text_path, sizeof text_path, "%s/text.jsonl", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    snprintf(run_path, sizeof run_path, "%s/run", folder);
    snprintf(result, sizeof result, "%s/extension.safetensors", run_path);
    for (size_t d = 0; d < 60; d++) nr_buffer_printf(&b, "{\"text\": \"document number %zu is like the others\"}\n", d);
    assert_int_equal(nr_write_file(text_path, b.data, b.size, NULL), NR_OK);
    nr_buffer_free(&b);
    if (nr_model_init(NRES_FIXTURES "/tiny/config.json", NRES_FIXTURES "/tiny/tokenizer.json", model_path, 3, &err) != NR_OK ||
        nr_tokenizer_open(&tokenizer, model_path, NULL, &err) != NR_OK)
        fail_msg("%s", err.message);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    nr_tokenizer_close(tokenizer);
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

static void check_failure(long n, nr_status st, const nr_error *err)
{
    if (st != NR_OK && st != NR_E_MEMORY && st != NR_E_IO) fail_msg("failure %ld came back as %d: %s", n, st, err->message);
    if (st != NR_OK && !err->message[0]) fail_msg("failure %ld came back without a word", n);
}

/* ---- the token cache ---- */

static nr_status open_tokens(char hash[65], nr_error *err)
{
    const char *paths[1] = {text_path};
    nr_files files = {paths, 1};
    nr_settings s;
    nr_tokens *t;
    nr_settings_default(&s);
    nr_status st = nr_tokens_open(&t, &files, tokenizer, &s, cache, NULL, err);
    assert_true((st == NR_OK) == (t != NULL));
    if (t) {
        assert_int_equal(nr_tokens_documents(t), 60);
        snprintf(hash, 65, "%s", nr_tokens_hash(t));
    }
    nr_tokens_close(t);
    return st;
}

static void token_cache(void **state)
{
    (void)state;
    char want[65], hash[65];
    nr_error err;
    nr_threads_set(1);
    assert_int_equal(open_tokens(want, &err), NR_OK);
    for (int fresh = 0; fresh < 2; fresh++) { /* reading what is there, and making it */
        long n = 0;
        for (bool fired = true; fired; n++) {
            if (fresh) assert_int_equal(nr_remove_folder(cache, NULL), NR_OK);
            fault_arm(n);
            nr_status st = open_tokens(hash, &err);
            fired = fault_disarm();
            check_failure(n, st, &err);
            if (st == NR_OK) assert_string_equal(hash, want);
            assert_int_equal(open_tokens(hash, &err), NR_OK); /* whatever it left */
            assert_string_equal(hash, want);
        }
        if (n < (fresh ? 60 : 20)) fail_msg("expected more points of failure than %ld", n);
    }
}

/* ---- a run ---- */

static nr_status run_to_end(nr_status st, nr_trainer *t, nr_error *err)
{
    assert_true((st == NR_OK) == (t != NULL));
    if (st == NR_OK) st = nr_trainer_run(t, err);
    nr_trainer_close(t);
    return st;
}

static nr_status train(nr_error *err)
{
    const char *paths[1] = {text_path};
    nr_run run = {.model = model_path, .run = run_path, .cache_folder = cache, .train = {{paths, 1}, {paths, 1}}, .overwrite = true};
    nr_settings s;
    nr_trainer *t;
    nr_settings_default(&s);
    if (nr_settings_set(&s, "method", method, err) != NR_OK) fail_msg("%s", err->message);
    s.ewc_sequences = 2;
    s.steps = 3;
    s.warmup_steps = 1;
    s.batch_size = 2;
    s.context = 8;
    s.eval_steps = 2;
    s.eval_tokens = 16;
    s.save_every = 1;
    s.threads = 1;
    s.validation_share = 0.2;
    nr_status st = nr_trainer_new(&t, &run, &s, NULL, err);
    return run_to_end(st, t, err);
}

static nr_status resume(nr_error *err)
{
    nr_trainer *t;
    nr_status st = nr_trainer_resume(&t, run_path, NULL, err);
    return run_to_end(st, t, err);
}

static void read_result(nr_buffer *b)
{
    nr_map m;
    b->size = 0;
    assert_int_equal(nr_map_open(&m, result, NULL), NR_OK);
    nr_buffer_add(b, m.data, m.size);
    nr_map_close(&m);
}

static bool run_began(void)
{
    char path[340];
    snprintf(path, sizeof path, "%s/config.json", run_path);
    return nr_path_exists(path);
}

/* Failures that far apart, closer together at the start, where each is another one. */
static void sweep(long stride, size_t least)
{
    nr_buffer want = {0}, got = {0};
    nr_error err;
    size_t errors = 0, resumed = 0;
    if (train(&err) != NR_OK) fail_msg("%s", err.message);
    read_result(&want);
    long n = 0;
    for (bool fired = true; fired; n += stride + n / 20) {
        assert_int_equal(nr_remove_folder(run_path, NULL), NR_OK);
        fault_arm(n);
        nr_status st = train(&err);
        fired = fault_disarm();
        check_failure(n, st, &err);
        errors += st != NR_OK;
        if (st != NR_OK) {
            resumed += run_began();
            st = run_began() ? resume(&err) : train(&err);
            if (st != NR_OK) fail_msg("after failure %ld: %s", n, err.message);
        }
        read_result(&got);
        assert_int_equal(got.size, want.size);
        assert_memory_equal(got.data, want.data, want.size);
    }
    if (errors < least || resumed < 5) fail_msg("expected more failures than %zu, %zu resumed", errors, resumed);
    nr_buffer_free(&want);
    nr_buffer_free(&got);
}

static void whole_run(void **state)
{
    (void)state;
    method = "neutral";
    sweep(1, 60);
}

/* With a Fisher information to keep. */
static void held_run(void **state)
{
    (void)state;
    method = "ewc";
    sweep(11, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(token_cache), cmocka_unit_test(whole_run), cmocka_unit_test(held_run)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
