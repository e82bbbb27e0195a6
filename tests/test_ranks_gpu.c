/* SPDX-License-Identifier: MIT
 * Which GPU a rank takes, from what its launcher left in CUDA_VISIBLE_DEVICES. */
#include "tests/support/check.h"
#include "train/run/ranks.h"

static const char *gpu(const char *visible, int local_rank) {
    static char own[256];
    own[0] = '?';
    return CHECK_OK(ranks_own_gpu(visible, local_rank, own, sizeof(own))) ? own : "failed";
}

static void all_are_visible(void) {
    CHECK_STR(gpu(NULL, 0), "0");
    CHECK_STR(gpu(NULL, 7), "7");
}

static void one_of_a_list(void) {
    CHECK_STR(gpu("0,1,2,3", 0), "0");
    CHECK_STR(gpu("0,1,2,3", 3), "3");
    CHECK_STR(gpu("6, 4", 1), "4");
    CHECK_STR(gpu("GPU-8f6a,GPU-11c2", 1), "GPU-11c2");
}

/* srun --gpus-per-task=1: each rank has its own already. */
static void given_by_the_launcher(void) {
    CHECK_STR(gpu("0", 5), "0");
    CHECK_STR(gpu("MIG-41b36014-ed2b-5be4-a6cc-0a5d3a7f7ab1", 2),
              "MIG-41b36014-ed2b-5be4-a6cc-0a5d3a7f7ab1");
}

static void hidden(void) {
    CHECK_STR(gpu("", 1), "");
    CHECK_STR(gpu(",", 1), ",");
}

int main(void) {
    CASE(all_are_visible);
    CASE(one_of_a_list);
    CASE(given_by_the_launcher);
    CASE(hidden);
    return check_finish();
}
