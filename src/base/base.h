/*
 * base.h - what every other folder stands on: errors, memory, files, random
 * numbers, JSON, settings as data, clocks.
 */
#ifndef NR_BASE_H
#define NR_BASE_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "nres.h"

#define NR_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define NR_MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- error.c ---- */

/* Fills err (may be NULL) with one line and returns s. */
nr_status nr_fail(nr_error *err, nr_status s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As nr_fail for NR_E_IO: appends what errno says. */
nr_status nr_fail_errno(nr_error *err, const char *what, const char *path);
/* Returns from the calling function when expr fails. */
#define NR_TRY(expr)                       \
    do {                                   \
        nr_status try_ = (expr);           \
        if (try_ != NR_OK) return try_;    \
    } while (0)
/* Jumps to `done` when expr fails; the function keeps its status in `st`. */
#define NR_GO(expr)                        \
    do {                                   \
        st = (expr);                       \
        if (st != NR_OK) goto done;        \
    } while (0)

/* ---- memory.c ---- */

/* Zeroed memory aligned to 64 bytes; fails naming `what` and the size. A
 * count * size that overflows is an error, not a small block. Free with free(). */
nr_status nr_alloc(void *out, size_t count, size_t size, const char *what, nr_error *err);
bool nr_mul_overflows(size_t a, size_t b, size_t *product);
char *nr_strdup(const char *s);
bool nr_ends_with(const char *s, const char *end);
/* printf into fresh memory; NULL when out of memory. */
char *nr_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* An arena laid out in two walks: while base is NULL, nr_arena_take only adds
 * up; after nr_arena_commit the same calls hand out memory. Offsets are
 * multiples of 64 bytes. */
typedef struct {
    char *base;
    size_t used, size;
} nr_arena;
void *nr_arena_take(nr_arena *a, size_t count, size_t size);
nr_status nr_arena_commit(nr_arena *a, const char *what, nr_error *err);
void nr_arena_free(nr_arena *a);

/* A string that grows; a NUL stands after its `size` bytes (data is NULL before
 * the first call). On failure `failed` is set and later calls do nothing. */
typedef struct {
    char *data;
    size_t size, cap;
    bool failed;
} nr_buffer;
void nr_buffer_add(nr_buffer *b, const void *data, size_t n);
void nr_buffer_text(nr_buffer *b, const char *s);
void nr_buffer_printf(nr_buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void nr_buffer_free(nr_buffer *b);

/* ---- file.c ---- */

typedef struct {
    const unsigned char *data;
    size_t size;
    char *path;
    int file; /* descriptor + 1; 0: closed */
} nr_map;
/* Maps a regular file read-only. An empty file maps to size 0, data not NULL. */
nr_status nr_map_open(nr_map *m, const char *path, nr_error *err);
/* The same, and the file stays open for nr_map_read. */
nr_status nr_map_open_file(nr_map *m, const char *path, nr_error *err);
/* Copies `bytes` bytes that stand at `at` in the map, out of the file: the map's pages, and their neighbours, stay out of
 * memory. Where the file isn't open it is a memcpy. */
nr_status nr_map_read(const nr_map *m, void *to, const void *at, size_t bytes, nr_error *err);
void nr_map_close(nr_map *m);
/* Its pages needn't stay in memory: what is read again comes back from the file. */
void nr_map_forget(const nr_map *m);

bool nr_path_is_folder(const char *path);
bool nr_path_exists(const char *path);
char *nr_path_join(const char *a, const char *b); /* malloc'ed */
char *nr_path_trim(const char *path); /* DIR/ is DIR; malloc'ed */
nr_status nr_make_folders(const char *path, nr_error *err);
/* Removes a folder and what is in it; links are removed, not followed. One that
 * isn't there is no error. */
nr_status nr_remove_folder(const char *path, nr_error *err);
/* Renames a folder whose files are synced, and syncs the folder above, so that
 * the new name lasts. */
nr_status nr_rename_folder(const char *from, const char *to, nr_error *err);

/* A file written beside its final name, then synced and renamed over it, with
 * the folder synced too. Until nr_writer_commit nothing that was there changes;
 * nr_writer_abort removes the temporary. Write errors stick: commit reports
 * the first one (disk full included) and removes the temporary. */
typedef struct {
    FILE *file;
    char *path, *temporary;
    int error; /* errno of the first failure */
} nr_writer;
nr_status nr_writer_open(nr_writer *w, const char *path, nr_error *err);
void nr_writer_write(nr_writer *w, const void *data, size_t n);
nr_status nr_writer_commit(nr_writer *w, nr_error *err);
void nr_writer_abort(nr_writer *w);
nr_status nr_write_file(const char *path, const void *data, size_t n, nr_error *err);
/* To FOLDER/name. */
nr_status nr_copy_file(const char *from, const char *folder, const char *name, nr_error *err);

/* ---- paths.c: lists of paths ---- */

typedef struct {
    char **paths;
    size_t count, cap;
} nr_paths;
void nr_paths_free(nr_paths *p);
/* Adds a copy. */
nr_status nr_paths_add(nr_paths *p, const char *path, nr_error *err);
/* Adds the files below a folder whose names are wanted, in the order of their
 * paths' bytes. Links are not followed; over 64 folders deep is refused. */
nr_status nr_paths_walk(nr_paths *p, const char *folder, bool (*wanted)(const char *name), nr_error *err);

/* ---- sha256.c ---- */
typedef struct nr_sha256 nr_sha256;
nr_sha256 *nr_sha256_new(void);
void nr_sha256_add(nr_sha256 *h, const void *data, size_t n);
void nr_sha256_hex(nr_sha256 *h, char hex[65]); /* ends and frees h */

/* ---- key_set.c: a set of 64-bit keys ---- */

typedef struct {
    uint64_t *keys;
    size_t count, size;
} nr_key_set;
/* *fresh: it was not there. */
nr_status nr_key_add(nr_key_set *s, uint64_t key, bool *fresh, nr_error *err);
bool nr_key_has(const nr_key_set *s, uint64_t key);
void nr_key_free(nr_key_set *s);

/* ---- rng.c: counter-based, a function of (seed, purpose, index) ---- */

typedef enum {
    NR_RNG_INIT = 1,      /* index: parameter number << 40 | element */
    NR_RNG_OLD_ROWS,      /* order of old rows, by epoch and position */
    NR_RNG_NEW_ROWS,
    NR_RNG_DOMAIN,        /* bernoulli draw of a row's domain */
    NR_RNG_SAMPLE,        /* token drawn at a position */
    NR_RNG_SPLIT,         /* document to validation or training */
    NR_RNG_BACKBONE,      /* nres init */
    NR_RNG_TEST
} nr_rng_purpose;
uint64_t nr_rng_u64(uint64_t seed, uint64_t purpose, uint64_t index);
double nr_rng_uniform(uint64_t seed, uint64_t purpose, uint64_t index); /* [0, 1) */
double nr_rng_normal(uint64_t seed, uint64_t purpose, uint64_t index);  /* mean 0, variance 1 */
/* to (n) = those of index, index + 1 ... */
void nr_rng_normals(double *to, uint64_t seed, uint64_t purpose, uint64_t index, size_t n);

/* ---- json.c: jansson with our errors ---- */

/* Parses hostile text: duplicate keys and excess depth are refused. `where`
 * names the file in errors. */
nr_status nr_json_parse(json_t **out, const char *text, size_t n, const char *where, nr_error *err);
nr_status nr_json_load(json_t **out, const char *path, nr_error *err);
/* Sorted keys, 2-space indent, newline at the end; written atomically. */
nr_status nr_json_save(const json_t *j, const char *path, nr_error *err);
/* Fields of an object. `required` false leaves *v as it was when absent or null. */
nr_status nr_json_size(const json_t *o, const char *key, bool required, size_t *v, const char *where, nr_error *err);
nr_status nr_json_double(const json_t *o, const char *key, bool required, double *v, const char *where, nr_error *err);
nr_status nr_json_bool(const json_t *o, const char *key, bool required, bool *v, const char *where, nr_error *err);
nr_status nr_json_string(const json_t *o, const char *key, bool required, const char **v, const char *where, nr_error *err);

/* ---- settings.c ---- */

typedef struct {
    const char *group, *name, *choices, *argument, *help;
    char type; /* U F B E S */
    size_t offset;
    double lo, hi;
} nr_setting;
extern const nr_setting nr_setting_list[];
extern const size_t nr_setting_count;
const nr_setting *nr_setting_find(const char *name);
/* The value as text, as nr_settings_set would take it. */
void nr_setting_get(const nr_settings *s, const nr_setting *what, char *buf, size_t size);
/* All settings, or those of one group (NULL: all), as a JSON object. */
json_t *nr_settings_to_json(const nr_settings *s, const char *group);
/* Unknown keys are refused by name; absent ones keep their value. */
nr_status nr_settings_from_json(nr_settings *s, const json_t *j, const char *where, nr_error *err);

/* ---- clock.c ---- */
double nr_clock(void); /* monotonic seconds */
size_t nr_memory_peak(void); /* bytes resident at most so far */
/* From now on the peak is of what is resident now and comes after; what was freed goes back to the system first. Where the
 * kernel doesn't offer that, nothing happens. */
void nr_memory_peak_forget(void);
size_t nr_core_count(void);  /* cores this process may use */

/* ---- threads.c: one pool, libgomp's, shared with the matrix library ---- */

/* Runs task(context, i) for i in [0, tasks), spread over the threads, whoever
 * is free. Callers cut work by shape, so that no result depends on the number
 * of threads or on which one ran a task. A call from inside a task runs in place. This is the
 * only way the project starts threads (clang can't compile "omp parallel" for
 * libgomp, and a second runtime beside the matrix library's is never wanted). */
void nr_parallel(size_t tasks, void (*task)(void *context, size_t i), void *context);
/* The same for tasks that may fail: all are run, and the error is that of the first in their order that did. */
nr_status nr_parallel_try(size_t tasks, nr_status (*task)(void *context, size_t i, nr_error *err), void *context, nr_error *err);
/* Runs lead(context, err) and returns its status. The other threads stand by for the nr_parallel calls made in it, which
 * then cost a fraction of a microsecond: for long runs of short calls, as in generating a token. They spin meanwhile. */
nr_status nr_crew(nr_status (*lead)(void *context, nr_error *err), void *context, nr_error *err);
/* Memory that a call of a crew will read: runs of bytes in the order of its tasks. */
enum { NR_RUNS = 4 };
typedef struct {
    const void *at[NR_RUNS]; /* NULL: no run */
    size_t bytes[NR_RUNS];
    bool last; /* nothing is known of what comes after */
} nr_read_ahead;
/* Said by a crew's leader: what is read next stands at `next`, and after it what follows there, up to the last; NULL: nothing is
 * known any more. Threads that wait fetch their shares of it into their caches, a bounded amount. It must stay until the crew
 * ends. Without a crew: nothing. */
void nr_crew_ahead(const nr_read_ahead *next);
/* What was said last, for calls that have time to fetch more of it than that; NULL: nothing. Heard by the leader alone. */
const nr_read_ahead *nr_crew_told(void);
/* memcpy, and memset with zeros, by all threads. */
void nr_copy(void *dst, const void *src, size_t bytes);
void nr_zero(void *dst, size_t bytes);
/* 0: as many as cores. Holds for the calling thread's later nr_parallel calls
 * and the matrix library's. */
void nr_threads_set(size_t n);
size_t nr_threads_get(void);

/* ---- listener helpers (listen.c); every one accepts NULL ---- */
void nr_say(const nr_listener *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void nr_progress(const nr_listener *l, const char *what, double done, double total, double rate, const char *unit);
bool nr_stopped(const nr_listener *l);

#endif
