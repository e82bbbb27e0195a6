/* SPDX-License-Identifier: MIT
 * How options are put into words; shared by core/conf.c and core/conf_text.c, nobody else includes it. */
#ifndef CORE_CONF_TEXT_H
#define CORE_CONF_TEXT_H

#include <stddef.h>

#include "core/conf.h"

/* What a value of the option must be: "a number from 0 to 1", "one of adam, adamw, sgd". */
void conf_describe_type(const struct conf_option *o, char *text, size_t size);

#endif
