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

static bool is_world(const char *variables, const char *source, int rank, int size, int local,
                     const char *host) {
    struct comm_world w;
    ranks_launch(variables);
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
    ranks_launch("RANK=0 WORLD_SIZE=2 MASTER_PORT=1234 EINTHOVEN_COMM_TOKEN=secret");
    CHECK(world_find(&a) == ECG_OK && a.port == 1234 && strcmp(a.token, "secret") == 0);
    ranks_launch("RANK=0 WORLD_SIZE=2");
    CHECK(world_find(&a) == ECG_OK && a.port == 29500);
    ranks_launch("RANK=0 WORLD_SIZE=2 MASTER_PORT=1234 TORCHELASTIC_RUN_ID=a "
                 "TORCHELASTIC_USE_AGENT_STORE=True");
    CHECK(world_find(&a) == ECG_OK && a.port != 1234); /* torchrun listens there itself */
    ranks_launch("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=77 SLURM_STEP_ID=0");
    CHECK_OK(world_find(&a));
    ranks_launch("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=77 SLURM_STEP_ID=0");
    CHECK_OK(world_find(&b));
    CHECK(a.port == b.port && strcmp(a.token, b.token) == 0 && a.port >= 20000 && a.port < 32000);
    ranks_launch("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=78 SLURM_STEP_ID=0");
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
        ranks_launch(cases[i][0]);
        CHECK_FAILS(world_find(&w), ECG_ERR_FAIL, cases[i][1]);
    }
    ranks_launch("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4");
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

struct task {
    const char *name;
    int victim;
};

static int run_task(void *context) {
    const struct task *t = context;
    return ranks_run(t->name, t->victim, "tcp");
}

static void start_task(struct ranks_group *g, int size, const char *name, int victim) {
    struct task t = {name, victim};
    ranks_start(g, size, name, run_task, &t);
}

static void all_operations(void) {
    for (int size = 1; size <= 5; size += size == 3 ? 2 : 1) {
        struct ranks_group g;
        start_task(&g, size, "sums", -1);
        ranks_wait(&g, -1, 120);
        for (int r = 0; r < size; r++)
            if (!CHECK(g.codes[r] == 0)) ranks_said(&g, r, "no word");
    }
}

/* The victim of `size` ranks does `task`: every other ends with exit 1, says `text`, within `seconds`. */
static void broken_by(const char *task, int size, int victim, const char *text, double seconds) {
    struct ranks_group g;
    start_task(&g, size, task, victim);
    ranks_wait(&g, victim, 60);
    double last = 0;
    for (int r = 0; r < size; r++) {
        if (r == victim) continue;
        CHECK(g.codes[r] == 1);
        CHECK(ranks_said(&g, r, text));
        if (g.ended[r] > last) last = g.ended[r];
    }
    CHECK(last <= seconds);
    check_note("%s: %.1f s", task, last);
}

static void dead_ranks(void) {
    setenv("EINTHOVEN_COMM_TIMEOUT", "4", 1);
    broken_by("kill", 4, 2, "rank 2 (", 4);
    broken_by("kill", 3, 0, "rank 0 (", 4);
    broken_by("abort", 3, 1, "stopped: the disk is full", 4);
    broken_by("deaf", 3, 1, "rank 1 (", 8);
    unsetenv("EINTHOVEN_COMM_TIMEOUT");
}

static void hanging_ranks(void) {
    setenv("EINTHOVEN_COMM_TIMEOUT", "1.5", 1);
    broken_by("stop", 4, 2, "rank 2 (", 8);
    broken_by("stop", 2, 0, "rank 0 (", 8);
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
    struct ranks_group g;
    setenv("EINTHOVEN_COMM_START", "1", 1);
    g = (struct ranks_group){.size = 1, .codes = {-1}};
    fflush(NULL);
    snprintf(g.errors[0], sizeof g.errors[0], "%s/missing", check_tmp());
    char variables[100];
    snprintf(variables, sizeof variables, "RANK=0 WORLD_SIZE=3 MASTER_PORT=%d", ranks_port());
    g.pids[0] = fork();
    if (g.pids[0] == 0) {
        ranks_launch(variables);
        if (freopen(g.errors[0], "w", stderr) == NULL) _exit(99);
        _exit(ranks_run("sums", -1, "tcp"));
    }
    ranks_wait(&g, -1, 20);
    CHECK(g.codes[0] == 1);
    CHECK(
        ranks_said(&g, 0, "2 of 3 ranks did not come to rank 0 in time, the first of them rank 1"));
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
    struct ranks_group g = {.size = 3, .codes = {-1, -1, -1}};
    const int port = ranks_port();
    setenv("EINTHOVEN_COMM_START", "2", 1);
    fflush(NULL);
    for (int i = 0; i < 3; i++) {
        char variables[100];
        snprintf(g.errors[i], sizeof g.errors[i], "%s/twice-%d", check_tmp(), i);
        snprintf(variables, sizeof variables,
                 "RANK=%d WORLD_SIZE=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=%d", i > 0, port);
        g.pids[i] = fork();
        if (g.pids[i] != 0) continue;
        ranks_launch(variables);
        if (freopen(g.errors[i], "w", stderr) == NULL) _exit(99);
        _exit(ranks_run("sums", -1, "tcp"));
    }
    ranks_wait(&g, -1, 30);
    for (int i = 0; i < 3; i++) CHECK(g.codes[i] == 1);
    CHECK(ranks_said(&g, 0, "comes as rank 1 of 3, which is there already"));
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
    ranks_launch("");
    CASE(strangers_at_the_gate);
    CASE(all_operations);
    CASE(dead_ranks);
    CASE(hanging_ranks);
    CASE(ranks_out_of_step);
    CASE(missing_rank);
    CASE(one_rank_twice);
    return check_finish();
}
