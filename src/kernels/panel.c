/* panel.c - which panel products run here, and how a product is cut into them. */
#include "kernels/panel.h"

#include "kernels/isa.h"

#define TASK_ROWS 64
#define DEEP 8192            /* sums of more terms are added up in pieces of */
#define DEEP_PIECE 4096      /* so many bytes of a row, of so many rows, which stay in the L2 cache with two panels' pieces */
#define DEEP_ROWS 96
#define DEEP_COLS 320        /* of a group of panels, which reads the rows once */
#define PIECE 1024           /* bytes of a column that the weights' gradient adds up at once */
#define WEIGHT_ROWS 288      /* rows of it in a task, whole tiles: those of a piece stay on its stack */
#define WEIGHT_COLS 640
#define LEAST_TASKS 2        /* a thread's, where panels go in groups */
#define PART_LEAST 32        /* rows of a part that is cut for their sake */
#define NEAR_ROWS 256        /* rows that a walk over the panels multiplies with each: as many as */
#define NEAR_BYTES 393216    /* so many bytes of x, which stay in a core's L2 cache beside two panels */

#define SET(isa, type) {type, nr_runs_##isa, &nr_panel_kernels_##isa}
extern const nr_panel_kernels nr_panel_kernels_baseline;
#if defined(__x86_64__)
extern const nr_panel_kernels nr_panel_kernels_avx2, nr_panel_kernels_avx512, nr_panel_kernels_avx512bf16, nr_panel_kernels_avx512vnni;
#endif

/* The best of a type first. */
static const struct {
    nr_dtype type;
    bool (*runs)(void);
    const nr_panel_kernels *kernels;
} sets[] = {
#if defined(__x86_64__)
    SET(avx512bf16, NR_BF16), SET(avx512, NR_F32), SET(avx2, NR_F32),
#endif
    SET(baseline, NR_F32),
};

const nr_panel_kernels *nr_panel_kernels_next(nr_dtype type, const nr_panel_kernels *after)
{
    bool behind = after == NULL;
    for (size_t i = 0; i < NR_COUNT(sets); i++) {
        if (behind && sets[i].type == type && sets[i].runs()) return sets[i].kernels;
        behind = behind || sets[i].kernels == after;
    }
    return NULL;
}

const nr_panel_kernels *nr_panel_kernels_of(nr_dtype type) { return nr_panel_kernels_next(type, NULL); }

const nr_panel_kernels *nr_panel_int8(void)
{
#if defined(__x86_64__)
    if (nr_runs_avx512vnni()) return &nr_panel_kernels_avx512vnni;
#endif
    return NULL;
}

typedef struct {
    const nr_panel_kernels *k;
    const nr_panels *list;
    size_t count;
    const char *x;
    size_t n, depth, row;       /* row: bytes of a row of x */
    size_t panels, panel_bytes;
    size_t near, parts, groups; /* rows of a walk; parts of them; deep sums: groups of panels */
    const nr_read_ahead *after; /* what is read when the product is done, or NULL */
    size_t after_runs;
} job;

const nr_panels *nr_panels_find(const nr_panel_kernels *k, const nr_panels *list, size_t *panel)
{
    for (; *panel >= nr_panel_count(k, list->cols); list++) *panel -= nr_panel_count(k, list->cols);
    return list;
}

/* Parts of the rows times groups of panels are the tasks: at most part_most rows and group_most panels in one, fewer panels and
 * then fewer rows where the threads are many. */
static void cut(size_t *parts, size_t *groups, size_t rows, size_t part_most, size_t panels, size_t group_most)
{
    size_t least = LEAST_TASKS * nr_threads_get();
    *parts = (rows + part_most - 1) / part_most;
    *groups = NR_MAX((panels + group_most - 1) / group_most, NR_MIN(panels, (least + *parts - 1) / *parts));
    *parts = NR_MAX(*parts, NR_MIN((rows + PART_LEAST - 1) / PART_LEAST, (least + *groups - 1) / *groups));
}

/* Where the product's part from (row, col) on goes. */
static void aim(nr_panel *p, const nr_panels *to, size_t row, size_t col)
{
    p->y = (char *)to->y + (row * to->cols + col) * nr_dtype_size(to->to);
    p->to = to->to;
    p->y_pitch = to->cols;
    p->accumulate = to->accumulate;
    p->bias = to->bias ? to->bias + col : NULL;
}

/* Panel `panel` of the list from depth `at` on. */
static const char *piece(const job *j, size_t panel, size_t at)
{
    const nr_panels *of = nr_panels_find(j->k, j->list, &panel);
    return of->data + panel * j->panel_bytes + at * j->k->width * j->k->size;
}

/* The share of task k of n of what is read afterwards: of its rows [begin, end), which the walk has too, so that the thread
 * that asks for them is the one that will want them. Tasks take the runs in turn. */
static nr_ahead share_of_after(const job *j, size_t begin, size_t end, size_t k, size_t n)
{
    size_t runs = j->after_runs, run = k % runs, turn = k / runs, turns = (n - run + runs - 1) / runs;
    size_t pairs = j->after->bytes[run] / NR_FETCH, from = begin * pairs / j->n, walk = end * pairs / j->n - from, at = walk * turn / turns;
    return (nr_ahead){(const char *)j->after->at[run] + (from + at) * NR_FETCH, walk * (turn + 1) / turns - at, NR_FETCH};
}

/* Part after part of the near rows, panel after panel, then the next rows: a thread's stretch of tasks reads few panels
 * and few rows. Each part asks for its share of the next panel; those of the first panel for the next part's rows, the
 * others for what is read after the product. */
static void task(void *context, size_t i)
{
    const job *j = context;
    size_t part = i % j->parts, panel = i / j->parts % j->panels, begin = i / j->parts / j->panels * j->near;
    size_t near = NR_MIN(j->near, j->n - begin), pairs = j->panel_bytes / NR_FETCH, share = part * pairs / j->parts;
    size_t row = part * near / j->parts, end = (part + 1) * near / j->parts, then = NR_MIN((part + 2) * near / j->parts, near);
    const char *x = j->x + begin * j->row;
    nr_panel p = {.x = x + row * j->row, .pitch = j->row, .panel = piece(j, panel, 0), .rows = end - row, .depth = j->depth};
    if (row == end) return;
    if (panel + 1 < j->panels)
        p.next_panel = (nr_ahead){piece(j, panel + 1, 0) + share * NR_FETCH, (part + 1) * pairs / j->parts - share, NR_FETCH};
    if (panel == 0) p.next_rows = (nr_ahead){x + end * j->row, (then - end) * j->row / NR_FETCH, NR_FETCH};
    else if (j->after_runs > 0) p.next_rows = share_of_after(j, begin, begin + near, (panel - 1) * j->parts + part, (j->panels - 1) * j->parts);
    const nr_panels *to = nr_panels_find(j->k, j->list, &panel);
    size_t col = panel * j->k->width;
    p.cols = NR_MIN(j->k->width, to->cols - col);
    aim(&p, to, begin + row, col);
    j->k->product(&p);
}

/* sums += a piece of panel n from depth d on, for some rows; the last piece makes y of them. Panel `next` follows, from depth `then` on. */
static void deep_piece(const job *j, float *sums, size_t row, size_t rows, size_t n, size_t d, size_t next, size_t then)
{
    size_t most = DEEP_PIECE / j->k->size, width = j->k->width, panel = n, ahead = NR_MIN(most, j->depth - NR_MIN(then, j->depth));
    const nr_panels *to = nr_panels_find(j->k, j->list, &panel);
    size_t col = panel * width;
    nr_panel p = {.x = j->x + row * j->row + d * j->k->size, .pitch = j->row, .panel = piece(j, n, d), .rows = rows,
                  .cols = NR_MIN(width, to->cols - col), .depth = NR_MIN(most, j->depth - d), .begin = d ? sums : NULL,
                  .begin_pitch = width, .next_panel = {piece(j, next, ahead ? then : 0), ahead * width * j->k->size / NR_FETCH, NR_FETCH},
                  .y = sums, .to = NR_F32, .y_pitch = width};
    if (d + most >= j->depth) aim(&p, to, row, col);
    j->k->product(&p);
}

/* A part of the rows and a group of panels, piece by piece along the sums, so that a group reads the rows once. */
static void deep_task(void *context, size_t i)
{
    const job *j = context;
    _Alignas(64) float sums[DEEP_ROWS * DEEP_COLS];
    size_t part = i / j->groups, row = part * j->n / j->parts, rows = (part + 1) * j->n / j->parts - row, pitch = rows * j->k->width;
    size_t group = i % j->groups, first = group * j->panels / j->groups, last = (group + 1) * j->panels / j->groups;
    size_t most = DEEP_PIECE / j->k->size;
    for (size_t d = 0; d < j->depth; d += most) {
        for (size_t n = first; n + 1 < last; n++) deep_piece(j, sums + (n - first) * pitch, row, rows, n, d, n + 1, d);
        deep_piece(j, sums + (last - 1 - first) * pitch, row, rows, last - 1, d, first, d + most);
    }
}

void nr_panels_multiply(const nr_panel_kernels *k, const nr_panels *list, size_t count, const void *x, size_t n, size_t depth)
{
    job j = {.k = k, .list = list, .count = count, .x = x, .n = n, .depth = depth, .row = depth * k->size, .panel_bytes = nr_panel_bytes(k, depth)};
    size_t most = NR_MAX((size_t)TASK_ROWS, NR_MIN((size_t)NEAR_ROWS, NEAR_BYTES / j.row));
    size_t walks = (n + most - 1) / most;
    if (n == 0) return;
    for (size_t i = 0; i < count; i++) j.panels += nr_panel_count(k, list[i].cols);
    if (j.row > DEEP) {
        cut(&j.parts, &j.groups, n, DEEP_ROWS, j.panels, DEEP_COLS / k->width);
        nr_parallel(j.parts * j.groups, deep_task, &j);
        return;
    }
    if (n >= TASK_ROWS) j.after = nr_crew_told();
    while (j.after && j.after_runs < NR_RUNS && j.after->at[j.after_runs]) j.after_runs++;
    j.near = (n + walks - 1) / walks;
    j.parts = (j.near + TASK_ROWS - 1) / TASK_ROWS;
    nr_parallel(walks * j.panels * j.parts, task, &j);
}

/* ---- the weights' gradient ---- */

typedef struct {
    const nr_panel_kernels *k;
    float *dw;
    const char *dy, *x;
    size_t n, out, in;
    size_t panels, parts, groups; /* a task takes one part of the rows of dw and one group of panels */
} weight_job;

/* The rows of dw and the panels of x that a task takes. */
typedef struct {
    size_t row, rows, first, last;
} weight_place;

static weight_place weight_place_of(const weight_job *j, size_t task)
{
    size_t part = task / j->groups, group = task % j->groups, tiles = (j->out + NR_TILE - 1) / NR_TILE;
    size_t row = part * tiles / j->parts * NR_TILE, end = NR_MIN((part + 1) * tiles / j->parts * NR_TILE, j->out);
    return (weight_place){row, end - row, group * j->panels / j->groups, (group + 1) * j->panels / j->groups};
}

/* Both sides are turned on the task's stack, piece by piece along n. While a panel is multiplied, x of the next
 * one is asked for and a strip of dy of the next piece, or of the next task. */
static void weight_task(void *context, size_t i)
{
    const weight_job *j = context;
    const nr_panel_kernels *k = j->k;
    _Alignas(64) char left[PIECE * WEIGHT_ROWS], right[PIECE * NR_PANEL];
    const weight_place p = weight_place_of(j, i), q = weight_place_of(j, NR_MIN(i + 1, j->groups * j->parts - 1));
    size_t x_pitch = j->in * k->size, dy_pitch = j->out * k->size, most = PIECE / k->size;
    for (size_t at = 0; at < j->n; at += most) {
        size_t n = NR_MIN(most, j->n - at);
        bool end = at + n == j->n;
        const weight_place then = end ? q : p;
        size_t then_at = end ? 0 : at + n, then_n = NR_MIN(most, j->n - then_at);
        k->turn_to_tiles(left, j->dy + at * dy_pitch + p.row * k->size, j->out, n, p.rows);
        for (size_t panel = p.first; panel < p.last; panel++) {
            size_t col = panel * k->width, cols = NR_MIN(k->width, j->in - col), strip = (panel - p.first) * NR_FETCH / k->size;
            const char *x = j->x + at * x_pitch + col * k->size, *dy = j->dy + then_at * dy_pitch + (then.row + strip) * k->size;
            nr_ahead next = {x + k->width * k->size, n, x_pitch};
            if (panel + 1 == p.last) next = (nr_ahead){j->x + then_at * x_pitch + then.first * k->width * k->size, then_n, x_pitch};
            k->turn(right, x, j->in, n, cols);
            const nr_panel one = {.x = left, .panel = right, .rows = p.rows, .cols = cols,
                                  .depth = (n + k->unit - 1) / k->unit * k->unit, .y = j->dw + p.row * j->in + col, .to = NR_F32,
                                  .y_pitch = j->in, .accumulate = true, .next_panel = next,
                                  .next_rows = {dy, strip < then.rows ? then_n : 0, dy_pitch}};
            k->product(&one);
        }
    }
}

void nr_panels_weight(const nr_panel_kernels *k, float *dw, const void *dy, const void *x, size_t n, size_t out, size_t in)
{
    weight_job j = {k, dw, dy, x, n, out, in, nr_panel_count(k, in), 0, 0};
    cut(&j.parts, &j.groups, out, WEIGHT_ROWS, j.panels, WEIGHT_COLS / k->width);
    nr_parallel(j.groups * j.parts, weight_task, &j);
}
