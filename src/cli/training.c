/*
 * training.c - the ears of a training command: the losses of the latest step go
 * into the live line, and with --json every event to stdout, line by line.
 */
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
