/* SPDX-License-Identifier: MIT
 * The option table: the only place that knows a key's name, type, default, bounds and meaning. */
#include "train/run/config.h"

#include <string.h>

#define ROW(S, member, type, def, choices, min, max, help)                                         \
    { #member, type, offsetof(S, member), def, choices, min, max, help }
#define OPTION(member, type, def, choices, min, max, help)                                         \
    ROW(struct config, member, type, def, choices, min, max, help)
#define HUGE_INT          9e15
#define OP_NAME(id, name) name ", "
#define BELOW_1           0.99999999 /* the moments divide by 1 - beta^t */

/* Of the whole config, and of each item of `heads`. */
#define LOSS_OPTIONS(S)                                                                                         \
    ROW(S, loss.name, CONF_CHOICE, "auto", CONFIG_LOSS_CHOICES, 0, 0,                                           \
        "auto: mse where only targets are asked for, cox for event and time, else bce"),                        \
        ROW(S, loss.lambda, CONF_NUMBER, "1.5", NULL, 0, 100, "hill: the hill's height"),                       \
        ROW(S, loss.positive, CONF_CHOICE, "log", "log focal_margin", 0, 0,                                     \
            "hill: the positive term"),                                                                         \
        ROW(S, loss.margin, CONF_NUMBER, "-1", NULL, -1, 100,                                                   \
            "asl: shift of the probability; hill with focal_margin: of the logit; -1: 0.05 and 1"),             \
        ROW(S, loss.gamma, CONF_NUMBER, "2", NULL, 0, 100,                                                      \
            "focal, hill with focal_margin: focusing"),                                                         \
        ROW(S, loss.alpha, CONF_NUMBER, "0.25", NULL, 0, 1, "focal: weight of the positives"),                  \
        ROW(S, loss.gamma_pos, CONF_NUMBER, "0", NULL, 0, 100, "asl: focusing of the positives"),               \
        ROW(S, loss.gamma_neg, CONF_NUMBER, "4", NULL, 0, 100, "asl: focusing of the negatives"),               \
        ROW(S, loss.delta, CONF_NUMBER, "1", NULL, 1e-12, 1e12,                                                 \
            "huber: where the square turns into a line"),                                                       \
        ROW(S, loss.pos_weight, CONF_NODE, "null", NULL, 0, 0,                                                  \
            "factor of each label's positives, of each class: a list, or inverse: by frequency in data.train"), \
        ROW(S, loss.bins, CONF_NODE, "null", NULL, 0, 0,                                                        \
            "ordinal: cuts of a target into classes; hazard: ends of the intervals of time")

const struct conf_option config_head_options[] = {
    ROW(struct head_config, name, CONF_STRING, "null", NULL, 0, 0,
        "its name; null: its only column's, else its kind's"),
    ROW(struct head_config, labels, CONF_STRINGS, "null", NULL, 0, 0, "labels that it predicts"),
    ROW(struct head_config, targets, CONF_STRINGS, "null", NULL, 0, 0, "targets that it predicts"),
    ROW(struct head_config, event, CONF_STRING, "null", NULL, 0, 0, "label of the event"),
    ROW(struct head_config, time, CONF_STRING, "null", NULL, 0, 0, "target: time to it"),
    ROW(struct head_config, weight, CONF_NUMBER, "1", NULL, 1e-12, 1e12, "of its loss"),
    LOSS_OPTIONS(struct head_config),
    {NULL, CONF_BOOL, 0, NULL, NULL, 0, 0, NULL}};

const struct conf_option config_options[] = {
    OPTION(
        model.in_leads, CONF_STRINGS, "null", NULL, 0, 0,
        "lead names, taken from the shards by name; null: the weights' own, else the standard 12"),
    OPTION(
        model.length, CONF_INT, "0", NULL, 0, 1e7,
        "samples a record; data of another length is an error; 0: the weights' own, else the data's"),
    OPTION(model.base_filters, CONF_INT, "64", NULL, 1, 65536, "channels after the stem"),
    OPTION(model.filters, CONF_INTS, "[64, 160, 160, 400, 400, 1024, 1024]", NULL, 1, 65536,
           "channels of each stage"),
    OPTION(model.blocks, CONF_INTS, "[2, 2, 2, 3, 3, 4, 4]", NULL, 1, 1000, "blocks of each stage"),
    OPTION(model.kernel_size, CONF_INT, "16", NULL, 1, 1024,
           "taps of the stem and the grouped conv"),
    OPTION(model.stride, CONF_INT, "2", NULL, 1, 64,
           "stride of the stem's and each stage's first conv"),
    OPTION(model.group_width, CONF_INT, "16", NULL, 1, 65536, "channels of a group"),
    OPTION(model.batch_norm, CONF_BOOL, "false", NULL, 0, 0, "batch norm (momentum 0.1, eps 1e-5)"),
    OPTION(
        model.sync_batch_norm, CONF_BOOL, "false", NULL, 0, 0,
        "of several ranks: true: statistics of the whole batch (device cpu); false: each rank's own, rank 0's are saved"),
    OPTION(model.dropout, CONF_NUMBER, "0", NULL, 0, 0.99, "dropout before each conv of a block"),
    OPTION(model.drop_path, CONF_NUMBER, "0", NULL, 0, 0.99,
           "stochastic depth: rate of the last block, growing linearly from 0"),
    OPTION(
        model.pool, CONF_CHOICE, "mean", NET1D_POOL_CHOICES, 0, 0,
        "the last block's output over time: its mean (official), or weighted by a learned attention, a part of the head"),
    OPTION(
        data.train, CONF_NODE, "null", NULL, 0, 0,
        "data set to train on: DIR, {path: DIR, fold: 1-8} or {path: DIR, part: [0, 0.8]}; part [0.8, 0.2] wraps around"),
    OPTION(
        data.valid, CONF_NODE, "null", NULL, 0, 0,
        "data set for validation, best checkpoint, early stop and thresholds; null: none of these"),
    OPTION(data.test, CONF_NODE, "null", NULL, 0, 0,
           "data set that the final weights are evaluated on (RUN/test); null: none"),
    OPTION(data.labels, CONF_STRINGS, "null", NULL, 0, 0, "label columns by name; null: all"),
    OPTION(data.targets, CONF_STRINGS, "null", NULL, 0, 0, "target columns by name; null: all"),
    OPTION(data.normalize, CONF_CHOICE, "record", CONFIG_NORMALIZE_CHOICES, 0, 0,
           "z-score over all leads taken (the official way) or per lead"),
    OPTION(data.shuffle, CONF_BOOL, "true", NULL, 0, 0, "false: shards by name, records in order"),
    OPTION(data.allow_absent, CONF_BOOL, "false", NULL, 0, 0,
           "true: only warn of labels asked for by name that no record of data.train has"),
    OPTION(
        data.balance, CONF_BOOL, "false", NULL, 0, 0,
        "true: an epoch draws as many records with replacement, each by the inverse frequency of its rarest label"),
    OPTION(data.workers, CONF_INT, "1", NULL, 1, 256, "reading threads"),
    OPTION(
        data.fraction, CONF_NUMBER, "1", NULL, 1e-9, 1,
        "part of data.train's patients that is used (rounded up); of one seed a smaller one lies inside a larger"),
    OPTION(data.fraction_seed, CONF_INT, "0", NULL, 0, HUGE_INT,
           "which patients data.fraction draws"),
    OPTION(augment.ops, CONF_STRINGS, "null", NULL, 0, 0,
           "what training records may get, null: nothing; from " AUGMENT_OPS(
               OP_NAME) "done in this order; only time_warp changes the heart rate"),
    OPTION(augment.n, CONF_INT, "1", NULL, 1, AUGMENT_N_OPS,
           "how many of augment.ops a record gets, drawn anew each epoch"),
    OPTION(augment.magnitude, CONF_NUMBER, "0.5", NULL, 0, 1,
           "bound of their strength; each record's is drawn up to it"),
    OPTION(augment.probability, CONF_NUMBER, "1", NULL, 0, 1, "that a record gets any of them"),
    OPTION(
        augment.lead, CONF_BOOL, "false", NULL, 0, 0,
        "true, for a network of lead I alone: one of its views aVL, -aVR, II, -III, aVF, -aVF instead"),
    OPTION(augment.lead_probability, CONF_NUMBER, "0.5", NULL, 0, 1,
           "that another view takes lead I's place"),
    LOSS_OPTIONS(struct config),
    OPTION(optim.name, CONF_CHOICE, "adamw", OPTIM_CHOICES, 0, 0,
           "as PyTorch defines them: adam adds L2 to the gradient, adamw decays apart from it"),
    OPTION(optim.lr, CONF_NUMBER, "1e-3", NULL, 0, 1000, "learning rate; fine-tuning: the head's"),
    OPTION(optim.backbone_lr, CONF_NUMBER, "-1", NULL, -1, 1000,
           "fine-tuning: the backbone's learning rate; -1: optim.lr"),
    OPTION(optim.weight_decay, CONF_NUMBER, "-1", NULL, -1, 1000,
           "-1: PyTorch's default (adamw 0.01, else 0)"),
    OPTION(optim.beta1, CONF_NUMBER, "0.9", NULL, 0, BELOW_1, "adam, adamw"),
    OPTION(optim.beta2, CONF_NUMBER, "0.999", NULL, 0, BELOW_1, "adam, adamw"),
    OPTION(optim.eps, CONF_NUMBER, "1e-8", NULL, 0, 1, "adam, adamw"),
    OPTION(optim.momentum, CONF_NUMBER, "0", NULL, 0, 1, "sgd"),
    OPTION(optim.decay_bias, CONF_BOOL, "true", NULL, 0, 0,
           "weight decay on biases and batch norm too (PyTorch's behaviour)"),
    OPTION(optim.stage_factors, CONF_NODE, "null", NULL, 0, 0,
           "[stem, stage 0, ...]: each times optim.backbone_lr"),
    OPTION(
        optim.zero, CONF_BOOL, "false", NULL, 0, 0,
        "several ranks: each has the moments of its part of the parameters alone (ZeRO-1); device cpu"),
    OPTION(head.labels, CONF_STRINGS, "null", NULL, 0, 0,
           "fine-tuning: labels that the new head predicts"),
    OPTION(head.targets, CONF_STRINGS, "null", NULL, 0, 0,
           "fine-tuning: targets that the new head predicts, in their own units"),
    OPTION(head.event, CONF_STRING, "null", NULL, 0, 0,
           "time to event: the label that says whether it happened (loss.name cox or hazard)"),
    OPTION(head.time, CONF_STRING, "null", NULL, 0, 0,
           "time to event: the target that says when, or until when the record was followed"),
    OPTION(head.freeze, CONF_BOOL, "false", NULL, 0, 0,
           "true: linear probe, the backbone stays as it is"),
    OPTION(
        heads, CONF_NODE, "null", NULL, 0, 0,
        "several heads: a list of {name, labels | targets | event and time, loss, weight}; loss: a name, or a map of loss.*"),
    OPTION(head.cache, CONF_BOOL, "true", NULL, 0, 0,
           "linear probe: the backbone runs once, its features stay in memory; the same weights"),
    OPTION(finetune.init, CONF_CHOICE, "weights", CONFIG_INIT_CHOICES, 0, 0,
           "random: a baseline, of the weights' shape alone"),
    OPTION(
        finetune.leads, CONF_CHOICE, "strict", CONFIG_LEADS_CHOICES, 0, 0,
        "model.in_leads other than the weights': the stem's weights of the leads, added up or picked"),
    OPTION(finetune.probe_epochs, CONF_INT, "0", NULL, 0, HUGE_INT,
           "epochs of the head alone before all is trained (LP-FT); 0: off"),
    OPTION(finetune.probe_lr, CONF_NUMBER, "-1", NULL, -1, 1000,
           "their learning rate, constant; -1: optim.lr"),
    OPTION(finetune.unfreeze_epochs, CONF_INT, "0", NULL, 0, HUGE_INT,
           "the head alone first, one more stage from the top after so many epochs; 0: off"),
    OPTION(finetune.freeze_norm, CONF_BOOL, "false", NULL, 0, 0,
           "true: batch norm keeps its running statistics, weights and biases"),
    OPTION(schedule.name, CONF_CHOICE, "constant", SCHEDULE_CHOICES, 0, 0,
           "learning rate over the run"),
    OPTION(schedule.step_epochs, CONF_INT, "5", NULL, 1, HUGE_INT,
           "step: epochs between two drops"),
    OPTION(schedule.gamma, CONF_NUMBER, "0.1", NULL, 0, 1, "step, plateau: factor of a drop"),
    OPTION(schedule.warmup, CONF_NUMBER, "-1", NULL, -1, 1,
           "cosine, onecycle: part of the run that warms up; -1: cosine 0, onecycle 0.3"),
    OPTION(schedule.min_lr, CONF_NUMBER, "0", NULL, 0, 1000,
           "cosine, plateau: lowest learning rate"),
    OPTION(schedule.patience, CONF_INT, "10", NULL, 0, HUGE_INT,
           "plateau: validations without progress before a drop"),
    OPTION(train.batch_size, CONF_INT, "32", NULL, 1, 1 << 24,
           "records that one optimiser step sees"),
    OPTION(train.accumulate, CONF_INT, "1", NULL, 1, 1 << 20,
           "micro-batches that a batch is split into"),
    OPTION(train.epochs, CONF_INT, "20", NULL, 0, HUGE_INT,
           "0: no limit; with train.steps whichever ends first"),
    OPTION(train.steps, CONF_INT, "0", NULL, 0, HUGE_INT, "optimiser steps; 0: no limit"),
    OPTION(train.eval_every, CONF_INT, "0", NULL, 0, HUGE_INT,
           "steps between validations; 0: each epoch"),
    OPTION(train.save_every, CONF_INT, "0", NULL, 0, HUGE_INT,
           "steps between checkpoints; 0: only at the end"),
    OPTION(
        train.keep, CONF_INT, "2", NULL, 1, 1 << 20,
        "how many of the last checkpoints stay, beside the best; from 2 on --resume can fall back "
        "where the last one is damaged"),
    OPTION(train.early_stop, CONF_INT, "0", NULL, 0, HUGE_INT,
           "validations without progress before the run ends; 0: off"),
    OPTION(train.seed, CONF_INT, "1", NULL, 0, HUGE_INT, "shuffling, dropout, initial weights"),
    OPTION(train.threads, CONF_INT, "0", NULL, 0, 1024,
           "0: all allowed cores; results don't depend on it"),
    OPTION(train.clip_norm, CONF_NUMBER, "0", NULL, 0, 1e30,
           "largest global gradient norm; 0: off"),
    OPTION(train.ema, CONF_NUMBER, "0", NULL, 0, BELOW_1,
           "decay of a moving average of the weights, which is validated and saved; 0: off"),
    OPTION(
        train.mixup, CONF_NUMBER, "0", NULL, 0, 1000,
        "alpha of mixup: records are mixed by shares from Beta(alpha, alpha), 0.2 for one; 0: off"),
    OPTION(
        train.precision, CONF_CHOICE, "fp32", CONFIG_PRECISION_CHOICES, 0, 0,
        "format of the activations; bf16: half the memory, faster where the processor multiplies bf16 (else slower)"),
    OPTION(train.recompute, CONF_BOOL, "false", NULL, 0, 0,
           "true: less memory for activations, a third more work, the same bits"),
    OPTION(train.cuda_graph, CONF_BOOL, "true", NULL, 0, 0,
           "device cuda: passes without dropout as CUDA graphs; the same bits"),
    OPTION(
        train.comm, CONF_CHOICE, "auto", CONFIG_COMM_CHOICES, 0, 0,
        "how several ranks meet; auto: mpi under mpirun, tcp under srun or torchrun, single without"),
    OPTION(train.device, CONF_STRING, "cpu", NULL, 0, 0, "cpu, cuda, ref (the slow oracle)"),
    OPTION(
        kernels.conv, CONF_CHOICE, "custom", CONFIG_CONV_CHOICES, 0, 0,
        "device cuda: custom kernels, NVIDIA's libraries, or auto: the faster for each shape, timed once on this GPU"),
    OPTION(init.weights, CONF_STRING, "null", NULL, 0, 0, "start from these weights, same head"),
    OPTION(init.seed, CONF_INT, "-1", NULL, -1, HUGE_INT, "initial weights; -1: train.seed"),
    {NULL, CONF_BOOL, 0, NULL, NULL, 0, 0, NULL}};

static enum ecg_status check(const struct config *c) {
    if (c->model.filters.n != c->model.blocks.n)
        return ecg_fail(ECG_ERR_CONFIG, "model.filters has %zu stages and model.blocks %zu",
                        c->model.filters.n, c->model.blocks.n);
    if (c->model.filters.n == 0 || c->model.filters.n > NET1D_MAX_STAGES)
        return ecg_fail(ECG_ERR_CONFIG, "model.filters: %zu stages, 1 to %d are possible",
                        c->model.filters.n, NET1D_MAX_STAGES);
    if (c->train.accumulate > c->train.batch_size)
        return ecg_fail(ECG_ERR_CONFIG,
                        "train.accumulate (%lld) is larger than train.batch_size (%lld)",
                        (long long)c->train.accumulate, (long long)c->train.batch_size);
    if (c->train.epochs == 0 && c->train.steps == 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "train.epochs and train.steps are both 0: the run would not end");
    if (c->data.balance && !c->data.shuffle)
        return ecg_fail(ECG_ERR_CONFIG,
                        "data.balance draws records by chance, and data.shuffle is false: "
                        "leave one of them out");
    if (c->head.freeze && c->finetune.probe_epochs > 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "finetune.probe_epochs: with head.freeze the head alone is trained anyway; "
                        "set one of the two");
    if (c->head.freeze && c->finetune.unfreeze_epochs > 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "finetune.unfreeze_epochs: with head.freeze nothing is ever unfrozen; set "
                        "one of the two");
    if (c->train.device == NULL)
        return ecg_fail(ECG_ERR_CONFIG, "train.device is null: use cpu or cuda");
    struct augment_options augment;
    return config_augment(c, &augment);
}

enum ecg_status config_load(struct config *c, const char *path, char *const *sets, int n_sets) {
    memset(c, 0, sizeof(*c));
    TRY(conf_defaults(config_options, c));
    if (path != NULL) TRY(conf_read_file(config_options, c, path));
    for (int i = 0; i < n_sets; i++) TRY(conf_set(config_options, c, sets[i]));
    TRY(config_read_heads(c));
    if (c->optim.weight_decay < 0)
        c->optim.weight_decay = c->optim.name == OPTIM_ADAMW ? 0.01 : 0.0;
    if (c->optim.backbone_lr < 0) c->optim.backbone_lr = c->optim.lr;
    if (c->finetune.probe_lr < 0) c->finetune.probe_lr = c->optim.lr;
    if (c->init.seed < 0) c->init.seed = c->train.seed;
    return check(c);
}

void config_free(struct config *c) {
    config_free_heads(c);
    conf_free(config_options, c);
    memset(c, 0, sizeof(*c));
}

enum ecg_status config_model(const struct config *c, int n_leads, int length, int n_outputs,
                             struct net1d_config *model) {
    *model = (struct net1d_config){.n_leads = n_leads,
                                   .length = length,
                                   .base_filters = (int)c->model.base_filters,
                                   .n_stages = (int)c->model.filters.n,
                                   .kernel_size = (int)c->model.kernel_size,
                                   .stride = (int)c->model.stride,
                                   .group_width = (int)c->model.group_width,
                                   .batch_norm = c->model.batch_norm,
                                   .dropout = c->model.dropout,
                                   .drop_path = c->model.drop_path,
                                   .pool = (enum net1d_pool)c->model.pool,
                                   .n_outputs = n_outputs,
                                   .precision = (enum ops_dtype)c->train.precision,
                                   .recompute = c->train.recompute};
    for (int i = 0; i < model->n_stages; i++) {
        model->filters[i] = (int)c->model.filters.v[i];
        model->blocks[i] = (int)c->model.blocks.v[i];
    }
    return net1d_check(model);
}

enum ecg_status config_stage_factors(const struct config *c, int n_stages, double *factors,
                                     bool *given) {
    const struct yaml_node *list = c->optim.stage_factors;
    *given = list != NULL;
    if (!*given) return ECG_OK;
    if (list->kind != YAML_LIST || list->n != (size_t)n_stages + 1)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "optim.stage_factors: a list of %d numbers is wanted, for the stem and each "
            "of the network's %d stages",
            n_stages + 1, n_stages);
    for (size_t i = 0; i < list->n; i++)
        if (!yaml_number(list->items[i], &factors[i]) || !(factors[i] >= 0 && factors[i] <= 1e6))
            return ecg_fail(ECG_ERR_CONFIG,
                            "optim.stage_factors: number %zu must be from 0 to 1000000", i + 1);
    return ECG_OK;
}

enum ecg_status config_precision(const char *text, enum ops_dtype *precision) {
    *precision = OPS_F32;
    const char *name;
    for (int i = 0; text != NULL; i++) {
        if ((name = conf_choice_name(config_options, "train.precision", i)) == NULL)
            return ecg_fail(ECG_ERR_USAGE, "unknown precision %s: " CONFIG_PRECISION_CHOICES, text);
        if (strcmp(text, name) != 0) continue;
        *precision = (enum ops_dtype)i;
        break;
    }
    return ECG_OK;
}
