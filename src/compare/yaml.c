/*
 * yaml.c - YAML into a tree that knows its lines: what a recipe needs of it,
 * which is scalars, lists and mappings.
 *
 * Refuses what a recipe doesn't need and a hostile file could use: anchors and
 * aliases, tags, more than one document, keys that aren't scalars, a key twice,
 * files over MAX_BYTES, nesting over MAX_DEPTH, more than MAX_NODES nodes.
 */
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"

void nr_yaml_free(nr_yaml *y)
{
    for (size_t i = 0; i < y->count; i++) nr_yaml_free(&y->items[i]);
    free(y->items);
    free(y->text);
    free(y->key);
    *y = (nr_yaml){0};
}

const nr_yaml *nr_yaml_find(const nr_yaml *y, const char *key)
{
    for (size_t i = 0; y->kind == 'm' && i < y->count; i++)
        if (strcmp(y->items[i].key, key) == 0) return &y->items[i];
    return NULL;
}

#ifndef NRES_HAS_YAML

nr_status nr_yaml_load(nr_yaml *out, const char *path, nr_error *err)
{
    *out = (nr_yaml){0};
    return nr_fail(err, NR_E_UNSUPPORTED, "%s: this nres was built without libyaml and reads no recipes (Debian: libyaml-dev)", path);
}

#else

#include <yaml.h>

#define MAX_BYTES ((size_t)1 << 20)
#define MAX_DEPTH 12
#define MAX_NODES 100000

typedef struct {
    yaml_parser_t yaml;
    const char *path;
    size_t nodes;
    nr_error *err;
} reader;

static nr_status next(reader *r, yaml_event_t *e)
{
    if (yaml_parser_parse(&r->yaml, e)) return NR_OK;
    if (r->yaml.error == YAML_MEMORY_ERROR) return nr_fail(r->err, NR_E_MEMORY, "%s: out of memory", r->path);
    return nr_fail(r->err, NR_E_FORMAT, "%s:%zu: not YAML: %s", r->path, r->yaml.problem_mark.line + 1,
                   r->yaml.problem ? r->yaml.problem : "unreadable");
}

static nr_status refuse(const reader *r, const yaml_event_t *e, const char *what)
{
    return nr_fail(r->err, NR_E_FORMAT, "%s:%zu: %s", r->path, e->start_mark.line + 1, what);
}

static nr_status check_plain(const reader *r, const yaml_event_t *e)
{
    bool anchor = false, tag = false;
    switch (e->type) {
    case YAML_ALIAS_EVENT: anchor = true; break;
    case YAML_SCALAR_EVENT: anchor = e->data.scalar.anchor, tag = e->data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT: anchor = e->data.sequence_start.anchor, tag = e->data.sequence_start.tag; break;
    case YAML_MAPPING_START_EVENT: anchor = e->data.mapping_start.anchor, tag = e->data.mapping_start.tag; break;
    default: break;
    }
    if (anchor) return refuse(r, e, "a recipe has no anchors (&) and aliases (*)");
    return tag ? refuse(r, e, "a recipe has no tags (!)") : NR_OK;
}

/* A copy of a scalar; a byte 0 in it would end the string early. */
static nr_status copy_text(const reader *r, const yaml_event_t *e, char **out)
{
    const char *text = (const char *)e->data.scalar.value;
    if (memchr(text, 0, e->data.scalar.length)) return refuse(r, e, "a zero byte in a text");
    *out = nr_strdup(text);
    return *out ? NR_OK : nr_fail(r->err, NR_E_MEMORY, "%s: out of memory", r->path);
}

static nr_status read_node(reader *r, yaml_event_t *e, nr_yaml *y, size_t depth);

static nr_yaml *add_item(nr_yaml *y)
{
    if ((y->count & (y->count - 1)) == 0) { /* grows by doubling */
        nr_yaml *more = realloc(y->items, (y->count ? 2 * y->count : 1) * sizeof *more);
        if (!more) return NULL;
        y->items = more;
    }
    y->items[y->count] = (nr_yaml){0};
    return &y->items[y->count++];
}

/* The key of a mapping's next item; its value comes next. */
static nr_status read_key(reader *r, const yaml_event_t *e, nr_yaml *y, char **key)
{
    if (e->type != YAML_SCALAR_EVENT) return refuse(r, e, "expected a word as key");
    NR_TRY(check_plain(r, e));
    NR_TRY(copy_text(r, e, key));
    if (!nr_yaml_find(y, *key)) return NR_OK;
    nr_status st = nr_fail(r->err, NR_E_FORMAT, "%s:%zu: \"%.100s\" stands there twice", r->path, e->start_mark.line + 1, *key);
    free(*key);
    *key = NULL;
    return st;
}

static nr_status read_item(reader *r, yaml_event_t *e, nr_yaml *y, size_t depth)
{
    char *key = NULL;
    yaml_event_t value;
    if (y->kind == 'm') {
        NR_TRY(read_key(r, e, y, &key));
        nr_status st = next(r, &value);
        if (st != NR_OK) {
            free(key);
            return st;
        }
    }
    nr_yaml *item = add_item(y);
    if (item) item->key = key;
    else free(key);
    nr_status st = item ? read_node(r, y->kind == 'm' ? &value : e, item, depth + 1)
                        : nr_fail(r->err, NR_E_MEMORY, "%s: out of memory", r->path);
    if (y->kind == 'm') yaml_event_delete(&value);
    return st;
}

static nr_status read_items(reader *r, nr_yaml *y, yaml_event_type_t end, size_t depth)
{
    for (;;) {
        yaml_event_t e;
        NR_TRY(next(r, &e));
        bool done = e.type == end;
        nr_status st = done ? NR_OK : read_item(r, &e, y, depth);
        yaml_event_delete(&e);
        if (done || st != NR_OK) return st;
    }
}

static nr_status read_node(reader *r, yaml_event_t *e, nr_yaml *y, size_t depth)
{
    y->line = e->start_mark.line + 1;
    NR_TRY(check_plain(r, e));
    if (depth > MAX_DEPTH) return refuse(r, e, "nested too deep");
    if (++r->nodes > MAX_NODES) return refuse(r, e, "too many values");
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        y->kind = 's';
        return copy_text(r, e, &y->text);
    case YAML_SEQUENCE_START_EVENT:
        y->kind = 'l';
        return read_items(r, y, YAML_SEQUENCE_END_EVENT, depth);
    case YAML_MAPPING_START_EVENT:
        y->kind = 'm';
        return read_items(r, y, YAML_MAPPING_END_EVENT, depth);
    default: return refuse(r, e, "expected a value");
    }
}

static nr_status expect(reader *r, yaml_event_type_t type, const char *what)
{
    yaml_event_t e;
    NR_TRY(next(r, &e));
    nr_status st = e.type == type ? NR_OK : refuse(r, &e, what);
    yaml_event_delete(&e);
    return st;
}

static nr_status read_document(reader *r, nr_yaml *out)
{
    yaml_event_t e;
    NR_TRY(expect(r, YAML_STREAM_START_EVENT, "expected YAML"));
    NR_TRY(expect(r, YAML_DOCUMENT_START_EVENT, "expected a recipe, found nothing"));
    NR_TRY(next(r, &e));
    nr_status st = read_node(r, &e, out, 0);
    yaml_event_delete(&e);
    if (st != NR_OK) return st;
    NR_TRY(expect(r, YAML_DOCUMENT_END_EVENT, "expected the end of the recipe"));
    return expect(r, YAML_STREAM_END_EVENT, "expected one document, found a second one");
}

nr_status nr_yaml_load(nr_yaml *out, const char *path, nr_error *err)
{
    nr_map m;
    reader r = {.path = path, .err = err};
    *out = (nr_yaml){0};
    NR_TRY(nr_map_open(&m, path, err));
    nr_status st = NR_OK;
    if (m.size > MAX_BYTES) st = nr_fail(err, NR_E_FORMAT, "%s: expected a recipe of at most %zu bytes, found %zu", path, MAX_BYTES, m.size);
    else if (!yaml_parser_initialize(&r.yaml)) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    if (st == NR_OK) {
        yaml_parser_set_input_string(&r.yaml, m.data, m.size);
        st = read_document(&r, out);
        yaml_parser_delete(&r.yaml);
    }
    if (st != NR_OK) nr_yaml_free(out);
    nr_map_close(&m);
    return st;
}

#endif
