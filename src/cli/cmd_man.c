/*
 * cmd_man.c - nres man: the manual page nres(1) as roff, generated from the
 * same tables as the help.
 */
#include <string.h>

#include "cli/cli.h"

/* Text with roff's special characters made plain. A line that would begin with
 * a control character is guarded by a zero-width one. */
static void print_text(const char *s, bool line_start)
{
    for (; *s; s++) {
        if (line_start && (*s == '.' || *s == '\'')) fputs("\\&", stdout);
        line_start = *s == '\n';
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '\'')
            fputs("\\(aq", stdout);
        else if (*s == '|')
            fputs("|\\:", stdout); /* a line may end behind it */
        else
            fputc(*s, stdout);
    }
}

static void print_flag(const nr_flag *f)
{
    fputs(".TP\n.B ", stdout);
    if (f->letter) {
        char letter[4] = {'-', f->letter, '\0'};
        print_text(letter, false);
        fputs(", ", stdout);
    }
    print_text(f->negatable ? "--[no-]" : "--", false);
    print_text(f->name, false);
    if (f->alias) {
        print_text(", --", false);
        print_text(f->alias, false);
    }
    if (f->argument && *f->argument) {
        fputs(" \\fI", stdout);
        print_text(f->argument, false);
        fputs(f->kind == 'l' ? "...\\fR" : "\\fR", stdout);
    }
    fputc('\n', stdout);
    print_text(f->help, true);
    if (f->choices && *f->choices) {
        fputs(": ", stdout);
        print_text(f->choices, false);
    }
    if (*f->default_text) {
        fputs(" [", stdout);
        print_text(f->default_text, false);
        fputc(']', stdout);
    }
    fputc('\n', stdout);
}

static void print_command(const nr_command *c)
{
    nr_flag f;
    fputs(".SS ", stdout);
    print_text(c->name, false);
    fputc('\n', stdout);
    print_text(c->summary, true);
    fputs(".\n.PP\n.B ", stdout);
    print_text(c->usage, false);
    fputc('\n', stdout);
    for (size_t i = 0; nr_flag_at(c, i, &f); i++)
        if (!f.group && f.kind != 'h') print_flag(&f);
    if (c->takes_settings) fputs(".PP\nTakes every flag of SETTINGS too.\n", stdout);
    if (c->examples && *c->examples) {
        fputs(".PP\n.EX\n", stdout);
        print_text(c->examples, true);
        if (c->examples[strlen(c->examples) - 1] != '\n') fputc('\n', stdout);
        fputs(".EE\n", stdout);
    }
}

static void print_settings(void)
{
    nr_flag f;
    const char *group = "";
    const nr_command all = {.name = "", .takes_settings = true};
    for (size_t i = 0; nr_flag_at(&all, i, &f); i++) {
        if (!f.group) continue;
        if (strcmp(group, f.group) != 0) printf(".SS %s\n", nr_group_title(f.group));
        group = f.group;
        print_flag(&f);
    }
}

static void print_page(void)
{
    printf(".TH NRES 1 \"\" \"nres %s\" \"User Commands\"\n", nr_version());
    fputs(".ad l\n", stdout); /* lists of choices have no blanks that could stretch */
    fputs(".SH NAME\nnres \\- extend a frozen language model with neutral residues\n"
          ".SH SYNOPSIS\n.B nres\n.I COMMAND\n[\\fIFLAG\\fR...] [\\fIWORD\\fR...]\n"
          ".SH DESCRIPTION\nTeaches a frozen language model a new language or domain with gated adapters\n"
          "that stay near zero on what the model already knows.\n"
          ".SH COMMANDS\nEvery command also takes \\fB\\-h\\fR, \\fB\\-\\-help\\fR.\n",
          stdout);
    for (size_t i = 0; i < nr_command_count; i++) print_command(nr_commands[i]);
    fputs(".SH SETTINGS\nDefaults stand in brackets.\n", stdout);
    print_settings();
    fputs(".SH EXIT STATUS\n.TP\n.B 0\nsuccess\n", stdout);
    fputs(".TP\n.B 1\na file, the machine or the memory failed\n", stdout);
    fputs(".TP\n.B 2\nwrong usage\n.TP\n.B 3\nthe loss is not finite\n", stdout);
    fputs(".TP\n.B 130\ninterrupted; the state is saved\n", stdout);
    fputs(".SH ENVIRONMENT\n.TP\n.B HF_HUB_CACHE, HF_HOME\nwhere models named ORG/NAME are looked up\n"
          ".TP\n.B XDG_CACHE_HOME\nwhere tokenised text is kept, in the folder nres\n",
          stdout);
}

static int run(int argc, char **argv)
{
    int rc = nr_cli_parse(&nr_command_man, NULL, 0, argc, argv, NULL, NULL, NULL);
    if (rc) return rc < 0 ? 0 : rc;
    print_page();
    return 0;
}

const nr_command nr_command_man = {
    .name = "man",
    .summary = "print the manual page",
    .usage = "nres man",
    .examples = "nres man | man -l -\n",
    .run = run,
};
