/*
 * prep.h - from raw files to documents of prose: extract, clean, split.
 *
 * A document is a source and a text; the text is paragraphs with one empty
 * line between two. Whole sets are held in memory. Every result depends on the
 * inputs alone: folders are read in the order of their sorted paths.
 */
#ifndef NR_PREP_H
#define NR_PREP_H

#include "base/base.h"

/* ---- prep_documents.c: the set and its JSONL files ---- */

typedef struct {
    char *source, *text;
} nr_prose;

typedef struct {
    nr_prose *items;
    size_t count, cap;
} nr_prose_set;

/* Takes copies of both strings. */
nr_status nr_prose_add(nr_prose_set *s, const char *source, const char *text, nr_error *err);
void nr_prose_free(nr_prose_set *s);
/* Appends the documents of a JSONL file: `field` is the text, "source" its
 * source; without one, the file's name and line number. Where `title_mark` is
 * not empty, what stands before it in the text is a title: it becomes part of
 * the source, and documents of one title that are written next to each other
 * by the caller stay recognisable. */
nr_status nr_prose_read_jsonl(nr_prose_set *s, const char *path, const char *field, const char *title_mark,
                              nr_error *err);
/* One object a line, {"source", "text"}; written atomically. */
nr_status nr_prose_write_jsonl(const nr_prose_set *s, const char *path, nr_error *err);
size_t nr_prose_bytes(const nr_prose_set *s);

/* ---- prep_text.c: characters, words, paragraphs ---- */

/* Reads one UTF-8 character: its length, 0 where the bytes are not UTF-8. */
size_t nr_utf8_read(const char *s, size_t n, uint32_t *code);
void nr_utf8_write(nr_buffer *b, uint32_t code);
bool nr_utf8_valid(const char *s, size_t n);
/* Appends bytes in Windows-1252 as UTF-8. */
void nr_utf8_from_1252(nr_buffer *b, const char *s, size_t n);
/* Lower case of a letter of Latin-1 or Latin Extended-A, else the code itself. */
uint32_t nr_lower(uint32_t code);
bool nr_is_letter(uint32_t code);

/* Appends one paragraph in its plain form: every run of white space one space
 * (no-break and thin ones too), none at either end; control, zero-width and
 * soft-hyphen characters gone; C1 codes read as the Windows-1252 characters
 * they stand for in wrongly labelled files; left-over HTML tags, twice-escaped
 * entities and roff escapes removed; ``quotes'' straight. Bytes that are not UTF-8 are dropped. */
void nr_text_plain(nr_buffer *b, const char *s, size_t n);

/* Walks the paragraphs of a text: lines up to an empty one. */
bool nr_next_paragraph(const char **text, const char **start, size_t *size);
/* Walks words: runs of letters, with apostrophes cut ("l'eau" is l, eau). */
bool nr_next_word(const char **text, const char *end, const char **start, size_t *size);
/* Hash of a text's words alone: case, punctuation and spacing don't count. */
uint64_t nr_words_hash(const char *s, size_t n, size_t *words);

/* ---- prep_language.c: English, French, German by function words ---- */

typedef enum { NR_LANGUAGE_ANY, NR_LANGUAGE_EN, NR_LANGUAGE_FR, NR_LANGUAGE_DE, NR_LANGUAGE_OTHER } nr_language;
#define NR_LANGUAGES 5
/* "en", "fr", "de", "any"; NR_E_USAGE otherwise. */
nr_status nr_language_find(nr_language *l, const char *name, nr_error *err);
/* Share of the words that are function words of each language, plus a tenth of
 * the share of its own letters. Returns the number of words. */
size_t nr_language_scores(double scores[NR_LANGUAGES], const char *s, size_t n);
/* Whether s reads as `l`: its score is at least 0.12 and 1.5 times every other. */
bool nr_language_is(nr_language l, const char *s, size_t n);
/* The language s reads as, or NR_LANGUAGE_ANY where none is clear. */
nr_language nr_language_guess(const char *s, size_t n);
/* For tests: word i of the list, NULL after the last. */
const char *nr_language_word(nr_language l, size_t i);

/* ---- prep_html.c ---- */

typedef struct {
    const char *const *drop_classes;  /* elements with such a class, id or tag are left out */
    size_t drop_class_count;
    const char *const *drop_sections; /* sections under such a heading are left out, case aside */
    size_t drop_section_count;
    bool keep_hidden;                 /* elements marked hidden are read: pages whose script would show them */
} nr_html_options;

typedef struct {
    size_t blocks, dropped_elements, dropped_sections, dropped_links, dropped_code;
} nr_html_counts;

/* Appends the paragraphs of a page's prose. Left out: what is not running text
 * (script, style, navigation, headers, footers, forms, pre), blocks and tables
 * that are mostly links, blocks that are mostly code. Pages over 16 MiB or
 * with more than 300,000 tags are refused. counts may be NULL, else added to. */
nr_status nr_html_prose(nr_buffer *out, const char *html, size_t n, const nr_html_options *o,
                        nr_html_counts *counts, const char *where, nr_error *err);

/* ---- prep_extract.c: files and folders to documents ---- */

typedef enum { NR_EXTRACT_AUTO, NR_EXTRACT_HTML, NR_EXTRACT_TEXT, NR_EXTRACT_JSONL } nr_extract_kind;

typedef struct {
    nr_extract_kind kind;   /* auto: by the file's ending */
    const char *field;      /* of JSONL */
    const char *title_mark; /* of JSONL, or NULL */
    const char *strip;      /* a prefix such as "Context (1): ": '#' stands for digits; NULL: none */
    const char *label;      /* put before each source, or NULL */
    size_t document_bytes;  /* plain text, rows: a new document after this many; 0: the file, the row is one */
    bool lines;             /* plain text: each line is a paragraph of its own */
    nr_html_options html;
} nr_extract_options;

typedef struct {
    size_t files, skipped_files, documents, empty_documents, paragraphs, bytes;
    nr_html_counts html;
} nr_extract_counts;

/* Folders are walked for .html, .htm, .xhtml, .txt, .jsonl; links are not followed. */
nr_status nr_extract(nr_prose_set *out, const char *const *paths, size_t count, const nr_extract_options *o,
                     nr_extract_counts *counts, const nr_listener *l, nr_error *err);

/* ---- prep_clean.c ---- */

/* Why a paragraph goes: X(name, text) */
#define NR_CLEAN_REASONS(X)                                   \
    X(short, "too short")                                     \
    X(unended, "no end of a sentence")                        \
    X(letters, "too few letters")                             \
    X(markup, "markup or code")                               \
    X(boilerplate, "licence, address or translator's note")   \
    X(language, "another language")                           \
    X(duplicate, "seen before")                               \
    X(near_duplicate, "nearly seen before")

typedef struct {
    nr_language language;
    size_t min_words;          /* of a paragraph */
    double min_letters;        /* share of a paragraph's visible characters that are letters */
    size_t min_document_bytes; /* of what is left of a document */
    double near;               /* share of eight-word runs seen before that makes a near-duplicate; >= 1: off */
    bool boilerplate;          /* drop licence and address paragraphs */
    bool ended;                /* drop paragraphs that don't end as a sentence */
} nr_clean_options;
void nr_clean_defaults(nr_clean_options *o);

typedef struct {
    size_t documents, kept_documents, poor_documents, empty_documents;
    size_t paragraphs, kept_paragraphs, bytes, kept_bytes;
#define NR_X(name, text) size_t name##_;
    NR_CLEAN_REASONS(NR_X)
#undef NR_X
} nr_clean_counts;

/* Cleans a set in place. */
nr_status nr_clean(nr_prose_set *s, const nr_clean_options *o, nr_clean_counts *counts, nr_error *err);

/* ---- prep_split.c ---- */

typedef enum { NR_PART_TRAIN, NR_PART_VALIDATION, NR_PART_TEST, NR_PARTS } nr_part;
extern const char *const nr_part_names[NR_PARTS];

typedef struct {
    double share[NR_PARTS];      /* of validation and test; the rest is training */
    size_t max_bytes[NR_PARTS];  /* 0: no limit; what is over is left out */
    size_t max_document_bytes;   /* of validation and test: later paragraphs are left out; 0: no limit */
    uint64_t seed;
} nr_split_options;

typedef struct {
    size_t documents[NR_PARTS], paragraphs[NR_PARTS], bytes[NR_PARTS];
    size_t repeated_paragraphs, empty_documents, over_limit_documents, cut_documents;
} nr_split_counts;

/* Deals documents out by a hash of their text. All documents of one source go
 * to the same part; a part with a share gets at least one source where there
 * are three documents or more; a paragraph that stands in more than one part stays in the
 * first of test, validation, train. out[] are filled, `s` is only read. */
nr_status nr_split(nr_prose_set out[NR_PARTS], const nr_prose_set *s, const nr_split_options *o,
                   nr_split_counts *counts, nr_error *err);

#endif
