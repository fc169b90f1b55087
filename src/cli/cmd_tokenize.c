/*
 * cmd_tokenize.c - nres tokenize: text to ids, ids to text, with a model's
 * tokenizer. Special-token strings are plain text unless --special; no BOS is
 * added.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "tokenizer/tokenizer.h"

extern const nr_command nr_command_tokenize;

static const char *model, *prompt;
static bool json, decode, special;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "GGUF file, folder, tokenizer.json or ORG/NAME", &model, 0, 0},
    {"prompt", 'p', 's', "TEXT", "the text itself, in place of standard input", &prompt, 0, 0},
    {"json", 0, 'b', NULL, "print {\"ids\": [...]} on one line", &json, 0, 0},
    {"decode", 0, 'b', NULL, "read {\"ids\": [...]}, print the bytes of the text", &decode, 0, 0},
    {"special", 0, 'b', NULL, "read special-token strings as their ids", &special, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

static nr_status read_input(nr_buffer *b, nr_error *err)
{
    char block[65536];
    if (prompt) nr_buffer_text(b, prompt);
    else
        for (size_t n; (n = fread(block, 1, sizeof block, stdin)) > 0;) nr_buffer_add(b, block, n);
    if (!prompt && ferror(stdin)) return nr_fail_errno(err, "reading", "standard input");
    if (b->failed) return nr_fail(err, NR_E_MEMORY, "standard input: out of memory after %zu bytes", b->size);
    return NR_OK;
}

/* A token's bytes, with what a terminal or a table can't show as an escape. */
static void print_text(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        static const char plain[] = "\n\r\t\\", letters[] = "nrt\\";
        const char *at = p[i] ? strchr(plain, p[i]) : NULL;
        if (at) printf("\\%c", letters[at - plain]);
        else if (p[i] < 32 || p[i] == 127) printf("\\x%02x", p[i]);
        else putchar(p[i]);
    }
}

static void print_ids(const nr_tokenizer *t, const int32_t *ids, size_t n)
{
    if (json) printf("{\"ids\": [");
    for (size_t i = 0; i < n; i++) {
        if (json) {
            printf(i ? ", %d" : "%d", ids[i]);
            continue;
        }
        size_t size;
        const char *text = nr_tokenizer_token(t, ids[i], &size);
        printf("%d\t", ids[i]);
        print_text((const unsigned char *)text, size);
        putchar('\n');
    }
    if (json) printf("]}\n");
}

static nr_status encode_input(const nr_tokenizer *t, const nr_buffer *text, nr_error *err)
{
    int32_t *ids = NULL;
    size_t n, room = 3 * text->size + 1; /* a normalizer may make the text longer */
    NR_TRY(nr_alloc(&ids, room, sizeof *ids, "token ids", err));
    nr_status st = nr_tokenizer_encode(t, text->data, text->size, special, ids, room, &n, err);
    if (st == NR_OK) print_ids(t, ids, n);
    free(ids);
    return st;
}

static nr_status read_ids(int32_t **ids, size_t *n, const nr_buffer *text, const char *where, nr_error *err)
{
    json_t *j, *v;
    size_t i;
    NR_TRY(nr_json_parse(&j, text->data ? text->data : "", text->size, where, err));
    const json_t *list = json_object_get(j, "ids");
    nr_status st = json_is_array(list) ? NR_OK : nr_fail(err, NR_E_FORMAT, "%s: expected {\"ids\": [...]}", where);
    *n = json_array_size(list);
    if (st == NR_OK) st = nr_alloc(ids, *n + 1, sizeof **ids, "token ids", err);
    json_array_foreach(list, i, v) {
        json_int_t id = json_integer_value(v);
        if (st != NR_OK) break;
        if (!json_is_integer(v)) st = nr_fail(err, NR_E_FORMAT, "%s: ids: %zu: expected a whole number", where, i);
        else if (id < INT32_MIN || id > INT32_MAX)
            st = nr_fail(err, NR_E_FORMAT, "%s: ids: %zu: expected a token's id, found %lld", where, i, (long long)id);
        else (*ids)[i] = (int32_t)id;
    }
    json_decref(j);
    return st;
}

static nr_status decode_input(const nr_tokenizer *t, const nr_buffer *input, nr_error *err)
{
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n, size, unread;
    nr_status st;
    NR_GO(read_ids(&ids, &n, input, prompt ? "prompt" : "standard input", err));
    NR_GO(nr_tokenizer_decode(t, ids, n, true, NULL, 0, &size, err));
    NR_GO(nr_alloc(&text, size + 1, 1, "text", err));
    NR_GO(nr_tokenizer_decode(t, ids, n, true, text, size, &unread, err));
    fwrite(text, 1, size, stdout);
done:
    free(ids);
    free(text);
    return st;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_error err;
    int code = nr_cli_parse(&nr_command_tokenize, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if (!model) return nr_cli_usage(&nr_command_tokenize, "-m MODEL is needed");
    if (words.count) return nr_cli_usage(&nr_command_tokenize, "expected no words, found \"%.100s\"; text comes from standard input or -p", words.items[0]);
    if (decode && (json || special)) return nr_cli_usage(&nr_command_tokenize, "--decode goes with neither --json nor --special");
    nr_tokenizer *t = NULL;
    nr_buffer input = {0};
    nr_status st = nr_tokenizer_open(&t, model, nr_cli_hub_folder(), &err);
    if (st == NR_OK) st = read_input(&input, &err);
    if (st == NR_OK) st = decode ? decode_input(t, &input, &err) : encode_input(t, &input, &err);
    nr_buffer_free(&input);
    nr_tokenizer_close(t);
    return st == NR_OK ? 0 : nr_cli_fail(&err);
}

const nr_command nr_command_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids and back",
    .usage = "nres tokenize -m MODEL [-p TEXT] [--json] [--special] [--decode]",
    .examples = "echo 'Bonjour le monde' | nres tokenize -m model.gguf\n"
                "nres tokenize -m model.gguf --json < text.txt > ids.json\n"
                "nres tokenize -m model.gguf --decode < ids.json",
    .run = run,
    .options = option_list,
};
