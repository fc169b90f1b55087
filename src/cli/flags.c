/*
 * flags.c - the options of a command and the settings it takes, as one list:
 * help, man page and completion are printed from it. Also the suggestion for a
 * mistyped word.
 */
#include <string.h>

#include "cli/cli.h"
#include "model/extension.h"

typedef struct {
    const char *setting, *alias;
    char letter;
} short_form;

/* Second names of settings. */
static const short_form short_forms[] = {
    {"context", NULL, 'c'},
    {"threads", NULL, 't'},
    {"seed", NULL, 's'},
    {"learning_rate", "lr", 0},
};

static void dashed(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", name);
    for (char *p = out; *p; p++)
        if (*p == '_') *p = '-';
}

static void flag_of_option(nr_flag *f, const nr_option *o)
{
    *f = (nr_flag){.letter = o->letter, .kind = o->kind, .argument = o->argument, .help = o->help};
    f->negatable = o->kind == 'b' && *(const bool *)o->out;
    dashed(f->name, sizeof f->name, o->name);
}

/* "a|b|c" of the methods there are. */
static const char *method_names(void)
{
    static char list[512];
    size_t at = 0;
    for (size_t i = 0; i < nr_method_count; i++) {
        if (at + strlen(nr_methods[i]->name) + 2 > sizeof list) break;
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? "|" : "", nr_methods[i]->name);
    }
    return list;
}

static void flag_of_setting(nr_flag *f, const nr_setting *w)
{
    nr_settings defaults;
    nr_settings_default(&defaults);
    *f = (nr_flag){.kind = w->type, .argument = w->argument, .help = w->help, .choices = w->choices, .group = w->group};
    switch (w->type) {
    case 'U': f->kind = 'u'; break;
    case 'F': f->kind = 'f'; break;
    case 'B': f->kind = 'b', f->negatable = true; break;
    case 'E': f->kind = 'e'; break;
    default: f->kind = 's';
    }
    if (strcmp(w->name, "method") == 0) f->kind = 'e', f->choices = method_names();
    dashed(f->name, sizeof f->name, w->name);
    nr_setting_get(&defaults, w, f->default_text, sizeof f->default_text);
    for (size_t i = 0; i < NR_COUNT(short_forms); i++)
        if (strcmp(short_forms[i].setting, w->name) == 0) {
            f->letter = short_forms[i].letter;
            f->alias = short_forms[i].alias;
        }
}

bool nr_flag_at(const nr_command *c, size_t i, nr_flag *f)
{
    size_t count = 0;
    const nr_option *options = c->options ? c->options(&count) : NULL;
    if (i < count) {
        flag_of_option(f, &options[i]);
        return true;
    }
    i -= count;
    if (i == 0) {
        *f = (nr_flag){.name = "help", .letter = 'h', .kind = 'h', .help = "print this and exit"};
        return true;
    }
    i--;
    if (!c->takes_settings || i >= nr_setting_count) return false;
    flag_of_setting(f, &nr_setting_list[i]);
    return true;
}

const char *nr_group_title(const char *group)
{
    if (strcmp(group, "train") == 0) return "Training settings";
    if (strcmp(group, "data") == 0) return "Data settings";
    if (strcmp(group, "system") == 0) return "System settings";
    if (strcmp(group, "method") == 0) return "Method settings";
    return group;
}

const nr_command *nr_command_find(const char *name)
{
    for (size_t i = 0; i < nr_command_count; i++)
        if (strcmp(nr_commands[i]->name, name) == 0) return nr_commands[i];
    return NULL;
}

/* ---- suggestions ---- */

#define LONGEST 48

/* Edits (insert, delete, replace, swap of neighbours) from a to b. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    size_t d[LONGEST + 1][LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return SIZE_MAX;
    for (size_t i = 0; i <= n; i++) d[i][0] = i;
    for (size_t j = 0; j <= m; j++) d[0][j] = j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = NR_MIN(best, d[i - 1][j] + 1);
            best = NR_MIN(best, d[i][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = NR_MIN(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    return d[n][m];
}

void nr_nearest_offer(nr_nearest *n, const char *name)
{
    size_t distance = edit_distance(n->wanted, name);
    /* A word cut short is near too: "tok" for "tokenize". */
    size_t length = strlen(n->wanted);
    if (length >= 3 && strncmp(n->wanted, name, length) == 0) distance = NR_MIN(distance, (size_t)1);
    if (n->best && distance >= n->distance) return;
    n->best = name;
    n->distance = distance;
}

const char *nr_nearest_found(const nr_nearest *n)
{
    return n->best && n->distance <= NR_MAX((size_t)1, strlen(n->wanted) / 3) ? n->best : NULL;
}
