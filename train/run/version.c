/* SPDX-License-Identifier: MIT
 * Alone in its file, so that a new commit rebuilds only this. */
#include "train/run/version.h"

#ifndef EINTHOVEN_GIT
#define EINTHOVEN_GIT "unknown"
#endif

const char *version_git(void) {
    return EINTHOVEN_GIT;
}
