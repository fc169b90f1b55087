/*
 * html_tree.c - a page's tree through gumbo.
 *
 * Owns the tree's memory: gumbo allocates from an arena of its own, which is
 * bounded and dropped whole, so that neither a page that grows without end nor
 * one nested deeper than the stack can harm the program. Refuses pages over
 * 16 MiB or with more than 300,000 tags, by name.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "prepare/html_tree.h"

#define MAX_PAGE (16u << 20)
#define MAX_TAGS 300000u
#define ARENA_LIMIT (256u << 20)
#define ARENA_BLOCK (256u << 10)

typedef struct block {
    struct block *next;
    size_t used, size;
} block;

typedef struct {
    nr_html_tree *tree;
    jmp_buf out; /* gumbo doesn't check what an allocation returns: leave it altogether */
} parser;

static void *take(void *user, size_t size)
{
    parser *p = user;
    nr_html_tree *t = p->tree;
    block *b = t->blocks;
    size = (size + 15) & ~(size_t)15;
    if (!b || b->size - b->used < size) {
        size_t room = NR_MAX(size, (size_t)ARENA_BLOCK);
        if (room > ARENA_LIMIT - t->total) longjmp(p->out, 1);
        b = malloc(sizeof *b + 16 + room);
        if (!b) longjmp(p->out, 1);
        *b = (block){t->blocks, 0, room};
        t->blocks = b;
        t->total += room;
    }
    char *base = (char *)(((uintptr_t)(b + 1) + 15) & ~(uintptr_t)15);
    void *at = base + b->used;
    b->used += size;
    return at;
}

static void ignore(void *user, void *p)
{
    (void)user;
    (void)p;
}

void nr_html_drop(nr_html_tree *t)
{
    for (block *b = t->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *t = (nr_html_tree){0};
}

static const GumboNode *parse(parser *p, const char *html, size_t n)
{
    GumboOptions options = kGumboDefaultOptions;
    options.allocator = take;
    options.deallocator = ignore;
    options.userdata = p;
    options.max_errors = 0;
    if (setjmp(p->out)) return NULL;
    return gumbo_parse_with_options(&options, html, n)->root;
}

nr_status nr_html_check(const char *html, size_t n, const char *where, nr_error *err)
{
    size_t tags = 0;
    if (n > MAX_PAGE)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: expected a page of at most %u bytes, found %zu", where, MAX_PAGE, n);
    for (size_t i = 0; i < n; i++) tags += html[i] == '<';
    if (tags > MAX_TAGS)
        return nr_fail(err, NR_E_UNSUPPORTED, "%s: expected a page of at most %u tags, found %zu", where, MAX_TAGS, tags);
    return NR_OK;
}

nr_status nr_html_parse(nr_html_tree *t, const char *html, size_t n, const char *where, nr_error *err)
{
    parser p = {.tree = t};
    t->root = parse(&p, html, n);
    if (t->root) return NR_OK;
    return nr_fail(err, NR_E_MEMORY, "%s: the page's tree takes more than %u bytes", where, ARENA_LIMIT);
}
