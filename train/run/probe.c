/* SPDX-License-Identifier: MIT
 * Inference over both parts, the features kept. */
#include "train/run/probe.h"

#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/infer.h"
#include "train/run/stop.h"
#include "train/run/trainer.h"

#define MIB 1048576.0

/* Whether it is the head's turn of a run that trains more. A plan counts that one. */
static bool is_preview(const struct trainer *t) {
    bool planned = t->net.params == NULL && t->is_finetune && t->config->finetune.probe_epochs > 0;
    return t->is_preview || planned;
}

/* What makes a record's features differ from step to step, or too few; NULL: nothing. In the preview the network is in evaluation mode. */
static const char *random_part(const struct trainer *t) {
    const struct config *c = t->config;
    if (c->model.pool == NET1D_POOL_ATTENTION)
        return "model.pool attention reads more than they are";
    if (is_preview(t)) return NULL;
    if (t->augments) return "augment.* or train.mixup change the records in each epoch";
    if (c->model.dropout > 0) return "model.dropout changes them in each step";
    if (c->model.drop_path > 0) return "model.drop_path changes them in each step";
    return NULL;
}

bool probe_keeps(const struct trainer *t, const char **why) {
    const struct config *c = t->config;
    *why = NULL;
    if (!t->net.config.head_only && !is_preview(t)) return false;
    if (!c->head.cache)
        *why = "head.cache is false";
    else
        *why = random_part(t);
    return *why == NULL;
}

static bool keeps_valid(const struct trainer *t) {
    return t->has_valid && !is_preview(t);
}

size_t probe_records(const struct trainer *t) {
    return t->train.n + (keeps_valid(t) ? t->valid.n : 0);
}

size_t probe_bytes(const struct trainer *t) {
    return probe_records(t) * (size_t)net1d_features(&t->net.config) * sizeof(float);
}

static enum ecg_status keep(void *context, size_t first, const struct batch *b, const float *logits,
                            const float *features) {
    struct embeddings *e = context;
    size_t width = (size_t)e->width;
    (void)logits;
    memcpy(e->rows + first * width, features, (size_t)b->B * width * sizeof(float));
    if (stop_now() != STOP_NONE)
        return ecg_fail(ECG_ERR_STOPPED,
                        "stopped while the embeddings were computed: run again with --resume");
    return ECG_OK;
}

static enum ecg_status embed(struct trainer *t, struct source *s, const char *what) {
    const struct config *c = t->config;
    struct embeddings e = {.record = s->index, .n = s->n, .width = net1d_features(&t->net.config)};
    TRY(MEM_NEW(&e.rows, e.n * (size_t)e.width));
    enum ecg_status status = infer_each(&t->net, s, (enum ops_normalize)c->data.normalize,
                                        (int)c->data.workers, what, keep, &e);
    if (status == ECG_ERR_STOPPED) stop_settle(stop_now(), ranks_writes(&t->ranks));
    if (status == ECG_OK)
        s->embeddings = e;
    else
        embeddings_free(&e);
    return status;
}

/* The embeddings may take most of what the machine has left, and no more. */
static bool fits(size_t bytes) {
    size_t available = mem_available();
    return available == 0 || bytes <= available / 4 * 3;
}

enum ecg_status probe_prepare(struct trainer *t) {
    const char *why;
    size_t bytes = probe_bytes(t);
    if (!probe_keeps(t, &why)) {
        if (why != NULL)
            log_info("no embeddings are kept, the backbone runs in every step: %s", why);
        return ECG_OK;
    }
    if (!fits(bytes)) {
        log_warn("the embeddings would take %.0f MiB, of the %.0f MiB that this machine has left: "
                 "none are kept, and the backbone runs in every step",
                 (double)bytes / MIB, (double)mem_available() / MIB);
        return ECG_OK;
    }
    double start = log_clock();
    TRY(embed(t, &t->train, "embed train"));
    if (keeps_valid(t)) TRY(embed(t, &t->valid, "embed valid"));
    log_info(
        "head.cache: embeddings of %zu + %zu records kept in memory (%.1f MiB), computed in %.1f s",
        t->train.n, keeps_valid(t) ? t->valid.n : 0, (double)bytes / MIB, log_clock() - start);
    return ECG_OK;
}
