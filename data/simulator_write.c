/* SPDX-License-Identifier: MIT
 * `synth`: simulated records as a data set. Threads make a block of records, each into its own place, while one of
 * them writes the block before in record order: the files are the same for any number of threads. Samples are whole microvolts. */
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
    uint64_t first;          /* number of the block's first record */
    size_t n;                /* records in it */
    int16_t *ecg;            /* (size, LEADS, length) */
    struct simulated *truth; /* (size) */
    enum ecg_status *status; /* (size) */
};

/* Two blocks take turns: one is made while the other, whole already, is written. */
struct job {
    const struct simulator_options *o;
    struct shard_writer *w;
    size_t samples; /* of a record: LEADS * length */
    double *mv;     /* (threads, LEADS, length) */
    struct block *made, *ready;
    enum ecg_status status; /* of writing `ready` */
    char message[512];      /* a message stays with the thread that met it: carried over here */
};

static void make_record(const struct job *job, size_t i, int worker) {
    const struct block *b = job->made;
    double *mv = job->mv + (size_t)worker * job->samples;
    int16_t *ecg = b->ecg + i * job->samples;
    b->status[i] = simulator_record(job->o, b->first + i, mv, &b->truth[i]);
    if (b->status[i] != ECG_OK) return;
    for (size_t k = 0; k < job->samples; k++) {
        const double steps = 1e3 * mv[k] + (mv[k] < 0 ? -0.5 : 0.5);
        ecg[k] = (int16_t)(steps < -32767 ? -32767 : steps > 32767 ? 32767 : steps);
    }
}

static enum ecg_status write_block(const struct job *job) {
    const struct block *b = job->ready;
    for (size_t i = 0; i < b->n; i++) {
        const unsigned long long number = b->first + i + 1;
        /* The options were checked before: only memory can have lacked. */
        if (b->status[i] != ECG_OK)
            return ecg_fail(b->status[i], "record %llu could not be simulated: out of memory",
                            number);
        char record[32], patient[32];
        snprintf(record, sizeof record, "sim-%08llu", number);
        snprintf(patient, sizeof patient, "p-%08llu",
                 (unsigned long long)(b->truth[i].patient + 1));
        const struct shard_record r = {.record_id = record,
                                       .patient_id = patient,
                                       .ecg = b->ecg + i * job->samples,
                                       .scale = MICROVOLT,
                                       .labels = b->truth[i].labels,
                                       .targets = b->truth[i].targets,
                                       .fold = (int16_t)b->truth[i].fold};
        TRY(shard_writer_add(job->w, &r));
    }
    return ECG_OK;
}

/* Task 0 writes, all others make a record each. */
static void run_task(void *context, size_t task, int worker) {
    struct job *job = context;
    if (task > 0) {
        make_record(job, task - 1, worker);
        return;
    }
    job->status = write_block(job);
    if (job->status != ECG_OK) snprintf(job->message, sizeof job->message, "%s", ecg_message());
}

static enum ecg_status write_all(struct job *job, struct pool *pool, size_t n_records) {
    const size_t size = (size_t)pool_threads(pool) * BLOCK_PER_THREAD;
    struct progress progress;
    progress_start(&progress, "synth");
    size_t begun = 0, written = 0;
    while (written < n_records && job->status == ECG_OK) {
        job->made->first = begun;
        job->made->n = n_records - begun < size ? n_records - begun : size;
        begun += job->made->n;
        pool_run(pool, 1 + job->made->n, run_task, job);
        written += job->ready->n;
        struct block *const whole = job->made;
        job->made = job->ready;
        job->ready = whole;
        char text[48];
        const double seconds = fmax(log_clock() - progress.start, 1e-6);
        snprintf(text, sizeof text, "%.0f records/s", (double)written / seconds);
        progress_update(&progress, (double)written, (double)n_records, text);
    }
    progress_end(&progress);
    return job->status == ECG_OK ? ECG_OK : ecg_fail(job->status, "%s", job->message);
}

static enum ecg_status block_init(struct block *b, size_t size, size_t samples) {
    TRY(MEM_NEW(&b->ecg, size * samples));
    TRY(MEM_NEW(&b->truth, size));
    return MEM_NEW(&b->status, size);
}

static void block_free(struct block *b) {
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
                                  .labels = *simulator_labels(o),
                                  .targets = *simulator_targets(o),
                                  .has_fold = true};
    TRY(simulator_length(o, &schema.length));
    if (n_records == 0)
        return ecg_fail(ECG_ERR_USAGE, "no records asked for: give their number, 1 or more");

    struct block blocks[2] = {{0}};
    struct job job = {
        .o = o, .samples = LEADS * (size_t)schema.length, .made = &blocks[0], .ready = &blocks[1]};
    struct pool *pool = NULL;
    enum ecg_status status;
    TRY_OUT(pool_create(&pool, n_threads));
    const size_t threads = (size_t)pool_threads(pool);
    TRY_OUT(MEM_NEW(&job.mv, threads * job.samples));
    for (int i = 0; i < 2; i++)
        TRY_OUT(block_init(&blocks[i], threads * BLOCK_PER_THREAD, job.samples));
    TRY_OUT(shard_writer_open(&job.w, dir, &schema));
    TRY_OUT(write_all(&job, pool, n_records));
    TRY_OUT(shard_writer_finish(job.w, made_by));
out:
    shard_writer_close(job.w);
    for (int i = 0; i < 2; i++) block_free(&blocks[i]);
    free(job.mv);
    pool_destroy(pool);
    return status;
}
