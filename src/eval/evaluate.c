/*
 * evaluate.c - nr_evaluate: files in, one JSON object out.
 *
 * Documents are read and scored in groups, so that memory doesn't grow with a
 * file. Everything summed over documents goes through nr_ratio, which brings
 * the standard error; figures by layer are means over scored tokens.
 *
 * Refuses: files without documents, losses that aren't finite, a context the
 * model doesn't have.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"
#include "train/train.h"

#define GROUP_TOKENS ((size_t)1 << 18) /* enough windows for batches of one length to fill up */
#define GATES_KEPT ((size_t)1 << 18)   /* tokens of a domain whose gates are compared */
#define DEFAULT_CONTEXT 2048
#define DEFAULT_BATCH 2048

typedef struct {
    nr_ratio bits[2], nats[2];        /* of backbone and extended: bits a byte, nats a token */
    nr_ratio bits_more, nats_more;    /* extended minus backbone, paired */
    nr_ratio kl, same;                /* a token */
    size_t documents, tokens, bytes;
} figures;

typedef struct {
    const nr_model *model;
    const nr_tokenizer *tokenizer;
    nr_extension *extension;
    const nr_eval_options *opt;
    const nr_listener *listener;
    const char *path;
    nr_scorer scorer;
    figures f;
    int32_t *ids; /* of one document */
    size_t ids_cap, read;
    double fraction, began;
    size_t done;
} work;

/* ---- one file ---- */

static nr_status add_document(work *w, size_t d, nr_error *err)
{
    const nr_scorer *s = &w->scorer;
    size_t first, n = nr_scorer_document(s, d, &first);
    double nll[2] = {0, 0}, kl = 0, same = 0, tokens = (double)n, bytes = (double)s->bytes[d];
    int models = s->extension ? 2 : 1;
    for (size_t i = first; i < first + n; i++)
        for (int k = 0; k < models; k++) nll[k] += s->nll[k][i];
    for (size_t i = first; s->extension && i < first + n; i++) kl += s->kl[i], same += s->same[i];
    w->f.documents++;
    for (int k = 0; k < models; k++) {
        if (!isfinite(nll[k]))
            return nr_fail(err, NR_E_NOT_FINITE, "%s: document %zu: expected a finite loss, found %g", w->path,
                           w->f.documents, nll[k]);
        nr_ratio_add(&w->f.bits[k], nll[k] / M_LN2, bytes);
        nr_ratio_add(&w->f.nats[k], nll[k], tokens);
    }
    w->f.tokens += n;
    w->f.bytes += s->bytes[d];
    if (!s->extension) return NR_OK;
    nr_ratio_add(&w->f.bits_more, (nll[1] - nll[0]) / M_LN2, bytes);
    nr_ratio_add(&w->f.nats_more, nll[1] - nll[0], tokens);
    nr_ratio_add(&w->f.kl, kl, tokens);
    nr_ratio_add(&w->f.same, same, tokens);
    return NR_OK;
}

static nr_status score_group(work *w, nr_error *err)
{
    if (w->scorer.documents == 0) return NR_OK;
    NR_TRY(nr_scorer_run(&w->scorer, err));
    for (size_t d = 0; d < w->scorer.documents; d++) NR_TRY(add_document(w, d, err));
    nr_scorer_clear(&w->scorer);
    return NR_OK;
}

/* The rest of the file is taken to hold as many tokens a byte as what was read. */
static void on_scored(void *user, size_t tokens)
{
    work *w = user;
    char what[64];
    const char *name = strrchr(w->path, '/');
    w->done += tokens;
    double spent = nr_clock() - w->began, all = w->fraction > 0 ? (double)w->read / w->fraction : 0;
    snprintf(what, sizeof what, "scoring %.50s", name ? name + 1 : w->path);
    nr_progress(w->listener, what, (double)w->done, all, spent > 0 ? (double)w->done / spent : 0, "tokens");
}

static nr_status encode(work *w, const char *text, size_t size, size_t *count, nr_error *err)
{
    size_t room = NR_IDS_ROOM(size);
    if (room > w->ids_cap) {
        free(w->ids);
        w->ids_cap = 0;
        NR_TRY(nr_alloc(&w->ids, 2 * room, sizeof *w->ids, "token ids of a document", err));
        w->ids_cap = 2 * room;
    }
    return nr_tokenizer_encode(w->tokenizer, text, size, false, w->ids, w->ids_cap, count, err);
}

static nr_status read_and_score(work *w, nr_corpus *c, nr_error *err)
{
    const char *text;
    size_t size, count, documents = 0, most = w->opt->max_documents ? w->opt->max_documents : SIZE_MAX;
    while (documents < most) {
        NR_TRY(nr_corpus_next(c, &text, &size, err));
        if (!text) break;
        NR_TRY(encode(w, text, size, &count, err));
        if (count == 0) continue;
        NR_TRY(nr_scorer_add(&w->scorer, w->ids, count, size, err));
        w->read += count;
        documents++;
        w->fraction = nr_corpus_fraction(c);
        if (nr_scorer_tokens(&w->scorer) >= GROUP_TOKENS) NR_TRY(score_group(w, err));
    }
    w->fraction = 1;
    return score_group(w, err);
}

static nr_status file_figures(work *w, const char *path, nr_error *err)
{
    nr_corpus *c;
    nr_status st;
    w->path = path;
    w->f = (figures){0};
    w->read = w->done = 0;
    w->began = nr_clock();
    w->scorer.layer_tokens = 0;
    if (w->scorer.layers) memset(w->scorer.layers, 0, w->model->config->L * sizeof *w->scorer.layers);
    NR_TRY(nr_corpus_open(&c, path, w->opt->text_field ? w->opt->text_field : "text", (nr_documents)w->opt->documents,
                          err));
    st = read_and_score(w, c, err);
    nr_corpus_close(c);
    if (st == NR_OK && w->f.documents == 0)
        return nr_fail(err, NR_E_FORMAT, "%s: expected documents, found none", path);
    return st;
}

/* ---- JSON ---- */

/* NaN and infinity have no JSON: null. */
static void put(json_t *o, const char *key, double v)
{
    json_object_set_new(o, key, isfinite(v) ? json_real(v) : json_null());
}

static void put_size(json_t *o, const char *key, size_t v) { json_object_set_new(o, key, json_integer((json_int_t)v)); }

static json_t *model_json(const figures *f, int k)
{
    json_t *o = json_object();
    double nats = nr_ratio_value(&f->nats[k]), error = nr_ratio_stderr(&f->nats[k]);
    put(o, "nats_per_token", nats);
    put(o, "nats_per_token_stderr", error);
    put(o, "perplexity", exp(nats));
    put(o, "perplexity_stderr", exp(nats) * error); /* d exp(x) = exp(x) dx */
    put(o, "bits_per_byte", nr_ratio_value(&f->bits[k]));
    put(o, "bits_per_byte_stderr", nr_ratio_stderr(&f->bits[k]));
    return o;
}

static json_t *difference_json(const figures *f)
{
    json_t *o = json_object();
    put(o, "bits_per_byte", nr_ratio_value(&f->bits_more));
    put(o, "bits_per_byte_stderr", nr_ratio_stderr(&f->bits_more));
    put(o, "nats_per_token", nr_ratio_value(&f->nats_more));
    put(o, "nats_per_token_stderr", nr_ratio_stderr(&f->nats_more));
    return o;
}

static json_t *layers_json(const work *w)
{
    json_t *list = json_array();
    double n = (double)w->scorer.layer_tokens;
    for (size_t l = 0; nr_extension_has_blocks(w->extension) && l < w->model->config->L; l++) {
        json_t *o = json_object();
        put_size(o, "layer", l);
        put(o, "gate_mean", w->scorer.layers[l].gate / n);
        put(o, "gate_abs_mean", w->scorer.layers[l].gate_abs / n);
        put(o, "ratio", w->scorer.layers[l].ratio / n);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *file_json(const work *w, int domain)
{
    json_t *o = json_object();
    json_object_set_new(o, "path", json_string(w->path));
    if (domain >= 0) json_object_set_new(o, "domain", json_string(domain ? "new" : "old"));
    put_size(o, "documents", w->f.documents);
    put_size(o, "tokens", w->f.tokens);
    put_size(o, "bytes", w->f.bytes);
    json_object_set_new(o, "backbone", model_json(&w->f, 0));
    if (!w->extension) return o;
    json_object_set_new(o, "extended", model_json(&w->f, 1));
    json_object_set_new(o, "difference", difference_json(&w->f));
    put(o, "kl", nr_ratio_value(&w->f.kl));
    put(o, "kl_stderr", nr_ratio_stderr(&w->f.kl));
    put(o, "top1_agreement", nr_ratio_value(&w->f.same));
    put(o, "top1_agreement_stderr", nr_ratio_stderr(&w->f.same));
    json_object_set_new(o, "layers", layers_json(w));
    return o;
}

static json_t *auc_json(const nr_thinned gates[2], size_t L)
{
    json_t *list = json_array();
    size_t n[2] = {nr_thinned_count(&gates[0]), nr_thinned_count(&gates[1])};
    for (size_t l = 0; gates[0].values && gates[1].values && n[0] && n[1] && l < L; l++) {
        float *old = gates[0].values + l * gates[0].cap, *new_ = gates[1].values + l * gates[1].cap;
        double auc = nr_domain_auc(old, n[0], new_, n[1]);
        if (isnan(auc)) continue; /* a layer without a gate */
        json_t *o = json_object();
        put_size(o, "layer", l);
        put(o, "auc", auc);
        put(o, "auc_abs", nr_domain_auc_abs(old, n[0], new_, n[1]));
        put_size(o, "old_tokens", n[0]);
        put_size(o, "new_tokens", n[1]);
        json_array_append_new(list, o);
    }
    return list;
}

/* All that ran, the lowest first. */
static json_t *stack_json(const work *w)
{
    nr_extension *all[NR_STACK_MAX];
    size_t count = nr_extension_stack(w->extension, all);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        char *text = nr_extension_describe(all[i]);
        json_t *o = text ? json_loads(text, 0, NULL) : NULL;
        if (o && all[i]->record) json_object_set(o, "training_new", json_object_get(all[i]->record, "new"));
        json_array_append_new(list, o ? o : json_null());
        free(text);
    }
    return list;
}

static json_t *head_json(const work *w)
{
    json_t *o = json_object();
    json_object_set_new(o, "model", json_string(w->model->file->path));
    json_object_set_new(o, "compute", json_string(w->model->ops->name));
    put_size(o, "context", w->scorer.context);
    put_size(o, "stride", w->scorer.stride ? w->scorer.stride : w->scorer.context);
    put_size(o, "prefix_token", (size_t)w->scorer.prefix);
    if (!w->extension) return o;
    char *text = nr_extension_describe(w->extension);
    json_object_set_new(o, "extension", text ? json_loads(text, 0, NULL) : json_null());
    free(text);
    if (w->extension->below) json_object_set_new(o, "extensions", stack_json(w));
    return o;
}

/* ---- the call ---- */

static nr_status set_up(work *w, nr_error *err)
{
    const nr_eval_options *opt = w->opt;
    size_t most = w->model->config->max_context;
    size_t context = opt->context ? opt->context : NR_MIN(most, (size_t)DEFAULT_CONTEXT);
    if (context > most)
        return nr_fail(err, NR_E_USAGE, "context: expected at most %zu tokens (the model's), found %zu", most, context);
    if (opt->stride > context)
        return nr_fail(err, NR_E_USAGE, "stride: expected 1 to the context, %zu, found %zu", context, opt->stride);
    if (opt->documents < 0 || opt->documents > NR_DOCUMENTS_FILE)
        return nr_fail(err, NR_E_USAGE, "documents: expected 0 to 2, found %d", opt->documents);
    w->scorer = (nr_scorer){.model = w->model, .extension = w->extension, .context = context, .stride = opt->stride,
                            .batch_tokens = opt->batch_tokens ? opt->batch_tokens : DEFAULT_BATCH,
                            .listener = w->listener, .scored = on_scored, .user = w};
    return nr_prefix_token(&w->scorer.prefix, w->model, w->tokenizer, err);
}

static int domain_of(const nr_eval_options *opt, size_t file) { return opt->domains ? opt->domains[file] : -1; }

static bool compares_domains(const work *w, const nr_files *files)
{
    bool has[2] = {false, false};
    for (size_t i = 0; i < files->count; i++) {
        int d = domain_of(w->opt, i);
        if (d == 0 || d == 1) has[d] = true;
    }
    return has[0] && has[1] && nr_extension_has_blocks(w->extension);
}

static nr_status all_files(work *w, const nr_files *files, nr_thinned gates[2], json_t *list, nr_error *err)
{
    if (compares_domains(w, files))
        for (int d = 0; d < 2; d++) NR_TRY(nr_thinned_new(&gates[d], w->model->config->L, GATES_KEPT, err));
    for (size_t i = 0; i < files->count; i++) {
        int d = domain_of(w->opt, i);
        w->scorer.gates = (d == 0 || d == 1) && gates[d].values ? &gates[d] : NULL;
        NR_TRY(file_figures(w, files->paths[i], err));
        json_array_append_new(list, file_json(w, d));
    }
    return NR_OK;
}

nr_status nr_evaluate(char **json, const nr_model *m, const nr_tokenizer *t, nr_extension *e, const nr_files *files,
                      const nr_eval_options *opt, const nr_listener *l, nr_error *err)
{
    static const nr_eval_options defaults = {0};
    work w = {.model = m, .tokenizer = t, .extension = e, .opt = opt ? opt : &defaults, .listener = l};
    nr_thinned gates[2] = {{0}, {0}};
    json_t *list = json_array(), *o = NULL;
    nr_status st;
    *json = NULL;
    NR_GO(set_up(&w, err));
    NR_GO(all_files(&w, files, gates, list, err));
    o = head_json(&w);
    json_object_set(o, "files", list);
    if (compares_domains(&w, files)) json_object_set_new(o, "gate_auc", auc_json(gates, m->config->L));
    *json = json_dumps(o, JSON_INDENT(2));
    if (!*json) st = nr_fail(err, NR_E_MEMORY, "out of memory writing the result");
done:
    nr_scorer_free(&w.scorer);
    nr_thinned_free(&gates[0]);
    nr_thinned_free(&gates[1]);
    free(w.ids);
    json_decref(list);
    json_decref(o);
    return st;
}
