/*
 * unicode.h - UTF-8, character classes and NFC exactly as the `tokenizers`
 * package has them. Its regular expressions, digit splitter and normalizer
 * carry different Unicode versions, so the tables are probed from it
 * (tests/golden/gen_tokenizer_unicode.py), not taken from the standard.
 */
#ifndef NR_UNICODE_H
#define NR_UNICODE_H

#include "base/base.h"

enum {
    NR_LETTER = 1,  /* \p{L} of the regular expressions */
    NR_NUMBER = 2,  /* \p{N} */
    NR_SPACE = 4,   /* \s */
    NR_DIGIT = 8,   /* what the Digits splitter isolates: knows newer scripts than \p{N} */
    NR_WORD = 16,   /* \w beside a single_word token */
    NR_UNSAFE = 32  /* may change under NFC or join what stands before it */
};

#define NR_CODE_POINTS 0x110000u
/* What a byte that is not part of valid UTF-8 decodes to; its class is 0, "other". */
#define NR_INVALID NR_CODE_POINTS

/* Fills the flat table, (NR_CODE_POINTS + 1) class bytes. */
void nr_unicode_classes(uint8_t *classes);

/* Decodes one symbol of [p, p + n), n > 0, into *cp and returns its length.
 * Overlong forms, surrogates and truncated sequences are invalid bytes, taken one by one. */
static inline size_t nr_utf8_next(const unsigned char *p, size_t n, uint32_t *cp)
{
    unsigned c = p[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c >= 0xC2 && c <= 0xDF && n >= 2 && (p[1] & 0xC0) == 0x80) {
        *cp = (c & 0x1F) << 6 | (p[1] & 0x3F);
        return 2;
    }
    if ((c & 0xF0) == 0xE0 && n >= 3 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80) {
        *cp = (c & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
        if (*cp >= 0x800 && (*cp < 0xD800 || *cp > 0xDFFF)) return 3;
    } else if ((c & 0xF8) == 0xF0 && n >= 4 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80 && (p[3] & 0xC0) == 0x80) {
        *cp = (c & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
        if (*cp >= 0x10000 && *cp < NR_CODE_POINTS) return 4;
    }
    *cp = NR_INVALID;
    return 1;
}

/* Decodes the symbol that ends at p, not before `from`; from < p. */
size_t nr_utf8_last(const unsigned char *from, const unsigned char *p, uint32_t *cp);
/* Writes a code point, returns its length (1 to 4). */
size_t nr_utf8_put(char out[4], uint32_t cp);

/* ---- nfc.c ---- */

/* True when no symbol of the text can change under NFC: the usual case. */
bool nr_nfc_unchanged(const uint8_t *classes, const char *text, size_t n);
/* Adds the text in normalisation form C; invalid bytes pass through. It grows
 * to three times its bytes at most. */
nr_status nr_nfc(nr_buffer *out, const uint8_t *classes, const char *text, size_t n, nr_error *err);

#endif
