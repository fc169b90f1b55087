/* cmd_completion.c - nres completion: scripts for bash and zsh, generated from the tables. */
#include <string.h>

#include "cli/cli.h"

static void print_words(const nr_command *c, bool settings)
{
    nr_flag f;
    for (size_t i = 0; nr_flag_at(c, i, &f); i++) {
        if ((f.group != NULL) != settings) continue;
        printf(" --%s", f.name);
        if (f.alias) printf(" --%s", f.alias);
        if (f.negatable) printf(" --no-%s", f.name);
    }
}

static void print_choices(const char *choices, const char *between)
{
    for (const char *p = choices; *p; p++) *p == '|' ? fputs(between, stdout) : fputc(*p, stdout);
}

/* ---- bash ---- */

static void bash(void)
{
    static const nr_command all = {.name = "", .takes_settings = true};
    nr_flag f;
    fputs("# bash completion of nres\n_nres()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= settings\n"
          "    COMPREPLY=()\n    settings=\"",
          stdout);
    print_words(&all, true);
    fputs("\"\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"--help --version", stdout);
    for (size_t i = 0; i < nr_command_count; i++) printf(" %s", nr_commands[i]->name);
    fputs("\"\n        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n        return\n    fi\n"
          "    case \"$prev\" in\n",
          stdout);
    for (size_t i = 0; nr_flag_at(&all, i, &f); i++) {
        if (f.kind != 'e') continue;
        printf("    --%s) COMPREPLY=($(compgen -W \"", f.name);
        print_choices(f.choices, " ");
        fputs("\" -- \"$cur\")); return ;;\n", stdout);
    }
    fputs("    esac\n    case \"${COMP_WORDS[1]}\" in\n", stdout);
    for (size_t i = 0; i < nr_command_count; i++) {
        printf("    %s) words=\"", nr_commands[i]->name);
        print_words(nr_commands[i], false);
        if (nr_commands[i]->takes_settings) fputs(" $settings", stdout);
        if (nr_commands[i] == &nr_command_completion) fputs(" bash zsh", stdout);
        fputs("\" ;;\n", stdout);
    }
    fputs("    esac\n    if [[ \"$cur\" == -* || \"${COMP_WORDS[1]}\" == completion ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    fi\n}\n"
          "complete -o default -F _nres nres\n",
          stdout);
}

/* ---- zsh ---- */

/* Inside '...' of _arguments: quotes, brackets and colons have a meaning. */
static void print_zsh_text(const char *s)
{
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *s))
            printf("\\%c", *s);
        else
            fputc(*s, stdout);
    }
}

/* One specification of a flag: '--name[help]:argument:action'. */
static void print_zsh_flag(const nr_flag *f, const char *dashes, const char *name)
{
    printf("        '%s%s%s[", f->kind == 'l' || f->kind == 'r' ? "*" : "", dashes, name);
    print_zsh_text(f->help);
    fputc(']', stdout);
    if (f->kind == 'b' || f->kind == 'h') {
        fputs("' \\\n", stdout);
        return;
    }
    fputc(':', stdout);
    print_zsh_text(f->argument && *f->argument ? f->argument : "value");
    fputc(':', stdout);
    if (f->kind == 'e') {
        fputc('(', stdout);
        print_choices(f->choices, " ");
        fputc(')', stdout);
    } else if (f->kind == 's' || f->kind == 'l' || f->kind == 'r') {
        fputs("_files", stdout);
    }
    fputs("' \\\n", stdout);
}

static void zsh_command(const nr_command *c)
{
    nr_flag f;
    char name[80];
    printf("    %s)\n        _arguments -s \\\n", c->name);
    for (size_t i = 0; nr_flag_at(c, i, &f); i++) {
        char letter[2] = {f.letter, '\0'};
        if (f.letter) print_zsh_flag(&f, "-", letter);
        print_zsh_flag(&f, "--", f.name);
        if (f.alias) print_zsh_flag(&f, "--", f.alias);
        snprintf(name, sizeof name, "no-%s", f.name);
        if (f.negatable) print_zsh_flag(&f, "--", name);
    }
    fputs(c == &nr_command_completion ? "        '1:shell:(bash zsh)' ;;\n" : "        '*:file:_files' ;;\n", stdout);
}

static void zsh(void)
{
    fputs("#compdef nres\n# zsh completion of nres\n_nres()\n{\n    local -a commands\n    commands=(\n", stdout);
    for (size_t i = 0; i < nr_command_count; i++) {
        printf("        '%s:", nr_commands[i]->name);
        print_zsh_text(nr_commands[i]->summary);
        fputs("'\n", stdout);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
          "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n",
          stdout);
    for (size_t i = 0; i < nr_command_count; i++) zsh_command(nr_commands[i]);
    fputs("    esac\n}\nif [ \"$funcstack[1]\" = _nres ]; then _nres \"$@\"; else compdef _nres nres; fi\n", stdout);
}

static int run(int argc, char **argv)
{
    nr_list words = {0};
    int rc = nr_cli_parse(&nr_command_completion, NULL, 0, argc, argv, &words, NULL, NULL);
    if (rc) return rc < 0 ? 0 : rc;
    if (words.count != 1)
        return nr_cli_usage(&nr_command_completion, "expected one shell, bash or zsh, found %zu words", words.count);
    if (strcmp(words.items[0], "bash") == 0)
        bash();
    else if (strcmp(words.items[0], "zsh") == 0)
        zsh();
    else
        return nr_cli_usage(&nr_command_completion, "expected bash or zsh, found \"%.200s\"", words.items[0]);
    return 0;
}

const nr_command nr_command_completion = {
    .name = "completion",
    .summary = "print the completion script of a shell",
    .usage = "nres completion bash|zsh",
    .examples = "source <(nres completion bash)\n",
    .run = run,
};
