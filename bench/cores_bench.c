/*
 * cores_bench.c - what two cores pay to hand memory to each other.
 *
 *   cores_bench [CPU CPU]      [0 1]
 *
 * Prints the way of a word from one core to the other, and nanoseconds a cache
 * line for reading and writing what the first core wrote before and the second
 * has touched since. On a virtual machine they change from second to second with
 * the places of its cores: docs/OPTIMIZATION.md, "Two dies". Its two threads are
 * its own, as each has a core.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/base.h"

enum { LINE = 64, BYTES = 288 << 10, FAR = 256 << 20, ROUNDS = 200, WORDS = 100000 };

typedef enum { NOTHING, READ, WRITE, STREAM } act;

typedef struct {
    const char *name;
    act other, own; /* of the second core; then of the first, on a clock */
    bool cold;      /* elsewhere in memory every time */
} test_case;

static const test_case cases[] = {
    {"written, after the same core wrote it", NOTHING, WRITE, false},
    {"read, after the other wrote it", WRITE, READ, false},
    {"written, after the other wrote it", WRITE, WRITE, false},
    {"written, after the other read it", READ, WRITE, false},
    {"written past the caches, after the other read it", READ, STREAM, false},
    {"read, out of memory", NOTHING, READ, true},
    {"written, out of memory", NOTHING, WRITE, true},
};

static struct {
    int cpu[2];
    char *lines, *far;
    _Alignas(64) atomic_size_t turn; /* everything is done in turns, each thread its own */
    double way, seconds[NR_COUNT(cases)];
} bench;

static void stream_line(char *line)
{
#if defined(__SSE2__)
    for (size_t i = 0; i < LINE; i += sizeof(__m128i)) _mm_stream_si128((__m128i *)(void *)(line + i), _mm_set1_epi32(1));
#else
    *(volatile uint64_t *)(void *)line = 1;
#endif
}

static void touch(act how, char *lines)
{
    for (size_t at = 0; how != NOTHING && at < BYTES; at += LINE) {
        volatile uint64_t *word = (volatile uint64_t *)(void *)(lines + at);
        if (how == READ) (void)*word;
        else if (how == WRITE) *word = at;
        else stream_line(lines + at);
    }
#if defined(__SSE2__)
    _mm_mfence(); /* written means that others could see it */
#endif
}

static void wait_for(size_t turn)
{
    while (atomic_load_explicit(&bench.turn, memory_order_acquire) != turn) {}
}

static void done(size_t turn) { atomic_store_explicit(&bench.turn, turn + 1, memory_order_release); }

static void pin(size_t thread)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)bench.cpu[thread], &set);
    int failed = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    if (!failed) return;
    fprintf(stderr, "cores_bench: CPU %d: expected one that this process may use\n", bench.cpu[thread]);
    exit(2);
}

static void run_case(size_t thread, size_t k, size_t turn, size_t round)
{
    const test_case *c = &cases[k];
    char *lines = c->cold ? bench.far + round * BYTES % (FAR - BYTES) / LINE * LINE : bench.lines;
    if (thread == 1) {
        wait_for(turn + 1);
        touch(c->other, lines);
        done(turn + 1);
        return;
    }
    wait_for(turn);
    if (!c->cold) touch(WRITE, lines);
    done(turn);
    wait_for(turn + 2);
    double began = nr_clock();
    touch(c->own, lines);
    bench.seconds[k] += nr_clock() - began;
    done(turn + 2);
}

static void *run(void *context)
{
    size_t thread = (size_t)(uintptr_t)context, turn = 0;
    pin(thread);
    double began = nr_clock();
    for (; turn < 2 * WORDS; turn += 2) {
        wait_for(turn + thread);
        done(turn + thread);
    }
    if (thread == 0) bench.way = (nr_clock() - began) / (2 * WORDS);
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t k = 0; k < NR_COUNT(cases); k++, turn += 3) run_case(thread, k, turn, round * NR_COUNT(cases) + k);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t second;
    nr_error err;
    bench.cpu[1] = 1;
    for (int i = 0; i < 2 && argc == 3; i++) bench.cpu[i] = atoi(argv[i + 1]);
    if ((argc != 1 && argc != 3) || bench.cpu[0] == bench.cpu[1] || bench.cpu[0] < 0 || bench.cpu[1] < 0) {
        fprintf(stderr, "usage: cores_bench [CPU CPU], two different ones\n");
        return 2;
    }
    if (nr_alloc(&bench.lines, 1, BYTES, "lines", &err) != NR_OK || nr_alloc(&bench.far, 1, FAR, "memory", &err) != NR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < FAR; i += LINE) bench.far[i] = 1; /* pages of their own, not the zero page */
    if (pthread_create(&second, NULL, run, (void *)(uintptr_t)1) != 0) return 1;
    run(NULL);
    pthread_join(second, NULL);
    printf("%-52s %6.1f ns\n", "a word's way from core to core", bench.way * 1e9);
    for (size_t k = 0; k < NR_COUNT(cases); k++)
        printf("%-52s %6.1f ns a line\n", cases[k].name, bench.seconds[k] / ROUNDS / (BYTES / LINE) * 1e9);
    free(bench.lines);
    free(bench.far);
    return 0;
}
