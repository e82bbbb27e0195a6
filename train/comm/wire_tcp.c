/* SPDX-License-Identifier: MIT
 * Meeting: every rank opens a gate of its own and comes to rank 0, which learns where each listens and sends the list to
 * all; then rank r connects to 1 .. r - 1 and admits r + 1 .. size - 1. (Each rank first connects and then admits, so rank 1 admits
 * at once, then 2, ...: nobody waits in a circle.)
 * Messages: a header with the length, so that ranks that are not in the same operation are found out, then the bytes. */
#include "train/comm/wire_tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/comm/gate.h"

#define MESSAGE_MAGIC 0x4d434745u

struct header {
    uint32_t magic, number; /* of the message, counted from 0 for each direction of a pair */
    uint64_t bytes;
};

struct transfer {
    struct header header;
    char *data;
    size_t bytes, moved; /* moved counts the header too */
    bool active;
};

struct peer {
    int fd;
    uint32_t sent, received; /* messages */
    struct transfer out, in;
};

struct wire_tcp {
    struct wire wire;
    struct peer *peers;   /* (size) */
    struct pollfd *polls; /* (size) */
    int *polled;          /* (size): the peer of polls[i] */
    int n_active;
};

/* Where a rank listens: rank 0 tells it to all. */
struct place {
    char address[64]; /* numeric, as rank 0 sees it */
    char host[256];
    int32_t port;
};

static enum ecg_status lost(struct wire_tcp *w, int peer, const char *why) {
    w->wire.suspect = peer;
    return ecg_fail(ECG_ERR_FAIL, "the connection to rank %d failed: %s", peer, why);
}

static enum ecg_status start(struct wire_tcp *w, struct transfer *t, void *data, size_t bytes,
                             uint32_t number) {
    *t = (struct transfer){
        .header = {MESSAGE_MAGIC, number, bytes}, .data = data, .bytes = bytes, .active = true};
    w->n_active++;
    return ECG_OK;
}

static enum ecg_status tcp_send(struct wire *wire, int peer, const void *data, size_t bytes) {
    struct wire_tcp *w = (struct wire_tcp *)wire;
    struct peer *p = &w->peers[peer];
    return start(w, &p->out, (void *)data, bytes, p->sent++);
}

static enum ecg_status tcp_recv(struct wire *wire, int peer, void *data, size_t bytes) {
    struct wire_tcp *w = (struct wire_tcp *)wire;
    return start(w, &w->peers[peer].in, data, bytes, 0);
}

/* The rest of a transfer as one or two pieces. */
static int rest_of(struct transfer *t, struct iovec pieces[2]) {
    int n = 0;
    const size_t head = sizeof(t->header);
    if (t->moved < head)
        pieces[n++] = (struct iovec){(char *)&t->header + t->moved, head - t->moved};
    const size_t at = t->moved > head ? t->moved - head : 0;
    pieces[n++] = (struct iovec){t->data + at, t->bytes - at};
    return n;
}

static void moved(struct wire_tcp *w, struct transfer *t, size_t n) {
    t->moved += n;
    if (t->moved < sizeof(t->header) + t->bytes) return;
    t->active = false;
    w->n_active--;
}

static enum ecg_status push(struct wire_tcp *w, int peer) {
    struct transfer *t = &w->peers[peer].out;
    while (t->active) {
        struct iovec pieces[2];
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)rest_of(t, pieces)};
        const ssize_t n = sendmsg(w->peers[peer].fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return ECG_OK;
        if (n < 0) return lost(w, peer, strerror(errno));
        moved(w, t, (size_t)n);
    }
    return ECG_OK;
}

static enum ecg_status check_header(struct wire_tcp *w, int peer) {
    struct peer *p = &w->peers[peer];
    const struct header *h = &p->in.header;
    if (h->magic == MESSAGE_MAGIC && h->number == p->received && h->bytes == p->in.bytes) {
        p->received++;
        return ECG_OK;
    }
    w->wire.suspect = peer;
    return ecg_fail(
        ECG_ERR_FAIL,
        "rank %d sent message %u of %llu bytes where rank %d expects message %u of %zu: "
        "the ranks are not in the same operation (another version, config or data?)",
        peer, h->number, (unsigned long long)h->bytes, w->wire.rank, p->received, p->in.bytes);
}

static enum ecg_status pull(struct wire_tcp *w, int peer) {
    struct transfer *t = &w->peers[peer].in;
    while (t->active) {
        const size_t head = sizeof(t->header);
        char *at = t->moved < head ? (char *)&t->header + t->moved : t->data + (t->moved - head);
        const size_t want = t->moved < head ? head - t->moved : t->bytes - (t->moved - head);
        const bool in_header = t->moved < head;
        const ssize_t n = recv(w->peers[peer].fd, at, want, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return ECG_OK;
        if (n < 0) return lost(w, peer, strerror(errno));
        if (n == 0) return lost(w, peer, "it was closed by the other side");
        /* In two steps, so that a wrong length is seen before its bytes are written anywhere. */
        if (in_header && t->moved + (size_t)n == head) {
            t->moved = head;
            TRY(check_header(w, peer));
            continue;
        }
        moved(w, t, (size_t)n);
    }
    return ECG_OK;
}

static enum ecg_status tcp_progress(struct wire *wire, double seconds, bool *done) {
    struct wire_tcp *w = (struct wire_tcp *)wire;
    const double end = log_clock() + seconds;
    for (;;) {
        int n = 0;
        for (int i = 0; i < wire->size; i++) {
            struct peer *p = &w->peers[i];
            if (p->out.active) TRY(push(w, i));
            if (p->in.active) TRY(pull(w, i));
            if (!p->out.active && !p->in.active) continue;
            w->polled[n] = i;
            w->polls[n++] = (struct pollfd){
                .fd = p->fd,
                .events = (short)((p->out.active ? POLLOUT : 0) | (p->in.active ? POLLIN : 0))};
        }
        *done = w->n_active == 0;
        const double left = end - log_clock();
        if (*done || left <= 0) return ECG_OK;
        if (poll(w->polls, (nfds_t)n, (int)(1000 * left) + 1) < 0 && errno != EINTR)
            return ecg_fail(ECG_ERR_FAIL, "poll: %s", strerror(errno));
    }
}

static int tcp_waits_for(const struct wire *wire) {
    const struct wire_tcp *w = (const struct wire_tcp *)wire;
    int sending = -1;
    for (int i = 0; i < wire->size; i++) {
        if (w->peers[i].in.active) return i;
        if (w->peers[i].out.active && sending < 0) sending = i;
    }
    return sending;
}

static void tcp_close(struct wire *wire, bool failed) {
    struct wire_tcp *w = (struct wire_tcp *)wire;
    (void)failed;
    for (int i = 0; w->peers != NULL && i < wire->size; i++)
        if (w->peers[i].fd >= 0) close(w->peers[i].fd);
    free(w->peers);
    free(w->polls);
    free(w->polled);
    free(w);
}

static const struct wire_ops tcp_ops = {.send = tcp_send,
                                        .recv = tcp_recv,
                                        .progress = tcp_progress,
                                        .waits_for = tcp_waits_for,
                                        .close = tcp_close};

/* One whole message to or from a peer while the ranks meet. */
static enum ecg_status exchange(struct wire_tcp *w, double deadline, const char *what) {
    bool done = false;
    while (!done) {
        TRY(tcp_progress(&w->wire, 0.5, &done));
        if (!done && log_clock() > deadline)
            return ecg_fail(ECG_ERR_FAIL, "rank %d: no %s from rank %d in time", w->wire.rank, what,
                            tcp_waits_for(&w->wire));
    }
    return ECG_OK;
}

/* Takes one guest's connection as that of his rank. */
static enum ecg_status take_guest(struct wire_tcp *w, const struct gate_guest *guest, int lowest) {
    const struct gate_hello *h = &guest->hello;
    if (h->size != w->wire.size)
        return ecg_fail(ECG_ERR_FAIL,
                        "broken launch: a process on %s (%u) was started as one of %d ranks, this "
                        "one as one of %d",
                        h->host, h->pid, h->size, w->wire.size);
    if (h->rank < lowest || h->rank >= w->wire.size || w->peers[h->rank].fd >= 0)
        return ecg_fail(
            ECG_ERR_FAIL,
            "broken launch: a process on %s (%u) comes as rank %d of %d, which is there "
            "already: start each rank once",
            h->host, h->pid, h->rank, h->size);
    w->peers[h->rank].fd = guest->fd;
    return ECG_OK;
}

/* Admits the ranks from `lowest` on; places (size) get where they listen, NULL: not needed. */
static enum ecg_status admit(struct wire_tcp *w, struct gate *gate, int lowest, double deadline,
                             struct place *places) {
    const int wanted = w->wire.size - lowest;
    for (int n = 0; n < wanted;) {
        struct gate_guest guest;
        TRY(gate_admit(gate, 0.5, &guest));
        if (guest.fd >= 0) {
            const enum ecg_status status = take_guest(w, &guest, lowest);
            if (status != ECG_OK) {
                close(guest.fd);
                return status;
            }
            n++;
            if (places != NULL) {
                struct place *p = &places[guest.hello.rank];
                p->port = (int32_t)guest.hello.port;
                memcpy(p->host, guest.hello.host, sizeof(p->host));
                getnameinfo((struct sockaddr *)&guest.address, sizeof(guest.address), p->address,
                            sizeof(p->address), NULL, 0, NI_NUMERICHOST);
            }
        } else if (log_clock() > deadline) {
            int missing = lowest;
            while (w->peers[missing].fd >= 0) missing++;
            return ecg_fail(
                ECG_ERR_FAIL,
                "%d of %d ranks did not come to rank %d in time, the first of them rank "
                "%d: see its own message (EINTHOVEN_COMM_START sets the seconds)",
                wanted - n, w->wire.size, w->wire.rank, missing);
        }
    }
    return ECG_OK;
}

/* An address as rank 0 sees it may be the loopback, which is right for ranks of that same machine only. */
static const char *reach(const struct place *p, const char *own_host) {
    const bool loopback = strncmp(p->address, "127.", 4) == 0 || strcmp(p->address, "::1") == 0 ||
                          strncmp(p->address, "::ffff:127.", 11) == 0;
    return loopback && strcmp(p->host, own_host) != 0 ? p->host : p->address;
}

static enum ecg_status meet_rank0(struct wire_tcp *w, const struct comm_world *world,
                                  struct place *places, double deadline) {
    struct gate *gate;
    enum ecg_status status;
    TRY(gate_open(&gate, world->port, world->token));
    TRY_OUT(admit(w, gate, 1, deadline, places));
    for (int i = 1; i < world->size; i++)
        TRY_OUT(tcp_send(&w->wire, i, places, sizeof(*places) * (size_t)world->size));
    status = exchange(w, deadline, "message");
out:
    gate_close(gate);
    return status;
}

static enum ecg_status meet_others(struct wire_tcp *w, const struct comm_world *world,
                                   struct place *places, double deadline) {
    struct gate *gate;
    struct gate_hello hello;
    enum ecg_status status;
    TRY(gate_open(&gate, 0, world->token));
    TRY_OUT(gate_hello_init(&hello, GATE_DATA, world->rank, world->size, gate_port(gate)));
    TRY_OUT(gate_knock(world->host, world->port, world->token, &hello, deadline, &w->peers[0].fd));
    TRY_OUT(tcp_recv(&w->wire, 0, places, sizeof(*places) * (size_t)world->size));
    TRY_OUT(exchange(w, deadline, "list of the ranks"));
    for (int i = 1; i < world->rank; i++) {
        places[i].address[sizeof(places[i].address) - 1] = '\0';
        places[i].host[sizeof(places[i].host) - 1] = '\0';
        TRY_OUT(gate_knock(reach(&places[i], hello.host), places[i].port, world->token, &hello,
                           deadline, &w->peers[i].fd));
    }
    status = admit(w, gate, world->rank + 1, deadline, NULL);
out:
    gate_close(gate);
    return status;
}

/* Two connections a rank, and what the program has open besides. */
static void allow_files(int size) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    const rlim_t want = (rlim_t)size * 2 + 512;
    if (limit.rlim_cur >= want) return;
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

enum ecg_status wire_tcp_open(struct wire **out, const struct comm_world *world, double seconds) {
    struct wire_tcp *w;
    struct place *places = NULL;
    enum ecg_status status;
    const size_t size = (size_t)world->size;
    const double deadline = log_clock() + seconds;
    *out = NULL;
    if (world->host[0] == '\0' && world->rank > 0)
        return ecg_fail(
            ECG_ERR_FAIL,
            "backend tcp: where is rank 0? Set MASTER_ADDR to its host (and MASTER_PORT)");
    allow_files(world->size);
    TRY(MEM_NEW(&w, 1));
    w->wire = (struct wire){&tcp_ops, world->rank, world->size, -1};
    TRY_OUT(MEM_NEW(&w->peers, size));
    for (size_t i = 0; i < size; i++) w->peers[i].fd = -1;
    TRY_OUT(MEM_NEW(&w->polls, size));
    TRY_OUT(MEM_NEW(&w->polled, size));
    TRY_OUT(MEM_NEW(&places, size));
    status = world->rank == 0 ? meet_rank0(w, world, places, deadline)
                              : meet_others(w, world, places, deadline);
out:
    free(places);
    if (status == ECG_OK)
        *out = &w->wire;
    else
        tcp_close(&w->wire, true);
    return status;
}
