/* Any bytes through every splitter and the normalizer: each byte in one piece, the text in normal form stays so. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/pretokenize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void cover(const nr_pretokenizer *how, const uint8_t *classes, const char *text, size_t n)
{
    nr_pieces w;
    const unsigned char *p;
    size_t m, total = 0;
    nr_pieces_start(&w, how, classes, text, n);
    while (nr_pieces_next(&w, &p, &m)) {
        if (m == 0 || p != (const unsigned char *)text + total) abort();
        total += m;
    }
    if (total != n) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t classes[NR_CODE_POINTS + 1];
    if (!classes['a']) nr_unicode_classes(classes);
    char *text = malloc(size + !size); /* of the exact size, so that reading past it is seen */
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    for (nr_split s = NR_SPLIT_GPT2; s <= NR_SPLIT_DIGIT_GPT2; s++) {
        nr_pretokenizer one = {.steps = {s}, .count = 1}, two = {.steps = {NR_SPLIT_DIGITS, s}, .count = 2};
        cover(&one, classes, text, size);
        cover(&two, classes, text, size);
    }
    nr_buffer once = {0}, twice = {0};
    nr_error err;
    if (nr_nfc(&once, classes, text, size, &err) == NR_OK && nr_nfc(&twice, classes, once.data ? once.data : "", once.size, &err) == NR_OK) {
        if (once.size > 3 * size || once.size != twice.size || (once.size && memcmp(once.data, twice.data, once.size))) abort();
        if (nr_nfc_unchanged(classes, text, size) && (once.size != size || (size && memcmp(once.data, text, size)))) abort();
    }
    nr_buffer_free(&once);
    nr_buffer_free(&twice);
    free(text);
    return 0;
}
