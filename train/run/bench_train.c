/* SPDX-License-Identifier: MIT
 * Whole steps over the same code that trains; nothing is loaded from disk. A configuration's memory is taken in a process of
 * its own, forked while this one holds no threads and next to nothing: its high-water mark after one training step. A GPU's
 * memory is what a training step has added to that in use; CUDA does not survive a fork. */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/mem.h"
#include "train/objective/objective.h"
#include "train/optim/optim.h"
#include "train/run/bench_private.h"
#include "train/run/config.h"

struct steps {
    struct net1d net;
    struct optim optim;
    struct objective objective;
    uint8_t *labels; /* (batch, outputs), in ops memory, all absent */
    int batch;
    uint32_t step;
};

static enum ecg_status run_training(void *context) {
    struct steps *s = context;
    struct net1d *net = &s->net;
    struct net1d_pass pass = {.train = true, .step = s->step++};
    struct optim_rates rates = {.lr = 1e-3, .backbone_lr = 1e-3, .beta1 = 0.9};
    double loss = 0, entries = (double)s->batch * net->config.n_outputs;
    TRY(optim_zero_grad(&s->optim));
    TRY(net1d_forward(net, s->batch, &pass));
    TRY(objective_add(&s->objective, net->ops, net->dev, s->batch, net->config.n_outputs,
                      net->logits, s->labels, NULL, NULL, 1 / entries, &loss, net->dlogits));
    TRY(net1d_backward(net, s->batch, &pass));
    TRY(optim_step(&s->optim, &rates));
    return net->ops->sync(net->dev);
}

static enum ecg_status run_inference(void *context) {
    struct steps *s = context;
    struct net1d_pass pass = {.same_weights = true};
    TRY(net1d_forward(&s->net, s->batch, &pass));
    return s->net.ops->sync(s->net.dev);
}

/* Fills the network's input as training does, from made-up samples. */
static enum ecg_status fill_input(struct net1d *net, int B) {
    const struct ops *ops = net->ops;
    const struct net1d_config *c = &net->config;
    const size_t n = (size_t)B * (size_t)c->n_leads * (size_t)c->length;
    int16_t *host = NULL;
    float *host_scale = NULL;
    int *lead = NULL;
    void *ecg = NULL, *scale = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&host, n));
    TRY_OUT(MEM_NEW(&host_scale, (size_t)B));
    TRY_OUT(MEM_NEW(&lead, (size_t)c->n_leads));
    for (size_t i = 0; i < n; i++) host[i] = bench_sample(i);
    for (int i = 0; i < B; i++) host_scale[i] = 1e-3f;
    for (int i = 0; i < c->n_leads; i++) lead[i] = i;
    TRY_OUT(ops->alloc(net->dev, &ecg, n * sizeof(*host)));
    TRY_OUT(ops->alloc(net->dev, &scale, (size_t)B * sizeof(*host_scale)));
    TRY_OUT(ops->upload(net->dev, ecg, host, n * sizeof(*host)));
    TRY_OUT(ops->upload(net->dev, scale, host_scale, (size_t)B * sizeof(*host_scale)));
    TRY_OUT(ops->input_fwd(net->dev, c->precision, (struct ops_blc){B, c->length, c->n_leads},
                           c->n_leads, ecg, scale, lead, OPS_NORM_RECORD, net->x));
    status = ops->sync(net->dev);
out:
    ops->free(net->dev, ecg);
    ops->free(net->dev, scale);
    free(host);
    free(host_scale);
    free(lead);
    return status;
}

static void steps_free(struct steps *s, const struct ops *ops, struct ops_dev *dev) {
    ops->free(dev, s->labels);
    optim_free(&s->optim);
    net1d_free(&s->net);
}

static enum ecg_status steps_create(struct steps *s, const struct net1d_config *c,
                                    const struct ops *ops, struct ops_dev *dev, int batch,
                                    bool training) {
    const struct optim_config adam = {
        .kind = OPTIM_ADAM, .beta2 = 0.999, .eps = 1e-8, .decay_bias = true};
    *s = (struct steps){.batch = batch};
    TRY(net1d_create(&s->net, c, ops, dev, batch, training));
    TRY(net1d_init_weights(&s->net, 1, false));
    TRY(fill_input(&s->net, batch));
    if (!training) return ECG_OK;
    TRY(optim_create(&s->optim, &adam, &s->net));
    TRY(objective_init(&s->objective, OBJECTIVE_BCE, NULL));
    return ops->alloc(dev, (void **)&s->labels, (size_t)batch * (size_t)c->n_outputs);
}

/* ------------------------------------------------------------------ one configuration */

enum { GPU_WARM_UP = 3, PROFILE_STEPS = 3 };

struct config_result {
    const struct bench_model *m;
    struct net1d_config config;
    int batch;
    double training, inference;         /* seconds of a step, a forward pass */
    double one_training, one_inference; /* in one thread; NaN: not measured */
    double memory;                      /* MiB, NaN: not known */
    struct cuda_profile profile;        /* with o->kernels: of PROFILE_STEPS training steps */
};

/* Median seconds of what `training` says. */
static enum ecg_status time_steps(const struct bench *b, const struct config_result *r,
                                  int n_threads, bool training, double *seconds) {
    const int runs = b->o->runs > 0 ? b->o->runs : b->o->quick ? 1 : 5;
    struct ops_dev *dev = NULL;
    struct steps s = {.batch = 0};
    TRY(b->ops->open(&dev, n_threads));
    enum ecg_status status = steps_create(&s, &r->config, b->ops, dev, r->batch, training);
    if (status == ECG_OK)
        status = bench_median(runs, 0, training ? run_training : run_inference, &s, seconds);
    steps_free(&s, b->ops, dev);
    b->ops->close(dev);
    return status;
}

/* ------------------------------------------------------------------ on a GPU */

static enum ecg_status profile_steps(const struct bench *b, struct steps *s,
                                     struct cuda_profile *profile) {
    struct ops_dev *dev = s->net.dev;
    enum ecg_status status = b->gpu->profile_start(dev);
    for (int i = 0; i < PROFILE_STEPS && status == ECG_OK; i++) status = run_training(s);
    /* To be stopped in any case; the first failure is the one to tell. */
    if (status == ECG_OK) return b->gpu->profile_stop(dev, profile);
    (void)b->gpu->profile_stop(dev, profile);
    return status;
}

static enum ecg_status gpu_steps(const struct bench *b, struct config_result *r,
                                 struct ops_dev *dev, struct steps *s, bool training) {
    enum ecg_status (*run)(void *) = training ? run_training : run_inference;
    const int runs = b->o->runs > 0 ? b->o->runs : b->o->quick ? 3 : 10;
    size_t before, after;
    TRY(b->gpu->memory_used(&before));
    TRY(steps_create(s, &r->config, b->ops, dev, r->batch, training));
    for (int i = 1; i < GPU_WARM_UP; i++) TRY(run(s));
    TRY(bench_median(runs, 0, run, s, training ? &r->training : &r->inference));
    if (!training) return ECG_OK;
    TRY(b->gpu->memory_used(&after));
    r->memory = ((double)after - (double)before) / 1048576;
    return b->o->kernels ? profile_steps(b, s, &r->profile) : ECG_OK;
}

static enum ecg_status measure_gpu(const struct bench *b, struct config_result *r) {
    r->one_training = r->one_inference = NAN;
    for (int training = 0; training < 2; training++) {
        struct ops_dev *dev = NULL;
        struct steps s = {.batch = 0};
        TRY(b->ops->open(&dev, b->o->threads));
        enum ecg_status status = gpu_steps(b, r, dev, &s, training == 1);
        steps_free(&s, b->ops, dev);
        b->ops->close(dev);
        TRY(status);
    }
    return ECG_OK;
}

/* ------------------------------------------------------------------ on the host */

/* MiB of this process at most so far; NaN where /proc does not say. */
static double high_water(void) {
    char line[256];
    double kib = NAN;
    FILE *f = fopen("/proc/self/status", "r");
    if (f == NULL) return NAN;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "VmHWM: %lf kB", &kib) == 1) break;
    fclose(f);
    return kib / 1024;
}

/* In the child: one training step, then the mark through the pipe. */
static void report_memory(const struct bench *b, const struct config_result *r, int to) {
    struct ops_dev *dev = NULL;
    struct steps s = {.batch = 0};
    double memory = NAN;
    if (b->ops->open(&dev, b->o->threads) == ECG_OK &&
        steps_create(&s, &r->config, b->ops, dev, r->batch, true) == ECG_OK &&
        run_training(&s) == ECG_OK)
        memory = high_water();
    if (write(to, &memory, sizeof(memory)) != (ssize_t)sizeof(memory)) _exit(1);
    _exit(0);
}

static enum ecg_status measure_memory(const struct bench *b, struct config_result *r) {
    int ends[2], status;
    r->memory = NAN;
    malloc_trim(0);
    fflush(stdout);
    if (pipe(ends) != 0) return ecg_fail(ECG_ERR_FAIL, "pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        report_memory(b, r, ends[1]);
    }
    close(ends[1]);
    if (child > 0) {
        if (read(ends[0], &r->memory, sizeof(r->memory)) != (ssize_t)sizeof(r->memory))
            r->memory = NAN;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    }
    close(ends[0]);
    return child < 0 ? ecg_fail(ECG_ERR_FAIL, "fork: %s", strerror(errno)) : ECG_OK;
}

static enum ecg_status measure(const struct bench *b, struct config_result *r, bool one_thread) {
    r->one_training = r->one_inference = NAN;
    TRY(time_steps(b, r, b->o->threads, false, &r->inference));
    TRY(time_steps(b, r, b->o->threads, true, &r->training));
    TRY(measure_memory(b, r));
    if (!one_thread || b->peak.n_threads < 2) return ECG_OK;
    TRY(time_steps(b, r, 1, false, &r->one_inference));
    return time_steps(b, r, 1, true, &r->one_training);
}

/* ------------------------------------------------------------------ output */

/* GFLOP of a record. Backward is twice forward, less the gradient at the network's own input. */
static double gflop(const struct net1d_config *c, bool training) {
    struct net1d_walk w;
    const double forward = 2e-9 * (double)net1d_macs(c);
    return training ? 3 * forward - 2e-9 * (double)net1d_conv_macs(net1d_walk_start(&w, c, 1))
                    : forward;
}

/* GB that a record's convolutions move at least: forward each reads its input and writes its output, backward it reads both
 * again (the output's gradient for the output) and writes the input's gradient. Weights are shared by the batch. */
static double gbyte(const struct net1d_config *c, bool training) {
    struct net1d_walk w;
    struct ops_conv conv[3];
    const double item = c->precision == OPS_BF16 ? 2e-9 : 4e-9;
    const struct ops_conv stem = net1d_walk_start(&w, c, 1);
    double in = (double)stem.Lin * stem.Cin, out = (double)stem.Lout * stem.Cout, dn = 0;
    while (net1d_walk_block(&w, conv))
        for (int i = 0; i < 3; i++) {
            in += (double)conv[i].Lin * conv[i].Cin;
            dn += (double)conv[i].Lin * conv[i].Cin;
            out += (double)conv[i].Lout * conv[i].Cout;
        }
    return item * (training ? 2 * (in + out) + dn : in + out);
}

/* Records a second at most. The host's memory is left out: its caches keep what a layer hands on. */
static double roofline(const struct bench *b, const struct config_result *r, bool training) {
    const double flop = bench_peak(b, r->config.precision) / gflop(&r->config, training),
                 bytes = b->peak.memory / gbyte(&r->config, training);
    return b->gpu != NULL && bytes < flop ? bytes : flop;
}

static void put_pass(struct bench *b, const struct config_result *r, bool training) {
    const double seconds = training ? r->training : r->inference,
                 one = training ? r->one_training : r->one_inference;
    json_put_key(&b->w, training ? "training" : "inference");
    json_begin_object(&b->w);
    bench_put(b, "seconds", seconds);
    bench_put(b, "ecg_per_s", r->batch / seconds);
    bench_put(b, "gflop_per_ecg", gflop(&r->config, training));
    if (b->gpu != NULL) bench_put(b, "gb_per_ecg", gbyte(&r->config, training));
    bench_put(b, "percent_of_roofline", 100 * r->batch / seconds / roofline(b, r, training));
    if (!isnan(one)) {
        bench_put(b, "one_thread_ecg_per_s", r->batch / one);
        bench_put(b, "speed_up", one / seconds);
    }
    json_end_object(&b->w);
}

static void put_json(struct bench *b, const struct config_result *r) {
    json_begin_object(&b->w);
    bench_put_text(b, "model", r->m->name);
    json_put_key(&b->w, "batch_norm");
    json_put_bool(&b->w, r->config.batch_norm);
    bench_put_text(b, "precision", bench_dtype_names[r->config.precision]);
    json_put_key(&b->w, "batch");
    json_put_integer(&b->w, r->batch);
    put_pass(b, r, true);
    put_pass(b, r, false);
    bench_put(b, b->gpu != NULL ? "training_gpu_mib" : "training_peak_rss_mib", r->memory);
    if (b->o->kernels) bench_gpu_kernels(b, &r->profile, PROFILE_STEPS);
    json_end_object(&b->w);
}

static void print_result(struct bench *b, const struct config_result *r) {
    printf("  %-16s %-3s %-4s %6d", r->m->name, r->config.batch_norm ? "on" : "off",
           bench_dtype_names[r->config.precision], r->batch);
    const double training = r->batch / r->training, inference = r->batch / r->inference;
    printf("%9.1f %4.0f %% %9.1f %4.0f %% %6.0f MiB", training,
           100 * training / roofline(b, r, true), inference,
           100 * inference / roofline(b, r, false), r->memory);
    if (!isnan(r->one_training))
        printf("   x %.2f, %.2f", r->one_training / r->training, r->one_inference / r->inference);
    printf("\n");
    if (b->o->kernels) bench_gpu_kernels(b, &r->profile, PROFILE_STEPS);
    fflush(stdout);
}

/* ------------------------------------------------------------------ all */

static enum ecg_status run_config(struct bench *b, const struct bench_model *m, bool batch_norm,
                                  enum ops_dtype precision, bool one_thread) {
    struct config_result r = {.m = m, .config = m->config, .batch = bench_batch(b, m)};
    r.config.batch_norm = batch_norm;
    r.config.precision = precision;
    TRY(b->gpu != NULL ? measure_gpu(b, &r) : measure(b, &r, one_thread));
    if (b->o->json)
        put_json(b, &r);
    else
        print_result(b, &r);
    return ECG_OK;
}

static enum ecg_status run_given(struct bench *b) {
    const struct bench_model *m = bench_models;
    enum ops_dtype precision;
    TRY(config_precision(b->o->precision, &precision));
    while (b->o->model != NULL && strcmp(m->name, b->o->model) != 0) m++;
    return run_config(b, m, b->o->batch_norm, precision, false);
}

static enum ecg_status run_all(struct bench *b) {
    for (const struct bench_model *m = bench_models; m->name != NULL; m++)
        for (int bn = 0; bn < (m == bench_models ? 2 : 1); bn++)
            for (int t = 0; t < BENCH_DTYPES; t++)
                TRY(run_config(b, m, bn == 1, t, bn == 0 && !b->o->quick));
    return ECG_OK;
}

static void print_head(const struct bench *b) {
    if (b->gpu != NULL)
        printf(
            "\nwhole steps: records a second and %% of the roofline, the lower one of FLOP and of the "
            "bytes that convolutions move at least; GPU memory of training\n");
    else
        printf(
            "\nwhole steps: records a second and %% of the roofline; memory of training; what %d "
            "threads gain over 1\n",
            b->peak.n_threads);
    printf("  %-16s %-3s %-4s %6s %16s %16s %10s   %s\n", "model", "BN", "", "batch", "training",
           "inference", "memory", b->gpu != NULL ? "" : "train, infer");
}

enum ecg_status bench_train(struct bench *b) {
    if (b->o->json) {
        json_put_key(&b->w, "train");
        json_begin_array(&b->w);
    } else {
        print_head(b);
    }
    const bool one = b->o->model != NULL || b->o->precision != NULL || b->o->batch_norm;
    TRY(one ? run_given(b) : run_all(b));
    if (b->o->json) json_end_array(&b->w);
    return ECG_OK;
}
