/*
 * checkpoint.c - state/: what a run needs to go on as if nothing had happened.
 *
 *   state/<step>/state.safetensors   values, adam_m, adam_v
 *   state/<step>/state.json          counters, best score, sizes of the growing
 *                                    files, SHA-256 of the weights' file
 *
 * Arrays are whole, whatever the number of ranks: rank 0 collects and writes.
 *
 * A generation is written as <step>.tmp, synced, renamed; only then is the one
 * before the previous removed. So two whole generations stand at all times
 * after the second save, and a crash or a full disk at any point leaves at
 * least one. A generation that breaks its hash is passed over with a word.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

#define KEPT 2
#define FORMAT 1

/* ---- names ---- */

/* "00000120" to 120; false for anything else, "....tmp" too. */
static bool step_of(const char *name, uint64_t *step)
{
    if (!*name || strspn(name, "0123456789") != strlen(name) || strlen(name) > 19) return false;
    *step = strtoull(name, NULL, 10);
    return true;
}

typedef struct {
    uint64_t *steps; /* falling */
    size_t count;
} generations;

static int falling(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x < y) - (x > y);
}

static nr_status list_generations(generations *g, const char *state, nr_error *err)
{
    *g = (generations){0};
    DIR *d = opendir(state);
    if (!d) return errno == ENOENT ? NR_OK : nr_fail_errno(err, "can't read the folder", state);
    nr_status st = NR_OK;
    for (struct dirent *entry; st == NR_OK && (entry = readdir(d));) {
        uint64_t step;
        if (!step_of(entry->d_name, &step)) continue;
        uint64_t *more = realloc(g->steps, (g->count + 1) * sizeof *more);
        if (more) {
            g->steps = more;
            g->steps[g->count++] = step;
        } else {
            st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", state);
        }
    }
    closedir(d);
    if (g->count > 1) qsort(g->steps, g->count, sizeof *g->steps, falling);
    return st;
}

static char *generation_path(const char *state, uint64_t step, const char *end)
{
    return nr_format("%s/%08llu%s", state, (unsigned long long)step, end);
}

/* ---- writing ---- */

/* Read piece by piece: a map of the file would count as memory of the run. */
static nr_status hash_of(char hex[65], const char *path, nr_error *err)
{
    const size_t piece_bytes = (size_t)1 << 20;
    char *piece = NULL;
    size_t n;
    FILE *f = fopen(path, "rbe");
    if (!f) return nr_fail_errno(err, "can't open", path);
    nr_status st = nr_alloc(&piece, piece_bytes, 1, path, err);
    nr_sha256 *h = nr_sha256_new();
    while (st == NR_OK && (n = fread(piece, 1, piece_bytes, f)) > 0) nr_sha256_add(h, piece, n);
    if (st == NR_OK && ferror(f)) st = nr_fail_errno(err, "can't read", path);
    fclose(f);
    free(piece);
    nr_sha256_hex(h, hex);
    return st == NR_OK && !hex[0] ? nr_fail(err, NR_E_MEMORY, "%s: out of memory for its hash", path) : st;
}

static nr_status write_weights(const nr_trainer *t, const char *path, nr_error *err)
{
    const nr_exchange *x = &t->exchange;
    char names[3][8] = {"values", "adam_m", "adam_v"};
    const void *data[3] = {t->e->values, nr_exchange_whole(x, t->m, 0), nr_exchange_whole(x, t->v, 1)};
    nr_tensor tensors[3];
    for (size_t i = 0; i < 3; i++)
        tensors[i] = (nr_tensor){.name = names[i], .type = t->model->ops->real, .ndim = 1, .shape = {t->e->weights},
                                 .data = data[i], .size = t->e->weights * t->model->ops->real_size};
    return nr_safetensors_write(path, tensors, 3, NULL, err);
}

static json_t *pair_to_json(const double v[2])
{
    return json_pack("[o, o]", nr_json_finite(v[0]), nr_json_finite(v[1]));
}

static json_t *state_to_json(const nr_trainer *t, const char *hex)
{
    const nr_progress_state *a = &t->at;
    return json_pack("{s:i, s:I, s:I, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:s}", "format_version", FORMAT,
                     "step", (json_int_t)a->step, "rows", (json_int_t)a->drawn.rows, "old_rows", (json_int_t)a->drawn.old,
                     "best_score", nr_json_finite(a->best_score), "best_step", (json_int_t)a->best_step, "seconds",
                     nr_json_finite(a->seconds), "bits", pair_to_json(a->last.bits), "backbone_bits",
                     pair_to_json(a->last.backbone_bits), "kl", pair_to_json(a->last.kl), "agreement",
                     pair_to_json(a->last.agreement), "score", nr_json_finite(a->last.score), "metrics_bytes",
                     (json_int_t)a->metrics_bytes, "events_bytes", (json_int_t)a->events_bytes, "sha256", hex);
}

static nr_status write_generation(const nr_trainer *t, const char *folder, nr_error *err)
{
    char hex[65];
    nr_status st;
    json_t *j = NULL;
    char *weights = nr_path_join(folder, "state.safetensors"), *counters = nr_path_join(folder, "state.json");
    if (!weights || !counters) {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
        goto done;
    }
    NR_GO(nr_make_folders(folder, err));
    NR_GO(write_weights(t, weights, err));
    NR_GO(hash_of(hex, weights, err));
    j = state_to_json(t, hex);
    st = j ? nr_json_save(j, counters, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
done:
    json_decref(j);
    free(weights);
    free(counters);
    return st;
}

static nr_status remove_older(const char *state, nr_error *err)
{
    generations g;
    nr_status st = list_generations(&g, state, err);
    for (size_t i = KEPT; st == NR_OK && i < g.count; i++) {
        char *old = generation_path(state, g.steps[i], "");
        st = old ? nr_remove_folder(old, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", state);
        free(old);
    }
    free(g.steps);
    return st;
}

nr_status nr_state_collect(nr_trainer *t, nr_error *err)
{
    nr_status st = nr_exchange_collect(&t->exchange, t->m, 0, err);
    if (st == NR_OK) st = nr_exchange_collect(&t->exchange, t->v, 1, err);
    return nr_train_together(t, st);
}

nr_status nr_state_save(nr_trainer *t, nr_error *err)
{
    nr_status st;
    char *state = nr_path_join(t->folder, "state");
    char *folder = state ? generation_path(state, t->at.step, "") : NULL;
    char *building = state ? generation_path(state, t->at.step, ".tmp") : NULL;
    if (!folder || !building) {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
        goto done;
    }
    NR_GO(nr_append_sync(&t->metrics, &t->at.metrics_bytes, err));
    NR_GO(nr_append_sync(&t->events, &t->at.events_bytes, err));
    NR_GO(nr_remove_folder(building, err)); /* of a process that was killed */
    st = write_generation(t, building, err);
    if (st != NR_OK) {
        nr_remove_folder(building, NULL);
        goto done;
    }
    NR_GO(nr_remove_folder(folder, err)); /* the same step, broken: it was passed over */
    NR_GO(nr_rename_folder(building, folder, err));
    st = remove_older(state, err);
done:
    free(state);
    free(folder);
    free(building);
    return st;
}

/* ---- reading ---- */

static nr_status json_number(const json_t *j, const char *key, double *v, const char *where, nr_error *err)
{
    *v = NAN;
    return nr_json_double(j, key, false, v, where, err);
}

static nr_status json_pair(const json_t *j, const char *key, double v[2], const char *where, nr_error *err)
{
    const json_t *list = json_object_get(j, key);
    if (json_array_size(list) != 2) return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected two numbers", where, key);
    for (size_t i = 0; i < 2; i++) {
        const json_t *x = json_array_get(list, i);
        v[i] = json_is_number(x) ? json_number_value(x) : NAN;
    }
    return NR_OK;
}

static nr_status state_from_json(nr_progress_state *a, const json_t *j, const char **hex, const char *where, nr_error *err)
{
    size_t version, step, rows, old, best_step;
    NR_TRY(nr_json_size(j, "format_version", true, &version, where, err));
    if (version != FORMAT)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: expected format_version %d, found %zu", where, FORMAT, version);
    NR_TRY(nr_json_size(j, "step", true, &step, where, err));
    NR_TRY(nr_json_size(j, "rows", true, &rows, where, err));
    NR_TRY(nr_json_size(j, "old_rows", true, &old, where, err));
    NR_TRY(nr_json_size(j, "best_step", true, &best_step, where, err));
    NR_TRY(nr_json_size(j, "metrics_bytes", true, &a->metrics_bytes, where, err));
    NR_TRY(nr_json_size(j, "events_bytes", true, &a->events_bytes, where, err));
    NR_TRY(json_number(j, "best_score", &a->best_score, where, err));
    NR_TRY(json_number(j, "seconds", &a->seconds, where, err));
    NR_TRY(json_number(j, "score", &a->last.score, where, err));
    NR_TRY(json_pair(j, "bits", a->last.bits, where, err));
    NR_TRY(json_pair(j, "backbone_bits", a->last.backbone_bits, where, err));
    NR_TRY(json_pair(j, "kl", a->last.kl, where, err));
    NR_TRY(json_pair(j, "agreement", a->last.agreement, where, err));
    a->step = step;
    a->drawn = (nr_draw_count){rows, old};
    a->best_step = best_step;
    return nr_json_string(j, "sha256", true, hex, where, err);
}

static nr_status read_weights(nr_trainer *t, const char *path, nr_error *err)
{
    nr_safetensors *file;
    void *to[3] = {t->e->values, nr_exchange_whole(&t->exchange, t->m, 0), nr_exchange_whole(&t->exchange, t->v, 1)};
    static const char *const names[3] = {"values", "adam_m", "adam_v"};
    NR_TRY(nr_safetensors_open(&file, path, err));
    nr_status st = NR_OK;
    size_t bytes = t->e->weights * t->model->ops->real_size;
    for (size_t i = 0; i < 3 && st == NR_OK; i++) {
        const nr_tensor *x = nr_safetensors_find(file, names[i]);
        if (!x || x->type != t->model->ops->real || x->size != bytes)
            st = nr_fail(err, NR_E_MISMATCH, "%s: tensor %s: expected %zu bytes of %s, found %zu", path, names[i], bytes,
                         nr_dtypes[t->model->ops->real].name, x ? x->size : 0);
        else
            memcpy(to[i], x->data, bytes);
    }
    nr_safetensors_close(file);
    return st;
}

static nr_status load_generation(nr_trainer *t, const char *folder, nr_error *err)
{
    char hex[65];
    const char *want;
    json_t *j = NULL;
    nr_progress_state a = {0};
    nr_status st;
    char *weights = nr_path_join(folder, "state.safetensors"), *counters = nr_path_join(folder, "state.json");
    if (!weights || !counters) {
        st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
        goto done;
    }
    NR_GO(nr_json_load(&j, counters, err));
    NR_GO(state_from_json(&a, j, &want, counters, err));
    NR_GO(hash_of(hex, weights, err));
    if (strcmp(hex, want) != 0) {
        st = nr_fail(err, NR_E_FORMAT, "%s: expected the SHA-256 %.12s..., found %.12s...", weights, want, hex);
        goto done;
    }
    NR_GO(read_weights(t, weights, err));
    NR_GO(nr_extension_repack(t->e, err));
    t->at = a;
done:
    json_decref(j);
    free(weights);
    free(counters);
    return st;
}

nr_status nr_state_load(nr_trainer *t, bool *found, nr_error *err)
{
    generations g = {0};
    nr_error why = {0};
    *found = false;
    char *state = nr_path_join(t->folder, "state");
    nr_status st = state ? list_generations(&g, state, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", t->folder);
    for (size_t i = 0; st == NR_OK && i < g.count && !*found; i++) {
        char *folder = generation_path(state, g.steps[i], "");
        nr_status read = folder ? load_generation(t, folder, &why) : NR_E_MEMORY;
        free(folder);
        *found = read == NR_OK;
        if (read == NR_E_MEMORY || read == NR_E_MISMATCH) st = read;
        if (st == NR_OK && read != NR_OK) nr_train_say(t, "a saved state is passed over: %s", why.message);
    }
    if (st != NR_OK && err && why.message[0]) *err = why;
    if (st == NR_OK && g.count > 0 && !*found) {
        st = nr_fail(err, NR_E_FORMAT, "%s: none of the %zu saved states can be read: %s", state, g.count, why.message);
    }
    free(g.steps);
    free(state);
    return st;
}
