/*
 * memory.c - allocation that names what it was for, the two-walk arena, and
 * growing strings. Every product of sizes is checked; running out of memory is
 * an error to report, never a crash.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_DEFINED(p, bytes) (void)0
#endif

#include "base/base.h"

#define ALIGNMENT 64 /* a cache line, and the widest vector */
#define LARGE     ((size_t)1 << 20)

bool nr_mul_overflows(size_t a, size_t b, size_t *product) { return __builtin_mul_overflow(a, b, product); }

/* bytes rounded up to the alignment; at least one line. */
static bool round_up(size_t bytes, size_t *rounded)
{
    if (bytes == 0) bytes = 1;
    if (bytes > SIZE_MAX - (ALIGNMENT - 1)) return false;
    *rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return true;
}

/* Large blocks aren't written: their whole pages go back to the system, which hands out zeros when one is first touched, by
 * the thread that works there. What never is takes no memory. */
static void clear(char *p, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), begin = (page - (uintptr_t)p % page) % page, whole = bytes < LARGE ? 0 : (bytes - begin) / page * page;
    if (whole == 0 || madvise(p + begin, whole, MADV_DONTNEED) != 0) {
        memset(p, 0, bytes);
        return;
    }
    memset(p, 0, begin);
    memset(p + begin + whole, 0, bytes - begin - whole);
    (void)VALGRIND_MAKE_MEM_DEFINED(p + begin, whole); /* which doesn't know that those are zeros */
}

nr_status nr_alloc(void *out, size_t count, size_t size, const char *what, nr_error *err)
{
    void *p = NULL;
    size_t bytes, rounded;
    memcpy(out, &p, sizeof p);
    if (nr_mul_overflows(count, size, &bytes) || !round_up(bytes, &rounded))
        return nr_fail(err, NR_E_MEMORY, "%s: %zu elements of %zu bytes don't fit into an address space", what, count,
                       size);
    p = aligned_alloc(ALIGNMENT, rounded);
    if (!p) return nr_fail(err, NR_E_MEMORY, "%s: out of memory, %zu bytes wanted", what, rounded);
    clear(p, rounded);
    memcpy(out, &p, sizeof p);
    return NR_OK;
}

char *nr_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = malloc(n);
    return copy ? memcpy(copy, s, n) : NULL;
}

bool nr_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

char *nr_format(const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : text;
}

/* ---- arena ---- */

void *nr_arena_take(nr_arena *a, size_t count, size_t size)
{
    size_t bytes, rounded;
    /* A dry walk that overflows ends at SIZE_MAX, which no commit can meet. */
    if (nr_mul_overflows(count, size, &bytes) || !round_up(bytes, &rounded) || rounded > SIZE_MAX - a->used) {
        a->used = SIZE_MAX;
        return NULL;
    }
    size_t at = a->used;
    if (!a->base) {
        a->used += rounded;
        return NULL;
    }
    if (rounded > a->size - at) return NULL;
    a->used += rounded;
    return a->base + at;
}

nr_status nr_arena_commit(nr_arena *a, const char *what, nr_error *err)
{
    NR_TRY(nr_alloc(&a->base, a->used, 1, what, err));
    a->size = a->used;
    a->used = 0;
    return NR_OK;
}

void nr_arena_free(nr_arena *a)
{
    free(a->base);
    *a = (nr_arena){0};
}

/* ---- growing string ---- */

/* Room for n more bytes and the NUL after them. */
static bool grow(nr_buffer *b, size_t n)
{
    if (b->failed) return false;
    if (n < b->cap && b->size < b->cap - n) return true;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->size <= n) {
        if (cap > SIZE_MAX / 2) {
            b->failed = true;
            return false;
        }
        cap *= 2;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void nr_buffer_add(nr_buffer *b, const void *data, size_t n)
{
    if (!grow(b, n)) return;
    if (n > 0) memcpy(b->data + b->size, data, n);
    b->size += n;
    b->data[b->size] = '\0';
}

void nr_buffer_text(nr_buffer *b, const char *s) { nr_buffer_add(b, s, strlen(s)); }

void nr_buffer_printf(nr_buffer *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) b->failed = true;
    if (n < 0 || !grow(b, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->size, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->size += (size_t)n;
}

void nr_buffer_free(nr_buffer *b)
{
    free(b->data);
    *b = (nr_buffer){0};
}
