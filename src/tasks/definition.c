/*
 * definition.c - reads what a task is: a JSON object
 *
 *   about     a line for people
 *   names     {task: [stems of its files' names]}
 *   splits    {"questions": [...], "examples": [...]}: ends of these names
 *   layouts   [{"columns": [...], "fields": {field: template or [templates]}}]
 *   formats   {format: {...}}, see docs/TASKS.md
 *
 * Refuses unknown keys, wrong kinds, templates that can't be read: file, key,
 * what was expected.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

enum { MAX_SHOTS = 1000, MAX_WHERE = 4400 };

/* ---- checks ---- */

static nr_status known_keys(const json_t *o, const char *const *known, size_t count, const char *where, nr_error *err)
{
    const char *key;
    json_t *v, *object = (json_t *)(uintptr_t)o; /* jansson's iterators take no const */
    if (!json_is_object(o)) return nr_fail(err, NR_E_FORMAT, "%s: expected an object", where);
    json_object_foreach(object, key, v) {
        size_t i = 0;
        while (i < count && strcmp(known[i], key) != 0) i++;
        if (i == count) return nr_fail(err, NR_E_FORMAT, "%s: unknown key \"%.80s\"", where, key);
    }
    return NR_OK;
}

static nr_status list_of_texts(const json_t *list, const char *key, const char *where, nr_error *err)
{
    bool ok = json_is_array(list) && json_array_size(list) > 0;
    for (size_t i = 0; ok && i < json_array_size(list); i++) ok = json_is_string(json_array_get(list, i));
    return ok ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: \"%.80s\": expected a list of texts", where, key);
}

/* A template or a list of them. */
static nr_status check_template(const json_t *v, const char *where, nr_error *err)
{
    if (json_is_string(v)) return nr_task_template_check(json_string_value(v), where, err);
    NR_TRY(list_of_texts(v, "fields", where, err));
    for (size_t i = 0; i < json_array_size(v); i++)
        NR_TRY(nr_task_template_check(json_string_value(json_array_get(v, i)), where, err));
    return NR_OK;
}

static nr_status check_layout(const json_t *layout, const char *where, nr_error *err)
{
    static const char *const keys[] = {"columns", "fields"}, *const needed[] = {"question", "choices", "answer"};
    const char *key;
    char at[MAX_WHERE + 100];
    NR_TRY(known_keys(layout, keys, NR_COUNT(keys), where, err));
    NR_TRY(list_of_texts(json_object_get(layout, "columns"), "columns", where, err));
    json_t *v, *fields = json_object_get(layout, "fields");
    if (!json_is_object(fields)) return nr_fail(err, NR_E_FORMAT, "%s: \"fields\": expected an object", where);
    for (size_t i = 0; i < NR_COUNT(needed); i++)
        if (!json_object_get(fields, needed[i]))
            return nr_fail(err, NR_E_FORMAT, "%s: \"fields\": expected \"%s\", found none", where, needed[i]);
    json_object_foreach(fields, key, v) {
        snprintf(at, sizeof at, "%s: field \"%.80s\"", where, key);
        NR_TRY(check_template(v, at, err));
    }
    return NR_OK;
}

static nr_status check_splits(const json_t *splits, const char *where, nr_error *err)
{
    static const char *const keys[] = {"questions", "examples"};
    NR_TRY(known_keys(splits, keys, NR_COUNT(keys), where, err));
    NR_TRY(list_of_texts(json_object_get(splits, "questions"), "questions", where, err));
    const json_t *examples = json_object_get(splits, "examples");
    return examples ? list_of_texts(examples, "examples", where, err) : NR_OK;
}

static nr_status check_names(const json_t *names, const char *where, nr_error *err)
{
    const char *key;
    json_t *v, *o = (json_t *)(uintptr_t)names;
    if (!json_is_object(names) || json_object_size(names) == 0)
        return nr_fail(err, NR_E_FORMAT, "%s: \"names\": expected an object of tasks", where);
    json_object_foreach(o, key, v) {
        if (!*key || strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != strlen(key))
            return nr_fail(err, NR_E_FORMAT, "%s: \"names\": expected letters, digits, _, - and ., found \"%.80s\"", where, key);
        NR_TRY(list_of_texts(v, key, where, err));
    }
    return NR_OK;
}

static nr_status check_definition(const json_t *d, const char *path, nr_error *err)
{
    static const char *const keys[] = {"about", "names", "splits", "layouts", "formats"};
    char where[MAX_WHERE];
    NR_TRY(known_keys(d, keys, NR_COUNT(keys), path, err));
    NR_TRY(check_names(json_object_get(d, "names"), path, err));
    snprintf(where, sizeof where, "%.4000s: \"splits\"", path);
    NR_TRY(check_splits(json_object_get(d, "splits"), where, err));
    const json_t *layouts = json_object_get(d, "layouts"), *formats = json_object_get(d, "formats");
    if (!json_is_array(layouts) || json_array_size(layouts) == 0)
        return nr_fail(err, NR_E_FORMAT, "%s: \"layouts\": expected a list of layouts", path);
    for (size_t i = 0; i < json_array_size(layouts); i++) {
        snprintf(where, sizeof where, "%.4000s: layout %zu", path, i + 1);
        NR_TRY(check_layout(json_array_get(layouts, i), where, err));
    }
    if (!json_is_object(formats) || json_object_size(formats) == 0)
        return nr_fail(err, NR_E_FORMAT, "%s: \"formats\": expected an object of formats", path);
    return NR_OK;
}

/* ---- a format ---- */

static nr_status choose(int *out, const json_t *o, const char *key, const char *const names[2], const char *where, nr_error *err)
{
    const char *v = names[0];
    NR_TRY(nr_json_string(o, key, false, &v, where, err));
    for (*out = 0; *out < 2; (*out)++)
        if (strcmp(names[*out], v) == 0) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: \"%s\": expected \"%s\" or \"%s\", found \"%.80s\"", where, key, names[0], names[1], v);
}

static nr_status decision_of(nr_decision *d, const json_t *name, const char *where, nr_error *err)
{
    const char *text = json_is_string(name) ? json_string_value(name) : "";
    for (int i = 0; i < NR_DECISIONS; i++)
        if (strcmp(nr_decision_names[i], text) == 0) return *d = (nr_decision)i, NR_OK;
    return nr_fail(err, NR_E_FORMAT,
                   "%s: \"metrics\": expected acc, acc_norm, acc_bytes, acc_per_char, acc_per_token, acc_mutual_info or "
                   "acc_uncond, found \"%.80s\"", where, text);
}

static nr_status read_metrics(nr_task *t, const json_t *f, const char *where, nr_error *err)
{
    const json_t *list = json_object_get(f, "metrics");
    NR_TRY(list_of_texts(list, "metrics", where, err));
    for (size_t i = json_array_size(list); i-- > 0;) {
        NR_TRY(decision_of(&t->primary, json_array_get(list, i), where, err));
        t->decides[t->primary] = true;
    }
    if (t->decides[NR_D_acc_uncond] && !t->unconditional)
        return nr_fail(err, NR_E_FORMAT, "%s: acc_uncond: expected \"unconditional\", the context to compare with, found none", where);
    return NR_OK;
}

static nr_status read_texts(nr_task *t, const json_t *f, const char *where, nr_error *err)
{
    const struct {
        const char *key;
        const char **to;
        bool required, is_template;
    } texts[] = {{"query", &t->query, true, true},           {"option", &t->option, false, true},
                 {"description", &t->description, false, true}, {"delimiter", &t->delimiter, false, false},
                 {"between", &t->between, false, false},     {"labels", &t->labels, false, false},
                 {"unconditional", &t->unconditional, false, false}, {"group", &t->group, false, false},
                 {"about", &t->about, false, false}};
    char at[MAX_WHERE + 100];
    for (size_t i = 0; i < NR_COUNT(texts); i++) {
        NR_TRY(nr_json_string(f, texts[i].key, texts[i].required, texts[i].to, where, err));
        snprintf(at, sizeof at, "%s: \"%s\"", where, texts[i].key);
        if (texts[i].is_template && *texts[i].to) NR_TRY(nr_task_template_check(*texts[i].to, at, err));
    }
    return NR_OK;
}

static nr_status read_format(nr_task *t, const json_t *f, const char *where, nr_error *err)
{
    static const char *const keys[] = {"about", "like", "query", "option", "description", "delimiter", "between", "labels",
                                       "unconditional", "group", "score", "extra_draw", "mean_of", "examples", "shots",
                                       "sample", "seed", "shot_ids", "metrics"};
    static const char *const scored[] = {"text", "label"}, *const drawn[] = {"first", "random"}, *const means[] = {"items", "groups"};
    int by_label, how, groups;
    size_t seed = 1234;
    t->delimiter = " ";
    t->between = "\n\n";
    t->labels = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    NR_TRY(known_keys(f, keys, NR_COUNT(keys), where, err));
    NR_TRY(read_texts(t, f, where, err));
    NR_TRY(choose(&by_label, f, "score", scored, where, err));
    NR_TRY(choose(&how, f, "examples", drawn, where, err));
    NR_TRY(choose(&groups, f, "mean_of", means, where, err));
    NR_TRY(nr_json_bool(f, "extra_draw", false, &t->extra_draw, where, err));
    NR_TRY(nr_json_size(f, "shots", false, &t->shots, where, err));
    NR_TRY(nr_json_size(f, "sample", false, &t->sample, where, err));
    NR_TRY(nr_json_size(f, "seed", false, &seed, where, err));
    if (t->shots > MAX_SHOTS) return nr_fail(err, NR_E_FORMAT, "%s: \"shots\": expected at most %d, found %zu", where, MAX_SHOTS, t->shots);
    t->by_label = by_label;
    t->how = (nr_shots_how)how;
    t->group_mean = groups;
    t->seed = (uint32_t)seed;
    t->shot_ids = json_object_get(f, "shot_ids");
    if (t->shot_ids) NR_TRY(list_of_texts(t->shot_ids, "shot_ids", where, err));
    return read_metrics(t, f, where, err);
}

/* A format with what it takes from the one that it is like. */
static nr_status find_format(nr_task *t, const char *path, nr_error *err)
{
    char where[MAX_WHERE];
    json_t *formats = json_object_get(t->definition, "formats"), *f = json_object_get(formats, t->format);
    snprintf(where, sizeof where, "%.4000s: format \"%.80s\"", path, t->format);
    if (!json_is_object(f)) {
        nr_buffer names = {0};
        const char *key;
        json_t *v;
        json_object_foreach(formats, key, v) nr_buffer_printf(&names, "%s%s", names.size ? ", " : "", key);
        nr_status st = nr_fail(err, NR_E_USAGE, "task %s: expected a format of it (%.200s), found \"%.80s\"", t->name,
                               names.data ? names.data : "", t->format);
        nr_buffer_free(&names);
        return st;
    }
    const char *like = NULL;
    NR_TRY(nr_json_string(f, "like", false, &like, where, err));
    json_t *base = like ? json_object_get(formats, like) : NULL;
    if (like && (!json_is_object(base) || json_object_get(base, "like")))
        return nr_fail(err, NR_E_FORMAT, "%s: \"like\": expected a format that is like no other, found \"%.80s\"", where, like);
    if (base && json_object_update_missing(f, base) != 0) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", where);
    return read_format(t, f, where, err);
}

nr_status nr_task_read(nr_task *t, json_t *definition, const char *name, const char *format, const char *path, nr_error *err)
{
    *t = (nr_task){.name = nr_strdup(name), .format = nr_strdup(format), .path = nr_strdup(path),
                   .definition = json_incref(definition)};
    nr_status st = t->name && t->format && t->path ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st == NR_OK) st = check_definition(definition, path, err);
    if (st == NR_OK) {
        t->stems = json_object_get(json_object_get(definition, "names"), name);
        t->layouts = json_object_get(definition, "layouts");
        t->splits = json_object_get(definition, "splits");
        st = t->stems ? nr_json_string(definition, "about", false, &t->about, path, err)
                      : nr_fail(err, NR_E_USAGE, "%s: expected a definition of task \"%.80s\", found none", path, name);
    }
    if (st == NR_OK) st = find_format(t, path, err);
    if (st != NR_OK) nr_task_free(t);
    return st;
}

void nr_task_free(nr_task *t)
{
    free(t->name);
    free(t->format);
    free(t->path);
    json_decref(t->definition);
    *t = (nr_task){0};
}

/* ---- folders of definitions ---- */

static int is_json(const struct dirent *d) { return d->d_name[0] != '.' && nr_ends_with(d->d_name, ".json"); }

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

/* Calls visit for every definition of the folders until it fails or says stop. */
static nr_status each_definition(const char *const *folders, size_t count,
                                 nr_status (*visit)(void *user, json_t *d, const char *path, bool *stop, nr_error *err), void *user,
                                 nr_error *err)
{
    nr_status st = NR_OK;
    bool stop = false;
    for (size_t f = 0; f < count && st == NR_OK && !stop; f++) {
        struct dirent **list;
        int n = scandir(folders[f], &list, is_json, by_name);
        if (n < 0) return nr_fail_errno(err, "can't list definitions of tasks in", folders[f]);
        for (int i = 0; i < n; i++) {
            json_t *d = NULL;
            char *path = st == NR_OK && !stop ? nr_path_join(folders[f], list[i]->d_name) : NULL;
            if (path) st = nr_json_load(&d, path, err);
            if (path && st == NR_OK) st = check_definition(d, path, err);
            if (path && st == NR_OK) st = visit(user, d, path, &stop, err);
            json_decref(d);
            free(path);
            free(list[i]);
        }
        free(list);
    }
    return st;
}

typedef struct {
    nr_task *task;
    const char *name, *format;
    nr_buffer seen;
} search;

static nr_status look(void *user, json_t *d, const char *path, bool *stop, nr_error *err)
{
    search *s = user;
    const char *key;
    json_t *v, *names = json_object_get(d, "names");
    json_object_foreach(names, key, v) nr_buffer_printf(&s->seen, "%s%s", s->seen.size ? ", " : "", key);
    if (!json_object_get(names, s->name)) return NR_OK;
    *stop = true;
    return nr_task_read(s->task, d, s->name, s->format, path, err);
}

nr_status nr_task_open(nr_task *t, const char *name, const char *format, const char *const *folders, size_t count, nr_error *err)
{
    char base[128];
    size_t n = strcspn(name, ":");
    *t = (nr_task){0};
    snprintf(base, sizeof base, "%.*s", (int)NR_MIN(n, sizeof base - 1), name);
    search s = {.task = t, .name = base, .format = name[n] ? name + n + 1 : format};
    nr_status st = each_definition(folders, count, look, &s, err);
    if (st == NR_OK && !t->definition)
        st = nr_fail(err, NR_E_USAGE, "unknown task \"%.80s\"; there are: %.700s", base, s.seen.data ? s.seen.data : "none");
    nr_buffer_free(&s.seen);
    return st;
}

static nr_status list_one(void *user, json_t *d, const char *path, bool *stop, nr_error *err)
{
    const char *key, *format;
    json_t *v, *f, *names = json_object_get(d, "names"), *formats = json_object_get(d, "formats");
    (void)stop, (void)err;
    json_object_foreach(names, key, v) {
        json_t *o = json_object(), *list = json_array();
        json_object_foreach(formats, format, f) json_array_append_new(list, json_string(format));
        json_object_set_new(o, "task", json_string(key));
        json_object_set(o, "about", json_object_get(d, "about"));
        json_object_set_new(o, "formats", list);
        json_object_set(o, "files", v);
        json_object_set(o, "splits", json_object_get(d, "splits"));
        json_object_set_new(o, "definition", json_string(path));
        json_array_append_new(user, o);
    }
    return NR_OK;
}

nr_status nr_task_catalogue(json_t **out, const char *const *folders, size_t count, nr_error *err)
{
    *out = json_array();
    nr_status st = *out ? each_definition(folders, count, list_one, *out, err) : nr_fail(err, NR_E_MEMORY, "out of memory");
    if (st == NR_OK) return NR_OK;
    json_decref(*out);
    *out = NULL;
    return st;
}
