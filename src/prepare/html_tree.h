/* html_tree.h - the HTML5 tree of a page, in bounded memory. */
#ifndef NR_HTML_TREE_H
#define NR_HTML_TREE_H

#include <gumbo.h>

#include "base/base.h"

typedef struct {
    void *blocks;          /* memory of the tree */
    size_t total;
    const GumboNode *root; /* the html element */
} nr_html_tree;

/* Whether the page is small enough: at most 16 MiB and 300,000 tags. */
nr_status nr_html_check(const char *html, size_t n, const char *where, nr_error *err);
/* Parses UTF-8. The bytes must stay until nr_html_drop, which is due after a failure too. Start with {0}. */
nr_status nr_html_parse(nr_html_tree *t, const char *html, size_t n, const char *where, nr_error *err);
void nr_html_drop(nr_html_tree *t);

#endif
