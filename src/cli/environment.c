/*
 * environment.c - what the environment says: folders, where the program
 * lies, and whether a launcher started this process. The library takes it as arguments.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define PATH_SIZE 4096

/* A variable that is set and not empty. */
static const char *variable(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* The first of: $own + below, $HOME + home_below; NULL without either. */
static const char *folder(char *buf, const char *own, const char *below, const char *home_below)
{
    const char *base = own ? own : variable("HOME");
    if (!base) return NULL;
    int n = snprintf(buf, PATH_SIZE, "%s%s", base, own ? below : home_below);
    return n > 0 && n < PATH_SIZE ? buf : NULL;
}

const char *nr_cli_hub_folder(void)
{
    static char buf[PATH_SIZE];
    const char *cache = variable("HF_HUB_CACHE");
    if (cache) return cache;
    return folder(buf, variable("HF_HOME"), "/hub", "/.cache/huggingface/hub");
}

const char *nr_cli_cache_folder(void)
{
    static char buf[PATH_SIZE];
    return folder(buf, variable("XDG_CACHE_HOME"), "/nres", "/.cache/nres");
}

/* Open MPI's mpirun, other launchers with PMI, SLURM's srun; the last one's variables of a job, not of a step, stand in
 * batch scripts too, which are one process. */
static const char *const launchers[][2] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                           {"PMI_SIZE", "PMI_RANK"},
                                           {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};

static size_t number_of(const char *name)
{
    const char *v = variable(name);
    return v ? (size_t)strtoull(v, NULL, 10) : 0;
}

size_t nr_cli_launched_size(void)
{
    for (size_t i = 0; i < NR_COUNT(launchers); i++)
        if (variable(launchers[i][0])) return number_of(launchers[i][0]);
    return 1;
}

size_t nr_cli_launched_rank(void)
{
    for (size_t i = 0; i < NR_COUNT(launchers); i++)
        if (variable(launchers[i][0])) return number_of(launchers[i][1]);
    return 0;
}

/* libgomp reads how long an idle thread spins before it sleeps once, when it is
 * loaded, so a program that wants another value has to start again. Its own
 * value is some milliseconds: on a machine where anything else runs, the held
 * up thread is then kept from its core by those that wait for it. Measured on
 * two cores, training: 1020 tokens/s with either value alone, beside one other
 * process 350 with libgomp's and 495 with this one. What the user set stays. */
void nr_cli_wait_briefly(char **argv)
{
    char self[PATH_SIZE];
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1); /* its name, so that the process keeps it */
    if (n <= 0 || setenv("GOMP_SPINCOUNT", "3000", 1) != 0) return;
    self[n] = '\0';
    execv(self, argv); /* comes back only when it can't: then the program runs as it is */
}

const char *nr_cli_find_program(const char *name, char buf[PATH_SIZE])
{
    const char *path = variable("PATH");
    for (const char *p = path ? path : ""; *p;) {
        size_t n = strcspn(p, ":");
        int length = snprintf(buf, PATH_SIZE, "%.*s/%s", (int)n, p, name);
        if (n > 0 && length > 0 && length < PATH_SIZE && access(buf, X_OK) == 0) return buf;
        p += n + (p[n] == ':');
    }
    return NULL;
}

char *nr_cli_beside(const char *const *places, size_t count, bool (*there)(const char *path))
{
    char self[PATH_SIZE];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return NULL;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) slash[1] = '\0';
    for (size_t i = 0; i < count; i++) {
        char *path = nr_format("%s%s", self, places[i]);
        if (path && there(path)) return path;
        free(path);
    }
    return NULL;
}

/* share/nres/tasks beside the program of a build, or where `cmake --install` puts it. */
char *nr_cli_task_folder(void)
{
    static const char *const places[] = {"share/nres/tasks", NRES_TASKS};
    return nr_cli_beside(places, NR_COUNT(places), nr_path_is_folder);
}
