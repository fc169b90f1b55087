/* data_flow.h - the steps of nres data that work on text of any size; for cmd_data.c alone. */
#ifndef NR_CLI_DATA_FLOW_H
#define NR_CLI_DATA_FLOW_H

#include "cli/cli.h"

/* Whether the word is one of them: run, read, language, dedup, near, quality. */
bool nr_data_flow_knows(const char *word);
/* argv[0] is the word. */
int nr_data_flow_run(int argc, char **argv);
/* Their options; the first `shared` stand with the other steps of nres data too. */
const nr_option *nr_data_flow_options(size_t *count, size_t *shared);

#endif
