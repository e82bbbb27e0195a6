/* SPDX-License-Identifier: MIT
 * All sockets are non-blocking. The gate keeps up to MAX_PENDING connections that have not proved themselves, each for
 * HANDSHAKE_SECONDS; when a new one finds no place, the oldest is dropped. */
#include "train/comm/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/comm/siphash.h"

#define MAGIC             0x316d6d6f43474345u /* "ECGComm1" */
#define MAX_PENDING       128
#define HANDSHAKE_SECONDS 5.0
#define MAX_WARNINGS      5
#define RESOLVE_SECONDS   10.0 /* a name server may be slow; a name that does not exist stays so */

struct challenge {
    uint64_t magic, nonce;
};

struct pending {
    int fd;
    double since;
    uint64_t nonce;
    size_t got; /* bytes of hello */
    struct gate_guest guest;
};

struct gate {
    int fd, port, warnings, n;
    uint64_t key[2];
    struct pending pending[MAX_PENDING];
};

static void make_key(uint64_t key[2], const char *token) {
    static const uint64_t first[2] = {1, 0}, second[2] = {2, 0};
    key[0] = siphash(first, token, strlen(token));
    key[1] = siphash(second, token, strlen(token));
}

static enum ecg_status make_nonce(uint64_t *nonce) {
    if (getrandom(nonce, sizeof(*nonce), 0) == (ssize_t)sizeof(*nonce)) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "getrandom: %s", strerror(errno));
}

/* The guest's proof, over all of the hello before the tag. */
static uint64_t hello_tag(const uint64_t key[2], uint64_t nonce, const struct gate_hello *hello) {
    struct {
        uint64_t nonce;
        char hello[offsetof(struct gate_hello, tag)];
    } text;
    text.nonce = nonce;
    memcpy(text.hello, hello, sizeof(text.hello));
    return siphash(key, &text, sizeof(text));
}

/* The gate's proof. Another length than a hello's, so that neither can be had from the other. */
static uint64_t answer_tag(const uint64_t key[2], uint64_t gate_nonce, uint64_t guest_nonce) {
    const uint64_t text[2] = {guest_nonce, gate_nonce};
    return siphash(key, text, sizeof(text));
}

static int prepare(int fd) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* A listening socket for IPv6 and IPv4, or IPv4 alone where the machine has no IPv6; -1 with errno. */
static int listen_on(int family, int port) {
    const int on = 1, off = 0;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const bool is_six = family == AF_INET6;
    const int fd = socket(family, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (is_six) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    const struct sockaddr *address = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    if (bind(fd, address, is_six ? sizeof(six) : sizeof(four)) == 0 && listen(fd, SOMAXCONN) == 0 &&
        prepare(fd))
        return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

enum ecg_status gate_open(struct gate **out, int port, const char *token) {
    struct gate *g;
    *out = NULL;
    TRY(MEM_NEW(&g, 1));
    make_key(g->key, token);
    g->fd = listen_on(AF_INET6, port);
    if (g->fd < 0 && errno != EADDRINUSE) g->fd = listen_on(AF_INET, port);
    if (g->fd < 0) {
        const int error = errno;
        free(g);
        return ecg_fail(ECG_ERR_FAIL, "rank 0 can't listen on port %d: %s%s", port, strerror(error),
                        error == EADDRINUSE ? ": another job uses it, or two processes were both "
                                              "started as rank 0; MASTER_PORT sets another port"
                                            : "");
    }
    g->port = port_of(g->fd);
    *out = g;
    return ECG_OK;
}

int gate_port(const struct gate *g) {
    return g->port;
}

void gate_close(struct gate *g) {
    if (g == NULL) return;
    for (int i = 0; i < g->n; i++) close(g->pending[i].fd);
    close(g->fd);
    free(g);
}

static void forget(struct gate *g, int i) {
    g->n--;
    memmove(&g->pending[i], &g->pending[i + 1], sizeof(g->pending[0]) * (size_t)(g->n - i));
}

static void drop(struct gate *g, int i, const char *why) {
    struct pending *p = &g->pending[i];
    char host[128] = "?";
    getnameinfo((struct sockaddr *)&p->guest.address, sizeof(p->guest.address), host, sizeof(host),
                NULL, 0, NI_NUMERICHOST);
    if (g->warnings++ < MAX_WARNINGS)
        log_warn("port %d: a connection from %s was refused: %s", g->port, host, why);
    close(p->fd);
    forget(g, i);
}

static void accept_one(struct gate *g) {
    struct challenge c = {.magic = MAGIC};
    if (g->n == MAX_PENDING) drop(g, 0, "too many connections at a time");
    struct pending *p = &g->pending[g->n];
    *p = (struct pending){.since = log_clock()};
    socklen_t size = sizeof(p->guest.address);
    p->fd = accept(g->fd, (struct sockaddr *)&p->guest.address, &size);
    if (p->fd < 0) return;
    if (!prepare(p->fd) || make_nonce(&p->nonce) != ECG_OK) {
        close(p->fd);
        return;
    }
    c.nonce = p->nonce;
    g->n++;
    if (send(p->fd, &c, sizeof(c), MSG_NOSIGNAL) != (ssize_t)sizeof(c))
        drop(g, g->n - 1, "it does not take our bytes");
}

/* Reads on; true when pending[i] is a guest, who is then handed over. */
static bool hear(struct gate *g, int i, struct gate_guest *guest) {
    struct pending *p = &g->pending[i];
    char *at = (char *)&p->guest.hello;
    const ssize_t n = recv(p->fd, at + p->got, sizeof(p->guest.hello) - p->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) {
        drop(g, i, "it ended before it said who it is");
        return false;
    }
    p->got += (size_t)n;
    struct gate_hello *hello = &p->guest.hello;
    if (p->got >= sizeof(hello->magic) && hello->magic != MAGIC) {
        drop(g, i, "it is no rank of this program's version");
        return false;
    }
    if (p->got < sizeof(*hello)) return false;
    const uint64_t answer = answer_tag(g->key, p->nonce, hello->nonce);
    if (hello->tag != hello_tag(g->key, p->nonce, hello)) {
        drop(g, i, "its token is another (EINTHOVEN_COMM_TOKEN, or a rank of another job)");
        return false;
    }
    if (send(p->fd, &answer, sizeof(answer), MSG_NOSIGNAL) != (ssize_t)sizeof(answer)) {
        drop(g, i, "it does not take our bytes");
        return false;
    }
    hello->host[sizeof(hello->host) - 1] = '\0';
    *guest = p->guest;
    guest->fd = p->fd;
    forget(g, i);
    return true;
}

enum ecg_status gate_admit(struct gate *g, double seconds, struct gate_guest *guest) {
    const double end = log_clock() + seconds;
    guest->fd = -1;
    for (;;) {
        struct pollfd fds[MAX_PENDING + 1];
        const double now = log_clock();
        while (g->n > 0 && now - g->pending[0].since > HANDSHAKE_SECONDS)
            drop(g, 0, "it did not say in time who it is");
        const int n = g->n;
        for (int i = 0; i < n; i++)
            fds[i] = (struct pollfd){.fd = g->pending[i].fd, .events = POLLIN};
        fds[n] = (struct pollfd){.fd = g->fd, .events = POLLIN};
        if (now > end) return ECG_OK;
        if (poll(fds, (nfds_t)n + 1, (int)(1000 * (end - now < 0.1 ? end - now : 0.1)) + 1) < 0 &&
            errno != EINTR)
            return ecg_fail(ECG_ERR_FAIL, "poll: %s", strerror(errno));
        /* From the last to the first, since a dropped one moves those after it. */
        for (int i = n - 1; i >= 0; i--)
            if (fds[i].revents && hear(g, i, guest)) return ECG_OK;
        if (fds[n].revents) accept_one(g);
    }
}

enum ecg_status gate_hello_init(struct gate_hello *hello, enum gate_purpose purpose, int rank,
                                int size, int port) {
    *hello = (struct gate_hello){.magic = MAGIC,
                                 .purpose = (uint32_t)purpose,
                                 .rank = rank,
                                 .size = size,
                                 .port = (uint32_t)port,
                                 .pid = (uint32_t)getpid()};
    if (gethostname(hello->host, sizeof(hello->host) - 1) != 0) strcpy(hello->host, "?");
    return make_nonce(&hello->nonce);
}

/* Waits until the socket can be read or written, or the deadline. */
static bool wait_for(int fd, short events, double deadline) {
    struct pollfd p = {.fd = fd, .events = events};
    const double left = deadline - log_clock();
    return left > 0 && poll(&p, 1, (int)(1000 * left) + 1) > 0;
}

static bool receive_all(int fd, void *data, size_t bytes, double deadline) {
    for (size_t got = 0; got < bytes;) {
        const ssize_t n = recv(fd, (char *)data + got, bytes - got, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
        if (n > 0)
            got += (size_t)n;
        else if (!wait_for(fd, POLLIN, deadline))
            return false;
    }
    return true;
}

/* The guest's side of the handshake; NULL, or what is wrong. */
static const char *introduce(int fd, const uint64_t key[2], const struct gate_hello *who,
                             double deadline) {
    struct challenge c;
    struct gate_hello hello = *who;
    uint64_t answer;
    if (!receive_all(fd, &c, sizeof(c), deadline)) return "it says nothing";
    if (c.magic != MAGIC) return "what answers there is no rank of this program's version";
    hello.tag = hello_tag(key, c.nonce, &hello);
    if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello))
        return "it does not take our bytes";
    if (!receive_all(fd, &answer, sizeof(answer), deadline))
        return "it refused this rank: its token is another (EINTHOVEN_COMM_TOKEN, or another job's "
               "port: MASTER_PORT sets another)";
    if (answer != answer_tag(key, c.nonce, hello.nonce)) return "it does not know this job's token";
    return NULL;
}

/* A connected socket; -1 with errno. */
static int connect_to(const struct addrinfo *a, double deadline) {
    int error = 0;
    socklen_t size = sizeof(error);
    const int fd = socket(a->ai_family, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    if (!prepare(fd) || (connect(fd, a->ai_addr, a->ai_addrlen) != 0 && errno != EINPROGRESS))
        error = errno;
    else if (!wait_for(fd, POLLOUT, deadline))
        error = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0) return fd;
    close(fd);
    errno = error;
    return -1;
}

/* One try at each of the host's addresses; NULL, or what went wrong. *resolved: the name has an address. */
static const char *knock_once(const char *host, int port, const uint64_t key[2],
                              const struct gate_hello *hello, double deadline, int *fd,
                              bool *resolved) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;
    char service[16];
    const char *why = "no address";
    snprintf(service, sizeof(service), "%d", port);
    const int error = getaddrinfo(host, service, &hints, &list);
    *resolved = error == 0;
    if (error != 0) return gai_strerror(error);
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        const double end = log_clock() + HANDSHAKE_SECONDS;
        *fd = connect_to(a, end < deadline ? end : deadline);
        if (*fd < 0) {
            why = strerror(errno);
            continue;
        }
        why = introduce(*fd, key, hello, end < deadline ? end : deadline);
        if (why == NULL) break;
        close(*fd);
        *fd = -1;
    }
    freeaddrinfo(list);
    return why;
}

enum ecg_status gate_knock(const char *host, int port, const char *token,
                           const struct gate_hello *hello, double deadline, int *fd) {
    uint64_t key[2];
    double pause = 0.02;
    const double resolve_end = log_clock() + RESOLVE_SECONDS;
    make_key(key, token);
    *fd = -1;
    for (;;) {
        bool resolved;
        const char *why = knock_once(host, port, key, hello, deadline, fd, &resolved);
        if (why == NULL) return ECG_OK;
        const double left = deadline - log_clock();
        if (!resolved && log_clock() > resolve_end)
            return ecg_fail(ECG_ERR_FAIL,
                            "rank %d can't find the host %s: %s: set MASTER_ADDR to a name or "
                            "address of rank 0's machine that all others know",
                            hello->rank, host, why);
        if (left <= 0)
            return ecg_fail(ECG_ERR_FAIL, "rank %d can't reach %s port %d: %s", hello->rank, host,
                            port, why);
        if (pause > left) pause = left;
        struct timespec t = {(time_t)pause, (long)(1e9 * (pause - (double)(time_t)pause))};
        nanosleep(&t, NULL);
        if (pause < 1) pause *= 1.5;
    }
}
