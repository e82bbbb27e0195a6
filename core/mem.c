/* SPDX-License-Identifier: MIT
 * Checked allocation and the two-pass arena. Every size is checked before it is multiplied or rounded:
 * counts often come from files. */
#include "core/mem.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LAZY_BYTES ((size_t)4 << 20) /* from here on zeroing is left to the kernel */
#define HUGE_PAGE  ((uintptr_t)2 << 20)

/* Rounded up to MEM_ALIGN; SIZE_MAX when that does not fit. */
static size_t round_up(size_t bytes) {
    if (bytes > SIZE_MAX - (MEM_ALIGN - 1)) return SIZE_MAX;
    return (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
}

static enum ecg_status no_memory(size_t n, size_t size) {
    return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu elements of %zu bytes", n, size);
}

/* Zeroes a large block without touching it: whole pages are handed back, the kernel gives zeroed ones at their first
 * use, and large ones where it can (one page fault then stands for 512). What is never used takes no memory. */
static void zero(char *p, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)p, end = begin + bytes;
    uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (bytes < LAZY_BYTES || madvise((void *)first, last - first, MADV_DONTNEED) != 0) {
        memset(p, 0, bytes);
        return;
    }
    memset(p, 0, first - begin);
    memset((void *)last, 0, end - last);
    uintptr_t huge = (begin + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    madvise((void *)huge, end / HUGE_PAGE * HUGE_PAGE - huge, MADV_HUGEPAGE);
}

enum ecg_status mem_alloc(void **out, size_t n, size_t size) {
    size_t bytes;
    *out = NULL;
    if (__builtin_mul_overflow(n, size, &bytes)) return no_memory(n, size);
    bytes = round_up(bytes ? bytes : 1);
    if (bytes > PTRDIFF_MAX) return no_memory(n, size);
    void *p = aligned_alloc(MEM_ALIGN, bytes);
    if (!p) return no_memory(n, size);
    zero(p, bytes);
    *out = p;
    return ECG_OK;
}

enum ecg_status mem_grow(void **p, size_t *cap, size_t n, size_t size) {
    if (n <= *cap) return ECG_OK;
    size_t want = *cap < 8 ? 8 : *cap <= SIZE_MAX / 2 ? *cap * 2 : n;
    if (want < n) want = n;
    size_t bytes;
    if (__builtin_mul_overflow(want, size, &bytes) || bytes > PTRDIFF_MAX)
        return no_memory(want, size);
    char *grown = realloc(*p, bytes ? bytes : 1);
    if (!grown) return no_memory(want, size);
    memset(grown + *cap * size, 0, (want - *cap) * size);
    *p = grown;
    *cap = want;
    return ECG_OK;
}

size_t mem_available(void) {
    char line[128];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    if (f == NULL) return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "MemAvailable: %lu", &kib) == 1) break;
    fclose(f);
    return (size_t)kib * 1024;
}

enum ecg_status mem_strdup(char **out, const char *text) {
    size_t n = strlen(text) + 1;
    *out = malloc(n);
    if (!*out) return no_memory(n, 1);
    memcpy(*out, text, n);
    return ECG_OK;
}

void *arena_carve(struct arena *a, size_t bytes) {
    size_t start = a->used, rounded = round_up(bytes);
    a->used = rounded > SIZE_MAX - start ? SIZE_MAX : start + rounded;
    if (!a->base) return NULL;
    assert(a->used <= a->size); /* the second pass asks for what the first one counted */
    return a->base + start;
}

enum ecg_status arena_commit(struct arena *a) {
    void *base;
    TRY(mem_alloc(&base, a->used, 1));
    free(a->base);
    a->base = base;
    a->size = a->used;
    a->used = 0;
    return ECG_OK;
}

void arena_free(struct arena *a) {
    free(a->base);
    *a = (struct arena){0};
}
