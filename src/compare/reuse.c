/*
 * reuse.c - records of other comparisons that count here too. Where one there is
 * of a run with the same settings, texts, measuring and backbone, under whatever
 * name, it is copied under the name that it has here, and the run isn't made.
 *
 * What decides a run is its identity (identity.c), in which a model is a name and a
 * size; between comparisons the backbone's fingerprint must be the same besides.
 */
#include <stdlib.h>

#include "compare/compare.h"
#include "formats/formats.h"
#include "report/report.h"

static bool is_record(const char *name) { return nr_ends_with(name, ".json"); }

/* Adds what is done in a comparison's folder, or in a folder of records. */
static nr_status add_folder(json_t *records, const char *folder, nr_error *err)
{
    nr_paths files = {0};
    char *inside = nr_path_join(folder, "results");
    nr_status st = inside ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    if (st == NR_OK) st = nr_paths_walk(&files, nr_path_exists(inside) ? inside : folder, is_record, err);
    for (size_t i = 0; i < files.count && st == NR_OK; i++) {
        json_t *o;
        if ((st = nr_json_load(&o, files.paths[i], err)) != NR_OK) break;
        if (nr_report_is(o, "status", "done") && nr_report_string(o, "identity")) {
            json_object_set_new(o, "taken_from", json_string(files.paths[i]));
            json_array_append(records, o);
        }
        json_decref(o);
    }
    nr_paths_free(&files);
    free(inside);
    return st;
}

nr_status nr_reuse_load(nr_reuse *u, const char *const *folders, size_t count, nr_error *err)
{
    *u = (nr_reuse){.records = json_array()};
    nr_status st = u->records ? NR_OK : nr_fail(err, NR_E_MEMORY, "out of memory for records");
    for (size_t i = 0; i < count && st == NR_OK; i++) st = add_folder(u->records, folders[i], err);
    return st;
}

void nr_reuse_free(nr_reuse *u)
{
    json_decref(u->records);
    *u = (nr_reuse){0};
}

/* The recipe's backbone is read through where a record is first found that would fit. */
static nr_status same_backbone(nr_reuse *u, const nr_compare_place *p, const json_t *record, bool *same, nr_error *err)
{
    nr_model_file *f = NULL;
    nr_status st = NR_OK;
    if (!u->backbone[0]) st = nr_model_file_open(&f, p->recipe->model, p->hub_folder, err);
    if (f) st = nr_model_file_fingerprint(f, u->backbone, err);
    nr_model_file_close(f);
    *same = st == NR_OK && nr_report_is(record, "backbone", u->backbone);
    return st;
}

nr_status nr_reuse_find(json_t **out, nr_reuse *u, const nr_compare_place *p, const nr_planned *run, nr_error *err)
{
    size_t i;
    const json_t *o;
    *out = NULL;
    json_array_foreach(u->records, i, o) {
        bool same;
        if (!nr_record_is_of(o, run)) continue;
        NR_TRY(same_backbone(u, p, o, &same, err));
        if (!same) continue;
        *out = json_deep_copy(o);
        return *out && nr_record_name(*out, run) ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", run->name);
    }
    return NR_OK;
}

nr_status nr_reuse_all(const nr_compare_place *p, const nr_compare_options *opt, const nr_listener *l, nr_error *err)
{
    nr_reuse u;
    nr_status st = nr_reuse_load(&u, opt->reuse, opt->reuse_count, err);
    for (size_t i = 0; i < p->recipe->run_count && st == NR_OK; i++) {
        const nr_planned *run = &p->recipe->runs[i];
        json_t *record = nr_measure_record(p, run, false);
        if (!record) {
            st = nr_reuse_find(&record, &u, p, run, err);
            if (record) st = nr_measure_write(p, run, record, err);
            if (record && st == NR_OK) nr_say(l, "%s: taken from %s", run->name, nr_report_string(record, "taken_from"));
        }
        json_decref(record);
    }
    nr_reuse_free(&u);
    return st;
}
