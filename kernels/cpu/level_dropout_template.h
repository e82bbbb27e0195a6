/* SPDX-License-Identifier: MIT
 * Part of level_template.h: Philox4x32-10 (core/rng.c) for many blocks side by side, a word to a lane of 64 bits. */

typedef uint64_t level_long __attribute__((vector_size(4 * LEVEL_VECTOR)));

enum {
    LANES = LEVEL_VECTOR / 2, /* blocks of a vector */
    LANE_FACTORS = 4 * LANES, /* of a vector */
    CHAINS = 4                /* vectors that take turns where there are as many: none waits for its products */
};

/* word[k][v]: words k of blocks first + v * LANES + lane */
ALWAYS_INLINE void philox_blocks(const int chains, const struct level_dropout *d, uint32_t first,
                                 level_long word[4][CHAINS]) {
    const level_long zero = {0}, low = zero + UINT64_C(0xffffffff);
    uint32_t k0 = d->key[0], k1 = d->key[1];
    level_long lane = zero;
    for (int i = 0; i < LANES; i++) lane[i] = (uint64_t)i;
    for (int v = 0; v < chains; v++) {
        word[0][v] = (lane + first + (uint64_t)(v * LANES)) & low;
        for (int k = 1; k < 4; k++) word[k][v] = zero + d->counter[k];
    }
    for (int round = 0; round < 10; round++) {
        UNROLL for (int v = 0; v < chains; v++) {
            const level_long p0 = vec_product32(word[0][v], zero + 0xD2511F53u),
                             p1 = vec_product32(word[2][v], zero + 0xCD9E8D57u);
            word[0][v] = (p1 >> 32) ^ word[1][v] ^ (zero + k0);
            word[2][v] = (p0 >> 32) ^ word[3][v] ^ (zero + k1);
            word[1][v] = p1 & low;
            word[3][v] = p0 & low;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* The factors of chains * LANES blocks in order, two floats to a lane. */
ALWAYS_INLINE void block_factors(const int chains, const struct level_dropout *d, uint32_t first,
                                 float *factor) {
    level_long word[4][CHAINS];
    uint32_t bits;
    memcpy(&bits, &d->keep, sizeof bits);
    const level_long keep = (level_long){0} + bits, least = (level_long){0} + d->least;
    philox_blocks(chains, d, first, word);
    for (int v = 0; v < chains; v++) {
        uint64_t pair[2][LANES];
        for (int k = 0; k < 2; k++) {
            const level_long one = keep & (level_long)(word[2 * k][v] >= least),
                             other = keep & (level_long)(word[2 * k + 1][v] >= least);
            const level_long both = one | other << 32;
            memcpy(pair[k], &both, sizeof both);
        }
        for (int i = 0; i < LANES; i++) {
            memcpy(factor + 4 * (v * LANES + i), &pair[0][i], sizeof pair[0][i]);
            memcpy(factor + 4 * (v * LANES + i) + 2, &pair[1][i], sizeof pair[1][i]);
        }
    }
}

static void dropout(const struct level_dropout *d, uint32_t first, int n, float *factor) {
    const int64_t begin = first, end = begin + n;
    int64_t at = begin - begin % 4;
    for (; at >= begin && at + CHAINS * LANE_FACTORS <= end; at += CHAINS * LANE_FACTORS)
        block_factors(CHAINS, d, (uint32_t)(at / 4), factor + (at - begin));
    for (; at < end; at += LANE_FACTORS) {
        float all[LANE_FACTORS];
        const int64_t from = at > begin ? at : begin;
        const int64_t to = at + LANE_FACTORS < end ? at + LANE_FACTORS : end;
        block_factors(1, d, (uint32_t)(at / 4), all);
        memcpy(factor + (from - begin), all + (from - at), (size_t)(to - from) * sizeof *factor);
    }
}
