/* The running text of pages: what is kept, what is left out, what is hostile. */
#include "prepare/prep.h"
#include "testing.h"

static const char *const classes[] = {"howtoget"};
static const char *const sections[] = {"Voir aussi", "SYNOPSIS"};
static const nr_html_options plain_options = {classes, 1, sections, 2, false};

static void page_is(const char *html, const char *want)
{
    nr_buffer b = {0};
    nr_error err;
    nr_buffer_text(&b, "");
    assert_int_equal(nr_html_prose(&b, html, strlen(html), &plain_options, NULL, "page", &err), NR_OK);
    assert_string_equal(b.data, want);
    nr_buffer_free(&b);
}

static void keeps_running_text(void **state)
{
    (void)state;
    page_is("<p>Un <b>mot</b>\n  et <a href=x>un lien</a>.</p><p>Deux&nbsp;: &eacute;t&eacute;.", "Un mot et un lien.\n\nDeux : été.");
    page_is("<ul><li>Un.<li>Deux.</ul>", "Un.\n\nDeux.");
    page_is("<dl><dt>a</dt><dd>Dire.</dd></dl>", "a\n\nDire.");
    page_is("<table><tr><td>Une cellule.<td>Une autre.</table>", "Une cellule.\n\nUne autre.");
    page_is("<div>Avant<p>Dedans</p>Apr&egrave;s</div>", "Avant\n\nDedans\n\nAprès");
    page_is("un<br>deux <code>trois</code> quatre cinq", "un deux trois quatre cinq");
    page_is("", "");
}

static void leaves_out_furniture(void **state)
{
    (void)state;
    page_is("<title>T</title><script>s</script><style>s</style><nav>n</nav><header>h</header><footer>f</footer><p>Texte.", "Texte.");
    page_is("<div class='x Navbar y'>n</div><div id=toc>n</div><div role=navigation>n</div><p hidden>n</p><p aria-hidden=true>n</p>T", "T");
    page_is("<div class=howtoget>n</div><form>f<p>g</form><button>b</button><pre>code</pre>T", "T");
    page_is("avant <span class=howtoget>non</span>apr&egrave;s", "avant après");
    page_is("<p>Titre</p><h1>Un titre</h1><p>T", "Titre\n\nT");
}

static void leaves_out_links_and_code(void **state)
{
    (void)state;
    page_is("<p><a href=a>un long lien</a> <a href=b>un autre lien</a></p><p>Texte <a href=c>lien</a>.", "Texte lien.");
    page_is("<table><tr><td><a href=a>lien</a><td><a href=b>lien</a></table>Texte", "Texte");
    page_is("<p><code>int main(void)</code></p><p>Texte", "Texte");
    page_is("<p><a name=a>une ancre</a></p>", "une ancre");
}

static void leaves_out_sections(void **state)
{
    (void)state;
    page_is("<h1>NOM</h1><p>a<h1>Synopsis</h1><p>b<h2>Dedans</h2><p>c<h1>Suite</h1><p>d<h2>VOIR&nbsp;AUSSI :</h2><p>e<h2>x</h2><p>f",
            "a\n\nd\n\nf");
}

static void hidden_can_be_kept(void **state)
{
    (void)state;
    nr_html_options o = plain_options;
    nr_buffer b = {0};
    const char *html = "Tapez <span hidden=true class=howtoget>Cmd</span><span hidden=true>Ctrl</span>+Z";
    o.keep_hidden = true;
    assert_int_equal(nr_html_prose(&b, html, strlen(html), &o, NULL, "page", NULL), NR_OK);
    assert_string_equal(b.data, "Tapez Ctrl+Z");
    nr_buffer_free(&b);
}

static void old_encodings_and_counts(void **state)
{
    (void)state;
    page_is("<p>\xE9t\xE9 \x93oui\x94", "été “oui”");
    nr_html_counts c = {0};
    nr_buffer b = {0};
    const char *html = "<nav>x</nav><p>Un.<p><a href=x>lien</a><p><code>code</code><h1>Voir aussi</h1><p>non";
    nr_buffer_text(&b, "avant");
    assert_int_equal(nr_html_prose(&b, html, strlen(html), &plain_options, &c, "page", NULL), NR_OK);
    assert_string_equal(b.data, "avant\n\nUn.");
    assert_int_equal(c.dropped_elements, 1 + 1); /* the head that every page has */
    assert_int_equal(c.dropped_links, 1);
    assert_int_equal(c.dropped_code, 1);
    assert_int_equal(c.dropped_sections, 1);
    nr_buffer_free(&b);
}

static void repeat(nr_buffer *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) nr_buffer_text(b, s);
}

static void hostile_pages(void **state)
{
    (void)state;
    nr_buffer page = {0}, out = {0};
    nr_error err;
    repeat(&page, "<", 300001);
    assert_int_equal(nr_html_prose(&out, page.data, page.size, &plain_options, NULL, "tags", &err), NR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tags: "));
    assert_non_null(strstr(err.message, "300001"));
    page.size = 0;
    repeat(&page, " ", (16u << 20) + 1);
    assert_int_equal(nr_html_prose(&out, page.data, page.size, &plain_options, NULL, "large", &err), NR_E_UNSUPPORTED);
    /* Deeper than any stack would like. */
    page.size = 0;
    nr_buffer_text(&page, "<p>Haut.</p>");
    repeat(&page, "<div>", 40000);
    nr_buffer_text(&page, "fond");
    assert_int_equal(nr_html_prose(&out, page.data, page.size, &plain_options, NULL, "deep", &err), NR_OK);
    assert_string_equal(out.data, "Haut.");
    /* Every <p> opens all the formatting elements again: a tree far larger than the page. */
    page.size = 0;
    nr_buffer_text(&page, "<p>");
    for (size_t i = 0; i < 3000; i++) nr_buffer_printf(&page, "<b class=c%zu>", i);
    repeat(&page, "<p>x", 30000);
    assert_int_equal(nr_html_prose(&out, page.data, page.size, &plain_options, NULL, "bomb", &err), NR_E_MEMORY);
    assert_non_null(strstr(err.message, "bomb: "));
    nr_buffer_free(&page);
    nr_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_running_text),       cmocka_unit_test(leaves_out_furniture),
        cmocka_unit_test(leaves_out_links_and_code), cmocka_unit_test(leaves_out_sections),
        cmocka_unit_test(hidden_can_be_kept),       cmocka_unit_test(old_encodings_and_counts),
        cmocka_unit_test(hostile_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
