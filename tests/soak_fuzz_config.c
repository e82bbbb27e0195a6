/* SPDX-License-Identifier: MIT
 * A minute of YAML config files with random damage (tests/support/fuzz.h): soak_fuzz_config [SECONDS [SEED]]. */
#include "tests/support/fuzz.h"

int main(int argc, char **argv) {
    return fuzz_main(&fuzz_config, argc, argv);
}
