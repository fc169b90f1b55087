/*
 * task_table.c - task scores for people: a line a task, per cent with their
 * standard errors, the difference paired; then what the figures rest on.
 */
#include "cli/task_table.h"

#include <string.h>

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static long long whole(const json_t *o, const char *key) { return (long long)json_integer_value(json_object_get(o, key)); }

/* "45.3 +- 1.2", or without the error where there is none. */
static void print_figure(const json_t *figures, const char *metric, bool sign)
{
    char key[64], line[32];
    snprintf(key, sizeof key, "%s_stderr", metric);
    const json_t *v = json_object_get(figures, metric), *e = json_object_get(figures, key);
    if (!json_is_number(v)) snprintf(line, sizeof line, "-");
    else if (!json_is_number(e)) snprintf(line, sizeof line, sign ? "%+.1f" : "%.1f", 100 * json_number_value(v));
    else
        snprintf(line, sizeof line, sign ? "%+.1f +- %.1f" : "%.1f +- %.1f", 100 * json_number_value(v),
                 100 * json_number_value(e));
    printf(" %13s", line);
}

static void print_metric(const json_t *task, const char *metric, bool first, bool extended)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s%s", text(task, "task"), strcmp(text(task, "format"), "harness") ? ":" : "",
             strcmp(text(task, "format"), "harness") ? text(task, "format") : "");
    if (first) printf("%-*.*s", extended ? 25 : 33, extended ? 25 : 33, name);
    else printf("%*s", extended ? 25 : 33, "");
    if (!extended) printf(" %5lld %6lld", whole(task, "shots"), whole(task, "items"));
    printf(" %-*.*s", extended ? 11 : 14, extended ? 11 : 14, metric + (extended && strncmp(metric, "acc_mutual", 10) == 0 ? 4 : 0));
    print_figure(json_object_get(task, "backbone"), metric, false);
    if (extended) print_figure(json_object_get(task, "extended"), metric, false);
    if (extended) print_figure(json_object_get(task, "difference"), metric, true);
    putchar('\n');
}

static void print_task(const json_t *task, bool extended)
{
    size_t i;
    const json_t *name;
    print_metric(task, text(task, "primary"), true, extended);
    json_array_foreach(json_object_get(task, "metrics"), i, name)
        if (strcmp(json_string_value(name), text(task, "primary")) != 0) print_metric(task, json_string_value(name), false, extended);
}

/* Of a task's two OLMES formulations the better one counts. */
static void print_olmes(const json_t *tasks, size_t i, bool extended)
{
    const json_t *choice = json_array_get(tasks, i), *cloze = i ? json_array_get(tasks, i - 1) : NULL;
    static const char *const models[] = {"backbone", "extended"};
    if (!cloze || strcmp(text(choice, "format"), "olmes-choice") != 0 || strcmp(text(cloze, "format"), "olmes-cloze") != 0 ||
        strcmp(text(choice, "task"), text(cloze, "task")) != 0)
        return;
    printf("%-*s", extended ? 37 : 61, "  the better of both formulations");
    for (int k = 0; k < (extended ? 2 : 1); k++) {
        const json_t *a = json_object_get(cloze, models[k]), *b = json_object_get(choice, models[k]);
        double x = json_number_value(json_object_get(a, text(cloze, "primary")));
        double y = json_number_value(json_object_get(b, text(choice, "primary")));
        print_figure(x >= y ? a : b, x >= y ? text(cloze, "primary") : text(choice, "primary"), false);
    }
    putchar('\n');
}

static void print_ground(const json_t *task)
{
    printf("\n%s:%s, %lld of %lld questions, chance %.1f %%", text(task, "task"), text(task, "format"), whole(task, "items"),
           whole(task, "rows"), 100 * json_number_value(json_object_get(task, "chance")));
    if (whole(task, "cut")) printf(", %lld prompts cut on the left", whole(task, "cut"));
    printf(", %.1f s\n  %s\n", json_number_value(json_object_get(task, "seconds")), text(task, "file"));
    if (whole(task, "shots"))
        printf("  %lld examples (%s) of %s\n", whole(task, "shots"), text(task, "shots_from"), text(task, "examples_file"));
}

void nr_cli_print_tasks(const json_t *o)
{
    size_t i;
    const json_t *task, *tasks = json_object_get(o, "tasks");
    bool extended = json_object_get(o, "extension") != NULL;
    printf("%s, %s\n\n", text(o, "model"), text(o, "compute"));
    if (extended) printf("%-25s %-11s %13s %13s %13s\n", "task", "decided by", "backbone", "extended", "difference");
    else printf("%-33s %5s %6s %-14s %13s\n", "task", "shots", "items", "decided by", "correct, %");
    json_array_foreach(tasks, i, task) {
        print_task(task, extended);
        print_olmes(tasks, i, extended);
    }
    if (extended) puts("\nPer cent correct; the differences are paired, question by question.");
    json_array_foreach(tasks, i, task) print_ground(task);
}

void nr_cli_print_task_list(const json_t *list)
{
    size_t i, k;
    const json_t *task, *format;
    json_array_foreach(list, i, task) {
        const json_t *splits = json_object_get(json_object_get(task, "splits"), "questions");
        printf("%-20s %s\n  %s_%s.jsonl: ", text(task, "task"), text(task, "about"),
               json_string_value(json_array_get(json_object_get(task, "files"), 0)), json_string_value(json_array_get(splits, 0)));
        json_array_foreach(json_object_get(task, "formats"), k, format) printf("%s%s", k ? ", " : "", json_string_value(format));
        putchar('\n');
    }
}
