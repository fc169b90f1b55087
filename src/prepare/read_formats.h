/* read_formats.h - what the readers of single formats share; for read*.c alone. */
#ifndef NR_READ_FORMATS_H
#define NR_READ_FORMATS_H

#include "prepare/bytes.h"
#include "prepare/flow.h"

#define NR_RECORD_BYTES_MAX ((size_t)16 << 20) /* longer records are passed over */

struct nr_reader {
    nr_bytes bytes;
    nr_sha256 *hash;
    char *path;
    const char *name;  /* the file's, without folders */
    uint64_t line;     /* lines or pages read so far */
    bool ended;
    nr_status (*next)(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err);
};

/* read_warc.c */
bool nr_is_warc(const char *data, size_t n);
nr_status nr_warc_next(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err);
/* read_dump.c */
bool nr_is_dump(const char *data, size_t n);
nr_status nr_dump_next(nr_reader *r, nr_record *rec, bool *more, nr_counts *c, nr_error *err);

/* read_http.c: a server's answer becomes what it carries (page, text) with its
 * charset; *why is the count that says what is wrong, NULL when it is fine. */
void nr_http_open(nr_record *r, nr_counts *c, uint64_t **why);
/* The value of a header line "name: value" of this name (case aside), blanks cut; NULL: another line. */
const char *nr_header_value(const char *line, size_t n, const char *name, size_t *size);
/* Kind of document that a media type names: page, bytes (plain text), or false. charset may be filled. */
bool nr_media_type(const char *value, size_t n, nr_record_kind *kind, char charset[40]);

/* charset.c: text in any charset to UTF-8. label "": unknown; a page's own word
 * is looked for in its first 4 KiB. false: it can't be read, or memory is out. */
bool nr_charset_to_utf8(nr_buffer *out, const char *s, size_t n, const char *label, bool page);
/* Name of the charset, for tests: what iconv would be asked for. */
const char *nr_charset_guess(const char *s, size_t n, const char *label, bool page);

/* wikitext.c: MediaWiki's markup to paragraphs. */
void nr_wikitext_plain(nr_buffer *out, const char *s, size_t n);

#endif
