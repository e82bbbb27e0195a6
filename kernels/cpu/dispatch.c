/* SPDX-License-Identifier: MIT
 * The choice of the SIMD level, made when a device is opened. EINTHOVEN_CPU forces a lower one, so that
 * every level can be tested on one machine; a name that is unknown, or a level that the processor lacks,
 * is an error and never a silent fallback. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

struct choice {
    const struct level *level;
    int (*supported)(void);
};

static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_any(void) {
    return 1;
}

/* Best first. */
static const struct choice choices[] = {{&level_avx512bf16, has_avx512bf16},
                                        {&level_avx512, has_avx512},
                                        {&level_avx2, has_avx2},
                                        {&level_portable, has_any}};
enum { N_CHOICES = sizeof choices / sizeof *choices };

enum ecg_status cpu_dispatch(const struct level **out) {
    const char *forced = getenv("EINTHOVEN_CPU");
    *out = NULL;
    for (int i = 0; i < N_CHOICES; i++) {
        if (forced && strcmp(forced, choices[i].level->name) != 0) continue;
        if (choices[i].supported()) {
            *out = choices[i].level;
            return ECG_OK;
        }
        if (forced)
            return ecg_fail(ECG_ERR_FAIL, "EINTHOVEN_CPU=%s: this processor does not have it",
                            forced);
    }
    return ecg_fail(
        ECG_ERR_FAIL,
        "EINTHOVEN_CPU=%s: unknown level; known are avx512bf16, avx512, avx2 and portable", forced);
}
