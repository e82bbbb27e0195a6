/* SPDX-License-Identifier: MIT
 * A minute of safetensors files with random damage (tests/support/fuzz.h): soak_fuzz_safetensors [SECONDS [SEED]]. */
#include "tests/support/fuzz.h"

int main(int argc, char **argv) {
    return fuzz_main(&fuzz_safetensors, argc, argv);
}
