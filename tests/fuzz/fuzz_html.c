/* Any bytes as a page: no crash, and what comes out is clean UTF-8 paragraphs. */
#include <stdlib.h>
#include <string.h>

#include "prepare/prep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const classes[] = {"menu", "x"}, *const sections[] = {"See also"};
    nr_html_options o = {classes, 2, sections, 1, size % 2 == 1};
    nr_buffer out = {0};
    nr_error err;
    if (nr_html_prose(&out, (const char *)data, size, &o, NULL, "page", &err) == NR_OK && out.size > 0) {
        const char *p = out.data, *start;
        size_t n, total = 0;
        if (!nr_utf8_valid(out.data, out.size) || strlen(out.data) != out.size) abort();
        while (nr_next_paragraph(&p, &start, &n)) total += n + 2;
        if (total != out.size + 2) abort();
    }
    nr_buffer_free(&out);
    return 0;
}
