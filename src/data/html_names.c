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

#include "data/html_main.h"

enum { CLASS = 1, ID = 2 };
enum { BLOCK = 1, LINK = 2, OTHER = 4, ANY = 7 };

typedef struct {
    int names;          /* CLASS, ID or both */
    int tags;           /* kinds of elements */
    size_t least_depth;
    bool part;          /* any part of a name will do, else the whole name must fit */
    bool own_text_wins; /* "content", "wrapper" and the like beside it keep the element */
    const char *before, *core, *after; /* words parted by blanks; before and after may be missing from the name */
} family;

static const family families[] = {
    {CLASS | ID, BLOCK | LINK, 0, false, true, "l m wp main site page sub article global sticky",
     "nav navbar navigation navmenu menu menuitem dropdown breadcrumb breadcrumbs linkbar linkbox linkslist linklist linksbar linkssection linkcontainer",
     "bar menu container wrapper"},
    {CLASS | ID, BLOCK | LINK, 0, false, false, "wp p l", "modal popup lightbox", "window pane box"},
    {CLASS | ID, BLOCK | LINK, 0, false, true, "global site", "footer copyright cookie consent legal fcontainer",
     "wrap wrapper container banner notice bar consent"},
    {CLASS | ID, BLOCK | LINK, 0, false, true, NULL,
     "siteheader globalheader wpheader fullheader stickyheader lheader mheader", "wrap wrapper bar"},
    {ID, BLOCK | LINK, 0, false, false, "global site full sticky", "header footer head foot right", NULL},
    {CLASS | ID, BLOCK | LINK, 0, false, false, NULL, "search", "bar box facility"},
    {CLASS | ID, BLOCK | LINK, 0, false, false, NULL, "gallery carousel", NULL},
    {CLASS | ID, BLOCK | LINK, 0, false, false, "l wp global sticky",
     "sidebar sidebars sidebox stickybar stickybox onethird", NULL},
    {CLASS | ID, BLOCK | LINK, 0, true, false, NULL,
     "trends trending recommended featured popular related readnext editorspick editorspicks", NULL},
    {CLASS | ID, ANY, 0, false, false, "brand branding", "logo", NULL},
    {CLASS | ID, ANY, 0, false, false, "google wide", "advert advertise advertisement advertisementlink sponsor sponsored "
     "promoted paid banner donate googleads googlead widead wideads", NULL},
    {CLASS, ANY, 1, true, false, NULL,
     "login signin signup account userinfo userprofile usersettings useractions social socialmedia share sharedaddy sharing "
     "syndication newsletter follow email like likes feedback facebook twitter subscribe", NULL},
    {CLASS, ANY, 0, false, false, "is visually", "displaynone hidden invisible collapsed h0 nocontent expandable spinner",
     "xs sm lg xl"},
    {CLASS, BLOCK | LINK, 0, false, false, NULL,
     "skip skipto skiplink skiptocontent skiptomaincontent scrollup scrolldown next prev previous permalink pagination linkskip",
     "post article"},
};

/* Beside these a name such as "menu" says how the page's own text is laid out. */
static const char own_text[] = "article entry post story singlepost maincontent content body text page wrap wrapper";

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

/* Whether s is one of the words, then perhaps one of `after`. */
static bool core_fits(const family *f, const char *s, size_t n)
{
    if (listed(f->core, s, n)) return true;
    for (const char *p = f->after; p && *p;) {
        size_t k = strcspn(p, " ");
        if (n > k && memcmp(s + n - k, p, k) == 0 && listed(f->core, s, n - k)) return true;
        p += k + (p[k] == ' ');
    }
    return false;
}

static bool whole_fits(const family *f, const char *s, size_t n)
{
    if (core_fits(f, s, n)) return true;
    for (const char *p = f->before; p && *p;) {
        size_t k = strcspn(p, " ");
        if (n > k && memcmp(s, p, k) == 0 && core_fits(f, s + k, n - k)) return true;
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

static bool family_fits(const family *f, const name *w)
{
    if (!f->part) return whole_fits(f, w->text, w->size);
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
    case GUMBO_TAG_A: return LINK;
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_UL:
    case GUMBO_TAG_OL:
    case GUMBO_TAG_LI:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_TABLE:
    case GUMBO_TAG_FORM: return BLOCK;
    default: return OTHER;
    }
}

static bool names_fit(const char *list, int which, int kind, size_t depth, bool keep)
{
    name w;
    while (list && next_name(&list, &w))
        for (size_t i = 0; i < NR_COUNT(families); i++) {
            const family *f = &families[i];
            if ((f->names & which) && (f->tags & kind) && depth >= f->least_depth && !(keep && f->own_text_wins) &&
                family_fits(f, &w))
                return true;
        }
    return false;
}

static bool names_own_text(const char *list)
{
    name w;
    while (list && next_name(&list, &w))
        for (size_t i = 0; i < w.parts; i++)
            if (listed(own_text, w.text + w.start[i], w.start[i + 1] - w.start[i])) return true;
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
    if (e->tag == GUMBO_TAG_A && rel && listed("author prev next tag", rel, strlen(rel))) return true;
    return style_hides(attribute(e, "style"));
}

bool nr_html_named_furniture(const GumboElement *e, size_t depth)
{
    if (e->attributes.length == 0) return false;
    if (attributes_hide(e)) return true;
    const char *classes = attribute(e, "class"), *id = attribute(e, "id");
    if (!classes && !id) return false;
    int kind = kind_of(e->tag);
    bool keep = names_own_text(classes) || names_own_text(id);
    return names_fit(classes, CLASS, kind, depth, keep) || names_fit(id, ID, kind, depth, keep);
}
