/* Steps of nres data, one function at a time: charsets, answers of servers, markup, pages, signatures, classifiers, counts. */
#include <stdlib.h>
#include <string.h>

#include "prepare/dedup.h"
#include "prepare/read_formats.h"
#include "prepare/text_model.h"
#include "testing.h"

static void charset_is(const char *bytes, size_t n, const char *label, bool page, const char *name, const char *utf8)
{
    nr_buffer out = {0};
    assert_string_equal(nr_charset_guess(bytes, n, label, page), name);
    assert_true(nr_charset_to_utf8(&out, bytes, n, label, page));
    if (utf8) assert_string_equal(out.data, utf8);
    nr_buffer_free(&out);
}
#define CHARSET(bytes, ...) charset_is(bytes, sizeof(bytes) - 1, __VA_ARGS__)

static void test_charsets(void **state)
{
    (void)state;
    CHARSET("caf\xE9", "", false, "CP1252", "café");
    CHARSET("caf\xE9 \x80", "iso-8859-1", false, "CP1252", "café €"); /* as browsers take the label */
    CHARSET("caf\xC3\xA9", "iso-8859-1", false, "CP1252", "cafÃ©");   /* the server's word counts */
    CHARSET("caf\xE9", "utf-8", false, "CP1252", "café");             /* unless the bytes contradict it */
    CHARSET("\xEF\xBB\xBF" "caf\xC3\xA9", "iso-8859-1", false, "UTF-8", "café");
    CHARSET("\xFF\xFE" "c\0\xE9\0", "utf-8", false, "UTF-16LE", "cé");
    CHARSET("<meta charset='windows-1251'>\xE4\xE0", "", true, "CP1251", "<meta charset='windows-1251'>да");
    CHARSET("<META http-equiv=x content=\"text/html; charset=Shift_JIS\">\x82\xA0", "", true, "CP932", NULL);
    CHARSET("<?xml version='1.0' encoding=\"euc-kr\"?>\xB0\xA1", "", true, "CP949", "<?xml version='1.0' encoding=\"euc-kr\"?>가");
    CHARSET("<meta charset='windows-1251'>\xE4\xE0", "", false, "CP1252", NULL); /* only pages have a word of their own */
    CHARSET("\xCF\xF0\xE8\xE2\xE5\xF2, \xEC\xE8\xF0", "", false, "CP1251", "Привет, мир");
    CHARSET("\xA4\xB3\xA4\xF3\xA4\xCB\xA4\xC1\xA4\xCF", "", false, "EUC-JP", "こんにちは");
    CHARSET("plain", "no-such-charset", false, "UTF-8", "plain");
    nr_buffer out = {0};
    assert_false(nr_charset_to_utf8(&out, "\xFF\xFF\xFF\xFF", 4, "euc-jp", false)); /* hardly anything can be read */
    nr_buffer_free(&out);
}

/* The kind of record an answer becomes, or the count that says why none. */
static uint64_t *http(nr_record *r, nr_counts *c, const char *head, const char *body, size_t n)
{
    uint64_t *why;
    nr_record_clear(r);
    nr_buffer_text(&r->text, head);
    nr_buffer_add(&r->text, body, n);
    r->kind = NR_RECORD_HTTP;
    nr_http_open(r, c, &why);
    return why;
}

static void test_answers(void **state)
{
    (void)state;
    nr_record r = {0};
    nr_counts c = {0};
#define HTTP(head, body) http(&r, &c, "HTTP/1.1 " head "\r\n\r\n", body, sizeof(body) - 1)
    assert_null(HTTP("200 OK\r\nContent-Type: text/html; charset=\"latin1\"", "<p>x"));
    assert_int_equal(r.kind, NR_RECORD_PAGE);
    assert_string_equal(r.charset, "latin1");
    assert_string_equal(r.text.data, "<p>x");
    assert_null(HTTP("200 OK\r\nCONTENT-TYPE:text/plain\r\nTransfer-Encoding: chunked", "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
    assert_int_equal(r.kind, NR_RECORD_BYTES);
    assert_string_equal(r.text.data, "abcde");
    assert_null(HTTP("200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked", "no chunks"));
    assert_string_equal(r.text.data, "no chunks");
    assert_null(HTTP("200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked", "ff\r\ncut off"));
    assert_string_equal(r.text.data, "cut off");
    static const char zipped[] = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x4c\x4a\x06\x00\xc2\x41\x24\x35\x03\x00\x00\x00";
    assert_null(http(&r, &c, "HTTP/1.0 200\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n\r\n", zipped, sizeof zipped - 1));
    assert_string_equal(r.text.data, "abc");
    assert_null(HTTP("200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip", "unpacked already"));
    assert_string_equal(r.text.data, "unpacked already");
    assert_null(HTTP("200 OK", "  <!DOCTYPE html><p>"));
    assert_int_equal(r.kind, NR_RECORD_PAGE);
    assert_ptr_equal(HTTP("200 OK", "what"), &c.v.read_other_types);
    assert_ptr_equal(HTTP("404 Not Found\r\nContent-Type: text/html", "<p>"), &c.v.read_http_errors);
    assert_ptr_equal(HTTP("200 OK\r\nContent-Type: image/png", "x"), &c.v.read_other_types);
    assert_ptr_equal(HTTP("200 OK\r\nContent-Type: text/html\r\nContent-Encoding: br", "\x8b\x01"), &c.v.read_bad_encodings);
    assert_ptr_equal(http(&r, &c, "no answer", "", 0), &c.v.read_broken_records);
    assert_ptr_equal(http(&r, &c, "HTTP/1.1 200 OK\r\nContent-Type: text/html", "", 0), &c.v.read_broken_records);
    nr_record_free(&r);
}

static void wiki_is(const char *markup, const char *text)
{
    nr_buffer out = {0};
    nr_wikitext_plain(&out, markup, strlen(markup));
    assert_string_equal(out.data ? out.data : "", text);
    nr_buffer_free(&out);
}

static void test_wikitext(void **state)
{
    (void)state;
    wiki_is("'''Bold''' and ''it's'' [[a]], [[b|c]]s.", "Bold and it's a, cs.");
    wiki_is("x{{t|{{u}}|a=[[b]]}}y", "xy");
    wiki_is("x{{t|}}y", "xy");
    wiki_is("x {{open", "x {{open");
    wiki_is("{| class=a\n| b\n{| c\n|}\n|}\nafter", "after");
    wiki_is("a[[File:b.jpg|thumb|c [[d]] e]]f [[Category:g]]", "af");
    wiki_is("a&lt;ref name=&quot;b&quot;&gt;c&lt;/ref&gt;d<ref/>e <!-- f --> g<br/>h", "ade  g\n\nh");
    wiki_is("[http://a.b words here] [http://c]", "words here");
    wiki_is("== Title ==\n* one\n** two\n\npara&amp;nbsp;graph &#233;", "Title\n\n- one\n- two\n\npara\u00a0graph é");
    wiki_is("", "");
}

static void main_is(const char *page, const char *text)
{
    static const nr_main_options o;
    nr_buffer out = {0};
    nr_error err;
    assert_int_equal(nr_html_main(&out, page, strlen(page), &o, NULL, "page", &err), NR_OK);
    assert_string_equal(out.data ? out.data : "", text);
    nr_buffer_free(&out);
}

static void test_main_text(void **state)
{
    (void)state;
    main_is("<title>t</title><nav>n</nav><h1>A</h1><p>b <b>c</b>\n d<aside>e</aside><footer>f</footer>", "A\n\nb c d");
    main_is("<ul><li>menu</ul><div><div><div><ul><li>a<ul><li>b</ul><li>c</ul><ol><li>d<li>e</ol></div></div></div>",
            "- a\n  - b\n- c\n\n1. d\n2. e");
    main_is("<table><tr><th>a<th>b<tr><td>c<td></table>", "a\tb\nc");
    main_is("<pre>\na\n  b\n\n\n\nc</pre>", "a\n  b\n\nc");
    main_is("<div class='site-nav'>a</div><p class='site-nav'>b</p><div class='content menu'>c</div><div id=footer>d</div>"
            "<span class='menu'>e</span><table class='menu'><tr><td>f</table><h1 class='menu'>g</h1>", "c\n\ne\n\ng");
    main_is("<div class='footer-notice'>a</div><div class='footernotice'>b</div><div class='l-modal'>c</div><div class='wp-modal'>d</div>"
            "<div class='my-logo'>e</div><div class='logo-x'>f</div><div class='body related'>g</div>", "b\n\nc\n\nf\n\ng");
    main_is("<p style='color:red; display : none'>a</p><p hidden>b</p><p aria-hidden=true>c</p><img alt='d'>e<br>f", "d e\nf");
    main_is("<div class='post__share'><i>x</i></div><div><div class='related-links'>a</div><div class=ad_1f>k</div><p>text", "x\n\nk\n\ntext");
    main_is("<div><div><div><div><div><div><a href=a>one link</a> <a href=b>another link</a></div><p>text that stays", "text that stays");
    main_is("<div><div><div><div><div><a href=a>one link</a></div><p>text", "one link\n\ntext");
    main_is("<div><div><div id=left><h2>a</h2><a href=a>one link</a></div><div id=page-body><a href=a>a link</a></div><p>text", "a link\n\ntext");
    main_is("<div><div id=left><a href=a>one link</a></div><p>text", "one link\n\ntext");
    main_is("<div><div><div><ul><li><a href=a>link</a><li>0123456789abcdef</ul><ul><li><a href=a>link</a><li>0123456789abcde</ul>",
            "- link\n- 0123456789abcdef");
    main_is("<div><div><article><a href=a>link</a></article><article><a href=a>link</a> and 16 bytes more</article>", "link and 16 bytes more");
    main_is("<div><div><div><ul><li><a href=a>link</a><li>a<script>0123456789abcdef</script></ul>", "- link\n- a"); /* by all it holds */
}

static double agreement(const char *a, const char *b)
{
    uint32_t x[128], y[128];
    size_t same = 0;
    assert_true(nr_minhash(x, a, strlen(a)));
    assert_true(nr_minhash(y, b, strlen(b)));
    for (size_t i = 0; i < 128; i++) same += x[i] == y[i];
    return (double)same / 128;
}

/* The share of values in common estimates the share of runs of five words in common. */
static void test_minhash(void **state)
{
    (void)state;
    nr_buffer a = {0}, b = {0};
    for (int i = 0; i < 400; i++) {
        nr_buffer_printf(&a, "w%d ", i);
        nr_buffer_printf(&b, "W%d, ", i < 300 ? i : i + 1000);
    }
    assert_true(agreement(a.data, a.data) == 1);
    double expected = 296.0 / (2 * 396 - 296), found = agreement(a.data, b.data); /* runs in both, of runs in either */
    assert_true(found > expected - 0.15 && found < expected + 0.15);
    uint32_t none[128];
    assert_false(nr_minhash(none, "only four words here", 20));
    nr_buffer_free(&a);
    nr_buffer_free(&b);
}

/* A classifier cut off anywhere is refused, and so is one with any single length or index made large. */
static void test_classifiers(void **state)
{
    (void)state;
    nr_map m;
    nr_error err;
    assert_int_equal(nr_map_open(&m, NRES_FIXTURES "/../fuzz/corpus/text_model/tiny", &err), NR_OK);
    assert_int_equal(nr_text_model_check(m.data, m.size, "tiny", &err), NR_OK);
    unsigned char *copy = malloc(m.size + 1);
    assert_non_null(copy);
    for (size_t n = 0; n < m.size; n++) {
        memcpy(copy, m.data, n);
        assert_int_equal(nr_text_model_check(copy, n, "cut", &err), NR_E_FORMAT);
    }
    memcpy(copy, m.data, m.size);
    assert_int_equal(nr_text_model_check(copy, m.size + 1, "long", &err), NR_E_FORMAT);
    static const size_t fields[] = {0, 4, 8, 28, 32, 36, 64, 68, 72, 84}; /* magic, version, dim, n-grams, loss, model, counts, pruned */
    for (size_t i = 0; i < NR_COUNT(fields); i++) {
        memcpy(copy, m.data, m.size);
        memset(copy + fields[i], 0x7F, 4);
        assert_int_equal(nr_text_model_check(copy, m.size, "changed", &err), NR_E_FORMAT);
    }
    free(copy);
    nr_map_close(&m);
}

static void test_counts(void **state)
{
    (void)state;
    nr_counts c = {0}, d = {0};
    nr_error err;
    c.v.read_files = 3;
    c.v.near_bytes = (uint64_t)1 << 40;
    nr_counts_language(&c, "fr", 1, 2, 3);
    nr_counts_language(&c, "en", 4, 5, 6);
    nr_counts_add(&c, &c);
    json_t *j = nr_counts_to_json(&c);
    assert_int_equal(nr_counts_from_json(&d, j, "counts", &err), NR_OK);
    assert_memory_equal(&c.v, &d.v, sizeof c.v);
    assert_int_equal(d.language_count, 2);
    assert_string_equal(d.languages[0].name, "en");
    assert_int_equal(d.languages[1].bytes, 6);
    json_decref(j);
    nr_counts_free(&c);
    nr_counts_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_charsets),    cmocka_unit_test(test_answers), cmocka_unit_test(test_wikitext),
        cmocka_unit_test(test_main_text),   cmocka_unit_test(test_minhash), cmocka_unit_test(test_classifiers),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
