/*
 * unpack.c - the bytes of a file, unpacked on the way: plain, gzip (several
 * members too), zstd (several frames too, and the dictionary that a .warc.zst
 * begins with) or, where libarchive was there to build with, bzip2 and xz;
 * told apart by their first bytes.
 * Holds one buffer of the file whatever its size. Refuses folders, files that
 * end inside a member or frame, broken data, and bytes that follow a member
 * and are none.
 */
#ifdef NRES_HAS_ARCHIVE
#include <archive.h>
#include <archive_entry.h>
#endif
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
#define DICTIONARY_BYTES ((size_t)32 << 20)

typedef enum { PLAIN, GZIP, ZSTD, BZIP2, XZ } packing;
static const char *const packing_names[] = {"plain", "gzip", "zstd", "bzip2", "xz"};

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
    struct archive *archive; /* bzip2, xz */
    nr_sha256 *hash;         /* of the file's own bytes, when asked for */
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
        nr_sha256_add(u->hash, u->input + u->have, (size_t)n);
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
    if (n >= 10 && memcmp(p, "BZh", 3) == 0 && p[3] >= '1' && p[3] <= '9' &&
        (memcmp(p + 4, "1AY&SY", 6) == 0 || memcmp(p + 4, "\x17rE8P\x90", 6) == 0))
        return BZIP2;
    if (n >= 6 && memcmp(p, "\xFD" "7zXZ\0", 6) == 0) return XZ;
    return frame || skippable ? ZSTD : PLAIN;
}

/* ---- bzip2 and xz ---- */

#ifdef NRES_HAS_ARCHIVE

/* libarchive's hunger: what is in the buffer, then another one. */
static la_ssize_t feed(struct archive *a, void *user, const void **data)
{
    nr_unpack *u = user;
    nr_error err;
    u->at = u->have;
    if (fill(u, &err) != NR_OK) {
        archive_set_error(a, EIO, "%s", err.message);
        return -1;
    }
    *data = u->input;
    return (la_ssize_t)u->have;
}

/* Hands over the first buffer, which was read to look at it. */
static la_ssize_t feed_first(struct archive *a, void *user, const void **data)
{
    nr_unpack *u = user;
    if (u->started) return feed(a, user, data);
    u->started = true;
    *data = u->input;
    return (la_ssize_t)u->have;
}

static nr_status open_archive(nr_unpack *u, nr_error *err)
{
    struct archive_entry *entry;
    u->archive = archive_read_new();
    if (!u->archive) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for unpacking", u->path);
    archive_read_support_filter_bzip2(u->archive);
    archive_read_support_filter_xz(u->archive);
    archive_read_support_format_raw(u->archive);
    if (archive_read_open(u->archive, u, NULL, feed_first, NULL) != ARCHIVE_OK ||
        archive_read_next_header(u->archive, &entry) != ARCHIVE_OK)
        return nr_fail(err, NR_E_FORMAT, "%s: the %s data can't be opened: %s", u->path, packing_names[u->kind],
                       archive_error_string(u->archive) ? archive_error_string(u->archive) : "no reason given");
    return NR_OK;
}

static nr_status read_archive(nr_unpack *u, void *buf, size_t n, size_t *got, nr_error *err)
{
    la_ssize_t k = archive_read_data(u->archive, buf, n);
    if (k < 0)
        return nr_fail(err, NR_E_FORMAT, "%s: the %s data is broken near byte %zu: %s", u->path, packing_names[u->kind], u->read,
                       archive_error_string(u->archive) ? archive_error_string(u->archive) : "no reason given");
    *got = (size_t)k;
    return NR_OK;
}

static void close_archive(nr_unpack *u) { archive_read_free(u->archive); }

#else

static nr_status open_archive(nr_unpack *u, nr_error *err)
{
    return nr_fail(err, NR_E_UNSUPPORTED, "%s: %s needs libarchive, and nres was built without it; unpack the file first", u->path,
                   packing_names[u->kind]);
}

static nr_status read_archive(nr_unpack *u, void *buf, size_t n, size_t *got, nr_error *err)
{
    (void)buf;
    (void)n;
    *got = 0;
    return open_archive(u, err);
}

static void close_archive(nr_unpack *u) { (void)u; }

#endif

/* ---- the dictionary of a .warc.zst ---- */

/* Up to n bytes of the file itself. */
static nr_status take_raw(nr_unpack *u, unsigned char *to, size_t n, size_t *got, nr_error *err)
{
    for (*got = 0; *got < n;) {
        if (u->at == u->have && !u->ended) NR_TRY(fill(u, err));
        size_t k = NR_MIN(n - *got, u->have - u->at);
        if (k == 0) break;
        memcpy(to + *got, u->input + u->at, k);
        u->at += k;
        *got += k;
    }
    return NR_OK;
}

/* A dictionary that is itself a zstd frame. *dictionary is replaced. */
static nr_status unpack_dictionary(const nr_unpack *u, unsigned char **dictionary, size_t *n, nr_error *err)
{
    unsigned char *plain;
    unsigned long long size = ZSTD_getFrameContentSize(*dictionary, *n);
    if (*n < 4 || memcmp(*dictionary, "\x28\xB5\x2F\xFD", 4) != 0) return NR_OK;
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > DICTIONARY_BYTES)
        return nr_fail(err, NR_E_FORMAT, "%s: its zstd dictionary doesn't say its size, or over %zu MiB", u->path, DICTIONARY_BYTES >> 20);
    NR_TRY(nr_alloc(&plain, (size_t)size + 1, 1, u->path, err));
    size_t got = ZSTD_decompress(plain, (size_t)size, *dictionary, *n);
    free(*dictionary);
    *dictionary = plain;
    *n = got;
    return ZSTD_isError(got) ? nr_fail(err, NR_E_FORMAT, "%s: its zstd dictionary is broken: %s", u->path, ZSTD_getErrorName(got))
                             : NR_OK;
}

static nr_status read_dictionary(nr_unpack *u, nr_error *err)
{
    unsigned char *dictionary = NULL;
    const unsigned char *p = u->input;
    if (u->have < 8 || memcmp(p, "\x5D\x2A\x4D\x18", 4) != 0) return NR_OK;
    size_t n = (size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16 | (size_t)p[7] << 24, got;
    if (n > DICTIONARY_BYTES)
        return nr_fail(err, NR_E_FORMAT, "%s: expected a zstd dictionary of at most %zu MiB, found %zu bytes", u->path,
                       DICTIONARY_BYTES >> 20, n);
    u->at += 8;
    NR_TRY(nr_alloc(&dictionary, n + 1, 1, u->path, err));
    nr_status st = take_raw(u, dictionary, n, &got, err);
    if (st == NR_OK && got < n) st = nr_fail(err, NR_E_FORMAT, "%s: ends inside its zstd dictionary", u->path);
    if (st == NR_OK) st = unpack_dictionary(u, &dictionary, &n, err);
    if (st == NR_OK && ZSTD_isError(ZSTD_DCtx_loadDictionary(u->zstd, dictionary, n)))
        st = nr_fail(err, NR_E_FORMAT, "%s: its zstd dictionary can't be used", u->path);
    free(dictionary);
    return st;
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
    if (u->kind == ZSTD) return read_dictionary(u, err);
    return u->kind == BZIP2 || u->kind == XZ ? open_archive(u, err) : NR_OK;
}

nr_status nr_unpack_open_hashed(nr_unpack **out, const char *path, nr_sha256 *hash, nr_error *err)
{
    nr_unpack *u;
    *out = NULL;
    NR_TRY(nr_alloc(&u, 1, sizeof *u, path, err));
    u->fd = -1;
    u->hash = hash;
    u->path = nr_strdup(path);
    nr_status st = u->path ? open_file(u, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st == NR_OK)
        *out = u;
    else
        nr_unpack_close(u);
    return st;
}

nr_status nr_unpack_open(nr_unpack **out, const char *path, nr_error *err) { return nr_unpack_open_hashed(out, path, NULL, err); }

nr_status nr_unpack_drain(nr_unpack *u, nr_error *err)
{
    while (!u->ended) {
        u->at = u->have;
        NR_TRY(fill(u, err));
    }
    return NR_OK;
}

void nr_unpack_close(nr_unpack *u)
{
    if (!u) return;
    if (u->kind == GZIP) inflateEnd(&u->gzip);
    if (u->archive) close_archive(u);
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
                   packing_names[u->kind], u->read);
}

static nr_status broken(const nr_unpack *u, const char *why, nr_error *err)
{
    return nr_fail(err, NR_E_FORMAT, "%s: the %s data is broken at byte %zu: %s", u->path,
                   packing_names[u->kind], offset(u), why);
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
    if (u->archive) return read_archive(u, buf, n, got, err);
    if (u->at == u->have) NR_TRY(fill(u, err));
    *got = NR_MIN(n, u->have - u->at);
    memcpy(buf, u->input + u->at, *got);
    u->at += *got;
    return NR_OK;
}
