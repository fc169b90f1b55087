/*
 * template.c - statements of chat templates: their text cut into nodes, and run.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/template.h"

/* Further caps, as those of template.h. */
enum { NODES_MAX = 4096, STEPS_MAX = 100000, BLOCKS_MAX = 32 };

/* ---- cutting a template into text, prints and statements ---- */

typedef enum { TEXT, PRINT, STATEMENT } node_kind;

typedef struct {
    node_kind kind;
    const char *text;
    size_t size;
    size_t next; /* if, elif, for, macro: the elif, else or end that belongs to it */
} node;

typedef struct {
    nr_template *t;
    node *nodes;
    size_t count;
} program;

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void add_node(program *g, node_kind kind, const char *text, size_t size)
{
    if (kind == TEXT && size == 0) return;
    if (g->count == NODES_MAX) nr_template_refuse(g->t, "is too long", text, size);
    else g->nodes[g->count++] = (node){.kind = kind, .text = text, .size = size};
}

/* The end of a tag that opens at p: past its closing mark, which may stand in a string only where it is no mark. */
static const char *tag_end(const char *p, char close)
{
    char quote = 0;
    for (p += 2; *p; p++) {
        if (quote) {
            if (*p == '\\' && p[1]) p++;
            else if (*p == quote) quote = 0;
        } else if (close != '#' && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (*p == close && p[1] == '}') {
            return p + 2;
        }
    }
    return NULL;
}

/* Text before a tag, cut as the tag's left mark and its line ask for. */
static size_t trimmed(const char *text, size_t n, const char *begin, char sign, bool print)
{
    if (sign == '-') {
        while (n && is_space(text[n - 1])) n--;
        return n;
    }
    if (print || sign == '+') return n;
    size_t m = n;
    while (m && (text[m - 1] == ' ' || text[m - 1] == '\t')) m--;
    bool line_start = m ? text[m - 1] == '\n' : text == begin || text[-1] == '\n';
    return line_start ? m : n;
}

static void cut(program *g, const char *begin)
{
    const char *p = begin, *end = begin + strlen(begin);
    if (end > begin && end[-1] == '\n') end--; /* one newline at the end of a template is not text */
    while (g->t->st == NR_OK && p < end) {
        const char *tag = p;
        while (tag < end && !(*tag == '{' && (tag[1] == '{' || tag[1] == '%' || tag[1] == '#'))) tag++;
        if (tag >= end) {
            add_node(g, TEXT, p, (size_t)(end - p));
            return;
        }
        char kind = tag[1], close = kind == '{' ? '}' : kind;
        const char *after = tag_end(tag, close);
        if (!after) {
            nr_template_refuse(g->t, "has a tag without an end", tag, strlen(tag));
            return;
        }
        add_node(g, TEXT, p, trimmed(p, (size_t)(tag - p), begin, tag[2], kind == '{'));
        const char *from = tag + 2, *to = after - 2;
        if (from < to && (*from == '-' || *from == '+')) from++;
        bool strip = to > from && to[-1] == '-';
        if (strip) to--;
        if (kind != '#') {
            while (from < to && is_space(*from)) from++;
            while (to > from && is_space(to[-1])) to--;
            add_node(g, kind == '{' ? PRINT : STATEMENT, from, (size_t)(to - from));
        }
        p = after;
        if (strip) while (p < end && is_space(*p)) p++;
        else if (kind != '{' && p < end && *p == '\n') p++;
    }
}

/* Whether a statement opens with a word; *rest is what follows it. */
static bool opens(const node *s, const char *word, const char **rest)
{
    size_t n = strlen(word);
    if (s->kind != STATEMENT || s->size < n || memcmp(s->text, word, n) != 0) return false;
    if (s->size > n && !is_space(s->text[n]) && s->text[n] != '(') return false;
    *rest = s->text + n;
    return true;
}

/* Ties each if, elif, for and macro to what ends it. */
static void link_blocks(program *g)
{
    size_t open[BLOCKS_MAX], depth = 0;
    for (size_t i = 0; g->t->st == NR_OK && i < g->count; i++) {
        node *s = &g->nodes[i];
        const char *rest;
        bool middle = opens(s, "elif", &rest) || opens(s, "else", &rest);
        bool end = opens(s, "endif", &rest) || opens(s, "endfor", &rest) || opens(s, "endmacro", &rest);
        bool begin = opens(s, "if", &rest) || opens(s, "for", &rest) || opens(s, "macro", &rest);
        if ((middle || end) && depth == 0) nr_template_refuse(g->t, "ends a block that isn't open", s->text, s->size);
        else if (middle || end) g->nodes[open[--depth]].next = i;
        if ((begin || middle) && depth == BLOCKS_MAX) nr_template_refuse(g->t, "is nested too deep", s->text, s->size);
        else if (begin || middle) open[depth++] = i;
    }
    if (g->t->st == NR_OK && depth) nr_template_refuse(g->t, "has a block without an end", g->nodes[open[0]].text, g->nodes[open[0]].size);
}

/* ---- running ---- */

static void run(program *g, size_t from, size_t to);

static void print_value(program *g, const node *s)
{
    nr_value v = nr_template_value(g->t, s->text, s->size);
    if (g->t->st != NR_OK) return;
    if (v.kind == NR_V_STRING) nr_buffer_add(&g->t->out, v.text, v.size);
    else if (v.kind == NR_V_INT) nr_buffer_printf(&g->t->out, "%lld", (long long)v.n);
    else if (v.kind != NR_V_UNDEFINED) nr_template_refuse(g->t, "prints what is no text", s->text, s->size);
}

static void run_set(program *g, const node *s, const char *rest)
{
    const char *end = s->text + s->size, *name = rest, *dot = NULL;
    while (name < end && is_space(*name)) name++;
    const char *p = name;
    for (; p < end && *p != '=' && !is_space(*p); p++)
        if (*p == '.') dot = p;
    const char *name_end = p;
    while (p < end && is_space(*p)) p++;
    if (p == end || *p != '=' || name == name_end || memchr(name, ',', (size_t)(name_end - name))) {
        nr_template_refuse(g->t, "has a set that is not known", s->text, s->size);
        return;
    }
    nr_value v = nr_template_value(g->t, p + 1, (size_t)(end - p - 1));
    if (!dot) {
        nr_template_set(g->t, nr_template_string(g->t, name, (size_t)(name_end - name)).text, v);
        return;
    }
    nr_value space = nr_template_value(g->t, name, (size_t)(dot - name));
    if (space.kind != NR_V_RECORD) nr_template_refuse(g->t, "sets a field of what has none", s->text, s->size);
    else nr_record_set(g->t, space.record, nr_template_string(g->t, dot + 1, (size_t)(name_end - dot - 1)).text, v);
}

static nr_value whole(size_t n)
{
    return (nr_value){.kind = NR_V_INT, .n = (int64_t)n};
}

static void set_loop(program *g, size_t i, size_t count)
{
    nr_record *l = nr_record_new(g->t);
    nr_record_set(g->t, l, "index0", whole(i));
    nr_record_set(g->t, l, "index", whole(i + 1));
    nr_record_set(g->t, l, "first", (nr_value){.kind = NR_V_BOOL, .n = i == 0});
    nr_record_set(g->t, l, "last", (nr_value){.kind = NR_V_BOOL, .n = i + 1 == count});
    nr_record_set(g->t, l, "length", whole(count));
    nr_template_set(g->t, "loop", (nr_value){.kind = NR_V_RECORD, .record = l});
}

/* for NAME in LIST, from node i to its end */
static void run_for(program *g, size_t i, const char *rest)
{
    const node *s = &g->nodes[i];
    const char *end = s->text + s->size, *p = rest;
    while (p < end && is_space(*p)) p++;
    const char *name = p;
    while (p < end && !is_space(*p) && *p != ',') p++;
    size_t n = (size_t)(p - name);
    while (p < end && is_space(*p)) p++;
    const char *unused;
    if (n == 0 || end - p < 4 || memcmp(p, "in", 2) != 0 || !is_space(p[2]) || opens(&g->nodes[s->next], "else", &unused)) {
        nr_template_refuse(g->t, "has a loop that is not known", s->text, s->size);
        return;
    }
    nr_value list = nr_template_value(g->t, p + 3, (size_t)(end - p - 3));
    if (list.kind != NR_V_LIST) nr_template_refuse(g->t, "loops over what is no list", s->text, s->size);
    const char *copy = nr_template_string(g->t, name, n).text;
    for (size_t k = 0; g->t->st == NR_OK && k < list.size; k++) {
        size_t kept = g->t->variable_count;
        g->t->scope++;
        nr_template_set(g->t, copy, list.items[k]);
        set_loop(g, k, list.size);
        run(g, i + 1, s->next);
        g->t->variable_count = kept;
        g->t->scope--;
    }
}

/* Runs the branch that holds; returns the node that ends the if. */
static size_t run_if(program *g, size_t i, const char *rest)
{
    bool done = false;
    for (;;) {
        const node *s = &g->nodes[i];
        const char *unused;
        bool is_else = opens(s, "else", &unused), holds = !done;
        if (holds && !is_else) {
            nr_value v = nr_template_value(g->t, rest, (size_t)(s->text + s->size - rest));
            holds = nr_value_true(&v);
        }
        if (holds) run(g, i + 1, s->next);
        done = done || holds;
        i = s->next;
        if (g->t->st != NR_OK || opens(&g->nodes[i], "endif", &unused)) return i;
        if (!opens(&g->nodes[i], "elif", &rest) && !opens(&g->nodes[i], "else", &rest)) {
            nr_template_refuse(g->t, "ends an if with another block's end", g->nodes[i].text, g->nodes[i].size);
            return i;
        }
    }
}

static void run(program *g, size_t from, size_t to)
{
    for (size_t i = from; g->t->st == NR_OK && i < to; i++) {
        const node *s = &g->nodes[i];
        const char *rest;
        if (++g->t->steps > STEPS_MAX) nr_template_refuse(g->t, "doesn't end", s->text, s->size);
        else if (s->kind == TEXT) nr_buffer_add(&g->t->out, s->text, s->size);
        else if (s->kind == PRINT) print_value(g, s);
        else if (opens(s, "if", &rest)) i = run_if(g, i, rest);
        else if (opens(s, "set", &rest)) run_set(g, s, rest);
        else if (opens(s, "macro", &rest)) i = s->next;
        else if (opens(s, "for", &rest)) {
            run_for(g, i, rest);
            i = s->next;
        } else if (!opens(s, "generation", &rest) && !opens(s, "endgeneration", &rest)) {
            nr_template_refuse(g->t, "has a statement that is not known", s->text, s->size);
        }
        if (g->t->out.size > NR_TEMPLATE_BYTES) nr_template_refuse(g->t, "prints too much", s->text, s->size);
    }
}

void nr_template_run(nr_template *t, const char *text)
{
    program g = {.t = t};
    g.nodes = nr_template_take(t, NODES_MAX, sizeof *g.nodes);
    if (!g.nodes) return;
    cut(&g, text);
    link_blocks(&g);
    run(&g, 0, g.count);
    if (t->st == NR_OK && t->out.failed) t->st = nr_fail(t->err, NR_E_MEMORY, "%s: chat template: out of memory", t->where);
}
