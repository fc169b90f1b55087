/*
 * words.c - open addressing from byte strings to ids, at most half full.
 */
#include <stdlib.h>

#include "tokenizer/bpe.h"

nr_status nr_words_new(nr_words *w, const nr_bytes *texts, size_t count, nr_error *err)
{
    size_t slots = 16;
    while (slots / 2 < count) slots *= 2;
    *w = (nr_words){.mask = slots - 1, .texts = texts};
    return nr_alloc(&w->slots, slots, sizeof *w->slots, "table of words", err);
}

void nr_words_free(nr_words *w)
{
    free(w->slots);
    w->slots = NULL;
}

int32_t nr_words_add(nr_words *w, int32_t id)
{
    nr_bytes t = w->texts[id];
    if (t.size == 0) return -1;
    nr_word_key k = nr_word_key_of(t.data, t.size, t.size);
    int32_t there = nr_words_find(w, k, t.data, t.size);
    if (there >= 0) return there;
    size_t i = k.hash & w->mask;
    while (w->slots[i].size) i = (i + 1) & w->mask;
    w->slots[i] = (nr_word_slot){.first = k.first, .size = (uint32_t)t.size, .id = id};
    return -1;
}
