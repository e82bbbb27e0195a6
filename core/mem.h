/* SPDX-License-Identifier: MIT
 * Memory: checked allocation for set-up code, and the arena from which a step's buffers are carved. */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MEM_ALIGN 64 /* bytes; one cache line and one AVX-512 register */

/* Zeroed array of n elements of `size` bytes, MEM_ALIGN aligned; overflow of the product and lack
 * of memory are ECG_ERR_NOMEM. Free with free(). n == 0 gives a valid pointer. Pages of a large array
 * become resident when they are first used. */
enum ecg_status mem_alloc(void **out, size_t n, size_t size);

/* mem_alloc with the type of the pointer: TRY(MEM_NEW(&p, n)). */
#define MEM_NEW(pp, n) mem_alloc((void **)(pp), (n), sizeof(**(pp)))

/* Grows *p to hold at least n elements (doubling); *cap is its capacity in elements. New elements are
 * zero; the alignment is malloc's. */
enum ecg_status mem_grow(void **p, size_t *cap, size_t n, size_t size);

/* Bytes of memory that the machine could give to a program now (Linux: MemAvailable); 0: not known. */
size_t mem_available(void);

/* strdup that reports. */
enum ecg_status mem_strdup(char **out, const char *text);

/* Plan, size, one allocation, carve. First pass with base == NULL only counts (arena_carve returns
 * NULL); arena_commit allocates what was counted; the second pass, the same calls again, hands the
 * pieces out. Pieces are MEM_ALIGN aligned. */
struct arena {
    char *base;
    size_t used; /* bytes handed out so far in this pass */
    size_t size; /* bytes allocated */
};
void *arena_carve(struct arena *a, size_t bytes);
enum ecg_status arena_commit(struct arena *a); /* allocates a->used zeroed bytes, restarts the pass */
void arena_free(struct arena *a);              /* safe on a zeroed struct, idempotent */

#ifdef __cplusplus
}
#endif
#endif
