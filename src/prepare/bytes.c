/*
 * bytes.c - a window on the unpacked bytes of a file. The window grows to what
 * is asked for at once and no further.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "prepare/bytes.h"

#define FIRST ((size_t)256 << 10)

nr_status nr_bytes_open(nr_bytes *b, const char *path, nr_sha256 *hash, nr_error *err)
{
    *b = (nr_bytes){.path = path};
    return nr_unpack_open_hashed(&b->file, path, hash, err);
}

void nr_bytes_close(nr_bytes *b)
{
    nr_unpack_close(b->file);
    free(b->data);
    *b = (nr_bytes){0};
}

nr_status nr_bytes_need(nr_bytes *b, size_t n, nr_error *err)
{
    while (b->have - b->at < n && !b->ended) {
        size_t got;
        if (b->at > 0) memmove(b->data, b->data + b->at, b->have - b->at);
        b->have -= b->at;
        b->at = 0;
        if (b->cap < NR_MAX(n, FIRST)) {
            size_t cap = NR_MAX(n + n / 2, FIRST);
            char *more = realloc(b->data, cap);
            if (!more) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for %zu bytes", b->path, cap);
            b->data = more;
            b->cap = cap;
        }
        NR_TRY(nr_unpack_read(b->file, b->data + b->have, b->cap - b->have, &got, err));
        b->have += got;
        b->ended = got == 0;
    }
    return NR_OK;
}

static void pass(nr_bytes *b, size_t n)
{
    b->at += n;
    b->offset += n;
}

nr_status nr_bytes_line(nr_bytes *b, size_t most, const char **line, size_t *size, bool *whole, nr_error *err)
{
    size_t searched = 0, want = 4096;
    *line = NULL;
    *size = 0;
    *whole = true;
    for (;;) {
        NR_TRY(nr_bytes_need(b, NR_MIN(want, most), err));
        size_t have = NR_MIN(b->have - b->at, most);
        const char *start = b->data + b->at, *stop = have > searched ? memchr(start + searched, '\n', have - searched) : NULL;
        if (!stop && have < most && !b->ended) {
            searched = have;
            want = NR_MAX(want, have) * 2;
            continue;
        }
        if (have == 0) return NR_OK;
        *line = start;
        *size = stop ? (size_t)(stop - start) : have;
        *whole = stop || have < most;
        pass(b, *size + (stop != NULL));
        if (stop && *size > 0 && start[*size - 1] == '\r') --*size;
        return NR_OK;
    }
}

nr_status nr_bytes_take(nr_bytes *b, uint64_t n, nr_buffer *to, uint64_t *got, nr_error *err)
{
    for (*got = 0; *got < n;) {
        NR_TRY(nr_bytes_need(b, 1, err));
        size_t k = (size_t)NR_MIN((uint64_t)(b->have - b->at), n - *got);
        if (k == 0) break;
        if (to) nr_buffer_add(to, b->data + b->at, k);
        pass(b, k);
        *got += k;
    }
    if (to && to->failed) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for a record of %" PRIu64 " bytes", b->path, n);
    return NR_OK;
}
