/*
 * read_record.c - a document on its way: emptied for the next one, and given up.
 */
#include <string.h>

#include "prepare/flow.h"

/* Room that one long record took isn't kept for all that follow. */
static void clear(nr_buffer *b)
{
    if (b->cap > ((size_t)256 << 10)) nr_buffer_free(b);
    b->size = 0;
}

void nr_record_clear(nr_record *r)
{
    clear(&r->source);
    clear(&r->text);
    clear(&r->keys);
    r->charset[0] = r->language[0] = 0;
    r->language_share = 0;
    r->dropped = false;
    r->kind = NR_RECORD_TEXT;
}

void nr_record_free(nr_record *r)
{
    nr_buffer_free(&r->source);
    nr_buffer_free(&r->text);
    nr_buffer_free(&r->keys);
    *r = (nr_record){0};
}
