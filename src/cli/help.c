/*
 * help.c - the help of the program and of each command, generated from the
 * tables and never wider than 80 columns.
 */
#include <string.h>

#include "cli/cli.h"

#define WIDTH 80
#define HELP_COLUMN 28

void nr_cli_wrap(FILE *out, const char *text, size_t column, size_t indent)
{
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (!first && column + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)n, text);
        column += n;
        first = false;
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* "-c, --context T", "--[no-]l1" */
static void flag_left(char *buf, size_t size, const nr_flag *f)
{
    char letter[8] = "    ";
    if (f->letter) snprintf(letter, sizeof letter, "-%c, ", f->letter);
    const char *argument = f->argument ? f->argument : "";
    snprintf(buf, size, "  %s--%s%s%s%s%s%s%s", letter, f->negatable ? "[no-]" : "", f->name,
             f->alias ? ", --" : "", f->alias ? f->alias : "", *argument ? " " : "", argument,
             f->kind == 'l' ? "..." : "");
}

/* The help with choices and default: "schedule (cosine, constant) [cosine]". */
static void flag_text(char *buf, size_t size, const nr_flag *f)
{
    size_t n = (size_t)snprintf(buf, size, "%s", f->help);
    bool listed = f->choices && *f->choices;
    if (listed && n < size) {
        n += (size_t)snprintf(buf + n, size - n, " (");
        for (const char *p = f->choices; *p && n + 2 < size; p++)
            n += (size_t)snprintf(buf + n, size - n, *p == '|' ? ", " : "%c", *p);
        n += (size_t)snprintf(buf + n, size - n, ")");
    }
    if (!*f->default_text || n >= size) return;
    const char *value = f->kind != 'b' ? f->default_text : strcmp(f->default_text, "true") == 0 ? "on" : "off";
    snprintf(buf + n, size - n, " [%s]", value);
}

static void print_flag(FILE *out, const nr_flag *f)
{
    char left[160], text[768];
    flag_left(left, sizeof left, f);
    flag_text(text, sizeof text, f);
    size_t n = strlen(left);
    fputs(left, out);
    if (n + 2 > HELP_COLUMN) {
        fputc('\n', out);
        n = 0;
    }
    fprintf(out, "%*s", (int)(HELP_COLUMN - n), "");
    nr_cli_wrap(out, text, HELP_COLUMN, HELP_COLUMN);
}

/* Where a command line of n > room bytes is best broken: at the last blank
 * before a flag, else at the last outside quotes, that leaves room for " \\";
 * 0 when there is none. */
static size_t break_point(const char *line, size_t n, size_t room)
{
    size_t at = 0, at_flag = 0;
    char quote = 0;
    for (size_t i = 0; i < n && i + 2 <= room; i++) {
        if (quote)
            quote = line[i] == quote ? 0 : quote;
        else if (line[i] == '"' || line[i] == '\'')
            quote = line[i];
        else if (line[i] == ' ' && i > 0) {
            at = i;
            if (line[i + 1] == '-') at_flag = i;
        }
    }
    return at_flag ? at_flag : at;
}

/* One example; a long one goes on in the next line, as a shell takes it. */
static void print_example(FILE *out, const char *line, size_t n)
{
    size_t indent = 2;
    while (n + indent > WIDTH) {
        size_t at = break_point(line, n, WIDTH - indent);
        if (at == 0) break;
        fprintf(out, "%*s%.*s \\\n", (int)indent, "", (int)at, line);
        line += at + 1;
        n -= at + 1;
        indent = 6;
    }
    fprintf(out, "%*s%.*s\n", (int)indent, "", (int)n, line);
}

void nr_help_command(FILE *out, const nr_command *c)
{
    fputs("Usage: ", out);
    nr_cli_wrap(out, c->usage, 7, 9);
    fputc('\n', out);
    nr_cli_wrap(out, c->summary, 0, 0);
    const char *group = "";
    nr_flag f;
    for (size_t i = 0; nr_flag_at(c, i, &f); i++) {
        const char *title = f.group ? f.group : "options";
        if (strcmp(title, group) != 0) {
            bool first_setting = f.group && strcmp(group, "options") == 0;
            fprintf(out, "\n%s%s\n", f.group ? nr_group_title(f.group) : "Options",
                    first_setting ? " (defaults in brackets):" : ":");
        }
        group = title;
        print_flag(out, &f);
    }
    if (c->examples && *c->examples) {
        fputs("\nExamples:\n", out);
        for (const char *p = c->examples; *p;) {
            size_t n = strcspn(p, "\n");
            size_t blanks = NR_MIN(n, strspn(p, " "));
            print_example(out, p + blanks, n - blanks);
            p += n + (p[n] == '\n');
        }
    }
}

void nr_help_program(FILE *out)
{
    fputs("Usage: nres COMMAND ...\n\n"
          "Teaches a frozen language model a new language or domain with gated adapters\n"
          "that stay near zero on what the model already knows.\n\nCommands:\n",
          out);
    for (size_t i = 0; i < nr_command_count; i++) {
        fprintf(out, "  %-12s", nr_commands[i]->name);
        nr_cli_wrap(out, nr_commands[i]->summary, 14, 14);
    }
    fputs("\nOptions:\n"
          "  -h, --help        print this and exit; nres COMMAND --help explains a command\n"
          "  -V, --version     print the version and exit\n\n"
          "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 the loss is not finite,\n"
          "130 interrupted (the state is saved).\n",
          out);
}
