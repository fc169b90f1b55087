/*
 * prep_html.c - the running text of an HTML page, through gumbo's tree.
 *
 * Keeps prose alone: what is kept of a page of any kind is for html_main.c to
 * say. Refuses what html_tree.c refuses.
 */
#include <string.h>
#include <strings.h>

#include "prepare/html_tree.h"
#include "prepare/prep.h"

#define MAX_DEPTH 400   /* text nested deeper is left out */

/* ---- the walk ---- */

typedef struct {
    const nr_html_options *options;
    nr_html_counts *counts;
    nr_buffer *out, text;         /* text: the block being read */
    size_t link_bytes, code_bytes; /* of the block */
    int in_link, in_code;
    int dropping;                 /* level of the heading whose section is left out; 0: none */
} walk;

static bool is_one_of(GumboTag t, const GumboTag *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t == list[i]) return true;
    return false;
}

static bool skipped_tag(GumboTag t)
{
    static const GumboTag list[] = {
        GUMBO_TAG_SCRIPT, GUMBO_TAG_STYLE,  GUMBO_TAG_NOSCRIPT, GUMBO_TAG_TEMPLATE, GUMBO_TAG_HEAD,   GUMBO_TAG_TITLE,
        GUMBO_TAG_NAV,    GUMBO_TAG_HEADER, GUMBO_TAG_FOOTER,   GUMBO_TAG_ASIDE,    GUMBO_TAG_FORM,   GUMBO_TAG_BUTTON,
        GUMBO_TAG_SELECT, GUMBO_TAG_OPTION, GUMBO_TAG_TEXTAREA, GUMBO_TAG_INPUT,    GUMBO_TAG_LABEL,  GUMBO_TAG_SVG,
        GUMBO_TAG_MATH,   GUMBO_TAG_IFRAME, GUMBO_TAG_OBJECT,   GUMBO_TAG_AUDIO,    GUMBO_TAG_VIDEO,  GUMBO_TAG_CANVAS,
        GUMBO_TAG_PRE,    GUMBO_TAG_XMP,    GUMBO_TAG_LISTING,  GUMBO_TAG_FIGCAPTION, GUMBO_TAG_MENU};
    return is_one_of(t, list, NR_COUNT(list));
}

static bool inline_tag(GumboTag t)
{
    static const GumboTag list[] = {
        GUMBO_TAG_A,    GUMBO_TAG_ABBR, GUMBO_TAG_ACRONYM, GUMBO_TAG_B,     GUMBO_TAG_BDI,   GUMBO_TAG_BDO,  GUMBO_TAG_BIG,
        GUMBO_TAG_CITE, GUMBO_TAG_CODE, GUMBO_TAG_DEL,     GUMBO_TAG_DFN,   GUMBO_TAG_EM,    GUMBO_TAG_FONT, GUMBO_TAG_I,
        GUMBO_TAG_IMG,  GUMBO_TAG_INS,  GUMBO_TAG_KBD,     GUMBO_TAG_MARK,  GUMBO_TAG_NOBR,  GUMBO_TAG_Q,    GUMBO_TAG_S,
        GUMBO_TAG_SAMP, GUMBO_TAG_SMALL, GUMBO_TAG_SPAN,   GUMBO_TAG_STRIKE, GUMBO_TAG_STRONG, GUMBO_TAG_SUB, GUMBO_TAG_SUP,
        GUMBO_TAG_TIME, GUMBO_TAG_TT,   GUMBO_TAG_U,       GUMBO_TAG_VAR,   GUMBO_TAG_WBR,   GUMBO_TAG_RUBY, GUMBO_TAG_RP,
        GUMBO_TAG_RT,   GUMBO_TAG_DATA};
    return is_one_of(t, list, NR_COUNT(list));
}

static bool code_tag(GumboTag t)
{
    return t == GUMBO_TAG_CODE || t == GUMBO_TAG_KBD || t == GUMBO_TAG_SAMP || t == GUMBO_TAG_TT || t == GUMBO_TAG_VAR;
}

/* Level of a heading, 0 for other elements. */
static int heading_level(GumboTag t) { return t >= GUMBO_TAG_H1 && t <= GUMBO_TAG_H6 ? (int)(t - GUMBO_TAG_H1) + 1 : 0; }

/* Whether `list` (words parted by white space) holds one of the classes. */
static bool names_one(const char *list, const char *const *classes, size_t count)
{
    while (list && *list) {
        list += strspn(list, " \t\r\n\f");
        size_t n = strcspn(list, " \t\r\n\f");
        for (size_t i = 0; i < count && n > 0; i++)
            if (strlen(classes[i]) == n && strncasecmp(list, classes[i], n) == 0) return true;
        list += n;
    }
    return false;
}

static const char *attribute(const GumboElement *e, const char *name)
{
    GumboAttribute *a = gumbo_get_attribute(&e->attributes, name);
    return a ? a->value : NULL;
}

/* Names that pages give to what is not their text. */
static const char *const furniture[] = {
    "nav",    "navbar",  "navigation", "navheader", "navfooter", "menu",     "sidebar", "breadcrumb", "breadcrumbs", "toc",
    "footer", "header",  "banner",     "contentinfo", "search",  "pagination", "pager", "related",    "cookie",      "advert",
    "hidden", "noprint", "sharing",    "social",    "comments",  "skip-link", "editsection", "reference"};

static bool left_out(const walk *w, const GumboElement *e)
{
    const nr_html_options *o = w->options;
    if (skipped_tag(e->tag)) return true;
    if (e->tag == GUMBO_TAG_BODY || e->tag == GUMBO_TAG_HTML) return false;
    const char *names[] = {attribute(e, "class"), attribute(e, "id"), attribute(e, "role")};
    if (!o->keep_hidden && gumbo_get_attribute(&e->attributes, "hidden")) return true;
    const char *aria = attribute(e, "aria-hidden");
    if (aria && strcmp(aria, "true") == 0) return true;
    for (size_t i = 0; i < NR_COUNT(names); i++)
        if (names_one(names[i], furniture, NR_COUNT(furniture)) || names_one(names[i], o->drop_classes, o->drop_class_count))
            return true;
    return names_one(gumbo_normalized_tagname(e->tag), o->drop_classes, o->drop_class_count);
}

/* Ends the block being read and keeps it when it is running text. */
static void end_block(walk *w)
{
    nr_buffer plain = {0};
    if (w->text.size > 0) nr_text_plain(&plain, w->text.data, w->text.size);
    if (plain.size > 0) {
        bool links = (double)w->link_bytes > 0.6 * (double)w->text.size;
        bool code = (double)w->code_bytes > 0.6 * (double)w->text.size;
        w->counts->blocks++;
        w->counts->dropped_links += links && !w->dropping;
        w->counts->dropped_code += code && !links && !w->dropping;
        if (!links && !code && !w->dropping) {
            if (w->out->size > 0) nr_buffer_text(w->out, "\n\n");
            nr_buffer_add(w->out, plain.data, plain.size);
        }
    }
    if (plain.failed || w->text.failed) w->out->failed = true;
    nr_buffer_free(&plain);
    w->text.size = 0;
    w->link_bytes = w->code_bytes = 0;
}

/* Bytes of text below a node, and those of them inside links. */
static void measure(const GumboNode *node, int depth, bool link, size_t *bytes, size_t *links)
{
    if (node->type == GUMBO_NODE_TEXT || node->type == GUMBO_NODE_CDATA) {
        size_t n = strlen(node->v.text.text);
        *bytes += n;
        if (link) *links += n;
    }
    if ((node->type != GUMBO_NODE_ELEMENT && node->type != GUMBO_NODE_TEMPLATE) || depth > MAX_DEPTH) return;
    const GumboVector *children = &node->v.element.children;
    for (unsigned i = 0; i < children->length; i++)
        measure(children->data[i], depth + 1, link || node->v.element.tag == GUMBO_TAG_A, bytes, links);
}

static void add_text(walk *w, const char *s)
{
    size_t n = strlen(s);
    nr_buffer_add(&w->text, s, n);
    if (w->in_link) w->link_bytes += n;
    if (w->in_code) w->code_bytes += n;
}

static void visit(walk *w, const GumboNode *node, int depth);

static void visit_children(walk *w, const GumboNode *node, int depth)
{
    const GumboVector *children = &node->v.element.children;
    for (unsigned i = 0; i < children->length; i++) visit(w, children->data[i], depth + 1);
}

/* Whether the text reads as one of the headings to leave out, case and punctuation aside. */
static bool heading_to_drop(const walk *w, const char *s, size_t n)
{
    size_t words;
    uint64_t h = nr_words_hash(s, n, &words);
    for (size_t i = 0; i < w->options->drop_section_count && words > 0; i++) {
        const char *title = w->options->drop_sections[i];
        if (nr_words_hash(title, strlen(title), NULL) == h) return true;
    }
    return false;
}

/* Headings are no running text: they only steer which sections are left out. */
static void visit_heading(walk *w, const GumboNode *node, int level, int depth)
{
    visit_children(w, node, depth);
    bool drop = w->text.size > 0 && heading_to_drop(w, w->text.data, w->text.size);
    w->text.size = 0;
    w->link_bytes = w->code_bytes = 0;
    if (w->dropping && level > w->dropping) return;
    w->counts->dropped_sections += drop;
    w->dropping = drop ? level : 0;
}

static void visit_element(walk *w, const GumboNode *node, int depth)
{
    const GumboElement *e = &node->v.element;
    int level = heading_level(e->tag);
    bool table = e->tag == GUMBO_TAG_TABLE;
    if (left_out(w, e)) {
        w->counts->dropped_elements++;
        if (!inline_tag(e->tag)) end_block(w);
        return;
    }
    if (table) {
        size_t bytes = 0, links = 0;
        measure(node, 0, false, &bytes, &links);
        if (links * 2 > bytes) {
            w->counts->dropped_links++;
            end_block(w);
            return;
        }
    }
    if (e->tag == GUMBO_TAG_BR || e->tag == GUMBO_TAG_WBR || e->tag == GUMBO_TAG_IMG) {
        if (e->tag == GUMBO_TAG_BR) nr_buffer_text(&w->text, "\n");
        return;
    }
    if (inline_tag(e->tag)) {
        w->in_link += e->tag == GUMBO_TAG_A && attribute(e, "href") != NULL;
        w->in_code += code_tag(e->tag);
        visit_children(w, node, depth);
        w->in_link -= e->tag == GUMBO_TAG_A && attribute(e, "href") != NULL;
        w->in_code -= code_tag(e->tag);
        return;
    }
    end_block(w);
    if (level)
        visit_heading(w, node, level, depth);
    else
        visit_children(w, node, depth);
    end_block(w);
}

static void visit(walk *w, const GumboNode *node, int depth)
{
    if (depth > MAX_DEPTH) return;
    switch (node->type) {
    case GUMBO_NODE_TEXT:
    case GUMBO_NODE_CDATA:
    case GUMBO_NODE_WHITESPACE: add_text(w, node->v.text.text); break;
    case GUMBO_NODE_ELEMENT: visit_element(w, node, depth); break;
    default: break;
    }
}

/* ---- a page ---- */

nr_status nr_html_prose(nr_buffer *out, const char *html, size_t n, const nr_html_options *o, nr_html_counts *counts,
                        const char *where, nr_error *err)
{
    nr_html_counts own = {0};
    nr_buffer utf8 = {0};
    nr_html_tree tree = {0};
    nr_status st = NR_OK;
    NR_TRY(nr_html_check(html, n, where, err));
    /* Old pages in a Western single-byte encoding are recognised by not being UTF-8. */
    if (!nr_utf8_valid(html, n)) {
        nr_utf8_from_1252(&utf8, html, n);
        if (utf8.failed) return nr_fail(err, NR_E_MEMORY, "%s: out of memory for %zu bytes", where, n);
        html = utf8.data;
        n = utf8.size;
    }
    st = nr_html_parse(&tree, html, n, where, err);
    if (st == NR_OK) {
        nr_buffer prose = {0};
        walk w = {.options = o, .counts = counts ? counts : &own, .out = &prose};
        visit(&w, tree.root, 0);
        end_block(&w);
        if (prose.failed) st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for the page's text", where);
        if (st == NR_OK && prose.size > 0) {
            if (out->size > 0) nr_buffer_text(out, "\n\n");
            nr_buffer_add(out, prose.data, prose.size);
        }
        nr_buffer_free(&prose);
        nr_buffer_free(&w.text);
    }
    nr_html_drop(&tree);
    nr_buffer_free(&utf8);
    return st;
}
