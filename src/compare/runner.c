/*
 * runner.c - all runs of a comparison: which are done, which come next, each in
 * a process of its own (so that its peak of memory is its own, and a crash ends
 * one run), and how far they all are.
 *
 * The folder is locked by the runner and, through the descriptor that they
 * inherit, by its processes: one that was killed with its processes still ending
 * is waited for. They end with the runner, even where it is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "compare/compare.h"
#include "report/report.h"

#define POLL_NANOSECONDS 100000000L
#define LOCK_SECONDS 10
#define TAIL 8192 /* bytes of the metrics that hold the last step */

typedef enum { WAITING, RUNNING, DONE, FAILED } state;

typedef struct {
    state state;
    pid_t pid;
    bool was_done; /* before this call */
} job;

typedef struct {
    const nr_compare_place *place;
    const nr_compare_options *opt;
    const nr_listener *listener;
    job *jobs; /* (runs) */
    size_t finished, failed, running;
    double began;
    nr_error first_error;
    char first_name[200];
} runner;

static const nr_planned *run_of(const runner *r, size_t i) { return &r->place->recipe->runs[i]; }

/* ---- the folder's lock ---- */

static nr_status lock_folder(int *fd, const char *output, nr_error *err)
{
    char *path = nr_path_join(output, "lock");
    nr_status st = path ? nr_make_folders(output, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", output);
    *fd = -1;
    if (st == NR_OK && (*fd = open(path, O_RDWR | O_CREAT, 0666)) < 0) st = nr_fail_errno(err, "can't write", path);
    double began = nr_clock();
    while (st == NR_OK && flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) st = nr_fail_errno(err, "can't lock", path);
        else if (nr_clock() - began > LOCK_SECONDS) st = nr_fail(err, NR_E_IO, "%s: another comparison works here (%s is locked)", output, path);
        else nanosleep(&(struct timespec){.tv_nsec = POLL_NANOSECONDS}, NULL);
    }
    free(path);
    if (st != NR_OK && *fd >= 0) close(*fd);
    return st;
}

/* ---- progress ---- */

static double tokens_of(const nr_planned *run)
{
    return run->role == NR_CONTROL_BACKBONE ? 0 : (double)run->s.steps * (double)(run->s.batch_size * run->s.context);
}

/* Tokens that a run has trained on so far, by the last line of its metrics. */
static double trained_so_far(const runner *r, size_t i)
{
    char *folder = nr_measure_folder(r->place, run_of(r, i)), *path = folder ? nr_path_join(folder, "metrics.jsonl") : NULL;
    char tail[TAIL + 1];
    double steps = 0;
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (f) {
        if (fseek(f, -TAIL, SEEK_END) != 0) rewind(f);
        size_t n = fread(tail, 1, TAIL, f);
        tail[n] = '\0';
        for (const char *p = tail; (p = strstr(p, "\"step\": ")); p += 8) steps = strtod(p + 8, NULL);
        fclose(f);
    }
    free(folder);
    free(path);
    const nr_settings *s = &run_of(r, i)->s;
    return fmin(steps, (double)s->steps) * (double)(s->batch_size * s->context);
}

/* How far a run that is being scored is; false: none is, or one trains. */
static bool show_measuring(const runner *r)
{
    json_t *found = NULL;
    bool training = false;
    char what[128];
    for (size_t i = 0; i < r->place->recipe->run_count && !training; i++) {
        if (r->jobs[i].state != RUNNING) continue;
        char *path = nr_measure_progress_path(r->place, run_of(r, i));
        json_t *o = path ? json_load_file(path, 0, NULL) : NULL;
        free(path);
        training = !o;
        if (found) json_decref(o);
        else if ((found = o)) snprintf(what, sizeof what, "%.50s, %.60s", json_string_value(json_object_get(o, "what")), run_of(r, i)->name);
    }
    if (found && !training)
        nr_progress(r->listener, what, nr_report_number(found, "done"), nr_report_number(found, "total"), nr_report_number(found, "rate"),
                    json_string_value(json_object_get(found, "unit")));
    json_decref(found);
    return found && !training;
}

static void show(const runner *r)
{
    if (show_measuring(r)) return;
    double done = 0, total = 0, before = 0, spent = nr_clock() - r->began;
    for (size_t i = 0; i < r->place->recipe->run_count; i++) {
        double all = tokens_of(run_of(r, i));
        const job *j = &r->jobs[i];
        total += all;
        before += j->was_done ? all : 0;
        done += j->state == DONE || j->state == FAILED ? all : j->state == RUNNING ? trained_so_far(r, i) : 0;
    }
    nr_progress(r->listener, "comparing", done, total, spent > 0 ? fmax(0, done - before) / spent : 0, "tokens");
}

static void say_end(const runner *r, size_t i)
{
    const nr_planned *run = run_of(r, i);
    json_t *o = nr_measure_record(r->place, run, true);
    const char *error = json_string_value(json_object_get(o, "error"));
    nr_say(r->listener, "%zu/%zu  %s%s%s", r->finished, r->place->recipe->run_count, run->name, error ? ": failed: " : "", error ? error : "");
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    if (text && r->listener && r->listener->event) r->listener->event(r->listener->user, text);
    free(text);
    json_decref(o);
}

/* ---- the end of a run ---- */

static void count_failure(runner *r, size_t i, const nr_error *why)
{
    r->jobs[i].state = FAILED;
    if (r->failed++ > 0) return;
    r->first_error = *why;
    snprintf(r->first_name, sizeof r->first_name, "%s", run_of(r, i)->name);
}

/* What a process that ended badly left behind, or what its end says. */
static void explain(const runner *r, size_t i, int status, nr_error *why)
{
    const nr_planned *run = run_of(r, i);
    json_t *o = nr_measure_record(r->place, run, true);
    const char *error = json_string_value(json_object_get(o, "error"));
    int code = (int)json_integer_value(json_object_get(o, "exit_code"));
    if (error && code != 0)
        nr_fail(why, code == 3 ? NR_E_NOT_FINITE : code == 2 ? NR_E_USAGE : NR_E_IO, "%s", error);
    else if (WIFSIGNALED(status))
        nr_fail(why, NR_E_IO, "its process was ended by signal %d%s", WTERMSIG(status), WTERMSIG(status) == SIGKILL ? " (out of memory?)" : "");
    else
        nr_fail(why, NR_E_IO, "its process ended with code %d; logs/%.150s.txt says more", WEXITSTATUS(status), run->name);
    json_decref(o);
    if (!error) nr_measure_failed(r->place, run, why, NULL);
}

static void end_run(runner *r, size_t i, int status)
{
    nr_error why;
    char *left = nr_measure_progress_path(r->place, run_of(r, i)); /* of one that was killed */
    if (left) unlink(left);
    free(left);
    r->running--;
    json_t *record = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? nr_measure_record(r->place, run_of(r, i), false) : NULL;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 130) {
        r->jobs[i].state = WAITING; /* interrupted: goes on another time */
        return;
    }
    r->finished++;
    r->jobs[i].state = DONE;
    if (!record) {
        explain(r, i, status, &why);
        count_failure(r, i, &why);
    }
    json_decref(record);
    say_end(r, i);
}

static bool comes_before(const nr_planned *a, const nr_planned *b)
{
    bool first = a->role == NR_CONTROL_BACKBONE, other = b->role == NR_CONTROL_BACKBONE;
    return first != other ? first : a->s.seed < b->s.seed;
}

/* The run that comes next, or their number where none waits: the backbone, then one seed of all rows before the next
 * seed of any, so that there is a whole table early. */
static size_t next_run(const runner *r)
{
    size_t n = r->place->recipe->run_count, next = n;
    for (size_t i = 0; i < n; i++)
        if (r->jobs[i].state == WAITING && (next == n || comes_before(run_of(r, i), run_of(r, next)))) next = i;
    return next;
}

/* ---- processes ---- */

/* The words of `nres compare RECIPE -o OUT --only NAME ...`. */
static const char **words_of(const runner *r, size_t i, char threads[32])
{
    const nr_compare_options *o = r->opt;
    const char **words;
    size_t n = 0;
    if (nr_alloc(&words, 16 + 2 * o->variable_count, sizeof *words, "words", NULL) != NR_OK) return NULL;
    const char *fixed[] = {o->program, "compare", o->recipe, "-o", o->output, "--only", run_of(r, i)->name, "--quiet", "--threads", threads};
    for (size_t k = 0; k < NR_COUNT(fixed); k++) words[n++] = fixed[k];
    for (size_t k = 0; k < o->variable_count; k++) {
        words[n++] = "--set";
        words[n++] = o->variables[k];
    }
    return words;
}

/* In the new process: nothing here may allocate. */
static void become(const char *const *words, int output, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) raise(SIGKILL); /* it ended before that */
    setpgid(0, 0); /* an interrupt at the terminal is the runner's to pass on, once */
    if (output >= 0) {
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
    }
    execv(words[0], (char *const *)(uintptr_t)words);
    raise(SIGKILL);
}

static nr_status start(runner *r, size_t i, nr_error *err)
{
    char threads[32], *folder = nr_format("%s/logs", r->place->output), *log = folder ? nr_format("%s/%s.txt", folder, run_of(r, i)->name) : NULL;
    size_t each = r->opt->threads ? r->opt->threads : r->opt->jobs > 1 ? NR_MAX(nr_core_count() / r->opt->jobs, (size_t)1) : 0;
    snprintf(threads, sizeof threads, "%zu", each);
    const char **words = words_of(r, i, threads);
    nr_status st = words && log ? nr_make_folders(folder, err) : nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->place->output);
    if (st == NR_OK) {
        int output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        pid_t parent = getpid(), pid = fork();
        if (pid == 0) become(words, output, parent);
        if (output >= 0) close(output);
        if (pid < 0) st = nr_fail_errno(err, "can't start", r->opt->program);
        else r->jobs[i] = (job){.state = RUNNING, .pid = pid};
        r->running += pid > 0;
    }
    free(words);
    free(folder);
    free(log);
    return st;
}

static void reap(runner *r)
{
    for (size_t i = 0; i < r->place->recipe->run_count; i++) {
        int status;
        if (r->jobs[i].state == RUNNING && waitpid(r->jobs[i].pid, &status, WNOHANG) == r->jobs[i].pid) end_run(r, i, status);
    }
}

static void stop_all(const runner *r)
{
    for (size_t i = 0; i < r->place->recipe->run_count; i++)
        if (r->jobs[i].state == RUNNING) kill(r->jobs[i].pid, SIGTERM);
}

static nr_status run_processes(runner *r, nr_error *err)
{
    size_t jobs = r->opt->jobs ? r->opt->jobs : 1, n = r->place->recipe->run_count;
    bool stopping = false;
    nr_status st = NR_OK;
    for (;;) {
        size_t next = next_run(r);
        if (!stopping && next < n && r->running < jobs && st == NR_OK) st = start(r, next, err);
        else if (r->running == 0) break;
        else nanosleep(&(struct timespec){.tv_nsec = POLL_NANOSECONDS}, NULL);
        reap(r);
        show(r);
        if (!stopping && (st != NR_OK || nr_stopped(r->listener))) {
            stopping = true;
            stop_all(r);
        }
    }
    if (st == NR_OK && stopping)
        st = nr_fail(err, NR_E_INTERRUPTED, "%s: interrupted with %zu of %zu runs done; the same command goes on", r->place->output, r->finished, n);
    return st;
}

/* ---- all in this process ---- */

static nr_status run_here(runner *r, nr_error *err)
{
    for (size_t i; (i = next_run(r)) < r->place->recipe->run_count;) {
        nr_error why;
        nr_status st = nr_measure(r->place, run_of(r, i), r->listener, &why);
        if (st == NR_E_INTERRUPTED) {
            if (err) *err = why;
            return st;
        }
        r->finished++;
        r->jobs[i].state = DONE;
        if (st != NR_OK) {
            NR_TRY(nr_measure_failed(r->place, run_of(r, i), &why, err));
            count_failure(r, i, &why);
        }
        say_end(r, i);
    }
    return NR_OK;
}

/* ---- the whole ---- */

static nr_status run_all(runner *r, nr_error *err)
{
    size_t n = r->place->recipe->run_count;
    NR_TRY(nr_alloc(&r->jobs, n, sizeof *r->jobs, "runs", err));
    for (size_t i = 0; i < n; i++) {
        json_t *record = nr_measure_record(r->place, run_of(r, i), false);
        if (record) r->jobs[i] = (job){.state = DONE, .was_done = true};
        r->finished += record != NULL;
        json_decref(record);
    }
    if (r->finished > 0) nr_say(r->listener, "%zu of %zu runs are done already", r->finished, n);
    r->began = nr_clock();
    return r->opt->program ? run_processes(r, err) : run_here(r, err);
}

nr_status nr_runner_all(const nr_compare_place *p, const nr_compare_options *opt, const nr_listener *l, nr_error *failed, nr_error *err)
{
    runner r = {.place = p, .opt = opt, .listener = l};
    int lock;
    *failed = (nr_error){0};
    NR_TRY(lock_folder(&lock, p->output, err));
    nr_status st = run_all(&r, err);
    if (st == NR_OK && r.failed > 0)
        nr_fail(failed, r.first_error.status, "%zu of %zu runs failed; the first, %s: %s", r.failed, p->recipe->run_count, r.first_name,
                r.first_error.message);
    free(r.jobs);
    close(lock);
    return st;
}
