/*
 * quality.c - trains a linear classifier on words and pairs of words: which
 * documents read like the good ones. Documents with equal text fall on the
 * same side of the held-out share, and no longer than 64 KiB of one is used.
 * The library learns from lines in their order, so good and random ones are
 * mixed, in the order of their hashes.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prepare/flow.h"
#include "prepare/quality.h"
#include "prepare/text_model.h"

#define JUDGED ((size_t)64 << 10)

/* Where a document's line lies in the file that isn't mixed yet. */
typedef struct {
    uint64_t hash;
    size_t at, size;
} place;

typedef struct {
    const nr_quality_training *training;
    nr_quality_result *result;
    const char *label;
    size_t *count, *held;
    nr_writer lines;
    place *places;
    size_t place_count, place_cap, written;
    FILE *held_file;
    nr_buffer line;
} trainer;

static nr_status add_place(trainer *t, uint64_t hash, nr_error *err)
{
    if (t->place_count == t->place_cap) {
        size_t cap = t->place_cap ? t->place_cap * 2 : 4096;
        place *more = realloc(t->places, cap * sizeof *more);
        if (!more) return nr_fail(err, NR_E_MEMORY, "quality: out of memory for %zu documents", cap);
        t->places = more;
        t->place_cap = cap;
    }
    t->places[t->place_count++] = (place){hash, t->written, t->line.size};
    t->written += t->line.size;
    return NR_OK;
}

static nr_status take_document(void *user, const nr_record *r, nr_error *err)
{
    trainer *t = user;
    size_t n = NR_MIN(r->text.size, JUDGED);
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ (unsigned char)r->text.data[i]) * 0x100000001B3u;
    bool held = nr_rng_uniform(1, NR_RNG_SPLIT, hash) < t->training->held_out;
    t->line.size = 0;
    nr_buffer_printf(&t->line, "__label__%s ", t->label);
    for (size_t i = 0; i < n; i++) {
        char c = r->text.data[i];
        nr_buffer_add(&t->line, c == '\n' || c == '\t' ? " " : &c, 1);
    }
    nr_buffer_text(&t->line, "\n");
    if (t->line.failed) return nr_fail(err, NR_E_MEMORY, "quality: out of memory for a document");
    ++*(held ? t->held : t->count);
    if (!held) NR_TRY(add_place(t, hash, err));
    if (!held) nr_writer_write(&t->lines, t->line.data, t->line.size);
    else if (fwrite(t->line.data, t->line.size, 1, t->held_file) != 1) return nr_fail(err, NR_E_IO, "quality: can't write what is held out");
    return NR_OK;
}

static nr_status read_side(trainer *t, const char *const *paths, size_t count, const char *label, size_t *trained, size_t *held,
                           const nr_listener *l, nr_error *err)
{
    nr_read_options read = {.field = t->training->field};
    nr_paths in;
    nr_counts unused = {0};
    t->label = label;
    t->count = trained;
    t->held = held;
    NR_TRY(nr_inputs_find(&in, paths, count, err));
    nr_flow f = {.inputs = &in, .settings = "quality", .steps = {NR_STEP("read", nr_step_read, &read)}, .step_count = 1, .sink = take_document,
                 .user = t, .title = "reading"};
    nr_status st = nr_flow_run(&f, &unused, NULL, l, err);
    nr_counts_free(&unused);
    nr_paths_free(&in);
    if (st == NR_OK && *trained == 0) st = nr_fail(err, NR_E_FORMAT, "quality: expected documents that are %s, found none to train on", label);
    return st;
}

static int by_hash(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* The lines in the order of their hashes, in the same file. */
static nr_status mix_lines(trainer *t, const char *lines, nr_error *err)
{
    nr_map m;
    nr_writer w;
    NR_TRY(nr_map_open(&m, lines, err));
    qsort(t->places, t->place_count, sizeof *t->places, by_hash);
    nr_status st = nr_writer_open(&w, lines, err);
    if (st == NR_OK) {
        for (size_t i = 0; i < t->place_count; i++) nr_writer_write(&w, m.data + t->places[i].at, t->places[i].size);
        st = nr_writer_commit(&w, err);
    }
    nr_map_close(&m);
    return st;
}

static nr_status measure(trainer *t, const char *model_path, nr_error *err)
{
    nr_text_model *m;
    nr_quality_result *r = t->result;
    size_t right = 0, wrong = 0;
    char *line = NULL;
    size_t cap = 0;
    NR_TRY(nr_text_model_open(&m, model_path, err));
    rewind(t->held_file);
    for (ssize_t n; (n = getline(&line, &cap, t->held_file)) > 0;) {
        bool is_good = strncmp(line, "__label__good ", 14) == 0;
        const char *text = strchr(line, ' ');
        if (!text || nr_text_model_share(m, text, (size_t)(line + n - text), "good") < 0.5) continue;
        right += is_good;
        wrong += !is_good;
    }
    free(line);
    nr_text_model_close(m);
    r->precision = right + wrong ? (double)right / (double)(right + wrong) : 0;
    r->recall = r->held_good ? (double)right / (double)r->held_good : 0;
    return NR_OK;
}

static nr_status train(trainer *t, const char *lines, const char *model, const nr_listener *l, nr_error *err)
{
    const nr_quality_training *q = t->training;
    nr_quality_result *r = t->result;
    nr_text_training how = {.dim = 32, .epochs = q->epochs, .word_ngrams = 2, .buckets = 200000, .rate = 0.5};
    nr_status st = nr_writer_open(&t->lines, lines, err);
    if (st != NR_OK) return st;
    st = read_side(t, q->good, q->good_count, "good", &r->good, &r->held_good, l, err);
    if (st == NR_OK) st = read_side(t, q->random, q->random_count, "random", &r->random, &r->held_random, l, err);
    if (st != NR_OK) {
        nr_writer_abort(&t->lines);
        return st;
    }
    NR_TRY(nr_writer_commit(&t->lines, err));
    NR_TRY(mix_lines(t, lines, err));
    NR_TRY(nr_text_model_train(lines, model, &how, err));
    NR_TRY(measure(t, model, err));
    return rename(model, q->out) == 0 ? NR_OK : nr_fail_errno(err, "can't write", q->out);
}

nr_status nr_quality_train(const nr_quality_training *q, nr_quality_result *r, const nr_listener *l, nr_error *err)
{
    trainer t = {.training = q, .result = r};
    char *lines = nr_format("%s.lines.tmp", q->out), *model = nr_format("%s.model.tmp", q->out);
    nr_status st = lines && model ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", q->out);
    if (st == NR_OK && !nr_text_model_built_in()) st = nr_text_model_train("", q->out, NULL, err);
    if (st == NR_OK) {
        t.held_file = tmpfile();
        st = t.held_file ? train(&t, lines, model, l, err) : nr_fail_errno(err, "can't write", "a temporary file");
        if (t.held_file) fclose(t.held_file);
        unlink(lines);
        unlink(model);
    }
    nr_buffer_free(&t.line);
    free(t.places);
    free(lines);
    free(model);
    return st;
}
