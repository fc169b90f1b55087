/*
 * flow.c - runs records through steps and writes what is left.
 *
 * One batch after another: the reader fills it in order, the steps run on its
 * records in parallel, the records left are written in order. Batches and
 * parts end where the records' sizes say so, never where the clock or the
 * number of threads does: a flow gives the same bytes however often it was
 * interrupted. Memory is bounded by the batch and the longest record.
 *
 * A file that can't be read on is left there and counted; a folder that can't
 * be written, or one of another flow, is an error.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "prepare/flow_state.h"

#define SLOTS ((size_t)4096)     /* records of a batch at most */
#define BATCH ((size_t)8 << 20)  /* bytes of a batch, but for its last record */
#define PART ((size_t)64 << 20)  /* bytes of a part where nobody says how many */

typedef struct {
    nr_record record;
    nr_counts counts;
    nr_status status;
    nr_error error;
} slot;

typedef struct {
    const nr_flow *flow;
    const nr_listener *listener;
    nr_error *err;
    slot *slots;               /* (SLOTS) */
    size_t used;
    size_t from, to;           /* steps at work */
    nr_flow_state at;          /* where the batch at hand ends; saved with each part */
    nr_reader *reader;         /* of file at.file, or NULL */
    nr_writer writer;
    bool writing;
    nr_part_info part;         /* being written */
    nr_sha256 *part_hash;
    nr_buffer line;
    double started, read_bytes;
} run;

static size_t part_limit(const nr_flow *f) { return f->part_bytes ? f->part_bytes : PART; }

/* ---- the key ---- */

nr_status nr_flow_key(const nr_paths *in, const char *settings, char hex[65], nr_error *err)
{
    nr_buffer b = {0};
    nr_buffer_printf(&b, "nres flow 1\n%s\n", settings);
    for (size_t i = 0; i < in->count; i++) {
        struct stat s;
        if (stat(in->paths[i], &s) != 0) {
            nr_buffer_free(&b);
            return nr_fail_errno(err, "can't read", in->paths[i]);
        }
        nr_buffer_printf(&b, "%s\n%lld %lld.%09ld\n", in->paths[i], (long long)s.st_size, (long long)s.st_mtim.tv_sec,
                         (long)s.st_mtim.tv_nsec);
    }
    nr_sha256 *h = b.failed ? NULL : nr_sha256_new();
    if (h) nr_sha256_add(h, b.data, b.size);
    nr_buffer_free(&b);
    nr_sha256_hex(h, hex);
    return hex[0] ? NR_OK : nr_fail(err, NR_E_MEMORY, "flow: out of memory for its key");
}

/* ---- rows ---- */

static void add_string(nr_buffer *b, const char *s, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    nr_buffer_add(b, "\"", 1);
    for (size_t i = 0, from = 0; i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)s[i] : '"';
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        nr_buffer_add(b, s + from, i - from);
        from = i + 1;
        if (i == n) break;
        char code[7] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15], 0};
        nr_buffer_text(b, c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\t' ? "\\t" : code);
    }
    nr_buffer_add(b, "\"", 1);
}

bool nr_record_write(nr_buffer *out, const nr_record *r)
{
    nr_buffer_text(out, "{\"source\":");
    add_string(out, r->source.data ? r->source.data : "", r->source.size);
    if (r->language[0]) nr_buffer_printf(out, ",\"language\":\"%s\",\"language_share\":%.3f", r->language, r->language_share);
    nr_buffer_text(out, r->kind == NR_RECORD_PAGE ? ",\"html\":" : ",\"text\":");
    add_string(out, r->text.data ? r->text.data : "", r->text.size);
    nr_buffer_text(out, "}\n");
    return !out->failed;
}

/* ---- parts ---- */

/* What the steps know is on disk before the state that counts on it. */
static nr_status save_state(run *r)
{
    const nr_flow *f = r->flow;
    for (size_t k = 0; k < f->step_count; k++)
        if (f->steps[k].settle) NR_TRY(f->steps[k].settle(f->steps[k].self, r->err));
    return nr_flow_state_save(&r->at, f->folder, r->err);
}

static nr_status end_part(run *r)
{
    if (!r->writing) return NR_OK;
    nr_sha256_hex(r->part_hash, r->part.sha256);
    r->part_hash = NULL;
    r->writing = false;
    if (!r->part.sha256[0]) {
        nr_writer_abort(&r->writer);
        return nr_fail(r->err, NR_E_MEMORY, "%s: out of memory for a part's hash", r->flow->folder);
    }
    NR_TRY(nr_writer_commit(&r->writer, r->err));
    NR_TRY(nr_flow_state_add_part(&r->at, &r->part, r->err));
    r->part = (nr_part_info){0};
    return save_state(r);
}

static nr_status begin_part(run *r)
{
    char *path = nr_flow_part_path(r->flow->folder, r->at.part_count);
    if (!path) return nr_fail(r->err, NR_E_MEMORY, "%s: out of memory", r->flow->folder);
    nr_status st = nr_writer_open(&r->writer, path, r->err);
    free(path);
    if (st != NR_OK) return st;
    r->writing = true;
    r->part_hash = nr_sha256_new();
    return NR_OK;
}

static nr_status write_record(run *r, const nr_record *rec)
{
    if (r->flow->sink) NR_TRY(r->flow->sink(r->flow->user, rec, r->err));
    if (!r->flow->folder) return NR_OK;
    if (!r->writing) NR_TRY(begin_part(r));
    r->line.size = 0;
    if (!nr_record_write(&r->line, rec)) return nr_fail(r->err, NR_E_MEMORY, "%s: out of memory for a row", r->flow->folder);
    nr_writer_write(&r->writer, r->line.data, r->line.size);
    nr_sha256_add(r->part_hash, r->line.data, r->line.size);
    r->part.bytes += r->line.size;
    r->part.documents++;
    return NR_OK;
}

/* ---- reading ---- */

/* Ends the file at hand; its hash is of the whole file even if it wasn't read to the end. */
static nr_status end_file(run *r)
{
    nr_error why;
    char *hex = r->at.hashes[r->at.file];
    if (r->reader && nr_reader_hash(r->reader, hex, &why) != NR_OK) hex[0] = 0;
    nr_reader_close(r->reader);
    r->reader = NULL;
    r->at.file++;
    r->at.record = 0;
    return NR_OK;
}

/* A file that can't be opened or read on: memory is an error, the rest is counted. */
static nr_status file_broke(run *r, nr_status st, const nr_error *why)
{
    if (st == NR_E_MEMORY) {
        if (r->err) *r->err = *why;
        return st;
    }
    nr_say(r->listener, "left there: %s", why->message);
    r->at.counts.v.read_broken_files++;
    return end_file(r);
}

/* Goes to the record where an earlier run stopped. What it counted is counted already. */
static nr_status skip_records(run *r)
{
    nr_counts unused = {0};
    nr_record *rec = &r->slots[0].record;
    nr_error why;
    bool more = true;
    for (size_t i = 0; i < r->at.record && more; i++)
        if (nr_reader_next(r->reader, rec, &more, &unused, &why) != NR_OK) more = false;
    nr_counts_free(&unused);
    if (r->at.record == 0 || more) return NR_OK;
    return nr_fail(r->err, NR_E_MISMATCH, "%s: holds fewer records than when the work was interrupted", r->flow->inputs->paths[r->at.file]);
}

static nr_status open_file(run *r)
{
    nr_error why;
    bool first = r->at.record == 0;
    if (first) r->at.counts.v.read_files++;
    nr_status st = nr_reader_open(&r->reader, r->flow->inputs->paths[r->at.file], &why);
    return st == NR_OK ? skip_records(r) : file_broke(r, st, &why);
}

/* Fills a batch; none used: the end. */
static nr_status read_batch(run *r)
{
    size_t bytes = 0, limit = NR_MIN(BATCH, part_limit(r->flow)); /* small parts need small batches */
    r->used = 0;
    while (r->used < SLOTS && bytes < limit && r->at.file < r->flow->inputs->count) {
        nr_error why;
        bool more = false;
        if (!r->reader) {
            NR_TRY(open_file(r));
            continue;
        }
        nr_record *rec = &r->slots[r->used].record;
        nr_status st = nr_reader_next(r->reader, rec, &more, &r->at.counts, &why);
        if (st != NR_OK) {
            NR_TRY(file_broke(r, st, &why));
        } else if (!more) {
            NR_TRY(end_file(r));
        } else {
            r->at.record++;
            rec->number = r->at.records++;
            bytes += rec->text.size;
            r->used++;
        }
    }
    r->read_bytes += (double)bytes;
    return NR_OK;
}

/* ---- steps ---- */

static void first_step(void *context, size_t i)
{
    run *r = context;
    slot *s = &r->slots[i];
    s->status = r->flow->steps[0].work(r->flow->steps[0].self, &s->record, &s->counts, &s->error);
}

/* The steps from r->from to r->to. */
static void some_steps(void *context, size_t i)
{
    run *r = context;
    slot *s = &r->slots[i];
    for (size_t k = r->from; k < r->to && s->status == NR_OK && !s->record.dropped; k++)
        s->status = r->flow->steps[k].work(r->flow->steps[k].self, &s->record, &s->counts, &s->error);
}

/* A step in order stands alone; the others that stand side by side run on a record together. */
static void later_steps(run *r)
{
    const nr_flow *f = r->flow;
    for (r->from = 1; r->from < f->step_count; r->from = r->to) {
        r->to = r->from + 1;
        if (f->steps[r->from].in_order) {
            for (size_t i = 0; i < r->used; i++) some_steps(r, i);
            continue;
        }
        while (r->to < f->step_count && !f->steps[r->to].in_order) r->to++;
        nr_parallel(r->used, some_steps, r);
    }
}

/* Paragraphs are numbered between the first step, which makes them, and the others. */
static nr_status work_batch(run *r)
{
    nr_parallel(r->used, first_step, r);
    for (size_t i = 0; i < r->used; i++) {
        nr_record *rec = &r->slots[i].record;
        rec->paragraph = r->at.paragraphs;
        if (!rec->dropped) r->at.paragraphs += nr_paragraph_count(rec->text.data, rec->text.size);
    }
    later_steps(r);
    nr_status st = NR_OK;
    for (size_t i = 0; i < r->used; i++) {
        slot *s = &r->slots[i];
        nr_counts_add(&r->at.counts, &s->counts);
        nr_counts_free(&s->counts);
        if (st == NR_OK && s->status != NR_OK) {
            st = s->status;
            if (r->err) *r->err = s->error;
        }
        if (st == NR_OK && !s->record.dropped) st = write_record(r, &s->record);
    }
    if (st == NR_OK && r->at.counts.failed) st = nr_fail(r->err, NR_E_MEMORY, "flow: out of memory for counts");
    return st;
}

/* ---- the whole ---- */

static nr_status begin(run *r)
{
    const nr_flow *f = r->flow;
    char key[65];
    bool found = false;
    NR_TRY(nr_alloc(&r->slots, SLOTS, sizeof *r->slots, "a batch of records", r->err));
    NR_TRY(nr_flow_key(f->inputs, f->settings, key, r->err));
    if (f->folder) {
        NR_TRY(nr_make_folders(f->folder, r->err));
        NR_TRY(nr_flow_state_load(&r->at, f->folder, f->inputs->count, &found, r->err));
    } else {
        NR_TRY(nr_alloc(&r->at.hashes, f->inputs->count + 1, sizeof *r->at.hashes, "hashes of files", r->err));
    }
    if (found && strcmp(key, r->at.key) != 0)
        return nr_fail(r->err, NR_E_MISMATCH, "%s: holds the result of other inputs or settings; name another folder or remove this one", f->folder);
    memcpy(r->at.key, key, sizeof key);
    return NR_OK;
}

static nr_status work(run *r)
{
    size_t part_bytes = part_limit(r->flow);
    r->started = nr_clock();
    for (;;) {
        if (nr_stopped(r->listener)) return nr_fail(r->err, NR_E_INTERRUPTED, "interrupted; the same command goes on");
        NR_TRY(read_batch(r));
        if (r->used == 0) break;
        NR_TRY(work_batch(r));
        double files = (double)r->flow->inputs->count;
        double done = (double)r->at.file + (r->reader ? nr_reader_fraction(r->reader) : 0);
        nr_progress(r->listener, r->flow->title, done, files, r->read_bytes / 1e6 / NR_MAX(nr_clock() - r->started, 1e-9), "MB");
        if (r->part.bytes >= part_bytes) NR_TRY(end_part(r));
    }
    NR_TRY(end_part(r));
    r->at.done = true;
    return r->flow->folder ? save_state(r) : NR_OK;
}

nr_status nr_flow_run(const nr_flow *f, nr_counts *counts, nr_flow_size *size, const nr_listener *l, nr_error *err)
{
    run r = {.flow = f, .listener = l, .err = err};
    char unused[65];
    nr_status st = begin(&r);
    if (st == NR_OK && !r.at.done) st = work(&r);
    if (r.writing) nr_writer_abort(&r.writer);
    if (r.part_hash) nr_sha256_hex(r.part_hash, unused);
    if (size) *size = (nr_flow_size){r.at.records, r.at.paragraphs};
    if (st == NR_OK) {
        nr_counts_add(counts, &r.at.counts);
        if (counts->failed) st = nr_fail(err, NR_E_MEMORY, "flow: out of memory for counts");
    }
    for (size_t i = 0; i < SLOTS && r.slots; i++) {
        nr_record_free(&r.slots[i].record);
        nr_counts_free(&r.slots[i].counts);
    }
    free(r.slots);
    nr_buffer_free(&r.line);
    nr_reader_close(r.reader);
    nr_flow_state_free(&r.at);
    return st;
}
