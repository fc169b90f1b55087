/* test_corpus.c - documents out of text and JSONL, plain and compressed, and what is refused. */
#include "testing.h"

#include <zlib.h>
#include <zstd.h>

#include "data/data.h"

static char folder[256];

static int setup(void **state)
{
    (void)state;
    testing_folder(folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return nr_remove_folder(folder, NULL) == NR_OK ? 0 : -1;
}

static const char *file(const char *name, const void *data, size_t n)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(nr_write_file(path, data, n, NULL), NR_OK);
    return path;
}

static const char *text_file(const char *name, const char *text) { return file(name, text, strlen(text)); }

/* All documents, each followed by '|'; the status of the first failure. */
static nr_status read_all(char *out, size_t size, const char *path, nr_documents how, nr_error *err)
{
    nr_corpus *c;
    const char *text;
    size_t n, used = 0;
    nr_status st = nr_corpus_open(&c, path, "text", how, err);
    out[0] = '\0';
    if (st != NR_OK) return st;
    while ((st = nr_corpus_next(c, &text, &n, err)) == NR_OK && text) {
        assert_true(used + n + 2 < size);
        memcpy(out + used, text, n);
        used += n;
        out[used++] = '|';
        out[used] = '\0';
    }
    nr_corpus_close(c);
    return st;
}

static void expect(const char *path, nr_documents how, const char *want)
{
    char got[4096];
    nr_error err;
    if (read_all(got, sizeof got, path, how, &err) != NR_OK) fail_msg("%s", err.message);
    assert_string_equal(got, want);
}

static void refused(const char *path, nr_documents how, nr_status want, const char *word, const char *word2)
{
    char got[4096];
    nr_error err;
    assert_int_equal(read_all(got, sizeof got, path, how, &err), want);
    if (!strstr(err.message, word) || !strstr(err.message, word2) || !strstr(err.message, folder))
        fail_msg("expected \"%s\", \"%s\" and the file, found: %s", word, word2, err.message);
}

static void layouts(void **state)
{
    (void)state;
    const char *text = "\xEF\xBB\xBF\n \r\nun\r\ndeux\r\n\t\r\n\n\ntrois\n";
    expect(text_file("a.txt", text), NR_DOCUMENTS_AUTO, "un\r\ndeux|trois|");
    expect(text_file("a.txt", text), NR_DOCUMENTS_LINE, "un|deux|trois|");
    expect(text_file("a.txt", "x\n\ny"), NR_DOCUMENTS_FILE, "x\n\ny|");
    expect(text_file("a.txt", "no newline"), NR_DOCUMENTS_AUTO, "no newline|");
    expect(text_file("a.txt", "\xC3\xA9t\xC3\xA9 \xF0\x9F\x98\x80"), NR_DOCUMENTS_LINE, "\xC3\xA9t\xC3\xA9 \xF0\x9F\x98\x80|");
}

static void rows(void **state)
{
    (void)state;
    const char *lines = "{\"text\": \"a\\nb\", \"x\": 1}\n\n{\"text\": \"\"}\r\n{\"text\": \"c\"}";
    expect(text_file("a.jsonl", lines), NR_DOCUMENTS_AUTO, "a\nb|c|");
    expect(text_file("a.json", lines), NR_DOCUMENTS_LINE, "a\nb|c|");
    expect(text_file("a.txt", lines), NR_DOCUMENTS_AUTO, "a\nb|c|"); /* a brace first */
    expect(text_file("a.txt", "{x}\n"), NR_DOCUMENTS_LINE, "{x}|");
    refused(text_file("b.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "line 2", "\"text\"");
    refused(text_file("b.jsonl", "{\"text\": \"a\"}\n\n{\"text\": 3}\n"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "line 3", "a string");
    refused(text_file("b.jsonl", "{\"text\": \"a\"}\n{\"text\"\n"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "line 2", "not JSON");
    refused(text_file("b.jsonl", "[1]\n"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "line 1", "object");
}

static void not_utf8(void **state)
{
    (void)state;
    refused(text_file("a.txt", "good\n\nb\xE9" "d"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "0xE9", "offset 7 ");
    refused(text_file("a.txt", "\xEF\xBB\xBF" "b\xC0\x80"), NR_DOCUMENTS_LINE, NR_E_FORMAT, "0xC0", "offset 4 ");
    refused(text_file("a.txt", "\xED\xA0\x80"), NR_DOCUMENTS_FILE, NR_E_FORMAT, "0xED", "offset 0 "); /* a surrogate */
    refused(text_file("a.txt", "12345678\xF4\x90\x80\x80"), NR_DOCUMENTS_FILE, NR_E_FORMAT, "0xF4", "offset 8 ");
    refused(text_file("a.txt", "12345678901234567\xE2\x82"), NR_DOCUMENTS_FILE, NR_E_FORMAT, "0xE2", "offset 17 ");
    refused(text_file("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "0xFF", "offset 24 ");
}

static void empty(void **state)
{
    (void)state;
    refused(text_file("a.txt", ""), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "empty file", "");
    refused(text_file("a.txt", " \n\n\t"), NR_DOCUMENTS_LINE, NR_E_FORMAT, "no document in 4 bytes", "");
    refused(text_file("a.jsonl", "{\"text\": \"\"}\n"), NR_DOCUMENTS_AUTO, NR_E_FORMAT, "no document", "");
    char path[400];
    snprintf(path, sizeof path, "%s/absent.txt", folder);
    refused(path, NR_DOCUMENTS_AUTO, NR_E_IO, "can't open", "");
    refused(folder, NR_DOCUMENTS_AUTO, NR_E_IO, "a folder", "");
}

/* ---- compressed ---- */

enum { BIG = 3 << 20 };

static char *big_text(void)
{
    char *text = malloc(BIG + 1);
    for (size_t i = 0; i < BIG; i++) {
        uint64_t r = nr_rng_u64(1, NR_RNG_TEST, i);
        text[i] = r % 50 == 0 ? '\n' : (char)('a' + r % 23);
    }
    text[0] = 'a';
    text[BIG - 1] = 'z';
    text[BIG] = '\0';
    return text;
}

/* n bytes as one gzip member. */
static size_t gzip(unsigned char *out, size_t cap, const void *data, size_t n)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return cap - z.avail_out;
}

/* The unpacked bytes of a file are `want`. */
static void unpacks_to(const char *path, const char *want, size_t n)
{
    nr_unpack *u;
    nr_error err;
    char *got = malloc(n + 1);
    size_t have = 0, m;
    if (nr_unpack_open(&u, path, &err) != NR_OK) fail_msg("%s", err.message);
    do {
        size_t ask = 1 + nr_rng_u64(2, NR_RNG_TEST, have) % 70000;
        if (nr_unpack_read(u, got + have, NR_MIN(ask, n + 1 - have), &m, &err) != NR_OK) fail_msg("%s", err.message);
        have += m;
    } while (m > 0 && have <= n);
    assert_int_equal(have, n);
    assert_memory_equal(got, want, n);
    assert_true(nr_unpack_fraction(u) == 1);
    nr_unpack_close(u);
    free(got);
}

static void compressed(void **state)
{
    (void)state;
    char *text = big_text();
    size_t cap = 2 * BIG, half = BIG / 2;
    unsigned char *packed = calloc(cap, 1);
    unpacks_to(file("a.txt", text, BIG), text, BIG);
    size_t n = gzip(packed, cap, text, half);
    n += gzip(packed + n, cap - n, text + half, BIG - half);
    unpacks_to(file("a.gz", packed, n), text, BIG);       /* two members */
    unpacks_to(file("a.gz", packed, n + 600), text, BIG); /* zeros behind them */
    refused(file("a.gz", packed, n - 9), NR_DOCUMENTS_FILE, NR_E_FORMAT, "gzip data ends early", "cut off");
    packed[n] = 'x';
    refused(file("a.gz", packed, n + 1), NR_DOCUMENTS_FILE, NR_E_FORMAT, "gzip data is broken", "another gzip member");
    packed[n / 3] ^= 0x40;
    refused(file("a.gz", packed, n), NR_DOCUMENTS_FILE, NR_E_FORMAT, "gzip data is broken", "at byte");

    n = ZSTD_compress(packed, cap, text, half, 1);
    n += ZSTD_compress(packed + n, cap - n, text + half, BIG - half, 1);
    unpacks_to(file("a.zst", packed, n), text, BIG); /* two frames */
    refused(file("a.zst", packed, n - 9), NR_DOCUMENTS_FILE, NR_E_FORMAT, "zstd data ends early", "cut off");
    packed[n / 3] ^= 0x40;
    packed[n / 3 + 1] ^= 0x40;
    nr_error err;
    nr_corpus *c;
    const char *doc;
    size_t size;
    assert_int_equal(nr_corpus_open(&c, file("a.zst", packed, n), "text", NR_DOCUMENTS_FILE, &err), NR_OK);
    nr_status st = nr_corpus_next(c, &doc, &size, &err); /* without a checksum some damage only changes the text */
    assert_true(st == NR_E_FORMAT || (st == NR_OK && (size != BIG || memcmp(doc, text, BIG) != 0)));
    nr_corpus_close(c);

    const char *row = "{\"text\": \"in a row\"}\n";
    n = gzip(packed, cap, row, strlen(row));
    expect(file("rows.jsonl.gz", packed, n), NR_DOCUMENTS_LINE, "in a row|");
    n = ZSTD_compress(packed, cap, row, strlen(row), 1);
    expect(file("rows.jsonl.zst", packed, n), NR_DOCUMENTS_LINE, "in a row|");
    free(packed);
    free(text);
}

/* Documents longer than every buffer, found again whatever lies before them. */
static void long_documents(void **state)
{
    (void)state;
    char *text = big_text(), *two = malloc(2 * BIG + 16);
    for (size_t i = 0; i < BIG; i++)
        if (text[i] == '\n') text[i] = ' ';
    size_t n = (size_t)sprintf(two, "first\n%s\n\n%s", text, text);
    nr_corpus *c;
    nr_error err;
    const char *doc;
    size_t size;
    assert_int_equal(nr_corpus_open(&c, file("long.txt", two, n), "text", NR_DOCUMENTS_AUTO, &err), NR_OK);
    assert_int_equal(nr_corpus_next(c, &doc, &size, &err), NR_OK);
    assert_int_equal(size, BIG + 6);
    assert_memory_equal(doc + 6, text, BIG);
    assert_int_equal(nr_corpus_next(c, &doc, &size, &err), NR_OK);
    assert_int_equal(size, BIG);
    assert_memory_equal(doc, text, BIG);
    assert_int_equal(nr_corpus_next(c, &doc, &size, &err), NR_OK);
    assert_null(doc);
    nr_corpus_close(c);
    free(two);
    free(text);
}

/* A line may end anywhere, at the last byte of a buffer too. */
static void lines_at_edges(void **state)
{
    (void)state;
    char *text = malloc((1 << 20) + 64);
    for (size_t size = (256 << 10) - 2; size <= (256 << 10) + 2; size++) {
        nr_corpus *c;
        nr_error err;
        const char *doc;
        size_t n;
        memset(text, 'a', size);
        memcpy(text + size, "\nb\r\n\nc", 7);
        assert_int_equal(nr_corpus_open(&c, file("edge.txt", text, size + 6), "text", NR_DOCUMENTS_LINE, &err), NR_OK);
        const size_t sizes[] = {size, 1, 1, 0};
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(nr_corpus_next(c, &doc, &n, &err), NR_OK);
            assert_int_equal(n, sizes[i]);
        }
        nr_corpus_close(c);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts), cmocka_unit_test(rows),       cmocka_unit_test(not_utf8),
        cmocka_unit_test(empty),   cmocka_unit_test(compressed), cmocka_unit_test(long_documents),
        cmocka_unit_test(lines_at_edges),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
