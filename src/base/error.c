/*
 * error.c - statuses as text and exit codes, and the one way an error is made:
 * a single line in the caller's nr_error.
 *
 * File names and fields come from outside, so control characters (newlines,
 * terminal escapes) and bytes that aren't UTF-8 are replaced before they reach a
 * terminal or a log.
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"

const char *nr_version(void) { return NRES_VERSION; }

const char *nr_status_text(nr_status s)
{
    switch (s) {
#define NR_X(name, code, text) \
    case name: return text;
        NR_STATUS_LIST(NR_X)
#undef NR_X
    }
    return "unknown status";
}

int nr_status_exit_code(nr_status s)
{
    switch (s) {
#define NR_X(name, code, text) \
    case name: return code;
        NR_STATUS_LIST(NR_X)
#undef NR_X
    }
    return 1;
}

/* Cuts a UTF-8 sequence that the end of the buffer split. */
static void trim_split_character(char *s, size_t n)
{
    size_t start = n;
    while (start > 0 && ((unsigned char)s[start - 1] & 0xC0) == 0x80) start--;
    if (start == 0) return;
    unsigned char lead = (unsigned char)s[start - 1];
    size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (n - (start - 1) < want) s[start - 1] = '\0';
}

/* Bytes of the UTF-8 character at s; 0: a control character, or none at all. */
static size_t printable(const unsigned char *s)
{
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7F;
    size_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || (s[0] == 0xC2 && s[1] < 0xA0)) return 0; /* 0xC2 0x80 to 0x9F: controls */
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return n;
}

static void clean_line(char *s)
{
    while (*s) {
        size_t n = printable((unsigned char *)s);
        if (n == 0) *s = '?';
        s += n ? n : 1;
    }
}

nr_status nr_fail(nr_error *err, nr_status s, const char *fmt, ...)
{
    if (!err) return s;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    err->status = s;
    if (n < 0) snprintf(err->message, sizeof err->message, "%s", nr_status_text(s));
    if (n >= (int)sizeof err->message) trim_split_character(err->message, sizeof err->message - 1);
    clean_line(err->message);
    return s;
}

nr_status nr_fail_errno(nr_error *err, const char *what, const char *path)
{
    int number = errno;
    char buf[256];
    /* The GNU strerror_r: may answer with a static text instead of buf. */
    const char *reason = strerror_r(number, buf, sizeof buf);
    return nr_fail(err, number == ENOMEM ? NR_E_MEMORY : NR_E_IO, "%s: %s: %s", path, what, reason);
}
