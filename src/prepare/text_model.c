/*
 * text_model.c - fastText classifiers, checked before use. Owns the library's
 * model; the bytes that were checked are the bytes that are loaded.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/fasttext_shim.h"
#include "prepare/text_model.h"

struct nr_text_model {
    void *library;
    char sha256[65];
};

#ifdef NRES_HAS_FASTTEXT

bool nr_text_model_built_in(void) { return true; }

static nr_status load(nr_text_model *m, const nr_map *file, const char *path, nr_error *err)
{
    char why[200];
    nr_sha256 *h = nr_sha256_new();
    nr_sha256_add(h, file->data, file->size);
    nr_sha256_hex(h, m->sha256);
    NR_TRY(nr_text_model_check(file->data, file->size, path, err));
    if (nr_fasttext_load(&m->library, (const char *)file->data, file->size, why, sizeof why) == 0) return NR_OK;
    return nr_fail(err, NR_E_FORMAT, "%s: libfasttext refuses it: %s", path, why);
}

nr_status nr_text_model_open(nr_text_model **out, const char *path, nr_error *err)
{
    nr_text_model *m;
    nr_map file;
    *out = NULL;
    NR_TRY(nr_map_open(&file, path, err));
    nr_status st = nr_alloc(&m, 1, sizeof *m, path, err);
    if (st == NR_OK) {
        st = load(m, &file, path, err);
        if (st == NR_OK)
            *out = m;
        else
            nr_text_model_close(m);
    }
    nr_map_close(&file);
    return st;
}

void nr_text_model_close(nr_text_model *m)
{
    if (!m) return;
    nr_fasttext_free(m->library);
    free(m);
}

/* The text as one line. */
static bool predict(const nr_text_model *m, const char *s, size_t n, const char *wanted, char label[32], double *share)
{
    nr_buffer line = {0};
    int found = 0;
    nr_buffer_add(&line, s, n);
    for (size_t i = 0; i < line.size; i++)
        if (line.data[i] == '\n' || line.data[i] == '\0') line.data[i] = ' ';
    nr_buffer_text(&line, "\n");
    bool ok = !line.failed && nr_fasttext_predict(m->library, line.data, line.size, wanted, label, 32, share, &found) == 0;
    nr_buffer_free(&line);
    return ok && found;
}

nr_status nr_text_model_train(const char *lines_path, const char *out_path, const nr_text_training *t, nr_error *err)
{
    char why[200];
    if (nr_fasttext_train(lines_path, out_path, (int)t->dim, (int)t->epochs, (int)t->word_ngrams, (int)t->buckets, t->rate, why,
                          sizeof why) == 0)
        return NR_OK;
    return nr_fail(err, NR_E_IO, "%s: training failed: %s", out_path, why);
}

#else

bool nr_text_model_built_in(void) { return false; }

static nr_status missing(const char *path, nr_error *err)
{
    return nr_fail(err, NR_E_UNSUPPORTED, "%s: classifiers of text need libfasttext, and nres was built without it", path);
}

nr_status nr_text_model_open(nr_text_model **out, const char *path, nr_error *err)
{
    *out = NULL;
    return missing(path, err);
}

void nr_text_model_close(nr_text_model *m) { free(m); }

static bool predict(const nr_text_model *m, const char *s, size_t n, const char *wanted, char label[32], double *share)
{
    (void)m, (void)s, (void)n, (void)wanted;
    label[0] = 0;
    *share = 0;
    return false;
}

nr_status nr_text_model_train(const char *lines_path, const char *out_path, const nr_text_training *t, nr_error *err)
{
    (void)lines_path, (void)t;
    return missing(out_path, err);
}

#endif

const char *nr_text_model_hash(const nr_text_model *m) { return m->sha256; }

bool nr_text_model_predict(const nr_text_model *m, const char *s, size_t n, char label[32], double *share)
{
    return predict(m, s, n, NULL, label, share);
}

double nr_text_model_share(const nr_text_model *m, const char *s, size_t n, const char *label)
{
    char found[32];
    double share = 0;
    return predict(m, s, n, label, found, &share) ? share : 0;
}
