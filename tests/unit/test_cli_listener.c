/* The live line, the plain line, the brake. The program's file is compiled in: it is no part of the library. */
#include "testing.h"

#include "../../src/cli/listener.c"
#include <sys/wait.h>

static void counts_and_units(void **state)
{
    (void)state;
    char buf[32];
    assert_string_equal(nr_cli_bytes(buf, 0), "0 B");
    assert_string_equal(nr_cli_bytes(buf, 1023), "1023 B");
    assert_string_equal(nr_cli_bytes(buf, 1536), "1.5 KiB");
    assert_string_equal(nr_cli_bytes(buf, 1.2 * 1024 * 1024 * 1024), "1.2 GiB");
    assert_string_equal(nr_cli_bytes(buf, 5e16), "45474.7 TiB");
    assert_string_equal(nr_cli_seconds(buf, 0.04), "0.0 s");
    assert_string_equal(nr_cli_seconds(buf, 9.94), "9.9 s");
    assert_string_equal(nr_cli_seconds(buf, 59.4), "59 s");
    assert_string_equal(nr_cli_seconds(buf, 59.6), "1 min 0 s");
    assert_string_equal(nr_cli_seconds(buf, 192), "3 min 12 s");
    assert_string_equal(nr_cli_seconds(buf, 3 * 3600 + 61), "3 h 1 min");
    assert_string_equal(nr_cli_seconds(buf, 50 * 3600), "2 d 2 h");
    assert_string_equal(nr_cli_seconds(buf, -1), "unknown");
}

static void progress_says_rate_and_time_left(void **state)
{
    (void)state;
    char line[256];
    screen = (display){.began = 100, .began_done = 20}; /* resumed at step 20 */
    strcpy(screen.what, "training");
    progress_text(line, sizeof line, 120, 500, 3123, "tokens", 150);
    assert_string_equal(line, "training 120/500  24% | 3123 tokens/s | 3 min 10 s left");
    progress_text(line, sizeof line, 20, 500, 0, NULL, 100);
    assert_string_equal(line, "training 20/500  4%");
    progress_text(line, sizeof line, 500, 500, 45678, "tokens", 200);
    assert_string_equal(line, "training 500/500  100% | 45.7k tokens/s");
    progress_text(line, sizeof line, 1234567, 0, 0, NULL, 200);
    assert_string_equal(line, "training 1234.6k");
}

/* Runs work with stderr in a pipe; what it wrote is in buf. */
static size_t captured(void (*work)(void), char *buf, size_t size)
{
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    work();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = read(ends[0], buf, size - 1);
    close(ends[0]);
    buf[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

static void plain_work(void)
{
    const nr_listener *l = nr_cli_listener(false);
    nr_say(l, "plan: %d", 7);
    for (int i = 0; i <= 100; i++) {
        nr_progress(l, "reading", i, 100, 0, NULL);
        if (i % 50 == 0) screen.printed -= PLAIN_INTERVAL; /* time goes by */
    }
    nr_cli_live_end();
}

static void no_terminal_gets_plain_lines(void **state)
{
    (void)state;
    char text[4096];
    captured(plain_work, text, sizeof text);
    assert_string_equal(text, "plan: 7\nreading 1/100  1%\nreading 51/100  51%\n");
}

/* The next round of the same work counts from its own beginning. */
static void the_same_again_begins_anew(void **state)
{
    (void)state;
    char line[256];
    screen = (display){.live = true, .printed = nr_clock()};
    on_progress(NULL, "comparing", 900, 1000, 0, NULL);
    screen.began -= 600;
    on_progress(NULL, "comparing", 1000, 1000, 0, NULL);
    double now = nr_clock();
    on_progress(NULL, "comparing", 10, 1000, 0, NULL);
    assert_true(screen.began >= now);
    progress_text(line, sizeof line, 110, 1000, 0, NULL, screen.began + 10);
    assert_string_equal(line, "comparing 110/1000  11% | 1 min 29 s left");
}

static void live_work(void)
{
    const nr_listener *l = nr_cli_listener(false);
    screen.live = true;
    nr_progress(l, "reading", 1, 100, 0, NULL);
    nr_progress(l, "reading", 2, 100, 0, NULL); /* too soon for another */
    nr_say(l, "note");
    nr_cli_live_end();
}

static void terminal_gets_one_line_that_goes_away(void **state)
{
    (void)state;
    char text[4096];
    captured(live_work, text, sizeof text);
    assert_string_equal(text, "\r\033[Kreading 1/100  1%\r\033[Knote\n");
}

static void quiet_work(void)
{
    const nr_listener *l = nr_cli_listener(true);
    screen.live = true;
    nr_say(l, "note");
    nr_progress(l, "reading", 1, 100, 0, NULL);
    nr_cli_live_end();
}

static void quiet_says_nothing(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(captured(quiet_work, text, sizeof text), 0);
}

/* In a child: signals sent one after the other; its exit code says how it ended. */
static int signalled(int first, int second)
{
    pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        const nr_listener *l = nr_cli_listener(true);
        if (nr_stopped(l)) _exit(1);
        raise(first);
        if (!nr_stopped(l)) _exit(2);
        if (second) raise(second);
        _exit(3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void first_signal_asks_second_ends(void **state)
{
    (void)state;
    assert_int_equal(signalled(SIGINT, 0), 3);
    assert_int_equal(signalled(SIGTERM, 0), 3);
    assert_int_equal(signalled(SIGINT, SIGINT), 130);
    assert_int_equal(signalled(SIGTERM, SIGINT), 130);
    assert_int_equal(signalled(SIGUSR1, SIGUSR1), 3);
    assert_int_equal(signalled(SIGUSR1, SIGINT), 130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_units),
        cmocka_unit_test(progress_says_rate_and_time_left),
        cmocka_unit_test(no_terminal_gets_plain_lines),
        cmocka_unit_test(the_same_again_begins_anew),
        cmocka_unit_test(terminal_gets_one_line_that_goes_away),
        cmocka_unit_test(quiet_says_nothing),
        cmocka_unit_test(first_signal_asks_second_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
