/*
 * report_data.c - reads the files of a run. Owns what it read. A line of the
 * metrics that is cut off (the run may be going on) or no JSON is counted and
 * left out; a file that was named and can't be read is an error.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

static const json_t *at(const json_t *o, const char *path)
{
    while (o && *path) {
        char key[64];
        size_t n = strcspn(path, ".");
        if (n >= sizeof key) return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        o = json_is_object(o) ? json_object_get(o, key) : NULL;
        path += n + (path[n] == '.');
    }
    return o;
}

double nr_report_number(const json_t *o, const char *path)
{
    const json_t *v = at(o, path);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *nr_report_string(const json_t *o, const char *path)
{
    const json_t *v = at(o, path);
    return json_is_string(v) ? json_string_value(v) : NULL;
}

bool nr_report_is(const json_t *o, const char *path, const char *value)
{
    const char *found = nr_report_string(o, path);
    return found && strcmp(found, value) == 0;
}

void nr_report_free(nr_report_data *d)
{
    json_t *all[] = {d->config, d->extension, d->usage, d->eval, d->before, d->gates, d->samples, d->tasks, d->steps, d->evals};
    for (size_t i = 0; i < NR_COUNT(all); i++) json_decref(all[i]);
    free(d->run);
    *d = (nr_report_data){0};
}

/* After a resume the steps since the last saved state come again: forget the first ones. */
static void append(json_t *list, json_t *line, double step)
{
    for (size_t n = json_array_size(list); n > 0; n--) {
        double last = nr_report_number(json_array_get(list, n - 1), "step");
        if (last < step) break;
        json_array_remove(list, n - 1);
    }
    json_array_append(list, line);
}

static void take_line(nr_report_data *d, const char *text, size_t n)
{
    json_t *line = NULL;
    nr_error ignored;
    if (nr_json_parse(&line, text, n, "metrics", &ignored) != NR_OK || !json_is_object(line)) {
        d->bad_lines++;
        json_decref(line);
        return;
    }
    double step = nr_report_number(line, "step");
    if (isfinite(step) && nr_report_is(line, "kind", "step")) append(d->steps, line, step);
    if (isfinite(step) && nr_report_is(line, "kind", "eval")) append(d->evals, line, step);
    json_decref(line);
}

static nr_status load_metrics(nr_report_data *d, const char *path, nr_error *err)
{
    nr_map m;
    NR_TRY(nr_map_open(&m, path, err));
    d->steps = json_array();
    d->evals = json_array();
    const char *p = (const char *)m.data, *end = p + m.size;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        if (n > 0) take_line(d, p, n);
        p += n + 1;
    }
    nr_map_close(&m);
    if (json_array_size(d->steps) + json_array_size(d->evals) == 0)
        return nr_fail(err, NR_E_FORMAT, "%s: expected lines of training and evaluation, found none", path);
    return NR_OK;
}

/* An optional file of the run; a broken one is an error, a missing one is not. */
static nr_status load_part(json_t **out, const char *folder, const char *name, nr_error *err)
{
    char *path = nr_path_join(folder, name);
    nr_status st = NR_OK;
    if (!path) return nr_fail(err, NR_E_MEMORY, "report: out of memory for a path");
    if (nr_path_exists(path)) st = nr_json_load(out, path, err);
    free(path);
    return st;
}

static nr_status load_named(json_t **out, const char *path, nr_error *err)
{
    if (!path) return NR_OK;
    NR_TRY(nr_json_load(out, path, err));
    if (!json_is_object(*out)) return nr_fail(err, NR_E_FORMAT, "%s: expected an object", path);
    return NR_OK;
}

nr_status nr_report_load(nr_report_data *d, const nr_report_files *f, nr_error *err)
{
    nr_status st;
    char *metrics = nr_path_join(f->run, "metrics.jsonl");
    *d = (nr_report_data){.run = nr_strdup(f->run)};
    if (!metrics || !d->run) {
        st = nr_fail(err, NR_E_MEMORY, "report: out of memory for a path");
        goto done;
    }
    NR_GO(load_metrics(d, metrics, err));
    NR_GO(load_part(&d->config, f->run, "config.json", err));
    NR_GO(load_part(&d->extension, f->run, "extension_config.json", err));
    if (!d->extension) NR_GO(load_part(&d->extension, f->run, "best/extension_config.json", err));
    NR_GO(load_part(&d->usage, f->run, "usage.json", err));
    NR_GO(load_named(&d->eval, f->eval, err));
    NR_GO(load_named(&d->before, f->before, err));
    NR_GO(load_named(&d->gates, f->gates, err));
    NR_GO(load_named(&d->samples, f->samples, err));
    NR_GO(load_named(&d->tasks, f->tasks, err));
done:
    free(metrics);
    if (st != NR_OK) nr_report_free(d);
    return st;
}
