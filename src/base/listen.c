/* listen.c - calls of a listener that may be absent, whole or in parts. */
#include "base/base.h"

void nr_say(const nr_listener *l, const char *fmt, ...)
{
    if (!l || !l->log) return;
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    l->log(l->user, line);
}

void nr_progress(const nr_listener *l, const char *what, double done, double total, double rate, const char *unit)
{
    if (l && l->progress) l->progress(l->user, what, done, total, rate, unit);
}

bool nr_stopped(const nr_listener *l) { return l && l->stop && l->stop(l->user); }
