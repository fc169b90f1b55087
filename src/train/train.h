/*
 * train.h - the inside of nr_trainer, shared by the files of train/.
 *
 *   trainer.c      life: a new run, a resumed one, the loop over the steps
 *   run_folder.c   the folder: lock, config.json, what is removed
 *   train_data.c   tokenizer, token caches, rows of both domains
 *   train_step.c   one optimizer step
 *   exchange.c     what travels between ranks
 *   ranks.c        what ranks must have in common, and how they share the rows
 *   train_eval.c   validation of both domains against the backbone
 *   fisher.c       the loss that holds weights near where they began
 *   checkpoint.c   state/: two generations
 *   metrics.c      metrics.jsonl, log.txt, lines for people
 *   events.c       TensorBoard's event file
 *   settled.c      what settings come to, with the method's defaults
 *   plan.c         memory, disk and time, before they are taken
 */
#ifndef NR_TRAIN_H
#define NR_TRAIN_H

#include "data/data.h"
#include "model/extension.h"
#include "train/exchange.h"

enum { NR_OLD, NR_NEW };
extern const char *const nr_domain_names[2]; /* "old", "new" */

/* A file that grows line by line; its size at a checkpoint is where a resumed run goes on. */
typedef struct {
    FILE *file;
    char *path;
} nr_append;
/* Cuts the file to `size` bytes and goes on behind them. */
nr_status nr_append_open(nr_append *a, const char *folder, const char *name, size_t size, nr_error *err);
nr_status nr_append_write(nr_append *a, const void *data, size_t n, nr_error *err);
/* Puts it all on the disk. *size: bytes so far. */
nr_status nr_append_sync(nr_append *a, size_t *size, nr_error *err);
void nr_append_close(nr_append *a);

/* What validation found on one domain. */
typedef struct {
    bool present;
    size_t rows, tokens, bytes;
    double nats, backbone_nats; /* sums */
    double kl, agree;           /* sums over tokens */
} nr_domain_score;

/* Validation as numbers of a run: NaN where there is none. */
typedef struct {
    double bits[2], backbone_bits[2]; /* per byte */
    double kl[2];                     /* mean, nats */
    double agreement[2];              /* share of equal top tokens */
    double score;                     /* what best/ minimises */
} nr_scores;

/* Counters that a checkpoint holds beside the weights. */
typedef struct {
    uint64_t step;           /* done */
    nr_draw_count drawn;
    double best_score;       /* NaN: none yet */
    uint64_t best_step;
    nr_scores last;          /* latest validation */
    double seconds;          /* spent training, earlier processes included */
    size_t metrics_bytes, events_bytes;
} nr_progress_state;

/* Sums over one batch of validation rows: a batch is the work of one rank, and all add them up in the same order. */
typedef struct {
    double nats, backbone_nats, kl, agree, tokens, bytes;
    double layers[];         /* (2 L): |g| of each layer, then |g a| / |FFN| */
} nr_batch_score;

typedef struct {
    nr_domain_score domain[2];
    size_t rows[2];          /* validation rows; 0: none */
    size_t batches[2];       /* of B rows; the last may be part full */
    size_t first[2], end[2]; /* batches of this rank */
    bool have_backbone;      /* backbone_nats of the batches and the next are filled */
    void *hidden[2];         /* act (this rank's rows T, C): the backbone's, for KL */
    size_t score_bytes;      /* of one nr_batch_score */
    char *scores[2];         /* (batches) */
    float *travel;           /* gates on their way to rank 0; NULL: alone */
    nr_observation observed; /* (L, n) */
    double *nll, *kl;        /* (n) */
    uint8_t *same;           /* (n) */
    float *gate;             /* (L, old tokens + new tokens) */
    double *gate_sum[2], *ratio_sum[2]; /* (L): |g|, |g a| / |FFN| */
    double *auc, *auc_abs;   /* (L): of g, of |g| */
} nr_validation;

/* What a rank adds to the sums of a step. */
typedef struct {
    nr_losses losses;
    double held;             /* elastic weight consolidation, over the rank's slices */
    double squares;          /* of the gradient, over the rank's slices */
} nr_step_sums;

struct nr_trainer {
    const nr_listener *listener;
    char *folder;
    nr_settings s;           /* method defaults filled in */
    nr_cluster *cluster;     /* NULL: alone */
    nr_listener own_listener; /* of a rank that only listens */
    nr_exchange exchange;
    nr_step_sums *sums;      /* (ranks) */
    int lock;                /* descriptor of log.txt, -1: none */
    bool fresh, finished;
    /* what it trains on */
    nr_model *model;
    nr_tokenizer *tokenizer;
    nr_extension *e;
    nr_extension *below;     /* what it stands on, frozen */
    nr_tokens *tokens[4];    /* training old, new; validation old, new (NULL: split off training) */
    nr_rows *train[2], *valid[2];
    nr_pass *pass;
    size_t B;                /* rows of a micro-batch */
    size_t first_row, end_row; /* this rank's rows of a step */
    /* buffers of a step */
    nr_drawn *drawn;         /* (batch) */
    int32_t *row, *ids, *targets, *first; /* (T + 1); (B, T); first NULL without a document mask */
    uint8_t *is_new;         /* (B) */
    void *m, *v;             /* real (exchange.owned): AdamW's moments of this rank's slices */
    void *fisher;            /* real (exchange.owned): F of this rank's slices; NULL: no such loss */
    float *fisher_read;      /* some rows of theta0 */
    double *fisher_sums;     /* a row */
    nr_validation val;
    nr_progress_state at;
    /* what it writes */
    nr_append metrics, events;
    nr_buffer line, values, record;
    double began;            /* clock at this process's first step, less earlier seconds */
    json_t *config;
};

/* ---- run_folder.c ---- */

/* Files of a run, with absolute paths. */
typedef struct {
    char *model, *cache;
    const char **paths[5];   /* the four sets of text; what the extension stands on */
    size_t count[5];
    nr_run run;              /* points into the above */
} nr_run_copy;
nr_status nr_run_copy_new(nr_run_copy *c, const nr_run *run, nr_error *err);
nr_status nr_run_copy_from_json(nr_run_copy *c, const json_t *config, const char *folder, const char *where, nr_error *err);
void nr_run_copy_free(nr_run_copy *c);
/* Training old, new, validation old, new. */
extern const char *const nr_run_sets[4];
const nr_files *nr_run_files(const nr_run *run, size_t set);
/* Refuses a folder that holds a run. */
nr_status nr_run_check_free(const nr_run *run, nr_error *err);
/* Makes the folder and locks it. */
nr_status nr_run_lock(nr_trainer *t, nr_error *err);
void nr_run_unlock(nr_trainer *t);
/* Removes what an earlier run left. */
nr_status nr_run_clear(const nr_trainer *t, nr_error *err);
nr_status nr_run_write_config(nr_trainer *t, const nr_run *run, nr_error *err);
/* The model and the texts are those of config.json; another machine is only said. */
nr_status nr_run_verify(nr_trainer *t, const nr_run *run, nr_error *err);

/* ---- ranks.c ---- */

/* Rank 0 writes the run's folder and speaks; the others only compute. */
bool nr_train_leads(const nr_trainer *t);
size_t nr_train_ranks(const nr_trainer *t);
/* nr_cluster_agree of the trainer's cluster. */
nr_status nr_train_agree(nr_trainer *t, nr_status st, nr_error *err);
/* For work in which ranks wait for each other: where it failed on one alone, there is no agreeing any more. */
nr_status nr_train_together(nr_trainer *t, nr_status st);
/* Rows of a micro-batch: as asked for, or the largest that divides the batch and keeps a pass at 1024 tokens. */
size_t nr_train_micro_batch(const nr_settings *s);
/* The same where so many ranks share the batch evenly: smaller only where it must be. An error says what fits.
 * may_shrink: a size that was asked for too. */
nr_status nr_train_share_batch(size_t *B, const nr_settings *s, size_t ranks, bool may_shrink, nr_error *err);
/* The same settings, model, texts and backend on every rank. */
nr_status nr_train_compare(nr_trainer *t, nr_error *err);
/* Says who trains together. */
void nr_train_say_ranks(nr_trainer *t);
/* config.json of a run and whether it is finished, from rank 0. */
nr_status nr_train_pass_on_config(nr_trainer *t, nr_error *err);
/* Values, optimizer state (which rank 0 has whole) and counters, from rank 0; fresh: values only. */
nr_status nr_train_pass_on_state(nr_trainer *t, bool fresh, nr_error *err);

/* ---- train_data.c ---- */
nr_status nr_train_check_shares(const nr_run *run, const nr_settings *s, nr_error *err);
nr_status nr_train_open_data(nr_trainer *t, const nr_run *run, nr_error *err);

/* ---- settled.c ---- */
/* How a run opens its backbone. */
nr_model_options nr_train_model_options(const nr_settings *s);
/* Settings whose default is the method's own. */
nr_status nr_train_method_defaults(nr_settings *s, const nr_method **method, nr_error *err);
/* The pass of a micro-batch; s settled. */
nr_pass_options nr_train_pass_options(const nr_settings *s, size_t B);
/* Whether the backbone's matrices that e replaces need no packings of their own: validation alone multiplies with them.
 * Distillation does at every step. */
bool nr_train_yields(const nr_settings *s, const nr_extension *e);

/* ---- trainer.c ---- */
/* Takes the steps of a run on an open model, which it closes in any case, with rows of random ids: for measuring
 * speed. It has no folder: nr_train_step and nr_trainer_close alone may be called. */
nr_status nr_trainer_random(nr_trainer **out, nr_model *m, const nr_settings *s, nr_error *err);

/* ---- train_step.c ---- */
typedef struct {
    double loss, lm, lm_domain[2], l1, ce, balance, distil, ewc, local, norm, lr;
    size_t old_rows;
    double exchange_seconds;
    size_t exchange_bytes;
} nr_step_result;
/* Learning rate of step number `step`, counted from 0. */
double nr_train_learning_rate(const nr_settings *s, uint64_t step);
nr_status nr_train_step(nr_trainer *t, nr_step_result *r, nr_error *err);

/* ---- train_eval.c ---- */
size_t nr_validation_rows(const nr_settings *s);
/* Bytes of the buffers that nr_validation_new takes at most, on one of so many ranks. */
size_t nr_validation_bytes(const nr_model *m, const nr_settings *s, size_t B, size_t ranks);
nr_status nr_validation_new(nr_trainer *t, nr_error *err);
void nr_validation_free(nr_validation *v);
/* Fills t->val and t->at.last; the areas under curves on rank 0 only. */
nr_status nr_validate(nr_trainer *t, nr_error *err);
/* Area under the curve of telling new from old by x > threshold; sorts both. NaN where either is empty or not a number. */
double nr_domain_auc(float *old, size_t old_count, float *new_, size_t new_count);
/* The same by |x| > threshold; leaves |x| in both. */
double nr_domain_auc_abs(float *old, size_t old_count, float *new_, size_t new_count);

/* ---- fisher.c ---- */
/* Bytes that it takes on one of so many ranks; 0 where the method has no such loss. */
size_t nr_fisher_bytes(const nr_extension *e, size_t ranks);
nr_status nr_fisher_new(nr_trainer *t, nr_error *err);
/* Old rows that F is found from. */
size_t nr_fisher_rows(const nr_trainer *t);
/* F += share times the squared gradient of the mean loss of the row in t->row (and t->first); overwrites the gradients. */
nr_status nr_fisher_add(nr_trainer *t, double share, nr_error *err);
/* Finds F at the weights as they are. */
nr_status nr_fisher_find(nr_trainer *t, nr_error *err);
/* Finds F and stores it, or reads what a run stored. */
nr_status nr_fisher_open(nr_trainer *t, nr_error *err);
/* The loss of the rank's slices; their gradients += its own. */
double nr_fisher_hold(const nr_trainer *t);

/* ---- checkpoint.c ---- */
/* The optimizer's state from all ranks to rank 0, who then saves. */
nr_status nr_state_collect(nr_trainer *t, nr_error *err);
nr_status nr_state_save(nr_trainer *t, nr_error *err);
/* The newest whole generation; *found false: there is none. */
nr_status nr_state_load(nr_trainer *t, bool *found, nr_error *err);

/* ---- metrics.c ---- */
/* To the listener and log.txt. */
void nr_train_say(nr_trainer *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* To log.txt alone. */
void nr_log_line(const nr_trainer *t, const char *line);
void nr_train_say_settings(nr_trainer *t);
void nr_train_event(const nr_trainer *t, const char *json);
nr_status nr_metrics_step(nr_trainer *t, const nr_step_result *r, double seconds, nr_error *err);
nr_status nr_metrics_eval(nr_trainer *t, bool best, double seconds, nr_error *err);
/* Seconds since 1970. */
double nr_wall_time(void);
/* A real, or null where it isn't finite. */
json_t *nr_json_finite(double v);

/* ---- events.c ---- */

/* Appends a scalar to the values of one event. */
void nr_event_scalar(nr_buffer *values, const char *tag, double value);
/* The bytes of the file for an event of these values. */
void nr_event_record(nr_buffer *record, const nr_buffer *values, double wall_time, uint64_t step);
/* The record that opens a file. */
void nr_event_header(nr_buffer *record, double wall_time);

/* ---- plan.c ---- */
/* s settled. */
nr_status nr_plan_make(nr_plan *plan, const nr_model *shapes, const nr_run *run, const nr_settings *s, nr_error *err);

#endif
