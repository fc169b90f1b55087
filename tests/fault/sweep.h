/* sweep.h - a piece of work with each of its fallible calls failing in turn. */
#ifndef NR_SWEEP_H
#define NR_SWEEP_H

#include "base/base.h"
#include "fault/fault.h"
#include "testing.h"

/* Runs work with its n-th fallible call failing, for every n there is: each failure comes back as one error, of memory or
 * of a file. check (NULL: none) looks at what every round left. Returns how many points of failure there were. */
static inline long sweep(nr_status (*work)(nr_error *err), void (*check)(nr_status st), long at_least)
{
    for (long n = 0; n < 20000; n++) {
        nr_error err = {0};
        fault_arm(n);
        nr_status st = work(&err);
        bool failed = fault_disarm();
        if (!failed && st != NR_OK) fail_msg("%s", err.message);
        if (failed && st != NR_E_MEMORY && st != NR_E_IO) fail_msg("failure %ld came back as %d: %s", n, st, err.message);
        if (check) check(st);
        if (!failed) {
            if (n < at_least) fail_msg("expected %ld points of failure or more, found %ld", at_least, n);
            return n;
        }
        assert_int_equal(err.status, st);
        assert_true(err.message[0] != '\0');
    }
    fail_msg("more points of failure than a sweep has patience for");
    return 0;
}

#endif
