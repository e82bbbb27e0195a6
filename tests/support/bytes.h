/* SPDX-License-Identifier: MIT
 * A growing string of bytes, for files made by hand. */
#ifndef TESTS_SUPPORT_BYTES_H
#define TESTS_SUPPORT_BYTES_H

#include <stddef.h>

struct bytes {
    char *v;
    size_t n, cap;
};
void bytes_put(struct bytes *b, const void *from, size_t n);
void bytes_text(struct bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* n bytes go into the middle, in front of byte `at`. */
void bytes_insert(struct bytes *b, size_t at, const void *from, size_t n);
/* The file of these bytes. */
void bytes_save(const struct bytes *b, const char *path);
void bytes_free(struct bytes *b);
/* A string literal, zeros included. */
#define BYTES_PUT(b, literal) bytes_put((b), literal, sizeof(literal) - 1)

#endif
