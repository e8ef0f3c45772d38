/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prints without a newline and powers the machine off without a verdict of its own: a pass. */
        .syntax unified
        .arch_extension virt
        .section .text.start, "ax"
        .arm
        .global _start
_start: adr     r1, text
        mov     r2, #0x09000000                 @ PL011 data register
1:      ldrb    r3, [r1], #1
        cmp     r3, #0
        strbne  r3, [r2]
        bne     1b
        ldr     r0, =0x84000008                 @ PSCI SYSTEM_OFF
        hvc     #0
        b       .
text:   .asciz  "no newline"
