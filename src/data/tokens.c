/*
 * tokens.c - the token ids of a set of text files: made once, kept under the
 * cache folder, mapped read-only.
 *
 * The cache's name is a hash of everything that decides the ids: bytes of the
 * files, tokenizer, text field and reading of documents. One process builds, in
 * a folder of its own that is renamed when complete; others that want the same
 * one wait. All hashes are checked at opening (a pass over the ids, cheap beside
 * training on them); what doesn't fit is built again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/tokens.h"

#define SHARD_IDS ((size_t)1 << 26)

struct nr_tokens {
    size_t file_count;
    nr_file_hash *files;
    char hash[65];
    size_t documents, duplicates, total, id_bytes;
    nr_map records;       /* documents.bin */
    nr_map *shards;       /* (shard_count) */
    size_t *shard_start;  /* (shard_count + 1): ids before it */
    size_t shard_count, disk_bytes;
};

/* ---- hashing files ---- */

static nr_status check_unchanged(const nr_file_hash *h, const struct stat *now, const char *path, nr_error *err)
{
    if ((size_t)now->st_size == h->size && now->st_mtim.tv_sec == h->changed.tv_sec &&
        now->st_mtim.tv_nsec == h->changed.tv_nsec)
        return NR_OK;
    return nr_fail(err, NR_E_IO, "%s: the file changed while it was read", path);
}

static nr_status hash_descriptor(nr_file_hash *out, int fd, const char *path, nr_error *err)
{
    struct stat before, after;
    char *piece;
    const size_t piece_bytes = (size_t)1 << 20;
    if (fstat(fd, &before) != 0) return nr_fail_errno(err, "can't read", path);
    if (!S_ISREG(before.st_mode))
        return nr_fail(err, NR_E_IO, "%s: expected a regular file, found %s", path,
                       S_ISDIR(before.st_mode) ? "a folder" : "something else");
    NR_TRY(nr_alloc(&piece, piece_bytes, 1, path, err));
    nr_sha256 *h = nr_sha256_new();
    ssize_t n;
    out->size = 0;
    out->changed = before.st_mtim;
    while ((n = read(fd, piece, piece_bytes)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0) continue;
        nr_sha256_add(h, piece, (size_t)n);
        out->size += (size_t)n;
    }
    int number = errno;
    free(piece);
    nr_sha256_hex(h, out->sha256);
    errno = number;
    if (n < 0 || fstat(fd, &after) != 0) return nr_fail_errno(err, "can't read", path);
    if (!out->sha256[0]) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hash", path);
    return check_unchanged(out, &after, path, err);
}

static nr_status hash_file(nr_file_hash *out, const char *path, nr_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return nr_fail_errno(err, "can't open", path);
    nr_status st = hash_descriptor(out, fd, path, err);
    close(fd);
    return st;
}

static nr_status make_key(nr_tokens_source *s, nr_error *err)
{
    nr_buffer b = {0};
    nr_buffer_printf(&b, "nres tokens %d\n%s\n%s\n%d\n", NR_TOKENS_FORMAT, nr_tokenizer_fingerprint(s->tokenizer),
                     s->text_field, (int)s->documents);
    for (size_t i = 0; i < s->files->count; i++)
        nr_buffer_printf(&b, "%zu %s %d\n", s->hashes[i].size, s->hashes[i].sha256,
                         nr_corpus_name_is_jsonl(s->files->paths[i]));
    nr_sha256 *h = b.failed ? NULL : nr_sha256_new();
    if (h) nr_sha256_add(h, b.data, b.size);
    nr_buffer_free(&b);
    nr_sha256_hex(h, s->key);
    return s->key[0] ? NR_OK : nr_fail(err, NR_E_MEMORY, "token cache: out of memory for its key");
}

/* ---- opening a cache that is there ---- */

static nr_status open_checked(nr_map *m, const char *folder, const char *name, size_t size, const char *sha256,
                              nr_error *err)
{
    char hex[65];
    char *path = nr_path_join(folder, name);
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    nr_status st = nr_map_open(m, path, err);
    if (st == NR_OK && m->size != size)
        st = nr_fail(err, NR_E_FORMAT, "%s: expected %zu bytes, found %zu", path, size, m->size);
    if (st == NR_OK) {
        nr_sha256 *h = nr_sha256_new();
        nr_sha256_add(h, m->data, m->size);
        nr_sha256_hex(h, hex);
        if (!hex[0])
            st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hash", path);
        else if (strcmp(hex, sha256) != 0)
            st = nr_fail(err, NR_E_FORMAT, "%s: expected the SHA-256 %.12s..., found %.12s...", path, sha256, hex);
    }
    free(path);
    return st;
}

static nr_status open_shards(nr_tokens *t, const json_t *list, const char *folder, const char *where, nr_error *err)
{
    size_t count = json_array_size(list), bytes;
    NR_TRY(nr_alloc(&t->shards, count, sizeof *t->shards, "shards", err));
    NR_TRY(nr_alloc(&t->shard_start, count + 1, sizeof *t->shard_start, "shards", err));
    for (size_t i = 0; i < count; i++) {
        const json_t *j = json_array_get(list, i);
        const char *sha256;
        size_t ids;
        char name[32];
        NR_TRY(nr_json_size(j, "tokens", true, &ids, where, err));
        NR_TRY(nr_json_string(j, "sha256", true, &sha256, where, err));
        if (nr_mul_overflows(ids, t->id_bytes, &bytes)) return nr_fail(err, NR_E_FORMAT, "%s: shard %zu: too large", where, i);
        nr_tokens_shard_name(name, i);
        t->shard_count = i + 1;
        NR_TRY(open_checked(&t->shards[i], folder, name, bytes, sha256, err));
        t->shard_start[i + 1] = t->shard_start[i] + ids;
        t->disk_bytes += bytes;
    }
    return NR_OK;
}

static const nr_document *record(const nr_tokens *t, size_t d)
{
    return &((const nr_document *)(const void *)t->records.data)[d];
}

/* Ends rise to the total, and every document lies in one shard. */
static nr_status check_documents(const nr_tokens *t, const char *where, nr_error *err)
{
    uint64_t before = 0;
    size_t shard = 0;
    for (size_t d = 0; d < t->documents; d++) {
        uint64_t end = record(t, d)->end;
        while (shard < t->shard_count && before >= t->shard_start[shard + 1]) shard++;
        if (end <= before || shard == t->shard_count || end > t->shard_start[shard + 1])
            return nr_fail(err, NR_E_FORMAT, "%s: document %zu doesn't lie in a shard", where, d);
        before = end;
    }
    if (before != t->total || t->shard_start[t->shard_count] != t->total)
        return nr_fail(err, NR_E_FORMAT, "%s: expected %zu tokens, found %zu", where, t->total, (size_t)before);
    return NR_OK;
}

static nr_status read_index(nr_tokens *t, const json_t *j, const char *folder, const char *where, nr_error *err)
{
    const char *hash, *documents_hash;
    char hex[65];
    size_t version, bytes;
    NR_TRY(nr_json_size(j, "format_version", true, &version, where, err));
    if (version != NR_TOKENS_FORMAT)
        return nr_fail(err, NR_E_FORMAT, "%s: expected format_version %d, found %zu", where, NR_TOKENS_FORMAT, version);
    NR_TRY(nr_json_string(j, "sha256", true, &hash, where, err));
    NR_TRY(nr_tokens_index_hash(j, hex, where, err));
    if (strcmp(hash, hex) != 0)
        return nr_fail(err, NR_E_FORMAT, "%s: expected the SHA-256 %.12s..., found %.12s...", where, hash, hex);
    memcpy(t->hash, hex, sizeof hex);
    NR_TRY(nr_json_size(j, "documents", true, &t->documents, where, err));
    NR_TRY(nr_json_size(j, "duplicates", true, &t->duplicates, where, err));
    NR_TRY(nr_json_size(j, "tokens", true, &t->total, where, err));
    NR_TRY(nr_json_size(j, "id_bytes", true, &t->id_bytes, where, err));
    NR_TRY(nr_json_string(j, "documents_sha256", true, &documents_hash, where, err));
    if ((t->id_bytes != 2 && t->id_bytes != 4) || nr_mul_overflows(t->documents, sizeof(nr_document), &bytes))
        return nr_fail(err, NR_E_FORMAT, "%s: expected ids of 2 or 4 bytes, found %zu", where, t->id_bytes);
    t->disk_bytes = bytes;
    NR_TRY(open_checked(&t->records, folder, "documents.bin", bytes, documents_hash, err));
    NR_TRY(open_shards(t, json_object_get(j, "shards"), folder, where, err));
    return check_documents(t, where, err);
}

static void drop_maps(nr_tokens *t)
{
    for (size_t i = 0; i < t->shard_count; i++) nr_map_close(&t->shards[i]);
    nr_map_close(&t->records);
    free(t->shards);
    free(t->shard_start);
    t->shards = NULL;
    t->shard_start = NULL;
    t->shard_count = 0;
}

static nr_status open_cache(nr_tokens *t, const char *folder, nr_error *err)
{
    json_t *j = NULL;
    char *path = nr_path_join(folder, "index.json");
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    nr_status st = nr_json_load(&j, path, err);
    if (st == NR_OK) st = read_index(t, j, folder, path, err);
    json_decref(j);
    free(path);
    if (st != NR_OK) drop_maps(t);
    return st;
}

/* ---- finding or building ---- */

/* Waits for the lock with an eye on the brake. */
static nr_status lock(int fd, const char *path, const nr_listener *l, nr_error *err)
{
    bool said = false;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return nr_fail_errno(err, "can't lock", path);
        if (nr_stopped(l)) return nr_fail(err, NR_E_INTERRUPTED, "%s: interrupted while waiting; nothing was started", path);
        if (!said) nr_say(l, "waiting for another process that tokenises the same files");
        said = true;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return NR_OK;
}

/* Builds, and sees to it that the files are still those that were hashed. */
static nr_status build(const char *folder, const nr_tokens_source *s, const nr_listener *l, nr_error *err)
{
    NR_TRY(nr_tokens_build(folder, s, l, err));
    for (size_t i = 0; i < s->files->count; i++) {
        struct stat now;
        if (stat(s->files->paths[i], &now) != 0) return nr_fail_errno(err, "can't read", s->files->paths[i]);
        NR_TRY(check_unchanged(&s->hashes[i], &now, s->files->paths[i], err));
    }
    return NR_OK;
}

static nr_status build_and_open(nr_tokens *t, const char *folder, const nr_tokens_source *s, const nr_listener *l, nr_error *err)
{
    nr_error why = {0};
    if (nr_path_exists(folder)) {
        nr_status st = open_cache(t, folder, &why);
        if (st == NR_OK || st == NR_E_MEMORY) {
            if (err && st != NR_OK) *err = why;
            return st;
        }
        nr_say(l, "the token cache is broken and made anew (%s)", why.message);
        NR_TRY(nr_remove_folder(folder, err));
    }
    char *building = nr_format("%s.tmp", folder);
    if (!building) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    nr_status st = nr_remove_folder(building, err); /* of a process that was killed */
    if (st == NR_OK) {
        st = build(building, s, l, err);
        if (st == NR_OK) st = nr_rename_folder(building, folder, err);
        if (st != NR_OK) nr_remove_folder(building, NULL);
    }
    free(building);
    return st == NR_OK ? open_cache(t, folder, err) : st;
}

static nr_status find_or_build(nr_tokens *t, const nr_tokens_source *s, const char *cache_folder, const nr_listener *l,
                               nr_error *err)
{
    nr_status st;
    int fd = -1;
    char *tokens = nr_path_join(cache_folder, "tokens");
    char *folder = tokens ? nr_path_join(tokens, s->key) : NULL;
    char *lock_path = folder ? nr_format("%s.lock", folder) : NULL;
    if (!lock_path) {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", cache_folder);
        goto done;
    }
    NR_GO(nr_make_folders(tokens, err));
    fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = nr_fail_errno(err, "can't write", lock_path);
        goto done;
    }
    NR_GO(lock(fd, lock_path, l, err));
    st = build_and_open(t, folder, s, l, err);
done:
    if (fd >= 0) close(fd);
    free(lock_path);
    free(folder);
    free(tokens);
    return st;
}

nr_status nr_tokens_open(nr_tokens **out, const nr_files *files, const nr_tokenizer *tokenizer, const nr_settings *s,
                         const char *cache_folder, const nr_listener *l, nr_error *err)
{
    nr_tokens *t;
    nr_status st = NR_OK;
    *out = NULL;
    if (files->count == 0) return nr_fail(err, NR_E_USAGE, "text: expected at least one file, found none");
    NR_TRY(nr_alloc(&t, 1, sizeof *t, "token cache", err));
    nr_tokens_source source = {files, NULL, tokenizer, s->text_field.s, (nr_documents)s->documents, SHARD_IDS, ""};
    NR_GO(nr_alloc(&t->files, files->count, sizeof *t->files, "file hashes", err));
    t->file_count = files->count;
    for (size_t i = 0; i < files->count; i++) {
        NR_GO(hash_file(&t->files[i], files->paths[i], err));
        NR_GO(nr_manifest_check(files->paths[i], t->files[i].size, t->files[i].sha256, err));
    }
    source.hashes = t->files;
    NR_GO(make_key(&source, err));
    st = find_or_build(t, &source, cache_folder, l, err);
done:
    if (st == NR_OK)
        *out = t;
    else
        nr_tokens_close(t);
    return st;
}

void nr_tokens_close(nr_tokens *t)
{
    if (!t) return;
    drop_maps(t);
    free(t->files);
    free(t);
}

/* ---- reading ---- */

size_t nr_tokens_documents(const nr_tokens *t) { return t->documents; }
size_t nr_tokens_duplicates(const nr_tokens *t) { return t->duplicates; }
size_t nr_tokens_total(const nr_tokens *t) { return t->total; }
const char *nr_tokens_hash(const nr_tokens *t) { return t->hash; }
size_t nr_tokens_disk_bytes(const nr_tokens *t) { return t->disk_bytes; }
uint64_t nr_tokens_document_hash(const nr_tokens *t, size_t d) { return record(t, d)->hash; }

const char *nr_tokens_file(const nr_tokens *t, size_t i, size_t *size)
{
    *size = t->files[i].size;
    return t->files[i].sha256;
}

static size_t start_of(const nr_tokens *t, size_t d) { return d ? (size_t)record(t, d - 1)->end : 0; }

void nr_tokens_read(const nr_tokens *t, size_t d, size_t from, size_t n, int32_t *ids)
{
    size_t start = start_of(t, d), low = 0, high = t->shard_count;
    while (high - low > 1) { /* the last shard that begins at or before the document */
        size_t middle = low + (high - low) / 2;
        if (t->shard_start[middle] <= start)
            low = middle;
        else
            high = middle;
    }
    const unsigned char *p = t->shards[low].data + (start - t->shard_start[low] + from) * t->id_bytes;
    for (size_t i = 0; i < n; i++) {
        uint16_t narrow;
        if (t->id_bytes == 4) {
            memcpy(&ids[i], p + 4 * i, 4);
        } else {
            memcpy(&narrow, p + 2 * i, 2);
            ids[i] = narrow;
        }
    }
}

void nr_tokens_document(const nr_tokens *t, size_t d, int32_t *ids, size_t *count, size_t *bytes)
{
    size_t start = start_of(t, d);
    *count = (size_t)record(t, d)->end - start;
    *bytes = (size_t)record(t, d)->bytes;
    if (ids) nr_tokens_read(t, d, 0, *count, ids);
}
