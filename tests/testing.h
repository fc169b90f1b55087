/* testing.h - what every unit test starts with: cmocka and a folder of its own. */
#ifndef NR_TESTING_H
#define NR_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A fresh folder under $TMPDIR; the caller removes it. buf holds its path. */
static inline char *testing_folder(char buf[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(buf, 256, "%s/nres-test-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(buf));
    return buf;
}

#endif
