/*
 * file.c - read-only maps, folders, and files that appear whole or not at all.
 *
 * A file that is written lives under a temporary name beside its final one
 * until every byte is on the disk; a crash or a full disk leaves what was
 * there before. Links are followed when reading, never when removing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

/* ---- maps ---- */

static nr_status map_descriptor(nr_map *m, int fd, const char *path, nr_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return nr_fail_errno(err, "can't read", path);
    if (!S_ISREG(st.st_mode))
        return nr_fail(err, NR_E_IO, "%s: expected a regular file, found %s", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "something else");
    m->size = (size_t)st.st_size;
    m->data = (const unsigned char *)"";
    if (m->size == 0) return NR_OK;
    void *p = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) return nr_fail_errno(err, "can't map", path);
    m->data = p;
    return NR_OK;
}

nr_status nr_map_open_file(nr_map *m, const char *path, nr_error *err)
{
    *m = (nr_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not blocked by a pipe without a writer */
    if (fd < 0) return nr_fail_errno(err, "can't open", path);
    nr_map map = {.path = nr_strdup(path)};
    nr_status st = map.path ? map_descriptor(&map, fd, path, err)
                            : nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    map.file = fd + 1;
    if (st == NR_OK) {
        *m = map;
    } else {
        close(fd);
        free(map.path);
    }
    return st;
}

static void close_file(nr_map *m)
{
    if (m->file > 0) close(m->file - 1);
    m->file = 0;
}

nr_status nr_map_open(nr_map *m, const char *path, nr_error *err)
{
    nr_status st = nr_map_open_file(m, path, err);
    close_file(m);
    return st;
}

nr_status nr_map_read(const nr_map *m, void *to, const void *at, size_t bytes, nr_error *err)
{
    size_t done = 0, from = (size_t)((const unsigned char *)at - m->data);
    if (m->file == 0) {
        memcpy(to, at, bytes);
        return NR_OK;
    }
    while (done < bytes) {
        ssize_t n = pread(m->file - 1, (char *)to + done, bytes - done, (off_t)(from + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return nr_fail_errno(err, "can't read", m->path);
        if (n == 0)
            return nr_fail(err, NR_E_IO, "%s: expected %zu bytes at %zu, found the file's end: it has shrunk", m->path, bytes, from);
        done += (size_t)n;
    }
    return NR_OK;
}

void nr_map_close(nr_map *m)
{
    close_file(m);
    if (m->size > 0) munmap((void *)(uintptr_t)m->data, m->size);
    free(m->path);
    *m = (nr_map){0};
}

void nr_map_forget(const nr_map *m)
{
    if (m->size > 0) madvise((void *)(uintptr_t)m->data, m->size, MADV_DONTNEED);
}

/* ---- folders ---- */

bool nr_path_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool nr_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

char *nr_path_join(const char *a, const char *b)
{
    size_t n = strlen(a);
    return nr_format("%s%s%s", a, n == 0 || a[n - 1] == '/' ? "" : "/", b);
}

char *nr_path_trim(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    return nr_format("%.*s", (int)n, path);
}

nr_status nr_make_folders(const char *path, nr_error *err)
{
    char *copy = nr_strdup(path);
    if (!copy) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    nr_status st = NR_OK;
    for (char *p = copy; st == NR_OK; p++) {
        if (*p != '/' && *p != '\0') continue;
        char end = *p;
        *p = '\0';
        int number = *copy && mkdir(copy, 0777) != 0 ? errno : 0;
        if (number && !nr_path_is_folder(copy)) {
            errno = number; /* not that of the look whether it is there */
            st = nr_fail_errno(err, "can't make the folder", copy);
        }
        *p = end;
        if (end == '\0') break;
    }
    free(copy);
    return st;
}

/* Empties the folder behind fd (which this closes). Returns 0 or -1 with errno. */
static int empty_folder(int fd)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    int result = 0;
    for (struct dirent *e; result == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        struct stat st;
        result = fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW);
        if (result != 0) break;
        bool folder = S_ISDIR(st.st_mode);
        if (folder) {
            int inner = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            result = inner < 0 ? -1 : empty_folder(inner);
        }
        if (result == 0) result = unlinkat(dirfd(d), e->d_name, folder ? AT_REMOVEDIR : 0);
    }
    int saved = errno;
    closedir(d);
    errno = saved;
    return result;
}

nr_status nr_remove_folder(const char *path, nr_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return NR_OK;
    if (fd < 0 || empty_folder(fd) != 0 || rmdir(path) != 0) return nr_fail_errno(err, "can't remove the folder", path);
    return NR_OK;
}

/* ---- atomic writer ---- */

#define TEMPORARY_TRIES 1000

/* Opens a name beside `path` that nobody has. The process id keeps two programs
 * apart; a number steps over what a crash left behind. */
static int open_temporary(nr_writer *w)
{
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        free(w->temporary);
        w->temporary = nr_format("%s.tmp-%ld-%d", w->path, (long)getpid(), i);
        if (!w->temporary) {
            errno = ENOMEM;
            return -1;
        }
        int fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

static void writer_release(nr_writer *w)
{
    free(w->path);
    free(w->temporary);
    *w = (nr_writer){0};
}

nr_status nr_writer_open(nr_writer *w, const char *path, nr_error *err)
{
    *w = (nr_writer){.path = nr_strdup(path)};
    if (!w->path) return nr_fail(err, NR_E_MEMORY, "%s: out of memory", path);
    int fd = open_temporary(w);
    nr_status st = NR_OK;
    if (fd < 0) {
        st = nr_fail_errno(err, "can't write", path);
        writer_release(w);
        return st;
    }
    w->file = fdopen(fd, "wb");
    if (!w->file) {
        st = nr_fail_errno(err, "can't write", path);
        close(fd);
        unlink(w->temporary);
        writer_release(w);
    }
    return st;
}

void nr_writer_write(nr_writer *w, const void *data, size_t n)
{
    if (!w->file || w->error || n == 0) return;
    errno = 0;
    if (fwrite(data, 1, n, w->file) != n) w->error = errno ? errno : EIO;
}

/* Makes the rename last: the folder's entry goes to the disk too. */
static int sync_folder_of(const char *path)
{
    char *folder = nr_strdup(path);
    if (!folder) {
        errno = ENOMEM;
        return -1;
    }
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) return -1;
    /* Some file systems can't sync a folder; they answer EINVAL. */
    int result = fsync(fd) == 0 || errno == EINVAL ? 0 : -1;
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

nr_status nr_rename_folder(const char *from, const char *to, nr_error *err)
{
    if (rename(from, to) != 0 || sync_folder_of(to) != 0) return nr_fail_errno(err, "can't rename a folder to it", to);
    return NR_OK;
}

nr_status nr_writer_commit(nr_writer *w, nr_error *err)
{
    if (!w->file) return nr_fail(err, NR_E_IO, "%s: the file isn't open for writing", w->path ? w->path : "?");
    if (!w->error && fflush(w->file) != 0) w->error = errno;
    if (!w->error && fsync(fileno(w->file)) != 0 && errno != EINVAL) w->error = errno;
    if (fclose(w->file) != 0 && !w->error) w->error = errno;
    w->file = NULL;
    bool renamed = !w->error && rename(w->temporary, w->path) == 0;
    if (!renamed && !w->error) w->error = errno;
    if (renamed && sync_folder_of(w->path) != 0) w->error = errno;
    nr_status st = NR_OK;
    if (w->error) {
        errno = w->error;
        st = nr_fail_errno(err, "can't write", w->path);
        if (!renamed) unlink(w->temporary);
    }
    writer_release(w);
    return st;
}

void nr_writer_abort(nr_writer *w)
{
    if (w->file) fclose(w->file);
    if (w->temporary) unlink(w->temporary);
    writer_release(w);
}

nr_status nr_write_file(const char *path, const void *data, size_t n, nr_error *err)
{
    nr_writer w;
    NR_TRY(nr_writer_open(&w, path, err));
    nr_writer_write(&w, data, n);
    return nr_writer_commit(&w, err);
}

nr_status nr_copy_file(const char *from, const char *folder, const char *name, nr_error *err)
{
    nr_map map;
    NR_TRY(nr_map_open(&map, from, err));
    char *to = nr_path_join(folder, name);
    nr_status st = to ? nr_write_file(to, map.data, map.size, err) : nr_fail(err, NR_E_MEMORY, "%s/%s: out of memory", folder, name);
    free(to);
    nr_map_close(&map);
    return st;
}
