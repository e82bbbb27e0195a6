/* SPDX-License-Identifier: MIT
 * Rows are written as they come; the file appears when it is whole. */
#include "train/run/predict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "data/import.h"
#include "train/report/predictions.h"
#include "train/run/config.h"
#include "train/run/infer.h"
#include "train/run/network.h"
#include "train/run/source.h"

struct job {
    struct network network;
    struct source source;
    struct predictions_out out;
    bool embed;
    float *row; /* one recording's outputs */
    float *
        values; /* what a record's heads say; NULL: labels or targets alone, which the outputs say themselves */
};

static enum ecg_status put_row(struct job *job, const char *id, const float *outputs) {
    if (job->values != NULL) heads_values(&job->network.meta.heads, outputs, job->values);
    return predictions_add(&job->out, id, outputs, job->values);
}

static enum ecg_status put_rows(void *context, size_t first, const struct batch *b,
                                const float *logits, const float *features) {
    struct job *job = context;
    const float *values = job->embed ? features : logits;
    (void)first;
    for (int i = 0; i < b->B; i++) {
        char *id = NULL;
        TRY(dataset_record_id(job->source.data, b->record[i], &id));
        enum ecg_status status = put_row(job, id, values + (size_t)i * job->out.n_columns);
        free(id);
        TRY(status);
    }
    return ECG_OK;
}

/* Outputs that the weights don't name are numbered. */
static enum ecg_status name_missing(struct weights_meta *meta, int n) {
    struct names names = {0};
    if (meta->outputs.n > 0) return ECG_OK;
    enum ecg_status status = MEM_NEW(&names.v, (size_t)n);
    for (; status == ECG_OK && names.n < n; names.n += status == ECG_OK) {
        char name[24];
        snprintf(name, sizeof(name), "output_%d", names.n);
        status = mem_strdup(&names.v[names.n], name);
    }
    if (status == ECG_OK) status = weights_meta_name(meta, &names, false);
    names_free(&names);
    return status;
}

static enum ecg_status open_heads(struct job *job, const char *path) {
    struct weights_meta *meta = &job->network.meta;
    struct names values;
    TRY(heads_value_names(&meta->heads, &values));
    enum ecg_status status = MEM_NEW(&job->values, (size_t)values.n);
    if (status == ECG_OK)
        status = predictions_open(&job->out, path, PREDICTIONS_HEADS, &meta->outputs,
                                  (size_t)meta->outputs.n, &values);
    names_free(&values);
    return status;
}

static enum ecg_status open_output(struct job *job, const char *path) {
    struct weights_meta *meta = &job->network.meta;
    if (job->embed)
        return predictions_open(&job->out, path, PREDICTIONS_EMBEDDING, NULL,
                                (size_t)net1d_features(&job->network.model), NULL);
    TRY(name_missing(meta, job->network.model.n_outputs));
    if (!heads_are_plain(&meta->heads)) return open_heads(job, path);
    bool targets = meta->heads.v[0].kind == HEAD_TARGETS;
    return predictions_open(&job->out, path, targets ? PREDICTIONS_TARGETS : PREDICTIONS_LABELS,
                            &meta->outputs, (size_t)meta->outputs.n, NULL);
}

/* ------------------------------------------------------------------ a data set */

static enum ecg_status open_source(struct job *job, const char *data) {
    struct selection_spec spec;
    struct leads leads;
    enum ecg_status status = config_selection_text(data, "--data", &spec);
    if (status == ECG_OK) status = source_open(&job->source, &spec, "--data");
    config_selection_free(&spec);
    TRY(status);
    TRY(network_leads(&job->network, &leads));
    TRY(source_take_leads(&job->source, &leads, "--data"));
    network_warn_preset(&job->network, job->source.data->schema.preprocessing,
                        job->source.data->path);
    return ECG_OK;
}

static enum ecg_status predict_dataset(struct job *job, const struct predict_options *o,
                                       enum ops_normalize normalize) {
    TRY(open_source(job, o->data[0]));
    TRY(network_build(&job->network, o->device, o->precision, o->threads,
                      job->source.data->schema.length, source_batch(&job->source, o->batch)));
    TRY(open_output(job, o->out));
    return infer_each(&job->network.net, &job->source, normalize, 1, o->embed ? "embed" : "predict",
                      put_rows, job);
}

/* ------------------------------------------------------------------ recordings */

/* How the training data of the weights was made. */
static enum ecg_status prep_of_weights(const struct network *n, struct prep *prep) {
    *prep = (struct prep){0};
    if (n->meta.preset == NULL || !(n->meta.sampling_rate > 0) || n->model.length <= 0)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "%s does not say rate, length and preset of its training data: import the records first "
            "and predict on the data set",
            n->path);
    int preset = 0;
    while (prep_preset_names[preset] != NULL &&
           strcmp(prep_preset_names[preset], n->meta.preset) != 0)
        preset++;
    if (prep_preset_names[preset] == NULL)
        return ecg_fail(ECG_ERR_CONFIG, "%s: preset %s is not known here: import the records first",
                        n->path, n->meta.preset);
    prep->preset = (enum prep_preset)preset;
    prep->rate = n->meta.sampling_rate;
    prep->length = PREP_LENGTH_CROP;
    prep->seconds = n->model.length / n->meta.sampling_rate;
    return network_leads(n, &prep->leads);
}

/* One recording through the same int16 as a data set would hold. */
static enum ecg_status predict_record(struct job *job, struct feed *feed, const struct prep *prep,
                                      const char *path, int16_t *ecg) {
    struct net1d *net = &job->network.net;
    struct net1d_pass pass = {.same_weights = true};
    struct record r = {0};
    float scale;
    struct batch b = {.B = 1, .ecg = ecg, .scale = &scale};
    enum ecg_status status;
    TRY_OUT(import_read_record(path, prep, &r));
    if (r.length != (size_t)net->config.length) {
        status = ecg_fail(ECG_ERR_DATA, "%s: %zu samples after preparation, the network takes %d",
                          path, r.length, net->config.length);
        goto out;
    }
    TRY_OUT(prep_quantize(r.signal, r.length * (size_t)r.leads.n, r.has_adc, r.gain, ecg, &scale));
    TRY_OUT(feed_put(feed, &b, 0, 1));
    TRY_OUT(net1d_forward(net, 1, &pass));
    TRY_OUT(net->ops->sync(net->dev));
    TRY_OUT(net->ops->download(net->dev, job->row, job->embed ? net->features : net->logits,
                               job->out.n_columns * sizeof(float)));
    TRY_OUT(put_row(job, path, job->row));
out:
    record_free(&r);
    return status;
}

static enum ecg_status predict_records(struct job *job, const struct predict_options *o,
                                       enum ops_normalize normalize) {
    struct prep prep;
    struct feed feed = {0};
    int lead[LEADS_MAX];
    int16_t *ecg = NULL;
    enum ecg_status status;
    TRY(prep_of_weights(&job->network, &prep));
    for (int c = 0; c < LEADS_MAX; c++) lead[c] = c;
    int length = job->network.model.length, n_leads = job->network.model.n_leads;
    struct feed_format format = {.n_file_leads = n_leads, .length = length, .lead = lead};
    TRY_OUT(network_build(&job->network, o->device, o->precision, o->threads, length, 1));
    TRY_OUT(open_output(job, o->out));
    TRY_OUT(MEM_NEW(&ecg, (size_t)n_leads * (size_t)length));
    TRY_OUT(MEM_NEW(&job->row, job->out.n_columns));
    TRY_OUT(feed_create(&feed, &job->network.net, &format, normalize));
    for (int i = 0; i < o->n_data; i++) TRY_OUT(predict_record(job, &feed, &prep, o->data[i], ecg));
out:
    feed_free(&feed);
    free(ecg);
    free(job->row);
    job->row = NULL;
    return status;
}

/* A folder, a shard or {path: ...} is a data set; everything else names a recording. */
static bool is_dataset(const char *data) {
    size_t n = strlen(data);
    bool is_shard = (n > 3 && strcmp(data + n - 3, ".h5") == 0) ||
                    (n > 5 && strcmp(data + n - 5, ".hdf5") == 0);
    return data[0] == '{' || is_shard || file_is_dir(data);
}

enum ecg_status predict_run(const struct predict_options *o) {
    struct job job = {.embed = o->embed};
    enum ops_normalize normalize;
    enum ecg_status status;
    if (is_dataset(o->data[0]) && o->n_data > 1)
        return ecg_fail(ECG_ERR_USAGE, "--data takes one data set, or WFDB records");
    TRY_OUT(network_read(&job.network, o->weights));
    TRY_OUT(network_normalize(&job.network, &normalize));
    if (is_dataset(o->data[0]))
        TRY_OUT(predict_dataset(&job, o, normalize));
    else
        TRY_OUT(predict_records(&job, o, normalize));
    TRY_OUT(predictions_commit(&job.out));
    log_info("%s: written", o->out);
out:
    predictions_close(&job.out);
    free(job.values);
    source_close(&job.source);
    network_free(&job.network);
    return status;
}
