/* Any bytes as a page: no crash, and its main text is UTF-8 without NULs. The first byte chooses the options. */
#include <stdlib.h>
#include <string.h>

#include "prepare/html_main.h"
#include "prepare/prep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    nr_main_options o = {(data[0] & 1) != 0, (data[0] & 2) != 0, (data[0] & 4) != 0};
    nr_buffer out = {0};
    nr_error err;
    char *page = malloc(size); /* its end is where a read too far is seen */
    if (!page) return 0;
    memcpy(page, data + 1, size - 1);
    if (nr_html_main(&out, page, size - 1, &o, NULL, "page", &err) == NR_OK && out.size > 0)
        if (!nr_utf8_valid(out.data, out.size) || strlen(out.data) != out.size) abort();
    nr_buffer_free(&out);
    free(page);
    return 0;
}
