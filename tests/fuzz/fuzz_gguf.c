/* fuzz_gguf.c - a GGUF file from its first byte to every weight as a float. */
#include <string.h>

#include "formats/formats.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const nr_model_file *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const nr_tensor *t = &f->tensors[i];
        size_t rows = nr_tensor_rows(t), cols = nr_tensor_cols(t);
        float *row = malloc(cols * sizeof *row);
        for (size_t r = 0; row && r < rows; r++) nr_tensor_read(row, t, r, 1);
        free(row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nr_model_file *f;
    nr_error err;
    char hex[65];
    if (nr_model_file_open(&f, memory_file(data, size), NULL, &err) != NR_OK) {
        if (strchr(err.message, '\n')) abort();
        return 0;
    }
    read_all(f);
    json_decref(nr_model_file_describe(f, true));
    if (nr_model_file_fingerprint(f, hex, &err) != NR_OK) abort();
    nr_model_file_close(f);
    return 0;
}
