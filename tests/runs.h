/* runs.h - what tests of training start with: a tiny model, text in two languages and a cache, in a folder of their own. */
#ifndef NR_TEST_RUNS_H
#define NR_TEST_RUNS_H

#include "testing.h"

#include "train/train.h"

static char folder[256], model_path[300], old_path[300], new_path[300], cache[300];

static inline void ok(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

static inline void write_text(const char *path, const char *const words[4], uint64_t seed)
{
    nr_buffer b = {0};
    for (size_t d = 0, k = 0; d < 120; d++) {
        for (size_t w = 0; w < 20 + d % 30; w++) nr_buffer_printf(&b, "%s ", words[nr_rng_u64(seed, NR_RNG_TEST, k++) % 4]);
        nr_buffer_printf(&b, "%zu\n\n", d);
    }
    assert_int_equal(nr_write_file(path, b.data, b.size, NULL), NR_OK);
    nr_buffer_free(&b);
}

static inline int runs_setup(void **state)
{
    static const char *const english[4] = {"the", "of", "was", "with"}, *const french[4] = {"le", "des", "était", "où"};
    nr_error err;
    (void)state;
    testing_folder(folder);
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(old_path, sizeof old_path, "%s/old.txt", folder);
    snprintf(new_path, sizeof new_path, "%s/new.txt", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    write_text(old_path, english, 1);
    write_text(new_path, french, 2);
    ok(nr_model_init(NRES_FIXTURES "/tiny/config.json", NRES_FIXTURES "/tiny/tokenizer.json", model_path, 3, &err), &err);
    return 0;
}

static inline int runs_teardown(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

#endif
