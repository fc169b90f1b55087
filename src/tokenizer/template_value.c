/*
 * template_value.c - expressions of chat templates, by recursive descent.
 *
 * Operators as in Jinja, loosest first: a if b else c, or, and, not,
 * == != < > <= >= in, + -, ~, * %, then the filters, tests and attributes of
 * one operand. What isn't evaluated (the other side of `or`, of an `if`) is
 * read all the same.
 */
#include <string.h>

#include "tokenizer/template.h"

typedef struct {
    nr_template *t;
    const char *p, *end, *from; /* from: start of the expression, for errors */
    bool live;                  /* false: read, don't evaluate */
    size_t depth;
} reader;

enum { DEEPEST = 40 };

static nr_value ternary(reader *r);

static void refuse(reader *r, const char *why)
{
    nr_template_refuse(r->t, why, r->from, (size_t)(r->end - r->from));
    r->p = r->end;
}

static nr_value boolean(bool b)
{
    return (nr_value){.kind = NR_V_BOOL, .n = b};
}

bool nr_value_true(const nr_value *v)
{
    switch (v->kind) {
    case NR_V_BOOL:
    case NR_V_INT: return v->n != 0;
    case NR_V_STRING:
    case NR_V_LIST: return v->size != 0;
    case NR_V_RECORD: return true;
    default: return false;
    }
}

/* ---- words and signs ---- */

static void skip(reader *r)
{
    while (r->p < r->end && strchr(" \t\r\n", *r->p)) r->p++;
}

static bool word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Takes a sign, or a word that ends there. */
static bool take(reader *r, const char *what)
{
    size_t n = strlen(what);
    skip(r);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, what, n) != 0) return false;
    if (word_byte(what[0]) && r->p + n < r->end && word_byte(r->p[n])) return false;
    r->p += n;
    return true;
}

static void need(reader *r, const char *what)
{
    if (!take(r, what)) refuse(r, "doesn't parse");
}

/* A name, copied; NULL when none stands here. */
static const char *take_name(reader *r)
{
    skip(r);
    const char *start = r->p;
    if (start == r->end || !word_byte(*start) || (*start >= '0' && *start <= '9')) return NULL;
    while (r->p < r->end && word_byte(*r->p)) r->p++;
    return nr_template_string(r->t, start, (size_t)(r->p - start)).text;
}

static bool one_of(const char *name, const char *const *list, size_t n, size_t *which)
{
    for (*which = 0; *which < n; ++*which)
        if (!strcmp(name, list[*which])) return true;
    return false;
}

/* ---- operands ---- */

static nr_value string_literal(reader *r)
{
    static const char letters[] = "ntr\\'\"", bytes[] = "\n\t\r\\'\"";
    char quote = *r->p++, *out = nr_template_take(r->t, (size_t)(r->end - r->p) + 1, 1);
    size_t n = 0;
    for (; out && r->p < r->end && *r->p != quote; r->p++) {
        const char *at;
        if (*r->p != '\\') {
            out[n++] = *r->p;
            continue;
        }
        if (++r->p == r->end || !(at = strchr(letters, *r->p))) {
            refuse(r, "has an escape in a string that is not known");
            return (nr_value){0};
        }
        out[n++] = bytes[at - letters];
    }
    if (r->p < r->end) r->p++;
    else refuse(r, "has a string without an end");
    return (nr_value){.kind = NR_V_STRING, .text = out, .size = n};
}

static nr_value list_literal(reader *r)
{
    nr_value v = {.kind = NR_V_LIST};
    enum { ITEMS = 16 };
    v.items = nr_template_take(r->t, ITEMS, sizeof *v.items);
    while (r->t->st == NR_OK && !take(r, "]")) {
        if (v.size == ITEMS) {
            refuse(r, "has a list that is too long");
            break;
        }
        v.items[v.size++] = ternary(r);
        if (take(r, ",")) continue;
        need(r, "]");
        break;
    }
    return v;
}

static nr_value variable(reader *r, const char *name)
{
    for (size_t i = r->t->variable_count; i-- > 0;)
        if (!strcmp(r->t->variables[i].name, name)) return r->t->variables[i].value;
    return (nr_value){0};
}

/* namespace(a=1, b='x') */
static nr_value make_namespace(reader *r)
{
    nr_record *n = nr_record_new(r->t);
    while (r->t->st == NR_OK && !take(r, ")")) {
        const char *name = take_name(r);
        if (!name || !take(r, "=")) {
            refuse(r, "doesn't parse");
            break;
        }
        nr_record_set(r->t, n, name, ternary(r));
        if (take(r, ",")) continue;
        need(r, ")");
        break;
    }
    return (nr_value){.kind = NR_V_RECORD, .record = n};
}

static nr_value call(reader *r, const char *name)
{
    if (!r->live) { /* any arguments: pass over them */
        for (size_t open = 1; r->p < r->end && open; r->p++) open += (*r->p == '(') - (*r->p == ')');
        return (nr_value){0};
    }
    if (!strcmp(name, "namespace")) return make_namespace(r);
    if (!strcmp(name, "raise_exception")) {
        nr_value v = ternary(r);
        need(r, ")");
        nr_template_refuse(r->t, "refuses the conversation", v.kind == NR_V_STRING ? v.text : "", v.kind == NR_V_STRING ? v.size : 0);
        return (nr_value){0};
    }
    refuse(r, "calls what is not known");
    return (nr_value){0};
}

static nr_value number(reader *r)
{
    nr_value v = {.kind = NR_V_INT};
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++) {
        if (v.n > 100000000) refuse(r, "has a number that is too large");
        if (r->p < r->end) v.n = 10 * v.n + (*r->p - '0');
        if (r->t->st != NR_OK) break;
    }
    return v;
}

static nr_value operand(reader *r)
{
    skip(r);
    if (r->p == r->end || r->depth > DEEPEST) {
        refuse(r, r->p == r->end ? "ends too early" : "is nested too deep");
        return (nr_value){0};
    }
    if (*r->p == '\'' || *r->p == '"') {
        nr_value v = string_literal(r);
        for (skip(r); r->t->st == NR_OK && r->p < r->end && (*r->p == '\'' || *r->p == '"'); skip(r)) {
            nr_value more = string_literal(r);
            char *both = nr_template_take(r->t, v.size + more.size + 1, 1);
            if (!both) break;
            memcpy(both, v.text, v.size);
            memcpy(both + v.size, more.text, more.size);
            v.text = both;
            v.size += more.size;
        }
        return v;
    }
    if (*r->p >= '0' && *r->p <= '9') return number(r);
    if (take(r, "[")) return list_literal(r);
    if (take(r, "(")) {
        nr_value v = ternary(r);
        need(r, ")");
        return v;
    }
    const char *name = take_name(r);
    if (!name) {
        refuse(r, "doesn't parse");
        return (nr_value){0};
    }
    if (!strcmp(name, "true") || !strcmp(name, "True")) return boolean(true);
    if (!strcmp(name, "false") || !strcmp(name, "False")) return boolean(false);
    if (!strcmp(name, "none") || !strcmp(name, "None")) return (nr_value){.kind = NR_V_NONE};
    if (r->p < r->end && *r->p == '(') {
        r->p++;
        return call(r, name);
    }
    return variable(r, name);
}

/* ---- attributes, methods, filters, tests ---- */

static nr_value field(reader *r, const nr_value *v, const char *name)
{
    if (v->kind == NR_V_RECORD)
        for (size_t i = 0; i < v->record->count; i++)
            if (!strcmp(v->record->names[i], name)) return v->record->values[i];
    if (v->kind != NR_V_RECORD && r->live) refuse(r, "asks for a field of what has none");
    return (nr_value){0};
}

static bool space_byte(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}

/* Length of the white space that ends (or, from the left, starts) the text: Python's str.strip. */
static size_t space_at(const char *s, size_t n, bool left)
{
    static const char *const wide[] = {"\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
        "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89",
        "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
    if (n && space_byte(left ? s[0] : s[n - 1])) return 1;
    for (size_t i = 0; i < NR_COUNT(wide); i++) {
        size_t m = strlen(wide[i]);
        if (n >= m && !memcmp(left ? s : s + n - m, wide[i], m)) return m;
    }
    return 0;
}

static nr_value strip(reader *r, nr_value v, bool left, bool right)
{
    size_t n;
    while (left && (n = space_at(v.text, v.size, true)) != 0) {
        v.text += n;
        v.size -= n;
    }
    while (right && (n = space_at(v.text, v.size, false)) != 0) v.size -= n;
    return nr_template_string(r->t, v.text, v.size);
}

/* Methods and filters of a string that take no argument. */
static bool string_change(reader *r, nr_value *v, const char *name)
{
    static const char *const known[] = {"trim", "strip", "lstrip", "rstrip", "upper", "lower"};
    size_t which;
    if (!one_of(name, known, NR_COUNT(known), &which) || v->kind != NR_V_STRING) return false;
    if (which < 4) {
        *v = strip(r, *v, which != 3, which != 2);
        return true;
    }
    for (size_t i = 0; i < v->size; i++)
        if (v->text[i] & 0x80) return false; /* letters beyond ASCII aren't folded here */
    *v = nr_template_string(r->t, v->text, v->size);
    char *s = (char *)v->text, first = which == 4 ? 'a' : 'A';
    for (size_t i = 0; s && i < v->size; i++)
        if (s[i] >= first && s[i] <= first + 25) s[i] ^= 0x20;
    return true;
}

static nr_value method(reader *r, nr_value v, const char *name)
{
    if (!r->live) return call(r, name);
    bool starts = !strcmp(name, "startswith");
    if (v.kind == NR_V_STRING && (starts || !strcmp(name, "endswith"))) {
        nr_value with = ternary(r);
        need(r, ")");
        if (with.kind != NR_V_STRING) refuse(r, "compares a string with something else");
        if (r->t->st != NR_OK || with.size > v.size) return boolean(false);
        return boolean(!memcmp(starts ? v.text : v.text + v.size - with.size, with.text, with.size));
    }
    if (strcmp(name, "trim") != 0 && take(r, ")") && string_change(r, &v, name)) return v;
    refuse(r, "calls a method that is not known");
    return (nr_value){0};
}

static nr_value filter(reader *r, nr_value v)
{
    const char *name = take_name(r);
    if (!name) {
        refuse(r, "doesn't parse");
        return v;
    }
    bool arguments = r->p < r->end && *r->p == '(';
    if (!r->live || (arguments && !strcmp(name, "default"))) {
        if (!arguments) return v;
        r->p++;
        if (!r->live) return call(r, name);
        nr_value other = ternary(r);
        need(r, ")");
        return v.kind == NR_V_UNDEFINED ? other : v;
    }
    if (!arguments && string_change(r, &v, name)) return v;
    if (!arguments && !strcmp(name, "string") && v.kind == NR_V_STRING) return v;
    if (!arguments && !strcmp(name, "length") && v.kind == NR_V_LIST) return (nr_value){.kind = NR_V_INT, .n = (int64_t)v.size};
    refuse(r, "has a filter that is not known");
    return v;
}

static nr_value test(reader *r, const nr_value *v)
{
    static const char *const known[] = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "true", "false", "boolean"};
    bool inverse = take(r, "not");
    const char *name = take_name(r);
    size_t which = 0;
    bool is = false;
    if (!name || !one_of(name, known, NR_COUNT(known), &which)) {
        if (r->live || !name) refuse(r, "has a test that is not known");
        return boolean(false);
    }
    switch (which) {
    case 0: is = v->kind != NR_V_UNDEFINED; break;
    case 1: is = v->kind == NR_V_UNDEFINED; break;
    case 2: is = v->kind == NR_V_NONE; break;
    case 3: is = v->kind == NR_V_STRING; break;
    case 4: is = v->kind == NR_V_RECORD; break;
    case 5:
    case 6: is = v->kind == NR_V_STRING || v->kind == NR_V_LIST || v->kind == NR_V_RECORD; break;
    case 7: is = v->kind == NR_V_BOOL && v->n; break;
    case 8: is = v->kind == NR_V_BOOL && !v->n; break;
    default: is = v->kind == NR_V_BOOL;
    }
    return boolean(is != inverse);
}

/* v[i], v['name'], v[i:j] */
static nr_value subscript(reader *r, nr_value v)
{
    nr_value from = {0}, to = {0};
    bool slice = take(r, ":");
    if (!slice) {
        from = ternary(r);
        slice = take(r, ":");
    }
    if (slice && !take(r, "]")) {
        to = ternary(r);
        need(r, "]");
    } else if (!slice) {
        need(r, "]");
    }
    if (!r->live || r->t->st != NR_OK) return (nr_value){0};
    if (!slice && from.kind == NR_V_STRING) return field(r, &v, from.text);
    bool numbers = (from.kind == NR_V_INT || (slice && !from.kind)) && (to.kind == NR_V_INT || !to.kind);
    if (v.kind != NR_V_LIST || !numbers) {
        refuse(r, "takes an item of what is no list");
        return (nr_value){0};
    }
    int64_t size = (int64_t)v.size, a = from.n < 0 ? from.n + size : from.n;
    int64_t b = to.kind ? (to.n < 0 ? to.n + size : to.n) : size;
    if (!slice) return a >= 0 && a < size ? v.items[a] : (nr_value){0};
    a = NR_MIN(NR_MAX(a, 0), size);
    b = NR_MIN(NR_MAX(b, a), size);
    return (nr_value){.kind = NR_V_LIST, .items = v.items + a, .size = (size_t)(b - a)};
}

static nr_value postfix(reader *r)
{
    bool minus = take(r, "-");
    nr_value v = operand(r);
    while (r->t->st == NR_OK) {
        if (take(r, ".")) {
            const char *name = take_name(r);
            if (!name) refuse(r, "doesn't parse");
            else if (r->p < r->end && *r->p == '(') r->p++, v = method(r, v, name);
            else v = field(r, &v, name);
        } else if (take(r, "[")) {
            v = subscript(r, v);
        } else if (take(r, "|")) {
            v = filter(r, v);
        } else if (take(r, "is")) {
            v = test(r, &v);
        } else {
            break;
        }
    }
    if (minus && v.kind == NR_V_INT) v.n = -v.n;
    else if (minus && r->live) refuse(r, "takes the negative of no number");
    return v;
}

/* ---- operators ---- */

static nr_value joined(reader *r, const nr_value *a, const nr_value *b)
{
    char *out = nr_template_take(r->t, a->size + b->size + 1, 1);
    if (!out) return (nr_value){0};
    memcpy(out, a->text, a->size);
    memcpy(out + a->size, b->text, b->size);
    return (nr_value){.kind = NR_V_STRING, .text = out, .size = a->size + b->size};
}

/* An integer as `~` joins it. */
static nr_value as_string(reader *r, const nr_value *v)
{
    char digits[24];
    if (v->kind != NR_V_INT) return *v;
    return nr_template_string(r->t, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)v->n));
}

static nr_value concatenated(reader *r, const nr_value *a, const nr_value *b)
{
    nr_value x = as_string(r, a), y = as_string(r, b);
    if (!r->live || r->t->st != NR_OK) return (nr_value){0};
    if (x.kind == NR_V_STRING && y.kind == NR_V_STRING) return joined(r, &x, &y);
    refuse(r, "joins values that don't go together");
    return (nr_value){0};
}

static nr_value arithmetic(reader *r, const nr_value *a, const nr_value *b, char sign)
{
    bool strings = a->kind == NR_V_STRING && b->kind == NR_V_STRING;
    if (!r->live || r->t->st != NR_OK) return (nr_value){0};
    if (strings && sign == '+') return joined(r, a, b);
    if (a->kind == NR_V_INT && b->kind == NR_V_INT && !(sign == '%' && b->n <= 0)) {
        int64_t n = 0;
        if (sign == '+') n = a->n + b->n;
        else if (sign == '-') n = a->n - b->n;
        else if (sign == '%') n = ((a->n % b->n) + b->n) % b->n;
        if (sign != '*' && n > -1000000000 && n < 1000000000) return (nr_value){.kind = NR_V_INT, .n = n};
    }
    refuse(r, "joins values that don't go together");
    return (nr_value){0};
}

static nr_value product(reader *r)
{
    nr_value v = postfix(r);
    while (r->t->st == NR_OK) {
        char sign = take(r, "%") ? '%' : take(r, "*") ? '*' : 0;
        if (!sign) break;
        nr_value b = postfix(r);
        v = arithmetic(r, &v, &b, sign);
    }
    return v;
}

static nr_value concatenation(reader *r)
{
    nr_value v = product(r);
    while (r->t->st == NR_OK && take(r, "~")) {
        nr_value b = product(r);
        v = concatenated(r, &v, &b);
    }
    return v;
}

static nr_value sum(reader *r)
{
    nr_value v = concatenation(r);
    while (r->t->st == NR_OK) {
        char sign = take(r, "+") ? '+' : take(r, "-") ? '-' : 0;
        if (!sign) break;
        nr_value b = concatenation(r);
        v = arithmetic(r, &v, &b, sign);
    }
    return v;
}

static bool equal(const nr_value *a, const nr_value *b)
{
    bool numbers = (a->kind == NR_V_INT || a->kind == NR_V_BOOL) && (b->kind == NR_V_INT || b->kind == NR_V_BOOL);
    if (numbers) return a->n == b->n;
    if (a->kind != b->kind) return false;
    if (a->kind == NR_V_STRING) return a->size == b->size && !memcmp(a->text, b->text, a->size);
    return a->kind == NR_V_RECORD ? a->record == b->record : a->kind != NR_V_LIST;
}

static bool contains(reader *r, const nr_value *all, const nr_value *one)
{
    if (all->kind == NR_V_STRING && one->kind == NR_V_STRING)
        return one->size == 0 || memmem(all->text, all->size, one->text, one->size) != NULL;
    if (all->kind == NR_V_LIST) {
        for (size_t i = 0; i < all->size; i++)
            if (equal(&all->items[i], one)) return true;
        return false;
    }
    if (all->kind == NR_V_RECORD && one->kind == NR_V_STRING) {
        for (size_t i = 0; i < all->record->count; i++)
            if (!strcmp(all->record->names[i], one->text)) return true;
        return false;
    }
    refuse(r, "looks into what holds nothing");
    return false;
}

static nr_value comparison(reader *r)
{
    static const char *const signs[] = {"==", "!=", "<=", ">=", "<", ">", "in", "not in"};
    nr_value v = sum(r);
    while (r->t->st == NR_OK) {
        size_t which = 0;
        while (which < NR_COUNT(signs) && !take(r, signs[which])) which++;
        if (which == NR_COUNT(signs)) break;
        nr_value b = sum(r);
        if (!r->live || r->t->st != NR_OK) continue;
        if (which == 6 || which == 7) v = boolean(contains(r, &b, &v) == (which == 6));
        else if (which < 2) v = boolean(equal(&v, &b) == (which == 0));
        else if (v.kind != NR_V_INT || b.kind != NR_V_INT) refuse(r, "orders what are no numbers");
        else v = boolean(which == 2 ? v.n <= b.n : which == 3 ? v.n >= b.n : which == 4 ? v.n < b.n : v.n > b.n);
    }
    return v;
}

static nr_value negation(reader *r)
{
    if (r->depth > DEEPEST) {
        refuse(r, "is nested too deep");
        return (nr_value){0};
    }
    if (!take(r, "not")) return comparison(r);
    r->depth++;
    nr_value v = negation(r);
    r->depth--;
    return boolean(!nr_value_true(&v));
}

static nr_value conjunction(reader *r)
{
    nr_value v = negation(r);
    while (r->t->st == NR_OK && take(r, "and")) {
        bool was = r->live;
        r->live = was && nr_value_true(&v);
        nr_value b = negation(r);
        if (r->live) v = b;
        r->live = was;
    }
    return v;
}

static nr_value disjunction(reader *r)
{
    nr_value v = conjunction(r);
    while (r->t->st == NR_OK && take(r, "or")) {
        bool was = r->live;
        r->live = was && !nr_value_true(&v);
        nr_value b = conjunction(r);
        if (r->live) v = b;
        r->live = was;
    }
    return v;
}

/* a if b else c: b stands behind a, so a is read first and evaluated last. */
static nr_value ternary(reader *r)
{
    bool was = r->live;
    skip(r);
    const char *start = r->p;
    if (++r->depth > DEEPEST) refuse(r, "is nested too deep");
    r->live = false;
    disjunction(r);
    bool has_condition = r->t->st == NR_OK && take(r, "if");
    r->live = was;
    nr_value condition = boolean(true), v = {0};
    if (has_condition) condition = disjunction(r);
    const char *behind = r->p;
    if (was && r->t->st == NR_OK && nr_value_true(&condition)) {
        r->p = start;
        v = disjunction(r);
        r->p = behind;
    }
    if (has_condition && r->t->st == NR_OK && take(r, "else")) {
        r->live = was && !nr_value_true(&condition);
        nr_value other = ternary(r);
        if (r->live) v = other;
        r->live = was;
    }
    r->depth--;
    return v;
}

nr_value nr_template_value(nr_template *t, const char *text, size_t n)
{
    reader r = {.t = t, .p = text, .end = text + n, .from = text, .live = true};
    nr_value v = ternary(&r);
    skip(&r);
    if (t->st == NR_OK && r.p < r.end) refuse(&r, "doesn't parse");
    return v;
}
