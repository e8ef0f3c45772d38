/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gives the verdict "failed, status 3" at once. */
        .syntax unified
        .section .text.start, "ax"
        .arm
        .global _start
_start: mov     r0, #3
        mov     r1, #0x0b000000
        str     r0, [r1]
1:      wfi
        b       1b
