/* SPDX-License-Identifier: MIT
 * The CUDA backend's linear layers, squeeze and excitation, and attention pooling, emulated: the rows of the case table, in
 * every mode of the emulation, against the oracle. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/compare.h"
#include "tests/support/check.h"
}

static void against_the_oracle(void) {
    struct ops_dev *dev = NULL, *oracle = NULL;
    const struct ops *cuda = cuda_table();
    size_t n, tried = 0;
    const struct op_case *table = cases_table(&n);

    if (!CHECK_OK(cuda->open(&dev, 0)) || !CHECK_OK(ops_ref()->open(&oracle, 1))) return;
    for (size_t i = 0; i < n; i++) {
        const struct op_case *c = &table[i];
        struct compare_result r;
        char label[160];
        if (c->family != &family_linear && c->family != &family_se &&
            c->family != &family_attention)
            continue;
        cases_label(c, label, sizeof label);
        const bool ran = CHECK_OK(compare_case(c, cuda, dev, ops_ref(), oracle, &r));
        if (!ran || !CHECK(r.ok)) check_note("%s: %s", label, ran ? r.problem : "");
        tried++;
    }
    check_note("%zu cases", tried);
    CHECK(tried > 0);
    cuda->close(dev);
    ops_ref()->close(oracle);
}

int main(void) {
    CASE(against_the_oracle);
    return check_finish();
}
