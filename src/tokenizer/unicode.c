/*
 * unicode.c - class table and the two UTF-8 steps that aren't inline.
 */
#include <string.h>

#include "tokenizer/unicode.h"

typedef struct {
    uint32_t first;
    uint8_t bits;
} class_run;

#include "tokenizer/unicode_classes.inc"

void nr_unicode_classes(uint8_t *classes)
{
    for (size_t i = 0; i < NR_COUNT(class_runs); i++) {
        size_t end = i + 1 < NR_COUNT(class_runs) ? class_runs[i + 1].first : NR_CODE_POINTS;
        memset(classes + class_runs[i].first, class_runs[i].bits, end - class_runs[i].first);
    }
    classes[NR_INVALID] = 0;
}

size_t nr_utf8_last(const unsigned char *from, const unsigned char *p, uint32_t *cp)
{
    size_t room = (size_t)(p - from);
    for (size_t n = 2; n <= NR_MIN(room, 4u); n++)
        if (nr_utf8_next(p - n, n, cp) == n) return n;
    nr_utf8_next(p - 1, 1, cp);
    return 1;
}

size_t nr_utf8_put(char out[4], uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3F));
        cp >>= 6;
    }
    out[0] = (char)(lead[n] | cp);
    return n;
}
