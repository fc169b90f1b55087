/* Cleaning and splitting of sets of documents, and their files. */
#include "prepare/prep.h"
#include "testing.h"

#define FRENCH "La valeur est écrite dans le fichier lorsque le programme se termine."
#define ENGLISH "The value is written to the file when the program ends."

static nr_clean_options french(void)
{
    nr_clean_options o;
    nr_clean_defaults(&o);
    o.language = NR_LANGUAGE_FR;
    o.min_document_bytes = 1;
    return o;
}

/* Cleans one document; returns what is left, "" when it is gone. */
static char *cleaned(const char *text, const nr_clean_options *o, nr_clean_counts *c)
{
    nr_prose_set s = {0};
    nr_error err;
    assert_int_equal(nr_prose_add(&s, "x", text, &err), NR_OK);
    assert_int_equal(nr_clean(&s, o, c, &err), NR_OK);
    char *left = nr_strdup(s.count ? s.items[0].text : "");
    nr_prose_free(&s);
    return left;
}

static void drops_with_a_reason(void **state)
{
    (void)state;
    nr_clean_options o = french();
    nr_clean_counts c = {0};
    char *left = cleaned(FRENCH "\n\nTrop court.\n\nOptions de la commande qui est dans ce fichier et aussi dans le manuel\n\n" ENGLISH
                         "\n\n" FRENCH "\n\n1 234 567 890 12 34 56 78 le 90 12 la 34 56 est 78 90 un deux trois que pour.\n\n"
                         "if (x == y) { *p++ = a[i] | b_c; } dans le code est la suite de tout et de rien.\n\n"
                         "Copyright (C) 2020 le projet et tous les auteurs de ce document sont cités.", &o, &c);
    assert_string_equal(left, FRENCH);
    assert_int_equal(c.short_, 1);
    assert_int_equal(c.unended_, 1);
    assert_int_equal(c.language_, 1);
    assert_int_equal(c.duplicate_, 1);
    assert_int_equal(c.letters_, 1);
    assert_int_equal(c.markup_, 1);
    assert_int_equal(c.boilerplate_, 1);
    assert_int_equal(c.paragraphs, 8);
    assert_int_equal(c.kept_paragraphs, 1);
    assert_int_equal(c.kept_bytes, strlen(FRENCH));
    free(left);
}

static void foreign_sentences_take_their_paragraph(void **state)
{
    (void)state;
    nr_clean_options o = french();
    nr_clean_counts c = {0};
    char *left = cleaned(FRENCH " " ENGLISH " " FRENCH " Le programme est dans le dossier de la commande.", &o, &c);
    assert_string_equal(left, "");
    assert_int_equal(c.language_, 1);
    assert_int_equal(c.empty_documents, 1);
    free(left);
}

static void near_duplicates(void **state)
{
    (void)state;
    nr_clean_options o = french();
    nr_clean_counts c = {0}, all = {0};
    const char *text = "La fonction un() renvoie la valeur qui est dans la table, ou bien zéro si elle n'a pas été trouvée avant la fin du délai.\n\n"
                       "La fonction deux() renvoie la valeur qui est dans la table, ou bien zéro si elle n'a pas été trouvée avant la fin du délai.\n\n"
                       "Le programme écrit ensuite la valeur dans un fichier que les autres processus peuvent lire sans attendre.";
    char *left = cleaned(text, &o, &c);
    assert_int_equal(c.near_duplicate_, 1);
    assert_null(strstr(left, "deux()"));
    free(left);
    o.near = 1;
    left = cleaned(text, &o, &all);
    assert_int_equal(all.near_duplicate_, 0);
    assert_non_null(strstr(left, "deux()"));
    free(left);
}

static void poor_documents_go(void **state)
{
    (void)state;
    nr_clean_options o = french();
    nr_clean_counts c = {0};
    o.min_document_bytes = strlen(FRENCH) + 1;
    char *left = cleaned(FRENCH, &o, &c);
    assert_string_equal(left, "");
    assert_int_equal(c.poor_documents, 1);
    assert_int_equal(c.kept_documents, 0);
    free(left);
}

/* ---- split ---- */

static void fill(nr_prose_set *s, size_t documents)
{
    for (size_t i = 0; i < documents; i++) {
        char source[32], text[128];
        snprintf(source, sizeof source, "doc%zu", i / 2); /* two of a source */
        snprintf(text, sizeof text, "Paragraphe numero %c%c%c.\n\nRepetition %c.", (char)('a' + (int)(i / 676 % 26)),
                 (char)('a' + (int)(i / 26 % 26)), (char)('a' + (int)(i % 26)), (char)('a' + (int)(i % 5)));
        assert_int_equal(nr_prose_add(s, source, text, NULL), NR_OK);
    }
}

static void parts_have_nothing_in_common(void **state)
{
    (void)state;
    nr_prose_set s = {0}, parts[NR_PARTS] = {0}, again[NR_PARTS] = {0};
    nr_split_options o = {.share = {0, 0.2, 0.3}, .seed = 1};
    nr_split_counts c = {0}, c2 = {0};
    fill(&s, 600);
    assert_int_equal(nr_split(parts, &s, &o, &c, NULL), NR_OK);
    assert_int_equal(nr_split(again, &s, &o, &c2, NULL), NR_OK);
    assert_in_range(c.documents[NR_PART_TEST], 130, 230);
    assert_in_range(c.documents[NR_PART_VALIDATION], 80, 160);
    assert_int_equal(c.documents[0] + c.documents[1] + c.documents[2] + c.empty_documents, 600);
    assert_true(c.repeated_paragraphs > 0);
    nr_key_set sources[NR_PARTS] = {{0}}, paragraphs[NR_PARTS] = {{0}};
    for (size_t k = 0; k < NR_PARTS; k++) {
        assert_int_equal(parts[k].count, again[k].count);
        for (size_t i = 0; i < parts[k].count; i++) {
            const char *p = parts[k].items[i].text, *start;
            size_t n;
            assert_string_equal(p, again[k].items[i].text);
            nr_key_add(&sources[k], strtoull(parts[k].items[i].source + 3, NULL, 10) + 10, NULL, NULL);
            while (nr_next_paragraph(&p, &start, &n)) nr_key_add(&paragraphs[k], nr_words_hash(start, n, NULL), NULL, NULL);
        }
    }
    for (size_t a = 0; a < NR_PARTS; a++)
        for (size_t b = 0; b < NR_PARTS; b++) {
            if (a == b) continue;
            for (size_t i = 0; i < sources[a].size; i++)
                if (sources[a].keys[i]) assert_false(nr_key_has(&sources[b], sources[a].keys[i]));
            for (size_t i = 0; i < paragraphs[a].size; i++)
                if (paragraphs[a].keys[i]) assert_false(nr_key_has(&paragraphs[b], paragraphs[a].keys[i]));
        }
    for (size_t k = 0; k < NR_PARTS; k++) {
        nr_prose_free(&parts[k]);
        nr_prose_free(&again[k]);
        nr_key_free(&sources[k]);
        nr_key_free(&paragraphs[k]);
    }
    nr_prose_free(&s);
}

static void limits_and_another_seed(void **state)
{
    (void)state;
    nr_prose_set s = {0}, a[NR_PARTS] = {0}, b[NR_PARTS] = {0};
    nr_split_options o = {.share = {0, 0, 1}, .max_bytes = {0, 0, 500}, .max_document_bytes = 30, .seed = 1};
    nr_split_counts c = {0}, d = {0};
    nr_error err;
    fill(&s, 200);
    assert_int_equal(nr_split(a, &s, &o, &c, &err), NR_OK);
    assert_in_range(c.bytes[NR_PART_TEST], 500, 560);
    assert_true(c.over_limit_documents > 150);
    assert_int_equal(c.cut_documents, c.documents[NR_PART_TEST]);
    o.seed = 2;
    assert_int_equal(nr_split(b, &s, &o, &d, &err), NR_OK);
    assert_string_not_equal(a[NR_PART_TEST].items[0].source, b[NR_PART_TEST].items[0].source);
    o.share[NR_PART_VALIDATION] = 0.5;
    nr_prose_set none[NR_PARTS] = {0};
    assert_int_equal(nr_split(none, &s, &o, &d, &err), NR_E_USAGE);
    for (size_t k = 0; k < NR_PARTS; k++) nr_prose_free(&a[k]), nr_prose_free(&b[k]);
    nr_prose_free(&s);
}

static void small_sets_have_every_part(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        nr_prose_set s = {0}, parts[NR_PARTS] = {0};
        nr_split_options o = {.share = {0, 0.01, 0.01}, .seed = seed};
        nr_split_counts c = {0};
        for (int i = 0; i < 4; i++) {
            char name[] = {(char)('a' + i), 0}, text[] = {'x', (char)('a' + i), 0};
            assert_int_equal(nr_prose_add(&s, name, text, NULL), NR_OK);
        }
        assert_int_equal(nr_split(parts, &s, &o, &c, NULL), NR_OK);
        assert_int_equal(c.documents[NR_PART_TEST], 1);
        assert_int_equal(c.documents[NR_PART_VALIDATION], 1);
        assert_int_equal(c.documents[NR_PART_TRAIN], 2);
        for (size_t k = 0; k < NR_PARTS; k++) nr_prose_free(&parts[k]);
        nr_prose_free(&s);
    }
}

/* ---- files ---- */

static void jsonl_there_and_back(void **state)
{
    (void)state;
    char folder[256];
    nr_prose_set s = {0}, t = {0};
    nr_error err;
    char *path = nr_path_join(testing_folder(folder), "a.jsonl");
    assert_int_equal(nr_prose_add(&s, "so \"urce\"", "ligne\n\n\"été\"\t\\", &err), NR_OK);
    assert_int_equal(nr_prose_write_jsonl(&s, path, &err), NR_OK);
    assert_int_equal(nr_prose_read_jsonl(&t, path, "text", NULL, &err), NR_OK);
    assert_int_equal(t.count, 1);
    assert_string_equal(t.items[0].text, s.items[0].text);
    assert_string_equal(t.items[0].source, s.items[0].source);
    nr_prose_free(&t);
    const char *rows = "{\"passage\": \"Title -- Body -- more\"}\r\n\n{\"passage\": \"No mark\"}\n";
    assert_int_equal(nr_write_file(path, rows, strlen(rows), &err), NR_OK);
    assert_int_equal(nr_prose_read_jsonl(&t, path, "passage", " -- ", &err), NR_OK);
    assert_int_equal(t.count, 2);
    assert_string_equal(t.items[0].source, "Title");
    assert_string_equal(t.items[0].text, "Body -- more");
    assert_string_equal(t.items[1].source, "a.jsonl:3");
    static const char *const bad[] = {"[1]", "{\"other\": \"x\"}", "{\"text\": 3}", "{\"text\": \"x\"", "text"};
    for (size_t i = 0; i < NR_COUNT(bad); i++) {
        assert_int_equal(nr_write_file(path, bad[i], strlen(bad[i]), &err), NR_OK);
        assert_int_equal(nr_prose_read_jsonl(&t, path, "text", NULL, &err), NR_E_FORMAT);
        assert_non_null(strstr(err.message, "a.jsonl"));
    }
    nr_prose_free(&s);
    nr_prose_free(&t);
    free(path);
    nr_remove_folder(folder, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drops_with_a_reason),          cmocka_unit_test(foreign_sentences_take_their_paragraph),
        cmocka_unit_test(near_duplicates),              cmocka_unit_test(poor_documents_go),
        cmocka_unit_test(parts_have_nothing_in_common), cmocka_unit_test(limits_and_another_seed),
        cmocka_unit_test(jsonl_there_and_back),         cmocka_unit_test(small_sets_have_every_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
