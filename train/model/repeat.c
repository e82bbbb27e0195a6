/* SPDX-License-Identifier: MIT
 * Passes that the backend records and repeats. Everything that a pass launches follows from its kind (batch size, direction,
 * statistics), the network's memory, and which tensors are frozen. Dropout and drop-path draw other numbers in each step,
 * and ranks hear of gradients as they are launched: such passes are done anew every time. */
#include <stdlib.h>
#include <string.h>

#include "train/model/plan.h"

struct work {
    struct net1d *net;
    int B;
    const struct net1d_pass *pass;
    pass_fn *fn;
};

static enum ecg_status do_work(void *context) {
    const struct work *w = context;
    return w->fn(w->net, w->B, w->pass);
}

static void forget(struct net1d *net) {
    struct net1d_private *p = net->p;
    for (int i = 0; i < p->n_recorded; i++) net->ops->graph_free(net->dev, p->recorded[i].graph);
    p->n_recorded = 0;
}

void repeat_free(struct net1d *net) {
    forget(net);
    free(net->p->was_frozen);
    net->p->was_frozen = NULL;
}

static bool is_random(const struct net1d *net, const struct net1d_pass *pass) {
    return pass->train && (net->config.dropout > 0 || net->config.drop_path > 0);
}

/* Forgets what was recorded when other tensors were frozen. */
static enum ecg_status follow_frozen(struct net1d *net) {
    struct net1d_private *p = net->p;
    bool changed = false;
    if (p->was_frozen == NULL) {
        TRY(MEM_NEW(&p->was_frozen, net->n_tensors));
        changed = true;
    }
    for (size_t i = 0; i < net->n_tensors; i++) {
        changed = changed || p->was_frozen[i] != net->tensors[i].frozen;
        p->was_frozen[i] = net->tensors[i].frozen;
    }
    if (changed) forget(net);
    return ECG_OK;
}

/* The place of this kind of pass; NULL: there is none left. */
static struct net1d_recorded *find(struct net1d_private *p, const struct net1d_recorded *kind) {
    for (int i = 0; i < p->n_recorded; i++) {
        struct net1d_recorded *r = &p->recorded[i];
        if (r->B == kind->B && r->backward == kind->backward && r->train == kind->train &&
            r->frozen_norm == kind->frozen_norm && r->frozen_below == kind->frozen_below)
            return r;
    }
    if (p->n_recorded == NET1D_RECORDED) return NULL;
    p->recorded[p->n_recorded] = *kind;
    return &p->recorded[p->n_recorded++];
}

enum ecg_status repeat_pass(struct net1d *net, bool backward, int B, const struct net1d_pass *pass,
                            pass_fn *fn) {
    struct work w = {net, B, pass, fn};
    const struct net1d_recorded kind = {
        B, backward, pass->train, pass->frozen_norm, pass->frozen_below, NULL};
    struct net1d_recorded *r = NULL;
    if (net->ops->run == NULL) return do_work(&w);
    if (net->graphs && pass->done == NULL && pass->share == NULL && !is_random(net, pass)) {
        TRY(follow_frozen(net));
        r = find(net->p, &kind);
    }
    return net->ops->run(net->dev, backward ? "backward" : "forward", r != NULL ? &r->graph : NULL,
                         do_work, &w);
}
