/* SPDX-License-Identifier: MIT
 * Releasing a recording. */
#include "data/record.h"

#include <stdlib.h>

void record_free(struct record *r) {
    free(r->id);
    free(r->signal);
    *r = (struct record){0};
}
