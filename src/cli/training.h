/* training.h - what nres extend and nres resume share. */
#ifndef NR_TRAINING_H
#define NR_TRAINING_H

#include "cli/cli.h"

/* The usual listener; the live line shows the loss too, and with json every event is printed as a line of stdout. */
const nr_listener *nr_training_listener(bool json, bool quiet);

#endif
