/* SPDX-License-Identifier: MIT
 * Device memory: one range of reserved addresses, cut into allocations that end at a page which nobody may touch. Host code can
 * reach none of it: pages are accessible only while a launch or a copy runs. */
#include <stdlib.h>
#include <sys/mman.h>

#include <map>

#include "internal.h"

static const size_t range_bytes = (size_t)1 << 38, page = 4096, alignment = 256;

struct allocation {
    char *pages; /* first accessible page */
    size_t page_bytes;
    size_t bytes; /* asked for; the allocation ends less than `alignment` bytes before its pages do */
};

static struct {
    char *range, *top;
    std::map<char *, struct allocation> live; /* by address */
    std::map<void *, size_t> host;            /* pinned host memory */
    size_t used;
    int open;
} memory;

static size_t total_bytes(void) {
    const char *text = getenv("EMU_MEMORY");
    return text == NULL ? (size_t)8 << 30 : (size_t)strtoull(text, NULL, 10);
}

bool emu_is_device(const void *p) {
    return memory.range != NULL && (const char *)p >= memory.range && (const char *)p < memory.range + range_bytes;
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
    static thread_local char *from, *to; /* of the last answer */
    static thread_local unsigned version;
    (void)version;
    if ((const char *)p >= from && (const char *)p + bytes <= to && memory.live.count(from) != 0) return true;
    char *start;
    const struct allocation *a = find(p, &start);
    if (a == NULL || (const char *)p + bytes > start + a->bytes) return false;
    from = start;
    to = start + a->bytes;
    return true;
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
    if (bytes == 0) return cudaSuccess;
    if (memory.range == NULL) {
        void *r = mmap(NULL, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r == MAP_FAILED) emu_stop("no addresses for device memory");
        memory.range = memory.top = (char *)r;
    }
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment, pages = (rounded + page - 1) / page * page;
    if (bytes > total_bytes() || memory.used + pages > total_bytes() || memory.top + pages + 2 * page > memory.range + range_bytes)
        return cudaErrorMemoryAllocation;
    struct allocation a = {memory.top + page, pages, bytes};
    memory.top += page + pages;
    memory.used += pages;
    char *start = a.pages + (pages - rounded);
    protect(&a, PROT_READ | PROT_WRITE);
    memset(a.pages, 0xff, pages);
    if (memory.open == 0) protect(&a, PROT_NONE);
    memory.live[start] = a;
    *p = start;
    return cudaSuccess;
}

/* The bytes between an allocation's end and its last page's: nobody may have written them. */
static void check_end(char *start, const struct allocation *a) {
    for (const char *q = start + a->bytes; q < a->pages + a->page_bytes; q++)
        if ((unsigned char)*q != 0xff) emu_stop("device memory was written %zd bytes beyond an allocation of %zu bytes", q - (start + a->bytes), a->bytes);
    for (const char *q = a->pages; q < start; q++)
        if ((unsigned char)*q != 0xff) emu_stop("device memory was written %zd bytes before an allocation of %zu bytes", start - q, a->bytes);
}

cudaError_t cudaFree(void *p) {
    if (p == NULL) return cudaSuccess;
    auto it = memory.live.find((char *)p);
    if (it == memory.live.end()) emu_stop("cudaFree of a pointer that is not an allocation");
    protect(&it->second, PROT_READ | PROT_WRITE);
    check_end(it->first, &it->second);
    madvise(it->second.pages, it->second.page_bytes, MADV_DONTNEED);
    protect(&it->second, PROT_NONE);
    memory.used -= it->second.page_bytes;
    memory.live.erase(it);
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
    if (memory.host.erase(p) == 0) emu_stop("cudaFreeHost of a pointer that cudaHostAlloc did not give");
    free(p);
    return cudaSuccess;
}
