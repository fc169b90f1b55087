/*
 * cmd_eval.c - nres eval: how well a model predicts files, before and after an
 * extension, or with --tasks how many questions it answers. A table of 80
 * columns, or the JSON of nr_evaluate or nr_score_tasks as it is.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/opened.h"
#include "cli/task_table.h"

extern const nr_command nr_command_eval;

static nr_opened opened = {.compute = "auto", .frozen = "packed"};
static const char *text_field = "text", *documents = "auto", *gates_path;
static size_t context, stride, max_documents, batch_tokens;
static nr_list old_files, new_files, texts;
static bool json, layers, quiet;
/* tasks */
static nr_list task_words, data_folders, definition_folders;
static const char *format, *output, *shots_text;
static size_t limit;
static bool list_tasks;

static const nr_option options[] = {
    {"model", 'm', 's', "MODEL", "backbone: a GGUF file, a folder or ORG/NAME in the Hugging Face cache", &opened.model_path, 0, 0},
    {"extension", 'x', 'r', "EXT", "extension to compare with it: a run's folder or an extension's; several run together", &opened.extension_paths, 0, 0},
    {"old", 0, 'l', "FILE", "files of the domain that the backbone knows", &old_files, 0, 0},
    {"new", 0, 'l', "FILE", "files of the domain to learn; with both, how well each gate tells them apart", &new_files, 0, 0},
    {"context", 'c', 'u', "T", "tokens of a window [2048, or the model's]", &context, 1, 1e9},
    {"stride", 0, 'u', "S", "advance by S tokens and score only the last S of a window [the context]", &stride, 1, 1e9},
    {"documents", 0, 's', "D", "a document of a plain text file: auto (between blank lines), line or file [auto]", &documents, 0, 0},
    {"text-field", 0, 's', "NAME", "field of a JSONL row that holds the text [text]", &text_field, 0, 0},
    {"max-documents", 0, 'u', "N", "score the first N documents of a file; 0: all [0]", &max_documents, 0, 0},
    {"batch-tokens", 0, 'u', "N", "tokens of a pass; 0: 2048 [0]", &batch_tokens, 0, 1e9},
    {"tasks", 0, 'l', "NAME", "tasks to score instead of files, also as A,B,C; NAME:FORMAT for another format", &task_words, 0, 0},
    {"task-data", 0, 'l', "FOLDER", "where the tasks' files lie [.]", &data_folders, 0, 0},
    {"task-path", 0, 'l', "FOLDER", "definitions of tasks, before those that come with nres", &definition_folders, 0, 0},
    {"format", 0, 's', "F", "format of the tasks: harness, olmes, olmes-cloze, olmes-choice, paper or a definition's own [harness]", &format, 0, 0},
    {"shots", 0, 's', "N", "examples before a question [as the format says]", &shots_text, 0, 0},
    {"limit", 0, 'u', "N", "the first N questions of a task, or of each of its subjects; 0: all [0]", &limit, 0, 0},
    {"output", 'o', 's', "FOLDER", "write the tasks' results_*.json and samples_*.jsonl to FOLDER/backbone and FOLDER/extended", &output, 0, 0},
    {"list-tasks", 0, 'b', NULL, "print the tasks that are defined", &list_tasks, 0, 0},
    {"threads", 't', 'u', "N", "threads; 0: as many as cores [0]", &opened.threads, 0, 4096},
    {"compute", 0, 's', "TYPE", "type of matrix products: auto, fp32 or bf16 [auto]", &opened.compute, 0, 0},
    {"frozen", 0, 's', "F", "the backbone's quantised matrices: packed, or quantised (kept in the file's blocks) [packed]", &opened.frozen, 0, 0},
    {"gate-threshold", 0, 'f', "X", "leave out the adapter where its gate is at most X from 0 [0]", &opened.gate_threshold, 0, 1e9},
    {"quantise-extension", 0, 's', "TYPE", "the extension's matrices as blocks of this type: q8_0", &opened.quantise_extension, 0, 0},
    {"allow-other-backbone", 0, 'b', NULL, "take an extension trained on another backbone of the same shape", &opened.allow_other, 0, 0},
    {"layers", 0, 'b', NULL, "print gates and norms of every layer", &layers, 0, 0},
    {"token-gates", 0, 's', "FILE", "write the gates of every token of the --text texts to FILE, as JSON", &gates_path, 0, 0},
    {"text", 0, 'l', "TEXT", "a text for --token-gates; may be repeated", &texts, 0, 0},
    {"json", 0, 'b', NULL, "print JSON", &json, 0, 0},
    {"quiet", 'q', 'b', NULL, "no progress", &quiet, 0, 0},
};

static const nr_option *option_list(size_t *count)
{
    *count = NR_COUNT(options);
    return options;
}

/* ---- tables ---- */

static void print_number(const json_t *o, const char *key, int width, int digits)
{
    const json_t *v = o ? json_object_get(o, key) : NULL;
    if (json_is_number(v)) printf(" %*.*f", width - 1, digits, json_number_value(v));
    else printf(" %*s", width - 1, "-");
}

static void print_model(const json_t *file, const char *key)
{
    const json_t *o = json_object_get(file, key);
    if (!o) return;
    printf("  %-12s", key);
    print_number(o, "nats_per_token", 11, 4);
    print_number(o, "nats_per_token_stderr", 11, 4);
    print_number(o, "perplexity", 11, 3);
    print_number(o, "perplexity_stderr", 11, 3);
    print_number(o, "bits_per_byte", 11, 4);
    print_number(o, "bits_per_byte_stderr", 11, 4);
    putchar('\n');
}

static void print_layers(const json_t *file)
{
    size_t i;
    const json_t *o, *list = json_object_get(file, "layers");
    if (json_array_size(list) == 0) return;
    printf("\n  %-12s%11s%11s%15s\n", "layer", "mean g", "mean |g|", "|g a| / |FFN|");
    json_array_foreach(list, i, o) {
        printf("  %-12lld", (long long)json_integer_value(json_object_get(o, "layer")));
        print_number(o, "gate_mean", 11, 4);
        print_number(o, "gate_abs_mean", 11, 4);
        print_number(o, "ratio", 15, 5);
        putchar('\n');
    }
}

static void print_file(const json_t *file)
{
    const json_t *domain = json_object_get(file, "domain");
    printf("\n%s%s%s\n", json_string_value(json_object_get(file, "path")), domain ? ", " : "",
           domain ? json_string_value(domain) : "");
    printf("  %lld documents, %lld tokens, %lld bytes\n\n",
           (long long)json_integer_value(json_object_get(file, "documents")),
           (long long)json_integer_value(json_object_get(file, "tokens")),
           (long long)json_integer_value(json_object_get(file, "bytes")));
    printf("  %-12s%11s%11s%11s%11s%11s%11s\n", "", "nats/token", "+-", "perplexity", "+-", "bits/byte", "+-");
    print_model(file, "backbone");
    print_model(file, "extended");
    print_model(file, "difference");
    if (!json_object_get(file, "extended")) return;
    printf("  KL(backbone || extended)");
    print_number(file, "kl", 8, 4);
    printf(" nats/token, same first choice %.2f %%\n", 100 * json_number_value(json_object_get(file, "top1_agreement")));
    if (layers) print_layers(file);
}

static void print_auc(const json_t *list)
{
    size_t i, best = 0, n = json_array_size(list);
    double sum = 0, most = -1;
    const json_t *o;
    if (n == 0) return;
    json_array_foreach(list, i, o) {
        double auc = json_number_value(json_object_get(o, "auc_abs"));
        sum += auc;
        if (auc > most) most = auc, best = i;
    }
    printf("\n|g| as a detector of new text (area under the curve)\n  mean over layers %.4f, best %.4f in layer %lld\n",
           sum / (double)n, most, (long long)json_integer_value(json_object_get(json_array_get(list, best), "layer")));
    if (!layers) return;
    printf("\n  %-12s%11s%11s\n", "layer", "AUC of |g|", "AUC of g");
    json_array_foreach(list, i, o) {
        printf("  %-12lld", (long long)json_integer_value(json_object_get(o, "layer")));
        print_number(o, "auc_abs", 11, 4);
        print_number(o, "auc", 11, 4);
        putchar('\n');
    }
}

static void print_tables(const json_t *o)
{
    size_t i;
    const json_t *file;
    printf("%s, %s\n", json_string_value(json_object_get(o, "model")), json_string_value(json_object_get(o, "compute")));
    printf("windows of %lld tokens, stride %lld\n", (long long)json_integer_value(json_object_get(o, "context")),
           (long long)json_integer_value(json_object_get(o, "stride")));
    json_array_foreach(json_object_get(o, "files"), i, file) print_file(file);
    print_auc(json_object_get(o, "gate_auc"));
}

/* ---- command ---- */

typedef struct {
    const char **paths;
    int *domains;
    size_t count;
} labelled;

static void add(labelled *f, const nr_list *from, int domain)
{
    for (size_t i = 0; i < from->count; i++, f->count++) {
        f->paths[f->count] = from->items[i];
        f->domains[f->count] = domain;
    }
}

static nr_status evaluate(const nr_list *words, const nr_settings *s, nr_error *err)
{
    size_t all = words->count + old_files.count + new_files.count;
    labelled f = {0};
    char *text = NULL;
    nr_status st;
    NR_GO(nr_alloc(&f.paths, all, sizeof *f.paths, "file list", err));
    NR_GO(nr_alloc(&f.domains, all, sizeof *f.domains, "file list", err));
    add(&f, words, -1);
    add(&f, &old_files, 0);
    add(&f, &new_files, 1);
    nr_files files = {f.paths, f.count};
    nr_eval_options opt = {.text_field = text_field, .documents = s->documents, .context = context, .stride = stride,
                           .max_documents = max_documents, .batch_tokens = batch_tokens, .domains = f.domains};
    NR_GO(nr_evaluate(&text, opened.model, opened.tokenizer, opened.extension, &files, &opt, nr_cli_listener(quiet), err));
    nr_cli_live_end();
    if (json) {
        puts(text);
    } else {
        json_t *o = json_loads(text, 0, NULL);
        if (o) print_tables(o);
        json_decref(o);
    }
done:
    free(text);
    free(f.paths);
    free(f.domains);
    return st;
}

static nr_status write_gates(nr_error *err)
{
    char *text;
    NR_TRY(nr_token_gates(&text, opened.model, opened.tokenizer, opened.extension, texts.items, texts.count, err));
    nr_status st = nr_write_file(gates_path, text, strlen(text), err);
    free(text);
    return st;
}

/* ---- tasks ---- */

/* A list's words, cut at commas. `storage` keeps the pieces. */
static nr_status cut_words(const nr_list *from, const char ***items, size_t *count, char **storage, nr_error *err)
{
    nr_buffer b = {0};
    size_t n = 0;
    for (size_t i = 0; i < from->count; i++) nr_buffer_printf(&b, "%s%s", i ? "," : "", from->items[i]);
    if (b.failed) return nr_fail(err, NR_E_MEMORY, "out of memory for the tasks' names");
    *storage = b.data;
    for (const char *p = b.data; p && *p; p++) n += *p == ',';
    NR_TRY(nr_alloc(items, n + 1, sizeof **items, "names of tasks", err));
    char *rest = NULL;
    for (char *word = b.data ? strtok_r(b.data, ",", &rest) : NULL; word; word = strtok_r(NULL, ",", &rest)) (*items)[(*count)++] = word;
    return NR_OK;
}

static void print_json(const char *result, void (*print)(const json_t *))
{
    json_t *o = json ? NULL : json_loads(result, 0, NULL);
    nr_cli_live_end();
    if (json) puts(result);
    else if (o) print(o);
    json_decref(o);
}

static nr_status score(const nr_task_options *opt, nr_error *err)
{
    char *result;
    NR_TRY(nr_score_tasks(&result, opened.model, opened.tokenizer, opened.extension, opt, nr_cli_listener(quiet), err));
    print_json(result, nr_cli_print_tasks);
    free(result);
    return NR_OK;
}

static nr_status list_all(const nr_task_options *opt, nr_error *err)
{
    char *result;
    NR_TRY(nr_list_tasks(&result, opt->definitions, opt->definition_count, err));
    print_json(result, nr_cli_print_task_list);
    free(result);
    return NR_OK;
}

/* Scores the tasks, or lists them. */
static nr_status run_tasks(nr_error *err)
{
    static const char *here = ".";
    const char **names = NULL, **definitions = NULL;
    char *storage = NULL, *own = nr_cli_task_folder();
    size_t shots = shots_text ? (size_t)strtoull(shots_text, NULL, 10) : 0;
    nr_task_options opt = {.data = data_folders.count ? data_folders.items : &here, .data_count = NR_MAX(data_folders.count, (size_t)1),
                           .format = format, .shots = shots_text ? &shots : NULL, .limit = limit, .context = context,
                           .batch_tokens = batch_tokens, .output = output};
    nr_status st;
    NR_GO(cut_words(&task_words, &names, &opt.task_count, &storage, err));
    NR_GO(nr_alloc(&definitions, definition_folders.count + 1, sizeof *definitions, "folders", err));
    for (size_t i = 0; i < definition_folders.count; i++) definitions[opt.definition_count++] = definition_folders.items[i];
    if (own) definitions[opt.definition_count++] = own;
    opt.tasks = names;
    opt.definitions = definitions;
    st = list_tasks ? list_all(&opt, err) : score(&opt, err);
done:
    free(names);
    free(storage);
    free(definitions);
    free(own);
    return st;
}

static int check_tasks(const nr_list *words)
{
    if (words->count || old_files.count || new_files.count || gates_path)
        return nr_cli_usage(&nr_command_eval, "--tasks takes no files beside it: its own lie in --task-data FOLDER");
    if (shots_text && (!*shots_text || strlen(shots_text) > 3 || strspn(shots_text, "0123456789") != strlen(shots_text)))
        return nr_cli_usage(&nr_command_eval, "--shots: expected a whole number from 0 to 999, found \"%.80s\"", shots_text);
    return opened.model_path ? 0 : nr_cli_usage(&nr_command_eval, "-m MODEL is needed");
}

static int check_words(const nr_list *words)
{
    bool files = words->count || old_files.count || new_files.count;
    if (list_tasks) return 0;
    if (task_words.count) return check_tasks(words);
    if (data_folders.count || definition_folders.count || format || shots_text || limit || output)
        return nr_cli_usage(&nr_command_eval, "--task-data, --task-path, --format, --shots, --limit and --output need --tasks");
    if (!opened.model_path) return nr_cli_usage(&nr_command_eval, "-m MODEL is needed");
    if (!files && !gates_path) return nr_cli_usage(&nr_command_eval, "files to score are needed");
    if (gates_path && !opened.extension_paths.count) return nr_cli_usage(&nr_command_eval, "--token-gates needs -x EXT");
    if (!gates_path != !texts.count) return nr_cli_usage(&nr_command_eval, "--token-gates FILE and --text TEXT go together");
    return 0;
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    nr_settings s;
    nr_error err;
    int code = nr_cli_parse(&nr_command_eval, options, NR_COUNT(options), argc, argv, &words, NULL, NULL);
    if (code) return code < 0 ? 0 : code;
    if ((code = check_words(&words))) return code;
    nr_settings_default(&s);
    nr_status st = nr_settings_set(&s, "documents", documents, &err);
    if (st == NR_OK && !list_tasks) st = nr_opened_open(&opened, &err);
    if (st == NR_OK && (task_words.count || list_tasks)) st = run_tasks(&err);
    if (st == NR_OK && words.count + old_files.count + new_files.count) st = evaluate(&words, &s, &err);
    if (st == NR_OK && gates_path) st = write_gates(&err);
    if (st != NR_OK) code = nr_cli_fail(&err);
    nr_opened_close(&opened);
    return code;
}

const nr_command nr_command_eval = {
    .name = "eval",
    .summary = "score text files (bits per byte) or tasks (questions answered), before and after an extension",
    .usage = "nres eval -m MODEL [-x EXT] [FILE...] [--old FILE...] [--new FILE...] | --tasks NAME... [--task-data FOLDER...]",
    .examples = "nres eval -m SmolLM2-135M-Instruct.Q4_1.gguf pubmed.jsonl\n"
                "nres eval -m MODEL -x runs/french --old en.jsonl --new fr.jsonl --layers\n"
                "nres eval --list-tasks\n"
                "nres eval -m MODEL -x runs/french --tasks arc_challenge,arc_fr,hellaswag --task-data tasks --limit 100\n"
                "nres eval -m MODEL --tasks mmlu commonsense_qa:paper --format olmes --task-data tasks -o results",
    .run = run,
    .options = option_list,
};
