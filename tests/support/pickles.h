/* SPDX-License-Identifier: MIT
 * .pth files made by hand: pickles from opcodes, archives from members. */
#ifndef TESTS_SUPPORT_PICKLES_H
#define TESTS_SUPPORT_PICKLES_H

#include <stddef.h>
#include <stdint.h>

#include "tests/support/bytes.h"

void pickle_put_string(struct bytes *b, const char *text);   /* BINUNICODE */
void pickle_put_integer(struct bytes *b, int64_t v);         /* LONG1 */

/* The call of _rebuild_tensor_v2 for a view of storage KEY: numel elements of `type` ("FloatStorage"). */
struct pickle_view {
    const char *type, *key;
    int64_t numel, offset;
    int ndim;
    int64_t shape[10], strides[10];
};
void pickle_put_view(struct bytes *b, const struct pickle_view *v);

/* A whole archive: x/data.pkl, x/data/0 and x/data/1 (`n0`, `n1` bytes: 0, 1, 2 ... modulo 251), x/version. */
void pickle_archive(struct bytes *out, const struct bytes *pickle, size_t n0, size_t n1);
/* The file made.pth of these bytes, and where it is. */
const char *pickle_save(const struct bytes *archive);
/* Opening that file fails with ECG_ERR_DATA and a message that holds `text` and its name, and leaves nothing behind. */
void pickle_refuse(const struct bytes *archive, const char *text);
/* What a full checkpoint's pickle has: memo, nested dicts and lists, floats, a numpy scalar, a parameter, torch.Size, BUILD, a
 * state_dict of strided views. Storage 0: 24 floats, storage 1: 3 longs. */
void pickle_checkpoint(struct bytes *b);

#endif
