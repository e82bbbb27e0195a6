/* SPDX-License-Identifier: MIT
 * Shared memory of a block: every array between two red zones, filled with NaN. */
#include <stdlib.h>
#include <sys/mman.h>

#include "block.h"

enum { zone = 64, zone_byte = 0xab, nan_byte = 0xff };

/* Memory for one block: what it may use at most and the red zones. */
size_t emu_shared_room(void) {
    return 512 << 10;
}

char *emu_shared_map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) emu_stop("no memory for shared memory");
    return (char *)p;
}

/* Not memset: ThreadSanitizer takes that for a write by the thread that comes first. */
static void fill(char *p, int byte, size_t bytes) {
    asm volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(byte) : "memory");
}

enum { first = 128 + 16, max_arrays = 64 }; /* 16-byte aligned and no better */

static char *place(struct emu_running *b, const void *key, size_t bytes) {
    char *at = b->shared_top;
    const size_t rounded = (bytes + 127) / 128 * 128 + zone + 64;
    if (at + rounded > b->shared_end || b->arrays.size() == max_arrays)
        emu_fail("%zu bytes of shared memory do not fit", bytes);
    emu_unpoison(at, rounded);
    fill(at, nan_byte, bytes);
    fill(at + bytes, zone_byte, rounded - bytes);
    emu_poison(at + bytes, rounded - bytes);
    b->shared_top += rounded;
    b->arrays.push_back({key, at, bytes});
    return at;
}

void emu_shared_begin(struct emu_running *b) {
    if (b->shared == NULL) b->shared = emu_shared_map(emu_shared_room());
    b->shared_end = b->shared + emu_shared_room();
    fill(b->shared, zone_byte, first);
    emu_poison(b->shared, emu_shared_room());
    b->shared_top = b->shared + first;
    b->arrays.clear();
    b->arrays.reserve(max_arrays);
    b->static_bytes = 0;
    b->dynamic = NULL;
    if (b->job->shared != 0) b->dynamic = place(b, NULL, b->job->shared);
}

/* Looks at the red zones before, between and behind the arrays. */
void emu_shared_end(struct emu_running *b) {
    emu_unpoison(b->shared, emu_shared_room());
    const char *p = b->shared;
    for (size_t i = 0; i <= b->arrays.size(); i++) {
        const bool last = i == b->arrays.size();
        const char *end = last ? b->shared_top : b->arrays[i].at;
        for (; p < end; p++) {
            if ((unsigned char)*p == zone_byte) continue;
            if (i == 0)
                emu_fail("shared memory was written %td bytes before its first array", end - p);
            const struct emu_array *a = &b->arrays[i - 1];
            emu_fail("shared memory was written at byte %td of an array of %zu bytes", p - a->at,
                     a->bytes);
        }
        if (!last) p = end + b->arrays[i].bytes;
    }
}

bool emu_in_shared(const void *p, size_t bytes) {
    const struct emu_running *b = emu_block_now;
    for (const struct emu_array &a : b->arrays)
        if ((const char *)p >= a.at && (const char *)p + bytes <= a.at + a.bytes) return true;
    return false;
}

bool emu_is_own(const void *p, size_t bytes) {
    const struct emu_running *b = emu_block_now;
    const struct emu_stack *s = emu_fiber_now()->stack;
    const char *at = (const char *)p, *args = (const char *)b->job->call.args.get();
    return (at >= s->base && at + bytes <= s->base + s->bytes) || emu_in_shared(p, bytes) ||
           (at >= args && at + bytes <= args + b->job->call.bytes);
}

void *emu_shared(const void *key, size_t bytes, EMU_PLACE_ARG) {
    struct emu_running *b = emu_block_now;
    for (const struct emu_array &a : b->arrays)
        if (a.key == key) return a.at;
    b->static_bytes += (bytes + 15) / 16 * 16;
    if (b->static_bytes > emu_static_shared ||
        b->static_bytes + b->job->shared > b->job->shared_limit)
        emu_fail(
            "%zu bytes of static and %zu of dynamic shared memory at %s:%d; the limits are %d static, %zu together",
            b->static_bytes, b->job->shared, emu_file, emu_line, emu_static_shared,
            b->job->shared_limit);
    return place(b, key, bytes);
}

void *emu_dynamic_shared(void) {
    if (emu_block_now->dynamic == NULL) emu_fail("DYN_SHARED in a launch without shared bytes");
    return emu_block_now->dynamic;
}
