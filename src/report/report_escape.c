/* report_escape.c - text that is safe inside HTML and XML, and readable numbers. */
#include <math.h>
#include <string.h>

#include "report/report.h"

/* Length of the UTF-8 character at s, 0 where there is none. Refuses overlong
 * forms, surrogates and what is beyond U+10FFFF; s ends with a NUL. */
static size_t character(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    /* U+FFFE and U+FFFF are no characters in XML; C1 controls are in HTML's bad list. */
    if (s[0] == 0xEF && s[1] == 0xBF && s[2] >= 0xBE) return 0;
    if (s[0] == 0xC2 && s[1] < 0xA0) return 0;
    return n;
}

void nr_escape(nr_buffer *b, const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    while (*u) {
        size_t n = character(u);
        switch (*u) {
        case '&': nr_buffer_text(b, "&amp;"); break;
        case '<': nr_buffer_text(b, "&lt;"); break;
        case '>': nr_buffer_text(b, "&gt;"); break;
        case '"': nr_buffer_text(b, "&quot;"); break;
        case '\'': nr_buffer_text(b, "&#39;"); break;
        default:
            if (n == 0 || (*u < 0x20 && *u != '\n' && *u != '\t') || *u == 0x7F)
                nr_buffer_text(b, "\xEF\xBF\xBD");
            else
                nr_buffer_add(b, u, n);
        }
        u += n ? n : 1;
    }
}

void nr_grouped(nr_buffer *b, double v)
{
    char digits[64];
    if (!isfinite(v) || fabs(v) > 1e18) {
        nr_buffer_text(b, "?");
        return;
    }
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(v));
    if (v < 0 && strcmp(digits, "0") != 0) nr_buffer_text(b, "-");
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) nr_buffer_text(b, ",");
        nr_buffer_add(b, &digits[i], 1);
    }
}
