/*
 * cmd_generate.c - nres generate: text from a prompt, streamed as it comes.
 *
 * What leaves is whole UTF-8 characters, and never the start of a stop string
 * that is still growing. stdout carries the text (or one JSON object), stderr
 * the rest.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/opened.h"
#include "eval/eval.h"
#include "infer/infer.h"

extern const nr_command nr_command_generate;

static const char *prompt, *prompt_file, *system_text;
static size_t most = 128, seed = 1, context, top_k, repeat_last;
static double temperature, top_p = 1, min_p, repeat_penalty = 1;
static nr_list stops;
static bool chat, ignore_eos, extension_off, json, verbose;
static nr_opened opened = {.compute = "auto", .frozen = "auto"};

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "backbone: a GGUF file, a folder or ORG/NAME in the Hugging Face cache", &opened.model_path, 0, 0},
    {"extension", 'x', 'r', "EXT", "extension to put on it: a run's folder or an extension's; several run together", &opened.extension_paths, 0, 0},
    {"prompt", 'p', 's', "TEXT", "text to go on from", &prompt, 0, 0},
    {"file", 'f', 's', "FILE", "read the prompt from a file; -: standard input", &prompt_file, 0, 0},
    {"number", 'n', 'u', "N", "tokens to generate at most; 0: until the context is full [128]", &most, 0, 0},
    {"seed", 's', 'u', "S", "seed of the draws [1]", &seed, 0, 0},
    {"context", 'c', 'u', "T", "tokens of prompt and text together [2048, or the model's]", &context, 1, 1e9},
    {"threads", 't', 'u', "N", "threads; 0: as many as cores [0]", &opened.threads, 0, 4096},
    {"temp", 0, 'f', "X", "temperature; 0: always the best token [0]", &temperature, 0, 100},
    {"top-k", 0, 'u', "K", "draw from the K best; 0: off [0]", &top_k, 0, 0},
    {"top-p", 0, 'f', "P", "draw from the fewest that reach P together; 1: off [1]", &top_p, 0, 1},
    {"min-p", 0, 'f', "P", "leave out what is less probable than P times the best; 0: off [0]", &min_p, 0, 1},
    {"repeat-penalty", 0, 'f', "X", "make tokens seen before less probable; 1: off [1]", &repeat_penalty, 0.01, 100},
    {"repeat-last", 0, 'u', "N", "tokens that the penalty looks back at; 0: all [0]", &repeat_last, 0, 0},
    {"stop", 0, 'l', "TEXT", "end before this text; may be repeated", &stops, 0, 0},
    {"chat", 0, 'b', NULL, "put the prompt into the model's chat template", &chat, 0, 0},
    {"system", 0, 's', "TEXT", "system message of the chat", &system_text, 0, 0},
    {"ignore-eos", 0, 'b', NULL, "go on after an end-of-text token", &ignore_eos, 0, 0},
    {"extension-off", 0, 'b', NULL, "load the extension but switch it off", &extension_off, 0, 0},
    {"allow-other-backbone", 0, 'b', NULL, "take an extension trained on another backbone of the same shape", &opened.allow_other, 0, 0},
    {"compute", 0, 's', "TYPE", "type of matrix products: auto, fp32 or bf16 [auto]", &opened.compute, 0, 0},
    {"frozen", 0, 's', "F", "the backbone's quantised matrices: packed, quantised (kept in the file's blocks) or auto: quantised [auto]", &opened.frozen, 0, 0},
    {"gate-threshold", 0, 'f', "X", "leave out the adapter where its gate is at most X from 0 [0]", &opened.gate_threshold, 0, 1e9},
    {"quantise-extension", 0, 's', "TYPE", "the extension's matrices as blocks of this type: q8_0", &opened.quantise_extension, 0, 0},
    {"json", 0, 'b', NULL, "print one JSON object instead of the text", &json, 0, 0},
    {"verbose", 'v', 'b', NULL, "print the speed to stderr even where that is no terminal", &verbose, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

typedef struct {
    const nr_model *model;
    const nr_tokenizer *tokenizer;
    nr_session *session;
    size_t context;
    nr_buffer prompt;     /* as given or as the chat template has it */
    int32_t *ids;         /* prompt, then generated */
    size_t prompt_count, count;
    nr_stops stops;
    nr_utf8_stream utf8;
    nr_buffer text, piece, cut;
    const char *ended;    /* "eos", "stop", "length", "context", "interrupted" */
    double prompt_seconds, seconds;
} generation;

static void release(generation *g)
{
    nr_session_close(g->session);
    nr_opened_close(&opened);
    nr_buffer_free(&g->prompt);
    nr_buffer_free(&g->text);
    nr_buffer_free(&g->piece);
    nr_buffer_free(&g->cut);
    nr_stops_free(&g->stops);
    free(g->ids);
}

/* ---- prompt ---- */

static nr_status read_prompt(nr_buffer *to, nr_error *err)
{
    char block[4096];
    size_t n;
    bool standard = strcmp(prompt_file, "-") == 0;
    FILE *f = standard ? stdin : fopen(prompt_file, "rb");
    if (!f) return nr_fail_errno(err, "can't open", prompt_file);
    while ((n = fread(block, 1, sizeof block, f)) > 0) nr_buffer_add(to, block, n);
    bool failed = ferror(f) != 0;
    if (!standard) fclose(f);
    if (failed) return nr_fail(err, NR_E_IO, "%s: can't read", prompt_file);
    return to->failed ? nr_fail(err, NR_E_MEMORY, "%s: out of memory reading the prompt", prompt_file) : NR_OK;
}

static nr_status apply_chat(generation *g, nr_error *err)
{
    char *text;
    NR_TRY(nr_chat_format(&text, g->model, system_text, g->prompt.data, err));
    g->prompt.size = 0;
    nr_buffer_text(&g->prompt, text);
    free(text);
    return g->prompt.failed ? nr_fail(err, NR_E_MEMORY, "out of memory for the prompt") : NR_OK;
}

/* Ids of the prompt into g->ids, with room for what is generated. */
static nr_status encode(generation *g, nr_error *err)
{
    const nr_config *c = g->model->config;
    size_t n = g->prompt.size;
    int32_t bos = nr_tokenizer_bos(g->tokenizer) >= 0 ? nr_tokenizer_bos(g->tokenizer) : c->bos;
    NR_TRY(nr_alloc(&g->ids, NR_MAX(NR_IDS_ROOM(n) + 1, g->context + 1), sizeof *g->ids, "token ids", err));
    NR_TRY(nr_tokenizer_encode(g->tokenizer, g->prompt.data, n, chat, g->ids, NR_IDS_ROOM(n), &g->count, err));
    /* A chat template may write the BOS itself. */
    if (c->add_bos && bos >= 0 && (g->count == 0 || g->ids[0] != bos)) {
        memmove(g->ids + 1, g->ids, g->count * sizeof *g->ids);
        g->ids[0] = bos;
        g->count++;
    }
    g->prompt_count = g->count;
    return g->count ? NR_OK : nr_fail(err, NR_E_USAGE, "prompt: expected at least one token, found none");
}

/* ---- generation ---- */

static bool is_end(const generation *g, int32_t id)
{
    const nr_config *c = g->model->config;
    if (ignore_eos) return false;
    if (id == c->eos || id == nr_tokenizer_eos(g->tokenizer)) return true;
    for (size_t i = 0; i < NR_COUNT(c->more_eos) && c->more_eos[i] >= 0; i++)
        if (id == c->more_eos[i]) return true;
    return false;
}

/* What lies in g->cut, as whole characters: to stdout or kept for the JSON. */
static void show(generation *g, bool last)
{
    g->piece.size = 0;
    if (g->cut.size > 0) nr_utf8_stream_add(&g->utf8, g->cut.data, g->cut.size, &g->piece);
    if (last) nr_utf8_stream_end(&g->utf8, &g->piece);
    g->cut.size = 0;
    if (g->piece.size == 0) return;
    nr_buffer_add(&g->text, g->piece.data, g->piece.size);
    if (json) return;
    fwrite(g->piece.data, 1, g->piece.size, stdout);
    fflush(stdout);
}

static nr_status take(generation *g, int32_t id, nr_error *err)
{
    size_t n;
    g->ids[g->count++] = id;
    const char *bytes = nr_tokenizer_token(g->tokenizer, id, &n);
    if (!bytes) return nr_fail(err, NR_E_MISMATCH, "token id: expected one of the tokenizer's %zu, found %d",
                               nr_tokenizer_size(g->tokenizer), id);
    nr_stops_add(&g->stops, bytes, n, &g->cut);
    show(g, false);
    if (g->cut.failed || g->piece.failed || g->text.failed) return nr_fail(err, NR_E_MEMORY, "out of memory for the text");
    return NR_OK;
}

static nr_status generate(generation *g, const nr_listener *l, nr_error *err)
{
    nr_sampling how = {.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p,
                       .repetition_penalty = repeat_penalty, .repetition_window = repeat_last, .seed = seed};
    double began = nr_clock();
    NR_TRY(nr_session_eval(g->session, g->ids, g->count, err));
    g->prompt_seconds = nr_clock() - began;
    began = nr_clock();
    while (!g->ended) {
        size_t made = g->count - g->prompt_count;
        if (most && made >= most) g->ended = "length";
        else if (nr_stopped(l)) g->ended = "interrupted";
        if (g->ended) break;
        if (made && g->count > g->context) {
            g->ended = "context";
            break;
        }
        if (made) NR_TRY(nr_session_eval(g->session, g->ids + g->count - 1, 1, err));
        int32_t id = nr_session_sample(g->session, &how);
        if (is_end(g, id)) {
            g->ended = "eos";
            break;
        }
        NR_TRY(take(g, id, err));
        if (g->stops.found) g->ended = "stop";
    }
    g->seconds = nr_clock() - began;
    nr_stops_end(&g->stops, &g->cut);
    show(g, true);
    return NR_OK;
}

/* ---- results ---- */

static void print_json(const generation *g)
{
    nr_utf8_stream clean = {0};
    nr_buffer given = {0};
    size_t made = g->count - g->prompt_count;
    json_t *o = json_object(), *ids = json_array(), *prompt_ids = json_array();
    nr_utf8_stream_add(&clean, g->prompt.data, g->prompt.size, &given);
    nr_utf8_stream_end(&clean, &given);
    for (size_t i = 0; i < g->count; i++)
        json_array_append_new(i < g->prompt_count ? prompt_ids : ids, json_integer(g->ids[i]));
    json_object_set_new(o, "prompt", json_string(given.data ? given.data : ""));
    json_object_set_new(o, "text", json_string(g->text.data ? g->text.data : ""));
    json_object_set_new(o, "prompt_ids", prompt_ids);
    json_object_set_new(o, "ids", ids);
    json_object_set_new(o, "ended", json_string(g->ended));
    json_object_set_new(o, "prompt_tokens_per_second", json_real((double)g->prompt_count / (g->prompt_seconds + 1e-9)));
    json_object_set_new(o, "tokens_per_second", json_real((double)made / (g->seconds + 1e-9)));
    char *text = json_dumps(o, JSON_INDENT(2));
    if (text) puts(text);
    free(text);
    json_decref(o);
    nr_buffer_free(&given);
}

static void print_speed(const generation *g)
{
    size_t made = g->count - g->prompt_count;
    if (!verbose && !isatty(STDERR_FILENO)) return;
    fprintf(stderr, "prompt %zu tokens, %.1f tokens/s | text %zu tokens, %.1f tokens/s | ended by %s\n", g->prompt_count,
            (double)g->prompt_count / (g->prompt_seconds + 1e-9), made, (double)made / (g->seconds + 1e-9), g->ended);
}

/* ---- command ---- */

static nr_status open_all(generation *g, nr_error *err)
{
    if (prompt_file) NR_TRY(read_prompt(&g->prompt, err));
    nr_buffer_text(&g->prompt, prompt ? prompt : "");
    NR_TRY(nr_opened_open(&opened, err));
    g->model = opened.model;
    g->tokenizer = opened.tokenizer;
    g->context = context ? context : NR_MIN(g->model->config->max_context, (size_t)2048);
    nr_opened_switch(&opened, !extension_off);
    if (chat) NR_TRY(apply_chat(g, err));
    NR_TRY(encode(g, err));
    return nr_session_new(&g->session, g->model, opened.extension, g->context, err);
}

static int check_words(const nr_list *words)
{
    if (words->count) return nr_cli_usage(&nr_command_generate, "unexpected word \"%.200s\"", words->items[0]);
    if (!opened.model_path) return nr_cli_usage(&nr_command_generate, "-m MODEL is needed");
    if (!prompt && !prompt_file) return nr_cli_usage(&nr_command_generate, "a prompt is needed: -p TEXT or -f FILE");
    if (prompt && prompt_file) return nr_cli_usage(&nr_command_generate, "expected one prompt, found -p and -f");
    if (system_text && !chat) return nr_cli_usage(&nr_command_generate, "--system needs --chat");
    if (extension_off && !opened.extension_paths.count) return nr_cli_usage(&nr_command_generate, "--extension-off needs -x EXT");
    for (size_t i = 0; i < stops.count; i++)
        if (!*stops.items[i]) return nr_cli_usage(&nr_command_generate, "--stop: expected text, found an empty word");
    return 0;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_error err;
    generation g = {0};
    int code = nr_cli_parse(&nr_command_generate, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if ((code = check_words(&words))) return code;
    const nr_listener *l = nr_cli_listener(false);
    g.stops = (nr_stops){.stops = (const char *const *)stops.items, .count = stops.count};
    nr_status st = open_all(&g, &err);
    if (st == NR_OK) st = generate(&g, l, &err);
    if (st != NR_OK) {
        code = nr_cli_fail(&err);
    } else {
        if (json) print_json(&g);
        else putchar('\n');
        fflush(stdout); /* the speed stands after the text */
        print_speed(&g);
        if (strcmp(g.ended, "interrupted") == 0) code = nr_status_exit_code(NR_E_INTERRUPTED);
    }
    release(&g);
    return code;
}

const nr_command nr_command_generate = {
    .name = "generate",
    .summary = "go on from a prompt, with or without an extension",
    .usage = "nres generate -m MODEL [-x EXT] -p PROMPT | -f FILE [options]",
    .examples = "nres generate -m SmolLM2-135M-Instruct.Q4_1.gguf -p \"The capital of France is\" -n 8\n"
                "nres generate -m MODEL -x runs/french -p \"La capitale de la France\" --temp 0.7 --top-p 0.9\n"
                "nres generate -m MODEL --chat -p \"What is a neutral residue?\"",
    .run = run,
    .options = option_list,
};
