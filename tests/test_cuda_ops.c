/* SPDX-License-Identifier: MIT
 * The cuda backend, emulated, over the whole case table: against the oracle with the threads of a block in three orders,
 * byte for byte between two orders, and sample by sample. Device memory holds NaN until it is written, the host can't read
 * it, and what CUDA leaves undefined ends the program (tests/emu/emu.h). */
#include <stdlib.h>

#include "kernels/compare.h"
#include "kernels/ops.h"
#include "tests/support/check.h"
#include "tests/support/cuda.h"

struct tally {
    size_t n;
    double nmse[2]; /* fp32's, bf16's */
    double nmse_share, error;
};

static double larger(double a, double b) {
    return a > b ? a : b;
}

static void compared(enum ecg_status status, const struct op_case *c,
                     const struct compare_result *r, struct tally *t) {
    char label[160];
    double *nmse = &t->nmse[(c->flags & CASE_BF16) != 0];

    cases_label(c, label, sizeof(label));
    if (!CHECK_OK(status)) {
        check_note("%s", label);
        return;
    }
    t->n++;
    *nmse = larger(r->nmse, *nmse);
    t->nmse_share = larger(r->nmse_share, t->nmse_share);
    t->error = larger(r->error, t->error);
    if (CHECK(r->ok)) return;
    check_note("%s: %s (nmse %.2g, %.2g of bound, error %.2g of bound)", label, r->problem, r->nmse,
               r->nmse_share, r->error);
}

static bool is_convolution(const struct op_case *c) {
    return c->family == &family_conv || c->family == &family_act_conv;
}

/* how: choose_conv's, NULL: as opened. flags: only cases with all of these; only convolutions where `how` says something. */
static void compare_table(const char *order, const char *how, int flags) {
    struct ops_dev *dev = NULL, *oracle = NULL;
    const struct ops *cuda = cuda_emulated();
    struct compare_result r;
    struct tally t = {0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (cuda == NULL) return;
    setenv("EMU_ORDER", order, 1);
    if (!CHECK_OK(cuda->open(&dev, 0)) || !CHECK_OK(ops_ref()->open(&oracle, 1))) return;
    if (how != NULL) CHECK_OK(cuda->choose_conv(dev, how));
    for (size_t i = 0; i < n; i++) {
        if ((table[i].flags & flags) == flags && (how == NULL || is_convolution(&table[i])))
            compared(compare_case(&table[i], cuda, dev, ops_ref(), oracle, &r), &table[i], &r, &t);
    }
    check_note("%zu cases, nmse up to %.2g (bf16: %.2g), %.2f of its bound, errors up to %.2f", t.n,
               t.nmse[0], t.nmse[1], t.nmse_share, t.error);
    cuda->close(dev);
    ops_ref()->close(oracle);
    unsetenv("EMU_ORDER");
}

/* Where tensor cores would take over, which is in bf16 alone. */
static void general_kernels_against_the_oracle(void) {
    setenv("EINTHOVEN_CUDA_CONV", "general", 1);
    compare_table("random:3", NULL, CASE_BF16);
    unsetenv("EINTHOVEN_CUDA_CONV");
}

static void forward_against_the_oracle(void) {
    compare_table("forward", NULL, 0);
}

static void reverse_against_the_oracle(void) {
    compare_table("reverse", NULL, 0);
}

static void random_against_the_oracle(void) {
    compare_table("random:7", NULL, 0);
}

/* fp32 and bf16, by stand-ins (tests/emu/library.h). */
static void libraries_against_the_oracle(void) {
    compare_table("random:5", "cudnn", 0);
}

/* ------------------------------------------------------------------ the same bytes */

/* A table whose second device runs its threads in another order: a case allocates before it runs. */
static const struct ops *ordered_cuda;
static struct ops_dev *ordered_second;

static enum ecg_status alloc_in_order(struct ops_dev *dev, void **p, size_t bytes) {
    setenv("EMU_ORDER", dev == ordered_second ? "random:11" : "forward", 1);
    return ordered_cuda->alloc(dev, p, bytes);
}

static void same_bytes_in_any_order(void) {
    struct ops_dev *one = NULL;
    struct compare_result r;
    struct tally t = {0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    ordered_cuda = cuda_emulated();
    if (ordered_cuda == NULL) return;
    struct ops ordered = *ordered_cuda;
    ordered.alloc = alloc_in_order;
    if (!CHECK_OK(ordered.open(&one, 0)) || !CHECK_OK(ordered.open(&ordered_second, 0))) return;
    for (size_t i = 0; i < n; i++)
        compared(compare_same(&table[i], &ordered, one, ordered_second, &r), &table[i], &r, &t);
    ordered.close(one);
    ordered.close(ordered_second);
    unsetenv("EMU_ORDER");
}

static void samples_do_not_see_their_neighbours(void) {
    struct ops_dev *dev = NULL;
    const struct ops *cuda = cuda_emulated();
    struct compare_result r;
    struct tally t = {0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (cuda == NULL || !CHECK_OK(cuda->open(&dev, 0))) return;
    for (size_t i = 0; i < n; i++)
        compared(compare_alone(&table[i], cuda, dev, &r), &table[i], &r, &t);
    cuda->close(dev);
}

/* Which library, and what to do; auto goes on without. */
static void missing_libraries_are_named(void) {
    struct ops_dev *dev = NULL;
    const struct ops *cuda = cuda_emulated();

    if (cuda == NULL || !CHECK_OK(cuda->open(&dev, 0))) return;
    setenv("EMU_LIBRARIES", "none", 1);
    CHECK_FAILS(cuda->choose_conv(dev, "cudnn"), ECG_ERR_FAIL,
                "cuBLAS can't be opened: /nowhere/libcublas.so.13: cannot open");
    CHECK_OK(cuda->choose_conv(dev, "auto"));
    setenv("EMU_LIBRARIES", "no-cudnn", 1);
    CHECK_FAILS(cuda->choose_conv(dev, "cudnn"), ECG_ERR_FAIL, "use kernels.conv: custom");
    unsetenv("EMU_LIBRARIES");
    CHECK_FAILS(cuda->choose_conv(dev, "fast"), ECG_ERR_FAIL, "fast is not custom, cudnn or auto");
    CHECK_OK(cuda->choose_conv(dev, "cudnn"));
    cuda->close(dev);
}

/* A failure inside the plug-in is the program's message, and names entry and shape. */
static void failures_reach_the_program(void) {
    struct ops_dev *dev = NULL;
    const struct ops *cuda = cuda_emulated();
    const struct ops_conv odd = {
        .B = 1, .Lin = 4, .Lout = 4, .Cin = 3, .Cout = 4, .K = 1, .S = 1, .G = 2};
    const struct ops_blc large = {1 << 16, 1 << 12, 64};
    void *p = NULL;
    float x = 0;

    if (cuda == NULL || !CHECK_OK(cuda->open(&dev, 0))) return;
    CHECK_FAILS(cuda->conv_fwd(dev, OPS_F32, odd, &x, &x, NULL, &x, (struct ops_ws){0}),
                ECG_ERR_FAIL, "cuda: conv_fwd: no such shape: Cin 3, Cout 4, K 1, S 1, G 2");
    CHECK_FAILS(cuda->mean_fwd(dev, OPS_BF16, large, &x, &x), ECG_ERR_FAIL,
                "(65536, 4096, 64) has more than 2^31 - 1 elements");
    CHECK_FAILS(cuda->alloc(dev, &p, (size_t)1 << 50), ECG_ERR_NOMEM,
                "cuda: allocating 1125899906842624 bytes on the GPU");
    cuda->close(dev);
}

int main(void) {
    CASE(general_kernels_against_the_oracle);
    CASE(forward_against_the_oracle);
    CASE(reverse_against_the_oracle);
    CASE(random_against_the_oracle);
    CASE(libraries_against_the_oracle);
    CASE(same_bytes_in_any_order);
    CASE(samples_do_not_see_their_neighbours);
    CASE(missing_libraries_are_named);
    CASE(failures_reach_the_program);
    return check_finish();
}
