/*
 * tokenizer_bench.c - seconds that nr_tokenizer_encode takes on documents.
 *
 * usage: tokenizer_bench TOKENIZER DOCUMENTS REPEATS
 * DOCUMENTS: little-endian 4-byte length and the bytes, one document after
 * another. Prints one line a repeat: seconds of
 * processor time, bytes, ids. One thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"

static int fail(const nr_error *err)
{
    fprintf(stderr, "tokenizer_bench: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv)
{
    nr_error err;
    nr_tokenizer *t;
    nr_map map;
    if (argc != 4) return 2;
    if (nr_tokenizer_open(&t, argv[1], NULL, &err) || nr_map_open(&map, argv[2], &err)) return fail(&err);
    int32_t *ids = malloc((map.size + 1) * 3 * sizeof *ids);
    if (!ids) return 1;
    memset(ids, 0, (map.size + 1) * sizeof *ids);
    for (int r = 0; r < atoi(argv[3]); r++) {
        size_t bytes = 0, total = 0, count;
        clock_t began = clock();
        for (size_t at = 0; at + 4 <= map.size;) {
            uint32_t n;
            memcpy(&n, map.data + at, 4);
            at += 4;
            if (nr_tokenizer_encode(t, (const char *)map.data + at, n, false, ids, 3 * (size_t)n + 1, &count, &err)) return fail(&err);
            at += n;
            bytes += n;
            total += count;
        }
        printf("%.6f %zu %zu\n", (double)(clock() - began) / CLOCKS_PER_SEC, bytes, total);
    }
    free(ids);
    nr_map_close(&map);
    nr_tokenizer_close(t);
    return 0;
}
