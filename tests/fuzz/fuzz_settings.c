/*
 * fuzz_settings.c - hostile bytes as JSON, and that JSON as settings. What is
 * taken comes back the same; what is refused changes nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const nr_settings *s)
{
    nr_settings back;
    nr_error err;
    nr_settings_default(&back);
    json_t *j = nr_settings_to_json(s, NULL);
    if (!j || nr_settings_from_json(&back, j, "again", &err) != NR_OK) abort();
    json_t *again = nr_settings_to_json(&back, NULL);
    if (!again || !json_equal(j, again)) abort();
    json_decref(j);
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nr_settings s, before;
    nr_error err = {0};
    json_t *j;
    nr_settings_default(&s);
    nr_settings_default(&before);
    if (nr_json_parse(&j, (const char *)data, size, "fuzz", &err) != NR_OK) {
        if (j || !err.message[0] || strchr(err.message, '\n')) abort();
        return 0;
    }
    if (nr_settings_from_json(&s, j, "fuzz", &err) == NR_OK) {
        round_trip(&s);
        nr_settings_check(&s, &err);
    } else if (memcmp(&s, &before, sizeof s) != 0 || !err.message[0]) {
        abort();
    }
    json_decref(j);
    return 0;
}
