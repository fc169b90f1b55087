/*
 * html_main.c - the main text of a page of any kind.
 *
 * Walks the tree once and leaves out what can't be text (scripts, forms'
 * fields, pictures), what is furniture by its element and place (navigation,
 * asides, lists right under the body, footers at the end), by its names
 * (html_names.c) or by its share of links. Everything else is kept, headings,
 * lists, tables and code too: what of it is worth training on is for later
 * steps to say.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/html_main.h"
#include "prepare/html_tree.h"
#include "prepare/prep.h"

#define MAX_DEPTH 400 /* text nested deeper is left out */
#define MAX_LISTS 64  /* items nested deeper are numbered no more */

typedef struct {
    const nr_main_options *options;
    nr_buffer *out;
    size_t start;          /* of the page's text in out */
    size_t dropped;
    size_t depth;          /* elements between the node and the body */
    int breaks;            /* line ends owed before the next text: 0, 1, 2 */
    bool space;            /* a blank is owed */
    int tabs;              /* cells ended since the last text */
    int pre, lists;
    int links;             /* elements "a" around the node */
    size_t seen;           /* bytes of text passed, whether kept or not; a run of white space is one */
    size_t seen_links;     /* of these inside links */
    bool seen_blank;       /* the last of them was white space */
    size_t indent;         /* blanks at the start of a line of preformatted text */
    size_t number[MAX_LISTS]; /* of the last item; SIZE_MAX: a list without numbers */
    char mark[32];         /* of an item that has no text yet */
} walk;

/* ---- writing ---- */

static void owe(walk *w, int breaks)
{
    w->breaks = NR_MAX(w->breaks, breaks);
    w->space = false;
    w->tabs = 0;
}

/* What stands between the last text and the next. */
static void pay(walk *w)
{
    bool first = w->out->size == w->start, new_line = first || w->breaks > 0;
    if (!first && w->breaks > 0) nr_buffer_add(w->out, "\n\n", (size_t)w->breaks);
    else if (!first && w->tabs > 0) nr_buffer_add(w->out, "\t", 1);
    else if (!first && w->space) nr_buffer_add(w->out, " ", 1);
    if (w->mark[0]) {
        for (int i = 1; i < w->lists && new_line && i < MAX_LISTS; i++) nr_buffer_text(w->out, "  ");
        nr_buffer_text(w->out, w->mark);
    }
    for (; new_line && w->indent > 0; w->indent--) nr_buffer_add(w->out, " ", 1);
    w->mark[0] = 0;
    w->breaks = w->tabs = 0;
    w->indent = 0;
    w->space = false;
}

/* Characters that show nothing: soft hyphens, zero-width spaces, byte order marks, controls. */
static bool unseen(uint32_t c)
{
    return c < 0x20 || c == 0x7F || c == 0xAD || c == 0x200B || c == 0x2060 || c == 0xFEFF || c == 0xFFFD ||
           (c >= 0xE000 && c <= 0xF8FF);
}

/* White space is one blank, but in preformatted text. */
static void add_blank(walk *w, unsigned char c)
{
    if (w->pre && c == '\n') {
        w->breaks = NR_MIN(w->breaks + 1, 2);
        w->space = false;
        w->indent = 0;
    } else if (w->pre && w->breaks > 0) {
        w->indent += w->indent < 64;
    } else if (w->pre && w->out->size > w->start) {
        nr_buffer_add(w->out, " ", 1);
    } else {
        w->space = w->breaks == 0;
    }
}

static void add_text(walk *w, const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0, k; i < n; i += k) {
        unsigned char c = (unsigned char)s[i];
        uint32_t code = c;
        k = 1;
        if (c == ' ' || (c >= 9 && c <= 13)) {
            add_blank(w, c);
            continue;
        }
        if (c >= 0x80 && (k = nr_utf8_read(s + i, n - i, &code)) == 0) {
            k = 1;
            continue;
        }
        if (code == 0xA0 || code == 0x2028 || code == 0x2029) {
            w->space = w->breaks == 0;
            continue;
        }
        if (unseen(code)) continue;
        if (w->breaks || w->space || w->tabs || w->mark[0]) pay(w);
        size_t run = k; /* plain bytes that follow go along */
        while (i + run < n && (unsigned char)s[i + run] > ' ' && (unsigned char)s[i + run] < 0x7F) run++;
        nr_buffer_add(w->out, s + i, run);
        k = run;
    }
}

/* ---- what is left out ---- */

static bool never_text(GumboTag t)
{
    switch (t) {
    case GUMBO_TAG_HEAD:
    case GUMBO_TAG_SCRIPT:
    case GUMBO_TAG_STYLE:
    case GUMBO_TAG_NOSCRIPT:
    case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_TEXTAREA:
    case GUMBO_TAG_INPUT:
    case GUMBO_TAG_BUTTON:
    case GUMBO_TAG_SELECT:
    case GUMBO_TAG_OPTION:
    case GUMBO_TAG_IFRAME:
    case GUMBO_TAG_AUDIO:
    case GUMBO_TAG_VIDEO: return true;
    default: return false;
    }
}

static const GumboVector *children_of(const GumboNode *n)
{
    bool element = n->type == GUMBO_NODE_ELEMENT || n->type == GUMBO_NODE_TEMPLATE;
    return element ? &n->v.element.children : NULL;
}

static bool is_text(const GumboNode *n)
{
    return n->type == GUMBO_NODE_TEXT || n->type == GUMBO_NODE_CDATA || n->type == GUMBO_NODE_WHITESPACE;
}

/* Whether no element follows it, nor any that holds it, below the body. */
static bool ends_the_page(const GumboNode *n)
{
    for (; n->parent && n->parent->type == GUMBO_NODE_ELEMENT && n->v.element.tag != GUMBO_TAG_BODY; n = n->parent) {
        const GumboVector *row = &n->parent->v.element.children;
        for (unsigned i = (unsigned)n->index_within_parent + 1; i < row->length; i++)
            if (((const GumboNode *)row->data[i])->type == GUMBO_NODE_ELEMENT) return false;
    }
    return true;
}

static bool furniture(const walk *w, const GumboNode *n)
{
    const GumboElement *e = &n->v.element;
    switch (e->tag) {
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_H1:
    case GUMBO_TAG_HTML:
    case GUMBO_TAG_BODY: return false;
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_ASIDE:
    case GUMBO_TAG_LABEL:
    case GUMBO_TAG_TIME: return true;
    case GUMBO_TAG_UL:
        if (w->depth < 3) return true;
        break;
    case GUMBO_TAG_FOOTER: return w->depth < 2 || ends_the_page(n);
    default: break;
    }
    return nr_html_named_furniture(e, w->depth);
}

/* ---- the walk ---- */

typedef enum { INLINE, LINE, BLOCK } flow;

static flow flow_of(GumboTag t)
{
    switch (t) {
    case GUMBO_TAG_LI:
    case GUMBO_TAG_TR:
    case GUMBO_TAG_DT:
    case GUMBO_TAG_DD:
    case GUMBO_TAG_CAPTION:
    case GUMBO_TAG_THEAD:
    case GUMBO_TAG_TBODY:
    case GUMBO_TAG_TFOOT:
    case GUMBO_TAG_OPTGROUP:
    case GUMBO_TAG_SUMMARY:
    case GUMBO_TAG_LEGEND: return LINE;
    case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_ARTICLE:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_BODY:
    case GUMBO_TAG_CENTER:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_DIR:
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_FIELDSET:
    case GUMBO_TAG_FIGCAPTION:
    case GUMBO_TAG_FIGURE:
    case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_FORM:
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_HGROUP:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_MENU:
    case GUMBO_TAG_OL:
    case GUMBO_TAG_P:
    case GUMBO_TAG_PRE:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_TABLE:
    case GUMBO_TAG_UL: return BLOCK;
    default: return INLINE;
    }
}

/* A list inside a list goes on in its lines. */
static int breaks_around(const walk *w, GumboTag t)
{
    flow f = flow_of(t);
    if (f == INLINE) return 0;
    return f == LINE || w->lists > 0 ? 1 : 2;
}

static void begin_item(walk *w)
{
    size_t list = (size_t)NR_MIN(w->lists, MAX_LISTS);
    if (w->options->no_bullets) return;
    if (list == 0 || w->number[list - 1] == SIZE_MAX)
        snprintf(w->mark, sizeof w->mark, "- ");
    else
        snprintf(w->mark, sizeof w->mark, "%zu. ", ++w->number[list - 1]);
}

static void visit(walk *w, const GumboNode *node, size_t level);

static void visit_children(walk *w, const GumboNode *node, size_t level)
{
    const GumboVector *row = children_of(node);
    bool list = node->v.element.tag == GUMBO_TAG_UL || node->v.element.tag == GUMBO_TAG_OL;
    bool pre = node->v.element.tag == GUMBO_TAG_PRE;
    if (list && w->lists++ < MAX_LISTS) w->number[w->lists - 1] = node->v.element.tag == GUMBO_TAG_OL ? 0 : SIZE_MAX;
    w->pre += pre;
    for (unsigned i = 0; i < row->length; i++) visit(w, row->data[i], level + 1);
    w->pre -= pre;
    w->lists -= list;
}

/* Adds a text node to what was seen. */
static void see_text(walk *w, const char *s)
{
    size_t n = 0;
    for (; *s; s++) {
        bool blank = *s == ' ' || (*s >= 9 && *s <= 13);
        n += !blank || !w->seen_blank;
        w->seen_blank = blank;
    }
    w->seen += n;
    if (w->links > 0) w->seen_links += n;
}

/* Adds what is left out: a box is judged by all it holds. */
static void see(walk *w, const GumboNode *node, size_t level)
{
    const GumboVector *row = children_of(node);
    if (level > MAX_DEPTH) return;
    if (is_text(node)) see_text(w, node->v.text.text);
    if (!row) return;
    bool link = node->v.element.tag == GUMBO_TAG_A;
    w->links += link;
    for (unsigned i = 0; i < row->length; i++) see(w, row->data[i], level + 1);
    w->links -= link;
}

/* Whether an element with so many bytes of text, so many of them in links, is a way to other pages. The numbers are
 * resiliparse's, read off pages made up for it. A box with a name is judged sooner than one without, unless the name
 * says that it holds the page's own text. */
static bool is_link_box(const walk *w, const GumboElement *e, size_t text, size_t links)
{
    double share = text > 0 ? (double)links / (double)text : 0;
    switch (e->tag) {
    case GUMBO_TAG_UL: return share > 0.2;
    case GUMBO_TAG_ARTICLE: return w->depth >= 2 && text <= 500 && share > 0.2;
    case GUMBO_TAG_DIV:
        if (share <= 0.6) return false;
        return nr_html_has_name(e) ? w->depth >= 2 && !nr_html_named_text(e) : w->depth >= 5 && text <= 800;
    default: return false;
    }
}

static void visit_element(walk *w, const GumboNode *node, size_t level)
{
    const GumboElement *e = &node->v.element;
    if (never_text(e->tag) || (!w->options->everything && furniture(w, node))) {
        w->dropped++;
        see(w, node, level);
        if (flow_of(e->tag) != INLINE) owe(w, breaks_around(w, e->tag));
        return;
    }
    if (e->tag == GUMBO_TAG_BR) {
        owe(w, 1);
        return;
    }
    if (e->tag == GUMBO_TAG_IMG || e->tag == GUMBO_TAG_AREA) {
        GumboAttribute *alt = w->options->no_alt ? NULL : gumbo_get_attribute(&e->attributes, "alt");
        if (alt && *alt->value) add_text(w, alt->value), w->space = true;
        return;
    }
    int breaks = breaks_around(w, e->tag);
    bool below_body = e->tag != GUMBO_TAG_HTML && e->tag != GUMBO_TAG_BODY;
    if (breaks) owe(w, breaks);
    if (e->tag == GUMBO_TAG_LI) begin_item(w);
    size_t start = w->out->size, seen = w->seen, links = w->seen_links;
    w->depth += below_body;
    w->links += e->tag == GUMBO_TAG_A;
    visit_children(w, node, level);
    w->links -= e->tag == GUMBO_TAG_A;
    w->depth -= below_body;
    bool wrote = w->out->size > start;
    if (wrote && !w->options->everything && is_link_box(w, e, w->seen - seen, w->seen_links - links)) {
        w->out->size = start;
        w->out->data[start] = 0;
        w->dropped++;
    }
    if (breaks) owe(w, breaks);
    if (e->tag == GUMBO_TAG_LI) w->mark[0] = 0; /* an item without text */
    if (e->tag == GUMBO_TAG_TD || e->tag == GUMBO_TAG_TH) w->tabs++;
}

static void visit(walk *w, const GumboNode *node, size_t level)
{
    if (level > MAX_DEPTH) return;
    if (node->type == GUMBO_NODE_ELEMENT) visit_element(w, node, level);
    if (!is_text(node)) return;
    see_text(w, node->v.text.text);
    add_text(w, node->v.text.text);
}

nr_status nr_html_main(nr_buffer *out, const char *html, size_t n, const nr_main_options *o, size_t *dropped,
                       const char *where, nr_error *err)
{
    nr_html_tree tree = {0};
    NR_TRY(nr_html_check(html, n, where, err));
    nr_status st = nr_html_parse(&tree, html, n, where, err);
    if (st == NR_OK) {
        walk w = {.options = o, .out = out, .start = out->size};
        visit(&w, tree.root, 0);
        if (dropped) *dropped += w.dropped;
        if (out->failed) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for the page's text", where);
    }
    nr_html_drop(&tree);
    return st;
}
