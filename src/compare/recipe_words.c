/*
 * recipe_words.c - the words of a recipe, for all that read one: variables in
 * their places, texts by name, files by what is known of them, and refusals that
 * name the line.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compare/compare.h"

const char *const nr_control_names[4] = {"row", "backbone", "old-only", "new-only"};

nr_status nr_recipe_fail(const nr_recipe *r, size_t line, nr_error *err, const char *fmt, ...)
{
    char text[800];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return nr_fail(err, NR_E_USAGE, "%s:%zu: %s", r->path, line, text);
}

/* The value of a variable; *typed: it comes from the command line. */
static const char *variable(const nr_recipe *r, const char *name, size_t n, bool *typed)
{
    *typed = true;
    for (size_t i = r->variable_count; i-- > 0;) /* the last of a name counts, so that what stands in a file can be overridden */
        if (strncmp(r->variables[i], name, n) == 0 && r->variables[i][n] == '=') return r->variables[i] + n + 1;
    *typed = false;
    const nr_yaml *own = nr_yaml_find(&r->tree, "variables");
    for (size_t i = 0; own && i < own->count; i++)
        if (strncmp(own->items[i].key, name, n) == 0 && !own->items[i].key[n]) return own->items[i].text;
    return NULL;
}

nr_status nr_recipe_expand(const nr_recipe *r, const nr_yaml *y, char **out, bool *typed, nr_error *err)
{
    nr_buffer b = {0};
    bool first;
    if (!typed) typed = &first;
    *out = NULL;
    *typed = false;
    if (y->kind != 's') return nr_recipe_fail(r, y->line, err, "expected one value");
    nr_buffer_add(&b, "", 0);
    for (const char *p = y->text; *p;) {
        bool braces = p[0] == '$' && p[1] == '{', given;
        const char *name = p + 1 + braces;
        size_t n = 0;
        if (*p == '$' && p[1] == '$') {
            nr_buffer_add(&b, "$", 1);
            p += 2;
            continue;
        }
        while (*p == '$' && (isalnum((unsigned char)name[n]) || name[n] == '_')) n++;
        if (*p != '$' || n == 0 || (braces && name[n] != '}')) {
            nr_buffer_add(&b, p++, 1);
            continue;
        }
        const char *value = variable(r, name, n, &given);
        if (!value) {
            nr_buffer_free(&b);
            return nr_recipe_fail(r, y->line, err, "$%.*s has no value; --set %.*s=VALUE gives it one", (int)NR_MIN(n, 60), name, (int)NR_MIN(n, 60), name);
        }
        if (p == y->text) *typed = given;
        nr_buffer_text(&b, value);
        p = name + n + braces;
    }
    if (b.failed) {
        nr_buffer_free(&b);
        return nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->path);
    }
    *out = b.data ? b.data : nr_strdup("");
    return *out ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->path);
}

size_t nr_recipe_text_find(const nr_recipe *r, const char *name)
{
    size_t i = 0;
    while (i < r->text_count && strcmp(r->texts[i].name, name) != 0) i++;
    return i;
}

json_t *nr_file_identity(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;
    return json_pack("[s, I]", slash ? slash + 1 : path, (json_int_t)(stat(path, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0));
}
