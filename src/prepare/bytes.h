/*
 * bytes.h - the unpacked bytes of a file through a window: lines and pieces of
 * known size, without holding the file. For the readers of formats.
 */
#ifndef NR_BYTES_H
#define NR_BYTES_H

#include "base/base.h"
#include "data/data.h"

typedef struct {
    nr_unpack *file;
    const char *path;
    char *data;      /* unread: [at, have) */
    size_t at, have, cap;
    uint64_t offset; /* in the unpacked bytes, of data[at] */
    bool ended;
} nr_bytes;

nr_status nr_bytes_open(nr_bytes *b, const char *path, nr_sha256 *hash, nr_error *err);
void nr_bytes_close(nr_bytes *b);
/* Sees to it that n bytes are unread, or all that are left. */
nr_status nr_bytes_need(nr_bytes *b, size_t n, nr_error *err);
/* The next line without its end, at most `most` bytes of it: *whole false where it is
 * longer; the rest is the next line. Good until the next call. *line NULL: the end. */
nr_status nr_bytes_line(nr_bytes *b, size_t most, const char **line, size_t *size, bool *whole, nr_error *err);
/* Appends n bytes to `to` (NULL: passes over them); *got less than n: the end came first. */
nr_status nr_bytes_take(nr_bytes *b, uint64_t n, nr_buffer *to, uint64_t *got, nr_error *err);

#endif
