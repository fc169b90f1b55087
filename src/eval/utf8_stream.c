/*
 * utf8_stream.c - tokens are pieces of bytes and may end inside a character;
 * what leaves here is whole characters only.
 */
#include <string.h>

#include "eval/eval.h"
#include "tokenizer/unicode.h"

static const char replacement[] = "\xEF\xBF\xBD";

/* Whether [p, p + n) may still become one character with more bytes. */
static bool unfinished(const unsigned char *p, size_t n)
{
    size_t want = p[0] >= 0xF0 && p[0] <= 0xF4 ? 4 : (p[0] & 0xF0) == 0xE0 ? 3 : p[0] >= 0xC2 && p[0] <= 0xDF ? 2 : 1;
    if (n >= want) return false;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return false;
    return true;
}

static void take(nr_utf8_stream *s, unsigned char byte, nr_buffer *out)
{
    s->held[s->count++] = byte;
    while (s->count > 0 && !unfinished(s->held, s->count)) {
        uint32_t cp;
        size_t n = nr_utf8_next(s->held, s->count, &cp);
        if (cp == NR_INVALID)
            nr_buffer_text(out, replacement);
        else
            nr_buffer_add(out, s->held, n);
        s->count -= n;
        memmove(s->held, s->held + n, s->count);
    }
}

void nr_utf8_stream_add(nr_utf8_stream *s, const char *bytes, size_t n, nr_buffer *out)
{
    for (size_t i = 0; i < n; i++) take(s, (unsigned char)bytes[i], out);
}

void nr_utf8_stream_end(nr_utf8_stream *s, nr_buffer *out)
{
    if (s->count > 0) nr_buffer_text(out, replacement);
    s->count = 0;
}
