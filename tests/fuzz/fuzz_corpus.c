/*
 * fuzz_corpus.c - any bytes as a file of text: plain, gzip, zstd, JSONL. The
 * first byte says how documents are cut. Every document handed out must be
 * UTF-8 and not empty.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/data.h"
#include "prepare/prep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_documents(const char *path, nr_documents how)
{
    nr_corpus *c;
    nr_error err = {0};
    const char *text = "";
    size_t n, total = 0;
    nr_status st = nr_corpus_open(&c, path, "text", how, &err);
    if (st == NR_OK) {
        while (text && total < (64 << 20) && (st = nr_corpus_next(c, &text, &n, &err)) == NR_OK && text) {
            if (n == 0 || !nr_utf8_valid(text, n)) abort();
            total += n;
        }
        nr_corpus_close(c);
    }
    if (st != NR_OK && !err.message[0]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    int fd = memfd_create("corpus", 0);
    if (fd < 0) return 0;
    if (write(fd, data + 1, size - 1) == (ssize_t)(size - 1)) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        read_documents(path, (nr_documents)(data[0] % 3));
    }
    close(fd);
    return 0;
}
