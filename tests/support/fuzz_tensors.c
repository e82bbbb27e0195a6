/* SPDX-License-Identifier: MIT
 * Sizes are counted here once more, by division where the readers multiply. */
#include "tests/support/fuzz_tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pth.h"
#include "tests/support/check.h"

static unsigned sum_of(const struct safetensors_entry *e) {
    unsigned sum = 0;
    for (size_t k = 0; k < e->bytes; k++) sum = sum * 31 + ((const unsigned char *)e->data)[k];
    return sum;
}

/* Dividing the bytes by all extents leaves the bytes of an element. */
static bool size_is_right(const struct safetensors_entry *e) {
    size_t left = e->bytes, size = safetensors_dtype_bytes(e->dtype);
    bool is_empty = false;
    if (size == 0) return true; /* a dtype that is listed only */
    for (int i = 0; i < e->ndim; i++) {
        if (e->shape[i] < 0) return false;
        is_empty |= e->shape[i] == 0;
    }
    if (is_empty) return e->n == 0 && e->bytes == 0;
    for (int i = 0; i < e->ndim; i++) {
        if (left % (size_t)e->shape[i]) return false;
        left /= (size_t)e->shape[i];
    }
    return left == size && e->n == e->bytes / size;
}

void fuzz_check_tensors(const struct safetensors *s, struct fuzz_result *result) {
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        result->sum += sum_of(e);
        if (i > 0 && strcmp(s->entries[i - 1].name, e->name) >= 0)
            fuzz_wrong(result, "tensor %s: twice, or out of order", e->name);
        if (e->ndim > SAFETENSORS_MAX_NDIM || !size_is_right(e))
            fuzz_wrong(result, "tensor %s: %zu bytes of %zu elements", e->name, e->bytes, e->n);
    }
    for (size_t i = 0; i < s->n_meta; i++) result->sum += (unsigned)strlen(s->meta_values[i]);
}

static bool same(const struct safetensors *a, const struct safetensors *b) {
    if (a->n_entries != b->n_entries || a->n_meta != b->n_meta) return false;
    for (size_t i = 0; i < a->n_entries; i++) {
        const struct safetensors_entry *x = &a->entries[i], *y = &b->entries[i];
        if (strcmp(x->name, y->name) || x->dtype != y->dtype || x->ndim != y->ndim ||
            x->bytes != y->bytes || memcmp(x->shape, y->shape, sizeof *x->shape * (size_t)x->ndim))
            return false;
        if (x->bytes && memcmp(x->data, y->data, x->bytes)) return false;
    }
    for (size_t i = 0; i < a->n_meta; i++) {
        const char *other = safetensors_meta(b, a->meta_keys[i]);
        if (!other || strcmp(other, safetensors_meta(a, a->meta_keys[i]))) return false;
    }
    return true;
}

void fuzz_write_again(const struct safetensors *s, fuzz_write_fn *write,
                      struct fuzz_result *result) {
    struct safetensors again;
    struct safetensors_out *rows = calloc(s->n_entries + 1, sizeof *rows);
    char path[4096];
    snprintf(path, sizeof path, "%s/again", check_tmp());
    if (!rows) abort();
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        rows[i] = (struct safetensors_out){e->name, e->dtype, e->ndim, {0}, e->data};
        memcpy(rows[i].shape, e->shape, sizeof rows[i].shape);
    }
    if (write(path, rows, s->n_entries, (const char *const *)s->meta_keys,
              (const char *const *)s->meta_values, s->n_meta) != ECG_OK ||
        pth_or_safetensors_open(&again, path) != ECG_OK) {
        fuzz_wrong(result, "written again: %s", ecg_message());
    } else {
        if (!same(s, &again)) fuzz_wrong(result, "written again it holds something else");
        safetensors_close(&again);
    }
    free(rows);
}
