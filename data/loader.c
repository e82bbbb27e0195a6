/* SPDX-License-Identifier: MIT
 * Batches read ahead. A ring of four batches, one with the caller and up to three being filled; of two where batches are
 * large, and no more than there are batches to come. Workers take pieces of a
 * few records, always of the oldest batch that has some left, so the first batch of a run comes as fast as all
 * workers together can read it. What a batch holds is fixed when it is begun, under the lock and in order; workers
 * only fill places, so the sequence does not depend on their number or speed.
 *
 * Batches are counted from the opening: `begun` >= `taken` >= `released`; batch i lives in slot i % ring. */
#include "data/loader.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define RING      4
#define LARGE     128 /* records of a batch of which two are enough */
#define MAX_PIECE 16  /* records a worker takes at a time; even, for pairs */

struct slot {
    struct batch b;
    int n_claimed, n_done; /* records */
    enum ecg_status status;
    int failed_at; /* place of the first record that failed */
    char message[512];
};

struct loader {
    struct dataset *data;
    struct loader_options o;
    size_t record_values, n_batches; /* batches of an epoch */
    int piece, ring;                 /* slots in use */
    void *memory;                    /* of all slots' arrays */

    /* guards all below but the records' places in a slot, which their worker owns */
    pthread_mutex_t lock;
    pthread_cond_t can_work, can_take;
    bool stop, ended; /* ended: no batch after `begun` */
    size_t begun, taken, released;
    size_t *order; /* (n) of the epoch that is being begun */
    double *upto;  /* (n) running sums of the weights; NULL without */
    uint32_t epoch;
    size_t next_batch; /* of the epoch */
    struct slot slots[RING];

    pthread_t *threads;
    int n_threads;
};

size_t loader_slice(size_t n, int rank, int ranks, size_t *first) {
    *first = 0;
    if (ranks <= 1) return n;
    size_t pairs = (n + 1) / 2, from = pairs * (size_t)rank / (size_t)ranks * 2,
           to = pairs * ((size_t)rank + 1) / (size_t)ranks * 2;
    if (to > n) to = n;
    *first = from;
    return to > from ? to - from : 0;
}

/* ------------------------------------------------------------------ handing out work; the lock is held */

static void order_epoch(struct loader *l) {
    const struct loader_options *o = &l->o;
    if (l->upto != NULL)
        sampler_draw(o->n, l->upto, o->seed, l->epoch, l->order);
    else
        sampler_order(o->n, o->shuffle, o->seed, l->epoch, l->order);
}

/* Fills in what the next batch will hold. */
static void begin_batch(struct loader *l) {
    struct slot *s = &l->slots[l->begun % (size_t)l->ring];
    size_t first = l->next_batch * (size_t)l->o.batch_size, left = l->o.n - first;
    size_t total = left < (size_t)l->o.batch_size ? left : (size_t)l->o.batch_size, slice;
    s->b.total = (int)total;
    s->b.B = (int)loader_slice(total, l->o.rank, l->o.ranks, &slice);
    s->b.first = (int)slice;
    first += slice;
    s->b.epoch = l->epoch;
    s->b.number = l->next_batch;
    s->b.last_of_epoch = l->next_batch + 1 == l->n_batches;
    for (int i = 0; i < s->b.B; i++) s->b.record[i] = l->o.index[l->order[first + (size_t)i]];
    s->n_claimed = s->n_done = 0;
    s->status = ECG_OK;
    l->begun++;
    l->next_batch++;
    if (!s->b.last_of_epoch) return;
    l->next_batch = 0;
    l->epoch++;
    l->ended = !l->o.repeat;
    if (!l->ended) order_epoch(l);
}

/* A piece of the newest batch, of a new one when that is given out; false when there is none to give. */
static bool claim(struct loader *l, struct slot **slot, int *first, int *n) {
    struct slot *s = l->begun > 0 ? &l->slots[(l->begun - 1) % (size_t)l->ring] : NULL;
    if (s == NULL || s->n_claimed == s->b.B) {
        if (l->ended || l->begun == l->released + (size_t)l->ring) return false;
        s = &l->slots[l->begun % (size_t)l->ring];
        begin_batch(l);
    }
    int left = s->b.B - s->n_claimed;
    *slot = s;
    *first = s->n_claimed;
    *n = left < l->piece ? left : l->piece;
    s->n_claimed += *n;
    return true;
}

/* Of several failures in a batch the first record's counts, whoever comes first. */
static void keep_failure(struct slot *s, enum ecg_status status, int at) {
    if (status == ECG_OK || (s->status != ECG_OK && s->failed_at < at)) return;
    s->status = status;
    s->failed_at = at;
    snprintf(s->message, sizeof s->message, "%s", ecg_message());
}

/* ------------------------------------------------------------------ reading; without the lock */

/* One worker's memory. */
struct rows {
    uint8_t *labels; /* (K) before the wanted columns are picked */
    float *targets;  /* (T) */
    struct augment_scratch scratch;
    void *memory; /* of the scratch */
};

static int16_t *waveform(const struct loader *l, const struct batch *b, int i) {
    return b->ecg + (size_t)i * l->record_values;
}

static struct augment_place place_in_epoch(const struct loader *l, const struct batch *b, int i) {
    size_t place = b->number * (size_t)l->o.batch_size + (size_t)(b->first + i);
    return (struct augment_place){.seed = l->o.seed, .epoch = b->epoch, .place = (uint32_t)place};
}

static enum ecg_status read_record(struct loader *l, const struct batch *b, int i,
                                   struct rows *rows) {
    size_t record = b->record[i];
    if (!l->o.columns_only) TRY(dataset_read(l->data, record, waveform(l, b, i), &b->scale[i]));
    if (l->o.augment != NULL && !l->o.columns_only) {
        struct augment_place at = place_in_epoch(l, b, i);
        augment_record(l->o.augment, &at, &rows->scratch, waveform(l, b, i), &b->scale[i]);
    }
    if (l->o.n_labels > 0) {
        TRY(dataset_labels(l->data, record, rows->labels));
        uint8_t *to = b->labels + (size_t)i * (size_t)l->o.n_labels;
        for (int k = 0; k < l->o.n_labels; k++) to[k] = rows->labels[l->o.label_columns[k]];
    }
    if (l->o.n_targets > 0) {
        TRY(dataset_targets(l->data, record, rows->targets));
        float *to = b->targets + (size_t)i * (size_t)l->o.n_targets;
        for (int t = 0; t < l->o.n_targets; t++) to[t] = rows->targets[l->o.target_columns[t]];
    }
    return ECG_OK;
}

/* Pairs of neighbours, which the epoch's order has put together by chance; a piece holds whole pairs. */
static void mix_piece(const struct loader *l, const struct batch *b, int first, int n) {
    for (int i = first; i < first + n; i += 2) {
        b->partner[i] = i;
        b->mix[i] = 1;
        if (i + 1 == b->B) return;
        for (int k = 0; k < 2; k++) {
            struct augment_place at = place_in_epoch(l, b, i + k);
            b->mix[i + k] = augment_lambda(l->o.augment, &at);
            b->partner[i + k] = i + 1 - k;
        }
        augment_mix(l->o.augment, b->mix + i,
                    (int16_t *[2]){waveform(l, b, i), waveform(l, b, i + 1)},
                    (float *[2]){&b->scale[i], &b->scale[i + 1]});
    }
}

/* The first failure ends the piece; *failed_at is its place. */
static enum ecg_status read_piece(struct loader *l, const struct batch *b, int first, int n,
                                  struct rows *rows, int *failed_at) {
    for (int i = first; i < first + n; i++) {
        enum ecg_status status = read_record(l, b, i, rows);
        if (status == ECG_OK) continue;
        size_t row;
        const char *shard = dataset_shard_name(l->data, b->record[i], &row);
        *failed_at = i;
        return ecg_fail_prefix(status, "shard %s, record %zu: ", shard, row);
    }
    if (b->mix != NULL) mix_piece(l, b, first, n);
    return ECG_OK;
}

static enum ecg_status make_rows(const struct loader *l, struct rows *rows) {
    struct arena a = {0};
    TRY(MEM_NEW(&rows->labels, (size_t)l->data->schema.labels.n));
    TRY(MEM_NEW(&rows->targets, (size_t)l->data->schema.targets.n));
    if (l->o.augment == NULL) return ECG_OK;
    augment_carve(l->o.augment, &a, &rows->scratch);
    TRY(arena_commit(&a));
    rows->memory = a.base;
    augment_carve(l->o.augment, &a, &rows->scratch);
    return ECG_OK;
}

static void *work(void *context) {
    struct loader *l = context;
    struct rows rows = {0};
    enum ecg_status made = make_rows(l, &rows);
    struct slot *s;
    int first, n;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stop && !claim(l, &s, &first, &n)) pthread_cond_wait(&l->can_work, &l->lock);
        if (l->stop) break;
        pthread_mutex_unlock(&l->lock);
        int failed_at = first;
        enum ecg_status status =
            made == ECG_OK ? read_piece(l, &s->b, first, n, &rows, &failed_at) : made;
        pthread_mutex_lock(&l->lock);
        keep_failure(s, status, failed_at);
        s->n_done += n;
        if (s->n_done == s->b.B) pthread_cond_signal(&l->can_take);
    }
    pthread_mutex_unlock(&l->lock);
    free(rows.labels);
    free(rows.targets);
    free(rows.memory);
    return NULL;
}

/* ------------------------------------------------------------------ opening and closing */

static enum ecg_status check_columns(const int *columns, int n, int there, const char *what) {
    for (int i = 0; i < n; i++)
        if (columns[i] < 0 || columns[i] >= there)
            return ecg_fail(ECG_ERR_CONFIG, "%s column %d of %d", what, columns[i], there);
    return ECG_OK;
}

static enum ecg_status check_weights(const struct loader_options *o) {
    double sum = 0;
    for (size_t i = 0; o->weight != NULL && i < o->n; i++) {
        if (!(o->weight[i] >= 0))
            return ecg_fail(ECG_ERR_CONFIG, "weight %g of record %zu", o->weight[i], o->index[i]);
        sum += o->weight[i];
    }
    if (o->weight != NULL && !(sum > 0 && isfinite(sum)))
        return ecg_fail(ECG_ERR_CONFIG, "weights of %zu records add up to %g", o->n, sum);
    return ECG_OK;
}

static enum ecg_status check_options(const struct dataset *d, const struct loader_options *o) {
    if (o->n == 0) return ecg_fail(ECG_ERR_CONFIG, "%s: no record to read", d->path);
    if (o->batch_size < 1)
        return ecg_fail(ECG_ERR_CONFIG, "batch size %d, at least 1 wanted", o->batch_size);
    for (size_t i = 0; i < o->n; i++)
        if (o->index[i] >= d->n_records)
            return ecg_fail(ECG_ERR_CONFIG, "%s: record %zu of %zu", d->path, o->index[i],
                            d->n_records);
    TRY(check_weights(o));
    TRY(check_columns(o->label_columns, o->n_labels, d->schema.labels.n, "label"));
    return check_columns(o->target_columns, o->n_targets, d->schema.targets.n, "target");
}

/* Where the first batch stands. */
static enum ecg_status set_start(struct loader *l) {
    const struct loader_options *o = &l->o;
    l->n_batches = (o->n - 1) / (size_t)o->batch_size + 1;
    if (o->first_batch > l->n_batches)
        return ecg_fail(ECG_ERR_CONFIG, "%s: batch %zu of an epoch of %zu", l->data->path,
                        o->first_batch, l->n_batches);
    l->epoch = o->epoch;
    l->next_batch = o->first_batch;
    if (o->first_batch == l->n_batches) {
        l->next_batch = 0;
        l->epoch++;
        l->ended = !o->repeat;
    }
    return ECG_OK;
}

/* The most records of a slice: the last rank's, of a whole batch. */
static size_t batch_records(const struct loader_options *o) {
    size_t n = o->n < (size_t)o->batch_size ? o->n : (size_t)o->batch_size, most = 1, first;
    for (int r = 0; r < o->ranks; r++) {
        size_t slice = loader_slice(n, r, o->ranks, &first);
        if (slice > most) most = slice;
    }
    return o->ranks > 1 ? most : n;
}

static int ring_slots(const struct loader_options *o) {
    size_t n_batches = (o->n - 1) / (size_t)o->batch_size + 1, slots = RING;
    if (batch_records(o) >= LARGE) slots = 2;
    return (int)(!o->repeat && n_batches < slots ? n_batches : slots);
}

static bool mixes(const struct loader_options *o) {
    return o->augment != NULL && o->augment->o.mixup > 0;
}

static int n_workers(const struct loader_options *o) {
    return o->workers > 0 ? o->workers : 1;
}

/* The arrays of the ring's batches. */
static void carve_ring(const struct loader_options *o, size_t record_values, int ring,
                       struct arena *a, struct slot *slots) {
    size_t n = batch_records(o);
    for (int i = 0; i < ring; i++) {
        struct batch *b = &slots[i].b;
        if (!o->columns_only) {
            b->ecg = arena_carve(a, n * record_values * sizeof *b->ecg);
            b->scale = arena_carve(a, n * sizeof *b->scale);
        }
        b->labels = arena_carve(a, n * (size_t)o->n_labels);
        b->targets = arena_carve(a, n * (size_t)o->n_targets * sizeof *b->targets);
        b->record = arena_carve(a, n * sizeof *b->record);
        b->mix = mixes(o) ? arena_carve(a, n * sizeof *b->mix) : NULL;
        b->partner = mixes(o) ? arena_carve(a, n * sizeof *b->partner) : NULL;
    }
}

size_t loader_bytes(const struct loader_options *o, size_t record_values) {
    struct arena counted = {0};
    struct slot slots[RING];
    struct augment_scratch scratch;
    carve_ring(o, record_values, ring_slots(o), &counted, slots);
    for (int i = 0; o->augment != NULL && i < n_workers(o); i++)
        augment_carve(o->augment, &counted, &scratch);
    return counted.used + o->n * (sizeof(size_t) + (o->weight != NULL ? sizeof(double) : 0));
}

static enum ecg_status make_ring(struct loader *l) {
    size_t n = batch_records(&l->o), n_bytes;
    struct arena a = {0};
    if (__builtin_mul_overflow(n, l->record_values, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, RING * sizeof(int16_t), &n_bytes))
        return ecg_fail(ECG_ERR_NOMEM, "a batch of %zu records does not fit into memory", n);
    l->ring = ring_slots(&l->o);
    carve_ring(&l->o, l->record_values, l->ring, &a, l->slots);
    TRY(mem_alloc(&l->memory, a.used, 1));
    a = (struct arena){.base = l->memory, .size = a.used};
    carve_ring(&l->o, l->record_values, l->ring, &a, l->slots);
    return ECG_OK;
}

/* Signals are for the main thread, so the workers start with all of them blocked. */
static enum ecg_status start_workers(struct loader *l) {
    int n = n_workers(&l->o);
    size_t share = batch_records(&l->o) / (size_t)n;
    l->piece = share < 1 ? 1 : share < MAX_PIECE ? (int)share : MAX_PIECE;
    if (mixes(&l->o)) l->piece += l->piece % 2;
    TRY(MEM_NEW(&l->threads, (size_t)n));
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (l->n_threads < n && error == 0) {
        error = pthread_create(&l->threads[l->n_threads], NULL, work, l);
        if (error == 0) l->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return ecg_fail(ECG_ERR_FAIL, "can't start reading thread %d: %s", l->n_threads + 1,
                        strerror(error));
    return ECG_OK;
}

enum ecg_status loader_open(struct loader **out, struct dataset *d,
                            const struct loader_options *o) {
    struct loader *l;
    enum ecg_status status;
    *out = NULL;
    TRY(check_options(d, o));
    TRY(MEM_NEW(&l, 1));
    l->data = d;
    l->o = *o;
    l->record_values = (size_t)d->schema.leads.n * (size_t)d->schema.length;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->can_work, NULL);
    pthread_cond_init(&l->can_take, NULL);
    TRY_OUT(set_start(l));
    TRY_OUT(MEM_NEW(&l->order, o->n));
    if (o->weight != NULL) {
        TRY_OUT(MEM_NEW(&l->upto, o->n));
        sampler_cumulate(o->n, o->weight, l->upto);
    }
    order_epoch(l);
    TRY_OUT(make_ring(l));
    TRY_OUT(start_workers(l));
    *out = l;
    return ECG_OK;
out:
    loader_close(l);
    return status;
}

void loader_close(struct loader *l) {
    if (l == NULL) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->can_work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_threads; i++) pthread_join(l->threads[i], NULL);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->can_work);
    pthread_cond_destroy(&l->can_take);
    free(l->memory);
    free(l->order);
    free(l->upto);
    free(l->threads);
    free(l);
}

/* ------------------------------------------------------------------ taking batches */

enum ecg_status loader_next(struct loader *l, struct batch **b) {
    struct slot *s = NULL;
    *b = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->released < l->taken) {
        l->released = l->taken; // the batch of the last call is not used any more
        pthread_cond_broadcast(&l->can_work);
    }
    while (!(l->ended && l->taken == l->begun)) {
        struct slot *next = &l->slots[l->taken % (size_t)l->ring];
        if (l->taken < l->begun && next->n_done == next->b.B) {
            s = next;
            l->taken++;
            break;
        }
        pthread_cond_wait(&l->can_take, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    if (s == NULL) return ECG_OK;
    if (s->status != ECG_OK) return ecg_fail(s->status, "%s", s->message);
    *b = &s->b;
    return ECG_OK;
}

size_t loader_batches_per_epoch(const struct loader *l) {
    return l->n_batches;
}
