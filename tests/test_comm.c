/* SPDX-License-Identifier: MIT
 * train/comm: who this process is, by every launcher's environment; the operations of 1 to 4 processes over TCP, bit for bit;
 * ranks that die, hang, stop, leave or differ are named to all others in time; strangers at the port.
 *     test_comm task NAME VICTIM BACKEND     is one rank, for mpirun and srun (test_comm.sh) */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "tests/support/check.h"
#include "tests/support/ranks.h"
#include "train/comm/comm.h"
#include "train/comm/gate.h"
#include "train/comm/hostlist.h"
#include "train/comm/siphash.h"
#include "train/comm/world.h"

/* ---- who am I ---- */

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

/* The environment of a launch, and no other's: "RANK=0 WORLD_SIZE=2". */
static void launch(const char *variables) {
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

static bool is_world(const char *variables, const char *source, int rank, int size, int local,
                     const char *host) {
    struct comm_world w;
    launch(variables);
    if (!CHECK_OK(world_find(&w))) return false;
    const bool same = w.rank == rank && w.size == size && w.local_rank == local &&
                      strcmp(w.source, source) == 0 && strcmp(w.host, host) == 0;
    if (!same)
        printf("        %s: got %s %d/%d local %d host %s\n", variables, w.source, w.rank, w.size,
               w.local_rank, w.host);
    return same;
}

static void world_from_every_launcher(void) {
    CHECK(is_world("", "", 0, 1, 0, ""));
    CHECK(is_world("SLURM_NTASKS=1 SLURM_PROCID=0", "", 0, 1, 0, ""));
    CHECK(is_world("OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 "
                   "OMPI_COMM_WORLD_LOCAL_SIZE=2",
                   "mpirun", 3, 4, 1, ""));
    CHECK(is_world("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1 "
                   "OMPI_COMM_WORLD_LOCAL_SIZE=2 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1",
                   "mpirun", 1, 2, 1, "127.0.0.1"));
    CHECK(is_world("SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 "
                   "SLURM_STEP_NODELIST=n[03-04,7],m1 SLURM_JOB_NODELIST=x1",
                   "srun", 5, 8, 1, "n03"));
    CHECK(is_world("RANK=1 WORLD_SIZE=2 MASTER_ADDR=h", "torchrun", 1, 2, -1, "h"));
    CHECK(is_world("RANK=9 WORLD_SIZE=16 LOCAL_RANK=1 MASTER_ADDR=h TORCHELASTIC_RUN_ID=a "
                   "SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0",
                   "torchrun", 9, 16, 1, "h"));
    CHECK(
        is_world("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 RANK=1 WORLD_SIZE=2 PMI_RANK=1 PMI_SIZE=2 "
                 "MASTER_ADDR=h",
                 "srun", 1, 2, -1, "h"));
    CHECK(is_world("PMI_RANK=2 PMI_SIZE=3", "PMI", 2, 3, -1, ""));
}

static void ports_and_tokens(void) {
    struct comm_world a, b;
    launch("RANK=0 WORLD_SIZE=2 MASTER_PORT=1234 EINTHOVEN_COMM_TOKEN=secret");
    CHECK(world_find(&a) == ECG_OK && a.port == 1234 && strcmp(a.token, "secret") == 0);
    launch("RANK=0 WORLD_SIZE=2");
    CHECK(world_find(&a) == ECG_OK && a.port == 29500);
    launch("RANK=0 WORLD_SIZE=2 MASTER_PORT=1234 TORCHELASTIC_RUN_ID=a "
           "TORCHELASTIC_USE_AGENT_STORE=True");
    CHECK(world_find(&a) == ECG_OK && a.port != 1234); /* torchrun listens there itself */
    launch("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=77 SLURM_STEP_ID=0");
    CHECK_OK(world_find(&a));
    launch("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=77 SLURM_STEP_ID=0");
    CHECK_OK(world_find(&b));
    CHECK(a.port == b.port && strcmp(a.token, b.token) == 0 && a.port >= 20000 && a.port < 32000);
    launch("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=78 SLURM_STEP_ID=0");
    CHECK_OK(world_find(&b));
    CHECK(a.port != b.port && strcmp(a.token, b.token) != 0);
}

static void broken_launches(void) {
    static const char *const cases[][2] = {
        {"SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 RANK=0 WORLD_SIZE=1",
         "broken launch: srun says rank 1"},
        {"SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 PMI_RANK=0 PMI_SIZE=1", "PMI says rank 0 of 1"},
        {"RANK=0 WORLD_SIZE=2 PMI_RANK=1 PMI_SIZE=2", "unset what was left over"},
        {"RANK=0", "WORLD_SIZE is not"},
        {"WORLD_SIZE=4", "RANK is not"},
        {"PMIX_RANK=1", "nothing says of how many"},
        {"RANK=2 WORLD_SIZE=2", "numbered from 0"},
        {"RANK=0 WORLD_SIZE=0", "numbered from 0"},
        {"RANK=-1 WORLD_SIZE=2", "not a number"},
        {"RANK=0x WORLD_SIZE=2", "not a number"},
        {"RANK=99999999999999999999 WORLD_SIZE=2", "not a number"},
        {"RANK=0 WORLD_SIZE=2 MASTER_PORT=65536", "MASTER_PORT=65536"},
        {"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=n[3-", "node list"},
    };
    struct comm_world w;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        launch(cases[i][0]);
        CHECK_FAILS(world_find(&w), ECG_ERR_FAIL, cases[i][1]);
    }
    launch("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4");
    CHECK_OK(world_find(&w));
    CHECK_OK(world_check_mpi(&w, 1, 4));
    CHECK_FAILS(world_check_mpi(&w, 0, 1), ECG_ERR_FAIL, "MPI says rank 0 of 1");
    struct comm_options options;
    struct comm *c;
    CHECK_OK(comm_options_init(&options));
    options.backend = "single";
    CHECK_FAILS(comm_open(&c, &options), ECG_ERR_FAIL, "srun started 4 processes");
    options.backend = "smoke";
    CHECK_FAILS(comm_open(&c, &options), ECG_ERR_CONFIG, "known are");
    setenv("EINTHOVEN_COMM_TIMEOUT", "nan", 1);
    CHECK_FAILS(comm_options_init(&options), ECG_ERR_FAIL, "EINTHOVEN_COMM_TIMEOUT=nan");
    unsetenv("EINTHOVEN_COMM_TIMEOUT");
}

static void node_lists(void) {
    static const struct {
        const char *list;
        size_t index;
        const char *host; /* NULL: fails */
    } cases[] = {
        {"n[01-03,07],m1", 0, "n01"},
        {"n[01-03,07],m1", 2, "n03"},
        {"n[01-03,07],m1", 3, "n07"},
        {"n[01-03,07],m1", 4, "m1"},
        {"n[01-03,07],m1", 5, NULL},
        {"a", 0, "a"},
        {"a,b-2.x", 1, "b-2.x"},
        {"r[1-2]n[0-3]-ib", 0, "r1n0-ib"},
        {"r[1-2]n[0-3]-ib", 5, "r2n1-ib"},
        {"n[9-11]", 1, "n10"},
        {"n[098-101]", 2, "n100"},
        {"", 0, NULL},
        {"n[1-", 0, NULL},
        {"n[1", 0, NULL},
        {"n[]", 0, NULL},
        {"n[3-1]", 0, NULL},
        {"n]1[", 0, NULL},
        {"n[1-2,]", 0, NULL},
        {",n", 0, NULL},
        {"n[a-b]", 0, NULL},
        {"n[[1-2]]", 0, NULL},
        {"n[1-99999999999]", 0, NULL},
        {"a[0-999999999][0-999999999][0-999999999]", 0, NULL},
        {"n[1][1][1][1][1][1][1][1][1]", 0, NULL},
    };
    char host[16];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].host == NULL)
            CHECK_FAILS(hostlist_at(cases[i].list, cases[i].index, host, sizeof host), ECG_ERR_FAIL,
                        "node list");
        else if (CHECK_OK(hostlist_at(cases[i].list, cases[i].index, host, sizeof host)))
            CHECK_STR(host, cases[i].host);
    }
    CHECK_FAILS(hostlist_at("a-very-long-name-of-a-host", 0, host, sizeof host), ECG_ERR_FAIL,
                "too long");
}

static void siphash_known_answer(void) {
    unsigned char key[16], text[15];
    uint64_t k[2];
    for (unsigned char i = 0; i < 16; i++) key[i] = i;
    for (unsigned char i = 0; i < 15; i++) text[i] = i;
    memcpy(k, key, sizeof k);
    CHECK(siphash(k, text, sizeof text) == 0xa129ca6149be45e5u);
    CHECK(siphash(k, text, 8) != siphash(k, text, 7));
}

/* ---- processes ---- */

#define MAX_RANKS 8

struct group {
    int size;
    pid_t pids[MAX_RANKS];
    int codes[MAX_RANKS];        /* exit code; 128 + signal; -1: still there */
    double ended[MAX_RANKS];     /* seconds after the start */
    char errors[MAX_RANKS][256]; /* files */
};

static int next_port(void) {
    static int port;
    if (port == 0) port = 12000 + (int)(getpid() % 6000);
    return port++;
}

/* `size` ranks by RANK and WORLD_SIZE, each with its stderr in a file. */
static void start_group(struct group *g, int size, const char *task, int victim) {
    const int port = next_port();
    *g = (struct group){.size = size};
    fflush(NULL);
    for (int r = 0; r < size; r++) {
        snprintf(g->errors[r], sizeof g->errors[r], "%s/%s-%d", check_tmp(), task, r);
        g->codes[r] = -1;
        g->pids[r] = fork();
        if (g->pids[r] != 0) continue;
        char variables[200];
        snprintf(variables, sizeof variables,
                 "RANK=%d WORLD_SIZE=%d MASTER_ADDR=localhost MASTER_PORT=%d", r, size, port);
        launch(variables);
        if (freopen(g->errors[r], "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL)
            _exit(99);
        _exit(ranks_run(task, victim, "tcp"));
    }
}

/* Waits until all but `except` have ended, `seconds` at most, and kills who is left. */
static void wait_group(struct group *g, int except, double seconds) {
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

static bool file_says(const char *path, const char *text) {
    char buffer[8192];
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    buffer[fread(buffer, 1, sizeof buffer - 1, f)] = '\0';
    fclose(f);
    if (strstr(buffer, text) != NULL) return true;
    printf("        \"%s\" is not in: %s\n", text, buffer);
    return false;
}

static void all_operations(void) {
    for (int size = 1; size <= 5; size += size == 3 ? 2 : 1) {
        struct group g;
        start_group(&g, size, "sums", -1);
        wait_group(&g, -1, 120);
        for (int r = 0; r < size; r++)
            if (!CHECK(g.codes[r] == 0)) file_says(g.errors[r], "nothing");
    }
}

/* The victim of `size` ranks does `task`: every other ends with exit 1, says `text`, within `seconds`. */
static void broken_by(const char *task, int size, int victim, const char *text, double seconds) {
    struct group g;
    start_group(&g, size, task, victim);
    wait_group(&g, victim, 60);
    double last = 0;
    for (int r = 0; r < size; r++) {
        if (r == victim) continue;
        CHECK(g.codes[r] == 1);
        CHECK(file_says(g.errors[r], text));
        if (g.ended[r] > last) last = g.ended[r];
    }
    CHECK(last <= seconds);
    check_note("%s: %.1f s", task, last);
}

static void dead_ranks(void) {
    setenv("EINTHOVEN_COMM_TIMEOUT", "4", 1);
    broken_by("kill", 4, 2, "rank 2 (", 4);
    broken_by("kill", 3, 0, "rank 0 ", 4);
    broken_by("abort", 3, 1, "stopped: the disk is full", 4);
    broken_by("deaf", 3, 1, "rank 1 (", 8);
    unsetenv("EINTHOVEN_COMM_TIMEOUT");
}

static void hanging_ranks(void) {
    setenv("EINTHOVEN_COMM_TIMEOUT", "1.5", 1);
    broken_by("stop", 4, 2, "rank 2 (", 8);
    broken_by("stop", 2, 0, "rank 0 gave no sign of life", 8);
    setenv("EINTHOVEN_COMM_STALL", "1.5", 1);
    broken_by("sleep", 3, 1, "rank 1 is alive but did not come", 8);
    unsetenv("EINTHOVEN_COMM_TIMEOUT");
    unsetenv("EINTHOVEN_COMM_STALL");
}

static void ranks_out_of_step(void) {
    broken_by("mismatch", 3, 1, "not in the same operation", 8);
    broken_by("leave", 3, 2, "not in the same operation", 8);
}

/* A rank that never comes is named. */
static void missing_rank(void) {
    struct group g;
    setenv("EINTHOVEN_COMM_START", "1", 1);
    g = (struct group){.size = 1, .codes = {-1}};
    fflush(NULL);
    snprintf(g.errors[0], sizeof g.errors[0], "%s/missing", check_tmp());
    char variables[100];
    snprintf(variables, sizeof variables, "RANK=0 WORLD_SIZE=3 MASTER_PORT=%d", next_port());
    g.pids[0] = fork();
    if (g.pids[0] == 0) {
        launch(variables);
        if (freopen(g.errors[0], "w", stderr) == NULL) _exit(99);
        _exit(ranks_run("sums", -1, "tcp"));
    }
    wait_group(&g, -1, 20);
    CHECK(g.codes[0] == 1);
    CHECK(file_says(g.errors[0],
                    "2 of 3 ranks did not come to rank 0 in time, the first of them rank 1"));
    unsetenv("EINTHOVEN_COMM_START");
}

/* ---- strangers ---- */

static int connect_to(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A child that knocks with a token; exit 0 when it was let in. */
static pid_t knock(int port, const char *token, double seconds) {
    fflush(NULL);
    const pid_t pid = fork();
    if (pid != 0) return pid;
    struct gate_hello hello;
    int fd;
    if (gate_hello_init(&hello, GATE_DATA, 1, 2, 0) != ECG_OK) _exit(99);
    _exit(gate_knock("127.0.0.1", port, token, &hello, log_clock() + seconds, &fd) != ECG_OK);
}

static void strangers_at_the_gate(void) {
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct gate *gate;
    struct gate_guest guest;
    int status = 0, fds[200];
    char junk[600];
    log_set_level(LOG_ERROR);
    if (!CHECK_OK(gate_open(&gate, 0, "right"))) return;
    const int port = gate_port(gate);
    for (size_t i = 0; i < sizeof junk; i++) junk[i] = (char)(i * 91 + 7);
    memcpy(junk, "ECGComm1", 8); /* the magic, then nonsense */
    for (int i = 0; i < 200; i++) {
        fds[i] = connect_to(port);
        if (i % 4 == 0) send(fds[i], http, sizeof http, MSG_NOSIGNAL);
        if (i % 4 == 1) send(fds[i], junk, sizeof junk, MSG_NOSIGNAL);
        if (i % 4 == 2) send(fds[i], junk, 20, MSG_NOSIGNAL);
        if (i % 40 == 0) CHECK_OK(gate_admit(gate, 0.01, &guest));
        CHECK(guest.fd < 0);
    }
    const pid_t wrong = knock(port, "wrong", 1.0);
    for (int i = 0; i < 12; i++) {
        CHECK_OK(gate_admit(gate, 0.1, &guest));
        CHECK(guest.fd < 0);
    }
    waitpid(wrong, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    const pid_t right = knock(port, "right", 10.0);
    CHECK_OK(gate_admit(gate, 10, &guest));
    CHECK(guest.fd >= 0 && guest.hello.rank == 1 && guest.hello.size == 2);
    waitpid(right, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(guest.fd);
    for (int i = 0; i < 200; i++) close(fds[i]);
    gate_close(gate);
    log_set_level(LOG_INFO);
}

/* Two processes as the same rank: the whole launch stops, and says why. */
static void one_rank_twice(void) {
    struct group g = {.size = 3, .codes = {-1, -1, -1}};
    const int port = next_port();
    setenv("EINTHOVEN_COMM_START", "2", 1);
    fflush(NULL);
    for (int i = 0; i < 3; i++) {
        char variables[100];
        snprintf(g.errors[i], sizeof g.errors[i], "%s/twice-%d", check_tmp(), i);
        snprintf(variables, sizeof variables,
                 "RANK=%d WORLD_SIZE=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=%d", i > 0, port);
        g.pids[i] = fork();
        if (g.pids[i] != 0) continue;
        launch(variables);
        if (freopen(g.errors[i], "w", stderr) == NULL) _exit(99);
        _exit(ranks_run("sums", -1, "tcp"));
    }
    wait_group(&g, -1, 30);
    for (int i = 0; i < 3; i++) CHECK(g.codes[i] == 1);
    CHECK(file_says(g.errors[0], "comes as rank 1 of 3, which is there already"));
    unsetenv("EINTHOVEN_COMM_START");
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "task") == 0)
        return ranks_run(argv[2], atoi(argv[3]), argv[4]);
    CASE(world_from_every_launcher);
    CASE(ports_and_tokens);
    CASE(broken_launches);
    CASE(node_lists);
    CASE(siphash_known_answer);
    launch("");
    CASE(strangers_at_the_gate);
    CASE(all_operations);
    CASE(dead_ranks);
    CASE(hanging_ranks);
    CASE(ranks_out_of_step);
    CASE(missing_rank);
    CASE(one_rank_twice);
    return check_finish();
}
