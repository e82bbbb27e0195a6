/* SPDX-License-Identifier: MIT
 * What a network's outputs mean. The last layer's outputs are shared out among heads, one after the other; a head
 * predicts one thing from its own. Read from the config of a run, written into the weights' metadata, read from there by
 * evaluate and predict.
 *
 *   kind      outputs                          truth                     of output z
 *   labels    one a label                      label columns             P(label) = sigmoid(z); any number may be present
 *   classes   one a label                      label columns, one is 1   P(class) = softmax(z)
 *   ordinal   classes - 1                      the same, rising; or a    P(class = k | class >= k) = sigmoid(z_k), the
 *                                              target cut by `bins`      continuation-ratio model (McCullagh 1980)
 *   targets   one a target                     target columns            the target, in its unit
 *   gaussian  the T means, the T log           target columns            Normal(z_t, exp(z_{T+t})), in the target's unit (Nix
 *             variances                                                  and Weigend 1994)
 *   cox       1                                event, time               log hazard up to a constant (Cox 1972)
 *   hazard    one an interval, ended by `bins` event, time               P(event in interval k | none before) = sigmoid(z_k)
 *                                                                        (Gensheimer and Narasimhan 2019)
 */
#ifndef TRAIN_MODEL_HEADS_H
#define TRAIN_MODEL_HEADS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/json.h"
#include "core/status.h"
#include "data/names.h"

enum head_kind {
    HEAD_LABELS,
    HEAD_CLASSES,
    HEAD_ORDINAL,
    HEAD_TARGETS,
    HEAD_GAUSSIAN,
    HEAD_COX,
    HEAD_HAZARD
};

#define HEADS_MAX         64
#define HEAD_CLASSES_MAX  1024 /* of classes and ordinal */
#define HEAD_BINS_MAX     HEAD_CLASSES_MAX

struct head {
    char *name;
    enum head_kind kind;
    struct names labels;  /* its label columns; cox, hazard: the event */
    struct names targets; /* its target columns; cox, hazard: the time */
    int n_bins;
    double *bins; /* rising; ordinal: class k is [bins[k-1], bins[k]); hazard: interval k ends at bins[k], in the time's unit */
    int first, n; /* its outputs */
};

struct heads {
    int n;
    struct head *v;
    int n_outputs;
};

/* How many classes a classes or ordinal head tells apart; 0 for the others. */
int head_classes(const struct head *h);
/* The name of class k, into text: a label's, or the range of a binned target ("lvef<40", "40<=lvef<50", "lvef>=50"). */
#define HEAD_NAME_MAX 300
void head_class_name(const struct head *h, int k, char text[HEAD_NAME_MAX]);
/* The class of a record by its labels (in the order of h->labels), or by its target when the head has bins; -1: unknown, which
 * several present labels, or none, are too. */
int head_class(const struct head *h, const unsigned char *labels, const float *targets);

/* Appends a head whose columns and bins are copied; sets first and n. A head that can't be (no column, an event without a
 * time, bins that don't rise, a name that stands twice): ECG_ERR_CONFIG. */
enum ecg_status heads_add(struct heads *h, const struct head *head);
/* The name of each output, fresh: a label's, a target's, else one that says what the output is. */
enum ecg_status heads_output_names(const struct heads *h, struct names *names);
enum ecg_status heads_copy(struct heads *to, const struct heads *h);
void heads_free(struct heads *h); /* idempotent, zeroed is fine */

/* One head of labels, or one of targets: what the files' einthoven.labels and einthoven.targets can say alone. */
bool heads_are_plain(const struct heads *h);
/* As JSON, and back; a text that is no list of heads: ECG_ERR_DATA, `where` stands before the message. */
enum ecg_status heads_json(const struct heads *h, char **text);
enum ecg_status heads_parse(struct heads *h, const char *text, const char *where);

/* ---- from outputs to what they say, in double; z: the head's n outputs of one record ---- */

/* All that the heads say of a record, for people: per head P of its labels or classes (ordinal: "HEAD: CLASS"); its targets, then
 * for gaussian their standard deviations ("TARGET: sd"); the log hazard ("HEAD"); P(event by the end) of each interval ("HEAD: to
 * END"). Names fresh. */
enum ecg_status heads_value_names(const struct heads *h, struct names *names);
/* z: (n_outputs); values: as many as there are names. */
void heads_values(const struct heads *h, const float *z, float *values);

/* P of each class (head_classes) of a classes or ordinal head. */
void head_class_probabilities(const struct head *h, const float *z, double *p);
/* log P(class) - log(1 - P(class)) of each class: ranks as the probability does, without its rounding at the ends. */
void head_class_logits(const struct head *h, const float *z, double *logit);
/* P(event by the end of interval k) of a hazard head, for each of its intervals. */
void head_event_probabilities(const struct head *h, const float *z, double *p);
/* The standard deviation of a log variance, kept within what a float can hold. */
float head_sd(double log_variance);
/* What orders records by risk: cox z; hazard the expected number of intervals lived through, negated. */
double head_risk(const struct head *h, const float *z);

#endif
