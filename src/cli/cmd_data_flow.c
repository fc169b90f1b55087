/*
 * cmd_data_flow.c - nres data run | read | language | dedup | near | quality:
 * from a crawl to text for training, step by step or all in one.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/data_flow.h"
#include "data/tokens.h"
#include "prepare/pipeline.h"
#include "prepare/quality.h"

extern const nr_command nr_command_data;

static const char *output, *field = "text", *extraction = "main", *language_model, *dedup = "paragraphs", *quality_model, *tokenizer;
static nr_list languages, good, random_text;
static double language_share = 0.5, paragraph_share = 0.8, dedup_error, near_share, quality_threshold = 0.5, held_out = 0.1;
static size_t part_bytes = 64u << 20, dedup_memory = (size_t)1 << 30, threads, epochs = 5;
static bool json, bullets = true, alt = true, keep_work;

static const nr_option options[] = {
    {"output", 'o', 's', "FOLDER", "", &output, 0, 0},
    {"field", 0, 's', "NAME", "", &field, 0, 0},
    {"json", 0, 'b', NULL, "", &json, 0, 0},
    {"extract", 0, 's', "WHAT", "run, read: of pages keep the main text, all text or none (the page as it is) [main]", &extraction, 0, 0},
    {"bullets", 0, 'b', NULL, "run, read: marks before the items of lists [on]", &bullets, 0, 0},
    {"alt", 0, 'b', NULL, "run, read: descriptions of pictures [on]", &alt, 0, 0},
    {"language-model", 0, 's', "FILE", "run, language: fastText model that tells languages apart (scripts/fetch-language-model.sh)", &language_model, 0, 0},
    {"languages", 0, 'l', "CODE", "run, language: keep documents in these [all]", &languages, 0, 0},
    {"language-share", 0, 'f', "P", "run, language: least certainty of a document's language [0.5]", &language_share, 0, 1},
    {"paragraph-share", 0, 'f', "P", "run, language: a paragraph so certain to be in another goes; over 1: none does [0.8]", &paragraph_share, 0, 2},
    {"dedup", 0, 's', "WHAT", "run, dedup: of equal paragraphs or documents keep the first, or none: all [paragraphs]", &dedup, 0, 0},
    {"dedup-error", 0, 'f', "P", "run, dedup: look for repeats in one pass, with this probability to drop what is new; 0: exactly, in two [0]", &dedup_error, 0, 0.5},
    {"dedup-memory", 0, 'u', "BYTES", "run, dedup: most memory of the one pass [1 GiB]", &dedup_memory, 65536, 1e15},
    {"near-share", 0, 'f', "P", "run, near: drop documents with so many runs of five words in common with an earlier one; 0: off [run 0, near 0.8]", &near_share, 0, 1},
    {"quality-model", 0, 's', "FILE", "run, quality: classifier made by nres data quality train", &quality_model, 0, 0},
    {"quality-threshold", 0, 'f', "P", "run, quality: least share of good [0.5]", &quality_threshold, 0, 1},
    {"good", 0, 'l', "PATH", "quality train: text that is good", &good, 0, 0},
    {"random", 0, 'l', "PATH", "quality train: text of any kind", &random_text, 0, 0},
    {"held-out", 0, 'f', "P", "quality train: share of the documents to measure on [0.1]", &held_out, 0.01, 0.9},
    {"epochs", 0, 'u', "N", "quality train: passes over the text [5]", &epochs, 1, 1000},
    {"tokenizer", 0, 's', "MODEL", "run: put the text's tokens for this model into the cache, where training finds them", &tokenizer, 0, 0},
    {"part-bytes", 0, 'u', "N", "run and steps: a file of the result ends when it has so many [64 MiB]", &part_bytes, 1, 1e15},
    {"keep-work", 0, 'b', NULL, "run: keep the results of the steps in between", &keep_work, 0, 0},
    {"threads", 't', 'u', "N", "run and steps: threads; 0: as many as cores [0]", &threads, 0, 4096},
};

const nr_option *nr_data_flow_options(size_t *count, size_t *shared)
{
    *shared = 3;
    *count = NR_COUNT(options);
    return options;
}

typedef enum { RUN, READ, LANGUAGE, DEDUP, NEAR, QUALITY, VERBS } verb;
static const char *const verbs[VERBS] = {"run", "read", "language", "dedup", "near", "quality"};

static verb verb_of(const char *word)
{
    size_t i = 0;
    while (i < VERBS && strcmp(verbs[i], word) != 0) i++;
    return (verb)i;
}

bool nr_data_flow_knows(const char *word) { return verb_of(word) != VERBS; }

/* ---- counts ---- */

/* last: the step of the row before, kept by the caller. */
static void print_row(const char *step, const char *text, uint64_t value, char last[16])
{
    if (strcmp(last, step) != 0) printf("%s\n", step);
    snprintf(last, 16, "%s", step);
    printf("  %-64s %14llu\n", text, (unsigned long long)value);
}

/* Steps that counted nothing didn't run. */
static bool step_ran(const nr_counts *c, const char *step)
{
    uint64_t sum = 0;
#define NR_X(s, name, text) \
    if (strcmp(#s, step) == 0) sum += c->v.s##_##name;
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
    return sum > 0;
}

static void print_counts(const nr_counts *c)
{
    char last[16] = "";
#define NR_X(step, name, text) \
    if (step_ran(c, #step)) print_row(#step, text, c->v.step##_##name, last);
    NR_FLOW_COUNTS(NR_X)
#undef NR_X
    if (c->language_count > 0) printf("languages                 documents     paragraphs          bytes\n");
    for (size_t i = 0; i < c->language_count; i++)
        printf("  %-16s %16llu %14llu %14llu\n", c->languages[i].name, (unsigned long long)c->languages[i].documents,
               (unsigned long long)c->languages[i].paragraphs, (unsigned long long)c->languages[i].bytes);
}

static void print_json(json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
    if (text) puts(text);
    free(text);
    json_decref(j);
}

/* ---- the pipeline ---- */

/* "" or what is wrong with the words. */
static const char *set_steps(nr_pipeline_options *o, verb v)
{
    bool whole = v == RUN;
    if (strcmp(extraction, "main") != 0 && strcmp(extraction, "all") != 0 && strcmp(extraction, "none") != 0)
        return "--extract: expected main, all or none";
    o->read = (nr_read_options){.field = field, .pages_as_they_are = strcmp(extraction, "none") == 0,
                                .main = {strcmp(extraction, "all") == 0, !bullets, !alt}};
    if (o->read.pages_as_they_are && v != READ) return "--extract none: only nres data read hands pages on";
    if (whole || v == LANGUAGE) o->language_model = language_model;
    if (v == LANGUAGE && !language_model) return "language: --language-model is needed";
    if (languages.count > 0 && !o->language_model) return "--languages needs --language-model";
    if (whole || v == DEDUP) {
        if (strcmp(dedup, "paragraphs") == 0) o->dedup = NR_DEDUP_PARAGRAPHS;
        else if (strcmp(dedup, "documents") == 0) o->dedup = NR_DEDUP_DOCUMENTS;
        else if (strcmp(dedup, "none") != 0 || v == DEDUP) return "--dedup: expected paragraphs, documents or (in run) none";
    }
    if (whole || v == NEAR) o->near = v == NEAR && near_share == 0 ? 0.8 : near_share;
    if (whole || v == QUALITY) o->quality_model = quality_model;
    if (v == QUALITY && !quality_model) return "quality apply: --quality-model is needed";
    return NULL;
}

/* Tokens of the finished text, where training looks for them. */
static nr_status tokenise(nr_error *err)
{
    nr_paths parts = {0};
    nr_tokenizer *t = NULL;
    nr_tokens *tokens = NULL;
    nr_settings s;
    const char *const path[] = {output};
    nr_settings_default(&s);
    nr_status st = nr_inputs_find(&parts, path, 1, err);
    nr_files files = {(const char *const *)parts.paths, parts.count};
    if (st == NR_OK) st = nr_tokenizer_open(&t, tokenizer, nr_cli_hub_folder(), err);
    if (st == NR_OK) st = nr_tokens_open(&tokens, &files, t, &s, nr_cli_cache_folder(), nr_cli_listener(false), err);
    if (st == NR_OK && !json) printf("tokens\n  %-64s %14zu\n", "tokens", nr_tokens_total(tokens));
    nr_tokens_close(tokens);
    nr_tokenizer_close(t);
    nr_paths_free(&parts);
    return st;
}

static int pipeline(verb v, const nr_list *paths)
{
    nr_pipeline_options o = {.paths = paths->items, .path_count = paths->count, .folder = output, .languages = languages.items,
                             .language_count = languages.count, .language_share = language_share, .paragraph_share = paragraph_share,
                             .dedup_error = dedup_error, .dedup_memory = dedup_memory, .quality_threshold = quality_threshold, .part_bytes = part_bytes, .keep_work = keep_work};
    nr_counts c = {0};
    nr_error err;
    const char *wrong = set_steps(&o, v);
    if (wrong) return nr_cli_usage(&nr_command_data, "%s", wrong);
    nr_status st = nr_pipeline_run(&o, &c, nr_cli_listener(false), &err);
    nr_cli_live_end();
    if (st == NR_OK && !json) print_counts(&c);
    if (st == NR_OK && json) print_json(nr_counts_to_json(&c));
    nr_counts_free(&c);
    if (st == NR_OK && tokenizer && v == RUN) st = tokenise(&err);
    return st == NR_OK ? 0 : nr_cli_fail(&err);
}

/* ---- quality ---- */

static int train_quality(void)
{
    nr_quality_training t = {.good = good.items, .good_count = good.count, .random = random_text.items, .random_count = random_text.count,
                             .field = field, .held_out = held_out, .epochs = epochs, .out = output};
    nr_quality_result r = {0};
    nr_error err;
    if (good.count == 0 || random_text.count == 0) return nr_cli_usage(&nr_command_data, "quality train: --good and --random are needed");
    nr_status st = nr_quality_train(&t, &r, nr_cli_listener(false), &err);
    nr_cli_live_end();
    if (st != NR_OK) return nr_cli_fail(&err);
    if (json) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:f, s:f}", "good", (json_int_t)r.good, "random", (json_int_t)r.random, "held_out_good",
                             (json_int_t)r.held_good, "held_out_random", (json_int_t)r.held_random, "precision", r.precision, "recall",
                             r.recall));
        return 0;
    }
    printf("%s\n  documents to train on: %zu good, %zu random\n  held out: %zu good, %zu random\n", output, r.good, r.random, r.held_good,
           r.held_random);
    printf("  precision %.3f, recall %.3f of good at a share of 0.5\n", r.precision, r.recall);
    return 0;
}

int nr_data_flow_run(int argc, char **argv)
{
    verb v = verb_of(argv[0]);
    nr_list paths = {0};
    bool training = v == QUALITY && argc > 1 && strcmp(argv[1], "train") == 0;
    if (v == QUALITY) {
        if (argc < 2 || (!training && strcmp(argv[1], "apply") != 0 && argv[1][0] != '-'))
            return nr_cli_usage(&nr_command_data, "quality: expected train or apply, found \"%.100s\"", argc > 1 ? argv[1] : "");
        if (argv[1][0] != '-') argc--, argv++;
    }
    int code = nr_cli_parse(&nr_command_data, options, NR_COUNT(options), argc, argv, &paths, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!output) return nr_cli_usage(&nr_command_data, "%s: -o is needed", verbs[v]);
    nr_threads_set(threads);
    if (training) return paths.count > 0 ? nr_cli_usage(&nr_command_data, "quality train: unexpected \"%.100s\"", paths.items[0]) : train_quality();
    if (paths.count == 0) return nr_cli_usage(&nr_command_data, "%s: expected files or folders to read, found none", verbs[v]);
    return pipeline(v, &paths);
}
