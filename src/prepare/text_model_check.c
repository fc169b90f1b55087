/*
 * text_model_check.c - whether a file is a fastText classifier that libfasttext
 * can load and use without harm. The library believes every number in a file;
 * here each is checked: sizes against what is left of the file, indices
 * against the tables they point into, counts against what its Huffman tree can
 * bear.
 *
 * Layout (little endian): magic, version; 12 settings of 4 bytes and one of 8;
 * dictionary; input matrix and output matrix, dense or quantised.
 */
#include <string.h>

#include "prepare/text_model.h"

#define MAGIC 793712314
#define VERSION 12
#define CENTROIDS 256 /* of a product quantiser */

typedef struct {
    const unsigned char *at, *end;
    const char *where;
    nr_error *err;
    /* settings */
    int32_t dim, word_ngrams, loss, model, bucket, minn, maxn;
    /* dictionary */
    int32_t words, labels;
    int64_t pruned, last_bucket; /* the largest index a pruned n-gram is sent to */
} reader;

static nr_status broken(const reader *r, const char *what)
{
    return nr_fail(r->err, NR_E_FORMAT, "%s: no sound fastText classifier: %s", r->where, what);
}

static bool take(reader *r, void *to, size_t n)
{
    if ((size_t)(r->end - r->at) < n) return false;
    if (to) memcpy(to, r->at, n);
    r->at += n;
    return true;
}

static bool pass(reader *r, uint64_t count, uint64_t size)
{
    uint64_t left = (uint64_t)(r->end - r->at);
    if (count > left / size) return false;
    r->at += count * size;
    return true;
}

static nr_status check_settings(reader *r)
{
    int32_t v[12], magic, version;
    if (!take(r, &magic, 4) || magic != MAGIC) return broken(r, "expected its first four bytes, found others");
    if (!take(r, &version, 4) || version != VERSION) return broken(r, "expected version 12");
    if (!take(r, v, sizeof v) || !take(r, NULL, 8)) return broken(r, "ends in its settings");
    r->dim = v[0], r->word_ngrams = v[5], r->loss = v[6], r->model = v[7], r->bucket = v[8], r->minn = v[9], r->maxn = v[10];
    if (r->dim < 1 || r->dim > 4096) return broken(r, "expected a width from 1 to 4096");
    if (r->model != 3) return broken(r, "expected a supervised model");
    if (r->loss < 1 || r->loss > 4) return broken(r, "expected a loss from 1 to 4");
    if (r->word_ngrams < 1 || r->word_ngrams > 16) return broken(r, "expected word n-grams of 1 to 16");
    if (r->minn < 0 || r->maxn < 0 || r->maxn > 32) return broken(r, "expected n-grams of at most 32 characters");
    if (r->bucket < 0 || ((r->maxn > 0 || r->word_ngrams > 1) && r->bucket < 1)) return broken(r, "expected buckets for n-grams");
    return NR_OK;
}

/* Words, then labels; labels by falling counts, as its Huffman tree needs them. */
static nr_status check_entries(reader *r, int32_t size)
{
    int64_t before = INT64_MAX;
    for (int32_t i = 0; i < size; i++) {
        const unsigned char *stop = memchr(r->at, 0, (size_t)(r->end - r->at));
        int64_t count;
        int8_t type;
        if (!stop) return broken(r, "ends in its dictionary");
        if (stop == r->at) return broken(r, "has an empty word");
        if (stop - r->at > 65536) return broken(r, "has a word over 64 KiB");
        r->at = stop + 1;
        if (!take(r, &count, 8) || !take(r, &type, 1)) return broken(r, "ends in its dictionary");
        if (type != (i >= r->words)) return broken(r, "its dictionary isn't words, then labels");
        if (count < 1 || count > 1000000000000) return broken(r, "expected counts of words from 1 to 10^12");
        if (i >= r->words && count > before) return broken(r, "its labels aren't in the order of their counts");
        if (i >= r->words) before = count;
    }
    return NR_OK;
}

static nr_status check_dictionary(reader *r)
{
    int32_t size;
    int64_t tokens;
    if (!take(r, &size, 4) || !take(r, &r->words, 4) || !take(r, &r->labels, 4) || !take(r, &tokens, 8) || !take(r, &r->pruned, 8))
        return broken(r, "ends in its dictionary");
    if (size < 1 || r->words < 0 || r->labels < 2 || r->labels > 1000000 || (int64_t)r->words + r->labels != size)
        return broken(r, "its counts of words and labels don't fit");
    if ((uint64_t)size > (uint64_t)(r->end - r->at) / 10) return broken(r, "ends in its dictionary");
    NR_TRY(check_entries(r, size));
    if (r->pruned < -1) return broken(r, "its count of pruned n-grams is negative");
    r->last_bucket = -1;
    for (int64_t i = 0; i < r->pruned; i++) {
        int32_t pair[2];
        if (!take(r, pair, sizeof pair)) return broken(r, "ends in its list of n-grams");
        if (pair[1] < 0) return broken(r, "sends an n-gram nowhere");
        r->last_bucket = NR_MAX(r->last_bucket, (int64_t)pair[1]);
    }
    return NR_OK;
}

static nr_status check_quantiser(reader *r, int64_t width, int64_t *parts)
{
    int32_t v[4]; /* width, parts, width of a part, of the last one */
    if (!take(r, v, sizeof v)) return broken(r, "ends in a quantiser");
    if (v[0] != width || v[2] < 1 || v[2] > v[0]) return broken(r, "a quantiser's width doesn't fit");
    int32_t rest = v[0] % v[2];
    if (v[1] != v[0] / v[2] + (rest > 0) || v[3] != (rest > 0 ? rest : v[2])) return broken(r, "a quantiser's parts don't fit");
    if (!pass(r, (uint64_t)v[0] * CENTROIDS, 4)) return broken(r, "ends in a quantiser");
    *parts = v[1];
    return NR_OK;
}

static nr_status check_matrix(reader *r, bool quantised, int64_t *rows)
{
    uint8_t norms = 0;
    int64_t size[2], parts;
    int32_t codes = 0;
    if (quantised && !take(r, &norms, 1)) return broken(r, "ends before a matrix");
    if (!take(r, size, sizeof size)) return broken(r, "ends before a matrix");
    if (norms > 1 || size[0] < 1 || size[0] > INT32_MAX || size[1] != r->dim) return broken(r, "a matrix' shape doesn't fit");
    *rows = size[0];
    if (!quantised) return pass(r, (uint64_t)size[0] * (uint64_t)size[1], 4) ? NR_OK : broken(r, "ends in a matrix");
    if (!take(r, &codes, 4) || codes < 0 || !pass(r, (uint64_t)codes, 1)) return broken(r, "ends in a matrix' codes");
    NR_TRY(check_quantiser(r, size[1], &parts));
    if (size[0] * parts != codes) return broken(r, "a matrix has too few or too many codes");
    if (!norms) return NR_OK;
    if (!pass(r, (uint64_t)size[0], 1)) return broken(r, "ends in a matrix' norms");
    return check_quantiser(r, 1, &parts);
}

nr_status nr_text_model_check(const unsigned char *data, size_t n, const char *where, nr_error *err)
{
    reader r = {.at = data, .end = data + n, .where = where, .err = err};
    uint8_t in, out;
    int64_t rows;
    NR_TRY(check_settings(&r));
    NR_TRY(check_dictionary(&r));
    if (!take(&r, &in, 1) || in > 1) return broken(&r, "ends before its matrices");
    NR_TRY(check_matrix(&r, in, &rows));
    int64_t ngrams = r.pruned >= 0 ? r.last_bucket + 1 : r.bucket;
    if (rows < r.words + ngrams) return broken(&r, "its input matrix has too few rows");
    if (!in && r.pruned >= 0) return broken(&r, "its dictionary is pruned and its matrix isn't");
    if (!take(&r, &out, 1) || out > 1) return broken(&r, "ends before its output matrix");
    NR_TRY(check_matrix(&r, in && out, &rows));
    if (rows != r.labels) return broken(&r, "its output matrix doesn't fit its labels");
    return r.at == r.end ? NR_OK : broken(&r, "bytes follow its end");
}
