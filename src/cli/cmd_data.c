/*
 * cmd_data.c - nres data extract | clean | split: from web pages, manuals and
 * rows to documents of prose for training and evaluation. The steps for crawls
 * are in cmd_data_flow.c.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/data_flow.h"
#include "prepare/prep.h"

extern const nr_command nr_command_data;

static const char *output, *field = "text", *title_mark, *strip, *label, *kind = "auto", *language = "any";
static nr_list drop_classes, drop_sections;
static size_t document_bytes, min_words, min_document_bytes, seed = 1, max_document_bytes;
static size_t max_train_bytes, max_validation_bytes, max_test_bytes;
static double near_share, min_letters, validation_share = 0.02, test_share = 0.02;
static bool lines, json, keep_hidden, boilerplate = true, ended = true;

#define COMMON                                                                                                 \
    {"output", 'o', 's', "OUT", "file to write; split: the start of three names, OUT.train.jsonl ...; run and its steps: a folder", &output, 0, 0}, \
    {"field", 0, 's', "NAME", "field of a JSONL row that holds the text [text]", &field, 0, 0},                \
    {"json", 0, 'b', NULL, "print the counts as JSON", &json, 0, 0}

static const nr_option extract_options[] = {
    COMMON,
    {"kind", 0, 's', "KIND", "extract: read every file as auto (by its ending), html, text or jsonl [auto]", &kind, 0, 0},
    {"label", 0, 's', "NAME", "extract: put before the source of each document", &label, 0, 0},
    {"drop-class", 0, 'l', "NAME", "extract: leave out elements of this class, id or tag", &drop_classes, 0, 0},
    {"drop-section", 0, 'l', "TITLE", "extract: leave out what stands under this heading", &drop_sections, 0, 0},
    {"keep-hidden", 0, 'b', NULL, "extract: read elements marked hidden too", &keep_hidden, 0, 0},
    {"title-mark", 0, 's', "TEXT", "extract: what parts a title from the text in a JSONL row", &title_mark, 0, 0},
    {"strip", 0, 's', "PATTERN", "extract: take this off the start of paragraphs; # stands for digits", &strip, 0, 0},
    {"lines", 0, 'b', NULL, "extract: every line is a paragraph", &lines, 0, 0},
    {"document-bytes", 0, 'u', "N", "extract: begin a new document of a text file or a row after N bytes; 0: never [0]", &document_bytes, 0, 0},
};
static const nr_option clean_options[] = {
    COMMON,
    {"language", 0, 's', "L", "clean: keep paragraphs in en, fr, de or any [any]", &language, 0, 0},
    {"min-words", 0, 'u', "N", "clean: shortest paragraph [8]", &min_words, 0, 1e6},
    {"min-letters", 0, 'f', "P", "clean: least share of letters in a paragraph [0.8]", &min_letters, 0, 1},
    {"min-document-bytes", 0, 'u', "N", "clean: least prose of a document [200]", &min_document_bytes, 0, 0},
    {"near", 0, 'f', "P", "clean: share of runs of eight words seen before that makes a near-duplicate; 1: off [0.5]", &near_share, 0.01, 1},
    {"boilerplate", 0, 'b', NULL, "clean: drop licence terms, addresses, translator's notes [on]", &boilerplate, 0, 0},
    {"ended", 0, 'b', NULL, "clean: drop paragraphs that don't end as a sentence [on]", &ended, 0, 0},
};
static const nr_option split_options[] = {
    COMMON,
    {"validation-share", 0, 'f', "P", "split: share of the sources [0.02]", &validation_share, 0, 1},
    {"test-share", 0, 'f', "P", "split: share of the sources [0.02]", &test_share, 0, 1},
    {"max-train-bytes", 0, 'u', "N", "split: most text in this part; 0: all [0]", &max_train_bytes, 0, 0},
    {"max-validation-bytes", 0, 'u', "N", "split: most text in this part; 0: all [0]", &max_validation_bytes, 0, 0},
    {"max-test-bytes", 0, 'u', "N", "split: most text in this part; 0: all [0]", &max_test_bytes, 0, 0},
    {"max-document-bytes", 0, 'u', "N", "split: cut documents of validation and test; 0: never [0]", &max_document_bytes, 0, 0},
    {"seed", 's', 'u', "S", "split: another deal [1]", &seed, 0, 0},
};

/* The help lists the options of all steps, the common ones once. */
static const nr_option *option_list(size_t *count)
{
    static nr_option all[NR_COUNT(extract_options) + NR_COUNT(clean_options) + NR_COUNT(split_options) + 32];
    size_t n = 0, shared = 3, flow_count, flow_shared;
    const nr_option *flow = nr_data_flow_options(&flow_count, &flow_shared);
    for (size_t i = 0; i < NR_COUNT(extract_options); i++) all[n++] = extract_options[i];
    for (size_t i = shared; i < NR_COUNT(clean_options); i++) all[n++] = clean_options[i];
    for (size_t i = shared; i < NR_COUNT(split_options); i++) all[n++] = split_options[i];
    for (size_t i = flow_shared; i < flow_count && n < NR_COUNT(all); i++) all[n++] = flow[i];
    *count = n;
    return all;
}

/* ---- counts ---- */

typedef struct {
    json_t *object;
} report;

static void row(report *r, const char *key, const char *text, size_t value)
{
    if (json)
        json_object_set_new(r->object, key, json_integer((json_int_t)value));
    else
        printf("  %-44s %12zu\n", text, value);
}

static int finish(report *r, const char *what)
{
    if (json && r->object) {
        json_object_set_new(r->object, "command", json_string(what));
        char *text = json_dumps(r->object, JSON_COMPACT | JSON_SORT_KEYS);
        if (text) puts(text);
        free(text);
    }
    json_decref(r->object);
    return 0;
}

static report begin(const char *title)
{
    report r = {json ? json_object() : NULL};
    if (!json) printf("%s\n", title);
    return r;
}

/* ---- extract ---- */

static bool kind_of(nr_extract_kind *k)
{
    static const char *const names[] = {"auto", "html", "text", "jsonl"};
    for (size_t i = 0; i < NR_COUNT(names); i++)
        if (strcmp(kind, names[i]) == 0) return *k = (nr_extract_kind)i, true;
    return false;
}

static int extract(const nr_list *paths)
{
    nr_extract_options o = {.field = field, .title_mark = title_mark, .strip = strip, .label = label,
                            .document_bytes = document_bytes, .lines = lines,
                            .html = {drop_classes.items, drop_classes.count, drop_sections.items, drop_sections.count, keep_hidden}};
    nr_extract_counts c = {0};
    nr_prose_set set = {0};
    nr_error err;
    if (!kind_of(&o.kind))
        return nr_cli_usage(&nr_command_data, "--kind: expected auto, html, text or jsonl, found \"%s\"", kind);
    nr_status st = nr_extract(&set, paths->items, paths->count, &o, &c, nr_cli_listener(false), &err);
    if (st == NR_OK) st = nr_prose_write_jsonl(&set, output, &err);
    nr_prose_free(&set);
    if (st != NR_OK) return nr_cli_fail(&err);
    report r = begin(output);
    row(&r, "files", "files read", c.files);
    row(&r, "skipped_files", "left out: files too large or too deep", c.skipped_files);
    row(&r, "dropped_elements", "left out: elements that are no running text", c.html.dropped_elements);
    row(&r, "dropped_sections", "left out: sections", c.html.dropped_sections);
    row(&r, "dropped_links", "left out: blocks and tables of links", c.html.dropped_links);
    row(&r, "dropped_code", "left out: blocks of code", c.html.dropped_code);
    row(&r, "empty_documents", "left out: documents without text", c.empty_documents);
    row(&r, "documents", "documents", c.documents);
    row(&r, "paragraphs", "paragraphs", c.paragraphs);
    row(&r, "bytes", "bytes of text", c.bytes);
    return finish(&r, "extract");
}

/* ---- clean and split read JSONL ---- */

static nr_status read_all(nr_prose_set *set, const nr_list *paths, nr_error *err)
{
    for (size_t i = 0; i < paths->count; i++) NR_TRY(nr_prose_read_jsonl(set, paths->items[i], field, NULL, err));
    return NR_OK;
}

static int clean(const nr_list *paths, const nr_clean_options *o)
{
    nr_clean_counts c = {0};
    nr_prose_set set = {0};
    nr_error err;
    nr_status st = read_all(&set, paths, &err);
    if (st == NR_OK) st = nr_clean(&set, o, &c, &err);
    if (st == NR_OK) st = nr_prose_write_jsonl(&set, output, &err);
    nr_prose_free(&set);
    if (st != NR_OK) return nr_cli_fail(&err);
    report r = begin(output);
    row(&r, "documents_read", "documents read", c.documents);
    row(&r, "paragraphs_read", "paragraphs read", c.paragraphs);
    row(&r, "bytes_read", "bytes read", c.bytes);
#define NR_X(name, text) row(&r, "dropped_" #name, "paragraphs dropped: " text, c.name##_);
    NR_CLEAN_REASONS(NR_X)
#undef NR_X
    row(&r, "dropped_poor_documents", "documents dropped: too little prose", c.poor_documents);
    row(&r, "dropped_empty_documents", "documents dropped: nothing left", c.empty_documents);
    row(&r, "documents", "documents kept", c.kept_documents);
    row(&r, "paragraphs", "paragraphs kept", c.kept_paragraphs);
    row(&r, "bytes", "bytes kept", c.kept_bytes);
    return finish(&r, "clean");
}

static nr_status write_parts(nr_prose_set parts[NR_PARTS], nr_error *err)
{
    for (size_t i = 0; i < NR_PARTS; i++) {
        char *path = nr_format("%s.%s.jsonl", output, nr_part_names[i]);
        if (!path) return nr_fail(err, NR_E_MEMORY, "split: out of memory for a name");
        nr_status st = nr_prose_write_jsonl(&parts[i], path, err);
        free(path);
        if (st != NR_OK) return st;
    }
    return NR_OK;
}

static int split(const nr_list *paths)
{
    nr_split_options o = {.share = {[NR_PART_VALIDATION] = validation_share, [NR_PART_TEST] = test_share},
                          .max_bytes = {max_train_bytes, max_validation_bytes, max_test_bytes},
                          .max_document_bytes = max_document_bytes, .seed = seed};
    nr_split_counts c = {0};
    nr_prose_set set = {0}, parts[NR_PARTS] = {0};
    nr_error err;
    nr_status st = read_all(&set, paths, &err);
    if (st == NR_OK) st = nr_split(parts, &set, &o, &c, &err);
    if (st == NR_OK) st = write_parts(parts, &err);
    for (size_t i = 0; i < NR_PARTS; i++) nr_prose_free(&parts[i]);
    nr_prose_free(&set);
    if (st != NR_OK) return nr_cli_fail(&err);
    report r = begin(output);
    row(&r, "repeated_paragraphs", "paragraphs dropped: in another part too", c.repeated_paragraphs);
    row(&r, "empty_documents", "documents dropped: nothing left", c.empty_documents);
    row(&r, "over_limit_documents", "documents left out: over the limit", c.over_limit_documents);
    row(&r, "cut_documents", "documents cut", c.cut_documents);
    for (size_t i = 0; i < NR_PARTS; i++) {
        char key[3][40], text[3][60];
        snprintf(key[0], sizeof key[0], "%s_documents", nr_part_names[i]);
        snprintf(key[1], sizeof key[1], "%s_paragraphs", nr_part_names[i]);
        snprintf(key[2], sizeof key[2], "%s_bytes", nr_part_names[i]);
        snprintf(text[0], sizeof text[0], "%s: documents", nr_part_names[i]);
        snprintf(text[1], sizeof text[1], "%s: paragraphs", nr_part_names[i]);
        snprintf(text[2], sizeof text[2], "%s: bytes", nr_part_names[i]);
        row(&r, key[0], text[0], c.documents[i]);
        row(&r, key[1], text[1], c.paragraphs[i]);
        row(&r, key[2], text[2], c.bytes[i]);
    }
    return finish(&r, "split");
}

/* ---- the command ---- */

static int run(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (nr_data_flow_knows(what)) return nr_data_flow_run(argc - 1, argv + 1);
    bool is_extract = strcmp(what, "extract") == 0, is_clean = strcmp(what, "clean") == 0, is_split = strcmp(what, "split") == 0;
    const nr_option *options = is_clean ? clean_options : is_split ? split_options : extract_options;
    size_t count = is_clean ? NR_COUNT(clean_options) : is_split ? NR_COUNT(split_options) : NR_COUNT(extract_options);
    bool named = is_extract || is_clean || is_split;
    nr_clean_options cleaning;
    nr_list paths = {0};
    nr_error err;
    nr_clean_defaults(&cleaning);
    min_words = cleaning.min_words;
    min_document_bytes = cleaning.min_document_bytes;
    near_share = cleaning.near;
    min_letters = cleaning.min_letters;
    int code = nr_cli_parse(&nr_command_data, options, count, named ? argc - 1 : argc, named ? argv + 1 : argv, &paths, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!named)
        return nr_cli_usage(&nr_command_data, "expected run, read, language, dedup, near, quality, extract, clean or split%s%.100s%s", *what ? ", found \"" : "", what,
                            *what ? "\"" : "");
    if (!output) return nr_cli_usage(&nr_command_data, "%s: -o is needed", what);
    if (paths.count == 0) return nr_cli_usage(&nr_command_data, "%s: expected files or folders to read, found none", what);
    if (is_extract) return extract(&paths);
    if (is_split) return split(&paths);
    cleaning = (nr_clean_options){.min_words = min_words, .min_letters = min_letters, .min_document_bytes = min_document_bytes, .near = near_share,
                                  .boilerplate = boilerplate, .ended = ended};
    if (nr_language_find(&cleaning.language, language, &err) != NR_OK) return nr_cli_usage(&nr_command_data, "%s", err.message);
    return clean(&paths, &cleaning);
}

const nr_command nr_command_data = {
    .name = "data",
    .summary = "make text for training out of crawls, dumps, pages and rows",
    .usage = "nres data run|read|language|dedup|near PATH... -o FOLDER [options]\n"
             "       nres data quality train --good PATH... --random PATH... -o MODEL\n"
             "       nres data quality apply PATH... --quality-model MODEL -o FOLDER\n"
             "       nres data extract|clean|split PATH... -o OUT [options]",
    .examples = "nres data run crawl/*.warc.gz -o text --language-model lid.176.ftz --languages fr --near-share 0.8\n"
                "nres data read dump.xml.bz2 -o wiki --json\n"
                "nres data extract manual/fr -o fr.jsonl --label manual\n"
                "nres data clean fr.jsonl -o fr.clean.jsonl --language fr\n"
                "nres data split fr.clean.jsonl -o fr --test-share 0.05\n",
    .run = run,
    .options = option_list,
};
