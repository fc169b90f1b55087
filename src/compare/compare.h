/*
 * compare.h - the inside of nr_compare and nr_tune.
 *
 *   yaml.c             YAML into a tree that knows its lines
 *   recipe.c           the tree into texts, settings and rows; recipe_words.c variables, names and refusals
 *   grid.c             rows into runs, each named by what differs; identity.c what decides a run's numbers
 *   measure.c          one run: train, score, time; record.c its record
 *   task_scores.c      the recipe's tasks: what they are, a run's scores, their means
 *   reuse.c            records of other comparisons that count here too
 *   runner.c           all runs: which are done, processes, progress
 *   summary.c          records into one JSON: means, intervals, ranks
 *   compare_table.c    that JSON as text, Markdown and CSV, compare_tasks.c its task scores,
 *   compare_pairs.c    its differences seed by seed, compare_cells.c words of all three
 *   compare_figures.c  the drawings, compare_page.c the page
 *   spectrum.c         singular values of a matrix
 *   write_recipe.c     runs as a recipe again
 *   halving.c          nr_tune
 */
#ifndef NR_COMPARE_H
#define NR_COMPARE_H

#include "model/extension.h"
#include "tasks/tasks.h"

/* ---- yaml.c ---- */

typedef struct nr_yaml nr_yaml;
struct nr_yaml {
    char kind;        /* 's' scalar, 'l' list, 'm' mapping */
    size_t line;      /* from 1 */
    char *text;       /* of a scalar */
    char *key;        /* of an item of a mapping */
    nr_yaml *items;
    size_t count;
};
nr_status nr_yaml_load(nr_yaml *out, const char *path, nr_error *err);
void nr_yaml_free(nr_yaml *y);
/* The item of a mapping, or NULL. */
const nr_yaml *nr_yaml_find(const nr_yaml *y, const char *key);

#define NR_BYTES_A_TOKEN 4 /* about, for the time that scoring takes */

/* ---- recipe.c ---- */

typedef struct {
    char *name;            /* of its column */
    int domain;            /* NR_OLD, NR_NEW of train.h */
    nr_paths train, validation;
    char *test;            /* or NULL */
} nr_recipe_text;

/* Multiple-choice tasks, as nres eval --tasks takes them. */
typedef struct {
    char *name;            /* "arc_challenge", or with its format "mmlu:paper" */
    int domain;            /* NR_OLD, NR_NEW: of its language */
    size_t line;
} nr_recipe_task;
typedef struct {
    nr_recipe_task *list;
    size_t count;
    nr_paths data;         /* folders of their files */
    nr_paths definitions;  /* folders of definitions; nres's own is the last */
    char *format;          /* of those named without one; NULL: the usual one */
    size_t limit, shots;
    bool shots_given;
} nr_recipe_tasks;

/* One setting of a row with the values that it takes in turn; the texts' names under "old" and "new" too. */
typedef struct {
    char name[64];
    const nr_yaml *values; /* a scalar, or a list of scalars; for texts a name, a list of names, or a list of such lists */
} nr_axis;

typedef struct {
    const char *name;      /* NULL: the method's */
    size_t line;
    nr_axis *axes;
    size_t count;
} nr_recipe_row;

enum { NR_ROW, NR_CONTROL_BACKBONE, NR_CONTROL_OLD_ONLY, NR_CONTROL_NEW_ONLY };
/* One run of the grid. */
typedef struct {
    char *name;            /* of its folder */
    char *label;           /* the row's name, or its method */
    char *group;           /* name without the seed */
    int role;              /* NR_ROW, NR_CONTROL_* */
    size_t line;           /* of the row */
    nr_settings s;
    bool *trains_on;       /* (texts) */
    char identity[65];     /* hash of all that its numbers depend on */
    char other_init[65];   /* the same with init's other value, which a method that has no init doesn't read; else as identity */
    char trained[65];      /* the same without what is measured, which changes nothing in training */
} nr_planned;

typedef struct {
    char *path, *folder;
    nr_yaml tree;
    const char *const *variables; /* NAME=VALUE */
    size_t variable_count;
    char *title, *model;
    nr_paths stands_on;    /* extensions that all runs stand on, the lowest first */
    nr_recipe_text *texts;
    size_t text_count;
    nr_recipe_row *rows;
    size_t row_count;
    bool controls[4];      /* by NR_CONTROL_* */
    /* how it is measured */
    size_t max_documents, context, batch_tokens, generate;
    bool best;             /* best/ instead of the last weights */
    bool spectra;
    bool test;             /* false: no test text is looked at, for nr_tune */
    nr_recipe_tasks tasks;
    nr_planned *runs;
    size_t run_count;
} nr_recipe;

/* task_folder: definitions of tasks that come with nres; NULL: none. */
nr_status nr_recipe_load(nr_recipe *r, const char *path, const char *const *variables, size_t count, const char *task_folder,
                         nr_error *err);
void nr_recipe_free(nr_recipe *r);

/* ---- recipe_words.c ---- */

extern const char *const nr_control_names[4]; /* "row", "backbone", "old-only", "new-only" */
/* Fails naming the recipe and the line. */
nr_status nr_recipe_fail(const nr_recipe *r, size_t line, nr_error *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The text with its $NAMEs replaced; malloc'ed. *typed (may be NULL): it begins with a variable of the command line. */
nr_status nr_recipe_expand(const nr_recipe *r, const nr_yaml *y, char **out, bool *typed, nr_error *err);
/* Number of the text of this name, or text_count. */
size_t nr_recipe_text_find(const nr_recipe *r, const char *name);
/* ["NAME", bytes] of a file. */
json_t *nr_file_identity(const char *path);

/* ---- grid.c ---- */
nr_status nr_grid_expand(nr_recipe *r, nr_error *err);

/* ---- identity.c ---- */
/* Gives every run its hashes; refuses a row that repeats another. */
nr_status nr_grid_identify(nr_recipe *r, nr_error *err);
/* Whether a record is one of this run. */
bool nr_record_is_of(const json_t *record, const nr_planned *run);

/* ---- spectrum.c ---- */

/* Singular values of a (rows, cols), the largest first: min(rows, cols) of them. */
nr_status nr_spectrum(double *values, const float *a, size_t rows, size_t cols, nr_error *err);
/* exp of the entropy of the values' shares of their sum: how many of them count. */
double nr_effective_rank(const double *values, size_t n);
/* Of the gate matrices of a model's feed-forward blocks (e NULL) or of an extension's adapters: NULL without any.
 * {"effective_rank", "of", "values": means over the layers of sorted values over the largest, at even places} */
json_t *nr_gate_spectrum(const nr_model *m, const nr_extension *e);

/* ---- task_scores.c ---- */

/* That every task is known, with its format. */
nr_status nr_recipe_tasks_check(const nr_recipe *r, nr_error *err);
/* That their files are there. */
nr_status nr_recipe_tasks_find(const nr_recipe *r, nr_error *err);
/* Everything that decides their scores, files by name and size; NULL without tasks. */
json_t *nr_recipe_tasks_identity(const nr_recipe *r);
/* About how many tokens a model reads for them, what a question shares with the one before it once; 0 without their files. */
double nr_recipe_tasks_tokens(const nr_recipe *r);
/* Scores of a model, by the recipe's names: {"domain", "task", "format", "decided_by", "accuracy", "stderr", "items",
 * "chance", "shots"}. *seconds: what it took. */
nr_status nr_recipe_tasks_score(json_t **out, double *seconds, const nr_recipe *r, const nr_model *m, const nr_tokenizer *t,
                                nr_extension *e, const nr_listener *l, nr_error *err);
/* Adds "tasks", "tasks_old" and "tasks_new" to a group of the summary: means over its runs, with standard errors. */
void nr_summary_tasks(json_t *group, const json_t *runs, const json_t *tasks);
/* [{"name", "domain", ...}] of the recipe, with what the first record says of them. */
json_t *nr_summary_task_columns(const nr_recipe *r, const json_t *runs);
/* Mean over a domain's tasks in an object of scores by name; NaN where one is missing. */
void nr_task_mean(double *accuracy, double *error, const json_t *scores, const json_t *columns, const char *domain);

/* ---- record.c: what a run left, as one JSON object ---- */
typedef struct {
    const nr_recipe *recipe;
    const nr_planned *run;
    const char *folder, *command;
    json_t *eval;          /* of nr_evaluate, or NULL */
    double generated_per_second;
    json_t *spectrum;      /* of nr_gate_spectrum, or NULL */
    json_t *tasks;         /* of nr_recipe_tasks_score, or NULL */
    double task_seconds;
    char backbone[65];     /* fingerprint of what it was measured on, or "" */
} nr_measured;
json_t *nr_record(const nr_measured *m, nr_error *err);
/* Gives a record the names and the role that its run has in this comparison; false: out of memory. */
bool nr_record_name(json_t *record, const nr_planned *run);

/* ---- measure.c ---- */

typedef struct {
    const nr_recipe *recipe;
    const char *output, *cache_folder, *hub_folder;
    bool alone;            /* one process of several: how measuring goes is written where the runner reads it */
} nr_compare_place;

/* Makes a run whole, from wherever it stands, and writes its record; a failure is recorded too. */
nr_status nr_measure(const nr_compare_place *p, const nr_planned *run, const nr_listener *l, nr_error *err);
nr_status nr_measure_write(const nr_compare_place *p, const nr_planned *run, json_t *record, nr_error *err);
/* Writes the record of a failure. */
nr_status nr_measure_failed(const nr_compare_place *p, const nr_planned *run, const nr_error *why, nr_error *err);
/* The run's record if it is one of this very run and done; NULL: none. */
json_t *nr_measure_record(const nr_compare_place *p, const nr_planned *run, bool failed_too);
/* Texts of a set (old, new: training; old, new: validation) as the trainer takes them; malloc'ed list. */
nr_status nr_measure_files(const nr_recipe *r, const nr_planned *run, const char ***paths, nr_files files[4], nr_error *err);
char *nr_measure_folder(const nr_compare_place *p, const nr_planned *run);
/* Where a run that is being measured says how far it is; malloc'ed. */
char *nr_measure_progress_path(const nr_compare_place *p, const nr_planned *run);

/* ---- reuse.c ---- */

typedef struct {
    json_t *records;       /* [record with "taken_from"] */
    char backbone[65];     /* fingerprint of the recipe's, once it was needed */
} nr_reuse;

/* Records of runs that are done, in folders of comparisons or of records; nr_reuse_free after a failure too. */
nr_status nr_reuse_load(nr_reuse *u, const char *const *folders, size_t count, nr_error *err);
void nr_reuse_free(nr_reuse *u);
/* One of this very run, named as here; *out NULL: none. */
nr_status nr_reuse_find(json_t **out, nr_reuse *u, const nr_compare_place *p, const nr_planned *run, nr_error *err);
/* Copies what opt->reuse has of runs that aren't done. */
nr_status nr_reuse_all(const nr_compare_place *p, const nr_compare_options *opt, const nr_listener *l, nr_error *err);

/* ---- runner.c ---- */
/* Makes every run that isn't done. *failed: what the first run that failed said, with NR_OK as status where none did. */
nr_status nr_runner_all(const nr_compare_place *p, const nr_compare_options *opt, const nr_listener *l, nr_error *failed, nr_error *err);

/* ---- summary.c ---- */
/* {"runs": [records], "groups": [...]}; NULL: out of memory. */
json_t *nr_summary(const nr_compare_place *p);

/* ---- compare_table.c ---- */
void nr_compare_text(nr_buffer *b, const json_t *summary);
void nr_compare_markdown(nr_buffer *b, const json_t *summary);
void nr_compare_csv(nr_buffer *b, const json_t *summary);
void nr_compare_html(nr_buffer *b, const json_t *summary);

/* ---- compare_pairs.c: of the summary's groups; nothing where there is one seed ---- */
void nr_compare_pairs_text(nr_buffer *b, const json_t *groups);
void nr_compare_pairs_markdown(nr_buffer *b, const json_t *groups);
void nr_compare_pairs_html(nr_buffer *b, const json_t *groups);

/* ---- compare_tasks.c: nothing where there are no tasks ---- */
void nr_compare_tasks_text(nr_buffer *b, const json_t *summary);
void nr_compare_tasks_markdown(nr_buffer *b, const json_t *summary);
void nr_compare_tasks_csv_head(nr_buffer *b, const json_t *columns);
void nr_compare_tasks_csv(nr_buffer *b, const json_t *run, const json_t *columns);
void nr_compare_tasks_html(nr_buffer *b, const json_t *summary);

/* ---- compare_cells.c: a row's name in 26 columns of text with its rank; words of Markdown ---- */
#define NR_LABEL_COLUMNS 26
void nr_compare_text_name(nr_buffer *b, const json_t *group);
void nr_compare_markdown_word(nr_buffer *b, const char *s);

/* ---- write_recipe.c ---- */

/* Runs of r as a recipe; groups: a row stands for its group with all seeds of it. test: with test texts and controls. */
nr_status nr_recipe_write(const nr_recipe *r, const nr_planned *runs, size_t count, bool groups, bool test, const char *path, nr_error *err);

/* ---- compare_page.c, compare_figures.c ---- */

/* Drawing number i as SVG; false after the last. One without data leaves svg empty. */
bool nr_compare_figure(const json_t *summary, size_t i, bool standalone, const char **name, const char **title, const char **note, nr_buffer *svg);
/* report.html and figures/ in a folder; draw: rsvg-convert, for PNG files, or NULL. */
nr_status nr_compare_page_write(const json_t *summary, const char *folder, const char *draw, const nr_listener *l, nr_error *err);

#endif
