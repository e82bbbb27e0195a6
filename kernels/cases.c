/* SPDX-License-Identifier: MIT
 * The rows of the case table: edge lengths on purpose (1, 2, a tile less one, a tile, a tile more one, odd), the
 * channel counts that are no multiple of anything, and the real lengths of Net1D at 12 x 5000. */
#include "kernels/cases.h"

#include <stdio.h>

/* Field order: family, B, L, C, Cout, K, S, G, flags. */
#define ROW(family, ...)                                                                           \
    { &family_##family, __VA_ARGS__ }

#define FOR_EDGE_LENGTHS(X) X(1) X(2) X(15) X(16) X(17) X(33) X(79)
#define FOR_EDGE_LENGTHS_IN(X, dtype)                                                              \
    X(1, dtype) X(2, dtype) X(15, dtype) X(16, dtype) X(17, dtype) X(33, dtype) X(79, dtype)

/* Rows with a `dtype` stand in the table twice: with 0, and with CASE_BF16 among their flags. */

#define CONV_AT(L, dtype)                                                                          \
    ROW(conv, 2, L, 3, 16, 1, 1, 1, dtype), ROW(conv, 2, L, 1, 24, 3, 1, 1, dtype),                \
        ROW(conv, 3, L, 16, 16, 16, 2, 1, dtype),                                                  \
        ROW(conv, 2, L, 32, 32, 16, 1, 2, CASE_PLAIN | dtype),                                     \
        ROW(conv, 2, L, 12, 24, 3, 3, 3, dtype),                                                   \
        ROW(conv, 1, L, 24, 64, 1, 1, 1, CASE_PLAIN | dtype),                                      \
        ROW(conv, 2, L, 48, 48, 16, 2, 3, dtype), ROW(conv, 1, L, 12, 16, 16, 2, 1, dtype),        \
        ROW(conv, 2, L, 9, 15, 5, 3, 3, dtype),

/* A normalisation behind: its gradient is not that of anything the case computes. */
#define BEHIND (CASE_BEHIND | CASE_DEGENERATE)

#define ACT_CONV_AT(L, dtype)                                                                      \
    ROW(act_conv, 2, L, 16, 24, 1, 1, 1, CASE_SWISH | dtype),                                      \
        ROW(act_conv, 2, L, 16, 24, 1, 1, 1,                                                       \
            CASE_SWISH | CASE_FOLD | CASE_STATS | CASE_Y_MEAN | dtype),                            \
        ROW(act_conv, 2, L, 32, 32, 16, 2, 2,                                                      \
            CASE_SWISH | CASE_FOLD | CASE_DROP | CASE_STATS | dtype),                              \
        ROW(act_conv, 3, L, 32, 32, 16, 1, 2, CASE_SWISH | CASE_DROP | CASE_SIDE | dtype),         \
        ROW(act_conv, 2, L, 64, 12, 1, 1, 1, CASE_FOLD | CASE_Y_MEAN | CASE_PLAIN | dtype),        \
        ROW(act_conv, 2, L, 12, 16, 16, 2, 1, CASE_NO_DN | CASE_STATS | dtype),                    \
        ROW(act_conv, 2, L, 16, 16, 3, 3, 1, CASE_SWISH | CASE_FROZEN | dtype),                    \
        ROW(act_conv, 1, L, 16, 3, 1, 1, 1, CASE_SIDE | CASE_PACKED | dtype),                      \
        ROW(act_conv, 2, L, 5, 7, 3, 2, 1,                                                         \
            CASE_SWISH | CASE_FOLD | CASE_DROP | CASE_BRANCH | CASE_STATS | CASE_Y_MEAN | dtype),  \
        ROW(act_conv, 2, L, 32, 48, 1, 1, 1, CASE_DROP | CASE_SIDE | CASE_PACKED | dtype),         \
        ROW(act_conv, 3, L, 48, 48, 1, 1, 1,                                                       \
            CASE_SWISH | CASE_BRANCH | CASE_PACKED | CASE_Y_MEAN | dtype),                         \
        ROW(act_conv, 2, L, 48, 48, 16, 2, 3,                                                      \
            CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_STATS | dtype),                            \
        ROW(act_conv, 2, L, 6, 9, 5, 3, 3,                                                         \
            CASE_PACKED | CASE_BRANCH | CASE_SIDE | CASE_Y_MEAN | dtype),                          \
        ROW(act_conv, 2, L, 5, 7, 3, 2, 1, CASE_SWISH | CASE_FOLD | CASE_SUMS | BEHIND | dtype),   \
        ROW(act_conv, 2, L, 48, 64, 1, 1, 1,                                                       \
            CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_SUMS | BEHIND | dtype),                    \
        ROW(act_conv, 2, L, 64, 48, 1, 1, 1,                                                       \
            CASE_SWISH | CASE_FOLD | CASE_SUMS | CASE_BRANCH | CASE_Y_MEAN | dtype),               \
        ROW(act_conv, 2, L, 32, 16, 1, 1, 1,                                                       \
            CASE_FOLD | CASE_FROZEN | CASE_SUMS | BEHIND | dtype),                                 \
        ROW(act_conv, 2, L, 32, 32, 1, 1, 1,                                                       \
            CASE_SWISH | CASE_FOLD | CASE_DROP | CASE_SUMS | BEHIND | dtype),                      \
        ROW(act_conv, 3, L, 64, 64, 16, 1, 4,                                                      \
            CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_SUMS | BEHIND | dtype),                    \
        ROW(act_conv, 2, L, 32, 32, 16, 2, 2,                                                      \
            CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_SUMS | BEHIND | dtype),                    \
        ROW(act_conv, 2, L, 16, 16, 16, 1, 1,                                                      \
            CASE_SWISH | CASE_FOLD | CASE_FROZEN | CASE_SUMS | BEHIND | dtype),                    \
        ROW(act_conv, 2, L, 16, 16, 16, 2, 1, CASE_FOLD | CASE_DROP | CASE_SUMS | BEHIND | dtype), \
        ROW(act_conv, 2, L, 12, 16, 16, 2, 1, CASE_NO_DN | BEHIND | dtype),

#define NORM_AT(L, flags)                                                                          \
    ROW(norm, 2, L, 16, 0, 0, 0, 0, flags), ROW(norm, 3, L, 3, 0, 0, 1, 0, flags | CASE_SIDE),     \
        ROW(norm, 2, L, 16, 24, 0, 2, 0, flags | CASE_SIDE),                                       \
        ROW(norm, 5, L, 64, 0, 0, 0, 0, flags | CASE_IN_PLACE),                                    \
        ROW(norm, 2, L, 24, 0, 0, 0, 0, flags | CASE_PLAIN),
#define NORM_FEW_AT(L, dtype) NORM_AT(L, CASE_DEGENERATE | dtype)
#define NORM_MANY_AT(L, dtype)                                                                     \
    NORM_AT(L, dtype) ROW(norm, 3, L, 16, 0, 0, 0, 0, CASE_EXTREME | CASE_DEGENERATE | dtype),

#define ACT_AT(L, dtype)                                                                           \
    ROW(act, 2, L, 16, 0, 0, 0, 0, CASE_SWISH | dtype),                                            \
        ROW(act, 2, L, 3, 0, 0, 0, 0, CASE_SWISH | CASE_FOLD | CASE_DROP | dtype),                 \
        ROW(act, 3, L, 1, 0, 0, 0, 0, CASE_DROP | CASE_ADD | dtype),                               \
        ROW(act, 1, L, 64, 0, 0, 0, 0, CASE_FOLD | CASE_ADD | dtype),                              \
        ROW(act, 2, L, 24, 0, 0, 0, 0, CASE_SWISH | CASE_FOLD | CASE_IN_PLACE | dtype),            \
        ROW(act, 2, L, 12, 0, 0, 0, 0, dtype), ROW(mean, 2, L, 16, 0, 0, 0, 0, dtype),             \
        ROW(mean, 3, L, 3, 0, 0, 0, 0, dtype),

#define ATTENTION_AT(L, dtype)                                                                     \
    ROW(attention, 2, L, 16, 0, 0, 0, 0, dtype), ROW(attention, 3, L, 3, 0, 0, 0, 0, dtype),       \
        ROW(attention, 1, L, 1, 0, 0, 0, 0, dtype),                                                \
        ROW(attention, 1, L, 33, 0, 0, 0, 0, CASE_NO_DN | dtype),                                  \
        ROW(attention, 2, L, 24, 0, 0, 0, 0, CASE_FROZEN | dtype),                                 \
        ROW(attention, 3, L, 160, 0, 0, 0, 0, CASE_EXTREME | CASE_DEGENERATE | dtype),

#define POINTWISE_AT(L)                                                                            \
    ROW(swish, 0, L, 0, 0, 0, 0, 0, 0), ROW(swish, 0, L, 0, 0, 0, 0, 0, CASE_IN_PLACE),            \
        ROW(swish, 0, L, 0, 0, 0, 0, 0, CASE_EXTREME | CASE_DEGENERATE),                           \
        ROW(sigmoid, 0, L, 0, 0, 0, 0, 0, 0), ROW(sigmoid, 0, L, 0, 0, 0, 0, 0, CASE_IN_PLACE),    \
        ROW(sigmoid, 0, L, 0, 0, 0, 0, 0, CASE_EXTREME | CASE_DEGENERATE),

#define SHORTCUT_AT(L, dtype)                                                                      \
    ROW(shortcut, 2, L, 16, 16, 0, 1, 0, dtype), ROW(shortcut, 2, L, 16, 24, 0, 2, 0, dtype),      \
        ROW(shortcut, 3, L, 12, 15, 0, 3, 0, dtype),                                               \
        ROW(shortcut, 1, L, 3, 64, 0, 2, 0, CASE_PLAIN | dtype),                                   \
        ROW(shortcut, 2, L, 64, 64, 0, 2, 0, CASE_IN_PLACE | dtype),                               \
        ROW(shortcut, 3, L, 64, 64, 0, 1, 0, CASE_STATS | dtype),                                  \
        ROW(shortcut, 2, L, 16, 48, 0, 2, 0, CASE_STATS | CASE_PLAIN | dtype),                     \
        ROW(shortcut, 2, L, 3, 12, 0, 2, 0, CASE_STATS | dtype),                                   \
        ROW(shortcut, 2, L, 16, 24, 0, 2, 0, CASE_TIES | CASE_DEGENERATE | dtype),                 \
        ROW(shortcut, 1, L, 16, 16, 0, 3, 0, CASE_TIES | CASE_DEGENERATE | dtype),

#define INPUT_AT(L, dtype)                                                                         \
    ROW(input, 2, L, 12, 0, 12, OPS_NORM_RECORD, 0, dtype),                                        \
        ROW(input, 3, L, 2, 0, 12, OPS_NORM_LEAD, 0, dtype),                                       \
        ROW(input, 1, L, 1, 0, 3, OPS_NORM_RECORD, 0, dtype),                                      \
        ROW(input, 2, L, 3, 0, 3, OPS_NORM_NONE, 0, dtype),

#define UPDATE_AT(n)                                                                               \
    ROW(sums, 0, n, 0, 0, 0, 0, 0, 0), ROW(adam, 0, n, 0, 0, 1, 0, 0, 0),                          \
        ROW(adam, 0, n, 0, 0, 1000, 0, 0, CASE_VARIANT), ROW(sgd, 0, n, 0, 0, 1, 0, 0, 0),         \
        ROW(sgd, 0, n, 0, 0, 5, 0, 0, 0), ROW(sgd, 0, n, 0, 0, 5, 0, 0, CASE_PLAIN),               \
        ROW(ema, 0, n, 0, 0, 0, 0, 0, 0), ROW(ema, 0, n, 0, 0, 900, 0, 0, 0),                      \
        ROW(ema, 0, n, 0, 0, 9999, 0, 0, 0),

#define LOSS_OF(kind)                                                                              \
    ROW(loss, 16, 0, 5, 0, kind, 0, 0, 0), ROW(loss, 3, 0, 150, 0, kind, 0, 0, CASE_VARIANT),      \
        ROW(loss, 1, 0, 1, 0, kind, 0, 0, 0), ROW(loss, 7, 0, 17, 0, kind, 0, 0, CASE_PLAIN),      \
        ROW(loss, 8, 0, 33, 0, kind, 0, 0, CASE_EXTREME | CASE_DEGENERATE),

#define LINEAR_OF(M, K, N) ROW(linear, M, 0, K, N, 0, 0, 0, 0),
#define SE_OF(B, C, H)     ROW(se, B, 0, C, H, 0, 0, 0, 0), ROW(se, B, 0, C, H, 0, 0, 0, CASE_FROZEN),

/* A block of Net1D at width C and input length L with stride S: its three convolutions and its tail. */
#define BLOCK_AT(L, C, S, dtype)                                                                   \
    ROW(act_conv, 1, L, C, C, 1, 1, 1, CASE_SWISH | CASE_FOLD | CASE_STATS | dtype),               \
        ROW(act_conv, 2, L, C, C, 16, S, C / 16, CASE_SWISH | CASE_PACKED | dtype),                \
        ROW(act_conv, 2, L, C, C, 1, 1, 1,                                                         \
            CASE_SWISH | CASE_PACKED | CASE_BRANCH | CASE_Y_MEAN | dtype),                         \
        ROW(shortcut, 2, L, C, C, 0, S, 0, CASE_STATS | dtype),

/* The gradients of such a block's convolutions with normalisation: the last, the grouped one, the first. */
#define NORMS_AT(L, C, S, dtype)                                                                   \
    ROW(act_conv, 2, L, C, C, 1, 1, 1,                                                             \
        CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_SUMS | CASE_BRANCH | CASE_Y_MEAN | dtype),     \
        ROW(act_conv, 2, L, C, C, 16, S, C / 16,                                                   \
            CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_SUMS | BEHIND | dtype),                    \
        ROW(act_conv, 2, L, C, C, 1, 1, 1,                                                         \
            CASE_SWISH | CASE_FOLD | CASE_PACKED | CASE_SUMS | BEHIND | dtype),

/* The network's real shapes at 12 x 5000: what it reads, the stem with 12 leads and with one, all blocks, and the
 * widest change of channels. */
#define NET1D(dtype)                                                                               \
    ROW(input, 2, 5000, 12, 0, 12, OPS_NORM_RECORD, 0, dtype),                                     \
        ROW(input, 1, 5000, 1, 0, 12, OPS_NORM_LEAD, 0, dtype),                                    \
        ROW(conv, 1, 5000, 12, 64, 16, 2, 1, dtype), ROW(conv, 2, 2500, 1, 32, 16, 2, 1, dtype),   \
        BLOCK_AT(2500, 16, 2, dtype) BLOCK_AT(1250, 32, 2, dtype) BLOCK_AT(1250, 32, 1, dtype)     \
            BLOCK_AT(625, 64, 2, dtype) BLOCK_AT(313, 64, 2, dtype) BLOCK_AT(157, 160, 2, dtype)   \
                BLOCK_AT(79, 160, 2, dtype) BLOCK_AT(40, 160, 2, dtype)                            \
                    BLOCK_AT(20, 400, 1, dtype) NORMS_AT(313, 64, 1, dtype)                        \
                        NORMS_AT(79, 160, 2, dtype) NORMS_AT(20, 400, 1, dtype)                    \
                            ROW(act_conv, 2, 20, 400, 432, 1, 1, 1,                                \
                                CASE_SWISH | CASE_FOLD | CASE_SUMS | BEHIND | dtype),              \
        ROW(act_conv, 2, 20, 432, 448, 1, 1, 1,                                                    \
            CASE_SWISH | CASE_FOLD | CASE_SUMS | BEHIND | dtype),                                  \
        ROW(act_conv, 2, 79, 160, 400, 1, 1, 1,                                                    \
            CASE_SWISH | CASE_FOLD | CASE_SUMS | BEHIND | dtype),                                  \
        ROW(act_conv, 2, 625, 64, 160, 1, 1, 1, CASE_SWISH | CASE_SIDE | dtype),                   \
        ROW(shortcut, 2, 313, 64, 160, 0, 2, 0, dtype),                                            \
        ROW(attention, 3, 20, 1024, 0, 0, 0, 0, dtype),                                            \
        ROW(attention, 2, 313, 300, 0, 0, 0, 0, dtype),

#define ALL_IN(dtype)                                                                              \
    FOR_EDGE_LENGTHS_IN(CONV_AT, dtype)                                                            \
    FOR_EDGE_LENGTHS_IN(ACT_CONV_AT, dtype)                                                        \
    NORM_FEW_AT(1, dtype)                                                                          \
    NORM_FEW_AT(2, dtype)                                                                          \
    NORM_MANY_AT(15, dtype)                                                                        \
    NORM_MANY_AT(17, dtype)                                                                        \
    NORM_MANY_AT(157, dtype)                                                                       \
    ROW(norm, 1, 1, 16, 0, 0, 0, 0, CASE_PLAIN | CASE_DEGENERATE | dtype),                         \
        FOR_EDGE_LENGTHS_IN(ACT_AT, dtype) FOR_EDGE_LENGTHS_IN(ATTENTION_AT, dtype)                \
            FOR_EDGE_LENGTHS_IN(SHORTCUT_AT, dtype) FOR_EDGE_LENGTHS_IN(INPUT_AT, dtype)           \
                NET1D(dtype)

static const struct op_case rows[] = {
    ALL_IN(0) ALL_IN(CASE_BF16) FOR_EDGE_LENGTHS(POINTWISE_AT) FOR_EDGE_LENGTHS(UPDATE_AT)
        UPDATE_AT(10007) LOSS_OF(OPS_LOSS_BCE) LOSS_OF(OPS_LOSS_HILL) LOSS_OF(OPS_LOSS_FOCAL)
            LOSS_OF(OPS_LOSS_ASL) LOSS_OF(OPS_LOSS_MSE) LOSS_OF(OPS_LOSS_HUBER) LINEAR_OF(1, 1, 1)
                LINEAR_OF(2, 16, 3) LINEAR_OF(17, 33, 5) LINEAR_OF(4, 160, 150)
                    LINEAR_OF(32, 64, 64) LINEAR_OF(3, 1024, 150) LINEAR_OF(65, 257, 34)
                        LINEAR_OF(16, 128, 32) SE_OF(1, 16, 8) SE_OF(2, 3, 1) SE_OF(5, 64, 32)
                            SE_OF(2, 160, 80) SE_OF(33, 24, 12) SE_OF(1, 9, 4) SE_OF(16, 128, 64)
                                SE_OF(37, 132, 68) SE_OF(35, 129, 33) SE_OF(2, 400, 200)};

const struct op_case *cases_table(size_t *n) {
    *n = sizeof(rows) / sizeof(rows[0]);
    return rows;
}

static const char *const flag_names[] = {"fold",   "swish",   "drop",    "add",    "in-place",
                                         "plain",  "stats",   "ymean",   "frozen", "no-dn",
                                         "ties",   "extreme", "variant", "bf16",   "degenerate",
                                         "packed", "branch",  "side",    "behind", "sums"};

static void append(char *label, size_t n, const char *text, int value) {
    size_t used = 0;
    while (used < n && label[used]) used++;
    if (value >= 0)
        snprintf(label + used, n - used, " %s%d", text, value);
    else
        snprintf(label + used, n - used, " %s", text);
}

void cases_label(const struct op_case *c, char *label, size_t n) {
    const char *const names[] = {"B", "L", "C", "Cout", "K", "S", "G"};
    const int values[] = {c->B, c->L, c->C, c->Cout, c->K, c->S, c->G};

    snprintf(label, n, "%s", c->family->name);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i] > 0) append(label, n, names[i], values[i]);
    }
    for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++) {
        if (c->flags & 1 << i & ~CASE_DEGENERATE) append(label, n, flag_names[i], -1);
    }
}
