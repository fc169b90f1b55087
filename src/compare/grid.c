/*
 * grid.c - rows into runs: every combination of a row's values is one, then
 * come the controls, made from the first row.
 *
 * A run is called by its row's label and by what differs among the runs of that
 * label, so that its folder says what it is.
 */
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"
#include "train/train.h"

#define MAX_RUNS 2000
#define MAX_AXES 64
#define MAX_NAME 180

/* ---- values of an axis ---- */

static bool is_texts(const nr_axis *a) { return strcmp(a->name, "old") == 0 || strcmp(a->name, "new") == 0; }

static bool holds_lists(const nr_yaml *y)
{
    for (size_t i = 0; y->kind == 'l' && i < y->count; i++)
        if (y->items[i].kind == 'l') return true;
    return false;
}

/* How many values an axis has; a plain list of texts is one value. */
static size_t value_count(const nr_axis *a)
{
    return a->values->kind != 'l' || (is_texts(a) && !holds_lists(a->values)) ? 1 : a->values->count;
}

static const nr_yaml *value_at(const nr_axis *a, size_t i)
{
    return value_count(a) == 1 && (a->values->kind != 'l' || (is_texts(a) && !holds_lists(a->values))) ? a->values : &a->values->items[i];
}

static nr_status use_text(const nr_recipe *r, nr_planned *run, int domain, const nr_yaml *name, nr_error *err)
{
    size_t t = name->kind == 's' ? nr_recipe_text_find(r, name->text) : r->text_count;
    if (t == r->text_count || r->texts[t].domain != domain || r->texts[t].train.count == 0)
        return nr_recipe_fail(r, name->line, err, "expected the name of %s text with files to train on, found \"%.60s\"",
                              domain == NR_NEW ? "a new" : "an old", name->kind == 's' ? name->text : "a list");
    run->trains_on[t] = true;
    return NR_OK;
}

/* The texts of a domain are those that the value names, no others. */
static nr_status choose_texts(const nr_recipe *r, nr_planned *run, int domain, const nr_yaml *v, nr_error *err)
{
    for (size_t t = 0; t < r->text_count; t++)
        if (r->texts[t].domain == domain) run->trains_on[t] = false;
    if (v->kind != 'l') return use_text(r, run, domain, v, err);
    for (size_t i = 0; i < v->count; i++) NR_TRY(use_text(r, run, domain, &v->items[i], err));
    return NR_OK;
}

/* A method that this build has. */
static nr_status check_method(const nr_recipe *r, const char *name, size_t line, nr_error *err)
{
    nr_buffer known = {0};
    if (nr_method_find(name)) return NR_OK;
    for (size_t i = 0; i < nr_method_count; i++) nr_buffer_printf(&known, "%s%s", i ? ", " : "", nr_methods[i]->name);
    nr_status st = nr_recipe_fail(r, line, err, "method: expected one of those of this build (%s), found \"%.60s\"", known.data ? known.data : "", name);
    nr_buffer_free(&known);
    return st;
}

static nr_status set_value(const nr_recipe *r, nr_planned *run, const nr_axis *a, const nr_yaml *v, nr_error *err)
{
    char *text;
    nr_error why;
    if (is_texts(a)) return choose_texts(r, run, a->name[0] == 'n' ? NR_NEW : NR_OLD, v, err);
    NR_TRY(nr_recipe_expand(r, v, &text, NULL, err));
    nr_status st = strcmp(a->name, "method") == 0 ? check_method(r, text, v->line, err) : NR_OK;
    bool known = st == NR_OK;
    if (known) st = nr_settings_set(&run->s, a->name, text, &why);
    free(text);
    return st == NR_OK || !known ? st : nr_recipe_fail(r, v->line, err, "%s", why.message);
}

/* ---- runs ---- */

static nr_status new_run(nr_recipe *r, int role, size_t line, nr_planned **out, nr_error *err)
{
    if (r->run_count >= MAX_RUNS) return nr_recipe_fail(r, line, err, "expected at most %d runs", MAX_RUNS);
    if ((r->run_count & (r->run_count - 1)) == 0) {
        nr_planned *more = realloc(r->runs, (r->run_count ? 2 * r->run_count : 1) * sizeof *more);
        if (!more) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->path);
        r->runs = more;
    }
    nr_planned *run = *out = &r->runs[r->run_count];
    *run = (nr_planned){.role = role, .line = line};
    r->run_count++;
    NR_TRY(nr_alloc(&run->trains_on, r->text_count, sizeof *run->trains_on, "texts", err));
    for (size_t t = 0; t < r->text_count; t++) run->trains_on[t] = r->texts[t].train.count > 0;
    nr_settings_default(&run->s);
    return NR_OK;
}

static nr_status check_run(const nr_recipe *r, const nr_planned *run, nr_error *err)
{
    nr_error why;
    if (nr_settings_check(&run->s, &why) != NR_OK) return nr_recipe_fail(r, run->line, err, "%s", why.message);
    bool any[2] = {false, false};
    for (size_t t = 0; t < r->text_count; t++) any[r->texts[t].domain] |= run->trains_on[t];
    if (run->s.old_share > 0 && !any[NR_OLD]) return nr_recipe_fail(r, run->line, err, "old_share above 0 needs an old text to train on");
    if (run->s.old_share < 1 && !any[NR_NEW]) return nr_recipe_fail(r, run->line, err, "old_share below 1 needs a new text to train on");
    return NR_OK;
}

static nr_status label_run(const nr_recipe *r, nr_planned *run, const char *label, nr_error *err)
{
    char method[64];
    nr_setting_get(&run->s, nr_setting_find("method"), method, sizeof method);
    run->label = nr_strdup(label ? label : method);
    return run->label ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->path);
}

/* Every combination, the first axis turning slowest. */
static nr_status expand_row(nr_recipe *r, const nr_recipe_row *row, nr_error *err)
{
    size_t at[MAX_AXES] = {0};
    if (row->count > MAX_AXES) return nr_recipe_fail(r, row->line, err, "expected at most %d settings in a row", MAX_AXES);
    for (;;) {
        nr_planned *run;
        NR_TRY(new_run(r, NR_ROW, row->line, &run, err));
        for (size_t i = 0; i < row->count; i++) NR_TRY(set_value(r, run, &row->axes[i], value_at(&row->axes[i], at[i]), err));
        NR_TRY(check_run(r, run, err));
        NR_TRY(label_run(r, run, row->name, err));
        size_t i = row->count;
        while (i > 0 && ++at[i - 1] == value_count(&row->axes[i - 1])) at[--i] = 0;
        if (i == 0) return NR_OK;
    }
}

/* ---- controls ---- */

static bool same_but_seed(const nr_recipe *r, const nr_planned *a, const nr_planned *b)
{
    char x[256], y[256];
    for (size_t i = 0; i < nr_setting_count; i++) {
        nr_setting_get(&a->s, &nr_setting_list[i], x, sizeof x);
        nr_setting_get(&b->s, &nr_setting_list[i], y, sizeof y);
        if (strcmp(x, y) != 0 && strcmp(nr_setting_list[i].name, "seed") != 0) return false;
    }
    return memcmp(a->trains_on, b->trains_on, r->text_count * sizeof *a->trains_on) == 0;
}

/* One control for each seed of the first row, else as its first run. */
static nr_status add_control(nr_recipe *r, int role, nr_error *err)
{
    size_t rows = r->run_count;
    bool any_old = false;
    for (size_t t = 0; t < r->text_count; t++) any_old |= r->texts[t].domain == NR_OLD && r->texts[t].train.count > 0;
    if (role == NR_CONTROL_OLD_ONLY && !any_old) return NR_OK; /* nothing to train it on */
    for (size_t i = 0; i < rows && r->runs[i].role == NR_ROW; i++) {
        nr_planned *run;
        if (!same_but_seed(r, &r->runs[i], &r->runs[0]) || (role == NR_CONTROL_BACKBONE && i > 0)) continue;
        NR_TRY(new_run(r, role, r->runs[i].line, &run, err));
        run->s = r->runs[i].s;
        memcpy(run->trains_on, r->runs[i].trains_on, r->text_count * sizeof *run->trains_on);
        if (role == NR_CONTROL_OLD_ONLY) run->s.old_share = 1;
        if (role == NR_CONTROL_NEW_ONLY) run->s.old_share = 0;
        for (size_t t = 0; role == NR_CONTROL_OLD_ONLY && t < r->text_count; t++)
            if (r->texts[t].domain == NR_OLD) run->trains_on[t] = r->texts[t].train.count > 0;
        NR_TRY(check_run(r, run, err));
        /* Where the runs stand on extensions, what they start from is the backbone with these. */
        NR_TRY(label_run(r, run, role == NR_CONTROL_BACKBONE && r->stands_on.count ? "below" : nr_control_names[role], err));
    }
    return NR_OK;
}

/* A control that is one of the rows needs no run of its own. */
static void drop_doubles(nr_recipe *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->run_count; i++) {
        bool twice = false;
        for (size_t k = 0; k < kept; k++) twice |= strcmp(r->runs[k].identity, r->runs[i].identity) == 0;
        if (!twice) {
            r->runs[kept++] = r->runs[i];
            continue;
        }
        free(r->runs[i].label);
        free(r->runs[i].trains_on);
    }
    r->run_count = kept;
}

/* ---- names ---- */

static const char *short_name(const char *setting)
{
    return strcmp(setting, "learning_rate") == 0 ? "lr" : strcmp(setting, "old_share") == 0 ? "p" : setting;
}

static void value_text(const nr_planned *run, const nr_setting *w, char buf[256]) { nr_setting_get(&run->s, w, buf, 256); }

static bool setting_differs(const nr_recipe *r, const char *label, const nr_setting *w)
{
    char first[256] = "", other[256];
    bool any = false;
    for (size_t i = 0; i < r->run_count; i++) {
        if (strcmp(r->runs[i].label, label) != 0) continue;
        value_text(&r->runs[i], w, other);
        if (any && strcmp(first, other) != 0) return true;
        if (!any) memcpy(first, other, sizeof first);
        any = true;
    }
    return false;
}

static bool texts_differ(const nr_recipe *r, const char *label, int domain)
{
    const nr_planned *first = NULL;
    for (size_t i = 0; i < r->run_count; i++) {
        const nr_planned *run = &r->runs[i];
        if (strcmp(run->label, label) != 0) continue;
        for (size_t t = 0; first && t < r->text_count; t++)
            if (r->texts[t].domain == domain && run->trains_on[t] != first->trains_on[t]) return true;
        if (!first) first = run;
    }
    return false;
}

static void add_word(nr_buffer *b, const char *key, const char *value)
{
    nr_buffer_printf(b, ",%s=", key);
    for (const char *p = value; *p; p++)
        nr_buffer_add(b, strchr("/\\ \"'`$&|;<>()*?[]{}!#~,=", *p) || (unsigned char)*p >= 0x7F ? "-" : p, 1);
}

static void add_texts(nr_buffer *b, const nr_recipe *r, const nr_planned *run, int domain)
{
    nr_buffer names = {0};
    nr_buffer_text(&names, "");
    for (size_t t = 0; t < r->text_count; t++)
        if (r->texts[t].domain == domain && run->trains_on[t]) nr_buffer_printf(&names, "%s%s", names.size ? "+" : "", r->texts[t].name);
    add_word(b, domain == NR_NEW ? "new" : "old", names.size ? names.data : "none");
    nr_buffer_free(&names);
}

/* A name of more than MAX_NAME bytes ends with the start of its hash. */
static char *cut_name(nr_buffer *b, const char *identity)
{
    if (b->failed) {
        nr_buffer_free(b);
        return NULL;
    }
    if (b->size <= MAX_NAME) return b->data;
    char *name = nr_format("%.*s...%.8s", MAX_NAME, b->data, identity);
    nr_buffer_free(b);
    return name;
}

static nr_status name_run(const nr_recipe *r, nr_planned *run, nr_error *err)
{
    nr_buffer group = {0}, name = {0};
    char value[256];
    nr_buffer_text(&group, run->label);
    for (size_t i = 0; i < nr_setting_count; i++) {
        const nr_setting *w = &nr_setting_list[i];
        if (strcmp(w->name, "seed") == 0 || !setting_differs(r, run->label, w)) continue;
        value_text(run, w, value);
        add_word(&group, short_name(w->name), value);
    }
    for (int d = NR_NEW; d >= NR_OLD; d--)
        if (texts_differ(r, run->label, d)) add_texts(&group, r, run, d);
    nr_buffer_text(&name, group.data ? group.data : "");
    if (setting_differs(r, run->label, nr_setting_find("seed"))) nr_buffer_printf(&name, ",seed=%zu", run->s.seed);
    run->group = cut_name(&group, run->identity);
    run->name = cut_name(&name, run->identity);
    return run->group && run->name ? NR_OK : nr_fail(err, NR_E_MEMORY, "%s: out of memory", r->path);
}

nr_status nr_grid_expand(nr_recipe *r, nr_error *err)
{
    for (size_t i = 0; i < r->row_count; i++) NR_TRY(expand_row(r, &r->rows[i], err));
    for (int c = NR_CONTROL_BACKBONE; c <= NR_CONTROL_NEW_ONLY; c++)
        if (r->controls[c]) NR_TRY(add_control(r, c, err));
    NR_TRY(nr_grid_identify(r, err));
    drop_doubles(r);
    for (size_t i = 0; i < r->run_count; i++) {
        NR_TRY(name_run(r, &r->runs[i], err));
        for (size_t k = 0; k < i; k++)
            if (strcmp(r->runs[k].name, r->runs[i].name) == 0)
                return nr_recipe_fail(r, r->runs[i].line, err, "two runs are called %.150s: give the rows names", r->runs[i].name);
    }
    return NR_OK;
}
