/* SPDX-License-Identifier: MIT
 * Records of a chunked /ecg (archives): the places of a shard's chunks are asked of HDF5 once, then each thread reads
 * and inflates chunks itself, which HDF5's global lock would not let it do in parallel. A chunk that was inflated is
 * kept until its buffer is needed again, so that reading in order inflates each chunk once.
 *
 * HDF5's shuffle stores the first bytes of all items, then the second bytes: for int16, all low then all high bytes. */
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "data/dataset_private.h"

#define MAX_RATIO 1100 /* inflated bytes a stored byte can stand for; deflate reaches 1032 */

/* What one reader needs; put back into the list of the data set after each record. */
struct chunk_scratch {
    struct chunk_scratch *next;
    const struct shard *shard; /* whose chunk `values` holds; NULL = none */
    size_t chunk;
    uint8_t *stored, *inflated;
    int16_t *values;
    size_t stored_cap, inflated_cap, values_cap;
    struct libdeflate_decompressor *inflater;
};

static void free_scratch(struct chunk_scratch *c) {
    free(c->stored);
    free(c->inflated);
    free(c->values);
    libdeflate_free_decompressor(c->inflater);
    free(c);
}

/* One that holds the wanted chunk if there is one; else any; else a new one. */
static enum ecg_status take_scratch(struct dataset_private *p, const struct shard *s, size_t chunk,
                                    struct chunk_scratch **out) {
    pthread_mutex_lock(&p->scratch_lock);
    struct chunk_scratch **at = &p->scratch;
    while (*at != NULL && !((*at)->shard == s && (*at)->chunk == chunk)) at = &(*at)->next;
    if (*at == NULL) at = &p->scratch;
    struct chunk_scratch *c = *at;
    if (c != NULL) *at = c->next;
    pthread_mutex_unlock(&p->scratch_lock);
    if (c == NULL) TRY(MEM_NEW(&c, 1));
    *out = c;
    return ECG_OK;
}

static void put_scratch(struct dataset_private *p, struct chunk_scratch *c) {
    pthread_mutex_lock(&p->scratch_lock);
    c->next = p->scratch;
    p->scratch = c;
    pthread_mutex_unlock(&p->scratch_lock);
}

void dataset_chunks_close(struct dataset_private *p) {
    while (p->scratch != NULL) {
        struct chunk_scratch *c = p->scratch;
        p->scratch = c->next;
        free_scratch(c);
    }
}

static enum ecg_status inflate(const struct shard *s, struct chunk_scratch *c,
                               const struct h5_chunk *k, size_t n_bytes) {
    size_t got;
    if (c->inflater == NULL) c->inflater = libdeflate_alloc_decompressor();
    if (c->inflater == NULL) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    if (libdeflate_zlib_decompress(c->inflater, c->stored, k->bytes, c->inflated, n_bytes, &got) !=
            LIBDEFLATE_SUCCESS ||
        got != n_bytes)
        return ecg_fail(ECG_ERR_DATA, "%s: /ecg: the chunk at byte %llu is damaged", s->path,
                        (unsigned long long)k->offset);
    return ECG_OK;
}

static void unshuffle(const uint8_t *from, int16_t *to, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = (int16_t)(uint16_t)(from[i] | from[n + i] << 8);
}

static enum ecg_status load_chunk(struct dataset_private *p, struct shard *s,
                                  struct chunk_scratch *c, size_t chunk) {
    const struct h5_chunk *k = &s->chunks.v[chunk];
    size_t n_values, n_bytes;
    c->shard = NULL;
    if (__builtin_mul_overflow(p->record_values, s->chunks.rows, &n_values) ||
        __builtin_mul_overflow(n_values, sizeof(int16_t), &n_bytes) ||
        n_bytes / MAX_RATIO > k->bytes || (!k->deflated && n_bytes != k->bytes))
        return ecg_fail(ECG_ERR_DATA, "%s: /ecg: the chunk at byte %llu has an impossible size",
                        s->path, (unsigned long long)k->offset);
    TRY(mem_grow((void **)&c->stored, &c->stored_cap, k->bytes, 1));
    TRY(mem_grow((void **)&c->values, &c->values_cap, n_values, sizeof(int16_t)));
    TRY(dataset_pread(p, s, c->stored, k->bytes, k->offset));
    const uint8_t *plain = c->stored;
    if (k->deflated) {
        TRY(mem_grow((void **)&c->inflated, &c->inflated_cap, n_bytes, 1));
        TRY(inflate(s, c, k, n_bytes));
        plain = c->inflated;
    }
    if (k->shuffled)
        unshuffle(plain, c->values, n_values);
    else
        memcpy(c->values, plain, n_bytes);
    c->shard = s;
    c->chunk = chunk;
    return ECG_OK;
}

/* Finds out once how a shard's records can be read. */
static enum ecg_status find_chunks(struct dataset_private *p, struct shard *s) {
    pthread_mutex_lock(&p->slow_lock);
    enum ecg_status status = ECG_OK;
    struct h5_file *f;
    bool direct;
    if (s->layout == ECG_CHUNKED) {
        TRY_OUT(dataset_slow_file(p, s, &f));
        TRY_OUT(h5_chunk_index(f, "/ecg", &s->chunks, &direct));
        s->layout = direct ? ECG_CHUNKS : ECG_SLOW;
    }
    if (s->layout == ECG_SLOW && !p->warned) {
        p->warned = true;
        log_warn("%s: /ecg is stored in a way that only HDF5 can read, one record at a time; one "
                 "piece, or chunks of whole records with shuffle and gzip, would be faster",
                 s->path);
    }
out:
    pthread_mutex_unlock(&p->slow_lock);
    return status;
}

static enum ecg_status read_slow(struct dataset_private *p, const struct shard *s, size_t row,
                                 int16_t *out) {
    pthread_mutex_lock(&p->slow_lock);
    struct h5_file *f;
    enum ecg_status status = dataset_slow_file(p, s, &f);
    if (status == ECG_OK) status = h5_read_i16(f, "/ecg", row, 1, out);
    pthread_mutex_unlock(&p->slow_lock);
    return status;
}

enum ecg_status dataset_chunked_record(struct dataset *d, struct shard *s, size_t row,
                                       int16_t *out) {
    struct dataset_private *p = d->p;
    if (s->layout != ECG_CHUNKS) TRY(find_chunks(p, s));
    if (s->layout == ECG_SLOW) return read_slow(p, s, row, out);

    size_t chunk = row / s->chunks.rows, place = row % s->chunks.rows;
    struct chunk_scratch *c;
    TRY(take_scratch(p, s, chunk, &c));
    enum ecg_status status = ECG_OK;
    if (c->shard != s || c->chunk != chunk) status = load_chunk(p, s, c, chunk);
    if (status == ECG_OK)
        memcpy(out, c->values + place * p->record_values, p->record_values * sizeof(int16_t));
    put_scratch(p, c);
    return status;
}
