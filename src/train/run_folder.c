/*
 * run_folder.c - the folder of a run and its config.json, from which everything
 * can be set up again: settings, model, texts and their hashes, machine.
 *
 * Paths are stored absolute. Refuses a folder that holds a run already or that
 * another process trains in (a lock on log.txt, which a killed process loses by
 * itself), and to resume on another model or other texts than it was started on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "train/train.h"

#define FORMAT 1
#define BELOW 4 /* place of what the extension stands on, behind the sets of text */

const char *const nr_domain_names[2] = {"old", "new"};
const char *const nr_run_sets[4] = {"old", "new", "old_validation", "new_validation"};

const nr_files *nr_run_files(const nr_run *run, size_t set) { return set < 2 ? &run->train[set] : &run->validation[set - 2]; }

/* ---- a run with absolute paths ---- */

static nr_status absolute(char **out, const char *path, nr_error *err)
{
    char *real = realpath(path, NULL);
    *out = NULL;
    if (!real) return nr_fail_errno(err, "can't open", path);
    *out = real;
    return NR_OK;
}

static void set_files(nr_run_copy *c)
{
    for (size_t i = 0; i < 4; i++) {
        nr_files f = {c->paths[i], c->count[i]};
        if (i < 2)
            c->run.train[i] = f;
        else
            c->run.validation[i - 2] = f;
    }
    c->run.stands_on = (nr_files){c->paths[BELOW], c->count[BELOW]};
}

static nr_status add_path(nr_run_copy *c, size_t set, const char *path, size_t all, nr_error *err)
{
    char *real;
    if (!c->paths[set]) NR_TRY(nr_alloc(&c->paths[set], all, sizeof **c->paths, "list of files", err));
    NR_TRY(absolute(&real, path, err));
    c->paths[set][c->count[set]++] = real;
    return NR_OK;
}

nr_status nr_run_copy_new(nr_run_copy *c, const nr_run *run, nr_error *err)
{
    char *found;
    *c = (nr_run_copy){.run = *run};
    NR_TRY(nr_model_resolve(&found, run->model, run->hub_folder, err));
    nr_status st = absolute(&c->model, found, err);
    free(found);
    if (st != NR_OK) return st;
    NR_TRY(nr_make_folders(run->cache_folder, err));
    NR_TRY(absolute(&c->cache, run->cache_folder, err));
    for (size_t set = 0; set < 4; set++) {
        const nr_files *f = nr_run_files(run, set);
        for (size_t i = 0; i < f->count; i++) NR_TRY(add_path(c, set, f->paths[i], f->count, err));
    }
    for (size_t i = 0; i < run->stands_on.count; i++) NR_TRY(add_path(c, BELOW, run->stands_on.paths[i], run->stands_on.count, err));
    c->run.model = c->model;
    c->run.cache_folder = c->cache;
    set_files(c);
    return NR_OK;
}

nr_status nr_run_copy_from_json(nr_run_copy *c, const json_t *config, const char *folder, const char *where, nr_error *err)
{
    const char *text;
    *c = (nr_run_copy){.run = {.run = folder}};
    NR_TRY(nr_json_string(json_object_get(config, "model"), "path", true, &text, where, err));
    NR_TRY(absolute(&c->model, text, err));
    NR_TRY(nr_json_string(config, "cache_folder", true, &text, where, err));
    NR_TRY(nr_make_folders(text, err));
    NR_TRY(absolute(&c->cache, text, err));
    const json_t *files = json_object_get(config, "files");
    for (size_t set = 0; set < 4; set++) {
        const json_t *list = json_object_get(files, nr_run_sets[set]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            NR_TRY(nr_json_string(json_array_get(list, i), "path", true, &text, where, err));
            NR_TRY(add_path(c, set, text, json_array_size(list), err));
        }
    }
    const json_t *below = json_object_get(config, "stands_on");
    for (size_t i = 0; i < json_array_size(below); i++) {
        NR_TRY(nr_json_string(json_array_get(below, i), "path", true, &text, where, err));
        NR_TRY(add_path(c, BELOW, text, json_array_size(below), err));
    }
    c->run.model = c->model;
    c->run.cache_folder = c->cache;
    set_files(c);
    return NR_OK;
}

void nr_run_copy_free(nr_run_copy *c)
{
    for (size_t set = 0; set < NR_COUNT(c->paths); set++) {
        for (size_t i = 0; i < c->count[set]; i++) free((void *)(uintptr_t)c->paths[set][i]);
        free(c->paths[set]);
    }
    free(c->model);
    free(c->cache);
    *c = (nr_run_copy){0};
}

/* ---- the folder ---- */

static const char *const run_files[] = {"usage.json", "extension_config.json", "extension.safetensors", "config.json", "metrics.jsonl",
                                        "events.out.tfevents.nres", "report.html", "fisher.safetensors"};

static bool holds_run(const char *folder)
{
    for (size_t i = 0; i < 3; i++) {
        char *path = nr_path_join(folder, run_files[i]);
        bool there = path && nr_path_exists(path);
        free(path);
        if (there) return true;
    }
    return false;
}

nr_status nr_run_check_free(const nr_run *run, nr_error *err)
{
    if (run->overwrite || !holds_run(run->run)) return NR_OK;
    return nr_fail(err, NR_E_USAGE, "%s: holds a run already; nres resume goes on with it, --overwrite replaces it", run->run);
}

nr_status nr_run_lock(nr_trainer *t, nr_error *err)
{
    NR_TRY(nr_make_folders(t->folder, err));
    char *path = nr_path_join(t->folder, "log.txt");
    if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    nr_status st = NR_OK;
    t->lock = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (t->lock < 0) {
        st = nr_fail_errno(err, "can't write", path);
    } else if (flock(t->lock, LOCK_EX | LOCK_NB) != 0) {
        st = errno == EWOULDBLOCK ? nr_fail(err, NR_E_IO, "%s: another process trains here (%s is locked)", t->folder, path)
                                  : nr_fail_errno(err, "can't lock", path);
        close(t->lock);
        t->lock = -1;
    }
    free(path);
    return st;
}

void nr_run_unlock(nr_trainer *t)
{
    if (t->lock >= 0) close(t->lock);
    t->lock = -1;
}

nr_status nr_run_clear(const nr_trainer *t, nr_error *err)
{
    static const char *const folders[] = {"state", "best"};
    for (size_t i = 0; i < NR_COUNT(run_files) + NR_COUNT(folders); i++) {
        bool is_file = i < NR_COUNT(run_files);
        char *path = nr_path_join(t->folder, is_file ? run_files[i] : folders[i - NR_COUNT(run_files)]);
        if (!path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
        nr_status st = NR_OK;
        if (!is_file)
            st = nr_remove_folder(path, err);
        else if (unlink(path) != 0 && errno != ENOENT)
            st = nr_fail_errno(err, "can't remove", path);
        free(path);
        if (st != NR_OK) return st;
    }
    if (ftruncate(t->lock, 0) != 0) return nr_fail_errno(err, "can't empty log.txt in", t->folder);
    return NR_OK;
}

/* ---- config.json ---- */

/* NULL: out of memory, or a path that is not UTF-8. */
static json_t *files_to_json(const nr_trainer *t, const nr_run *run, size_t set)
{
    const nr_files *f = nr_run_files(run, set);
    json_t *list = json_array();
    for (size_t i = 0; i < f->count && t->tokens[set]; i++) {
        size_t size;
        const char *sha256 = nr_tokens_file(t->tokens[set], i, &size);
        json_t *one = json_pack("{s:s, s:I, s:s}", "path", f->paths[i], "size", (json_int_t)size, "sha256", sha256);
        if (json_array_append_new(list, one) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

/* What the extension stands on, or an empty list. */
static nr_status below_to_json(json_t **out, const nr_run *run, nr_error *err)
{
    char hex[65];
    json_t *list = *out = json_array();
    for (size_t i = 0; i < run->stands_on.count; i++) {
        NR_TRY(nr_extension_file_hash(hex, run->stands_on.paths[i], err));
        json_array_append_new(list, json_pack("{s:s, s:s}", "path", run->stands_on.paths[i], "sha256", hex));
    }
    return NR_OK;
}

/* What decides the bits beside the settings. */
static json_t *machine_to_json(const nr_trainer *t)
{
    char build[256];
    nr_build_info(build, sizeof build);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "build", build, "instruction_set", nr_cpu_name(), "matrix_library",
                     nr_matrix_library(), "backend", t->model->ops->name, "threads", (json_int_t)nr_threads_get(), "ranks",
                     (json_int_t)nr_train_ranks(t));
}

nr_status nr_run_write_config(nr_trainer *t, const nr_run *run, nr_error *err)
{
    char *path = nr_path_join(t->folder, "config.json");
    json_t *files = json_object(), *tokens = json_object();
    bool whole = true;
    for (size_t set = 0; set < 4; set++) {
        whole &= json_object_set_new(files, nr_run_sets[set], files_to_json(t, run, set)) == 0;
        if (t->tokens[set])
            whole &= json_object_set_new(tokens, nr_run_sets[set], json_string(nr_tokens_hash(t->tokens[set]))) == 0;
    }
    json_t *model = json_pack("{s:s, s:s, s:s}", "path", run->model, "name", t->model->config->name, "sha256", t->e->backbone);
    json_decref(t->config);
    t->config = json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "format_version", FORMAT, "nres", nr_version(),
                          "command", run->command ? run->command : "", "settings", nr_settings_to_json(&t->s, NULL), "model",
                          model, "machine", machine_to_json(t), "files", files, "tokens", tokens, "cache_folder",
                          run->cache_folder);
    json_t *below = NULL;
    nr_status st = path && t->config && whole ? below_to_json(&below, run, err)
                                     : nr_fail(err, NR_E_MEMORY, "%s: out of memory, or a path that is not UTF-8", t->folder);
    if (st == NR_OK && json_array_size(below) > 0) json_object_set(t->config, "stands_on", below);
    if (st == NR_OK) st = nr_json_save(t->config, path, err);
    json_decref(below);
    free(path);
    return st;
}

/* ---- the same run? ---- */

static nr_status verify_files(const nr_trainer *t, const nr_run *run, size_t set, const char *where, nr_error *err)
{
    const json_t *list = json_object_get(json_object_get(t->config, "files"), nr_run_sets[set]);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *want;
        size_t size;
        NR_TRY(nr_json_string(json_array_get(list, i), "sha256", true, &want, where, err));
        const char *found = nr_tokens_file(t->tokens[set], i, &size);
        if (strcmp(want, found) != 0)
            return nr_fail(err, NR_E_MISMATCH, "%s: changed since the run began: expected the SHA-256 %.12s..., found %.12s...",
                           nr_run_files(run, set)->paths[i], want, found);
    }
    if (!t->tokens[set]) return NR_OK;
    const char *hash;
    NR_TRY(nr_json_string(json_object_get(t->config, "tokens"), nr_run_sets[set], true, &hash, where, err));
    if (strcmp(hash, nr_tokens_hash(t->tokens[set])) == 0) return NR_OK;
    return nr_fail(err, NR_E_MISMATCH, "%s: the %s text gives other tokens than when the run began", where, nr_run_sets[set]);
}

static nr_status verify_below(const nr_trainer *t, const nr_run *run, const char *where, nr_error *err)
{
    const json_t *list = json_object_get(t->config, "stands_on");
    for (size_t i = 0; i < run->stands_on.count; i++) {
        const char *want;
        char hex[65];
        NR_TRY(nr_json_string(json_array_get(list, i), "sha256", true, &want, where, err));
        NR_TRY(nr_extension_file_hash(hex, run->stands_on.paths[i], err));
        if (strcmp(want, hex) != 0)
            return nr_fail(err, NR_E_MISMATCH, "%s: changed since the run began: expected the SHA-256 %.12s..., found %.12s...",
                           run->stands_on.paths[i], want, hex);
    }
    return NR_OK;
}

nr_status nr_run_verify(nr_trainer *t, const nr_run *run, nr_error *err)
{
    const char *text;
    char *where = nr_path_join(t->folder, "config.json");
    nr_status st = NR_OK;
    json_t *now = machine_to_json(t);
    if (!where || !now) {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
        goto done;
    }
    NR_GO(nr_json_string(json_object_get(t->config, "model"), "sha256", true, &text, where, err));
    if (strcmp(text, t->e->backbone) != 0) {
        st = nr_fail(err, NR_E_MISMATCH, "%s: changed since the run began: expected the SHA-256 %.12s..., found %.12s...",
                     run->model, text, t->e->backbone);
        goto done;
    }
    for (size_t set = 0; set < 4; set++) NR_GO(verify_files(t, run, set, where, err));
    NR_GO(verify_below(t, run, where, err));
    static const char *const keys[] = {"instruction_set", "matrix_library", "backend"};
    for (size_t i = 0; i < NR_COUNT(keys); i++) {
        const char *found = json_string_value(json_object_get(now, keys[i]));
        NR_GO(nr_json_string(json_object_get(t->config, "machine"), keys[i], true, &text, where, err));
        if (found && strcmp(text, found) != 0)
            nr_train_say(t, "warning: the run began with %s, this is %s: its numbers may differ in the last bits", text, found);
    }
done:
    json_decref(now);
    free(where);
    return st;
}
