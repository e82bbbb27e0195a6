/* SPDX-License-Identifier: MIT
 * Kernels of the counting build are compiled with -fsanitize=thread and linked with these functions instead of ThreadSanitizer: every
 * load and store of a kernel comes by here. Blocks run in one host thread. */
#include "emu_counters.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include <map>
#include <set>
#include <string>

#include "block.h"

#if EMU_COUNT
struct sectors { /* a set of 32-byte sectors of the device's addresses */
    uint64_t *bits;
    std::vector<size_t> touched; /* words that are not zero */
    uint64_t n;
};

static struct {
    struct sectors read, written;
    std::set<std::string> names;         /* kept for the whole run */
    std::map<std::string, size_t> index; /* in list */
    std::vector<struct emu_counter> list;
    struct emu_counter *now; /* the launch or copy that runs */
} counts;

static void begin(struct sectors *s) {
    if (s->bits == NULL) {
        void *p = mmap(NULL, emu_device_range / 256, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) emu_stop("no memory for counters");
        s->bits = (uint64_t *)p;
    }
    for (size_t word : s->touched) s->bits[word] = 0;
    s->touched.clear();
    s->n = 0;
}

static void add(struct sectors *s, size_t offset, size_t bytes) {
    for (size_t i = offset / 32; i <= (offset + bytes - 1) / 32; i++) {
        uint64_t *word = &s->bits[i / 64];
        const uint64_t bit = (uint64_t)1 << i % 64;
        if (*word & bit) continue;
        if (*word == 0) s->touched.push_back(i / 64);
        *word |= bit;
        s->n++;
    }
}

void emu_count_begin(const char *name) {
    const auto found = counts.index.emplace(name, counts.list.size());
    if (found.second) {
        counts.list.push_back({});
        counts.list.back().kernel = counts.names.insert(name).first->c_str();
    }
    counts.now = &counts.list[found.first->second];
    counts.now->launches++;
    begin(&counts.read);
    begin(&counts.written);
}

void emu_count_end(void) {
    counts.now->bytes_read += 32 * counts.read.n;
    counts.now->bytes_written += 32 * counts.written.n;
}

void emu_count_mma(void) {
    counts.now->mma++;
}

void emu_count_copy(const void *p, size_t bytes, bool write) {
    add(write ? &counts.written : &counts.read, emu_device_offset(p), bytes);
    *(write ? &counts.now->issued_written : &counts.now->issued_read) += bytes;
}

void emu_count_access(const void *p, size_t bytes, bool write) {
    if (emu_self == NULL) return;
    if (emu_is_device(p)) {
        if (!emu_is_allocated(p, bytes))
            emu_fail("%s of %zu bytes at %p: outside of every allocation of device memory%s",
                     write ? "a write" : "a read", bytes, p, emu_near_allocation(p));
        emu_count_copy(p, bytes, write);
        return;
    }
    if (!emu_is_own(p, bytes))
        emu_fail("%s of %zu bytes at %p: neither device nor shared memory, nor the thread's own",
                 write ? "a write" : "a read", bytes, p);
}

/* ---- the functions that compilers call ---- */
#define ACCESS(name, bytes, write)                                                                 \
    extern "C" void __tsan_##name(void *p);                                                        \
    void __tsan_##name(void *p) {                                                                  \
        if (emu_self == NULL) return;                                                              \
        if ((uintptr_t)p % (bytes) != 0) emu_fail(#name " at %p: not aligned to its size", p);     \
        emu_count_access(p, bytes, write);                                                         \
    }
#define UNALIGNED(name, bytes, write)                                                              \
    extern "C" void __tsan_##name(void *p);                                                        \
    void __tsan_##name(void *p) {                                                                  \
        emu_count_access(p, bytes, write);                                                         \
    }
ACCESS(read1, 1, false)
ACCESS(read2, 2, false)
ACCESS(read4, 4, false)
ACCESS(read8, 8, false)
ACCESS(read16, 16, false)
ACCESS(write1, 1, true)
ACCESS(write2, 2, true)
ACCESS(write4, 4, true)
ACCESS(write8, 8, true)
ACCESS(write16, 16, true)
UNALIGNED(unaligned_read2, 2, false)
UNALIGNED(unaligned_read4, 4, false)
UNALIGNED(unaligned_read8, 8, false)
UNALIGNED(unaligned_read16, 16, false)
UNALIGNED(unaligned_write2, 2, true)
UNALIGNED(unaligned_write4, 4, true)
UNALIGNED(unaligned_write8, 8, true)
UNALIGNED(unaligned_write16, 16, true)

extern "C" {
void __tsan_read_range(void *p, size_t bytes);
void __tsan_write_range(void *p, size_t bytes);
void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_vptr_update(void **p, void *value);
void __tsan_vptr_read(void **p);
}

void __tsan_read_range(void *p, size_t bytes) {
    emu_count_access(p, bytes, false);
}

void __tsan_write_range(void *p, size_t bytes) {
    emu_count_access(p, bytes, true);
}

void __tsan_init(void) {
}

void __tsan_func_entry(void *) {
}

void __tsan_func_exit(void) {
}

void __tsan_vptr_update(void **, void *) {
}

void __tsan_vptr_read(void **) {
}

/* Host code beside the kernels uses atomics. */
#define ATOMICS(bits, T)                                                                           \
    extern "C" {                                                                                   \
    T __tsan_atomic##bits##_load(const volatile T *p, int order);                                  \
    void __tsan_atomic##bits##_store(volatile T *p, T v, int order);                               \
    T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int order);                              \
    T __tsan_atomic##bits##_exchange(volatile T *p, T v, int order);                               \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *old, T v, int order,       \
                                                      int on_failure);                             \
    }                                                                                              \
    T __tsan_atomic##bits##_load(const volatile T *p, int) {                                       \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                               \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile T *p, T v, int) {                                    \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                  \
    }                                                                                              \
    T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int) {                                   \
        return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    T __tsan_atomic##bits##_exchange(volatile T *p, T v, int) {                                    \
        return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                        \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *old, T v, int, int) {      \
        return __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
    }
ATOMICS(8, uint8_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
#endif

/* ---- what tests ask ---- */
bool emu_counters_available(void) {
    return EMU_COUNT;
}

#if EMU_COUNT
void emu_counters_reset(void) {
    counts.index.clear();
    counts.list.clear();
}

size_t emu_counters_get(struct emu_counter *list, size_t n) {
    for (size_t i = 0; i < n && i < counts.list.size(); i++) list[i] = counts.list[i];
    return counts.list.size();
}
#else
void emu_counters_reset(void) {
}

size_t emu_counters_get(struct emu_counter *, size_t) {
    return 0;
}
#endif

static void print_row(const struct emu_counter *c) {
    printf("%-44.44s %8" PRIu64 " %10.3f %10.3f %10.3f %10.3f %10.3f\n", c->kernel, c->launches,
           (double)c->bytes_read * 1e-6, (double)c->bytes_written * 1e-6,
           (double)c->issued_read * 1e-6, (double)c->issued_written * 1e-6,
           (double)c->mma * 4096e-9);
}

void emu_counters_print(void) {
    std::vector<struct emu_counter> list(emu_counters_get(NULL, 0));
    emu_counters_get(list.data(), list.size());
    struct emu_counter sum = {};
    sum.kernel = "sum";
    printf("%-44s %8s %10s %10s %10s %10s %10s\n", "kernel", "launches", "MB read", "written",
           "issued", "written", "GFLOP");
    for (const struct emu_counter &c : list) {
        print_row(&c);
        sum.launches += c.launches;
        sum.bytes_read += c.bytes_read;
        sum.bytes_written += c.bytes_written;
        sum.issued_read += c.issued_read;
        sum.issued_written += c.issued_written;
        sum.mma += c.mma;
    }
    print_row(&sum);
}
