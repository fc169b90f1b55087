/*
 * cli.h - the program's skin: a table of commands, each a table of options.
 * From these tables come the help, the man page and the shell completion.
 * Everything a command does is a call of nres.h.
 */
#ifndef NR_CLI_H
#define NR_CLI_H

#include "base/base.h"

typedef struct {
    const char **items;
    size_t count;
} nr_list;

/* kind: 'b' bool (--name / --no-name), 's' const char *, 'u' size_t, 'f' double,
 * 'l' nr_list: takes every following word up to the next flag, may be repeated; 'r' nr_list: a word each time. */
typedef struct {
    const char *name; /* without "--" */
    char letter;      /* short flag or 0 */
    char kind;
    const char *argument, *help;
    void *out;
    double lo, hi;    /* u and f; lo == hi: any */
} nr_option;

typedef struct {
    const char *name, *summary;
    const char *usage;    /* "nres eval -m MODEL [-x EXT] FILE..." */
    const char *examples; /* whole lines */
    /* Fills `options` (of static storage) and, for training commands, asks for the settings' flags too. */
    int (*run)(int argc, char **argv);
    const nr_option *(*options)(size_t *count);
    bool takes_settings;
} nr_command;
extern const nr_command *const nr_commands[];
extern const size_t nr_command_count;
/* Commands that the others' texts refer to or that need themselves to parse. */
extern const nr_command nr_command_methods, nr_command_completion, nr_command_man, nr_command_version;

/* Parses argv[1..]. Words that aren't flags go to `words`. settings may be NULL; else the flags of NR_SETTINGS
 * are taken too, with the aliases -c --context, -t --threads, -s --seed, --lr --learning_rate.
 * Returns 0 to go on; -1 after --help was printed (exit 0); 2 after a usage error was printed. */
int nr_cli_parse(const nr_command *c, const nr_option *options, size_t count, int argc, char **argv,
                 nr_list *words, nr_settings *settings, bool settings_given[]);

/* The lists that nr_cli_parse fills stay valid until main calls this at the end. */
void nr_cli_release(void);

/* Prints "nres: message" to stderr and returns the exit code of err. */
int nr_cli_fail(const nr_error *err);
/* A usage error of a command: prints it and where help is; returns 2. */
int nr_cli_usage(const nr_command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Live line on a terminal, a plain line per interval elsewhere, all on stderr; SIGINT and SIGTERM ask to stop
 * (twice: at once). quiet: neither lines nor progress, signals as before. */
const nr_listener *nr_cli_listener(bool quiet);
/* A signal is heeded without a word from now on: one of several processes is enough to say it. */
void nr_cli_stop_quietly(void);
/* Takes the live line off the terminal; call it before printing to stdout. */
void nr_cli_live_end(void);
/* Words that stand behind the rate in the live line from now on: a loss, say. */
void nr_cli_note(const char *text);
/* $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub; $XDG_CACHE_HOME/nres or ~/.cache/nres. */
const char *nr_cli_hub_folder(void);
const char *nr_cli_cache_folder(void);
/* The first program of this name in $PATH, or NULL. */
const char *nr_cli_find_program(const char *name, char buf[4096]);
/* The first of the places, each seen from the program's own folder, that is there; malloc'ed, NULL: none. */
char *nr_cli_beside(const char *const *places, size_t count, bool (*there)(const char *path));
/* Definitions of the tasks that come with nres; malloc'ed, NULL: none. */
char *nr_cli_task_folder(void);
/* Whether a launcher (mpirun, srun, mpiexec) started this process as one of several, and as which. */
size_t nr_cli_launched_size(void);
size_t nr_cli_launched_rank(void);
/* Starts the program again with short waits between parallel regions, unless the environment says how to wait. */
void nr_cli_wait_briefly(char **argv);
/* "1.2 GiB", "3 min 12 s" into buf. */
const char *nr_cli_bytes(char buf[32], double bytes);
const char *nr_cli_seconds(char buf[32], double seconds);


/* ---- flags.c: options and settings of a command as one list ---- */

typedef struct {
    char name[64];          /* as typed, without "--" */
    const char *alias;      /* a second long name, or NULL */
    char letter;            /* 0: none */
    char kind;              /* as nr_option, and 'e': one of `choices`, 'h': help */
    bool negatable;         /* a bool that is worth saying --no-name to */
    const char *argument, *help, *choices, *group; /* group NULL: an option of the command */
    char default_text[256]; /* settings only, else "" */
} nr_flag;
/* Flag number i, false behind the last. */
bool nr_flag_at(const nr_command *c, size_t i, nr_flag *f);
/* What nr_flag_at calls the groups of settings. */
const char *nr_group_title(const char *group);
const nr_command *nr_command_find(const char *name);
/* The nearest of the names offered; NULL when none is near. Start with {.wanted = word}. */
typedef struct {
    const char *wanted, *best;
    size_t distance;
} nr_nearest;
void nr_nearest_offer(nr_nearest *n, const char *name);
const char *nr_nearest_found(const nr_nearest *n);

/* help.c */
/* Prints words, going on at `indent` where the line would pass 80 columns; `column` is where the first one starts. Ends the
 * line. */
void nr_cli_wrap(FILE *out, const char *text, size_t column, size_t indent);
void nr_help_program(FILE *out);
void nr_help_command(FILE *out, const nr_command *c);

#endif
