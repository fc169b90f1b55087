/* Characters, words, paragraphs and languages of text preparation. */
#include "prepare/prep.h"
#include "testing.h"

static void plain_is(const char *in, const char *want)
{
    nr_buffer b = {0};
    nr_buffer_text(&b, "");
    nr_text_plain(&b, in, strlen(in));
    assert_string_equal(b.data, want);
    nr_buffer_free(&b);
}

static void plain_form(void **state)
{
    (void)state;
    plain_is("  un \t\n deux\xC2\xA0: trois\xE2\x80\xAF! ", "un deux : trois !");
    plain_is("a\xC2\xAD" "b\xE2\x80\x8B" "c\x01", "abc");
    plain_is("l\xC2\x92" "eau\xC2\x85", "l’eau…");
    plain_is("<b>gras</b> et <br/>suite<p class=\"x\">", "gras et suite");
    plain_is("#include <stdio.h> et <VirtualHost> et a < b > c", "#include <stdio.h> et <VirtualHost> et a < b > c");
    plain_is("R&amp;D &lt;x&gt; &nbsp; &unknown;", "R&D <x> &unknown;");
    plain_is("\\fBcat\\fR et ci\\-dessous \\&.", "cat et ci-dessous .");
    plain_is("``Il'' l''eau", "\"Il\" l''eau");
    plain_is("bad \xFF\xC3 bytes\xE2\x82", "bad bytes");
    plain_is("", "");
    plain_is("   ", "");
}

static void utf8(void **state)
{
    (void)state;
    assert_true(nr_utf8_valid("é€😀", strlen("é€😀")));
    static const char *const bad[] = {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80", "\xC3", "\xF8\x88\x80\x80\x80"};
    for (size_t i = 0; i < NR_COUNT(bad); i++) assert_false(nr_utf8_valid(bad[i], strlen(bad[i])));
    nr_buffer b = {0};
    nr_utf8_from_1252(&b, "\x80\x93\xE9\x81", 4);
    assert_string_equal(b.data, "€“é");
    nr_buffer_free(&b);
    for (uint32_t c = 1; c < 0x110000; c += 7) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        uint32_t back = 0;
        nr_buffer one = {0};
        nr_utf8_write(&one, c);
        assert_int_equal(nr_utf8_read(one.data, one.size, &back), one.size);
        assert_int_equal(back, c);
        nr_buffer_free(&one);
    }
    assert_int_equal(nr_lower(0xC9), 0xE9);
    assert_int_equal(nr_lower(0x152), 0x153);
    assert_int_equal(nr_lower(0x17D), 0x17E);
    assert_int_equal(nr_lower(0xD7), 0xD7);
}

static void paragraphs(void **state)
{
    (void)state;
    const char *p = "\n\nun\ndeux\n \t\n\ntrois  \r\n\r\nquatre", *start;
    size_t n;
    static const char *const want[] = {"un\ndeux", "trois", "quatre"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(nr_next_paragraph(&p, &start, &n));
        assert_int_equal(n, strlen(want[i]));
        assert_memory_equal(start, want[i], n);
    }
    assert_false(nr_next_paragraph(&p, &start, &n));
}

static uint64_t hash(const char *s) { return nr_words_hash(s, strlen(s), NULL); }

static void word_hash_ignores_case_and_punctuation(void **state)
{
    (void)state;
    size_t words;
    assert_true(hash("L'Été, en mer.") == hash("  l été EN   mer!"));
    assert_true(hash("en mer") != hash("mer en"));
    assert_true(hash("enmer") != hash("en mer"));
    nr_words_hash("L'été 42 fois", strlen("L'été 42 fois"), &words);
    assert_int_equal(words, 3);
}

static void key_set(void **state)
{
    (void)state;
    nr_key_set s = {0};
    bool fresh;
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(nr_key_add(&s, i * i, &fresh, NULL), NR_OK);
        assert_int_equal(fresh, i != 1); /* 0 and 1 share a slot */
    }
    for (uint64_t i = 0; i < 5000; i++) {
        assert_true(nr_key_has(&s, i * i));
        assert_int_equal(nr_key_add(&s, i * i, &fresh, NULL), NR_OK);
        assert_false(fresh);
    }
    assert_false(nr_key_has(&s, 3));
    nr_key_free(&s);
    assert_false(nr_key_has(&s, 4));
}

static void word_lists_are_disjoint(void **state)
{
    (void)state;
    for (int a = 1; a < NR_LANGUAGES; a++) {
        size_t count = 0;
        for (size_t i = 0; nr_language_word((nr_language)a, i); i++, count++) {
            for (int b = a; b < NR_LANGUAGES; b++)
                for (size_t j = b == a ? i + 1 : 0; nr_language_word((nr_language)b, j); j++)
                    assert_string_not_equal(nr_language_word((nr_language)a, i), nr_language_word((nr_language)b, j));
        }
        assert_true(count > 40);
    }
}

static void languages(void **state)
{
    (void)state;
    static const struct {
        nr_language language;
        const char *text;
    } list[] = {
        {NR_LANGUAGE_EN, "The value is written to the file when the program ends, and no other process can read it before."},
        {NR_LANGUAGE_EN, "This setting has been available since version 2.4 of the server."},
        {NR_LANGUAGE_FR, "La valeur est écrite dans le fichier lorsque le programme se termine, et aucun autre processus ne peut la lire avant."},
        {NR_LANGUAGE_FR, "Choisissez Outils - Options, puis cliquez sur l'onglet Affichage."},
        {NR_LANGUAGE_FR, "execve() exécute le programme pointé par pathname (consultez ld.so(8))."},
        {NR_LANGUAGE_DE, "Der Wert wird in die Datei geschrieben, wenn das Programm endet, und kein anderer Prozess kann ihn vorher lesen."},
        {NR_LANGUAGE_DE, "Diese Einstellung ist seit Version 2.4 des Servers verfügbar."},
        {NR_LANGUAGE_OTHER, "El valor se escribe en el archivo cuando termina el programa, y los demás procesos no pueden leerlo por ahora para nada."},
    };
    for (size_t i = 0; i < NR_COUNT(list); i++)
        for (int l = 1; l < NR_LANGUAGES; l++)
            assert_int_equal(nr_language_is((nr_language)l, list[i].text, strlen(list[i].text)), l == (int)list[i].language);
    assert_int_equal(nr_language_guess("O_RDONLY O_WRONLY O_RDWR", 24), NR_LANGUAGE_ANY);
    assert_int_equal(nr_language_guess("", 0), NR_LANGUAGE_ANY);
    assert_true(nr_language_is(NR_LANGUAGE_ANY, "", 0));
    nr_language l;
    nr_error err;
    assert_int_equal(nr_language_find(&l, "de", &err), NR_OK);
    assert_int_equal(l, NR_LANGUAGE_DE);
    assert_int_equal(nr_language_find(&l, "xx", &err), NR_E_USAGE);
    assert_non_null(strstr(err.message, "\"xx\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_form),
        cmocka_unit_test(utf8),
        cmocka_unit_test(paragraphs),
        cmocka_unit_test(word_hash_ignores_case_and_punctuation),
        cmocka_unit_test(key_set),
        cmocka_unit_test(word_lists_are_disjoint),
        cmocka_unit_test(languages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
