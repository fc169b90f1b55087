/*
 * chat.c - one user message, with an optional system message, in the form a
 * chat model was trained on: its own template is run (template.h).
 */
#include <string.h>

#include "tokenizer/template.h"
#include "tokenizer/tokenizer.h"

/* Texts of BOS and EOS where the caller has no tokenizer at hand, by a mark
 * that the template prints. */
static const struct {
    const char *mark, *bos, *eos;
} families[] = {
    {"<|start_header_id|>", "<|begin_of_text|>", "<|eot_id|>"},
    {"[INST]", "<s>", "</s>"},
    {"<|im_start|>", "<|im_start|>", "<|im_end|>"},
    {"<|user|>", "<s>", "</s>"},
};

static nr_value message(nr_template *t, const char *role, const char *content)
{
    nr_record *r = nr_record_new(t);
    nr_record_set(t, r, "role", nr_template_string(t, role, strlen(role)));
    nr_record_set(t, r, "content", nr_template_string(t, content, strlen(content)));
    return (nr_value){.kind = NR_V_RECORD, .record = r};
}

static void set_text(nr_template *t, const char *name, const char *text)
{
    if (text) nr_template_set(t, name, nr_template_string(t, text, strlen(text)));
}

nr_status nr_chat_render(char **out, const char *chat_template, const char *bos, const char *eos, const char *system,
                         const char *user, const char *where, nr_error *err)
{
    *out = NULL;
    if (!chat_template)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: expected a chat template, found none; this model takes plain prompts", where);
    nr_template t = {.where = where, .err = err};
    nr_value messages = {.kind = NR_V_LIST, .items = nr_template_take(&t, 2, sizeof *messages.items)};
    if (messages.items && system) messages.items[messages.size++] = message(&t, "system", system);
    if (messages.items) messages.items[messages.size++] = message(&t, "user", user);
    nr_template_set(&t, "messages", messages);
    nr_template_set(&t, "add_generation_prompt", (nr_value){.kind = NR_V_BOOL, .n = 1});
    set_text(&t, "bos_token", bos);
    set_text(&t, "eos_token", eos);
    if (t.st == NR_OK) nr_template_run(&t, chat_template);
    if (t.st == NR_OK) {
        *out = nr_strdup(t.out.data ? t.out.data : "");
        if (!*out) t.st = nr_fail(err, NR_E_MEMORY, "%s: chat template: out of memory", where);
    }
    nr_status st = t.st;
    nr_template_close(&t);
    return st;
}

nr_status nr_chat_apply(char **out, const char *chat_template, const char *system, const char *user,
                        const char *where, nr_error *err)
{
    const char *bos = NULL, *eos = NULL;
    for (size_t i = 0; chat_template && i < NR_COUNT(families); i++) {
        if (!strstr(chat_template, families[i].mark)) continue;
        bos = families[i].bos;
        eos = families[i].eos;
        break;
    }
    *out = NULL;
    if (chat_template && !bos && (strstr(chat_template, "bos_token") || strstr(chat_template, "eos_token")))
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: chat template: expected one whose BOS and EOS are known by its marks, found \"%.60s\"",
                       where, chat_template);
    return nr_chat_render(out, chat_template, bos, eos, system, user, where, err);
}
