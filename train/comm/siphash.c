/* SPDX-License-Identifier: MIT
 * The paper's reference, 8 bytes at a time, little-endian. */
#include "train/comm/siphash.h"

#include <string.h>

static uint64_t rotate(uint64_t x, int b) {
    return x << b | x >> (64 - b);
}

static void rounds(uint64_t v[4], int n) {
    for (int i = 0; i < n; i++) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

uint64_t siphash(const uint64_t key[2], const void *data, size_t bytes) {
    uint64_t v[4] = {0x736f6d6570736575 ^ key[0], 0x646f72616e646f6d ^ key[1],
                     0x6c7967656e657261 ^ key[0], 0x7465646279746573 ^ key[1]};
    const unsigned char *p = data;
    uint64_t m;
    for (size_t left = bytes; left >= 8; left -= 8, p += 8) {
        memcpy(&m, p, 8);
        v[3] ^= m;
        rounds(v, 2);
        v[0] ^= m;
    }
    m = (uint64_t)bytes << 56;
    for (size_t i = 0; i < bytes % 8; i++) m |= (uint64_t)p[i] << (8 * i);
    v[3] ^= m;
    rounds(v, 2);
    v[0] ^= m;
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
