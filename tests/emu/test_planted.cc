/* SPDX-License-Identifier: MIT
 * Planted bugs: each runs in a process of its own, and the emulation must say what is wrong. Which mode sees which bug is the table at
 * the end. A race whose result is right in the
 * orders that were run is seen by the thread sanitizer alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu_counters.h"
#include "kernels/cuda/ptx.h"

extern "C" {
#include "tests/support/check.h"
}

enum { n = 64, n_global = 1000 };

/* ---- what the bugs share ---- */
static float *zeros(size_t count) {
    float *p;
    if (cudaMalloc(&p, count * sizeof(float)) != cudaSuccess ||
        cudaMemset(p, 0, count * sizeof(float)) != cudaSuccess)
        exit(3);
    return p;
}

/* The child's verdict on results that have no report of their own. */
static void expect(const float *p, int count, float wanted) {
    float got[n];
    if (cudaMemcpy(got, p, (size_t)count * sizeof *got, cudaMemcpyDeviceToHost) != cudaSuccess)
        exit(3);
    for (int i = 0; i < count; i++) {
        if (got[i] == wanted) continue;
        fprintf(stderr, "wrong result %d: %g instead of %g\n", i, got[i], wanted);
        return;
    }
}

static int thread(void) {
    return (int)threadIdx.x;
}

/* ---- barriers ---- */
static __global__ void removed_barrier_kernel(float *out) {
    SHARED(float, s, n);
    s[thread()] = 1.0f;
    /* a barrier is missing here */
    const float neighbour = s[(thread() + 1) % n];
    out[thread()] = neighbour;
}

static void removed_barrier(void) {
    float *out = zeros(n);
    LAUNCH(removed_barrier_kernel, 1, n, 0, 0, out);
    expect(out, n, 1.0f);
}

/* Right in the order forward: a thread reads what an earlier one wrote. */
static __global__ void hidden_race_kernel(float *out) {
    SHARED(float, s, n);
    s[thread()] = 1.0f;
    out[thread()] = thread() == 0 ? 1.0f : s[thread() - 1];
}

static void hidden_race(void) {
    float *out = zeros(n);
    LAUNCH(hidden_race_kernel, 1, n, 0, 0, out);
    expect(out, n, 1.0f);
}

/* The buffer is written anew while others may still read it. */
static __global__ void reuse_race_kernel(float *out) {
    SHARED(float, s, n);
    s[thread()] = 1.0f;
    __syncthreads();
    out[thread()] = s[n - 1 - thread()];
    s[thread()] = 2.0f;
    __syncthreads();
    out[thread()] += s[n - 1 - thread()];
}

static void reuse_race(void) {
    float *out = zeros(n);
    LAUNCH(reuse_race_kernel, 1, n, 0, 0, out);
    expect(out, n, 3.0f);
}

static __global__ void divergent_barrier_kernel(float *out) {
    if (thread() < 40)
        __syncthreads();
    else
        __syncthreads();
    out[thread()] = 1.0f;
}

static void divergent_barrier(void) {
    LAUNCH(divergent_barrier_kernel, 1, n, 0, 0, zeros(n));
}

static __global__ void deadlock_kernel(float *out) {
    if (thread() < 8) __syncthreads();
    out[thread()] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

static void deadlock(void) {
    LAUNCH(deadlock_kernel, 1, n, 0, 0, zeros(n));
}

/* ---- bounds and contents ---- */
static __global__ void shared_overrun_kernel(float *out, int extra) {
    SHARED(float, s, n);
    s[thread() + extra] = 1.0f;
    __syncthreads();
    out[thread()] = s[thread()];
}

static void shared_overrun(void) {
    LAUNCH(shared_overrun_kernel, 1, n, 0, 0, zeros(n), 1);
}

static __global__ void dynamic_overread_kernel(float *out) {
    DYN_SHARED(float, s);
    s[thread()] = 1.0f;
    __syncthreads();
    out[thread()] = s[thread() + 1];
}

static void dynamic_overread(void) {
    float *out = zeros(n);
    LAUNCH(dynamic_overread_kernel, 1, n, n * sizeof(float), 0, out);
    expect(out, n, 1.0f);
}

static __global__ void global_overrun_kernel(float *out, int count) {
    const int i = (int)(blockIdx.x * blockDim.x) + thread();
    if (i <= count) out[i] = 1.0f;
}

static void global_overrun(void) {
    float *out = zeros(n_global);
    LAUNCH(global_overrun_kernel, 16, 64, 0, 0, out, n_global);
    cudaFree(out);
}

/* The allocation ends at its last page's end. */
static void global_overrun_page(void) {
    float *out = zeros(1024);
    LAUNCH(global_overrun_kernel, 17, 64, 0, 0, out, 1024);
    cudaFree(out);
}

static __global__ void set_kernel(float *out) {
    out[thread()] = 1.0f;
}

static void use_after_free(void) {
    float *out = zeros(n);
    cudaFree(out);
    LAUNCH(set_kernel, 1, n, 0, 0, out);
}

static __global__ void uninitialised_shared_kernel(float *out) {
    SHARED(float, s, n);
    if (thread() != 7) s[thread()] = 1.0f;
    __syncthreads();
    out[thread()] = s[thread()];
}

static void uninitialised_shared(void) {
    float *out = zeros(n);
    LAUNCH(uninitialised_shared_kernel, 1, n, 0, 0, out);
    expect(out, n, 1.0f);
}

static __global__ void add_kernel(const float *in, float *out) {
    out[thread()] = in[thread()] + 1.0f;
}

static void uninitialised_global(void) {
    float *in, *out = zeros(n);
    if (cudaMalloc(&in, n * sizeof(float)) != cudaSuccess) exit(3);
    LAUNCH(add_kernel, 1, n, 0, 0, in, out);
    expect(out, n, 1.0f);
}

static void host_pointer(void) {
    static float in[n];
    LAUNCH(add_kernel, 1, n, 0, 0, in, zeros(n));
}

static void device_pointer_on_host(void) {
    float *out = zeros(n);
    printf("%g\n", out[0]);
}

static __global__ void misaligned_kernel(float *out) {
    *(float4 *)(out + 1) = make_float4(1, 2, 3, 4);
}

static void misaligned(void) {
    LAUNCH(misaligned_kernel, 1, 1, 0, 0, zeros(n));
}

/* ---- cp.async ---- */
static __global__ void lost_wait_kernel(const float *in, float *out) {
    SHARED(float, s, 4 * n);
    cp16(&s[4 * thread()], &in[4 * thread()], true);
    cp_commit();
    /* a cp_wait<0>() is missing here */
    out[thread()] = s[4 * thread()];
}

static void lost_wait(void) {
    float *out = zeros(n);
    LAUNCH(lost_wait_kernel, 1, n, 0, 0, zeros(4 * n), out);
    expect(out, n, 0.0f);
}

static __global__ void early_source_kernel(float *in, float *out) {
    SHARED(float, s, 4 * n);
    cp16(&s[4 * thread()], &in[4 * thread()], true);
    cp_commit();
    in[4 * thread()] = 5.0f;
    cp_wait<0>();
    out[thread()] = s[4 * thread()];
}

static void early_source(void) {
    LAUNCH(early_source_kernel, 1, n, 0, 0, zeros(4 * n), zeros(n));
}

static __global__ void misaligned_copy_kernel(const float *in, float *out) {
    SHARED(float, s, n);
    cp16(&s[0], &in[2], true);
    cp_wait<0>();
    out[0] = s[0];
}

static void misaligned_copy(void) {
    LAUNCH(misaligned_copy_kernel, 1, 1, 0, 0, zeros(n), zeros(n));
}

/* ---- across blocks ---- */
static __global__ void sum_of_blocks_kernel(float *out) {
    if (thread() == 0) *out += 1.0f;
}

static void sum_of_blocks(void) {
    float *out = zeros(1);
    LAUNCH(sum_of_blocks_kernel, 8, 32, 0, 0, out);
    expect(out, 1, 8.0f);
}

/* ---- warps ---- */
static __global__ void not_in_mask_kernel(float *out) {
    out[thread()] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}

static void not_in_mask(void) {
    LAUNCH(not_in_mask_kernel, 1, 32, 0, 0, zeros(n));
}

static __global__ void differing_masks_kernel(float *out) {
    out[thread()] = __shfl_sync(thread() < 16 ? 0xffffffffu : 0xfffffffeu, 1.0f, 16);
}

static void differing_masks(void) {
    LAUNCH(differing_masks_kernel, 1, 32, 0, 0, zeros(n));
}

static __global__ void ended_lane_kernel(float *out) {
    if (thread() == 5) return;
    out[thread()] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

static void ended_lane(void) {
    LAUNCH(ended_lane_kernel, 1, 32, 0, 0, zeros(n));
}

static __global__ void divergent_mma_kernel(float *out) {
    float d[4] = {0, 0, 0, 0};
    const uint32_t a[4] = {0, 0, 0, 0};
    if (thread() < 16)
        mma_bf16(d, a, 0, 0);
    else
        mma_bf16(d, a, 0, 0);
    out[thread()] = d[0];
}

static void divergent_mma(void) {
    LAUNCH(divergent_mma_kernel, 1, 32, 0, 0, zeros(n));
}

/* Without __syncwarp lanes do not see each other's writes; shuffles give no order. */
static __global__ void removed_syncwarp_kernel(float *out) {
    SHARED(float, s, 32);
    s[thread()] = 1.0f;
    const float sum = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    out[thread()] = s[thread() ^ 1] + sum;
}

static void removed_syncwarp(void) {
    float *out = zeros(n);
    LAUNCH(removed_syncwarp_kernel, 1, 32, 0, 0, out);
    expect(out, 32, 2.0f);
}

/* ---- launches and copies: an error is returned, and its reason printed ---- */
static void expect_error(void) {
    if (cudaGetLastError() == cudaSuccess) fprintf(stderr, "no error\n");
}

static void too_many_threads(void) {
    LAUNCH(set_kernel, 1, 1025, 0, 0, zeros(2048));
    expect_error();
}

static void too_many_blocks(void) {
    LAUNCH(set_kernel, dim3(1, 65536), 1, 0, 0, zeros(n));
    expect_error();
}

static void too_much_shared(void) {
    LAUNCH(dynamic_overread_kernel, 1, n, 48 * 1024 + 16, 0, zeros(n));
    expect_error();
}

static __global__ void much_static_kernel(float *out) {
    SHARED(float, s, 12000);
    SHARED(float, t, 300);
    s[thread()] = t[thread()] = 1.0f;
    out[thread()] = s[thread()] + t[thread()];
}

static void too_much_static(void) {
    LAUNCH(much_static_kernel, 1, 1, 0, 0, zeros(n));
}

static void wrong_copy(void) {
    float host[n], *p = zeros(n);
    if (cudaMemcpy(host, p, sizeof host, cudaMemcpyHostToDevice) == cudaSuccess)
        fprintf(stderr, "no error\n");
}

/* ---- streams: batches come in on one of their own ---- */
static __global__ void move_kernel(const float *from, float *to) {
    to[thread()] = from[thread()];
}

struct inlet {
    cudaStream_t copies, work;
    cudaEvent_t copied, used;
    float *pinned, *batch, *out;
};

static struct inlet open_inlet(void) {
    struct inlet s = {};
    if (cudaStreamCreateWithFlags(&s.copies, cudaStreamNonBlocking) != cudaSuccess ||
        cudaStreamCreateWithFlags(&s.work, cudaStreamNonBlocking) != cudaSuccess ||
        cudaEventCreate(&s.copied) != cudaSuccess || cudaEventCreate(&s.used) != cudaSuccess ||
        cudaMallocHost(&s.pinned, n * sizeof(float)) != cudaSuccess)
        exit(3);
    s.batch = zeros(n);
    s.out = zeros(n);
    return s;
}

static void send(const struct inlet *s, float value) {
    for (int i = 0; i < n; i++) s->pinned[i] = value;
    if (cudaMemcpyAsync(s->batch, s->pinned, n * sizeof(float), cudaMemcpyHostToDevice,
                        s->copies) != cudaSuccess)
        exit(3);
    cudaEventRecord(s->copied, s->copies);
}

static void work_before_its_batch(void) {
    const struct inlet s = open_inlet();
    send(&s, 1.0f);
    /* the work's wait for s.copied is missing here */
    LAUNCH(move_kernel, 1, n, 0, s.work, s.batch, s.out);
    cudaStreamSynchronize(s.work);
    expect(s.out, n, 1.0f);
}

static void batch_before_the_work_is_done(void) {
    const struct inlet s = open_inlet();
    send(&s, 1.0f);
    cudaStreamWaitEvent(s.work, s.copied);
    cudaEventSynchronize(s.copied);
    LAUNCH(move_kernel, 1, n, 0, s.work, s.batch, s.out);
    cudaEventRecord(s.used, s.work);
    /* the copies' wait for s.used is missing here */
    send(&s, 2.0f);
    cudaEventSynchronize(s.copied);
    cudaStreamSynchronize(s.work);
    expect(s.out, n, 1.0f);
}

static void pinned_memory_too_early(void) {
    const struct inlet s = open_inlet();
    send(&s, 1.0f);
    cudaStreamWaitEvent(s.work, s.copied);
    LAUNCH(move_kernel, 1, n, 0, s.work, s.batch, s.out);
    cudaEventRecord(s.used, s.work);
    cudaStreamWaitEvent(s.copies, s.used);
    /* the host's wait for s.copied is missing here */
    send(&s, 2.0f);
    cudaStreamSynchronize(s.work);
    expect(s.out, n, 1.0f);
}

static void sync_in_a_capture(void) {
    const struct inlet s = open_inlet();
    cudaGraph_t graph;
    cudaStreamBeginCapture(s.work, cudaStreamCaptureModeThreadLocal);
    LAUNCH(move_kernel, 1, n, 0, s.work, s.batch, s.out);
    cudaStreamSynchronize(s.work);
    cudaStreamEndCapture(s.work, &graph);
}

/* ---- the table ---- */
enum { PLAIN = 1, COUNT = 2, SANE = 4, RACE = 8, ALL = 15 };

static const struct bug {
    const char *name;
    void (*run)(void);
    const char *order; /* EMU_ORDER, in which `plain` and the others see it */
    struct {
        int modes;
        const char *text;
    } said[3];
} bugs[] = {
    {"removed_barrier",
     removed_barrier,
     "forward",
     {{PLAIN | COUNT | SANE, "nan instead of"}, {RACE, "data race"}}},
    {"hidden_race",
     hidden_race,
     "reverse",
     {{PLAIN | COUNT | SANE, "nan instead of"}, {RACE, "data race"}}},
    {"reuse_race",
     reuse_race,
     "forward",
     {{PLAIN | COUNT | SANE, "4 instead of 3"}, {RACE, "data race"}}},
    {"divergent_barrier", divergent_barrier, "random", {{ALL, "divergent __syncthreads()"}}},
    {"deadlock",
     deadlock,
     "forward",
     {{ALL, "deadlock: 32 of 64 threads have ended, 8 wait at __syncthreads()"}}},
    {"shared_overrun",
     shared_overrun,
     "forward",
     {{PLAIN | RACE, "shared memory was written at byte 256 of an array of 256 bytes"},
      {COUNT, "a write of 4 bytes"},
      {SANE, "use-after-poison"}}},
    {"dynamic_overread",
     dynamic_overread,
     "forward",
     {{COUNT, "a read of 4 bytes"}, {SANE, "use-after-poison"}}},
    {"global_overrun",
     global_overrun,
     "forward",
     {{PLAIN | RACE, "device memory was written 0 bytes beyond an allocation of 4000 bytes"},
      {COUNT, "outside of every allocation of device memory (0 bytes beyond one of 4000 bytes)"},
      {SANE, "use-after-poison"}}},
    {"global_overrun_page",
     global_overrun_page,
     "forward",
     {{PLAIN | RACE, "outside of every allocation (0 bytes beyond one of 4096 bytes)"},
      {COUNT, "a write of 4 bytes"},
      {SANE, "outside of every allocation"}}},
    {"use_after_free", use_after_free, "forward", {{ALL, "outside of every allocation"}}},
    {"uninitialised_shared", uninitialised_shared, "forward", {{ALL, "nan instead of"}}},
    {"uninitialised_global", uninitialised_global, "forward", {{ALL, "nan instead of"}}},
    {"host_pointer", host_pointer, "forward", {{COUNT, "a read of 4 bytes"}}},
    {"device_pointer_on_host",
     device_pointer_on_host,
     "forward",
     {{ALL, "host code touches device memory"}}},
    {"misaligned", misaligned, "forward", {{SANE, "misaligned address"}}},
    {"lost_wait", lost_wait, "forward", {{ALL, "nan instead of"}}},
    {"early_source", early_source, "forward", {{ALL, "the source of a copy has changed"}}},
    {"misaligned_copy", misaligned_copy, "forward", {{ALL, "an address is not 16-byte aligned"}}},
    {"sum_of_blocks", sum_of_blocks, "random", {{RACE, "data race"}}},
    {"not_in_mask", not_in_mask, "forward", {{ALL, "lane 16 is not in its own mask 0000ffff"}}},
    {"differing_masks", differing_masks, "random", {{ALL, "with mask ffff"}}},
    {"ended_lane", ended_lane, "random", {{ALL, "mask ffffffff"}}},
    {"divergent_mma", divergent_mma, "random", {{ALL, "divergent mma"}}},
    {"removed_syncwarp", removed_syncwarp, "forward", {{RACE, "data race"}}},
    {"too_many_threads",
     too_many_threads,
     "forward",
     {{ALL, "a block of 1025 x 1 x 1 threads, at most 1024"}}},
    {"too_many_blocks", too_many_blocks, "forward", {{ALL, "a grid of 1 x 65536 x 1 blocks"}}},
    {"too_much_shared", too_much_shared, "forward", {{ALL, "not raised by cudaFuncSetAttribute"}}},
    {"too_much_static",
     too_much_static,
     "forward",
     {{ALL, "bytes of static and 0 of dynamic shared memory"}}},
    {"wrong_copy", wrong_copy, "forward", {{ALL, "is not in device memory"}}},
    {"work_before_its_batch", work_before_its_batch, "reverse", {{ALL, "0 instead of 1"}}},
    {"batch_before_the_work_is_done",
     batch_before_the_work_is_done,
     "reverse",
     {{ALL, "2 instead of 1"}}},
    {"pinned_memory_too_early", pinned_memory_too_early, "reverse", {{ALL, "2 instead of 1"}}},
    {"sync_in_a_capture", sync_in_a_capture, "forward", {{ALL, "of a stream that is captured"}}},
};

static int mode(void) {
#if defined(__SANITIZE_ADDRESS__)
    return SANE;
#elif defined(__SANITIZE_THREAD__)
    return emu_counters_available() ? COUNT : RACE;
#else
    return PLAIN;
#endif
}

/* What a bug's process printed to stderr. */
static void output_of(const struct bug *bug, char *text, size_t size) {
    int ends[2];
    size_t got = 0;
    text[0] = '\0';
    if (!CHECK(pipe(ends) == 0)) return;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        setenv("EMU_ORDER", bug->order, 1);
        setenv("TSAN_OPTIONS", "halt_on_error=1", 1);
        setenv("UBSAN_OPTIONS", "halt_on_error=1", 1);
        execl("/proc/self/exe", "test_planted", bug->name, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (;;) {
        const ssize_t r = read(ends[0], text + got, size - 1 - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) break;
        got += (size_t)r;
    }
    text[got] = '\0';
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
}

static const struct bug *present;

static void bug_is_reported(void) {
    static char text[1 << 20];
    output_of(present, text, sizeof text);
    for (const auto &said : present->said) {
        if (!(said.modes & mode())) continue;
        if (!CHECK(strstr(text, said.text) != NULL))
            printf("wanted: %s\ngot: %s\n", said.text, text);
        return;
    }
}

static bool is_seen(const struct bug *bug) {
    for (const auto &said : bug->said)
        if (said.modes & mode()) return true;
    return false;
}

int main(int argc, char **argv) {
    for (const struct bug &bug : bugs) {
        if (argc == 2 && strcmp(argv[1], bug.name) == 0) {
            bug.run();
            return 0;
        }
        present = &bug;
        if (argc == 1 && is_seen(&bug)) check_case(bug.name, bug_is_reported);
    }
    return check_finish();
}
