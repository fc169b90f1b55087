/*
 * html_names.c - which elements are a site's furniture, told by their names.
 *
 * Sites name what they are made of: class="site-nav", id="footer". A name is
 * cut into its parts ("site", "nav"; "navBar" stays one) and looked up in
 * families of words: what a thing is called, what may stand before it and
 * behind it. Which elements a family may remove, and whether a class or an id
 * says more, was tried out on made-up pages against resiliparse 2.0.1, whose
 * choices are the aim (docs/DATA.md says where it differs).
 */
#include <string.h>
#include <strings.h>

#include "prepare/html_main.h"

enum { CLASS = 1, ID = 2 };
enum { BLOCK = 1, JUMP = 2, OTHER = 4, ANY = 7 }; /* JUMP: what links of "next" and "skip" are made of */
enum { FRONT = 1, BACK = 2 };

typedef struct {
    int names;          /* CLASS, ID or both */
    int tags;           /* kinds of elements */
    size_t least_depth;
    bool part;          /* any part of a name will do, else the whole name must fit */
    int dashed;         /* FRONT, BACK: what stands before, behind, must be parted from it by a dash */
    const char *before, *core, *after; /* words parted by blanks; before ("*": anything) and after may be missing from the name */
} family;

static const family families[] = {
    {CLASS | ID, BLOCK, 0, false, BACK, "l m wp main site page sub article global sticky", "nav navbar navigation",
     "bar menu container wrapper"},
    {CLASS | ID, BLOCK, 0, false, 0, "l m wp main site page sub article global sticky",
     "menu menuitem dropdown breadcrumb breadcrumbs linkbar linkbox linkslist linklist linksbar linkssection linkcontainer", NULL},
    {CLASS | ID, BLOCK, 0, false, FRONT, "wp p", "modal popup lightbox", "window pane box"},
    {CLASS | ID, BLOCK, 0, false, BACK, "global site", "footer copyright cookie consent legal fcontainer",
     "wrap wrapper container banner notice bar consent"},
    {CLASS | ID, BLOCK, 0, false, 0, NULL,
     "siteheader globalheader wpheader fullheader stickyheader lheader mheader", "wrap wrapper bar"},
    {ID, BLOCK, 0, false, 0, "l wp page global site full sticky", "header footer head foot right", NULL},
    {CLASS | ID, BLOCK, 0, false, 0, NULL, "search", "bar box facility"},
    {CLASS | ID, BLOCK, 0, false, 0, NULL, "gallery carousel", NULL},
    {CLASS | ID, BLOCK, 0, false, 0, "l wp global sticky",
     "sidebar sidebars sidebox stickybar stickybox onethird", NULL},
    {CLASS | ID, BLOCK, 0, true, 0, NULL,
     "trends trending recommended featured popular related readnext editorspick editorspicks", NULL},
    {CLASS | ID, ANY, 0, false, 0, "*", "logo", NULL},
    {CLASS | ID, ANY, 0, false, 0, "google wide", "advert advertise advertisement advertisementlink sponsor sponsored "
     "promoted paid banner donate googleads googlead widead wideads", NULL},
    {CLASS, ANY, 2, true, 0, NULL,
     "login signin signup account userinfo userprofile usersettings useractions social socialmedia share sharedaddy sharing "
     "syndication newsletter follow email like likes feedback facebook twitter subscribe", NULL},
    {CLASS, ANY, 0, false, 0, "is visually", "displaynone hidden invisible collapsed h0 nocontent expandable spinner",
     "xs sm lg xl"},
    {CLASS, JUMP, 0, false, 0, NULL,
     "skip skipto skiplink skiptocontent skiptomaincontent scrollup scrolldown next prev previous permalink pagination linkskip",
     "post article"},
};

/* Beside these a name such as "menu" says how the page's own text is laid out: a block is kept. */
static const char layout[] = "article entry post story singlepost maincontent content body text page wrap wrapper";

/* Beside these a box may be full of links. */
static const char own_text[] = "article entry post story content body text page";

/* Whether the n bytes of s are one of the words. */
static bool listed(const char *words, const char *s, size_t n)
{
    for (const char *p = words; p && *p;) {
        size_t k = strcspn(p, " ");
        if (k == n && memcmp(p, s, n) == 0) return true;
        p += k + (p[k] == ' ');
    }
    return false;
}

/* A name in lower case without its dashes, and where its parts begin. */
typedef struct {
    char text[64];
    size_t size, parts, start[17];
} name;

/* Reads the next name of a list; names too long to mean anything are passed over. */
static bool next_name(const char **list, name *out)
{
    const char *p = *list;
    do {
        p += strspn(p, " \t\r\n\f");
        if (!*p) return false;
        size_t n = strcspn(p, " \t\r\n\f");
        *out = (name){.parts = 1};
        bool fits = n < sizeof out->text;
        for (size_t i = 0; i < n && fits; i++) {
            char c = p[i];
            if (c == '-' || c == '_') {
                if (out->size > out->start[out->parts - 1] && out->parts < 16) out->start[out->parts++] = out->size;
            } else {
                out->text[out->size++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
            }
        }
        out->start[out->parts] = out->size;
        p += n;
        *list = p;
        if (fits && out->size > 0) return true;
    } while (*p);
    return false;
}

/* Whether one of a name's parts begins at the place. */
static bool part_at(const name *w, size_t place)
{
    for (size_t i = 0; i < w->parts; i++)
        if (w->start[i] == place) return true;
    return false;
}

/* Whether the name from `from` on is one of the words, then perhaps one of `after`. */
static bool core_fits(const family *f, const name *w, size_t from)
{
    const char *s = w->text + from;
    size_t n = w->size - from;
    if (listed(f->core, s, n)) return true;
    for (const char *p = f->after; p && *p;) {
        size_t k = strcspn(p, " ");
        if (n > k && memcmp(s + n - k, p, k) == 0 && listed(f->core, s, n - k) &&
            (!(f->dashed & BACK) || part_at(w, w->size - k)))
            return true;
        p += k + (p[k] == ' ');
    }
    return false;
}

/* Whether the name ends in one of the words. */
static bool ends_in(const char *words, const name *w)
{
    for (size_t from = 0; from < w->size; from++)
        if (listed(words, w->text + from, w->size - from)) return true;
    return false;
}

static bool whole_fits(const family *f, const name *w)
{
    if (f->before && f->before[0] == '*') return ends_in(f->core, w);
    if (core_fits(f, w, 0)) return true;
    for (const char *p = f->before; p && *p;) {
        size_t k = strcspn(p, " ");
        if (w->size > k && memcmp(w->text, p, k) == 0 && core_fits(f, w, k) && (!(f->dashed & FRONT) || part_at(w, k)))
            return true;
        p += k + (p[k] == ' ');
    }
    return false;
}

static bool family_fits(const family *f, const name *w)
{
    if (!f->part) return whole_fits(f, w);
    for (size_t i = 0; i < w->parts; i++) {
        const char *s = w->text + w->start[i];
        if (listed(f->core, s, w->start[i + 1] - w->start[i])) return true;
        if (i + 1 < w->parts && listed(f->core, s, w->start[i + 2] - w->start[i])) return true;
    }
    return false;
}

static int kind_of(GumboTag t)
{
    switch (t) {
    case GUMBO_TAG_A: return JUMP;
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_LI: return BLOCK | JUMP;
    case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_CENTER:
    case GUMBO_TAG_DD:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_DT:
    case GUMBO_TAG_FIELDSET:
    case GUMBO_TAG_FIGCAPTION:
    case GUMBO_TAG_FIGURE:
    case GUMBO_TAG_FORM:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_HGROUP:
    case GUMBO_TAG_OL:
    case GUMBO_TAG_P:
    case GUMBO_TAG_PRE:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_TABLE:
    case GUMBO_TAG_TD:
    case GUMBO_TAG_TR:
    case GUMBO_TAG_UL: return BLOCK;
    default: return OTHER;
    }
}

static bool names_fit(const char *list, int which, int kind, size_t depth, bool keep)
{
    name w;
    while (list && next_name(&list, &w))
        for (size_t i = 0; i < NR_COUNT(families); i++) {
            const family *f = &families[i];
            if ((f->names & which) && (f->tags & kind) && depth >= f->least_depth && !(keep && f->tags == BLOCK) &&
                family_fits(f, &w))
                return true;
        }
    return false;
}

/* Whether a part of a name is one of the words. */
static bool names_part(const char *list, const char *words)
{
    name w;
    while (list && next_name(&list, &w))
        for (size_t i = 0; i < w.parts; i++)
            if (listed(words, w.text + w.start[i], w.start[i + 1] - w.start[i])) return true;
    return false;
}

static const char *attribute(const GumboElement *e, const char *key)
{
    GumboAttribute *a = gumbo_get_attribute(&e->attributes, key);
    return a ? a->value : NULL;
}

/* "display: none" or "visibility: hidden" in an element's own style. */
static bool style_hides(const char *style)
{
    static const char *const pairs[][2] = {{"display", "none"}, {"visibility", "hidden"}};
    for (size_t i = 0; i < NR_COUNT(pairs) && style; i++) {
        const char *p = strcasestr(style, pairs[i][0]);
        if (!p) continue;
        p += strlen(pairs[i][0]);
        p += strspn(p, " :");
        if (strncasecmp(p, pairs[i][1], strlen(pairs[i][1])) == 0) return true;
    }
    return false;
}

static bool attributes_hide(const GumboElement *e)
{
    const char *hidden = attribute(e, "aria-hidden"), *expanded = attribute(e, "aria-expanded"), *rel = attribute(e, "rel");
    if (attribute(e, "hidden")) return true;
    if (hidden && strcmp(hidden, "true") == 0) return true;
    if (expanded && strcmp(expanded, "false") == 0) return true;
    if (rel && listed("author prev next tag", rel, strlen(rel))) return true;
    return style_hides(attribute(e, "style"));
}

bool nr_html_named_furniture(const GumboElement *e, size_t depth)
{
    if (e->attributes.length == 0) return false;
    if (attributes_hide(e)) return true;
    const char *classes = attribute(e, "class"), *id = attribute(e, "id");
    if (!classes && !id) return false;
    int kind = kind_of(e->tag);
    bool keep = names_part(classes, layout) || names_part(id, layout);
    return names_fit(classes, CLASS, kind, depth, keep) || names_fit(id, ID, kind, depth, keep);
}

bool nr_html_has_name(const GumboElement *e)
{
    const char *classes = attribute(e, "class"), *id = attribute(e, "id");
    return (classes && *classes) || (id && *id);
}

bool nr_html_named_text(const GumboElement *e)
{
    return names_part(attribute(e, "class"), own_text) || names_part(attribute(e, "id"), own_text);
}
