/* SPDX-License-Identifier: MIT
 * A row of /scale, /labels or /targets. Tables in one piece of plain C numbers are read in place, so a data set of any
 * size costs no memory; others (compressed, big-endian, compact) are read whole through HDF5 and kept, the longest
 * unused ones given back when they grow past a bound. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/dataset_private.h"

#define MAX_CACHED (256u << 20) /* bytes of tables kept for one data set */
#define PIECE      128          /* numbers converted at a time */

static const char *const table_names[COLUMNS] = {"/scale", "/labels", "/targets"};

static double to_double(const struct h5_info *info, const void *from) {
    union {
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        float f32;
        double f64;
    } v;
    memcpy(&v, from, (size_t)info->item_bytes);
    if (info->type == H5_FLOAT) return info->item_bytes == 4 ? (double)v.f32 : v.f64;
    switch (info->item_bytes) {
    case 1:
        return info->is_signed ? v.i8 : v.u8;
    case 2:
        return info->is_signed ? v.i16 : v.u16;
    case 4:
        return info->is_signed ? (double)v.i32 : (double)v.u32;
    default:
        return info->is_signed ? (double)v.i64 : (double)v.u64;
    }
}

static enum ecg_status bad_value(const struct shard *s, enum dataset_column column, size_t row,
                                 int place, double v, const char *wanted) {
    return ecg_fail(ECG_ERR_DATA, "%s: %s: record %zu, column %d is %g: %s", s->path,
                    table_names[column], row, place, v, wanted);
}

static enum ecg_status store(const struct shard *s, enum dataset_column column, size_t row,
                             int place, double v, void *out) {
    if (column == COLUMN_LABELS) {
        if (!(v == 0 || v == 1 || v == SHARD_LABEL_UNKNOWN))
            return bad_value(s, column, row, place, v, "0, 1 or 255 (unknown) wanted");
        ((uint8_t *)out)[place] = (uint8_t)v;
        return ECG_OK;
    }
    float f = (float)v;
    if (isinf(f)) return bad_value(s, column, row, place, v, "a finite number or NaN wanted");
    if (column == COLUMN_SCALE && !isfinite(f))
        return bad_value(s, column, row, place, v, "a finite number wanted");
    ((float *)out)[place] = f;
    return ECG_OK;
}

static enum ecg_status read_in_place(struct dataset_private *p, struct shard *s,
                                     enum dataset_column column, size_t row, void *out) {
    const struct table *t = &s->columns[column];
    size_t item = (size_t)t->info.item_bytes;
    uint64_t at = t->info.offset + (uint64_t)row * (uint64_t)t->width * item;
    char bytes[PIECE * sizeof(double)];
    for (int first = 0; first < t->width; first += PIECE) {
        int n = t->width - first < PIECE ? t->width - first : PIECE;
        TRY(dataset_pread(p, s, bytes, (size_t)n * item, at + (uint64_t)first * item));
        for (int i = 0; i < n; i++)
            TRY(store(s, column, row, first + i, to_double(&t->info, bytes + (size_t)i * item),
                      out));
    }
    return ECG_OK;
}

static size_t cached_item(enum dataset_column column) {
    return column == COLUMN_LABELS ? 1 : sizeof(float);
}

static void make_room(struct dataset_private *p, size_t bytes) {
    while (p->cached_bytes > 0 && p->cached_bytes + bytes > MAX_CACHED) {
        struct table *oldest = NULL;
        size_t oldest_bytes = 0;
        for (size_t i = 0; i < p->n_shards; i++) {
            for (int c = 0; c < COLUMNS; c++) {
                struct table *t = &p->shards[i].columns[c];
                if (t->cached == NULL || (oldest != NULL && t->last_used >= oldest->last_used))
                    continue;
                oldest = t;
                oldest_bytes = p->shards[i].n * (size_t)t->width * cached_item(c);
            }
        }
        free(oldest->cached);
        oldest->cached = NULL;
        p->cached_bytes -= oldest_bytes;
    }
}

/* slow_lock is held. */
static enum ecg_status load(struct dataset_private *p, const struct shard *s,
                            enum dataset_column column, struct table *t) {
    struct h5_file *f;
    void *values;
    size_t n = s->n * (size_t)t->width; // h5_dataset_info has checked this size
    TRY(dataset_slow_file(p, s, &f));
    make_room(p, n * cached_item(column));
    TRY(mem_alloc(&values, n, cached_item(column)));
    enum ecg_status status = column == COLUMN_LABELS
                                 ? h5_read_u8(f, table_names[column], 0, s->n, values)
                                 : h5_read_f32(f, table_names[column], 0, s->n, values);
    if (status != ECG_OK) {
        free(values);
        return status;
    }
    t->cached = values;
    p->cached_bytes += n * cached_item(column);
    return ECG_OK;
}

static enum ecg_status read_cached(struct dataset_private *p, struct shard *s,
                                   enum dataset_column column, size_t row, void *out) {
    struct table *t = &s->columns[column];
    size_t first = row * (size_t)t->width;
    pthread_mutex_lock(&p->slow_lock);
    enum ecg_status status = t->cached == NULL ? load(p, s, column, t) : ECG_OK;
    t->last_used = ++p->slow_clock;
    for (int i = 0; i < t->width && status == ECG_OK; i++) {
        double v = column == COLUMN_LABELS ? ((const uint8_t *)t->cached)[first + (size_t)i]
                                           : (double)((const float *)t->cached)[first + (size_t)i];
        status = store(s, column, row, i, v, out);
    }
    pthread_mutex_unlock(&p->slow_lock);
    return status;
}

enum ecg_status dataset_column_row(struct dataset *d, struct shard *s, enum dataset_column column,
                                   size_t row, void *out) {
    const struct h5_info *info = &s->columns[column].info;
    if (info->contiguous && info->native) return read_in_place(d->p, s, column, row, out);
    return read_cached(d->p, s, column, row, out);
}
