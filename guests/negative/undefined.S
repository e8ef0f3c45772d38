/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An undefined instruction while the vectors (VBAR is 0) are not mapped: faults forever. */
        .syntax unified
        .section .text.start, "ax"
        .arm
        .global _start
_start: udf     #0
