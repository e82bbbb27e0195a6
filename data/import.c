/* SPDX-License-Identifier: MIT
 * Records pass in chunks: the pool reads, prepares and quantises a chunk, each task into its own
 * place, then one thread writes the chunk in order; so memory stays bounded and the result does
 * not depend on the number of threads. Until the first good record has fixed the schema, a chunk
 * is one record. */
#include "data/import.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/csv.h"
#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/pool.h"
#include "data/annotations.h"
#include "data/import_codes.h"
#include "data/import_sources.h"
#include "data/readers/arrays.h"
#include "data/readers/wfdb.h"
#include "data/shard.h"

const char *const import_format_names[] = {"wfdb", "hdf5", NULL};

enum { MAX_CHUNK = 256, REASONS_SHOWN = 5 };
static const size_t max_chunk_values = (size_t)1 << 23; /* 64 MiB of doubles */

/* What one recording became. */
struct outcome {
    enum ecg_status status;
    char *reason; /* when rejected */
    size_t n_windows, n_nan;
    int16_t *ecg;        /* (n_windows, C, L) */
    float *scale;        /* (n_windows) */
    bool *is_flat;       /* (n_windows) */
    struct record shape; /* rate, length of a window, leads, units; no signal */
};

static void outcome_free(struct outcome *r) {
    free(r->reason);
    free(r->ecg);
    free(r->scale);
    free(r->is_flat);
    *r = (struct outcome){0};
}

struct rejection {
    char *id, *reason;
};

struct import {
    const struct import_options *options;
    struct prep prep; /* with the leads settled once there is a schema */
    size_t n;         /* recordings */
    char **ids;
    struct source_list files; /* wfdb */
    struct arrays *arrays;    /* hdf5 */
    double *rows;             /* (chunk, row size) */
    struct annotations notes;
    bool has_schema;
    struct shard_schema schema;
    struct shard_writer *writer;
    size_t first, n_chunk; /* the present chunk */
    struct outcome *outcomes;
    struct rejection *rejected;
    size_t n_rejected, cap_rejected, n_nan, n_unmatched;
};

/* ---------------------------------------- one recording, on any thread */

static enum ecg_status read_recording(const struct import *m, size_t i, struct record *r) {
    if (!m->arrays) return wfdb_read(r, m->files.paths[i]);
    const double *values = m->rows + (i - m->first) * arrays_row_size(m->arrays);
    return arrays_record(m->arrays, i, values, r);
}

/* The data set's leads when nobody asked for others. */
static void default_leads(const struct record *r, struct leads *out) {
    bool has_all = true;
    for (int i = 0; i < leads_standard12.n; i++)
        has_all = has_all && leads_find(&r->leads, leads_standard12.name[i]) >= 0;
    *out = has_all ? leads_standard12 : r->leads;
}

static enum ecg_status check_rate(const struct record *r) {
    if (r->sampling_rate > 0 && r->sampling_rate <= SHARD_MAX_RATE) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "a sampling rate of %g Hz: above 0 and up to %g Hz can be",
                    r->sampling_rate, SHARD_MAX_RATE);
}

/* A recording must agree with what the data set's first one fixed. */
static enum ecg_status check_shape(const struct shard_schema *s, const struct record *r) {
    if (fabs(r->sampling_rate - s->sampling_rate) > 1e-6 * s->sampling_rate)
        return ecg_fail(ECG_ERR_DATA, "needs --rate: %g Hz, the data set's first record has %g Hz",
                        r->sampling_rate, s->sampling_rate);
    if (r->length != (size_t)s->length)
        return ecg_fail(ECG_ERR_DATA,
                        "needs --length: %zu samples, the data set's first record has %d",
                        r->length, s->length);
    if (strcmp(r->units, s->units) != 0)
        return ecg_fail(ECG_ERR_DATA, "units %s, the data set's first record has %s", r->units,
                        s->units);
    return ECG_OK;
}

/* Windows of a prepared recording as integers. */
static enum ecg_status quantize(const struct import *m, const struct record *r,
                                struct outcome *out) {
    size_t length, n = prep_windows(&m->prep, r, &length), size = (size_t)r->leads.n * length;
    out->shape = *r;
    out->shape.id = NULL;
    out->shape.signal = NULL;
    out->shape.length = length;
    if (m->has_schema) TRY(check_shape(&m->schema, &out->shape));
    if (length > INT32_MAX)
        return ecg_fail(ECG_ERR_DATA, "%zu samples are too many for one record", length);
    double *window = NULL;
    enum ecg_status status;
    TRY_OUT(mem_alloc((void **)&out->ecg, n * size, sizeof *out->ecg));
    TRY_OUT(MEM_NEW(&out->scale, n));
    TRY_OUT(MEM_NEW(&out->is_flat, n));
    TRY_OUT(MEM_NEW(&window, size));
    for (size_t w = 0; w < n; w++) {
        prep_window(&m->prep, r, w, window);
        out->is_flat[w] = prep_is_flat(window, r->leads.n, length);
        TRY_OUT(
            prep_quantize(window, size, r->has_adc, r->gain, out->ecg + w * size, &out->scale[w]));
    }
    out->n_windows = n;
out:
    free(window);
    return status;
}

static enum ecg_status process(const struct import *m, size_t i, struct outcome *out) {
    struct record r = {0};
    struct prep prep = m->prep;
    enum ecg_status status;
    TRY_OUT(read_recording(m, i, &r));
    TRY_OUT(check_rate(&r));
    if (prep.leads.n == 0) default_leads(&r, &prep.leads);
    TRY_OUT(prep_run(&prep, &r, &out->n_nan));
    TRY_OUT(quantize(m, &r, out));
out:
    record_free(&r);
    return status;
}

static void task(void *context, size_t k, int worker) {
    (void)worker;
    struct import *m = context;
    struct outcome *out = &m->outcomes[k];
    out->status = process(m, m->first + k, out);
    if (out->status != ECG_OK) out->reason = strdup(ecg_message());
}

/* ---------------------------------------- writing, on one thread */

static enum ecg_status reject(struct import *m, const char *id, const char *reason) {
    TRY(mem_grow((void **)&m->rejected, &m->cap_rejected, m->n_rejected + 1, sizeof *m->rejected));
    struct rejection *r = &m->rejected[m->n_rejected];
    TRY(mem_strdup(&r->id, id));
    m->n_rejected++;
    return mem_strdup(&r->reason, reason ? reason : "out of memory");
}

/* The first good recording fixes the schema and opens the output. */
static enum ecg_status begin(struct import *m, const struct record *shape) {
    m->schema = (struct shard_schema){.sampling_rate = shape->sampling_rate,
                                      .length = (int)shape->length,
                                      .leads = shape->leads,
                                      .has_fold = m->notes.fold != NULL};
    strcpy(m->schema.units, shape->units);
    strcpy(m->schema.preprocessing, prep_preset_names[m->prep.preset]);
    TRY(names_copy(&m->schema.labels, &m->notes.labels));
    TRY(names_copy(&m->schema.targets, &m->notes.targets));
    TRY(shard_writer_open(&m->writer, m->options->out, &m->schema));
    m->prep.leads = shape->leads;
    m->has_schema = true;
    return ECG_OK;
}

/* Adds window w of recording i; one that can't be had is rejected by itself. */
static enum ecg_status write_window(struct import *m, size_t i, const struct outcome *out,
                                    size_t w) {
    const struct annotations *a = &m->notes;
    char *id;
    if (m->prep.length == PREP_LENGTH_WINDOWS) {
        size_t size = strlen(m->ids[i]) + 24;
        TRY(mem_alloc((void **)&id, size, 1));
        snprintf(id, size, "%s/%zu", m->ids[i], w);
    } else {
        TRY(mem_strdup(&id, m->ids[i]));
    }
    const char *patient =
        a->patient && a->patient[i] && a->patient[i][0] ? a->patient[i] : m->ids[i];
    struct shard_record record = {
        .record_id = id,
        .patient_id = patient,
        .ecg = out->ecg + w * (size_t)m->schema.leads.n * (size_t)m->schema.length,
        .scale = out->scale[w],
        .labels = a->labels.n > 0 ? a->label + i * (size_t)a->labels.n : NULL,
        .targets = a->targets.n > 0 ? a->target + i * (size_t)a->targets.n : NULL,
        .fold = a->fold ? a->fold[i] : -1};
    enum ecg_status status;
    if (out->is_flat[w])
        status = reject(m, id, "flat: every lead has one value throughout");
    else if ((status = shard_writer_add(m->writer, &record)) == ECG_ERR_DATA)
        status = reject(m, id, ecg_message());
    free(id);
    return status;
}

static enum ecg_status write_outcome(struct import *m, size_t i, const struct outcome *out) {
    if (out->status == ECG_ERR_NOMEM)
        return ecg_fail(ECG_ERR_NOMEM, "%s: out of memory", m->ids[i]);
    if (out->status != ECG_OK) return reject(m, m->ids[i], out->reason);
    if (!m->has_schema) TRY(begin(m, &out->shape));
    m->n_nan += out->n_nan;
    for (size_t w = 0; w < out->n_windows; w++) TRY(write_window(m, i, out, w));
    return ECG_OK;
}

/* ---------------------------------------- the whole */

static enum ecg_status find_wfdb(struct import *m) {
    const struct import_options *o = m->options;
    TRY(source_list_find(&m->files, o->sources, o->n_sources));
    m->n = m->files.n;
    m->ids = m->files.ids;
    if (o->table.path) TRY(table_read(&m->notes, &o->table, m->ids, m->n, &m->n_unmatched));
    if (!o->label_map) return ECG_OK;
    if (!o->table.code_column)
        TRY(import_codes_headers(&m->notes, m->files.paths, m->n, o->code_field));
    return import_codes_labels(&m->notes, o->label_map, m->ids,
                               o->table.code_column ? o->table.path : o->sources[0]);
}

static enum ecg_status find_arrays(struct import *m) {
    const struct import_options *o = m->options;
    if (o->n_sources != 1)
        return ecg_fail(ECG_ERR_USAGE, "import hdf5 takes one file, not %d", o->n_sources);
    if (!o->map)
        return ecg_fail(ECG_ERR_USAGE, "import hdf5 needs --map MAP.yaml: which dataset is what");
    if (o->table.path)
        return ecg_fail(ECG_ERR_USAGE, "import hdf5 takes labels from the map, not from a CSV");
    TRY(arrays_open(&m->arrays, o->sources[0], o->map));
    m->n = arrays_count(m->arrays);
    TRY(arrays_ids(m->arrays, &m->ids));
    TRY(arrays_annotations(m->arrays, &m->notes));
    if (!o->label_map) return ECG_OK;
    if (!m->notes.codes)
        return ecg_fail(ECG_ERR_CONFIG, "%s: no key codes, the dataset that --label-map reads",
                        o->map);
    return import_codes_labels(&m->notes, o->label_map, m->ids, o->sources[0]);
}

/* How many recordings are in work at once. */
static size_t chunk_size(const struct import *m) {
    if (!m->arrays) return MAX_CHUNK;
    size_t fit = max_chunk_values / arrays_row_size(m->arrays), block = arrays_block(m->arrays);
    size_t chunk = fit < 1 ? 1 : fit < MAX_CHUNK ? fit : MAX_CHUNK;
    if (block <= chunk) return chunk / block * block;
    return block <= fit ? block : chunk;
}

static enum ecg_status run_chunks(struct import *m, struct pool *pool, struct progress *progress) {
    size_t chunk = chunk_size(m);
    TRY(MEM_NEW(&m->outcomes, chunk));
    if (m->arrays) TRY(MEM_NEW(&m->rows, chunk * arrays_row_size(m->arrays)));
    for (m->first = 0; m->first < m->n; m->first += m->n_chunk) {
        m->n_chunk = m->has_schema ? chunk - m->first % chunk : 1;
        if (m->n_chunk > m->n - m->first) m->n_chunk = m->n - m->first;
        if (m->arrays) TRY(arrays_read(m->arrays, m->first, m->n_chunk, m->rows));
        pool_run(pool, m->n_chunk, task, m);
        enum ecg_status status = ECG_OK;
        for (size_t k = 0; k < m->n_chunk; k++) {
            if (status == ECG_OK) status = write_outcome(m, m->first + k, &m->outcomes[k]);
            outcome_free(&m->outcomes[k]);
        }
        TRY(status);
        char text[64];
        snprintf(text, sizeof text, "%zu rejected", m->n_rejected);
        progress_update(progress, (double)(m->first + m->n_chunk), (double)m->n, text);
    }
    return ECG_OK;
}

static enum ecg_status none_left(const struct import *m) {
    for (size_t i = 1; i < m->n_rejected && i < REASONS_SHOWN; i++)
        log_warn("rejected %s: %s", m->rejected[i].id, m->rejected[i].reason);
    return ecg_fail(ECG_ERR_DATA, "none of the %zu records could be imported; the first, %s: %s",
                    m->n, m->rejected[0].id, m->rejected[0].reason);
}

static enum ecg_status put_rejected(const struct import *m, FILE *f) {
    fputs("record_id,reason\n", f);
    for (size_t i = 0; i < m->n_rejected; i++) {
        csv_put(f, m->rejected[i].id);
        fputc(',', f);
        csv_put(f, m->rejected[i].reason);
        fputc('\n', f);
    }
    return fflush(f) == 0
               ? ECG_OK
               : ecg_fail(ECG_ERR_IO, "%s/rejected.csv: writing failed", m->options->out);
}

/* The list is on the disk under a temporary name before the data set is finished, so that a full
 * disk is met while everything can still be taken back. */
static enum ecg_status finish(struct import *m) {
    struct file_out out = {0};
    char *path = NULL;
    enum ecg_status status;
    TRY_OUT(file_join(&path, m->options->out, "rejected.csv"));
    TRY_OUT(file_out_open(&out, path));
    TRY_OUT(put_rejected(m, out.stream));
    TRY_OUT(shard_writer_finish(m->writer, m->options->made_by));
    TRY_OUT(file_out_commit(&out));
out:
    file_out_close(&out);
    free(path);
    return status;
}

static void summary(const struct import *m) {
    const struct shard_schema *s = &m->schema;
    log_info("%s: %zu records of %d leads x %d samples at %g Hz from %zu recordings; %zu rejected; "
             "%zu NaN samples became 0",
             m->options->out, shard_writer_count(m->writer), s->leads.n, s->length,
             s->sampling_rate, m->n, m->n_rejected, m->n_nan);
    if (m->n_unmatched > 0)
        log_warn("%zu recordings have no row in %s: their labels are unknown", m->n_unmatched,
                 m->options->table.path);
    for (size_t i = 0; i < m->n_rejected && i < REASONS_SHOWN; i++)
        log_warn("rejected %s: %s", m->rejected[i].id, m->rejected[i].reason);
    if (m->n_rejected > REASONS_SHOWN)
        log_warn("%zu more: %s/rejected.csv", m->n_rejected - REASONS_SHOWN, m->options->out);
}

static void import_free(struct import *m) {
    if (m->arrays && m->ids)
        for (size_t i = 0; i < m->n; i++) free(m->ids[i]);
    if (m->arrays) free(m->ids);
    source_list_free(&m->files);
    arrays_close(m->arrays);
    annotations_free(&m->notes);
    shard_schema_free(&m->schema);
    shard_writer_close(m->writer);
    for (size_t i = 0; i < m->n_rejected; i++) {
        free(m->rejected[i].id);
        free(m->rejected[i].reason);
    }
    free(m->rejected);
    free(m->outcomes);
    free(m->rows);
}

enum ecg_status import_run(const struct import_options *o) {
    struct import m = {.options = o, .prep = o->prep};
    struct pool *pool = NULL;
    struct progress progress;
    enum ecg_status status;
    TRY_OUT(prep_check(&o->prep));
    if (!file_dir_is_empty(o->out)) {
        status = ecg_fail(ECG_ERR_CREATE, "%s: in the way: a data set needs a new or empty folder",
                          o->out);
        goto out;
    }
    TRY_OUT(o->format == IMPORT_WFDB ? find_wfdb(&m) : find_arrays(&m));
    TRY_OUT(pool_create(&pool, o->jobs));
    progress_start(&progress, "import");
    status = run_chunks(&m, pool, &progress);
    progress_end(&progress);
    if (status == ECG_OK && (!m.writer || shard_writer_count(m.writer) == 0))
        status = none_left(&m);
    if (status != ECG_OK) goto out;
    TRY_OUT(finish(&m));
    summary(&m);
out:
    pool_destroy(pool);
    import_free(&m);
    return status;
}

enum ecg_status import_read_record(const char *path, const struct prep *prep, struct record *out) {
    size_t n_nan;
    TRY(wfdb_read(out, path));
    enum ecg_status status = mem_strdup(&out->id, path);
    if (status == ECG_OK) status = prep_run(prep, out, &n_nan);
    if (status == ECG_OK) return ECG_OK;
    record_free(out);
    return ecg_fail_prefix(status, "%s: ", path);
}
