/*
 * unpack.c - the bytes of a file, unpacked on the way: plain, gzip (several
 * members too) or zstd (several frames too), told apart by their first bytes.
 * Holds one buffer of the file whatever its size. Refuses folders, files that
 * end inside a member or frame, broken data, and bytes that follow a member
 * and are none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "data/data.h"

#define INPUT_BYTES ((size_t)256 << 10)

typedef enum { PLAIN, GZIP, ZSTD } packing;

struct nr_unpack {
    char *path;
    int fd;
    packing kind;
    size_t size, read; /* of the file; size 0: unknown (a pipe) */
    unsigned char *input;
    size_t at, have;   /* unread input: [at, have) */
    bool ended;        /* the file has no more bytes */
    bool open;         /* inside a member or frame */
    bool started;      /* some member was seen */
    z_stream gzip;
    ZSTD_DStream *zstd;
};

/* Offset in the file of the next unread byte. */
static size_t offset(const nr_unpack *u) { return u->read - (u->have - u->at); }

/* Reads more of the file behind what is unread. */
static nr_status fill(nr_unpack *u, nr_error *err)
{
    if (u->at > 0) memmove(u->input, u->input + u->at, u->have - u->at);
    u->have -= u->at;
    u->at = 0;
    while (!u->ended && u->have < INPUT_BYTES) {
        ssize_t n = read(u->fd, u->input + u->have, INPUT_BYTES - u->have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return nr_fail_errno(err, "can't read", u->path);
        if (n == 0) u->ended = true;
        u->have += (size_t)n;
        u->read += (size_t)n;
    }
    return NR_OK;
}

static packing packing_of(const unsigned char *p, size_t n)
{
    if (n >= 2 && p[0] == 0x1F && p[1] == 0x8B) return GZIP;
    if (n < 4) return PLAIN;
    bool frame = p[0] == 0x28 && p[1] == 0xB5 && p[2] == 0x2F && p[3] == 0xFD;
    bool skippable = (p[0] & 0xF0) == 0x50 && p[1] == 0x2A && p[2] == 0x4D && p[3] == 0x18;
    return frame || skippable ? ZSTD : PLAIN;
}

static nr_status open_file(nr_unpack *u, nr_error *err)
{
    struct stat st;
    u->fd = open(u->path, O_RDONLY | O_CLOEXEC);
    if (u->fd < 0) return nr_fail_errno(err, "can't open", u->path);
    if (fstat(u->fd, &st) != 0) return nr_fail_errno(err, "can't read", u->path);
    if (S_ISDIR(st.st_mode)) return nr_fail(err, NR_E_IO, "%s: expected a text file, found a folder", u->path);
    if (S_ISREG(st.st_mode)) u->size = (size_t)st.st_size;
    NR_TRY(nr_alloc(&u->input, INPUT_BYTES, 1, u->path, err));
    NR_TRY(fill(u, err));
    u->kind = packing_of(u->input, u->have);
    if (u->kind == GZIP && inflateInit2(&u->gzip, 15 + 16) != Z_OK)
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory for unpacking", u->path);
    if (u->kind == ZSTD && !(u->zstd = ZSTD_createDStream()))
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory for unpacking", u->path);
    return NR_OK;
}

nr_status nr_unpack_open(nr_unpack **out, const char *path, nr_error *err)
{
    nr_unpack *u;
    *out = NULL;
    NR_TRY(nr_alloc(&u, 1, sizeof *u, path, err));
    u->fd = -1;
    u->path = nr_strdup(path);
    nr_status st = u->path ? open_file(u, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st == NR_OK)
        *out = u;
    else
        nr_unpack_close(u);
    return st;
}

void nr_unpack_close(nr_unpack *u)
{
    if (!u) return;
    if (u->kind == GZIP) inflateEnd(&u->gzip);
    ZSTD_freeDStream(u->zstd);
    if (u->fd >= 0) close(u->fd);
    free(u->input);
    free(u->path);
    free(u);
}

double nr_unpack_fraction(const nr_unpack *u) { return u->size ? NR_MIN(1, (double)offset(u) / (double)u->size) : 0; }

static nr_status ends_early(const nr_unpack *u, nr_error *err)
{
    return nr_fail(err, NR_E_FORMAT, "%s: the %s data ends early, at byte %zu; the file is cut off", u->path,
                   u->kind == GZIP ? "gzip" : "zstd", u->read);
}

static nr_status broken(const nr_unpack *u, const char *why, nr_error *err)
{
    return nr_fail(err, NR_E_FORMAT, "%s: the %s data is broken at byte %zu: %s", u->path,
                   u->kind == GZIP ? "gzip" : "zstd", offset(u), why);
}

/* Between members: zero padding is skipped, as gzip itself does; *more: another
 * member begins. */
static nr_status next_member(nr_unpack *u, bool *more, nr_error *err)
{
    *more = false;
    do {
        if (u->have - u->at < 2 && !u->ended) NR_TRY(fill(u, err));
        while (u->started && u->at < u->have && u->input[u->at] == 0) u->at++;
    } while (u->at == u->have && !u->ended);
    if (u->at == u->have) return NR_OK;
    if (u->have - u->at < 2 && !u->ended) NR_TRY(fill(u, err));
    if (packing_of(u->input + u->at, u->have - u->at) != GZIP)
        return broken(u, "expected another gzip member or the end", err);
    if (inflateReset(&u->gzip) != Z_OK) return broken(u, "the decoder can't start again", err);
    u->open = u->started = *more = true;
    return NR_OK;
}

static nr_status read_gzip(nr_unpack *u, unsigned char *buf, size_t n, size_t *got, nr_error *err)
{
    while (*got == 0) {
        if (!u->open) {
            bool more;
            NR_TRY(next_member(u, &more, err));
            if (!more) return NR_OK;
        }
        if (u->at == u->have) NR_TRY(fill(u, err));
        if (u->at == u->have) return ends_early(u, err);
        u->gzip.next_in = u->input + u->at;
        u->gzip.avail_in = (uInt)(u->have - u->at);
        u->gzip.next_out = buf;
        u->gzip.avail_out = (uInt)n;
        int rc = inflate(&u->gzip, Z_NO_FLUSH);
        u->at = u->have - u->gzip.avail_in;
        *got = n - u->gzip.avail_out;
        if (rc == Z_STREAM_END)
            u->open = false;
        else if (rc == Z_MEM_ERROR)
            return nr_fail(err, NR_E_MEMORY, "%s: out of memory for unpacking", u->path);
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return broken(u, u->gzip.msg ? u->gzip.msg : "not gzip data", err);
    }
    return NR_OK;
}

static nr_status read_zstd(nr_unpack *u, unsigned char *buf, size_t n, size_t *got, nr_error *err)
{
    while (*got == 0) {
        if (u->at == u->have && !u->ended) NR_TRY(fill(u, err));
        if (u->at == u->have && !u->open) return NR_OK;
        ZSTD_inBuffer in = {u->input + u->at, u->have - u->at, 0};
        ZSTD_outBuffer to = {buf, n, 0};
        size_t rc = ZSTD_decompressStream(u->zstd, &to, &in);
        if (ZSTD_isError(rc)) return broken(u, ZSTD_getErrorName(rc), err);
        u->at += in.pos;
        u->open = rc != 0;
        *got = to.pos;
        if (to.pos == 0 && in.pos == 0 && u->ended) return ends_early(u, err);
    }
    return NR_OK;
}

nr_status nr_unpack_read(nr_unpack *u, void *buf, size_t n, size_t *got, nr_error *err)
{
    *got = 0;
    n = NR_MIN(n, (size_t)1 << 30); /* zlib counts in 32 bits */
    if (n == 0) return NR_OK;
    if (u->kind == GZIP) return read_gzip(u, buf, n, got, err);
    if (u->kind == ZSTD) return read_zstd(u, buf, n, got, err);
    if (u->at == u->have) NR_TRY(fill(u, err));
    *got = NR_MIN(n, u->have - u->at);
    memcpy(buf, u->input + u->at, *got);
    u->at += *got;
    return NR_OK;
}
