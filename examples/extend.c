/*
 * extend.c - the library from end to end: extends a model, measures what that
 * did, and lets it go on with a prompt.
 *
 *   cc -std=c17 extend.c -o extend $(pkg-config --cflags --libs nres)
 *   ./extend MODEL OLD.txt NEW.txt RUN "a prompt"
 *
 * MODEL is a GGUF file or a Hugging Face folder; the files are plain text with
 * blank lines between documents, or JSONL. RUN is a folder that this makes.
 */
#include <nres.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTINUED = 16 };

/* Every call that fails says why in one line. */
static void ok(nr_status st, const nr_error *err)
{
    if (st == NR_OK) return;
    fprintf(stderr, "extend: %s\n", err->message);
    exit(nr_status_exit_code(st));
}

static void say(void *user, const char *line)
{
    (void)user;
    puts(line);
}

static void extend(const char *model, const char *old_text, const char *new_text, const char *folder)
{
    nr_error err;
    nr_settings s;
    nr_trainer *t;
    nr_listener listener = {.log = say};
    nr_run run = {.model = model, .run = folder, .cache_folder = folder,
                  .train = {{&old_text, 1}, {&new_text, 1}}};
    nr_settings_default(&s);
    ok(nr_settings_set(&s, "steps", "4", &err), &err);
    ok(nr_settings_set(&s, "warmup-steps", "1", &err), &err);
    ok(nr_settings_set(&s, "context", "32", &err), &err);
    ok(nr_settings_set(&s, "eval-tokens", "512", &err), &err);
    ok(nr_settings_check(&s, &err), &err);
    ok(nr_trainer_new(&t, &run, &s, &listener, &err), &err);
    ok(nr_trainer_run(t, &err), &err);
    nr_trainer_close(t);
}

/* Bits per byte of the backbone and of the extended model, as JSON. */
static void evaluate(const nr_model *m, const nr_tokenizer *tok, nr_extension *e, const char *text)
{
    nr_error err;
    char *json;
    nr_files files = {&text, 1};
    nr_eval_options options = {.text_field = "text", .max_documents = 2};
    ok(nr_evaluate(&json, m, tok, e, &files, &options, NULL, &err), &err);
    puts(json);
    free(json);
}

static void generate(const nr_model *m, const nr_tokenizer *tok, nr_extension *e, const char *prompt)
{
    nr_error err;
    nr_session *session;
    nr_sampling how = {.top_p = 1, .repetition_penalty = 1}; /* temperature 0: the likeliest token */
    size_t n, length = strlen(prompt);
    int32_t *ids = malloc(NR_IDS_ROOM(length) * sizeof *ids);
    char text[256];
    if (!ids) exit(1);
    ok(nr_tokenizer_encode(tok, prompt, length, false, ids, NR_IDS_ROOM(length), &n, &err), &err);
    ok(nr_session_new(&session, m, e, 0, &err), &err);
    ok(nr_session_eval(session, ids, n, &err), &err);
    printf("%s", prompt);
    for (int i = 0; i < CONTINUED; i++) {
        int32_t id = nr_session_sample(session, &how);
        if (id == nr_tokenizer_eos(tok)) break;
        ok(nr_tokenizer_decode(tok, &id, 1, false, text, sizeof text, &n, &err), &err);
        fwrite(text, 1, n < sizeof text ? n : sizeof text, stdout);
        ok(nr_session_eval(session, &id, 1, &err), &err);
    }
    printf("\n");
    nr_session_close(session);
    free(ids);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s MODEL OLD NEW RUN PROMPT\n", argv[0]);
        return 2;
    }
    nr_error err;
    nr_model *m;
    nr_tokenizer *tok;
    nr_extension *e;
    nr_model_options options = {.use = NR_USE_FORWARD};
    extend(argv[1], argv[2], argv[3], argv[4]);
    ok(nr_model_open(&m, argv[1], &options, &err), &err);
    ok(nr_tokenizer_open(&tok, argv[1], NULL, &err), &err);
    ok(nr_extension_load(&e, m, argv[4], false, &err), &err);
    evaluate(m, tok, e, argv[3]);
    generate(m, tok, e, argv[5]);
    nr_extension_close(e);
    nr_tokenizer_close(tok);
    nr_model_close(m);
    return ferror(stdout) || fclose(stdout) ? 1 : 0;
}
