/* SPDX-License-Identifier: MIT */
#include "switch.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

/* Saves what a function must keep, leaves the old stack's pointer in *save and returns on the new stack. */
extern "C" void emu_switch(void **save, void *to) __attribute__((visibility("hidden")));
asm(R"(
    .text
    .hidden emu_switch
    .globl emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, . - emu_switch
)");

#if EMU_ASAN
extern "C" void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
#endif
#if EMU_TSAN
extern "C" void *__tsan_get_current_fiber(void);
extern "C" void *__tsan_create_fiber(unsigned flags);
extern "C" void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

enum { stack_bytes = (EMU_ASAN || EMU_TSAN) ? 256 << 10 : 64 << 10, guard_bytes = 4096 };

void emu_stack_make(struct emu_stack *s, unsigned colour) {
    char *p = (char *)mmap(NULL, stack_bytes + guard_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, guard_bytes, PROT_NONE) != 0)
        emu_stop("no memory for the stack of a thread");
    *s = {};
    s->base = p + guard_bytes;
    s->bytes = stack_bytes - (colour % 64) * 64;
#if EMU_TSAN
    s->tsan = __tsan_create_fiber(0);
#endif
}

void emu_stack_prepare(struct emu_stack *s, void (*entry)(void)) {
    /* At entry the stack is as after a call: 8 bytes below a multiple of 16. */
    void **top = (void **)(((uintptr_t)s->base + s->bytes) & ~(uintptr_t)63);
    *--top = NULL;
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++) *--top = NULL;
    s->sp = top;
}

void emu_stack_switch(struct emu_stack *from, struct emu_stack *to, bool for_good) {
#if EMU_ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->fake, to->base, to->bytes);
#else
    (void)for_good;
#endif
#if EMU_TSAN
    __tsan_switch_to_fiber(to->tsan, 1); /* 1: without a sync edge */
#endif
    emu_switch(&from->sp, to->sp);
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

void emu_stack_arrived(void) {
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

void emu_stack_host(struct emu_stack *s) {
    *s = {};
#if EMU_ASAN
    pthread_attr_t attr;
    void *base;
    if (pthread_getattr_np(pthread_self(), &attr) != 0 ||
        pthread_attr_getstack(&attr, &base, &s->bytes) != 0)
        emu_stop("the host thread's stack is not known");
    s->base = (char *)base;
    pthread_attr_destroy(&attr);
#endif
#if EMU_TSAN
    s->tsan = __tsan_get_current_fiber();
#endif
}
