/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jumps to an address where the board has nothing; the prefetch abort finds no vectors either. */
        .syntax unified
        .section .text.start, "ax"
        .arm
        .global _start
_start: mov     r0, #0x20000000
        bx      r0
