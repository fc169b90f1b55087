/* compare_cells.c - words in the cells of tables: of a comparison, and of its tasks. */
#include <math.h>
#include <string.h>

#include "compare/compare.h"
#include "report/report.h"

/* A name that is too long for its column stands on a line of its own. */
void nr_compare_text_name(nr_buffer *b, const json_t *g)
{
    const char *name = nr_report_string(g, "name");
    double place = nr_report_number(g, "rank");
    char mark[8] = "   ";
    if (isfinite(place)) snprintf(mark, sizeof mark, "%2.0f ", place);
    if (strlen(name) + 3 <= NR_LABEL_COLUMNS) nr_buffer_printf(b, "%s%-*s", mark, NR_LABEL_COLUMNS - 3, name);
    else nr_buffer_printf(b, "%s%.77s\n%-*s", mark, name, NR_LABEL_COLUMNS, "");
}

void nr_compare_markdown_word(nr_buffer *b, const char *s)
{
    nr_buffer safe = {0};
    nr_escape(&safe, s);
    for (size_t i = 0; i < safe.size; i++)
        if (strchr("|\n`\\*_", safe.data[i]) && safe.data[i] != '_') safe.data[i] = ' ';
    nr_buffer_text(b, safe.data ? safe.data : "");
    nr_buffer_free(&safe);
}
