/* SPDX-License-Identifier: MIT
 * A minute of .pth files with random damage (tests/support/fuzz.h): soak_fuzz_pth [SECONDS [SEED]]. */
#include "tests/support/fuzz.h"

int main(int argc, char **argv) {
    return fuzz_main(&fuzz_pth, argc, argv);
}
