/*
 * events.c - TensorBoard's event file, by hand: four fields of two messages.
 *
 *   record   u64 length, u32 masked CRC of it, message, u32 masked CRC of it
 *   Event    1 double wall_time, 2 int64 step, 3 string file_version, 5 Summary
 *   Summary  1 repeated Value;  Value: 1 string tag, 2 float simple_value
 *
 * The CRC is CRC-32C, masked as TensorFlow's record writer does it. A whole
 * generator of protocol buffers would be larger than this file.
 */
#include <string.h>

#include "train/train.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
#define HEAD_BYTES 12 /* length and its CRC */

static uint32_t masked_crc(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82F63B78) : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + UINT32_C(0xA282EAD8);
}

static void put_little(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(v >> 8 * i);
}

static size_t varint(unsigned char out[10], uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (unsigned char)(v | 0x80);
    out[n++] = (unsigned char)v;
    return n;
}

static void add_varint(nr_buffer *b, uint64_t v)
{
    unsigned char bytes[10];
    nr_buffer_add(b, bytes, varint(bytes, v));
}

static void add_tag(nr_buffer *b, unsigned field, unsigned type) { add_varint(b, field << 3 | type); }

static void add_little(nr_buffer *b, uint64_t v, size_t n)
{
    unsigned char bytes[8];
    put_little(bytes, v, n);
    nr_buffer_add(b, bytes, n);
}

/* An Event without its summary, behind room for the record's head. */
static void begin(nr_buffer *b, double wall_time, uint64_t step)
{
    static const unsigned char head[HEAD_BYTES];
    uint64_t bits;
    memcpy(&bits, &wall_time, sizeof bits);
    b->size = 0;
    nr_buffer_add(b, head, sizeof head);
    add_tag(b, 1, FIXED64);
    add_little(b, bits, 8);
    if (step == 0) return; /* the default is not written */
    add_tag(b, 2, VARINT);
    add_varint(b, step);
}

static void end(nr_buffer *b)
{
    if (b->failed) return;
    size_t n = b->size - HEAD_BYTES;
    unsigned char *head = (unsigned char *)b->data;
    put_little(head, n, 8);
    put_little(head + 8, masked_crc(head, 8), 4);
    add_little(b, masked_crc(b->data + HEAD_BYTES, n), 4);
}

void nr_event_scalar(nr_buffer *values, const char *tag, double value)
{
    unsigned char length[10];
    size_t n = strlen(tag);
    float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    add_tag(values, 1, BYTES);
    add_varint(values, 1 + varint(length, n) + n + 5);
    add_tag(values, 1, BYTES);
    add_varint(values, n);
    nr_buffer_add(values, tag, n);
    add_tag(values, 2, FIXED32);
    add_little(values, bits, 4);
}

void nr_event_record(nr_buffer *record, const nr_buffer *values, double wall_time, uint64_t step)
{
    begin(record, wall_time, step);
    add_tag(record, 5, BYTES);
    add_varint(record, values->size);
    nr_buffer_add(record, values->data, values->size);
    end(record);
}

void nr_event_header(nr_buffer *record, double wall_time)
{
    static const char version[] = "brain.Event:2";
    begin(record, wall_time, 0);
    add_tag(record, 3, BYTES);
    add_varint(record, sizeof version - 1);
    nr_buffer_add(record, version, sizeof version - 1);
    end(record);
}
