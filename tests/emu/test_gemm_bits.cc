/* SPDX-License-Identifier: MIT
 * The CUDA backend's 1x1 convolutions, emulated: packed weights by their bits, and results that are the same bits in any
 * order of threads, on any GPU, with both gradients together or alone, and for a sample at any place. Under the sanitizers
 * and with counting, small shapes only. */
#include "tests/emu/gemm_problem.h"

/* ---- packing ---- */

static void packing(void) {
    static const int sizes[][2] = {{16, 16}, {48, 80}, {400, 160}, {64, 64}};
    enum { N_SIZES = sizeof sizes / sizeof *sizes };
    std::vector<struct gemm_weights> list(N_SIZES);
    std::vector<floats> w(N_SIZES);

    for (int i = 0; i < N_SIZES; i++) {
        const int N = sizes[i][0], K = sizes[i][1];
        w[i] = uniform((size_t)N * K, 30 + i, 2.0f, 0.0f);
        list[i].w = device(w[i]), list[i].N = N, list[i].K = K;
        list[i].packed = device<char>(gemm_packed_bytes(N, K, 1));
    }
    struct gemm_weights *d_list = device(list);
    CHECK_OK(gemm_pack(N_SIZES, d_list, 1, NULL));
    for (int i = 0; i < N_SIZES; i++) {
        const int N = sizes[i][0], K = sizes[i][1];
        const size_t back = gemm_packed_bytes(N, K, 0) / 2;
        const halves got = host((const uint16_t *)list[i].packed, back + (size_t)N * K);
        size_t wrong = 0;
        for (int n = 0; n < N; n++)
            for (int k = 0; k < K; k++) {
                const uint16_t want = bf16_from_float(w[i][(size_t)n * K + k]);
                wrong += got[(size_t)n * K + k] != want || got[back + (size_t)k * N + n] != want;
            }
        CHECK(wrong == 0);
        cuda(cudaFree((void *)list[i].w));
        cuda(cudaFree(list[i].packed));
    }
    cuda(cudaFree(d_list));
}

/* ---- the same bits ---- */

/* All that a problem gives, forward and backward. */
struct everything {
    struct forward_out f;
    struct backward_out b;
};

static struct everything run_all(const struct problem *p, const struct gemm_gpu *gpu) {
    static const struct backward_case both = {ACT_NORM, true, 2, true, true, true};
    struct backward_extra e = open_extra(p, both.side_S);
    struct everything r;
    r.f = run_fwd(p, gpu, ACT_SWISH, WITH_STATS | WITH_MEANS, NULL);
    r.b = run_bwd(p, gpu, both, &e);
    close_extra(&e);
    return r;
}

static bool same(const floats &a, const floats &b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

static bool same(const struct everything &a, const struct everything &b) {
    return a.f.y == b.f.y && same(a.f.mean, b.f.mean) && same(a.f.var, b.f.var) &&
           same(a.f.y_mean, b.f.y_mean) && a.b.dn == b.b.dn && same(a.b.dw, b.b.dw) &&
           same(a.b.db, b.b.db) && same(a.b.dse, b.b.dse);
}

static const struct gemm_conv for_bits[] = {
#if SMALL
    {2, 45, 32, 48},
#else
    {7, 20, 64, 64},    {3, 100, 64, 160},   {1, 140, 160, 160}, {2, 79, 160, 400},
    {1, 157, 400, 400}, {7, 20, 1024, 1024}, {2, 600, 64, 64},
#endif
};

static void same_bits_in_any_order(void) {
    static const char *const orders[] = {"reverse", "random:5", "random:6"};
    for (struct gemm_conv s : for_bits) {
        struct problem p = open_problem(s);
        unsetenv("EMU_ORDER");
        const struct everything forward = run_all(&p, &one_sm);
        for (const char *order : orders) {
            setenv("EMU_ORDER", order, 1);
            CHECK(same(run_all(&p, &one_sm), forward));
        }
        unsetenv("EMU_ORDER");
        close_problem(&p);
    }
}

static void same_bits_on_any_gpu(void) {
    for (struct gemm_conv s : for_bits) {
        struct problem p = open_problem(s);
        const struct everything r = run_all(&p, &one_sm);
        CHECK(same(run_all(&p, &h100), r));
        CHECK(same(run_all(&p, &a100), r));
        close_problem(&p);
    }
}

/* Both gradients at once give what each alone gives. */
static void same_bits_together(void) {
    static const struct backward_case both = {ACT_SWISH, true, 1, true, true, true};
    struct backward_case only_dn = both, only_dw = both;
    only_dn.dw = false, only_dw.dn = false, only_dw.dse = false;
    std::vector<struct gemm_conv> list(for_bits, for_bits + sizeof for_bits / sizeof *for_bits);
    if (!SMALL) list.push_back({7, 157, 400, 400}); /* several splits of the rows */
    for (struct gemm_conv s : list) {
        struct problem p = open_problem(s);
        struct backward_extra e = open_extra(&p, 1);
        const struct backward_out r = run_bwd(&p, &h100, both, &e);
        const struct backward_out dn = run_bwd(&p, &h100, only_dn, &e);
        const struct backward_out dw = run_bwd(&p, &h100, only_dw, &e);
        CHECK(dn.dn == r.dn && same(dn.dse, r.dse));
        CHECK(same(dw.dw, r.dw) && same(dw.db, r.db));
        close_extra(&e);
        close_problem(&p);
    }
}

/* A sample's y and mean over L do not depend on where it lies in the batch. */
static void same_bits_at_any_place(void) {
    const struct gemm_conv three = {3, 45, 32, 48}, one = {1, 45, 32, 48};
    struct problem a = open_problem(three), b = open_problem(one);
    const struct forward_out all = run_fwd(&a, &h100, ACT_SWISH, WITH_MEANS, NULL);
    for (int i = 0; i < three.B; i++) {
        const size_t x = b.x_n * i, y = b.y_n * i, m = (size_t)one.N * i;
        cuda(cudaMemcpy(b.d_x, &a.x[x], b.x_n * 2, cudaMemcpyHostToDevice));
        const struct forward_out r = run_fwd(&b, &h100, ACT_SWISH, WITH_MEANS, NULL);
        CHECK(memcmp(r.y.data(), &all.y[y], b.y_n * 2) == 0);
        CHECK(memcmp(r.y_mean.data(), &all.y_mean[m], one.N * sizeof(float)) == 0);
    }
    close_problem(&a);
    close_problem(&b);
}

int main(void) {
    if (!CHECK_OK(gemm_open(&h100))) return 1;
    CASE(packing);
    CASE(same_bits_in_any_order);
    CASE(same_bits_on_any_gpu);
    CASE(same_bits_together);
    CASE(same_bits_at_any_place);
    return check_finish();
}
