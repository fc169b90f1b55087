/* chat_format.c - a user's message in the form that the model was tuned on. */
#include "model/model.h"
#include "tokenizer/tokenizer.h"

nr_status nr_chat_format(char **out, const nr_model *m, const char *system, const char *user, nr_error *err)
{
    *out = NULL;
    if (!m->config->chat_template)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: expected a chat template, found none", m->file->path);
    return nr_chat_apply(out, m->config->chat_template, system, user, m->file->path, err);
}
