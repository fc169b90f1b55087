/*
 * metrics.c - what a run says: metrics.jsonl for programs, the event file for
 * TensorBoard, log.txt and the listener for people.
 *
 * metrics.jsonl, one object a line:
 *   kind "step"  step, loss (all of it), lm_loss, lm_loss_old, lm_loss_new (nats a
 *                token; null without such rows), l1, ce, balance (unweighted), with
 *                distillation its KL (unweighted), with ewc its loss, local_loss
 *                (weighted, as it enters the loss), local_share (local_loss /
 *                lm_loss), grad_norm (before clipping), learning_rate, old_rows,
 *                tokens (so far), seconds, tokens_per_second
 *   kind "eval"  step, score, best, per domain old and new: rows, tokens, bytes,
 *                bits_per_byte, backbone_bits_per_byte, nats_per_token, kl,
 *                top1_agreement; layers: gate_auc (of g), gate_auc_abs (of |g|) and per
 *                domain mean_abs_gate, norm_ratio; seconds
 * With several ranks a step also has ranks, bytes_sent (by rank 0, gradients and
 * weights) and exchange_seconds (rank 0 waited for others to send).
 * Only "seconds", "tokens_per_second" and "exchange_seconds" depend on the clock. A step line holds
 * that step alone, no mean since the line before, so that a resumed run writes
 * the same lines.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "train/train.h"

/* ---- files that grow ---- */

nr_status nr_append_open(nr_append *a, const char *folder, const char *name, size_t size, nr_error *err)
{
    *a = (nr_append){.path = nr_path_join(folder, name)};
    if (!a->path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    a->file = fopen(a->path, "ae");
    struct stat st;
    if (!a->file || fstat(fileno(a->file), &st) != 0) return nr_fail_errno(err, "can't write", a->path);
    if ((size_t)st.st_size < size)
        return nr_fail(err, NR_E_FORMAT, "%s: expected at least %zu bytes, found %zu", a->path, size, (size_t)st.st_size);
    if (ftruncate(fileno(a->file), (off_t)size) != 0) return nr_fail_errno(err, "can't write", a->path);
    return NR_OK;
}

nr_status nr_append_write(nr_append *a, const void *data, size_t n, nr_error *err)
{
    if (fwrite(data, 1, n, a->file) != n || fflush(a->file) != 0) return nr_fail_errno(err, "can't write", a->path);
    return NR_OK;
}

nr_status nr_append_sync(nr_append *a, size_t *size, nr_error *err)
{
    if (fflush(a->file) != 0 || (fsync(fileno(a->file)) != 0 && errno != EINVAL) || fseek(a->file, 0, SEEK_END) != 0)
        return nr_fail_errno(err, "can't write", a->path);
    long at = ftell(a->file);
    if (at < 0) return nr_fail_errno(err, "can't write", a->path);
    *size = (size_t)at;
    return NR_OK;
}

void nr_append_close(nr_append *a)
{
    if (a->file) fclose(a->file);
    free(a->path);
    *a = (nr_append){0};
}

/* ---- lines for people ---- */

/* A line that can't go into log.txt is no reason to end the run: what matters is in the other files. */
void nr_log_line(const nr_trainer *t, const char *line)
{
    char stamp[32];
    struct tm now;
    time_t seconds = time(NULL);
    if (t->lock < 0 || !gmtime_r(&seconds, &now)) return;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &now);
    dprintf(t->lock, "%s %s\n", stamp, line);
}

void nr_train_say(nr_trainer *t, const char *fmt, ...)
{
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    nr_log_line(t, line);
    nr_say(t->listener, "%s", line);
}

void nr_train_event(const nr_trainer *t, const char *json)
{
    if (t->listener && t->listener->event) t->listener->event(t->listener->user, json);
}

/* Every setting, group by group, as many to a line as fit. */
void nr_train_say_settings(nr_trainer *t)
{
    char line[512] = "";
    const char *group = "";
    for (size_t i = 0; i < nr_setting_count; i++) {
        const nr_setting *w = &nr_setting_list[i];
        char value[sizeof(nr_text)], word[400];
        nr_setting_get(&t->s, w, value, sizeof value);
        snprintf(word, sizeof word, "%s=%s", w->name, value);
        bool other = strcmp(group, w->group) != 0;
        if (line[0] && (other || strlen(line) + strlen(word) > 110)) {
            nr_train_say(t, "%s", line);
            line[0] = '\0';
        }
        size_t n = strlen(line);
        if (n > 0)
            snprintf(line + n, sizeof line - n, "  %s", word);
        else
            snprintf(line, sizeof line, "%-8s%s", other ? w->group : "", word);
        group = w->group;
    }
    nr_train_say(t, "%s", line);
}

/* ---- metrics ---- */

json_t *nr_json_finite(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static void add_number(nr_buffer *b, const char *key, double v)
{
    if (isfinite(v))
        nr_buffer_printf(b, ", \"%s\": %.10g", key, v);
    else
        nr_buffer_printf(b, ", \"%s\": null", key);
}

static void scalar(nr_trainer *t, const char *tag, double v)
{
    if (isfinite(v)) nr_event_scalar(&t->values, tag, v);
}

double nr_wall_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Writes the line and the event that were put together. */
static nr_status write_both(nr_trainer *t, nr_error *err)
{
    nr_event_record(&t->record, &t->values, nr_wall_time(), t->at.step);
    if (t->line.failed || t->record.failed || t->values.failed)
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory for a line", t->metrics.path);
    nr_train_event(t, t->line.data);
    nr_buffer_text(&t->line, "\n");
    NR_TRY(nr_append_write(&t->metrics, t->line.data, t->line.size, err));
    return nr_append_write(&t->events, t->record.data, t->record.size, err);
}

/* A number of a step: in its line, and the scalar train/KEY. */
static void step_number(nr_trainer *t, const char *key, double v)
{
    char tag[64];
    snprintf(tag, sizeof tag, "train/%s", key);
    add_number(&t->line, key, v);
    scalar(t, tag, v);
}

nr_status nr_metrics_step(nr_trainer *t, const nr_step_result *r, double seconds, nr_error *err)
{
    nr_buffer *b = &t->line;
    double tokens = (double)(t->s.batch_size * t->s.context);
    b->size = t->values.size = 0;
    nr_buffer_printf(b, "{\"kind\": \"step\", \"step\": %llu", (unsigned long long)t->at.step);
    step_number(t, "loss", r->loss);
    step_number(t, "lm_loss", r->lm);
    step_number(t, "lm_loss_old", r->lm_domain[NR_OLD]);
    step_number(t, "lm_loss_new", r->lm_domain[NR_NEW]);
    step_number(t, "l1", r->l1);
    step_number(t, "ce", r->ce);
    step_number(t, "balance", r->balance);
    if (t->s.lwf_alpha > 0) step_number(t, "distillation", r->distil);
    if (t->fisher) step_number(t, "ewc", r->ewc);
    step_number(t, "local_loss", r->local);
    add_number(b, "local_share", r->local / r->lm);
    step_number(t, "grad_norm", r->norm);
    step_number(t, "learning_rate", r->lr);
    nr_buffer_printf(b, ", \"old_rows\": %zu", r->old_rows);
    add_number(b, "old_rows_share", (double)t->at.drawn.old / (double)t->at.drawn.rows);
    nr_buffer_printf(b, ", \"tokens\": %.0f", tokens * (double)t->at.step);
    size_t ranks = nr_cluster_size(t->cluster);
    if (ranks > 1) {
        nr_buffer_printf(b, ", \"ranks\": %zu, \"bytes_sent\": %zu", ranks, r->exchange_bytes);
        add_number(b, "exchange_seconds", r->exchange_seconds);
    }
    add_number(b, "seconds", t->at.seconds);
    add_number(b, "tokens_per_second", seconds > 0 ? tokens / seconds : 0);
    nr_buffer_text(b, "}");
    return write_both(t, err);
}

static void add_domain(nr_trainer *t, int domain)
{
    const nr_domain_score *d = &t->val.domain[domain];
    const nr_scores *s = &t->at.last;
    char tag[64];
    if (!d->present) {
        nr_buffer_printf(&t->line, ", \"%s\": null", nr_domain_names[domain]);
        return;
    }
    nr_buffer_printf(&t->line, ", \"%s\": {\"rows\": %zu, \"tokens\": %zu, \"bytes\": %zu", nr_domain_names[domain], d->rows,
                     d->tokens, d->bytes);
    add_number(&t->line, "bits_per_byte", s->bits[domain]);
    add_number(&t->line, "backbone_bits_per_byte", s->backbone_bits[domain]);
    add_number(&t->line, "nats_per_token", d->nats / (double)d->tokens);
    add_number(&t->line, "kl", s->kl[domain]);
    add_number(&t->line, "top1_agreement", s->agreement[domain]);
    nr_buffer_text(&t->line, "}");
    const struct {
        const char *name;
        double value;
    } scalars[] = {{"bits_per_byte", s->bits[domain]}, {"kl", s->kl[domain]}, {"top1_agreement", s->agreement[domain]}};
    for (size_t i = 0; i < NR_COUNT(scalars); i++) {
        snprintf(tag, sizeof tag, "eval/%s/%s", nr_domain_names[domain], scalars[i].name);
        scalar(t, tag, scalars[i].value);
    }
}

static void add_layers(nr_trainer *t)
{
    const nr_validation *v = &t->val;
    nr_buffer_text(&t->line, ", \"layers\": [");
    for (size_t l = 0; l < t->model->config->L; l++) {
        nr_buffer_printf(&t->line, "%s{\"layer\": %zu", l ? ", " : "", l);
        add_number(&t->line, "gate_auc", v->auc[l]);
        add_number(&t->line, "gate_auc_abs", v->auc_abs[l]);
        for (int d = 0; d < 2; d++) {
            double n = (double)v->domain[d].tokens;
            if (!v->domain[d].present) continue;
            nr_buffer_printf(&t->line, ", \"%s\": {\"layer\": %zu", nr_domain_names[d], l);
            add_number(&t->line, "mean_abs_gate", v->gate_sum[d][l] / n);
            add_number(&t->line, "norm_ratio", v->ratio_sum[d][l] / n);
            nr_buffer_text(&t->line, "}");
        }
        nr_buffer_text(&t->line, "}");
    }
    nr_buffer_text(&t->line, "]");
}

nr_status nr_metrics_eval(nr_trainer *t, bool best, double seconds, nr_error *err)
{
    nr_buffer *b = &t->line;
    b->size = t->values.size = 0;
    nr_buffer_printf(b, "{\"kind\": \"eval\", \"step\": %llu", (unsigned long long)t->at.step);
    add_number(b, "score", t->at.last.score);
    nr_buffer_printf(b, ", \"best\": %s", best ? "true" : "false");
    for (int d = 0; d < 2; d++) add_domain(t, d);
    add_layers(t);
    add_number(b, "seconds", seconds);
    nr_buffer_text(b, "}");
    return write_both(t, err);
}
