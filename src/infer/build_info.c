/* build_info.c - one line on the machine and on what the library was built with. */
#include "kernels/ops.h"

void nr_build_info(char *buf, size_t size)
{
#ifdef __clang__
    const char *compiler = "clang " __clang_version__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
#ifdef NRES_HAS_ARCHIVE
    const char *archive = "libarchive";
#else
    const char *archive = "without bzip2 and xz";
#endif
#ifdef NRES_HAS_FASTTEXT
    const char *classifier = "libfasttext";
#else
    const char *classifier = "without classifiers of text";
#endif
    snprintf(buf, size, "nres %s, %s, %zu cores, %s, %s, %s, %s", nr_version(), nr_cpu_name(), nr_core_count(),
             nr_matrix_library(), archive, classifier, compiler);
}
