/* SPDX-License-Identifier: MIT
 * The set-up of a run without its memory. Each part is counted by the code that will allocate it; the program itself, its
 * libraries and the index of the data set are what this process holds when all else is only planned. */
#include "train/run/plan.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "train/run/ema.h"
#include "train/run/evaluate.h"
#include "train/run/infer.h"
#include "train/run/plan_ranks.h"
#include "train/run/probe.h"
#include "train/run/setup.h"
#include "train/run/sheet.h"
#include "train/run/stem.h"
#include "train/run/step.h"
#include "train/run/trial.h"
#include "train/run/validation.h"

#define TRIAL_RECORDS 16 /* at most; more records at once are not faster */

struct memory {
    size_t parameters, packed, gradients, moments, activations, backward, scratch, feed, batches,
        validation, embeddings, average, saving, program, total;
    size_t test;      /* of the evaluation on data.test, when the rest is gone */
    size_t available; /* of the machine; 0: not known */
};

struct plan {
    const struct plan_options *o;
    struct config c;
    struct trainer t;
    struct network g;
    bool has_data;
    int micro_batch;
    struct memory memory;
    uint64_t weights_bytes, state_bytes;
    const struct gpu *gpu; /* modelled; NULL: this machine is measured */
    bool libraries;        /* the convolutions of that GPU: kernels.conv */
    bool has_trial;
    struct trial trial;
    struct sheet sheet;
};

/* ------------------------------------------------------------------ the run */

static enum ecg_status data_is_there(const struct config *c, bool *there) {
    struct selection_spec spec;
    *there = false;
    if (c->data.train == NULL) return ECG_OK;
    enum ecg_status status = config_selection(c->data.train, "data.train", &spec);
    if (status == ECG_OK) *there = file_exists(spec.path);
    config_selection_free(&spec);
    return status;
}

static enum ecg_status set_up(struct plan *p) {
    struct trainer *t = &p->t;
    struct config *c = &p->c;
    struct leads leads;
    const struct network *g = p->o->weights != NULL ? &p->g : NULL;
    struct net1d_config model;
    TRY(config_load(c, p->o->config, p->o->sets, p->o->n_sets));
    t->config = c;
    t->is_finetune = g != NULL;
    p->libraries = c->kernels.conv != 0;
    TRY(plan_ranks_apply(p->o, p->gpu, t, c));
    if (p->gpu != NULL && g != NULL && c->head.freeze)
        return ecg_fail(ECG_ERR_USAGE,
                        "--gpu models the training of a whole network, and head.freeze trains the "
                        "head alone");
    if (g != NULL) TRY(network_read(&p->g, p->o->weights));
    if (g != NULL) TRY(stem_adapt(&p->g, c));
    TRY(data_is_there(c, &p->has_data));
    if (!p->has_data)
        TRY(setup_imagined(t, c, g, &leads));
    else if (g != NULL)
        TRY(setup_finetune(t, c, g, &leads));
    else
        TRY(setup_pretrain(t, c, &leads));
    TRY(setup_model(t, c, g != NULL && c->head.freeze, &model, &p->micro_batch));
    network_free(&p->g);
    TRY(setup_device(t, c));
    TRY(net1d_plan(&t->net, &model, t->ops, t->dev, p->micro_batch, true));
    TRY(setup_outputs(t, &leads));
    return trainer_plan(t);
}

/* ------------------------------------------------------------------ memory and disk */

/* What this process holds in memory now. */
static size_t resident(void) {
    long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL) return 0;
    if (fscanf(f, "%ld %ld", &total, &pages) != 2) pages = 0;
    fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Whether the backbone runs once, before the first step (a linear probe). */
static bool steps_on_embeddings(const struct plan *p) {
    return p->memory.embeddings > 0 && p->t.net.config.head_only;
}

/* Records are read before the first step, as a validation reads them; the steps take rows of the embeddings, on the host and
 * on the device. */
static void count_probe(struct plan *p, struct loader_options *loader) {
    const struct trainer *t = &p->t;
    struct memory *m = &p->memory;
    size_t row = (size_t)net1d_features(&t->net.config) * sizeof(float);
    size_t once = infer_bytes(&t->net, &t->train, (int)p->c.data.workers);
    loader->columns_only = true;
    m->batches = loader_bytes(loader, 0) + 2 * (size_t)t->net.max_batch * row;
    if (once > m->validation) m->validation = once;
}

static enum ecg_status count_memory(struct plan *p) {
    const struct trainer *t = &p->t;
    const struct net1d_memory *n = &t->net.memory;
    struct memory *m = &p->memory;
    struct feed_format format = source_format(&t->train, step_loss_on_device(t));
    struct loader_options loader = trainer_loader(t);
    size_t record = (size_t)format.n_file_leads * (size_t)format.length;
    bool momentum = t->optim.config.kind != OPTIM_SGD ||
                    schedule_at(&t->schedule, &t->at.schedule, 0).beta1 > 0;
    *m = (struct memory){.parameters = n->parameters,
                         .packed = n->packed,
                         .gradients = optim_used_bytes(&t->optim),
                         .activations = n->activations,
                         .backward = n->backward,
                         .scratch = n->scratch,
                         .program = resident(),
                         .available = mem_available()};
    uint64_t model, state; /* the snapshot's, in host memory from the first save on */
    TRY(trainer_snapshot_bytes(t, &model, &state));
    m->saving = (size_t)(model + state);
    size_t idle = n->activations + n->backward + m->gradients; /* at the end: net1d_retire */
    if (!trainer_saves_midway(t)) m->saving = m->saving > idle ? m->saving - idle : 0;
    m->average = ema_bytes(t);
    if (momentum) m->moments = m->gradients * (size_t)optim_moments(&t->optim);
    m->feed = feed_bytes(&t->net, &format);
    m->batches = loader_bytes(&loader, record) + m->feed;
    if (t->config->data.balance)
        m->batches += 2 * t->train.n * sizeof(double); /* weights, their sums */
    if (t->has_valid) m->validation = validation_bytes(t);
    const char *why;
    if (probe_keeps(t, &why)) m->embeddings = probe_bytes(t);
    if (steps_on_embeddings(p)) count_probe(p, &loader);
    m->total = m->parameters + m->packed + m->gradients + m->moments + m->average + m->activations +
               m->backward + m->scratch + m->batches + m->embeddings + m->validation + m->saving +
               m->program;
    if (t->n_test == 0) return ECG_OK;
    TRY(evaluate_test_bytes(t, &m->test));
    if (m->program + m->test > m->total) m->total = m->program + m->test;
    return ECG_OK;
}

static enum ecg_status count_disk(struct plan *p) {
    TRY(weights_size(&p->t.net, &p->t.meta, &p->weights_bytes));
    return trainer_state_size(&p->t, &p->state_bytes);
}

/* ------------------------------------------------------------------ printing */

static void print_network(struct plan *p) {
    const struct net1d *net = &p->t.net;
    sheet_section(&p->sheet, "network");
    sheet_integer(&p->sheet, "parameters", (int64_t)net->n_live);
    sheet_integer(&p->sheet, "leads", net->config.n_leads);
    sheet_integer(&p->sheet, "length", net->config.length);
    sheet_integer(&p->sheet, "outputs", net->config.n_outputs);
    sheet_number(&p->sheet, "gmac_per_record", (double)net1d_macs(&net->config) * 1e-9);
    sheet_end_section(&p->sheet);
}

static void print_data(struct plan *p) {
    struct sheet *s = &p->sheet;
    const struct config *c = &p->c;
    bool outputs_named = c->data.labels.n + c->data.targets.n > 0 || config_names_heads(c);
    sheet_section(s, "data");
    if (p->has_data) {
        sheet_integer(s, "records_to_train", (int64_t)p->t.train.n);
        sheet_integer(s, "records_to_validate", (int64_t)p->t.valid.n);
        if (p->t.n_test > 0) sheet_integer(s, "records_to_test", (int64_t)p->t.n_test);
    } else {
        sheet_text(s, "records_to_train", NULL);
        sheet_text(s, "records_to_validate", NULL);
        sheet_text(s, "note",
                   !outputs_named
                       ? "data.train is not there: records, steps an epoch and outputs are not "
                         "known; 1 output assumed"
                       : "data.train is not there: records and steps an epoch are not known");
    }
    sheet_end_section(s);
}

/* How many steps the run takes; 0: the data would have to tell. */
static int64_t total_steps(const struct plan *p) {
    if (p->has_data) return p->t.total_steps;
    return p->c.train.epochs == 0 ? p->c.train.steps : 0;
}

static void print_steps(struct plan *p) {
    struct sheet *s = &p->sheet;
    const struct net1d_config *model = &p->t.net.config;
    /* backward is a product for the weights and one for the input, where forward is one */
    double passes = model->head_only ? 1 : model->recompute ? 4 : 3;
    double macs = passes * (double)net1d_macs(model);
    if (steps_on_embeddings(p)) macs = 2.0 * net1d_features(model) * model->n_outputs;
    sheet_section(s, "steps");
    sheet_integer(s, "batch", p->c.train.batch_size);
    sheet_integer(s, "at_once", p->micro_batch);
    if (p->has_data)
        sheet_integer(s, "per_epoch", p->t.steps_per_epoch);
    else
        sheet_text(s, "per_epoch", NULL);
    if (total_steps(p) > 0)
        sheet_integer(s, "total", total_steps(p));
    else
        sheet_text(s, "total", NULL);
    sheet_number(s, "gflop_per_step", 2e-9 * macs * (double)p->c.train.batch_size);
    sheet_end_section(s);
}

/* What lies on the device. */
static void print_training_memory(struct plan *p) {
    struct sheet *s = &p->sheet;
    const struct memory *m = &p->memory;
    sheet_bytes(s, "parameters", m->parameters);
    sheet_bytes(s, "packed_weights", m->packed);
    sheet_bytes(s, "gradients", m->gradients);
    sheet_bytes(s, "moments", m->moments);
    if (m->average > 0) sheet_bytes(s, "average", m->average);
    sheet_bytes(s, "activations", m->activations);
    sheet_bytes(s, "backward", m->backward);
    sheet_bytes(s, "scratch", m->scratch);
}

static void print_gpu_memory(struct plan *p) {
    struct sheet *s = &p->sheet;
    const struct memory *m = &p->memory;
    size_t total = m->parameters + m->packed + m->gradients + m->moments + m->average +
                   m->activations + m->backward + m->scratch + m->feed;
    sheet_section(s, "gpu_memory");
    print_training_memory(p);
    sheet_bytes(s, "batches", m->feed);
    sheet_bytes(s, "peak", total);
    sheet_bytes(s, "of_the_gpu", (uint64_t)p->gpu->memory);
    if ((double)total > p->gpu->memory)
        sheet_text(s, "note",
                   "more than the GPU has: raise --ranks or train.accumulate, or set "
                   "train.recompute or train.precision");
    sheet_end_section(s);
}

static void print_memory(struct plan *p) {
    struct sheet *s = &p->sheet;
    const struct memory *m = &p->memory;
    sheet_section(s, "memory");
    print_training_memory(p);
    sheet_bytes(s, "batches", m->batches);
    if (m->embeddings > 0) sheet_bytes(s, "embeddings", m->embeddings);
    sheet_bytes(s, "validation", m->validation);
    sheet_bytes(s, "saving", m->saving);
    sheet_bytes(s, "program", m->program);
    if (m->test > 0) sheet_bytes(s, "test_afterwards", m->test);
    sheet_bytes(s, "peak_rss", m->total);
    if (m->available > 0) sheet_bytes(s, "available_now", m->available);
    if (m->available > 0 && m->total > m->available)
        sheet_text(s, "note",
                   "more than this machine has left: raise train.accumulate, or set "
                   "train.recompute or train.precision");
    sheet_end_section(s);
}

static void print_disk(struct plan *p) {
    struct sheet *s = &p->sheet;
    sheet_section(s, "disk");
    sheet_bytes(s, "weights", p->weights_bytes);
    sheet_bytes(s, "checkpoint", p->weights_bytes + p->state_bytes);
    /* the last ones, the best, the next one */
    sheet_bytes(s, "most", (uint64_t)(p->c.train.keep + 2) * (p->weights_bytes + p->state_bytes));
    sheet_end_section(s);
}

/* ------------------------------------------------------------------ time */

/* Validations of the whole run: each due step, and the end. */
static double validations(const struct plan *p, int64_t steps) {
    int64_t every = p->c.train.eval_every > 0 ? p->c.train.eval_every : p->t.steps_per_epoch;
    return (double)((steps + every - 1) / every);
}

static void print_time(struct plan *p) {
    struct sheet *s = &p->sheet;
    const struct trial *r = &p->trial;
    bool once = steps_on_embeddings(p);
    double a_record = once ? r->step - r->forward : r->step;
    double sums = plan_cpu_sums(p->o, &p->t);
    double step = a_record * (double)p->c.train.batch_size / p->o->ranks + r->update + sums;
    double forward = r->forward / p->o->ranks;
    double embed = p->memory.embeddings > 0 ? forward * (double)probe_records(&p->t) : 0;
    double validate = p->t.has_valid && !once ? forward * (double)p->t.valid.n : 0;
    int64_t steps = total_steps(p);
    char text[120];
    sheet_section(s, "time");
    if (!p->has_trial) {
        sheet_text(s, "note",
                   p->o->no_time ? "not measured" : "not measured: it would not fit into memory");
        sheet_end_section(s);
        return;
    }
    sheet_seconds(s, "step", step);
    if (p->o->ranks > 1) sheet_seconds(s, "sums", sums);
    sheet_number(s, "ecg_per_s", (double)p->c.train.batch_size / step);
    if (p->has_data) sheet_seconds(s, "epoch", step * (double)p->t.steps_per_epoch);
    if (p->has_data && validate > 0) sheet_seconds(s, "validation", validate);
    if (p->has_data && embed > 0) sheet_seconds(s, "embeddings", embed);
    if (steps > 0) {
        double total = step * (double)steps;
        if (p->has_data) total += embed + validate * validations(p, steps);
        sheet_seconds(s, "total", total);
    }
    snprintf(text, sizeof(text),
             "three steps of %d record%s measured here; reading and saving come on top, an early "
             "stop off",
             r->batch, r->batch == 1 ? "" : "s");
    sheet_text(s, "note", text);
    sheet_end_section(s);
}

static int trial_records(const struct plan *p) {
    return p->micro_batch < TRIAL_RECORDS ? p->micro_batch : TRIAL_RECORDS;
}

static enum ecg_status measure(struct plan *p) {
    const struct memory *m = &p->memory;
    size_t local = (size_t)(p->o->ranks / p->o->nodes); /* of this machine's memory too */
    if (p->o->no_time || (m->available > 0 && m->total > m->available / local)) return ECG_OK;
    p->has_trial = true;
    return trial_run(&p->t, trial_records(p), &p->trial);
}

static enum ecg_status predict_time(struct plan *p) {
    if (p->gpu != NULL)
        return plan_gpu_print(p->o, p->gpu, &p->t, p->libraries, p->has_data, &p->sheet);
    TRY(measure(p));
    print_time(p);
    return ECG_OK;
}

/* ------------------------------------------------------------------ the other ranks of a node */

/* They take memory bandwidth, cache and clock from the one that is measured: processes that do as it does. */
struct company {
    pid_t *pids;
    int n, ready; /* ready: each writes a byte when it is about to start; -1: none */
};

static void work_forever(const struct plan_options *o, int ready) {
    struct plan p = {.o = o};
    struct trial trial;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_set_level(LOG_ERROR); /* the parent has warned */
    if (set_up(&p) == ECG_OK && write(ready, "", 1) == 1)
        while (trial_run(&p.t, trial_records(&p), &trial) == ECG_OK) {
        }
    _exit(1); /* what went wrong goes wrong in the parent too */
}

/* Before this process has threads. */
static enum ecg_status call_company(struct company *c, const struct plan_options *o) {
    int ends[2], n = o->ranks / o->nodes - 1;
    c->ready = -1;
    if (n == 0 || o->no_time || o->gpu != NULL) return ECG_OK;
    TRY(MEM_NEW(&c->pids, (size_t)n));
    if (pipe(ends) != 0) return ecg_fail(ECG_ERR_FAIL, "no pipe: %s", strerror(errno));
    c->ready = ends[0];
    fflush(NULL);
    for (; c->n < n; c->n++) {
        c->pids[c->n] = fork();
        if (c->pids[c->n] == 0) work_forever(o, ends[1]);
        if (c->pids[c->n] < 0) break;
    }
    close(ends[1]);
    return c->n == n ? ECG_OK : ecg_fail(ECG_ERR_FAIL, "no process: %s", strerror(errno));
}

/* Until all are at work, or gone. */
static void await_company(const struct company *c) {
    char byte;
    for (int i = 0; i < c->n && read(c->ready, &byte, 1) == 1; i++) {
    }
}

static void dismiss_company(struct company *c) {
    for (int i = 0; i < c->n; i++) kill(c->pids[i], SIGKILL);
    for (int i = 0; i < c->n; i++) waitpid(c->pids[i], NULL, 0);
    if (c->ready >= 0) close(c->ready);
    free(c->pids);
}

enum ecg_status plan_run(const struct plan_options *o) {
    struct plan p = {.o = o};
    struct company company = {.ready = -1};
    enum ecg_status status;
    TRY_OUT(plan_ranks_check(o, &p.gpu));
    TRY_OUT(call_company(&company, o));
    TRY_OUT(set_up(&p));
    TRY_OUT(count_memory(&p));
    TRY_OUT(count_disk(&p));
    sheet_begin(&p.sheet, o->json);
    print_network(&p);
    print_data(&p);
    print_steps(&p);
    if (p.gpu != NULL)
        print_gpu_memory(&p);
    else
        print_memory(&p);
    print_disk(&p);
    fflush(stdout);
    await_company(&company);
    status = predict_time(&p);
    if (status == ECG_OK) status = sheet_finish(&p.sheet);
out:
    dismiss_company(&company);
    if (status != ECG_OK) json_writer_free(&p.sheet.w);
    network_free(&p.g);
    trainer_free(&p.t);
    config_free(&p.c);
    return status;
}
