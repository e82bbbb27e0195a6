/* SPDX-License-Identifier: MIT
 * A Net1D fixture (ours from tests/fixtures/make_net1d.py, or the shared ones of the official code) as a network with
 * its input, and the numbers both sides make from names instead of storing them. */
#ifndef TESTS_SUPPORT_NET1D_FIXTURE_H
#define TESTS_SUPPORT_NET1D_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/safetensors.h"
#include "train/model/net1d.h"

struct net1d_fixture {
    struct safetensors file;
    struct net1d_config config;
    int B;
    uint64_t seed;
    double lr, weight_decay;
    float *x;        /* (B, length, n_leads), as the network reads it */
    uint8_t *labels; /* (B, n_outputs) */
};

/* The folder of this repository's fixtures plus `name` ("net1d_bn.safetensors"), valid until the next call. */
const char *net1d_fixture_path(const char *name);
/* The same for the shared fixtures; NULL where there are none: the present case is then skipped. */
const char *net1d_fixture_shared(const char *name);

/* Config from the file's metadata; official defaults where it is silent. */
enum ecg_status net1d_fixture_open(struct net1d_fixture *f, const char *path);
void net1d_fixture_close(struct net1d_fixture *f); /* idempotent */

/* Loads tensors `prefix` + name where the file has them, else makes them by the recipe. */
enum ecg_status net1d_fixture_weights(const struct net1d_fixture *f, struct net1d *net,
                                      const char *prefix);
/* Uploads samples [first, first + n) as the network's input. */
enum ecg_status net1d_fixture_input(const struct net1d_fixture *f, struct net1d *net, int first,
                                    int n);
/* The tensor `prefix` + `name` as fp32, fresh; NULL when the file has none. */
float *net1d_fixture_f32(const struct net1d_fixture *f, const char *prefix, const char *name,
                         size_t *n);

/* Number i of the recipe: [0, 1), 24 bits, splitmix64 of (FNV-1a of the name + seed + i). */
double recipe_uniform(const char *name, uint64_t seed, uint64_t i);

/* Copies of device memory. */
enum ecg_status net1d_fixture_download(const struct net1d *net, const float *device, size_t n,
                                       float **host);

/* max |a - b| / max |b|, and ||a - b|| / ||b||; NaN where either holds one. */
double max_error(const float *a, const float *b, size_t n);
double norm_error(const float *a, const float *b, size_t n);
double norm_of(const float *a, size_t n);

#endif
