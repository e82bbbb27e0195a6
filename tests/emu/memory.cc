/* SPDX-License-Identifier: MIT
 * Device memory: one range of reserved addresses, cut into allocations that end at a page which nobody may touch. Host code can
 * reach none of it: pages are accessible only while a launch or a copy runs. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>

#include "internal.h"
#include "stream.h"

static const size_t page = 4096, big = 2 << 20, alignment = 256;

struct allocation {
    char *pages; /* first accessible page */
    size_t page_bytes;
    size_t
        bytes; /* asked for; the allocation ends less than `alignment` bytes before its pages do */
};

static struct {
    char *range, *top;
    std::map<char *, struct allocation> live; /* by address */
    std::map<void *, size_t> host;            /* pinned host memory */
    size_t used;
    int open;
    unsigned version; /* counts allocations and frees */
} memory;

static size_t total_bytes(void) {
    const char *text = getenv("EMU_MEMORY");
    return text == NULL ? (size_t)8 << 30 : (size_t)strtoull(text, NULL, 10);
}

bool emu_is_device(const void *p) {
    return memory.range != NULL && (const char *)p >= memory.range &&
           (const char *)p < memory.range + emu_device_range;
}

/* The live allocation that holds p, or NULL. */
static const struct allocation *find(const void *p, char **start) {
    auto it = memory.live.upper_bound((char *)p);
    if (it == memory.live.begin()) return NULL;
    --it;
    if ((const char *)p > it->first + it->second.bytes) return NULL;
    *start = it->first;
    return &it->second;
}

bool emu_is_allocated(const void *p, size_t bytes) {
    static thread_local char *from, *to; /* the last answer */
    static thread_local unsigned version;
    if (version == memory.version && (const char *)p >= from && (const char *)p + bytes <= to)
        return true;
    char *start;
    const struct allocation *a = find(p, &start);
    if (a == NULL || (const char *)p + bytes > start + a->bytes) return false;
    from = start;
    to = start + a->bytes;
    version = memory.version;
    return true;
}

size_t emu_device_offset(const void *p) {
    return (size_t)((const char *)p - memory.range);
}

const char *emu_near_allocation(const void *p) {
    static __thread char text[100];
    auto it = memory.live.upper_bound((char *)p);
    text[0] = '\0';
    if (it != memory.live.begin()) {
        --it;
        const ptrdiff_t beyond = (const char *)p - (it->first + (ptrdiff_t)it->second.bytes);
        if (beyond < 1 << 20) {
            snprintf(text, sizeof text, " (%td bytes beyond one of %zu bytes)", beyond,
                     it->second.bytes);
            return text;
        }
        ++it;
    }
    if (it != memory.live.end())
        snprintf(text, sizeof text, " (%td bytes before one of %zu bytes)",
                 it->first - (const char *)p, it->second.bytes);
    return text;
}

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static void protect(const struct allocation *a, int how) {
    if (mprotect(a->pages, a->page_bytes, how) != 0) emu_stop("mprotect of device memory failed");
}

void emu_memory_open(void) {
    if (memory.open++ != 0) return;
    for (auto &it : memory.live) protect(&it.second, PROT_READ | PROT_WRITE);
}

void emu_memory_close(void) {
    if (--memory.open != 0) return;
    for (auto &it : memory.live) protect(&it.second, PROT_NONE);
}

cudaError_t emu_malloc(void **p, size_t bytes) {
    *p = NULL;
    if (emu_breaks_capture("cudaMalloc")) return cudaErrorStreamCaptureUnsupported;
    if (bytes == 0) return cudaSuccess;
    if (memory.range == NULL) {
        void *r = mmap(NULL, emu_device_range, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r == MAP_FAILED) emu_stop("no addresses for device memory");
        memory.range = (char *)r;
        emu_trap_faults();
        memory.top = memory.range + (big - (uintptr_t)r % big);
    }
    /* Much memory lies in pages of 2 MiB, where the system has them: opening it for each launch takes less time. */
    const size_t unit = bytes >= big / 2 ? big : page, rounded = round_up(bytes, alignment),
                 pages = round_up(bytes, unit);
    char *first = memory.top + (unit - (uintptr_t)memory.top % unit) % unit;
    if (bytes > total_bytes() || memory.used + rounded > total_bytes() ||
        first + pages + page > memory.range + emu_device_range)
        return cudaErrorMemoryAllocation;
    const struct allocation a = {first, pages, bytes};
    memory.top = first + pages + page;
    memory.used += rounded;
    char *start = a.pages + (pages - rounded);
    if (unit == big) madvise(a.pages, pages, MADV_HUGEPAGE);
    protect(&a, PROT_READ | PROT_WRITE);
    memset(a.pages, 0xff, pages);
    if (memory.open == 0) protect(&a, PROT_NONE);
    emu_poison(a.pages, pages);
    emu_unpoison(start, bytes);
    memory.live[start] = a;
    memory.version++;
    *p = start;
    return cudaSuccess;
}

/* The bytes between an allocation's end and its last page's: nobody may have written them. */
static void check_end(char *start, const struct allocation *a) {
    for (const char *q = start + a->bytes; q < a->pages + a->page_bytes; q++)
        if ((unsigned char)*q != 0xff)
            emu_stop("device memory was written %zd bytes beyond an allocation of %zu bytes",
                     q - (start + a->bytes), a->bytes);
    for (const char *q = a->pages; q < start; q++)
        if ((unsigned char)*q != 0xff)
            emu_stop("device memory was written %zd bytes before an allocation of %zu bytes",
                     start - q, a->bytes);
}

cudaError_t cudaFree(void *p) {
    if (p == NULL) return cudaSuccess;
    if (emu_breaks_capture("cudaFree")) return cudaErrorStreamCaptureUnsupported;
    emu_finish_all();
    auto it = memory.live.find((char *)p);
    if (it == memory.live.end()) emu_stop("cudaFree of a pointer that is not an allocation");
    protect(&it->second, PROT_READ | PROT_WRITE);
    emu_unpoison(it->second.pages, it->second.page_bytes);
    check_end(it->first, &it->second);
    madvise(it->second.pages, it->second.page_bytes, MADV_DONTNEED);
    protect(&it->second, PROT_NONE);
    memory.used -= round_up(it->second.bytes, alignment);
    memory.live.erase(it);
    memory.version++;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = total_bytes();
    *free_bytes = *total > memory.used ? *total - memory.used : 0;
    return cudaSuccess;
}

cudaError_t emu_host_alloc(void **p, size_t bytes) {
    *p = aligned_alloc(page, (bytes + page) / page * page);
    if (*p == NULL) return cudaErrorMemoryAllocation;
    memory.host[*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    if (p == NULL) return cudaSuccess;
    emu_finish_all();
    if (memory.host.erase(p) == 0)
        emu_stop("cudaFreeHost of a pointer that cudaHostAlloc did not give");
    free(p);
    return cudaSuccess;
}

bool emu_is_pinned(const void *p) {
    auto it = memory.host.upper_bound((void *)p);
    return it != memory.host.begin() &&
           (const char *)p < (const char *)std::prev(it)->first + std::prev(it)->second;
}
