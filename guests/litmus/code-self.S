/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copied into a page by code.c. uint32_t self_modifying(uint32_t instruction): run `instruction`, return r0. */
        .syntax unified
        .arm
        .section .rodata
        .balign 4
        .global self_modifying_code
        .global self_modifying_counter
        .global self_modifying_end
self_modifying_code:
        adr     r1, slot
        str     r0, [r1]
        mcr     p15, 0, r1, c7, c11, 1          @ DCCMVAU
        dsb
        mcr     p15, 0, r1, c7, c5, 1           @ ICIMVAU
        mcr     p15, 0, r1, c7, c5, 6           @ BPIALL
        dsb
        isb
        adr     r2, self_modifying_counter
        ldr     r3, [r2]
        add     r3, r3, #1
        str     r3, [r2]
slot:   mov     r0, #0
        bx      lr
self_modifying_counter:
        .word   0
self_modifying_end:
