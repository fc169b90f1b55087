/* test_tokens.c - the token cache: ids, duplicates, reuse, damage, threads; and rows cut from it. */
#include "testing.h"

#include "data/tokens.h"

static char folder[256];
static nr_tokenizer *tokenizer;
static char said[4096];

static void keep_line(void *user, const char *line)
{
    (void)user;
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", line);
}
static const nr_listener listener = {.log = keep_line};

static void ok(nr_status st, const nr_error *err)
{
    if (st != NR_OK) fail_msg("%s", err->message);
}

static int setup(void **state)
{
    nr_error err;
    (void)state;
    testing_folder(folder);
    ok(nr_tokenizer_open(&tokenizer, NRES_FIXTURES "/tiny/tokenizer.json", NULL, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    nr_tokenizer_close(tokenizer);
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

static char *in_folder(const char *name) { return nr_path_join(folder, name); }

static void text_file(const char *name, const char *text)
{
    char *path = in_folder(name);
    assert_int_equal(nr_write_file(path, text, strlen(text), NULL), NR_OK);
    free(path);
}

static nr_status open_tokens(nr_tokens **t, const char *const *names, size_t count, const char *cache, nr_error *err)
{
    const char *paths[8];
    nr_settings s;
    nr_settings_default(&s);
    for (size_t i = 0; i < count; i++) paths[i] = in_folder(names[i]);
    nr_files files = {paths, count};
    char *where = in_folder(cache);
    said[0] = '\0';
    nr_status st = nr_tokens_open(t, &files, tokenizer, &s, where, &listener, err);
    free(where);
    for (size_t i = 0; i < count; i++) free((void *)(uintptr_t)paths[i]);
    return st;
}

static nr_tokens *opened(const char *name, const char *cache)
{
    nr_tokens *t;
    nr_error err;
    ok(open_tokens(&t, &name, 1, cache, &err), &err);
    return t;
}

/* The ids of document d are what the tokenizer makes of `text`. */
static void same_ids(const nr_tokens *t, size_t d, const char *text)
{
    int32_t want[512], got[512];
    size_t n, m, bytes;
    nr_error err;
    ok(nr_tokenizer_encode(tokenizer, text, strlen(text), false, want, 512, &n, &err), &err);
    nr_tokens_document(t, d, NULL, &m, &bytes);
    assert_int_equal(m, n);
    assert_int_equal(bytes, strlen(text));
    nr_tokens_document(t, d, got, &m, &bytes);
    assert_memory_equal(got, want, n * sizeof *got);
    nr_tokens_read(t, d, n / 2, n - n / 2, got);
    assert_memory_equal(got, want + n / 2, (n - n / 2) * sizeof *got);
}

static void ids_and_duplicates(void **state)
{
    (void)state;
    const char *names[] = {"a.txt", "b.jsonl"};
    nr_tokens *t;
    nr_error err;
    text_file("a.txt", "the first one\n\nsecond\n\nthe first one\n");
    text_file("b.jsonl", "{\"text\": \"second\"}\n{\"text\": \"<|endoftext|> stays text\"}\n");
    ok(open_tokens(&t, names, 2, "cache", &err), &err);
    assert_int_equal(nr_tokens_documents(t), 3);
    assert_int_equal(nr_tokens_duplicates(t), 2);
    same_ids(t, 0, "the first one");
    same_ids(t, 1, "second");
    same_ids(t, 2, "<|endoftext|> stays text");
    assert_int_not_equal(nr_tokens_document_hash(t, 0), nr_tokens_document_hash(t, 1));
    size_t size;
    assert_int_equal(strlen(nr_tokens_file(t, 1, &size)), 64);
    assert_int_equal(size, 56);
    nr_tokens_close(t);
}

/* Path of a file in the only cache folder under `cache`. */
static char *cached_file(const char *cache, const char *name)
{
    char command[600], path[600] = "";
    snprintf(command, sizeof command, "ls -d %s/%s/tokens/*/%s", folder, cache, name);
    FILE *f = popen(command, "r");
    assert_non_null(fgets(path, sizeof path, f));
    pclose(f);
    path[strcspn(path, "\n")] = '\0';
    return nr_strdup(path);
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}

static void damage_is_noticed(void **state)
{
    (void)state;
    text_file("a.txt", "one two three\n\nfour five six\n");
    nr_tokens *t = opened("a.txt", "damage");
    char hash[65];
    snprintf(hash, sizeof hash, "%s", nr_tokens_hash(t));
    nr_tokens_close(t);
    t = opened("a.txt", "damage");
    assert_string_equal(said, ""); /* found, not made anew */
    nr_tokens_close(t);
    const char *names[] = {"00000.ids", "documents.bin", "index.json"};
    for (size_t i = 0; i < 6; i++) {
        char *path = cached_file("damage", names[i % 3]);
        if (i < 3) flip_byte(path, i == 2 ? 30 : 5); /* byte 30 of the index lies in a value */
        else assert_int_equal(truncate(path, 3), 0);
        t = opened("a.txt", "damage");
        assert_non_null(strstr(said, "broken"));
        assert_string_equal(nr_tokens_hash(t), hash);
        same_ids(t, 1, "four five six");
        nr_tokens_close(t);
        t = opened("a.txt", "damage");
        assert_string_equal(said, "");
        nr_tokens_close(t);
        free(path);
    }
}

/* What a killed process left is no obstacle. */
static void leftovers(void **state)
{
    (void)state;
    text_file("a.txt", "left over\n");
    nr_tokens *t = opened("a.txt", "left");
    char *path = cached_file("left", ""), command[900];
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') path[--n] = '\0';
    snprintf(command, sizeof command, "mv %s %s.tmp && touch %s.tmp/00000.ids.tmp-1-0", path, path, path);
    assert_int_equal(system(command), 0);
    nr_tokens_close(t);
    t = opened("a.txt", "left");
    same_ids(t, 0, "left over");
    nr_tokens_close(t);
    snprintf(command, sizeof command, "test -d %s -a ! -e %s.tmp", path, path);
    assert_int_equal(system(command), 0);
    free(path);
}

static void other_content_other_cache(void **state)
{
    (void)state;
    char hash[65];
    text_file("a.txt", "some text\n");
    nr_tokens *t = opened("a.txt", "content");
    snprintf(hash, sizeof hash, "%s", nr_tokens_hash(t));
    nr_tokens_close(t);
    text_file("a.txt", "some texT\n");
    t = opened("a.txt", "content");
    assert_string_not_equal(nr_tokens_hash(t), hash);
    same_ids(t, 0, "some texT");
    nr_tokens_close(t);
}

static void broken_text_leaves_nothing(void **state)
{
    (void)state;
    const char *names[] = {"a.txt", "b.txt"};
    nr_tokens *t;
    nr_error err;
    char command[600];
    text_file("a.txt", "fine\n");
    text_file("b.txt", "fine\n\nb\xE9" "d\n");
    assert_int_equal(open_tokens(&t, names, 2, "broken", &err), NR_E_FORMAT);
    assert_null(t);
    assert_non_null(strstr(err.message, "b.txt"));
    assert_non_null(strstr(err.message, "offset 7 "));
    names[1] = "absent.txt";
    assert_int_equal(open_tokens(&t, names, 2, "broken", &err), NR_E_IO);
    assert_non_null(strstr(err.message, "absent.txt"));
    snprintf(command, sizeof command, "test -z \"$(find %s/broken -type d -path '*/tokens/*')\"", folder);
    assert_int_equal(system(command), 0);
}

static void many_documents(char *name, size_t count)
{
    nr_buffer b = {0};
    for (size_t i = 0; i < count; i++)
        nr_buffer_printf(&b, "document %zu says %llu\n\n", i, (unsigned long long)nr_rng_u64(3, NR_RNG_TEST, i));
    text_file(name, b.data);
    nr_buffer_free(&b);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    char hash[65] = "";
    many_documents("many.txt", 40000);
    for (size_t threads = 1; threads <= 3; threads++) {
        char cache[32];
        snprintf(cache, sizeof cache, "threads%zu", threads);
        nr_threads_set(threads);
        nr_tokens *t = opened("many.txt", cache);
        assert_int_equal(nr_tokens_documents(t), 40000);
        if (threads > 1) assert_string_equal(nr_tokens_hash(t), hash);
        snprintf(hash, sizeof hash, "%s", nr_tokens_hash(t));
        nr_tokens_close(t);
    }
    nr_threads_set(0);
}

/* The same text in many small shards reads the same. */
static void shards(void **state)
{
    (void)state;
    nr_error err;
    many_documents("shards.txt", 50);
    nr_tokens *one = opened("shards.txt", "shards");
    char *path = cached_file("shards", ""), *text = in_folder("shards.txt");
    size_t n = strlen(path), count, bytes, m, size;
    while (n > 0 && path[n - 1] == '/') path[--n] = '\0';
    const char *paths[1] = {text};
    nr_files files = {paths, 1};
    nr_file_hash hash = {.size = 1};
    snprintf(hash.sha256, sizeof hash.sha256, "%s", nr_tokens_file(one, 0, &size));
    nr_tokens_source source = {.files = &files, .hashes = &hash, .tokenizer = tokenizer, .text_field = "text", .shard_ids = 100};
    ok(nr_remove_folder(path, &err), &err);
    ok(nr_tokens_build(path, &source, NULL, &err), &err);
    nr_tokens *many = opened("shards.txt", "shards");
    assert_string_equal(said, "");
    assert_string_not_equal(nr_tokens_hash(one), nr_tokens_hash(many));
    char *shard = cached_file("shards", "00005.ids");
    free(shard);
    for (size_t d = 0; d < 50; d++) {
        int32_t a[200], b[200];
        nr_tokens_document(one, d, a, &count, &bytes);
        nr_tokens_document(many, d, b, &m, &bytes);
        assert_int_equal(count, m);
        assert_memory_equal(a, b, count * sizeof *a);
    }
    nr_tokens_close(many);
    nr_tokens_close(one);
    free(path);
    free(text);
}

/* ---- rows ---- */

enum { T = 7, EOS = 2 };

/* Every id of the joined stream stands where it must; `first` is found the slow way. */
static void check_rows(const nr_tokens *t, const nr_rows *r, bool validation, double share)
{
    size_t cap = nr_tokens_total(t) + nr_tokens_documents(t), total = 0;
    int32_t *stream = malloc((cap + 1) * sizeof *stream), ids[T + 1], first[T];
    size_t *start = malloc((cap + 1) * sizeof *start); /* of the document that holds a position */
    for (size_t d = 0; d < nr_tokens_documents(t); d++) {
        size_t n, bytes, begin = total;
        if (share > 0 && nr_split_is_validation(9, true, d, share) != validation) continue;
        nr_tokens_document(t, d, stream + total, &n, &bytes);
        total += n;
        stream[total++] = EOS;
        for (size_t k = begin; k < total; k++) start[k] = begin;
    }
    assert_int_equal(nr_rows_count(r), (total - 1) / T);
    for (size_t i = 0; i < nr_rows_count(r); i++) {
        nr_rows_get(r, i, ids, first);
        assert_memory_equal(ids, stream + i * T, sizeof ids);
        for (size_t k = 0; k < T; k++) {
            size_t s = start[i * T + k];
            assert_int_equal(first[k], s > i * T ? s - i * T : 0);
        }
        memset(ids, 0, sizeof ids);
        nr_rows_get(r, i, ids, NULL);
        assert_memory_equal(ids, stream + i * T, sizeof ids);
    }
    free(start);
    free(stream);
}

static void rows_of_documents(void **state)
{
    (void)state;
    nr_error err;
    nr_rows *train, *valid, *all;
    many_documents("rows.txt", 300);
    nr_tokens *t = opened("rows.txt", "rows");
    ok(nr_rows_open(&all, t, NULL, T, EOS, 9, true, 0, false, "new text", &err), &err);
    check_rows(t, all, false, 0);
    ok(nr_rows_open(&train, t, NULL, T, EOS, 9, true, 0.2, false, "new text", &err), &err);
    check_rows(t, train, false, 0.2);
    ok(nr_rows_open(&valid, t, NULL, T, EOS, 9, true, 0.2, true, "new text", &err), &err);
    check_rows(t, valid, true, 0.2);
    assert_int_equal(nr_rows_documents(train) + nr_rows_documents(valid), 300);
    assert_true(nr_rows_documents(valid) > 30 && nr_rows_documents(valid) < 95);
    nr_rows_close(valid);
    nr_rows_close(train);
    nr_rows_close(all);
    nr_tokens_close(t);
}

static void documents_of_another_set_are_left_out(void **state)
{
    (void)state;
    nr_error err;
    nr_rows *r;
    text_file("train.txt", "one one one one one one\n\ntwo two two two two two\n\nthree three three three\n");
    text_file("valid.txt", "two two two two two two\n\nunrelated\n");
    nr_tokens *t = opened("train.txt", "without"), *v = opened("valid.txt", "without");
    ok(nr_rows_open(&r, t, v, T, EOS, 9, true, 0, false, "new text", &err), &err);
    assert_int_equal(nr_rows_documents(r), 2);
    assert_int_equal(nr_rows_left_out(r), 1);
    nr_rows_close(r);
    nr_tokens_close(v);
    nr_tokens_close(t);
}

static void too_short(void **state)
{
    (void)state;
    nr_error err;
    nr_rows *r;
    text_file("short.txt", "x\n");
    nr_tokens *t = opened("short.txt", "short");
    assert_int_equal(nr_rows_open(&r, t, NULL, 64, EOS, 9, true, 0, false, "new training text", &err), NR_E_USAGE);
    assert_null(r);
    assert_string_equal(err.message, "new training text: expected at least a row of 65 tokens, found 2 tokens in 1 of 1 "
                                     "documents; give more text or a smaller --context");
    assert_int_equal(nr_rows_open(&r, t, NULL, 64, EOS, 9, true, 0.01, true, "new validation text", &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "found 0 tokens in 0 of 1 documents; name validation files"));
    nr_tokens_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_duplicates),        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(leftovers),                 cmocka_unit_test(other_content_other_cache),
        cmocka_unit_test(broken_text_leaves_nothing), cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(shards),
        cmocka_unit_test(rows_of_documents),         cmocka_unit_test(documents_of_another_set_are_left_out),
        cmocka_unit_test(too_short),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
