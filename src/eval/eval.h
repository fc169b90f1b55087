/*
 * eval.h - the inside of scoring: which windows a document is cut into, sums
 * over documents with their standard errors, gates kept of many tokens, and the
 * pieces of text that tokens stand for. Everything but score.c, evaluate.c and
 * token_gates.c is a pure function of plain arrays.
 */
#ifndef NR_EVAL_H
#define NR_EVAL_H

#include "data/data.h"
#include "model/extension.h"

/* ---- windows.c ----
 * A document of n tokens t[0..n) is scored on the sequence s = prefix, t[0],
 * ... t[n-1]: input s[j] predicts t[j]. A window is inputs [begin, begin +
 * length) of s, of which the last `scored` predictions count. */
typedef struct {
    size_t begin, length, scored;
} nr_window;
/* stride 0: the context, so that every token is scored once with disjoint
 * windows, the last one moved back to be full; these are the rolling windows
 * of lm-evaluation-harness. Needs 1 <= stride <= context. */
size_t nr_window_count(size_t tokens, size_t context, size_t stride);
nr_window nr_window_at(size_t tokens, size_t context, size_t stride, size_t i);
/* Length that a window is padded to: few different ones, at most an eighth longer. */
size_t nr_window_padded(size_t length, size_t context);

/* ---- ratio.c ----
 * r = sum y / sum x over documents, and its standard error from the linearised
 * residuals y - r x: se = sqrt(n / (n - 1) sum (y - r x)^2) / sum x. */
typedef struct {
    double n, y, x, yy, xy, xx;
} nr_ratio;
void nr_ratio_add(nr_ratio *r, double y, double x);
double nr_ratio_value(const nr_ratio *r);  /* NaN where sum x = 0 */
double nr_ratio_stderr(const nr_ratio *r); /* NaN with fewer than two documents */

/* ---- thinned.c ---- */

/* Every step-th token's value in each of L layers, step a power of two that
 * grows so that at most cap tokens are kept. */
typedef struct {
    float *values; /* (L, cap) */
    size_t L, cap, step, seen;
} nr_thinned;
nr_status nr_thinned_new(nr_thinned *s, size_t L, size_t cap, nr_error *err);
void nr_thinned_free(nr_thinned *s);
/* Makes room for tokens [seen, seen + count). */
void nr_thinned_reserve(nr_thinned *s, size_t count);
void nr_thinned_put(nr_thinned *s, size_t layer, size_t token, float value);
size_t nr_thinned_count(const nr_thinned *s); /* kept of the tokens seen */

/* ---- utf8_stream.c: bytes that come in any cut, out as valid UTF-8 ---- */
typedef struct {
    unsigned char held[4]; /* the start of a character whose end hasn't come yet */
    size_t count;
} nr_utf8_stream;
/* What can't become a character is replaced by U+FFFD. */
void nr_utf8_stream_add(nr_utf8_stream *s, const char *bytes, size_t n, nr_buffer *out);
void nr_utf8_stream_end(nr_utf8_stream *s, nr_buffer *out);

/* ---- score.c: a group of documents through the model ---- */

/* Sums over scored tokens of one layer. */
typedef struct {
    double gate, gate_abs, ratio;
} nr_layer_sums;

typedef struct {
    const nr_model *model;
    nr_extension *extension; /* NULL: the backbone alone */
    size_t context, stride, batch_tokens;
    int32_t prefix;
    const nr_listener *listener;
    /* documents of the group */
    int32_t *ids;            /* each document: prefix, then its tokens */
    size_t ids_count, ids_cap;
    size_t *ends;            /* (documents) where a document's ids end */
    size_t *bytes;           /* (documents) */
    size_t documents, documents_cap;
    /* by token of the group: nats, divergence, whether the first choice is the same */
    double *nll[2], *kl;     /* nll[0] backbone, [1] extended */
    uint8_t *same;
    size_t tokens_cap;
    /* over everything scored so far */
    nr_layer_sums *layers;   /* (L) */
    size_t layer_tokens;
    nr_thinned *gates;       /* where gates are kept, or NULL */
    void (*scored)(void *user, size_t tokens); /* after each batch; may be NULL */
    void *user;
} nr_scorer;

void nr_scorer_free(nr_scorer *s);
/* Appends a document of `count` tokens. */
nr_status nr_scorer_add(nr_scorer *s, const int32_t *tokens, size_t count, size_t bytes, nr_error *err);
/* Tokens of document d, and the first one's index in nll, kl and same. */
size_t nr_scorer_document(const nr_scorer *s, size_t d, size_t *first);
size_t nr_scorer_tokens(const nr_scorer *s);
/* Scores the group: fills nll, kl and same, adds to layers and gates. */
nr_status nr_scorer_run(nr_scorer *s, nr_error *err);
/* Empties the group; layer sums stay. */
void nr_scorer_clear(nr_scorer *s);

/* The token before a text: the tokenizer's or the model's BOS, else its EOS. */
nr_status nr_prefix_token(int32_t *out, const nr_model *m, const nr_tokenizer *t, nr_error *err);
/* Whether block hooks stand beside the FFN, so that gate and norm figures mean something. */
bool nr_extension_has_blocks(const nr_extension *e);

#endif
