/* SPDX-License-Identifier: MIT
 * The layers behind the mean over time, all fp32: squeeze and excitation, and the head.
 *
 *   se_fwd   z = m W1^T + b1, s = swish(z)                          one launch
 *            gate = sigmoid(s W2^T + b2)                            one launch
 *   se_bwd   dz = (dl W2) * swish'(z), s = swish(z)                 one launch; dl = dgate * gate * (1 - gate)
 *            dm = dz W1;  dw1 += dz^T m, db1;  dw2 += dl^T s, db2   one launch, since none waits for another
 *
 * dl is made where it is read; s goes through memory, since an exponential at each of its many readers would cost as much
 * as their products. */
#include "kernels/cuda/cuda.cuh"

#include <stdio.h>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/linear.cuh"

/* A GPU has more blocks of few rows than of many; weights have rows enough. */
typedef linear_tile<1, 1, 1, 1, 8> fwd_tile;
typedef linear_tile<1, 0, 1, 1, 8> grad_tile;
typedef linear_tile<0, 0, 2, 2, 2> weights_tile;

/* ------------------------------------------------------------------ forward */

struct linear_fwd_args {
    struct linear_args p;
    const float *bias;
    float *out;
    float *swish; /* swish(out), or NULL */
    int sigmoid;  /* out = sigmoid(.) */
};

template <int V>
static __global__ void __launch_bounds__(LINEAR_THREADS, 2)
    linear_fwd_kernel(const struct linear_fwd_args f) {
    typedef fwd_tile T;
    SHARED(float, s, T::FLOATS);
    const int m_tiles = (f.p.M + T::BM - 1) / T::BM;
    const int m0 = (int)blockIdx.x % m_tiles * T::BM, n0 = (int)blockIdx.x / m_tiles * T::BN;

    linear_product<T, V>(f.p, s, m0, n0, 0);
    for (int i = (int)threadIdx.x; i < T::BM * T::BN; i += LINEAR_THREADS) {
        const int m = m0 + i / T::BN, n = n0 + i % T::BN;
        const size_t at = (size_t)m * f.p.N + n;
        if (m >= f.p.M || n >= f.p.N) continue;
        const float v = linear_total<T>(s, i / T::BN, i % T::BN) + f.bias[n];
        f.out[at] = f.sigmoid ? sigmoid_of(v) : v;
        if (f.swish) f.swish[at] = swish_of(v);
    }
}

/* ------------------------------------------------------------------ backward */

struct linear_grad_args {
    struct linear_args p;
    const float *z; /* out = . * swish'(z), and s = swish(z); or NULL both */
    float *out, *s;
};

/* out +=, sums +=. */
struct linear_weights_args {
    struct linear_args p;
    float *out, *sums;
};

struct linear_back_args {
    struct linear_grad_args x;
    struct linear_weights_args w[2];
    int x_blocks, w_blocks[2]; /* 0: nothing to do */
};

template <int V> DEVICE void back_x(const struct linear_grad_args &g, float *shared, int block) {
    typedef grad_tile T;
    const int m_tiles = (g.p.M + T::BM - 1) / T::BM;
    const int m0 = block % m_tiles * T::BM, n0 = block / m_tiles * T::BN;

    linear_product<T, V>(g.p, shared, m0, n0, 0);
    for (int i = (int)threadIdx.x; i < T::BM * T::BN; i += LINEAR_THREADS) {
        const int m = m0 + i / T::BN, n = n0 + i % T::BN;
        const size_t at = (size_t)m * g.p.N + n;
        if (m >= g.p.M || n >= g.p.N) continue;
        const float v = linear_total<T>(shared, i / T::BN, i % T::BN);
        const float z = g.z ? g.z[at] : 0.0f;
        g.out[at] = g.z ? v * swish_slope_of(z) : v;
        if (g.z) g.s[at] = swish_of(z);
    }
}

template <int V> DEVICE void back_w(const struct linear_weights_args &w, float *shared, int block) {
    typedef weights_tile T;
    const int m_tiles = (w.p.M + T::BM - 1) / T::BM;
    const int m0 = block % m_tiles * T::BM, n0 = block / m_tiles * T::BN;

    linear_product<T, V>(w.p, shared, m0, n0, n0 == 0);
    for (int i = (int)threadIdx.x; i < T::BM * T::BN; i += LINEAR_THREADS) {
        const int m = m0 + i / T::BN, n = n0 + i % T::BN;
        if (m >= w.p.M || n >= w.p.N) continue;
        w.out[(size_t)m * w.p.N + n] += linear_total<T>(shared, i / T::BN, i % T::BN);
    }
    const int m = (int)threadIdx.x;
    if (n0 == 0 && m < T::BM && m0 + m < w.p.M) w.sums[m0 + m] += linear_row_total<T>(shared, m);
}

template <int V>
static __global__ void __launch_bounds__(LINEAR_THREADS, 2)
    linear_back_kernel(const struct linear_back_args p) {
    constexpr int X = grad_tile::FLOATS, W = weights_tile::FLOATS;
    SHARED(float, s, X > W ? X : W);
    const int block = (int)blockIdx.x - p.x_blocks;

    if (block < 0) {
        back_x<V>(p.x, s, (int)blockIdx.x);
    } else {
        const int second = block >= p.w_blocks[0];
        const struct linear_weights_args w = second ? p.w[1] : p.w[0];
        back_w<V>(w, s, second ? block - p.w_blocks[0] : block);
    }
}

/* ------------------------------------------------------------------ host */

template <class T> static int tiles_of(const struct linear_args &p) {
    return cuda_ceil_div(p.M, T::BM) * cuda_ceil_div(p.N, T::BN);
}

static enum ecg_status done(struct ops_dev *dev, const char *op, int M, int K, int N) {
    char shape[64];
    snprintf(shape, sizeof shape, "M %d, K %d, N %d", M, K, N);
    return cuda_done(dev, op, shape);
}

/* Sizes are a 1x1 convolution's over M samples in a row. */
static enum ecg_status check(const char *op, int M, int K, int N) {
    const struct ops_conv conv = {1, M, M, K, N, 1, 1, 1, 0};
    return cuda_check_conv(op, OPS_F32, conv);
}

static void launch_fwd(struct ops_dev *dev, const struct linear_fwd_args &f) {
    const int blocks = tiles_of<fwd_tile>(f.p);
    if (f.p.K % 4 == 0)
        LAUNCH((linear_fwd_kernel<4>), blocks, LINEAR_THREADS, 0, dev->stream, f);
    else
        LAUNCH((linear_fwd_kernel<1>), blocks, LINEAR_THREADS, 0, dev->stream, f);
}

/* Of a layer, or of both: all their lines are K or N floats long. */
static void launch_back(struct ops_dev *dev, int K, int N, const struct linear_back_args &p) {
    const int blocks = p.x_blocks + p.w_blocks[0] + p.w_blocks[1];
    if (K % 4 == 0 && N % 4 == 0)
        LAUNCH((linear_back_kernel<4>), blocks, LINEAR_THREADS, 0, dev->stream, p);
    else
        LAUNCH((linear_back_kernel<1>), blocks, LINEAR_THREADS, 0, dev->stream, p);
}

/* A layer's parts: y(M,N) = x(M,K) w(N,K)^T + b. */
static struct linear_fwd_args fwd_of(int M, int K, int N, const float *x, const float *w,
                                     const float *b, float *y) {
    const struct linear_args p = {M, N, K, x, w, NULL};
    const struct linear_fwd_args f = {p, b, y, NULL, 0};
    return f;
}

static void add_x(struct linear_back_args *back, int M, int K, int N, const float *dy,
                  const float *gate, const float *w, float *dx) {
    const struct linear_args p = {M, K, N, dy, w, gate};
    back->x.p = p;
    back->x.out = dx;
    back->x_blocks = tiles_of<grad_tile>(p);
}

static void add_w(struct linear_back_args *back, int i, int M, int K, int N, const float *x,
                  const float *dy, const float *gate, float *dw, float *db) {
    const struct linear_args p = {N, K, M, dy, x, gate};
    const struct linear_weights_args w = {p, dw, db};
    back->w[i] = w;
    back->w_blocks[i] = tiles_of<weights_tile>(p);
}

/* ------------------------------------------------------------------ one layer */

enum ecg_status cuda_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                                const float *w, const float *b, float *y, struct ops_ws ws) {
    (void)ws;
    TRY(check("linear_fwd", M, K, N));
    launch_fwd(dev, fwd_of(M, K, N, x, w, b, y));
    return done(dev, "linear_fwd", M, K, N);
}

enum ecg_status cuda_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                  const float *w, float *dx, struct ops_ws ws) {
    struct linear_back_args back = {};
    (void)ws;
    TRY(check("linear_bwd_x", M, K, N));
    add_x(&back, M, K, N, dy, NULL, w, dx);
    launch_back(dev, K, N, back);
    return done(dev, "linear_bwd_x", M, K, N);
}

enum ecg_status cuda_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                  const float *dy, float *dw, float *db, struct ops_ws ws) {
    struct linear_back_args back = {};
    (void)ws;
    TRY(check("linear_bwd_w", M, K, N));
    add_w(&back, 0, M, K, N, x, dy, NULL, dw, db);
    launch_back(dev, K, N, back);
    return done(dev, "linear_bwd_w", M, K, N);
}

/* ------------------------------------------------------------------ squeeze and excitation */

static size_t hidden_bytes(int B, int H) {
    return (size_t)B * (size_t)H * sizeof(float);
}

/* swish(z) and dz. */
size_t cuda_se_ws(struct ops_dev *dev, int B, int C, int H) {
    (void)dev, (void)C;
    return 2 * cuda_room(hidden_bytes(B, H));
}

enum ecg_status cuda_se_fwd(struct ops_dev *dev, int B, int C, int H, const float *m,
                            const float *w1, const float *b1, const float *w2, const float *b2,
                            float *z, float *gate, struct ops_ws ws) {
    TRY(check("se_fwd", B, C, H));
    float *s = (float *)cuda_take(&ws, hidden_bytes(B, H));
    if (!s) return cuda_too_small("se_fwd", ws);

    struct linear_fwd_args squeeze = fwd_of(B, C, H, m, w1, b1, z);
    squeeze.swish = s;
    launch_fwd(dev, squeeze);
    TRY(done(dev, "se_fwd", B, C, H));
    struct linear_fwd_args excite = fwd_of(B, H, C, s, w2, b2, gate);
    excite.sigmoid = 1;
    launch_fwd(dev, excite);
    return done(dev, "se_fwd", B, H, C);
}

enum ecg_status cuda_se_bwd(struct ops_dev *dev, int B, int C, int H, const float *m,
                            const float *z, const float *gate, const float *dgate, const float *w1,
                            const float *w2, float *dm, float *dw1, float *db1, float *dw2,
                            float *db2, struct ops_ws ws) {
    TRY(check("se_bwd", B, C, H));
    float *s = (float *)cuda_take(&ws, hidden_bytes(B, H));
    float *dz = (float *)cuda_take(&ws, hidden_bytes(B, H));
    if (!s || !dz) return cuda_too_small("se_bwd", ws);

    struct linear_back_args excite = {};
    add_x(&excite, B, H, C, dgate, gate, w2, dz);
    excite.x.z = z;
    excite.x.s = s;
    launch_back(dev, C, H, excite);
    TRY(done(dev, "se_bwd", B, H, C));

    struct linear_back_args rest = {};
    add_x(&rest, B, C, H, dz, NULL, w1, dm);
    if (dw1) {
        add_w(&rest, 0, B, C, H, m, dz, NULL, dw1, db1);
        add_w(&rest, 1, B, H, C, s, dgate, gate, dw2, db2);
    }
    launch_back(dev, C, H, rest);
    return done(dev, "se_bwd", B, C, H);
}
