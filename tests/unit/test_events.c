/* test_events.c - the event file, byte for byte what TensorBoard's own writer makes (golden/gen_events.py). */
#include "testing.h"

#include "train/train.h"

static void add(nr_buffer *file, nr_buffer *values, double wall_time, uint64_t step)
{
    nr_buffer record = {0};
    if (values)
        nr_event_record(&record, values, wall_time, step);
    else
        nr_event_header(&record, wall_time);
    nr_buffer_add(file, record.data, record.size);
    nr_buffer_free(&record);
    if (values) values->size = 0;
}

static void same_bytes(void **state)
{
    (void)state;
    nr_map golden;
    nr_error err;
    nr_buffer file = {0}, values = {0};
    char tag[256] = "long/";
    memset(tag + 5, 'x', 200);
    add(&file, NULL, 1.5, 0);
    nr_event_scalar(&values, "train/loss", 2.5);
    nr_event_scalar(&values, "eval/old/kl", -0.1);
    add(&file, &values, 1234.5, 7);
    nr_event_scalar(&values, "first", 0.0);
    add(&file, &values, 1e9 + 0.25, 0);
    nr_event_scalar(&values, tag, 1e-30);
    add(&file, &values, 2e9, 3000000000u);
    assert_int_equal(nr_map_open(&golden, NRES_FIXTURES "/events/golden.tfevents", &err), NR_OK);
    assert_int_equal(file.size, golden.size);
    assert_memory_equal(file.data, golden.data, golden.size);
    nr_map_close(&golden);
    nr_buffer_free(&values);
    nr_buffer_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
