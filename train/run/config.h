/* SPDX-License-Identifier: MIT
 * The config of a run: one struct, filled by the one option table in config.c (files, --set, help and
 * dump all come from it). Keys, meanings and defaults: `einthoven pretrain --help`. */
#ifndef TRAIN_RUN_CONFIG_H
#define TRAIN_RUN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/conf.h"
#include "core/status.h"
#include "data/augment.h"
#include "data/loader.h"
#include "kernels/ops.h"
#include "train/model/heads.h"
#include "train/model/net1d.h"
#include "train/objective/objective.h"
#include "train/optim/optim.h"
#include "train/optim/schedule.h"

/* loss.name: 0 = auto (resolved: mse when only targets are asked for, else bce), then enum objective_kind + 1. */
#define CONFIG_LOSS_CHOICES "auto " OBJECTIVE_CHOICES
/* data.normalize, in the order of enum ops_normalize. */
#define CONFIG_NORMALIZE_CHOICES "record lead none"
#define CONFIG_COMM_CHOICES "auto single tcp mpi" /* as comm_options takes them */
#define CONFIG_PRECISION_CHOICES "fp32 bf16" /* in the order of enum ops_dtype */
#define CONFIG_INIT_CHOICES "weights random" /* finetune.init */
#define CONFIG_LEADS_CHOICES "strict sum select" /* in the order of enum config_leads */
enum config_leads { CONFIG_LEADS_STRICT, CONFIG_LEADS_SUM, CONFIG_LEADS_SELECT };
#define CONFIG_CONV_CHOICES "custom cudnn auto" /* as choose_conv takes them; custom is how devices open */

/* What one head minimises. */
struct loss_config {
    int name;     /* see CONFIG_LOSS_CHOICES */
    int positive; /* hill: 0 log, 1 focal_margin */
    double lambda, margin, gamma, alpha, gamma_pos, gamma_neg, delta;
    struct yaml_node *pos_weight; /* NULL, the text inverse, or a list of numbers */
    struct yaml_node *bins;       /* NULL or a list of numbers */
};

/* One of `heads`, or the only one, of head.* and loss.*. */
struct head_config {
    char *name; /* NULL: from its columns */
    struct conf_strings labels, targets;
    char *event, *time;
    double weight;
    struct loss_config loss;
};

struct config {
    struct {
        struct conf_strings in_leads; /* n 0: the weights' own, else the standard 12 */
        int64_t length;               /* 0: the weights' own, else the data's */
        int64_t base_filters, kernel_size, stride, group_width;
        struct conf_ints filters, blocks;
        bool batch_norm, sync_batch_norm;
        double dropout, drop_path;
        int pool; /* enum net1d_pool */
    } model;
    struct {
        struct yaml_node *train, *valid, *test;
        struct conf_strings labels, targets;
        int normalize; /* enum ops_normalize */
        bool shuffle, balance, allow_absent;
        int64_t workers;
        double fraction; /* (0, 1] */
        int64_t fraction_seed;
    } data;
    struct {
        struct conf_strings ops;
        int64_t n;
        double magnitude, probability;
        bool lead;
        double lead_probability;
    } augment;
    struct loss_config loss;
    struct {
        int name; /* enum optim_kind */
        double lr, backbone_lr, weight_decay, beta1, beta2, eps, momentum;
        bool decay_bias, zero;
        struct yaml_node *stage_factors;
    } optim;
    struct {
        struct conf_strings labels, targets;
        char *event, *time;
        bool freeze, cache;
    } head;
    struct yaml_node *heads;
    struct head_config *head_list; /* of `heads`; NULL without */
    int n_heads;
    struct {
        int init;  /* see CONFIG_INIT_CHOICES */
        int leads; /* enum config_leads */
        int64_t probe_epochs, unfreeze_epochs;
        double probe_lr; /* -1: optim.lr */
        bool freeze_norm;
    } finetune;
    struct {
        int name; /* enum schedule_kind */
        int64_t step_epochs, patience;
        double gamma, warmup, min_lr;
    } schedule;
    struct {
        int64_t batch_size, accumulate, epochs, steps, eval_every, save_every, keep, early_stop,
            seed, threads;
        double clip_norm, mixup, ema;
        int precision; /* enum ops_dtype */
        bool recompute;
        bool cuda_graph;
        char *device;
        int comm; /* see CONFIG_COMM_CHOICES */
    } train;
    struct {
        int conv; /* see CONFIG_CONV_CHOICES */
    } kernels;
    struct {
        char *weights;
        int64_t seed; /* -1: train.seed */
    } init;
};

extern const struct conf_option config_options[];
extern const struct conf_option config_head_options[]; /* of a struct head_config */

/* Reads FILE and the --set assignments over the defaults, checks what can be checked without data, and
 * resolves what depends on other keys (loss auto, loss.margin, weight_decay, init.seed, backbone_lr). */
enum ecg_status config_load(struct config *c, const char *path, char *const *sets, int n_sets);
void config_free(struct config *c); /* idempotent, zeroed is fine */

/* config_heads.c: the head of head.* and loss.*, whose strings stay the config's. */
struct head_config config_only_head(const struct config *c);
/* head.* or heads name what is predicted; else data.labels or data.targets do. */
bool config_names_heads(const struct config *c);
/* Reads `heads` into head_list, and resolves every loss (auto, margin). */
enum ecg_status config_read_heads(struct config *c);
void config_free_heads(struct config *c);
/* One head and its loss, by its columns. */
enum ecg_status config_head(const struct head_config *h, struct head *head,
                            struct objective *objective);
void config_head_free(struct head *head);
/* loss.pos_weight, which is there: *inverse, or a number for each of the head's labels into weight. */
enum ecg_status config_pos_weight(const struct head_config *h, const struct head *head,
                                  bool *inverse, double *weight);

/* data.train and its like: a path, {path, fold: 1-8 or [1, 2]}, {path, part: [from, to]}. `key` is for messages. */
enum ecg_status config_selection(const struct yaml_node *node, const char *key,
                                 struct selection_spec *spec);
/* The same from a command line's text: a path, or YAML when it starts with '{'. */
enum ecg_status config_selection_text(const char *text, const char *key,
                                      struct selection_spec *spec);
void config_selection_free(struct selection_spec *spec);

/* augment.* and train.mixup; ECG_ERR_CONFIG names the key. */
enum ecg_status config_augment(const struct config *c, struct augment_options *o);
/* model.* as a network with n_leads inputs of `length` samples and n_outputs; ECG_ERR_CONFIG names the key. */
enum ecg_status config_model(const struct config *c, int n_leads, int length, int n_outputs,
                             struct net1d_config *model);
/* optim.stage_factors for a network of n_stages: n_stages + 1 numbers into `factors`; *given false: the key is null. */
enum ecg_status config_stage_factors(const struct config *c, int n_stages, double *factors,
                                     bool *given);
/* A value of train.precision given on a command line, NULL: fp32. ECG_ERR_USAGE for others. */
enum ecg_status config_precision(const char *text, enum ops_dtype *precision);

#endif
