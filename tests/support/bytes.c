/* SPDX-License-Identifier: MIT */
#include "tests/support/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more. */
static void grow(struct bytes *b, size_t n) {
    if (b->n + n <= b->cap) return;
    b->cap = 2 * (b->n + n);
    b->v = realloc(b->v, b->cap);
    if (!b->v) abort();
}

void bytes_put(struct bytes *b, const void *from, size_t n) {
    grow(b, n);
    if (n) memcpy(b->v + b->n, from, n);
    b->n += n;
}

void bytes_text(struct bytes *b, const char *format, ...) {
    char text[4096];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) abort();
    bytes_put(b, text, (size_t)n);
}

void bytes_insert(struct bytes *b, size_t at, const void *from, size_t n) {
    grow(b, n + 1);
    memmove(b->v + at + n, b->v + at, b->n - at);
    memcpy(b->v + at, from, n);
    b->n += n;
}

void bytes_save(const struct bytes *b, const char *path) {
    remove(path); /* a file that is written over goes to the disk at once: ten times slower */
    FILE *f = fopen(path, "wb");
    if (!f || (b->n && fwrite(b->v, 1, b->n, f) != b->n) || fclose(f) != 0) abort();
}

void bytes_free(struct bytes *b) {
    free(b->v);
    *b = (struct bytes){0};
}
