/* SPDX-License-Identifier: MIT
 * Stacks to run threads of a kernel on, and the change from one to another. */
#ifndef EMU_SWITCH_H
#define EMU_SWITCH_H

#include <stddef.h>

struct emu_stack {
    char *base; /* lowest usable address */
    size_t bytes;
    void *sp;        /* where it was left */
    void *fake;      /* AddressSanitizer's */
    void *tsan;      /* ThreadSanitizer's fiber */
    struct emu_stack *next; /* list of free ones */
};

/* A stack that will start in `entry`, which never returns. `colour` shifts its top, so that the stacks of a warp do not
 * compete for the same lines of the cache. */
void emu_stack_make(struct emu_stack *s, unsigned colour);
void emu_stack_prepare(struct emu_stack *s, void (*entry)(void));
/* Leaves `from` and goes on where `to` was left (or at its entry, which calls emu_stack_arrived at once). `for_good`: `from`
 * will be prepared anew before it runs again. */
void emu_stack_switch(struct emu_stack *from, struct emu_stack *to, bool for_good);
void emu_stack_arrived(void);
/* The stack that the calling host thread was given by the system. */
void emu_stack_host(struct emu_stack *s);

#endif
