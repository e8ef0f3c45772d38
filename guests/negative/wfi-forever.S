/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sleeps with nothing to wake it: the run ends by its time limit, or by an operator. */
        .syntax unified
        .section .text.start, "ax"
        .arm
        .global _start
_start: wfi
        b       _start
