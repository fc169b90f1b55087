/* html_main.h - the main text of a page of any kind. */
#ifndef NR_HTML_MAIN_H
#define NR_HTML_MAIN_H

#include <gumbo.h>

#include "base/base.h"

typedef struct {
    bool everything; /* keep navigation, footers, hidden elements and the like too */
    bool no_bullets; /* no marks before the items of lists */
    bool no_alt;     /* no descriptions of pictures */
} nr_main_options;

/* ---- html_main.c ----
 * Appends the text of a page in UTF-8: blocks with an empty line between two,
 * items of lists, rows of tables and lines of poems on a line each. Left out
 * is what names, roles and place mark as furniture of the site. *dropped (may
 * be NULL): elements left out. Refuses what nr_html_check refuses. */
nr_status nr_html_main(nr_buffer *out, const char *html, size_t n, const nr_main_options *o, size_t *dropped,
                       const char *where, nr_error *err);

/* ---- html_names.c ----
 * Whether an element's class, id, role and other attributes say that it is no
 * part of the page's own text. depth: elements between it and the body. */
bool nr_html_named_furniture(const GumboElement *e, size_t depth);

/* Whether it has a class or id at all, and whether one of them says that the page's own text is inside. */
bool nr_html_has_name(const GumboElement *e);
bool nr_html_named_text(const GumboElement *e);

#endif
