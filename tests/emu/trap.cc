/* SPDX-License-Identifier: MIT
 * Says in words what a segmentation fault in device memory, or at the end of a thread's stack, means. */
#include <signal.h>
#include <stdlib.h>

#include "block.h"

static struct sigaction before;

static void on_fault(int signal, siginfo_t *info, void *) {
    const char *at = (const char *)info->si_addr;
    sigaction(signal, &before, NULL); /* for faults that are not ours, and for one in here */
    if (emu_is_device(at)) {
        const char *near = emu_near_allocation(at);
        if (emu_self != NULL)
            emu_fail("touches device memory at %p, outside of every allocation%s", at, near);
        emu_stop("host code touches device memory at %p%s", at, near);
    }
    if (emu_self != NULL) {
        const struct emu_stack *s = emu_fiber_now()->stack;
        if (at < s->base && at + 65536 >= s->base)
            emu_fail("the thread's stack of %zu bytes is too small", s->bytes);
    }
}

void emu_trap_faults(void) {
    static bool done;
    if (done) return;
    done = true;
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before);
}

/* A stack for the handler, where a sanitizer has not made one. */
void emu_trap_stack(void) {
    stack_t now, own = {};
    if (sigaltstack(NULL, &now) == 0 && !(now.ss_flags & SS_DISABLE)) return;
    own.ss_size = 64 << 10;
    own.ss_sp = malloc(own.ss_size);
    if (own.ss_sp == NULL || sigaltstack(&own, NULL) != 0)
        emu_stop("no stack for the signal handler");
}
