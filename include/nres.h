/*
 * nres.h - the whole public interface of libnres.
 *
 * nres teaches a frozen language model a new language or domain with gated
 * adapters ("neutral residues", arXiv 2410.02744) that stay near zero on what
 * the model already knows.
 *
 * Nouns
 *   nr_model      backbone: shapes, mapped weights, packed matrices; immutable,
 *                 may be shared by threads
 *   nr_tokenizer  text to ids and back; immutable
 *   nr_extension  one method's settings and trained weights on a backbone
 *   nr_trainer    model + extension + data + optimizer; one folder on disk
 *   nr_session    generation: a KV cache, one mutable timeline
 *   nr_cluster    the processes that train together
 *
 * Conventions
 *   - Every function that can fail returns nr_status and takes an nr_error that
 *     it fills with one line naming the file, the field, what was expected and
 *     what was found. The error pointer may be NULL.
 *   - Out parameters come first and are set to NULL (or left alone, for plain
 *     structs) on failure. What a *_open, *_load or *_new returns is freed by
 *     the matching *_close, which accepts NULL.
 *   - The library never exits, prints, reads the environment or keeps mutable
 *     globals.
 *   - Dimensions: B batch, T tokens, C width, H heads, K KV heads, D head size,
 *     F FFN width, M adapter width, R LoRA rank, V vocabulary, L layers.
 *     Sizes are size_t; matrices are (out, in), last index fastest.
 *   - Strings are UTF-8 and NUL-terminated unless a length stands beside them.
 */
#ifndef NRES_H
#define NRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NRES_VERSION "0.1.0"

/* ---- status and errors -------------------------------------------------- */

/* X(name, exit code of the program, text) */
#define NR_STATUS_LIST(X)                                                       \
    X(NR_OK, 0, "success")                                                      \
    X(NR_E_USAGE, 2, "a setting or argument is out of its range")               \
    X(NR_E_IO, 1, "a file can't be read or written")                            \
    X(NR_E_FORMAT, 1, "a file breaks its format")                               \
    X(NR_E_UNSUPPORTED, 1, "a file asks for something nres doesn't do")         \
    X(NR_E_MISMATCH, 1, "two things that must belong together don't")           \
    X(NR_E_MEMORY, 1, "not enough memory")                                      \
    X(NR_E_NOT_FINITE, 3, "the loss is not finite")                             \
    X(NR_E_INTERRUPTED, 130, "interrupted; the state is saved")

typedef enum {
#define NR_X(name, code, text) name,
    NR_STATUS_LIST(NR_X)
#undef NR_X
} nr_status;

typedef struct {
    nr_status status;
    char message[1024]; /* one line, no newline */
} nr_error;

const char *nr_status_text(nr_status s);
int nr_status_exit_code(nr_status s);
const char *nr_version(void);
/* One line on the machine and what the library was built with: instruction set
 * in use, matrix library and version. Static string per
 * process is not kept: written into buf, always NUL-terminated. */
void nr_build_info(char *buf, size_t size);
/* The optional libraries it was built with or without, the same way. */
void nr_build_options(char *buf, size_t size);

/* ---- progress and interruption ------------------------------------------ */

/* A caller's ears and brake. Every field may be NULL/0. `log` gets whole lines
 * for people; `event` gets one JSON object a line for programs; `stop` is
 * polled at safe points: when it returns true the work saves its state and
 * returns NR_E_INTERRUPTED. */
typedef struct {
    void *user;
    void (*log)(void *user, const char *line);
    void (*event)(void *user, const char *json);
    void (*progress)(void *user, const char *what, double done, double total,
                     double rate, const char *unit);
    bool (*stop)(void *user);
} nr_listener;

/* ---- settings ------------------------------------------------------------ */

/*
 * Every setting of a training run, once. From this list come the struct, the
 * flags, the help, the man page, the completion, config.json and the range
 * checks.
 *
 * X(group, type, name, default, lo, hi, choices, argument, help)
 *   type: U size_t, F double, B bool, E enum (index into choices), S string
 *   The flag is --name with '-' for '_'; a bool is --name / --no-name.
 *   group "method" settings are stored with the extension too.
 */
#define NR_SETTINGS(X)                                                                                                                                              \
    X(train, U, steps, 500, 1, 1e12, "", "N", "optimizer steps")                                                                                                    \
    X(train, U, batch_size, 8, 1, 1e6, "", "B", "rows of a step")                                                                                                   \
    X(train, U, micro_batch_size, 0, 0, 1e6, "", "B", "rows of one pass through the model; 0: the largest that divides the batch and keeps a pass at 512 tokens")  \
    X(train, U, context, 256, 2, 1e7, "", "T", "tokens of a row")                                                                                                   \
    X(train, F, learning_rate, 0, 0, 10, "", "X", "peak learning rate; 0: the method's own default")                                                                \
    X(train, E, lr_scheduler, 0, 0, 1, "cosine|constant", "S", "schedule after the warm-up")                                                                        \
    X(train, F, min_lr_ratio, 0.1, 0, 1, "", "X", "cosine ends at this share of the peak")                                                                          \
    X(train, U, warmup_steps, 10, 0, 1e9, "", "N", "steps of linear warm-up")                                                                                       \
    X(train, F, adam_beta1, 0.9, 0, 0.999999, "", "X", "AdamW beta 1")                                                                                              \
    X(train, F, adam_beta2, 0.95, 0, 0.999999, "", "X", "AdamW beta 2")                                                                                             \
    X(train, F, adam_epsilon, 1e-8, 1e-30, 1, "", "X", "AdamW epsilon")                                                                                             \
    X(train, F, weight_decay, 0, 0, 10, "", "X", "decoupled weight decay, on matrices")                                                                             \
    X(train, F, max_grad_norm, 1.0, 0, 1e9, "", "X", "clip the gradient's norm; 0: never")                                                                          \
    X(train, U, seed, 1, 0, 9007199254740992.0, "", "S", "seed of everything random")                                                                               \
    X(train, U, eval_steps, 50, 0, 1e12, "", "N", "validate every N steps; 0: only at the end")                                                                     \
    X(train, U, eval_tokens, 16384, 1, 1e12, "", "N", "validation tokens of each domain")                                                                           \
    X(train, U, save_every, 50, 1, 1e12, "", "N", "save the state every N steps")                                                                                   \
    X(train, U, logging_steps, 1, 1, 1e9, "", "N", "write metrics every N steps")                                                                                   \
    X(data, F, old_share, 0.1, 0, 1, "", "P", "share of old-domain rows")                                                                                           \
    X(data, E, draw, 0, 0, 1, "stratified|bernoulli", "D", "how a step's old and new rows are counted out")                                                         \
    X(data, B, document_mask, 0, 0, 1, "", "", "keep attention inside a document")                                                                                  \
    X(data, S, text_field, "text", 0, 0, "", "NAME", "field of a JSONL row that holds the text")                                                                    \
    X(data, E, documents, 0, 0, 2, "auto|line|file", "D", "a document of a plain text file: auto: separated by blank lines, line: a line, file: the file")          \
    X(data, F, validation_share, 0.02, 0, 0.5, "", "P", "share of the documents kept for validation where no validation files are given")                           \
    X(system, U, threads, 0, 0, 4096, "", "N", "threads; 0: as many as cores")                                                                                      \
    X(system, E, compute, 0, 0, 2, "auto|fp32|bf16", "TYPE", "type of matrix products; auto: bf16 where the machine has it")                                        \
    X(system, E, gradient_exchange, 0, 0, 1, "fp32|bf16", "TYPE", "type in which gradients travel between processes")                                               \
    X(system, E, frozen_products, 0, 0, 2, "compute|int8-forward|int8", "P", "type of the products with frozen layers in training: as --compute, or int8")             \
    X(system, E, recompute, 0, 0, 1, "none|layer", "R", "what the backward pass computes again instead of keeping")                                                 \
    X(system, E, frozen, 0, 0, 1, "packed|quantised", "F", "the backbone's matrices: packed for products once, or kept in the file's quantised blocks")              \
    X(method, S, method, "neutral", 0, 0, "", "NAME", "extension method; nres methods lists them")                                                                  \
    X(method, F, extra, 20, 0.01, 1000, "", "PERCENT", "extra weights, per cent of all backbone weights")                                                           \
    X(method, U, width, 0, 0, 1e6, "", "M", "adapter width (LoRA: rank; llama-pro: blocks; attention: heads; prefix: positions); overrides --extra")                \
    X(method, S, layers, "all", 0, 0, "", "LIST", "extended layers: all, or a list such as 0-9,20,29")                                                              \
    X(method, E, gate, 0, 0, 3, "elu|relu|sigmoid|none", "G", "gate of the adapter")                                                                                \
    X(method, B, gate_bias, 0, 0, 1, "", "", "give the gate a bias")                                                                                                \
    X(method, E, init, 1, 0, 1, "low|he", "I", "initial variance of W_in and W_gate: low s/(C L), he 2/C")                                                                \
    X(method, F, init_scale, 1, 0, 1e6, "", "S", "s of the low init; prefix: the variance itself")                                                                  \
    X(method, E, placement, 0, 0, 1, "parallel|serial", "P", "neutral, adapter: beside the FFN, reading its input, or after it, reading its output")               \
    X(method, E, gate_init, 0, 0, 2, "low|he|zero", "I", "initial variance of the gate's w")                                                                        \
    X(method, B, l1, 1, 0, 1, "", "", "local loss: l1 of the adapter's output on old rows")                                                                         \
    X(method, F, alpha, 1, 0, 1e9, "", "X", "weight of the l1 loss")                                                                                                \
    X(method, E, l1_target, 0, 0, 1, "ga|a", "T", "what l1 measures: the gated output g a, or a")                                                                   \
    X(method, E, l1_reduction, 0, 0, 1, "mean|sum", "R", "l1 over channels")                                                                                        \
    X(method, B, ce, 0, 0, 1, "", "", "local loss: cross-entropy of a sigmoid gate against the domain")                                                             \
    X(method, F, beta, 1, 0, 1e9, "", "X", "weight of the cross-entropy loss")                                                                                      \
    X(method, B, lm_to_gate, 1, 0, 1, "", "", "let the language-model gradient reach the gate's w")                                                                 \
    X(method, F, lora_scale, 0, 0, 1e6, "", "S", "LoRA s in W + (s/R) B A; 0: 2 R")                                                                                 \
    X(method, S, lora_targets, "gate,up,down", 0, 0, "", "LIST", "matrices of LoRA and loramoe: q,k,v,o,gate,up,down")                                               \
    X(method, U, experts, 0, 0, 64, "", "E", "experts of a mixture; 0: loramoe 8, moe-ct 4")                                                                        \
    X(method, F, balance, 0.1, 0, 1e6, "", "X", "loramoe: weight of the localized balance loss; 0: none")                                                           \
    X(method, F, balance_delta, 0.1, 0, 1, "", "X", "loramoe: how much more an expert of the text's own half may be used")                                         \
    X(method, E, fusion, 0, 0, 1, "constant|sigmoid", "F", "moe-ct: g of (1-g) FFN + g mixture: a constant, or sigmoid(w.x)")                                       \
    X(method, F, fusion_share, 0.5, 0, 1, "", "G", "moe-ct: the constant g")                                                                                        \
    X(method, S, train_weights, "all", 0, 0, "", "LIST", "finetune, ewc, lwf: the weights that train: all, or patterns such as layers.*.mlp.*,norm")                    \
    X(method, F, ewc_lambda, 1e4, 0, 1e12, "", "X", "ewc: weight of the loss that holds weights by their Fisher information")                                           \
    X(method, U, ewc_sequences, 64, 1, 1e9, "", "N", "ewc: old rows from which the Fisher information is found")                                                        \
    X(method, F, lwf_alpha, 0, 0, 1e9, "", "X", "weight of the distillation from the backbone, with any method; 0: none (lwf: 1)")                                      \
    X(method, F, lwf_temperature, 2, 0.01, 1000, "", "T", "temperature of the distillation")                                                                            \
    X(method, E, lwf_rows, 0, 0, 2, "new|old|all", "ROWS", "rows on which the distillation acts")

#define NR_SETTING_TYPE_U size_t
#define NR_SETTING_TYPE_F double
#define NR_SETTING_TYPE_B bool
#define NR_SETTING_TYPE_E int
#define NR_SETTING_TYPE_S nr_text

typedef struct {
    char s[256];
} nr_text;

typedef struct {
#define NR_X(group, type, name, def, lo, hi, choices, arg, help) NR_SETTING_TYPE_##type name;
    NR_SETTINGS(NR_X)
#undef NR_X
} nr_settings;

/* Sets every field to its default. */
void nr_settings_default(nr_settings *s);
/* Sets one field from text, checking type and range. `name` as in the list
 * ('-' and '_' are the same). NR_E_USAGE names the flag, the range and the
 * value found. */
nr_status nr_settings_set(nr_settings *s, const char *name, const char *value, nr_error *err);
/* Checks what single ranges can't (warm-up within steps, ce needs sigmoid...). */
nr_status nr_settings_check(const nr_settings *s, nr_error *err);

/* ---- models -------------------------------------------------------------- */

typedef struct nr_model nr_model;

/* NR_COMPUTE_AUTO: bf16 where the machine has BF16 instructions, else fp32. */
typedef enum { NR_COMPUTE_AUTO, NR_COMPUTE_FP32, NR_COMPUTE_BF16 } nr_compute;

/* What the matrices are packed for. NR_USE_SHAPES maps the file and reads its
 * shapes without packing anything: enough for inspect, plans and tokenizers.
 * NR_USE_WEIGHTS packs nothing either, but extensions on it have their weights:
 * enough to write them. */
typedef enum { NR_USE_SHAPES, NR_USE_WEIGHTS, NR_USE_FORWARD, NR_USE_TRAIN } nr_use;

/* INT8: products with the layers' frozen matrices in int8, with a scale for each
 * row of the input and each output; INT8_FORWARD: only those of the forward
 * pass. NR_E_UNSUPPORTED where the machine has no instructions for them. */
typedef enum { NR_PRODUCTS_COMPUTE, NR_PRODUCTS_INT8_FORWARD, NR_PRODUCTS_INT8 } nr_products;

/* How matrices that lie quantised in the file (Q4_0, Q4_1, Q8_0, Q4_K, Q5_K,
 * Q6_K) are kept; others are always packed. PACKED: expanded once. QUANTISED:
 * the file's own bits, in less memory. Products are then made of integers, with
 * their inputs rounded to int8, which is the fastest way to run a model; in
 * training, which never rounds inputs, a matrix is expanded for each product (the
 * bits of PACKED). AUTO: quantised for NR_USE_FORWARD, else packed. */
typedef enum { NR_FROZEN_AUTO, NR_FROZEN_PACKED, NR_FROZEN_QUANTISED } nr_frozen;

typedef struct {
    nr_compute compute;
    nr_use use;
    size_t threads;         /* 0: as many as cores */
    const char *hub_folder; /* where ORG/NAME is looked up; NULL: not at all */
    nr_frozen frozen;
    nr_products products;   /* with frozen layers; the head's stay in the compute type */
} nr_model_options;

/* Opens a GGUF file, a Hugging Face folder, or ORG/NAME in the Hugging Face
 * cache. Files are mapped read-only and never written. */
nr_status nr_model_open(nr_model **out, const char *path, const nr_model_options *opt, nr_error *err);
void nr_model_close(nr_model *m);

typedef struct {
    char architecture[64], name[256];
    size_t layers, width, ffn_width, heads, kv_heads, head_size, vocabulary, context;
    size_t weights, embedding_weights; /* counts; tied head counted once */
    bool tied;
} nr_model_info;
void nr_model_get_info(const nr_model *m, nr_model_info *info);
/* Everything `nres inspect --json` prints; malloc'ed, the caller frees. */
char *nr_model_describe(const nr_model *m, bool with_tensors);
/* SHA-256 over tensor names, types, shapes and bytes, in hex (65 bytes). Takes
 * a pass over the file the first time; then it is kept. Any thread may ask. */
nr_status nr_model_fingerprint(const nr_model *m, char hex[65], nr_error *err);

/* Writes a small random backbone with the shape in config_json (a Hugging Face
 * config.json) and the tokenizer in tokenizer_json as a Hugging Face folder.
 * The folder must not exist. */
nr_status nr_model_init(const char *config_json, const char *tokenizer_json, const char *folder,
                        uint64_t seed, nr_error *err);

/* ---- tokenizers ---------------------------------------------------------- */

typedef struct nr_tokenizer nr_tokenizer;

/* Reads tokenizer.json of a folder, the tokenizer inside a GGUF file, or a
 * tokenizer.json itself. Byte-level BPE; what else a file asks for is refused
 * by name. */
nr_status nr_tokenizer_open(nr_tokenizer **out, const char *path, const char *hub_folder, nr_error *err);
void nr_tokenizer_close(nr_tokenizer *t);
size_t nr_tokenizer_size(const nr_tokenizer *t);
int32_t nr_tokenizer_bos(const nr_tokenizer *t); /* -1: none */
int32_t nr_tokenizer_eos(const nr_tokenizer *t); /* -1: none */
#define NR_IDS_ROOM(n) (3 * (n) + 1)
/* Encodes n bytes of any kind into ids and returns through *count how many
 * there are. cap 0 measures; else fewer than *count is NR_E_MISMATCH, so that
 * nothing unwritten is read as an id. NR_IDS_ROOM(n) always fits (a normalizer
 * such as NFC may make the text longer). No BOS is added.
 * parse_special: special-token strings become their ids (chat templates);
 * otherwise they are plain text. */
nr_status nr_tokenizer_encode(const nr_tokenizer *t, const char *text, size_t n, bool parse_special,
                              int32_t *ids, size_t cap, size_t *count, nr_error *err);
/* The bytes of ids: writes at most cap of them, without a NUL, and returns
 * through *count how many there are (call with cap 0 to measure).
 * NR_E_FORMAT names an id out of range. */
nr_status nr_tokenizer_decode(const nr_tokenizer *t, const int32_t *ids, size_t n, bool with_special,
                              char *text, size_t cap, size_t *count, nr_error *err);

/* ---- extensions ---------------------------------------------------------- */

typedef struct nr_extension nr_extension;

/* A fresh extension: an exact identity on the backbone, unless the method's definition is none (prefix, moe-ct). */
nr_status nr_extension_new(nr_extension **out, const nr_model *m, const nr_settings *s, nr_error *err);
/* Loads RUN, RUN/best or an extension folder. Refuses another backbone than
 * the one it was trained on, unless allow_other (equal shapes then). A folder
 * of PEFT's LoRA is loaded too; it doesn't say which weights it was trained on. */
nr_status nr_extension_load(nr_extension **out, const nr_model *m, const char *folder,
                            bool allow_other, nr_error *err);
nr_status nr_extension_save(const nr_extension *e, const char *folder, nr_error *err);
/* As PEFT keeps it: adapter_config.json, adapter_model.safetensors. Method lora only. */
nr_status nr_extension_save_peft(const nr_extension *e, const char *folder, nr_error *err);
/* The model, with e where it isn't NULL and with what that stands on, as a Hugging Face folder that transformers loads:
 * config.json, model.safetensors (or shards and their index), and the tokenizer's files, copied or made of a GGUF file's
 * metadata. The folder must not exist; it appears whole or not at all. Extensions that aren't layers and weights of the
 * backbone's own architecture are refused. An NR_USE_WEIGHTS model is enough. */
typedef enum { NR_EXPORT_FP32, NR_EXPORT_BF16, NR_EXPORT_FP16 } nr_export_type;
typedef struct {
    nr_export_type type;
    size_t shard_bytes; /* of the weights in a file at most, but for a tensor that is larger; 0: 5 GB */
} nr_export_options;
nr_status nr_model_export(const nr_model *m, nr_extension *e, const char *folder, const nr_export_options *opt,
                          const nr_listener *l, nr_error *err);
void nr_extension_close(nr_extension *e);
size_t nr_extension_weights(const nr_extension *e);
/* On (the default) or off; off is the backbone bit for bit. */
void nr_extension_switch(nr_extension *e, bool on);
/* Several at once: wherever e runs (scoring, generation, and training, where the
 * other is frozen), `below` runs with it, and what that one stands on. It stays
 * the caller's and must outlive e. NULL: e runs alone, as it did before. Each
 * has its own switch. */
nr_status nr_extension_stand_on(nr_extension *e, nr_extension *below, nr_error *err);
/* What e stands on, or NULL. */
nr_extension *nr_extension_below(const nr_extension *e);
/* Loads extensions that run together, each standing on the one before it; *top is the last, or NULL without any. */
nr_status nr_extension_load_stack(nr_extension **top, const nr_model *m, const char *const *folders, size_t count,
                                  bool allow_other, nr_error *err);
/* Closes it and all it stands on. */
void nr_extension_close_stack(nr_extension *top);
/* Method, settings, weights and share as JSON; malloc'ed, the caller frees. */
char *nr_extension_describe(const nr_extension *e);
/* Only to run it: rows whose gate is within the threshold of 0 leave out their
 * adapter. 0, the default, leaves out what would add nothing. Each row and layer
 * left out differs by g a with |g| <= threshold. NR_E_USAGE for a method
 * without gates. */
nr_status nr_extension_set_gate_threshold(nr_extension *e, double threshold, nr_error *err);
/* Only to run it: its matrices as Q8_0 blocks, made of the weights in memory,
 * which then go; products as NR_FROZEN_QUANTISED says. It can't be
 * trained or saved any more. */
nr_status nr_extension_quantise(nr_extension *e, nr_error *err);

/* ---- several processes --------------------------------------------------- */

/* The processes (ranks) of one training run, on one machine or several, as a
 * launcher such as mpirun started them. NULL stands for one process alone. */
typedef struct nr_cluster nr_cluster;

/* Joins the others. plugin: path of libnres_mpi.so, which may be loaded once a
 * process. Every rank then makes the same calls of nr_trainer_*. */
nr_status nr_cluster_open(nr_cluster **out, const char *plugin, nr_error *err);
size_t nr_cluster_rank(const nr_cluster *c); /* from 0 */
size_t nr_cluster_size(const nr_cluster *c);
/* After a failed call: whether every rank returned this same error, so that
 * one of them may report it and all close; else nr_cluster_give_up ends those
 * that wait for this rank. */
bool nr_cluster_agreed(const nr_cluster *c);
/* Leaves, once all do. */
void nr_cluster_close(nr_cluster *c);
/* Ends every process of the cluster at once, this one too where there are
 * others; the exit code is what the launcher returns. */
void nr_cluster_give_up(nr_cluster *c, int code);

/* ---- training ------------------------------------------------------------ */

typedef struct nr_trainer nr_trainer;

typedef struct {
    const char *const *paths; /* text or JSONL, plain, .gz or .zst */
    size_t count;
} nr_files;

typedef struct {
    const char *model;        /* as nr_model_open takes it */
    const char *run;          /* folder; made */
    const char *cache_folder; /* token shards */
    const char *hub_folder;   /* may be NULL */
    nr_files train[2];        /* [0] old, [1] new */
    nr_files validation[2];   /* may be empty: split off the training files */
    const char *command;      /* stored in config.json; may be NULL */
    bool overwrite;           /* an existing run may be replaced */
    nr_files stands_on;       /* folders of extensions that the new one stands on, the lowest first; they stay frozen */
    nr_cluster *cluster;      /* who trains together, each with the same nr_run; NULL: this process alone */
} nr_run;

/* What a run will take, before any of it is taken. Bytes and seconds. */
typedef struct {
    size_t trained, allowed, backbone; /* counts of weights; allowed: what --extra asks for, which not every method can keep to */
    size_t weights_bytes, activation_bytes, extension_bytes, optimizer_bytes, total_bytes;
    size_t exchange_bytes; /* with other processes; within total_bytes */
    size_t disk_bytes;
    double seconds; /* estimate from a short matrix product; 0: unknown */
} nr_plan;

/* Plan only: opens the model's shapes, allocates nothing large. */
nr_status nr_trainer_plan(nr_plan *plan, const nr_run *run, const nr_settings *s, nr_error *err);
/* The plan as an aligned table, a line a figure; malloc'ed, the caller frees. NULL: out of memory. */
char *nr_plan_describe(const nr_plan *plan);
nr_status nr_trainer_new(nr_trainer **out, const nr_run *run, const nr_settings *s,
                         const nr_listener *l, nr_error *err);
/* Goes on from RUN/state; settings and files come from RUN/config.json. */
nr_status nr_trainer_resume(nr_trainer **out, const char *run_folder, const nr_listener *l, nr_error *err);
/* The same for every rank of a cluster; only rank 0 needs to see the folder. How
 * many there were before doesn't matter. */
nr_status nr_trainer_resume_on(nr_trainer **out, const char *run_folder, nr_cluster *c, const nr_listener *l, nr_error *err);
/* Trains to the last step, validating and saving on the way. */
nr_status nr_trainer_run(nr_trainer *t, nr_error *err);
void nr_trainer_close(nr_trainer *t);

/* ---- evaluation ---------------------------------------------------------- */

typedef struct {
    const char *text_field;
    int documents;         /* as the setting: 0 auto, 1 line, 2 file */
    size_t context;        /* 0: min(model's, 2048) */
    size_t stride;         /* 0: rolling windows that score every token once */
    size_t max_documents;  /* 0: all */
    size_t batch_tokens;   /* tokens of a pass; 0: 2048 */
    const int *domains;    /* of each file: 0 old, 1 new, -1 none; NULL: none. With both, the gates' AUC is added */
} nr_eval_options;

/* Scores files with the backbone and, where e is not NULL, with the extension.
 * *json (malloc'ed, the caller frees) is what `nres eval --json` prints. */
nr_status nr_evaluate(char **json, const nr_model *m, const nr_tokenizer *t, nr_extension *e,
                      const nr_files *files, const nr_eval_options *opt,
                      const nr_listener *l, nr_error *err);
/* Gates of every token of a few texts, by layer, with the text that each token
 * stands for: {"texts": [{"tokens": [{"text", "mean", "gates": [L]}]}]}. */
nr_status nr_token_gates(char **json, const nr_model *m, const nr_tokenizer *t, nr_extension *e,
                         const char *const *texts, size_t count, nr_error *err);

/* ---- task scores --------------------------------------------------------- */

typedef struct {
    const char *const *tasks;       /* "arc_challenge", or with its format "mmlu:paper" */
    size_t task_count;
    const char *const *definitions; /* folders of definitions (docs/TASKS.md); the first that has a task counts */
    size_t definition_count;
    const char *const *data;        /* folders of the tasks' files */
    size_t data_count;
    const char *format;             /* of tasks named without one; NULL: "harness"; "olmes": both of its formulations */
    const size_t *shots;            /* examples before a question; NULL: as the format says */
    size_t limit;                   /* the first so many questions of a task, or of each of its groups; 0: all */
    size_t context;                 /* 0: the model's; longer prompts lose their beginning */
    size_t batch_tokens;            /* tokens of a pass; 0: 1024 */
    const char *output;             /* folder that gets MODEL/results_*.json and MODEL/samples_*.jsonl; NULL: none */
    bool separate;                  /* compute what requests share once for each of them: to check the sharing */
    bool extended_only;             /* leave out the backbone where there is an extension */
} nr_task_options;

/* Scores multiple-choice tasks with the backbone and, where e is not NULL, with the extension: every choice's
 * log-likelihood as the continuation of its question. *json (malloc'ed, the caller frees) is what `nres eval --tasks
 * --json` prints: a list "tasks" of objects with "task", "format", "shots", "items", "chance" (what guessing gets),
 * "primary" (a metric's name), and for "backbone", "extended" and their paired "difference" every metric with its standard error NAME_stderr. */
nr_status nr_score_tasks(char **json, const nr_model *m, const nr_tokenizer *t, nr_extension *e, const nr_task_options *opt,
                         const nr_listener *l, nr_error *err);
/* What the folders define: [{"task", "about", "formats", "files", "splits", "definition"}]. */
nr_status nr_list_tasks(char **json, const char *const *definitions, size_t count, nr_error *err);

/* ---- generation ---------------------------------------------------------- */

typedef struct nr_session nr_session;

typedef struct {
    double temperature;        /* 0: greedy */
    size_t top_k;              /* 0: off */
    double top_p, min_p;       /* 1, 0: off */
    double repetition_penalty; /* 1: off */
    size_t repetition_window;  /* tokens looked back at; 0: all */
    uint64_t seed;
} nr_sampling;

/* context: tokens of the KV cache; 0: min(model's, 2048). e may be NULL. */
nr_status nr_session_new(nr_session **out, const nr_model *m, nr_extension *e, size_t context, nr_error *err);
void nr_session_close(nr_session *s);
/* Appends ids to the timeline; the logits of the last one are ready after. */
nr_status nr_session_eval(nr_session *s, const int32_t *ids, size_t n, nr_error *err);
/* (V) floats of the last evaluated token, NULL before it and after a rewind; owned by the session. */
const float *nr_session_logits(const nr_session *s);
/* Draws the next token from the logits, -1 where there are none (before the
 * first evaluation, after a rewind); does not append it. */
int32_t nr_session_sample(nr_session *s, const nr_sampling *how);
size_t nr_session_position(const nr_session *s);
/* Forgets all but the first n tokens. */
void nr_session_rewind(nr_session *s, size_t n);
/* Formats one user message with the model's chat template; malloc'ed. Unknown
 * templates are refused by name. system may be NULL. */
nr_status nr_chat_format(char **out, const nr_model *m, const char *system, const char *user, nr_error *err);

/* ---- speed ---------------------------------------------------------------- */

enum { NR_BENCH_MACHINE = 1, NR_BENCH_TRAIN = 2, NR_BENCH_FORWARD = 4, NR_BENCH_PROMPT = 8, NR_BENCH_GENERATE = 16 };

typedef struct {
    unsigned tests;         /* NR_BENCH_*; with MACHINE the others measure their bound's rate beside every repetition */
    size_t repetitions;     /* timed ones; two more run before them */
    size_t prompt, generate; /* tokens */
    bool packed;            /* prompts and generation from packed matrices even where the file is quantised */
    bool profile;           /* add the seconds, rates and share of every operation */
    const char *hub_folder; /* may be NULL */
} nr_bench_options;

/* Measures training steps, forward passes, prompts and generation of a fresh
 * extension with settings s on random ids. *json (malloc'ed, the caller frees)
 * is what `nres bench --json` prints. */
nr_status nr_bench(char **json, const char *model, const nr_settings *s, const nr_bench_options *opt,
                   const nr_listener *l, nr_error *err);

/* ---- comparisons ----------------------------------------------------------- */

/* A recipe is a YAML file (docs/COMPARE.md): a model, texts of both domains,
 * settings, and rows whose lists of values make a grid of runs. */
typedef struct {
    const char *recipe;           /* path */
    const char *output;           /* folder; made. What is done there already isn't done again */
    const char *const *variables; /* NAME=VALUE, for $NAME in the recipe */
    size_t variable_count;
    const char *const *reuse;     /* folders of other comparisons, or of records: a run that is done there, with the same
                                   * settings, texts, measuring and backbone, is taken over */
    size_t reuse_count;
    const char *only;             /* the name of the one run to make; NULL: all, and the table */
    bool so_far;                  /* makes no run: the table of those that are done */
    const char *program;          /* nres: every run becomes a process of it; NULL: all in this process */
    const char *draw;             /* rsvg-convert, which makes PNG files of the drawings; NULL: SVG alone */
    size_t jobs, threads;         /* processes at a time; threads of each. 0: 1; the cores shared out */
    const char *cache_folder, *hub_folder;
    const char *task_folder;      /* definitions of tasks that come with nres; NULL: none */
} nr_compare_options;

/* The runs with the memory and the time that each will take, as JSON
 * (malloc'ed): {"runs": [{"name", "memory_bytes", "seconds", "done", "error"}], "scoring_tokens": what a run's scoring
 * takes, in tokens of training}. */
nr_status nr_compare_plan(char **json, const nr_compare_options *opt, nr_error *err);
/* Makes the runs that aren't done and writes table.md, table.csv, table.json,
 * report.html and drawings. *text (malloc'ed) is the table, in 80 columns; it is
 * there too where runs failed, which is the error of the first. A run that fails
 * doesn't stop the others. Interrupted or killed, the same call goes on. */
nr_status nr_compare(char **text, const nr_compare_options *opt, const nr_listener *l, nr_error *err);
/* Chooses among the values of each row by successive halving on validation text:
 * `rounds` of them, each keeping one in `keep` and training `keep` times longer
 * than the one before, the last for all steps. Writes output/choice.yaml; *text
 * (malloc'ed) says how it came to that. Interrupted or killed, the same call
 * goes on. */
nr_status nr_tune(char **text, const nr_compare_options *opt, size_t keep, size_t rounds, const nr_listener *l, nr_error *err);

#ifdef __cplusplus
}
#endif
#endif
