/* SPDX-License-Identifier: MIT
 * Python pickles, protocol 2, as torch.save writes them, read as data: nothing is ever imported, called or executed. The
 * stack machine knows the opcodes of plain values and containers, and a fixed list of globals: OrderedDict, the two functions
 * that rebuild tensors, the storage types, torch.Size, and what a numpy scalar or a device is made of, which becomes an
 * opaque value. Any other opcode or global ends the reading. Memory: some 50 times the pickle's size at most. */
#ifndef CHECKPOINTS_PICKLE_H
#define CHECKPOINTS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/safetensors.h"
#include "core/status.h"

#define PICKLE_MAX_BYTES ((size_t)16 << 20)
#define PICKLE_MAX_NAME  1000 /* bytes */
#define PICKLE_NONE      UINT32_MAX /* no value, no cell */

enum pickle_kind {
    PICKLE_OPAQUE, /* None, floats, numpy scalars, devices: there, but nobody asks */
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,    /* cells: key, value, key, value ... */
    PICKLE_GLOBAL,
    PICKLE_STORAGE, /* cells: those of its persistent id ('storage', type, key, device, number of elements) */
    PICKLE_TENSOR   /* cells: the arguments of _rebuild_tensor_v2 (storage, offset, shape, strides, ...) */
};

struct pickle_value {
    enum pickle_kind kind;
    uint32_t n; /* bytes of a string, cells of a container; a global: its place in the table */
    union {
        int64_t integer;
        const char *text; /* into the pickle, no terminating 0 */
        struct {
            uint32_t first, last;
        } cells;
    };
};

/* A place in a container. Chains end, whatever the pickle does: a cell is linked once, when it is made. */
struct pickle_cell {
    uint32_t value; /* index of values */
    uint32_t next;  /* index of cells */
};

struct pickle {
    struct pickle_value *values;
    size_t n_values, cap_values;
    struct pickle_cell *cells;
    size_t n_cells, cap_cells;
    uint32_t root;
};

/* Reads a pickle that lies at [text, text + size) and stays there. Everything else than described above: ECG_ERR_DATA,
 * with `where` ("model.pth: data.pkl") and the byte. */
enum ecg_status pickle_read(struct pickle *p, const char *where, const char *text, size_t size);
void pickle_free(struct pickle *p); /* idempotent */

const struct pickle_value *pickle_at(const struct pickle *p, uint32_t value);
/* Item i of a container, a storage or a tensor; NULL: it has fewer, or is none of these. */
const struct pickle_value *pickle_item(const struct pickle *p, const struct pickle_value *v, uint32_t i);
bool pickle_is_string(const struct pickle_value *v, const char *text);
/* The value of a string key; with several the last one, as in Python; NULL: not there, or v is no dict. */
const struct pickle_value *pickle_get(const struct pickle *p, const struct pickle_value *v, const char *key);
/* A tensor's name: 1 to PICKLE_MAX_NAME bytes of UTF-8 without control characters, so that it can be printed and written
 * anywhere. */
bool pickle_is_name(const char *text);
/* v is a storage type ("FloatStorage"): its dtype. */
bool pickle_storage_dtype(const struct pickle_value *v, enum safetensors_dtype *dtype);
const char *pickle_storage_name(enum safetensors_dtype dtype); /* NULL: none has this dtype */

#endif
