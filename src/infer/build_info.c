/* build_info.c - one line on the machine, one on what the library was built with. */
#include "kernels/ops.h"

#ifdef NRES_HAS_ARCHIVE
#define ARCHIVE "with"
#else
#define ARCHIVE "without"
#endif
#ifdef NRES_HAS_FASTTEXT
#define FASTTEXT "with"
#else
#define FASTTEXT "without"
#endif
#ifdef NRES_HAS_YAML
#define YAML "with"
#else
#define YAML "without"
#endif

void nr_build_info(char *buf, size_t size)
{
#ifdef __clang__
    const char *compiler = "clang " __clang_version__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    snprintf(buf, size, "nres %s, %s, %zu cores, %s, %s", nr_version(), nr_cpu_name(), nr_core_count(), nr_matrix_library(), compiler);
}

void nr_build_options(char *buf, size_t size)
{
    snprintf(buf, size, ARCHIVE " libarchive (bzip2, xz), " FASTTEXT " libfasttext (classifiers of text), " YAML " libyaml (recipes)");
}
