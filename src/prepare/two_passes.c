/*
 * two_passes.c - leaving out what repeats something earlier, where only the
 * whole text tells. The first pass spreads keys over files; between the passes
 * equal keys meet, and one bit a number says what goes; the second pass reads
 * the text again without it. A run that was killed behind the bits goes on
 * with the second pass.
 */
#include <stdlib.h>

#include "prepare/two_passes.h"

static nr_status find(nr_two_passes *t, const nr_dedup_work *w, const char *bits, const char *keys, const char key[65],
                      const nr_listener *l, nr_error *err)
{
    nr_counts unused = {0};
    nr_flow_size size;
    nr_flow f = {.inputs = w->inputs, .settings = w->settings, .steps = {NR_STEP("read", nr_step_read, w->read), t->look},
                 .step_count = 2, .sink = t->spread, .user = t->self, .title = t->looking};
    nr_status st = nr_partitions_open(&t->keys, keys, err);
    if (st == NR_OK && t->begin) st = t->begin(t->self, err);
    if (st == NR_OK) st = nr_flow_run(&f, &unused, &size, l, err);
    if (st == NR_OK) st = nr_partitions_flush(&t->keys, err);
    if (st == NR_OK && t->between) st = t->between(t->self, err);
    if (st == NR_OK) st = nr_bits_create(&t->gone, bits, t->paragraphs ? size.paragraphs : size.records, err);
    if (st == NR_OK) st = nr_partitions_repeats(&t->keys, t->meet, t->self, err);
    if (st == NR_OK) st = nr_bits_finish(&t->gone, bits, key, err);
    nr_partitions_close(&t->keys);
    nr_counts_free(&unused);
    return st;
}

nr_status nr_two_passes_run(nr_two_passes *t, const nr_dedup_work *w, nr_counts *c, const nr_listener *l, nr_error *err)
{
    nr_flow f = {.inputs = w->inputs, .settings = w->settings, .steps = {NR_STEP("read", nr_step_read, w->read), t->drop},
                 .step_count = 2, .folder = w->folder, .part_bytes = w->part_bytes, .title = t->dropping};
    char key[65];
    bool found = false;
    for (size_t i = 0; i < w->more_count && f.step_count < NR_COUNT(f.steps); i++) f.steps[f.step_count++] = w->more[i];
    char *bits = nr_path_join(w->folder, t->bits), *keys = nr_path_join(w->folder, "keys.tmp");
    nr_status st = bits && keys ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", w->folder);
    if (st == NR_OK) st = nr_make_folders(w->folder, err);
    if (st == NR_OK) st = nr_flow_key(w->inputs, w->settings, key, err);
    if (st == NR_OK) st = nr_bits_open(&t->gone, bits, key, &found, err);
    if (st == NR_OK && found) st = nr_remove_folder(keys, err); /* killed after the bits were whole */
    if (st == NR_OK && !found) st = find(t, w, bits, keys, key, l, err);
    if (st == NR_OK) st = nr_flow_run(&f, c, NULL, l, err);
    nr_bits_close(&t->gone);
    free(bits);
    free(keys);
    return st;
}
