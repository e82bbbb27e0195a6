/* SPDX-License-Identifier: MIT */
#ifndef TRAIN_RUN_VERSION_H
#define TRAIN_RUN_VERSION_H

#define EINTHOVEN_VERSION "0.1.0"

/* The commit that was built ("4f2c1d0", "4f2c1d0-dirty"), "unknown" outside a checkout. */
const char *version_git(void);

#endif
