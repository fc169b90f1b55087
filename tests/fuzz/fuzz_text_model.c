/* Any bytes as a fastText classifier: what passes the check is loaded and used without harm. */
#include <stdlib.h>

#include "prepare/text_model.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nr_error err = {0};
    nr_text_model *m;
    char label[32];
    double share = 0;
    if (!nr_text_model_built_in()) {
        nr_text_model_check(data, size, "model", &err);
        return 0;
    }
    if (nr_text_model_open(&m, memory_file(data, size), &err) != NR_OK) {
        if (!err.message[0]) abort();
        return 0;
    }
    nr_text_model_predict(m, "good words, bad words\nand some more", 35, label, &share);
    nr_text_model_share(m, "", 0, "good");
    nr_text_model_close(m);
    return 0;
}
