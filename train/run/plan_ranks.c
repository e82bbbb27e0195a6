/* SPDX-License-Identifier: MIT
 * A plan for one of several ranks: its slice of the batch, its part of the cores, and the model of a GPU. */
#include "train/run/plan_ranks.h"

#include <math.h>

#include "core/pool.h"
#include "train/run/ranks.h"

#define GB           1e9
/* Device memory that a training step moves, over the bytes of the activations that it keeps: measured for the published network
 * in bf16 (tests/soak_cuda_bytes.c), 68 MB a record, with BN 85, where 9.56 MB are kept. */
#define TRAFFIC      7.1
#define TRAFFIC_NORM 8.9
/* What a sum of CPU ranks within a node goes through, by rank: loopback or shared memory, measured between two on two cores. */
#define CPU_LINK     (1.2 * GB)
#define CPU_LATENCY  100e-6 /* a bucket */
#define FEW          64     /* records a GPU and step */
#define COUNTED      16     /* records that activations are counted for */

/* ------------------------------------------------------------------ options */

enum ecg_status plan_ranks_check(const struct plan_options *o, const struct gpu **gpu) {
    *gpu = NULL;
    if (o->ranks < 1 || o->nodes < 1)
        return ecg_fail(ECG_ERR_USAGE, "--ranks and --nodes must be at least 1");
    if (o->ranks % o->nodes != 0)
        return ecg_fail(ECG_ERR_USAGE,
                        "--ranks: %d ranks do not fill %d nodes evenly: a multiple of --nodes",
                        o->ranks, o->nodes);
    if (!(o->disk > 0)) return ecg_fail(ECG_ERR_USAGE, "--disk must be greater than 0 GB/s");
    if (!(o->network >= 0)) return ecg_fail(ECG_ERR_USAGE, "--network must be greater than 0 GB/s");
    return o->gpu != NULL ? gpu_find(gpu, o->gpu) : ECG_OK;
}

enum ecg_status plan_ranks_apply(const struct plan_options *o, const struct gpu *gpu,
                                 struct trainer *t, struct config *c) {
    int local = o->ranks / o->nodes;
    t->ranks.size = o->ranks;
    t->ranks.local_size = local;
    if (gpu != NULL) { /* which need not be here: shapes and sizes are the same on a CPU */
        c->kernels.conv = 0;
        c->train.threads = 1; /* scratch of more would be this machine's */
        return conf_set(config_options, c, "train.device=cpu");
    }
    if (c->train.threads == 0 && local > 1) {
        int threads = pool_default_threads() / local;
        c->train.threads = threads > 1 ? threads : 1;
    }
    return ECG_OK;
}

/* ------------------------------------------------------------------ the model's input */

/* Activations a record that a training step of the whole network keeps, without recompute. */
static enum ecg_status activation_bytes(const struct trainer *t, double *bytes) {
    struct net1d net = {0};
    struct net1d_config model = t->net.config;
    model.recompute = false;
    enum ecg_status status = net1d_plan(&net, &model, t->ops, t->dev, COUNTED, true);
    *bytes = (double)net.memory.activations / COUNTED;
    net1d_free(&net);
    return status;
}

static enum ecg_status describe(const struct plan_options *o, const struct gpu *gpu,
                                const struct trainer *t, bool libraries, struct gpu_step *m) {
    const struct config *c = t->config;
    double kept, passes = t->net.config.recompute ? 4 : 3;
    struct feed_format format = source_format(&t->train, false);
    TRY(activation_bytes(t, &kept));
    *m = (struct gpu_step){
        .gpu = gpu,
        .ranks = o->ranks,
        .nodes = o->nodes,
        .records = (double)c->train.batch_size,
        .flop = 2 * passes * (double)net1d_macs(&t->net.config),
        .bytes = (t->net.config.batch_norm ? TRAFFIC_NORM : TRAFFIC) * kept * passes / 3,
        .forward = 1 / passes,
        .bf16 = t->net.config.precision != OPS_F32,
        .libraries = libraries,
        .parameters = (double)t->net.n_live,
        .moments = optim_moments(&t->optim),
        .file_bytes = (double)sizeof(int16_t) * format.n_file_leads * format.length,
        .disk = o->disk * GB};
    return ECG_OK;
}

/* ------------------------------------------------------------------ printing */

static void print_model(const struct gpu_step *m, const struct gpu_times *r, struct sheet *s) {
    sheet_section(s, "gpu");
    sheet_text(s, "name", m->gpu->name);
    sheet_integer(s, "ranks", m->ranks);
    sheet_integer(s, "nodes", m->nodes);
    sheet_number(s, "records_per_rank", m->records / m->ranks);
    sheet_seconds(s, "arithmetic_at_peak", r->arithmetic);
    sheet_seconds(s, "memory_at_peak", r->memory);
    sheet_number(s, "efficiency", r->efficiency);
    sheet_seconds(s, "compute", r->compute);
    sheet_seconds(s, "update", r->update);
    sheet_integer(s, "buckets_at_most", r->buckets);
    sheet_bytes(s, "sum_bytes", (uint64_t)r->sum_bytes);
    sheet_seconds(s, "sums", r->sums);
    sheet_seconds(s, "sums_not_hidden", r->exposed);
    sheet_bytes(s, "file_bytes", (uint64_t)(m->records * m->file_bytes));
    sheet_seconds(s, "reading", r->reading);
    sheet_text(s, "binds", r->binds);
    sheet_number(s, "scaling_efficiency", r->scaling);
    sheet_text(
        s, "note",
        m->records / m->ranks < FEW
            ? "modelled from data sheets and what an H200 was measured at with 256 records at "
              "a time; so few records a GPU take longer"
            : "modelled from data sheets and what an H200 was measured at with 256 records at "
              "a time");
    sheet_end_section(s);
}

enum ecg_status plan_gpu_print(const struct plan_options *o, const struct gpu *gpu,
                               const struct trainer *t, bool libraries, bool has_data,
                               struct sheet *s) {
    const struct config *c = t->config;
    struct gpu own = *gpu;
    struct gpu_step m;
    struct gpu_times r;
    if (o->network > 0) own.port = o->network * GB;
    TRY(describe(o, &own, t, libraries, &m));
    gpu_model(&m, &r);
    print_model(&m, &r, s);
    double records = has_data ? (double)t->train.n : PLAN_RECORDS;
    double steps = has_data ? (double)t->steps_per_epoch : ceil(records / m.records);
    sheet_section(s, "time");
    sheet_seconds(s, "step", r.step);
    sheet_number(s, "ecg_per_s", m.records / r.step);
    sheet_integer(s, "epoch_records", (int64_t)records);
    sheet_seconds(s, "epoch", r.step * steps);
    double total = fmin(c->train.epochs > 0 ? (double)c->train.epochs * steps : INFINITY,
                        c->train.steps > 0 ? (double)c->train.steps : INFINITY);
    sheet_seconds(s, "total", r.step * total);
    sheet_text(s, "note", "validation and saving come on top, an early stop off");
    sheet_end_section(s);
    return ECG_OK;
}

double plan_cpu_sums(const struct plan_options *o, const struct trainer *t) {
    double n = (double)t->net.n_live, speed = CPU_LINK;
    double port = (o->network > 0 ? o->network : PLAN_CPU_NETWORK) * GB;
    if (o->ranks == 1) return 0;
    if (o->nodes > 1) speed = fmin(speed, port * o->nodes / o->ranks);
    return 2.0 * (o->ranks - 1) / o->ranks * n * sizeof(float) / speed +
           ceil(n / (double)RANKS_BUCKET) * CPU_LATENCY;
}
