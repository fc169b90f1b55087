/* Drawings and escapes: well-formed whatever the numbers and names are. */
#include <math.h>

#include "report/report.h"
#include "testing.h"

static void escaped_is(const char *in, const char *want)
{
    nr_buffer b = {0};
    nr_buffer_text(&b, "");
    nr_escape(&b, in);
    assert_string_equal(b.data, want);
    nr_buffer_free(&b);
}

static void escapes(void **state)
{
    (void)state;
    escaped_is("<script>alert('x' & \"y\")</script>", "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;");
    escaped_is("été 日本 😀", "été 日本 😀");
    escaped_is("a\x01\x7F\n\t", "a\xEF\xBF\xBD\xEF\xBF\xBD\n\t");
    escaped_is("\xC0\x80|\xED\xA0\x80|\xFF|\xE2\x82|\xC2\x85|\xEF\xBF\xBF",
               "\xEF\xBF\xBD\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD|\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD|"
               "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    escaped_is("", "");
}

static void grouped(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *want;
    } list[] = {{0, "0"}, {999, "999"}, {1000, "1,000"}, {-1234567, "-1,234,567"}, {-0.2, "0"}, {NAN, "?"}, {1e300, "?"}, {26974080, "26,974,080"}};
    for (size_t i = 0; i < NR_COUNT(list); i++) {
        nr_buffer b = {0};
        nr_grouped(&b, list[i].v);
        assert_string_equal(b.data, list[i].want);
        nr_buffer_free(&b);
    }
}

static void ticks(void **state)
{
    (void)state;
    assert_true(fabs(nr_tick_step(0, 10, 5) - 2) < 1e-12);
    assert_true(fabs(nr_tick_step(1.25, 1.66, 5) - 0.1) < 1e-12);
    assert_true(fabs(nr_tick_step(0, 0.003, 5) - 0.001) < 1e-12);
    assert_true(nr_tick_step(1, 1, 5) == 1);
    assert_true(nr_tick_step(NAN, 1, 5) == 1);
    assert_true(nr_tick_step(0, INFINITY, 5) == 1);
}

/* Whether tags nest, attributes are quoted and nothing stands bare; enough for what the writer makes. */
static void assert_well_formed(const char *xml)
{
    const char *open[64];
    size_t sizes[64], depth = 0;
    for (const char *p = xml; *p; p++) {
        if (*p == '&') assert_true(strchr(p, ';') && strchr(p, ';') - p < 8);
        assert_true(*p != '>');
        if (*p != '<') continue;
        bool closing = p[1] == '/';
        const char *name = p + 1 + closing;
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz");
        assert_true(n > 0);
        const char *end = name + n;
        for (bool quoted = false; *end && (quoted || *end != '>'); end++) {
            if (*end == '"') quoted = !quoted;
            assert_true(*end != '<');
        }
        assert_true(*end == '>');
        if (closing) {
            assert_true(depth > 0 && sizes[depth - 1] == n && memcmp(open[depth - 1], name, n) == 0);
            depth--;
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            open[depth] = name;
            sizes[depth++] = n;
        }
        p = end;
    }
    assert_int_equal(depth, 0);
}

static const double steps[] = {0, 50, 100, 150}, falling[] = {1.65, 1.4, 1.3, 1.29}, flat[] = {1.65, 1.65, 1.65, 1.65};

static void draw(nr_buffer *b, const double *y, size_t n, bool standalone)
{
    nr_series series[] = {{.name = "with <it>", .style = "new", .x = steps, .y = y, .count = n, .points = true},
                          {.name = "back & bone", .style = "base", .x = steps, .y = flat, .count = n, .dashed = true}};
    nr_chart c = {.id = "c", .title = "T \"1\" <b>", .description = "D & d", .x_label = "x<", .y_label = "y>", .series = series, .series_count = 2, .digits = 3};
    nr_chart_svg(b, &c, standalone);
}

static void a_chart(void **state)
{
    (void)state;
    for (int standalone = 0; standalone < 2; standalone++) {
        nr_buffer b = {0};
        draw(&b, falling, 4, standalone != 0);
        assert_well_formed(b.data);
        assert_non_null(strstr(b.data, "<title id=\"c-t\">T &quot;1&quot; &lt;b&gt;</title>"));
        assert_non_null(strstr(b.data, "<desc id=\"c-d\">D &amp; d</desc>"));
        assert_non_null(strstr(b.data, ">1.290</text>")); /* the last value of the line */
        assert_non_null(strstr(b.data, ">1.650</text>"));
        assert_int_equal(strstr(b.data, "<style>") != NULL, standalone);
        assert_int_equal(strstr(b.data, "xmlns=") != NULL, standalone);
        size_t circles = 0;
        for (const char *p = b.data; (p = strstr(p, "<circle")); p++) circles++;
        assert_int_equal(circles, 4);
        nr_buffer_free(&b);
    }
}

static void strange_numbers(void **state)
{
    (void)state;
    static const double nothing[] = {NAN, INFINITY, -INFINITY, NAN}, gap[] = {1, NAN, 3, 2}, huge[] = {1e14, -1e14, 1e300, 0}, zero[] = {0, 0, 0, 0},
                        tiny[] = {1e-300, 2e-300, 0, 0};
    static const double *const all[] = {gap, huge, zero, tiny};
    for (size_t i = 0; i < NR_COUNT(all); i++)
        for (size_t n = 1; n <= 4; n++) {
            nr_buffer b = {0};
            draw(&b, all[i], n, false);
            assert_well_formed(b.data);
            assert_null(strstr(b.data, "nan"));
            assert_null(strstr(b.data, "inf"));
            assert_true(b.size < 20000);
            nr_buffer_free(&b);
        }
    nr_series lost = {.name = "n", .style = "new", .x = steps, .y = nothing, .count = 4};
    nr_chart c = {.id = "c", .title = "t", .description = "d", .x_label = "x", .y_label = "y", .series = &lost, .series_count = 1};
    nr_buffer b = {0};
    nr_chart_svg(&b, &c, true);
    assert_int_equal(b.size, 0); /* nothing to show is nothing */
}

/* Where a name stands in the legend. */
static void name_at(const char *svg, const char *name, double *x, double *y)
{
    char word[80];
    snprintf(word, sizeof word, "class=\"name\">%s</text>", name);
    const char *end = strstr(svg, word), *begin = end;
    assert_non_null(end);
    while (strncmp(begin, "<text", 5) != 0) begin--;
    assert_int_equal(sscanf(begin, "<text x=\"%lf\" y=\"%lf\"", x, y), 2);
}

/* Names that find no room in one line stand in columns, below one another; those that do, in one. */
static void legend_in_columns(void **state)
{
    static const char *const names[] = {"one", "a name of some length", "three", "a name, and a longer one", "five"};
    nr_series series[NR_COUNT(names)];
    double x[NR_COUNT(names)], y[NR_COUNT(names)];
    (void)state;
    for (size_t k = 0; k < NR_COUNT(names); k++) series[k] = (nr_series){.name = names[k], .style = "m1", .x = steps, .y = falling, .count = 4};
    for (size_t count = 2; count <= NR_COUNT(names); count += 3) {
        nr_chart c = {.id = "c", .title = "t", .description = "d", .x_label = "x", .y_label = "y", .series = series, .series_count = count};
        nr_buffer b = {0};
        nr_chart_svg(&b, &c, false);
        assert_well_formed(b.data);
        for (size_t k = 0; k < count; k++) name_at(b.data, names[k], &x[k], &y[k]);
        nr_buffer_free(&b);
        assert_true(y[0] == y[1] && x[0] < x[1]);
        for (size_t k = 2; k < count; k++) assert_true(x[k] == x[k - 2] && y[k] == y[k - 2] + 18);
    }
}

/* Words beside points that lie on one another stand apart, as many as find room; far ones all stand above and right. */
static void notes_stand_apart(void **state)
{
    (void)state;
    static const double x[] = {0, 50, 50, 50, 50, 50, 50, 100}, y[] = {1, 2, 2, 2, 2, 2, 2, 3};
    static const char *const words[] = {"far", "0.001", "0.002", "0.003", "0.004", "0.005", "0.006", "end"};
    nr_series s = {.name = "n", .style = "new", .x = x, .y = y, .count = 8, .points = true, .notes = words};
    nr_chart c = {.id = "c", .title = "t", .description = "d", .x_label = "x", .y_label = "y", .series = &s, .series_count = 1, .margin = true};
    nr_buffer b = {0};
    double at[8][2];
    size_t n = 0;
    nr_chart_svg(&b, &c, false);
    assert_well_formed(b.data);
    for (const char *p = b.data; (p = strstr(p, "<text x=")) && n < 8; p++) {
        const char *end = strchr(p, '>'), *class = strstr(p, "class=\"note\"");
        if (!class || class > end) continue;
        assert_int_equal(sscanf(p, "<text x=\"%lf\" y=\"%lf\"", &at[n][0], &at[n][1]), 2);
        for (size_t i = 0; i < n; i++) assert_true(fabs(at[i][0] - at[n][0]) > 5 || fabs(at[i][1] - at[n][1]) > 9);
        n++;
    }
    assert_int_equal(n, 6); /* both far ones, and four corners */
    assert_non_null(strstr(b.data, ">far</text>"));
    assert_non_null(strstr(b.data, ">0.004</text>"));
    assert_null(strstr(b.data, ">0.005</text>"));
    nr_buffer_free(&b);
}

/* A gap breaks the line: two moves of the pen. */
static void gaps_break_the_line(void **state)
{
    (void)state;
    static const double gap[] = {1, NAN, 3, 2};
    nr_buffer b = {0};
    draw(&b, gap, 4, false);
    const char *path = strstr(b.data, "<path class=\"new\"");
    assert_non_null(path);
    const char *end = strstr(path, "/>");
    size_t moves = 0;
    for (const char *p = path; p < end; p++) moves += *p == 'M';
    assert_int_equal(moves, 2);
    nr_buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes), cmocka_unit_test(grouped),         cmocka_unit_test(ticks),
        cmocka_unit_test(a_chart), cmocka_unit_test(strange_numbers), cmocka_unit_test(gaps_break_the_line),
        cmocka_unit_test(legend_in_columns), cmocka_unit_test(notes_stand_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
