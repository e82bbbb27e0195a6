/* SPDX-License-Identifier: MIT
 * A network on a backend with everything that a training step of a fixture needs, for the tests of model and optimiser. */
#ifndef TESTS_SUPPORT_NET1D_SESSION_H
#define TESTS_SUPPORT_NET1D_SESSION_H

#include <stdbool.h>

#include "kernels/ops.h"
#include "tests/support/net1d_fixture.h"
#include "train/model/net1d.h"
#include "train/objective/objective.h"
#include "train/optim/optim.h"

/* The oracle, then the cpu backend at each SIMD level. */
struct backend {
    const char *label; /* "cpu avx2" */
    const struct ops *ops;
    struct ops_dev *dev;
};
extern const int n_backends;
#define BACKEND_REF     0
#define BACKEND_FASTEST (-1)
/* Backend i, or the cpu at its best level, with 2 threads. False (and a note) when this machine has not that level. */
bool backend_open(struct backend *b, int i);
bool backend_open_threads(struct backend *b, int i, int n_threads);
/* The cuda backend, emulated. False where the present case was skipped (it is not built) or has failed. */
bool backend_open_cuda(struct backend *b);
void backend_close(struct backend *b); /* idempotent */

/* The published 12-lead network, and one whose shapes no size divides evenly, with batches of NET1D_SMALL_BATCH. */
extern const struct net1d_config net1d_published, net1d_small;
#define NET1D_SMALL_BATCH 6

struct session {
    const struct net1d_fixture *fixture;
    struct net1d net;
    struct optim optim; /* AdamW with the fixture's numbers; not there for inference */
    uint8_t *labels;    /* device */
};
/* Network with the fixture's weights and batch. */
enum ecg_status session_open(struct session *s, const struct backend *b,
                             const struct net1d_fixture *f, bool training);
void session_close(struct session *s); /* idempotent */
/* The start again: weights of the fixture, a fresh optimiser. */
enum ecg_status session_restart(struct session *s);
/* Forward in training mode, mean BCE, backward into zeroed gradients. */
enum ecg_status session_gradients(struct session *s, double *loss);
/* session_gradients and an update. */
enum ecg_status session_step(struct session *s, double *loss);

#endif
