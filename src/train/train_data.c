/*
 * train_data.c - the texts of a run: tokenised, cut into rows, split into
 * training and validation.
 *
 * Validation comes from files of its own, or is split off the training files by
 * document; either way no validation document is trained on: equal texts within
 * a set are dropped when it is tokenised, and training leaves out what stands in
 * the validation files. Refuses shares of old text that the files can't give.
 */
#include <string.h>

#include "train/train.h"

/* Whether old rows are needed beside those that are trained on. */
static bool wants_old(const nr_settings *s)
{
    const nr_method *method = nr_method_find(s->method.s);
    return method && method->anchored;
}

nr_status nr_train_check_shares(const nr_run *run, const nr_settings *s, nr_error *err)
{
    if (s->old_share > 0 && run->train[NR_OLD].count == 0)
        return nr_fail(err, NR_E_USAGE, "--old-share %g: expected --old text to draw from, found none; give some, or --old-share 0",
                       s->old_share);
    if (s->old_share < 1 && run->train[NR_NEW].count == 0)
        return nr_fail(err, NR_E_USAGE, "--old-share %g: expected --new text to draw from, found none", s->old_share);
    if (wants_old(s) && run->train[NR_OLD].count == 0)
        return nr_fail(err, NR_E_USAGE, "--method ewc: expected --old text to find the Fisher information from, found none");
    if (s->lwf_alpha > 0 && s->lwf_rows == NR_DISTIL_OLD && s->old_share == 0)
        return nr_fail(err, NR_E_USAGE, "--lwf-rows old: expected --old-share above 0, found 0");
    return NR_OK;
}

static nr_status open_tokens(nr_trainer *t, const nr_run *run, size_t set, nr_error *err)
{
    const nr_files *f = nr_run_files(run, set);
    if (f->count == 0) return NR_OK;
    NR_TRY(nr_tokens_open(&t->tokens[set], f, t->tokenizer, &t->s, run->cache_folder, t->listener, err));
    return NR_OK;
}

/* Rank 0 first: where the others see its cache they need not tokenise too. */
static nr_status open_in_turn(nr_trainer *t, const nr_run *run, size_t set, nr_error *err)
{
    nr_status st = nr_train_leads(t) ? open_tokens(t, run, set, err) : NR_OK;
    NR_TRY(nr_train_agree(t, st, err));
    return nr_train_leads(t) ? NR_OK : open_tokens(t, run, set, err);
}

static nr_status open_rows(nr_trainer *t, int d, nr_error *err)
{
    const nr_settings *s = &t->s;
    const nr_tokens *train = t->tokens[d], *valid = t->tokens[2 + d];
    int32_t eos = nr_tokenizer_eos(t->tokenizer);
    double share = valid ? 0 : s->validation_share;
    char what[64];
    if (train && (d == NR_NEW ? s->old_share < 1 : s->old_share > 0 || wants_old(s))) {
        snprintf(what, sizeof what, "%s training text", nr_domain_names[d]);
        NR_TRY(nr_rows_open(&t->train[d], train, valid, s->context, eos, s->seed, d == NR_NEW, share, false, what, err));
    }
    if (!valid && (!train || share == 0)) return NR_OK;
    snprintf(what, sizeof what, "%s validation text", nr_domain_names[d]);
    return nr_rows_open(&t->valid[d], valid ? valid : train, NULL, s->context, eos, s->seed, d == NR_NEW, share, true, what, err);
}

static void say_domain(nr_trainer *t, int d)
{
    size_t duplicates = 0, documents[2] = {0}, rows[2] = {0};
    const nr_rows *both[2] = {t->train[d], t->valid[d]};
    for (size_t k = 0; k < 2; k++) {
        if (t->tokens[2 * k + (size_t)d]) duplicates += nr_tokens_duplicates(t->tokens[2 * k + (size_t)d]);
        if (!both[k]) continue;
        documents[k] = nr_rows_documents(both[k]);
        rows[k] = nr_rows_count(both[k]);
    }
    size_t left_out = t->train[d] ? nr_rows_left_out(t->train[d]) : 0;
    nr_train_say(t, "%s text: training %zu documents, %zu rows of %zu tokens; validation %zu documents, %zu rows; %zu duplicates dropped",
                 nr_domain_names[d], documents[0], rows[0], t->s.context, documents[1], rows[1], duplicates);
    if (left_out)
        nr_train_say(t, "%s text: %zu training documents stand in the validation files too and are left out", nr_domain_names[d], left_out);
}

nr_status nr_train_open_data(nr_trainer *t, const nr_run *run, nr_error *err)
{
    NR_TRY(nr_tokenizer_open(&t->tokenizer, run->model, NULL, err));
    if (nr_tokenizer_eos(t->tokenizer) < 0)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: the tokenizer names no end-of-text token to join documents with", run->model);
    for (size_t set = 0; set < 4; set++) NR_TRY(open_in_turn(t, run, set, err));
    for (int d = 0; d < 2; d++) {
        NR_TRY(open_rows(t, d, err));
        if (t->train[d] || t->valid[d]) say_domain(t, d);
    }
    return NR_OK;
}
