/*
 * prep_clean.c - keeps the paragraphs that are running text in one language
 * and haven't been seen before in the whole set; drops documents with too
 * little left. Counts what it drops and why.
 *
 * Seen before: the same words in the same order, whatever their case,
 * punctuation and spacing. Nearly seen before: at least `near` of a
 * paragraph's runs of eight words stand in paragraphs kept earlier.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/prep.h"

#define RUN 8 /* words of a run compared for near-duplicates */

void nr_clean_defaults(nr_clean_options *o)
{
    *o = (nr_clean_options){.language = NR_LANGUAGE_ANY, .min_words = 8, .min_letters = 0.8, .min_document_bytes = 200, .near = 0.5,
                            .boilerplate = true, .ended = true};
}

typedef struct {
    const nr_clean_options *options;
    nr_clean_counts *counts;
    nr_key_set paragraphs, runs;
    uint64_t *hashes; /* of the words of the paragraph at hand */
    size_t hash_cap;
    nr_error *err;
} cleaner;

/* ---- what a paragraph looks like ---- */

/* Ends as a sentence does: . ! ? … : ; with closing quotes and brackets after it. */
static bool is_ended(const char *s, size_t n)
{
    static const char *const closing[] = {"\"", "'", ")", "]", " ", "”", "’", "»", "“"};
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < NR_COUNT(closing); i++) {
            size_t k = strlen(closing[i]);
            if (n > k && memcmp(s + n - k, closing[i], k) == 0) n -= k, again = true;
        }
    }
    return n > 0 && (strchr(".!?", s[n - 1]) || (n > 2 && memcmp(s + n - 3, "…", 3) == 0));
}

typedef struct {
    size_t letters, digits, marks, code; /* characters; code: those that prose hardly uses */
    size_t words, longest;
} shape;

static shape shape_of(const char *s, size_t n)
{
    shape h = {0};
    size_t run = 0;
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t c = 0;
        if ((k = nr_utf8_read(s + i, n - i, &c)) == 0) k = 1;
        if (nr_is_letter(c))
            h.letters++;
        else if (c >= '0' && c <= '9')
            h.digits++;
        else if (c != ' ')
            h.marks++;
        h.code += c < 0x80 && strchr("{}<>=|\\_$#@~^*[]%+", (int)c) && c;
        run = c == ' ' ? 0 : run + 1;
        h.longest = NR_MAX(h.longest, run);
    }
    nr_words_hash(s, n, &h.words);
    return h;
}

/* Whether s holds the text, case of ASCII aside; the text is lower case. */
static bool holds(const char *s, size_t n, const char *text)
{
    size_t k = strlen(text);
    for (size_t i = 0; i + k <= n; i++) {
        size_t j = 0;
        while (j < k && (s[i + j] == text[j] || (s[i + j] >= 'A' && s[i + j] <= 'Z' && s[i + j] + 32 == text[j]))) j++;
        if (j == k) return true;
    }
    return false;
}

/* Licence terms, notes on a translation, where to send errors: the same few in every document. */
static bool is_boilerplate(const char *s, size_t n)
{
    static const char *const phrases[] = {
        "all rights reserved", "copyright (c)", "copyright \xC2\xA9", "\xC2\xA9 ", "public license", "gplv", "gnu gpl", "free software foundation",
        "warranty of", "creative commons", "licensed under", "permission is granted", "redistribut", "tous droits r", "licence gpl",
        "page de manuel a été", "cette traduction", "traduction française", "bogue dans la traduction", "diese übersetzung",
        "deutsche übersetzung", "handbuchseite wurde", "this man page was", "this translation", "debian-l10n", "mailto:", "cookies",
        "javascript", "trademark", "aucune responsabilité légale"};
    for (size_t i = 0; i < NR_COUNT(phrases); i++)
        if (holds(s, n, phrases[i])) return true;
    size_t addresses = 0;
    for (size_t i = 1; i + 1 < n; i++) addresses += s[i] == '@' && s[i - 1] > ' ' && s[i + 1] > ' ';
    return addresses > 1;
}

/* Whether a sentence of six words or more is clearly in another language. */
static bool holds_foreign_sentence(const char *s, size_t n, nr_language l)
{
    const char *start = s, *end = s + n;
    for (const char *p = s; p < end; p++) {
        bool stop = p + 1 == end || (strchr(".!?:;", *p) && p[1] == ' ');
        if (!stop) continue;
        double scores[NR_LANGUAGES];
        size_t words = nr_language_scores(scores, start, (size_t)(p + 1 - start));
        nr_language guess = words >= 6 ? nr_language_guess(start, (size_t)(p + 1 - start)) : NR_LANGUAGE_ANY;
        if (guess != NR_LANGUAGE_ANY && guess != l && scores[guess] >= 0.2 && scores[guess] >= 2 * scores[l]) return true;
        start = p + 1;
    }
    return false;
}

/* ---- seen before ---- */

static nr_status word_hashes(cleaner *c, const char *s, size_t n, size_t *count)
{
    const char *p = s, *end = s + n, *w;
    size_t size;
    *count = 0;
    while (nr_next_word(&p, end, &w, &size)) {
        if (*count == c->hash_cap) {
            size_t cap = c->hash_cap ? c->hash_cap * 2 : 1024;
            uint64_t *more = realloc(c->hashes, cap * sizeof *more);
            if (!more) return nr_fail(c->err, NR_E_MEMORY, "clean: out of memory for a paragraph of %zu bytes", n);
            c->hashes = more;
            c->hash_cap = cap;
        }
        c->hashes[(*count)++] = nr_words_hash(w, size, NULL);
    }
    return NR_OK;
}

static uint64_t run_key(const uint64_t *h)
{
    uint64_t key = 0x51ED270B9C2F1A35u;
    for (size_t i = 0; i < RUN; i++) key = (key ^ h[i]) * 0x9E3779B97F4A7C15u, key ^= key >> 31;
    return key;
}

/* Looks the paragraph up and, when it is new, remembers it. */
static nr_status seen(cleaner *c, const char *s, size_t n, bool *before)
{
    size_t words, old = 0;
    bool fresh;
    NR_TRY(nr_key_add(&c->paragraphs, nr_words_hash(s, n, NULL), &fresh, c->err));
    if (!fresh) {
        *before = true, c->counts->duplicate_++;
        return NR_OK;
    }
    if (c->options->near >= 1) return NR_OK;
    NR_TRY(word_hashes(c, s, n, &words));
    if (words < RUN) return NR_OK;
    size_t runs = words - RUN + 1;
    for (size_t i = 0; i < runs; i++) old += nr_key_has(&c->runs, run_key(c->hashes + i));
    if ((double)old >= c->options->near * (double)runs) {
        *before = true, c->counts->near_duplicate_++;
        return NR_OK;
    }
    for (size_t i = 0; i < runs; i++) NR_TRY(nr_key_add(&c->runs, run_key(c->hashes + i), NULL, c->err));
    return NR_OK;
}

/* ---- a paragraph, a document, the set ---- */

static nr_status judge(cleaner *c, const char *s, size_t n, bool *keep)
{
    const nr_clean_options *o = c->options;
    nr_clean_counts *k = c->counts;
    shape h = shape_of(s, n);
    size_t visible = h.letters + h.digits + h.marks;
    bool before = false;
    *keep = false;
    if (h.words < o->min_words)
        k->short_++;
    else if (o->ended && !is_ended(s, n))
        k->unended_++;
    else if (h.code * 25 > visible || h.longest > 60)
        k->markup_++;
    else if ((double)h.letters < o->min_letters * (double)visible)
        k->letters_++;
    else if (o->boilerplate && is_boilerplate(s, n))
        k->boilerplate_++;
    else if (!nr_language_is(o->language, s, n) ||
             (o->language != NR_LANGUAGE_ANY && holds_foreign_sentence(s, n, o->language)))
        k->language_++;
    else {
        NR_TRY(seen(c, s, n, &before));
        *keep = !before;
    }
    return NR_OK;
}

static nr_status clean_document(cleaner *c, nr_prose *doc)
{
    nr_buffer kept = {0}, plain = {0};
    nr_status st = NR_OK;
    const char *p = doc->text, *start;
    size_t n, paragraphs = 0;
    while (st == NR_OK && nr_next_paragraph(&p, &start, &n)) {
        bool keep = false;
        plain.size = 0;
        nr_text_plain(&plain, start, n);
        if (plain.size == 0) continue;
        c->counts->paragraphs++;
        st = judge(c, plain.data, plain.size, &keep);
        if (!keep) continue;
        if (kept.size > 0) nr_buffer_text(&kept, "\n\n");
        nr_buffer_add(&kept, plain.data, plain.size);
        paragraphs++;
    }
    if (st == NR_OK && (kept.failed || plain.failed)) st = nr_fail(c->err, NR_E_MEMORY, "clean: out of memory for %s", doc->source);
    nr_buffer_free(&plain);
    if (st == NR_OK && kept.size > 0 && kept.size >= c->options->min_document_bytes) {
        free(doc->text);
        doc->text = kept.data;
        c->counts->kept_documents++;
        c->counts->kept_paragraphs += paragraphs;
        c->counts->kept_bytes += kept.size;
        return NR_OK;
    }
    c->counts->poor_documents += kept.size > 0;
    c->counts->empty_documents += kept.size == 0;
    nr_buffer_free(&kept);
    if (st == NR_OK) doc->text[0] = 0;
    return st;
}

nr_status nr_clean(nr_prose_set *s, const nr_clean_options *o, nr_clean_counts *counts, nr_error *err)
{
    cleaner c = {.options = o, .counts = counts, .err = err};
    nr_status st = NR_OK;
    size_t kept = 0;
    counts->documents += s->count;
    counts->bytes += nr_prose_bytes(s);
    for (size_t i = 0; i < s->count && st == NR_OK; i++) st = clean_document(&c, &s->items[i]);
    for (size_t i = 0; i < s->count && st == NR_OK; i++) {
        nr_prose doc = s->items[i];
        if (doc.text[0]) {
            s->items[kept++] = doc;
        } else {
            free(doc.text);
            free(doc.source);
        }
    }
    if (st == NR_OK) s->count = kept;
    nr_key_free(&c.paragraphs);
    nr_key_free(&c.runs);
    free(c.hashes);
    return st;
}
