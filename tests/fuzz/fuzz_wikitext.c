/* Any bytes as MediaWiki's markup: no crash; UTF-8 stays UTF-8. */
#include <stdlib.h>

#include "prepare/prep.h"
#include "prepare/read_formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nr_buffer out = {0};
    nr_wikitext_plain(&out, (const char *)data, size);
    if (out.size > 0 && nr_utf8_valid((const char *)data, size) && !nr_utf8_valid(out.data, out.size)) abort();
    nr_buffer_free(&out);
    return 0;
}
