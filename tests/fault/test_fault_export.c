/*
 * Every allocation, map, write and rename of an export fails once: each comes
 * back as one error and leaves no folder, unless it is the whole one.
 */
#include <glob.h>

#include "fault/sweep.h"
#include "model/extension.h"

static char folder[] = "/tmp/nres-fault-export-XXXXXX";
static char output[64];
static const char *source;

static nr_status work(nr_error *err)
{
    nr_model *m = NULL;
    nr_model_options opt = {.compute = NR_COMPUTE_FP32, .use = NR_USE_WEIGHTS, .threads = 1};
    nr_export_options how = {.shard_bytes = 100000};
    nr_status st = nr_model_open(&m, source, &opt, err);
    if (st == NR_OK) st = nr_model_export(m, NULL, output, &how, NULL, err);
    nr_model_close(m);
    return st;
}

/* What is there opens as a model. */
static void check_whole(void)
{
    nr_model_file *f;
    nr_error err;
    if (nr_model_file_open(&f, output, NULL, &err) != NR_OK) fail_msg("%s", err.message);
    nr_model_file_close(f);
    assert_int_equal(nr_remove_folder(output, &err), NR_OK);
}

static void check_nothing(void)
{
    glob_t found;
    char pattern[80];
    snprintf(pattern, sizeof pattern, "%s/*", folder);
    if (glob(pattern, 0, NULL, &found) == 0) fail_msg("left behind: %s", found.gl_pathv[0]);
    globfree(&found);
}

static void check(nr_status st)
{
    if (st == NR_OK || nr_path_exists(output)) check_whole(); /* renamed, but the name may not last */
    check_nothing();
}

static void sweep_source(long at_least)
{
    print_message("  %s: %ld points of failure\n", source, sweep(work, check, at_least));
}

static void gguf(void **state)
{
    (void)state;
    source = NRES_FIXTURES "/export/tiny.gguf";
    sweep_source(200);
}

static void hugging_face(void **state)
{
    (void)state;
    source = NRES_FIXTURES "/formats/single";
    sweep_source(100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gguf), cmocka_unit_test(hugging_face)};
    if (!mkdtemp(folder)) return 1;
    snprintf(output, sizeof output, "%s/model", folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nr_remove_folder(folder, NULL);
    return failed;
}
