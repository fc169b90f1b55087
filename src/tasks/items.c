/*
 * items.c - rows of files as questions with their choices, each behind its
 * examples. A layout makes fields of a row; a format makes texts of fields.
 *
 * Refuses files that aren't there or fit no layout, fewer examples than asked
 * for, rows whose answer is none of their choices: file, row, expected, found.
 */
#include <stdlib.h>
#include <string.h>

#include "tasks/tasks.h"

enum { QUESTIONS, EXAMPLES, WHERE = 4300 };

typedef struct {
    nr_items *out;
    const nr_task *t;
    const nr_listener *l;
    size_t shots;
    bool same;            /* examples come from the questions' file */
    size_t *group[2];     /* (rows) of each file */
    size_t *pool;         /* examples of the current group */
    size_t pool_count;
    size_t *drawn;        /* (shots + 1) */
    size_t *fixed;        /* (shots) examples that the definition names, or NULL */
    char **shot_texts;    /* (examples) made when first needed */
    nr_twister twister;
} work;

static nr_status no_memory(nr_error *err) { return nr_fail(err, NR_E_MEMORY, "out of memory for a task's questions"); }

static void place(char where[WHERE], const work *w, int file, size_t row)
{
    const nr_task_rows *r = file == QUESTIONS ? &w->out->questions : &w->out->examples;
    snprintf(where, WHERE, "%.4000s: row %zu", r->path, row + 1);
}

/* ---- files ---- */

static nr_status nothing_found(const nr_task *t, const char *what, const json_t *splits, const char *const *folders, size_t count,
                               nr_error *err)
{
    nr_buffer in = {0}, ends = {0};
    for (size_t i = 0; i < count; i++) nr_buffer_printf(&in, "%s%s", i ? ", " : "", folders[i]);
    for (size_t i = 0; i < json_array_size(splits); i++)
        nr_buffer_printf(&ends, "%s%s_%s.jsonl", i ? " or " : "", json_string_value(json_array_get(t->stems, 0)),
                         json_string_value(json_array_get(splits, i)));
    nr_status st = nr_fail(err, NR_E_IO, "task %s: expected a file of %s in %.300s, such as %.300s (or .json, .csv), found none", t->name,
                           what, in.data ? in.data : "", ends.data ? ends.data : "");
    nr_buffer_free(&in);
    nr_buffer_free(&ends);
    return st;
}

static nr_status read_split(work *w, nr_task_rows *r, const char *split, const char *const *folders, size_t count, nr_error *err)
{
    const json_t *splits = json_object_get(w->t->splits, split);
    char *path = nr_task_rows_find(folders, count, w->t->stems, splits);
    if (!path) return nothing_found(w->t, split, splits, folders, count, err);
    json_t *headers = json_array();
    for (size_t i = 0; i < json_array_size(w->t->layouts); i++)
        json_array_append(headers, json_object_get(json_array_get(w->t->layouts, i), "columns"));
    nr_status st = nr_task_rows_read(r, path, headers, err);
    json_decref(headers);
    free(path);
    return st;
}

/* ---- layouts ---- */

static bool fits(const json_t *layout, const json_t *row)
{
    const json_t *columns = json_object_get(layout, "columns");
    size_t n = json_array_size(columns);
    if (json_is_array(row)) return json_array_size(row) == n;
    for (size_t i = 0; i < n; i++)
        if (!json_object_get(row, json_string_value(json_array_get(columns, i)))) return false;
    return true;
}

static const json_t *find_layout(const nr_task *t, const json_t *row)
{
    for (size_t i = 0; i < json_array_size(t->layouts); i++)
        if (fits(json_array_get(t->layouts, i), row)) return json_array_get(t->layouts, i);
    return NULL;
}

static nr_status no_layout(const nr_task *t, const json_t *row, const char *where, nr_error *err)
{
    nr_buffer want = {0}, has = {0};
    for (size_t i = 0; i < json_array_size(t->layouts); i++) {
        const json_t *columns = json_object_get(json_array_get(t->layouts, i), "columns");
        nr_buffer_text(&want, i ? " or " : "");
        for (size_t k = 0; k < json_array_size(columns); k++)
            nr_buffer_printf(&want, "%s%s", k ? "," : "", json_string_value(json_array_get(columns, k)));
    }
    const char *key;
    json_t *v, *o = (json_t *)(uintptr_t)row; /* jansson's iterators take no const */
    if (json_is_array(row)) nr_buffer_printf(&has, "%zu cells", json_array_size(row));
    else json_object_foreach(o, key, v) nr_buffer_printf(&has, "%s%s", has.size ? "," : "", key);
    nr_status st = nr_fail(err, NR_E_FORMAT, "%.500s: expected the columns %.300s, found %.200s", where, want.data ? want.data : "",
                           has.data ? has.data : "none");
    nr_buffer_free(&want);
    nr_buffer_free(&has);
    return st;
}

/* A list of templates: a list of texts, without the empty ones. */
static nr_status render_each(json_t **out, const json_t *list, const json_t *row, const char *where, nr_error *err)
{
    *out = json_array();
    if (!*out) return no_memory(err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *text;
        NR_TRY(nr_task_template_render(&text, json_string_value(json_array_get(list, i)), row, where, err));
        if (!json_is_string(text) || json_string_length(text) == 0) json_decref(text);
        else if (json_array_append_new(*out, text) != 0) return no_memory(err);
    }
    return NR_OK;
}

static nr_status render_fields(json_t *to, const json_t *layout, const json_t *row, const char *where, nr_error *err)
{
    const char *key;
    json_t *v, *fields = json_object_get(layout, "fields");
    json_object_foreach(fields, key, v) {
        json_t *made = NULL;
        nr_status st = json_is_array(v) ? render_each(&made, v, row, where, err)
                                        : nr_task_template_render(&made, json_string_value(v), row, where, err);
        if (st == NR_OK && json_object_set(to, key, made) != 0) st = no_memory(err);
        json_decref(made);
        NR_TRY(st);
    }
    return NR_OK;
}

/* A row without names gets those of its layout. */
static nr_status name_cells(json_t *rows, size_t i, const json_t *layout, nr_error *err)
{
    json_t *cells = json_array_get(rows, i), *row = json_object();
    const json_t *columns = json_object_get(layout, "columns");
    for (size_t k = 0; row && k < json_array_size(cells); k++)
        json_object_set(row, json_string_value(json_array_get(columns, k)), json_array_get(cells, k));
    return row && json_array_set_new(rows, i, row) == 0 ? NR_OK : no_memory(err);
}

static nr_status make_fields(work *w, int file, nr_task_rows *r, nr_error *err)
{
    char where[WHERE];
    json_t *all = w->out->fields[file] = json_array();
    const json_t *layout = find_layout(w->t, json_array_get(r->rows, 0));
    for (size_t i = 0; i < json_array_size(r->rows); i++) {
        place(where, w, file, i);
        if (!layout || !fits(layout, json_array_get(r->rows, i))) return no_layout(w->t, json_array_get(r->rows, i), where, err);
        if (json_is_array(json_array_get(r->rows, i))) NR_TRY(name_cells(r->rows, i, layout, err));
        json_t *fields = json_object();
        if (!fields || json_array_append_new(all, fields) != 0) return no_memory(err);
        NR_TRY(render_fields(fields, layout, json_array_get(r->rows, i), where, err));
    }
    return NR_OK;
}

/* ---- groups ---- */

static nr_status group_of(work *w, const json_t *fields, bool add, size_t *group, const char *where, nr_error *err)
{
    const char *name = "";
    json_t *groups = w->out->groups;
    if (w->t->group) NR_TRY(nr_json_string(fields, w->t->group, true, &name, where, err));
    size_t n = json_array_size(groups);
    for (*group = 0; *group < n; (*group)++)
        if (strcmp(json_string_value(json_array_get(groups, *group)), name) == 0) return NR_OK;
    return !add || json_array_append_new(groups, json_string(name)) == 0 ? NR_OK : no_memory(err);
}

static nr_status make_groups(work *w, int file, nr_error *err)
{
    char where[WHERE];
    size_t n = json_array_size(w->out->fields[file]);
    NR_TRY(nr_alloc(&w->group[file], n, sizeof(size_t), "groups", err));
    for (size_t i = 0; i < n; i++) {
        place(where, w, file, i);
        NR_TRY(group_of(w, json_array_get(w->out->fields[file], i), file == QUESTIONS, &w->group[file][i], where, err));
    }
    return NR_OK;
}

/* ---- texts of one row ---- */

static nr_status answer_of(const work *w, const json_t *fields, size_t choices, size_t *answer, const char *where, nr_error *err)
{
    const char *text;
    NR_TRY(nr_json_string(fields, "answer", true, &text, where, err));
    const json_t *names = json_object_get(fields, "answers");
    if (names) {
        size_t n = json_array_size(names);
        for (*answer = 0; *answer < n; (*answer)++)
            if (strcmp(json_string_value(json_array_get(names, *answer)), text) == 0) break;
        if (*answer == n) *answer = choices;
    } else {
        bool digits = *text && strlen(text) < 4 && strspn(text, "0123456789") == strlen(text);
        *answer = digits ? (size_t)atoi(text) : choices;
    }
    (void)w;
    if (*answer < choices) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: expected an answer that is one of its %zu choices, found \"%.80s\"", where, choices, text);
}

/* {{options}}: a line for each choice. */
static nr_status options_of(const work *w, json_t *values, const json_t *choices, const char *where, nr_error *err)
{
    nr_buffer all = {0};
    nr_status st = NR_OK;
    for (size_t i = 0; i < json_array_size(choices) && st == NR_OK; i++) {
        json_t *line = NULL;
        json_object_set_new(values, "label", json_stringn(w->t->labels + i, 1));
        json_object_set(values, "choice", json_array_get(choices, i));
        st = nr_task_template_render(&line, w->t->option, values, where, err);
        if (st == NR_OK && json_is_string(line)) nr_buffer_add(&all, json_string_value(line), json_string_length(line));
        json_decref(line);
    }
    if (st == NR_OK && (all.failed || json_object_set_new(values, "options", json_stringn(all.data ? all.data : "", all.size)) != 0))
        st = no_memory(err);
    nr_buffer_free(&all);
    return st;
}

/* The question of a row, and its choices (borrowed from fields). */
static nr_status question_of(const work *w, const json_t *fields, json_t **query, const json_t **choices, const char *where,
                             nr_error *err)
{
    *query = NULL;
    *choices = json_object_get(fields, "choices");
    size_t n = json_array_size(*choices);
    if (!json_is_array(*choices) || n < 2) return nr_fail(err, NR_E_FORMAT, "%s: expected two choices at least, found %zu", where, n);
    if (n > strlen(w->t->labels)) return nr_fail(err, NR_E_FORMAT, "%s: expected at most %zu choices, found %zu", where, strlen(w->t->labels), n);
    for (size_t i = 0; i < n; i++)
        if (json_string_length(json_array_get(*choices, i)) == 0)
            return nr_fail(err, NR_E_FORMAT, "%s: choice %zu: expected text, found none", where, i + 1);
    json_t *values = json_copy((json_t *)(uintptr_t)fields);
    nr_status st = values ? NR_OK : no_memory(err);
    if (st == NR_OK && w->t->option) st = options_of(w, values, *choices, where, err);
    if (st == NR_OK) st = nr_task_template_render(query, w->t->query, values, where, err);
    json_decref(values);
    if (st == NR_OK && !json_is_string(*query)) st = nr_fail(err, NR_E_FORMAT, "%s: \"query\": expected text, found a list", where);
    return st;
}

/* What is scored of choice i. */
static void choice_text(const work *w, const json_t *choices, size_t i, nr_buffer *to)
{
    const json_t *c = json_array_get(choices, i);
    if (w->t->by_label) nr_buffer_add(to, w->t->labels + i, 1);
    else nr_buffer_add(to, json_string_value(c), json_string_length(c));
}

/* The text of an example, once: question, answer, and what stands between it and the next. */
static nr_status make_shot(work *w, size_t example, nr_error *err)
{
    if (w->shot_texts[example]) return NR_OK;
    json_t *query;
    const json_t *choices, *fields = json_array_get(w->out->fields[w->same ? QUESTIONS : EXAMPLES], example);
    nr_buffer b = {0};
    char where[WHERE];
    size_t answer;
    place(where, w, w->same ? QUESTIONS : EXAMPLES, example);
    nr_status st = question_of(w, fields, &query, &choices, where, err);
    if (st == NR_OK) st = answer_of(w, fields, json_array_size(choices), &answer, where, err);
    if (st == NR_OK) {
        nr_buffer_add(&b, json_string_value(query), json_string_length(query));
        nr_buffer_text(&b, w->t->delimiter);
        choice_text(w, choices, answer, &b);
        nr_buffer_text(&b, w->t->between);
        if (b.failed) st = no_memory(err);
    }
    json_decref(query);
    if (st == NR_OK) w->shot_texts[example] = b.data;
    else nr_buffer_free(&b);
    return st;
}

/* ---- which examples ---- */

static const json_t *example_rows(const work *w) { return w->same ? w->out->questions.rows : w->out->examples.rows; }

static bool is_row(const work *w, size_t example, size_t row)
{
    if (w->same && example == row) return true;
    return json_equal(json_array_get(example_rows(w), example), json_array_get(w->out->questions.rows, row));
}

/* Takes the first `shots` of `from` that aren't the row itself. */
static size_t without_row(const work *w, const size_t *from, size_t count, size_t row, size_t *to)
{
    size_t n = 0;
    for (size_t i = 0; i < count && n < w->shots; i++)
        if (!is_row(w, from[i], row)) to[n++] = from[i];
    return n;
}

static nr_status draw_random(work *w, size_t row, nr_error *err)
{
    bool more = w->same || w->t->extra_draw;
    size_t k = w->shots + more, n = 0;
    if (k > w->pool_count) k = w->pool_count;
    NR_TRY(nr_twister_sample(&w->twister, w->pool_count, k, w->drawn, err));
    for (size_t i = 0; i < k; i++) w->drawn[i] = w->pool[w->drawn[i]];
    if (!more) return NR_OK;
    n = without_row(w, w->drawn, k, row, w->drawn);
    if (n == w->shots) return NR_OK;
    /* rows equal to it were drawn: again, without any of them */
    size_t *rest, left = 0;
    NR_TRY(nr_alloc(&rest, w->pool_count, sizeof *rest, "a draw", err));
    for (size_t i = 0; i < w->pool_count; i++)
        if (!is_row(w, w->pool[i], row)) rest[left++] = w->pool[i];
    nr_status st = nr_twister_sample(&w->twister, left, w->shots, w->drawn, err);
    for (size_t i = 0; st == NR_OK && i < w->shots; i++) w->drawn[i] = rest[w->drawn[i]];
    free(rest);
    return st;
}

/* Fills drawn with the examples of a question. */
static nr_status draw(work *w, size_t row, nr_error *err)
{
    if (w->fixed) {
        memcpy(w->drawn, w->fixed, w->shots * sizeof *w->drawn);
        return NR_OK;
    }
    if (w->pool_count < w->shots + w->same)
        return nr_fail(err, NR_E_FORMAT, "%s: expected %zu rows at least for the examples%s%s, found %zu",
                       w->same ? w->out->questions.path : w->out->examples.path, w->shots + w->same, w->t->group ? " of " : "",
                       w->t->group ? json_string_value(json_array_get(w->out->groups, w->group[QUESTIONS][row])) : "", w->pool_count);
    if (w->t->how == NR_SHOTS_RANDOM) return draw_random(w, row, err);
    size_t n = w->same ? without_row(w, w->pool, w->pool_count, row, w->drawn) : w->shots;
    if (!w->same) memcpy(w->drawn, w->pool, w->shots * sizeof *w->drawn);
    return n == w->shots ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: expected %zu different rows for the examples, found %zu",
                                           w->out->questions.path, w->shots, n);
}

/* The examples that the definition names by their id, where the file has them all. */
static nr_status find_fixed(work *w, nr_error *err)
{
    const json_t *ids = w->t->shot_ids, *fields = w->out->fields[w->same ? QUESTIONS : EXAMPLES];
    size_t found = 0, n = json_array_size(fields);
    w->out->shots_from = w->t->how == NR_SHOTS_RANDOM ? "random" : "first";
    if (!ids || json_array_size(ids) < w->shots) return NR_OK;
    NR_TRY(nr_alloc(&w->fixed, w->shots, sizeof *w->fixed, "examples", err));
    for (size_t k = 0; k < w->shots; k++)
        for (size_t i = 0; i < n; i++) {
            const char *id = json_string_value(json_object_get(json_array_get(fields, i), "id"));
            if (!id || strcmp(id, json_string_value(json_array_get(ids, k))) != 0) continue;
            w->fixed[k] = i;
            found++;
            break;
        }
    if (found == w->shots) return w->out->shots_from = "ids", NR_OK;
    free(w->fixed);
    w->fixed = NULL;
    nr_say(w->l, "%s: %s holds %zu of the %zu examples that format %s names; its first %zu stand in for them", w->t->name,
           w->same ? w->out->questions.path : w->out->examples.path, found, w->shots, w->t->format, w->shots);
    return NR_OK;
}

static nr_status begin_group(work *w, size_t group)
{
    size_t n = w->shots ? json_array_size(w->out->fields[w->same ? QUESTIONS : EXAMPLES]) : 0;
    w->pool_count = 0;
    for (size_t i = 0; i < n; i++)
        if (w->group[w->same ? QUESTIONS : EXAMPLES][i] == group) w->pool[w->pool_count++] = i;
    nr_twister_seed(&w->twister, w->t->seed);
    return NR_OK;
}

/* ---- items ---- */

static nr_status context_of(work *w, size_t row, const json_t *fields, const json_t *query, char **out, const char *where, nr_error *err)
{
    nr_buffer b = {0};
    json_t *description = NULL;
    nr_status st = NR_OK;
    if (w->t->description) NR_GO(nr_task_template_render(&description, w->t->description, fields, where, err));
    if (json_is_string(description)) nr_buffer_add(&b, json_string_value(description), json_string_length(description));
    if (w->shots) NR_GO(draw(w, row, err));
    for (size_t i = 0; i < w->shots; i++) {
        NR_GO(make_shot(w, w->drawn[i], err));
        nr_buffer_text(&b, w->shot_texts[w->drawn[i]]);
    }
    nr_buffer_add(&b, json_string_value(query), json_string_length(query));
    st = b.failed ? no_memory(err) : NR_OK;
done:
    json_decref(description);
    if (st == NR_OK) *out = b.data;
    else nr_buffer_free(&b);
    return st;
}

static nr_status fill_choices(const work *w, nr_item *item, const json_t *choices, nr_error *err)
{
    item->choices = json_array_size(choices);
    NR_TRY(nr_alloc(&item->texts, item->choices, sizeof *item->texts, "choices", err));
    NR_TRY(nr_alloc(&item->continuations, item->choices, sizeof *item->continuations, "choices", err));
    for (size_t i = 0; i < item->choices; i++) {
        nr_buffer text = {0}, whole = {0};
        choice_text(w, choices, i, &text);
        nr_buffer_text(&whole, w->t->delimiter);
        nr_buffer_add(&whole, text.data, text.size);
        item->texts[i] = text.data;
        item->continuations[i] = whole.data;
        if (text.failed || whole.failed) return no_memory(err);
    }
    return NR_OK;
}

static nr_status make_item(work *w, size_t row, nr_error *err)
{
    char where[WHERE];
    json_t *query;
    const json_t *choices, *fields = json_array_get(w->out->fields[QUESTIONS], row);
    nr_item *item = &w->out->items[w->out->count++];
    place(where, w, QUESTIONS, row);
    *item = (nr_item){.doc = json_array_get(w->out->questions.rows, row), .number = row, .group = w->group[QUESTIONS][row]};
    nr_status st = question_of(w, fields, &query, &choices, where, err);
    if (st == NR_OK) st = answer_of(w, fields, json_array_size(choices), &item->answer, where, err);
    if (st == NR_OK) st = context_of(w, row, fields, query, &item->context, where, err);
    if (st == NR_OK) st = fill_choices(w, item, choices, err);
    w->out->most_choices = NR_MAX(w->out->most_choices, item->choices);
    json_decref(query);
    return st;
}

/* Rows in the order of the definition: as they stand, or a sample. */
static nr_status row_order(const work *w, size_t **order, size_t *count, nr_error *err)
{
    nr_twister r;
    size_t n = json_array_size(w->out->questions.rows);
    bool drawn = w->t->sample && w->t->sample < n;
    *count = drawn ? w->t->sample : n;
    NR_TRY(nr_alloc(order, *count, sizeof **order, "the order of rows", err));
    for (size_t i = 0; i < *count && !drawn; i++) (*order)[i] = i;
    nr_twister_seed(&r, w->t->seed);
    return drawn ? nr_twister_sample(&r, n, *count, *order, err) : NR_OK;
}

static nr_status make_items(work *w, size_t limit, nr_error *err)
{
    size_t *order = NULL, count, groups = json_array_size(w->out->groups);
    nr_status st = row_order(w, &order, &count, err);
    w->out->rows = st == NR_OK ? count : 0;
    if (st == NR_OK) st = nr_alloc(&w->out->items, count, sizeof *w->out->items, "questions", err);
    for (size_t g = 0; g < groups && st == NR_OK; g++) {
        size_t taken = 0;
        st = begin_group(w, g);
        for (size_t i = 0; i < count && st == NR_OK && (limit == 0 || taken < limit); i++) {
            if (w->group[QUESTIONS][order[i]] != g) continue;
            st = make_item(w, order[i], err);
            taken++;
        }
    }
    free(order);
    return st;
}

static nr_status read_examples(work *w, const char *const *folders, size_t count, nr_error *err)
{
    nr_items *o = w->out;
    NR_TRY(read_split(w, &o->examples, "examples", folders, count, err));
    w->same = strcmp(o->examples.path, o->questions.path) == 0;
    if (!w->same) NR_TRY(make_fields(w, EXAMPLES, &o->examples, err));
    if (!w->same) NR_TRY(make_groups(w, EXAMPLES, err));
    size_t n = json_array_size(o->fields[w->same ? QUESTIONS : EXAMPLES]);
    NR_TRY(nr_alloc(&w->pool, n, sizeof *w->pool, "examples", err));
    NR_TRY(nr_alloc(&w->drawn, NR_MAX(n, w->shots) + 1, sizeof *w->drawn, "examples", err));
    NR_TRY(nr_alloc(&w->shot_texts, n, sizeof *w->shot_texts, "examples", err));
    return find_fixed(w, err);
}

nr_status nr_items_make(nr_items *out, const nr_task *t, const char *const *folders, size_t folder_count, size_t shots,
                        size_t limit, const nr_listener *l, nr_error *err)
{
    work w = {.out = out, .t = t, .l = l, .shots = shots};
    nr_status st;
    *out = (nr_items){.groups = json_array(), .shots_from = "none"};
    NR_GO(read_split(&w, &out->questions, "questions", folders, folder_count, err));
    NR_GO(make_fields(&w, QUESTIONS, &out->questions, err));
    NR_GO(make_groups(&w, QUESTIONS, err));
    if (shots) NR_GO(read_examples(&w, folders, folder_count, err));
    NR_GO(make_items(&w, limit, err));
done:
    for (size_t i = 0; w.shot_texts && i < json_array_size(out->fields[w.same ? QUESTIONS : EXAMPLES]); i++) free(w.shot_texts[i]);
    free(w.shot_texts);
    free(w.group[QUESTIONS]);
    free(w.group[EXAMPLES]);
    free(w.pool);
    free(w.drawn);
    free(w.fixed);
    if (st != NR_OK) nr_items_free(out);
    return st;
}

void nr_items_free(nr_items *s)
{
    for (size_t i = 0; i < s->count; i++) {
        nr_item *item = &s->items[i];
        for (size_t k = 0; item->texts && k < item->choices; k++) free(item->texts[k]);
        for (size_t k = 0; item->continuations && k < item->choices; k++) free(item->continuations[k]);
        free(item->texts);
        free(item->continuations);
        free(item->context);
    }
    free(s->items);
    json_decref(s->groups);
    json_decref(s->fields[QUESTIONS]);
    json_decref(s->fields[EXAMPLES]);
    nr_task_rows_free(&s->questions);
    nr_task_rows_free(&s->examples);
    *s = (nr_items){0};
}
