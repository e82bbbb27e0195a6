/* SPDX-License-Identifier: MIT
 * `einthoven doctor`: what of this machine the program can use. */
#ifndef TRAIN_RUN_DOCTOR_H
#define TRAIN_RUN_DOCTOR_H

#include <stdbool.h>

#include "core/status.h"

/* Prints the sheet (train/run/sheet.h). What is missing is a finding, not a failure. Each section says whether it is
 * "usable" (JSON: true or false), and what the "problem" is, and what to do. */
enum ecg_status doctor_run(bool json);

#endif
