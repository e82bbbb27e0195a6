/* SPDX-License-Identifier: MIT
 * Every rank knows what every other has (rank_value), so each holds the results against its own serial computation. */
#include "tests/support/ranks.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "tests/support/check.h"
#include "train/comm/comm.h"

#define N_BUCKETS 9
static const size_t bucket_sizes[N_BUCKETS] = {0, 1, 2, 3, 7, 1000, 65537, 1048576 + 37, 5};

/* Value i of a rank's bucket: of many magnitudes, and where ranks 0 and 1 cancel each other what the others have is only seen if it is
 * added after both, so that another order of the sum shows. */
static float rank_value(int rank, size_t bucket, size_t i) {
    if (i % 4 == 0 && rank < 2) return ldexpf(rank == 0 ? 3 : -3, 90);
    uint64_t x = ((uint64_t)rank << 48) ^ ((uint64_t)bucket << 40) ^ i;
    x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 32)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return ldexpf((float)(int32_t)(uint32_t)x, (int)(x >> 60) * 3 - 50);
}

static float serial_sum(int size, size_t bucket, size_t i) {
    double sum = rank_value(0, bucket, i);
    for (int r = 1; r < size; r++) sum += rank_value(r, bucket, i);
    return (float)sum;
}

static enum ecg_status wrong(const char *what, size_t i) {
    return ecg_fail(ECG_ERR_DATA, "%s differs from the serial one at %zu", what, i);
}

/* All buckets in flight at once, waited for in the other order for odd rounds. */
static enum ecg_status check_buckets(struct comm *c, float **x, int round) {
    struct comm_request requests[N_BUCKETS] = {0};
    const int rank = comm_rank(c), size = comm_size(c);
    const uint64_t before = comm_bytes_sent(c);
    double floats = 0;
    for (size_t b = 0; b < N_BUCKETS; b++) {
        for (size_t i = 0; i < bucket_sizes[b]; i++) x[b][i] = rank_value(rank, b, i);
        TRY(comm_sum_start(c, &requests[b], x[b], bucket_sizes[b]));
        floats += (double)bucket_sizes[b];
    }
    for (size_t k = 0; k < N_BUCKETS; k++) {
        const size_t b = round % 2 ? N_BUCKETS - 1 - k : k;
        TRY(comm_wait(c, &requests[b]));
        if (!comm_done(c, &requests[b])) return ecg_fail(ECG_ERR_DATA, "waited for, not done");
        for (size_t i = 0; i < bucket_sizes[b]; i++) {
            const float y = serial_sum(size, b, i);
            if (memcmp(&x[b][i], &y, sizeof(y)) != 0) return wrong("a bucket", i);
        }
    }
    /* Over all ranks exactly 2 (size - 1) times the buckets. */
    double bytes = (double)(comm_bytes_sent(c) - before);
    TRY(comm_sum_double(c, &bytes, 1));
    if (bytes != 2.0 * (size - 1) * 4 * floats)
        return ecg_fail(ECG_ERR_DATA, "%.0f bytes were sent for %.0f floats", bytes, floats);
    return ECG_OK;
}

static enum ecg_status check_sums(struct comm *c) {
    float *x[N_BUCKETS];
    enum ecg_status status = ECG_OK;
    for (size_t b = 0; b < N_BUCKETS; b++) x[b] = malloc(sizeof(float) * (bucket_sizes[b] + 1));
    for (int round = 0; round < 3 && status == ECG_OK; round++) status = check_buckets(c, x, round);
    for (size_t b = 0; b < N_BUCKETS; b++) free(x[b]);
    return status;
}

static enum ecg_status check_doubles(struct comm *c) {
    const int rank = comm_rank(c), size = comm_size(c);
    double x[3] = {rank_value(rank, 20, 0), 1e-3 * (rank + 1), -rank}, sum[3] = {0};
    double most[3] = {rank == size - 1 ? 7 : -7, NAN, -1 - rank};
    for (int r = 0; r < size; r++) {
        const double y[3] = {rank_value(r, 20, 0), 1e-3 * (r + 1), -r};
        for (int i = 0; i < 3; i++) sum[i] = r == 0 ? y[i] : sum[i] + y[i];
    }
    if (rank != 0) most[1] = 3; /* rank 0's NaN stays */
    TRY(comm_sum_double(c, x, 3));
    TRY(comm_max_double(c, most, 3));
    if (memcmp(x, sum, sizeof(x)) != 0) return wrong("a sum of doubles", 0);
    if (most[0] != 7 || !isnan(most[1]) || most[2] != -1) return wrong("a maximum", 0);
    double *many = malloc(sizeof(double) * 300001);
    for (size_t i = 0; i < 300001; i++) many[i] = (double)(rank + 1) * (double)i;
    enum ecg_status status = comm_sum_double(c, many, 300001);
    for (size_t i = 0; status == ECG_OK && i < 300001; i++)
        if (many[i] != 0.5 * size * (size + 1) * (double)i) status = wrong("many doubles", i);
    free(many);
    return status;
}

static enum ecg_status check_broadcast(struct comm *c) {
    static const size_t sizes[] = {0, 1, 3, 1001, (9 << 20) + 5};
    const int rank = comm_rank(c), size = comm_size(c);
    unsigned char *data = malloc(sizes[4]);
    enum ecg_status status = ECG_OK;
    for (int root = 0; root < size && status == ECG_OK; root++)
        for (size_t k = 0; k < 5 && status == ECG_OK; k++) {
            for (size_t i = 0; i < sizes[k]; i++)
                data[i] = rank == root ? (unsigned char)(i * 31 + (size_t)root) : 255;
            status = comm_broadcast(c, data, sizes[k], root);
            for (size_t i = 0; i < sizes[k] && status == ECG_OK; i++)
                if (data[i] != (unsigned char)(i * 31 + (size_t)root)) status = wrong("a byte", i);
        }
    free(data);
    return status;
}

/* Rank r has `scale` r bytes: rank 0 none, and more than one piece where scale is large. */
static enum ecg_status check_gather(struct comm *c, size_t scale) {
    const int rank = comm_rank(c), size = comm_size(c);
    size_t counts[64], total = 0;
    TRY(comm_gather_counts(c, scale * (size_t)rank, counts));
    for (int r = 0; r < size; r++) {
        if (counts[r] != scale * (size_t)r) return wrong("a count", (size_t)r);
        total += counts[r];
    }
    unsigned char *mine = malloc(counts[rank] + 1), *all = malloc(total + 1);
    for (size_t i = 0; i < counts[rank]; i++) mine[i] = (unsigned char)(i * 7 + (size_t)rank);
    enum ecg_status status = comm_gather(c, mine, counts, all);
    size_t at = 0;
    for (int r = 0; r < size && status == ECG_OK; r++)
        for (size_t i = 0; i < counts[r] && status == ECG_OK; i++, at++)
            if (all[at] != (unsigned char)(i * 7 + (size_t)r))
                status = wrong("a gathered byte", at);
    free(mine);
    free(all);
    return status;
}

static enum ecg_status check_all(struct comm *c) {
    TRY(check_sums(c));
    TRY(check_doubles(c));
    TRY(check_broadcast(c));
    TRY(check_gather(c, 1));
    TRY(check_gather(c, 3000001));
    TRY(comm_check(c));
    printf("rank %d of %d, local %d, by %s\n", comm_rank(c), comm_size(c), comm_local_rank(c),
           comm_backend(c));
    return comm_barrier(c);
}

static void sleep_for(double seconds) {
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&t, NULL);
}

/* What the victim does in its 10th step. */
static enum ecg_status misbehave(struct comm *c, const char *task) {
    float x[5] = {0};
    if (strcmp(task, "kill") == 0 || strcmp(task, "deaf") == 0) raise(SIGKILL);
    if (strcmp(task, "stop") == 0) raise(SIGSTOP);
    if (strcmp(task, "sleep") == 0) sleep_for(1000);
    if (strcmp(task, "mismatch") == 0) return comm_sum(c, x, 5);
    if (strcmp(task, "abort") == 0) return ecg_fail(ECG_ERR_IO, "the disk is full");
    return ecg_fail(ECG_ERR_FAIL, "no task %s", task);
}

static enum ecg_status steps(struct comm *c, const char *task, int victim) {
    float x[1001] = {0};
    for (int step = 0;; step++) {
        struct comm_request a = {0}, b = {0};
        if (step == 10 && comm_rank(c) == victim && strcmp(task, "leave") == 0) return ECG_OK;
        if (step == 10 && comm_rank(c) == victim) TRY(misbehave(c, task));
        if (step == 10 && strcmp(task, "deaf") == 0) sleep_for(1000);
        TRY(comm_sum_start(c, &a, x, 1000));
        TRY(comm_sum_start(c, &b, x + 1000, 1));
        sleep_for(0.002);
        TRY(comm_wait(c, &a));
        TRY(comm_wait(c, &b));
    }
}

int ranks_run(const char *task, int victim, const char *backend) {
    struct comm_options options;
    struct comm *c = NULL;
    enum ecg_status status = comm_options_init(&options);
    options.backend = backend;
    if (status == ECG_OK) status = comm_open(&c, &options);
    if (status == ECG_OK)
        status = strcmp(task, "sums") == 0 ? check_all(c) : steps(c, task, victim);
    status = comm_close(c, status);
    if (status != ECG_OK) log_error("%s", ecg_message());
    return ecg_exit_code(status);
}

/* ---- processes of a test ---- */

static const char *const launch_variables[] = {"OMPI_COMM_WORLD_RANK",
                                               "OMPI_COMM_WORLD_SIZE",
                                               "OMPI_COMM_WORLD_LOCAL_RANK",
                                               "OMPI_COMM_WORLD_LOCAL_SIZE",
                                               "OMPI_MCA_ess_base_jobid",
                                               "SLURM_PROCID",
                                               "SLURM_STEP_NUM_TASKS",
                                               "SLURM_LOCALID",
                                               "SLURM_NTASKS",
                                               "SLURM_JOB_ID",
                                               "SLURM_STEP_ID",
                                               "SLURM_STEP_NODELIST",
                                               "SLURM_JOB_NODELIST",
                                               "RANK",
                                               "WORLD_SIZE",
                                               "LOCAL_RANK",
                                               "MASTER_ADDR",
                                               "MASTER_PORT",
                                               "TORCHELASTIC_RUN_ID",
                                               "TORCHELASTIC_USE_AGENT_STORE",
                                               "PMI_RANK",
                                               "PMI_SIZE",
                                               "PMIX_RANK",
                                               "EINTHOVEN_COMM_TOKEN"};

void ranks_launch(const char *variables) {
    char text[1000], *rest = text, *one;
    for (size_t i = 0; i < sizeof launch_variables / sizeof *launch_variables; i++)
        unsetenv(launch_variables[i]);
    snprintf(text, sizeof text, "%s", variables);
    while ((one = strsep(&rest, " ")) != NULL) {
        char *value = strchr(one, '=');
        if (value == NULL) continue;
        *value++ = '\0';
        setenv(one, value, 1);
    }
}

int ranks_port(void) {
    static int port;
    if (port == 0) port = 12000 + (int)(getpid() % 6000);
    return port++;
}

void ranks_start(struct ranks_group *g, int size, const char *name, int (*fn)(void *),
                 void *context) {
    const int port = ranks_port();
    *g = (struct ranks_group){.size = size};
    fflush(NULL);
    for (int r = 0; r < size; r++) {
        snprintf(g->errors[r], sizeof g->errors[r], "%s/%s-%d", check_tmp(), name, r);
        g->codes[r] = -1;
        g->pids[r] = fork();
        if (g->pids[r] != 0) continue;
        char variables[200];
        snprintf(variables, sizeof variables,
                 "RANK=%d WORLD_SIZE=%d MASTER_ADDR=localhost MASTER_PORT=%d", r, size, port);
        ranks_launch(variables);
        if (freopen(g->errors[r], "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL)
            _exit(99);
        _exit(fn(context));
    }
}

void ranks_wait(struct ranks_group *g, int except, double seconds) {
    const double start = log_clock();
    int left = g->size - (except >= 0);
    while (left > 0 && log_clock() - start < seconds) {
        const struct timespec pause = {0, 5000000};
        for (int r = 0; r < g->size; r++) {
            int status;
            if (g->codes[r] >= 0 || waitpid(g->pids[r], &status, WNOHANG) != g->pids[r]) continue;
            g->codes[r] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            g->ended[r] = log_clock() - start;
            left -= r != except;
        }
        nanosleep(&pause, NULL);
    }
    for (int r = 0; r < g->size; r++) {
        if (g->codes[r] >= 0) continue;
        kill(g->pids[r], SIGKILL);
        waitpid(g->pids[r], NULL, 0);
    }
}

bool ranks_said(const struct ranks_group *g, int r, const char *text) {
    char buffer[8192];
    FILE *f = fopen(g->errors[r], "r");
    if (f == NULL) return false;
    buffer[fread(buffer, 1, sizeof buffer - 1, f)] = '\0';
    fclose(f);
    if (strstr(buffer, text) != NULL) return true;
    printf("        \"%s\" is not in: %s\n", text, buffer);
    return false;
}
