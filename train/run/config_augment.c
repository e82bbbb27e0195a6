/* SPDX-License-Identifier: MIT
 * augment.* and train.mixup, as far as they can be checked without data. */
#include <string.h>

#include "train/run/config.h"

static enum ecg_status read_ops(const struct conf_strings *names, unsigned *ops) {
    *ops = 0;
    for (size_t i = 0; i < names->n; i++) {
        int op = 0;
        while (op < AUGMENT_N_OPS && strcmp(names->v[i], augment_op_names[op]) != 0) op++;
        if (op == AUGMENT_N_OPS) {
            char hint[CONF_HINT_MAX];
            return ecg_fail(ECG_ERR_CONFIG, "augment.ops: unknown operation %s%s", names->v[i],
                            conf_did_you_mean(hint, names->v[i], augment_op_names, -1));
        }
        if (*ops >> op & 1)
            return ecg_fail(ECG_ERR_CONFIG, "augment.ops: %s stands there twice", names->v[i]);
        *ops |= 1u << op;
    }
    return ECG_OK;
}

enum ecg_status config_augment(const struct config *c, struct augment_options *o) {
    *o = (struct augment_options){.n = (int)c->augment.n,
                                  .magnitude = c->augment.magnitude,
                                  .probability = c->augment.probability,
                                  .lead = c->augment.lead,
                                  .lead_probability = c->augment.lead_probability,
                                  .mixup = c->train.mixup};
    TRY(read_ops(&c->augment.ops, &o->ops));
    if (o->ops != 0 && c->augment.n > (int64_t)c->augment.ops.n)
        return ecg_fail(ECG_ERR_CONFIG,
                        "augment.n is %lld, and augment.ops names %zu: a record gets none twice",
                        (long long)c->augment.n, c->augment.ops.n);
    if (o->mixup > 0 && !c->data.shuffle)
        return ecg_fail(ECG_ERR_CONFIG, "train.mixup mixes neighbours of the shuffled order: it "
                                        "needs data.shuffle true");
    return ECG_OK;
}
