/* task_table.h - what nres eval --tasks prints. */
#ifndef NR_TASK_TABLE_H
#define NR_TASK_TABLE_H

#include "base/base.h"

/* Tables of 80 columns of what nr_score_tasks returned. */
void nr_cli_print_tasks(const json_t *o);
/* And of what nr_list_tasks returned. */
void nr_cli_print_task_list(const json_t *list);

#endif
