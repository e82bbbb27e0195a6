/* SPDX-License-Identifier: MIT
 * A stand-in for cuBLAS: products of column-major matrices with sums in fp32. */
#include "library.h"

enum { OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, GEMM_DEFAULT = -1, NO_REDUCED_REDUCTION = 16 };
static const uint64_t alive = 0x63756265;

struct handle {
    uint64_t alive;
    cudaStream_t stream;
    bool has_workspace;
    int math;
};

struct matrix {
    const void *p;
    int type, ld, rows, columns; /* as stored: column by column, ld elements apart */
    bool transposed;             /* as used */
};

static size_t element_size(int type) {
    return type == R_32F ? 4 : 2;
}

static float get(const struct matrix *m, size_t i, size_t j) {
    const size_t at = m->transposed ? i * (size_t)m->ld + j : j * (size_t)m->ld + i;
    if (m->type == R_32F) return ((const float *)m->p)[at];
    return __uint_as_float((uint32_t)((const uint16_t *)m->p)[at] << 16);
}

static void moves(const struct matrix *m, bool write) {
    for (int j = 0; j < m->columns; j++)
        emu_moves((const char *)m->p + (size_t)j * m->ld * element_size(m->type),
                  (size_t)m->rows * element_size(m->type), write);
}

static bool is_fit(const struct matrix *m) {
    return (m->type == R_32F || m->type == R_16BF) && m->rows > 0 && m->columns > 0 &&
           m->ld >= m->rows &&
           emu_holds(m->p, (size_t)m->ld * (size_t)(m->columns - 1) + (size_t)m->rows,
                     element_size(m->type));
}

/* A tile of products at a time, as such libraries add. */
static float dot(const struct matrix *a, const struct matrix *b, int i, int j, int k) {
    float sum = 0;
    for (int from = 0; from < k; from += 64) {
        float part = 0;
        for (int p = from; p < k && p < from + 64; p++)
            part += get(a, (size_t)i, (size_t)p) * get(b, (size_t)p, (size_t)j);
        sum += part;
    }
    return sum;
}

static void multiply(struct matrix a, struct matrix b, struct matrix c, int k, float alpha,
                     float beta) {
    moves(&a, false);
    moves(&b, false);
    if (beta != 0) moves(&c, false);
    moves(&c, true);
    for (int j = 0; j < c.columns; j++)
        for (int i = 0; i < c.rows; i++) {
            const size_t at = (size_t)j * (size_t)c.ld + (size_t)i;
            float sum = dot(&a, &b, i, j, k);
            sum = alpha * sum + (beta != 0 ? beta * get(&c, (size_t)i, (size_t)j) : 0.0f);
            if (emu_libraries_are("wrong")) sum *= 1.5f;
            if (c.type == R_32F)
                ((float *)c.p)[at] = sum;
            else
                ((uint16_t *)c.p)[at] = emu_bf16(sum);
        }
}

extern "C" {

int cublasGetProperty(int property, int *value) {
    static const int version[3] = {13, 0, 0};
    if (property < 0 || property > 2) return INVALID_VALUE;
    *value = version[property];
    return OK;
}

const char *cublasGetStatusString(int status) {
    return status == OK ? "CUBLAS_STATUS_SUCCESS" : "refused by the stand-in";
}

int cublasCreate_v2(void **out) {
    *out = new handle{alive, NULL, false, 0};
    return OK;
}

int cublasDestroy_v2(void *p) {
    struct handle *h = (struct handle *)p;
    if (h == NULL || h->alive != alive)
        return emu_refuse(NOT_INITIALIZED, "cublasDestroy: no handle");
    h->alive = 0;
    delete h;
    return OK;
}

/* As the library does: the user's workspace is forgotten. */
int cublasSetStream_v2(void *p, cudaStream_t stream) {
    struct handle *h = (struct handle *)p;
    h->stream = stream;
    h->has_workspace = false;
    return OK;
}

int cublasSetWorkspace_v2(void *p, void *workspace, size_t bytes) {
    struct handle *h = (struct handle *)p;
    if (!emu_holds(workspace, bytes, 1) || (uintptr_t)workspace % 256 != 0)
        return emu_refuse(INVALID_VALUE, "cublasSetWorkspace: not device memory");
    h->has_workspace = true;
    return OK;
}

int cublasSetMathMode(void *p, int mode) {
    ((struct handle *)p)->math = mode;
    return OK;
}

int cublasGemmEx(void *p, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
                 int type_a, int lda, const void *b, int type_b, int ldb, const void *beta, void *c,
                 int type_c, int ldc, int compute, int algo) {
    const struct handle *h = (const struct handle *)p;
    if (h == NULL || h->alive != alive)
        return emu_refuse(NOT_INITIALIZED, "cublasGemmEx: no handle");
    if (!h->has_workspace || h->math != NO_REDUCED_REDUCTION)
        return emu_refuse(INVALID_VALUE,
                          "cublasGemmEx: workspace or mode not set: no fixed results");
    if (compute != COMPUTE_32F || algo != GEMM_DEFAULT || (op_a != 0 && op_a != 1) ||
        (op_b != 0 && op_b != 1) || type_a != type_b || (type_a == R_32F && type_c != R_32F))
        return emu_refuse(NOT_SUPPORTED, "cublasGemmEx: types %d, %d, %d, compute %d, algorithm %d",
                          type_a, type_b, type_c, compute, algo);
    if (emu_is_device(alpha) || emu_is_device(beta))
        return emu_refuse(INVALID_VALUE, "cublasGemmEx: alpha, beta not in host memory");
    const struct matrix A = {a, type_a, lda, op_a ? k : m, op_a ? m : k, op_a != 0},
                        B = {b, type_b, ldb, op_b ? n : k, op_b ? k : n, op_b != 0},
                        C = {c, type_c, ldc, m, n, false};
    if (!is_fit(&A) || !is_fit(&B) || !is_fit(&C))
        return emu_refuse(INVALID_VALUE,
                          "cublasGemmEx: m %d, n %d, k %d, ld %d, %d, %d: not all there", m, n, k,
                          lda, ldb, ldc);
    const float by = *(const float *)alpha, kept = *(const float *)beta;
    emu_library_work("cublasGemmEx", h->stream, [=] { multiply(A, B, C, k, by, kept); });
    return OK;
}
}
