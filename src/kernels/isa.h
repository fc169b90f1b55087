/* isa.h - which instructions run here. The compilers' tests include the
 * operating system's: without saved wide registers a feature counts as absent.
 * A build without AVX-512 (NRES_AVX512=OFF) runs as on a processor that has none. */
#ifndef NR_ISA_H
#define NR_ISA_H

#include <stdbool.h>

static inline bool nr_runs_baseline(void) { return true; }
#if defined(__x86_64__)
/* Every processor with FMA converts half floats too; clang can't ask for that. */
static inline bool nr_runs_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static inline bool nr_runs_avx512(void)
{
#if defined(NR_NO_AVX512)
    return false;
#endif
    return nr_runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
static inline bool nr_runs_avx512bf16(void) { return nr_runs_avx512() && __builtin_cpu_supports("avx512bf16"); }
static inline bool nr_runs_avx512vnni(void) { return nr_runs_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

#endif
