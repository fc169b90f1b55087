/*
 * tokens_build.c - text files to a folder of token shards.
 *
 * Documents are read one after another into batches of BATCH_BYTES; a batch is
 * hashed and encoded in parallel, document by document, and written in order,
 * so the files are the same bytes on any number of threads. Memory: a batch of
 * text, twelve times as much room for ids, and 16 bytes a document for finding equal
 * texts. A document without any id (bytes the vocabulary lacks) is dropped.
 */
#include <stdlib.h>
#include <string.h>

#include "data/tokens.h"

#define BATCH_BYTES ((size_t)4 << 20)
#define BATCH_DOCUMENTS 16384

typedef struct {
    size_t from, size; /* in the batch's text */
    size_t count;      /* ids */
    uint64_t hash;
    bool fresh;        /* its text was not there before */
    nr_status status;
} item;

typedef struct {
    const nr_tokens_source *source;
    const nr_listener *listener;
    const char *folder;
    /* the batch */
    nr_buffer text;
    item items[BATCH_DOCUMENTS];
    size_t item_count;
    int32_t *ids; /* document i's at its place(), with room for NR_IDS_ROOM(size) */
    size_t ids_cap;
    /* what is written */
    nr_writer shard, documents;
    nr_sha256 *shard_hash, *documents_hash;
    size_t shard_ids, id_bytes;
    void *narrow; /* ids in 2 bytes */
    size_t narrow_cap;
    json_t *shards;
    nr_key_set seen;
    size_t document_count, duplicates, total;
    /* progress */
    size_t bytes_before, bytes_all;
    double began;
} builder;

void nr_tokens_shard_name(char name[32], size_t shard) { snprintf(name, 32, "%05zu.ids", shard); }

static int add_text(const char *text, size_t n, void *hash)
{
    nr_sha256_add(hash, text, n);
    return 0;
}

/* Straight into the hash: a sorted dump into the JSON library's own buffer loses
 * what it has no memory for and says nothing. */
nr_status nr_tokens_index_hash(const json_t *index, char hex[65], const char *where, nr_error *err)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)index);
    nr_sha256 *h = nr_sha256_new();
    bool whole = rest && json_object_size(rest) == json_object_size(index);
    if (whole && json_object_get(rest, "sha256")) whole = json_object_del(rest, "sha256") == 0;
    if (whole) whole = json_dump_callback(rest, add_text, h, JSON_SORT_KEYS | JSON_COMPACT) == 0;
    json_decref(rest);
    nr_sha256_hex(h, hex);
    return whole && hex[0] ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory for the index", where);
}

/* ---- a batch: hash, encode ---- */

static void hash_item(void *context, size_t i)
{
    builder *b = context;
    item *d = &b->items[i];
    char hex[65];
    nr_sha256 *h = nr_sha256_new();
    nr_sha256_add(h, b->text.data + d->from, d->size);
    nr_sha256_hex(h, hex);
    if (!hex[0]) {
        d->status = NR_E_MEMORY;
        return;
    }
    hex[16] = '\0';
    d->hash = strtoull(hex, NULL, 16);
}

static int32_t *place(const builder *b, const item *d, size_t i) { return b->ids + 3 * d->from + i; }

static nr_status encode(const builder *b, item *d, size_t i, nr_error *err)
{
    return nr_tokenizer_encode(b->source->tokenizer, b->text.data + d->from, d->size, false, place(b, d, i),
                               NR_IDS_ROOM(d->size), &d->count, err);
}

static void encode_item(void *context, size_t i)
{
    builder *b = context;
    item *d = &b->items[i];
    if (d->fresh && d->status == NR_OK) d->status = encode(b, d, i, NULL);
}

static nr_status check_items(builder *b, nr_error *err)
{
    for (size_t i = 0; i < b->item_count; i++) {
        if (b->items[i].status == NR_OK) continue;
        if (b->items[i].status == NR_E_MEMORY) return nr_fail(err, NR_E_MEMORY, "tokenising: out of memory");
        NR_TRY(encode(b, &b->items[i], i, err)); /* once more, for its error */
    }
    return NR_OK;
}

/* ---- writing ---- */

static nr_status open_shard(builder *b, nr_error *err)
{
    char name[32];
    nr_tokens_shard_name(name, json_array_size(b->shards));
    char *path = nr_path_join(b->folder, name);
    b->shard_hash = nr_sha256_new();
    b->shard_ids = 0;
    nr_status st = path && b->shard_hash ? nr_writer_open(&b->shard, path, err)
                                         : nr_fail(err, NR_E_MEMORY, "%s: out of memory", b->folder);
    free(path);
    return st;
}

static nr_status close_shard(builder *b, nr_error *err)
{
    char hex[65];
    NR_TRY(nr_writer_commit(&b->shard, err));
    nr_sha256_hex(b->shard_hash, hex);
    b->shard_hash = NULL;
    json_t *j = json_pack("{s:I, s:s}", "tokens", (json_int_t)b->shard_ids, "sha256", hex);
    if (!hex[0] || json_array_append_new(b->shards, j) != 0) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", b->folder);
    return NR_OK;
}

static nr_status write_ids(builder *b, const int32_t *ids, size_t n, nr_error *err)
{
    const void *data = ids;
    if (b->id_bytes == 2) {
        if (n > b->narrow_cap) {
            free(b->narrow);
            b->narrow_cap = 0;
            NR_TRY(nr_alloc(&b->narrow, n, 2, "ids of a document", err));
            b->narrow_cap = n;
        }
        uint16_t *narrow = b->narrow;
        for (size_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids[i];
        data = narrow;
    }
    if (!b->shard.file) NR_TRY(open_shard(b, err));
    nr_writer_write(&b->shard, data, n * b->id_bytes);
    nr_sha256_add(b->shard_hash, data, n * b->id_bytes);
    b->shard_ids += n;
    return b->shard_ids >= b->source->shard_ids ? close_shard(b, err) : NR_OK;
}

static nr_status write_items(builder *b, nr_error *err)
{
    for (size_t i = 0; i < b->item_count; i++) {
        const item *d = &b->items[i];
        if (!d->fresh || d->count == 0) continue;
        NR_TRY(write_ids(b, place(b, d, i), d->count, err));
        b->total += d->count;
        b->document_count++;
        nr_document record = {b->total, d->size, d->hash};
        nr_writer_write(&b->documents, &record, sizeof record);
        nr_sha256_add(b->documents_hash, &record, sizeof record);
    }
    return NR_OK;
}

static nr_status flush(builder *b, nr_error *err)
{
    size_t need = 3 * b->text.size + b->item_count;
    if (b->item_count == 0) return NR_OK;
    if (need > b->ids_cap) {
        free(b->ids);
        b->ids_cap = 0;
        NR_TRY(nr_alloc(&b->ids, need, sizeof *b->ids, "ids of a batch", err));
        b->ids_cap = need;
    }
    nr_parallel(b->item_count, hash_item, b);
    for (size_t i = 0; i < b->item_count; i++) {
        NR_TRY(nr_key_add(&b->seen, b->items[i].hash, &b->items[i].fresh, err));
        b->duplicates += !b->items[i].fresh;
    }
    nr_parallel(b->item_count, encode_item, b);
    NR_TRY(check_items(b, err));
    NR_TRY(write_items(b, err));
    b->item_count = 0;
    b->text.size = 0;
    return NR_OK;
}

/* ---- reading ---- */

static nr_status add_document(builder *b, const char *text, size_t size, nr_error *err)
{
    if (b->item_count == BATCH_DOCUMENTS || (b->item_count > 0 && b->text.size + size > BATCH_BYTES)) NR_TRY(flush(b, err));
    b->items[b->item_count++] = (item){.from = b->text.size, .size = size};
    nr_buffer_add(&b->text, text, size);
    return b->text.failed ? nr_fail(err, NR_E_MEMORY, "tokenising: out of memory for a document of %zu bytes", size) : NR_OK;
}

static nr_status read_file(builder *b, size_t i, nr_error *err)
{
    const nr_tokens_source *s = b->source;
    nr_corpus *c;
    NR_TRY(nr_corpus_open(&c, s->files->paths[i], s->text_field, s->documents, err));
    nr_status st;
    for (size_t n = 0;; n++) {
        const char *text;
        size_t size;
        NR_GO(nr_corpus_next(c, &text, &size, err));
        if (!text) break;
        NR_GO(add_document(b, text, size, err));
        if (n % 256 != 0) continue;
        double done = (double)b->bytes_before + nr_corpus_fraction(c) * (double)s->hashes[i].size;
        double spent = nr_clock() - b->began;
        nr_progress(b->listener, "tokenising", done, (double)b->bytes_all, spent > 0 ? done / spent : 0, "bytes");
        if (nr_stopped(b->listener)) {
            st = nr_fail(err, NR_E_INTERRUPTED, "%s: interrupted while tokenising; nothing was started", s->files->paths[i]);
            goto done;
        }
    }
    b->bytes_before += s->hashes[i].size;
done:
    nr_corpus_close(c);
    return st;
}

static nr_status read_all(builder *b, nr_error *err)
{
    for (size_t i = 0; i < b->source->files->count; i++) b->bytes_all += b->source->hashes[i].size;
    for (size_t i = 0; i < b->source->files->count; i++) NR_TRY(read_file(b, i, err));
    NR_TRY(flush(b, err));
    return b->shard.file ? close_shard(b, err) : NR_OK;
}

/* ---- the folder ---- */

static nr_status write_index(builder *b, nr_error *err)
{
    const nr_tokens_source *s = b->source;
    char hex[65];
    nr_status st;
    nr_sha256_hex(b->documents_hash, hex);
    b->documents_hash = NULL;
    char *path = nr_path_join(b->folder, "index.json");
    json_t *files = json_array();
    bool whole = hex[0] != '\0';
    for (size_t i = 0; i < s->files->count; i++)
        whole &= json_array_append_new(files, json_pack("{s:I, s:s}", "size", (json_int_t)s->hashes[i].size, "sha256",
                                                        s->hashes[i].sha256)) == 0;
    json_t *j = json_pack("{s:i, s:s, s:o, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:O, s:s}", "format_version", NR_TOKENS_FORMAT,
                          "key", s->key, "files", files, "tokenizer", nr_tokenizer_fingerprint(s->tokenizer), "text_field",
                          s->text_field, "reading", (int)s->documents, "id_bytes", (json_int_t)b->id_bytes, "documents",
                          (json_int_t)b->document_count, "duplicates", (json_int_t)b->duplicates, "tokens",
                          (json_int_t)b->total, "shards", b->shards, "documents_sha256", hex);
    if (path && j && whole) NR_GO(nr_tokens_index_hash(j, hex, path, err));
    whole = whole && path && j && json_object_set_new(j, "sha256", json_string(hex)) == 0;
    st = whole ? nr_json_save(j, path, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory for the index", b->folder);
done:
    json_decref(j);
    free(path);
    return st;
}

static nr_status build(builder *b, nr_error *err)
{
    NR_TRY(nr_make_folders(b->folder, err));
    char *path = nr_path_join(b->folder, "documents.bin");
    b->documents_hash = nr_sha256_new();
    b->shards = json_array();
    nr_status st = path && b->documents_hash && b->shards ? nr_writer_open(&b->documents, path, err)
                                                          : nr_fail(err, NR_E_MEMORY, "%s: out of memory", b->folder);
    free(path);
    if (st != NR_OK) return st;
    NR_TRY(read_all(b, err));
    NR_TRY(nr_writer_commit(&b->documents, err));
    return write_index(b, err);
}

nr_status nr_tokens_build(const char *folder, const nr_tokens_source *source, const nr_listener *l, nr_error *err)
{
    builder *b;
    char unused[65];
    NR_TRY(nr_alloc(&b, 1, sizeof *b, "batch of documents", err));
    b->source = source;
    b->listener = l;
    b->folder = folder;
    b->began = nr_clock();
    b->id_bytes = nr_tokenizer_size(source->tokenizer) <= 65536 ? 2 : 4;
    nr_status st = build(b, err);
    nr_writer_abort(&b->shard);
    nr_writer_abort(&b->documents);
    if (b->shard_hash) nr_sha256_hex(b->shard_hash, unused);
    if (b->documents_hash) nr_sha256_hex(b->documents_hash, unused);
    json_decref(b->shards);
    nr_key_free(&b->seen);
    nr_buffer_free(&b->text);
    free(b->ids);
    free(b->narrow);
    free(b);
    return st;
}
