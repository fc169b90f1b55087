/*
 * listener.c - what a long command says while it works, on stderr: a live line
 * on a terminal, a plain line every PLAIN_INTERVAL seconds elsewhere. Also the
 * brake: the first SIGINT or SIGTERM asks the work to save and stop, the second
 * ends the program at once. SIGUSR1 only ever asks: launchers pass it on to all
 * processes, and unlike after an interrupt they wait.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

#define PLAIN_INTERVAL 5.0
#define LIVE_INTERVAL 0.1
#define FIRST_ESTIMATE 1.0 /* seconds of work before "left" is worth printing */

static volatile sig_atomic_t stop_asked, quiet_stop;

typedef struct {
    bool live, shown;
    char what[64], note[96];
    double began, began_done; /* of this `what`: the estimate's base */
    double done;              /* when last told; less: the same again, as the next round of a tuning */
    double printed;           /* when a line was last printed */
} display;

static display screen;

static void on_signal(int number)
{
    if (number == SIGUSR1 && stop_asked) return;
    if (stop_asked) _exit(130);
    stop_asked = 1;
    static const char note[] = "\nnres: stopping at the next safe point; once more ends at once\n";
    int saved = errno;
    if (quiet_stop) return;
    if (write(STDERR_FILENO, note, sizeof note - 1) < 0) stop_asked = 1;
    errno = saved;
}

void nr_cli_live_end(void)
{
    if (!screen.shown) return;
    fputs("\r\033[K", stderr);
    screen.shown = false;
}

const char *nr_cli_bytes(char buf[32], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    while (bytes >= 1024 && i + 1 < NR_COUNT(units)) {
        bytes /= 1024;
        i++;
    }
    snprintf(buf, 32, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
    return buf;
}

const char *nr_cli_seconds(char buf[32], double seconds)
{
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(buf, 32, "unknown");
        return buf;
    }
    unsigned long s = (unsigned long)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(buf, 32, "%.1f s", seconds);
    else if (s < 60)
        snprintf(buf, 32, "%lu s", s);
    else if (s < 3600)
        snprintf(buf, 32, "%lu min %lu s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, 32, "%lu h %lu min", s / 3600, s % 3600 / 60);
    else
        snprintf(buf, 32, "%lu d %lu h", s / 86400, s % 86400 / 3600);
    return buf;
}

/* "1234", "12.3k", "1.2M": four characters of meaning. */
static void print_count(char buf[32], double v)
{
    static const char units[] = {0, 'k', 'M', 'G', 'T'};
    size_t i = 0;
    while (v >= 10000 && i + 1 < sizeof units) {
        v /= 1000;
        i++;
    }
    char unit[2] = {units[i], '\0'};
    snprintf(buf, 32, i == 0 && (v >= 100 || v == (double)(long)v) ? "%.0f%s" : "%.1f%s", v, unit);
}

static size_t columns(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col < 20) return 80;
    return w.ws_col;
}

/* "training 120/500  24% | 3.1k tokens/s | 2 min 3 s left" */
static void progress_text(char *line, size_t size, double done, double total, double rate, const char *unit, double now)
{
    char a[32], b[32];
    print_count(a, done);
    print_count(b, total);
    size_t n = (size_t)snprintf(line, size, total > 0 ? "%.40s %s/%s  %.0f%%" : "%.40s %s", screen.what, a, b,
                                total > 0 ? 100 * done / total : 0);
    if (rate > 0 && n < size) {
        print_count(a, rate);
        n += (size_t)snprintf(line + n, size - n, " | %s %.20s/s", a, unit ? unit : "");
    }
    if (screen.note[0] && n < size) n += (size_t)snprintf(line + n, size - n, " | %s", screen.note);
    double spent = now - screen.began, made = done - screen.began_done;
    if (total > done && made > 0 && spent >= FIRST_ESTIMATE && n < size)
        snprintf(line + n, size - n, " | %s left", nr_cli_seconds(a, spent * (total - done) / made));
}

static void on_progress(void *user, const char *what, double done, double total, double rate, const char *unit)
{
    (void)user;
    double now = nr_clock();
    if (strncmp(screen.what, what, sizeof screen.what - 1) != 0 || done < screen.done) {
        snprintf(screen.what, sizeof screen.what, "%s", what);
        screen.note[0] = '\0'; /* it spoke of the work before */
        screen.began = now;
        screen.began_done = done;
        if (!screen.live) screen.printed = now; /* short work prints no line at all */
    }
    screen.done = done;
    if (now - screen.printed < (screen.live ? LIVE_INTERVAL : PLAIN_INTERVAL)) return;
    screen.printed = now;
    char line[256];
    progress_text(line, sizeof line, done, total, rate, unit, now);
    if (screen.live) {
        fprintf(stderr, "\r\033[K%.*s", (int)columns() - 1, line);
        screen.shown = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    fflush(stderr);
}

void nr_cli_note(const char *text) { snprintf(screen.note, sizeof screen.note, "%s", text); }

static void on_log(void *user, const char *line)
{
    (void)user;
    nr_cli_live_end();
    fprintf(stderr, "%s\n", line);
}

void nr_cli_stop_quietly(void) { quiet_stop = 1; }

static bool on_stop(void *user)
{
    (void)user;
    return stop_asked != 0;
}

const nr_listener *nr_cli_listener(bool quiet)
{
    static const nr_listener loud = {.log = on_log, .progress = on_progress, .stop = on_stop};
    static const nr_listener silent = {.stop = on_stop};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    const char *terminal = getenv("TERM");
    screen = (display){.live = isatty(STDERR_FILENO) && !(terminal && strcmp(terminal, "dumb") == 0)};
    return quiet ? &silent : &loud;
}
