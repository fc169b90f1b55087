/*
 * token_gates.c - the gate of every token of a few texts, with the text that
 * each token stands for: what a coloured text is drawn from.
 *
 * A token's gates are those of the row in which it is the input. Its text is
 * the whole characters that its bytes complete; the pieces joined are the text.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

typedef struct {
    const nr_model *model;
    const nr_tokenizer *tokenizer;
    nr_extension *extension;
    int32_t *ids; /* prefix, then the text's tokens */
    size_t count; /* of them all */
    nr_observation seen;
    nr_pass *pass;
} work;

static nr_status encode(work *w, const char *text, size_t number, nr_error *err)
{
    size_t size = strlen(text), most = w->model->config->max_context;
    NR_TRY(nr_alloc(&w->ids, NR_IDS_ROOM(size) + 1, sizeof *w->ids, "token ids", err));
    NR_TRY(nr_prefix_token(w->ids, w->model, w->tokenizer, err));
    NR_TRY(nr_tokenizer_encode(w->tokenizer, text, size, false, w->ids + 1, NR_IDS_ROOM(size), &w->count, err));
    w->count++;
    if (w->count < 2 || w->count > most)
        return nr_fail(err, NR_E_USAGE, "text %zu: expected 1 to %zu tokens, found %zu", number + 1, most - 1,
                       w->count - 1);
    return NR_OK;
}

static nr_status forward(work *w, nr_error *err)
{
    size_t cells = w->model->config->L * w->count;
    nr_pass_options opt = {.B = 1, .T = w->count};
    nr_batch b = {.B = 1, .T = w->count, .ids = w->ids};
    nr_extension *all[NR_STACK_MAX];
    size_t count = nr_extension_stack(w->extension, all);
    NR_TRY(nr_pass_new(&w->pass, w->model, all, count, &opt, err));
    NR_TRY(nr_alloc(&w->seen.ffn_norm, cells, sizeof(double), "norms", err));
    NR_TRY(nr_alloc(&w->seen.ext_norm, cells, sizeof(double), "norms", err));
    NR_TRY(nr_alloc(&w->seen.gate, cells, sizeof(double), "gates", err));
    nr_pass_observe(w->pass, &w->seen);
    return nr_pass_forward(w->pass, &b, err);
}

static json_t *token_json(const work *w, size_t i, const char *piece)
{
    json_t *o = json_object(), *gates = json_array();
    double sum = 0;
    size_t gated = 0;
    for (size_t l = 0; l < w->model->config->L; l++) {
        double g = w->seen.gate[l * w->count + i];
        json_array_append_new(gates, isfinite(g) ? json_real(g) : json_null());
        if (isfinite(g)) sum += g, gated++;
    }
    json_object_set_new(o, "text", json_string(piece));
    json_object_set_new(o, "mean", gated ? json_real(sum / (double)gated) : json_null());
    json_object_set_new(o, "gates", gates);
    return o;
}

static nr_status tokens_json(const work *w, json_t *list, nr_error *err)
{
    nr_utf8_stream stream = {0};
    nr_buffer piece = {0};
    for (size_t i = 1; i < w->count; i++) {
        size_t n;
        const char *bytes = nr_tokenizer_token(w->tokenizer, w->ids[i], &n);
        piece.size = 0;
        nr_buffer_add(&piece, "", 0);
        if (bytes) nr_utf8_stream_add(&stream, bytes, n, &piece);
        if (i + 1 == w->count) nr_utf8_stream_end(&stream, &piece);
        if (piece.failed) break;
        json_array_append_new(list, token_json(w, i, piece.data));
    }
    bool failed = piece.failed;
    nr_buffer_free(&piece);
    return failed ? nr_fail(err, NR_E_MEMORY, "out of memory writing the gates") : NR_OK;
}

static nr_status text_json(work w, const char *text, size_t number, json_t *texts, nr_error *err)
{
    json_t *tokens = json_array(), *o = json_object();
    nr_status st;
    NR_GO(encode(&w, text, number, err));
    NR_GO(forward(&w, err));
    NR_GO(tokens_json(&w, tokens, err));
    json_object_set(o, "tokens", tokens);
    json_array_append(texts, o);
done:
    json_decref(tokens);
    json_decref(o);
    nr_pass_free(w.pass);
    free(w.ids);
    free(w.seen.ffn_norm);
    free(w.seen.ext_norm);
    free(w.seen.gate);
    return st;
}

nr_status nr_token_gates(char **json, const nr_model *m, const nr_tokenizer *t, nr_extension *e,
                         const char *const *texts, size_t count, nr_error *err)
{
    work w = {.model = m, .tokenizer = t, .extension = e};
    nr_status st = NR_OK;
    *json = NULL;
    if (!nr_extension_has_blocks(e))
        return nr_fail(err, NR_E_UNSUPPORTED, "token gates: expected an extension with gates, found %s",
                       e ? e->method->name : "none");
    json_t *list = json_array(), *o = json_object();
    for (size_t i = 0; st == NR_OK && i < count; i++) st = text_json(w, texts[i], i, list, err);
    json_object_set(o, "texts", list);
    if (st == NR_OK) *json = json_dumps(o, JSON_COMPACT);
    if (st == NR_OK && !*json) st = nr_fail(err, NR_E_MEMORY, "out of memory writing the gates");
    json_decref(list);
    json_decref(o);
    return st;
}
