/* SPDX-License-Identifier: MIT
 * From a path to a network that can be run. */
#include "train/run/network.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/folder.h"
#include "checkpoints/pth.h"
#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "train/run/config.h"

enum ecg_status network_file(const char *path, char **file) {
    if (!file_is_dir(path)) return mem_strdup(file, path);
    TRY(file_join(file, path, "model.safetensors"));
    if (file_exists(*file)) return ECG_OK;
    free(*file);
    *file = NULL;
    char *best = NULL;
    TRY(folder_resolve(path, "best", &best));
    if (best == NULL) TRY(folder_resolve(path, "last", &best));
    if (best == NULL)
        return ecg_fail(ECG_ERR_NOINPUT,
                        "%s: neither a weights file, nor a checkpoint, nor a run with one", path);
    enum ecg_status status = file_join(file, best, "model.safetensors");
    free(best);
    return status;
}

enum ecg_status network_read(struct network *n, const char *path) {
    memset(n, 0, sizeof(*n));
    TRY(network_file(path, &n->path));
    TRY(pth_or_safetensors_open(&n->file, n->path));
    TRY(weights_read_config(&n->file, &n->model));
    return weights_read_meta(&n->file, &n->meta);
}

enum ecg_status network_build(struct network *n, const char *device, const char *precision,
                              int threads, int length, int max_batch) {
    n->model.length = length;
    TRY(config_precision(precision, &n->model.precision));
    TRY(ops_find(&n->ops, device));
    TRY(n->ops->open(&n->dev, threads));
    TRY(net1d_create(&n->net, &n->model, n->ops, n->dev, max_batch, false));
    return weights_load(&n->net, &n->file, WEIGHTS_ALL, NULL);
}

void network_free(struct network *n) {
    net1d_free(&n->net);
    if (n->ops != NULL) n->ops->close(n->dev);
    weights_meta_free(&n->meta);
    safetensors_close(&n->file);
    free(n->path);
    memset(n, 0, sizeof(*n));
}

enum ecg_status network_leads(const struct network *n, struct leads *leads) {
    memset(leads, 0, sizeof(*leads));
    if (n->meta.leads.n > 0) {
        for (int i = 0; i < n->meta.leads.n && i < LEADS_MAX; i++)
            leads_canonical(n->meta.leads.v[i], leads->name[leads->n++]);
    } else if (n->model.n_leads == leads_standard12.n) {
        *leads = leads_standard12;
    } else if (n->model.n_leads == 1) {
        TRY(leads_parse(leads, "I"));
    }
    if (leads->n == n->model.n_leads) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG, "%s: the network has %d leads and does not say which", n->path,
                    n->model.n_leads);
}

enum ecg_status network_normalize(const struct network *n, enum ops_normalize *normalize) {
    *normalize = OPS_NORM_RECORD;
    if (n->meta.normalize == NULL) return ECG_OK;
    const char *name;
    for (int i = 0; (name = conf_choice_name(config_options, "data.normalize", i)) != NULL; i++)
        if (strcmp(n->meta.normalize, name) == 0) {
            *normalize = (enum ops_normalize)i;
            return ECG_OK;
        }
    return ecg_fail(ECG_ERR_DATA,
                    "%s: einthoven.normalize is %s; known are " CONFIG_NORMALIZE_CHOICES, n->path,
                    n->meta.normalize);
}

void network_warn_preset(const struct network *n, const char *preprocessing, const char *data) {
    if (n->meta.preset == NULL)
        log_warn("%s does not say how its training data was preprocessed; %s has preset %s",
                 n->path, data, preprocessing);
    else if (strcmp(n->meta.preset, preprocessing) != 0)
        log_warn("%s was trained on data with preset %s; %s has preset %s", n->path, n->meta.preset,
                 data, preprocessing);
}
