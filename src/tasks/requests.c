/*
 * requests.c - a continuation behind a context, as ids, the way
 * lm-evaluation-harness cuts it: white space at the end of the context belongs
 * to the continuation; both together and the context alone are encoded, and
 * what stands behind the context's length in the former is scored. Behind an
 * empty context stands the begin-of-text token, else the end-of-text token.
 * What is longer than the context window loses its beginning.
 */
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

static nr_status grow(void *list, size_t *cap, size_t need, size_t size, nr_error *err)
{
    void *p;
    size_t bytes, more = *cap ? *cap : 4096;
    if (need <= *cap) return NR_OK;
    while (more < need && more <= SIZE_MAX / 2) more *= 2;
    memcpy(&p, list, sizeof p);
    if (nr_mul_overflows(more, size, &bytes) || !(p = realloc(p, bytes)))
        return nr_fail(err, NR_E_MEMORY, "requests: out of memory, %zu elements wanted", more);
    memcpy(list, &p, sizeof p);
    *cap = more;
    return NR_OK;
}

void nr_requests_clear(nr_requests *r) { r->ids_count = r->count = r->longest = 0; }

void nr_requests_free(nr_requests *r)
{
    free(r->ids);
    free(r->list);
    free(r->whole);
}

/* Appends the ids of a text behind the list's; a begin-of-text token first where the tokenizer's file asks for it. */
static nr_status encode(nr_requests *r, const char *text, size_t n, bool bos, size_t *count, nr_error *err)
{
    NR_TRY(grow(&r->ids, &r->ids_cap, r->ids_count + NR_IDS_ROOM(n) + 2, sizeof *r->ids, err));
    int32_t *to = r->ids + r->ids_count;
    NR_TRY(nr_tokenizer_encode(r->tokenizer, text, n, true, to + 1, NR_IDS_ROOM(n), count, err));
    bool has = *count > 0 && to[1] == nr_tokenizer_bos(r->tokenizer);
    if (bos && r->add_bos && !has) {
        to[0] = nr_tokenizer_bos(r->tokenizer);
        (*count)++;
    } else {
        memmove(to, to + 1, *count * sizeof *to);
    }
    return NR_OK;
}

static nr_status encode_pair(nr_requests *r, const char *text, size_t context, size_t whole, size_t *scored, size_t *all, nr_error *err)
{
    size_t count, head;
    if (context == 0) {
        NR_TRY(encode(r, text, whole, false, scored, err));
        int32_t *to = r->ids + r->ids_count;
        if (*scored > 0 && to[0] == r->prefix) return *all = (*scored)--, NR_OK;
        memmove(to + 1, to, *scored * sizeof *to);
        to[0] = r->prefix;
        *all = *scored + 1;
        return NR_OK;
    }
    NR_TRY(encode(r, text, whole, true, &count, err));
    NR_TRY(grow(&r->whole, &r->whole_cap, count + 1, sizeof *r->whole, err));
    memcpy(r->whole, r->ids + r->ids_count, count * sizeof *r->whole);
    NR_TRY(encode(r, text, context, true, &head, err));
    *scored = count > head ? count - head : 0;
    *all = head + *scored;
    NR_TRY(grow(&r->ids, &r->ids_cap, r->ids_count + *all, sizeof *r->ids, err));
    if (*scored) memcpy(r->ids + r->ids_count + head, r->whole + head, *scored * sizeof *r->ids);
    return NR_OK;
}

nr_status nr_requests_add(nr_requests *r, const char *context, const char *continuation, const char *where, nr_error *err)
{
    size_t n = strlen(context), head = n - nr_text_blank_tail(context, n), scored, all;
    nr_buffer text = {0};
    nr_buffer_add(&text, context, n);
    nr_buffer_text(&text, continuation);
    nr_status st = text.failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory", where) : NR_OK;
    if (st == NR_OK) st = encode_pair(r, text.data, n ? head : 0, text.size, &scored, &all, err);
    nr_buffer_free(&text);
    NR_TRY(st);
    if (scored == 0 || all < 2 || scored > r->context)
        return nr_fail(err, NR_E_FORMAT, "%s: expected a choice of 1 to %zu tokens, found %zu", where, r->context, scored);
    NR_TRY(grow(&r->list, &r->cap, r->count + 1, sizeof *r->list, err));
    nr_request *q = &r->list[r->count++];
    *q = (nr_request){.begin = r->ids_count, .length = all - 1, .scored = scored, .cut = all - 1 > r->context};
    if (q->cut) {
        memmove(r->ids + r->ids_count, r->ids + r->ids_count + all - r->context - 1, (r->context + 1) * sizeof *r->ids);
        q->length = r->context;
    }
    r->ids_count += q->length + 1;
    r->longest = NR_MAX(r->longest, q->length);
    return NR_OK;
}
