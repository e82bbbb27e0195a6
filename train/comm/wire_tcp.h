/* SPDX-License-Identifier: MIT
 * The wire over TCP: one connection between every two ranks, found through rank 0. */
#ifndef TRAIN_COMM_WIRE_TCP_H
#define TRAIN_COMM_WIRE_TCP_H

#include "train/comm/wire.h"
#include "train/comm/world.h"

/* Rank 0 listens on world->port, the others come to world->host. Waits for all ranks, `seconds` at most, and then names the first
 * that is missing. Fails at once when a rank comes twice or was started for another number of ranks. */
enum ecg_status wire_tcp_open(struct wire **out, const struct comm_world *world, double seconds);

#endif
