/* SPDX-License-Identifier: MIT
 * A minute of .pth files with random damage; SECONDS and SEED may be given: soak_fuzz_pth [SECONDS [SEED]]. Worth most when built
 * with SAN (make asan builds test_pth, which does 4000 of them). */
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/fuzz_pth.h"

static double seconds = 60;
static unsigned long long seed = 1;

static void damaged_files(void) {
    struct fuzz_result r = fuzz_pth(seed, 0, seconds);
    CHECK(r.wrong == 0 && r.read > 0 && r.refused > 0);
    check_note("%zu files: %zu read, %zu refused", r.rounds, r.read, r.refused);
}

int main(int argc, char **argv) {
    if (argc > 1) seconds = strtod(argv[1], NULL);
    if (argc > 2) seed = strtoull(argv[2], NULL, 0);
    if (!(seconds > 0) || seed == 0) return EXIT_FAILURE;
    CASE(damaged_files);
    return check_finish();
}
