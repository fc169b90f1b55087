/*
 * main.c - the program: a table of commands and one line per error.
 *
 * What is printed on stdout is the result; if it can't be written (disk full,
 * pipe closed) that is a failure like any other. Everything said on the way
 * goes to stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* In the order of the help. */
#define COMMANDS(X) \
    X(inspect)      \
    X(tokenize)     \
    X(extend)       \
    X(resume)       \
    X(eval)         \
    X(generate)     \
    X(export)       \
    X(bench)        \
    X(init)         \
    X(data)         \
    X(report)       \
    X(methods)      \
    X(completion)   \
    X(man)          \
    X(version)

#define NR_X(name) extern const nr_command nr_command_##name;
COMMANDS(NR_X)
#undef NR_X

const nr_command *const nr_commands[] = {
#define NR_X(name) &nr_command_##name,
    COMMANDS(NR_X)
#undef NR_X
};
const size_t nr_command_count = NR_COUNT(nr_commands);

int nr_cli_fail(const nr_error *err)
{
    nr_cli_live_end();
    fprintf(stderr, "nres: %s\n", err->message);
    return nr_status_exit_code(err->status);
}

/* A closed standard stream would give its number to the next file opened, and
 * what is printed would land in that file. Such a stream is opened on the null
 * device, stdout the wrong way round so that writing to it fails. */
static void guard_standard_streams(void)
{
    static const int modes[] = {O_RDONLY, O_RDONLY, O_RDWR};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", modes[fd]) != fd) _exit(1);
}

static int unknown_command(const char *word)
{
    nr_nearest n = {.wanted = word};
    nr_error err;
    for (size_t i = 0; i < nr_command_count; i++) nr_nearest_offer(&n, nr_commands[i]->name);
    const char *near = nr_nearest_found(&n);
    if (near)
        nr_fail(&err, NR_E_USAGE, "unknown command \"%.200s\"; did you mean \"%s\"? (see nres --help)", word, near);
    else
        nr_fail(&err, NR_E_USAGE, "unknown command \"%.200s\" (see nres --help)", word);
    return nr_cli_fail(&err);
}

static int run_command(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "--help";
    bool help = strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
    if (help && argc > 2) {
        const nr_command *c = nr_command_find(argv[2]);
        if (!c) return unknown_command(argv[2]);
        nr_help_command(stdout, c);
        return 0;
    }
    if (help) {
        nr_help_program(stdout);
        return 0;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("nres %s\n", nr_version());
        return 0;
    }
    const nr_command *c = nr_command_find(word);
    return c ? c->run(argc - 1, argv + 1) : unknown_command(word);
}

int main(int argc, char **argv)
{
    guard_standard_streams();
    nr_cli_wait_briefly(argv);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error that is reported, not a silent end */
    static char page[1 << 16]; /* help fits into it, so that its loss is seen with its cause */
    if (!isatty(1)) setvbuf(stdout, page, _IOFBF, sizeof page);
    int rc = run_command(argc, argv);
    nr_cli_live_end();
    nr_cli_release();
    errno = 0;
    bool lost = ferror(stdout) != 0;
    if (fclose(stdout) != 0 || lost) {
        nr_error err;
        if (errno)
            nr_fail_errno(&err, "can't write", "standard output");
        else
            nr_fail(&err, NR_E_IO, "standard output: can't write");
        int failed = nr_cli_fail(&err);
        if (rc == 0) rc = failed;
    }
    return rc;
}
