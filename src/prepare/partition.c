/*
 * partition.c - keys on disk by their first bits, and bits in a mapped file.
 * Numbers come in rising order, and a partition is read in the order in which
 * it was written: the first that has a key is the first of all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "prepare/partition.h"

#define HEAD 64 /* bytes of a file of bits that hold its key */

static char *file_path(const char *folder, size_t i) { return nr_format("%s/keys-%02zu", folder, i); }

nr_status nr_partitions_open(nr_partitions *p, const char *folder, nr_error *err)
{
    *p = (nr_partitions){.folder = nr_strdup(folder)};
    if (!p->folder) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", folder);
    NR_TRY(nr_remove_folder(folder, err));
    NR_TRY(nr_make_folders(folder, err));
    for (size_t i = 0; i < NR_PARTITIONS; i++) {
        char *path = file_path(folder, i);
        if (path) p->files[i] = fopen(path, "wbe");
        nr_status st = p->files[i] ? NR_OK : path ? nr_fail_errno(err, "can't write", path) : nr_fail(err, NR_E_MEMORY, "out of memory");
        free(path);
        if (st != NR_OK) return st;
        setvbuf(p->files[i], NULL, _IOFBF, (size_t)64 << 10);
    }
    return NR_OK;
}

void nr_partitions_add(nr_partitions *p, const nr_keyed *k)
{
    FILE *f = p->files[k->key[0] >> 58];
    if (fwrite(k, sizeof *k, 1, f) != 1 && !p->error) p->error = errno ? errno : EIO;
}

nr_status nr_partitions_flush(nr_partitions *p, nr_error *err)
{
    for (size_t i = 0; i < NR_PARTITIONS; i++)
        if (fflush(p->files[i]) != 0 && !p->error) p->error = errno;
    errno = p->error;
    return p->error ? nr_fail_errno(err, "can't write keys to", p->folder) : NR_OK;
}

void nr_partitions_close(nr_partitions *p)
{
    for (size_t i = 0; i < NR_PARTITIONS; i++)
        if (p->files[i]) fclose(p->files[i]);
    if (p->folder) nr_remove_folder(p->folder, NULL);
    free(p->folder);
    *p = (nr_partitions){0};
}

/* ---- repeats ---- */

typedef struct {
    nr_keyed *items; /* number is stored one higher: 0 marks a free place */
    size_t count, size;
} table;

static nr_keyed *place(const table *t, const uint64_t key[2])
{
    size_t i = (size_t)key[1] & (t->size - 1);
    while (t->items[i].number && (t->items[i].key[0] != key[0] || t->items[i].key[1] != key[1])) i = (i + 1) & (t->size - 1);
    return &t->items[i];
}

static bool grow(table *t)
{
    table big = {.size = t->size ? t->size * 2 : 1024, .count = t->count};
    big.items = calloc(big.size, sizeof *big.items);
    if (!big.items) return false;
    for (size_t i = 0; i < t->size; i++)
        if (t->items[i].number) *place(&big, t->items[i].key) = t->items[i];
    free(t->items);
    *t = big;
    return true;
}

typedef struct {
    const nr_partitions *p;
    void (*found)(void *user, uint64_t first, uint64_t later);
    void *user;
    nr_status status[NR_PARTITIONS];
    nr_error error[NR_PARTITIONS];
} search;

static nr_status search_file(const search *s, FILE *f, const char *path, nr_error *err)
{
    table t = {0};
    nr_keyed k;
    nr_status st = NR_OK;
    while (st == NR_OK && fread(&k, sizeof k, 1, f) == 1) {
        if (t.count * 2 >= t.size && !grow(&t)) {
            st = nr_fail(err, NR_E_MEMORY, "%s: out of memory for %zu keys", path, t.count);
            break;
        }
        nr_keyed *there = place(&t, k.key);
        if (there->number) {
            s->found(s->user, there->number - 1, k.number);
        } else {
            *there = k;
            there->number++;
            t.count++;
        }
    }
    if (st == NR_OK && ferror(f)) st = nr_fail_errno(err, "can't read", path);
    free(t.items);
    return st;
}

static void search_partition(void *context, size_t i)
{
    search *s = context;
    char *path = file_path(s->p->folder, i);
    FILE *f = path ? fopen(path, "rbe") : NULL;
    if (!f) {
        s->status[i] = path ? nr_fail_errno(&s->error[i], "can't read", path) : nr_fail(&s->error[i], NR_E_MEMORY, "out of memory");
    } else {
        s->status[i] = search_file(s, f, path, &s->error[i]);
        fclose(f);
    }
    free(path);
}

nr_status nr_partitions_repeats(const nr_partitions *p, void (*found)(void *user, uint64_t first, uint64_t later), void *user,
                                nr_error *err)
{
    search *s;
    nr_status st = NR_OK;
    NR_TRY(nr_alloc(&s, 1, sizeof *s, "looking for repeats", err));
    s->p = p;
    s->found = found;
    s->user = user;
    nr_parallel(NR_PARTITIONS, search_partition, s);
    for (size_t i = 0; i < NR_PARTITIONS && st == NR_OK; i++)
        if ((st = s->status[i]) != NR_OK && err) *err = s->error[i];
    free(s);
    return st;
}

/* ---- bits ---- */

static nr_status map_bits(nr_bits *b, int fd, const char *path, nr_error *err)
{
    void *map = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return nr_fail_errno(err, "can't map", path);
    b->map = map;
    b->words = (uint64_t *)(void *)(b->map + HEAD);
    return NR_OK;
}

nr_status nr_bits_create(nr_bits *b, const char *path, uint64_t count, nr_error *err)
{
    nr_status st = NR_OK;
    *b = (nr_bits){.bytes = HEAD + (size_t)(count / 64 + 1) * 8};
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return nr_fail_errno(err, "can't write", path);
    errno = posix_fallocate(fd, 0, (off_t)b->bytes); /* a full disk is found out here, not as a signal later */
    if (errno != 0) st = nr_fail_errno(err, "can't write", path);
    if (st == NR_OK) st = map_bits(b, fd, path, err);
    close(fd);
    return st;
}

nr_status nr_bits_open(nr_bits *b, const char *path, const char key[65], bool *found, nr_error *err)
{
    *b = (nr_bits){0};
    *found = false;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? NR_OK : nr_fail_errno(err, "can't open", path);
    off_t size = lseek(fd, 0, SEEK_END);
    nr_status st = NR_OK;
    b->bytes = size > HEAD ? (size_t)size : 0;
    if (b->bytes > 0) st = map_bits(b, fd, path, err);
    close(fd);
    *found = st == NR_OK && b->bytes > 0 && memcmp(b->map, key, HEAD) == 0;
    if (!*found) nr_bits_close(b);
    return st;
}

nr_status nr_bits_finish(nr_bits *b, const char *path, const char key[65], nr_error *err)
{
    if (msync(b->map, b->bytes, MS_SYNC) != 0) return nr_fail_errno(err, "can't write", path);
    memcpy(b->map, key, HEAD);
    return msync(b->map, b->bytes, MS_SYNC) == 0 ? NR_OK : nr_fail_errno(err, "can't write", path);
}

void nr_bits_close(nr_bits *b)
{
    if (b->map) munmap(b->map, b->bytes);
    *b = (nr_bits){0};
}
