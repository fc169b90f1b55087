/*
 * pipeline.c - the steps one after another. Steps that look at one document at
 * a time share a pass; those that compare documents need passes of their own:
 *
 *   read + language   files to rows; dedup too where a filter does
 *   dedup             repeated paragraphs or documents, exactly
 *   near              near-duplicates
 *   quality           in the last of these passes
 *
 * Each pass writes a folder of parts under work/, the last one text/. A pass
 * that is complete is recognised by its state, so a second call starts where
 * the first one ended.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "prepare/dedup.h"
#include "prepare/pipeline.h"
#include "prepare/text_model.h"

void nr_pipeline_defaults(nr_pipeline_options *o)
{
    *o = (nr_pipeline_options){.language_share = 0.5, .paragraph_share = 0.8, .quality_threshold = 0.5};
}

typedef struct {
    const nr_pipeline_options *options;
    nr_counts *counts;
    const nr_listener *listener;
    nr_error *err;
    nr_text_model *language, *quality;
    nr_language_options by_language;
    nr_quality_options by_quality;
    nr_step quality_step;
    nr_dedup_filter once;  /* its filter: NULL where repeats are looked for in two passes, or not */
    nr_filter_facts facts;
    nr_paths inputs;       /* of the first pass */
    char *settings, *text, *work, *first; /* first: the first pass's folder */
    char key[65];
    nr_paths between;      /* parts of the pass before */
    char *before;          /* its folder */
    int lock;              /* descriptor of the result's folder */
} pipeline;

static bool by_filter(const nr_pipeline_options *o) { return o->dedup && o->dedup_error > 0; }

static nr_status describe(pipeline *p)
{
    const nr_pipeline_options *o = p->options;
    nr_buffer b = {0};
    nr_buffer_printf(&b, "read field=%s pages=%d everything=%d bullets=%d alt=%d part=%zu", o->read.field ? o->read.field : "text",
                     o->read.pages_as_they_are, o->read.main.everything, !o->read.main.no_bullets, !o->read.main.no_alt, o->part_bytes);
    if (p->language) {
        nr_buffer_printf(&b, "; language model=%.16s share=%g paragraph=%g", nr_text_model_hash(p->language), o->language_share,
                         o->paragraph_share);
        for (size_t i = 0; i < o->language_count; i++) nr_buffer_printf(&b, " %s", o->languages[i]);
    }
    if (o->dedup) nr_buffer_printf(&b, "; dedup %s", o->dedup == NR_DEDUP_PARAGRAPHS ? "paragraphs" : "documents");
    if (by_filter(o)) nr_buffer_printf(&b, " error=%g", o->dedup_error);
    if (o->near > 0) nr_buffer_printf(&b, "; near %g", o->near);
    if (p->quality) nr_buffer_printf(&b, "; quality model=%.16s threshold=%g", nr_text_model_hash(p->quality), o->quality_threshold);
    p->settings = b.data;
    return b.failed ? nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", o->folder) : NR_OK;
}

static nr_status prepare(pipeline *p)
{
    const nr_pipeline_options *o = p->options;
    if (o->language_model) NR_TRY(nr_text_model_open(&p->language, o->language_model, p->err));
    if (o->quality_model) NR_TRY(nr_text_model_open(&p->quality, o->quality_model, p->err));
    p->by_language = (nr_language_options){p->language, o->languages, o->language_count, o->language_share, o->paragraph_share};
    p->by_quality = (nr_quality_options){p->quality, o->quality_threshold};
    p->quality_step = (nr_step)NR_STEP("quality", nr_step_quality, &p->by_quality);
    p->text = nr_path_join(o->folder, "text");
    p->work = nr_path_join(o->folder, "work");
    if (!p->text || !p->work) return nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", o->folder);
    NR_TRY(describe(p));
    NR_TRY(nr_inputs_find(&p->inputs, o->paths, o->path_count, p->err));
    return nr_flow_key(&p->inputs, p->settings, p->key, p->err);
}

/* The folder of a pass: its own under work/, or text/ for the last. */
static nr_status pass_folder(const pipeline *p, const char *name, bool last, char **folder)
{
    *folder = last ? nr_strdup(p->text) : nr_path_join(p->work, name);
    return *folder ? NR_OK : nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", p->text);
}

/* What a pass wrote is what the next one reads. */
static nr_status end_pass(pipeline *p, char *folder)
{
    nr_paths_free(&p->between);
    free(p->before);
    p->before = folder;
    return nr_inputs_parts(&p->between, folder, p->err);
}

/* The filter's keys lie beside the parts that the pass writes. */
static nr_status open_filter(pipeline *p, const char *folder)
{
    const nr_pipeline_options *o = p->options;
    char *path = nr_path_join(folder, "filter.keys");
    if (!path) return nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", folder);
    p->once.documents = o->dedup == NR_DEDUP_DOCUMENTS;
    nr_status st = nr_make_folders(folder, p->err);
    if (st == NR_OK) st = nr_filter_open(&p->once.filter, path, o->dedup_error, o->dedup_memory, p->err);
    free(path);
    if (st != NR_OK) return st;
    size_t bytes;
    double keys;
    nr_filter_most(p->once.filter, &bytes, &keys);
    nr_say(p->listener, "repeats: a filter of at most %.1f MiB, enough for %.3g different pieces of text at an error of %g", (double)bytes / 1048576,
           keys, o->dedup_error);
    return NR_OK;
}

static nr_status read_pass(pipeline *p, bool last)
{
    char *folder;
    NR_TRY(pass_folder(p, "read", last, &folder));
    nr_flow f = {.inputs = &p->inputs, .settings = p->settings, .steps = {NR_STEP("read", nr_step_read, &p->options->read)}, .step_count = 1,
                 .folder = folder, .part_bytes = p->options->part_bytes, .title = "reading"};
    if (p->language) f.steps[f.step_count++] = (nr_step)NR_STEP("language", nr_step_language, &p->by_language);
    nr_status st = by_filter(p->options) ? open_filter(p, folder) : NR_OK;
    if (p->once.filter) nr_dedup_steps(&p->once, f.steps + f.step_count), f.step_count += 2;
    if (last && p->quality) f.steps[f.step_count++] = p->quality_step;
    if (st == NR_OK) st = nr_flow_run(&f, p->counts, NULL, p->listener, p->err);
    if (st == NR_OK && p->once.filter) st = nr_filter_count(p->once.filter, &p->facts, p->err);
    if (st == NR_OK && p->once.filter)
        nr_say(p->listener, "repeats: %llu different pieces of text in a filter of %.1f MiB; %.3g new ones dropped, as is to be expected",
               (unsigned long long)p->facts.keys, (double)p->facts.bytes / 1048576, p->facts.wrong);
    p->first = nr_strdup(folder);
    if (st == NR_OK && !p->first) st = nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", folder);
    if (st == NR_OK) return end_pass(p, folder);
    free(folder);
    return st;
}

/* dedup or near: parts of the pass before to parts. */
static nr_status compare_pass(pipeline *p, bool near, bool last)
{
    static const nr_read_options rows = {.field = "text"};
    char *folder;
    nr_counts counts = {0};
    NR_TRY(pass_folder(p, near ? "near" : "dedup", last, &folder));
    nr_dedup_work w = {.inputs = &p->between, .settings = p->settings, .folder = folder, .part_bytes = p->options->part_bytes, .read = &rows};
    if (last && p->quality) w.more = &p->quality_step, w.more_count = 1;
    nr_status st = near ? nr_near_dedup(&w, p->options->near, &counts, p->listener, p->err)
                        : nr_dedup(&w, p->options->dedup == NR_DEDUP_DOCUMENTS, &counts, p->listener, p->err);
    nr_counts_forget_read(&counts); /* rows read again are no news */
    nr_counts_add(p->counts, &counts);
    nr_counts_free(&counts);
    if (st == NR_OK) return end_pass(p, folder);
    free(folder);
    return st;
}

/* ---- the folder ---- */

static bool half_written(const char *name)
{
    static const char *const ours[] = {"part-", "state.json", "manifest.json", "signatures"};
    for (size_t i = 0; i < NR_COUNT(ours); i++)
        if (strncmp(name, ours[i], strlen(ours[i])) == 0) return strstr(name, ".tmp-") != NULL;
    return false;
}

/* Removes the half-written files of a process that was killed. */
static nr_status sweep(const char *folder, nr_error *err)
{
    DIR *d = opendir(folder);
    if (!d) return errno == ENOENT ? NR_OK : nr_fail_errno(err, "can't open the folder", folder);
    for (struct dirent *e; (e = readdir(d));)
        if (half_written(e->d_name)) unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    return NR_OK;
}

/* One process at a time works on a folder; the lock goes with the descriptor. */
static nr_status lock(pipeline *p)
{
    const char *folder = p->options->folder;
    NR_TRY(nr_make_folders(folder, p->err));
    p->lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->lock < 0) return nr_fail_errno(p->err, "can't open the folder", folder);
    if (flock(p->lock, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? nr_fail(p->err, NR_E_IO, "%s: another process is working on it", folder)
                                    : nr_fail_errno(p->err, "can't lock", folder);
    NR_TRY(sweep(folder, p->err));
    NR_TRY(sweep(p->text, p->err));
    static const char *const passes[] = {"read", "dedup", "near"};
    nr_status st = NR_OK;
    for (size_t i = 0; i < NR_COUNT(passes) && st == NR_OK; i++) {
        char *path = nr_path_join(p->work, passes[i]);
        st = path ? sweep(path, p->err) : nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", folder);
        free(path);
    }
    return st;
}

/* What was only needed on the way goes. */
static nr_status clear_up(const pipeline *p)
{
    static const char *const names[] = {"state.json", "repeats.bits", "near.bits", "filter.keys"};
    for (size_t i = 0; i < NR_COUNT(names); i++) {
        char *path = nr_path_join(p->text, names[i]);
        if (!path) return nr_fail(p->err, NR_E_MEMORY, "%s: out of memory", p->text);
        remove(path);
        free(path);
    }
    return p->options->keep_work ? NR_OK : nr_remove_folder(p->work, p->err);
}

static nr_status all_passes(pipeline *p)
{
    const nr_pipeline_options *o = p->options;
    bool two_passes = o->dedup && !by_filter(o);
    NR_TRY(read_pass(p, !two_passes && o->near <= 0));
    if (two_passes) NR_TRY(compare_pass(p, false, o->near <= 0));
    if (o->near > 0) NR_TRY(compare_pass(p, true, true));
    nr_manifest_source m = {p->key, p->settings, &p->inputs, p->first, p->text, p->once.filter ? &p->facts : NULL};
    NR_TRY(nr_manifest_write(o->folder, &m, p->counts, p->err));
    return clear_up(p);
}

nr_status nr_pipeline_run(const nr_pipeline_options *o, nr_counts *counts, const nr_listener *l, nr_error *err)
{
    pipeline p = {.options = o, .counts = counts, .listener = l, .err = err, .lock = -1};
    bool complete = false;
    nr_status st = prepare(&p);
    if (st == NR_OK) st = lock(&p);
    if (st == NR_OK) st = nr_manifest_load(o->folder, p.key, counts, &complete, err);
    if (st == NR_OK && complete) nr_say(l, "%s is complete already", o->folder);
    if (st == NR_OK) st = complete ? clear_up(&p) : all_passes(&p);
    nr_text_model_close(p.language);
    nr_text_model_close(p.quality);
    nr_filter_close(p.once.filter);
    nr_paths_free(&p.inputs);
    nr_paths_free(&p.between);
    free(p.settings);
    free(p.text);
    free(p.work);
    free(p.first);
    free(p.before);
    if (p.lock >= 0) close(p.lock);
    return st;
}
