/*
 * prep_language.c - tells English, French and German prose apart.
 *
 * Every language has a list of function words that the others don't use. A
 * text's score in a language is the share of its words on that list, plus a
 * tenth of the share of words that hold a letter typical of it. Running text
 * scores 0.2 to 0.5 in its own language and below 0.05 in the others; lists of
 * names, options and code score near zero everywhere. A fourth list of
 * Spanish, Italian, Portuguese and Dutch words keeps those from passing as
 * French or German.
 */
#include <string.h>

#include "prepare/prep.h"

/* A word that is frequent in two of the languages is on no list: an, as, des,
 * on, or, son, was, will, war. A test checks that no word is on two lists. */
static const char *const english[] = {
    "the",   "and",   "of",    "to",   "is",    "that",  "it",    "for",   "are",   "with",   "this",  "be",
    "by",    "from",  "at",    "which", "not",  "have",  "has",   "had",   "you",   "your",   "they",  "their",
    "were",  "been",  "can",   "if",   "when",  "there", "these", "those", "would", "should", "than",  "then",
    "into",  "its",   "he",    "she",  "his",   "her",   "we",    "our",   "but",   "what",   "who",   "all",
    "may",   "must",  "some",  "such", "only",  "other", "more",  "most",  "any",   "each",   "between", "after",
    "before", "about", "also", "how",  "where", "while", "used",  "use",   "does",  "no",     "in",    "a", NULL};

static const char *const french[] = {
    "le",    "la",    "les",   "une",  "et",    "est",   "du",    "dans",  "que",   "qui",    "pour",  "pas",
    "sont",  "par",   "avec",  "ce",   "cette", "ces",   "il",    "elle",  "ils",   "elles",  "au",    "aux",
    "ou",    "où",    "ne",    "vous", "nous",  "votre", "notre", "leur",  "leurs", "mais",   "donc",  "si",
    "être",  "été",   "était", "peut", "peuvent", "doit", "fait",  "plus", "comme", "tout",   "tous",  "toutes",
    "aussi", "même",  "sans",  "sous", "entre", "après", "avant", "lorsque", "alors", "quand", "dont", "ainsi",
    "très",  "cela",  "celui", "chaque", "aucun", "aucune", "afin", "sera", "soit", "ont",   "à",     "de",
    "en",    "un",    "se",    "je",   "avez",  "sur",   "l",     "d",     "qu",    "n",      "j", NULL};

static const char *const german[] = {
    "der",   "die",   "das",   "und",  "ist",   "nicht", "ein",   "eine",  "einer", "einem",  "einen", "eines",
    "den",   "dem",   "mich",  "mit",  "von",   "zu",    "zum",   "zur",   "für",   "auf",    "auch",  "sich",
    "sie",   "ich",   "wir",   "ihr",  "ihre",  "wird",  "werden", "wurde", "wurden", "sind", "oder",  "aber",
    "wenn",  "dass",  "daß",   "als",  "wie",   "nach",  "bei",   "aus",   "durch", "über",   "unter", "vor",
    "kann",  "können", "muss", "müssen", "haben", "hat", "hatte", "noch",  "nur",   "sein",   "seine", "diese",
    "dieser", "dieses", "diesem", "im", "ins",  "am",    "vom",   "beim",  "es",    "er",     "hier",  "zwischen",
    "sowie", "jedoch", "mehr", "immer", "kein", "keine", "um",    "da", NULL};

static const char *const other[] = {
    "el",   "los",  "las",   "del",  "y",    "por",  "con",  "para", "una",  "como", "pero", "más",
    "muy",  "che",  "di",    "este", "della", "delle", "dei", "gli", "per",  "non",  "sono", "è",
    "não",  "uma",  "dos",   "sus",  "sua",  "em",   "os",   "ao",   "com",  "são",  "também", "het",
    "een",  "van",  "voor",  "met",  "zijn", "niet", "naar", "wordt", "ook", "dat",  "och",  "att",
    "som",  "på",   "nie",   "się",  "jest", "todo", "está", NULL};

static const char *const *const lists[NR_LANGUAGES] = {NULL, english, french, german, other};
/* Letters that mark a word, lower case, as UTF-8. */
static const char *const letters[NR_LANGUAGES] = {NULL, "", "éèêàçùîôûœ", "äöüß", "ñáíóãõłąęåø"};

const char *nr_language_word(nr_language l, size_t i)
{
    return l == NR_LANGUAGE_ANY || (size_t)l >= NR_LANGUAGES ? NULL : lists[l][i];
}

nr_status nr_language_find(nr_language *l, const char *name, nr_error *err)
{
    static const char *const names[] = {"any", "en", "fr", "de"};
    for (size_t i = 0; i < NR_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return *l = (nr_language)i, NR_OK;
    return nr_fail(err, NR_E_USAGE, "--language: expected any, en, fr or de, found \"%s\"", name);
}

static bool listed(const char *const *list, const char *word)
{
    for (; *list; list++)
        if ((*list)[0] == word[0] && strcmp(*list, word) == 0) return true;
    return false;
}

/* The word in lower case, cut to what the lists can hold; marks the languages whose letters it has. */
static void fold(char out[24], const char *w, size_t n, bool marked[NR_LANGUAGES])
{
    size_t used = 0;
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t c = 0;
        if ((k = nr_utf8_read(w + i, n - i, &c)) == 0) break;
        c = nr_lower(c);
        char letter[5] = {0};
        if (c < 0x80)
            letter[0] = (char)c;
        else if (c < 0x800)
            letter[0] = (char)(0xC0 | c >> 6), letter[1] = (char)(0x80 | (c & 0x3F));
        else
            letter[0] = '?';
        if (c >= 0x80 && c < 0x800)
            for (int l = 1; l < NR_LANGUAGES; l++) marked[l] |= strstr(letters[l], letter) != NULL;
        size_t size = strlen(letter);
        if (used + size < 24) memcpy(out + used, letter, size), used += size;
    }
    out[used] = 0;
}

size_t nr_language_scores(double scores[NR_LANGUAGES], const char *s, size_t n)
{
    size_t words = 0, hits[NR_LANGUAGES] = {0}, marks[NR_LANGUAGES] = {0}, size;
    const char *p = s, *end = s + n, *w;
    while (nr_next_word(&p, end, &w, &size)) {
        char word[24];
        bool marked[NR_LANGUAGES] = {0};
        fold(word, w, size, marked);
        for (int l = 1; l < NR_LANGUAGES; l++) {
            hits[l] += listed(lists[l], word);
            marks[l] += marked[l];
        }
        words++;
    }
    scores[NR_LANGUAGE_ANY] = 0;
    for (int l = 1; l < NR_LANGUAGES; l++)
        scores[l] = words ? ((double)hits[l] + 0.1 * (double)marks[l]) / (double)words : 0;
    return words;
}

static bool clear_winner(const double scores[NR_LANGUAGES], nr_language l)
{
    for (int i = 1; i < NR_LANGUAGES; i++)
        if (i != (int)l && scores[l] < 1.5 * scores[i]) return false;
    return scores[l] >= 0.12;
}

bool nr_language_is(nr_language l, const char *s, size_t n)
{
    double scores[NR_LANGUAGES];
    if (l == NR_LANGUAGE_ANY) return true;
    nr_language_scores(scores, s, n);
    return clear_winner(scores, l);
}

nr_language nr_language_guess(const char *s, size_t n)
{
    double scores[NR_LANGUAGES];
    nr_language_scores(scores, s, n);
    for (int l = 1; l < NR_LANGUAGES; l++)
        if (clear_winner(scores, (nr_language)l)) return (nr_language)l;
    return NR_LANGUAGE_ANY;
}
