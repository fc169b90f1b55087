/*
 * step_language.c - keeps documents in the languages asked for, and drops
 * paragraphs in others from them. A document is judged by its first 64 KiB; a
 * paragraph of less than 50 bytes is taken to be in its document's language.
 */
#include <string.h>

#include "prepare/flow.h"
#include "prepare/text_model.h"

#define JUDGED ((size_t)64 << 10)
#define SHORT ((size_t)50)

static bool wanted(const nr_language_options *o, const char *label)
{
    if (o->wanted_count == 0) return true;
    for (size_t i = 0; i < o->wanted_count; i++)
        if (strcmp(o->wanted[i], label) == 0) return true;
    return false;
}

/* Whether the paragraph stays; counts its language. */
static bool keep_paragraph(const nr_language_options *o, const nr_record *r, const char *s, size_t n, nr_counts *c)
{
    char label[32];
    double share = 0;
    if (n < SHORT || !nr_text_model_predict(o->model, s, n, label, &share)) {
        nr_counts_language(c, r->language, 0, 1, n);
        return true;
    }
    label[sizeof r->language - 1] = 0;
    nr_counts_language(c, label, 0, 1, n);
    return share < o->paragraph_share || strcmp(label, r->language) == 0 || wanted(o, label);
}

static void filter_paragraphs(const nr_language_options *o, nr_record *r, nr_counts *c)
{
    size_t to = 0;
    char *s = r->text.data, *end = s + r->text.size;
    for (char *p = s; p < end;) {
        char *stop = memmem(p, (size_t)(end - p), "\n\n", 2);
        size_t n = (size_t)((stop ? stop : end) - p);
        char *next = stop ? stop + 2 : end;
        if (keep_paragraph(o, r, p, n, c)) {
            if (to > 0) memcpy(s + to, "\n\n", 2), to += 2;
            memmove(s + to, p, n);
            to += n;
        } else {
            c->v.language_other_paragraphs++;
        }
        p = next;
    }
    r->text.size = to;
    s[to] = 0;
}

nr_status nr_step_language(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const nr_language_options *o = self;
    char label[32];
    double share = 0;
    (void)err;
    bool known = nr_text_model_predict(o->model, r->text.data, NR_MIN(r->text.size, JUDGED), label, &share);
    if (!known || share < o->share) {
        nr_counts_language(c, "?", 1, 0, r->text.size);
        c->v.language_unclear_documents++;
        r->dropped = true;
        return NR_OK;
    }
    snprintf(r->language, sizeof r->language, "%.7s", label);
    r->language_share = share;
    nr_counts_language(c, r->language, 1, 0, 0);
    if (!wanted(o, label)) {
        nr_counts_language(c, r->language, 0, 0, r->text.size);
        c->v.language_other_documents++;
        r->dropped = true;
        return NR_OK;
    }
    filter_paragraphs(o, r, c);
    if (r->text.size == 0) {
        c->v.language_other_documents++;
        r->dropped = true;
        return NR_OK;
    }
    NR_COUNT_OUT(c, language, &r->text);
    return NR_OK;
}
