/*
 * tokenizer.h - byte-level BPE, from tokenizer.json or from GGUF metadata.
 * The public calls stand in nres.h; this is what the other folders need more.
 */
#ifndef NR_TOKENIZER_H
#define NR_TOKENIZER_H

#include "formats/formats.h"

nr_status nr_tokenizer_from_gguf(nr_tokenizer **out, const nr_gguf *g, nr_error *err);
nr_status nr_tokenizer_from_json(nr_tokenizer **out, const json_t *j, const char *where, nr_error *err);
/* tokenizer_write.c: what a GGUF file says of its tokenizer, as tokenizer.json and tokenizer_config.json. */
nr_status nr_tokenizer_gguf_to_json(json_t **tokenizer, json_t **settings, const nr_gguf *g, const nr_config *c, nr_error *err);
/* True when the file asks for the BOS token before a text (llama 3). nr_tokenizer_encode itself never adds one. */
bool nr_tokenizer_add_bos(const nr_tokenizer *t);
/* SHA-256 over everything that decides the ids: key of token caches. */
const char *nr_tokenizer_fingerprint(const nr_tokenizer *t);
/* The token's text as the vocabulary has it, decoded to bytes; NULL: no such id. */
const char *nr_tokenizer_token(const nr_tokenizer *t, int32_t id, size_t *size);
/* Id of a special token by its text, -1 when there is none. */
int32_t nr_tokenizer_special(const nr_tokenizer *t, const char *text);

/* chat.c: runs a model's chat template for one user message; what the template
 * asks for and isn't known is refused by its text. bos and eos: what the
 * template's bos_token and eos_token mean, or NULL. */
nr_status nr_chat_render(char **out, const char *chat_template, const char *bos, const char *eos, const char *system,
                         const char *user, const char *where, nr_error *err);
/* The same without a tokenizer at hand: bos and eos follow from the marks of
 * the known families (ChatML, Llama 3, [INST], Zephyr). */
nr_status nr_chat_apply(char **out, const char *chat_template, const char *system, const char *user,
                        const char *where, nr_error *err);

#endif
