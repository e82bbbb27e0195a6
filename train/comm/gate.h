/* SPDX-License-Identifier: MIT
 * TCP connections between the ranks of one job. A gate listens; whoever connects must prove that he knows the job's token
 * before a byte of his is believed, and the gate proves the same to him:
 *     gate -> guest   magic, nonce of the gate
 *     guest -> gate   hello: who he is, his nonce, SipHash(token; gate's nonce, hello)
 *     gate -> guest   SipHash(token; both nonces)
 * Strangers (port scanners, another job's ranks, silent connections) are dropped, with a warning for the first few, and
 * hold nobody up. Data is not encrypted: the network between the nodes is trusted, as it is by MPI and NCCL. */
#ifndef TRAIN_COMM_GATE_H
#define TRAIN_COMM_GATE_H

#include <stdint.h>
#include <sys/socket.h>

#include "core/status.h"

enum gate_purpose { GATE_DATA = 1, GATE_WATCH = 2 };

/* What a guest says of himself, as it goes over the wire (little-endian machines only). */
struct gate_hello {
    uint64_t magic;
    uint32_t purpose; /* enum gate_purpose */
    int32_t rank, size;
    uint32_t port;    /* where he listens himself; 0 nowhere */
    uint32_t pid, zero;
    char host[256];
    uint64_t nonce, tag;
};

struct gate_guest {
    int fd; /* non-blocking, TCP_NODELAY; the caller closes it */
    struct gate_hello hello;
    struct sockaddr_storage address; /* as the gate sees him */
};

struct gate;

/* Listens on all addresses; port 0 lets the kernel choose. ECG_ERR_FAIL when the port is taken. */
enum ecg_status gate_open(struct gate **out, int port, const char *token);
int gate_port(const struct gate *g);
void gate_close(struct gate *g); /* NULL is fine */

/* The next guest who knows the token, for at most `seconds`; guest->fd is -1 when nobody came. */
enum ecg_status gate_admit(struct gate *g, double seconds, struct gate_guest *guest);

/* Fills magic, pid, host and nonce. */
enum ecg_status gate_hello_init(struct gate_hello *hello, enum gate_purpose purpose, int rank, int size, int port);

/* Connects to a gate, trying again until `deadline` (log_clock's seconds): the other process may not be there yet. */
enum ecg_status gate_knock(const char *host, int port, const char *token, const struct gate_hello *hello,
                           double deadline, int *fd);

#endif
