/*
 * template.h - the part of Jinja that chat templates use, run on one
 * conversation. A tag is only read when it is reached, so branches for tools
 * that are never taken may hold anything; what is reached and not known is
 * refused by its text.
 *
 * Statements: if/elif/else, for over messages or a list, set (names and
 * namespace fields), macro (skipped until called, and then refused).
 * Blocks are trimmed as the `transformers` package sets it: the newline after
 * a block goes (trim_blocks), white space before one on its line goes
 * (lstrip_blocks), "-" strips all.
 */
#ifndef NR_TEMPLATE_H
#define NR_TEMPLATE_H

#include "base/base.h"

typedef enum {
    NR_V_UNDEFINED, NR_V_NONE, NR_V_BOOL, NR_V_INT, NR_V_STRING, NR_V_LIST, NR_V_RECORD
} nr_value_kind;

struct nr_record;

/* Strings and items live until the template is closed. */
typedef struct nr_value {
    nr_value_kind kind;
    int64_t n;       /* bool, int */
    const char *text; /* string: NUL-terminated, `size` bytes */
    size_t size;     /* of a string; items of a list */
    struct nr_value *items;
    struct nr_record *record;
} nr_value;

/* A message, a namespace or the loop variable. */
enum { NR_RECORD_FIELDS = 12 };
typedef struct nr_record {
    const char *names[NR_RECORD_FIELDS];
    nr_value values[NR_RECORD_FIELDS];
    size_t count;
} nr_record;

/* Caps that no real template comes near; a hostile one ends at them. */
enum { NR_TEMPLATE_VARIABLES = 64 };
#define NR_TEMPLATE_BYTES ((size_t)256 << 20) /* of memory, and printed */

typedef struct {
    struct {
        const char *name;
        nr_value value;
        size_t scope;
    } variables[NR_TEMPLATE_VARIABLES];
    size_t variable_count, scope;
    void **taken; /* every allocation */
    size_t taken_count, taken_cap, taken_bytes;
    size_t steps;
    nr_buffer out;
    nr_status st; /* the first failure; all that follows does nothing */
    const char *where;
    nr_error *err;
} nr_template;

/* ---- template_memory.c ---- */

/* Fails once, naming the text that isn't understood. */
void nr_template_refuse(nr_template *t, const char *why, const char *text, size_t n);
void *nr_template_take(nr_template *t, size_t count, size_t size);
nr_value nr_template_string(nr_template *t, const char *text, size_t n);
void nr_template_set(nr_template *t, const char *name, nr_value v);
/* NULL after a failure; setting a field does nothing then. */
nr_record *nr_record_new(nr_template *t);
void nr_record_set(nr_template *t, nr_record *r, const char *name, nr_value v);

void nr_template_close(nr_template *t);

/* template_value.c: the value of an expression, all of [text, text + n). */
nr_value nr_template_value(nr_template *t, const char *text, size_t n);
bool nr_value_true(const nr_value *v);

/* template.c: runs a template; what it prints goes to t->out. */
void nr_template_run(nr_template *t, const char *text);

#endif
