/* training.h - what nres extend and nres resume share. */
#ifndef NR_TRAINING_H
#define NR_TRAINING_H

#include "cli/cli.h"

/* The usual listener; the live line shows the loss too, and with json every event is printed as a line of stdout. */
const nr_listener *nr_training_listener(bool json, bool quiet);

/* Joins the other processes where a launcher started this one beside them, or where --mpi asks for it (asked); else
 * *out is NULL. Returns 0, or the exit code of an error that was printed. */
int nr_training_join(nr_cluster **out, bool asked);
/* Prints the error, once for all ranks where they share it, and leaves; the exit code. A rank that failed alone ends
 * the others. */
int nr_training_fail(nr_cluster *c, const nr_error *err);
/* Prints the run's folder, on one rank and not with json, and leaves. */
int nr_training_done(nr_cluster *c, const char *run, bool json);

#endif
