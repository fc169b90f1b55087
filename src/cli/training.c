/*
 * training.c - the ears of a training command: the losses of the latest step go
 * into the live line, and with --json every event to stdout, line by line. Also
 * how several processes come together and part again, so that people read one
 * line and the launcher gets one exit code.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/training.h"

static bool print_events;

static void note_step(const json_t *step)
{
    char note[96];
    const json_t *loss = json_object_get(step, "lm_loss"), *local = json_object_get(step, "local_loss");
    snprintf(note, sizeof note, "loss %.4f, local %.3g", json_number_value(loss), json_number_value(local));
    nr_cli_note(note);
}

static void on_event(void *user, const char *line)
{
    (void)user;
    json_t *j = json_loads(line, 0, NULL);
    const char *kind = json_string_value(json_object_get(j, "kind"));
    if (kind && kind[0] == 's' && json_object_get(j, "lm_loss")) note_step(j);
    json_decref(j);
    if (!print_events) return;
    nr_cli_live_end();
    printf("%s\n", line);
    fflush(stdout);
}

const nr_listener *nr_training_listener(bool json, bool quiet)
{
    static nr_listener l;
    l = *nr_cli_listener(quiet);
    l.event = on_event;
    print_events = json;
    return &l;
}

/* ---- several processes ---- */

#define PLUGIN "libnres_mpi.so"

/* Beside the program of a build, or where `cmake --install` puts it. */
static const char *const plugin_places[] = {PLUGIN, NRES_PLUGINS "/" PLUGIN};

static nr_status join(nr_cluster **out, size_t launched, nr_error *err)
{
    char *path = nr_cli_beside(plugin_places, NR_COUNT(plugin_places), nr_path_exists);
    if (!path)
        return nr_fail(err, NR_E_UNSUPPORTED, "%zu processes: expected " PLUGIN " beside the program, found none; a build with "
                       "-DNRES_MPI=ON makes it (Debian: libopenmpi-dev)", launched);
    nr_status st = nr_cluster_open(out, path, err);
    free(path);
    if (st != NR_OK) return st;
    if (nr_cluster_size(*out) == launched || launched <= 1) return NR_OK;
    st = nr_fail(err, NR_E_UNSUPPORTED, "expected the %zu processes that the launcher started, found %zu through MPI; with srun, "
                 "--mpi=pmix (srun --mpi=list shows what there is)", launched, nr_cluster_size(*out));
    nr_cluster_close(*out);
    *out = NULL;
    return st;
}

int nr_training_join(nr_cluster **out, bool asked)
{
    size_t launched = nr_cli_launched_size();
    nr_error err;
    *out = NULL;
    if (launched <= 1 && !asked) return 0;
    if (nr_cli_launched_rank() > 0) nr_cli_stop_quietly();
    if (join(out, launched, &err) == NR_OK) return 0;
    return nr_cli_launched_rank() > 0 ? nr_status_exit_code(err.status) : nr_cli_fail(&err);
}

int nr_training_fail(nr_cluster *c, const nr_error *err)
{
    int code = nr_status_exit_code(err->status);
    nr_error named;
    if (!nr_cluster_agreed(c)) {
        nr_fail(&named, err->status, "rank %zu: %s", nr_cluster_rank(c), err->message);
        nr_cli_fail(&named);
        fflush(stdout);
        nr_cluster_give_up(c, code);
        return code;
    }
    /* The launcher kills what is left when a process ends with an error: one does, when all have left. */
    if (nr_cluster_rank(c) == 0)
        nr_cli_fail(err);
    else
        code = 0;
    nr_cluster_close(c);
    return code;
}

int nr_training_done(nr_cluster *c, const char *run, bool json)
{
    nr_cli_live_end();
    if (!json && nr_cluster_rank(c) == 0) printf("%s\n", run);
    nr_cluster_close(c);
    return 0;
}
