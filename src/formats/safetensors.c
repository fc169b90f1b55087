/*
 * safetensors.c - reads and writes .safetensors files.
 *
 * A file is u64 header size, a JSON object {name: {dtype, shape,
 * data_offsets}} and the data. Refused: a header above 100 MB or past the
 * file's end, a field that is missing or unknown, an element type that
 * tensor.h doesn't have, a size that isn't shape x element, holes, overlaps,
 * bytes behind the last tensor, a name twice.
 *
 * What is written is what the safetensors package itself writes for the same
 * tensors: wider elements first, then by name; header padded to 8 bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/formats.h"

#define MAX_HEADER 100000000
#define METADATA "__metadata__"

typedef struct {
    const char *path;
    const unsigned char *data; /* behind the header */
    size_t size;
    nr_error *err;
} body;

static nr_status fail_tensor(const body *b, const char *name, const char *field, const char *expected)
{
    return nr_fail(b->err, NR_E_FORMAT, "%s: tensor %s: %s: expected %s, found something else", b->path, name, field, expected);
}

static bool plain_name(const char *name)
{
    if (!*name) return false;
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7F) return false;
    return true;
}

static nr_status read_type(const body *b, nr_tensor *t, const json_t *entry)
{
    const json_t *dtype = json_object_get(entry, "dtype");
    if (!json_is_string(dtype)) return fail_tensor(b, t->name, "dtype", "a string");
    for (int k = 0; k < NR_DTYPE_COUNT; k++)
        if (nr_dtypes[k].safetensors && strcmp(nr_dtypes[k].safetensors, json_string_value(dtype)) == 0) {
            t->type = (nr_dtype)k;
            return NR_OK;
        }
    return nr_fail(b->err, NR_E_UNSUPPORTED, "%s: tensor %s: dtype: expected F32, F16, BF16 or F64, found %.32s", b->path,
                   t->name, json_string_value(dtype));
}

/* Shape, and through *bytes what it takes. */
static nr_status read_shape(const body *b, nr_tensor *t, const json_t *entry, size_t *bytes)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > 4) return fail_tensor(b, t->name, "shape", "a list of at most 4 sizes");
    t->ndim = (unsigned)json_array_size(shape);
    *bytes = nr_dtypes[t->type].bytes;
    for (unsigned i = 0; i < t->ndim; i++) {
        const json_t *n = json_array_get(shape, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0) return fail_tensor(b, t->name, "shape", "whole numbers, 0 or more");
        t->shape[i] = (size_t)json_integer_value(n);
        if (nr_mul_overflows(*bytes, t->shape[i], bytes)) return fail_tensor(b, t->name, "shape", "a product below 2^64");
    }
    return NR_OK;
}

static nr_status read_offsets(const body *b, nr_tensor *t, const json_t *entry, size_t bytes)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return fail_tensor(b, t->name, "data_offsets", "two whole numbers");
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > b->size)
        return nr_fail(b->err, NR_E_FORMAT, "%s: tensor %s: data_offsets: expected rising offsets up to %zu, found %lld and %lld",
                       b->path, t->name, b->size, (long long)begin, (long long)end);
    if ((size_t)(end - begin) != bytes)
        return nr_fail(b->err, NR_E_FORMAT, "%s: tensor %s: data_offsets: expected the shape's %zu bytes, found %lld", b->path,
                       t->name, bytes, (long long)(end - begin));
    t->data = b->data + begin;
    t->size = bytes;
    return NR_OK;
}

static nr_status read_tensor(const body *b, nr_tensor *t, const char *name, const json_t *entry)
{
    size_t bytes;
    if (!plain_name(name)) return nr_fail(b->err, NR_E_FORMAT, "%s: expected printable tensor names, found %.64s", b->path, name);
    t->name = nr_strdup(name);
    if (!t->name) return nr_fail(b->err, NR_E_MEMORY, "%s: out of memory", b->path);
    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return fail_tensor(b, name, "entry", "dtype, shape and data_offsets");
    NR_TRY(read_type(b, t, entry));
    NR_TRY(read_shape(b, t, entry, &bytes));
    return read_offsets(b, t, entry, bytes);
}

static int compare_places(const void *a, const void *b)
{
    const nr_tensor *x = *(nr_tensor *const *)a, *y = *(nr_tensor *const *)b;
    if (x->data != y->data) return x->data > y->data ? 1 : -1;
    return (x->size > y->size) - (x->size < y->size);
}

/* Every byte of the data belongs to exactly one tensor. */
static nr_status check_cover(const body *b, nr_safetensors *s)
{
    const nr_tensor **order;
    nr_status st = NR_OK;
    size_t at = 0;
    NR_TRY(nr_alloc(&order, s->count, sizeof *order, "tensor order", b->err));
    for (size_t i = 0; i < s->count; i++) order[i] = &s->tensors[i];
    if (s->count > 1) qsort(order, s->count, sizeof *order, compare_places);
    for (size_t i = 0; i < s->count && st == NR_OK; i++) {
        size_t begin = (size_t)(order[i]->data - b->data);
        if (begin != at)
            st = nr_fail(b->err, NR_E_FORMAT, "%s: tensor %s: data_offsets: expected %zu (no %s), found %zu", b->path,
                         order[i]->name, at, begin > at ? "holes" : "overlaps", begin);
        at = begin + order[i]->size;
    }
    if (st == NR_OK && at != b->size)
        st = nr_fail(b->err, NR_E_FORMAT, "%s: data: expected %zu bytes behind the header, found %zu", b->path, at, b->size);
    free(order);
    return st;
}

static nr_status read_metadata(const body *b, nr_safetensors *s, json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return nr_fail(b->err, NR_E_FORMAT, "%s: " METADATA ": expected an object of strings, found something else", b->path);
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return nr_fail(b->err, NR_E_FORMAT, "%s: " METADATA ": %.64s: expected a string, found something else", b->path, key);
    }
    s->metadata = json_incref(metadata);
    return NR_OK;
}

static nr_status read_header(const body *b, nr_safetensors *s, json_t *header)
{
    const char *name;
    json_t *entry;
    if (!json_is_object(header))
        return nr_fail(b->err, NR_E_FORMAT, "%s: header: expected a JSON object, found something else", b->path);
    NR_TRY(nr_alloc(&s->tensors, json_object_size(header), sizeof *s->tensors, "tensor list", b->err));
    json_object_foreach(header, name, entry) {
        if (strcmp(name, METADATA) == 0) {
            NR_TRY(read_metadata(b, s, entry));
            continue;
        }
        nr_status st = read_tensor(b, &s->tensors[s->count], name, entry);
        if (st != NR_OK) {
            free(s->tensors[s->count].name);
            return st;
        }
        s->count++;
    }
    return check_cover(b, s);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const nr_tensor *)a)->name, ((const nr_tensor *)b)->name);
}

static nr_status read_file(nr_safetensors *s, const char *path, nr_error *err)
{
    uint64_t n;
    json_t *header;
    NR_TRY(nr_map_open_file(&s->map, path, err));
    if (s->map.size < sizeof n)
        return nr_fail(err, NR_E_FORMAT, "%s: header size: expected 8 bytes, found %zu", path, s->map.size);
    memcpy(&n, s->map.data, sizeof n);
    size_t left = s->map.size - sizeof n;
    if (n > MAX_HEADER || n > left)
        return nr_fail(err, NR_E_FORMAT, "%s: header size: expected at most %zu bytes, found %llu", path,
                       NR_MIN(left, (size_t)MAX_HEADER), (unsigned long long)n);
    const char *text = (const char *)s->map.data + sizeof n;
    body b = {path, s->map.data + sizeof n + n, left - (size_t)n, err};
    NR_TRY(nr_json_parse(&header, text, (size_t)n, path, err));
    nr_status st = read_header(&b, s, header);
    json_decref(header);
    if (st == NR_OK && s->count > 1) qsort(s->tensors, s->count, sizeof *s->tensors, compare_names);
    return st;
}

nr_status nr_safetensors_open(nr_safetensors **out, const char *path, nr_error *err)
{
    nr_safetensors *s;
    *out = NULL;
    NR_TRY(nr_alloc(&s, 1, sizeof *s, "safetensors file", err));
    nr_status st = read_file(s, path, err);
    if (st != NR_OK)
        nr_safetensors_close(s);
    else
        *out = s;
    return st;
}

void nr_safetensors_close(nr_safetensors *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->count; i++) free(s->tensors[i].name);
    free(s->tensors);
    json_decref(s->metadata);
    nr_map_close(&s->map);
    free(s);
}

const nr_tensor *nr_safetensors_find(const nr_safetensors *s, const char *name)
{
    nr_tensor want = {.name = (char *)(uintptr_t)name};
    if (s->count == 0) return NULL;
    return bsearch(&want, s->tensors, s->count, sizeof *s->tensors, compare_names);
}

/* ---- writing ---- */

static int compare_written(const void *a, const void *b)
{
    const nr_tensor *x = *(nr_tensor *const *)a, *y = *(nr_tensor *const *)b;
    size_t wide_x = nr_dtypes[x->type].bytes, wide_y = nr_dtypes[y->type].bytes;
    if (wide_x != wide_y) return wide_x < wide_y ? 1 : -1;
    /* Equal widths: in the order of the package's own list of types, where BF16 follows F16. */
    if (x->type != y->type) return x->type < y->type ? 1 : -1;
    return strcmp(x->name, y->name);
}

static nr_status check_written(const nr_tensor *const *order, size_t count, const char *path, nr_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const nr_tensor *t = order[i];
        if (!plain_name(t->name) || strcmp(t->name, METADATA) == 0)
            return nr_fail(err, NR_E_FORMAT, "%s: expected printable tensor names, found \"%.64s\"", path, t->name);
        if (!nr_dtypes[t->type].safetensors)
            return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected an unquantised type, found %s", path, t->name,
                           nr_dtypes[t->type].name);
        size_t bytes = nr_dtypes[t->type].bytes;
        bool over = t->ndim > 4;
        for (unsigned k = 0; !over && k < t->ndim; k++) over = nr_mul_overflows(bytes, t->shape[k], &bytes);
        if (over || bytes != t->size)
            return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected the shape's %zu bytes, found %zu", path, t->name, bytes,
                           t->size);
    }
    return NR_OK;
}

/* A name twice would stand in the header once. */
static json_t *make_header(const nr_tensor *const *order, size_t count, const json_t *metadata, bool *twice)
{
    size_t at = 0;
    json_t *header = json_object(), *strings = metadata ? json_copy((json_t *)(uintptr_t)metadata) : json_object();
    bool bad = json_object_set_new(strings, "format", json_string("pt")) != 0;
    bad = json_object_set_new(header, METADATA, strings) != 0 || bad;
    for (size_t i = 0; i < count && !bad && !*twice; i++) {
        const nr_tensor *t = order[i];
        json_t *shape = json_array();
        for (unsigned k = 0; k < t->ndim; k++) bad = json_array_append_new(shape, json_integer((json_int_t)t->shape[k])) != 0 || bad;
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", nr_dtypes[t->type].safetensors, "shape", shape,
                                  "data_offsets", (json_int_t)at, (json_int_t)(at + t->size));
        at += t->size;
        *twice = json_object_get(header, t->name) != NULL;
        bad = json_object_set_new(header, t->name, entry) != 0 || bad;
    }
    if (!bad) return header;
    json_decref(header);
    return NULL;
}

/* json_dumps forgets a failure in the middle of a key; the buffer doesn't. */
static int dump_piece(const char *piece, size_t n, void *buffer)
{
    nr_buffer_add(buffer, piece, n);
    return ((nr_buffer *)buffer)->failed ? -1 : 0;
}

typedef struct {
    nr_tensor_writer *write; /* NULL: the tensors' own data */
    void *context;
} source;

static nr_status write_file(const char *path, const nr_buffer *text, const nr_tensor *const *order, size_t count, const source *from,
                            nr_error *err)
{
    nr_status st = NR_OK;
    nr_writer w;
    size_t padded = (text->size + 7) / 8 * 8;
    uint64_t size = padded;
    NR_TRY(nr_writer_open(&w, path, err));
    nr_writer_write(&w, &size, sizeof size);
    nr_writer_write(&w, text->data, text->size);
    nr_writer_write(&w, "       ", padded - text->size);
    for (size_t i = 0; i < count && st == NR_OK; i++) {
        if (from->write) st = from->write(from->context, &w, order[i], err);
        else nr_writer_write(&w, order[i]->data, order[i]->size);
    }
    if (st == NR_OK) return nr_writer_commit(&w, err);
    nr_writer_abort(&w);
    return st;
}

static nr_status write_tensors(const char *path, const nr_tensor *tensors, size_t count, const json_t *metadata, const source *from,
                               nr_error *err)
{
    const nr_tensor **order;
    json_t *header = NULL;
    nr_buffer text = {0};
    bool twice = false, dumped = false;
    NR_TRY(nr_alloc(&order, count, sizeof *order, "tensor order", err));
    for (size_t i = 0; i < count; i++) order[i] = &tensors[i];
    if (count > 1) qsort(order, count, sizeof *order, compare_written);
    nr_status st = check_written(order, count, path, err);
    if (st == NR_OK) header = make_header(order, count, metadata, &twice);
    if (header) dumped = json_dump_callback(header, dump_piece, &text, JSON_COMPACT) == 0 && !text.failed;
    if (twice)
        st = nr_fail(err, NR_E_FORMAT, "%s: expected each tensor name once, found one twice", path);
    else if (st == NR_OK)
        st = dumped ? write_file(path, &text, order, count, from, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory for the header", path);
    nr_buffer_free(&text);
    json_decref(header);
    free(order);
    return st;
}

nr_status nr_safetensors_write(const char *path, const nr_tensor *tensors, size_t count, const json_t *metadata, nr_error *err)
{
    const source own = {0};
    return write_tensors(path, tensors, count, metadata, &own, err);
}

nr_status nr_safetensors_stream(const char *path, const nr_tensor *tensors, size_t count, nr_tensor_writer *write, void *context,
                                nr_error *err)
{
    const source from = {write, context};
    return write_tensors(path, tensors, count, NULL, &from, err);
}
