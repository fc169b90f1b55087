/* fuzz_safetensors.c - reads a file; what was read is written and must read the same. */
#include <string.h>

#include "formats/formats.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const nr_safetensors *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const nr_tensor *t = &s->tensors[i];
        size_t n = t->size / nr_dtype_size(t->type);
        float *y = malloc((n ? n : 1) * sizeof *y);
        if (y && n) nr_tensor_read(y, t, 0, nr_tensor_rows(t));
        free(y);
        if (nr_safetensors_find(s, t->name) != t) abort();
    }
}

static void write_again(const nr_safetensors *s)
{
    nr_safetensors *again;
    nr_error err;
    char path[64];
    snprintf(path, sizeof path, "/tmp/nres-fuzz-%ld.safetensors", (long)getpid());
    if (nr_safetensors_write(path, s->tensors, s->count, s->metadata, &err) != NR_OK) abort();
    if (nr_safetensors_open(&again, path, &err) != NR_OK || again->count != s->count) abort();
    for (size_t i = 0; i < s->count; i++) {
        const nr_tensor *a = &s->tensors[i], *b = &again->tensors[i];
        if (strcmp(a->name, b->name) != 0 || a->type != b->type || a->size != b->size || memcmp(a->data, b->data, a->size) != 0) abort();
    }
    nr_safetensors_close(again);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nr_safetensors *s;
    nr_error err;
    if (nr_safetensors_open(&s, memory_file(data, size), &err) != NR_OK) {
        if (strchr(err.message, '\n')) abort();
        return 0;
    }
    read_all(s);
    write_again(s);
    nr_safetensors_close(s);
    return 0;
}
