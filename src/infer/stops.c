/* stops.c - ends a text at the first stop string, whatever cuts its bytes come in. */
#include <string.h>

#include "infer/infer.h"

/* Longest suffix of the held bytes that begins a stop string. */
static size_t open_suffix(const nr_stops *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t n = NR_MIN(strlen(s->stops[i]) - 1, s->held.size);
        while (n > longest && memcmp(s->held.data + s->held.size - n, s->stops[i], n) != 0) n--;
        longest = NR_MAX(longest, n);
    }
    return longest;
}

static bool first_stop(const nr_stops *s, size_t *at)
{
    bool found = false;
    for (size_t i = 0; i < s->count; i++) {
        const char *hit = memmem(s->held.data, s->held.size, s->stops[i], strlen(s->stops[i]));
        if (!hit || (found && (size_t)(hit - s->held.data) >= *at)) continue;
        *at = (size_t)(hit - s->held.data);
        found = true;
    }
    return found;
}

void nr_stops_add(nr_stops *s, const char *bytes, size_t n, nr_buffer *out)
{
    size_t free_bytes = 0;
    if (s->found || n == 0) return;
    nr_buffer_add(&s->held, bytes, n);
    if (s->held.failed) {
        out->failed = true;
        return;
    }
    s->found = first_stop(s, &free_bytes);
    if (!s->found) free_bytes = s->held.size - open_suffix(s);
    nr_buffer_add(out, s->held.data, free_bytes);
    s->held.size -= free_bytes;
    memmove(s->held.data, s->held.data + free_bytes, s->held.size);
}

void nr_stops_end(nr_stops *s, nr_buffer *out)
{
    if (!s->found && s->held.size > 0) nr_buffer_add(out, s->held.data, s->held.size);
    s->held.size = 0;
}

void nr_stops_free(nr_stops *s) { nr_buffer_free(&s->held); }
