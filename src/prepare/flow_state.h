/* flow_state.h - how far a flow has got, as its folder's state.json says; for flow*.c alone. */
#ifndef NR_FLOW_STATE_H
#define NR_FLOW_STATE_H

#include "prepare/flow.h"

typedef struct {
    size_t bytes, documents;
    char sha256[65];
} nr_part_info;

typedef struct {
    char key[65];                /* inputs and settings */
    size_t file, record;         /* to read next: record number `record` of file number `file` */
    uint64_t records, paragraphs; /* read from all files so far */
    bool done;
    nr_part_info *parts;
    size_t part_count;
    char (*hashes)[65];          /* of the files read to the end: [0, file) */
    nr_counts counts;
} nr_flow_state;

void nr_flow_state_free(nr_flow_state *s);
/* Room for one more part, and for the hashes of all files. */
nr_status nr_flow_state_add_part(nr_flow_state *s, const nr_part_info *part, nr_error *err);
/* files: how many there are to read, SIZE_MAX: unknown. *found false: there is none yet. */
nr_status nr_flow_state_load(nr_flow_state *s, const char *folder, size_t files, bool *found, nr_error *err);
nr_status nr_flow_state_save(const nr_flow_state *s, const char *folder, nr_error *err);
/* part-00000.jsonl */
char *nr_flow_part_path(const char *folder, size_t number);

#endif
