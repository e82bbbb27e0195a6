/* SPDX-License-Identifier: MIT
 * The operations of a network: the contract between the model, which is written once over `struct ops`,
 * and the backends (ref: the oracle; cpu; cuda).
 *
 * Two levels. PRIMITIVES are what the oracle implements and the tests check one by one. FUSED entries do a
 * whole step of a Net1D block; kernels/compose.c gives each as a composition of primitives, and a backend
 * overrides those it has fast. The model calls only fused entries and the primitives that have no fusion.
 *
 * Conventions. Activations are (B, L, C), channels last, dense, of type `dtype`; parameters, their gradients
 * and statistics are fp32 in PyTorch's own layouts, convolution weights (Cout, Cin/G, K), linear weights
 * (N, K). Letters: B batch, L length, C channels, K taps, S stride, G groups, P zeros padded on the left
 * (what is missing on the right follows from Lout). `dX` = d loss / d X. "=" overwrites, "+=" accumulates;
 * every output says which. All pointers are 64-byte aligned. Inputs and outputs never overlap unless said.
 * Sums run in a fixed order that depends on the shape alone, never on the number of threads; a sample's
 * forward results do not depend on its neighbours in the batch or on its place.
 * A backend checks shapes at the host edge and returns ECG_ERR_FAIL with the op and the shape for those it
 * has not; nothing is skipped in silence. Valid C and C++17.
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* OPS_BF16: activations and their gradients are bfloat16, rounded to the nearest when written (kernels/bf16.h). The
 * factors of a convolution's products are bf16 too: weights and act(x) are rounded on their way in. All sums, and all
 * that is computed between reading and writing, are fp32; what a fused entry hands on inside itself need not be
 * rounded. */
enum ops_dtype { OPS_F32 = 0, OPS_BF16 = 1 };

/* One backend instance: its threads or its device and streams. Opaque; made by `open`. Each backend's own
 * struct ops_dev begins with a struct ops_dev_head, by which composed entries find their primitives. */
struct ops_dev;
struct ops;
struct ops_dev_head {
    const struct ops *ops; /* the backend's completed table */
};

/* Scratch memory of one call, 64-byte aligned, contents undefined before and after. */
struct ops_ws {
    void *p;
    size_t n; /* bytes */
};

struct ops_conv {
    int B, Lin, Lout, Cin, Cout, K, S, G, P;
};

/* SAME padding of the official code: Lout = ceil(Lin/S), p = max(0, (Lout-1)*S + K - Lin), P = p/2. */
struct ops_conv ops_conv_same(int B, int Lin, int Cin, int Cout, int K, int S, int G);

struct ops_blc {
    int B, L, C;
};

/* What stands between a stored tensor x and a convolution's input: a = drop(swish(n)), n = x*scale + shift.
 * Swish is n * sigmoid(n). Dropout keeps element i of sample b when the Philox number of
 * (seed, stream, step, sample0 + b, i) is >= drop, and scales by 1/(1 - drop); i = l*C + c.
 * See ops_dropout_factors in kernels/dropout.h, which every backend shares. Entries take it by a pointer that is
 * never NULL; all zero = identity. */
struct ops_act {
    const float *scale, *shift; /* (C) folded normalisation, or both NULL */
    int swish;                  /* 0: a = n */
    float drop;                 /* 0 = off */
    uint64_t seed;
    uint32_t stream, step;
    uint64_t sample0; /* place of this micro-batch's first sample in the step's batch */
};

/* A convolution's weights w in the order in which the backend's kernels read them, for as long as w does not change;
 * `backward`: those of the data gradient as well. */
struct ops_pack {
    struct ops_conv s;
    const float *w;
    int backward;
    void *packed; /* conv_packed_bytes */
};

/* What a gate and its mean make of dy, the gradient at y = gate*h + ...: that at h is gate*dy + dm/L (branch_bwd). */
struct ops_branch {
    const float *gate, *dm; /* (B, C) each, of dy's shape */
};

/* A shortcut from a convolution's input x to y, of shape s and stride S: what it adds to the gradient at x
 * (shortcut_bwd). */
struct ops_side {
    struct ops_blc s;
    int S;
    const void *dy;
};

/* One copy of upload_ahead: `bytes` of host memory into memory of the backend. */
struct ops_upload {
    void *device;
    const void *host;
    size_t bytes;
};

/* Calls that a backend has recorded (run); opaque. */
struct ops_graph;

/* A normalisation by batch statistics, n = (x - mean)*rstd*gamma + beta, rstd = 1/sqrt(var + eps), on the way back: from dn,
 * the gradient at n, norm_sums makes k over all rows, and norm_dx with it the gradient at x, element by element:
 * k[0]*dn + k[1]*(x - mean) + k[2]. */
struct ops_norm {
    const float *mean, *var, *gamma; /* (C) */
    double eps;
    float *k;              /* (3, C) = */
    float *dgamma, *dbeta; /* (C) += */
};

/* What a normalisation behind a convolution makes of dy, then the gradient at n: that at y is norm_dx(y, dy). */
struct ops_behind {
    const struct ops_norm *norm; /* its mean and k are used */
    const void *y;               /* of dy's shape */
    void *at_y;                  /* room for the gradient at y, left undefined; may be dy itself */
};

enum ops_normalize { OPS_NORM_RECORD, OPS_NORM_LEAD, OPS_NORM_NONE };

/* Losses per known entry; z a logit, t its target, p = sigmoid(z). Unknown: label 255, target NaN. kernels/loss.h has
 * the formulas with their derivatives (nothing is held constant in backward) and the host code of one entry. */
enum ops_loss_kind {
    OPS_LOSS_BCE, /* t=1: -log p; t=0: -log(1-p) */
    OPS_LOSS_HILL, /* t=0: (lambda - p) p^2; t=1: -log p, or with `focal_margin` -(1-pm)^gamma log pm, where
                       pm = sigmoid(z - margin) */
    OPS_LOSS_FOCAL, /* Lin et al. 2017: -alpha_t (1-p_t)^gamma log p_t; p_t, alpha_t = p, alpha for t=1, else
                       1 - p, 1 - alpha */
    OPS_LOSS_ASL, /* Ridnik et al. 2021: t=1: -(1-p)^gamma_pos log p; t=0: -pm^gamma_neg log(1-pm), where
                       pm = max(p - margin, 0) */
    OPS_LOSS_MSE,  /* d^2, d = (z - t) / column_scale */
    OPS_LOSS_HUBER /* torch.nn.HuberLoss: d^2/2 for |d| <= delta, else delta (|d| - delta/2) */
};

struct ops_loss {
    enum ops_loss_kind kind;
    double lambda;               /* hill, 1.5 */
    int focal_margin;            /* hill: 1 = margin-focal positives */
    double margin;               /* hill 1.0, asl 0.05 */
    double gamma;                /* hill and focal, 2 */
    double alpha;                /* focal, 0.25 */
    double gamma_pos, gamma_neg; /* asl, 0 and 4 */
    double delta;                /* huber, 1 */
};

struct ops_adam {
    double lr, beta1, beta2, eps, weight_decay;
    int decoupled; /* 1: AdamW, 0: Adam with L2 */
    int64_t step;  /* 1-based, for the bias corrections */
};

struct ops {
    const char *name; /* "ref", "cpu", "cuda" */

    /* n_threads 0 = all allowed cores. */
    enum ecg_status (*open)(struct ops_dev **dev, int n_threads);
    void (*close)(struct ops_dev *dev); /* NULL is fine */
    /* Memory that this backend's ops read and write; zeroed. Host backends: plain aligned memory. */
    enum ecg_status (*alloc)(struct ops_dev *dev, void **p, size_t bytes);
    void (*free)(struct ops_dev *dev, void *p);
    enum ecg_status (*upload)(struct ops_dev *dev, void *device, const void *host, size_t bytes);
    enum ecg_status (*download)(struct ops_dev *dev, void *host, const void *device, size_t bytes);
    /* Waits; reports what went wrong since the last sync, and hands out the sums of `loss` and `sumsq`. */
    enum ecg_status (*sync)(struct ops_dev *dev);

    /* NULL where work is done at once (host backends). Uploads a batch beside the work that is under way: the host memory
     * may change when the call returns, and the copies come before all work that is launched later, but not after all that
     * was launched before. Memory that an upload goes to may only be in use by work launched before the call of upload_ahead
     * that came before this one: a caller fills two sets of memory in turn, and launches what reads a set before it fills the
     * other. New memory is in use (it is being zeroed) until the next sync. */
    enum ecg_status (*upload_ahead)(struct ops_dev *dev, const struct ops_upload *list, int n);
    /* NULL likewise. Does work(context), under a name for profilers. With a graph (*graph NULL at first) the calls on this
     * device that `work` makes are promised to be the same each time: same entries, shapes, numbers and pointers, none of
     * alloc, free, upload, upload_ahead, download, sync, loss and sumsq among them. The backend may then record them and later
     * repeat them without calling `work`. It has called it once, in the usual way, before it records, and may call it again
     * when recording fails; so `work` does nothing else that lasts. */
    enum ecg_status (*run)(struct ops_dev *dev, const char *name, struct ops_graph **graph,
                           enum ecg_status (*work)(void *context), void *context);
    void (*graph_free)(struct ops_dev *dev, struct ops_graph *graph); /* NULL is fine as graph */
    /* How convolutions are done, before conv_ws is asked: "custom" (at first), "cudnn" or "auto" (README, kernels.conv).
     * A sample's results may then depend on the size of its batch in their last bits. NULL: there is one way only.
     * ECG_ERR_FAIL where libraries are missing, saying which. */
    enum ecg_status (*choose_conv)(struct ops_dev *dev, const char *how);

    /* ---------------------------------------------------------------- primitives */

    /* x(B, L, C) = normalised physical values. ecg: int16 (B, n_file_leads, L); scale: (B), physical =
     * ecg*scale; lead[c] (host memory): which file lead becomes channel c. RECORD: (v - mean)/(sd + 1e-8), one mean and
     * population sd over the C leads taken and L samples, in double; LEAD: per lead; NONE: v. */
    enum ecg_status (*input_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int n_file_leads, const int16_t *ecg, const float *scale,
                                 const int *lead, enum ops_normalize normalize, void *x);

    /* y(B,Lout,Cout) = conv(x(B,Lin,Cin), w) + b; b may be NULL. */
    enum ecg_status (*conv_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                const void *x, const float *w, const float *b, void *y,
                                struct ops_ws ws);
    /* dx = */
    enum ecg_status (*conv_bwd_x)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const void *dy, const float *w, void *dx, struct ops_ws ws);
    /* dw +=, db += (db may be NULL) */
    enum ecg_status (*conv_bwd_w)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const void *x, const void *dy, float *dw, float *db,
                                  struct ops_ws ws);

    /* y(M,N) = x(M,K) w(N,K)^T + b(N); all fp32. The head and SE. */
    enum ecg_status (*linear_fwd)(struct ops_dev *dev, int M, int K, int N, const float *x,
                                  const float *w, const float *b, float *y, struct ops_ws ws);
    enum ecg_status (*linear_bwd_x)(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                    const float *w, float *dx, struct ops_ws ws); /* dx = */
    enum ecg_status (*linear_bwd_w)(struct ops_dev *dev, int M, int K, int N, const float *x,
                                    const float *dy, float *dw, float *db,
                                    struct ops_ws ws); /* dw +=, db += */

    /* Training statistics over the B*L rows: mean(C), var(C) (population, /B*L) =. */
    enum ecg_status (*norm_stats)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, float *mean, float *var, struct ops_ws ws);
    /* Folds to scale = gamma/sqrt(var+eps), shift = beta - mean*scale, (C) each, =. With running statistics
     * given (training): running = (1-momentum)*running + momentum*(mean; var*R/(R-1)), R = rows.
     * R must then be at least 2 (ECG_ERR_FAIL). */
    enum ecg_status (*norm_fold)(struct ops_dev *dev, int C, const float *mean, const float *var,
                                 const float *gamma, const float *beta, double eps, float *scale,
                                 float *shift, float *running_mean, float *running_var,
                                 double momentum, double rows);
    /* The sums of `norm` from the gradient dn at n: with xhat = (x - mean)*rstd, dgamma += sum dn*xhat, dbeta += sum dn, and k
     * such that dx = gamma*rstd*(dn - mean(dn) - xhat*mean(dn*xhat)). */
    enum ecg_status (*norm_sums)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 const void *x, const void *dn, const struct ops_norm *norm,
                                 struct ops_ws ws);
    /* dx = k[0]*dn + k[1]*(x - mean) + k[2], of `norm` mean and k alone; `side` (or NULL) adds shortcut_bwd(x, side->dy).
     * dx == dn is allowed without side. */
    enum ecg_status (*norm_dx)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, const void *dn, const struct ops_norm *norm,
                               const struct ops_side *side, void *dx);

    /* a = act(x), see struct ops_act; a == x allowed. */
    enum ecg_status (*act_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const struct ops_act *act, const void *x, void *a);
    /* dn = da * drop * swish'(n), the gradient at n = x*scale + shift (NOT yet through the normalisation);
     * `add`: dn +=. dn == da is allowed when !add. */
    enum ecg_status (*act_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const struct ops_act *act, const void *x, const void *da, int add,
                               void *dn);

    /* m(B,C) = mean over L, fp32 out, double sums in ref. */
    enum ecg_status (*mean_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *x, float *m);
    /* dx = dm/L for every l */
    enum ecg_status (*mean_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const float *dm, void *dx);

    /* Attention pooling in its plain form (Lin et al. 2017, Ilse et al. 2018); all but x and dx fp32, w (C). Scores e(b,l) =
     * sum over C of w*x, of any size; a(B,L) = their softmax over L, =; m(B,C) = sum over L of a*x, =. */
    enum ecg_status (*attention_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                     const void *x, const float *w, float *a, float *m);
    /* From dm(B,C): with u(b,l) = sum over C of dm*x, the gradient at the scores de(B,L) = a*(u - sum over L of a*u), =;
     * dw(C) += sum over B and L of de*x; dx = a*dm + de*w. dw NULL, dx NULL: not wanted. ws: norm_ws(s). */
    enum ecg_status (*attention_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                     const void *x, const float *w, const float *a, const float *dm,
                                     float *de, float *dw, void *dx, struct ops_ws ws);

    /* Elementwise on fp32 vectors of n: swish and sigmoid of the SE branch. y == x, dx == dy allowed. */
    enum ecg_status (*swish_fwd)(struct ops_dev *dev, size_t n, const float *x, float *y);
    enum ecg_status (*swish_bwd)(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                                 float *dx);
    enum ecg_status (*sigmoid_fwd)(struct ops_dev *dev, size_t n, const float *x, float *y);
    enum ecg_status (*sigmoid_bwd)(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                   float *dx);

    /* Shortcut with gate: y(B,Lo,Co) = gate(B,Co)*h(B,Lo,Co) + expand(pool(x(B,Li,Ci))) where pool = identity
     * for S == 1, else max over windows of S samples at l*S - (S-1)/2, samples outside being ZERO, Lo =
     * ceil(Li/S); expand puts Ci channels at offset (Co-Ci)/2, zeros around. gate NULL = 1. Co >= Ci.
     * `s` is the output's shape. */
    enum ecg_status (*shortcut_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                    int Li, int Ci, int S, const void *h, const float *gate,
                                    const void *x, void *y);
    /* The identity's side: dx(B,Li,Ci) = dy routed to each window's first maximum (none when a padded zero is
     * first to win). */
    enum ecg_status (*shortcut_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                    int Li, int Ci, int S, const void *x, const void *dy, void *dx);
    /* The gate's side: dgate(B,C) = sum_l dy*h. */
    enum ecg_status (*gate_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *dy, const void *h, float *dgate);
    /* dh = gate*dy + dm/L, the gradient at conv3's output (dm(B,C) comes back from SE's mean). dh == dy ok. */
    enum ecg_status (*branch_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *dy, const float *gate, const float *dm, void *dh);

    /* Losses. logits (B,N) fp32. Exactly one of labels (uint8; 0, 1, 255 unknown; focal/asl/bce/hill) and
     * targets (fp32; NaN unknown; mse/huber) is used by the kind; the other may be NULL. column_scale (N) or
     * NULL divides z - t (mse, huber: targets in their own units, loss in standard deviations).
     * *loss_sum += sum over known entries (host double), at the latest when sync returns: it must live until then, or
     * until close. dlogits(B,N) = inv_known * dl/dz, 0 where unknown; may be NULL. inv_known = 1 / number of known
     * entries of the step's whole batch. */
    enum ecg_status (*loss)(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                            const float *logits, const uint8_t *labels, const float *targets,
                            const float *column_scale, double inv_known, double *loss_sum,
                            float *dlogits);

    /* *sum = sum of squares of n floats, double, fixed order; like loss_sum it is there when sync returns. */
    enum ecg_status (*sumsq)(struct ops_dev *dev, size_t n, const float *x, double *sum);
    /* x *= a */
    enum ecg_status (*scale)(struct ops_dev *dev, size_t n, double a, float *x);
    enum ecg_status (*fill_zero)(struct ops_dev *dev, void *x, size_t bytes);
    /* PyTorch's Adam/AdamW, in place on p, m, v. */
    enum ecg_status (*adam)(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                            const float *g, float *m, float *v);
    /* PyTorch's SGD: g += wd*p; momentum > 0: m = momentum*m + g (m = g at step 1), g = m; p -= lr*g. */
    enum ecg_status (*sgd)(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                           int64_t step, size_t n, float *p, const float *g, float *m);
    /* average += (1 - decay) * (p - average) */
    enum ecg_status (*ema)(struct ops_dev *dev, size_t n, double decay, const float *p,
                           float *average);

    /* ---------------------------------------------------------------- fused entries */

    /* Bytes of scratch that any entry with a `ws` needs for this convolution (both levels; `backward`: of all passes, else of forward passes); `packed`: those of
     * act_conv_* with packed weights, and of packing them. */
    size_t (*conv_ws)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed, int backward);
    size_t (*linear_ws)(struct ops_dev *dev, int M, int K, int N);
    size_t (*norm_ws)(struct ops_dev *dev, struct ops_blc s);

    /* Bytes of a convolution's packed weights; 0: this backend reads w as it is, and `packed` is NULL. */
    size_t (*conv_packed_bytes)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                int backward);
    /* Packs the weights of n convolutions; ws as large as conv_ws of any of them, packed. */
    enum ecg_status (*conv_pack)(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                                 const struct ops_pack *list, struct ops_ws ws);

    /* y = conv(act(x), w) + b; packed: w packed, or NULL. Optional on the way out: mean, var (Cout): norm_stats of y,
     * =, both or none; y_mean (B,Cout): mean over Lout of y, =, or NULL. */
    enum ecg_status (*act_conv_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                    const struct ops_act *act, const void *x, const float *w,
                                    const void *packed, const float *b, void *y, float *mean,
                                    float *var, float *y_mean, struct ops_ws ws);
    /* Backward of the same. `branch` or `behind` (or neither) stands between dy and y: the gradient at y is branch_bwd(dy) or
     * norm_dx(y, dy). dw +=, db +=; dn = act_bwd(conv_bwd_x(gradient at y)), and `side` (or NULL; only where act has no scale, dn
     * being the gradient at x) adds shortcut_bwd(x, side->dy) to it; `norm` (or NULL; with dn only): the normalisation behind act's scale,
     * norm_sums(x, dn). dn NULL: not wanted; dw NULL: weights frozen, not wanted (db too). packed: w packed with `backward`, or NULL. */
    enum ecg_status (*act_conv_bwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                    const struct ops_act *act, const void *x, const float *w,
                                    const void *packed, const void *dy,
                                    const struct ops_branch *branch,
                                    const struct ops_behind *behind, float *dw, float *db,
                                    const struct ops_side *side, void *dn,
                                    const struct ops_norm *norm, struct ops_ws ws);

    /* The end of a block: shortcut_fwd, and on the way out mean, var (C): norm_stats of y, =; both or none. ws: norm_ws(s). */
    enum ecg_status (*tail_fwd)(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s, int Li,
                                int Ci, int S, const void *h, const float *gate, const void *x,
                                void *y, float *mean, float *var, struct ops_ws ws);

    /* Squeeze and excitation: gate = sigmoid(fc2(swish(fc1(m)))), m(B,C), hidden H. z(B,H) keeps fc1's output
     * for backward. w1 (H,C), w2 (C,H). */
    enum ecg_status (*se_fwd)(struct ops_dev *dev, int B, int C, int H, const float *m,
                              const float *w1, const float *b1, const float *w2, const float *b2,
                              float *z, float *gate, struct ops_ws ws);
    /* dm =; dw1, db1, dw2, db2 += (all four NULL: frozen). */
    enum ecg_status (*se_bwd)(struct ops_dev *dev, int B, int C, int H, const float *m,
                              const float *z, const float *gate, const float *dgate,
                              const float *w1, const float *w2, float *dm, float *dw1, float *db1,
                              float *dw2, float *db2, struct ops_ws ws);
    size_t (*se_ws)(struct ops_dev *dev, int B, int C, int H);
};

/* Fills every fused entry of `t` that is NULL with the composition of its primitives, and every missing *_ws with
 * one that counts what the compositions need over primitives that need nothing. A backend with its own conv_ws or
 * se_ws that leaves act_conv_* or se_* to the composition must count what the composition takes, with these:
 * primitives_ws is what the largest of the primitives called (conv, norm_stats; linear) needs for itself. */
void ops_compose(struct ops *t);
size_t ops_compose_conv_ws(enum ops_dtype dtype, struct ops_conv s, int backward, size_t primitives_ws);
size_t ops_compose_se_ws(int B, int C, int H, size_t linear_ws);
/* *dy becomes the gradient at y: with a branch in memory from the front of ws, with a normalisation behind in the memory that
 * comes with it, else as it is. */
enum ecg_status ops_compose_at_y(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_branch *branch, const struct ops_behind *behind,
                                 const void **dy, struct ops_ws *ws);

const struct ops *ops_ref(void); /* kernels/ref: naive loops, double sums, the oracle */
const struct ops *ops_cpu(void); /* kernels/cpu: the embedded default */

/* The table of a device name ("cpu", "ref", "cuda"); the one place that knows which backends exist. */
enum ecg_status ops_find(const struct ops **out, const char *device);

#ifdef __cplusplus
}
#endif
#endif
