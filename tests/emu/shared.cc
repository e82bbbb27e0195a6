/* SPDX-License-Identifier: MIT
 * Shared memory of a block: every array between two red zones, filled with NaN. */
#include <stdlib.h>
#include <sys/mman.h>

#include "block.h"

enum { zone = 64, room = 512 << 10, zone_byte = 0xab, nan_byte = 0xff };

static char *place(struct emu_running *b, size_t bytes) {
    char *at = b->shared_top;
    /* 16-byte aligned and no better */
    const size_t rounded = (bytes + 127) / 128 * 128 + zone + 64;
    if (at + rounded > b->shared_end) emu_fail("%zu bytes of shared memory do not fit", bytes);
    memset(at, nan_byte, bytes);
    memset(at + bytes, zone_byte, rounded - bytes);
    b->shared_top += rounded;
    return at;
}

void emu_shared_begin(struct emu_running *b) {
    if (b->shared == NULL) {
        b->shared = (char *)mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (b->shared == MAP_FAILED) emu_stop("no memory for shared memory");
        b->shared_end = b->shared + room;
    }
    memset(b->shared, zone_byte, 128 + 16);
    b->shared_top = b->shared + 128 + 16;
    b->arrays.clear();
    b->static_bytes = 0;
    b->dynamic = b->job->shared == 0 ? NULL : place(b, b->job->shared);
    if (b->dynamic != NULL) b->arrays.push_back({NULL, b->dynamic, b->job->shared});
}

void emu_shared_end(struct emu_running *b) {
    const char *p = b->shared;
    for (size_t i = 0; i <= b->arrays.size(); i++) {
        const bool last = i == b->arrays.size();
        const char *end = last ? b->shared_top : b->arrays[i].at;
        for (; p < end; p++)
            if ((unsigned char)*p != zone_byte)
                emu_fail("shared memory was written %zd bytes %s an array of %zu bytes", i == 0 ? end - p : p - (b->arrays[i - 1].at + b->arrays[i - 1].bytes),
                         i == 0 ? "before" : "beyond", b->arrays[i == 0 ? 0 : i - 1].bytes);
        if (!last) p = end + b->arrays[i].bytes;
    }
}

bool emu_in_shared(const void *p, size_t bytes) {
    const struct emu_running *b = emu_block_now;
    for (const struct emu_array &a : b->arrays)
        if ((const char *)p >= a.at && (const char *)p + bytes <= a.at + a.bytes) return true;
    return false;
}

void *emu_shared(const void *key, size_t bytes, EMU_PLACE_ARG) {
    struct emu_running *b = emu_block_now;
    for (const struct emu_array &a : b->arrays)
        if (a.key == key) return a.at;
    b->static_bytes += (bytes + 15) / 16 * 16;
    if (b->static_bytes > emu_static_shared || b->static_bytes + b->job->shared > b->job->shared_limit)
        emu_fail("%zu bytes of static and %zu of dynamic shared memory at %s:%d; the limits are %d static, %zu together",
                 b->static_bytes, b->job->shared, emu_file, emu_line, emu_static_shared, b->job->shared_limit);
    b->arrays.push_back({key, place(b, bytes), bytes});
    return b->arrays.back().at;
}

void *emu_dynamic_shared(void) {
    if (emu_block_now->dynamic == NULL) emu_fail("DYN_SHARED in a launch without shared bytes");
    return emu_block_now->dynamic;
}
