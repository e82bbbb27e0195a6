/* SPDX-License-Identifier: MIT
 * `synth`: simulated records as a data set. Threads make a block of records, each into its own place; the blocks are
 * written in record order, so the files are the same for any number of threads. Samples are whole microvolts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/pool.h"
#include "data/shard.h"
#include "data/simulator.h"

#define MICROVOLT 1e-3f /* mV: one step of the integers */
enum { LEADS = 12, BLOCK_PER_THREAD = 16 };

struct block {
    const struct simulator_options *o;
    int length;
    uint64_t first;          /* number of the block's first record */
    double *mv;              /* (threads, LEADS, length) */
    int16_t *ecg;            /* (size, LEADS, length) */
    struct simulated *truth; /* (size) */
    enum ecg_status *status; /* (size) */
};

static void make_one(void *context, size_t task, int worker) {
    const struct block *b = context;
    const size_t n = LEADS * (size_t)b->length;
    double *mv = b->mv + (size_t)worker * n;
    int16_t *ecg = b->ecg + task * n;
    b->status[task] = simulator_record(b->o, b->first + task, mv, &b->truth[task]);
    if (b->status[task] != ECG_OK) return;
    for (size_t i = 0; i < n; i++) {
        const double steps = fmin(fmax(1e3 * mv[i], -32767), 32767);
        ecg[i] = (int16_t)(steps < 0 ? steps - 0.5 : steps + 0.5);
    }
}

static enum ecg_status write_block(struct shard_writer *w, const struct block *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        /* A message stays with the thread that met it; after the options were checked only memory can lack. */
        if (b->status[i] != ECG_OK)
            return ecg_fail(b->status[i], "record %llu could not be simulated: out of memory",
                            (unsigned long long)(b->first + i + 1));
        char record[32], patient[32];
        snprintf(record, sizeof record, "sim-%08llu", (unsigned long long)(b->first + i + 1));
        snprintf(patient, sizeof patient, "p-%08llu",
                 (unsigned long long)(b->truth[i].patient + 1));
        const struct shard_record r = {.record_id = record,
                                       .patient_id = patient,
                                       .ecg = b->ecg + i * LEADS * (size_t)b->length,
                                       .scale = MICROVOLT,
                                       .labels = b->truth[i].labels,
                                       .targets = b->truth[i].targets,
                                       .fold = (int16_t)b->truth[i].fold};
        TRY(shard_writer_add(w, &r));
    }
    return ECG_OK;
}

static enum ecg_status write_all(struct shard_writer *w, struct block *b, struct pool *pool,
                                 size_t n_records) {
    const size_t size = (size_t)pool_threads(pool) * BLOCK_PER_THREAD;
    struct progress progress;
    progress_start(&progress, "synth");
    enum ecg_status status = ECG_OK;
    for (size_t done = 0; done < n_records && status == ECG_OK;) {
        const size_t n = n_records - done < size ? n_records - done : size;
        b->first = done;
        pool_run(pool, n, make_one, b);
        status = write_block(w, b, n);
        done += n;
        char text[48];
        snprintf(text, sizeof text, "%.0f records/s",
                 (double)done / fmax(log_clock() - progress.start, 1e-6));
        progress_update(&progress, (double)done, (double)n_records, text);
    }
    progress_end(&progress);
    return status;
}

static void block_free(struct block *b) {
    free(b->mv);
    free(b->ecg);
    free(b->truth);
    free(b->status);
}

enum ecg_status simulator_write(const struct simulator_options *o, const char *dir,
                                size_t n_records, int n_threads, const char *made_by) {
    struct shard_schema schema = {.sampling_rate = o->sampling_rate,
                                  .leads = leads_standard12,
                                  .units = "mV",
                                  .preprocessing = "none",
                                  .labels = *simulator_labels(),
                                  .targets = *simulator_targets(),
                                  .has_fold = true};
    TRY(simulator_length(o, &schema.length));
    if (n_records == 0)
        return ecg_fail(ECG_ERR_USAGE, "no records asked for: give their number, 1 or more");

    struct block b = {.o = o, .length = schema.length};
    struct pool *pool = NULL;
    struct shard_writer *w = NULL;
    enum ecg_status status;
    TRY_OUT(pool_create(&pool, n_threads));
    const size_t threads = (size_t)pool_threads(pool), size = threads * BLOCK_PER_THREAD;
    const size_t samples = LEADS * (size_t)b.length;
    TRY_OUT(MEM_NEW(&b.mv, threads * samples));
    TRY_OUT(MEM_NEW(&b.ecg, size * samples));
    TRY_OUT(MEM_NEW(&b.truth, size));
    TRY_OUT(MEM_NEW(&b.status, size));
    TRY_OUT(shard_writer_open(&w, dir, &schema));
    TRY_OUT(write_all(w, &b, pool, n_records));
    TRY_OUT(shard_writer_finish(w, made_by));
out:
    shard_writer_close(w);
    block_free(&b);
    pool_destroy(pool);
    return status;
}
