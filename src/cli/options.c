/*
 * options.c - reads a command's words and flags. Refuses unknown flags,
 * missing and superfluous values and values out of range, in one line that
 * names the flag and, where there is one, what was probably meant.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* One run through argv. */
typedef struct {
    const nr_command *command;
    const nr_option *options;
    size_t count;
    int argc;
    char **argv;
    int at; /* next word */
    nr_list *words;
    nr_settings *settings;
    bool *settings_given;
} parser;

/* What a flag turned out to be: an option or a setting. */
typedef struct {
    const nr_option *option;
    const nr_setting *setting;
    char typed[80]; /* "--name" or "-n", for errors */
    bool negated;
} target;

int nr_cli_usage(const nr_command *c, const char *fmt, ...)
{
    nr_error line;
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    nr_fail(&line, NR_E_USAGE, "%s", text); /* control characters are replaced there */
    nr_cli_live_end();
    if (nr_cli_launched_rank() > 0) return nr_status_exit_code(NR_E_USAGE); /* rank 0 says it */
    fprintf(stderr, "nres %s: %s (see nres %s --help)\n", c->name, line.message, c->name);
    return nr_status_exit_code(NR_E_USAGE);
}

/* ---- lists ---- */

#define LISTS 32 /* a command has fewer 'l' options and one list of words */

static const char **kept[LISTS];
static size_t kept_count;

void nr_cli_release(void)
{
    while (kept_count > 0) free(kept[--kept_count]);
}

/* Appends to a list, which gets room for every word there is. */
static int list_add(const parser *p, nr_list *l, const char *word)
{
    if (!l->items) {
        l->count = 0;
        l->items = kept_count < LISTS ? calloc((size_t)p->argc, sizeof *l->items) : NULL;
        if (!l->items) return nr_cli_usage(p->command, "no memory for %d words", p->argc);
        kept[kept_count++] = l->items;
    }
    l->items[l->count++] = word;
    return 0;
}

/* ---- finding flags ---- */

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) return false;
    return *a == *b;
}

static bool find_long(const parser *p, const char *name, target *t)
{
    for (size_t i = 0; i < p->count; i++)
        if (same_name(p->options[i].name, name)) t->option = &p->options[i];
    if (!t->option && p->settings) {
        t->setting = nr_setting_find(name);
        nr_flag f;
        for (size_t i = 0; !t->setting && nr_flag_at(p->command, i, &f); i++)
            if (f.group && f.alias && same_name(f.alias, name)) t->setting = nr_setting_find(f.name);
    }
    return t->option || t->setting;
}

static bool find_letter(const parser *p, char letter, target *t)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->options[i].letter == letter) t->option = &p->options[i];
    nr_flag f;
    for (size_t i = 0; p->settings && !t->option && !t->setting && nr_flag_at(p->command, i, &f); i++)
        if (f.group && f.letter == letter) t->setting = nr_setting_find(f.name);
    return t->option || t->setting;
}

static bool takes_no_value(const target *t) { return t->option ? t->option->kind == 'b' : t->setting->type == 'B'; }

static int unknown_flag(const parser *p, const char *typed)
{
    nr_nearest n = {.wanted = typed + 2};
    nr_flag f;
    char best[64];
    for (size_t i = 0; nr_flag_at(p->command, i, &f); i++) {
        size_t before = n.best ? n.distance : SIZE_MAX;
        nr_nearest_offer(&n, f.name);
        if (n.distance < before) snprintf(best, sizeof best, "%s", f.name); /* f is reused */
    }
    if (typed[1] != '-' || !nr_nearest_found(&n)) return nr_cli_usage(p->command, "unknown flag %.200s", typed);
    return nr_cli_usage(p->command, "unknown flag %.200s; did you mean --%s?", typed, best);
}

/* ---- values ---- */

static int wrong_number(const parser *p, const target *t, const char *kind, const char *value)
{
    const nr_option *o = t->option;
    if (o->lo == o->hi) return nr_cli_usage(p->command, "%s: expected %s, found \"%.200s\"", t->typed, kind, value);
    return nr_cli_usage(p->command, "%s: expected %s from %g to %g, found \"%.200s\"", t->typed, kind, o->lo, o->hi,
                        value);
}

static int set_size(const parser *p, const target *t, const char *value)
{
    const nr_option *o = t->option;
    errno = 0;
    bool digits = *value && strspn(value, "0123456789") == strlen(value);
    unsigned long long v = digits ? strtoull(value, NULL, 10) : 0;
    bool in_range = o->lo == o->hi || ((double)v >= o->lo && (double)v <= o->hi);
    if (!digits || errno != 0 || v > SIZE_MAX || !in_range) return wrong_number(p, t, "a whole number", value);
    *(size_t *)o->out = (size_t)v;
    return 0;
}

static int set_double(const parser *p, const target *t, const char *value)
{
    const nr_option *o = t->option;
    char *end;
    bool digits = *value && strspn(value, "0123456789+-.eE") == strlen(value);
    double v = strtod(value, &end);
    bool in_range = o->lo == o->hi || (v >= o->lo && v <= o->hi);
    if (!digits || *end || !isfinite(v) || !in_range) return wrong_number(p, t, "a number", value);
    *(double *)o->out = v;
    return 0;
}

static int set_value(const parser *p, const target *t, const char *value)
{
    if (t->option) {
        switch (t->option->kind) {
        case 'u': return set_size(p, t, value);
        case 'f': return set_double(p, t, value);
        case 'l':
        case 'r': return list_add(p, t->option->out, value);
        default: *(const char **)t->option->out = value; return 0;
        }
    }
    nr_error err;
    if (nr_settings_set(p->settings, t->setting->name, value, &err) != NR_OK)
        return nr_cli_usage(p->command, "%s", err.message);
    if (p->settings_given) p->settings_given[t->setting - nr_setting_list] = true;
    return 0;
}

static bool is_flag(const char *word) { return word[0] == '-' && word[1] != '\0'; }

/* The value of a flag: after '=' (or a letter), else the next word; a list
 * takes all words up to the next flag. */
static int take_values(parser *p, const target *t, const char *attached)
{
    bool list = t->option && t->option->kind == 'l';
    if (takes_no_value(t)) {
        if (attached) return nr_cli_usage(p->command, "%s takes no value, found \"%.200s\"", t->typed, attached);
        if (t->setting) return set_value(p, t, t->negated ? "false" : "true");
        *(bool *)t->option->out = !t->negated;
        return 0;
    }
    if (attached) return set_value(p, t, attached);
    const char *next = p->at < p->argc ? p->argv[p->at] : NULL;
    /* "-" is standard input, "-1" a number; anything else with a dash is the next flag. */
    if (!next || (is_flag(next) && (list || !strchr("0123456789.", next[1]))))
        return nr_cli_usage(p->command, "%s: expected %s after it, found %s", t->typed, list ? "words" : "a value",
                            next ? next : "nothing");
    do {
        int rc = set_value(p, t, p->argv[p->at++]);
        if (rc) return rc;
    } while (list && p->at < p->argc && !is_flag(p->argv[p->at]));
    return 0;
}

static int take_long(parser *p, const char *word)
{
    target t = {0};
    char name[64];
    size_t n = strcspn(word + 2, "=");
    const char *attached = word[2 + n] == '=' ? word + 2 + n + 1 : NULL;
    if (n >= sizeof name) return unknown_flag(p, word);
    snprintf(name, sizeof name, "%.*s", (int)n, word + 2);
    snprintf(t.typed, sizeof t.typed, "--%s", name);
    if (!find_long(p, name, &t)) {
        if (strncmp(name, "no-", 3) != 0 || !find_long(p, name + 3, &t) || !takes_no_value(&t))
            return unknown_flag(p, t.typed);
        t.negated = true;
    }
    return take_values(p, &t, attached);
}

static int take_letter(parser *p, const char *word)
{
    target t = {0};
    snprintf(t.typed, sizeof t.typed, "-%c", word[1]);
    if (!find_letter(p, word[1], &t)) return unknown_flag(p, word);
    return take_values(p, &t, word[2] == '=' ? word + 3 : word[2] ? word + 2 : NULL);
}

int nr_cli_parse(const nr_command *c, const nr_option *options, size_t count, int argc, char **argv, nr_list *words,
                 nr_settings *settings, bool settings_given[])
{
    parser p = {c, options, count, argc, argv, 1, words, settings, settings_given};
    bool flags = true;
    while (p.at < argc) {
        const char *word = argv[p.at++];
        int rc = 0;
        if (flags && strcmp(word, "--") == 0)
            flags = false;
        else if (flags && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            nr_help_command(stdout, c);
            return -1;
        } else if (flags && word[0] == '-' && word[1] == '-')
            rc = take_long(&p, word);
        else if (flags && is_flag(word))
            rc = take_letter(&p, word);
        else if (words)
            rc = list_add(&p, words, word);
        else
            rc = nr_cli_usage(c, "unexpected word \"%.200s\"", word);
        if (rc) return rc;
    }
    return 0;
}
