/*
 * gguf.c - the GGUF container, versions 2 and 3, little-endian, read as
 * hostile bytes: metadata, tensor list, and where each tensor's data lies.
 *
 * Refused: a big-endian file, version 1, a length or count that runs past the
 * file, a product that overflows, a key or tensor named twice, nested arrays,
 * an element type that tensor.h doesn't have (by name), data that is out of
 * the file, off the alignment or shared by two tensors.
 *
 * Nothing is copied but names: values and data point into the caller's map,
 * which must stay open.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/formats_internal.h"

#define MAX_KEYS 100000
#define MAX_TENSORS 1000000
#define MAX_KEY 65535
#define MAX_NAME 255

struct nr_gguf {
    char *path;
    const unsigned char *data;
    size_t size;
    nr_gguf_value *values; /* sorted by key */
    size_t value_count;
    nr_tensor *tensors; /* in the file's order */
    size_t tensor_count;
};

/* What is left to read. */
typedef struct {
    const nr_gguf *g;
    size_t at;
    nr_error *err;
} cursor;

static nr_status take(cursor *c, const unsigned char **p, size_t n, const char *what)
{
    size_t left = c->g->size - c->at;
    if (n > left) {
        nr_fail(c->err, NR_E_FORMAT, "%s: %s: expected %zu bytes at offset %zu, found the file's end after %zu", c->g->path,
                what, n, c->at, left);
        return NR_E_FORMAT;
    }
    *p = c->g->data + c->at;
    c->at += n;
    return NR_OK;
}

static nr_status take_u32(cursor *c, uint32_t *v, const char *what)
{
    const unsigned char *p;
    NR_TRY(take(c, &p, sizeof *v, what));
    memcpy(v, p, sizeof *v);
    return NR_OK;
}

static nr_status take_u64(cursor *c, uint64_t *v, const char *what)
{
    const unsigned char *p;
    NR_TRY(take(c, &p, sizeof *v, what));
    memcpy(v, p, sizeof *v);
    return NR_OK;
}

/* u64 length, then that many bytes. */
static nr_status take_string(cursor *c, nr_span *s, const char *what)
{
    uint64_t n;
    const unsigned char *p;
    NR_TRY(take_u64(c, &n, what));
    NR_TRY(take(c, &p, (size_t)n, what));
    *s = (nr_span){(const char *)p, (size_t)n};
    return NR_OK;
}

/* A key or tensor name: printable, so that it can stand in a C string and in an error. */
static nr_status take_name(cursor *c, nr_span *s, size_t max, const char *what)
{
    size_t at = c->at;
    NR_TRY(take_string(c, s, what));
    bool good = s->size > 0 && s->size <= max;
    for (size_t i = 0; good && i < s->size; i++) good = (unsigned char)s->data[i] > 0x20 && s->data[i] != 0x7F;
    if (good) return NR_OK;
    return nr_fail(c->err, NR_E_FORMAT, "%s: %s at offset %zu: expected 1 to %zu printable characters, found %zu bytes",
                   c->g->path, what, at, max, s->size);
}

/* ---- metadata ---- */

static const struct {
    const char *name;
    size_t size;
} kinds[] = {
    [NR_GGUF_U8] = {"u8", 1}, [NR_GGUF_I8] = {"i8", 1}, [NR_GGUF_U16] = {"u16", 2}, [NR_GGUF_I16] = {"i16", 2},
    [NR_GGUF_U32] = {"u32", 4}, [NR_GGUF_I32] = {"i32", 4}, [NR_GGUF_F32] = {"f32", 4}, [NR_GGUF_BOOL] = {"bool", 1},
    [NR_GGUF_STRING] = {"string", 0}, [NR_GGUF_ARRAY] = {"array", 0}, [NR_GGUF_U64] = {"u64", 8},
    [NR_GGUF_I64] = {"i64", 8}, [NR_GGUF_F64] = {"f64", 8},
};

static nr_status take_kind(cursor *c, nr_gguf_kind *kind, bool in_array, nr_span key)
{
    uint32_t k;
    NR_TRY(take_u32(c, &k, "metadata"));
    *kind = (nr_gguf_kind)k;
    if (k < NR_COUNT(kinds) && !(in_array && k == NR_GGUF_ARRAY)) return NR_OK;
    return nr_fail(c->err, NR_E_FORMAT, "%s: %.*s: expected a metadata type from 0 to 12%s, found %u", c->g->path,
                   (int)key.size, key.data, in_array ? " inside an array, arrays excluded" : "", k);
}

static nr_status take_strings(cursor *c, nr_gguf_value *v)
{
    /* A string takes 8 bytes at least: a count can't ask for more memory than twice the file. */
    size_t left = (c->g->size - c->at) / sizeof(uint64_t);
    if (v->count > left)
        return nr_fail(c->err, NR_E_FORMAT, "%s: %.*s: expected at most %zu strings, found %zu", c->g->path,
                       (int)v->key.size, v->key.data, left, v->count);
    NR_TRY(nr_alloc(&v->strings, v->count, sizeof *v->strings, "GGUF strings", c->err));
    for (size_t i = 0; i < v->count; i++) NR_TRY(take_string(c, &v->strings[i], "metadata string"));
    return NR_OK;
}

static nr_status check_bools(cursor *c, const nr_gguf_value *v)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->data[i] > 1)
            return nr_fail(c->err, NR_E_FORMAT, "%s: %.*s: expected a bool of 0 or 1, found %u", c->g->path,
                           (int)v->key.size, v->key.data, v->data[i]);
    return NR_OK;
}

static nr_status take_value(cursor *c, nr_gguf_value *v)
{
    uint64_t count = 1;
    size_t bytes;
    NR_TRY(take_name(c, &v->key, MAX_KEY, "metadata key"));
    NR_TRY(take_kind(c, &v->kind, false, v->key));
    v->item = v->kind;
    if (v->kind == NR_GGUF_ARRAY) {
        NR_TRY(take_kind(c, &v->item, true, v->key));
        NR_TRY(take_u64(c, &count, "array length"));
    }
    v->count = (size_t)count;
    v->data = c->g->data + c->at;
    if (v->item == NR_GGUF_STRING) return take_strings(c, v);
    if (nr_mul_overflows(v->count, kinds[v->item].size, &bytes)) bytes = SIZE_MAX;
    NR_TRY(take(c, &v->data, bytes, "metadata value"));
    return v->item == NR_GGUF_BOOL ? check_bools(c, v) : NR_OK;
}

static int compare_spans(nr_span a, nr_span b)
{
    int order = memcmp(a.data, b.data, NR_MIN(a.size, b.size));
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_values(const void *a, const void *b)
{
    return compare_spans(((const nr_gguf_value *)a)->key, ((const nr_gguf_value *)b)->key);
}

static nr_status read_metadata(nr_gguf *g, cursor *c, uint64_t count)
{
    /* key length, one character, type, one byte of value */
    size_t most = NR_MIN((g->size - c->at) / (8 + 1 + 4 + 1), MAX_KEYS);
    if (count > most)
        return nr_fail(c->err, NR_E_FORMAT, "%s: metadata: expected at most %zu keys, found %llu", g->path, most,
                       (unsigned long long)count);
    NR_TRY(nr_alloc(&g->values, (size_t)count, sizeof *g->values, "GGUF metadata", c->err));
    for (; g->value_count < count; g->value_count++) {
        nr_status st = take_value(c, &g->values[g->value_count]);
        if (st != NR_OK) {
            free(g->values[g->value_count].strings);
            return st;
        }
    }
    if (g->value_count > 1) qsort(g->values, g->value_count, sizeof *g->values, compare_values);
    for (size_t i = 1; i < g->value_count; i++)
        if (compare_values(&g->values[i - 1], &g->values[i]) == 0)
            return nr_fail(c->err, NR_E_FORMAT, "%s: %.*s: expected one metadata value, found two", g->path,
                           (int)g->values[i].key.size, g->values[i].key.data);
    return NR_OK;
}

/* ---- tensors ---- */

/* Types that exist and that tensor.h doesn't have. */
static const struct {
    uint32_t id;
    const char *name;
} foreign_types[] = {
    {9, "Q8_1"}, {15, "Q8_K"}, {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},
    {21, "IQ3_S"}, {22, "IQ2_S"}, {23, "IQ4_XS"}, {24, "I8"}, {25, "I16"}, {26, "I32"}, {27, "I64"}, {29, "IQ1_M"},
    {34, "TQ1_0"}, {35, "TQ2_0"}, {39, "MXFP4"},
};

static nr_status find_type(cursor *c, nr_tensor *t, uint32_t id)
{
    for (int k = 0; k < NR_DTYPE_COUNT; k++)
        if (nr_dtypes[k].gguf >= 0 && (uint32_t)nr_dtypes[k].gguf == id) {
            t->type = (nr_dtype)k;
            return NR_OK;
        }
    const char *name = "unknown to nres";
    for (size_t i = 0; i < NR_COUNT(foreign_types); i++)
        if (foreign_types[i].id == id) name = foreign_types[i].name;
    return nr_fail(c->err, NR_E_UNSUPPORTED,
                   "%s: tensor %s: expected F32, F16, BF16, F64, Q4_0 to Q8_0 or Q2_K to Q6_K, found type %u (%s)",
                   c->g->path, t->name, id, name);
}

/* Innermost first in the file; outermost first in nr_tensor. */
static nr_status take_shape(cursor *c, nr_tensor *t)
{
    uint32_t ndim;
    uint64_t dims[4];
    NR_TRY(take_u32(c, &ndim, "tensor's number of dimensions"));
    if (ndim < 1 || ndim > 4)
        return nr_fail(c->err, NR_E_FORMAT, "%s: tensor %s: expected 1 to 4 dimensions, found %u", c->g->path, t->name, ndim);
    for (uint32_t i = 0; i < ndim; i++) {
        NR_TRY(take_u64(c, &dims[i], "tensor's dimensions"));
        if (dims[i] == 0)
            return nr_fail(c->err, NR_E_FORMAT, "%s: tensor %s: expected dimensions above 0, found 0", c->g->path, t->name);
    }
    t->ndim = ndim;
    for (uint32_t i = 0; i < ndim; i++) t->shape[i] = (size_t)dims[ndim - 1 - i];
    return NR_OK;
}

static nr_status tensor_bytes(cursor *c, nr_tensor *t)
{
    const nr_dtype_info *info = &nr_dtypes[t->type];
    size_t cols = t->shape[t->ndim - 1];
    if (cols % info->block)
        return nr_fail(c->err, NR_E_FORMAT, "%s: tensor %s: expected rows of a multiple of %zu elements (%s), found %zu",
                       c->g->path, t->name, info->block, info->name, cols);
    size_t bytes = cols / info->block;
    bool over = nr_mul_overflows(bytes, info->bytes, &bytes);
    for (unsigned i = 0; !over && i + 1 < t->ndim; i++) over = nr_mul_overflows(bytes, t->shape[i], &bytes);
    if (over)
        return nr_fail(c->err, NR_E_FORMAT, "%s: tensor %s: expected a size below 2^64 bytes, found an overflow",
                       c->g->path, t->name);
    t->size = bytes;
    return NR_OK;
}

/* The offset stays in permuted_heads until the data section is known. */
static nr_status take_tensor(cursor *c, nr_tensor *t)
{
    nr_span name;
    uint32_t type;
    uint64_t offset;
    NR_TRY(take_name(c, &name, MAX_NAME, "tensor name"));
    NR_TRY(nr_alloc(&t->name, name.size + 1, 1, "a tensor's name", c->err));
    memcpy(t->name, name.data, name.size);
    NR_TRY(take_shape(c, t));
    NR_TRY(take_u32(c, &type, "tensor's type"));
    NR_TRY(find_type(c, t, type));
    NR_TRY(tensor_bytes(c, t));
    NR_TRY(take_u64(c, &offset, "tensor's offset"));
    t->permuted_heads = (size_t)offset;
    return NR_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(nr_tensor *const *)a)->name, (*(nr_tensor *const *)b)->name);
}

static int compare_places(const void *a, const void *b)
{
    const unsigned char *x = (*(nr_tensor *const *)a)->data, *y = (*(nr_tensor *const *)b)->data;
    return (x > y) - (x < y);
}

/* Each name once, no byte of data in two tensors. */
static nr_status check_unique(const nr_gguf *g, nr_error *err)
{
    const nr_tensor **order;
    nr_status st = NR_OK;
    size_t n = g->tensor_count;
    if (n < 2) return NR_OK;
    NR_TRY(nr_alloc(&order, n, sizeof *order, "tensor order", err));
    for (size_t i = 0; i < n; i++) order[i] = &g->tensors[i];
    qsort(order, n, sizeof *order, compare_names);
    for (size_t i = 1; i < n && st == NR_OK; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            st = nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected one of that name, found two", g->path, order[i]->name);
    qsort(order, n, sizeof *order, compare_places);
    for (size_t i = 1; i < n && st == NR_OK; i++)
        if (order[i - 1]->data + order[i - 1]->size > order[i]->data)
            st = nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected data of its own, found it inside that of %s", g->path,
                         order[i]->name, order[i - 1]->name);
    free(order);
    return st;
}

static nr_status find_data(nr_gguf *g, size_t at, nr_error *err)
{
    size_t alignment = 32;
    NR_TRY(nr_gguf_size(g, "general.alignment", false, &alignment, err));
    if (alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)))
        return nr_fail(err, NR_E_FORMAT, "%s: general.alignment: expected a power of two from 8 to 2^20, found %zu", g->path,
                       alignment);
    size_t begin = (at + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < g->tensor_count; i++) {
        nr_tensor *t = &g->tensors[i];
        size_t offset = t->permuted_heads, left = g->size > begin ? g->size - begin : 0;
        if (offset % alignment)
            return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected an offset that is a multiple of %zu, found %zu",
                           g->path, t->name, alignment, offset);
        if (offset > left || t->size > left - offset)
            return nr_fail(err, NR_E_FORMAT, "%s: tensor %s: expected %zu bytes at data offset %zu, found %zu bytes of data",
                           g->path, t->name, t->size, offset, left);
        t->data = g->data + begin + offset;
        t->permuted_heads = 0;
    }
    return check_unique(g, err);
}

static nr_status read_tensors(nr_gguf *g, cursor *c, uint64_t count)
{
    /* name length, one character, dimensions, one of them, type, offset */
    size_t most = NR_MIN((g->size - c->at) / (8 + 1 + 4 + 8 + 4 + 8), MAX_TENSORS);
    if (count > most)
        return nr_fail(c->err, NR_E_FORMAT, "%s: tensors: expected at most %zu, found %llu", g->path, most,
                       (unsigned long long)count);
    NR_TRY(nr_alloc(&g->tensors, (size_t)count, sizeof *g->tensors, "GGUF tensors", c->err));
    for (; g->tensor_count < count; g->tensor_count++) {
        nr_status st = take_tensor(c, &g->tensors[g->tensor_count]);
        if (st != NR_OK) {
            free(g->tensors[g->tensor_count].name);
            return st;
        }
    }
    return find_data(g, c->at, c->err);
}

static nr_status read_file(nr_gguf *g, nr_error *err)
{
    cursor c = {g, 0, err};
    const unsigned char *magic;
    uint32_t version;
    uint64_t tensors, keys;
    NR_TRY(take(&c, &magic, 4, "magic number"));
    if (memcmp(magic, "GGUF", 4) != 0)
        return nr_fail(err, NR_E_FORMAT, "%s: magic number: expected GGUF, found %02x %02x %02x %02x", g->path, magic[0],
                       magic[1], magic[2], magic[3]);
    NR_TRY(take_u32(&c, &version, "version"));
    if (version != 0 && (version & 0xFFFF) == 0)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: byte order: expected little-endian GGUF, found big-endian", g->path);
    if (version != 2 && version != 3)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: version: expected GGUF 2 or 3, found %u", g->path, version);
    NR_TRY(take_u64(&c, &tensors, "number of tensors"));
    NR_TRY(take_u64(&c, &keys, "number of metadata keys"));
    NR_TRY(read_metadata(g, &c, keys));
    return read_tensors(g, &c, tensors);
}

nr_status nr_gguf_open(nr_gguf **out, const nr_map *map, nr_error *err)
{
    nr_gguf *g;
    *out = NULL;
    NR_TRY(nr_alloc(&g, 1, sizeof *g, "GGUF file", err));
    g->data = map->data;
    g->size = map->size;
    g->path = nr_strdup(map->path ? map->path : "GGUF");
    nr_status st = g->path ? read_file(g, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", map->path);
    if (st != NR_OK)
        nr_gguf_close(g);
    else
        *out = g;
    return st;
}

void nr_gguf_close(nr_gguf *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->value_count; i++) free(g->values[i].strings);
    for (size_t i = 0; i < g->tensor_count; i++) free(g->tensors[i].name);
    free(g->values);
    free(g->tensors);
    free(g->path);
    free(g);
}

const char *nr_gguf_path(const nr_gguf *g) { return g->path; }
size_t nr_gguf_tensor_count(const nr_gguf *g) { return g->tensor_count; }
const nr_tensor *nr_gguf_tensor(const nr_gguf *g, size_t i) { return &g->tensors[i]; }

/* ---- typed reads ---- */

const nr_gguf_value *nr_gguf_find(const nr_gguf *g, const char *key)
{
    nr_gguf_value want = {.key = {key, strlen(key)}};
    if (g->value_count == 0) return NULL;
    return bsearch(&want, g->values, g->value_count, sizeof *g->values, compare_values);
}

size_t nr_gguf_value_count(const nr_gguf *g) { return g->value_count; }
const nr_gguf_value *nr_gguf_value_at(const nr_gguf *g, size_t i) { return &g->values[i]; }

static nr_status find(const nr_gguf_value **v, const nr_gguf *g, const char *key, bool required, const char *want, nr_error *err)
{
    *v = nr_gguf_find(g, key);
    if (*v || !required) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: %s: expected %s, found nothing", g->path, key, want);
}

static nr_status wrong_kind(const nr_gguf *g, const nr_gguf_value *v, const char *key, const char *want, nr_error *err)
{
    return nr_fail(err, NR_E_FORMAT, "%s: %s: expected %s, found %s", g->path, key, want, kinds[v->kind].name);
}

/* Item i of an integer value or array, sign kept. False: not of an integer kind, or above 2^63. */
bool nr_gguf_integer(const nr_gguf_value *v, size_t i, int64_t *out)
{
    const unsigned char *p = v->data + i * kinds[v->item].size;
    int8_t i8;
    uint16_t u16;
    int16_t i16;
    uint32_t u32;
    int32_t i32;
    uint64_t u64;
    switch (v->item) {
    case NR_GGUF_U8: *out = *p; return true;
    case NR_GGUF_I8: memcpy(&i8, p, sizeof i8); *out = i8; return true;
    case NR_GGUF_U16: memcpy(&u16, p, sizeof u16); *out = u16; return true;
    case NR_GGUF_I16: memcpy(&i16, p, sizeof i16); *out = i16; return true;
    case NR_GGUF_U32: memcpy(&u32, p, sizeof u32); *out = u32; return true;
    case NR_GGUF_I32: memcpy(&i32, p, sizeof i32); *out = i32; return true;
    case NR_GGUF_U64:
        memcpy(&u64, p, sizeof u64);
        *out = (int64_t)(u64 & INT64_MAX);
        return u64 <= INT64_MAX;
    case NR_GGUF_I64: memcpy(out, p, sizeof *out); return true;
    default: return false;
    }
}

nr_status nr_gguf_size(const nr_gguf *g, const char *key, bool required, size_t *v, nr_error *err)
{
    const nr_gguf_value *found;
    const char *want = "a whole number, 0 or more";
    int64_t n;
    NR_TRY(find(&found, g, key, required, want, err));
    if (!found) return NR_OK;
    if (found->kind == NR_GGUF_ARRAY || !nr_gguf_integer(found, 0, &n)) return wrong_kind(g, found, key, want, err);
    if (n < 0)
        return nr_fail(err, NR_E_FORMAT, "%s: %s: expected %s, found %lld", g->path, key, want, (long long)n);
    *v = (size_t)n;
    return NR_OK;
}

nr_status nr_gguf_double(const nr_gguf *g, const char *key, bool required, double *v, nr_error *err)
{
    const nr_gguf_value *found;
    int64_t n;
    float f;
    NR_TRY(find(&found, g, key, required, "a number", err));
    if (!found) return NR_OK;
    if (found->kind == NR_GGUF_F32) {
        memcpy(&f, found->data, sizeof f);
        *v = (double)f;
    } else if (found->kind == NR_GGUF_F64) {
        memcpy(v, found->data, sizeof *v);
    } else if (found->kind != NR_GGUF_ARRAY && nr_gguf_integer(found, 0, &n)) {
        *v = (double)n;
    } else {
        return wrong_kind(g, found, key, "a number", err);
    }
    return NR_OK;
}

nr_status nr_gguf_string(const nr_gguf *g, const char *key, bool required, nr_span *v, nr_error *err)
{
    const nr_gguf_value *found;
    NR_TRY(find(&found, g, key, required, "a string", err));
    if (!found) return NR_OK;
    if (found->kind != NR_GGUF_STRING) return wrong_kind(g, found, key, "a string", err);
    *v = found->strings[0];
    return NR_OK;
}

nr_status nr_gguf_bool(const nr_gguf *g, const char *key, bool required, bool *v, nr_error *err)
{
    const nr_gguf_value *found;
    NR_TRY(find(&found, g, key, required, "a bool", err));
    if (!found) return NR_OK;
    if (found->kind != NR_GGUF_BOOL) return wrong_kind(g, found, key, "a bool", err);
    *v = found->data[0] != 0;
    return NR_OK;
}
