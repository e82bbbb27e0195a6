/* SPDX-License-Identifier: MIT
 * What bench measures of a GPU: peaks that are numbers, and a profile that has every launch once, under its kernel's name. */
#include <math.h>
#include <string.h>

#include "emu_counters.h"
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/plugin.h"

extern "C" {
#include "tests/support/check.h"
}

enum { B = 2, L = 60, C = 64 };

static struct ops_dev *open_device(void) {
    struct ops_dev *dev = NULL;
    CHECK_OK(cuda_table()->open(&dev, 1));
    return dev;
}

/* Entries of one and of several launches, through a table of kernels and by name; one entry is made `times` times. */
static void some_work(struct ops_dev *dev, int times) {
    const struct ops *ops = cuda_table();
    const struct ops_conv s = ops_conv_same(B, L, C, C, 1, 1, 1);
    const struct ops_blc blc = {B, L, C};
    struct ops_act act = {};
    struct ops_ws ws = {NULL, ops->conv_ws(dev, OPS_BF16, s, 0, 1) + ops->norm_ws(dev, blc)};
    void *x, *y, *w, *b;
    act.swish = 1;
    CHECK_OK(ops->alloc(dev, &ws.p, ws.n));
    CHECK_OK(ops->alloc(dev, &x, 2 * B * L * C));
    CHECK_OK(ops->alloc(dev, &y, 2 * B * L * C));
    CHECK_OK(ops->alloc(dev, &w, 4 * C * C));
    CHECK_OK(ops->alloc(dev, &b, 4 * 2 * C));
    CHECK_OK(ops->act_conv_fwd(dev, OPS_BF16, s, &act, x, (float *)w, NULL, (float *)b, y, NULL,
                               NULL, NULL, ws));
    CHECK_OK(ops->norm_stats(dev, OPS_BF16, blc, y, (float *)b, (float *)b + C, ws));
    for (int i = 0; i < times; i++) CHECK_OK(ops->scale(dev, C * C, 0.5, (float *)w));
    CHECK_OK(ops->sync(dev));
    ops->free(dev, x);
    ops->free(dev, y);
    ops->free(dev, w);
    ops->free(dev, b);
    ops->free(dev, ws.p);
}

static const struct cuda_kernel *find(const struct cuda_profile *p, const char *name) {
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->kernel[i].name, name) == 0) return &p->kernel[i];
    return NULL;
}

/* The counting build knows what was launched. */
static void compare_with_counters(const struct cuda_profile *p) {
    struct emu_counter list[64];
    const size_t n = emu_counters_get(list, 64);
    uint64_t launches = 0;
    CHECK(n <= 64);
    for (size_t i = 0; i < n; i++) {
        if (list[i].launches == 0 || strcmp(list[i].kernel, "copy") == 0 ||
            strcmp(list[i].kernel, "memset") == 0 || strcmp(list[i].kernel, "empty_kernel") == 0 ||
            strcmp(list[i].kernel, "delay_kernel") == 0)
            continue;
        const struct cuda_kernel *k = find(p, list[i].kernel);
        CHECK(k != NULL && k->launches == list[i].launches);
        launches += list[i].launches;
    }
    CHECK(launches == p->launches);
}

static void every_launch_is_there_once(void) {
    static struct cuda_profile p;
    const struct cuda_bench *bench = einthoven_cuda_bench();
    struct ops_dev *dev = open_device();
    some_work(dev, 2);
    CHECK_OK(cuda_table()->sync(dev));
    emu_counters_reset();
    const uint64_t before = emu_launches();
    CHECK_OK(bench->profile_start(dev));
    CHECK(dev->profiling);
    CHECK_OK(cuda_table()->sync(dev)); /* what was launched may wait until then */
    const uint64_t started = emu_launches();
    CHECK(started > before);
    some_work(dev, 7);
    CHECK_OK(cuda_table()->sync(dev));
    const uint64_t after = emu_launches();
    CHECK_OK(bench->profile_stop(dev, &p));
    CHECK(!dev->profiling);
    CHECK(p.launches == after - started);
    if (emu_counters_available()) compare_with_counters(&p);
    uint64_t launches = 0;
    double seconds = 0;
    for (int i = 0; i < p.n; i++) {
        CHECK(p.kernel[i].launches > 0 && p.kernel[i].seconds > 0);
        CHECK(i == 0 || p.kernel[i].seconds <= p.kernel[i - 1].seconds);
        launches += p.kernel[i].launches;
        seconds += p.kernel[i].seconds;
    }
    CHECK(launches == p.launches && fabs(seconds - p.seconds) <= 1e-9 * p.seconds);
    CHECK(p.empty > 0 && p.empty < p.seconds);
    CHECK(find(&p, "scale_kernel") != NULL && find(&p, "scale_kernel")->launches == 7);
    CHECK(find(&p, "column_kernel<1, 1>") != NULL && find(&p, "empty_kernel") == NULL);
    cuda_table()->close(dev);
}

static void nothing_is_taken_while_it_is_off(void) {
    static struct cuda_profile p;
    const struct cuda_bench *bench = einthoven_cuda_bench();
    struct ops_dev *dev = open_device();
    some_work(dev, 1);
    CHECK_OK(bench->profile_start(dev));
    CHECK_OK(bench->profile_stop(dev, &p));
    CHECK(p.n == 0 && p.launches == 0 && p.seconds == 0);
    cuda_table()->close(dev);
}

static void peaks_are_numbers(void) {
    struct cuda_peaks p;
    size_t before, with, after;
    const struct cuda_bench *bench = einthoven_cuda_bench();
    struct ops_dev *dev = open_device();
    void *x;
    CHECK_OK(bench->memory_used(&before));
    CHECK_OK(bench->peaks(dev, 1e-3, &p));
    CHECK(p.fp32 > 0 && p.bf16 > 0 && p.memory > 0);
    CHECK(isfinite(p.fp32) && isfinite(p.bf16) && isfinite(p.memory));
    CHECK(p.name[0] != '\0' && p.processors > 0 && p.l2 > 0);
    CHECK_OK(bench->memory_used(&after));
    CHECK(after == before);
    CHECK_OK(cuda_table()->alloc(dev, &x, 1 << 20));
    CHECK_OK(bench->memory_used(&with));
    CHECK(with == before + (1 << 20));
    cuda_table()->free(dev, x);
    cuda_table()->close(dev);
}

int main(void) {
    CASE(every_launch_is_there_once);
    CASE(nothing_is_taken_while_it_is_off);
    CASE(peaks_are_numbers);
    return check_finish();
}
