/*
 * fisher.c - elastic weight consolidation (arXiv 1612.00796): what holds each
 * trained weight near where it began.
 *
 *   loss += lambda / 2 sum_j F_j (theta_j - theta0_j)^2
 *   F     = mean over single old rows of the squared gradient of their mean loss
 *           with the true next tokens (the empirical Fisher information), at theta0
 *
 * theta0 isn't kept: it is read from the backbone's file at every step. F is found
 * once, before the first step, by every rank for its own slices, and stored as
 * RUN/fisher.safetensors, so that a resumed run has the same bits. The gradient is
 * added to the rank's slices, behind the exchange. Refuses to go on from a state
 * without that file.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

#define PIECE 16384              /* elements of a task */
#define READ_ELEMENTS (1 << 18)  /* of theta0 at once, about */

/* ---- F ---- */

typedef struct {
    nr_trainer *t;
    double share;
    const void *g;
    void *f;
    size_t n;
} square_job;

/* f += share g^2 */
static void square_piece(void *context, size_t task)
{
    const square_job *j = context;
    size_t begin = task * PIECE, end = NR_MIN(begin + PIECE, j->n);
    if (j->t->model->ops->real == NR_F64) {
        const double *g = j->g;
        double *f = j->f;
        for (size_t i = begin; i < end; i++) f[i] += j->share * g[i] * g[i];
    } else {
        const float *g = j->g;
        float *f = j->f, share = (float)j->share;
        for (size_t i = begin; i < end; i++) f[i] += share * g[i] * g[i];
    }
}

static void add_squares(void *context, const nr_param *p, size_t at, size_t own, size_t count)
{
    square_job *j = context;
    size_t real = j->t->model->ops->real_size;
    (void)p;
    j->g = (char *)j->t->e->grads + at * real;
    j->f = (char *)j->t->fisher + own * real;
    j->n = count;
    nr_parallel((count + PIECE - 1) / PIECE, square_piece, j);
}

size_t nr_fisher_rows(const nr_trainer *t)
{
    return NR_MIN(t->s.ewc_sequences, nr_rows_count(t->train[NR_OLD]));
}

nr_status nr_fisher_add(nr_trainer *t, double share, nr_error *err)
{
    size_t T = t->s.context;
    square_job j = {.t = t, .share = share};
    nr_batch b = {.B = 1, .T = T, .ids = t->row, .targets = t->row + 1, .is_new = (const uint8_t[]){0}, .first = t->first,
                  .step_tokens = T, .step_old_tokens = T};
    nr_zero(t->e->grads, t->e->weights * t->model->ops->real_size);
    NR_TRY(nr_pass_forward(t->pass, &b, err));
    nr_pass_on_depth(t->pass, NULL, NULL);
    NR_TRY(nr_pass_loss(t->pass, &b, true, NULL, NULL, err));
    nr_exchange_each(&t->exchange, add_squares, &j);
    return NR_OK;
}

nr_status nr_fisher_find(nr_trainer *t, nr_error *err)
{
    size_t rows = nr_fisher_rows(t);
    const nr_rows *old = t->train[NR_OLD];
    memset(t->fisher, 0, t->exchange.owned * t->model->ops->real_size);
    for (size_t i = 0; i < rows; i++) {
        nr_rows_get(old, nr_draw_row(t->s.seed, false, i, nr_rows_count(old)), t->row, t->first);
        NR_TRY(nr_fisher_add(t, 1 / (double)rows, err));
        nr_progress(t->listener, "Fisher information", (double)(i + 1), (double)rows, 0, "rows");
    }
    return NR_OK;
}

/* ---- the loss ---- */

typedef struct {
    const nr_trainer *t;
    const nr_param *p;
    const void *f;            /* of the slice */
    size_t at, count;         /* the slice: its first element, how many */
    size_t first;             /* row of the parameter that task 0 reads */
    double *sums;             /* a row */
    double loss;
} hold_job;

/* sum f d^2 of n elements with d = v - from; g += lambda f d. */
#define HOLD(type, name)                                                                                   \
    static double name(type *g, const type *v, const type *f, const float *from, double lambda, size_t n) \
    {                                                                                                      \
        double sum = 0;                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                   \
            type d = v[i] - (type)from[i];                                                                 \
            g[i] += (type)lambda * f[i] * d;                                                               \
            sum += (double)(f[i] * d * d);                                                                 \
        }                                                                                                  \
        return sum;                                                                                        \
    }
HOLD(float, hold_floats)
HOLD(double, hold_doubles)

/* Row first + r of the parameter, as far as it lies in the slice. */
static void hold_row(void *context, size_t r)
{
    const hold_job *j = context;
    const nr_trainer *t = j->t;
    const nr_param *p = j->p;
    size_t cols = p->shape[1], start = p->offset + (j->first + r) * cols, begin = NR_MAX(start, j->at),
           n = NR_MIN(start + cols, j->at + j->count) - begin, real = t->model->ops->real_size;
    float *from = t->fisher_read + r * cols;
    nr_tensor_read(from, p->copy, j->first + r, 1);
    from += begin - start;
    void *g = (char *)t->e->grads + begin * real;
    const void *v = (const char *)t->e->values + begin * real, *f = (const char *)j->f + (begin - j->at) * real;
    j->sums[r] = real == sizeof(double) ? hold_doubles(g, v, f, from, t->s.ewc_lambda, n) : hold_floats(g, v, f, from, t->s.ewc_lambda, n);
}

/* Rows at once: those of about READ_ELEMENTS elements. */
static size_t rows_at_once(const nr_param *p)
{
    return NR_MIN(NR_MAX(READ_ELEMENTS / p->shape[1], (size_t)1), p->shape[0]);
}

static void hold(void *context, const nr_param *p, size_t at, size_t own, size_t count)
{
    hold_job *j = context;
    size_t cols = p->shape[1], end = (at + count - p->offset + cols - 1) / cols, most = rows_at_once(p);
    *j = (hold_job){.t = j->t, .p = p, .f = (char *)j->t->fisher + own * j->t->model->ops->real_size, .at = at, .count = count,
                    .sums = j->t->fisher_sums, .loss = j->loss};
    for (j->first = (at - p->offset) / cols; j->first < end; j->first += most) {
        size_t rows = NR_MIN(most, end - j->first);
        nr_parallel(rows, hold_row, j);
        for (size_t r = 0; r < rows; r++) j->loss += j->sums[r];
    }
}

double nr_fisher_hold(const nr_trainer *t)
{
    hold_job j = {.t = t};
    nr_exchange_each(&t->exchange, hold, &j);
    return 0.5 * t->s.ewc_lambda * j.loss;
}

/* ---- memory ---- */

/* Elements and rows of theta0 that are read at once, at most. */
static void largest_reading(const nr_extension *e, size_t *elements, size_t *rows)
{
    *elements = *rows = 0;
    for (size_t i = 0; i < e->param_count; i++) {
        size_t n = rows_at_once(&e->params[i]);
        *rows = NR_MAX(*rows, n);
        *elements = NR_MAX(*elements, n * e->params[i].shape[1]);
    }
}

size_t nr_fisher_bytes(const nr_extension *e, size_t ranks)
{
    size_t elements, rows;
    if (!e->method->anchored) return 0;
    largest_reading(e, &elements, &rows);
    return nr_exchange_share(e->weights, ranks) * e->model->ops->real_size + elements * sizeof(float) + rows * sizeof(double);
}

nr_status nr_fisher_new(nr_trainer *t, nr_error *err)
{
    const char *what = "Fisher information";
    size_t elements, rows;
    if (!t->e->method->anchored) return NR_OK;
    largest_reading(t->e, &elements, &rows);
    NR_TRY(nr_alloc(&t->fisher_read, elements, sizeof *t->fisher_read, what, err));
    NR_TRY(nr_alloc(&t->fisher_sums, rows, sizeof *t->fisher_sums, what, err));
    return nr_alloc(&t->fisher, t->exchange.owned, t->model->ops->real_size, what, err);
}

/* ---- on disk ---- */

static nr_status hash_of(char hex[65], const void *data, size_t bytes, const char *path, nr_error *err)
{
    nr_sha256 *h = nr_sha256_new();
    nr_sha256_add(h, data, bytes);
    nr_sha256_hex(h, hex);
    return hex[0] ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hash", path);
}

/* On rank 0, from its whole array. */
static nr_status write_file(const nr_trainer *t, const char *path, nr_error *err)
{
    char hex[65], name[] = "fisher";
    const nr_ops *ops = t->model->ops;
    nr_tensor x = {.name = name, .type = ops->real, .ndim = 1, .shape = {t->e->weights},
                   .data = nr_exchange_whole(&t->exchange, t->fisher, 0), .size = t->e->weights * ops->real_size};
    NR_TRY(hash_of(hex, x.data, x.size, path, err));
    json_t *about = json_pack("{s:s, s:s}", "sha256", hex, "of", "empirical Fisher information of the trained weights, in their order");
    if (!about) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    nr_status st = nr_safetensors_write(path, &x, 1, about, err);
    json_decref(about);
    return st;
}

static nr_status check_file(const nr_trainer *t, const nr_safetensors *file, const nr_tensor *x, const char *path, nr_error *err)
{
    char hex[65];
    const char *want = json_string_value(json_object_get(file->metadata, "sha256"));
    size_t bytes = t->e->weights * t->model->ops->real_size;
    if (!x || x->type != t->model->ops->real || x->size != bytes || !want)
        return nr_fail(err, NR_E_FORMAT, "%s: expected a tensor \"fisher\" of %zu bytes of %s with its sha256", path, bytes,
                       nr_dtypes[t->model->ops->real].name);
    NR_TRY(hash_of(hex, x->data, x->size, path, err));
    return strcmp(hex, want) == 0 ? NR_OK
                                  : nr_fail(err, NR_E_FORMAT, "%s: expected the SHA-256 %.12s..., found %.12s...", path, want, hex);
}

static nr_status read_file(nr_trainer *t, const char *path, nr_error *err)
{
    nr_safetensors *file;
    NR_TRY(nr_safetensors_open(&file, path, err));
    const nr_tensor *x = nr_safetensors_find(file, "fisher");
    nr_status st = check_file(t, file, x, path, err);
    if (st == NR_OK) memcpy(nr_exchange_whole(&t->exchange, t->fisher, 0), x->data, x->size);
    nr_safetensors_close(file);
    return st;
}

/* Finds it and lets rank 0 write it. */
static nr_status find_and_keep(nr_trainer *t, const char *path, nr_error *err)
{
    double began = nr_clock();
    NR_TRY(nr_train_agree(t, nr_fisher_find(t, err), err));
    NR_TRY(nr_train_together(t, nr_exchange_collect(&t->exchange, t->fisher, 0, err)));
    nr_status st = nr_train_leads(t) ? write_file(t, path, err) : NR_OK;
    nr_train_say(t, "Fisher information from %zu old rows in %.1f s, kept in %s", nr_fisher_rows(t), nr_clock() - began, path);
    return nr_train_agree(t, st, err);
}

static nr_status read_and_spread(nr_trainer *t, const char *path, nr_error *err)
{
    nr_status st = nr_train_leads(t) ? read_file(t, path, err) : NR_OK;
    NR_TRY(nr_train_agree(t, st, err));
    return nr_train_together(t, nr_exchange_spread(&t->exchange, t->fisher, 0, err));
}

nr_status nr_fisher_open(nr_trainer *t, nr_error *err)
{
    nr_status st;
    if (!t->fisher) return NR_OK;
    char *path = nr_path_join(t->folder, "fisher.safetensors");
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    st = t->fresh ? find_and_keep(t, path, err) : read_and_spread(t, path, err);
    free(path);
    return st;
}
