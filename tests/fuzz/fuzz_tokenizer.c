/*
 * Any bytes as tokenizer.json; what is taken encodes and decodes without a
 * fault. Behind a zero byte stands the text to encode, and any bytes as a chat
 * template.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const nr_tokenizer *t, const char *text, size_t n)
{
    size_t count, again, bytes;
    nr_error err;
    int32_t *ids = malloc((3 * n + 1) * sizeof *ids);
    char *back = NULL;
    for (int special = 0; ids && special < 2; special++) {
        if (nr_tokenizer_encode(t, text, n, special, ids, 3 * n + 1, &count, &err) != NR_OK) continue;
        if (count > 3 * n || nr_tokenizer_encode(t, text, n, special, NULL, 0, &again, &err) != NR_OK || again != count) abort();
        if (nr_tokenizer_decode(t, ids, count, true, NULL, 0, &bytes, &err) != NR_OK) abort();
        back = realloc(back, bytes + 1);
        if (back && (nr_tokenizer_decode(t, ids, count, true, back, bytes, &again, &err) != NR_OK || again != bytes)) abort();
    }
    free(back);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : "Bonjour 12 <s>\xFF";
    size_t length = zero ? size - n - 1 : strlen(text);
    nr_error err;
    json_t *j;
    nr_tokenizer *t;
    if (nr_json_parse(&j, (const char *)data, n, "file", &err) == NR_OK) {
        if (nr_tokenizer_from_json(&t, j, "file", &err) == NR_OK) {
            use(t, text, length);
            nr_tokenizer_close(t);
        } else if (strchr(err.message, '\n')) {
            abort();
        }
        json_decref(j);
    }
    char *template = malloc(size + 1), *out;
    if (!template) return 0;
    if (size) memcpy(template, data, size);
    template[size] = 0;
    if (nr_chat_render(&out, template, "<s>", "</s>", "system", "user", "file", &err) == NR_OK) free(out);
    else if (strchr(err.message, '\n')) abort();
    free(template);
    return 0;
}
