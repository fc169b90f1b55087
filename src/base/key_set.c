/*
 * key_set.c - a set of 64-bit keys: open addressing, never more than half full.
 */
#include <stdlib.h>

#include "base/base.h"

static size_t slot_of(const nr_key_set *s, uint64_t key)
{
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & (s->size - 1);
    while (s->keys[i] && s->keys[i] != key) i = (i + 1) & (s->size - 1);
    return i;
}

bool nr_key_has(const nr_key_set *s, uint64_t key)
{
    if (key == 0) key = 1; /* 0 marks an empty slot */
    return s->size > 0 && s->keys[slot_of(s, key)] == key;
}

nr_status nr_key_add(nr_key_set *s, uint64_t key, bool *fresh, nr_error *err)
{
    if (key == 0) key = 1;
    if (s->count * 2 >= s->size) {
        nr_key_set big = {.size = s->size ? s->size * 2 : 1024, .count = s->count};
        NR_TRY(nr_alloc(&big.keys, big.size, sizeof *big.keys, "a set of keys", err));
        for (size_t i = 0; i < s->size; i++)
            if (s->keys[i]) big.keys[slot_of(&big, s->keys[i])] = s->keys[i];
        free(s->keys);
        *s = big;
    }
    size_t i = slot_of(s, key);
    bool is_new = s->keys[i] == 0;
    s->keys[i] = key;
    s->count += is_new;
    if (fresh) *fresh = is_new;
    return NR_OK;
}

void nr_key_free(nr_key_set *s)
{
    free(s->keys);
    *s = (nr_key_set){0};
}
