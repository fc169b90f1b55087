/*
 * describe.c - what a model is, for people and programs.
 */
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

char *nr_model_describe(const nr_model *m, bool with_tensors)
{
    json_t *j = nr_model_file_describe(m->file, with_tensors);
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(j);
    return text;
}

nr_status nr_model_fingerprint(const nr_model *m, char hex[65], nr_error *err)
{
    nr_fingerprint *f = m->fingerprint;
    nr_status st = NR_OK;
    pthread_mutex_lock(&f->lock);
    if (!f->hex[0]) {
        st = nr_model_file_fingerprint(m->file, f->hex, err);
        if (!m->quantised) nr_model_file_forget(m->file);
    }
    memcpy(hex, f->hex, sizeof f->hex);
    pthread_mutex_unlock(&f->lock);
    return st;
}
