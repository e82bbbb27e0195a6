/* SPDX-License-Identifier: MIT
 * A column of the new stem is a weighted sum of the old one's, in double. */
#include "train/run/stem.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/setup.h"

#define STEM_WEIGHT "first_conv.conv.weight"

/* mix (wanted->n, have->n): how much of each old column a new one takes. */
static enum ecg_status make_mix(const struct leads *have, const struct leads *wanted, bool sum,
                                const char *path, double *mix) {
    for (int i = 0; i < wanted->n; i++) {
        int own = leads_find(have, wanted->name[i]);
        if (own >= 0) {
            mix[i * have->n + own] = 1;
        } else if (!sum) {
            char *list = NULL;
            TRY(leads_format(have, &list));
            enum ecg_status status = ecg_fail(
                ECG_ERR_CONFIG, "finetune.leads select: %s has no lead %s; it has %s: use sum",
                path, wanted->name[i], list);
            free(list);
            return status;
        }
    }
    for (int j = 0; sum && j < have->n; j++) {
        if (leads_find(wanted, have->name[j]) >= 0) continue;
        for (int i = 0; i < wanted->n; i++) mix[i * have->n + j] = 1.0 / wanted->n;
    }
    return ECG_OK;
}

/* The entry's own memory, which safetensors_close frees; F32 of shape (F, to, K). */
static enum ecg_status replace(struct safetensors *s, struct safetensors_entry *e, int to,
                               float *data) {
    void **owned = realloc(s->owned, (s->n_owned + 1) * sizeof(*owned));
    if (owned == NULL) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    s->owned = owned;
    s->owned[s->n_owned++] = data;
    e->shape[1] = to;
    e->n = (size_t)(e->shape[0] * e->shape[1] * e->shape[2]);
    e->dtype = ST_F32;
    e->dtype_name = safetensors_dtype_name(ST_F32);
    e->bytes = e->n * sizeof(*data);
    e->data = data;
    return ECG_OK;
}

static enum ecg_status mix_columns(struct safetensors *s, struct safetensors_entry *e, int to,
                                   const double *mix) {
    size_t F = (size_t)e->shape[0], from = (size_t)e->shape[1], K = (size_t)e->shape[2];
    float *old = NULL, *data = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&old, e->n));
    TRY_OUT(MEM_NEW(&data, F * (size_t)to * K));
    TRY_OUT(safetensors_to_f32(s, e, old));
    for (size_t f = 0; f < F; f++)
        for (size_t i = 0; i < (size_t)to; i++)
            for (size_t k = 0; k < K; k++) {
                double sum = 0;
                for (size_t j = 0; j < from; j++)
                    sum += mix[i * from + j] * (double)old[(f * from + j) * K + k];
                data[(f * (size_t)to + i) * K + k] = (float)sum;
            }
    TRY_OUT(replace(s, e, to, data));
    data = NULL;
out:
    free(old);
    free(data);
    return status;
}

static enum ecg_status report(const struct leads *have, const struct leads *wanted, bool sum) {
    char *from = NULL, *to = NULL;
    enum ecg_status status;
    TRY_OUT(leads_format(have, &from));
    TRY_OUT(leads_format(wanted, &to));
    if (!sum)
        log_info("finetune.leads select: of the stem's weights for %s those for %s are taken", from,
                 to);
    else if (wanted->n == 1)
        log_info("finetune.leads sum: the stem's weights for %s are added up for %s", from, to);
    else
        log_info("finetune.leads sum: of the stem's weights for %s each of %s keeps its own and "
                 "takes 1/%d of the other leads'",
                 from, to, wanted->n);
out:
    free(from);
    free(to);
    return status;
}

enum ecg_status stem_adapt(struct network *g, const struct config *c) {
    struct leads have, wanted;
    double *mix = NULL;
    bool sum = c->finetune.leads == CONFIG_LEADS_SUM;
    enum ecg_status status;
    TRY(setup_leads(c, &wanted));
    if (c->finetune.leads == CONFIG_LEADS_STRICT || wanted.n == 0) return ECG_OK;
    TRY(network_leads(g, &have));
    bool same = have.n == wanted.n;
    for (int i = 0; same && i < have.n; i++) same = strcmp(have.name[i], wanted.name[i]) == 0;
    if (same) return ECG_OK;
    TRY_OUT(MEM_NEW(&mix, (size_t)have.n * (size_t)wanted.n));
    TRY_OUT(make_mix(&have, &wanted, sum, g->path, mix));
    struct safetensors_entry *e =
        (struct safetensors_entry *)safetensors_find(&g->file, STEM_WEIGHT);
    TRY_OUT(mix_columns(&g->file, e, wanted.n, mix));
    g->model.n_leads = wanted.n;
    TRY_OUT(report(&have, &wanted, sum));
out:
    free(mix);
    return status;
}
