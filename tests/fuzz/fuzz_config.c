/* fuzz_config.c - config.json and generation_config.json. What is accepted is within the bounds. */
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *j;
    nr_config c;
    nr_error err;
    if (nr_json_parse(&j, (const char *)data, size, "config.json", &err) != NR_OK) return 0;
    if (nr_config_from_json(&c, j, "config.json", &err) == NR_OK) {
        if (c.D % 2 || c.H % c.K || c.V == 0 || c.L == 0 || c.chat_template) abort();
        if (nr_config_read_ids(&c, j, "generation_config.json", &err) == NR_OK &&
            nr_config_check(&c, "generation_config.json", &err) != NR_OK)
            abort();
    } else if (strchr(err.message, '\n') || !strstr(err.message, "config.json: ")) {
        abort();
    }
    json_decref(j);
    return 0;
}
