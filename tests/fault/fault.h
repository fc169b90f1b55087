/*
 * fault.h - makes one chosen allocation, write or file operation of the library
 * fail. The linker leads malloc and its kind here (--wrap, see CMakeLists), so
 * the library itself carries no test code.
 *
 *   for (long n = 0;; n++) {
 *       fault_arm(n);
 *       status = work();
 *       if (!fault_disarm()) break;     the n-th point wasn't reached: done
 *       check that status is an error, or that the work got round it
 *   }
 */
#ifndef NR_FAULT_H
#define NR_FAULT_H

#include <stdbool.h>

/* The n-th fallible call from now fails, counted from 0. */
void fault_arm(long n);
/* Ends it; true when the failure happened. */
bool fault_disarm(void);

#endif
