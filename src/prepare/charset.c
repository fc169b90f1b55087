/*
 * charset.c - which charset a text is in, and the text in UTF-8, by iconv.
 *
 * The order of evidence: a byte order mark, the server's word, the page's own
 * word, then the bytes themselves. A word that the bytes contradict (UTF-8
 * that isn't) counts for nothing; labels mean what browsers take them for
 * (iso-8859-1 is Windows-1252). Bytes that stand for nothing become U+FFFD; a
 * text with more than a tenth of them is refused.
 */
#include <errno.h>
#include <iconv.h>
#include <string.h>
#include <strings.h>

#include "prepare/prep.h"
#include "prepare/read_formats.h"

#define HEAD ((size_t)4096) /* bytes of a page searched for its own word */

/* Labels whose meaning is another charset's. */
static const char *const meanings[][2] = {
    {"utf8", "UTF-8"},           {"unicode-1-1-utf-8", "UTF-8"}, {"x-sjis", "CP932"},          {"shift_jis", "CP932"},
    {"sjis", "CP932"},           {"windows-31j", "CP932"},       {"gb2312", "GB18030"},        {"gbk", "GB18030"},
    {"x-gbk", "GB18030"},        {"gb_2312-80", "GB18030"},      {"ks_c_5601-1987", "CP949"},  {"euc-kr", "CP949"},
    {"korean", "CP949"},         {"big5", "BIG5-HKSCS"},         {"x-x-big5", "BIG5-HKSCS"},   {"x-euc-jp", "EUC-JP"},
    {"iso-8859-1", "CP1252"},    {"iso8859-1", "CP1252"},        {"iso_8859-1", "CP1252"},     {"latin1", "CP1252"},
    {"latin-1", "CP1252"},       {"us-ascii", "CP1252"},         {"ascii", "CP1252"},          {"iso-8859-9", "CP1254"},
    {"latin5", "CP1254"},        {"iso-8859-11", "CP874"},       {"tis-620", "CP874"},         {"x-mac-roman", "MACINTOSH"},
    {"utf-16", "UTF-16LE"},      {"x-cp1252", "CP1252"},         {"x-cp1251", "CP1251"},       {"cp1252", "CP1252"},
    {"windows-1252", "CP1252"},  {"windows-1251", "CP1251"}};

/* What iconv calls the label, NULL where it knows none of that name. */
static const char *meaning(const char *label)
{
    for (size_t i = 0; i < NR_COUNT(meanings); i++)
        if (strcasecmp(meanings[i][0], label) == 0) return meanings[i][1];
    if (!*label || strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") != strlen(label)) return NULL;
    iconv_t cd = iconv_open("UTF-8", label);
    if (cd == (iconv_t)-1) return NULL;
    iconv_close(cd);
    return label;
}

/* ---- a page's own word ---- */

/* Copies the value behind "charset" at p, unquoted. */
static bool read_label(const char *p, const char *end, char label[40])
{
    size_t k = 0;
    while (p < end && strchr(" \t\r\n=\"'", *p)) p++;
    while (p < end && k < 39 && !strchr(" \t\r\n\"';/>", *p)) label[k++] = *p++;
    label[k] = 0;
    return k > 0;
}

/* <meta charset=...>, <meta ... content="...; charset=...">, <?xml encoding=...?> */
static bool own_word(const char *s, size_t n, char label[40])
{
    const char *end = s + NR_MIN(n, HEAD);
    for (const char *p = s; (p = memchr(p, '<', (size_t)(end - p))) && end - p > 6; p++) {
        bool xml = strncasecmp(p, "<?xml", 5) == 0;
        if (!xml && strncasecmp(p, "<meta", 5) != 0) continue;
        const char *stop = memchr(p, '>', (size_t)(end - p));
        const char *word = xml ? "encoding" : "charset";
        size_t k = strlen(word);
        if (!stop) return false;
        for (const char *q = p; q + k < stop; q++)
            if (strncasecmp(q, word, k) == 0 && strchr(" \t\r\n=", q[k]) && read_label(q + k, stop + 1, label)) return true;
    }
    return false;
}

/* ---- the bytes themselves ---- */

/* Share of the bytes that a charset can't read, on a piece of the text. */
static double misread(const char *s, size_t n, const char *charset)
{
    iconv_t cd = iconv_open("UTF-8", charset);
    char out[1024], *in = (char *)(uintptr_t)s;
    size_t left = NR_MIN(n, (size_t)16384), all = left, bad = 0;
    if (cd == (iconv_t)-1 || all == 0) return 1;
    while (left > 0) {
        char *to = out;
        size_t room = sizeof out;
        if (iconv(cd, &in, &left, &to, &room) != (size_t)-1 || errno == E2BIG) continue;
        if (errno == EINVAL && all < n) break; /* the piece ends inside a character */
        bad++, in++, left--;
    }
    iconv_close(cd);
    return (double)bad / (double)all;
}

/* Neither a word nor UTF-8: many high bytes in pairs are East Asian, in long runs Cyrillic, alone Western. */
static const char *by_bytes(const char *s, size_t n)
{
    static const char *const eastern[] = {"EUC-JP", "CP932", "CP949", "GB18030", "BIG5-HKSCS"};
    size_t high = 0, runs = 0, kana = 0, letters = 0;
    n = NR_MIN(n, (size_t)65536);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x80) continue;
        high++;
        runs += i == 0 || (unsigned char)s[i - 1] < 0x80;
        letters += c >= 0xC0;
        kana += c == 0xA4 || c == 0x82; /* first bytes of hiragana in EUC-JP and Shift_JIS */
    }
    if (high == 0 || runs == 0 || high < 3 * runs) return "CP1252";
    if (letters * 10 > high * 9) return "CP1251";
    for (size_t i = 0; i < NR_COUNT(eastern); i++) {
        bool japanese = i < 2;
        if (japanese && kana * 8 < high) continue;
        if (misread(s, n, eastern[i]) < 0.001) return eastern[i];
    }
    return letters * 10 > high * 7 ? "CP1251" : "CP1252";
}

static const char *by_mark(const char *s, size_t n, size_t *mark)
{
    *mark = 2;
    if (n >= 2 && memcmp(s, "\xFF\xFE", 2) == 0) return "UTF-16LE";
    if (n >= 2 && memcmp(s, "\xFE\xFF", 2) == 0) return "UTF-16BE";
    *mark = 3;
    if (n >= 3 && memcmp(s, "\xEF\xBB\xBF", 3) == 0) return "UTF-8";
    *mark = 0;
    return NULL;
}

static const char *guess(const char *s, size_t n, const char *label, bool page, char own[40], size_t *mark)
{
    const char *name = by_mark(s, n, mark);
    if (name) return name;
    bool utf8 = nr_utf8_valid(s, n);
    name = meaning(label);
    if (!name && page && own_word(s, n, own)) {
        name = meaning(own);
        if (name && strncasecmp(name, "UTF-16", 6) == 0) name = "UTF-8"; /* it could be read, so it isn't */
    }
    if (name && strcasecmp(name, "UTF-8") != 0) return name;
    if (utf8 || (name && misread(s, n, "UTF-8") < 0.01)) return "UTF-8";
    return by_bytes(s, n);
}

const char *nr_charset_guess(const char *s, size_t n, const char *label, bool page)
{
    static const char *const known[] = {"UTF-8", "CP1252", "CP1251", "UTF-16LE", "UTF-16BE", "EUC-JP", "CP932", "CP949", "GB18030"};
    char own[40];
    size_t mark;
    const char *name = guess(s, n, label, page, own, &mark);
    for (size_t i = 0; i < NR_COUNT(known); i++)
        if (strcasecmp(known[i], name) == 0) return known[i];
    return "another";
}

/* ---- to UTF-8 ---- */

bool nr_charset_to_utf8(nr_buffer *out, const char *s, size_t n, const char *label, bool page)
{
    char own[40], piece[8192], *in = (char *)(uintptr_t)s;
    size_t mark, left, bad = 0;
    const char *name = guess(s, n, label, page, own, &mark);
    in += mark;
    left = n - mark;
    if (strcasecmp(name, "UTF-8") == 0 && nr_utf8_valid(in, left)) {
        nr_buffer_add(out, in, left);
        return !out->failed;
    }
    iconv_t cd = iconv_open("UTF-8", name);
    if (cd == (iconv_t)-1) return false;
    while (left > 0) {
        char *to = piece;
        size_t room = sizeof piece;
        size_t rc = iconv(cd, &in, &left, &to, &room);
        int number = errno;
        nr_buffer_add(out, piece, sizeof piece - room);
        if (rc != (size_t)-1 || number == E2BIG) continue;
        nr_buffer_text(out, "\xEF\xBF\xBD");
        bad++, in++, left--;
    }
    iconv_close(cd);
    return !out->failed && bad * 10 <= n;
}
