/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accesses that may fault: mmu.h. */
        .syntax unified
        .arm
        .text
        .global probe_read
        .global probe_load
        .global probe_call
        .global probe_called
        .global probe_faulted

        /* bool probe_read(const volatile uint32_t *address, uint32_t *value) */
probe_read:
        push    {r4, lr}
        mov     r4, r1
probe_load:
        ldr     r0, [r0]
        b       probe_called

        /* bool probe_call(const void *function, uint32_t *value) */
probe_call:
        push    {r4, lr}
        mov     r4, r1
        blx     r0
probe_called:
        str     r0, [r4]
        mov     r0, #1
        pop     {r4, pc}
probe_faulted:
        mov     r0, #0
        pop     {r4, pc}
