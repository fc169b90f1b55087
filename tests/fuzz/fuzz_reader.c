/*
 * fuzz_reader.c - any bytes as a file to read: WARC, dump, rows, page, text,
 * packed or not. Every record becomes text that is written as a row that
 * reads back as the same text.
 */
#include <stdlib.h>
#include <string.h>

#include "prepare/flow.h"
#include "prepare/prep.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(const nr_record *r)
{
    nr_buffer row = {0};
    json_t *j = NULL;
    if (!nr_utf8_valid(r->text.data, r->text.size) || !nr_utf8_valid(r->source.data, r->source.size)) abort();
    if (!nr_record_write(&row, r) || nr_json_parse(&j, row.data, row.size, "row", NULL) != NR_OK) abort();
    const char *text = json_string_value(json_object_get(j, "text"));
    if (!text || strcmp(text, r->text.data) != 0) abort();
    /* Reading it again changes nothing. */
    static const nr_read_options o;
    nr_record again = {.kind = NR_RECORD_ROW};
    nr_counts c = {0};
    nr_buffer_text(&again.source, "x");
    nr_buffer_add(&again.text, row.data, row.size - 1);
    if (nr_step_read(&o, &again, &c, NULL) != NR_OK || again.dropped || strcmp(again.text.data, r->text.data) != 0) abort();
    nr_record_free(&again);
    json_decref(j);
    nr_buffer_free(&row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const nr_read_options o;
    nr_reader *reader;
    nr_record r = {0};
    nr_counts c = {0};
    nr_error err = {0};
    bool more = true;
    nr_status st = nr_reader_open(&reader, memory_file(data, size), &err);
    for (int i = 0; st == NR_OK && more && i < 1000; i++) {
        st = nr_reader_next(reader, &r, &more, &c, &err);
        if (st != NR_OK || !more) break;
        if (nr_step_read(&o, &r, &c, &err) != NR_OK) abort();
        if (!r.dropped) check_row(&r);
    }
    if (st != NR_OK && !err.message[0]) abort();
    nr_reader_close(reader);
    nr_record_free(&r);
    nr_counts_free(&c);
    return 0;
}
