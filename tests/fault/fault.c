/*
 * fault.c - the functions that --wrap puts in the place of the C library's.
 * Counts calls of this thread's test only; jansson's allocations are led here
 * by the test through json_set_alloc_funcs.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "fault/fault.h"

static long left = -1; /* calls until the failure; -1: not armed */
static bool fired;

void fault_arm(long n)
{
    fired = false;
    __atomic_store_n(&left, n, __ATOMIC_SEQ_CST);
}

bool fault_disarm(void)
{
    __atomic_store_n(&left, -1, __ATOMIC_SEQ_CST);
    return fired;
}

static bool now(int number)
{
    if (__atomic_load_n(&left, __ATOMIC_SEQ_CST) < 0) return false;
    if (__atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST) != 0) return false;
    fired = true;
    errno = number;
    return true;
}

/* X(result, name, parameters, arguments, errno of the failure, what it returns then) */
#define WRAPPED(X)                                                                                            \
    X(void *, malloc, (size_t n), (n), ENOMEM, NULL)                                                          \
    X(void *, calloc, (size_t n, size_t size), (n, size), ENOMEM, NULL)                                       \
    X(void *, realloc, (void *p, size_t n), (p, n), ENOMEM, NULL)                                             \
    X(void *, aligned_alloc, (size_t align, size_t n), (align, n), ENOMEM, NULL)                              \
    X(int, vasprintf, (char **out, const char *fmt, va_list ap), (out, fmt, ap), ENOMEM, -1)                  \
    X(size_t, fwrite, (const void *p, size_t size, size_t n, FILE *f), (p, size, n, f), ENOSPC, 0)            \
    X(int, fflush, (FILE *f), (f), ENOSPC, EOF)                                                               \
    X(int, fsync, (int fd), (fd), EIO, -1)                                                                    \
    X(int, rename, (const char *from, const char *to), (from, to), EIO, -1)                                   \
    X(FILE *, fdopen, (int fd, const char *mode), (fd, mode), ENOMEM, NULL)                                   \
    X(void *, mmap, (void *p, size_t n, int prot, int flags, int fd, off_t at), (p, n, prot, flags, fd, at), \
      ENOMEM, MAP_FAILED)

#define X(type, name, parameters, arguments, number, failed) \
    type __real_##name parameters;                           \
    type __wrap_##name parameters;                           \
    type __wrap_##name parameters { return now(number) ? failed : __real_##name arguments; }
WRAPPED(X)
#undef X
