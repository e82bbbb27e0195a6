/* SPDX-License-Identifier: MIT
 * xxHash64 through libxxhash; a file is hashed piece by piece, so its size does not matter. */
#include "core/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/mem.h"

#define PIECE_BYTES (256 * 1024)

uint64_t hash_bytes(const void *data, size_t n) {
    return XXH64(data, n, 0);
}

enum ecg_status hash_file(const char *path, uint64_t *out) {
    enum ecg_status status = ECG_OK;
    char *piece = NULL;
    XXH64_state_t *state = NULL;
    FILE *f = fopen(path, "rbe");
    if (!f) return ecg_fail(ECG_ERR_NOINPUT, "%s: %s", path, strerror(errno));
    TRY_OUT(MEM_NEW(&piece, PIECE_BYTES));
    state = XXH64_createState();
    if (!state) {
        status = ecg_fail(ECG_ERR_NOMEM, "out of memory: hash state");
        goto out;
    }
    XXH64_reset(state, 0);
    size_t n;
    while ((n = fread(piece, 1, PIECE_BYTES, f)) > 0) XXH64_update(state, piece, n);
    if (ferror(f))
        status = ecg_fail(ECG_ERR_IO, "%s: reading failed: %s", path, strerror(errno));
    else
        *out = XXH64_digest(state);
out:
    XXH64_freeState(state);
    free(piece);
    fclose(f);
    return status;
}
