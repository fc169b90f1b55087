/*
 * tasks.h - the inside of task scores: a definition (JSON) says how the rows of
 * a user's files become questions, choices and answers, and in which formats
 * they are put to a model; every choice is scored as a continuation.
 *
 * definition + rows -> items (texts) -> requests (ids) -> walk (rows of the
 * model) -> log-likelihoods -> decisions -> figures.
 *
 * Everything but walk.c and score_tasks.c is a function of texts and numbers.
 */
#ifndef NR_TASKS_H
#define NR_TASKS_H

#include "eval/eval.h"

/* ---- text_filters.c: what a template's "| name" does, as Python does it ---- */

typedef void (*nr_text_filter)(nr_buffer *out, const char *text, size_t n);
/* NULL: no such filter. */
nr_text_filter nr_text_filter_find(const char *name, size_t n);
/* The names, with blanks between. */
const char *nr_text_filter_names(void);
/* "A. one\nB. two" as a list of texts without white space at their ends; NULL: it isn't such a text. */
json_t *nr_text_lettered(const char *text, size_t n);
/* Bytes of white space at the end of a text, as str.rstrip sees it. */
size_t nr_text_blank_tail(const char *text, size_t n);
/* Characters (code points) of UTF-8. */
size_t nr_text_characters(const char *text, size_t n);

/* ---- task_template.c: "{{name | filter}}" ---- */

/* A template is text with places: {{name}}, {{name.key}}, {{name[3]}}, each with
 * filters behind "|". "?" behind the name: nothing stands there where the name
 * is missing, null or "". Else a missing name is an error. */
nr_status nr_task_template_check(const char *text, const char *where, nr_error *err);
/* A string; or, where the template is one place that names a list, a list of
 * strings with the filters applied to each. *out is new. */
nr_status nr_task_template_render(json_t **out, const char *text, const json_t *values, const char *where, nr_error *err);

/* ---- shots.c: which rows are shown before a question ---- */

/* Python's random.Random(seed): the same draws as its sample(). */
typedef struct {
    uint32_t state[624];
    size_t at;
} nr_twister;
void nr_twister_seed(nr_twister *r, uint32_t seed);
uint32_t nr_twister_next(nr_twister *r);
/* random.sample(range(n), k): k <= n different indices. */
nr_status nr_twister_sample(nr_twister *r, size_t n, size_t k, size_t *out, nr_error *err);

/* ---- task_rows.c: rows of JSONL, JSON and CSV files ---- */

/* A list of JSON objects; of a CSV file without a header, of lists of strings. `where` names it in errors. */
typedef struct {
    char *path;
    json_t *rows;
    bool headless;
} nr_task_rows;
/* A file, or a folder whose files come one after another, each row with the
 * file's name up to the last "_" in the column "file". .gz and .zst are unpacked.
 * columns: what a CSV file's first line may hold to be its header (a list of lists of names). */
nr_status nr_task_rows_read(nr_task_rows *r, const char *path, const json_t *headers, nr_error *err);
/* The same from memory; for folders and tests. */
nr_status nr_task_rows_parse(json_t *rows, bool *headless, const char *text, size_t n, bool csv, const json_t *headers,
                             const char *where, nr_error *err);
void nr_task_rows_free(nr_task_rows *r);
/* The first FOLDER/<stem>_<split>.<jsonl|json|csv>[.gz|.zst] (or -, ., / for _) that exists, malloc'ed; NULL: none. */
char *nr_task_rows_find(const char *const *folders, size_t count, const json_t *stems, const json_t *splits);

/* ---- definition.c ---- */

typedef enum { NR_SHOTS_FIRST, NR_SHOTS_RANDOM } nr_shots_how;

/* Decisions: which sum of log-likelihoods, divided by what, the choice with the largest is taken. */
#define NR_DECISION_LIST(X)                                                    \
    X(acc, "log-likelihood")                                                   \
    X(acc_norm, "per character of the choice")                                 \
    X(acc_bytes, "per byte of the choice")                                     \
    X(acc_per_char, "per character, the blank before the choice counted")      \
    X(acc_per_token, "per token")                                              \
    X(acc_mutual_info, "minus that of the choice behind nothing")              \
    X(acc_uncond, "minus that of the choice behind the unconditional context")
typedef enum {
#define NR_X(name, text) NR_D_##name,
    NR_DECISION_LIST(NR_X)
#undef NR_X
    NR_DECISIONS
} nr_decision;
extern const char *const nr_decision_names[NR_DECISIONS];

typedef struct {
    char *name, *format;          /* "arc_challenge", "harness" */
    json_t *definition;           /* the file */
    char *path;
    const json_t *stems, *layouts, *splits;
    /* of the format; strings belong to the definition */
    const char *about, *query, *option, *description, *delimiter, *between, *labels, *unconditional, *group;
    bool by_label;                /* the choices' labels are scored, not their texts */
    bool extra_draw;              /* a random draw takes one row more than it shows */
    bool group_mean;              /* the mean over groups, not over items, is the figure */
    nr_shots_how how;
    size_t shots, sample;         /* sample > 0: so many rows, drawn */
    uint32_t seed;
    const json_t *shot_ids;       /* NULL: none */
    bool decides[NR_DECISIONS];   /* what is reported */
    nr_decision primary;
} nr_task;
/* "NAME" or "NAME:FORMAT" out of the first folder that defines NAME. */
nr_status nr_task_open(nr_task *t, const char *name, const char *format, const char *const *folders, size_t count,
                       nr_error *err);
/* The same of one definition in memory. Takes a reference of it. */
nr_status nr_task_read(nr_task *t, json_t *definition, const char *name, const char *format, const char *path, nr_error *err);
void nr_task_free(nr_task *t);
/* [{"task", "about", "formats": [...], "file"}] of all definitions. */
nr_status nr_task_catalogue(json_t **out, const char *const *folders, size_t count, nr_error *err);

/* ---- items.c: rows as questions ---- */

typedef struct {
    const json_t *doc;            /* the row */
    size_t number, group, answer, choices;
    char *context;
    char **texts, **continuations; /* of each choice: as it is counted, and as it is scored behind the context */
} nr_item;

typedef struct {
    nr_item *items;
    size_t count, rows;           /* rows: before the limit */
    json_t *groups;               /* their names; one "" without groups */
    nr_task_rows questions, examples;
    json_t *fields[2];            /* of each row of questions and examples: what the layout makes of it */
    const char *shots_from;       /* "none", "first", "random", "ids" */
    size_t most_choices;
} nr_items;
/* shots: how many; limit: items of a group, 0: all. Says through l where it had to depart from the definition. */
nr_status nr_items_make(nr_items *out, const nr_task *t, const char *const *folders, size_t folder_count, size_t shots,
                        size_t limit, const nr_listener *l, nr_error *err);
void nr_items_free(nr_items *s);

/* ---- requests.c: texts as ids ---- */

/* ids[begin, begin + length] are the inputs and, one further, what they predict; the last `scored` predictions count. */
typedef struct {
    size_t begin, length, scored;
    bool cut;                     /* on the left, to the context */
} nr_request;

typedef struct {
    const nr_tokenizer *tokenizer;
    int32_t prefix;               /* before a text that would stand behind nothing */
    size_t context;
    bool add_bos;
    int32_t *ids;
    size_t ids_count, ids_cap;
    nr_request *list;
    size_t count, cap, longest;
    int32_t *whole;               /* scratch */
    size_t whole_cap;
} nr_requests;
/* Appends "continuation behind context". */
nr_status nr_requests_add(nr_requests *r, const char *context, const char *continuation, const char *where, nr_error *err);
void nr_requests_clear(nr_requests *r);
void nr_requests_free(nr_requests *r);

/* ---- walk.c ---- */

/* The rows that the model computes for a list of requests: their inputs as a tree, in the order of a walk over it. */
typedef struct {
    int32_t *id, *position;       /* (rows) */
    size_t rows;
    struct nr_walk_score {
        size_t row, request;
        int32_t target;
    } *scores;                    /* by row */
    size_t score_count;
} nr_walk;
/* share false: every request stands alone, from position 0. */
nr_status nr_walk_plan(nr_walk *w, const nr_requests *r, bool share, nr_error *err);
void nr_walk_free(nr_walk *w);

typedef struct nr_walker nr_walker;
/* positions: of the cache; rows: of a pass. */
nr_status nr_walker_new(nr_walker **out, const nr_model *m, nr_extension *e, size_t positions, size_t rows, int32_t padding,
                        nr_error *err);
void nr_walker_free(nr_walker *w);
/* Log-likelihood of every request in nats, and whether each of its tokens is the model's first choice. done(user, rows
 * so far) after each pass; may be NULL. */
nr_status nr_walker_run(nr_walker *w, const nr_walk *plan, double *sums, uint8_t *greedy, const nr_listener *l,
                        void (*done)(void *user, size_t rows), void *user, nr_error *err);

/* ---- decide.c ---- */

/* One choice's log-likelihoods and what they may be divided by. */
typedef struct {
    double sum, behind_nothing, behind_context; /* NaN where not computed */
    size_t characters, bytes, tokens, blank;    /* blank: characters of the delimiter */
    bool greedy;
} nr_choice_score;
/* The choice taken: the first of the largest; choices where it can't be said. */
size_t nr_decide(nr_decision d, const nr_choice_score *c, size_t choices);
/* Mean and its standard error, sqrt(sum (x - mean)^2 / (n - 1) / n), as lm-evaluation-harness has it. */
typedef struct {
    double n, sum, squares;
} nr_mean;
void nr_mean_add(nr_mean *m, double x);
double nr_mean_value(const nr_mean *m);
double nr_mean_stderr(const nr_mean *m);

/* ---- task_results.c ---- */

/* What one task's scoring leaves behind. */
typedef struct {
    const nr_task *task;
    const nr_items *items;
    size_t shots;
    size_t *first;                /* (items) index of an item's first choice in scores */
    nr_choice_score *scores[2];   /* backbone, extended (or NULL) */
    size_t requests, tokens, computed, cut;
    double seconds;
} nr_task_scores;
/* The task's object of nr_score_tasks. */
json_t *nr_task_result(const nr_task_scores *s);
/* results_<time>.json and samples_<task>_<time>.jsonl of lm-evaluation-harness, of one model. */
nr_status nr_task_samples_write(const nr_task_scores *s, int model, const char *path, nr_error *err);
void nr_task_results_add(json_t *all, const nr_task_scores *s, int model);

#endif
